//! `ComputePool`: nodes of one kind, what they cost and draw, and who may use them. Owned by the platform team.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::container::{Quantity, quantities};
use super::decimal::Decimal;

/// Which nodes belong to the pool, what they are and what they cost.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tiercel.dev",
    version = "v1alpha1",
    kind = "ComputePool",
    plural = "computepools",
    shortname = "cpool",
    category = "tiercel",
    derive = "PartialEq",
    derive = "Default",
    status = "ComputePoolStatus",
    doc = "A pool of nodes of one kind: what hardware it is, what a node costs and draws, how far it may grow and which namespaces may use it.",
    printcolumn(name = "Tier", type_ = "string", json_path = ".spec.tier"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.class"),
    printcolumn(name = "Arch", type_ = "string", json_path = ".status.architecture"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes"),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Free", type_ = "string", json_path = ".status.free"),
    printcolumn(name = "Cost/h", type_ = "string", json_path = ".status.costPerHour"),
    printcolumn(name = "Price", type_ = "string", json_path = ".status.shadowPrice"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Warm", type_ = "integer", json_path = ".status.warmBuffer.held", priority = 1),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([a-z0-9]|-[a-z0-9]){0,62}$') && self.metadata.name.size() <= 63").message("`metadata.name` must be at most 63 lower-case letters, digits and single dashes, and begin with a letter")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.nodeSelector) && self.nodeSelector.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)").message("`nodeSelector` or `matchExpressions` must name at least one label: a pool never means all nodes").field_path(".nodeSelector"))]
#[x_kube(validation = Rule::new("self.tier != 'Accelerator' || has(self.device)").message("`device` must be set when `tier` is 'Accelerator', such as {resourceName: nvidia.com/gpu}").field_path(".device"))]
#[x_kube(validation = Rule::new("self.tier != 'CPU' || !has(self.device)").message("`device` must not be set when `tier` is 'CPU'").field_path(".device"))]
#[x_kube(validation = Rule::new("!has(self.elastic) || !has(self.elastic.nodeAllocatable) || ('cpu' in self.elastic.nodeAllocatable && 'memory' in self.elastic.nodeAllocatable && (!has(self.device) || self.device.resourceName in self.elastic.nodeAllocatable))").message("`elastic.nodeAllocatable` must name 'cpu', 'memory' and the pool's device").field_path(".elastic.nodeAllocatable"))]
pub struct ComputePoolSpec {
    /// Tier of the hardware: `CPU` or `Accelerator`.
    pub tier: Tier,
    /// Hardware class that stage profiles name, such as `nvidia-l4`; the pool's name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = super::rules::class())]
    pub class: Option<String>,
    /// Processor architecture, `amd64` or `arm64`; read from the nodes if absent and they agree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Architecture")]
    pub architecture: Option<Architecture>,
    /// Labels that a node must have to belong to the pool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub node_selector: BTreeMap<String, String>,
    /// Further requirements on a node's labels; all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<MatchExpression>,
    /// Taints of the pool's nodes that its replicas tolerate. The key is required: a toleration of everything is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
    /// Device that accelerator replicas request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// RuntimeClass of the pods, such as `nvidia`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::rules::object_name())]
    pub runtime_class_name: Option<String>,
    /// How the nodes are bought: `OnDemand`, `Spot` (may be taken away) or `Reserved` (paid for whether used or not).
    #[serde(default)]
    pub capacity_type: CapacityType,
    /// Price of one node per hour, in the cluster's one currency.
    pub cost_per_node_hour: Decimal,
    /// Power that one node draws, watts. Never invented: without it no power is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub power_watts_per_node: Option<i32>,
    /// How far the pool may grow; absent, only nodes that exist count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic: Option<Elastic>,
    /// Share of every node that is kept free for others, per cent.
    #[serde(default)]
    #[schemars(range(min = 0, max = 90))]
    pub reserve_percent: i32,
    /// Namespaces whose pipelines may use the pool; all if absent.
    #[serde(default)]
    pub allowed_namespaces: AllowedNamespaces,
}

/// Tier of hardware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Tier {
    /// General-purpose processors.
    #[default]
    #[serde(rename = "CPU")]
    Cpu,
    /// GPUs, TPUs and other accelerators.
    Accelerator,
}

/// Processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl Architecture {
    /// The value of the node label `kubernetes.io/arch`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// From the value of the node label `kubernetes.io/arch`.
    pub fn from_label(value: &str) -> Option<Self> {
        match value {
            "amd64" => Some(Self::Amd64),
            "arm64" => Some(Self::Arm64),
            _ => None,
        }
    }
}

/// One requirement on a node's labels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : true").message("`values` must not be empty when `operator` is 'In' or 'NotIn'").field_path(".values"))]
#[x_kube(validation = Rule::new("self.operator in ['Exists', 'DoesNotExist'] ? !has(self.values) || self.values.size() == 0 : true").message("`values` must be empty when `operator` is 'Exists' or 'DoesNotExist'").field_path(".values"))]
#[x_kube(validation = Rule::new("self.operator in ['Gt', 'Lt'] ? has(self.values) && self.values.size() == 1 && self.values[0].matches('^[0-9]+$') : true").message("`values` must be one whole number when `operator` is 'Gt' or 'Lt'").field_path(".values"))]
pub struct MatchExpression {
    /// Label key.
    #[schemars(length(min = 1, max = 317))]
    #[x_kube(validation = super::rules::label_key())]
    pub key: String,
    /// How the label's value relates to `values`: `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` or `Lt`.
    pub operator: Operator,
    /// Values to compare with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 63)))]
    #[x_kube(validation = Rule::new("self.all(v, v.matches('^(-?[0-9]+|([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?)$'))").message("must hold values of labels: letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"))]
    pub values: Vec<String>,
}

/// Relation of a label's value to a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// One of the values.
    #[default]
    In,
    /// None of the values, or no such label.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// Greater than the one value.
    Gt,
    /// Less than the one value.
    Lt,
}

impl Operator {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
            Self::Gt => "Gt",
            Self::Lt => "Lt",
        }
    }
}

/// A taint that replicas tolerate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.operator == 'Exists' ? !has(self.value) : true").message("`value` must not be set when `operator` is 'Exists'").field_path(".value"))]
#[x_kube(validation = Rule::new("!self.key.startsWith('node-role.kubernetes.io/') && self.key != 'CriticalAddonsOnly'").message("`key` must not be a taint that keeps workloads off control-plane or system nodes; name a taint of the pool's own, such as 'nvidia.com/gpu'").field_path(".key"))]
#[x_kube(validation = Rule::new("!self.key.startsWith('node.kubernetes.io/')").message("`key` must not be a taint that marks a node as unhealthy or cordoned; name a taint of the pool's own, such as 'nvidia.com/gpu'").field_path(".key"))]
pub struct Toleration {
    /// Taint key.
    #[schemars(length(min = 1, max = 317))]
    #[x_kube(validation = super::rules::label_key())]
    pub key: String,
    /// How the taint's value is compared: `Exists` (any value) or `Equal`.
    #[serde(default)]
    pub operator: TolerationOperator,
    /// Taint value, with `Equal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    #[x_kube(validation = super::rules::label_value())]
    pub value: Option<String>,
    /// Taint effect, `NoSchedule`, `PreferNoSchedule` or `NoExecute`; all effects if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TaintEffect")]
    pub effect: Option<TaintEffect>,
}

/// How a taint's value is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TolerationOperator {
    /// Any value.
    #[default]
    Exists,
    /// This value.
    Equal,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TaintEffect {
    /// New pods stay away.
    NoSchedule,
    /// New pods stay away if they can.
    PreferNoSchedule,
    /// Running pods leave.
    NoExecute,
}

impl TaintEffect {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSchedule => "NoSchedule",
            Self::PreferNoSchedule => "PreferNoSchedule",
            Self::NoExecute => "NoExecute",
        }
    }
}

/// The device of an accelerator pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Extended resource under which nodes offer the device, such as `nvidia.com/gpu`, `google.com/tpu`.
    #[schemars(length(min = 3, max = 253))]
    #[x_kube(validation = super::rules::device())]
    pub resource_name: String,
}

/// How nodes are bought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CapacityType {
    /// By the hour, kept until given back.
    #[default]
    OnDemand,
    /// Cheaper, and taken away on short notice.
    Spot,
    /// Paid for whether used or not.
    Reserved,
}

impl CapacityType {
    /// Not taken away on short notice.
    pub const fn is_reliable(self) -> bool {
        !matches!(self, Self::Spot)
    }
}

/// How far a pool may grow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Elastic {
    /// Most nodes that the pool may have.
    #[schemars(range(min = 1, max = 5000))]
    pub max_nodes: i32,
    /// Seconds from the need for a node to the node being Ready.
    #[serde(default = "provision_seconds")]
    #[schemars(range(min = 1, max = 7200))]
    pub provision_seconds: i32,
    /// What a new node offers, for pools that may have none; otherwise read from the nodes there are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub node_allocatable: BTreeMap<String, Quantity>,
    /// Keeps room on nodes that are up for bursts that are faster than a node comes; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_buffer: Option<WarmBuffer>,
}

/// Room that is kept for bursts: as much as the largest burst of any one stage took within the last hour while a node would have
/// come. It is held by placeholder pods that yield to replicas at once and make the cluster's autoscaler bring nodes in their place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmBuffer {
    /// Most nodes' worth of room that is kept.
    #[schemars(range(min = 1, max = 1000))]
    pub max_nodes: i32,
}

const fn provision_seconds() -> i32 {
    120
}

/// Namespaces that may use a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)").message("`selector` must be set when `from` is 'Selector', and must not be set otherwise").field_path(".selector"))]
pub struct AllowedNamespaces {
    /// Which namespaces: `All`, or with `Selector` those that `selector` matches.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Labels that a namespace must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
}

/// Which namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// Every namespace.
    #[default]
    All,
    /// Those that the selector matches.
    Selector,
}

/// Labels that a namespace must have; `kubernetes.io/metadata.name` selects one by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.matchLabels) && self.matchLabels.size() > 0) || (has(self.matchExpressions) && self.matchExpressions.size() > 0)").message("`matchLabels` or `matchExpressions` must name at least one label; set `from` to 'All' for every namespace"))]
#[x_kube(validation = Rule::new("!has(self.matchExpressions) || self.matchExpressions.all(e, !(e.operator in ['Gt', 'Lt']))").message("`matchExpressions` of a namespace must use 'In', 'NotIn', 'Exists' or 'DoesNotExist'").field_path(".matchExpressions"))]
pub struct NamespaceSelector {
    /// Labels with their values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements; all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub match_expressions: Vec<MatchExpression>,
}

fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "description": "Value of the label.",
            "x-kubernetes-validations": [super::rules::label_value()],
        },
        "x-kubernetes-validations": [super::rules::label_keys()],
    })
}

/// What is known about the pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComputePoolStatus {
    /// Generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,
    /// Architecture of the nodes, `amd64` or `arm64`; absent while unknown or mixed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Architecture")]
    pub architecture: Option<Architecture>,
    /// Nodes that match.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub nodes: i32,
    /// Nodes that match and can take replicas: Ready, not cordoned, not leaving.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub ready_nodes: i32,
    /// Replicas of pipelines on the pool.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub replicas: i32,
    /// Capacity, by resource.
    #[serde(default)]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["resource".into()]))]
    pub capacity: Vec<ResourceCapacity>,
    /// What is free of the scarcest resource, such as '3 of 8 nvidia.com/gpu'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub free: Option<String>,
    /// Cost per hour of the nodes that are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    pub cost_per_hour: Option<String>,
    /// What one more node would save per hour now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    pub shadow_price: Option<String>,
    /// Room that is kept for bursts; absent while none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_buffer: Option<WarmBufferStatus>,
    /// Conditions: `Ready` and `CapacityAvailable`; `Reconciling` and `Stalled` only while true.
    #[serde(default)]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Room that is kept for bursts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmBufferStatus {
    /// Placeholder pods that are wanted.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub placeholders: i32,
    /// Of these, the ones that hold room on a node.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub held: i32,
    /// What one of them requests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, Quantity>,
    /// Whose burst it is for, and why so much is kept.
    #[schemars(length(max = 1024))]
    pub reason: String,
}

/// Capacity of one resource over the usable nodes of a pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceCapacity {
    /// Name of the resource: `cpu`, `memory` or the pool's device.
    #[schemars(length(max = 253))]
    pub resource: String,
    /// What the usable nodes offer to pods.
    #[schemars(length(max = 24))]
    pub allocatable: String,
    /// What pods that are not tiercel's request.
    #[schemars(length(max = 24))]
    pub requested_by_others: String,
    /// What replicas of pipelines request.
    #[schemars(length(max = 24))]
    pub requested_by_tiercel: String,
    /// What is left, after the reserve.
    #[schemars(length(max = 24))]
    pub free: String,
}
