//! Properties of the choice on drawn pipelines, with an exhaustive search as judge of the small ones.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "small numbers by construction"
)]

use super::super::queue::Queue;
use super::*;

const TAIL: u64 = 7_358;

/// A stream of numbers from one seed (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A pipeline of up to `stages` stages; most of them a chain. `large`: tens of replicas rather than a few.
fn pipeline(dice: &mut Dice, stages: u64, large: bool) -> Vec<Node> {
    let count = 1 + dice.below(stages);
    let chain = dice.below(3) > 0;
    let node = |at: u64, dice: &mut Dice| {
        let least = 1 + u32::try_from(dice.below(if large { 200 } else { 3 })).unwrap();
        let capacity_millis = 200 + dice.below(5_000);
        let callers = match at {
            0 => Vec::new(),
            _ if chain => vec![at as usize - 1],
            _ => vec![dice.below(at) as usize, dice.below(at) as usize],
        };
        Node {
            queue: Queue {
                rate_millis: capacity_millis * u64::from(least) * (30 + dice.below(65)) / 100,
                capacity_millis,
                slots: [1, 1, 2, 4, 16][dice.below(5) as usize],
                shared: dice.below(2) == 0,
            },
            least,
            most: least + u32::try_from(dice.below(if large { 400 } else { 5 })).unwrap(),
            price: 1 + dice.below(20),
            callers,
        }
    };
    (0..count).map(|at| node(at, dice)).collect()
}

/// Latency between what the most and what the least replicas take, and sometimes beyond.
fn target_us(dice: &mut Dice, nodes: &[Node]) -> u64 {
    let of = |count: fn(&Node) -> u32| {
        let replicas: Vec<u32> = nodes.iter().map(count).collect();
        estimate(nodes, &replicas, TAIL)
    };
    let (most, least) = (of(|node| node.most), of(|node| node.least));
    let span = least.min(most * 20).saturating_sub(most);
    most * 9 / 10 + dice.below(span * 5 / 4 + 2)
}

/// The cheapest replicas that keep the target, by trying all.
fn exhaustive(nodes: &[Node], target_us: u64) -> Option<u128> {
    let mut best: Option<u128> = None;
    let mut replicas: Vec<u32> = nodes.iter().map(|node| node.least).collect();
    loop {
        if estimate(nodes, &replicas, TAIL) <= target_us {
            let cost = cost(nodes, &replicas);
            best = Some(best.map_or(cost, |best| best.min(cost)));
        }
        let Some(at) = (0..nodes.len()).find(|&at| replicas[at] < nodes[at].most) else {
            return best;
        };
        replicas[at] += 1;
        for (slot, node) in replicas.iter_mut().zip(nodes).take(at) {
            *slot = node.least;
        }
    }
}

#[test]
fn the_target_is_kept_wherever_the_most_replicas_keep_it() {
    let mut kept = 0;
    for seed in 0..10_000 {
        let mut dice = Dice(seed);
        let large = seed % 10 == 0;
        let nodes = pipeline(&mut dice, 6, large);
        let target = target_us(&mut dice, &nodes);
        let most: Vec<u32> = nodes.iter().map(|node| node.most).collect();
        let reach = estimate(&nodes, &most, TAIL);
        match choose(&nodes, target, TAIL) {
            Choice::Kept(replicas) => {
                kept += 1;
                assert!(
                    estimate(&nodes, &replicas, TAIL) <= target,
                    "seed {seed}: {nodes:?}, {replicas:?}"
                );
                for (node, &count) in nodes.iter().zip(&replicas) {
                    assert!((node.least..=node.most).contains(&count), "seed {seed}: {replicas:?}");
                }
            }
            Choice::OutOfReach(latency) => {
                assert!(
                    latency == reach && reach > target,
                    "seed {seed}: {latency}, {reach}, {target}"
                );
            }
        }
    }
    assert!((5_000..9_900).contains(&kept), "{kept} of 10000 say little");
}

#[test]
fn a_tighter_target_never_costs_less() {
    for seed in 0..10_000 {
        let mut dice = Dice(seed);
        let nodes = pipeline(&mut dice, 5, seed % 10 == 0);
        let one = target_us(&mut dice, &nodes);
        let other = target_us(&mut dice, &nodes);
        let (tight, loose) = (one.min(other), one.max(other));
        if let (Choice::Kept(tight), Choice::Kept(loose)) = (choose(&nodes, tight, TAIL), choose(&nodes, loose, TAIL)) {
            let (tight, loose) = (cost(&nodes, &tight), cost(&nodes, &loose));
            assert!(tight >= loose, "seed {seed}: {tight} below {loose} for {nodes:?}");
        }
    }
}

#[test]
fn small_pipelines_cost_within_a_few_per_cent_of_the_best() {
    let (mut ours, mut best, mut optimal, mut cases) = (0, 0, 0, 0);
    let mut worst = (0.0, 0);
    for seed in 0..4_000 {
        let mut dice = Dice(seed);
        let nodes = pipeline(&mut dice, 4, false);
        let target = target_us(&mut dice, &nodes);
        let Choice::Kept(replicas) = choose(&nodes, target, TAIL) else {
            continue;
        };
        if nodes.iter().zip(&replicas).all(|(node, &count)| node.least == count) {
            continue;
        }
        let (cost, least) = (cost(&nodes, &replicas), exhaustive(&nodes, target).unwrap());
        assert!(cost >= least, "seed {seed}");
        cases += 1;
        optimal += u64::from(cost == least);
        (ours, best) = (ours + cost, best + least);
        let ratio = cost as f64 / least as f64;
        if ratio > worst.0 {
            worst = (ratio, seed);
        }
    }
    let mean = ours as f64 / best as f64;
    println!(
        "{cases} cases, {optimal} optimal, {mean:.4} in the mean, {:.3} at worst (seed {})",
        worst.0, worst.1
    );
    assert!(mean < 1.01 && worst.0 < 1.25, "{mean}, {worst:?}");
    assert!(cases > 2_000 && optimal * 10 > cases * 9, "{optimal} of {cases}");
}

#[test]
fn a_replica_goes_where_it_saves_most_per_price() {
    let queue = Queue {
        rate_millis: 900,
        capacity_millis: 1_000,
        slots: 1,
        shared: true,
    };
    let node = |price, callers| Node {
        queue,
        least: 1,
        most: 10,
        price,
        callers,
    };
    // Two stages alike but for their price, one after the other: 1 s of service each, and waits.
    let nodes = [node(10, vec![]), node(1, vec![0])];
    let start = estimate(&nodes, &[1, 1], 1_000);
    assert_eq!(choose(&nodes, start, 1_000), Choice::Kept(vec![1, 1]), "nothing to do");
    assert_eq!(choose(&nodes, start - 1_000_000, 1_000), Choice::Kept(vec![1, 2]));
    assert_eq!(choose(&nodes, 2_700_000, 1_000), Choice::Kept(vec![2, 2]));
    let Choice::OutOfReach(least) = choose(&nodes, 1_999_000, 1_000) else {
        panic!("two seconds of service cannot be waited away");
    };
    assert!((2_000_000..2_001_000).contains(&least), "{least}");
    // Side by side neither is on the other's path: both have to be quick.
    let nodes = [node(10, vec![]), node(1, vec![])];
    assert_eq!(choose(&nodes, 1_400_000, 1_000), Choice::Kept(vec![2, 2]));
}
