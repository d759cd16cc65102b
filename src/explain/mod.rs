//! Why a pipeline is where it is, as one document: what was read and how old it is, what each need asks for and which one
//! decided, what was learned beside what is declared.
//!
//! The operator makes it when it is asked ([`ask`]) and serves it beside its metrics; `tiercel explain` prints it. Ages move
//! on every tick, so none of it is in the status, which a converged cluster does not write. A document is of one pipeline:
//! nothing of any other is in it. It is bounded: 32 stages of 16 pools each, which the schema
//! allows, and 64 more that a stage may not use.

pub mod ask;

use serde::{Deserialize, Serialize};

use crate::api::tiered_pipeline::DecisionSummary;

/// Version of the document's shape. Fields may be added to it; another meaning is another version, and another path.
pub const VERSION: u32 = 1;

/// Path under which the operator serves documents; namespace and name of the pipeline follow.
pub const PATH: &str = "/v1/explain";

/// One pipeline, as the operator goes by it now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// See [`VERSION`].
    pub version: u32,
    /// Namespace of the pipeline.
    pub namespace: String,
    /// Name of the pipeline.
    pub pipeline: String,
    /// When the operator made this, RFC 3339; empty if it is made from the pipeline's status.
    pub time: String,
    /// How much dearer than the best there can be the joint plan of all pipelines is at most, per cent; absent where that is
    /// not proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_percent: Option<f64>,
    /// What more of the ceilings that bind it would save.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ceilings: Vec<Ceiling>,
    /// Its stages, callers before the called.
    pub stages: Vec<Stage>,
    /// The last decisions, newest first; five at most.
    pub decisions: Vec<DecisionSummary>,
}

/// A ceiling that keeps the plan from being cheaper.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ceiling {
    /// The field that sets it, or the annotation of the namespace.
    pub set_by: String,
    /// What it is on.
    pub on: CeilingOn,
    /// What one more watt, or one more unit of currency per hour, would save per hour, in the currency of the pools' prices.
    /// Tier hints and moves are weighed in.
    pub saves_per_hour: f64,
}

/// What a ceiling is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CeilingOn {
    /// Cost per hour.
    #[default]
    Cost,
    /// Watts.
    Power,
}

/// One stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// What demand and capacity are counted in.
    pub unit: Unit,
    /// Utilization at which a replica counts as full, per cent. Demand is what has to be there for replicas to be no fuller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_percent: Option<f64>,
    /// Least replicas, and most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Bounds>,
    /// What was read.
    pub signals: Vec<Signal>,
    /// Readings are recent enough, and of enough replicas, to shrink on.
    pub trusted: bool,
    /// What each need asks for that is known.
    pub needs: Vec<Need>,
    /// Which need decided, in the words of [`DecisionSummary::signal`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<String>,
    /// What is planned for, in `unit`; absent while no signal has ever been seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demand: Option<f64>,
    /// What Ready replicas serve, in `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_capacity: Option<f64>,
    /// Replicas are full: demand may be more than what is seen.
    pub saturated: bool,
    /// What the planned replicas cost per hour, in the currency of the pools' prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_hour: Option<f64>,
    /// What its least replicas would cost per hour where one costs the least; absent where no pool takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_cost_per_hour: Option<f64>,
    /// Where it may run.
    pub pools: Vec<Pool>,
    /// Where it may not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<Excluded>,
    /// Calls per request, by caller.
    pub calls: Vec<Calls>,
    /// What shaped the plan, in the words of [`DecisionSummary::reason`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why the plan is not what runs; absent if nothing is held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// What else is worth knowing, from the pipeline's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a stage's demand and capacity are counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// Requests per second that a full replica serves.
    RequestsPerSecond,
    /// Replicas' worth of work: no rate is declared.
    #[default]
    Replicas,
}

/// Bounds on replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// At least so many.
    pub min: u32,
    /// At most so many.
    pub max: u32,
}

/// What one preset says of the pods on one pool, or of the stage as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signal {
    /// The preset.
    pub preset: String,
    /// Who is asked, such as `pods` or `metrics.k8s.io`.
    pub source: String,
    /// The pool whose pods are read; absent if the source speaks of the stage as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// What can be done with it.
    pub state: State,
    /// Pods that are part of it; absent if the source speaks of the stage as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<Pods>,
    /// Seconds since its newest part was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_seconds: Option<f64>,
    /// Seconds since its oldest part was received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_seconds: Option<f64>,
    /// From this age on it is stale, seconds.
    pub fresh_seconds: f64,
    /// The numbers, over pods and after conversion to the role's unit.
    pub values: Vec<Value>,
    /// Why pods, or all of it, are not fresh: each reason once.
    pub gaps: Vec<Gap>,
}

/// What can be done with a reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Decided on.
    Fresh,
    /// Too old, or of unproven age: nothing shrinks on it.
    Stale,
    /// There is none, which is not zero.
    #[default]
    Absent,
}

/// How many pods are part of a reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pods {
    /// That are part of it.
    pub sampled: u32,
    /// That are Ready, and should be.
    pub expected: u32,
}

/// One number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Value {
    /// What it says, as presets name it.
    pub role: String,
    /// The number.
    pub value: f64,
    /// `requests`, `requests/s`, `share` (0 to 1) or `seconds`.
    pub unit: String,
}

/// Why something was not read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gap {
    /// What is wrong and what to do.
    pub why: String,
    /// How many pods it is about; absent if all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<u32>,
    /// The first of them, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<String>,
}

/// A need, and what it asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Need {
    /// In the words of [`DecisionSummary::signal`].
    pub need: String,
    /// What it asks for, headroom included, in the stage's unit; of `Floor` and `Fallback`, replicas.
    pub asks: f64,
}

/// A stage on one pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Name of the pool.
    pub name: String,
    /// Replicas that the plan wants there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// Replicas asked for.
    pub replicas: u32,
    /// How many of them are Ready.
    pub ready: u32,
    /// Why it is not used more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_more: Option<String>,
    /// Nothing is added there for a while; absent unless pods could not be placed or started there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry: Option<Dry>,
    /// What one replica costs and draws there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<Replica>,
    /// The tier hint would rather have others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub below_hint: bool,
    /// Replicas beyond the planned ones for which there is room now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<u32>,
    /// What all of the stage would take there, were there room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alone: Option<Alone>,
    /// Why all of the stage could not be there, room aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_alone: Option<String>,
    /// What one replica serves; absent where no rate is declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<Learned>,
    /// Seconds until a replica is Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_seconds: Option<Learned>,
    /// Seconds that nine in ten starts take at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_slow_seconds: Option<f64>,
}

/// A pool that is taken for dry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dry {
    /// Why, in a few words.
    pub why: String,
    /// Seconds until one replica tries again; 0 once one may.
    pub seconds: f64,
}

/// One replica on a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Its share of a node's price, per hour.
    pub cost_per_hour: f64,
    /// Its share of a node's power, watts; absent where the pool declares none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watts: Option<f64>,
}

/// A whole stage on one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alone {
    /// Replicas for all of the demand, floors included.
    pub replicas: u32,
    /// What they would cost per hour.
    pub cost_per_hour: f64,
}

/// A pool that a stage may not use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Excluded {
    /// Its name.
    pub pool: String,
    /// Why not.
    pub why: String,
}

/// A number in force, beside the one declared for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Learned {
    /// What is in force.
    pub value: f64,
    /// What is declared.
    pub declared: f64,
    /// Observations it rests on; 0: nothing learned yet, what is declared is in force.
    pub samples: u32,
    /// Least that can be learned, and most.
    pub range: [f64; 2],
}

/// Calls along one edge. Samples are of all edges into the stage together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calls {
    /// The caller; absent if it is the sum over all callers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Calls per request of the caller.
    pub calls_per_request: Learned,
}

/// Why the plan is not what runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// In one word.
    pub reason: String,
    /// In one sentence.
    pub message: String,
    /// For how many seconds it lasts at most, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// A number of millionths.
#[expect(clippy::cast_precision_loss, reason = "for people; exact below 2^53")]
pub fn of_millionths(millionths: u64) -> f64 {
    millionths as f64 / 1_000_000.0
}

/// A number of thousandths.
#[expect(clippy::cast_precision_loss, reason = "for people; exact below 2^53")]
pub fn of_thousandths(thousandths: u64) -> f64 {
    thousandths as f64 / 1_000.0
}
