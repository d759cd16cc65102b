//! What replicas say of their load, and what may be wrong with it, as far as it reaches the core.
//!
//! Of the fifteen faults of a metric source (`down`, `slow`, `401`, NaN, +Inf, -Inf, negative, absent series, frozen,
//! replayed, wrong unit, duplicated series, huge body, one pod lying, empty answer) ten are refused before the core: no
//! reading arrives. The others are [`ReadingFault`]s of their own.

use std::collections::VecDeque;

use super::{Faults, Sim, TICK_MS};
use crate::rebalance::world::{Event, Reading, Traffic, VariantIdx};

/// True readings that are remembered by variant.
const REMEMBERED: usize = 12;

/// So many identical answers in a row pass for news.
const FROZEN_AFTER: u64 = 3;

/// So many answers at rest pass for news where the page used to move with every one: what `signals::aggregate` allows.
const FROZEN_AT_REST_AFTER: u64 = 10;

/// What is wrong with readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rebalance) enum ReadingFault {
    /// None arrives: the source is down or denies, or what it says is refused.
    Absent,
    /// Each arrives some seconds after it was taken, in no order.
    Late,
    /// The last one is said again, as if it were new, until it is found to be frozen.
    Frozen,
    /// All stand still as they were at rest: nothing to do, said as if new, until that is found to be frozen.
    FrozenAtRest,
    /// Old ones are said again, with the time at which they were taken.
    Replayed,
    /// Old ones are said again by a source that gives no time: they pass for new.
    ReplayedAsNew,
    /// A utilization in per cent is refused; what is said beside it stays.
    WrongUnit,
    /// One replica of each variant says that it has nothing to do.
    OneIsIdle,
    /// One replica of each variant says that it is full.
    OneIsFull,
}

/// True readings by variant, the newest last, and since when they are not what is told.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    of: Vec<VecDeque<Reading>>,
    wrong_since_ms: Option<u64>,
}

impl Sim {
    /// What arrives in this tick.
    pub(super) fn readings(&mut self, faults: &Faults) -> Vec<Event> {
        self.past.of.resize(self.desired.len(), VecDeque::new());
        self.past.wrong_since_ms = faults.readings.map(|_| self.past.wrong_since_ms.unwrap_or(self.now_ms));
        let mut events = Vec::new();
        for stage in 0..self.load.len() {
            for at in self.stage_range(stage) {
                let ready = self.ready(at);
                if ready == 0 || self.random.chance(faults.lost_readings) {
                    continue;
                }
                let missing = if self.random.chance(faults.partial_readings) {
                    self.random.within(0, u64::from(ready))
                } else {
                    0
                };
                let off = 1_000 + self.random.within(0, 2 * self.noise_permille);
                let noisy = |value: u64| value * off.saturating_sub(self.noise_permille) / 1_000;
                let used = noisy(u64::from(self.utilization(stage, at))).min(1_000) as u32;
                let rated = self.world.stages[stage].rated;
                let served = u64::from(ready) * self.serves(at) * u64::from(used) / 1_000;
                let both = !self.truth_permille.is_empty();
                let reading = Reading {
                    taken_ms: self.now_ms,
                    sampled: ready - missing as u32,
                    expected: ready,
                    running_millis: None,
                    waiting_millis: None,
                    utilization_permille: (!rated || both).then_some(used),
                    rate_millis: rated.then_some(served),
                };
                let told = match faults.readings {
                    None => Some(reading),
                    Some(fault) => self.distorted(at, reading, fault),
                };
                if self.past.of[at].len() == REMEMBERED {
                    self.past.of[at].pop_front();
                }
                self.past.of[at].push_back(reading);
                events.extend(told.map(|reading| Event::Reading {
                    variant: VariantIdx(at as u32),
                    reading,
                }));
            }
        }
        events
    }

    /// What is told instead of a true reading of a variant.
    fn distorted(&mut self, at: usize, truth: Reading, fault: ReadingFault) -> Option<Reading> {
        let since_ms = self.past.wrong_since_ms.unwrap_or(self.now_ms);
        let some = self.random.within(0, REMEMBERED as u64 - 1) as usize;
        let past = &self.past.of[at];
        let before = || past.iter().filter(|reading| reading.taken_ms < since_ms);
        // As new as an answer to a question of now, about the replicas that are asked now.
        let now = |old: &Reading| Reading {
            taken_ms: truth.taken_ms,
            sampled: old.sampled.min(truth.expected),
            expected: truth.expected,
            ..*old
        };
        match fault {
            ReadingFault::Absent => None,
            ReadingFault::Late => past.iter().rev().nth(some).copied(),
            ReadingFault::Frozen => {
                let is_believed = self.now_ms < since_ms + FROZEN_AFTER * TICK_MS;
                before().next_back().filter(|_| is_believed).map(now)
            }
            ReadingFault::FrozenAtRest => {
                let is_believed = self.now_ms < since_ms + FROZEN_AT_REST_AFTER * TICK_MS;
                is_believed.then_some(Reading {
                    utilization_permille: truth.utilization_permille.map(|_| 0),
                    rate_millis: truth.rate_millis.map(|_| 0),
                    ..truth
                })
            }
            ReadingFault::Replayed => before().nth(some % before().count().max(1)).copied(),
            ReadingFault::ReplayedAsNew => before().nth(some % before().count().max(1)).map(now),
            ReadingFault::WrongUnit => truth.rate_millis.is_some().then_some(Reading {
                utilization_permille: None,
                ..truth
            }),
            ReadingFault::OneIsIdle | ReadingFault::OneIsFull => {
                let full = fault == ReadingFault::OneIsFull;
                let others = u64::from(truth.sampled.saturating_sub(1));
                let mixed = |value: u64, most: u64| {
                    (value * others + if full { most } else { 0 }) / u64::from(truth.sampled.max(1))
                };
                let most = u64::from(truth.sampled) * self.serves(at);
                Some(Reading {
                    utilization_permille: truth
                        .utilization_permille
                        .map(|used| mixed(u64::from(used), 1_000) as u32),
                    rate_millis: truth.rate_millis.map(|rate| mixed(rate, most)),
                    ..truth
                })
            }
        }
    }

    /// What a replica really serves.
    fn serves(&self, variant: usize) -> u64 {
        let permille = self.truth_permille.get(variant).copied().unwrap_or(1_000);
        (self.world.variants[variant].capacity_millis * permille / 1_000).max(1)
    }

    fn utilization(&self, stage: usize, variant: usize) -> u32 {
        let range = self.stage_range(stage);
        let capacity = |at: usize| self.serves(at);
        let share = if self.world.stages[stage].traffic == Traffic::Uniform {
            let ready: u64 = range.map(|at| u64::from(self.ready(at))).sum();
            self.load[stage] * 1_000 / (ready.max(1) * capacity(variant))
        } else {
            let together: u64 = range.map(|at| u64::from(self.ready(at)) * capacity(at)).sum();
            self.load[stage] * 1_000 / together.max(1)
        };
        share.min(1_000) as u32
    }
}
