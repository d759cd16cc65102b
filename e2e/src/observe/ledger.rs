//! What the observer knows: pure bookkeeping, time is an argument.
//!
//! A bound counts from the moment it is first kept: replicas need time to come up, or to go when a bound is lowered. From
//! then on every crossing is a violation, noted once per crossing.

use std::collections::BTreeMap;
use std::time::Duration;

/// One pod may be Ready, and another leave for it, before the controller manager has said either: it writes the statuses of
/// two Deployments one after the other, in any order. What one Deployment lacks and another makes up for so soon was not short.
const STATUS_LAG: Duration = Duration::from_millis(100);

/// One stage of one pipeline.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub struct StageKey {
    pub namespace: String,
    pub pipeline: String,
    pub stage: String,
}

/// Replica bounds of a stage, over all its pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Bounds {
    pub min: Option<i64>,
    /// What a shift may hold on top until its new replicas are Ready included.
    pub max: Option<i64>,
}

/// The replicas of one stage on one pool at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Since the observer's start.
    pub at: Duration,
    /// Whose replicas.
    pub key: StageKey,
    /// On which pool.
    pub pool: String,
    /// `spec.replicas`; 0 when the Deployment is gone.
    pub spec: i64,
    /// `status.readyReplicas`.
    pub ready: i64,
    /// The API server's revision of this state: orders it against changes of bounds, which come by another watch.
    pub revision: u64,
    /// Cost of one replica, millionths of a dollar per hour; absent if the pool has no price or no node.
    pub unit_cost_micros: Option<i64>,
}

/// Which bound was crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Fewer replicas asked for than the stage's minimum.
    Floor,
    /// Fewer replicas ready than the minimum; also a consequence of faults, not only of decisions.
    ReadyFloor,
    /// More replicas asked for than the maximum.
    Ceiling,
    /// The pipeline's replicas cost more than its budget.
    Budget,
}

/// A bound that was crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Since the observer's start.
    pub at: Duration,
    /// Where; for [`Kind::Budget`] the stage whose change crossed it.
    pub key: StageKey,
    /// Which bound.
    pub kind: Kind,
    /// What was seen (replicas, or millionths of a dollar per hour).
    pub seen: i64,
    /// What was allowed.
    pub bound: i64,
    /// The API server's revision of the state that crossed it.
    pub revision: u64,
}

#[derive(Debug, Clone, Default)]
struct Stage {
    bounds: Bounds,
    /// By Deployment name.
    now: BTreeMap<String, Sample>,
    /// Newest revision among them, gone ones included.
    revision: u64,
    /// Bounds that were kept since they were set.
    kept: BTreeMap<Kind, bool>,
    /// Pool of the Deployment whose status went below the floor of Ready replicas.
    short_by: Option<String>,
}

/// Everything seen.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    stages: BTreeMap<StageKey, Stage>,
    budgets: BTreeMap<(String, String), (i64, bool)>,
    samples: Vec<Sample>,
    violations: Vec<Violation>,
    gaps: Vec<String>,
    listing: bool,
}

impl Ledger {
    /// All changes in the order seen; one entry per change of `spec` or `ready`.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// All crossings of bounds.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Interruptions of a watch, during which changes may have gone unseen.
    pub fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// Replicas per pool of a stage now, as (asked for, ready); pools without a Deployment are absent.
    pub fn pools(&self, key: &StageKey) -> BTreeMap<String, (i64, i64)> {
        let now = self.stages.get(key).into_iter().flat_map(|stage| stage.now.values());
        now.map(|sample| (sample.pool.clone(), (sample.spec, sample.ready)))
            .collect()
    }

    /// A pipeline's cost now, millionths of a dollar per hour; pools without price count nothing.
    pub fn cost_micros(&self, namespace: &str, pipeline: &str) -> i64 {
        let stages = self
            .stages
            .iter()
            .filter(|(key, _)| key.namespace == namespace && key.pipeline == pipeline);
        let samples = stages.flat_map(|(_, stage)| stage.now.values());
        samples
            .map(|sample| sample.spec * sample.unit_cost_micros.unwrap_or(0))
            .sum()
    }

    /// Notes a watch that broke off.
    pub fn gap(&mut self, why: String) {
        self.gaps.push(why);
    }

    /// A list of Deployments begins: until its end, sums over a stage are incomplete.
    pub fn begin_list(&mut self) {
        self.listing = true;
        for stage in self.stages.values_mut() {
            stage.now.clear();
        }
    }

    /// The list is complete.
    pub fn end_list(&mut self, at: Duration) {
        self.listing = false;
        let keys: Vec<_> = self.stages.keys().cloned().collect();
        for key in keys {
            self.judge(at, &key, None);
        }
    }

    /// Takes the bounds of a pipeline's stages and its budget. A bound that changed counts from when it is next kept, and
    /// takes back violations of its predecessor by states that are newer than the change.
    pub fn pipeline(
        &mut self,
        at: Duration,
        (namespace, pipeline, revision): (&str, &str, u64),
        stages: &BTreeMap<String, Bounds>,
        budget: Option<i64>,
    ) {
        let place = (namespace.to_owned(), pipeline.to_owned());
        match budget {
            Some(budget) if self.budgets.get(&place).is_some_and(|(old, _)| *old == budget) => {}
            changed => {
                let same = |key: &StageKey| key.namespace == namespace && key.pipeline == pipeline;
                self.violations
                    .retain(|it| !(it.kind == Kind::Budget && same(&it.key) && it.revision > revision));
                self.budgets.remove(&place);
                self.budgets.extend(changed.map(|budget| (place, (budget, false))));
            }
        }
        for (key, stage) in &mut self.stages {
            if key.namespace == namespace && key.pipeline == pipeline && !stages.contains_key(&key.stage) {
                stage.bounds = Bounds::default();
            }
        }
        for (name, bounds) in stages {
            let (namespace, pipeline) = (namespace.to_owned(), pipeline.to_owned());
            let key = StageKey {
                namespace,
                pipeline,
                stage: name.clone(),
            };
            let stage = self.stages.entry(key.clone()).or_default();
            let (min, max) = (stage.bounds.min != bounds.min, stage.bounds.max != bounds.max);
            for (kind, changed) in [(Kind::Floor, min), (Kind::ReadyFloor, min), (Kind::Ceiling, max)] {
                if changed {
                    stage.kept.remove(&kind);
                    self.violations
                        .retain(|it| !(it.kind == kind && it.key == key && it.revision > revision));
                }
            }
            stage.bounds = *bounds;
            self.judge(at, &key, None);
        }
    }

    /// A pipeline is gone: its replicas may go too.
    pub fn forget(&mut self, namespace: &str, pipeline: &str) {
        self.budgets.remove(&(namespace.to_owned(), pipeline.to_owned()));
        for (key, stage) in &mut self.stages {
            if key.namespace == namespace && key.pipeline == pipeline {
                stage.bounds = Bounds::default();
            }
        }
    }

    /// Takes the state of one Deployment.
    pub fn deployment(&mut self, name: &str, sample: Sample) {
        let stage = self.stages.entry(sample.key.clone()).or_default();
        let before = stage.now.insert(name.to_owned(), sample.clone());
        let changed = before.is_none_or(|before| (before.spec, before.ready) != (sample.spec, sample.ready));
        self.note(sample, changed);
    }

    /// Takes the last state of a Deployment that is gone: no replicas.
    pub fn gone(&mut self, name: &str, sample: Sample) {
        let stage = self.stages.entry(sample.key.clone()).or_default();
        let changed = stage.now.remove(name).is_some();
        self.note(sample, changed);
    }

    fn note(&mut self, sample: Sample, changed: bool) {
        let (at, key, pool) = (sample.at, sample.key.clone(), sample.pool.clone());
        if let Some(stage) = self.stages.get_mut(&key) {
            stage.revision = stage.revision.max(sample.revision);
        }
        if changed {
            self.samples.push(sample);
        }
        if !self.listing {
            self.judge(at, &key, Some(&pool));
        }
    }

    /// `by`: the pool whose Deployment has changed, if one has.
    fn judge(&mut self, at: Duration, key: &StageKey, by: Option<&str>) {
        let cost = self.cost_micros(&key.namespace, &key.pipeline);
        let Some(stage) = self.stages.get_mut(key) else { return };
        let spec = stage.now.values().map(|sample| sample.spec).sum();
        let ready = stage.now.values().map(|sample| sample.ready).sum();
        let Bounds { min, max } = stage.bounds;
        let mut crossed = Vec::new();
        for (kind, seen, bound) in [
            (Kind::Floor, spec, min),
            (Kind::ReadyFloor, ready, min),
            (Kind::Ceiling, spec, max),
        ] {
            let Some(bound) = bound else { continue };
            let keeps = if kind == Kind::Ceiling {
                seen <= bound
            } else {
                seen >= bound
            };
            let kept = stage.kept.insert(kind, keeps).unwrap_or(false);
            if kept && !keeps {
                crossed.push((kind, seen, bound));
            }
            if kind == Kind::ReadyFloor && kept && !keeps {
                stage.short_by = by.map(str::to_owned);
            }
            let by_another = by.is_some() && stage.short_by.is_some() && by != stage.short_by.as_deref();
            if kind == Kind::ReadyFloor && keeps && !kept && by_another {
                let told_late =
                    |it: &Violation| it.kind == kind && it.key == *key && it.at + STATUS_LAG >= at && it.bound == bound;
                self.violations.retain(|it| !told_late(it));
            }
        }
        if let Some((budget, kept)) = self.budgets.get_mut(&(key.namespace.clone(), key.pipeline.clone())) {
            let keeps = cost <= *budget;
            if *kept && !keeps {
                crossed.push((Kind::Budget, cost, *budget));
            }
            *kept = keeps;
        }
        let revision = stage.revision;
        let violation = |(kind, seen, bound)| Violation {
            at,
            key: key.clone(),
            kind,
            seen,
            bound,
            revision,
        };
        self.violations.extend(crossed.into_iter().map(violation));
    }
}
