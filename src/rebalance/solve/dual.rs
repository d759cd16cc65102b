//! The certificate: a lower bound on every plan's cost, in integers.
//!
//! For any prices λ ≥ 0 and any plan n that fits, λ·(room − use of n) ≥ 0, so
//!
//! ```text
//! cost(n) ≥ cost(n) + λ·use(n) − λ·room ≥ Σ V_s(λ) − λ·room = L(λ)
//! ```
//!
//! and the right side needs no plan, only one oracle call per stage. It holds for every λ, good or bad; the search for
//! prices makes it large, but nothing it does can make it wrong. The sums here are integers of 128 bits, made from
//! integer prices, so L is not an estimate: it is a proof that can be repeated.
//!
//! Stages are independent given prices. Half of them go to a second thread where one is allowed; integer sums do not
//! depend on who adds first.

use super::instance::{Instance, OPEN, RESOURCES};
use super::oracle::{Ask, FRACTION, Oracle};
use crate::rebalance::bug::{Bug, seeded};

/// What all stages do at the same prices, each for itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Evaluation {
    /// L(λ), scaled, with everything that is constant.
    pub(super) bound: i128,
    /// Σ over stages of what they take, by dimension.
    pub(super) usage: Vec<i128>,
    /// `V_s(λ)` by stage, scaled, without its constant.
    pub(super) values: Vec<i64>,
    /// [`Oracle::aside`] by stage.
    pub(super) asides: Vec<i64>,
    /// Replicas by option.
    pub(super) counts: Vec<u32>,
}

impl Evaluation {
    /// Replaces the counts of one stage, in `usage`, too. Returns whether they are others than before.
    pub(super) fn exchange(&mut self, instance: &Instance, at: usize, counts: &[u32]) -> bool {
        let stage = &instance.stages[at];
        let mut changed = false;
        for (option, &count) in (stage.options.start as usize..).zip(counts) {
            let before = std::mem::replace(&mut self.counts[option], count);
            if before == count {
                continue;
            }
            changed = true;
            let more = i128::from(count) - i128::from(before);
            let first = instance.pool[option] as usize * RESOURCES;
            for (used, &each) in self.usage[first..].iter_mut().zip(&instance.request[option]) {
                *used += i128::from(each) * more;
            }
            for &group in instance.groups(stage) {
                let dim = instance.group_dim(group);
                self.usage[dim] += i128::from(instance.cost[option]) * more;
                self.usage[dim + 1] += i128::from(instance.power[option]) * more;
            }
        }
        changed
    }

    /// Whether all fits side by side.
    pub(super) fn fits(&self, instance: &Instance) -> bool {
        self.usage
            .iter()
            .zip(&instance.room)
            .all(|(&used, &room)| used <= i128::from(room))
    }
}

/// λ·room, rounded up.
pub(super) fn rent(instance: &Instance, prices: &[u64]) -> i128 {
    let sum = prices.iter().zip(&instance.room).fold(0_u128, |sum, (&price, &room)| {
        let room = if room == OPEN { 0 } else { room.cast_unsigned() };
        sum.saturating_add(u128::from(price) * u128::from(room))
    });
    i128::try_from(sum.div_ceil(1 << FRACTION)).unwrap_or(i128::MAX)
}

/// Adds what `counts` of one stage take to `usage`.
pub(super) fn add_usage(instance: &Instance, stage: usize, counts: &[u32], usage: &mut [i128]) {
    let stage = &instance.stages[stage];
    for (option, &count) in (stage.options.start as usize..).zip(counts) {
        if count == 0 {
            continue;
        }
        let first = instance.pool[option] as usize * RESOURCES;
        for (resource, &each) in instance.request[option].iter().enumerate() {
            usage[first + resource] += i128::from(each) * i128::from(count);
        }
        for &group in instance.groups(stage) {
            let dim = instance.group_dim(group);
            usage[dim] += i128::from(instance.cost[option]) * i128::from(count);
            usage[dim + 1] += i128::from(instance.power[option]) * i128::from(count);
        }
    }
}

/// Asks every stage at `prices`. Uses as many threads as there are oracles.
pub(super) fn evaluate(instance: &Instance, prices: &[u64], oracles: &mut [Oracle], out: &mut Evaluation) {
    evaluate_front(instance, prices, instance.stages.len(), oracles, out);
}

/// Asks the first `stages` stages and scales what they say to all: an estimate, and no bound.
pub(super) fn evaluate_front(
    instance: &Instance,
    prices: &[u64],
    stages: usize,
    oracles: &mut [Oracle],
    out: &mut Evaluation,
) {
    out.values.resize(instance.stages.len(), 0);
    out.asides.resize(instance.stages.len(), 0);
    out.counts.resize(instance.options(), 0);
    out.usage.clear();
    out.usage.resize(instance.room.len(), 0);
    let share = stages.div_ceil(oracles.len().max(1)).max(1);
    let mut parts = Vec::with_capacity(oracles.len());
    let (mut values, mut asides) = (out.values.as_mut_slice(), out.asides.as_mut_slice());
    let (mut counts, mut from) = (out.counts.as_mut_slice(), 0);
    for oracle in oracles.iter_mut() {
        let to = (from + share).min(stages);
        if from >= to {
            break;
        }
        let options = instance.stages[to - 1].options.end - instance.stages[from].options.start;
        let (values_here, values_rest) = values.split_at_mut(to - from);
        let (asides_here, asides_rest) = asides.split_at_mut(to - from);
        let (counts_here, counts_rest) = counts.split_at_mut(options as usize);
        let answers = Part {
            values: values_here,
            asides: asides_here,
            counts: counts_here,
        };
        parts.push((from, oracle, answers));
        (values, asides, counts, from) = (values_rest, asides_rest, counts_rest, to);
    }
    let mut sums: Vec<(i128, Vec<i128>)> = Vec::with_capacity(parts.len());
    if parts.len() == 1 {
        for (from, oracle, answers) in parts {
            sums.push(part(instance, prices, from, oracle, answers));
        }
    } else {
        std::thread::scope(|scope| {
            let started: Vec<_> = parts
                .into_iter()
                .map(|(from, oracle, answers)| scope.spawn(move || part(instance, prices, from, oracle, answers)))
                .collect();
            sums.extend(started.into_iter().filter_map(|thread| thread.join().ok()));
        });
    }
    let mut total = 0_i128;
    for (sum, usage) in sums {
        total += sum;
        out.usage.iter_mut().zip(usage).for_each(|(all, here)| *all += here);
    }
    if stages < instance.stages.len() {
        let (all, part) = (instance.stages.len() as i128, stages.max(1) as i128);
        total = total.saturating_mul(all) / part;
        for used in &mut out.usage {
            *used = used.saturating_mul(all) / part;
        }
    }
    let rent = if seeded(Bug::RoomTermSign) {
        -rent(instance, prices)
    } else {
        rent(instance, prices)
    };
    out.bound = total.saturating_sub(rent);
}

/// Where the answers of stages in a row go.
struct Part<'a> {
    values: &'a mut [i64],
    asides: &'a mut [i64],
    counts: &'a mut [u32],
}

fn part(instance: &Instance, prices: &[u64], from: usize, oracle: &mut Oracle, answers: Part<'_>) -> (i128, Vec<i128>) {
    let ask = Ask {
        prices,
        ..Ask::default()
    };
    let (mut sum, mut usage) = (0_i128, vec![0; instance.room.len()]);
    let mut rest = answers.counts;
    for ((at, value), aside) in (from..).zip(answers.values).zip(answers.asides) {
        *value = oracle.solve(instance, at, &ask).bound;
        *aside = oracle.aside;
        sum += i128::from(*value) + Instance::constant(&instance.stages[at]);
        let (here, after) = rest.split_at_mut(oracle.counts.len());
        here.copy_from_slice(&oracle.counts);
        add_usage(instance, at, here, &mut usage);
        rest = after;
    }
    (sum, usage)
}
