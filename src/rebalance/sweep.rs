//! Readings to demand for all variants in one pass: the arithmetic of [`demand::of_reading`](super::demand) over columns.
//!
//! One reading after the other costs a few divisions of 128 bits each. Here every input stands in a column of its own, as
//! narrow as its range allows, and the loop body is the same for all rows, so that the compiler works on several rows at
//! once and memory is what limits it.
//!
//! # Exact in floating point
//!
//! Demand is a ceiling of a quotient of integers, and there are no vector instructions for that, but for `f64` there are.
//! Both quotients of a row share their denominator `d`, so one division does for both. The result is the same to the last
//! bit, on every platform:
//!
//! * `⌈n/d⌉` is the whole number nearest to `x = (n + (d-1)/2) / d`, and `x` is at least `1/2d` away from where the nearest
//!   one changes: `(n - 1/2) / d` is as far from any whole number, and `x` is half above it.
//! * Numerators are integers and `n + d/2 < 2^51`, so all up to `n + (d-1)/2` is exact. Its product with the rounded `1/d`
//!   is rounded twice, each time by at most `2^-53` of it: off by less than `(n + d/2)/d · 2^-52 < 1/2d`.
//! * Adding 2^52 rounds to the nearest integer, which the last bits of the sum then are.
//!
//! Only addition, subtraction, multiplication, division and comparison are used, each rounded as IEEE 754 says; Rust fuses
//! none of them. So it does not matter either that processors with wider vectors get a version of their own.
//!
//! # Range
//!
//! [`Columns::set`] refuses what would not be exact, and the caller asks `of_reading` for that row. What is within:
//!
//! | quantity | below |
//! | --- | --- |
//! | replicas that did not report, slots, target | 2^16 |
//! | slots × target | 2^31 |
//! | utilization × replicas that reported; capacity of a replica, queue and rate, thousandths | 2^31 |
//! | utilization × replicas × capacity × slots, and the other products | 2^51 |
//! | demand, thousandths | 2^31 |
//!
//! # Who calls it
//!
//! Nobody yet but its tests and `make bench BENCH=b1`. `sense` reads variants one by one, because each has a memory of its
//! own beside its reading. To use this there, [`State`](super::State) has to keep columns: `set` where a reading arrives or
//! a world changes, one [`sweep`] where a step begins, and `sense` looks its ranges up.
#![allow(clippy::indexing_slicing, reason = "columns of one length, indexed below it")]

use multiversion::multiversion;

use super::demand;
use super::world::{Reading, Stage, Variant};

/// From here on, an `f64` has no fractions.
const WHOLE: f64 = 4_503_599_627_370_496.0;
/// Numerators are below this.
const PRODUCT_BITS: u32 = 51;
/// Results are below this.
const DEMAND_BITS: u32 = 31;

/// Readings of all variants, by column.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// Utilization, summed over the replicas that reported.
    used: Vec<i32>,
    /// Replicas that should have reported and did not.
    silent: Vec<u16>,
    slots: Vec<u16>,
    target: Vec<u16>,
    capacity: Vec<i32>,
    queue: Vec<i32>,
    rate: Vec<i32>,
}

/// Demand of all variants, thousandths of their stage's unit.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// What is proven: pods that did not report count as idle.
    pub low: Vec<u32>,
    /// What cannot be excluded: they count as full.
    pub high: Vec<u32>,
}

impl Columns {
    /// Bytes that a sweep reads and writes per row.
    pub const BYTES: usize = 3 * 2 + 4 * 4 + 2 * 4;

    /// Columns of `rows` variants without load.
    pub fn new(rows: usize) -> Self {
        Self {
            used: vec![0; rows],
            silent: vec![0; rows],
            slots: vec![1; rows],
            target: vec![1; rows],
            capacity: vec![1; rows],
            queue: vec![0; rows],
            rate: vec![0; rows],
        }
    }

    /// Number of variants.
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// Puts a reading into row `at`. False, and the row is without load, if it is out of range or there is no such row:
    /// ask for its demand one by one.
    pub fn set(&mut self, at: usize, stage: &Stage, variant: &Variant, reading: &Reading) -> bool {
        if at >= self.len() {
            return false;
        }
        let row = row(stage, variant, reading);
        let put = row.unwrap_or(Row {
            slots: 1,
            target: 1,
            capacity: 1,
            ..Row::default()
        });
        self.silent[at] = put.silent;
        self.used[at] = put.used;
        self.slots[at] = put.slots;
        self.target[at] = put.target;
        self.capacity[at] = put.capacity;
        self.queue[at] = put.queue;
        self.rate[at] = put.rate;
        row.is_some()
    }
}

#[derive(Clone, Copy, Default)]
struct Row {
    silent: u16,
    used: i32,
    slots: u16,
    target: u16,
    capacity: i32,
    queue: i32,
    rate: i32,
}

/// The row of a reading, if all of it is in range.
fn row(stage: &Stage, variant: &Variant, reading: &Reading) -> Option<Row> {
    let waiting = reading.waiting_millis.unwrap_or(0);
    let queue = reading.running_millis.unwrap_or(0).checked_add(waiting)?;
    // Without slots a queue says nothing about demand; without a rate, the rate does not.
    let slots = variant.concurrency.filter(|&slots| slots > 0);
    let row = Row {
        silent: u16::try_from(reading.expected.saturating_sub(reading.sampled)).ok()?,
        used: i32::try_from(u64::from(reading.sampled) * u64::from(reading.utilization_permille.unwrap_or(0))).ok()?,
        slots: u16::try_from(slots.unwrap_or(1)).ok()?,
        target: u16::try_from(demand::target(stage)).ok()?,
        capacity: i32::try_from(demand::capacity(variant)).ok()?,
        queue: slots.map_or(Some(0), |_| i32::try_from(queue).ok())?,
        rate: if stage.rated {
            i32::try_from(reading.rate_millis.unwrap_or(0)).ok()?
        } else {
            0
        },
    };
    let wide = |value: i32| u128::from(value.unsigned_abs());
    let slots = u128::from(row.slots);
    let share = i32::try_from(slots * u128::from(row.target)).ok()?;
    let served = wide(row.used) * wide(row.capacity) * slots;
    let rate = wide(row.rate) * 1_000 * slots;
    let waits = wide(row.queue) * wide(row.capacity);
    let silent = u128::from(row.silent) * wide(row.capacity) * 1_000 * slots;
    // What is above this is out of range in the numerator or in the result, which is at most the sum.
    let most = (1 << PRODUCT_BITS).min(wide(share) << DEMAND_BITS);
    (served.max(rate).max(waits) + silent + 2 * wide(share) < most).then_some(row)
}

/// Demand of every row into `out`. Allocates only when `out` is smaller than the columns.
pub fn sweep(columns: &Columns, out: &mut Demand) {
    out.low.resize(columns.len(), 0);
    out.high.resize(columns.len(), 0);
    pass(columns, &mut out.low, &mut out.high);
}

/// One row after the other; how many at once is left to the compiler, and to the processor that it runs on.
#[multiversion(targets("x86_64+avx2"))]
fn pass(columns: &Columns, low: &mut [u32], high: &mut [u32]) {
    let rows = low.len();
    let (low, high) = (&mut low[..rows], &mut high[..rows]);
    let silent = &columns.silent[..rows];
    let used = &columns.used[..rows];
    let slots = &columns.slots[..rows];
    let target = &columns.target[..rows];
    let capacity = &columns.capacity[..rows];
    let queue = &columns.queue[..rows];
    let rate = &columns.rate[..rows];
    for at in 0..rows {
        let share = f64::from(i32::from(slots[at]) * i32::from(target[at]));
        let slots = f64::from(slots[at]);
        let capacity = f64::from(capacity[at]);
        let served = f64::from(used[at]) * capacity;
        let rate = f64::from(rate[at]) * 1_000.0;
        let waits = f64::from(queue[at]) * capacity;
        let shown = larger(larger(served, rate) * slots, waits);
        let silent = f64::from(silent[at]) * 1_000.0 * capacity * slots;
        let (inverse, half) = (1.0 / share, share * 0.5 - 0.5);
        let proven = ceiling(shown, half, inverse);
        low[at] = proven;
        high[at] = proven.wrapping_add(ceiling(silent, half, inverse));
    }
}

#[inline]
fn larger(a: f64, b: f64) -> f64 {
    if a > b { a } else { b }
}

/// `n / d`, rounded up, of whole numbers, given `(d - 1) / 2` and `1 / d`: see "Exact in floating point".
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the last 32 bits are what is asked for")]
fn ceiling(n: f64, half: f64, inverse: f64) -> u32 {
    ((n + half) * inverse + WHOLE).to_bits() as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::demand::of_reading;
    use super::super::solve::generate::Dice;
    use super::*;

    /// A number that is small, middling or at an end of its range.
    fn some(dice: &mut Dice, most: u64) -> u64 {
        match dice.between(0, 9) {
            0 => 0,
            1 => most,
            2 => most.saturating_add(1),
            3..=5 => dice.between(0, 12),
            6 | 7 => {
                let bits = dice.between(1, 63);
                dice.roll() >> bits
            }
            _ => dice.between(0, most.min(2_000)),
        }
    }

    fn maybe(dice: &mut Dice, most: u64) -> Option<u64> {
        dice.chance(80).then(|| some(dice, most))
    }

    fn narrow(value: u64) -> u32 {
        u32::try_from(value).unwrap_or(u32::MAX)
    }

    fn case(dice: &mut Dice) -> (Stage, Variant, Reading) {
        let world = super::super::fixture::Fixture::parse("pipe p\npool a 9\nstage s\n  a cap 4 cost 1").world;
        let stage = Stage {
            target_permille: narrow(some(dice, 1_000)),
            rated: dice.chance(50),
            ..world.stages[0].clone()
        };
        let variant = Variant {
            capacity_millis: some(dice, i32::MAX as u64),
            concurrency: maybe(dice, 65_535).map(narrow),
            ..world.variants[0].clone()
        };
        let reading = Reading {
            taken_ms: 0,
            sampled: narrow(some(dice, 65_535)),
            expected: narrow(some(dice, 65_535)),
            running_millis: maybe(dice, i32::MAX as u64),
            waiting_millis: maybe(dice, i32::MAX as u64),
            utilization_permille: maybe(dice, 1_000).map(narrow),
            rate_millis: maybe(dice, i32::MAX as u64),
        };
        (stage, variant, reading)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_sweep_says_of_every_row_in_range_what_is_said_of_it_alone(seed in any::<u64>()) {
            let mut dice = Dice::new(seed);
            let cases: Vec<_> = (0..dice.between(1, 40)).map(|_| case(&mut dice)).collect();
            let mut columns = Columns::new(cases.len());
            let taken: Vec<bool> = cases
                .iter()
                .enumerate()
                .map(|(at, (stage, variant, reading))| columns.set(at, stage, variant, reading))
                .collect();
            let mut out = Demand::default();
            sweep(&columns, &mut out);
            prop_assert_eq!((out.low.len(), out.high.len()), (cases.len(), cases.len()));
            for (at, (stage, variant, reading)) in cases.iter().enumerate() {
                let alone = of_reading(stage, variant, reading);
                let here = (u64::from(out.low[at]), u64::from(out.high[at]));
                let right = if taken[at] { (alone.low, alone.high) } else { (0, 0) };
                prop_assert_eq!(here, right, "row {} of {:?} {:?}", at, reading, variant);
            }
        }
    }

    #[test]
    fn usual_readings_are_in_range_and_a_missing_row_is_not() {
        let world = super::super::fixture::Fixture::parse("pipe p\npool a 9\nstage s\n  a cap 4 cost 1").world;
        let stage = Stage {
            target_permille: 750,
            rated: true,
            ..world.stages[0].clone()
        };
        // 500 replicas of 2,000 requests a second in 512 slots each, a quarter of them silent.
        let variant = Variant {
            capacity_millis: 2_000_000,
            concurrency: Some(512),
            ..world.variants[0].clone()
        };
        let reading = Reading {
            taken_ms: 0,
            sampled: 375,
            expected: 500,
            running_millis: Some(190_000_000),
            waiting_millis: Some(8_000_000),
            utilization_permille: Some(930),
            rate_millis: Some(800_000_000),
        };
        let mut columns = Columns::new(1);
        assert!(columns.set(0, &stage, &variant, &reading));
        assert!(!columns.set(1, &stage, &variant, &reading));
        let mut out = Demand::default();
        sweep(&columns, &mut out);
        assert_eq!((out.low, out.high), (vec![1_066_666_667], vec![1_400_000_001]));
        // A demand in range, of numbers that are too large to be exact.
        let variant = Variant {
            capacity_millis: 1 << 29,
            concurrency: Some(60_000),
            ..variant
        };
        let reading = Reading {
            sampled: 0,
            expected: 0,
            running_millis: Some((1 << 30) + 1),
            ..reading
        };
        let stage = Stage {
            target_permille: 65_000,
            ..stage
        };
        assert!(!columns.set(0, &stage, &variant, &reading));
    }

    #[test]
    fn whole_quotients_and_those_just_beside_them_are_told_apart() {
        // The largest numerators in range, over small, middling and large denominators: a quotient that is rounded across a
        // whole number would show.
        let large = (0..31).flat_map(|bits| [(1_u64 << bits) - 1, 1 << bits, (1 << bits) + 1]);
        for d in (1_u64..=20_000).chain(large).filter(|d| (1..1 << 31).contains(d)) {
            let most = ((1_u64 << PRODUCT_BITS) - 2 * d).min(d << DEMAND_BITS) / d * d;
            for n in [0, 1, d - 1, d, d + 1, most - d + 1, most - 1, most] {
                #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
                let (numerator, share) = (n as f64, d as f64);
                let up = ceiling(numerator, share * 0.5 - 0.5, 1.0 / share);
                assert_eq!(u64::from(up), n.div_ceil(d), "{n} / {d}");
            }
        }
    }
}
