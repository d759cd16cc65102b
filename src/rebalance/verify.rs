//! An independent check of every decision before it leaves, with arithmetic of its own: what it finds is a defect of
//! the planner. The decision is dropped, the stage reports it, the process goes on.

use super::decision::Decision;
use super::world::{Mode, VariantIdx, World};

/// What a decision would violate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// A variant that is not the stage's, twice the same, or starting from a count that is not the observed one.
    Inconsistent,
    /// A direction that the mode forbids.
    Mode,
    /// More replicas on a variant than it may have.
    VariantCeiling,
    /// More replicas of a stage than its bound and surge allow.
    StageCeiling,
    /// Fewer replicas, or fewer Ready ones, than the floor.
    Floor,
    /// Fewer on reliable pools than the floor.
    ReliableFloor,
    /// More than a pool has, while it grows there.
    Capacity,
    /// More than a pipeline may cost, while it grows.
    Budget,
}

/// What is observed of one variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) desired: u32,
    /// Asked for whether or not writes on their way arrive.
    pub(super) certain: u32,
    /// Asked for at most, whether or not writes on their way arrive.
    pub(super) most: u32,
    /// Ready among them.
    pub(super) ready: u32,
    /// Replicas that may still hold resources, those that are going included.
    pub(super) held: u32,
}

/// Checks one decision against the replicas there are. `floor` is the stage's floor now: its `min`, or zero where idle
/// is proven.
pub(super) fn verify(world: &World, observed: &[Observed], decision: &Decision, floor: u32) -> Result<(), Violation> {
    let Some(stage) = world.stages.get(decision.stage.0 as usize) else {
        return Err(Violation::Inconsistent);
    };
    let seen = |variant: VariantIdx| observed.get(variant.0 as usize).copied().unwrap_or_default();
    let after = |variant: VariantIdx| {
        decision
            .moves
            .iter()
            .find(|one| one.variant == variant)
            .map_or(seen(variant).desired, |one| one.to)
    };
    let mode = world
        .pipelines
        .get(stage.pipeline.0 as usize)
        .map_or(Mode::Paused, |pipeline| pipeline.mode);
    for (at, one) in decision.moves.iter().enumerate() {
        let Some(variant) = world.variants.get(one.variant.0 as usize) else {
            return Err(Violation::Inconsistent);
        };
        let twice = decision.moves.iter().take(at).any(|other| other.variant == one.variant);
        if variant.stage != decision.stage || twice || one.from == one.to || one.from != seen(one.variant).desired {
            return Err(Violation::Inconsistent);
        }
        let grows = one.to > one.from;
        let forbidden = match mode {
            Mode::Paused => true,
            Mode::NoScaleIn => !grows,
            Mode::NoScaleOut => grows,
            Mode::Automatic | Mode::Advisory => false,
        };
        if forbidden {
            return Err(Violation::Mode);
        }
        if grows && one.to > variant.max {
            return Err(Violation::VariantCeiling);
        }
    }
    let mine = || {
        (0_u32..)
            .zip(&world.variants)
            .filter(|(_, variant)| variant.stage == decision.stage)
    };
    let is_reliable = |pool: u32| world.pools.get(pool as usize).is_some_and(|pool| pool.reliable);
    let mut before_all = Tally::default();
    let mut after_all = Tally::default();
    for (at, variant) in mine() {
        let (index, now) = (VariantIdx(at), seen(VariantIdx(at)));
        before_all.add(now.certain, now.ready, is_reliable(variant.pool.0));
        // Growth may fail while the shrinking that follows is written: it does not hold a floor.
        let kept = after(index).min(now.certain);
        after_all.add(kept, now.ready.min(kept), is_reliable(variant.pool.0));
    }
    let least = u64::from(floor.min(stage.max));
    if after_all.desired < least.min(before_all.desired) || after_all.ready < least.min(before_all.ready) {
        return Err(Violation::Floor);
    }
    let least = u64::from(stage.reliable_min.min(stage.max));
    let kept = |after: u64, before: u64| after >= least.min(before);
    if !kept(after_all.desired_reliable, before_all.desired_reliable)
        || !kept(after_all.ready_reliable, before_all.ready_reliable)
    {
        return Err(Violation::ReliableFloor);
    }
    // At every instant between the writes, that is with the larger of old and new.
    let most = |at: u32| u64::from(seen(VariantIdx(at)).most);
    let highest: u64 = mine()
        .map(|(at, _)| most(at).max(u64::from(after(VariantIdx(at)))))
        .sum();
    let before: u64 = mine().map(|(at, _)| most(at)).sum();
    let ceiling = u64::from(stage.max).saturating_add(u64::from(stage.max_surge.max(1)));
    if highest > before && highest > ceiling {
        return Err(Violation::StageCeiling);
    }
    resources(world, observed, decision)
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    desired: u64,
    ready: u64,
    desired_reliable: u64,
    ready_reliable: u64,
}

impl Tally {
    fn add(&mut self, desired: u32, ready: u32, reliable: bool) {
        self.desired += u64::from(desired);
        self.ready += u64::from(ready);
        if reliable {
            self.desired_reliable += u64::from(desired);
            self.ready_reliable += u64::from(ready);
        }
    }
}

fn resources(world: &World, observed: &[Observed], decision: &Decision) -> Result<(), Violation> {
    let count = |at: usize| {
        let seen = observed.get(at).copied().unwrap_or_default();
        let moved = decision
            .moves
            .iter()
            .find(|one| one.variant.0 as usize == at)
            .map_or(0, |one| one.to);
        u128::from(seen.desired.max(seen.held).max(moved))
    };
    for grown in decision.moves.iter().filter(|one| one.to > one.from) {
        let Some(variant) = world.variants.get(grown.variant.0 as usize) else {
            return Err(Violation::Inconsistent);
        };
        let Some(pool) = world.pools.get(variant.pool.0 as usize) else {
            return Err(Violation::Capacity);
        };
        let (mut cpu, mut memory, mut device) = (0, 0, 0);
        for (at, other) in world
            .variants
            .iter()
            .enumerate()
            .filter(|(_, other)| other.pool == variant.pool)
        {
            cpu += u128::from(other.request.cpu_millis) * count(at);
            memory += u128::from(other.request.memory_kib) * count(at);
            device += u128::from(other.request.device_millis) * count(at);
        }
        let asks = variant.request;
        let exceeds = (asks.cpu_millis > 0 && cpu > u128::from(pool.capacity.cpu_millis))
            || (asks.memory_kib > 0 && memory > u128::from(pool.capacity.memory_kib))
            || (asks.device_millis > 0 && device > u128::from(pool.capacity.device_millis));
        if exceeds {
            return Err(Violation::Capacity);
        }
    }
    let pipeline = world.stages.get(decision.stage.0 as usize).map(|stage| stage.pipeline);
    let budget = pipeline
        .and_then(|index| world.pipelines.get(index.0 as usize))
        .and_then(|found| found.budget_micros);
    let grows_at_cost = decision.moves.iter().filter(|one| one.to > one.from).any(|one| {
        world
            .variants
            .get(one.variant.0 as usize)
            .is_some_and(|variant| variant.cost_micros > 0)
    });
    if let (Some(budget), true) = (budget, grows_at_cost) {
        let belongs = |stage: u32| world.stages.get(stage as usize).map(|stage| stage.pipeline) == pipeline;
        let cost: u128 = (world.variants.iter().enumerate())
            .filter(|(_, variant)| belongs(variant.stage.0))
            .map(|(at, variant)| u128::from(variant.cost_micros) * count(at))
            .sum();
        if cost > u128::from(budget) {
            return Err(Violation::Budget);
        }
    }
    Ok(())
}
