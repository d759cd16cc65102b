//! Whom a step looks at: pipelines that something happened to, and those whose time has come.
//!
//! Stages of one pipeline hear of each other, by what callers send and by a common objective; those of different pipelines
//! only meet in the plan. So demand, histories and bounds of a pipeline are looked at when an event concerns it or when it
//! asked to be woken, and at no other time: what its neighbours do is not its business, and a step costs what its events
//! touch. The plan and the moves are made for all, where something that they are made from has changed.

use super::state::State;
use super::world::{VariantIdx, World};

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

    pub(super) fn is_marked(&self, pipeline: usize) -> bool {
        self.marked.get(pipeline).copied().unwrap_or(true)
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

impl State {
    /// The next step looks at the pipeline of a stage.
    pub(super) fn look_at(&mut self, stage: usize) {
        if let Some(stage) = self.world.stages.get(stage) {
            self.due.mark(stage.pipeline.0 as usize);
        }
    }

    /// The pipeline of a stage is to be looked at by then.
    pub(super) fn wake(&mut self, stage: usize, at_ms: Option<u64>) {
        if let Some(stage) = self.world.stages.get(stage) {
            self.due.wake(stage.pipeline.0 as usize, at_ms);
        }
    }

    /// Something happened to a variant: its pipeline is looked at.
    pub(super) fn touch(&mut self, variant: VariantIdx) {
        if let Some(variant) = self.world.variants.get(variant.0 as usize) {
            self.look_at(variant.stage.0 as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::decision::Decision;
    use super::super::fixture::{Fixture, cases};
    use super::super::sim::Random;
    use super::super::step::step;
    use super::super::world::{Event, Reading};
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

    const NOW_MS: u64 = 1_000_000;

    /// Two pipelines that share nothing, the first of two stages on two pools.
    const APART: &str = "pipe p\npool a 20\npool b 20\nstage x max 9 down 8000\n a cap 1 cost 1 has 2/2 at ?\n b cap 2 cost 3 has 0/0 at ?\n\
                         stage y max 9 down 5000\n a cap 1 cost 1 has 1/1 at ?\npipe q\npool c 20\nstage z max 9 down 3000\n c cap 1 cost 1 has 3/3 at ?";

    /// Five minutes of an operator that steps when something happens or the core asks for it. The second pipeline's events
    /// come in between, where it `speaks`. What was decided for the first, and what is said of it in the end.
    fn five_minutes(seed: u64, speaks: bool) -> (Vec<(u64, Decision)>, String) {
        let fixture = Fixture::parse(APART);
        let (mut state, mut own, mut others) = (State::new(), Random::new(seed), Random::new(!seed));
        let mut replicas: Vec<(u32, u32)> = vec![(2, 2), (0, 0), (1, 1), (3, 3)];
        let mut decided = Vec::new();
        let mut news: Vec<bool> = vec![true; replicas.len()];
        for tick in 0..3_000_u64 {
            let now_ms = NOW_MS + tick * 100;
            let mut events = if tick == 0 {
                vec![Event::World(fixture.world.clone())]
            } else {
                Vec::new()
            };
            for (at, &(desired, ready)) in replicas.iter().enumerate() {
                let variant = VariantIdx(u32::try_from(at).unwrap());
                let random = if at < 3 { &mut own } else { &mut others };
                // Each draws its own, in any case.
                let (reads, load) = (random.chance(8), random.within(100, 3_000));
                if at == 3 && !speaks {
                    continue;
                }
                if std::mem::take(&mut news[at]) {
                    events.push(Event::Replicas {
                        variant,
                        desired,
                        ready,
                    });
                }
                if reads && ready > 0 {
                    let share = u32::try_from(load / u64::from(ready)).unwrap().min(990);
                    let reading = Reading {
                        taken_ms: now_ms,
                        sampled: ready,
                        expected: ready,
                        running_millis: None,
                        waiting_millis: None,
                        utilization_permille: Some(share),
                        rate_millis: None,
                    };
                    events.push(Event::Reading { variant, reading });
                }
            }
            if events.is_empty() && state.next_wake_ms().is_none_or(|at| now_ms < at) {
                continue;
            }
            for decision in step(&mut state, &events, now_ms) {
                for one in &decision.moves {
                    let at = one.variant.0 as usize;
                    (replicas[at], news[at]) = ((one.to, one.to), true);
                }
                if decision.stage.0 < 2 {
                    decided.push((now_ms, Decision { id: 0, ..decision }));
                }
            }
        }
        (decided, format!("{:?}", &state.reports[..2]))
    }

    proptest! {
        #![proptest_config(cases(64))]

        #[test]
        fn what_happens_to_a_pipeline_is_nothing_to_one_that_shares_nothing_with_it(seed in any::<u64>()) {
            let (alone, said) = five_minutes(seed, false);
            prop_assert!(!alone.is_empty(), "nothing was decided");
            let (beside, said_beside) = five_minutes(seed, true);
            prop_assert_eq!(alone, beside);
            prop_assert_eq!(said, said_beside);
        }
    }
}
