//! What the client measured.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Latencies, ms. `None` where nothing was served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half are faster.
    pub p50: Option<f64>,
    /// 95 % are faster.
    pub p95: Option<f64>,
    /// 99 % are faster.
    pub p99: Option<f64>,
}

impl Percentiles {
    /// Nearest-rank percentiles of these values, in any order.
    pub fn of(values: &mut [f32]) -> Self {
        values.sort_by(f32::total_cmp);
        let rank = |percent: usize| {
            let index = (values.len() * percent).div_ceil(100).checked_sub(1)?;
            values.get(index).map(|v| f64::from(*v))
        };
        Self {
            p50: rank(50),
            p95: rank(95),
            p99: rank(99),
        }
    }
}

/// One second of the run. Requests count as offered in the second they were sent, and as served or failed in the second
/// that was known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the start.
    pub t_s: u32,
    /// Sent.
    pub offered: u32,
    /// Answered by every stage.
    pub served: u32,
    /// Of these, later than the objective.
    pub late: u32,
    /// Failed: refused, broken off, out of time, or shed because too many were in flight.
    pub failed: u32,
    /// End-to-end latency of those served.
    pub latency_ms: Percentiles,
}

/// Time that the calls of one stage waited, for a replica and in its queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageWait {
    /// The stage.
    pub stage: String,
    /// Calls answered.
    pub calls: u64,
    /// Mean wait, ms.
    pub mean_ms: Option<f64>,
    /// Wait, ms.
    pub wait_ms: Percentiles,
}

/// The whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Offered.
    pub requests: u64,
    /// Answered by every stage.
    pub served: u64,
    /// Of these, later than the objective.
    pub late: u64,
    /// Not answered.
    pub failed: u64,
    /// Of these, never sent because too many were in flight.
    pub shed: u64,
    /// Calls that were tried again on another replica.
    pub retries: u64,
    /// Late and failed requests, per cent of all.
    pub late_percent: f64,
    /// End-to-end latency of those served.
    pub latency_ms: Percentiles,
    /// Waiting by stage.
    pub stages: Vec<StageWait>,
    /// The run second by second.
    pub seconds: Vec<Second>,
}

/// A look at a run that goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Offered so far.
    pub requests: u64,
    /// Served so far.
    pub served: u64,
    /// Of these, late.
    pub late: u64,
    /// Failed so far.
    pub failed: u64,
    /// Sent and not answered yet.
    pub in_flight: u64,
    /// Requests offered in the last full second.
    pub offered_per_s: u32,
    /// Latency of what was served in the last full second.
    pub latency_ms: Percentiles,
}

#[derive(Default)]
struct Bin {
    offered: u32,
    late: u32,
    failed: u32,
    latencies: Vec<f32>,
}

#[derive(Default)]
struct Counts {
    bins: Vec<Bin>,
    requests: u64,
    served: u64,
    late: u64,
    failed: u64,
    shed: u64,
    retries: u64,
    waits: Vec<(String, Vec<f32>)>,
}

/// Takes measurements from a running drive; may be read meanwhile. Its size is bounded by the drive's requests and time.
#[derive(Default)]
pub struct Recorder {
    counts: Mutex<Counts>,
}

impl Recorder {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stages<'a>(&self, names: impl Iterator<Item = &'a str>) {
        self.counts().waits = names.map(|name| (name.to_owned(), Vec::new())).collect();
    }

    pub(super) fn offered(&self, at: Duration) {
        let mut counts = self.counts();
        counts.requests += 1;
        counts.bin(at).offered += 1;
    }

    pub(super) fn served(&self, at: Duration, latency: Duration, late: bool) {
        let mut counts = self.counts();
        counts.served += 1;
        counts.late += u64::from(late);
        let bin = counts.bin(at);
        bin.late += u32::from(late);
        bin.latencies.push(latency.as_secs_f32() * 1e3);
    }

    pub(super) fn failed(&self, at: Duration, shed: bool) {
        let mut counts = self.counts();
        counts.failed += 1;
        counts.shed += u64::from(shed);
        counts.bin(at).failed += 1;
    }

    pub(super) fn retried(&self) {
        self.counts().retries += 1;
    }

    #[allow(clippy::cast_possible_truncation)] // a wait in ms needs no more digits
    pub(super) fn waited(&self, stage: usize, wait_ms: f64) {
        if let Some((_, waits)) = self.counts().waits.get_mut(stage) {
            waits.push(wait_ms as f32);
        }
    }

    /// Where the run stands.
    pub fn progress(&self) -> Progress {
        let mut counts = self.counts();
        let last = counts.bins.len().checked_sub(2);
        let (offered_per_s, latency_ms) = last.and_then(|i| counts.bins.get_mut(i)).map_or_else(
            || (0, Percentiles::default()),
            |bin| (bin.offered, Percentiles::of(&mut bin.latencies)),
        );
        Progress {
            requests: counts.requests,
            served: counts.served,
            late: counts.late,
            failed: counts.failed,
            in_flight: counts.requests - counts.served - counts.failed,
            offered_per_s,
            latency_ms,
        }
    }

    /// Everything measured so far.
    #[allow(clippy::cast_precision_loss)] // counts stay far below 2^53
    pub fn summary(&self) -> Summary {
        let mut counts = self.counts();
        let mut all: Vec<f32> = counts.bins.iter().flat_map(|b| b.latencies.iter().copied()).collect();
        let seconds = (0_u32..).zip(&mut counts.bins).map(|(t_s, bin)| Second {
            t_s,
            offered: bin.offered,
            served: u32::try_from(bin.latencies.len()).unwrap_or(u32::MAX),
            late: bin.late,
            failed: bin.failed,
            latency_ms: Percentiles::of(&mut bin.latencies),
        });
        let seconds = seconds.collect();
        let stages = counts.waits.iter_mut().map(|(stage, waits)| StageWait {
            stage: stage.clone(),
            calls: waits.len() as u64,
            mean_ms: (!waits.is_empty()).then(|| waits.iter().map(|w| f64::from(*w)).sum::<f64>() / waits.len() as f64),
            wait_ms: Percentiles::of(waits),
        });
        let stages = stages.collect();
        Summary {
            requests: counts.requests,
            served: counts.served,
            late: counts.late,
            failed: counts.failed,
            shed: counts.shed,
            retries: counts.retries,
            late_percent: 100.0 * (counts.late + counts.failed) as f64 / counts.requests.max(1) as f64,
            latency_ms: Percentiles::of(&mut all),
            stages,
            seconds,
        }
    }
}

impl Counts {
    fn bin(&mut self, at: Duration) -> &mut Bin {
        let index = usize::try_from(at.as_secs())
            .unwrap_or(usize::MAX)
            .min(super::driver::MAX_SECONDS - 1);
        if self.bins.len() <= index {
            self.bins.resize_with(index + 1, Bin::default);
        }
        // The line above made it long enough.
        #[allow(clippy::indexing_slicing)]
        &mut self.bins[index]
    }
}
