//! What is remembered of a stage between two steps.

use super::average::Average;
use super::burst::Burst;
use super::decision::{Driver, Trigger};
use super::demand::{Level, Rescale};
use super::fanout::FanOut;
use super::history::Allowance;
use super::plan::Ask;
use super::spend::Spend;
use super::sustained::Sustained;

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
    /// Since when more of them have been silent than the tolerance covers, while others speak.
    pub(super) partial_since_ms: Option<u64>,
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
    /// How its demand rises, where room is kept for that.
    pub(super) burst: Option<Box<Burst>>,
}

/// What the last demand pass found out about a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one stage")]
pub(super) struct Senses {
    /// Readings are fresh enough to shrink on.
    pub(super) fresh: bool,
    /// They are, but for a time that counts as loss many replicas have not been part of them.
    pub(super) partial: bool,
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
        if let Some(burst) = &mut self.burst {
            burst.scale(|value| ratio.of(value));
        }
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
            partial_since_ms: None,
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
            burst: None,
        }
    }
}
