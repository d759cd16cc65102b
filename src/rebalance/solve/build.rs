//! A plan from prices: every stage takes its answer, in the order of who would lose most by coming late.
//!
//! At good prices nearly all answers fit side by side: only stages that are close to indifferent push a pool over its
//! room. So the order matters little for most and much for few. Classes go by priority; inside a class the stage that
//! loses most without the pools that have a price (its regret) goes first. Whoever does not fit any more asks again,
//! with the room that is left and the same prices: they tell what taking a short pool costs the others.
//!
//! Floors of late stages must not fall to the demand of early ones. That is rare, so it is looked at afterwards: if a
//! floor is missed, everything is built again with all floors set aside first.

use super::dual::{Evaluation, add_usage};
use super::instance::{Instance, RESOURCES, SHORT};
use super::oracle::{Ask, Oracle, UNKNOWN, extra};
use super::plan::Plan;

/// Builds the plan from what stages do at `prices`.
pub(super) fn build(
    instance: &Instance,
    prices: &[u64],
    answers: &Evaluation,
    oracles: &mut [Oracle],
    plan: &mut Plan,
) {
    plan.reset(instance);
    let crowd = crowd(instance, answers);
    let order = order(instance, prices, answers, &crowd, oracles);
    let Some(oracle) = oracles.first_mut() else { return };
    // Whoever uses nothing that is over its room fits, whatever the order, and so do those of the crowd who fit without the
    // last; in their own order they are fast to walk.
    let last = last(instance, answers, &order);
    let mut waits = vec![false; instance.stages.len()];
    for &at in last {
        waits[at as usize] = true;
    }
    for (at, &waits) in waits.iter().enumerate() {
        if !waits {
            give(instance, at, prices, answers, oracle, plan);
        }
    }
    for &at in last {
        give(instance, at as usize, prices, answers, oracle, plan);
    }
    let missed = (0..instance.stages.len()).any(|at| plan.values[at] >= SHORT && answers.values[at] < SHORT);
    if missed {
        let all: Vec<u32> = by_priority(instance, &order);
        set_floors_aside(instance, &all, prices, answers, oracle, plan);
    }
}

/// Stages whose answers use something of which all answers together use more than there is.
fn crowd(instance: &Instance, answers: &Evaluation) -> Vec<bool> {
    let over: Vec<bool> = answers
        .usage
        .iter()
        .zip(&instance.room)
        .map(|(&used, &room)| used > i128::from(room))
        .collect();
    let mut crowd = Vec::with_capacity(instance.stages.len());
    for stage in &instance.stages {
        let mut used =
            (stage.options.start as usize..stage.options.end as usize).filter(|&option| answers.counts[option] > 0);
        crowd.push(used.any(|option| {
            let first = instance.pool[option] as usize * RESOURCES;
            let request = &instance.request[option];
            let groups = instance.groups(stage);
            (0..RESOURCES).any(|resource| request[resource] > 0 && over[first + resource])
                || groups
                    .iter()
                    .any(|&group| over[instance.group_dim(group)] || over[instance.group_dim(group) + 1])
        }));
    }
    crowd
}

/// So many of the end of `order` that all others fit side by side.
fn last<'a>(instance: &Instance, answers: &Evaluation, order: &'a [u32]) -> &'a [u32] {
    let mut left = answers.usage.clone();
    let mut from = order.len();
    let fits = |left: &[i128]| {
        left.iter()
            .zip(&instance.room)
            .all(|(&used, &room)| used <= i128::from(room))
    };
    while from > 0 && !fits(&left) {
        let more = (order.len() / 16).max(order.len() - from).clamp(1, from);
        let mut taken = vec![0; left.len()];
        for &at in &order[from - more..from] {
            let options = &instance.stages[at as usize].options;
            let counts = &answers.counts[options.start as usize..options.end as usize];
            add_usage(instance, at as usize, counts, &mut taken);
        }
        left.iter_mut().zip(taken).for_each(|(left, taken)| *left -= taken);
        from -= more;
    }
    &order[from..]
}

/// All stages by class; inside a class those in `order` first, in that order.
fn by_priority(instance: &Instance, order: &[u32]) -> Vec<u32> {
    let mut rank = vec![u32::MAX; instance.stages.len()];
    for (place, &at) in (0..).zip(order) {
        rank[at as usize] = place;
    }
    let mut all: Vec<u32> = (0..instance.stages.len() as u32).collect();
    all.sort_by_key(|&at| (u16::MAX - instance.stages[at as usize].priority, rank[at as usize], at));
    all
}

/// Gives a stage that has nothing its answer, or what the room that is left allows.
pub(super) fn give(
    instance: &Instance,
    at: usize,
    prices: &[u64],
    answers: &Evaluation,
    oracle: &mut Oracle,
    plan: &mut Plan,
) {
    let options = &instance.stages[at].options;
    let wanted = &answers.counts[options.start as usize..options.end as usize];
    if plan.fits(instance, at, wanted) {
        plan.place(instance, at, wanted);
        return;
    }
    ask_with_room(instance, at, prices, oracle, plan);
    place_if_fits(instance, at, oracle, plan);
}

/// Asks the oracle about a stage with the room that is left; the counts stay there.
pub(super) fn ask_with_room(instance: &Instance, at: usize, prices: &[u64], oracle: &mut Oracle, plan: &mut Plan) {
    let room = std::mem::take(&mut plan.room);
    let ask = Ask {
        prices,
        room: &room,
        ..Ask::default()
    };
    oracle.solve(instance, at, &ask);
    plan.room = room;
}

/// Places the oracle's counts; nothing, if they do not fit after all (more ceilings than the search looks at).
pub(super) fn place_if_fits(instance: &Instance, at: usize, oracle: &mut Oracle, plan: &mut Plan) {
    if !plan.fits(instance, at, &oracle.counts) {
        oracle.counts.fill(0);
    }
    plan.place(instance, at, &oracle.counts);
}

fn set_floors_aside(
    instance: &Instance,
    order: &[u32],
    prices: &[u64],
    answers: &Evaluation,
    oracle: &mut Oracle,
    plan: &mut Plan,
) {
    plan.reset(instance);
    for &at in order {
        let stage = &instance.stages[at as usize];
        if stage.min > 0 || stage.reliable_min > 0 {
            let room = std::mem::take(&mut plan.room);
            oracle.solve(
                instance,
                at as usize,
                &Ask {
                    prices,
                    room: &room,
                    demand: Some(0),
                    ..Ask::default()
                },
            );
            plan.room = room;
            place_if_fits(instance, at as usize, oracle, plan);
        }
    }
    let mut held = Vec::new();
    for &at in order {
        plan.free(instance, at as usize, &mut held);
        give(instance, at as usize, prices, answers, oracle, plan);
    }
}

/// The crowd by class, then regret, then place.
fn order(
    instance: &Instance,
    prices: &[u64],
    answers: &Evaluation,
    crowd: &[bool],
    oracles: &mut [Oracle],
) -> Vec<u32> {
    let stages = instance.stages.len();
    let mut regrets = vec![0_i64; stages];
    if prices.iter().any(|&price| price > 0) {
        let closed: Vec<i64> = instance
            .room
            .iter()
            .zip(prices)
            .map(|(&room, &price)| if price > 0 { 0 } else { room })
            .collect();
        let share = stages.div_ceil(oracles.len().max(1)).max(1);
        let parts = regrets.chunks_mut(share).zip(oracles.iter_mut()).enumerate();
        if oracles_in_use(stages, share) == 1 {
            for (part, (regrets, oracle)) in parts {
                regret(instance, prices, &closed, answers, crowd, part * share, regrets, oracle);
            }
        } else {
            let closed = &closed;
            std::thread::scope(|scope| {
                for (part, (regrets, oracle)) in parts {
                    scope
                        .spawn(move || regret(instance, prices, closed, answers, crowd, part * share, regrets, oracle));
                }
            });
        }
    }
    let mut order: Vec<(u16, i64, u32)> = (0..)
        .zip(regrets.iter().zip(&instance.stages))
        .filter(|&(at, _): &(u32, _)| crowd[at as usize])
        .map(|(at, (&regret, stage))| (u16::MAX - stage.priority, -regret, at))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, _, at)| at).collect()
}

fn oracles_in_use(stages: usize, share: usize) -> usize {
    stages.div_ceil(share).max(1)
}

/// What stages lose if nothing that has a price is to be had: what the answer to the prices has shown of that, or asked for.
#[expect(clippy::too_many_arguments, reason = "a part of a loop that runs on several threads")]
fn regret(
    instance: &Instance,
    prices: &[u64],
    closed: &[i64],
    answers: &Evaluation,
    crowd: &[bool],
    from: usize,
    regrets: &mut [i64],
    oracle: &mut Oracle,
) {
    for (at, regret) in (from..).zip(regrets) {
        if !crowd[at] {
            continue;
        }
        let stage = &instance.stages[at];
        if answers.asides[at] != UNKNOWN {
            *regret = answers.asides[at].saturating_sub(answers.values[at]);
            continue;
        }
        let options = stage.options.start as usize..stage.options.end as usize;
        let counts = &answers.counts[options.clone()];
        let mut taken = options.zip(counts).filter(|&(_, &count)| count > 0);
        if taken.any(|(option, _)| extra(instance, stage, option, prices) > 0) {
            let without = oracle.solve(
                instance,
                at,
                &Ask {
                    prices,
                    room: closed,
                    ..Ask::default()
                },
            );
            *regret = without.value.saturating_sub(answers.values[at]);
        }
    }
}

#[cfg(test)]
mod tests;
