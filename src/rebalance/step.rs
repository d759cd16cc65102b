//! One step: from events to decisions.
#![allow(clippy::similar_names, reason = "`state` and `stage` are the words of the field")]

use super::act::{act, rest};
use super::bound;
use super::decision::Decision;
use super::plan::{self, Ask, Bound, Plan, Problem, variants_of};
use super::sense;
use super::state::State;
use super::variant_memory::VariantMemory;
use super::world::{Event, Mode, Pipeline};

/// The period of what a stage may shrink by.
pub(super) const MINUTE_MS: u64 = 60_000;
/// The period of a stage's allowance of shifts.
pub(super) const HOUR_MS: u64 = 60 * MINUTE_MS;

/// Absorbs `events` and decides what to write now. `now_ms` is monotonic; a step may be taken at any time, and a step
/// without events only lets time pass.
///
/// A stage is not touched before [`Event::Replicas`] has been seen for all of its variants, also for those that have no
/// Deployment yet (as `desired: 0, ready: 0`): what is not known is not zero. A decided write counts as done until it
/// is observed; if it is not observed within five seconds, the observed count holds again and the write is repeated.
pub fn step(state: &mut State, events: &[Event], now_ms: u64) -> Vec<Decision> {
    for event in events {
        state.absorb(event, now_ms);
    }
    state.due.begin(now_ms);
    state.age(now_ms);
    state.violations.clear();
    sense::sense(state, now_ms);
    let planned_anew = replan(state, now_ms);
    let Some(plan) = state.plan.take() else {
        state.wake_ms = state.due.end(true);
        return Vec::new();
    };
    let decisions = if planned_anew || state.due.moved || is_restless(state, &plan) {
        act(state, &plan, now_ms)
    } else {
        rest(state, &plan, now_ms);
        Vec::new()
    };
    state.plan = Some(plan);
    state.wake_ms = state.due.end(!decisions.is_empty());
    // Allowances are spent: what is planned next must know.
    for decision in &decisions {
        state.look_at(decision.stage.0 as usize);
    }
    decisions
}

/// Whether a stage that this step looks at is not where the plan wants it, or waits for room.
fn is_restless(state: &State, plan: &Plan) -> bool {
    state.due.stages().into_iter().any(|at| {
        let range = variants_of(&state.world, at);
        let seen = state.variants.get(range.clone()).unwrap_or_default().iter();
        let planned = plan.counts.get(range).unwrap_or_default();
        let differs = seen.zip(planned).any(|(seen, &planned)| seen.desired() != planned);
        differs || state.stages.get(at).is_none_or(|memory| memory.pinned)
    })
}

pub(super) fn mode(pipeline: Option<&Pipeline>) -> Mode {
    pipeline.map_or(Mode::Paused, |pipeline| pipeline.mode)
}

/// What a stage asks of the plan.
fn ask(state: &State, at: usize) -> Option<Ask> {
    let (stage, memory) = state.world.stages.get(at).zip(state.stages.get(at))?;
    Some(Ask {
        aside: mode(state.world.pipelines.get(stage.pipeline.0 as usize)) == Mode::Advisory,
        found: !state.changed,
        guessed: state.saturated(at),
        ..memory.ask
    })
}

/// Makes the plan anew if anything differs that it was made from; says whether it did.
fn replan(state: &mut State, now_ms: u64) -> bool {
    let bounds_changed = bound::bound(state, now_ms);
    // Where there is enough for all, what lasts of a demand plays no part.
    let crowded = state.plan.as_ref().is_some_and(|plan| plan.crowded);
    let asked = |ask: &Ask| Ask {
        sustained: if crowded { ask.sustained } else { 0 },
        ..*ask
    };
    // Of the others nothing is new.
    let found = state.planned_asks.first().is_none_or(|ask| ask.found != state.changed);
    let due = state.due.stages();
    let known = |at: usize| ask(state, at).map(|ask| asked(&ask)) == state.planned_asks.get(at).map(asked);
    let same = found && state.planned_asks.len() == state.stages.len() && due.into_iter().all(known);
    let unchanged = same && !bounds_changed && state.proposal.is_none();
    if unchanged && !state.due.moved && state.plan.is_some() {
        return false;
    }
    let asks: Vec<Ask> = (0..state.stages.len()).filter_map(|at| ask(state, at)).collect();
    let bounds: Vec<Bound> = state.variants.iter().map(|memory| memory.bound).collect();
    let current: Vec<u32> = state.variants.iter().map(VariantMemory::desired).collect();
    let previous: Vec<u32> = (state.variants.iter().zip(&current))
        .map(|(memory, &current)| memory.planned.unwrap_or(current))
        .collect();
    // Once a plan is reached, it is made once more from there: what runs is what a restart would start from.
    let reached = |plan: &Plan| plan.counts == current && state.planned_from != current;
    if unchanged && state.plan.as_ref().is_some_and(|plan| !reached(plan)) {
        return false;
    }
    let proposal = state.proposal.take();
    let last = state.plan.as_ref().filter(|plan| !plan.crowded);
    let as_before: Vec<bool> = match last {
        Some(_) => (0..asks.len())
            .map(|at| is_as_before(state, at, &asks, &current))
            .collect(),
        None => Vec::new(),
    };
    let problem = Problem {
        world: &state.world,
        asks: &asks,
        bounds: &bounds,
        current: &current,
        previous: &previous,
        proposal: proposal.as_ref().map(|(counts, _)| counts.as_slice()),
        last: last.map(|plan| (plan, as_before.as_slice())),
    };
    let plan = plan::plan(&problem, &mut state.oracle);
    match proposal {
        // Exactly what was proposed: so is its proof.
        Some((counts, gap_ppm)) if counts == plan.lasting => state.gap_ppm = gap_ppm,
        Some(_) => {}
        None if same && plan.counts == previous => {}
        None => state.gap_ppm = None,
    }
    // A plan for what has not been seen yet binds nothing.
    for ((memory, variant), &count) in state.variants.iter_mut().zip(&state.world.variants).zip(&plan.counts) {
        let stage = state.stages.get(variant.stage.0 as usize);
        memory.planned = stage.filter(|stage| stage.senses.observed).map(|_| count);
    }
    state.plan = Some(plan);
    state.planned_asks = asks;
    state.planned_from = current;
    true
}

/// Whether a stage's part of the last plan was made from what there is now. Bounds change only where a step looks.
fn is_as_before(state: &State, at: usize, asks: &[Ask], current: &[u32]) -> bool {
    let Some(stage) = state.world.stages.get(at) else {
        return false;
    };
    let range = variants_of(&state.world, at);
    !state.due.is_marked(stage.pipeline.0 as usize)
        && asks.get(at) == state.planned_asks.get(at)
        && current.get(range.clone()) == state.planned_from.get(range)
}
