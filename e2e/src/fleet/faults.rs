//! Switches that make replicas misbehave, one at a time or together.

/// How a replica misbehaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Accepts connections and never answers, requests and scrapes alike; work in progress stands still.
    Hang,
    /// Every load value on `/metrics` is multiplied by this.
    Lie(f64),
    /// `/metrics` answers, without the series that the preset needs.
    MetricsMissing,
    /// `/metrics` answers 503.
    MetricsUnavailable,
    /// Every load value on `/metrics` is `NaN`.
    MetricsNan,
    /// Work takes this many times as long.
    Slow(f64),
    /// Requests are refused with 500; metrics stay good.
    Refuse,
}

/// Who misbehaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One replica, by the pod's uid.
    Pod(String),
    /// All replicas of a stage: pipeline as `namespace/name`, and the stage.
    Stage(String, String),
    /// All replicas on a pool.
    Pool(String),
    /// Everyone.
    All,
}

/// What is wrong with one replica: the sum of the faults that target it.
#[allow(clippy::struct_excessive_bools)] // switches that combine freely, not states
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) hang: bool,
    pub(super) lie: f64,
    pub(super) missing: bool,
    pub(super) unavailable: bool,
    pub(super) nan: bool,
    pub(super) slow: f64,
    pub(super) refuse: bool,
}

impl Condition {
    pub(super) const HEALTHY: Self = Self {
        hang: false,
        lie: 1.0,
        missing: false,
        unavailable: false,
        nan: false,
        slow: 1.0,
        refuse: false,
    };

    pub(super) fn with(mut self, fault: Fault) -> Self {
        match fault {
            Fault::Hang => self.hang = true,
            Fault::Lie(factor) => self.lie *= factor,
            Fault::MetricsMissing => self.missing = true,
            Fault::MetricsUnavailable => self.unavailable = true,
            Fault::MetricsNan => self.nan = true,
            Fault::Slow(factor) => self.slow *= factor,
            Fault::Refuse => self.refuse = true,
        }
        self
    }

    /// Speed of work, 1 when nothing is wrong.
    pub(super) fn pace(&self) -> f64 {
        if self.hang { 0.0 } else { 1.0 / self.slow.max(1e-6) }
    }
}
