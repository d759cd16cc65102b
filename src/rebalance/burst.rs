//! Room that is kept up for bursts.
//!
//! No replica serves before it has started, and on a pool that grows by nodes not before its node has come. How far a demand
//! will rise meanwhile nobody knows; how far it rose within such a time during the last hour is known. The room for that can be
//! kept on nodes that are up. It is room, not replicas: a replica serves one stage, room serves whoever needs it first. So
//! what is kept on a pool is for the largest burst of any one stage, not for the sum of all, and a burst is looked for
//! between what a stage is planned for now and the most it was planned for within the hour: what has come and stayed is served by
//! replicas, and what never came is nobody's guess here.
//!
//! Where a burst would go is asked of the same oracle that plans stages, at what pools and ceilings have left. Nothing here decides
//! anything: a replica that starts early is planned like any other.

#![allow(clippy::similar_names, reason = "`state` and `stage` are the words of the field")]

use std::collections::BTreeMap;

use super::demand::capacity;
use super::history::{Extreme, Window};
use super::ledger::{self, Ledger};
use super::oracle::Item;
use super::plan::{Plan, price, variants_of};
use super::spend::Spend;
use super::state::State;
use super::step::{HOUR_MS, mode};
use super::world::{Mode, PoolIdx, Resources, StageIdx};

/// A pool on which room is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// The pool.
    pub pool: PoolIdx,
    /// What one node has room for.
    pub node: Resources,
    /// Most nodes' worth that is kept.
    pub nodes: u32,
    /// Time until a replica serves for which a node has to come first.
    pub within_ms: u64,
}

/// What is to be kept on a pool: so many times so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The pool.
    pub pool: PoolIdx,
    /// One part: as much as the largest replica requests that may come, of each resource.
    pub part: Resources,
    /// Parts.
    pub parts: u32,
    /// The stage whose burst takes the most parts.
    pub stage: StageIdx,
    /// Replicas of that stage for which this is the room.
    pub replicas: u32,
    /// By how much its demand rose at the most within [`Keep::within_ms`].
    pub rise: u64,
    /// See there.
    pub within_ms: u64,
    /// All that the burst would take is kept; else [`Keep::nodes`] are too few.
    pub whole: bool,
}

/// What is remembered of a stage.
#[derive(Clone, Debug)]
pub(super) struct Burst {
    /// Its demand when it was last looked at: it has been that ever since.
    last: u64,
    lowest: Window,
    rises: Window,
    highest: Window,
}

impl Burst {
    fn new(demand: u64) -> Self {
        Self {
            last: demand,
            lowest: Window::new(Extreme::Lowest),
            rises: Window::new(Extreme::Highest),
            highest: Window::new(Extreme::Highest),
        }
    }

    fn note(&mut self, demand: u64, within_ms: u64, now_ms: u64) {
        self.lowest.push(now_ms, within_ms, self.last);
        let lowest = self.lowest.push(now_ms, within_ms, demand);
        self.rises.push(now_ms, HOUR_MS, demand - lowest.min(demand));
        self.highest.push(now_ms, HOUR_MS, demand);
        self.last = demand;
    }

    /// How far the demand may rise again, and the largest rise that says so.
    fn ahead(&mut self, demand: u64, now_ms: u64) -> (u64, u64) {
        let rise = self.rises.push(now_ms, HOUR_MS, 0);
        let highest = self.highest.push(now_ms, HOUR_MS, demand);
        (rise.min(highest - demand), rise)
    }

    /// Capacity is another now: what was measured in it is converted.
    pub(super) fn scale(&mut self, of: impl Fn(u64) -> u64) {
        self.last = of(self.last);
        for window in [&mut self.lowest, &mut self.rises, &mut self.highest] {
            window.scale(&of);
        }
    }
}

/// Notes the demand of those stages that a step looks at.
pub(super) fn note(state: &mut State, due: &[usize], now_ms: u64) {
    if state.keeps.is_empty() {
        return;
    }
    for &at in due {
        let within_ms = within_ms(state, at);
        let Some(memory) = state.stages.get_mut(at) else {
            continue;
        };
        let known = memory.senses.observed && !memory.senses.blind && !memory.senses.fallback;
        match within_ms {
            None => memory.burst = None,
            Some(_) if !known => {}
            Some(within_ms) => {
                let demand = memory.ask.need.demand;
                let burst = memory.burst.get_or_insert_with(|| Box::new(Burst::new(demand)));
                burst.note(demand, within_ms, now_ms);
            }
        }
    }
}

/// The longest time that a node takes to come among the pools on which room is kept and the stage may run.
fn within_ms(state: &State, stage: usize) -> Option<u64> {
    let variants = state.world.variants.get(variants_of(&state.world, stage))?;
    let kept = state
        .keeps
        .iter()
        .filter(|keep| variants.iter().any(|one| one.pool == keep.pool));
    kept.map(|keep| keep.within_ms).max()
}

impl State {
    /// On which pools room is kept. Bursts are remembered from then on; to be said anew after each [`Event::World`], whose pools
    /// these are.
    ///
    /// [`Event::World`]: super::world::Event::World
    pub fn keep_rooms(&mut self, keeps: Vec<Keep>) {
        if keeps.is_empty() {
            self.stages.iter_mut().for_each(|memory| memory.burst = None);
        }
        self.keeps = keeps;
    }

    /// What room is to be kept now, by pool. Nothing where no demand rose within the hour, or none may rise again.
    pub fn rooms(&mut self, now_ms: u64) -> Vec<Room> {
        if self.keeps.is_empty() {
            return Vec::new();
        }
        let Some(plan) = self.plan.take() else {
            return Vec::new();
        };
        let mut wanted: BTreeMap<u32, Vec<Wanted>> = BTreeMap::new();
        for at in 0..self.stages.len() {
            want(self, &plan, at, now_ms, &mut wanted);
        }
        self.plan = Some(plan);
        let rooms = self.keeps.iter().filter_map(|keep| {
            let wanted = wanted.get(&keep.pool.0)?;
            shared(keep, wanted)
        });
        rooms.collect()
    }
}

/// What one stage's burst would take of one pool.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    stage: StageIdx,
    request: Resources,
    replicas: u32,
    rise: u64,
}

/// Where the burst of a stage would go.
fn want(state: &mut State, plan: &Plan, at: usize, now_ms: u64, wanted: &mut BTreeMap<u32, Vec<Wanted>>) {
    let Some((stage, memory)) = state.world.stages.get(at).zip(state.stages.get_mut(at)) else {
        return;
    };
    let pipeline = stage.pipeline.0 as usize;
    let grows = matches!(
        mode(state.world.pipelines.get(pipeline)),
        Mode::Automatic | Mode::NoScaleIn
    );
    let demand = memory.ask.need.demand;
    let Some((ahead, rise)) = memory.burst.as_mut().map(|burst| burst.ahead(demand, now_ms)) else {
        return;
    };
    if ahead == 0 || !grows {
        return;
    }
    let mut need = memory.ask.need;
    need.demand = demand.saturating_add(ahead);
    let range = variants_of(&state.world, at);
    let counts = plan.counts.get(range.clone()).unwrap_or_default();
    let variants = state.world.variants.get(range.clone()).unwrap_or_default();
    let bounds = state.variants.get(range).unwrap_or_default();
    let mut left: Ledger = plan.ledger.clone();
    for (variant, &count) in variants.iter().zip(counts) {
        left.give(pipeline, variant, count);
    }
    let items: Vec<Item> = variants
        .iter()
        .zip(counts)
        .zip(bounds)
        .map(|((variant, &count), memory)| Item {
            price: price(variant),
            capacity: capacity(variant),
            cost: Spend::of(variant),
            reliable: (state.world.pools.get(variant.pool.0 as usize)).is_some_and(|pool| pool.reliable),
            current: count,
            lower: count,
            upper: memory.bound.upper.min(variant.max).min(left.room(variant)).max(count),
        })
        .collect();
    state.oracle.solve(&items, &need, left.budget(pipeline));
    for ((variant, &count), &then) in variants.iter().zip(counts).zip(&state.oracle.counts) {
        if then > count {
            wanted.entry(variant.pool.0).or_default().push(Wanted {
                stage: StageIdx(u32::try_from(at).unwrap_or(u32::MAX)),
                request: variant.request,
                replicas: then - count,
                rise,
            });
        }
    }
}

/// One room for all: parts into which every replica fits that may come, as many as the stage takes that takes the most.
fn shared(keep: &Keep, wanted: &[Wanted]) -> Option<Room> {
    let part = wanted.iter().fold(Resources::default(), |part, one| Resources {
        cpu_millis: part.cpu_millis.max(one.request.cpu_millis),
        memory_kib: part.memory_kib.max(one.request.memory_kib),
        device_millis: part.device_millis.max(one.request.device_millis),
    });
    let parts = |one: &Wanted| one.replicas.div_ceil(ledger::fit(&part, &one.request).max(1));
    // Of equal ones the first as declared.
    let most = wanted.iter().rev().max_by_key(|one| parts(one))?;
    let fitting = ledger::fit(&keep.node, &part).saturating_mul(keep.nodes);
    let kept = parts(most).min(fitting);
    (kept > 0).then_some(Room {
        pool: keep.pool,
        part,
        parts: kept,
        stage: most.stage,
        replicas: most.replicas,
        rise: most.rise,
        within_ms: keep.within_ms,
        whole: kept == parts(most),
    })
}

#[cfg(test)]
mod tests;
