//! Solving again after a little has changed.
//!
//! Prices change slowly: they are made by all stages together. So while few demands change, the last prices stay, and
//! with them the bound is still one for the new problem: only the stages that changed have another V, and the bound moves
//! by the difference. They give back what they had and are placed anew, late ones with the room that is left; then those
//! that lost most by not being alone are asked whether the room that was freed serves them better.
//!
//! The result is worth what its certificate says. If the gap has grown by more than [`DRIFT_PPM`] since the last full
//! solve, prices have drifted, and if there is time, a full solve follows.

use super::certificate::{self, Effort, Solution};
use super::instance::Instance;
use super::oracle::Ask;
use super::{Memory, Settings, bottleneck, build, find};

/// Growth of the gap that the last prices may cause, millionths.
const DRIFT_PPM: u64 = 1_000;
/// Stages that are asked whether they would rather have what was freed.
const OFFERED: usize = 1_000;

/// Solves again after the demands of the caller's stages `changed` were set anew; all else is as it was at the last
/// solve with this `memory`. Without a last solve of this instance, solves from nothing.
pub fn resolve<'a>(
    instance: &Instance,
    memory: &'a mut Memory,
    changed: &[usize],
    settings: &Settings,
    go_on: &mut dyn FnMut() -> bool,
) -> &'a Solution {
    let known = memory.solution.counts.len() == instance.options()
        && memory.constants.len() == instance.stages()
        && memory.prices.len() == instance.room.len();
    if !known {
        find(instance, memory, settings, go_on);
        return &memory.solution;
    }
    place_anew(instance, memory, changed);
    let drifted = memory
        .solution
        .gap_ppm
        .is_none_or(|gap| gap > memory.bound_gap.saturating_add(DRIFT_PPM));
    if drifted && go_on() {
        find(instance, memory, settings, go_on);
    }
    &memory.solution
}

fn place_anew(instance: &Instance, memory: &mut Memory, changed: &[usize]) {
    let mut stages: Vec<u32> = changed
        .iter()
        .filter_map(|&stage| instance.place.get(stage).copied())
        .collect();
    stages.sort_unstable();
    stages.dedup();
    let Memory {
        prices,
        answers,
        alone,
        plan,
        oracles,
        improve,
        constants,
        solution,
        constant,
        steering,
        ..
    } = memory;
    steering.ready = false;
    let Some(oracle) = oracles.first_mut() else { return };
    oracle.nodes = 0;
    let mut held = Vec::new();
    let mut queue: Vec<(u16, i64, u32)> = Vec::with_capacity(stages.len());
    for &at in &stages {
        let place = at as usize;
        let stage = &instance.stages[place];
        plan.free(instance, place, &mut held);
        let now = Instance::constant(stage);
        *constant += now - constants[place];
        answers.bound += now - constants[place];
        constants[place] = now;
        let free = oracle.solve(instance, place, &Ask::default()).value;
        let answer = oracle.solve(
            instance,
            place,
            &Ask {
                prices,
                ..Ask::default()
            },
        );
        answers.bound += i128::from(answer.bound) - i128::from(answers.values[place]);
        answers.values[place] = answer.bound;
        if let Some(slot) = alone.get_mut(place) {
            *slot = free;
        }
        let options = stage.options.start as usize..stage.options.end as usize;
        answers.counts[options].copy_from_slice(&oracle.counts);
        // Who pays most for scarcity comes first.
        queue.push((u16::MAX - stage.priority, free.saturating_sub(answer.value), at));
    }
    queue.sort_unstable();
    for &(_, _, at) in &queue {
        build::give(instance, at as usize, prices, answers, oracle, plan);
    }
    let mut touched = stages;
    if alone.len() == instance.stages() {
        improve.rank_by_loss(instance, alone, plan, OFFERED);
        improve.one_by_one(instance, OFFERED, oracle, plan, &mut || true);
        touched.extend(improve.ranked());
    }
    if instance.pipeline_count > 0 {
        bottleneck::cut(instance, prices, oracle, plan);
        touched = (0..instance.stages.len() as u32).collect();
    }
    for &at in &touched {
        certificate::copy(instance, plan, at as usize, solution);
    }
    let effort = Effort {
        nodes: oracle.nodes,
        ..Effort::default()
    };
    certificate::sum_up(instance, plan, answers.bound, *constant, effort, solution);
}
