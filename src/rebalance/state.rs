//! Everything the core knows between two steps, and how events change it.

use std::collections::BTreeMap;

use super::also;
use super::burst::Keep;
use super::decision::{StageReport, Trigger};
use super::due::Due;
use super::edit::Before;
use super::latency;
use super::learn;
use super::oracle::Oracle;
use super::plan::{Ask, Plan, variants_of};
use super::propose::{Asked, CeilingPrice};
use super::sense::Offer;
use super::spend::{Spend, Sum};
use super::stage_memory::StageMemory;
use super::variant_memory::VariantMemory;
use super::verify::Violation;
use super::world::{Event, Key, PoolIdx, VariantIdx, World};

/// What the core knows: the world, what was observed, and bounded histories. Holds no assignment: what runs is observed.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(super) world: World,
    pub(super) stages: Vec<StageMemory>,
    pub(super) variants: Vec<VariantMemory>,
    pub(super) reports: Vec<StageReport>,
    /// The last plan, valid while nothing it was made from changes.
    pub(super) plan: Option<Plan>,
    /// What the stages asked of it.
    pub(super) planned_asks: Vec<Ask>,
    /// What ran when it was made.
    pub(super) planned_from: Vec<u32>,
    /// Something has changed since the start. Until then what runs is what was found, and where pools or budgets are short
    /// it is taken for the best that could be reached: whoever ran before knew more.
    pub(super) changed: bool,
    /// Worlds seen so far: a proposal for an older one is about other variants.
    pub(super) worlds: u64,
    /// What was last asked of those who plan aside.
    pub(super) asked: Option<Asked>,
    /// What they propose, by variant, and its gap. Looked at once.
    pub(super) proposal: Option<(Vec<u32>, Option<u64>)>,
    /// Gap of the plan in force while something is short, millionths.
    pub(super) gap_ppm: Option<u64>,
    /// What more room in pools that are short would save.
    pub(super) prices: Vec<(PoolIdx, u8, u64)>,
    /// And more of the ceilings that bind.
    pub(super) ceilings: Vec<CeilingPrice>,
    /// Nothing is learned of readings, see [`State::unlearning`].
    pub(super) unlearning: bool,
    pub(super) oracle: Oracle,
    /// On which pools room is kept for bursts.
    pub(super) keeps: Vec<Keep>,
    /// What pipelines take together of ceilings that they share, as last decided on.
    pub(super) together: Vec<Sum>,
    /// Latency objectives, and what they add to demand.
    pub(super) latency: latency::Memory,
    /// How late starts are on most pools, thousandths of what is expected; at least 1,000 once time has passed.
    pub(super) pace_permille: u64,
    /// Whom this step looks at.
    pub(super) due: Due,
    /// What every stage sends to those it calls, as last sensed.
    pub(super) offered: Vec<Offer>,
    /// By pipeline: a start takes longer than expected.
    pub(super) late: Vec<bool>,
    pub(super) next_id: u64,
    /// Decisions of the last step that failed their check, by stage.
    pub(super) violations: Vec<(usize, Violation)>,
    pub(super) wake_ms: Option<u64>,
}

impl State {
    /// Knows nothing yet. The first event must be a [`Event::World`].
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, and it stays with declared capacities and calls: to compare with.
    pub fn unlearning() -> Self {
        Self {
            unlearning: true,
            ..Self::default()
        }
    }

    /// The world as last replaced, with learned capacities in the place of declared ones. See [`State::declares`].
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What is known about a stage after the last step; absent for an index the world does not have.
    pub fn report(&self, stage: super::world::StageIdx) -> Option<&StageReport> {
        self.reports.get(stage.0 as usize)
    }

    /// What the pipelines take that share a pipeline's ceilings, as the last step found it: cost per hour in millionths, and
    /// milliwatts as far as they are known. Absent where it shares none, and where they keep them.
    pub fn exceeds_together(&self, pipeline: super::world::PipelineIdx) -> Option<(u128, u128)> {
        let at = self.world.pipelines.get(pipeline.0 as usize)?.shared? as usize;
        let (ceilings, taken) = (self.world.shared.get(at)?, self.together.get(at)?);
        (!taken.within(Spend::shared(ceilings))).then_some((taken.micros, taken.milliwatts))
    }

    /// When a step without any event may decide something: a window, a pause or a grace period ends. Readings and
    /// observations call for a step of their own.
    pub fn next_wake_ms(&self) -> Option<u64> {
        self.wake_ms
    }

    fn declared_startup_ms(&self, variant: VariantIdx) -> u64 {
        let declared = self.world.variants.get(variant.0 as usize);
        declared.map_or(0, |declared| declared.startup_ms)
    }

    pub(super) fn absorb(&mut self, event: &Event, now_ms: u64) {
        match event {
            Event::Replicas { variant, .. } | Event::Leaving { variant, .. } | Event::Dry { variant, .. } => {
                self.due.moved = true;
                self.touch(*variant);
            }
            Event::Started { variant, .. } | Event::Reading { variant, .. } | Event::Also { variant, .. } => {
                self.touch(*variant);
            }
            Event::Learned { .. } => self.due.mark_all(),
            Event::World(_) | Event::Proposal(_) => {}
        }
        match event {
            Event::World(world) => self.replace(world, now_ms),
            Event::Replicas {
                variant,
                desired,
                ready,
            } => {
                let startup_ms = self.declared_startup_ms(*variant);
                let found = self
                    .variant(*variant)
                    .and_then(|memory| memory.observe(*desired, *ready, startup_ms, now_ms));
                self.note(*variant, found);
            }
            Event::Started {
                variant,
                took_ms,
                found,
            } => {
                let startup_ms = self.declared_startup_ms(*variant);
                if let Some(memory) = self.variant(*variant) {
                    memory.started(startup_ms, *took_ms, *found);
                }
            }
            Event::Leaving { variant, count } => {
                if let Some(memory) = self.variant(*variant) {
                    memory.leaving = *count;
                }
            }
            Event::Reading { variant, reading } => {
                if let Some(memory) = self.variant(*variant) {
                    memory.read(*reading, now_ms);
                }
            }
            Event::Also {
                variant,
                signal,
                reading,
            } => {
                if let Some(memory) = self.variant(*variant) {
                    also::read(&mut memory.also, usize::from(*signal), *reading, now_ms);
                }
            }
            Event::Dry { variant, reason } => {
                if let Some(memory) = self.variant(*variant) {
                    memory.dries(*reason, now_ms);
                }
                self.note(*variant, Some(Trigger::CapacityLost));
            }
            Event::Proposal(proposal) => self.take_proposal(proposal),
            Event::Learned { subject, learned } => self.recall(*subject, learned),
        }
    }

    /// Whether some replicas of a stage are full, so that what it has to serve may be anything above what is seen.
    pub(super) fn saturated(&self, stage: usize) -> bool {
        let range = variants_of(&self.world, stage);
        let seen = self.variants.get(range.clone()).unwrap_or_default().iter();
        let mut pairs = self.world.variants.get(range).unwrap_or_default().iter().zip(seen);
        pairs.any(|(variant, seen)| seen.reading().is_some_and(|reading| seen.saturated(variant, &reading)))
    }

    fn variant(&mut self, variant: VariantIdx) -> Option<&mut VariantMemory> {
        self.variants.get_mut(variant.0 as usize)
    }

    pub(super) fn note(&mut self, variant: VariantIdx, trigger: Option<Trigger>) {
        let stage = self
            .world
            .variants
            .get(variant.0 as usize)
            .map(|variant| variant.stage.0 as usize);
        if let (Some(stage), Some(trigger)) = (stage.and_then(|at| self.stages.get_mut(at)), trigger) {
            stage.set_off(trigger);
            stage.turn_over();
            self.changed = true;
            if trigger == Trigger::Drift {
                self.plan = None;
            }
        }
    }

    /// Takes a new world and carries memories over by key.
    fn replace(&mut self, world: &World, now_ms: u64) {
        if self.declares(world) {
            return;
        }
        let mut old = std::mem::replace(&mut self.world, world.clone());
        for (variant, memory) in old.variants.iter_mut().zip(&self.variants) {
            variant.capacity_millis = memory.declared_millis(variant);
        }
        let keys = old.stages.iter().map(|stage| stage.key);
        let mut stages: BTreeMap<Key, StageMemory> = keys.zip(std::mem::take(&mut self.stages)).collect();
        let keys = old.variants.iter().map(|variant| variant.key);
        let mut variants: BTreeMap<Key, VariantMemory> = keys.zip(std::mem::take(&mut self.variants)).collect();
        let known = self
            .world
            .variants
            .iter()
            .map(|variant| variants.remove(&variant.key).unwrap_or_default());
        self.variants = known.collect();
        let before = Before::new(&old);
        for (variant, memory) in self.world.variants.iter().zip(&mut self.variants) {
            if let Some((had, has)) = before.fits(&self.world, variant) {
                memory.capacity_changed(had, has, now_ms);
            }
        }
        self.stages.reserve_exact(self.world.stages.len());
        for at in 0..self.world.stages.len() {
            let Some(stage) = self.world.stages.get(at) else {
                continue;
            };
            let change = before.change(&self.world, at);
            let mut memory = stages.remove(&stage.key).unwrap_or_default();
            if change.units {
                memory.own.forget();
                memory.called.forget();
                memory.level.forget();
                memory.sustained.forget();
                memory.whole = None;
            }
            if change.mode {
                memory.advised = None;
            }
            if change.also {
                let range = variants_of(&self.world, at);
                let variants = self.variants.get_mut(range).unwrap_or_default();
                for seen in variants {
                    seen.also.clear();
                }
            }
            if let Some(cause) = change.cause {
                memory.turn_over();
                memory.set_off(cause);
                self.changed |= !old.stages.is_empty();
            }
            self.stages.push(memory);
        }
        learn::carry(&mut self.world, &mut self.variants);
        self.due.replace(&self.world);
        self.latency.keep_only(&self.world);
        self.offered.clear();
        self.offered.resize(self.world.stages.len(), Offer::default());
        self.late.clear();
        self.late.resize(self.world.pipelines.len(), false);
        self.plan = None;
        self.worlds += 1;
        (self.proposal, self.gap_ppm) = (None, None);
        self.prices.clear();
        self.ceilings.clear();
        self.reports.clear();
    }
}
