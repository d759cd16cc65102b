//! What holds of every instance, tried on many small ones.

use proptest::prelude::*;

use super::generate::{Dice, Fleet, fleet};
use super::judge::{check, optimum};
use super::rows::{GroupRow, OptionRow, PoolRow, Rows, StageRow};
use super::{Instance, Memory, Settings, Solution, Traffic, solve};
use crate::rebalance::world::Resources;

fn solved(rows: &Rows) -> (Instance, Solution) {
    let instance = Instance::new(rows);
    let settings = Settings {
        tries: 64,
        ..Settings::default()
    };
    let solution = solve(&instance, &mut Memory::default(), &settings, &mut || true);
    (instance, solution)
}

/// Small numbers: everything ties, everything is short.
fn small(dice: &mut Dice, stages: u64, options: u64, upper: u64) -> Rows {
    let pools = dice.between(1, options);
    let mut rows = Rows::default();
    for _ in 0..pools {
        rows.pools.push(PoolRow {
            reliable: dice.chance(60),
            cpu_millis: dice.between(0, 12) as i64,
            memory_kib: dice.between(2, 30) as i64,
            device_millis: dice.between(0, 4) as i64,
        });
    }
    for _ in 0..dice.between(0, 2) {
        rows.groups.push(GroupRow {
            money_max_micros: dice.chance(60).then(|| dice.between(0, 40)),
            power_max_milliwatts: dice.chance(40).then(|| dice.between(0, 40)),
        });
    }
    for _ in 0..dice.between(1, stages) {
        let mut stage = StageRow {
            demand_millis: dice.between(0, 25),
            min: if dice.chance(40) { dice.between(0, 2) as u32 } else { 0 },
            max: if dice.chance(30) { dice.between(0, 3) as u32 } else { 9 },
            reliable_min: u32::from(dice.chance(20)),
            traffic: [Traffic::Uniform, Traffic::Weighted, Traffic::Pull][dice.between(0, 2) as usize],
            penalty: dice.between(0, 30),
            priority: dice.between(0, 2) as u16,
            pipeline: dice.chance(50).then(|| dice.between(0, 1) as u32),
            ..StageRow::default()
        };
        stage.groups = (0..rows.groups.len() as u32).filter(|_| dice.chance(60)).collect();
        for pool in 0..pools {
            if dice.chance(15) {
                continue;
            }
            let price = dice.between(0, 20);
            stage.options.push(OptionRow {
                pool: pool as u32,
                request: Resources {
                    cpu_millis: dice.between(0, 4),
                    memory_kib: dice.between(0, 6),
                    device_millis: u64::from(dice.chance(30)),
                },
                price,
                cost_micros: dice.between(0, 9),
                power_milliwatts: dice.between(0, 9),
                capacity_millis: dice.between(0, 9),
                further: if dice.chance(30) {
                    vec![(1, dice.between(0, 6))]
                } else {
                    Vec::new()
                },
                current: if dice.chance(40) { dice.between(0, 3) as u32 } else { 0 },
                move_up: dice.between(0, 4),
                move_down: dice.between(0, 4),
                lower: 0,
                upper: dice.between(0, upper) as u32,
            });
        }
        rows.stages.push(stage);
    }
    rows
}

/// The same problem in another order, and where its stages and options went.
fn shuffled(rows: &Rows, dice: &mut Dice) -> (Rows, Vec<usize>) {
    let permutation = |count: usize, dice: &mut Dice| {
        let mut all: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            all.swap(at, dice.between(0, at as u64) as usize);
        }
        all
    };
    let (pools, groups, stages) = (
        permutation(rows.pools.len(), dice),
        permutation(rows.groups.len(), dice),
        permutation(rows.stages.len(), dice),
    );
    let place = |order: &[usize], at: u32| order.iter().position(|&old| old == at as usize).unwrap() as u32;
    let mut offsets = Vec::new();
    let mut offset = 0;
    for stage in &rows.stages {
        offsets.push(offset);
        offset += stage.options.len();
    }
    let mut moved = Rows {
        pools: pools.iter().map(|&old| rows.pools[old].clone()).collect(),
        groups: groups.iter().map(|&old| rows.groups[old].clone()).collect(),
        stages: Vec::new(),
    };
    let mut origin = Vec::new();
    for &old in &stages {
        let mut stage = rows.stages[old].clone();
        let order = permutation(stage.options.len(), dice);
        origin.extend(order.iter().map(|&option| offsets[old] + option));
        stage.options = order.iter().map(|&option| stage.options[option].clone()).collect();
        stage
            .options
            .iter_mut()
            .for_each(|option| option.pool = place(&pools, option.pool));
        stage
            .groups
            .iter_mut()
            .for_each(|group| *group = place(&groups, *group));
        stage.groups.reverse();
        stage.pipeline = stage.pipeline.map(|pipeline| 77 - pipeline);
        moved.stages.push(stage);
    }
    (moved, origin)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_solution_keeps_rooms_bounds_and_ceilings_and_costs_what_it_says(seed in any::<u64>()) {
        let rows = small(&mut Dice::new(seed), 8, 4, 6);
        let (instance, solution) = solved(&rows);
        check(&rows, &instance, &solution);
    }

    #[test]
    fn the_same_rows_in_another_order_get_the_same_plan(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let rows = small(&mut dice, 6, 4, 5);
        let (moved, origin) = shuffled(&rows, &mut dice);
        let (_, one) = solved(&rows);
        let (_, other) = solved(&moved);
        prop_assert_eq!((one.cost, one.bound), (other.cost, other.bound));
        let there: Vec<u32> = origin.iter().map(|&at| one.counts[at]).collect();
        // What is alike may stand for each other; then the plans are the same as multisets.
        let (mut left, mut right) = (there.clone(), other.counts.clone());
        left.sort_unstable();
        right.sort_unstable();
        prop_assert_eq!(left, right);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_stage_alone_gets_its_optimum_under_all_kinds_of_traffic(seed in any::<u64>()) {
        let mut rows = small(&mut Dice::new(seed), 1, 3, 3);
        // Rooms for every count, so that nothing but the stage's own bounds decides.
        rows.groups.clear();
        rows.stages.iter_mut().for_each(|stage| stage.groups.clear());
        rows.pools.iter_mut().for_each(|pool| (pool.cpu_millis, pool.memory_kib, pool.device_millis) = (90, 90, 90));
        let (instance, solution) = solved(&rows);
        prop_assert_eq!(solution.cost << instance.scale, optimum(&rows, &instance));
        prop_assert_eq!(solution.cost, solution.bound);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tiny_instance_gets_the_best_of_all_plans_and_its_proof(seed in any::<u64>()) {
        let rows = small(&mut Dice::new(seed), 3, 2, 3);
        let (instance, solution) = solved(&rows);
        check(&rows, &instance, &solution);
        let best = optimum(&rows, &instance);
        prop_assert!(solution.bound << instance.scale <= best, "bound {} best {}", solution.bound, best >> instance.scale);
        prop_assert_eq!(solution.cost << instance.scale, best);
        prop_assert_eq!(solution.cost, solution.bound);
    }
}

#[test]
fn a_fleet_is_solved_close_to_its_bound_and_the_same_on_two_threads() {
    for (seed, running) in [(1, false), (2, true)] {
        let rows = fleet(&Fleet {
            stages: 200,
            pools: 8,
            scarce: true,
            running,
            seed,
        });
        let instance = Instance::new(&rows);
        let one = solve(&instance, &mut Memory::default(), &Settings::default(), &mut || true);
        check(&rows, &instance, &one);
        assert!(
            one.gap_ppm.is_some_and(|gap| gap < 10_000),
            "seed {seed}: {:?}",
            one.gap_ppm
        );
        let two = Settings {
            threads: 2,
            ..Settings::default()
        };
        assert_eq!(
            solve(&instance, &mut Memory::default(), &two, &mut || true),
            one,
            "seed {seed}"
        );
    }
}
