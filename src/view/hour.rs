//! What was seen over the last hour, in steps of ten seconds. What nobody saw is a gap, not a zero.
//!
//! Bounded: 10,000 rows (a stage on a pool) of at most 2.5 kB, the cost of 1,000 pipelines at 6 kB, and 50 decisions of at most 0.7 kB
//! for each of them. That is 70 MB at the very most; six stages on two pools each are 70 kB.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;

use super::State;
use super::tree::{Pipeline, Tree};
use crate::api::decimal::{Decimal, money};
use crate::api::tiered_pipeline::DecisionSummary;

/// Length of a step, seconds. What is seen last in it counts.
pub const STEP_SECONDS: i64 = 10;
/// Steps of an hour.
pub const STEPS: usize = 360;
/// Rows that are kept at most.
const ROWS_MAX: usize = 10_000;
/// Pipelines whose cost and decisions are kept at most.
const PIPELINES_MAX: usize = 1_000;
/// Decisions of one pipeline that are kept at most. Its status has five.
const DECISIONS_MAX: usize = 50;

/// The last hour of some pipelines.
#[derive(Clone, Debug)]
pub struct Hour {
    /// Since when somebody looks.
    since: Timestamp,
    /// Number of the newest step, counted from the epoch.
    newest: i64,
    pipelines: BTreeMap<(String, String), Kept>,
    rows: usize,
    /// Something was left out because there was too much.
    full: bool,
}

/// What is kept of one pipeline.
#[derive(Clone, Debug, Default)]
struct Kept {
    rows: BTreeMap<(String, String), Ring<Count>>,
    cost_micros: Ring<u64>,
    /// Newest first.
    decisions: VecDeque<DecisionSummary>,
}

/// Replicas of a stage on a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    replicas: u16,
    ready: u16,
}

/// Values by step, as many as there are steps in an hour.
#[derive(Clone, Debug)]
struct Ring<T> {
    /// Number of the step of the last value.
    newest: i64,
    values: VecDeque<Option<T>>,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self {
            newest: 0,
            values: VecDeque::new(),
        }
    }
}

impl<T: Copy + PartialEq> Ring<T> {
    /// The value of a step that is no earlier than the last one. Steps between them are gaps.
    fn set(&mut self, step: i64, value: T) {
        if self.values.is_empty() {
            self.newest = step;
            self.values.push_back(Some(value));
            return;
        }
        let ahead = usize::try_from(step - self.newest).unwrap_or_default().min(STEPS);
        self.values.extend(std::iter::repeat_n(None, ahead));
        while self.values.len() > STEPS {
            self.values.pop_front();
        }
        self.newest = self.newest.max(step);
        if let Some(last) = self.values.back_mut() {
            *last = Some(value);
        }
    }

    /// Another value wherever there is one.
    fn with(&self, value: T) -> Self {
        Self {
            newest: self.newest,
            values: self.values.iter().map(|seen| seen.map(|_| value)).collect(),
        }
    }

    /// Equal values in a row: the first of their steps counted from `first`, how many, and the value.
    fn runs(&self, first: i64) -> Vec<(usize, usize, T)> {
        let mut runs: Vec<(usize, usize, T)> = Vec::new();
        let oldest = self.newest + 1 - i64::try_from(self.values.len()).unwrap_or_default();
        for (step, value) in (oldest..).zip(&self.values) {
            let (Ok(at), Some(value)) = (usize::try_from(step - first), value) else {
                continue;
            };
            match runs.last_mut() {
                Some((from, count, last)) if *from + *count == at && last == value => *count += 1,
                _ => runs.push((at, 1, *value)),
            }
        }
        runs
    }
}

/// The last hour of one pipeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Past {
    /// Since when somebody looks, RFC 3339.
    pub since: String,
    /// Start of the first step, RFC 3339.
    pub from: String,
    /// Length of a step, seconds.
    pub step_seconds: i64,
    /// How many steps; the last one is now.
    pub steps: usize,
    /// Some rows are left out because there is too much to keep.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// Each stage on each pool, as far as there were replicas.
    pub rows: Vec<Row>,
    /// What it cost per hour.
    pub cost: Vec<Cost>,
    /// Decisions of that time, newest first.
    pub decisions: Vec<DecisionSummary>,
    /// There were more of them than are kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more_decisions: bool,
}

/// A stage on a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The stage.
    pub stage: String,
    /// The pool; empty for a stage that was nowhere.
    pub pool: String,
    /// What was seen, oldest first; steps in none of them are gaps.
    pub runs: Vec<Run>,
}

/// The same number of replicas for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Run {
    /// First step.
    pub at: usize,
    /// How many steps.
    pub steps: usize,
    /// Replicas.
    pub replicas: u16,
    /// How many of them were Ready.
    pub ready: u16,
}

/// The same cost for some time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// First step.
    pub at: usize,
    /// How many steps.
    pub steps: usize,
    /// Per hour.
    pub cost_per_hour: String,
}

impl Hour {
    /// Nothing seen yet.
    pub const fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            newest: i64::MIN,
            pipelines: BTreeMap::new(),
            rows: 0,
            full: false,
        }
    }

    /// What there is now. Only to be called with what is known to be true at this moment.
    pub fn see(&mut self, tree: &Tree, decisions: &[(&str, &str, &[DecisionSummary])], now: Timestamp) {
        let step = now.as_second().div_euclid(STEP_SECONDS);
        if step < self.newest.saturating_sub(1) {
            // The clock was put back: what was seen is in no order with what follows.
            *self = Self::new(now);
        }
        // A step back of one is a correction of the clock.
        let step = step.max(self.newest);
        self.newest = step;
        self.forget(step);
        for pipeline in &tree.pipelines {
            let key = (pipeline.namespace.clone(), pipeline.name.clone());
            if !self.pipelines.contains_key(&key) && self.pipelines.len() >= PIPELINES_MAX {
                self.full = true;
                continue;
            }
            let kept = self.pipelines.entry(key).or_default();
            let room = ROWS_MAX.saturating_sub(self.rows);
            let (added, refused) = kept.see(pipeline, step, room);
            self.rows += added;
            self.full |= refused;
        }
        for (namespace, name, decisions) in decisions {
            if let Some(kept) = self.pipelines.get_mut(&((*namespace).to_owned(), (*name).to_owned())) {
                kept.remember(decisions);
            }
        }
    }

    /// Drops rows and pipelines that nobody has seen for an hour.
    fn forget(&mut self, step: i64) {
        let first = step + 1 - i64::try_from(STEPS).unwrap_or_default();
        for kept in self.pipelines.values_mut() {
            kept.rows.retain(|_, row| row.newest >= first);
        }
        self.pipelines
            .retain(|_, kept| !kept.rows.is_empty() || kept.cost_micros.newest >= first);
        self.rows = self.pipelines.values().map(|kept| kept.rows.len()).sum();
    }

    /// The last hour of a pipeline; a pipeline that nobody has seen has gaps only.
    pub fn of(&self, namespace: &str, name: &str, now: Timestamp) -> Past {
        let last = now.as_second().div_euclid(STEP_SECONDS);
        let first = last + 1 - i64::try_from(STEPS).unwrap_or_default();
        let time = |second: i64| Timestamp::from_second(second).map_or_else(|_| String::new(), |time| time.to_string());
        let none = Kept::default();
        let key = (namespace.to_owned(), name.to_owned());
        let kept = self.pipelines.get(&key).unwrap_or(&none);
        let decided = |decision: &&DecisionSummary| {
            let time: Option<Timestamp> = decision.time.parse().ok();
            time.is_some_and(|time| time.as_second() >= first * STEP_SECONDS)
        };
        let decisions: Vec<DecisionSummary> = kept.decisions.iter().filter(decided).cloned().collect();
        Past {
            more_decisions: decisions.len() >= DECISIONS_MAX,
            since: time(self.since.as_second()),
            from: time(first * STEP_SECONDS),
            step_seconds: STEP_SECONDS,
            steps: STEPS,
            incomplete: self.full,
            rows: kept.rows(first),
            cost: kept
                .cost_micros
                .runs(first)
                .into_iter()
                .map(|(at, steps, micros)| Cost {
                    at,
                    steps,
                    cost_per_hour: money(micros),
                })
                .collect(),
            decisions,
        }
    }
}

impl Kept {
    /// How many rows are new, and whether one was refused for want of `room`.
    fn see(&mut self, pipeline: &Pipeline, step: i64, room: usize) -> (usize, bool) {
        let (mut added, mut refused) = (0, false);
        for stage in pipeline.stages.iter().filter(|stage| stage.state != State::Unknown) {
            let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
            for pool in &stage.pools {
                let count = |replicas: i32| u16::try_from(replicas.max(0)).unwrap_or(u16::MAX);
                let (replicas, ready) = (count(pool.replicas), count(pool.ready));
                counts.insert(&pool.name, Count { replicas, ready });
            }
            // A status lists the pools that replicas are on: none elsewhere is known, too.
            let before = self.rows.keys().filter(|(name, _)| *name == stage.name);
            let emptied: Vec<String> = before.map(|(_, pool)| pool.clone()).collect();
            for pool in emptied.iter().filter(|pool| !pool.is_empty()) {
                counts.entry(pool).or_default();
            }
            if counts.is_empty() {
                counts.insert("", Count::default());
            }
            for (pool, count) in counts {
                let key = (stage.name.clone(), pool.to_owned());
                if !self.rows.contains_key(&key) {
                    if added >= room {
                        refused = true;
                        continue;
                    }
                    added += 1;
                    let before = self.nowhere_so_far(&stage.name);
                    self.rows.insert(key.clone(), before);
                }
                if let Some(row) = self.rows.get_mut(&key) {
                    row.set(step, count);
                }
            }
        }
        let cost = pipeline.cost_per_hour.clone();
        if let Some(micros) = cost.and_then(|text| Decimal(text).micros().ok()) {
            self.cost_micros.set(step, micros);
        }
        (added, refused)
    }

    /// A row of a pool that no status has listed yet: none whenever the stage was seen.
    fn nowhere_so_far(&self, stage: &str) -> Ring<Count> {
        let own = self.rows.iter().filter(|((name, _), _)| name == stage);
        let latest = own.map(|(_, row)| row).max_by_key(|row| row.newest);
        latest.map(|row| row.with(Count::default())).unwrap_or_default()
    }

    /// Puts those of a status before what it no longer has.
    fn remember(&mut self, newest_first: &[DecisionSummary]) {
        self.decisions
            .retain(|known| !newest_first.iter().any(|decision| decision.id == known.id));
        for decision in newest_first.iter().rev() {
            self.decisions.push_front(decision.clone());
        }
        self.decisions.truncate(DECISIONS_MAX);
    }

    /// Rows with replicas; of a stage that had none at all, one without.
    fn rows(&self, first: i64) -> Vec<Row> {
        let all: Vec<Row> = self
            .rows
            .iter()
            .map(|((stage, pool), ring)| Row {
                stage: stage.clone(),
                pool: pool.clone(),
                runs: ring.runs(first).into_iter().map(Run::of).collect(),
            })
            .collect();
        let used = |row: &Row| row.runs.iter().any(|run| run.replicas > 0);
        let idle = |row: &&Row| {
            let own = |other: &&Row| other.stage == row.stage;
            let first_of_all = all.iter().find(own).is_some_and(|other| other.pool == row.pool);
            first_of_all && !all.iter().filter(own).any(used)
        };
        let kept = all.iter().filter(|row| used(row) || idle(row));
        kept.map(|row| {
            let mut row = row.clone();
            if !used(&row) {
                row.pool.clear();
            }
            row
        })
        .collect()
    }
}

impl Run {
    const fn of((at, steps, count): (usize, usize, Count)) -> Self {
        Self {
            at,
            steps,
            replicas: count.replicas,
            ready: count.ready,
        }
    }
}

#[cfg(test)]
#[path = "hour_tests.rs"]
mod tests;
