//! Switches that make replicas misbehave, one at a time or together.

/// How a replica misbehaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Accepts connections and never answers, requests and scrapes alike; work in progress stands still.
    Hang,
    /// Every load value on `/metrics` is multiplied by this.
    Lie(f64),
    /// Something is wrong with `/metrics`, and with nothing else. Of several the last one counts.
    Metrics(Metrics),
    /// Work takes this many times as long.
    Slow(f64),
    /// Requests are refused with 500; metrics stay good.
    Refuse,
}

/// What is wrong with `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metrics {
    /// 503.
    Unavailable,
    /// 401.
    Denied,
    /// The answer takes five seconds.
    Slow,
    /// Without the series that the preset needs.
    Missing,
    /// 200, and nothing.
    Empty,
    /// Every load value is `NaN`.
    Nan,
    /// Every load value is infinite.
    PlusInfinity,
    /// The same below zero.
    MinusInfinity,
    /// Every series twice.
    Duplicated,
    /// A gibibyte of series, made while it is sent.
    Huge,
    /// The first page that was shown with this fault, again and again.
    Frozen,
    /// The last pages from before this fault, one after the other, again and again.
    Replayed,
    /// Shares in per cent, and times in milliseconds.
    WrongUnit,
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) hang: bool,
    pub(super) lie: f64,
    pub(super) metrics: Option<Metrics>,
    pub(super) slow: f64,
    pub(super) refuse: bool,
}

impl Condition {
    pub(super) const HEALTHY: Self = Self {
        hang: false,
        lie: 1.0,
        metrics: None,
        slow: 1.0,
        refuse: false,
    };

    pub(super) fn with(mut self, fault: Fault) -> Self {
        match fault {
            Fault::Hang => self.hang = true,
            Fault::Lie(factor) => self.lie *= factor,
            Fault::Metrics(metrics) => self.metrics = Some(metrics),
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
