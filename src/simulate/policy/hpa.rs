//! `HorizontalPodAutoscaler` v2, as its documentation describes it
//! (<https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/>, "Algorithm details",
//! "Configurable scaling behavior").
//!
//! Every 15 s: desired = ceil(current × value / target), nothing within a tolerance of 10 %. Pods that are not Ready are
//! set aside and, on the way up, counted as 0; pods without a metric count as 0 on the way up and as the full target on
//! the way down; if that turns the direction around, nothing happens. Up: at most 100 % or 4 pods per 15 s, whichever is
//! more. Down: the highest recommendation of 300 s.
//!
//! The metric: CPU utilization where the stage is read by CPU (a value per 15 s); else calls running and waiting per pod,
//! averaged over 15 s as an adapter would serve them, against the target's share of a replica's slots; with `queue=0` only
//! those running.

use std::collections::VecDeque;

use super::{Kind, Knobs, Ladder, Order, Policy, View, ceil, knob, target};
use crate::simulate::scenario::{Scenario, Signal};

/// What the command line offers.
pub const KIND: Kind = Kind {
    name: "hpa",
    about: "HorizontalPodAutoscaler v2 on CPU or on calls in flight",
    knobs: &[
        ("target", &[70.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0]),
        ("window", &[300.0, 60.0]),
    ],
    build: |_, _, knobs| Box::new(Hpa::new(knobs)),
};

const SYNC_MS: u64 = 15_000;
pub(super) const TOLERANCE: f64 = 0.1;

/// Pods and their metric, as one sync sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pods {
    /// `spec.replicas`.
    pub current: u32,
    /// Ready and with a value.
    pub sampled: u32,
    /// Without a value though they should have one.
    pub missing: u32,
    /// Not Ready yet.
    pub unready: u32,
    /// Mean value over target, of those sampled.
    pub ratio: f64,
    /// What a missing pod counts as on the way down, over target.
    pub fallback: f64,
}

/// Replicas that the ratio asks for.
pub fn desired(pods: Pods) -> u32 {
    if pods.sampled == 0 {
        return pods.current;
    }
    let up = pods.ratio > 1.0;
    let within = |ratio: f64| (ratio - 1.0).abs() <= TOLERANCE + 1e-9;
    if pods.missing == 0 && !(up && pods.unready > 0) {
        return if within(pods.ratio) {
            pods.current
        } else {
            ceil(pods.ratio * f64::from(pods.sampled))
        };
    }
    let mut count = pods.sampled + pods.missing;
    let mut sum = pods.ratio * f64::from(pods.sampled);
    if up {
        count += pods.unready;
    } else {
        sum += pods.fallback * f64::from(pods.missing);
    }
    let ratio = sum / f64::from(count);
    if within(ratio) || (ratio > 1.0) != up {
        return pods.current;
    }
    let wanted = ceil(ratio * f64::from(count));
    if up {
        wanted.max(pods.current)
    } else {
        wanted.min(pods.current)
    }
}

/// Most replicas after one period of growth from `current`.
pub fn growth_limit(current: u32) -> u32 {
    (current * 2).max(current + 4)
}

/// The highest recommendation of a window.
#[derive(Clone, Debug, Default)]
pub struct Stabilization {
    window_ms: u64,
    recent: VecDeque<(u64, u32)>,
}

impl Stabilization {
    /// Of so many milliseconds.
    pub fn new(window_ms: u64) -> Self {
        Self {
            window_ms,
            recent: VecDeque::new(),
        }
    }

    /// What may be written now: never fewer than any recommendation of the window, growth limited.
    pub fn limit(&mut self, now_ms: u64, current: u32, wanted: u32) -> u32 {
        if self.recent.is_empty() {
            // What ran before the first sync was recommended by somebody.
            self.recent.push_back((now_ms, current));
        }
        self.recent.push_back((now_ms, wanted));
        while self
            .recent
            .front()
            .is_some_and(|(at_ms, _)| at_ms + self.window_ms < now_ms)
        {
            self.recent.pop_front();
        }
        if wanted >= current {
            return wanted.min(growth_limit(current));
        }
        let highest = self.recent.iter().map(|(_, count)| *count).max().unwrap_or(wanted);
        highest.min(current)
    }
}

struct Hpa {
    knobs: Knobs,
    stages: Vec<Stabilization>,
}

impl Hpa {
    fn new(knobs: &Knobs) -> Self {
        Self {
            knobs: knobs.clone(),
            stages: Vec::new(),
        }
    }
}

/// What one sync sees of a stage: one Deployment over all of its pools.
pub(super) fn pods(view: &View<'_>, stage: usize, target: f64, queue: bool) -> Pods {
    let scenario = view.scenario;
    let mut pods = Pods {
        fallback: 1.0,
        ..Pods::default()
    };
    let mut sum = 0.0;
    for at in scenario.variants_of(stage) {
        let seen = view.seen[at];
        pods.current += seen.desired;
        match scenario.variants[at].signal {
            Signal::Cpu => {
                let cpu = view.metrics.cpu(at);
                let sampled = cpu.map_or(0, |cpu| cpu.sampled.min(seen.ready));
                sum += cpu.map_or(0.0, |cpu| cpu.utilization * f64::from(sampled)) / target;
                pods.sampled += sampled;
                // Started less than five minutes ago and without a whole window: not Ready yet.
                pods.unready += seen.desired.saturating_sub(sampled);
                pods.fallback = (1.0 / target).max(1.0);
            }
            Signal::Server => {
                let slots = f64::from(slots(scenario, stage));
                let in_flight = view.metrics.mean(at, 15, |second| {
                    second.running + if queue { second.waiting } else { 0.0 }
                });
                sum += in_flight.unwrap_or(0.0) / slots / target;
                pods.sampled += seen.ready;
                pods.missing += seen.starting;
                pods.unready += seen.pending;
            }
        }
    }
    pods.ratio = if pods.sampled > 0 {
        sum / f64::from(pods.sampled)
    } else {
        0.0
    };
    pods
}

/// Slots of a replica on the stage's first pool: the one number that such a scaler has for them all.
pub(super) fn slots(scenario: &Scenario, stage: usize) -> u32 {
    scenario
        .ladder(stage)
        .first()
        .map_or(1, |&at| scenario.variants[at].slots)
}

impl Policy for Hpa {
    fn step(&mut self, view: &View<'_>) -> Vec<Order> {
        if !view.every(SYNC_MS) {
            return Vec::new();
        }
        let window_ms = knob(&self.knobs, "window", 300.0) as u64 * 1_000;
        self.stages
            .resize_with(view.scenario.stages.len(), || Stabilization::new(window_ms));
        let mut ladder = Ladder::new(view);
        let mut orders = Vec::new();
        for (stage, limits) in self.stages.iter_mut().enumerate() {
            let declared = &view.scenario.world.stages[stage];
            let target = target(&self.knobs, view.scenario, stage);
            let pods = pods(view, stage, target, knob(&self.knobs, "queue", 1.0) > 0.0);
            let wanted = desired(pods).clamp(declared.min.max(1), declared.max.max(1));
            let to = limits.limit(view.now_ms, pods.current, wanted);
            orders.extend(ladder.place(view, stage, to));
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(current: u32, sampled: u32, ratio: f64) -> Pods {
        Pods {
            current,
            sampled,
            ratio,
            fallback: 1.0,
            ..Pods::default()
        }
    }

    #[test]
    fn the_examples_of_the_documentation() {
        // 200m against 100m doubles, 50m against 100m halves.
        assert_eq!(desired(pods(1, 1, 2.0)), 2);
        assert_eq!(desired(pods(4, 4, 0.5)), 2);
        // 50 replicas at 90 % against 75 % (KEP-4951's example).
        assert_eq!(desired(pods(50, 50, 90.0 / 75.0)), 60);
        // Within a tenth nothing happens.
        assert_eq!(desired(pods(10, 10, 1.1)), 10);
        assert_eq!(desired(pods(10, 10, 0.9)), 10);
        assert_eq!(desired(pods(10, 10, 1.11)), 12);
    }

    #[test]
    fn pods_that_are_not_ready_dampen_growth_and_are_ignored_on_the_way_down() {
        let unready = |current, sampled, unready, ratio| {
            desired(Pods {
                unready,
                ..pods(current, sampled, ratio)
            })
        };
        // Two at 200 % and two that start: (2 + 2 + 0 + 0) / 4 = 1: nothing more.
        assert_eq!(unready(4, 2, 2, 2.0), 4);
        // Two at 300 %: 6 / 4 = 1.5, times four.
        assert_eq!(unready(4, 2, 2, 3.0), 6);
        // Two at 210 % and two that start: 1.05, which is within the tolerance.
        assert_eq!(unready(4, 2, 2, 2.1), 4);
        // On the way down they are not counted: half of two.
        assert_eq!(unready(4, 2, 2, 0.5), 1);
    }

    #[test]
    fn pods_without_metrics_count_as_full_on_the_way_down_and_as_idle_on_the_way_up() {
        let missing = |current, sampled, missing, ratio| {
            desired(Pods {
                missing,
                ..pods(current, sampled, ratio)
            })
        };
        // Three at 50 % and one unknown: (1.5 + 1) / 4 = 0.625, times four = 2.5.
        assert_eq!(missing(4, 3, 1, 0.5), 3);
        // Three at 150 % and one unknown: 4.5 / 4 = 1.125, times four = 4.5.
        assert_eq!(missing(4, 3, 1, 1.5), 5);
        assert_eq!(missing(4, 0, 4, 0.0), 4, "no metric at all: nothing happens");
    }

    #[test]
    fn growth_is_limited_and_shrinking_waits_for_the_highest_recommendation_of_the_window() {
        let mut limits = Stabilization::new(300_000);
        assert_eq!(limits.limit(0, 2, 20), 6, "four pods are more than 100 % of two");
        assert_eq!(limits.limit(15_000, 6, 20), 12, "100 % of six is more than four");
        assert_eq!(limits.limit(30_000, 12, 8), 12);
        assert_eq!(limits.limit(315_000, 12, 8), 12, "20 was recommended 300 s ago");
        assert_eq!(limits.limit(330_001, 12, 8), 8);
    }
}
