//! Whatever comes in, a plan comes out.

use proptest::prelude::*;

use super::generate::Dice;
use super::rows::{GroupRow, OptionRow, PoolRow, Rows, StageRow};
use super::{Instance, Memory, Reason, Settings, Solution, Traffic, solve};
use crate::rebalance::fixture::cases;
use crate::rebalance::world::Resources;

fn solved(rows: &Rows) -> Solution {
    let settings = Settings {
        tries: 32,
        ..Settings::default()
    };
    solve(&Instance::new(rows), &mut Memory::default(), &settings, &mut || true)
}

/// Numbers that somebody once thought impossible.
fn odd(dice: &mut Dice) -> u64 {
    let choices = [
        0,
        1,
        2,
        7,
        1_000,
        1 << 20,
        1 << 33,
        1 << 40,
        1 << 41,
        1 << 61,
        1 << 62,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    choices[dice.between(0, choices.len() as u64 - 1) as usize]
}

fn odd_small(dice: &mut Dice) -> u32 {
    let choices = [0, 0, 1, 2, 9, 1 << 16, 1 << 17, 1 << 18, u32::MAX - 1, u32::MAX];
    choices[dice.between(0, choices.len() as u64 - 1) as usize]
}

fn garbage(dice: &mut Dice) -> Rows {
    let mut rows = Rows::default();
    for _ in 0..dice.between(0, 4) {
        let sign = if dice.chance(20) { -1 } else { 1 };
        let mut room = || (odd(dice) >> 1) as i64 * sign;
        rows.pools.push(PoolRow {
            reliable: true,
            cpu_millis: room(),
            memory_kib: room(),
            device_millis: room(),
        });
    }
    for _ in 0..dice.between(0, 12) {
        let (money, power) = (dice.chance(70), dice.chance(50));
        rows.groups.push(GroupRow {
            money_max_micros: money.then(|| odd(dice)),
            power_max_milliwatts: power.then(|| odd(dice)),
        });
    }
    for _ in 0..dice.between(0, 6) {
        let mut stage = StageRow {
            demand_millis: odd(dice),
            min: odd_small(dice),
            max: odd_small(dice),
            reliable_min: odd_small(dice),
            traffic: [Traffic::Uniform, Traffic::Weighted, Traffic::Pull][dice.between(0, 2) as usize],
            penalty: odd(dice),
            priority: odd_small(dice) as u16,
            pipeline: dice.chance(50).then(|| odd_small(dice)),
            groups: (0..dice.between(0, 14)).map(|_| dice.between(0, 14) as u32).collect(),
            options: Vec::new(),
        };
        for _ in 0..if dice.chance(5) { 40 } else { dice.between(0, 6) } {
            stage.options.push(OptionRow {
                pool: if dice.chance(5) {
                    odd_small(dice)
                } else {
                    dice.between(0, 4) as u32
                },
                request: Resources {
                    cpu_millis: odd(dice),
                    memory_kib: odd(dice),
                    device_millis: odd(dice),
                },
                price: odd(dice),
                cost_micros: odd(dice),
                power_milliwatts: odd(dice),
                capacity_millis: odd(dice),
                further: (0..dice.between(0, 3)).map(|_| (odd_small(dice), odd(dice))).collect(),
                current: odd_small(dice),
                move_up: odd(dice),
                move_down: odd(dice),
                lower: if dice.chance(20) { odd_small(dice) } else { 0 },
                upper: odd_small(dice),
            });
        }
        rows.stages.push(stage);
    }
    rows
}

proptest! {
    #![proptest_config(cases(10_000))]

    #[test]
    fn garbage_gets_a_plan_and_never_a_panic(seed in any::<u64>()) {
        let rows = garbage(&mut Dice::new(seed));
        let solution = solved(&rows);
        prop_assert!(solution.bound <= solution.cost);
        for (at, &open) in solution.unserved.iter().enumerate() {
            prop_assert!(open == 0 || solution.reasons.iter().any(|(stage, _)| *stage as usize == at));
        }
    }
}

fn one_pool(cpu_millis: i64) -> Rows {
    let pool = PoolRow {
        reliable: true,
        cpu_millis,
        memory_kib: 0,
        device_millis: 0,
    };
    Rows {
        pools: vec![pool],
        ..Rows::default()
    }
}

fn plain(demand_millis: u64) -> StageRow {
    let option = OptionRow {
        request: Resources {
            cpu_millis: 1_000,
            ..Resources::default()
        },
        price: 40_000,
        cost_micros: 40,
        capacity_millis: 10_000,
        ..OptionRow::default()
    };
    StageRow {
        demand_millis,
        penalty: 100,
        options: vec![option],
        ..StageRow::default()
    }
}

#[test]
fn nothing_is_solved_by_nothing() {
    assert_eq!(
        solved(&Rows::default()),
        Solution {
            gap_ppm: Some(0),
            ..solved(&Rows::default())
        }
    );
    let lost = Rows {
        stages: vec![plain(5)],
        ..Rows::default()
    };
    let solution = solved(&lost);
    assert_eq!((solution.counts, solution.unserved), (vec![0], vec![5]));
    assert_eq!(solution.reasons, vec![(0, vec![Reason::NoOption])]);
}

#[test]
fn ten_thousand_stages_on_one_pool_fill_it() {
    let mut rows = one_pool(5_000_000);
    rows.stages = (0..10_000).map(|_| plain(10_000)).collect();
    let solution = solved(&rows);
    assert_eq!(solution.counts.iter().sum::<u32>(), 5_000);
    assert!(solution.gap_ppm.is_some_and(|gap| gap <= 10), "{:?}", solution.gap_ppm);
    assert_eq!(solution.reasons.len(), 5_000);
    assert!(solution.reasons.iter().all(|(_, reasons)| reasons == &[Reason::Room]));
}

#[test]
fn demand_without_end_takes_the_whole_pool_and_says_what_is_missing() {
    let mut rows = one_pool(64_000);
    rows.stages = vec![plain(1 << 63)];
    let solution = solved(&rows);
    assert_eq!(solution.counts, vec![64]);
    assert_eq!(solution.unserved, vec![(1 << 63) - 640_000]);
    assert_eq!(solution.reasons, vec![(0, vec![Reason::BeyondReach])]);
}

#[test]
fn a_pool_without_room_serves_nobody_and_what_must_stay_stays() {
    let mut rows = one_pool(-5);
    rows.stages = vec![plain(10_000), plain(10_000)];
    rows.stages[1].options[0].lower = 3;
    let solution = solved(&rows);
    assert_eq!(solution.counts, vec![0, 3]);
    assert_eq!(solution.unserved, vec![10_000, 0]);
    assert_eq!(
        solution.reasons,
        vec![(0, vec![Reason::NoOption]), (1, vec![Reason::KeptBeyondRoom])]
    );
}

#[test]
fn a_budget_below_the_minimum_buys_what_it_can() {
    let mut rows = one_pool(64_000);
    rows.groups = vec![GroupRow {
        money_max_micros: Some(100),
        power_max_milliwatts: None,
    }];
    rows.stages = vec![StageRow {
        min: 5,
        groups: vec![0],
        ..plain(80_000)
    }];
    let solution = solved(&rows);
    assert_eq!((solution.counts, solution.short), (vec![2], vec![3]));
    assert_eq!(solution.reasons, vec![(0, vec![Reason::BeyondReach])]);
}

#[test]
fn contradictory_bounds_are_resolved_and_reported() {
    let mut rows = one_pool(64_000);
    rows.stages = vec![StageRow {
        min: 5,
        max: 2,
        ..plain(80_000)
    }];
    let solution = solved(&rows);
    assert_eq!(solution.counts, vec![2]);
    assert_eq!(
        solution.reasons,
        vec![(0, vec![Reason::Contradiction, Reason::Ceiling])]
    );
}

#[test]
fn a_caller_without_time_still_gets_a_plan() {
    let mut rows = one_pool(50_000);
    rows.stages = (0..100).map(|at| plain(10_000 + at)).collect();
    let instance = Instance::new(&rows);
    let solution = solve(&instance, &mut Memory::default(), &Settings::default(), &mut || false);
    assert_eq!(solution.counts.iter().sum::<u32>(), 50);
}
