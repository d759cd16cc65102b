//! What time alone changes: writes that got lost, starts that do not come, memory that fades.

use super::plan::variants_of;
use super::startup;
use super::state::State;
use super::variant_memory::VariantMemory;
use super::world::VariantIdx;

impl State {
    pub(super) fn age(&mut self, now_ms: u64) {
        let pace_permille = self.pace_permille(now_ms);
        if self.pace_permille != pace_permille {
            // Everybody's patience is another now.
            self.pace_permille = pace_permille;
            self.due.mark_all();
        }
        for stage in self.due.stages() {
            self.age_stage(stage, now_ms);
        }
    }

    fn age_stage(&mut self, stage: usize, now_ms: u64) {
        for at in variants_of(&self.world, stage) {
            let (Some(variant), Some(memory)) = (self.world.variants.get(at), self.variants.get_mut(at)) else {
                continue;
            };
            let patience_ms = memory.patience_ms(variant, self.pace_permille);
            let desired = memory.desired();
            let found = memory.age(patience_ms, now_ms);
            self.due.moved |= found.is_some() || desired != memory.desired();
            if let Ok(index) = u32::try_from(at) {
                self.note(VariantIdx(index), found);
            }
        }
    }

    /// How late starts are on most pools; asked only once one is overdue.
    fn pace_permille(&mut self, now_ms: u64) -> u64 {
        for &pipeline in self.due.pipelines() {
            let stages = self.due.stages_of(pipeline).iter();
            let late = stages.flat_map(|&at| variants_of(&self.world, at)).any(|at| {
                let pair = self.world.variants.get(at).zip(self.variants.get(at));
                pair.is_some_and(|(variant, seen)| {
                    seen.pending.total() > 0 && seen.pending.overdue(now_ms, seen.patience_ms(variant, 1_000)) > 0
                })
            });
            if let Some(slot) = self.late.get_mut(pipeline) {
                *slot = late;
            }
        }
        if !self.late.contains(&true) {
            return 1_000;
        }
        let all = || self.world.variants.iter().zip(&self.variants);
        let late = |seen: &VariantMemory| seen.pending.oldest_ms(now_ms).filter(|_| seen.dry().is_none());
        startup::pace(
            &self.world,
            all().map(|(variant, seen)| (variant, seen.startup(), late(seen))),
            now_ms,
        )
    }
}
