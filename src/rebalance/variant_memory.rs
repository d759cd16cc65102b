//! What is remembered of a variant between two steps: what runs, what was asked for, and how its pool has treated it.

use super::bug::{Bug, seeded};
use super::decision::Trigger;
use super::demand;
use super::history::{Change, Dry, Pending};
use super::learn::Capacity;
use super::plan::Bound;
use super::startup::Startup;
use super::world::{DryReason, Learned, Reading, Variant};

/// How long a write may take to be observed before what is observed counts again.
const WRITE_GRACE_MS: u64 = 5_000;

/// What is remembered of a variant. Most stages run on one or two of the pools that they may use: what only a variant that
/// has run needs is apart.
#[derive(Clone, Debug, Default)]
pub(super) struct VariantMemory {
    /// Observed `spec.replicas`; absent until first seen.
    observed: Option<u32>,
    ready: u32,
    /// Since when so many have been Ready.
    pub(super) ready_since_ms: u64,
    /// Pods on their way out.
    pub(super) leaving: u32,
    /// A write that is not observed yet: the new value, and when it was decided.
    asked: Option<(u32, u64)>,
    pub(super) pending: Pending,
    /// Absent until a replica started.
    startup: Option<Box<Startup>>,
    /// What is learned of a replica's capacity; absent until a reading teaches.
    pub(super) capacity: Option<Box<Capacity>>,
    dry: Option<Box<Dry>>,
    heard: Option<Box<Heard>>,
    /// Readings by the signals beside the stage's own, in their order; as long as any was seen.
    pub(super) also: Vec<Option<Reading>>,
    pub(super) bound: Bound,
    /// Its pool lost all it had while replicas ran there: one probe goes back first.
    lost: bool,
    /// What the last plan wanted here.
    pub(super) planned: Option<u32>,
}

/// What a variant's own signal said last.
#[derive(Clone, Copy, Debug)]
struct Heard {
    reading: Reading,
    /// What waited at the reading before.
    waiting_before: Option<u64>,
    /// Idle readings in a row.
    idle_readings: u32,
    /// The newest reading that was looked at for what it teaches.
    taught_ms: u64,
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

    /// The newest reading.
    pub(super) fn reading(&self) -> Option<Reading> {
        self.heard.as_ref().map(|heard| heard.reading)
    }

    /// Idle readings in a row.
    pub(super) fn idle_readings(&self) -> u32 {
        self.heard.as_ref().map_or(0, |heard| heard.idle_readings)
    }

    /// The newest reading if it has not been looked at for what it teaches.
    pub(super) fn lesson(&self) -> Option<Reading> {
        let heard = self.heard.as_ref()?;
        (heard.reading.taken_ms > heard.taught_ms).then_some(heard.reading)
    }

    /// The newest reading has been looked at.
    pub(super) fn taught(&mut self) {
        if let Some(heard) = &mut self.heard {
            heard.taught_ms = heard.reading.taken_ms;
        }
    }

    fn waiting_before(&self) -> Option<u64> {
        self.heard.as_ref()?.waiting_before
    }

    /// Its pool does not deliver.
    pub(super) fn dry(&self) -> Option<Dry> {
        self.dry.as_deref().copied()
    }

    /// How long its replicas take to start.
    pub(super) fn startup(&self) -> &Startup {
        static NONE: Startup = Startup::NONE;
        self.startup.as_deref().unwrap_or(&NONE)
    }

    /// See [`Startup::observe`].
    pub(super) fn started(&mut self, declared_ms: u64, took_ms: u64, found: bool) {
        let startup = self.startup.get_or_insert_default();
        startup.observe(declared_ms, took_ms, found);
    }

    /// Whether its demand is at least what is seen, and nobody can tell how much more.
    pub(super) fn saturated(&self, variant: &Variant, reading: &Reading) -> bool {
        demand::saturated(variant, reading, self.waiting_before())
    }

    /// Demand that it may hide.
    pub(super) fn hidden(&self, variant: &Variant, reading: &Reading, shown: u64) -> u64 {
        demand::hidden(variant, reading, self.waiting_before(), shown)
    }

    /// Expected time from the creation of a pod to its first readiness, milliseconds.
    pub(super) fn startup_ms(&self, variant: &Variant) -> u64 {
        self.startup().expected_ms(variant.startup_ms)
    }

    /// What nine in ten starts take at most, milliseconds.
    pub(super) fn startup_slow_ms(&self, variant: &Variant) -> u64 {
        self.startup().slow_ms(variant.startup_ms)
    }

    /// After so long a pending replica is taken for not coming.
    pub(super) fn patience_ms(&self, variant: &Variant, pace_permille: u64) -> u64 {
        self.startup().patience_ms(variant.startup_ms, pace_permille)
    }

    /// The same, and what it rests on.
    pub(super) fn startup_learned(&self, declared_ms: u64) -> Learned {
        self.startup().learned(declared_ms)
    }

    /// Takes back what was learned of start-up times before a restart.
    pub(super) fn recall_startup(&mut self, declared_ms: u64, learned: &Learned) {
        self.startup.get_or_insert_default().recall(declared_ms, learned);
    }

    pub(super) fn observe(&mut self, desired: u32, ready: u32, startup_ms: u64, now_ms: u64) -> Option<Trigger> {
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
            let startup = self.startup.get_or_insert_default();
            startup.noted(startup_ms, took_ms, now_ms);
        }
        if self.recovers(now_ms, more_ready) {
            self.dry = None;
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

    pub(super) fn read(&mut self, reading: Reading, now_ms: u64) {
        let reading = Reading {
            taken_ms: reading.taken_ms.min(now_ms),
            ..reading
        };
        // A reading is as old as its oldest part: while one pod is silent, those of the others come under the same time.
        let before = self.reading();
        let newer = before.is_none_or(|before| before.taken_ms < reading.taken_ms);
        let other = before.is_some_and(|before| before.taken_ms == reading.taken_ms && before != reading);
        if !(newer || other) || !demand::speaks(&reading) {
            return;
        }
        let idle_readings = if demand::idle(&reading) {
            self.idle_readings().saturating_add(u32::from(newer))
        } else {
            0
        };
        let heard = Heard {
            reading,
            waiting_before: before.and_then(|before| before.waiting_millis),
            idle_readings,
            taught_ms: self.heard.as_ref().map_or(0, |heard| heard.taught_ms),
        };
        match &mut self.heard {
            Some(known) => **known = heard,
            None => self.heard = Some(Box::new(heard)),
        }
    }

    /// Its pool could take `before` replicas in all, and can take `after` now.
    pub(super) fn capacity_changed(&mut self, before: u32, after: u32, now_ms: u64) {
        if after == 0 {
            self.lost |= before > 0 && self.held() > 0;
            return;
        }
        // Replicas that got through it prove the pool better than a probe would.
        let gone = std::mem::take(&mut self.lost) && self.ready() == 0;
        if gone && self.dry.is_none() {
            self.dry = Some(Box::new(Dry::returning(now_ms)));
        } else if after > before
            && let Some(dry) = self.dry.as_mut().filter(|dry| dry.reason != DryReason::CannotStart)
        {
            // What was learned was learned of a smaller pool.
            dry.until_ms = dry.until_ms.min(now_ms);
        }
    }

    pub(super) fn dries(&mut self, reason: DryReason, now_ms: u64) {
        self.dry = Some(Box::new(Dry::again(self.dry(), now_ms, reason, self.ready())));
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
        let dry = self.dry.as_mut()?;
        if dry.faded(now_ms) {
            self.dry = None;
            return Some(Trigger::CapacityGained);
        }
        if !dry.probing(now_ms) {
            return None;
        }
        if dry.probe_since_ms.is_none() {
            dry.probe_since_ms = Some(now_ms);
            return Some(Trigger::CapacityGained);
        }
        if self.pending.overdue(now_ms, patience_ms) > 0 {
            let reason = dry.reason;
            self.dries(reason, now_ms);
            return Some(Trigger::CapacityLost);
        }
        None
    }
}
