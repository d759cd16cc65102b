//! What is published: the plan, what it costs, and the proof of how far it can be from the best.

use super::bottleneck;
use super::instance::{Instance, RESOURCES, SHORT};
use super::plan::Plan;

/// Why a stage does not get what it asks for, or how what it asks for was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Bounds contradict each other: `max` stood above `min`, and what must stay above `max`.
    Contradiction,
    /// What must stay exceeds the room of a pool or a ceiling; it stays, and nothing is added there.
    KeptBeyondRoom,
    /// It has no option that can get replicas.
    NoOption,
    /// All its options together, alone in the cluster, cannot serve its demand or keep its floors.
    BeyondReach,
    /// Its `max` replicas cannot serve its demand.
    Ceiling,
    /// Pools are short, and others need their room more.
    Room,
    /// A ceiling on money or power is reached.
    Budget,
    /// Serving more would cost more than its penalty says it is worth.
    NotWorthIt,
    /// Another stage of its pipeline serves less, so more capacity here would serve nobody.
    Bottleneck,
}

/// Price of one more unit of room: what the plan would save per unit, in prices of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priced {
    /// A pool's CPU (0), memory (1) or device (2).
    Pool {
        /// The caller's pool.
        pool: u32,
        /// Which resource.
        resource: usize,
    },
    /// A group's money ceiling.
    Money {
        /// The caller's group.
        group: u32,
    },
    /// A group's power ceiling.
    Power {
        /// The caller's group.
        group: u32,
    },
}

/// How much work went into a solution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Evaluations of the bound: one oracle call per stage each.
    pub evaluations: u32,
    /// Tries of improving the plan.
    pub tries: u32,
    /// Tries that did.
    pub successes: u32,
    /// Nodes that all oracle searches visited.
    pub nodes: u64,
}

/// A plan with its certificate. Indexed like the caller's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Solution {
    /// Replicas by option, all stages' options one after the other.
    pub counts: Vec<u32>,
    /// Demand that stays unserved end to end, by stage, thousandths.
    pub unserved: Vec<u64>,
    /// Replicas missing from floors, by stage.
    pub short: Vec<u32>,
    /// The objective, in prices of the caller: replicas, moves, penalties.
    pub cost: i128,
    /// The part of `cost` that is replicas and moves.
    pub price: i128,
    /// No plan has a smaller objective.
    pub bound: i128,
    /// `cost` above `bound`, millionths of `bound`, rounded up; none where `bound` is not above zero and `cost` is.
    pub gap_ppm: Option<u64>,
    /// Prices above zero: what, and 2^-24 of the caller's price per unit of it.
    pub prices: Vec<(Priced, u64)>,
    /// Reasons by stage, only where there are any, ascending by stage.
    pub reasons: Vec<(u32, Vec<Reason>)>,
    /// Work that went into it.
    pub effort: Effort,
}

/// Scaled cost of a plan, end to end.
pub(super) fn cost(instance: &Instance, plan: &Plan, unserved: &[u64]) -> i128 {
    let constant: i128 = instance.stages.iter().map(Instance::constant).sum();
    plan.total() + constant + bottleneck::surcharge(instance, plan, unserved)
}

/// The objective that `counts` come to (flat, by the caller's options), in prices of the caller. Replicas beyond what an
/// option may have count for nothing.
pub fn worth(instance: &Instance, counts: &[u32]) -> i128 {
    let mut plan = Plan::default();
    plan.reset(instance);
    let mut mine = Vec::new();
    for (at, stage) in instance.stages.iter().enumerate() {
        mine.clear();
        mine.extend(
            (stage.options.start as usize..stage.options.end as usize).map(|option| {
                let given = counts.get(instance.outer_option[option] as usize).copied().unwrap_or(0);
                given.saturating_sub(instance.base[option])
            }),
        );
        plan.place(instance, at, &mine);
    }
    ceil(
        cost(instance, &plan, &bottleneck::unserved(instance, &plan)),
        instance.scale,
    )
}

/// `cost` above `bound` in millionths of `bound`, rounded up; none where `bound` is not above zero and `cost` is.
pub fn gap_ppm(cost: i128, bound: i128) -> Option<u64> {
    if cost <= bound {
        return Some(0);
    }
    if bound <= 0 {
        return None;
    }
    let scaled = (cost - bound).checked_mul(1_000_000)?;
    u64::try_from((scaled + bound - 1) / bound).ok()
}

fn ceil(value: i128, scale: u32) -> i128 {
    -((-value) >> scale)
}

/// Puts a solution together. `bound` is scaled, `constants` the sum over stages.
pub(super) fn publish(
    instance: &Instance,
    prices: &[u64],
    plan: &Plan,
    bound: i128,
    constants: i128,
    effort: Effort,
    solution: &mut Solution,
) {
    solution.counts.resize(instance.options(), 0);
    solution.unserved.resize(instance.stages(), 0);
    solution.short.resize(instance.stages(), 0);
    solution.prices = priced(instance, prices);
    for at in 0..instance.stages() {
        copy(instance, plan, at, solution);
    }
    sum_up(instance, plan, bound, constants, effort, solution);
}

/// Copies the counts of one stage.
pub(super) fn copy(instance: &Instance, plan: &Plan, at: usize, solution: &mut Solution) {
    let options = &instance.stages[at].options;
    for option in options.start as usize..options.end as usize {
        solution.counts[instance.outer_option[option] as usize] = instance.base[option] + plan.counts[option];
    }
}

/// Cost and bound in the caller's unit, and the gap, from scaled ones.
pub(super) fn reported(instance: &Instance, cost: i128, bound: i128) -> (i128, i128, Option<u64>) {
    let bound = bound.min(cost);
    // Prices are whole in the caller's unit, and so is every cost, unless penalties had to be cut.
    let whole = if instance.is_whole() {
        ceil(bound, instance.scale)
    } else {
        bound >> instance.scale
    };
    (ceil(cost, instance.scale), whole, gap_ppm(cost, bound))
}

/// Everything of a solution but counts and prices. `constants` is the sum over stages.
pub(super) fn sum_up(
    instance: &Instance,
    plan: &Plan,
    bound: i128,
    constants: i128,
    effort: Effort,
    solution: &mut Solution,
) {
    let open = bottleneck::unserved(instance, plan);
    let cost = plan.total() + constants + bottleneck::surcharge(instance, plan, &open);
    (solution.cost, solution.bound, solution.gap_ppm) = reported(instance, cost, bound);
    solution.effort = effort;
    solution.reasons.clear();
    let mut lost = 0_i128;
    for (at, (&open, here)) in open.iter().zip(&plan.outcomes).enumerate() {
        let outer = instance.order.stages[at];
        solution.unserved[outer as usize] = open;
        let short = here.short + instance.stages[at].lost_floor;
        solution.short[outer as usize] = short;
        if open == 0 && short == 0 && instance.reasons[at].is_empty() {
            continue;
        }
        let mut reasons = instance.reasons[at].clone();
        if open > 0 || short > 0 {
            lost += i128::from(open) * i128::from(instance.stages[at].penalty) + i128::from(SHORT) * i128::from(short);
            explain(instance, at, plan, open, &mut reasons);
        }
        solution.reasons.push((outer, reasons));
    }
    solution.price = ceil(cost - lost, instance.scale);
    solution.reasons.sort_unstable_by_key(|&(stage, _)| stage);
}

fn explain(instance: &Instance, at: usize, plan: &Plan, open: u64, reasons: &mut Vec<Reason>) {
    let stage = &instance.stages[at];
    let options = stage.options.start as usize..stage.options.end as usize;
    let counts = plan.of(instance, at);
    let own = plan.outcomes[at];
    if options.clone().all(|option| instance.upper[option] == 0) {
        reasons.push(Reason::NoOption);
        return;
    }
    if counts.iter().sum::<u32>() >= stage.max {
        reasons.push(Reason::Ceiling);
        return;
    }
    if stage.beyond > 0 || stage.lost_floor > 0 {
        reasons.push(Reason::BeyondReach);
    }
    let (mut room, mut budget, mut free, mut wasted) = (false, false, false, false);
    for (option, &count) in options.zip(counts) {
        if count >= instance.upper[option] {
            continue;
        }
        let first = instance.pool[option] as usize * RESOURCES;
        let full = instance.request[option]
            .iter()
            .zip(&plan.room[first..])
            .any(|(&each, &room)| each > room);
        let held = instance.groups(stage).iter().any(|&group| {
            let dim = instance.group_dim(group);
            instance.cost[option] > plan.room[dim] || instance.power[option] > plan.room[dim + 1]
        });
        room |= full;
        budget |= held && !full;
        free |= !full && !held;
        // One more fits, and alone it would pay: its pipeline is what makes it useless.
        let (next, worth) = next_replica(instance, at, option, count, own.unserved);
        wasted |= !full && !held && stage.pipeline != u32::MAX && next < worth;
    }
    if wasted {
        reasons.push(Reason::Bottleneck);
        return;
    }
    if own.unserved > 0 || own.short > 0 {
        if room {
            reasons.push(Reason::Room);
        }
        if budget {
            reasons.push(Reason::Budget);
        }
        if free && own.short == 0 && stage.beyond == 0 {
            reasons.push(Reason::NotWorthIt);
        }
    }
    if open > stage.beyond.saturating_add(own.unserved.cast_unsigned()) {
        reasons.push(Reason::Bottleneck);
    }
    if reasons.is_empty() {
        reasons.push(if free { Reason::NotWorthIt } else { Reason::BeyondReach });
    }
}

/// Price of one more replica of an option, and what of `unserved` it would be worth.
fn next_replica(instance: &Instance, at: usize, option: usize, count: u32, unserved: i64) -> (i64, i64) {
    let stage = &instance.stages[at];
    let own = instance
        .pieces(stage)
        .iter()
        .filter(|piece| (stage.options.start + piece.option) as usize == option);
    let mut left = count;
    for piece in own {
        if left < piece.max {
            return (piece.price, stage.penalty.saturating_mul(piece.capacity.min(unserved)));
        }
        left -= piece.max;
    }
    (i64::MAX, 0)
}

pub(super) fn priced(instance: &Instance, prices: &[u64]) -> Vec<(Priced, u64)> {
    let mut all: Vec<(usize, Priced, u64)> = Vec::new();
    for (dim, &price) in prices.iter().enumerate() {
        if price == 0 {
            continue;
        }
        let pools = instance.pool_count * RESOURCES;
        let what = if dim < pools {
            Priced::Pool {
                pool: instance.order.pools[dim / RESOURCES],
                resource: dim % RESOURCES,
            }
        } else if (dim - pools).is_multiple_of(2) {
            Priced::Money {
                group: instance.order.groups[(dim - pools) / 2],
            }
        } else {
            Priced::Power {
                group: instance.order.groups[(dim - pools) / 2],
            }
        };
        let key = match what {
            Priced::Pool { pool, resource } => pool as usize * RESOURCES + resource,
            Priced::Money { group } => pools + group as usize * 2,
            Priced::Power { group } => pools + group as usize * 2 + 1,
        };
        all.push((key, what, price >> instance.scale));
    }
    all.sort_unstable_by_key(|&(key, _, _)| key);
    all.into_iter().map(|(_, what, price)| (what, price)).collect()
}
