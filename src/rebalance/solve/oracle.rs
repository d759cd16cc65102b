//! What one stage does at given prices: the only place where a stage is decided.
//!
//! With a price λ on every unit of every pool's resources and of every ceiling, a stage does not need to know about
//! the others. It minimises, over its own replicas n alone,
//!
//! ```text
//! V(λ) = min Σ (price + λ·request) n  +  penalty · unserved  +  SHORT · replicas missing from floors
//! ```
//!
//! That is a covering knapsack: buy capacity until the demand is covered. [`search`](super::search) solves it exactly.
//! This file turns a stage into the list of items for it:
//!
//! * **Prices.** Every piece costs its own price plus what the prices put on what it requests. The product is rounded
//!   down, which can only make V smaller, so that a lower bound made of it stays one.
//! * **Room.** Asked with the room that is left, an option's upper bound is what fits; ceilings of groups go into the
//!   search as limits, since they tie options to each other.
//! * **Traffic.** `Pull` and `Weighted`: capacities add. `Uniform`: all in use serve at the pace v of the slowest, so
//!   the demand needs ⌈D/v⌉ replicas, all on options at least so fast. Every pace that occurs is tried; a pool slower
//!   than v is out of the question for that v, and counting a faster pace than v as v never serves more than the truth,
//!   so the best of all tries is exact.
//! * **Ties.** What runs now is the first incumbent, and only what is strictly better replaces it.

use super::instance::{Instance, OPEN, PRICE_MAX, RESOURCES, Stage};
use super::quick::Line;
use super::search::{Item, Limit, Need, Search};
use crate::rebalance::bug::{Bug, seeded};

/// Bits behind the binary point of a price per unit of a resource.
pub(super) const FRACTION: u32 = 24;
/// Ceilings that one stage can count against; further ones are only met by the plan's own check.
const LIMITS_MAX: usize = 8;

/// What the stage is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ask<'a> {
    /// Scaled price per unit by dimension, in 2^-[`FRACTION`]. Empty: all zero.
    pub(super) prices: &'a [u64],
    /// Room left by dimension. Empty: as much as the stage alone could have.
    pub(super) room: &'a [i64],
    /// Serve no more than this, if it is less than the demand.
    pub(super) demand: Option<i64>,
    /// What [`extra`] says of every option at `prices`, if somebody knows. Empty: to be worked out.
    pub(super) extras: &'a [i64],
    /// Counts that are nearly right, if somebody knows: whatever is worse need not be looked at. Does not change
    /// what the best costs.
    pub(super) start: &'a [u32],
}

/// The counts are left in [`Oracle::counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Scaled, without the stage's constant.
    pub(super) value: i64,
    /// Nothing is better than this; below `value` only if the search was cut off.
    pub(super) bound: i64,
}

/// [`Oracle::aside`] where nobody has looked.
pub(super) const UNKNOWN: i64 = i64::MIN;

/// Scratch of the search, kept between calls so that they do not allocate.
#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    /// Replicas by option of the stage, on top of what stays anyway.
    pub(super) counts: Vec<u32>,
    /// What the last stage would cost from one option that uses nothing with a price, or unserved; or [`UNKNOWN`].
    pub(super) aside: i64,
    pub(super) search: Search,
    pub(super) uppers: Vec<u32>,
    pub(super) extras: Vec<i64>,
    pub(super) paces: Vec<i64>,
    pub(super) lines: Vec<Line>,
    /// Counts by piece of the best try.
    pub(super) best: Vec<u32>,
    /// Items of the best pace.
    items: Vec<Item>,
    /// Nodes visited since the start, for the effort counters.
    pub(super) nodes: u64,
}

/// Price that `prices` put on one replica of an option, rounded down.
pub(super) fn extra(instance: &Instance, stage: &Stage, option: usize, prices: &[u64]) -> i64 {
    if prices.is_empty() {
        return 0;
    }
    let mut sum = 0_u128;
    let first = instance.pool[option] as usize * RESOURCES;
    if let Some(prices) = prices.get(first..first + RESOURCES) {
        for (&price, &each) in prices.iter().zip(&instance.request[option]) {
            if price > 0 {
                sum += u128::from(price) * each as u128;
            }
        }
    }
    for &group in instance.groups(stage) {
        let dim = instance.group_dim(group);
        sum = sum.saturating_add(u128::from(prices[dim]) * instance.cost[option] as u128);
        sum = sum.saturating_add(u128::from(prices[dim + 1]) * instance.power[option] as u128);
    }
    i64::try_from(sum >> FRACTION).map_or(PRICE_MAX, |extra| extra.min(PRICE_MAX))
}

impl Oracle {
    /// Makes room for stages with so many options and pieces, so that solving them does not allocate.
    pub(super) fn reserve(&mut self, options: usize, pieces: usize) {
        fn hold<T>(scratch: &mut Vec<T>, count: usize) {
            scratch.clear();
            scratch.reserve(count);
        }
        hold(&mut self.counts, options);
        hold(&mut self.uppers, options);
        hold(&mut self.extras, options);
        hold(&mut self.paces, pieces + 2);
        hold(&mut self.lines, pieces);
        hold(&mut self.best, pieces.max(options));
        hold(&mut self.items, pieces);
        self.search.reserve(options, pieces, LIMITS_MAX);
    }

    /// Solves stage number `at`.
    pub(super) fn solve(&mut self, instance: &Instance, at: usize, ask: &Ask<'_>) -> Answer {
        let stage = &instance.stages[at];
        let options = stage.options.start as usize..stage.options.end as usize;
        let demand = ask.demand.map_or(stage.demand, |most| most.min(stage.demand));
        self.uppers.clear();
        self.extras.clear();
        if ask.room.is_empty() {
            self.uppers.extend_from_slice(&instance.upper[options.clone()]);
        } else {
            let fits = options.clone().map(|option| fitting(instance, stage, option, ask.room));
            self.uppers.extend(fits);
        }
        if ask.extras.is_empty() {
            self.extras
                .extend(options.clone().map(|option| extra(instance, stage, option, ask.prices)));
        } else {
            self.extras.extend_from_slice(ask.extras);
        }
        if seeded(Bug::PriceSign) {
            self.extras.iter_mut().for_each(|extra| *extra = -*extra);
        }
        self.limit(instance, stage, ask);
        let mut need = Need {
            demand,
            penalty: stage.penalty,
            min: stage.min,
            reliable_min: stage.reliable_min,
            max: stage.max,
        };
        self.search.begin();
        self.aside = UNKNOWN;
        if let Some(answer) = self.quick(instance, stage, &need, ask.start) {
            self.nodes += u64::from(self.search.nodes);
            return answer;
        }
        self.aside = UNKNOWN;
        self.nodes += u64::from(self.search.nodes);
        self.search.begin();
        let mut answer = if stage.uniform {
            self.by_pace(instance, stage, &mut need)
        } else {
            self.arrange(instance, stage, None);
            self.offer_current(instance, stage, &need);
            let bound = self.search.run(&need);
            Answer {
                value: self.search.value(),
                bound,
            }
        };
        self.nodes += u64::from(self.search.nodes);
        answer.bound = answer.bound.min(answer.value);
        self.counts.clear();
        self.counts.resize(options.len(), 0);
        for (item, &count) in self.search.items.iter().zip(&self.search.best) {
            self.counts[item.option as usize] += count;
        }
        answer
    }

    fn by_pace(&mut self, instance: &Instance, stage: &Stage, need: &mut Need) -> Answer {
        let demand = need.demand;
        let pieces = instance.pieces(stage);
        self.paces.clear();
        self.paces
            .extend(pieces.iter().map(|piece| piece.capacity.min(stage.base_pace)));
        if stage.base_total > 0 {
            self.paces.push(stage.base_pace);
        }
        self.paces.push(0);
        self.paces.sort_unstable_by(|a, b| b.cmp(a));
        self.paces.dedup();
        let mut found: Option<Answer> = None;
        let mut items = std::mem::take(&mut self.items);
        for at in 0..self.paces.len() {
            let pace = self.paces[at];
            let base = pace.saturating_mul(i64::from(stage.base_total));
            need.demand = demand.saturating_sub(base).max(0);
            self.arrange(instance, stage, Some(pace));
            self.search.begin();
            self.offer_current(instance, stage, need);
            let bound = self.search.run(need);
            let value = self.search.value();
            let before = found.map_or(i64::MAX, |answer| answer.value);
            let bound = found.map_or(bound, |answer| answer.bound.min(bound));
            if value < before {
                self.best.clone_from(&self.search.best);
                items.clone_from(&self.search.items);
            }
            found = Some(Answer {
                value: value.min(before),
                bound,
            });
        }
        self.search.best.clone_from(&self.best);
        std::mem::swap(&mut self.search.items, &mut items);
        self.items = items;
        found.unwrap_or_default()
    }

    /// Items for the search, best ratio first. With a `pace`, only what is as fast, counted at that pace.
    fn arrange(&mut self, instance: &Instance, stage: &Stage, pace: Option<i64>) {
        self.search.items.clear();
        let first = stage.options.start as usize;
        let mut left = (u32::MAX, 0);
        for piece in instance.pieces(stage) {
            if left.0 != piece.option {
                left = (piece.option, self.uppers[piece.option as usize]);
            }
            let max = piece.max.min(left.1);
            left.1 -= max;
            if max == 0 || pace.is_some_and(|pace| piece.capacity < pace) {
                continue;
            }
            let option = first + piece.option as usize;
            let item = Item {
                price: (piece.price + self.extras[piece.option as usize]).min(PRICE_MAX),
                capacity: pace.unwrap_or(piece.capacity),
                max,
                option: piece.option,
                reliable: instance.reliable[option],
            };
            self.search.insert(item);
        }
    }

    fn limit(&mut self, instance: &Instance, stage: &Stage, ask: &Ask<'_>) {
        self.search.limits.clear();
        self.search.costs.clear();
        if ask.room.is_empty() {
            return;
        }
        for &group in instance.groups(stage) {
            let dim = instance.group_dim(group);
            for which in 0..2 {
                let room = ask.room[dim + which];
                if room != OPEN && self.search.limits.len() < LIMITS_MAX {
                    self.search.limits.push(Limit { which, room });
                }
            }
        }
        if !self.search.limits.is_empty() {
            let options = stage.options.start as usize..stage.options.end as usize;
            let costs = options.map(|option| [instance.cost[option], instance.power[option]]);
            self.search.costs.extend(costs);
        }
    }

    /// Makes what runs now the first incumbent, as far as it fits.
    fn offer_current(&mut self, instance: &Instance, stage: &Stage, need: &Need) {
        if !stage.runs {
            return;
        }
        let first = stage.options.start as usize;
        self.counts.clear();
        let here = (0..self.uppers.len()).map(|at| {
            let runs = instance.current[first + at].saturating_sub(instance.base[first + at]);
            runs.min(self.uppers[at])
        });
        self.counts.extend(here);
        self.search.offer(&mut self.counts, need);
    }
}

/// How many replicas of an option fit into `room`.
pub(super) fn fitting(instance: &Instance, stage: &Stage, option: usize, room: &[i64]) -> u32 {
    let mut most = i64::from(instance.upper[option]);
    let first = instance.pool[option] as usize * RESOURCES;
    for (resource, &each) in instance.request[option].iter().enumerate() {
        if each > 0 && each.saturating_mul(most) > room[first + resource] {
            most = room[first + resource].max(0) / each;
        }
    }
    for &group in instance.groups(stage) {
        let dim = instance.group_dim(group);
        for (each, left) in [
            (instance.cost[option], room[dim]),
            (instance.power[option], room[dim + 1]),
        ] {
            if each > 0 && each.saturating_mul(most) > left {
                most = left.max(0) / each;
            }
        }
    }
    most as u32
}
