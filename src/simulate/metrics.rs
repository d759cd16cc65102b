//! What can be observed from outside: per variant, what its servers showed in each of the last seconds, and what
//! `metrics.k8s.io` answers. Policies read nothing else about load.

use std::collections::VecDeque;

/// Seconds that are remembered.
pub const MEMORY_S: usize = 600;
/// `metrics.k8s.io` has a new value so often (the default `--metric-resolution` of metrics-server).
pub const CPU_PERIOD_MS: u64 = 15_000;

/// One second of one variant, summed over its Ready replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// Ready replicas at its end.
    pub ready: u32,
    /// Calls running, on average over the second.
    pub running: f64,
    /// Calls waiting, on average over the second.
    pub waiting: f64,
    /// Calls running at its end.
    pub running_now: f64,
    /// Calls waiting at its end.
    pub waiting_now: f64,
    /// Calls that came.
    pub arrivals: f64,
}

/// CPU usage of the pods of one variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpu {
    /// End of the window.
    pub taken_ms: u64,
    /// Pods that were Ready through the window; younger ones have no value yet.
    pub sampled: u32,
    /// Their usage over request, averaged over window and pods.
    pub utilization: f64,
}

/// Metrics of all variants.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    seconds: Vec<VecDeque<Second>>,
    cpu: Vec<Option<Cpu>>,
}

impl Metrics {
    /// Nothing observed yet.
    pub fn new(variants: usize) -> Self {
        Self {
            seconds: vec![VecDeque::new(); variants],
            cpu: vec![None; variants],
        }
    }

    /// Adds a second.
    pub fn push(&mut self, variant: usize, second: Second) {
        let seconds = &mut self.seconds[variant];
        if seconds.len() == MEMORY_S {
            seconds.pop_front();
        }
        seconds.push_back(second);
    }

    /// Replaces what `metrics.k8s.io` says; `None`: no pod has a value.
    pub fn set_cpu(&mut self, variant: usize, cpu: Option<Cpu>) {
        self.cpu[variant] = cpu;
    }

    /// What `metrics.k8s.io` says.
    pub fn cpu(&self, variant: usize) -> Option<Cpu> {
        self.cpu[variant]
    }

    /// The last second, if a replica was Ready then.
    pub fn last(&self, variant: usize) -> Option<Second> {
        self.seconds[variant].back().copied().filter(|second| second.ready > 0)
    }

    /// The last `count` seconds, newest first.
    pub fn recent(&self, variant: usize, count: usize) -> impl Iterator<Item = &Second> {
        self.seconds[variant].iter().rev().take(count)
    }

    /// Mean of a number over the last `count` seconds; `None` before the first.
    pub fn mean(&self, variant: usize, count: usize, of: impl Fn(&Second) -> f64) -> Option<f64> {
        let (mut sum, mut seconds) = (0.0, 0.0);
        for second in self.recent(variant, count) {
            sum += of(second);
            seconds += 1.0;
        }
        (seconds > 0.0).then(|| sum / seconds)
    }

    /// Largest value of a number over the last `count` seconds.
    pub fn max(&self, variant: usize, count: usize, of: impl Fn(&Second) -> f64) -> f64 {
        self.recent(variant, count).map(of).fold(0.0, f64::max)
    }
}
