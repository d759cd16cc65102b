//! What holds after any events.

use proptest::prelude::*;

use super::dual::add_usage;
use super::event::{Certificate, certificate, counts, current, drain, event, ready};
use super::generate::{Dice, Fleet, fleet};
use super::instance::RESOURCES;
use super::judge::{check, optimum};
use super::properties::small;
use super::rows::{OptionRow, PoolRow, Rows, StageRow};
use super::{Instance, Memory, Settings, resolve, solve};
use crate::rebalance::fixture::cases;
use crate::rebalance::world::Resources;

fn quick() -> Settings {
    Settings {
        tries: 16,
        branch_stages: 0,
        ..Settings::default()
    }
}

fn planned(rows: &Rows) -> (Instance, Memory) {
    let instance = Instance::new(rows);
    let mut memory = Memory::default();
    solve(&instance, &mut memory, &quick(), &mut || true);
    (instance, memory)
}

/// Columns that events keep up to date, against what they are the sums of.
fn check_columns(instance: &Instance, memory: &Memory, seed: u64) {
    let mut used = vec![0_i128; instance.room.len()];
    let mut wanted = used.clone();
    for (at, stage) in instance.stages.iter().enumerate() {
        let options = stage.options.start as usize..stage.options.end as usize;
        add_usage(instance, at, memory.plan.of(instance, at), &mut used);
        add_usage(instance, at, &memory.answers.counts[options], &mut wanted);
    }
    for (dim, &room) in instance.room.iter().enumerate() {
        let left = i128::from(room) - used[dim];
        let open = dim >= instance.pool_count * RESOURCES && room == i64::MAX;
        assert!(
            open || left == i128::from(memory.plan.room[dim]),
            "seed {seed}, dimension {dim}: {left} left, not {}",
            memory.plan.room[dim]
        );
    }
    assert_eq!(wanted, memory.answers.usage, "seed {seed}");
}

proptest! {
    #![proptest_config(cases(4_000))]

    #[test]
    fn after_any_events_the_plan_fits_and_costs_what_it_says(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let mut rows = small(&mut dice, 7, 4, 6);
        let (mut instance, mut memory) = planned(&rows);
        for _ in 0..12 {
            let stage = dice.between(0, rows.stages.len() as u64 - 1) as usize;
            rows.stages[stage].demand_millis = dice.between(0, 25);
            let before = memory.plan.counts.clone();
            let change = event(&mut instance, &mut memory, stage, rows.stages[stage].demand_millis);
            prop_assert_eq!(change.moved, before != memory.plan.counts);
            drain(&instance, &mut memory, dice.between(0, 3) as usize, &mut |_| ());
            check_columns(&instance, &memory, seed);
            let known = certificate(&instance, &memory);
            let solution = current(&instance, &mut memory).clone();
            check(&rows, &instance, &solution);
            let same = Certificate { cost: solution.cost, bound: solution.bound, gap_ppm: solution.gap_ppm };
            prop_assert_eq!(known, same);
        }
        // And a solve that starts from what events left is as good as any.
        let touched = dice.between(0, rows.stages.len() as u64 - 1) as usize;
        rows.stages[touched].demand_millis = dice.between(0, 25);
        instance.set_demand(touched, rows.stages[touched].demand_millis);
        let solution = resolve(&instance, &mut memory, &[touched], &quick(), &mut || false).clone();
        check(&rows, &instance, &solution);
    }
}

proptest! {
    #![proptest_config(cases(700))]

    #[test]
    fn the_bound_after_events_is_never_above_the_best_of_all_plans(seed in any::<u64>()) {
        let mut dice = Dice::new(seed);
        let mut rows = small(&mut dice, 3, 2, 3);
        let (mut instance, mut memory) = planned(&rows);
        for _ in 0..5 {
            let stage = dice.between(0, rows.stages.len() as u64 - 1) as usize;
            rows.stages[stage].demand_millis = dice.between(0, 25);
            event(&mut instance, &mut memory, stage, rows.stages[stage].demand_millis);
            drain(&instance, &mut memory, 2, &mut |_| ());
            let known = certificate(&instance, &memory);
            let best = optimum(&rows, &instance);
            prop_assert!(known.bound << instance.scale <= best, "bound {} best {}", known.bound, best >> instance.scale);
            prop_assert!(best <= known.cost << instance.scale);
        }
    }
}

/// Cost after events against a solve of the same demands from nothing, in thousandths.
fn against_fresh(seed: u64, scarce: bool, swing: u64) -> (i128, Option<u64>) {
    let mut rows = fleet(&Fleet {
        stages: 400,
        pools: 8,
        scarce,
        running: true,
        seed,
    });
    let (mut instance, mut memory) = planned(&rows);
    let usual: Vec<u64> = rows.stages.iter().map(|stage| stage.demand_millis).collect();
    let mut dice = Dice::new(seed ^ 0xe7e4);
    for _ in 0..2_000 {
        let stage = dice.between(0, 399) as usize;
        rows.stages[stage].demand_millis = usual[stage] * dice.between(100 - swing, 100 + swing) / 100;
        event(&mut instance, &mut memory, stage, rows.stages[stage].demand_millis);
        drain(&instance, &mut memory, 4, &mut |_| ());
    }
    let solution = current(&instance, &mut memory).clone();
    check(&rows, &instance, &solution);
    let fresh = solve(
        &Instance::new(&rows),
        &mut Memory::default(),
        &Settings::default(),
        &mut || true,
    );
    assert!(solution.bound <= fresh.cost, "seed {seed}: a bound above a plan");
    (solution.cost * 1_000 / fresh.cost, solution.gap_ppm)
}

#[test]
fn five_events_per_stage_leave_a_plan_within_three_per_cent_of_one_made_from_nothing() {
    for seed in 1..=6 {
        for (scarce, swing) in [(false, 20), (true, 20), (true, 5)] {
            let (permille, gap) = against_fresh(seed, scarce, swing);
            assert!(
                permille <= 1_030 && gap.is_some_and(|gap| gap <= 40_000),
                "seed {seed}, scarce {scarce}, swing {swing} %: {permille} thousandths, gap {gap:?}"
            );
        }
    }
}

#[test]
fn events_and_drains_allocate_nothing() {
    let rows = fleet(&Fleet {
        stages: 300,
        pools: 8,
        scarce: true,
        running: true,
        seed: 3,
    });
    let (mut instance, mut memory) = planned(&rows);
    assert!(ready(&instance, &mut memory));
    let mut dice = Dice::new(4);
    let (mut moved, mut looked) = (0, 0);
    let counted = allocation_counter::measure(|| {
        for _ in 0..5_000 {
            let stage = dice.between(0, 299) as usize;
            let demand = rows.stages[stage].demand_millis * dice.between(50, 170) / 100;
            moved += u32::from(event(&mut instance, &mut memory, stage, demand).moved);
            looked += drain(&instance, &mut memory, 4, &mut |_| ());
        }
    });
    assert_eq!(counted.count_total, 0, "allocations");
    assert!(moved > 1_000 && looked > 100, "{moved} moved, {looked} looked at");
    // The counter counts.
    assert_eq!(
        allocation_counter::measure(|| drop(std::hint::black_box(vec![7]))).count_total,
        1
    );
}

/// Stages of 10 replicas each that prefer pool 0; the further back, the less.
fn stages(count: usize) -> Rows {
    let option = |pool, price| OptionRow {
        pool,
        request: Resources {
            cpu_millis: 1_000,
            ..Resources::default()
        },
        price,
        capacity_millis: 1_000,
        ..OptionRow::default()
    };
    let pool = |cpu_millis| PoolRow {
        cpu_millis,
        ..PoolRow::default()
    };
    let stage = |at: usize| StageRow {
        demand_millis: 10_000,
        penalty: 1_000_000,
        options: vec![option(0, 100_000), option(1, 200_000 - 100 * at as u64)],
        ..StageRow::default()
    };
    Rows {
        pools: vec![pool(count as i64 * 5_000), pool(i64::MAX)],
        groups: Vec::new(),
        stages: (0..count).map(stage).collect(),
    }
}

#[test]
fn a_price_follows_what_is_asked_for_and_those_who_can_do_without_make_room() {
    let mut rows = stages(400);
    let (mut instance, mut memory) = planned(&rows);
    ready(&instance, &mut memory);
    let on_first = |instance: &Instance, memory: &Memory, at: usize| counts(instance, memory, at)[0];
    let before = memory.steering.prices.clone();
    assert!(before[0] > 0, "half fit: {before:?}");
    assert_eq!(
        (on_first(&instance, &memory, 0), on_first(&instance, &memory, 399)),
        (10, 0)
    );
    // Those who gain most by the first pool ask for more of it.
    let grow = |memory: &mut Memory, instance: &mut Instance, rows: &mut Rows, demand: u64| {
        let (mut dirty, mut others) = (false, 0);
        for at in 0..40 {
            rows.stages[at].demand_millis = demand;
            dirty |= event(instance, memory, at, demand).dirty;
            // Never more than it is told to.
            let mut told = 0;
            assert!(
                drain(instance, memory, 3, &mut |at| (others, told) =
                    (others + usize::from(at >= 40), told + 1))
                    <= 3
            );
            assert!(told <= 3);
        }
        while drain(instance, memory, 8, &mut |at| others += usize::from(at >= 40)) == 8 {}
        (dirty, others)
    };
    let (dirty, others) = grow(&mut memory, &mut instance, &mut rows, 20_000);
    assert!(dirty && memory.steering.prices[0] > before[0]);
    assert!(others >= 20, "{others} have made room");
    assert_eq!(memory.prices, before, "the bound keeps its prices");
    let solution = current(&instance, &mut memory).clone();
    check(&rows, &instance, &solution);
    // Back to where it was, so are the prices.
    grow(&mut memory, &mut instance, &mut rows, 10_000);
    assert_eq!(memory.steering.prices, before);
}

#[test]
fn in_a_pipeline_the_others_follow_the_narrowest() {
    let mut rows = stages(2);
    rows.pools = vec![
        PoolRow {
            cpu_millis: 30_000,
            ..PoolRow::default()
        },
        PoolRow::default(),
    ];
    rows.stages.iter_mut().for_each(|stage| stage.pipeline = Some(7));
    let (mut instance, mut memory) = planned(&rows);
    // The first wants 40 of 30 replicas; the second holds 10.
    let change = event(&mut instance, &mut memory, 0, 40_000);
    assert!(change.moved && change.dirty);
    assert_eq!(
        (counts(&instance, &memory, 0)[0], counts(&instance, &memory, 1)[0]),
        (20, 10)
    );
    drain(&instance, &mut memory, 8, &mut |_| ());
    // Half get through, so half of the second is enough, and the first may have what that frees.
    assert_eq!(counts(&instance, &memory, 1)[0], 5);
    rows.stages[0].demand_millis = 40_000;
    let solution = current(&instance, &mut memory).clone();
    check(&rows, &instance, &solution);
}

#[test]
fn what_is_not_known_changes_nothing() {
    let rows = stages(3);
    let mut instance = Instance::new(&rows);
    let mut memory = Memory::default();
    // Without a solve only the demand is set.
    assert_eq!(
        event(&mut instance, &mut memory, 1, 77_000),
        super::event::Change::default()
    );
    assert!(!ready(&instance, &mut memory) && counts(&instance, &memory, 1).is_empty());
    assert_eq!(drain(&instance, &mut memory, 9, &mut |_| ()), 0);
    solve(&instance, &mut memory, &quick(), &mut || true);
    assert_eq!(counts(&instance, &memory, 1).iter().sum::<u32>(), 77);
    let before = memory.plan.counts.clone();
    assert_eq!(event(&mut instance, &mut memory, 3, 1), super::event::Change::default());
    assert_eq!(before, memory.plan.counts);
    // A memory of another instance is none of this one.
    let mut other = Instance::new(&stages(4));
    assert_eq!(event(&mut other, &mut memory, 1, 1), super::event::Change::default());
}
