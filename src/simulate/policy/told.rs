//! The core of [`tiercel`](super::tiercel), told something else than what is true: other capacities, other edges, fewer
//! signals. For figures on what it learns and what a signal is worth; no choice on the command line.
//!
//! The scenario says what is true. The world that the core is told says what an operator declared.

use super::watch::{Watch, orders};
use super::{Order, Policy, View};
use crate::rebalance::world::{Reading, World};
use crate::rebalance::{State, step};

/// Seconds between the points of a rate that comes with every second.
const RATE_S: usize = 7;
/// The same where it comes with CPU use, whose window it is.
const CPU_RATE_S: usize = 15;

/// What is read of every variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// CPU over request, one value per 15 s.
    Utilization,
    /// The same, and the rate over those 15 s.
    UtilizationAndRate,
    /// Calls running and waiting and the rate over 7 s, every second.
    RateAndBacklog,
}

/// One second.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// When, milliseconds.
    pub at_ms: u64,
    /// By variant: replicas asked for.
    pub desired: Vec<u32>,
    /// By variant: Ready replicas.
    pub ready: Vec<u32>,
    /// By variant: calls that wait.
    pub waiting: Vec<f64>,
}

/// The core and what it was told.
#[derive(Debug)]
pub struct Told {
    state: State,
    watch: Watch,
    shows: Shows,
    moments: Vec<Moment>,
}

impl Told {
    /// A core that knows nothing yet and will be told `world`; its pools are those of the scenario. With
    /// [`State::unlearning`] it stays with what is declared.
    pub fn new(state: State, world: World, shows: Shows) -> Self {
        Self {
            state,
            watch: Watch::new(world),
            shows,
            moments: Vec::new(),
        }
    }

    /// Every second so far.
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }

    /// The core as it is now.
    pub fn state(&self) -> &State {
        &self.state
    }
}

impl Shows {
    fn reading(self, view: &View<'_>, variant: usize) -> Option<Reading> {
        let ready = view.seen[variant].ready;
        let millis = |value: f64| (value * 1e3) as u64;
        let rate = |seconds| {
            view.metrics
                .mean(variant, seconds, |second| second.arrivals)
                .map(millis)
        };
        if self == Shows::RateAndBacklog {
            let last = view.metrics.last(variant).filter(|_| ready > 0)?;
            return Some(Reading {
                taken_ms: view.now_ms,
                sampled: ready,
                expected: ready,
                running_millis: Some(millis(last.running_now)),
                waiting_millis: Some(millis(last.waiting_now)),
                utilization_permille: None,
                rate_millis: rate(RATE_S),
            });
        }
        // Between two values of CPU use the last one stands, rate and pods included.
        let cpu = view.metrics.cpu(variant).filter(|cpu| cpu.taken_ms == view.now_ms)?;
        Some(Reading {
            taken_ms: cpu.taken_ms,
            sampled: cpu.sampled.min(ready),
            expected: ready,
            running_millis: None,
            waiting_millis: None,
            utilization_permille: Some((cpu.utilization * 1e3) as u32),
            rate_millis: rate(CPU_RATE_S).filter(|_| self == Shows::UtilizationAndRate),
        })
    }
}

impl Policy for Told {
    fn step(&mut self, view: &View<'_>) -> Vec<Order> {
        let waiting = |variant: usize| view.metrics.last(variant).map_or(0.0, |last| last.waiting_now);
        self.moments.push(Moment {
            at_ms: view.now_ms,
            desired: view.seen.iter().map(|seen| seen.desired).collect(),
            ready: view.seen.iter().map(|seen| seen.ready).collect(),
            waiting: (0..view.seen.len()).map(waiting).collect(),
        });
        let shows = self.shows;
        let events = self.watch.events(view, |view, variant| shows.reading(view, variant));
        let decisions = step(&mut self.state, &events, view.now_ms);
        orders(&decisions)
    }
}
