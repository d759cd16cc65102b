//! What the rebalancer knows, handed to the reconcilers and to metrics.

use std::collections::VecDeque;

use kube::runtime::reflector::ObjectRef;

use super::super::report::{PipelineView, Signals};
use super::{Rebalancer, view};
use crate::rebalance::world::{PipelineIdx, StageIdx};

/// How long a started operator waits for the first signals of a pipeline before it reports that there are none.
const FIRST_LOOK_MS: u64 = 20_000;

impl Rebalancer {
    /// Refreshes the views and wakes the reconcilers of pipelines whose view changed.
    pub(super) fn refresh(&mut self, now_ms: u64) {
        (self.views_stale, self.numbers_stale) = (false, false);
        self.views_built_ms = now_ms;
        let (gap_ppm, prices) = self.state.certificate();
        self.ctx.metrics.set_plan_gap(gap_ppm);
        self.ctx.prices.set(self.index.by_pool(prices));
        self.keep_rooms(now_ms);
        for child in self.children.iter_mut().flatten() {
            child.relax(now_ms);
        }
        let none = VecDeque::new();
        for (at, id) in (0_u32..).zip(&self.index.pipelines) {
            let sample = view::sample(PipelineIdx(at), &self.index, &self.state, now_ms, |variant| {
                view::Have {
                    desired: self.child(variant).map_or(0, |child| child.desired),
                    ready: self
                        .index
                        .variant(variant)
                        .map_or(0, |found| self.pods.ready(&found.variant_id)),
                }
            });
            self.ctx.metrics.set_pipeline(&id.namespace, &id.name, sample);
        }
        for (at, id) in (0_u32..).zip(&self.index.pipelines) {
            let decisions = self.decisions.get(&id.uid).unwrap_or(&none);
            let mut view = view::view(PipelineIdx(at), &self.index, &self.state, decisions, |variant| {
                self.child(variant).and_then(|child| child.foreign.clone())
            });
            self.say_who_is_silent(PipelineIdx(at), &mut view, now_ms);
            if self.unlooked.contains(&id.uid) {
                if !is_whole(&view) && now_ms < self.started_ms + FIRST_LOOK_MS {
                    self.views_stale = true;
                    continue;
                }
                self.unlooked.remove(&id.uid);
            }
            if self.ctx.views.put(&id.uid, view) {
                let object = ObjectRef::new(&id.name).within(&id.namespace);
                // The receiver ends with the controller; then nobody needs waking.
                let _ = self.ctx.wake.send(object);
            }
        }
    }

    /// Of the stages without fresh signals of all replicas, who says nothing and why.
    fn say_who_is_silent(&self, pipeline: PipelineIdx, view: &mut PipelineView, now_ms: u64) {
        for at in self.index.stages_of(pipeline) {
            let stage = self.index.stage(StageIdx(at));
            let Some(shown) = stage.and_then(|stage| view.stages.get_mut(&stage.name)) else {
                continue;
            };
            if shown.signals != Signals::Fresh || !shown.missing.is_empty() || shown.partial {
                shown.silence = view::silence(self.read(StageIdx(at), now_ms), now_ms);
            }
        }
    }
}

/// Whether a view says what another operator would have said just before: signals of every stage have come, or the
/// pipeline has been changed since. Until then what is on record stands.
fn is_whole(view: &PipelineView) -> bool {
    !view.decisions.is_empty()
        || !view.stages.is_empty() && view.stages.iter().all(|(_, stage)| stage.signals != Signals::Unseen)
}
