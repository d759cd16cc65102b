//! Requests and the calls that they make along the edges of their pipeline.

use super::load::Arrival;
use super::random::Random;
use super::scenario::Scenario;

/// Most calls that one request may make to one stage.
const CALLS_MAX: u32 = 64;

/// One call of a request to a stage.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The request.
    pub request: u32,
    /// The stage.
    pub stage: u32,
    /// Units of work; one is what capacities count.
    pub work: f64,
    /// When it was made, microseconds.
    pub made_us: u64,
    /// When it began to run, microseconds.
    pub started_us: u64,
}

/// How far a request is at one stage.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Calls that it makes here.
    calls: u32,
    /// Of these, not done.
    left: u32,
    /// Callers that are not done.
    blocked: u32,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it arrived, microseconds.
    pub arrived_us: u64,
    /// Its pipeline.
    pub pipeline: u32,
    /// Its size, relative to the mean.
    work: f64,
    /// By stage of the pipeline.
    stages: Vec<Progress>,
    /// Stages not done.
    left: u32,
    /// What its size beyond the mean took in service, microseconds: the objective is for a request of mean size.
    pub allowance_us: f64,
}

/// What the end of a call means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The request goes on elsewhere.
    Waits,
    /// These stages are called now.
    Calls(Vec<usize>),
    /// The request is served.
    Served,
}

impl Request {
    /// A request of a pipeline, and the stages that it calls first. How often it calls each stage depends on the seed and
    /// its number only.
    pub fn new(scenario: &Scenario, pipeline: usize, arrival: &Arrival, number: u64, seed: u64) -> (Self, Vec<usize>) {
        let range = scenario.stages_of(pipeline);
        let base = range.start;
        let mut random = Random::of(seed ^ ((pipeline as u64 + 1) << 48), number);
        let mut stages: Vec<Progress> = Vec::with_capacity(range.len());
        let mut first = Vec::new();
        for stage in range {
            let after = &scenario.world.stages[stage].after;
            let mut progress = Progress::default();
            if after.is_empty() {
                progress.calls = 1;
                first.push(stage);
            }
            for edge in after {
                let caller = stages[edge.from.0 as usize - base];
                progress.calls += random.round(f64::from(caller.calls) * edge.calls_millis as f64 / 1e3);
                progress.blocked += u32::from(caller.calls > 0);
            }
            progress.calls = progress.calls.min(CALLS_MAX);
            progress.left = progress.calls;
            stages.push(progress);
        }
        let left = stages.iter().map(|progress| u32::from(progress.calls > 0)).sum();
        let request = Self {
            arrived_us: arrival.at_ms * 1_000,
            pipeline: pipeline as u32,
            work: arrival.work.max(0.01),
            stages,
            left,
            allowance_us: 0.0,
        };
        (request, first)
    }

    /// Calls that it makes to a stage, and the work of each.
    pub fn calls(&self, scenario: &Scenario, stage: usize) -> (u32, f64) {
        let base = scenario.stages_of(self.pipeline as usize).start;
        let work = if scenario.stages[stage].sized { self.work } else { 1.0 };
        (self.stages[stage - base].calls, work)
    }

    /// A call to `stage` is done.
    pub fn done(&mut self, scenario: &Scenario, stage: usize) -> Step {
        let range = scenario.stages_of(self.pipeline as usize);
        let base = range.start;
        let progress = &mut self.stages[stage - base];
        progress.left -= 1;
        if progress.left > 0 {
            return Step::Waits;
        }
        self.left -= 1;
        if self.left == 0 {
            return Step::Served;
        }
        let mut next = Vec::new();
        for called in range {
            for edge in &scenario.world.stages[called].after {
                if edge.from.0 as usize != stage {
                    continue;
                }
                let progress = &mut self.stages[called - base];
                progress.blocked -= 1;
                if progress.blocked == 0 && progress.calls > 0 {
                    next.push(called);
                }
            }
        }
        if next.is_empty() {
            Step::Waits
        } else {
            Step::Calls(next)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::fixture::chain;

    const ARRIVAL: Arrival = Arrival { at_ms: 5, work: 3.0 };

    #[test]
    fn a_request_calls_along_the_edges_as_often_as_declared() {
        let scenario = chain();
        let mut calls = [0, 0, 0];
        for number in 0..1_000 {
            let (request, first) = Request::new(&scenario, 0, &ARRIVAL, number, 1);
            assert_eq!(first, [0]);
            for (stage, calls) in calls.iter_mut().enumerate() {
                *calls += request.calls(&scenario, stage).0;
            }
        }
        assert_eq!((calls[0], calls[1]), (1_000, 2_000));
        assert!((760..840).contains(&calls[2]), "{calls:?}");
    }

    #[test]
    fn it_is_served_when_every_stage_is_done() {
        let scenario = chain();
        let (mut request, _) = Request::new(&scenario, 0, &ARRIVAL, 0, 1);
        let third = request.calls(&scenario, 2).0;
        let Step::Calls(next) = request.done(&scenario, 0) else {
            panic!("the first stage calls others")
        };
        assert_eq!(next.len() as u32, 1 + u32::from(third > 0));
        assert_eq!(request.done(&scenario, 1), Step::Waits);
        let second = request.done(&scenario, 1);
        if third > 0 {
            assert_eq!(second, Step::Waits);
            assert_eq!(request.done(&scenario, 2), Step::Served);
        } else {
            assert_eq!(second, Step::Served);
        }
    }
}
