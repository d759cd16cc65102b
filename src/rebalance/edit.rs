//! What an edit of the world means for each stage: what set it off, and whether what was seen before still counts.

use std::collections::BTreeMap;

use super::decision::Trigger;
use super::ledger::fit;
use super::plan::variants_of;
use super::world::{Key, Mode, Pool, Resources, Stage, Variant, World};

/// The world before an edit, by key.
pub(super) struct Before<'a> {
    stages: BTreeMap<Key, &'a Stage>,
    variants: BTreeMap<Key, &'a Variant>,
    pools: &'a [Pool],
    capacities: BTreeMap<Key, Resources>,
    modes: BTreeMap<Key, Mode>,
}

/// What an edit means for one stage.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    pub(super) cause: Option<Trigger>,
    /// Demand is counted differently now; what was seen before says nothing.
    pub(super) units: bool,
    pub(super) mode: bool,
    /// Other signals beside the stage's own.
    pub(super) also: bool,
}

impl<'a> Before<'a> {
    pub(super) fn new(old: &'a World) -> Self {
        Self {
            stages: old.stages.iter().map(|stage| (stage.key, stage)).collect(),
            variants: old.variants.iter().map(|variant| (variant.key, variant)).collect(),
            pools: &old.pools,
            capacities: old.pools.iter().map(|pool| (pool.key, pool.capacity)).collect(),
            modes: old
                .pipelines
                .iter()
                .map(|pipeline| (pipeline.key, pipeline.mode))
                .collect(),
        }
    }

    /// How many replicas of a variant its pool could and can take in all, if that changed.
    pub(super) fn fits(&self, world: &World, variant: &Variant) -> Option<(u32, u32)> {
        let pool = world.pools.get(variant.pool.0 as usize)?;
        let was = self.variants.get(&variant.key)?;
        let had = self.pools.get(was.pool.0 as usize)?;
        let (had, has) = (fit(&had.capacity, &was.request), fit(&pool.capacity, &variant.request));
        (had != has).then_some((had, has))
    }

    pub(super) fn change(&self, world: &World, at: usize) -> Change {
        let (Some(stage), range) = (world.stages.get(at), variants_of(world, at)) else {
            return Change::default();
        };
        let Some(&before) = self.stages.get(&stage.key) else {
            return Change {
                cause: Some(Trigger::SpecChanged),
                units: true,
                mode: true,
                also: true,
            };
        };
        // Indexes move when others come and go; that changes nothing for this stage.
        let aligned = Stage {
            pipeline: stage.pipeline,
            variants: stage.variants,
            after: if before.after.len() == stage.after.len() {
                stage.after.clone()
            } else {
                before.after.clone()
            },
            ..before.clone()
        };
        let mode = world
            .pipelines
            .get(stage.pipeline.0 as usize)
            .is_some_and(|p| self.modes.get(&p.key) != Some(&p.mode));
        let mut cause = (aligned != *stage || mode).then_some(Trigger::SpecChanged);
        let mut units = before.target_permille != stage.target_permille || before.rated != stage.rated;
        for variant in world.variants.get(range).unwrap_or_default() {
            let Some(&was) = self.variants.get(&variant.key) else {
                cause = cause.or(Some(Trigger::CapacityGained));
                continue;
            };
            units |= was.capacity_millis != variant.capacity_millis;
            let priced = |v: &Variant| {
                (
                    v.request,
                    v.marginal_micros,
                    v.hint_permille,
                    v.cost_micros,
                    v.capacity_millis,
                )
            };
            if priced(was) != priced(variant) {
                cause = cause.or(Some(Trigger::SpecChanged));
            }
            let trend = |gained: bool| {
                Some(if gained {
                    Trigger::CapacityGained
                } else {
                    Trigger::CapacityLost
                })
            };
            if was.max != variant.max {
                cause = cause.or(trend(variant.max > was.max));
            }
            let Some(pool) = world.pools.get(variant.pool.0 as usize) else {
                continue;
            };
            let Some(had) = self.capacities.get(&pool.key).filter(|had| **had != pool.capacity) else {
                continue;
            };
            let fewer = pool.capacity.cpu_millis < had.cpu_millis
                || pool.capacity.memory_kib < had.memory_kib
                || pool.capacity.device_millis < had.device_millis;
            cause = cause.or(trend(!fewer));
        }
        Change {
            cause,
            units,
            mode,
            also: before.also != stage.also,
        }
    }
}
