//! `TieredPipeline`: the stages of an agentic application and how they hang together. Owned by the application team.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decimal::Decimal;
use super::stage::Stage;

/// Most stages of one pipeline.
pub const STAGES_MAX: usize = 32;

/// The stages of a pipeline and what they share.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tiercel.dev",
    version = "v1alpha1",
    kind = "TieredPipeline",
    plural = "tieredpipelines",
    namespaced,
    shortname = "tpipe",
    category = "tiercel",
    derive = "PartialEq",
    derive = "Default",
    status = "TieredPipelineStatus",
    doc = "A pipeline whose stages are placed on tiers of compute: each stage says what it runs and which tier it needs, and tiercel keeps its replicas on the right pools.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Stages", type_ = "string", json_path = ".status.stagesReady"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Cost/h", type_ = "string", json_path = ".status.costPerHour"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    printcolumn(name = "Power", type_ = "integer", json_path = ".status.powerWatts", priority = 1),
    printcolumn(name = "Bottleneck", type_ = "string", json_path = ".status.stages[?(@.bottleneck==true)].name", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([a-z0-9]|-[a-z0-9])*$') && self.metadata.name.size() <= 40").message("`metadata.name` must be at most 40 lower-case letters, digits and single dashes, and begin with a letter")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.gateway) || self.stages.all(s, s.traffic != 'Weighted')").message("`gateway` must be set when the `traffic` of a stage is 'Weighted'").field_path(".gateway"))]
pub struct TieredPipelineSpec {
    /// What tiercel does: `Automatic` (decide and write), `Advisory` (decide and report, write no replicas) or `Paused`.
    #[serde(default)]
    pub mode: Mode,
    /// Who is served first when capacity is short; higher goes first.
    #[serde(default = "priority")]
    #[schemars(range(min = 0, max = 1000))]
    pub priority: i32,
    /// Ceilings that are never crossed, surge included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// End-to-end latency to keep. Stages get more capacity than their load asks for where that saves most time per price. Needs `capacity.requestsPerSecond` and `capacity.concurrency` of every stage; `WithinObjective` says what becomes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<Objective>,
    /// Gateway that weighted traffic enters through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// The stages, callers before the called.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(i, s, !has(s.after) || s.after.all(a, self.exists(j, t, j < i && t.name == a.stage)))").message(Message::Expression("'`after` must name stages that are listed above, which keeps cycles out; see the stage \\'' + self.transformList(i, s, has(s.after) && !s.after.all(a, self.exists(j, t, j < i && t.name == a.stage)), s.name)[0] + '\\''".into())))]
    pub stages: Vec<Stage>,
}

const fn priority() -> i32 {
    500
}

/// What tiercel does with a pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Decide and write.
    #[default]
    Automatic,
    /// Decide and report; write no replicas.
    Advisory,
    /// Decide nothing.
    Paused,
}

/// Ceilings of a pipeline: on money, on power, or on both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.maxCostPerHour) || has(self.maxPowerWatts)").message("must have `maxCostPerHour`, `maxPowerWatts` or both; leave `budget` out for no ceiling"))]
pub struct Budget {
    /// Most that all replicas may cost per hour, in the currency of the pools' prices. The stages' least replicas come first: where they alone cost more, `WithinBudget` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = super::rules::positive())]
    pub max_cost_per_hour: Option<Decimal>,
    /// Most that all replicas may draw, watts, each counted by its share of the node. Only pools that declare `powerWattsPerNode` are used then. Floors come first here too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_power_watts: Option<i32>,
}

/// End-to-end latency to keep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Objective {
    /// Latency from the first stage to the last, milliseconds.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub latency_milliseconds: i32,
    /// Share of requests that must meet it, per cent.
    #[serde(default = "percentile")]
    #[schemars(range(min = 50, max = 99))]
    pub percentile: i32,
}

const fn percentile() -> i32 {
    95
}

/// A Gateway in the pipeline's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// Name of the Gateway.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::rules::object_name())]
    pub name: String,
    /// Listener of the Gateway; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::rules::object_name())]
    pub section_name: Option<String>,
}

/// What is known about the pipeline. Semantic changes only; no value that moves on every tick.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TieredPipelineStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,
    /// Stages with all wanted replicas Ready, such as '5/6'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub stages_ready: Option<String>,
    /// Replicas of all stages.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub replicas: i32,
    /// Ready replicas of all stages.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub ready_replicas: i32,
    /// What all replicas cost per hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    pub cost_per_hour: Option<String>,
    /// What all replicas draw, watts; only if every pool in use declares it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub power_watts: Option<i32>,
    /// Each stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub stages: Vec<StageStatus>,
    /// The last five decisions, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub decisions: Vec<DecisionSummary>,
    /// Conditions: `Ready`, `SignalsAvailable`, `CapacityAvailable`, `Balanced`, `WithinBudget` and `PreferredTier`; `WithinObjective` if an objective is declared; `Reconciling` and `Stalled` only while true.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// One stage as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Name of the stage.
    #[schemars(length(max = 30))]
    pub name: String,
    /// Its replicas over all pools.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub replicas: i32,
    /// How many of them are Ready.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub ready_replicas: i32,
    /// Whether the pipeline's throughput is limited here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bottleneck: bool,
    /// Where the replicas are; pools without any are left out unless something was learned there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub pools: Vec<StagePoolStatus>,
    /// Calls per request of its callers, as learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_request: Option<Learned>,
    /// What is worth knowing: why it is there, what it waits for, what was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub message: Option<String>,
}

/// Replicas of a stage on one pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StagePoolStatus {
    /// Name of the pool.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Replicas there.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub replicas: i32,
    /// How many of them are Ready.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub ready: i32,
    /// What one replica serves there, as learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<Learned>,
    /// Seconds until a replica is Ready there, as learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_seconds: Option<Learned>,
}

/// A number that was learned, beside the one declared for it. A restarted operator goes on from here, as long as the same
/// is declared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Learned {
    /// What is in force.
    #[schemars(length(max = 24))]
    pub value: String,
    /// What is declared.
    #[schemars(length(max = 24))]
    pub declared: String,
    /// Observations it rests on, rounded down to a power of two; 16 stands for any number from there on.
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub samples: i32,
}

/// One decision, in short.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionSummary {
    /// Identifier in the decision log.
    #[schemars(length(max = 40))]
    pub id: String,
    /// When it was taken, RFC 3339.
    #[schemars(length(max = 40))]
    pub time: String,
    /// What set it off.
    #[schemars(length(max = 40))]
    pub trigger: String,
    /// What changed, such as 'generate: l4-spot 9->7, graviton 0->2'.
    #[schemars(length(max = 256))]
    pub summary: String,
    /// Which need was the largest: `Rate`, `Utilization`, `Running`, `Waiting`, `Saturation`, `Callers`, `Latency`, `Recent`, `Floor` or `Fallback`; the preset's name where it was a signal in `signal.also`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub signal: Option<String>,
    /// Cost per hour before.
    #[schemars(length(max = 24))]
    pub cost_before: String,
    /// Cost per hour after.
    #[schemars(length(max = 24))]
    pub cost_after: String,
    /// What shaped it.
    #[schemars(length(max = 40))]
    pub reason: String,
}
