//! What holds of every instance, tried on many small ones.

use proptest::prelude::*;

use super::generate::{Dice, Fleet, fleet};
use super::judge::{check, judge, optimum};
use super::rows::{GroupRow, OptionRow, PoolRow, Rows, StageRow};
use super::{Instance, Memory, Reason, Settings, Solution, Traffic, resolve, solve};
use crate::rebalance::fixture::cases;
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
pub(super) fn small(dice: &mut Dice, stages: u64, options: u64, upper: u64) -> Rows {
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

/// Solves an instance, and again after each of three changes.
fn solve_again_and_again(seed: u64) -> Result<(), TestCaseError> {
    let mut dice = Dice::new(seed);
    let mut rows = small(&mut dice, 6, 3, 5);
    let mut instance = Instance::new(&rows);
    let mut memory = Memory::default();
    let settings = Settings {
        tries: 16,
        ..Settings::default()
    };
    solve(&instance, &mut memory, &settings, &mut || true);
    for _ in 0..3 {
        let changed: Vec<usize> = (0..rows.stages.len()).filter(|_| dice.chance(40)).collect();
        for &stage in &changed {
            rows.stages[stage].demand_millis = dice.between(0, 25);
            instance.set_demand(stage, rows.stages[stage].demand_millis);
        }
        let in_time = dice.chance(20);
        let solution = resolve(&instance, &mut memory, &changed, &settings, &mut || in_time).clone();
        check(&rows, &instance, &solution);
        // A plan from nothing cannot be below the bound either.
        let fresh = solve(&Instance::new(&rows), &mut Memory::default(), &settings, &mut || true);
        prop_assert!(
            solution.bound <= fresh.cost,
            "bound {} plan {}",
            solution.bound,
            fresh.cost
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn a_solution_keeps_rooms_bounds_and_ceilings_and_costs_what_it_says(seed in any::<u64>()) {
        let rows = small(&mut Dice::new(seed), 8, 4, 6);
        let (instance, solution) = solved(&rows);
        check(&rows, &instance, &solution);
    }

    #[test]
    fn solving_again_after_changes_keeps_everything_that_a_solution_keeps(seed in any::<u64>()) {
        solve_again_and_again(seed)?;
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
    #![proptest_config(cases(10_000))]

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
    #![proptest_config(cases(10_000))]

    #[test]
    fn a_tiny_instance_gets_the_best_of_all_plans_and_its_proof(seed in any::<u64>()) {
        let rows = small(&mut Dice::new(seed), 3, 2, 3);
        let (instance, solution) = solved(&rows);
        check(&rows, &instance, &solution);
        let best = optimum(&rows, &instance);
        prop_assert!(solution.bound << instance.scale <= best, "bound {} best {}", solution.bound, best >> instance.scale);
        prop_assert_eq!(solution.cost << instance.scale, best);
        prop_assert_eq!(solution.cost, solution.bound);
        // Without the search to the end, the prices alone have to vouch for the bound.
        let priced = Settings { tries: 16, branch_stages: 0, ..Settings::default() };
        let solution = solve(&instance, &mut Memory::default(), &priced, &mut || true);
        check(&rows, &instance, &solution);
        prop_assert!(solution.bound << instance.scale <= best, "bound {} best {}", solution.bound, best >> instance.scale);
    }
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn no_replica_is_paid_for_that_lets_nothing_more_through_its_pipeline(seed in any::<u64>()) {
        let rows = small(&mut Dice::new(seed), 8, 3, 5);
        let instance = Instance::new(&rows);
        // Small instances are searched to their end; what larger ones get is found without that.
        for branch_stages in [0, Settings::default().branch_stages] {
            let settings = Settings { tries: 64, branch_stages, ..Settings::default() };
            let solution = solve(&instance, &mut Memory::default(), &settings, &mut || true);
            for at in 0..solution.counts.len() {
                let mut fewer = solution.counts.clone();
                let Some(less) = fewer[at].checked_sub(1) else { continue };
                fewer[at] = less;
                let verdict = judge(&rows, &instance, &fewer);
                let idle = verdict.unserved == solution.unserved && verdict.cost < solution.cost << instance.scale;
                prop_assert!(!idle, "option {at} of {:?}, branch {branch_stages}", solution.counts);
            }
        }
    }
}

#[test]
fn the_only_combination_that_is_left_is_weighed_before_anything_is_proven() {
    // Choices that no longer fit were taken away last, and what they left was a better plan that nobody looked at.
    solve_again_and_again(9_157_045_954_878_980_265).unwrap();
}

#[test]
fn a_pipeline_buys_nothing_that_its_narrowest_stage_cannot_pass_on() {
    // Two stages serve the same 100; the second has room for 60 of them. A third, outside, wants what the first gives back.
    let option = |pool, cpu_millis, capacity_millis| OptionRow {
        pool,
        request: Resources {
            cpu_millis,
            ..Resources::default()
        },
        price: 1_000,
        capacity_millis,
        ..OptionRow::default()
    };
    let stage = |pipeline, demand_millis, option| StageRow {
        demand_millis,
        penalty: 100,
        pipeline,
        options: vec![option],
        ..StageRow::default()
    };
    let pool = |cpu_millis| PoolRow {
        cpu_millis,
        ..PoolRow::default()
    };
    let rows = Rows {
        pools: vec![pool(10), pool(3)],
        groups: Vec::new(),
        stages: vec![
            StageRow {
                priority: 1,
                ..stage(Some(4), 100_000, option(0, 1, 10_000))
            },
            stage(Some(4), 100_000, option(1, 1, 20_000)),
            stage(None, 30_000, option(0, 1, 10_000)),
        ],
    };
    let (instance, solution) = solved(&rows);
    check(&rows, &instance, &solution);
    assert_eq!(solution.counts, vec![6, 3, 3]);
    assert_eq!(solution.unserved, vec![40_000, 40_000, 0]);
    assert_eq!(solution.reasons.len(), 2);
    assert!(
        solution.reasons[0].1.contains(&Reason::Bottleneck),
        "{:?}",
        solution.reasons
    );
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

/// Ten stages on eight pools that are short, every other instance with two pipelines.
fn ten(seed: u64) -> Rows {
    let mut rows = fleet(&Fleet {
        stages: 10,
        pools: 8,
        scarce: true,
        running: seed.is_multiple_of(3),
        seed,
    });
    if seed.is_multiple_of(2) {
        for (stage, at) in rows.stages.iter_mut().zip(0..) {
            stage.pipeline = Some(at / 5);
        }
    }
    rows
}

#[test]
fn ten_stages_on_eight_pools_get_their_optimum_and_its_proof() {
    let mut better = 0;
    for seed in 1..=6 {
        let rows = ten(seed);
        let instance = Instance::new(&rows);
        let solution = solve(&instance, &mut Memory::default(), &Settings::default(), &mut || true);
        check(&rows, &instance, &solution);
        assert_eq!(solution.gap_ppm, Some(0), "seed {seed}");
        // By prices alone none of them is.
        let priced = Settings {
            branch_stages: 0,
            ..Settings::default()
        };
        let priced = solve(&instance, &mut Memory::default(), &priced, &mut || true);
        assert!(priced.gap_ppm.is_none_or(|gap| gap > 0), "seed {seed}");
        assert!(
            priced.bound <= solution.cost && solution.cost <= priced.cost,
            "seed {seed}: {} {} {}",
            priced.bound,
            solution.cost,
            priced.cost
        );
        better += u32::from(solution.cost < priced.cost);
    }
    assert!(better > 0, "the search found nothing better anywhere");
}

#[test]
fn a_search_that_may_not_look_far_claims_no_more_than_it_knows() {
    for seed in 1..=6 {
        let rows = ten(seed);
        let instance = Instance::new(&rows);
        let whole = solve(&instance, &mut Memory::default(), &Settings::default(), &mut || true);
        for branch_looks in [0, 10, 1_000, 100_000] {
            let few = Settings {
                branch_looks,
                ..Settings::default()
            };
            let solution = solve(&instance, &mut Memory::default(), &few, &mut || true);
            check(&rows, &instance, &solution);
            assert!(
                solution.bound <= whole.cost && solution.cost >= whole.cost,
                "seed {seed}, {branch_looks}: bound {}, optimum {}, cost {}",
                solution.bound,
                whole.cost,
                solution.cost
            );
        }
    }
}
