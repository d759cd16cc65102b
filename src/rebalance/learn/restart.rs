//! What was learned outlives an edit of the world and a restart of the core.

use super::estimate::Estimate;
use super::{Capacity, take_up};
use crate::rebalance::decision::VariantLearned;
use crate::rebalance::fanout;
use crate::rebalance::state::State;
use crate::rebalance::variant_memory::VariantMemory;
use crate::rebalance::world::{Learned, Stage, Subject, Variant, World};

/// Puts what is known of variants in force in a new world. Where something else is declared now, nothing is known.
pub(in crate::rebalance) fn carry(world: &mut World, variants: &mut [VariantMemory]) {
    for (variant, seen) in world.variants.iter_mut().zip(variants) {
        let rated = world
            .stages
            .get(variant.stage.0 as usize)
            .is_some_and(|stage| stage.rated);
        let known = seen
            .capacity
            .as_ref()
            .filter(|known| rated && known.declared() == variant.capacity_millis);
        match known {
            Some(known) => variant.capacity_millis = known.value(),
            None => seen.capacity = None,
        }
    }
}

impl State {
    /// Whether the world as last told is this one. What was learned since does not count.
    pub fn declares(&self, world: &World) -> bool {
        let same = |(variant, (held, seen)): (&Variant, (&Variant, &VariantMemory))| {
            let declared = seen.declared_millis(held);
            variant.capacity_millis == declared
                && *variant
                    == Variant {
                        capacity_millis: declared,
                        ..held.clone()
                    }
        };
        // All of it by name, so that nothing new is left out.
        let World {
            pools,
            pipelines,
            stages,
            variants,
            shared,
        } = world;
        self.world.pools == *pools
            && self.world.pipelines == *pipelines
            && self.world.stages == *stages
            && self.world.shared == *shared
            && self.world.variants.len() == variants.len()
            && variants
                .iter()
                .zip(self.world.variants.iter().zip(&self.variants))
                .all(same)
    }

    /// Takes back what was learned before a restart, unless more is known by now.
    pub(in crate::rebalance) fn recall(&mut self, subject: Subject, learned: &Learned) {
        match subject {
            Subject::Capacity(variant) => {
                let site = variant.0 as usize;
                let Some(declared) = self.world.variants.get(site) else {
                    return;
                };
                let at = declared.stage.0 as usize;
                let rated =
                    self.world.stages.get(at).is_some_and(|stage: &Stage| stage.rated) && declared.capacity_millis > 0;
                let Some(seen) = self.variants.get_mut(site).filter(|seen| rated && !seen.has_learned()) else {
                    return;
                };
                let Some(estimate) = Estimate::restored(seen.declared_millis(declared), learned) else {
                    return;
                };
                let value = estimate.value();
                seen.capacity = Some(Box::new(Capacity::new(estimate)));
                if value != declared.capacity_millis {
                    self.restore_capacity(at, site, value);
                }
            }
            Subject::Startup(variant) => {
                let startup_ms = self
                    .world
                    .variants
                    .get(variant.0 as usize)
                    .map(|variant| variant.startup_ms);
                if let (Some(startup_ms), Some(seen)) = (startup_ms, self.variants.get_mut(variant.0 as usize)) {
                    seen.recall_startup(startup_ms, learned);
                }
            }
            Subject::Calls(stage) => fanout::recall(self, stage.0 as usize, learned),
        }
    }

    fn restore_capacity(&mut self, at: usize, site: usize, value: u64) {
        let known = self.stages.get(at).is_some_and(|memory| memory.level.held().is_some());
        if known {
            take_up(self, at, &[(site, value)]);
        } else if let Some(variant) = self.world.variants.get_mut(site) {
            // Nothing has been seen yet that was measured in another capacity.
            variant.capacity_millis = value;
            self.plan = None;
        }
    }
}

impl VariantMemory {
    /// What is declared for a replica, of which the world holds what was learned.
    pub(in crate::rebalance) fn declared_millis(&self, held: &Variant) -> u64 {
        match &self.capacity {
            Some(capacity) => capacity.declared(),
            None => held.capacity_millis,
        }
    }

    fn has_learned(&self) -> bool {
        self.capacity
            .as_ref()
            .is_some_and(|capacity| capacity.estimate.samples() > 0)
    }

    /// What is learned of a variant.
    pub(in crate::rebalance) fn learned(&self, held: &Variant) -> VariantLearned {
        let nothing = Learned {
            declared: held.capacity_millis,
            value: held.capacity_millis,
            samples: 0,
        };
        VariantLearned {
            capacity: self
                .capacity
                .as_ref()
                .map_or(nothing, |capacity| capacity.estimate.learned()),
            startup: self.startup_learned(held.startup_ms),
        }
    }
}
