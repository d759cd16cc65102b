//! An independent check of every decision before it leaves, with arithmetic of its own: what it finds is a defect of
//! the planner. The decision is dropped, the stage reports it, the process goes on.

use super::decision::Decision;
use super::world::{Ceilings, Mode, Resources, Variant, VariantIdx, World};

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
    /// More than a pipeline may draw, or an amount that nobody knows, while it grows.
    Power,
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

impl Observed {
    /// Replicas that hold resources now or may.
    fn occupies(self) -> u128 {
        u128::from(self.desired.max(self.held))
    }

    /// The same once a write is sent off: until it is observed, old and new both count.
    fn after(self, to: u32) -> Self {
        Self {
            desired: to,
            certain: self.certain.min(to),
            most: self.most.max(to),
            ready: self.ready.min(to),
            held: self.held.max(self.desired).max(to),
        }
    }
}

/// What is observed of all variants, with sums by pool and pipeline, so that checking a decision costs what the decision
/// is long and not what the world is wide.
#[derive(Clone, Debug, Default)]
pub(super) struct Books {
    observed: Vec<Observed>,
    /// Held on every pool: millicores, KiB, thousandths of a device.
    pools: Vec<[u128; 3]>,
    /// What every pipeline holds: its reported cost, and its power.
    taken: Vec<[u128; 2]>,
    /// The same of shared ceilings.
    shared: Vec<[u128; 2]>,
}

impl Books {
    /// Sums up what is observed. A variant without an entry has nothing.
    pub(super) fn new(world: &World, observed: Vec<Observed>) -> Self {
        let mut books = Self {
            pools: vec![[0; 3]; world.pools.len()],
            taken: vec![[0; 2]; world.pipelines.len()],
            shared: vec![[0; 2]; world.shared.len()],
            observed,
        };
        let held: Vec<u128> = books.observed.iter().map(|seen| seen.occupies()).collect();
        for (variant, count) in world.variants.iter().zip(held) {
            books.hold(world, variant, count);
        }
        books
    }

    /// Enters replicas that hold resources.
    fn hold(&mut self, world: &World, variant: &Variant, count: u128) {
        if let Some(pool) = self.pools.get_mut(variant.pool.0 as usize) {
            for (sum, each) in pool.iter_mut().zip(parts(variant.request)) {
                *sum += u128::from(each) * count;
            }
        }
        let pipeline = world
            .stages
            .get(variant.stage.0 as usize)
            .map(|stage| stage.pipeline.0 as usize);
        if let Some(taken) = pipeline.and_then(|at| self.taken.get_mut(at)) {
            add(taken, variant, count);
        }
        let shared = pipeline.and_then(|at| world.pipelines.get(at)?.shared);
        if let Some(taken) = shared.and_then(|at| self.shared.get_mut(at as usize)) {
            add(taken, variant, count);
        }
    }

    fn seen(&self, variant: VariantIdx) -> Observed {
        self.observed.get(variant.0 as usize).copied().unwrap_or_default()
    }

    /// Enters a decision that is about to be written.
    pub(super) fn enter(&mut self, world: &World, decision: &Decision) {
        for one in &decision.moves {
            let before = self.seen(one.variant);
            let after = before.after(one.to);
            let more = after.occupies() - before.occupies();
            if let Some(variant) = world.variants.get(one.variant.0 as usize) {
                self.hold(world, variant, more);
            }
            if let Some(slot) = self.observed.get_mut(one.variant.0 as usize) {
                *slot = after;
            }
        }
    }

    /// Checks one decision against the replicas there are. `floor` is the stage's floor now: its `min`, or zero where
    /// idle is proven. `planned` is where the stage is led, in the order of its variants: only replicas that are on their
    /// way out may exceed its ceiling.
    pub(super) fn verify(
        &self,
        world: &World,
        decision: &Decision,
        floor: u32,
        planned: &[u32],
    ) -> Result<(), Violation> {
        let Some(stage) = world.stages.get(decision.stage.0 as usize) else {
            return Err(Violation::Inconsistent);
        };
        let after = |variant: VariantIdx| {
            let moved = decision.moves.iter().find(|one| one.variant == variant);
            moved.map_or(self.seen(variant).desired, |one| one.to)
        };
        let mode = world
            .pipelines
            .get(stage.pipeline.0 as usize)
            .map_or(Mode::Paused, |pipeline| pipeline.mode);
        let (start, end) = stage.variants;
        for (at, one) in decision.moves.iter().enumerate() {
            let Some(variant) = world.variants.get(one.variant.0 as usize) else {
                return Err(Violation::Inconsistent);
            };
            let twice = decision.moves.iter().take(at).any(|other| other.variant == one.variant);
            let foreign = variant.stage != decision.stage || !(start..end).contains(&one.variant.0);
            if foreign || twice || one.from == one.to || one.from != self.seen(one.variant).desired {
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
            let range = start as usize..(end as usize).min(world.variants.len());
            (start..).zip(world.variants.get(range).unwrap_or_default())
        };
        let is_reliable = |pool: u32| world.pools.get(pool as usize).is_some_and(|pool| pool.reliable);
        let mut before_all = Tally::default();
        let mut after_all = Tally::default();
        for (at, variant) in mine() {
            let (index, now) = (VariantIdx(at), self.seen(VariantIdx(at)));
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
        let most = |at: u32| u64::from(self.seen(VariantIdx(at)).most);
        let highest: u64 = mine()
            .map(|(at, _)| most(at).max(u64::from(after(VariantIdx(at)))))
            .sum();
        let before: u64 = mine().map(|(at, _)| most(at)).sum();
        let moving: u64 = mine()
            .zip(planned)
            .map(|((at, _), &planned)| u64::from(self.seen(VariantIdx(at)).most.saturating_sub(planned)))
            .sum();
        let surge = u64::from(stage.max_surge.max(1)).min(moving);
        let ceiling = u64::from(stage.max).saturating_add(surge);
        if highest > before && highest > ceiling {
            return Err(Violation::StageCeiling);
        }
        self.resources(world, decision)
    }

    /// Room and budget, old and new side by side, wherever the decision grows.
    fn resources(&self, world: &World, decision: &Decision) -> Result<(), Violation> {
        let more =
            |variant: VariantIdx, to: u32| self.seen(variant).after(to).occupies() - self.seen(variant).occupies();
        let grown = || decision.moves.iter().filter(|one| one.to > one.from);
        for one in grown() {
            let Some(variant) = world.variants.get(one.variant.0 as usize) else {
                return Err(Violation::Inconsistent);
            };
            let at = variant.pool.0 as usize;
            let (Some(pool), Some(held)) = (world.pools.get(at), self.pools.get(at)) else {
                return Err(Violation::Capacity);
            };
            let mut used = *held;
            for other in grown() {
                let found = world.variants.get(other.variant.0 as usize);
                if let Some(beside) = found.filter(|beside| beside.pool == variant.pool) {
                    for (sum, each) in used.iter_mut().zip(parts(beside.request)) {
                        *sum += u128::from(each) * more(other.variant, other.to);
                    }
                }
            }
            let asks = parts(variant.request).into_iter();
            let limits = asks.zip(used).zip(parts(pool.capacity));
            if limits
                .into_iter()
                .any(|((asks, used), has)| asks > 0 && used > u128::from(has))
            {
                return Err(Violation::Capacity);
            }
        }
        let pipeline = world
            .stages
            .get(decision.stage.0 as usize)
            .map(|stage| stage.pipeline.0 as usize);
        let Some(declared) = pipeline.and_then(|at| world.pipelines.get(at)) else {
            return Ok(());
        };
        let own = pipeline.and_then(|at| self.taken.get(at)).copied().unwrap_or_default();
        let shared = declared.shared.map(|at| at as usize);
        let shared = shared.and_then(|at| Some((*world.shared.get(at)?, *self.shared.get(at)?)));
        let mut added = [0; 2];
        let (mut costs, mut draws, mut unknown) = (false, false, false);
        for one in grown() {
            let Some(variant) = world.variants.get(one.variant.0 as usize) else {
                continue;
            };
            costs |= variant.cost_micros > 0;
            draws |= variant.power_milliwatts != Some(0);
            unknown |= variant.power_milliwatts.is_none();
            add(&mut added, variant, more(one.variant, one.to));
        }
        let limits = Ceilings {
            budget_micros: declared.budget_micros,
            power_max_milliwatts: declared.power_max_milliwatts,
        };
        for (limits, [cost, power]) in std::iter::once((limits, own)).chain(shared) {
            let over = |most: u64| cost + added[0] > u128::from(most);
            if costs && limits.budget_micros.is_some_and(over) {
                return Err(Violation::Budget);
            }
            let over = |most: u64| unknown || power + added[1] > u128::from(most);
            if draws && limits.power_max_milliwatts.is_some_and(over) {
                return Err(Violation::Power);
            }
        }
        Ok(())
    }
}

/// Enters replicas: money, and power as far as it is known.
fn add(taken: &mut [u128; 2], variant: &Variant, count: u128) {
    let [cost, power] = taken;
    *cost += u128::from(variant.cost_micros) * count;
    *power += u128::from(variant.power_milliwatts.unwrap_or(0)) * count;
}

fn parts(resources: Resources) -> [u64; 3] {
    [resources.cpu_millis, resources.memory_kib, resources.device_millis]
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
