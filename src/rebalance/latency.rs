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

#![allow(clippy::similar_names, reason = "`state` and `stage` are the words of the field")]

mod queue;
mod split;

use std::collections::{BTreeMap, BTreeSet};

use self::queue::Queue;
use self::split::{Choice, Node};
use super::decision::{Lack, Prospect, Trigger};
use super::demand::{self, Range, Rescale};
use super::oracle::Need;
use super::plan::{price, variants_of};
use super::state::State;
use super::world::{Key, Objective, PipelineIdx, StageIdx, Traffic, Variant, World};

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
    sight: Sight,
    found: Found,
    /// Capacity that it asks for, by stage; absent where it adds nothing.
    wanted: BTreeMap<Key, u64>,
    prospect: Prospect,
}

/// The stages of a pipeline as queues.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sight {
    nodes: Vec<Node>,
    /// Relative change of load below which nothing happens, thousandths, by stage.
    tolerances: Vec<u64>,
}

/// What ran when the stages of a pipeline were first seen. It may have been chosen for the same load before a restart, when
/// levels were held elsewhere within the tolerance.
#[derive(Clone, Debug, Default)]
enum Found {
    /// Not all stages have been seen yet.
    #[default]
    Unseen,
    /// So many replicas of the variant used first under so many thousandths of requests per second, by stage.
    Left(Vec<(u64, u32)>),
    /// Load has changed since.
    Outdated,
}

impl Memory {
    /// What is not in the world any more is forgotten.
    pub(super) fn keep_only(&mut self, world: &World) {
        let stages: BTreeSet<Key> = world.stages.iter().map(|stage| stage.key).collect();
        let pipelines: BTreeSet<Key> = world.pipelines.iter().map(|pipeline| pipeline.key).collect();
        self.stages.retain(|key, _| stages.contains(key));
        self.pipelines.retain(|key, _| pipelines.contains(key));
    }

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

    /// A stage's demand is measured in another capacity now.
    pub(super) fn rescale(&mut self, stage: Key, ratio: Rescale) {
        if let Some(headroom) = self.stages.get_mut(&stage) {
            headroom.sensed = ratio.of(headroom.sensed);
            headroom.asked = ratio.of(headroom.asked);
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

/// Raises what stages need so that the objectives of their pipelines are kept, of those that this step looks at.
pub(super) fn keep(state: &mut State) {
    for pipeline in state.due.pipelines().to_vec() {
        keep_one(state, pipeline);
    }
}

fn keep_one(state: &mut State, at: usize) {
    let Some((key, objective)) = (state.world.pipelines.get(at)).map(|pipeline| (pipeline.key, pipeline.objective))
    else {
        return;
    };
    let last = state.latency.pipelines.remove(&key);
    if objective.is_none() && last.is_none() {
        return;
    }
    let stages = state.due.stages_of(at).to_vec();
    let split = objective.map(|objective| {
        let found = last.as_ref().map(|last| last.found.clone()).unwrap_or_default();
        match sight(state, &stages) {
            Ok(sight) => match &last {
                Some(last) if last.objective == objective && last.sight == sight => last.clone(),
                _ => split(state, &stages, objective, (sight, found)),
            },
            Err(prospect) => Split {
                objective,
                sight: Sight::default(),
                found,
                wanted: BTreeMap::new(),
                prospect,
            },
        }
    });
    let edited = last.map(|last| last.objective) != objective;
    for at in stages {
        raise(state, at, split.as_ref(), edited);
    }
    if let Some(split) = split {
        state.latency.pipelines.insert(key, split);
    }
}

/// What is asked of one stage from now on, and whether that differs from before by the objective alone.
fn raise(state: &mut State, at: usize, split: Option<&Split>, edited: bool) {
    let (Some(stage), Some(memory)) = (state.world.stages.get(at), state.stages.get_mut(at)) else {
        return;
    };
    let last = state.latency.stages.remove(&stage.key);
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
        memory.set_off(match (edited, asked > was) {
            (true, _) => Trigger::SpecChanged,
            (false, true) => Trigger::DemandRose,
            (false, false) => Trigger::DemandFell,
        });
    }
    memory.ask.need.demand = asked;
}

/// Splits an objective over the stages of one pipeline.
fn split(state: &State, stages: &[usize], objective: Objective, (sight, found): (Sight, Found)) -> Split {
    let target_us = objective.latency_ms.saturating_mul(1_000);
    let tail_permille = tail_permille(objective.percentile);
    let latency_ms = |us: u64| us.div_ceil(1_000);
    let found = match found {
        Found::Unseen => Found::Left(running(state, stages, &sight.nodes)),
        Found::Left(left) if sight.is_like(&left) => Found::Left(left),
        _ => Found::Outdated,
    };
    let mut wanted = BTreeMap::new();
    let prospect = match split::choose(&sight.nodes, target_us, tail_permille) {
        Choice::OutOfReach(us) => Prospect::OutOfReach(latency_ms(us)),
        Choice::Kept(mut replicas) => {
            if let Found::Left(left) = &found
                && let Some(left) = sight.fair(left, target_us, tail_permille)
            {
                replicas = left;
            }
            for ((node, &count), &at) in sight.nodes.iter().zip(&replicas).zip(stages) {
                if let Some(stage) = state.world.stages.get(at).filter(|_| count > node.least) {
                    let capacity = u128::from(count) * u128::from(node.queue.capacity_millis);
                    wanted.insert(stage.key, demand::cut(capacity));
                }
            }
            Prospect::Kept(latency_ms(split::estimate(&sight.nodes, &replicas, tail_permille)))
        }
    };
    Split {
        objective,
        sight,
        found,
        wanted,
        prospect,
    }
}

impl Sight {
    /// Load of a stage as low and as high as its level may have been held, if `rate_millis` was seen.
    fn band(&self, at: usize, rate_millis: u64) -> Range {
        let tolerance = self.tolerances.get(at).copied().unwrap_or(0);
        let seen = Range {
            low: rate_millis,
            high: rate_millis,
        };
        Range {
            low: seen.scaled(1_000, 1_000 + tolerance).low,
            high: seen.scaled(1_000, 1_000 - tolerance).high,
        }
    }

    /// Whether load is still what it was.
    fn is_like(&self, left: &[(u64, u32)]) -> bool {
        let within = |(at, (node, &(rate_millis, _))): (usize, (&Node, &(u64, u32)))| {
            let band = self.band(at, rate_millis);
            (band.low..=band.high).contains(&node.queue.rate_millis)
        };
        left.len() == self.nodes.len() && self.nodes.iter().zip(left).enumerate().all(within)
    }

    /// What was found, if it may have been chosen: it keeps the target under the least load that may have been held, and
    /// costs no more than what would be chosen under the most.
    fn fair(&self, left: &[(u64, u32)], target_us: u64, tail_permille: u64) -> Option<Vec<u32>> {
        let under = |of: fn(Range) -> u64| {
            let mut nodes = self.nodes.clone();
            for (at, (node, &(rate_millis, _))) in nodes.iter_mut().zip(left).enumerate() {
                node.queue.rate_millis = of(self.band(at, rate_millis));
            }
            nodes
        };
        let replicas = self
            .nodes
            .iter()
            .zip(left)
            .map(|(node, &(_, found))| found.max(node.least));
        let replicas: Vec<u32> = replicas.collect();
        let (quiet, busy) = (under(|band| band.low), under(|band| band.high));
        if split::estimate(&quiet, &replicas, tail_permille) > target_us {
            return None;
        }
        let fair = match split::choose(&busy, target_us, tail_permille) {
            Choice::Kept(most) => split::cost(&busy, &replicas) <= split::cost(&busy, &most),
            Choice::OutOfReach(_) => true,
        };
        fair.then_some(replicas)
    }
}

/// Load of the stages, and what they ask for now in replicas of the variant that each would use first.
fn running(state: &State, stages: &[usize], nodes: &[Node]) -> Vec<(u64, u32)> {
    let of = |(&at, node): (&usize, &Node)| {
        let range = variants_of(&state.world, at);
        let declared = state.world.variants.get(range.clone()).unwrap_or_default();
        let seen = state.variants.get(range).unwrap_or_default();
        let capacity = declared.iter().zip(seen).fold(0_u128, |sum, (variant, seen)| {
            sum + u128::from(seen.desired()) * u128::from(demand::capacity(variant))
        });
        let replicas = capacity / u128::from(node.queue.capacity_millis.max(1));
        (node.queue.rate_millis, u32::try_from(replicas).unwrap_or(u32::MAX))
    };
    stages.iter().zip(nodes).map(of).collect()
}

/// The stages of a pipeline as queues, or why they cannot be seen as such.
fn sight(state: &State, stages: &[usize]) -> Result<Sight, Prospect> {
    let mut sight = Sight::default();
    for &at in stages {
        let index = StageIdx(u32::try_from(at).unwrap_or(u32::MAX));
        let unseen = Prospect::Unseen(index);
        let (stage, memory) = state.world.stages.get(at).zip(state.stages.get(at)).ok_or(unseen)?;
        let variants = state
            .world
            .variants
            .get(variants_of(&state.world, at))
            .unwrap_or_default();
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
        // A level that was taken from what was found has its headroom already: the load behind it counts.
        let load = u128::from(memory.level.found().unwrap_or(need.demand)) * u128::from(demand::target(stage));
        sight.tolerances.push(u64::from(stage.tolerance_permille.min(999)));
        let least = u32::try_from(need.demand.div_ceil(capacity_millis))
            .unwrap_or(u32::MAX)
            .max(need.floor);
        let room = variants
            .iter()
            .fold(0_u32, |sum, variant| sum.saturating_add(variant.max));
        sight.nodes.push(Node {
            queue: Queue {
                rate_millis: demand::cut(load.div_ceil(1_000)),
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
    Ok(sight)
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
        if order.then(tie(one).cmp(&tie(best))).is_lt() {
            one
        } else {
            best
        }
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
