//! Whom a step looks at: pipelines that something happened to, and those whose time has come.
//!
//! Stages of one pipeline hear of each other, by what callers send and by a common objective; those of different pipelines
//! only meet in the plan. So demand, histories and bounds of a pipeline are looked at when an event concerns it or when it
//! asked to be woken, and at no other time: what its neighbours do is not its business, and a step costs what its events
//! touch. The plan and the moves are made for all, where something that they are made from has changed.

use super::world::World;

#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    /// Stages by pipeline, callers before the called.
    stages: Vec<Vec<usize>>,
    marked: Vec<bool>,
    /// The pipelines that are marked.
    list: Vec<usize>,
    /// When each pipeline is to be looked at although nothing happens.
    wakes: Vec<Option<u64>>,
    /// Replicas, or room for them, may not be what they were when moves were last decided.
    pub(super) moved: bool,
}

impl Due {
    /// Another world: everybody is looked at.
    pub(super) fn replace(&mut self, world: &World) {
        *self = Self {
            stages: vec![Vec::new(); world.pipelines.len()],
            marked: vec![false; world.pipelines.len()],
            list: Vec::new(),
            wakes: vec![None; world.pipelines.len()],
            moved: true,
        };
        for (at, stage) in world.stages.iter().enumerate() {
            if let Some(stages) = self.stages.get_mut(stage.pipeline.0 as usize) {
                stages.push(at);
            }
        }
        self.mark_all();
    }

    /// Something happened to a pipeline.
    pub(super) fn mark(&mut self, pipeline: usize) {
        if let Some(marked) = self.marked.get_mut(pipeline).filter(|marked| !**marked) {
            *marked = true;
            self.list.push(pipeline);
            // It says anew when to wake it.
            if let Some(wake) = self.wakes.get_mut(pipeline) {
                *wake = None;
            }
        }
    }

    pub(super) fn mark_all(&mut self) {
        for pipeline in 0..self.marked.len() {
            self.mark(pipeline);
        }
    }

    /// Marks those whose time has come.
    pub(super) fn begin(&mut self, now_ms: u64) {
        for pipeline in 0..self.wakes.len() {
            if self
                .wakes
                .get(pipeline)
                .copied()
                .flatten()
                .is_some_and(|at| at <= now_ms)
            {
                self.mark(pipeline);
            }
        }
    }

    /// A pipeline is to be looked at by then.
    pub(super) fn wake(&mut self, pipeline: usize, at_ms: Option<u64>) {
        if let (Some(wake), Some(at_ms)) = (self.wakes.get_mut(pipeline), at_ms) {
            *wake = Some(wake.map_or(at_ms, |old| old.min(at_ms)));
        }
    }

    /// The pipelines of this step.
    pub(super) fn pipelines(&self) -> &[usize] {
        &self.list
    }

    /// The stages of a pipeline, callers before the called.
    pub(super) fn stages_of(&self, pipeline: usize) -> &[usize] {
        self.stages.get(pipeline).map_or(&[], Vec::as_slice)
    }

    /// The stages of this step, callers before the called.
    pub(super) fn stages(&self) -> Vec<usize> {
        let stages = self.list.iter().flat_map(|&pipeline| self.stages_of(pipeline));
        let mut stages: Vec<usize> = stages.copied().collect();
        stages.sort_unstable();
        stages
    }

    /// The step is over; returns when the next one is due.
    pub(super) fn end(&mut self, moved: bool) -> Option<u64> {
        for pipeline in self.list.drain(..) {
            if let Some(marked) = self.marked.get_mut(pipeline) {
                *marked = false;
            }
        }
        self.moved = moved;
        self.wakes.iter().copied().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[test]
    fn a_pipeline_is_looked_at_when_something_happens_or_its_time_has_come() {
        let text = "pipe p\npool a 8\nstage x\n a cap 1 cost 1 has 1/1 at ?\nstage y\n a cap 1 cost 1 has 1/1 at ?\n\
                    pipe q\nstage z\n a cap 1 cost 1 has 1/1 at ?";
        let world = Fixture::parse(text).world;
        let mut due = Due::default();
        due.replace(&world);
        assert_eq!((due.stages(), due.moved), (vec![0, 1, 2], true), "a new world");
        due.wake(0, Some(50));
        due.wake(0, Some(80));
        due.wake(1, Some(70));
        assert_eq!(due.end(false), Some(50));
        due.begin(49);
        assert_eq!(due.stages(), Vec::<usize>::new());
        due.mark(1);
        due.begin(50);
        assert_eq!(due.stages(), [0, 1, 2]);
        assert_eq!(due.end(false), None, "nobody asked to be woken again");
        due.mark(1);
        assert_eq!(due.stages(), [2]);
    }
}
