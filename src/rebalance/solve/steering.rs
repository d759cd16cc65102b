//! What events need between two solves, laid out once so that none of them has to look at more than its own stage.
//!
//! # Two sets of prices
//!
//! The bound belongs to the prices it was made at: `L(λ) = Σ V_s(λ) − λ·room` needs every V at the same λ. Those prices
//! stay as they are until the next solve, and an event replaces the V of one stage in the sum, so the bound is one at
//! every moment. What events are *decided* at is a second set, which starts as a copy and follows what is asked for.
//!
//! # How far a price follows
//!
//! Let U be what all stages want of a pool's resource at the prices of the bound. When the prices were made, U met the
//! room as well as whole replicas allow. If U has shifted by ΔU since, one Newton step on the same equation moves the
//! price by `ΔU / H`, with H the slope of use over price that the smoothed problem found last. That is the price here: a
//! function of U, not a sum of steps, so it cannot wind up and comes back when demand does. It is set anew when U has
//! left a band of 1/128 of the room around the value that it was set at, and never moves by more than
//! [`Response::most`](super::smooth_price::Response).
//!
//! # Who is asked again
//!
//! A stage leaves a pool, or comes to it, at its own break-even price. [`prepare`] sorts stages by the distance of that
//! price from the present one, for every price that can follow. A price that moves only moves a target in that list; the
//! stages between the last position and the target are the dirty queue, and [`drain`](super::event::drain) takes a fixed
//! number of them at a time. So the queue is bounded by what is in the lists, costs nothing to fill, and shrinks by
//! itself if the price comes back before it was drained.

use std::collections::VecDeque;

use super::Memory;
use super::bottleneck;
use super::dual::add_usage;
use super::instance::{Instance, RESOURCES};
use super::oracle::{FRACTION, extra};
use super::plan::Plan;
use super::smooth_price::Response;

/// The band is this part of the room.
const BAND: i64 = 128;
/// Stages of touched pipelines that wait for their turn, at most; the next solve looks at whoever finds no place.
const MATES_MAX: usize = 1_024;

/// One price that can follow what is asked for.
#[derive(Clone, Debug, Default)]
struct Lever {
    dim: usize,
    /// Of the bound.
    base: u64,
    /// What was wanted when the prices were made, and when this one was set.
    made: i128,
    set: i128,
    band: i128,
    /// How it answers.
    response: Response,
    /// How far it has moved.
    shift: i64,
    /// Whom a higher and a lower price makes think again.
    rising: Crossings,
    falling: Crossings,
}

/// Stages by how far the price has to move until they are indifferent.
#[derive(Clone, Debug, Default)]
struct Crossings {
    stages: Vec<(i64, u32)>,
    /// So many were asked since the price moved past them.
    asked: usize,
}

impl Crossings {
    /// The next stage on the way to where the price is now.
    fn next(&mut self, shift: i64) -> Option<u32> {
        if let Some(&(at, stage)) = self.stages.get(self.asked)
            && at <= shift
        {
            self.asked += 1;
            return Some(stage);
        }
        let before = self.asked.checked_sub(1)?;
        let &(at, stage) = self.stages.get(before)?;
        (at > shift).then(|| {
            self.asked = before;
            stage
        })
    }
}

/// Prices that steer, running sums, who is to be asked again, and scratch space.
#[derive(Clone, Debug, Default)]
pub(super) struct Steering {
    /// All else is for the instance and the plan as they are.
    pub(super) ready: bool,
    /// By dimension; those of the bound but for what has shifted.
    pub(super) prices: Vec<u64>,
    /// What plan and pipelines cost without what no choice changes, scaled.
    pub(super) cost: i128,
    levers: Vec<Lever>,
    /// Levers that do not stand where the bound has them.
    shifted: usize,
    /// Dimensions whose price has moved.
    moved: Vec<bool>,
    /// What each pipeline loses end to end, beyond what its stages leave unserved.
    surcharges: Vec<i128>,
    members: Vec<u32>,
    starts: Vec<u32>,
    mates: VecDeque<u32>,
    waits: Vec<bool>,
    pub(super) held: Vec<u32>,
    /// What the prices of the bound put on one replica, by option.
    pub(super) extras: Vec<i64>,
}

/// Makes `memory` ready for events after a solve of `instance`, if it is not. Without a solve there is nothing to make.
pub(super) fn prepare(instance: &Instance, memory: &mut Memory) -> bool {
    let known = memory.plan.values.len() == instance.stages()
        && memory.constants.len() == instance.stages()
        && memory.prices.len() == instance.room.len()
        && memory.answers.counts.len() == instance.options()
        && !memory.oracles.is_empty();
    if !known || memory.steering.ready {
        return known;
    }
    let Memory {
        prices,
        answers,
        plan,
        oracles,
        smooth,
        steering,
        ..
    } = memory;
    answers.usage.clear();
    answers.usage.resize(instance.room.len(), 0);
    let (mut options, mut pieces) = (0, 0);
    steering.extras.clear();
    steering.extras.reserve(instance.options());
    for (at, stage) in instance.stages.iter().enumerate() {
        let own = stage.options.start as usize..stage.options.end as usize;
        options = options.max(own.len());
        pieces = pieces.max(stage.pieces.len());
        add_usage(instance, at, &answers.counts[own.clone()], &mut answers.usage);
        steering
            .extras
            .extend(own.map(|option| extra(instance, stage, option, prices)));
    }
    if let Some(oracle) = oracles.first_mut() {
        oracle.reserve(options, pieces);
    }
    steering.held.clear();
    steering.held.reserve(options);
    steering.prices.clone_from(prices);
    steering.moved.clear();
    steering.moved.resize(instance.room.len(), false);
    steering.shifted = 0;
    steering.levers.clear();
    for response in smooth.responses(instance) {
        let used = answers.usage[response.dim];
        steering.levers.push(Lever {
            dim: response.dim,
            base: prices[response.dim],
            made: used,
            set: used,
            band: i128::from((instance.room[response.dim] / BAND).max(1)),
            response,
            ..Lever::default()
        });
    }
    steering.list_crossings(instance, prices);
    steering.list_pipelines(instance, plan);
    steering.cost = plan.total() + steering.surcharges.iter().sum::<i128>();
    steering.ready = true;
    true
}

impl Steering {
    /// Lets prices follow what is wanted now. Returns whether one has moved.
    pub(super) fn follow(&mut self, usage: &[i128]) -> bool {
        let mut followed = false;
        for lever in &mut self.levers {
            let used = usage[lever.dim];
            if (used - lever.set).abs() <= lever.band {
                continue;
            }
            lever.set = used;
            let least = i64::try_from(lever.base).map_or(i64::MIN, |base| -base);
            let step = lever.response.step(used - lever.made).max(least);
            if step == lever.shift {
                continue;
            }
            self.shifted += usize::from(step != 0);
            self.shifted -= usize::from(lever.shift != 0);
            lever.shift = step;
            self.prices[lever.dim] = lever.base.saturating_add_signed(step);
            self.moved[lever.dim] = step != 0;
            followed = true;
        }
        followed
    }

    /// Whether the stage's choices are priced otherwise than by the bound.
    pub(super) fn differs(&self, instance: &Instance, at: usize) -> bool {
        if self.shifted == 0 {
            return false;
        }
        let stage = &instance.stages[at];
        let pools = &instance.pool[stage.options.start as usize..stage.options.end as usize];
        pools.iter().any(|&pool| {
            let first = pool as usize * RESOURCES;
            self.moved[first..first + RESOURCES].contains(&true)
        }) || instance.groups(stage).iter().any(|&group| {
            let dim = instance.group_dim(group);
            self.moved[dim] || self.moved[dim + 1]
        })
    }

    /// The next stage that has a reason to be asked again.
    pub(super) fn next(&mut self) -> Option<u32> {
        if let Some(at) = self.mates.pop_front() {
            self.waits[at as usize] = false;
            return Some(at);
        }
        for lever in &mut self.levers {
            let next = lever.rising.next(lever.shift);
            if let Some(at) = next.or_else(|| lever.falling.next(-lever.shift)) {
                return Some(at);
            }
        }
        None
    }

    /// Asks the other stages of a pipeline again, and then this one.
    pub(super) fn call_mates(&mut self, instance: &Instance, at: usize) {
        let range = self.pipeline(instance, at);
        for place in range {
            let mate = self.members[place];
            if mate as usize != at {
                self.call(mate);
            }
        }
        self.call(at as u32);
    }

    fn call(&mut self, at: u32) {
        if !self.waits[at as usize] && self.mates.len() < MATES_MAX {
            self.waits[at as usize] = true;
            self.mates.push_back(at);
        }
    }

    /// Where the stages of the stage's pipeline stand in `members`.
    fn pipeline(&self, instance: &Instance, at: usize) -> std::ops::Range<usize> {
        let pipeline = instance.stages[at].pipeline as usize;
        match (self.starts.get(pipeline), self.starts.get(pipeline.saturating_add(1))) {
            (Some(&from), Some(&to)) => from as usize..to as usize,
            _ => 0..0,
        }
    }

    /// What the others of its pipeline leave a stage to serve, in terms of its demand; none if that is all.
    pub(super) fn limit(&self, instance: &Instance, plan: &Plan, at: usize) -> Option<i64> {
        let members = &self.members[self.pipeline(instance, at)];
        bottleneck::passed_on(instance, plan, members, at)
    }

    /// Counts anew what the stage's pipeline loses end to end.
    pub(super) fn settle(&mut self, instance: &Instance, plan: &Plan, at: usize) {
        let range = self.pipeline(instance, at);
        if let Some(slot) = self.surcharges.get_mut(instance.stages[at].pipeline as usize) {
            let now = bottleneck::lost(instance, plan, &self.members[range]);
            self.cost += now - *slot;
            *slot = now;
        }
    }

    fn list_pipelines(&mut self, instance: &Instance, plan: &Plan) {
        let count = instance.pipeline_count;
        self.starts.clear();
        self.starts.resize(count + 1, 0);
        for stage in &instance.stages {
            if let Some(start) = self.starts.get_mut((stage.pipeline as usize).saturating_add(1)) {
                *start += 1;
            }
        }
        for at in 0..count {
            self.starts[at + 1] += self.starts[at];
        }
        let mut ends = self.starts.clone();
        self.members.clear();
        self.members.resize(ends.last().map_or(0, |&end| end as usize), 0);
        for (at, stage) in (0..).zip(&instance.stages) {
            if (stage.pipeline as usize) < count {
                let end = &mut ends[stage.pipeline as usize];
                self.members[*end as usize] = at;
                *end += 1;
            }
        }
        self.surcharges.clear();
        for pair in self.starts.windows(2) {
            let members = &self.members[pair[0] as usize..pair[1] as usize];
            self.surcharges.push(bottleneck::lost(instance, plan, members));
        }
        self.mates.clear();
        self.mates.reserve(MATES_MAX);
        self.waits.clear();
        self.waits.resize(instance.stages(), false);
    }

    /// For every stage: its cheapest pool alone, and how far a price has to move until another is as cheap.
    fn list_crossings(&mut self, instance: &Instance, prices: &[u64]) {
        if self.levers.is_empty() {
            return;
        }
        let mut lever_of = vec![usize::MAX; instance.room.len()];
        for (number, lever) in self.levers.iter().enumerate() {
            lever_of[lever.dim] = number;
        }
        let mut ways: Vec<(i64, usize, i64)> = Vec::new();
        for (at, stage) in (0..).zip(&instance.stages) {
            ways.clear();
            for option in stage.options.start..stage.options.end {
                ways.extend(way(instance, at as usize, option as usize, prices));
            }
            ways.sort_unstable();
            let (Some(&best), second) = (ways.first(), ways.get(1)) else {
                continue;
            };
            let mut note = |(price, option, count): (i64, usize, i64), rising: bool| {
                let first = instance.pool[option] as usize * RESOURCES;
                for (resource, &each) in instance.request[option].iter().enumerate() {
                    let used = i128::from(each) * i128::from(count);
                    let Some(lever) = self.levers.get_mut(lever_of[first + resource]).filter(|_| used > 0) else {
                        continue;
                    };
                    let away = (i128::from(price - best.0) << FRACTION) / used;
                    if let Some(away) = i64::try_from(away).ok().filter(|&away| away <= lever.response.most) {
                        let list = if rising { &mut lever.rising } else { &mut lever.falling };
                        list.stages.push((away, at));
                    }
                }
            };
            // A dearer pool loses the stage once the second is as cheap; a cheaper one wins it once it is.
            if let Some(&(price, ..)) = second {
                note((price, best.1, best.2), true);
            }
            for &other in ways.iter().skip(1) {
                note(other, false);
            }
        }
        for lever in &mut self.levers {
            lever.rising.stages.sort_unstable();
            lever.falling.stages.sort_unstable();
        }
    }
}

/// Price of serving a stage from one option alone at `prices`, and how many replicas that takes.
fn way(instance: &Instance, at: usize, option: usize, prices: &[u64]) -> Option<(i64, usize, i64)> {
    let stage = &instance.stages[at];
    let (mut left, mut price, mut count) = (stage.demand, 0_i64, 0_i64);
    let own = option as u32 - stage.options.start;
    for piece in instance.pieces(stage).iter().filter(|piece| piece.option == own) {
        if left <= 0 || piece.capacity <= 0 {
            break;
        }
        let here = ((left - 1) / piece.capacity + 1).min(i64::from(piece.max));
        price = price.saturating_add(piece.price.saturating_mul(here));
        left -= piece.capacity.saturating_mul(here);
        count += here;
    }
    let rent = extra(instance, stage, option, prices).saturating_mul(count);
    let price = price.saturating_add(rent).saturating_add(stage.penalty * left.max(0));
    (count > 0).then_some((price, option, count))
}
