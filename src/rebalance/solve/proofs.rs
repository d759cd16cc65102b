//! Examples that only a wrong solver gets wrong: for each there is a bug in [`bug`](crate::rebalance::bug) that it
//! catches.

use super::generate::{Fleet, fleet};
use super::rows::{OptionRow, PoolRow, Rows, StageRow};
use super::{Instance, Memory, Reason, Settings, Solution, solve};
use crate::rebalance::proofs::{cheapest, hard};
use crate::rebalance::sim::Random;
use crate::rebalance::world::Resources;

/// Solves by prices alone, without the search to the end.
fn priced(rows: &Rows) -> Solution {
    let settings = Settings {
        branch_stages: 0,
        tries: 64,
        ..Settings::default()
    };
    solve(&Instance::new(rows), &mut Memory::default(), &settings, &mut || true)
}

#[test]
fn a_stage_whose_search_is_cut_off_vouches_for_no_more_than_it_knows() {
    let mut cut_off = 0;
    for seed in 1..=60 {
        let mut random = Random::new(seed);
        let items = hard(&mut random, 30);
        let demand = random.within(2_000, 6_000);
        let option = |(pool, &(price, capacity_millis, upper)): (u32, &(u64, u64, u32))| OptionRow {
            pool,
            price,
            capacity_millis,
            upper,
            ..OptionRow::default()
        };
        let rows = Rows {
            pools: vec![PoolRow::default(); items.len()],
            stages: vec![StageRow {
                demand_millis: demand,
                penalty: 1_000_000,
                options: (0..).zip(&items).map(option).collect(),
                ..StageRow::default()
            }],
            ..Rows::default()
        };
        let solution = priced(&rows);
        let best = i128::from(cheapest(&items, usize::try_from(demand).unwrap()));
        assert_eq!(solution.unserved, [0], "seed {seed}");
        assert!(solution.cost >= best, "seed {seed}: cost {} best {best}", solution.cost);
        assert!(
            solution.bound <= best,
            "seed {seed}: bound {} best {best}",
            solution.bound
        );
        cut_off += u32::from(solution.bound < solution.cost && solution.cost > best);
    }
    assert!(
        cut_off > 0,
        "no search was cut off above the optimum, so nothing was shown"
    );
}

#[test]
fn prices_alone_buy_nothing_that_a_neighbour_cannot_pass_on() {
    let stage = |pool, capacity_millis| StageRow {
        demand_millis: 100_000,
        penalty: 100,
        pipeline: Some(7),
        options: vec![OptionRow {
            pool,
            request: Resources {
                cpu_millis: 1,
                ..Resources::default()
            },
            price: 1_000,
            capacity_millis,
            ..OptionRow::default()
        }],
        ..StageRow::default()
    };
    let pool = |cpu_millis| PoolRow {
        cpu_millis,
        ..PoolRow::default()
    };
    // The second has room for 60 of 100.
    let solution = priced(&Rows {
        pools: vec![pool(10), pool(3)],
        groups: Vec::new(),
        stages: vec![stage(0, 10_000), stage(1, 20_000)],
    });
    assert_eq!(solution.counts, [6, 3]);
    assert_eq!(solution.unserved, [40_000, 40_000]);
    assert!(
        solution.reasons[0].1.contains(&Reason::Bottleneck),
        "{:?}",
        solution.reasons
    );
}

/// All that is published, in one number (FNV-1a).
fn digest(solution: &Solution) -> u64 {
    let text = format!("{solution:?}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn golden_fleets_are_solved_to_the_bit() {
    let mut found = Vec::new();
    for (seed, stages, running) in [(1, 60, false), (2, 150, true), (3, 400, false), (4, 900, true)] {
        let rows = fleet(&Fleet {
            stages,
            pools: 8,
            scarce: true,
            running,
            seed,
        });
        let settings = Settings {
            tries: 200,
            ..Settings::default()
        };
        let solution = solve(&Instance::new(&rows), &mut Memory::default(), &settings, &mut || true);
        assert!(
            !solution.prices.is_empty(),
            "seed {seed}: nothing has a price, so no float was asked"
        );
        found.push(digest(&solution));
    }
    assert_eq!(
        found, GOLDEN,
        "plans, bounds or prices differ: on one machine after a change that is meant, put these numbers in; else the \
         arithmetic depends on the platform"
    );
}

const GOLDEN: [u64; 4] = [
    15_181_588_587_652_003_345,
    4_553_016_896_378_246_718,
    4_080_783_058_530_614_772,
    3_363_799_076_747_660_840,
];
