//! Knative's pod autoscaler (<https://knative.dev/docs/serving/autoscaling/kpa-specific/>,
//! <https://knative.dev/docs/serving/autoscaling/concurrency/>; arithmetic as in `knative/serving`,
//! `pkg/autoscaler/scaling/autoscaler.go`).
//!
//! Every 2 s: concurrency, averaged over 60 s (stable) and 6 s (panic, 10 %), over the target, which is 70 % of a replica's
//! slots. Panic begins where the panic window asks for twice the Ready pods; until 60 s after that was last so, nothing
//! shrinks. Never more than 1,000 times the Ready pods, never fewer than half. Concurrency is counted in front of the
//! pods, so calls that wait without a pod count as well.

use super::hpa::slots;
use super::{Kind, Knobs, Ladder, Order, Policy, View, knob, target};

/// What the command line offers.
pub const KIND: Kind = Kind {
    name: "kpa",
    about: "Knative's pod autoscaler on concurrency",
    knobs: &[
        ("target", &[70.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0]),
        ("stable", &[60.0, 120.0, 300.0]),
    ],
    build: |_, _, knobs| Box::new(Kpa::new(knobs)),
};

const TICK_MS: u64 = 2_000;
const PANIC_THRESHOLD: f64 = 2.0;
const UP_RATE: f64 = 1_000.0;
const DOWN_RATE: f64 = 2.0;

/// Panic, if it is on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Panic {
    /// Since when; of the last time that the threshold was crossed.
    since_ms: Option<u64>,
    pods: u32,
}

/// Replicas for what is observed in both windows, per target.
pub fn desired(panic: &mut Panic, now_ms: u64, stable_ms: u64, ready: u32, stable: f64, panicked: f64) -> u32 {
    let ready = f64::from(ready.max(1));
    let limited = |wanted: f64| {
        (wanted - 1e-9)
            .ceil()
            .max((ready / DOWN_RATE).floor())
            .min((UP_RATE * ready).ceil())
    };
    if (panicked - 1e-9).ceil() / ready >= PANIC_THRESHOLD {
        panic.since_ms = Some(now_ms);
    } else if panic.since_ms.is_some_and(|since_ms| since_ms + stable_ms < now_ms) {
        *panic = Panic::default();
    }
    let wanted = limited(stable) as u32;
    if panic.since_ms.is_none() {
        return wanted;
    }
    panic.pods = panic.pods.max(wanted.max(limited(panicked) as u32));
    panic.pods
}

struct Kpa {
    knobs: Knobs,
    stages: Vec<Panic>,
    outside: Vec<Vec<f64>>,
}

impl Kpa {
    fn new(knobs: &Knobs) -> Self {
        Self {
            knobs: knobs.clone(),
            stages: Vec::new(),
            outside: Vec::new(),
        }
    }
}

impl Policy for Kpa {
    fn step(&mut self, view: &View<'_>) -> Vec<Order> {
        let stages = 0..view.scenario.stages.len();
        if self.stages.is_empty() {
            // A fresh autoscaler begins in panic where more than one pod runs, so as not to shrink without history.
            let fresh = |stage: usize| match view.totals(stage).1 {
                ready @ 2.. => Panic {
                    since_ms: Some(view.now_ms),
                    pods: ready,
                },
                _ => Panic::default(),
            };
            self.stages = stages.clone().map(fresh).collect();
            self.outside = vec![Vec::new(); stages.len()];
        }
        for (stage, seconds) in self.outside.iter_mut().enumerate() {
            seconds.push(f64::from(view.outside[stage]));
        }
        if !view.every(TICK_MS) {
            return Vec::new();
        }
        let stable_s = (knob(&self.knobs, "stable", 60.0) as usize).max(6);
        let mut ladder = Ladder::new(view);
        let mut orders = Vec::new();
        for stage in stages {
            let declared = &view.scenario.world.stages[stage];
            let mean = |count: usize| {
                let held = view.scenario.variants_of(stage);
                let held: f64 = held
                    .filter_map(|at| view.metrics.mean(at, count, |second| second.running + second.waiting))
                    .sum();
                let outside = self.outside[stage].iter().rev().take(count);
                let seconds = outside.len().max(1) as f64;
                held + outside.sum::<f64>() / seconds
            };
            let target = target(&self.knobs, view.scenario, stage) * f64::from(slots(view.scenario, stage));
            let (stable, panicked) = (mean(stable_s) / target, mean((stable_s / 10).max(6)) / target);
            let (_, ready) = view.totals(stage);
            let panic = &mut self.stages[stage];
            let wanted = desired(panic, view.now_ms, stable_s as u64 * 1_000, ready, stable, panicked);
            orders.extend(ladder.place(view, stage, wanted.clamp(declared.min, declared.max)));
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_mode_divides_by_the_target_and_halves_at_most() {
        // 100 concurrent calls at a concurrency of 10 and 70 % are 15 pods.
        let mut panic = Panic::default();
        assert_eq!(desired(&mut panic, 0, 60_000, 10, 100.0 / 7.0, 100.0 / 7.0), 15);
        assert_eq!(panic, Panic::default());
        assert_eq!(desired(&mut panic, 0, 60_000, 10, 0.5, 0.5), 5);
    }

    #[test]
    fn twice_the_ready_pods_is_panic_which_never_shrinks_until_a_stable_window_later() {
        let mut panic = Panic::default();
        assert_eq!(desired(&mut panic, 0, 60_000, 4, 4.5, 7.2), 8, "eight are twice four");
        assert_eq!(desired(&mut panic, 30_000, 60_000, 8, 5.0, 3.0), 8);
        assert_eq!(desired(&mut panic, 60_000, 60_000, 8, 5.0, 3.0), 8);
        assert_eq!(desired(&mut panic, 62_000, 60_000, 8, 5.0, 3.0), 5);
    }
}
