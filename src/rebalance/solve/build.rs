//! A plan from prices: every stage takes its answer, in the order of who would lose most by coming late.
//!
//! At good prices nearly all answers fit side by side: only stages that are close to indifferent push a pool over its
//! room. So the order matters little for most and much for few. Classes go by priority; inside a class the stage that
//! loses most without the pools that have a price (its regret) goes first. Whoever does not fit any more asks again,
//! with the room that is left and the same prices: they tell what taking a short pool costs the others.
//!
//! Floors of late stages must not fall to the demand of early ones. That is rare, so it is looked at afterwards: if a
//! floor is missed, everything is built again with all floors set aside first.

use super::dual::Evaluation;
use super::instance::{Instance, SHORT};
use super::oracle::{Ask, Oracle, extra};
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
    let order = order(instance, prices, answers, oracles);
    let Some(oracle) = oracles.first_mut() else { return };
    for &at in &order {
        give(instance, at as usize, prices, answers, oracle, plan);
    }
    let missed = (0..instance.stages.len()).any(|at| plan.values[at] >= SHORT && answers.values[at] < SHORT);
    if missed {
        set_floors_aside(instance, &order, prices, answers, oracle, plan);
    }
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
    let room = std::mem::take(&mut plan.room);
    oracle.solve(
        instance,
        at,
        &Ask {
            prices,
            room: &room,
            demand: None,
        },
    );
    plan.room = room;
    place_if_fits(instance, at, oracle, plan);
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

/// Stages by class, then regret, then place.
fn order(instance: &Instance, prices: &[u64], answers: &Evaluation, oracles: &mut [Oracle]) -> Vec<u32> {
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
                regret(instance, prices, &closed, answers, part * share, regrets, oracle);
            }
        } else {
            let closed = &closed;
            std::thread::scope(|scope| {
                for (part, (regrets, oracle)) in parts {
                    scope.spawn(move || regret(instance, prices, closed, answers, part * share, regrets, oracle));
                }
            });
        }
    }
    let mut order: Vec<(u16, i64, u32)> = (0..)
        .zip(regrets.iter().zip(&instance.stages))
        .map(|(at, (&regret, stage))| (u16::MAX - stage.priority, -regret, at))
        .collect();
    order.sort_unstable();
    order.into_iter().map(|(_, _, at)| at).collect()
}

fn oracles_in_use(stages: usize, share: usize) -> usize {
    stages.div_ceil(share).max(1)
}

/// What stages lose if nothing that has a price is to be had.
fn regret(
    instance: &Instance,
    prices: &[u64],
    closed: &[i64],
    answers: &Evaluation,
    from: usize,
    regrets: &mut [i64],
    oracle: &mut Oracle,
) {
    for (at, regret) in (from..).zip(regrets) {
        let stage = &instance.stages[at];
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
                    demand: None,
                },
            );
            *regret = without.value.saturating_sub(answers.values[at]);
        }
    }
}
