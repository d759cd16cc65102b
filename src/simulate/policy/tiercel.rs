//! tiercel: [`crate::rebalance::step`], the very core that the operator runs, fed as the operator feeds it.
//!
//! Model servers are scraped every second, with the rate over the last seconds; CPU comes from `metrics.k8s.io`, a value
//! per 15 s. A pod that has had no room for ten seconds is reported as dry. The core learns of replicas from events, as it
//! would from a watch. What the solver finds aside arrives with the events of the next second; it is stopped by a count,
//! not by a clock, so that a run is the same everywhere.

use super::watch::{Watch, orders};
use super::{Kind, Knobs, Order, Policy, View, knob};
use crate::rebalance::decision::Decision;
use crate::rebalance::propose::{Proposal, propose};
use crate::rebalance::solve::{Memory, Settings};
use crate::rebalance::world::{Event, Reading};
use crate::rebalance::{State, step};
use crate::simulate::scenario::{Scenario, Signal};

/// What the command line offers.
pub const KIND: Kind = Kind {
    name: "tiercel",
    about: "the operator's own decision core",
    knobs: &[
        ("target", &[70.0, 30.0, 40.0, 50.0, 60.0, 80.0, 90.0, 100.0]),
        ("window", &[120.0, 30.0, 60.0, 300.0, 600.0]),
    ],
    build: |scenario, _, knobs| Box::new(Tiercel::new(scenario, knobs)),
};

/// Seconds between the points of a rate.
const RATE_S: usize = 7;
/// How often a search may ask to go on: more than any sample needs, and an end where somebody simulates a large world.
const ASKS_MAX: u32 = 4_096;

/// One step of the core, as a decision log records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// When, milliseconds.
    pub now_ms: u64,
    /// What it was told.
    pub events: Vec<Event>,
    /// What it decided.
    pub decisions: Vec<Decision>,
}

/// The core and what it has been told.
#[derive(Debug)]
pub struct Tiercel {
    state: State,
    watch: Watch,
    solver: Memory,
    /// What was planned aside since the last step.
    proposal: Option<Proposal>,
    record: Option<Vec<Recorded>>,
}

impl Tiercel {
    /// A core that knows nothing yet. `target` in per cent and `window` (of shrinking) in seconds take the place of what
    /// the stages declare.
    pub fn new(scenario: &Scenario, knobs: &Knobs) -> Self {
        let mut world = scenario.world.clone();
        for stage in &mut world.stages {
            let percent = knob(knobs, "target", f64::from(stage.target_permille) / 10.0);
            stage.target_permille = (percent * 10.0).clamp(10.0, 1_000.0) as u32;
            stage.down_window_ms = (knob(knobs, "window", stage.down_window_ms as f64 / 1e3) * 1e3) as u64;
        }
        Self {
            state: State::new(),
            watch: Watch::new(world),
            solver: Memory::default(),
            proposal: None,
            record: None,
        }
    }

    /// Keeps every step for a decision log.
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.record = Some(Vec::new());
        self
    }

    /// The steps so far, if they are kept.
    pub fn recorded(&self) -> &[Recorded] {
        self.record.as_deref().unwrap_or_default()
    }

    fn plan_aside(&mut self) {
        self.proposal = self.state.question().map(|question| {
            let mut asks = 0;
            let mut go_on = || {
                asks += 1;
                asks <= ASKS_MAX
            };
            propose(&question, &mut self.solver, &Settings::default(), &mut go_on)
        });
    }
}

fn reading(view: &View<'_>, variant: usize) -> Option<Reading> {
    let ready = view.seen[variant].ready;
    let millis = |value: f64| (value * 1e3) as u64;
    match view.scenario.variants[variant].signal {
        Signal::Server => {
            let last = view.metrics.last(variant).filter(|_| ready > 0)?;
            let rate = view.metrics.mean(variant, RATE_S, |second| second.arrivals);
            Some(Reading {
                taken_ms: view.now_ms,
                sampled: ready,
                expected: ready,
                running_millis: Some(millis(last.running_now)),
                waiting_millis: Some(millis(last.waiting_now)),
                utilization_permille: None,
                rate_millis: rate.map(millis),
            })
        }
        Signal::Cpu => {
            let cpu = view.metrics.cpu(variant)?;
            Some(Reading {
                taken_ms: cpu.taken_ms,
                sampled: cpu.sampled.min(ready),
                expected: ready,
                running_millis: None,
                waiting_millis: None,
                utilization_permille: Some((cpu.utilization * 1e3) as u32),
                rate_millis: None,
            })
        }
    }
}

impl Policy for Tiercel {
    fn step(&mut self, view: &View<'_>) -> Vec<Order> {
        let mut events = self.watch.events(view, reading);
        events.extend(self.proposal.take().map(|proposal| Event::Proposal(Box::new(proposal))));
        let decisions = step(&mut self.state, &events, view.now_ms);
        self.plan_aside();
        let orders = orders(&decisions);
        if let Some(record) = &mut self.record {
            record.push(Recorded {
                now_ms: view.now_ms,
                events,
                decisions,
            });
        }
        orders
    }
}
