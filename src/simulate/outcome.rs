//! What a run came to.

/// One policy on one load.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The policy and its knobs.
    pub policy: String,
    /// Requests that arrived, over all pipelines.
    pub requests: u64,
    /// Answered.
    pub served: u64,
    /// Of these, later than the objective allows a request of its size.
    pub late: u64,
    /// Given up: not answered within the client's patience.
    pub failed: u64,
    /// Latencies of those served, milliseconds, ascending.
    pub latencies_ms: Vec<u32>,
    /// Length of the load, milliseconds: what cost is counted over.
    pub span_ms: u64,
    /// Replicas times their price, from placed to gone: dollars.
    pub cost: f64,
    /// Hours of replicas, from placed to gone.
    pub replica_hours: f64,
    /// Replicas started.
    pub starts: u64,
    /// Writes of `spec.replicas`.
    pub writes: u64,
    /// Replicas that went to another pool of their stage: in each five minutes, the smaller of what a stage gained on some
    /// pools and lost on others.
    pub shifts: u64,
    /// Simulated milliseconds, the end of the last requests included.
    pub simulated_ms: u64,
    /// Requests by pipeline.
    pub pipelines: Vec<Tally>,
    /// The run in steps.
    pub frames: Vec<Frame>,
}

/// Requests of one pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// That arrived.
    pub requests: u64,
    /// That were served late or given up.
    pub late: u64,
}

impl Tally {
    /// Late ones, per cent.
    pub fn late_percent(self) -> f64 {
        self.late as f64 * 100.0 / self.requests.max(1) as f64
    }
}

/// Ten seconds of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Their end, seconds since the start.
    pub at_s: u64,
    /// Requests that arrived.
    pub requests: u32,
    /// Requests that were served late or given up.
    pub late: u32,
    /// By variant: replicas that hold resources.
    pub placed: Vec<u32>,
}

/// Length of a frame.
pub const FRAME_S: u64 = 10;

impl Outcome {
    /// Late and given up requests, per cent.
    pub fn late_percent(&self) -> f64 {
        (self.late + self.failed) as f64 * 100.0 / (self.requests.max(1)) as f64
    }

    /// Dollars per hour.
    pub fn cost_per_hour(&self) -> f64 {
        self.cost * 3_600_000.0 / self.span_ms.max(1) as f64
    }

    /// Nearest-rank percentile of the latency, milliseconds; `None` if nothing was served.
    pub fn latency_ms(&self, percent: usize) -> Option<u32> {
        let rank = (self.latencies_ms.len() * percent).div_ceil(100).checked_sub(1)?;
        self.latencies_ms.get(rank).copied()
    }
}
