//! What others wait for: who holds more than it needs of it leaves first.
#![allow(clippy::similar_names, reason = "`state` and `stage` are the words of the field")]

use std::collections::BTreeSet;

use super::plan::{Plan, writes};
use super::spend::Spend;
use super::state::State;
use super::step::mode;
use super::world::{Pipeline, PoolIdx};

/// Where the plan wants growth that has not come yet.
#[derive(Default)]
pub(super) struct Waited {
    pools: Vec<bool>,
    /// Pipelines with a ceiling, own or shared.
    budgets: Vec<bool>,
}

impl Waited {
    pub(super) fn new(state: &State, plan: &Plan) -> Self {
        let mut waited = Self {
            pools: vec![false; state.world.pools.len()],
            budgets: vec![false; state.world.pipelines.len()],
        };
        let all = state.world.variants.iter().zip(&state.variants).zip(&plan.counts);
        for ((variant, _), _) in all.filter(|((_, seen), planned)| seen.desired() < **planned) {
            let stage = state.world.stages.get(variant.stage.0 as usize);
            let pipeline = stage.and_then(|stage| state.world.pipelines.get(stage.pipeline.0 as usize));
            if !writes(mode(pipeline)) {
                continue;
            }
            if let Some(pool) = waited.pools.get_mut(variant.pool.0 as usize) {
                *pool = true;
            }
            let pipeline = state
                .world
                .stages
                .get(variant.stage.0 as usize)
                .map(|stage| stage.pipeline.0 as usize);
            let limited = |at: usize| Spend::ceilings(&state.world, at) != Spend::UNLIMITED;
            if let Some(at) = pipeline.filter(|&at| limited(at))
                && let Some(budget) = waited.budgets.get_mut(at)
            {
                *budget = true;
            }
        }
        waited.share(&state.world.pipelines);
        waited
    }

    /// Who waits for a ceiling that is shared waits for all that share it.
    fn share(&mut self, pipelines: &[Pipeline]) {
        let waiting: BTreeSet<u32> = (pipelines.iter().zip(&self.budgets))
            .filter_map(|(pipeline, &waits)| pipeline.shared.filter(|_| waits))
            .collect();
        if waiting.is_empty() {
            return;
        }
        for (pipeline, budget) in pipelines.iter().zip(&mut self.budgets) {
            *budget |= pipeline.shared.is_some_and(|shared| waiting.contains(&shared));
        }
    }

    pub(super) fn contests(&self, pool: PoolIdx, pipeline: usize) -> bool {
        let found = |all: &[bool], at: usize| all.get(at).copied().unwrap_or(false);
        found(&self.pools, pool.0 as usize) || found(&self.budgets, pipeline)
    }
}
