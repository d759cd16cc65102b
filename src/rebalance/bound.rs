//! How far each variant may go: what dry pools, modes, ignorance and spent allowances leave of it.
#![allow(clippy::similar_names, reason = "`state` and `stage` are the words of the field")]

use super::demand;
use super::moves;
use super::plan::{Bound, variants_of};
use super::state::State;
use super::step::{HOUR_MS, mode};
use super::world::{Mode, OnSignalLoss};

/// How far each variant may go that this step looks at, and whether the plan's input changed.
pub(super) fn bound(state: &mut State, now_ms: u64) -> bool {
    let mut changed = false;
    for at in state.due.stages() {
        let (Some(stage), range) = (state.world.stages.get(at), variants_of(&state.world, at)) else {
            continue;
        };
        let mode = mode(state.world.pipelines.get(stage.pipeline.0 as usize));
        let Some(memory) = state.stages.get_mut(at) else {
            continue;
        };
        let (Some(declared), Some(variants)) = (state.world.variants.get(range.clone()), state.variants.get_mut(range))
        else {
            continue;
        };
        let goes = memory.senses.fallback && matches!(stage.on_signal_loss, OnSignalLoss::Static(_));
        let keep = (!goes && (!memory.senses.fresh || memory.senses.blind))
            || mode == Mode::NoScaleIn
            || stage.down_percent_per_minute == 0;
        let mut bounds: Vec<Bound> = Vec::with_capacity(declared.len());
        for (variant, seen) in declared.iter().zip(variants.iter()) {
            let upper = match seen.dry() {
                Some(dry) if dry.probing(now_ms) => dry.ready.max(seen.ready()).saturating_add(1),
                Some(_) => seen.ready(),
                None => {
                    let overdue = seen
                        .pending
                        .overdue(now_ms, seen.patience_ms(variant, state.pace_permille));
                    if overdue > 0 {
                        seen.desired().saturating_sub(overdue)
                    } else {
                        u32::MAX
                    }
                }
            };
            bounds.push(Bound {
                lower: 0,
                upper: upper.min(variant.max),
            });
        }
        // A floor that only pools in trouble could hold stays where it is.
        let reach = bounds.iter().fold(0_u32, |sum, bound| sum.saturating_add(bound.upper));
        if reach < memory.ask.need.floor {
            for ((bound, variant), seen) in bounds.iter_mut().zip(declared).zip(variants.iter()) {
                bound.upper = bound.upper.max(seen.desired().min(variant.max));
            }
        }
        let reach = bounds.iter().fold(0_u32, |sum, bound| sum.saturating_add(bound.upper));
        if reach < memory.ask.need.floor {
            bounds
                .iter_mut()
                .zip(declared)
                .for_each(|(bound, variant)| bound.upper = variant.max);
        }
        memory.senses.forced = bounds
            .iter()
            .zip(variants.iter())
            .any(|(bound, seen)| seen.desired() > bound.upper);
        let spent = memory.shifts.spent(now_ms, HOUR_MS);
        memory.senses.exhausted = spent >= u64::from(stage.moves_per_hour);
        let still = memory.senses.exhausted || memory.pinned;
        let usable = bounds.iter().zip(variants.iter()).zip(declared);
        let usable = usable.map(|((bound, seen), one)| (seen.desired().min(bound.upper), demand::capacity(one)));
        let covers = moves::covers(&memory.ask.need, usable);
        for (bound, seen) in bounds.iter_mut().zip(variants.iter()) {
            let here = seen.desired();
            match mode {
                Mode::Paused => {
                    *bound = Bound {
                        lower: here,
                        upper: here,
                    }
                }
                _ if keep => bound.lower = here.min(bound.upper),
                // Without a shift left, growth and shrinking are still possible, but not both at once.
                _ if still && covers => bound.upper = bound.upper.min(here),
                _ if still => bound.lower = here.min(bound.upper),
                _ => {}
            }
            if mode == Mode::NoScaleOut {
                bound.upper = bound.upper.min(here);
            }
        }
        for (bound, seen) in bounds.iter().zip(variants.iter_mut()) {
            changed |= seen.bound != *bound;
            seen.bound = *bound;
        }
    }
    changed
}
