//! Mélange: the cheapest mix of accelerators for a measured load, as an integer program
//! (Griggs et al., "Mélange: Cost Efficient Large Language Model Serving by Exploiting GPU Heterogeneity",
//! <https://arxiv.org/abs/2404.14527>).
//!
//! The paper allocates once for a known histogram of request sizes; used as an autoscaler it solves anew every `period`,
//! for the mean rate of the period before, enlarged by `slack` per cent. Sizes are one bucket: capacities are declared for
//! the load's mean request. The program is solved exactly ([`crate::simulate::cover`]), stage by stage; the stages with
//! the least choice go first. Every stage takes part, since all declare what a replica serves.

use super::{Kind, Knobs, Order, Policy, View, knob, orders};
use crate::simulate::demand::cover_on;

/// What the command line offers.
pub const KIND: Kind = Kind {
    name: "melange",
    about: "the cheapest mix of pools for the mean rate, solved anew per period",
    knobs: &[
        ("period", &[300.0, 30.0, 60.0, 120.0]),
        ("slack", &[20.0, 10.0, 40.0, 70.0, 100.0]),
    ],
    build: |_, _, knobs| Box::new(Melange { knobs: knobs.clone() }),
};

struct Melange {
    knobs: Knobs,
}

impl Policy for Melange {
    fn step(&mut self, view: &View<'_>) -> Vec<Order> {
        let period_s = knob(&self.knobs, "period", 300.0).max(1.0);
        if !view.every(period_s as u64 * 1_000) {
            return Vec::new();
        }
        let factor = 1.0 + knob(&self.knobs, "slack", 20.0) / 100.0;
        let rate = |stage: usize| -> f64 {
            let variants = view.scenario.variants_of(stage);
            let arrivals = variants.filter_map(|at| view.metrics.mean(at, period_s as usize, |second| second.arrivals));
            arrivals.sum::<f64>() * factor
        };
        let rates: Vec<f64> = (0..view.scenario.stages.len()).map(rate).collect();
        let counts = cover_on(view.scenario, &rates, view.capacity);
        orders(&counts, view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::fixture::{Scene, two_pools};
    use crate::simulate::metrics::Second;

    #[test]
    fn the_mean_rate_of_the_period_is_covered_by_the_cheapest_mix() {
        let mut scene = Scene::new(two_pools(3, 9), &[1, 0]);
        for second in 0..300 {
            let arrivals = if second % 2 == 0 { 12.0 } else { 4.0 };
            scene.metrics.push(
                0,
                Second {
                    ready: 1,
                    arrivals,
                    ..Second::default()
                },
            );
        }
        let mut melange = Melange {
            knobs: Knobs::from([("slack".to_owned(), 0.0)]),
        };
        assert_eq!(melange.step(&scene.view(299_000)), []);
        // 8 per second are four replicas: three on the cheap pool, which is all it holds.
        let order = |variant, to| Order { variant, to };
        assert_eq!(melange.step(&scene.view(300_000)), [order(0, 3), order(1, 1)]);
    }
}
