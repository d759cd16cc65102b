//! An end-to-end latency objective becomes headroom of stages: more capacity where that saves most time per price.
//!
//! # Model
//!
//! A stage is a queue. Its demand says what arrives, the declared `capacity` and `concurrency` of the variant that would be
//! used first say how many requests a replica takes at once and for how long (Little's law: `concurrency / capacity`, the
//! time on a replica whose slots are all busy). Where replicas pull they have one queue, elsewhere each has its own and an
//! equal share. `queue` computes the mean wait of an M/M/c system; `split` chooses the replicas.
//!
//! A request passes a stage when all callers are done with it; calls to one stage are made at once. Its latency is the
//! longest path through the stages of
//!
//! ```text
//! S_s + k · E[W_s]        k = 1 / (e (1 − p))
//! ```
//!
//! `S_s` is the time in service of a request of mean size: what an answer takes because it is long is no matter of
//! capacity. `k` turns mean waits into the wait that a share `p` of requests does not exceed. The wait of an M/M/c system has
//! the tail `C exp(−θ t)` with mean `C / θ`, and `θ t exp(−θ t)` is never more than `1/e`, so at `t = k C / θ` the tail is
//! never more than `1 − p`, for any load. For sums over stages the same factor is good up to a twenty-fifth of what may be
//! late (26 instead of 25 % at the 75th percentile, 5.003 instead of 5 % at the 95th), which the tests check; percentiles
//! below 75 are planned as 75, because near the median sums are longer than that.
//!
//! # What follows from it
//!
//! The stage's demand is raised to the capacity of the chosen replicas. It is never lowered: the declared utilization target
//! holds as well. The rest of the core knows nothing of latency.
//!
//! * Nothing is split while a stage of the pipeline declares no rate or no concurrency, or its demand is not known. What was
//!   asked for before a stage fell silent stays, as far as demand does not ask for more.
//! * An objective that all replicas which bounds and pools allow would miss changes nothing: no capacity is bought that
//!   does not keep it.
//!
//! Either is said ([`Prospect`]).
//!
//! # Limits
//!
//! Arrivals are taken for random (Poisson) and service times for exponential: bursts wait longer, equal requests shorter.
//! Every stage is planned as if all of its replicas ran on the variant that is cheapest per unit of capacity with the tier
//! hint counted in; what spills to a slower one takes longer than planned. An idle replica is faster than `S_s` says.
//! Start-up times, retries, networks and brokers add nothing. Headroom is demand like any other: where pools are short it
//! competes with what other stages need at the same priority.

mod queue;
mod split;

use std::collections::BTreeMap;

use self::queue::Queue;
use self::split::{Choice, Node};
use super::decision::{Lack, Prospect, Trigger};
use super::demand;
use super::oracle::Need;
use super::plan::{price, variants_of};
use super::state::State;
use super::world::{Key, Objective, PipelineIdx, StageIdx, Traffic, Variant};

/// Percentiles below are planned like this one.
const PERCENTILE_MIN: u32 = 75;
/// The largest that leaves anybody to be late.
const PERCENTILE_MAX: u32 = 99;
/// Millionths of Euler's number, rounded down.
const E_MICROS: u64 = 2_718_281;
/// Prices are cut here: the product with any capacity, and with any time and count, stays in 128 bits.
const PRICE_MAX: u64 = 1 << 50;

/// What is remembered of objectives: by stage what was asked for, by pipeline what it was asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    stages: BTreeMap<Key, Headroom>,
    pipelines: BTreeMap<Key, Split>,
}

/// The demand of a stage without and with what its pipeline's objective adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Headroom {
    sensed: u64,
    asked: u64,
}

/// The last split of a pipeline's objective, valid while its input stands still.
#[derive(Clone, Debug)]
struct Split {
    objective: Objective,
    nodes: Vec<Node>,
    /// Capacity that it asks for, by stage; absent where it adds nothing.
    wanted: BTreeMap<Key, u64>,
    prospect: Prospect,
}

impl Memory {
    /// What a stage needed in the last step, before its objective added to it.
    pub(super) fn without(&self, stage: Key, need: Need) -> Need {
        match self.stages.get(&stage) {
            Some(headroom) if headroom.asked == need.demand => Need {
                demand: headroom.sensed,
                ..need
            },
            _ => need,
        }
    }
}

impl State {
    /// Whether a pipeline's latency objective is planned for, after the last step; absent without an objective.
    pub fn prospect(&self, pipeline: PipelineIdx) -> Option<Prospect> {
        let key = self.world.pipelines.get(pipeline.0 as usize)?.key;
        self.latency.pipelines.get(&key).map(|split| split.prospect)
    }
}

/// Raises what stages need so that the objectives of their pipelines are kept.
pub(super) fn keep(state: &mut State) {
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    if state.world.pipelines.iter().any(|pipeline| pipeline.objective.is_some()) {
        for (at, stage) in state.world.stages.iter().enumerate() {
            groups.entry(stage.pipeline.0 as usize).or_default().push(at);
        }
    } else if state.latency.stages.is_empty() {
        return;
    }
    let before = std::mem::take(&mut state.latency);
    for (at, pipeline) in state.world.pipelines.iter().enumerate() {
        let (Some(objective), Some(stages)) = (pipeline.objective, groups.get(&at)) else {
            continue;
        };
        let last = before.pipelines.get(&pipeline.key);
        let split = match nodes(state, stages) {
            Ok(nodes) => match last {
                Some(last) if last.objective == objective && last.nodes == nodes => last.clone(),
                _ => split(state, stages, objective, nodes),
            },
            Err(prospect) => Split {
                objective,
                nodes: Vec::new(),
                wanted: BTreeMap::new(),
                prospect,
            },
        };
        state.latency.pipelines.insert(pipeline.key, split);
    }
    for at in 0..state.world.stages.len() {
        raise(state, &before, at);
    }
}

/// What is asked of one stage from now on, and whether that differs from before by the objective alone.
fn raise(state: &mut State, before: &Memory, at: usize) {
    let (Some(stage), Some(memory)) = (state.world.stages.get(at), state.stages.get_mut(at)) else {
        return;
    };
    let last = before.stages.get(&stage.key).copied();
    let pipeline = state.world.pipelines.get(stage.pipeline.0 as usize);
    let split = pipeline.and_then(|pipeline| state.latency.pipelines.get(&pipeline.key));
    let sensed = memory.ask.need.demand;
    let was = last.map_or(sensed, |last| if last.sensed == sensed { last.asked } else { sensed });
    let asked = match split {
        None => sensed,
        Some(split) if matches!(split.prospect, Prospect::Unseen(_)) => {
            // Missing is not zero: silence gives nothing back. Who is silent itself is counted by replicas.
            let held = last.filter(|_| !memory.senses.blind).map_or(0, |last| last.asked);
            sensed.max(held)
        }
        Some(split) => sensed.max(split.wanted.get(&stage.key).copied().unwrap_or(0)),
    };
    if split.is_some() {
        state.latency.stages.insert(stage.key, Headroom { sensed, asked });
    }
    if asked != was {
        memory.turn_over();
        state.changed |= asked > was;
        let edited = pipeline.is_none_or(|pipeline| {
            let known = before.pipelines.get(&pipeline.key).map(|split| split.objective);
            known != pipeline.objective
        });
        memory.set_off(match (edited, asked > was) {
            (true, _) => Trigger::SpecChanged,
            (false, true) => Trigger::DemandRose,
            (false, false) => Trigger::DemandFell,
        });
    }
    memory.ask.need.demand = asked;
}

/// Splits an objective over the stages of one pipeline.
fn split(state: &State, stages: &[usize], objective: Objective, nodes: Vec<Node>) -> Split {
    let target_us = objective.latency_ms.saturating_mul(1_000);
    let tail_permille = tail_permille(objective.percentile);
    let mut wanted = BTreeMap::new();
    let latency_ms = |us: u64| us.div_ceil(1_000);
    let prospect = match split::choose(&nodes, target_us, tail_permille) {
        Choice::OutOfReach(us) => Prospect::OutOfReach(latency_ms(us)),
        Choice::Kept(replicas) => {
            for ((node, &count), &at) in nodes.iter().zip(&replicas).zip(stages) {
                if let Some(stage) = state.world.stages.get(at).filter(|_| count > node.least) {
                    let capacity = u128::from(count) * u128::from(node.queue.capacity_millis);
                    wanted.insert(stage.key, demand::cut(capacity));
                }
            }
            Prospect::Kept(latency_ms(split::estimate(&nodes, &replicas, tail_permille)))
        }
    };
    Split {
        objective,
        nodes,
        wanted,
        prospect,
    }
}

/// The stages of a pipeline as queues, or why they cannot be seen as such.
fn nodes(state: &State, stages: &[usize]) -> Result<Vec<Node>, Prospect> {
    let mut nodes = Vec::with_capacity(stages.len());
    for &at in stages {
        let index = StageIdx(u32::try_from(at).unwrap_or(u32::MAX));
        let unseen = Prospect::Unseen(index);
        let (stage, memory) = state.world.stages.get(at).zip(state.stages.get(at)).ok_or(unseen)?;
        let variants = state.world.variants.get(variants_of(&state.world, at)).unwrap_or_default();
        let first = first(variants).ok_or(unseen)?;
        if !stage.rated {
            return Err(Prospect::Undeclared(index, Lack::Rate));
        }
        let slots = first.concurrency.filter(|&slots| slots > 0);
        let slots = slots.ok_or(Prospect::Undeclared(index, Lack::Concurrency))?;
        if memory.senses.blind || !memory.senses.observed {
            return Err(unseen);
        }
        let need = memory.ask.need;
        let capacity_millis = demand::capacity(first);
        let rate = u128::from(need.demand) * u128::from(demand::target(stage));
        let least = u32::try_from(need.demand.div_ceil(capacity_millis)).unwrap_or(u32::MAX).max(need.floor);
        let room = variants.iter().fold(0_u32, |sum, variant| sum.saturating_add(variant.max));
        nodes.push(Node {
            queue: Queue {
                rate_millis: demand::cut(rate.div_ceil(1_000)),
                capacity_millis,
                slots,
                shared: stage.traffic == Traffic::Pull,
            },
            least,
            most: room.min(need.ceiling).max(least),
            price: steering_price(first),
            callers: stage
                .after
                .iter()
                .filter_map(|edge| stages.iter().position(|&other| other == edge.from.0 as usize))
                .collect(),
        });
    }
    Ok(nodes)
}

/// The variant that a stage would use first: the cheapest per unit of capacity among those that may have replicas.
fn first(variants: &[Variant]) -> Option<&Variant> {
    let open = variants.iter().any(|variant| variant.max > 0);
    let usable = variants.iter().filter(|variant| variant.max > 0 || !open);
    usable.reduce(|best, one| {
        let value = |a: &Variant, b: &Variant| u128::from(steering_price(a)) * u128::from(demand::capacity(b));
        let order = value(one, best).cmp(&value(best, one));
        // Equals in price: the one with fewer slots is the faster one, and the larger one the rounder.
        let tie = |of: &Variant| (of.concurrency, std::cmp::Reverse(of.capacity_millis));
        if order.then(tie(one).cmp(&tie(best))).is_lt() { one } else { best }
    })
}

/// Price of a replica, small enough to be multiplied. Never zero.
fn steering_price(variant: &Variant) -> u64 {
    u64::try_from(price(variant)).unwrap_or(u64::MAX).clamp(1, PRICE_MAX)
}

/// What a mean wait counts for a percentile, thousandths, rounded up.
fn tail_permille(percentile: u32) -> u64 {
    let late_percent = u64::from(100 - percentile.clamp(PERCENTILE_MIN, PERCENTILE_MAX));
    (100 * 1_000 * 1_000_000_u64).div_ceil(E_MICROS * late_percent)
}

#[cfg(test)]
mod tests;
