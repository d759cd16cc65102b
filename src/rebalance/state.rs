//! Everything the core knows between two steps, and how events change it.

use std::collections::BTreeMap;

use super::also;
use super::average::Average;
use super::bug::{Bug, seeded};
use super::decision::{Driver, StageReport, Trigger};
use super::demand::{self, Level, Rescale};
use super::due::Due;
use super::edit::Before;
use super::fanout::FanOut;
use super::history::{Allowance, Change, Dry, Pending};
use super::latency;
use super::learn::{self, Capacity};
use super::oracle::Oracle;
use super::plan::{Ask, Bound, Plan, variants_of};
use super::propose::Asked;
use super::sense::Offer;
use super::spend::{Spend, Sum};
use super::startup::Startup;
use super::sustained::Sustained;
use super::verify::Violation;
use super::world::{DryReason, Event, Key, Learned, PoolIdx, Reading, Variant, VariantIdx, World};

/// How long a write may take to be observed before what is observed counts again.
const WRITE_GRACE_MS: u64 = 5_000;

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
    /// Nothing is learned of readings, see [`State::unlearning`].
    pub(super) unlearning: bool,
    pub(super) oracle: Oracle,
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

/// What is remembered of a stage.
#[derive(Clone, Debug)]
pub(super) struct StageMemory {
    /// What its own readings show, averaged.
    pub(super) own: Average,
    /// What its callers send, averaged.
    pub(super) called: Average,
    pub(super) level: Level,
    /// What of that lasts.
    pub(super) sustained: Sustained,
    /// Shifts of the last hour.
    pub(super) shifts: Allowance,
    /// Ready replicas removed in the last minute.
    pub(super) shrinks: Allowance,
    /// Since when replicas that should report have been silent.
    pub(super) silent_since_ms: Option<u64>,
    /// Budget or pools have no room for old and new replicas together, and nothing on its way will make any: this stage
    /// grows or shrinks, but does not shift, until what it needs or the world changes, or there is more room.
    pub(super) pinned: bool,
    /// What was left of the budget when a shift was tried: more than that is worth another try.
    pub(super) tried_spend: Spend,
    /// Room on every variant's pool then.
    pub(super) tried_room: Vec<u32>,
    /// Demand when it was last seen whole, nothing saturated and nobody silent, and when that was.
    pub(super) whole: Option<(u64, u64)>,
    pub(super) ask: Ask,
    /// Why the plan was last made anew for this stage; stays until the plan is reached.
    pub(super) cause: Option<Trigger>,
    /// The last such cause that asks for replicas, or for others: what growth is put down to.
    pub(super) growth_cause: Option<Trigger>,
    /// The plan that was last reported in advisory mode.
    pub(super) advised: Option<Vec<u32>>,
    pub(super) senses: Senses,
    /// What is learned of calls per request.
    pub(super) fan_out: Option<Box<FanOut>>,
}

/// What the last demand pass found out about a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one stage")]
pub(super) struct Senses {
    /// Readings are fresh enough to shrink on.
    pub(super) fresh: bool,
    /// All replicas of all variants have been observed.
    pub(super) observed: bool,
    /// The declared fallback applies.
    pub(super) fallback: bool,
    /// Demand is not known, or not acted on: replicas are counted instead.
    pub(super) blind: bool,
    /// Shifts of this hour are used up.
    pub(super) exhausted: bool,
    /// Some replicas must leave where they are: dry, lost or forbidden capacity.
    pub(super) forced: bool,
    /// When the newest reading was taken.
    pub(super) taken_ms: Option<u64>,
    /// Which signal shows the largest need, before latency, floors and fallback.
    pub(super) driver: Option<Driver>,
    /// That need.
    pub(super) shown: u64,
    /// Signals that should speak and do not: bit 0 for the stage's own, then those beside it.
    pub(super) silent: u16,
}

impl StageMemory {
    /// Notes why the plan changes.
    pub(super) fn set_off(&mut self, cause: Trigger) {
        self.cause = Some(cause);
        if cause != Trigger::DemandFell {
            self.growth_cause = Some(cause);
        }
    }

    /// A shift was tried with so much budget and so much room on every variant's pool.
    pub(super) fn try_with(&mut self, budget: Spend, room: &[u32]) {
        self.tried_spend = self.tried_spend.max(budget);
        self.tried_room.resize(room.len(), 0);
        for (most, &now) in self.tried_room.iter_mut().zip(room) {
            *most = (*most).max(now);
        }
    }

    /// Whether there is more of anything than when a shift was last tried.
    pub(super) fn has_more(&self, budget: Spend, room: &[u32]) -> bool {
        let tried = self.tried_room.iter().chain(std::iter::repeat(&0));
        budget.exceeds(self.tried_spend) || room.iter().zip(tried).any(|(now, most)| now > most)
    }

    /// The plan is reached.
    pub(super) fn arrive(&mut self) {
        self.cause = None;
        self.growth_cause = None;
    }

    /// What a decision is put down to. Less demand asks for no growth: what grows then was asked for before, or a pool
    /// that was too small for the demand is large enough now.
    pub(super) fn trigger(&self, grows: bool) -> Trigger {
        match self.cause {
            Some(Trigger::DemandFell) if grows => self.growth_cause.unwrap_or(Trigger::CapacityGained),
            cause => cause.unwrap_or(Trigger::SpecChanged),
        }
    }

    /// Capacity is another now: what was measured in it is converted.
    pub(super) fn rescale(&mut self, ratio: Rescale) {
        self.own.rescale(ratio);
        self.level.rescale(ratio);
        self.whole = self.whole.map(|(demand, at_ms)| (ratio.of(demand), at_ms));
        self.sustained.rescale(ratio);
        self.ask.need.demand = ratio.of(self.ask.need.demand);
        self.ask.sustained = ratio.of(self.ask.sustained);
    }

    /// What was decided before this moment binds nothing that comes after.
    pub(super) fn turn_over(&mut self) {
        self.pinned = false;
        self.tried_spend = Spend::default();
        self.tried_room.clear();
    }
}

impl Default for StageMemory {
    fn default() -> Self {
        Self {
            own: Average::default(),
            called: Average::default(),
            level: Level::new(),
            sustained: Sustained::new(),
            shifts: Allowance::default(),
            shrinks: Allowance::default(),
            silent_since_ms: None,
            pinned: false,
            tried_spend: Spend::default(),
            tried_room: Vec::new(),
            whole: None,
            ask: Ask::default(),
            cause: None,
            growth_cause: None,
            advised: None,
            senses: Senses::default(),
            fan_out: None,
        }
    }
}

/// What is remembered of a variant.
#[derive(Clone, Debug, Default)]
pub(super) struct VariantMemory {
    /// Observed `spec.replicas`; absent until first seen.
    observed: Option<u32>,
    ready: u32,
    /// Since when so many have been Ready.
    pub(super) ready_since_ms: u64,
    /// Pods on their way out.
    leaving: u32,
    /// A write that is not observed yet: the new value, and when it was decided.
    asked: Option<(u32, u64)>,
    pub(super) pending: Pending,
    pub(super) startup: Startup,
    /// What is learned of a replica's capacity; absent until a reading teaches.
    pub(super) capacity: Option<Box<Capacity>>,
    /// The newest reading that was looked at for that.
    pub(super) taught_ms: u64,
    pub(super) dry: Option<Dry>,
    probe_since_ms: Option<u64>,
    pub(super) reading: Option<Reading>,
    /// Readings by the signals beside the stage's own, in their order; as long as any was seen.
    pub(super) also: Vec<Option<Reading>>,
    waiting_before: Option<u64>,
    /// Idle readings in a row.
    pub(super) idle_readings: u32,
    pub(super) bound: Bound,
    /// Its pool lost all it had while replicas ran there: one probe goes back first.
    lost: bool,
    /// What the last plan wanted here.
    pub(super) planned: Option<u32>,
}

impl VariantMemory {
    pub(super) fn is_observed(&self) -> bool {
        self.observed.is_some()
    }

    /// Replicas asked for: as decided while the write is on its way, else as observed.
    pub(super) fn desired(&self) -> u32 {
        self.asked.map_or(self.observed.unwrap_or(0), |(to, _)| to)
    }

    /// Until when a write on its way is waited for.
    pub(super) fn grace_ms(&self) -> Option<u64> {
        self.asked.map(|(_, at_ms)| at_ms.saturating_add(WRITE_GRACE_MS))
    }

    /// A write is on its way and not observed yet.
    pub(super) fn in_flight(&self) -> bool {
        self.asked.is_some()
    }

    /// Nothing of it is on its way: no write, no start, no drain.
    pub(super) fn at_rest(&self) -> bool {
        !self.in_flight() && self.leaving == 0 && self.ready == self.desired()
    }

    /// Replicas asked for whether or not a write on its way arrives.
    pub(super) fn certain(&self) -> u32 {
        if seeded(Bug::InFlightIsCertain) {
            return self.desired();
        }
        self.desired().min(self.observed.unwrap_or(0))
    }

    /// Replicas asked for if a write on its way does not arrive, or does.
    pub(super) fn most(&self) -> u32 {
        self.desired().max(self.observed.unwrap_or(0))
    }

    /// Ready replicas among those asked for.
    pub(super) fn ready(&self) -> u32 {
        self.ready.min(self.desired())
    }

    /// Replicas that may still hold resources: asked for, or not gone yet.
    pub(super) fn held(&self) -> u32 {
        self.desired()
            .max(self.ready)
            .max(self.observed.unwrap_or(0))
            .saturating_add(if seeded(Bug::LeavingForgotten) { 0 } else { self.leaving })
    }

    /// Notes a write of this step.
    pub(super) fn ask(&mut self, to: u32, now_ms: u64) {
        let withdrawn = to < self.desired();
        self.asked = (!seeded(Bug::AskedAgain)).then_some((to, now_ms));
        let change = if withdrawn { Change::Withdrawn } else { Change::Asked };
        self.pending.observe(now_ms, to.saturating_sub(self.ready), change);
    }

    /// Whether its demand is at least what is seen, and nobody can tell how much more.
    pub(super) fn saturated(&self, variant: &Variant, reading: &Reading) -> bool {
        demand::saturated(variant, reading, self.waiting_before)
    }

    /// Demand that it may hide.
    pub(super) fn hidden(&self, variant: &Variant, reading: &Reading, shown: u64) -> u64 {
        demand::hidden(variant, reading, self.waiting_before, shown)
    }

    /// Expected time from the creation of a pod to its first readiness, milliseconds.
    pub(super) fn startup_ms(&self, variant: &Variant) -> u64 {
        self.startup.expected_ms(variant.startup_ms)
    }

    /// What nine in ten starts take at most, milliseconds.
    pub(super) fn startup_slow_ms(&self, variant: &Variant) -> u64 {
        self.startup.slow_ms(variant.startup_ms)
    }

    /// After so long a pending replica is taken for not coming.
    pub(super) fn patience_ms(&self, variant: &Variant, pace_permille: u64) -> u64 {
        self.startup.patience_ms(variant.startup_ms, pace_permille)
    }

    /// The same, and what it rests on.
    pub(super) fn startup_learned(&self, declared_ms: u64) -> Learned {
        self.startup.learned(declared_ms)
    }

    /// Takes back what was learned of start-up times before a restart.
    pub(super) fn recall_startup(&mut self, declared_ms: u64, learned: &Learned) {
        self.startup.recall(declared_ms, learned);
    }

    fn observe(&mut self, desired: u32, ready: u32, startup_ms: u64, now_ms: u64) -> Option<Trigger> {
        let before = self.desired();
        let first = self.observed.is_none();
        let mut found = None;
        match (self.asked, self.observed) {
            (Some((to, _)), _) if to == desired => self.asked = None,
            (Some(_), Some(old)) if old == desired => {}
            (Some(_), _) => {
                self.asked = None;
                found = Some(Trigger::Drift);
            }
            (None, Some(old)) if old != desired => found = Some(Trigger::Drift),
            (None, _) => {}
        }
        self.observed = Some(desired);
        let more_ready = ready > self.ready;
        let change = match self.desired() {
            desired if desired < before => Change::Withdrawn,
            _ if first || ready < self.ready => Change::Found,
            _ => Change::Asked,
        };
        if first || ready != self.ready {
            self.ready_since_ms = now_ms;
        }
        self.ready = ready;
        let took_ms = self
            .pending
            .observe(now_ms, self.desired().saturating_sub(ready), change);
        // What waits for room says nothing about starting.
        if let Some(took_ms) = took_ms.filter(|_| self.dry.is_none()) {
            self.startup.noted(startup_ms, took_ms, now_ms);
        }
        if self.recovers(now_ms, more_ready) {
            self.dry = None;
            self.probe_since_ms = None;
            found = found.or(Some(Trigger::CapacityGained));
        }
        found
    }

    /// A replica more than before got Ready where none could: the variant is usable again.
    fn recovers(&mut self, now_ms: u64, more_ready: bool) -> bool {
        let ready = self.ready;
        let Some(dry) = &mut self.dry else { return false };
        if more_ready && ready > dry.ready && (dry.probing(now_ms) || dry.reason == DryReason::Unschedulable) {
            return true;
        }
        if !dry.probing(now_ms) {
            dry.ready = ready;
        }
        false
    }

    fn read(&mut self, reading: Reading, now_ms: u64) {
        let reading = Reading {
            taken_ms: reading.taken_ms.min(now_ms),
            ..reading
        };
        // A reading is as old as its oldest part: while one pod is silent, those of the others come under the same time.
        let newer = self.reading.is_none_or(|before| before.taken_ms < reading.taken_ms);
        let other = self
            .reading
            .is_some_and(|before| before.taken_ms == reading.taken_ms && before != reading);
        if !(newer || other) || !demand::speaks(&reading) {
            return;
        }
        self.waiting_before = self.reading.and_then(|before| before.waiting_millis);
        self.idle_readings = if demand::idle(&reading) {
            self.idle_readings.saturating_add(u32::from(newer))
        } else {
            0
        };
        self.reading = Some(reading);
    }

    /// Its pool could take `before` replicas in all, and can take `after` now.
    fn capacity_changed(&mut self, before: u32, after: u32, now_ms: u64) {
        if after == 0 {
            self.lost |= before > 0 && self.held() > 0;
            return;
        }
        // Replicas that got through it prove the pool better than a probe would.
        let gone = std::mem::take(&mut self.lost) && self.ready() == 0;
        if gone && self.dry.is_none() {
            self.dry = Some(Dry::returning(now_ms));
        } else if after > before
            && let Some(dry) = self.dry.as_mut().filter(|dry| dry.reason != DryReason::CannotStart)
        {
            // What was learned was learned of a smaller pool.
            dry.until_ms = dry.until_ms.min(now_ms);
        }
    }

    fn dries(&mut self, reason: DryReason, now_ms: u64) {
        self.dry = Some(Dry::again(self.dry, now_ms, reason, self.ready()));
        self.probe_since_ms = None;
    }

    /// What time alone changes: writes that got lost, probes that do not come, memory that fades.
    pub(super) fn age(&mut self, patience_ms: u64, now_ms: u64) -> Option<Trigger> {
        if self
            .asked
            .is_some_and(|(_, at_ms)| at_ms.saturating_add(WRITE_GRACE_MS) <= now_ms)
        {
            self.asked = None;
            let pending = self.desired().saturating_sub(self.ready);
            let fewer = self.pending.total() > pending;
            let change = if fewer { Change::Withdrawn } else { Change::Found };
            self.pending.observe(now_ms, pending, change);
        }
        let dry = self.dry?;
        if dry.faded(now_ms) {
            self.dry = None;
            self.probe_since_ms = None;
            return Some(Trigger::CapacityGained);
        }
        if !dry.probing(now_ms) {
            return None;
        }
        if self.probe_since_ms.is_none() {
            self.probe_since_ms = Some(now_ms);
            return Some(Trigger::CapacityGained);
        }
        if self.pending.overdue(now_ms, patience_ms) > 0 {
            self.dries(dry.reason, now_ms);
            return Some(Trigger::CapacityLost);
        }
        None
    }
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
                    memory.startup.observe(startup_ms, *took_ms, *found);
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
        pairs.any(|(variant, seen)| seen.reading.is_some_and(|reading| seen.saturated(variant, &reading)))
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
        self.reports.clear();
    }
}
