//! Why a wanted change does not happen now. The order is visible to people: the first guard that fires is what they
//! read.

use super::decision::HoldReason;
use super::moves::Blocked;

/// The facts about one stage that guards look at.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read by one guard")]
pub(super) struct Input {
    /// The plan failed its own check.
    pub(super) rejected: bool,
    /// Writing is paused, or the direction that is wanted is.
    pub(super) paused: bool,
    /// Advisory mode.
    pub(super) advisory: bool,
    /// What runs differs from the plan.
    pub(super) pending: bool,
    /// Replicas of some variant, or every reading, are not known.
    pub(super) stale: bool,
    /// The signals would let the stage shrink, but a window has not passed.
    pub(super) cooling: bool,
    /// Shifts of this hour are used up and a shift is what the plan would want.
    pub(super) exhausted: bool,
    /// Demand differs, by less than the tolerance.
    pub(super) tolerated: bool,
    /// What stood in the way of writes.
    pub(super) blocked: Blocked,
}

type Guard = fn(&Input) -> Option<HoldReason>;

const GUARDS: [Guard; 11] = [
    plan_rejected,
    paused,
    advisory,
    metrics_stale,
    budget_exhausted,
    no_capacity,
    cooling_down,
    moves_exhausted,
    awaiting_ready,
    at_floor,
    within_tolerance,
];

/// The reason people read, if anything is held back.
pub(super) fn hold(input: &Input) -> Option<HoldReason> {
    GUARDS.iter().find_map(|guard| guard(input))
}

fn plan_rejected(input: &Input) -> Option<HoldReason> {
    input.rejected.then_some(HoldReason::PlanRejected)
}

fn paused(input: &Input) -> Option<HoldReason> {
    input.paused.then_some(HoldReason::Paused)
}

fn advisory(input: &Input) -> Option<HoldReason> {
    (input.advisory && input.pending).then_some(HoldReason::Advisory)
}

/// Silence is not idleness: nothing shrinks where no fresh reading allows it.
fn metrics_stale(input: &Input) -> Option<HoldReason> {
    input.stale.then_some(HoldReason::MetricsStale)
}

fn budget_exhausted(input: &Input) -> Option<HoldReason> {
    input.blocked.budget.then_some(HoldReason::BudgetExhausted)
}

fn no_capacity(input: &Input) -> Option<HoldReason> {
    input.blocked.room.then_some(HoldReason::NoCapacity)
}

fn cooling_down(input: &Input) -> Option<HoldReason> {
    (input.cooling || input.blocked.rate).then_some(HoldReason::CoolingDown)
}

fn moves_exhausted(input: &Input) -> Option<HoldReason> {
    input.exhausted.then_some(HoldReason::MovesExhausted)
}

/// Also while the last writes are on their way to Ready.
fn awaiting_ready(input: &Input) -> Option<HoldReason> {
    (input.blocked.ready || (input.pending && !input.blocked.floor)).then_some(HoldReason::AwaitingReady)
}

fn at_floor(input: &Input) -> Option<HoldReason> {
    input.blocked.floor.then_some(HoldReason::AtFloor)
}

fn within_tolerance(input: &Input) -> Option<HoldReason> {
    input.tolerated.then_some(HoldReason::WithinTolerance)
}
