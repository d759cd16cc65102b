//! KEDA: an HPA on an external metric of type `AverageValue`, and a switch between 0 and 1
//! (<https://keda.sh/docs/latest/concepts/scaling-deployments/>, <https://keda.sh/docs/latest/reference/scaledobject-spec/>).
//!
//! The metric is the number of calls of the stage, running or waiting, a broker's queue included; the threshold is the
//! target's share of a replica's slots. The HPA asks every 15 s: ceil(metric / threshold), nothing while that is within 10 %
//! of the current replicas. Readiness plays no part: the metric is not read from pods. From 0 to 1 after a poll (30 s) that
//! finds a call, to 0 after 300 s (`cooldownPeriod`) without any, where the stage may sleep.

use super::hpa::{Stabilization, TOLERANCE, slots};
use super::{Kind, Knobs, Ladder, Order, Policy, View, ceil, knob, target};

/// What the command line offers.
pub const KIND: Kind = Kind {
    name: "keda",
    about: "KEDA on the calls of a stage, running or waiting",
    knobs: &[
        ("target", &[70.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0]),
        ("window", &[300.0, 60.0]),
    ],
    build: |_, _, knobs| Box::new(Keda::new(knobs)),
};

const SYNC_MS: u64 = 15_000;
const POLL_MS: u64 = 30_000;
const COOLDOWN_MS: u64 = 300_000;

/// Replicas for a total, against what one should have.
pub fn desired(current: u32, total: f64, threshold: f64) -> u32 {
    let wanted = total / threshold;
    if current > 0 && (wanted / f64::from(current) - 1.0).abs() <= TOLERANCE + 1e-9 {
        return current;
    }
    ceil(wanted)
}

struct Keda {
    knobs: Knobs,
    stages: Vec<Stabilization>,
    active_ms: Vec<u64>,
}

impl Keda {
    fn new(knobs: &Knobs) -> Self {
        Self {
            knobs: knobs.clone(),
            stages: Vec::new(),
            active_ms: Vec::new(),
        }
    }
}

/// Calls of a stage now, wherever they are.
fn calls(view: &View<'_>, stage: usize) -> f64 {
    let range = view.scenario.variants_of(stage);
    let held = range.filter_map(|at| view.metrics.recent(at, 1).next());
    f64::from(view.outside[stage]) + held.map(|second| second.running_now + second.waiting_now).sum::<f64>()
}

impl Policy for Keda {
    fn step(&mut self, view: &View<'_>) -> Vec<Order> {
        if !view.every(SYNC_MS) {
            return Vec::new();
        }
        let count = view.scenario.stages.len();
        let window_ms = knob(&self.knobs, "window", 300.0) as u64 * 1_000;
        self.stages.resize_with(count, || Stabilization::new(window_ms));
        self.active_ms.resize(count, view.now_ms);
        let mut ladder = Ladder::new(view);
        let mut orders = Vec::new();
        for (stage, limits) in self.stages.iter_mut().enumerate() {
            let declared = &view.scenario.world.stages[stage];
            let (current, _) = view.totals(stage);
            let total = calls(view, stage);
            if total > 0.0 && view.every(POLL_MS) {
                self.active_ms[stage] = view.now_ms;
            }
            let idle = view.now_ms - self.active_ms[stage] >= COOLDOWN_MS;
            let to = if declared.min == 0 && (idle || current == 0 && self.active_ms[stage] != view.now_ms) {
                0
            } else {
                let share = target(&self.knobs, view.scenario, stage);
                let threshold = share * f64::from(slots(view.scenario, stage));
                let wanted = desired(current, total, threshold).clamp(declared.min.max(1), declared.max.max(1));
                limits.limit(view.now_ms, current, wanted)
            };
            orders.extend(ladder.place(view, stage, to));
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::fixture::{Scene, one_stage};

    #[test]
    fn the_total_is_divided_by_the_threshold() {
        // 15 messages at a threshold of 5 are three replicas; 16 are four, unless that is within a tenth.
        assert_eq!(desired(1, 15.0, 5.0), 3);
        assert_eq!(desired(2, 16.0, 5.0), 4);
        assert_eq!(desired(10, 54.0, 5.0), 10);
        assert_eq!(desired(10, 56.0, 5.0), 12);
        assert_eq!(desired(0, 3.0, 5.0), 1);
    }

    #[test]
    fn a_stage_that_may_sleep_sleeps_after_the_cooldown_and_wakes_with_a_poll() {
        let mut scenario = one_stage(9);
        scenario.world.stages[0].min = 0;
        let mut scene = Scene::new(scenario, &[1]);
        let mut keda = Keda::new(&Knobs::from([("window".to_owned(), 0.0)]));
        let mut at = |scene: &Scene, second: u64| keda.step(&scene.view(second * 1_000)).first().map(|order| order.to);
        scene.load(0, 1, 1.0, 0.0);
        assert_eq!(at(&scene, 30), None);
        scene.load(0, 1, 0.0, 0.0);
        assert_eq!(at(&scene, 315), None, "285 s without a call");
        assert_eq!(at(&scene, 330), Some(0));
        scene.ask(&[0]);
        scene.outside[0] = 2;
        assert_eq!(at(&scene, 345), None, "no poll at this sync");
        assert_eq!(at(&scene, 360), Some(1));
    }
}
