//! One stage's demand has changed: that stage is planned again, at once, and nothing is allocated.
//!
//! 1. If demand rose and what the stage has still covers it, nothing happens.
//! 2. Else the oracle says what the stage would do at the prices of the bound. That is its new V, and the bound moves by
//!    the difference; prices follow if what is wanted has shifted ([`steering`](super::steering)).
//! 3. If what the stage has covers the demand and no replica of it is superfluous, that is all.
//! 4. Else the stage gives back what it has and takes its answer, or, if that does not fit or its prices differ from
//!    those of the bound, what the oracle says at the prices that steer and with the room that is left. It gets back what
//!    it had unless the new counts are strictly better.
//!
//! # What stays true
//!
//! * **The plan fits**: counts only ever come from the room that is there.
//! * **The bound is one**: step 1 leaves the old V, and V never falls while demand rises at the same penalty, because
//!   whatever covers more covers less. Everything else that an event changes of the instance (demand out of reach, the
//!   cut of the penalty) is in the stage's constant, which is exchanged, too.
//! * **The cost is known**: it is a running sum over stages; of a pipeline, what it loses end to end is counted anew over
//!   its own stages.
//!
//! # What events leave to the next solve
//!
//! They never move two stages at once, and never move the prices that the bound belongs to. A pipeline of which several
//! stages would have to grow together stays as it is. So the gap widens while demand drifts, and [`Certificate`] says by
//! how much: that is when to solve again.

use super::bottleneck;
use super::certificate;
use super::dual::Evaluation;
use super::instance::Instance;
use super::oracle::{Ask, Oracle, extra};
use super::plan::{Plan, outcome_of};
use super::steering::{Steering, prepare};
use super::{Memory, Solution};

/// What an event did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The stage has other counts than before; see [`counts`].
    pub moved: bool,
    /// A price has followed, or stages of the same pipeline have a reason to think again: worth a [`drain`].
    pub dirty: bool,
}

/// What is proven of the present plan. In prices of the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The objective: replicas, moves, penalties.
    pub cost: i128,
    /// No plan has a smaller objective.
    pub bound: i128,
    /// `cost` above `bound`, millionths of `bound`, rounded up; none where `bound` is not above zero and `cost` is.
    pub gap_ppm: Option<u64>,
}

/// Sets the demand of the caller's stage `stage`, thousandths, and plans that stage again. `memory` is as [`solve`] or
/// [`resolve`] left it, whatever events came since. Who calls [`Instance::set_demand`] instead has to `resolve` before the
/// next event: the bound takes a demand that rises to have been this low before.
///
/// The first event after a solve lays out what all later ones need (see [`ready`]); the others do not allocate. Without
/// a solve of this instance only the demand is set.
///
/// [`solve`]: super::solve
/// [`resolve`]: super::resolve
pub fn event(instance: &mut Instance, memory: &mut Memory, stage: usize, demand_millis: u64) -> Change {
    let Some(&at) = instance.place.get(stage) else {
        return Change::default();
    };
    let at = at as usize;
    let prepared = prepare(instance, memory);
    let (demand, penalty) = (instance.stages[at].demand, instance.stages[at].penalty);
    instance.set_demand(stage, demand_millis);
    if !prepared {
        return Change::default();
    }
    let Memory {
        prices,
        answers,
        plan,
        oracles,
        constants,
        constant,
        steering,
        solution,
        ..
    } = memory;
    let Some(oracle) = oracles.first_mut() else {
        return Change::default();
    };
    let now = Instance::constant(&instance.stages[at]);
    *constant += now - constants[at];
    answers.bound += now - constants[at];
    constants[at] = now;
    let stage = &instance.stages[at];
    let rose = stage.demand >= demand && stage.penalty == penalty;
    let has = plan.outcomes[at];
    let surplus = has.served.saturating_sub(stage.demand);
    if rose && surplus >= 0 {
        steering.settle(instance, plan, at);
        return Change::default();
    }
    touch(instance, at, answers, plan, &steering.extras, &solution.counts);
    let followed = value(instance, at, prices, answers, oracle, steering);
    if (0..has.least).contains(&surplus) {
        keep(instance, at, plan, steering);
        return Change {
            moved: false,
            dirty: followed,
        };
    }
    let before = bottleneck::served(instance, at, plan);
    let moved = replan(instance, at, true, oracle, plan, steering);
    let mut dirty = followed;
    if instance.stages[at].pipeline != u32::MAX && !before.same(bottleneck::served(instance, at, plan)) {
        steering.call_mates(instance, at);
        dirty = true;
    }
    if moved {
        certificate::copy(instance, plan, at, solution);
    }
    Change { moved, dirty }
}

/// Plans at most `most` stages again that earlier events have given a reason to. `changed` is told the caller's number of
/// every stage that got other counts. Returns how many stages were looked at; fewer than `most` if no more are waiting.
/// Does not allocate.
pub fn drain(instance: &Instance, memory: &mut Memory, most: usize, changed: &mut dyn FnMut(usize)) -> usize {
    if !memory.steering.ready {
        return 0;
    }
    let Memory {
        plan,
        oracles,
        steering,
        solution,
        ..
    } = memory;
    let Some(oracle) = oracles.first_mut() else { return 0 };
    for looked in 0..most {
        let Some(at) = steering.next() else { return looked };
        let at = at as usize;
        if replan(instance, at, false, oracle, plan, steering) {
            certificate::copy(instance, plan, at, solution);
            changed(instance.order.stages[at] as usize);
        }
    }
    most
}

/// Lays out what events need, so that the first one is as fast as the others. Looks at every stage. False if there was
/// no solve of this instance with this `memory`.
pub fn ready(instance: &Instance, memory: &mut Memory) -> bool {
    prepare(instance, memory)
}

/// Replicas of the caller's stage `stage` as planned now, by its options. Empty for unknown stages.
pub fn counts<'a>(instance: &Instance, memory: &'a Memory, stage: usize) -> &'a [u32] {
    let Some(&at) = instance.place.get(stage) else {
        return &[];
    };
    let options = instance.stages[at as usize].options.clone();
    let options = options.start as usize..options.end as usize;
    // The caller's options of a stage stand together.
    let first = instance.outer_option[options.clone()].iter().min();
    let range = first.map_or(0..0, |&first| first as usize..first as usize + options.len());
    memory.solution.counts.get(range).unwrap_or_default()
}

/// Cost and bound of the plan as it is now: of the last solve, or after the events since. The bound after an event is that
/// of the prices, also where the solve had searched to the end.
pub fn certificate(instance: &Instance, memory: &Memory) -> Certificate {
    let (cost, bound, gap_ppm) = if memory.steering.ready {
        let cost = memory.steering.cost + memory.constant;
        certificate::reported(instance, cost, memory.answers.bound)
    } else {
        let last = &memory.solution;
        (last.cost, last.bound, last.gap_ppm)
    };
    Certificate { cost, bound, gap_ppm }
}

/// The whole solution after the events so far, with unserved demand and reasons. Looks at every stage.
pub fn current<'a>(instance: &Instance, memory: &'a mut Memory) -> &'a Solution {
    if memory.steering.ready {
        let Memory {
            plan,
            answers,
            constant,
            solution,
            ..
        } = memory;
        let effort = solution.effort;
        certificate::sum_up(instance, plan, answers.bound, *constant, effort, solution);
    }
    &memory.solution
}

/// Another demand, the same counts.
fn keep(instance: &Instance, at: usize, plan: &mut Plan, steering: &mut Steering) {
    let before = plan.values[at];
    plan.outcomes[at].unserved = 0;
    plan.values[at] = plan.outcomes[at].value(instance.stages[at].penalty);
    steering.cost += i128::from(plan.values[at]) - i128::from(before);
    steering.settle(instance, plan, at);
}

/// Reads a little of everything that is read later, so that memory is asked for all of it at once, not for one after the
/// other. Changes nothing.
fn touch(instance: &Instance, at: usize, answers: &Evaluation, plan: &Plan, extras: &[i64], published: &[u32]) {
    let stage = &instance.stages[at];
    if stage.options.is_empty() {
        return;
    }
    let first = stage.options.start as usize;
    let mut seen = plan.counts[first] ^ answers.counts[first] ^ instance.upper[first] ^ instance.current[first];
    seen ^= instance.base[first] ^ instance.pool[first] ^ u32::from(instance.reliable[first]);
    seen ^= published[instance.outer_option[first] as usize];
    let mut wide = answers.values[at] ^ plan.values[at] ^ extras[first];
    // A line of memory holds two and a half of these.
    for piece in instance.pieces(stage).iter().step_by(2) {
        wide ^= piece.price;
    }
    for request in instance.request[first..stage.options.end as usize].iter().step_by(2) {
        wide ^= request[0];
    }
    std::hint::black_box((seen, wide));
}

/// The stage's V at the prices of the bound, into the bound. The counts are left in the oracle. Returns whether a price
/// followed.
fn value(
    instance: &Instance,
    at: usize,
    prices: &[u64],
    answers: &mut Evaluation,
    oracle: &mut Oracle,
    steering: &mut Steering,
) -> bool {
    let options = &instance.stages[at].options;
    let options = options.start as usize..options.end as usize;
    let ask = Ask {
        prices,
        extras: &steering.extras[options.clone()],
        start: &answers.counts[options],
        ..Ask::default()
    };
    let answer = oracle.solve(instance, at, &ask);
    answers.bound += i128::from(answer.bound) - i128::from(answers.values[at]);
    answers.values[at] = answer.bound;
    if !answers.exchange(instance, at, &oracle.counts) {
        return false;
    }
    steering.follow(&answers.usage)
}

/// Plans one stage again; all others stay. `answered`: the oracle holds its answer at the prices of the bound.
fn replan(
    instance: &Instance,
    at: usize,
    answered: bool,
    oracle: &mut Oracle,
    plan: &mut Plan,
    steering: &mut Steering,
) -> bool {
    let stage = &instance.stages[at];
    let before = plan.values[at];
    plan.free(instance, at, &mut steering.held);
    let limit = steering.limit(instance, plan, at);
    let usable =
        answered && limit.is_none() && !steering.differs(instance, at) && plan.fits(instance, at, &oracle.counts);
    if !usable {
        let ask = Ask {
            prices: &steering.prices,
            room: &plan.room,
            demand: limit,
            start: &steering.held,
            ..Ask::default()
        };
        oracle.solve(instance, at, &ask);
    }
    let demand = limit.unwrap_or(stage.demand);
    let worth = |counts: &[u32]| {
        let options = (stage.options.start as usize..).zip(counts);
        let rent = options.fold(0_i64, |sum, (option, &count)| {
            if count == 0 {
                return sum;
            }
            let each = extra(instance, stage, option, &steering.prices);
            sum.saturating_add(each.saturating_mul(i64::from(count)))
        });
        let outcome = outcome_of(instance, at, counts, demand);
        outcome.value(stage.penalty).saturating_add(rent)
    };
    let better = oracle.counts != steering.held
        && worth(&oracle.counts) < worth(&steering.held)
        && (usable || plan.fits(instance, at, &oracle.counts));
    let counts = if better { &oracle.counts } else { &steering.held };
    plan.place(instance, at, counts);
    steering.cost += i128::from(plan.values[at]) - i128::from(before);
    steering.settle(instance, plan, at);
    better
}
