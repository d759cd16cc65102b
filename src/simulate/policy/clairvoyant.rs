//! Knows the load: the schedule that an omniscient operator would have written in advance.
//!
//! For every second, replicas that serve the work as it comes, averaged over what a request may wait and enlarged by
//! `headroom` per cent, by the cheapest whole numbers of replicas that fit ([`crate::simulate::cover`]); each ordered a start-up time ahead, and kept where giving it up
//! and starting another would take as long. Fluid: it knows the arrivals and sizes of requests, not which of them queue
//! behind which, and its averages are over a fixed time (`window` times what a stage may let wait), so a sweep over both
//! finds the cheapest schedule that keeps requests in time. No lower bound: [`crate::simulate::demand::bound`] is one.

use super::{Kind, Knobs, Order, Policy, View, knob, orders};
use crate::simulate::demand::{cover, slack_s, smoothed, work};
use crate::simulate::load::Load;
use crate::simulate::scenario::Scenario;

/// What the command line offers.
pub const KIND: Kind = Kind {
    name: "clairvoyant",
    about: "knows the load in advance and orders replicas a start-up time ahead",
    knobs: &[
        ("headroom", &[20.0, 0.0, 5.0, 10.0, 30.0, 40.0, 60.0, 100.0]),
        ("window", &[1.0, 3.0, 10.0, 30.0, 100.0]),
    ],
    build: |scenario, load, knobs| Box::new(Clairvoyant::new(scenario, load, knobs)),
};

/// The longest that a start-up may take, relative to what is expected.
const STARTUP_FACTOR: f64 = 1.3;

struct Clairvoyant {
    /// By second, by variant.
    plan: Vec<Vec<u32>>,
}

impl Clairvoyant {
    fn new(scenario: &Scenario, load: &Load, knobs: &Knobs) -> Self {
        let factor = 1.0 + knob(knobs, "headroom", 20.0) / 100.0;
        let rates: Vec<Vec<f64>> = (work(scenario, load).iter().enumerate())
            .map(|(stage, work)| {
                let first = scenario.ladder(stage).first().map_or(0, |&at| lead_s(scenario, at));
                let window_s = window_s(scenario, stage) * knob(knobs, "window", 1.0);
                closed(&smoothed(work, window_s as usize), first)
            })
            .collect();
        let seconds = rates.first().map_or(0, Vec::len);
        let needed = (0..seconds).map(|second| {
            let now: Vec<f64> = rates.iter().map(|rate| rate[second] * factor).collect();
            cover(scenario, &now)
        });
        let needed: Vec<Vec<u32>> = needed.collect();
        let mut plan = needed.clone();
        for at in 0..scenario.world.variants.len() {
            let width = lead_s(scenario, at) + 1;
            for (second, counts) in plan.iter_mut().enumerate() {
                let ahead = &needed[second..(second + width).min(seconds)];
                counts[at] = ahead.iter().map(|counts| counts[at]).max().unwrap_or(0);
            }
        }
        Self { plan }
    }
}

/// Seconds that a replica is ordered ahead.
fn lead_s(scenario: &Scenario, variant: usize) -> usize {
    (scenario.world.variants[variant].startup_ms as f64 * STARTUP_FACTOR / 1e3).ceil() as usize + 1
}

/// The curve with dips that are shorter than `width` filled: what would be given up would have to be started at once.
fn closed(values: &[f64], width: usize) -> Vec<f64> {
    let ahead = extreme(values, width, f64::max);
    let mut back: Vec<f64> = ahead.into_iter().rev().collect();
    back = extreme(&back, width, f64::min);
    back.reverse();
    back
}

/// The extreme of each value and the `width` that follow.
fn extreme(values: &[f64], width: usize, of: fn(f64, f64) -> f64) -> Vec<f64> {
    let window = |at: usize| {
        values
            .iter()
            .skip(at)
            .take(width + 1)
            .copied()
            .reduce(of)
            .unwrap_or(0.0)
    };
    (0..values.len()).map(window).collect()
}

/// Seconds over which a stage may average its work: what a call may take on a full replica instead of a lone one, and the
/// stage's part, by service time, of what a request may wait in all.
fn window_s(scenario: &Scenario, stage: usize) -> f64 {
    let pipeline = scenario.world.stages[stage].pipeline.0 as usize;
    let full: f64 = scenario
        .stages_of(pipeline)
        .map(|stage| scenario.service_s(stage).1)
        .sum();
    let (alone, own) = scenario.service_s(stage);
    own - alone + slack_s(scenario, pipeline) * own / full.max(1e-9)
}

impl Policy for Clairvoyant {
    fn step(&mut self, view: &View<'_>) -> Vec<Order> {
        let Some(counts) = self.plan.get((view.now_ms / 1_000) as usize) else {
            return Vec::new();
        };
        orders(counts, view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::fixture::{Scene, one_stage};
    use crate::simulate::load::Arrival;

    #[test]
    fn short_dips_are_filled_and_long_ones_are_not() {
        let curve = [3.0, 1.0, 3.0, 0.0, 0.0, 0.0, 3.0];
        assert_eq!(closed(&curve, 1), [3.0, 3.0, 3.0, 0.0, 0.0, 0.0, 3.0]);
        assert_eq!(closed(&curve, 3), [3.0; 7]);
    }

    #[test]
    fn replicas_are_ordered_a_start_up_time_ahead_of_the_load() {
        // One per second for a minute, then ten per second. A replica serves two and starts in 10 s, 13 at most.
        let slow = (0..60).map(|at| at * 1_000);
        let fast = (0..600).map(|at| 60_000 + at * 100);
        let arrivals = slow.chain(fast).map(|at_ms| Arrival { at_ms, work: 1.0 }).collect();
        let load = Load {
            name: "step".to_owned(),
            arrivals,
        };
        let scene = Scene::new(one_stage(100), &[1]);
        let mut policy = Clairvoyant::new(&scene.scenario, &load, &Knobs::from([("headroom".to_owned(), 0.0)]));
        let mut at = |second: u64| policy.step(&scene.view(second * 1_000)).first().map(|order| order.to);
        assert_eq!(at(40), None, "one is enough");
        assert_eq!(at(60), Some(5));
        assert!(at(50).is_some_and(|count| count >= 3), "{:?}", at(50));
        assert_eq!(at(110), Some(5));
    }
}
