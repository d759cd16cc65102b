//! A plan under construction: counts, the room they leave, and what each stage truly costs.

use super::instance::{Instance, OPEN, RESOURCES, SHORT};

/// What given counts of one stage come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Scaled price of replicas and moves, without the stage's constant.
    pub(super) price: i64,
    /// Demand left open, of [`Stage::demand`](super::instance::Stage).
    pub(super) unserved: i64,
    /// Replicas missing from floors.
    pub(super) short: u32,
    /// Thousandths that are served, as far as they go; to be held against [`Stage::demand`](super::instance::Stage).
    pub(super) served: i64,
    /// The least that one of the replicas serves; `i64::MAX` without any.
    pub(super) least: i64,
}

impl Outcome {
    /// What the stage minimises, scaled, without its constant.
    pub(super) fn value(&self, penalty: i64) -> i64 {
        self.price + penalty * self.unserved + SHORT * i64::from(self.short)
    }
}

/// What `counts` of stage `at` (on top of what stays anyway) come to.
pub(super) fn outcome(instance: &Instance, at: usize, counts: &[u32]) -> Outcome {
    outcome_of(instance, at, counts, instance.stages[at].demand)
}

/// The same if the stage had to serve `demand`.
pub(super) fn outcome_of(instance: &Instance, at: usize, counts: &[u32], demand: i64) -> Outcome {
    let stage = &instance.stages[at];
    let (mut price, mut served, mut least, mut taken) = (0_i64, 0_i64, i64::MAX, 0_i64);
    let mut left = (u32::MAX, 0);
    for piece in instance.pieces(stage) {
        if left.0 != piece.option {
            left = (piece.option, counts[piece.option as usize]);
        }
        let here = left.1.min(piece.max);
        left.1 -= here;
        if here > 0 {
            price = price.saturating_add(piece.price.saturating_mul(i64::from(here)));
            served = served.saturating_add(piece.capacity.saturating_mul(i64::from(here)));
            least = least.min(piece.capacity);
            taken += i64::from(here);
        }
    }
    if stage.uniform {
        let total = taken + i64::from(stage.base_total);
        let pace = if stage.base_total > 0 {
            least.min(stage.base_pace)
        } else {
            least
        };
        served = if total > 0 { pace.saturating_mul(total) } else { 0 };
    }
    let mut short = stage.min.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX));
    if stage.reliable_min > 0 {
        let reliable = &instance.reliable[stage.options.start as usize..];
        let reliable = counts.iter().zip(reliable).filter(|&(_, &reliable)| reliable);
        let reliable: u32 = reliable.map(|(&count, _)| count).sum();
        short = short.max(stage.reliable_min.saturating_sub(reliable));
    }
    Outcome {
        price,
        unserved: (demand - served).max(0),
        short,
        served,
        least,
    }
}

/// Counts of all stages and what they leave.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// By option.
    pub(super) counts: Vec<u32>,
    /// By dimension.
    pub(super) room: Vec<i64>,
    /// By stage.
    pub(super) outcomes: Vec<Outcome>,
    /// [`Outcome::value`] by stage.
    pub(super) values: Vec<i64>,
}

impl Plan {
    /// Nothing but what stays anyway.
    pub(super) fn reset(&mut self, instance: &Instance) {
        self.counts.clear();
        self.counts.resize(instance.options(), 0);
        self.room.clone_from(&instance.room);
        self.outcomes.clear();
        self.outcomes.resize(instance.stages.len(), Outcome::default());
        self.values.clear();
        self.values.resize(instance.stages.len(), 0);
    }

    pub(super) fn of<'a>(&'a self, instance: &Instance, at: usize) -> &'a [u32] {
        let options = &instance.stages[at].options;
        &self.counts[options.start as usize..options.end as usize]
    }

    /// Sum of all values.
    pub(super) fn total(&self) -> i128 {
        self.values.iter().map(|&value| i128::from(value)).sum()
    }

    /// Whether `counts` fit into what is left.
    pub(super) fn fits(&self, instance: &Instance, at: usize, counts: &[u32]) -> bool {
        let stage = &instance.stages[at];
        for (option, &count) in (stage.options.start as usize..).zip(counts) {
            if count > 0 {
                let pool = instance.pool[option] as usize * RESOURCES;
                let requests = instance.request[option].iter().zip(&self.room[pool..]);
                if requests
                    .into_iter()
                    .any(|(&each, &room)| each.saturating_mul(i64::from(count)) > room)
                {
                    return false;
                }
            }
        }
        instance.groups(stage).iter().all(|&group| {
            let dim = instance.group_dim(group);
            let options = stage.options.start as usize..;
            let (money, power) = options
                .zip(counts)
                .fold((0_i64, 0_i64), |(money, power), (option, &count)| {
                    let times = |each: i64| each.saturating_mul(i64::from(count));
                    (
                        money.saturating_add(times(instance.cost[option])),
                        power.saturating_add(times(instance.power[option])),
                    )
                });
            money <= self.room[dim] && power <= self.room[dim + 1]
        })
    }

    /// Gives `counts` to a stage that has none. They must fit.
    pub(super) fn place(&mut self, instance: &Instance, at: usize, counts: &[u32]) {
        let stage = &instance.stages[at];
        let options = stage.options.start as usize..stage.options.end as usize;
        self.counts[options].copy_from_slice(counts);
        self.shift(instance, at, counts, -1);
        let outcome = outcome(instance, at, counts);
        self.outcomes[at] = outcome;
        self.values[at] = outcome.value(stage.penalty);
    }

    /// Takes everything from a stage; what it had is left in `counts`.
    pub(super) fn free(&mut self, instance: &Instance, at: usize, counts: &mut Vec<u32>) {
        let stage = &instance.stages[at];
        let options = stage.options.start as usize..stage.options.end as usize;
        counts.clear();
        counts.extend_from_slice(&self.counts[options.clone()]);
        self.counts[options].fill(0);
        self.shift(instance, at, counts, 1);
    }

    fn shift(&mut self, instance: &Instance, at: usize, counts: &[u32], sign: i64) {
        let stage = &instance.stages[at];
        for (option, &count) in (stage.options.start as usize..).zip(counts) {
            if count == 0 {
                continue;
            }
            let count = i64::from(count) * sign;
            let pool = instance.pool[option] as usize * RESOURCES;
            for (room, &each) in self.room[pool..].iter_mut().zip(&instance.request[option]) {
                *room += each * count;
            }
            for &group in instance.groups(stage) {
                let dim = instance.group_dim(group);
                for (dim, each) in [(dim, instance.cost[option]), (dim + 1, instance.power[option])] {
                    if self.room[dim] != OPEN {
                        self.room[dim] += each * count;
                    }
                }
            }
        }
    }
}
