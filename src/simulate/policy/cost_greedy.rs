//! A variant autoscaler that is greedy in cost, by the rules of llm-d's workload variant autoscaler
//! (`llm-d-incubation/workload-variant-autoscaler`, `docs/saturation-analyzer.md`, the saturation analyzer's defaults).
//!
//! A replica is saturated at 80 % of its cache or 5 calls waiting, each the highest of the last minute. Where the replicas
//! that are not have on average less than 10 % of cache or 3 calls to spare, the cheapest variant without pending replicas
//! gets one more; where they would keep that with one replica fewer, the dearest variant loses one. A variant whose Ready
//! replicas are not what was asked for is left as it is.
//!
//! The cache's use is taken to be the share of a replica's slots, and the replicas of a variant to be alike. It knows
//! model servers only: stages that are read by CPU get the HPA. A round takes a minute.

use super::hpa::{self, Stabilization};
use super::{Kind, Knobs, Ladder, Order, Policy, View, knob, target};
use crate::simulate::scenario::Signal;

/// What the command line offers.
pub const KIND: Kind = Kind {
    name: "cost-greedy",
    about: "a variant autoscaler: cheapest variant up, dearest down, by saturation",
    knobs: &[
        ("cache", &[80.0, 30.0, 40.0, 50.0, 65.0, 90.0]),
        ("period", &[60.0, 15.0, 30.0]),
    ],
    build: |_, _, knobs| Box::new(CostGreedy::new(knobs)),
};

const QUEUE_MAX: f64 = 5.0;
const SPARE_CACHE: f64 = 0.1;
const SPARE_QUEUE: f64 = 3.0;
/// Seconds of which the highest value counts.
const LOOK_S: usize = 60;
const HPA_MS: u64 = 15_000;

/// One variant as the analyzer sees it: all of its replicas alike.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variant {
    /// Price of a replica.
    pub cost: f64,
    /// Replicas asked for.
    pub desired: u32,
    /// Replicas that report.
    pub ready: u32,
    /// Fewest there must be.
    pub min: u32,
    /// Most there may be now.
    pub max: u32,
    /// Share of its cache that a replica uses.
    pub cache: f64,
    /// Calls waiting at a replica.
    pub queue: f64,
}

/// Which variant gets one more or one fewer, if any.
pub fn decide(variants: &[Variant], cache_max: f64, least: u32) -> Option<(usize, i32)> {
    let calm: Vec<&Variant> = variants
        .iter()
        .filter(|variant| variant.ready > 0 && variant.cache < cache_max && variant.queue < QUEUE_MAX)
        .collect();
    let count: f64 = calm.iter().map(|variant| f64::from(variant.ready)).sum();
    let sum =
        |of: fn(&Variant) -> f64| -> f64 { calm.iter().map(|variant| of(variant) * f64::from(variant.ready)).sum() };
    let (cache, queue) = (sum(|variant| variant.cache), sum(|variant| variant.queue));
    let spare = |count: f64| {
        count > 0.0 && cache_max - cache / count >= SPARE_CACHE && QUEUE_MAX - queue / count >= SPARE_QUEUE
    };
    let cost = |(_, variant): &(usize, &Variant)| variant.cost;
    if !spare(count) {
        let open = variants
            .iter()
            .enumerate()
            .filter(|(_, variant)| variant.desired == variant.ready && variant.ready < variant.max);
        return open.min_by(|a, b| cost(a).total_cmp(&cost(b))).map(|(at, _)| (at, 1));
    }
    let ready: u32 = variants.iter().map(|variant| variant.ready).sum();
    if count < 2.0 || !spare(count - 1.0) || ready <= least {
        return None;
    }
    let settled = variants
        .iter()
        .enumerate()
        .filter(|(_, variant)| variant.ready > variant.min && variant.desired == variant.ready);
    settled
        .max_by(|a, b| cost(a).total_cmp(&cost(b)))
        .map(|(at, _)| (at, -1))
}

struct CostGreedy {
    knobs: Knobs,
    stages: Vec<Stabilization>,
}

impl CostGreedy {
    fn new(knobs: &Knobs) -> Self {
        Self {
            knobs: knobs.clone(),
            stages: Vec::new(),
        }
    }

    fn variants(view: &View<'_>, stage: usize, order: &[usize], ladder: &mut Ladder) -> Vec<Variant> {
        let (total, _) = view.totals(stage);
        let most = view.scenario.world.stages[stage].max;
        let variant = |&at: &usize| {
            let seen = view.seen[at];
            let each = f64::from(seen.ready.max(1));
            let room = if total < most {
                ladder.room_for(view, at).min(most - total)
            } else {
                0
            };
            Variant {
                cost: view.scenario.world.variants[at].cost_micros as f64,
                desired: seen.desired,
                ready: seen.ready,
                min: view.scenario.floor(at),
                max: seen.ready + room,
                cache: view
                    .metrics
                    .max(at, LOOK_S, |second| second.running / f64::from(second.ready.max(1)))
                    / f64::from(view.scenario.variants[at].slots),
                queue: view.metrics.max(at, LOOK_S, |second| second.waiting) / each,
            }
        };
        order.iter().map(variant).collect()
    }
}

impl Policy for CostGreedy {
    fn step(&mut self, view: &View<'_>) -> Vec<Order> {
        let period_ms = knob(&self.knobs, "period", 60.0) as u64 * 1_000;
        self.stages
            .resize_with(view.scenario.stages.len(), || Stabilization::new(300_000));
        let mut ladder = Ladder::new(view);
        let mut orders = Vec::new();
        for (stage, limits) in self.stages.iter_mut().enumerate() {
            let declared = &view.scenario.world.stages[stage];
            let mut servers = view
                .scenario
                .variants_of(stage)
                .map(|at| view.scenario.variants[at].signal);
            if servers.any(|signal| signal == Signal::Cpu) {
                if view.every(HPA_MS) {
                    let pods = hpa::pods(view, stage, target(&Knobs::new(), view.scenario, stage), true);
                    let wanted = hpa::desired(pods).clamp(declared.min.max(1), declared.max.max(1));
                    orders.extend(ladder.place(view, stage, limits.limit(view.now_ms, pods.current, wanted)));
                }
                continue;
            }
            if !view.every(period_ms) {
                continue;
            }
            let order = view.scenario.ladder(stage);
            let variants = Self::variants(view, stage, &order, &mut ladder);
            let cache_max = knob(&self.knobs, "cache", 80.0) / 100.0;
            if let Some((place, change)) = decide(&variants, cache_max, declared.min) {
                let variant = order[place];
                let to = view.seen[variant].ready.saturating_add_signed(change);
                orders.push(Order { variant, to });
                if change > 0 {
                    ladder.take(view, variant, 1);
                }
            }
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(cost: f64, ready: u32, cache: f64, queue: f64) -> Variant {
        Variant {
            cost,
            desired: ready,
            ready,
            min: 0,
            max: 9,
            cache,
            queue,
        }
    }

    #[test]
    fn the_cheapest_variant_grows_where_little_is_spare() {
        // The example of the analyzer's page: A100 at $20 with 70 % and 75 %, H100 at $15 with 55 to 65 %.
        let variants = [variant(20.0, 2, 0.725, 2.5), variant(15.0, 3, 0.6, 4.0 / 3.0)];
        // Spare cache is 0.15 and spare queue 3.2 on average: enough as it is, too little with one fewer.
        assert_eq!(decide(&variants, 0.8, 1), None);
        let busier = [variants[0], variant(15.0, 3, 0.75, 2.0)];
        assert_eq!(decide(&busier, 0.8, 1), Some((1, 1)));
        let pending = [
            variants[0],
            Variant {
                desired: 4,
                ..busier[1]
            },
        ];
        assert_eq!(
            decide(&pending, 0.8, 1),
            Some((0, 1)),
            "a variant with pending replicas is passed over"
        );
        let idle = [variant(20.0, 2, 0.1, 0.0), variant(15.0, 3, 0.1, 0.0)];
        assert_eq!(decide(&idle, 0.8, 1), Some((0, -1)), "the dearest shrinks");
        assert_eq!(decide(&idle, 0.8, 5), None);
        let floored = [Variant { min: 2, ..idle[0] }, idle[1]];
        assert_eq!(decide(&floored, 0.8, 1), Some((1, -1)), "the dearest is at its floor");
    }

    #[test]
    fn saturated_replicas_do_not_count_as_spare() {
        let variants = [variant(20.0, 1, 0.1, 0.0), variant(15.0, 3, 0.95, 9.0)];
        assert_eq!(
            decide(&variants, 0.8, 1),
            None,
            "the one that is left has plenty and may not go"
        );
        assert_eq!(
            decide(&variants[1..], 0.8, 1),
            Some((0, 1)),
            "nobody has anything to spare"
        );
    }
}
