//! What a plan says: replicas, cost and power by pipeline, stage and pool; what is refused; what was assumed.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::change::Change;
use super::manifest::{Place, Problem};

/// Version of the document's shape. Fields may be added to it; another meaning is another version.
pub const VERSION: u32 = 1;

/// What `tiercel plan` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// See [`VERSION`].
    pub version: u32,
    /// What stands in the way: 0 if nothing does.
    pub refused: usize,
    /// What is wrong with manifests, and what the operator would refuse of them.
    pub problems: Vec<Problem>,
    /// What had to be assumed.
    pub assumptions: Vec<String>,
    /// Documents that are no business of tiercel: how many of each kind.
    pub skipped: BTreeMap<String, u32>,
    /// What the manifests come to.
    pub after: Plan,
    /// What it was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
}

/// What something is compared with.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Before {
    /// What that is: `main`, or `the cluster`.
    pub name: String,
    /// What it comes to.
    pub plan: Plan,
    /// What differs, by pipeline; without those that stay the same.
    pub changes: Vec<Change>,
}

/// What a set of manifests comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Pipelines, in the order of the manifests.
    pub pipelines: Vec<Pipeline>,
    /// Pools, in the order of the manifests.
    pub pools: Vec<Pool>,
    /// All pipelines together.
    pub cost: Cost,
}

/// One pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pipeline {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it stands; absent for one of a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Place>,
    /// What may be written for it: `Automatic`, `Advisory`, `Paused`, `NoScaleIn`, `NoScaleOut`.
    pub mode: String,
    /// Ceiling on its cost per hour.
    #[serde(serialize_with = "dollars", skip_serializing_if = "Option::is_none")]
    pub budget_per_hour: Option<u64>,
    /// Ceiling on its power, watts.
    #[serde(serialize_with = "thousandths", skip_serializing_if = "Option::is_none")]
    pub budget_watts: Option<u64>,
    /// Its stages, callers before the called; without those that are refused, unless they were there before.
    pub stages: Vec<Stage>,
    /// Stages that are refused. What there is of them stays as it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused_stages: Vec<String>,
    /// All stages together.
    pub cost: Cost,
    /// Requests per second that reach the first stage at the maximum; absent where no stage declares what it serves.
    #[serde(serialize_with = "thousandths", skip_serializing_if = "Option::is_none")]
    pub requests_per_second_at_maximum: Option<u64>,
    /// Objects that the operator would apply.
    pub children: Vec<Child>,
}

/// One stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Least replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// Where it may run.
    pub pools: Vec<Placement>,
    /// Where not, and why.
    pub excluded: Vec<Excluded>,
}

/// One stage on one pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The pool.
    pub pool: String,
    /// The profile in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Replicas that the Deployment asks for now; absent where there is no cluster to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<u32>,
    /// Replicas that the Deployment is created with; absent where it exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<u32>,
    /// Replicas without load.
    pub minimum: u32,
    /// Replicas under the most that its pipeline can serve from end to end, as far as pools and budgets allow.
    pub maximum: u32,
    /// What one replica costs per hour; absent where that is not known.
    #[serde(serialize_with = "dollars", skip_serializing_if = "Option::is_none")]
    pub each_per_hour: Option<u64>,
    /// What one replica draws, if declared.
    #[serde(serialize_with = "thousandths", skip_serializing_if = "Option::is_none")]
    pub each_watts: Option<u64>,
    /// Why it holds no more at the maximum; absent where nothing is known that keeps it from more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why_not_more: Option<String>,
}

/// A pool that a stage may not use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Excluded {
    /// The pool.
    pub pool: String,
    /// Why.
    pub why: String,
}

/// Cost and power in three situations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// What runs; absent where there is no cluster to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<Amount>,
    /// Without load.
    pub minimum: Amount,
    /// Under the most that pipelines can serve from end to end, as far as pools and budgets allow.
    pub maximum: Amount,
}

/// Cost and power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// Millionths of the currency per hour; printed as a decimal.
    #[serde(serialize_with = "dollars_of")]
    pub per_hour: u64,
    /// Milliwatts, printed as watts; only if every pool in use declares them.
    #[serde(serialize_with = "thousandths", skip_serializing_if = "Option::is_none")]
    pub watts: Option<u64>,
}

impl Default for Amount {
    fn default() -> Self {
        Self {
            per_hour: 0,
            watts: Some(0),
        }
    }
}

impl Amount {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let both = |(a, b): (u64, u64)| a.saturating_add(b);
        Self {
            per_hour: self.per_hour.saturating_add(other.per_hour),
            watts: self.watts.zip(other.watts).map(both),
        }
    }

    /// So many replicas.
    pub fn of(count: u32, each_per_hour: Option<u64>, each_watts: Option<u64>) -> Self {
        if count == 0 {
            return Self::default();
        }
        let times = |each: u64| each.saturating_mul(u64::from(count));
        Self {
            per_hour: each_per_hour.map_or(0, times),
            watts: each_watts.map(times),
        }
    }
}

impl Cost {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let now = match (self.now, other.now) {
            (Some(one), Some(other)) => Some(one.plus(other)),
            (one, other) => one.or(other),
        };
        Self {
            now,
            minimum: self.minimum.plus(other.minimum),
            maximum: self.maximum.plus(other.maximum),
        }
    }
}

impl Placement {
    /// What its replicas cost and draw.
    pub fn cost(&self) -> Cost {
        let of = |count: u32| Amount::of(count, self.each_per_hour, self.each_watts);
        Cost {
            now: self.now.map(of),
            minimum: of(self.minimum),
            maximum: of(self.maximum),
        }
    }
}

/// One pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// `CPU` or `Accelerator`.
    pub tier: String,
    /// Nodes that are there, or given or assumed to be.
    pub nodes: u32,
    /// Nodes that may still come.
    pub elastic_nodes: u32,
    /// Price of a node per hour.
    #[serde(serialize_with = "dollars", skip_serializing_if = "Option::is_none")]
    pub node_per_hour: Option<u64>,
    /// Replicas of the planned pipelines without load.
    pub minimum: u32,
    /// Replicas of them under the most that pipelines can serve.
    pub maximum: u32,
    /// Share of its scarcest resource that these take at the maximum, per cent.
    pub used_percent_at_maximum: u32,
}

/// An object that the operator would apply.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Child {
    /// `Deployment`, `Service`, `PodDisruptionBudget`, `ServiceAccount`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The stage that it belongs to; empty for the pipeline's own.
    #[serde(skip)]
    pub stage: String,
    /// What is applied.
    #[serde(skip)]
    pub manifest: Value,
    /// The same as text, without replicas.
    #[serde(skip)]
    pub body: String,
    /// What of that makes pods start anew where it changes.
    #[serde(skip)]
    pub template: String,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact below 2^53 millionths: nine billion per hour"
)]
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn dollars_of<S: Serializer>(micros: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(*micros as f64 / 1e6)
}

#[expect(clippy::ref_option, reason = "the form that serde asks for")]
fn dollars<S: Serializer>(micros: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match micros {
        Some(micros) => dollars_of(micros, serializer),
        None => serializer.serialize_none(),
    }
}

#[expect(clippy::ref_option, reason = "the form that serde asks for")]
#[expect(clippy::cast_precision_loss, reason = "exact below 2^53 thousandths")]
fn thousandths<S: Serializer>(thousandths: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match thousandths {
        Some(thousandths) => serializer.serialize_f64(*thousandths as f64 / 1e3),
        None => serializer.serialize_none(),
    }
}
