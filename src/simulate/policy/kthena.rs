//! Kthena's optimizer for heterogeneous targets: a total by the HPA's arithmetic, spread over a ladder of cost blocks
//! (`volcano-sh/kthena`, `pkg/autoscaler/autoscaler/optimizer.go`, `pkg/autoscaler/algorithm/recommendation.go`).
//!
//! Each pool's replicas above its least are cut into blocks of 1, 2, 4 … (`expansion` 200 %), a block costs its replicas
//! times their price, and blocks are filled from the cheapest to the dearest. So a dear pool is used early in small numbers
//! and a cheap one grows in large steps; all replicas count alike, whatever they serve. Every 15 s; down as the highest
//! recommendation of `window` seconds; while a recommendation asks for twice what runs, nothing shrinks for a minute.

use super::hpa::{self, Stabilization};
use super::{Kind, Knobs, Order, Policy, View, knob, target};

/// What the command line offers.
pub const KIND: Kind = Kind {
    name: "kthena",
    about: "a total by the HPA's arithmetic, spread over doubling cost blocks",
    knobs: &[
        ("target", &[70.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0]),
        ("expansion", &[200.0, 100.0, 150.0]),
    ],
    build: |_, _, knobs| Box::new(Kthena::new(knobs)),
};

const SYNC_MS: u64 = 15_000;
const WINDOW_MS: u64 = 300_000;
const PANIC_PERCENT: u32 = 200;
const PANIC_MS: u64 = 60_000;

/// Blocks of a ladder: place of the pool and replicas, the cheapest block first. `pools` are price and most replicas.
pub fn blocks(pools: &[(u64, u32)], expansion_percent: f64) -> Vec<(usize, u32)> {
    let mut blocks: Vec<(u64, usize, u32)> = Vec::new();
    for (place, &(price, most)) in pools.iter().enumerate() {
        let (mut left, mut length) = (most, 1.0_f64);
        if (expansion_percent - 100.0).abs() < 1e-9 && left > 0 {
            // Without expansion a pool is one block, priced as one replica.
            blocks.push((price, place, left));
            continue;
        }
        while left > 0 {
            let replicas = left.min((length as u32).max(1));
            blocks.push((price * u64::from(replicas), place, replicas));
            left -= replicas;
            length *= expansion_percent / 100.0;
        }
    }
    // Stable: of equals the pool that is declared first.
    blocks.sort_by_key(|&(cost, place, _)| (cost, place));
    blocks
        .into_iter()
        .map(|(_, place, replicas)| (place, replicas))
        .collect()
}

/// A total over the blocks: replicas by pool.
pub fn spread(blocks: &[(usize, u32)], pools: usize, total: u32) -> Vec<u32> {
    let mut counts = vec![0; pools];
    let mut left = total;
    for &(place, replicas) in blocks {
        let taken = replicas.min(left);
        counts[place] += taken;
        left -= taken;
    }
    counts
}

struct Kthena {
    knobs: Knobs,
    stages: Vec<(Stabilization, Option<u64>)>,
}

impl Kthena {
    fn new(knobs: &Knobs) -> Self {
        Self {
            knobs: knobs.clone(),
            stages: Vec::new(),
        }
    }
}

impl Policy for Kthena {
    fn step(&mut self, view: &View<'_>) -> Vec<Order> {
        if !view.every(SYNC_MS) {
            return Vec::new();
        }
        let expansion = knob(&self.knobs, "expansion", 200.0).max(100.0);
        self.stages
            .resize_with(view.scenario.stages.len(), || (Stabilization::new(WINDOW_MS), None));
        let mut orders = Vec::new();
        for (stage, (limits, panic_ms)) in self.stages.iter_mut().enumerate() {
            let declared = &view.scenario.world.stages[stage];
            let pods = hpa::pods(view, stage, target(&self.knobs, view.scenario, stage), true);
            let wanted = hpa::desired(pods).clamp(declared.min.max(1), declared.max.max(1));
            if wanted * 100 >= pods.current * PANIC_PERCENT {
                *panic_ms = Some(view.now_ms);
            }
            let panics = panic_ms.is_some_and(|since_ms| view.now_ms < since_ms + PANIC_MS);
            let mut to = limits.limit(view.now_ms, pods.current, wanted);
            if panics {
                to = to.max(pods.current);
            }
            let ladder = view.scenario.ladder(stage);
            let pool = |&at: &usize| {
                let variant = &view.scenario.world.variants[at];
                (variant.cost_micros, variant.max.saturating_sub(view.scenario.floor(at)))
            };
            let pools: Vec<(u64, u32)> = ladder.iter().map(pool).collect();
            let floor: u32 = ladder.iter().map(|&at| view.scenario.floor(at)).sum();
            let mut counts = spread(&blocks(&pools, expansion), pools.len(), to.saturating_sub(floor));
            for (count, &at) in counts.iter_mut().zip(&ladder) {
                *count += view.scenario.floor(at);
            }
            let changed = ladder
                .iter()
                .zip(counts)
                .filter(|(at, count)| view.seen[**at].desired != *count);
            orders.extend(changed.map(|(&variant, to)| Order { variant, to }));
        }
        orders
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_double_and_are_filled_from_the_cheapest() {
        // Five at 30 and four at 100: 1 for 30, 2 for 60, 1 for 100, 2 for 60 (the rest), then 2 for 200 and 1 for 100.
        let blocks = blocks(&[(30, 5), (100, 4)], 200.0);
        assert_eq!(blocks, [(0, 1), (0, 2), (0, 2), (1, 1), (1, 1), (1, 2)]);
        assert_eq!(spread(&blocks, 2, 6), [5, 1]);
        // With 20 of the first, its block of 8 costs more than one of the second.
        let longer = super::blocks(&[(30, 20), (100, 4)], 200.0);
        assert_eq!(longer[..4], [(0, 1), (0, 2), (1, 1), (1, 1)]);
        assert_eq!(spread(&longer, 2, 6), [4, 2]);
    }

    #[test]
    fn without_expansion_pools_are_filled_one_after_the_other() {
        let blocks = blocks(&[(30, 5), (100, 4)], 100.0);
        assert_eq!(blocks, [(0, 5), (1, 4)]);
        assert_eq!(spread(&blocks, 2, 7), [5, 2]);
    }
}
