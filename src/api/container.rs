//! The curated container: all that an author can say about a pod. What is not here does not exist.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The container that a stage runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Image reference. Pin a tag or a digest.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = super::rules::image())]
    pub image: String,
    /// Entrypoint; the image's own if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Arguments of the entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = 4096)))]
    pub args: Vec<String>,
    /// Environment variables. Names that begin with `TIERCEL_` are tiercel's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Ports the container listens on; the first one is the one that serves requests and metrics.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Vec<Port>,
    /// What one replica needs. Placement and cost follow from the requests.
    pub resources: Resources,
    /// Says when a slow start is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// Says when the replica may serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// Says when the replica must be restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
    /// Volumes, each with the place it is mounted at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(v, self.exists_one(w, w.mountPath == v.mountPath))").message("`mountPath` must not be the same for two volumes"))]
    pub volumes: Vec<Volume>,
}

/// What a profile changes in the stage's container. Absent parts stay as the stage says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerOverride {
    /// Image reference for this hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = super::rules::image())]
    pub image: Option<String>,
    /// Entrypoint for this hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 4096)))]
    pub command: Option<Vec<String>>,
    /// Arguments for this hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), inner(length(max = 4096)))]
    pub args: Option<Vec<String>>,
    /// Environment variables to add or replace, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,
    /// Ports for this hardware; replaces the stage's list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub ports: Option<Vec<Port>>,
    /// What one replica needs on this hardware; replaces the stage's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Start-up probe for this hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_probe: Option<Probe>,
    /// Readiness probe for this hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness_probe: Option<Probe>,
    /// Liveness probe for this hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness_probe: Option<Probe>,
}

/// One environment variable: a value or a reference, not both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.value) && has(self.valueFrom))").message("`value` and `valueFrom` must not both be set").field_path(".value"))]
#[x_kube(validation = Rule::new("!self.name.startsWith('TIERCEL_')").message("`name` must not begin with 'TIERCEL_': such variables are set by tiercel").field_path(".name"))]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 128))]
    #[x_kube(validation = super::rules::variable_name())]
    pub name: String,
    /// Literal value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// Where the value comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvVarSource>,
}

/// Source of a variable's value: exactly one of the members.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMapKeyRef) != has(self.secretKeyRef)").message("exactly one of `configMapKeyRef` and `secretKeyRef` must be set"))]
pub struct EnvVarSource {
    /// Key of a ConfigMap in the pipeline's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// Key of a Secret in the pipeline's namespace. Refused unless the administrator allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
}

/// A key of a ConfigMap or Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::rules::object_name())]
    pub name: String,
    /// Key within the object.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::rules::data_key())]
    pub key: String,
}

/// One port of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Name of the port: lower-case letters, digits and dashes, at most 15.
    #[schemars(length(min = 1, max = 15))]
    #[x_kube(validation = super::rules::port_name())]
    pub name: String,
    /// Number of the port.
    #[schemars(range(min = 1, max = 65535))]
    pub container_port: i32,
}

/// Requests and limits of one replica.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.requests) && 'cpu' in self.requests && 'memory' in self.requests").message("`requests` must name 'cpu' and 'memory': placement and cost follow from them").field_path(".requests"))]
#[x_kube(validation = Rule::new("!has(self.requests) || ['cpu'].all(k, !(k in self.requests) || !isQuantity(string(self.requests[k])) || (quantity(string(self.requests[k])).compareTo(quantity('1m')) >= 0 && quantity(string(self.requests[k])).compareTo(quantity('4096')) <= 0))").message("`requests.cpu` must be from '1m' to '4096' cores").field_path(".requests"))]
#[x_kube(validation = Rule::new("!has(self.requests) || ['memory'].all(k, !(k in self.requests) || !isQuantity(string(self.requests[k])) || (quantity(string(self.requests[k])).compareTo(quantity('1Mi')) >= 0 && quantity(string(self.requests[k])).compareTo(quantity('64Ti')) <= 0))").message("`requests.memory` must be from '1Mi' to '64Ti'; 'Mi' are mebibytes, 'm' are thousandths of a byte").field_path(".requests"))]
#[x_kube(validation = Rule::new("!has(self.requests) || !has(self.limits) || ['cpu', 'memory', 'ephemeral-storage'].all(k, !(k in self.requests) || !(k in self.limits) || !isQuantity(string(self.requests[k])) || !isQuantity(string(self.limits[k])) || quantity(string(self.requests[k])).compareTo(quantity(string(self.limits[k]))) <= 0)").message("`limits` must not be less than `requests`").field_path(".limits"))]
#[x_kube(validation = Rule::new("!has(self.requests) || self.requests.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] || (has(self.limits) && k in self.limits && string(self.limits[k]) == string(self.requests[k])))").message("`limits` must name the devices that `requests` names, with the same amount: Kubernetes does not share a device; leave it out of `requests`").field_path(".limits"))]
#[x_kube(validation = Rule::new("!has(self.limits) || self.limits.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] || k.startsWith('hugepages-') || string(self.limits[k]).matches('^[1-9][0-9]{0,4}$'))").message("`limits` must count devices in whole numbers from 1 to 99999, such as {nvidia.com/gpu: 1}").field_path(".limits"))]
pub struct Resources {
    /// What the scheduler sets aside; `cpu` and `memory` are required.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, Quantity>,
    /// What the replica may not exceed; devices are named here, such as `nvidia.com/gpu`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, Quantity>,
}

/// A Kubernetes quantity, written as a string or an integer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(pub String);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Integer(i64),
            Text(String),
        }
        Ok(match Raw::deserialize(deserializer)? {
            Raw::Integer(number) => Self(number.to_string()),
            Raw::Text(text) => Self(text),
        })
    }
}

/// Schema of one quantity: no sign, no exponent.
fn quantity(description: &str) -> serde_json::Value {
    serde_json::json!({
        "description": description,
        "x-kubernetes-int-or-string": true,
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "maxLength": 24,
        "minimum": 0,
        "maximum": 1_000_000_000_000_000_i64,
        "x-kubernetes-validations": [super::rules::quantity()],
    })
}

pub(super) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": quantity("A quantity such as '500m', '4Gi' or 1."),
        "x-kubernetes-validations": [super::rules::resource_names()],
    })
}

/// A check of the container's health: exactly one of `httpGet`, `tcpSocket`, `grpc` and `exec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.httpGet), has(self.tcpSocket), has(self.grpc), has(self.exec)].filter(set, set).size() == 1").message("exactly one of `httpGet`, `tcpSocket`, `grpc` and `exec` must be set"))]
pub struct Probe {
    /// HTTP GET on the pod; success is a status from 200 to 399.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_get: Option<HttpGet>,
    /// A TCP connection that can be opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_socket: Option<PortNumber>,
    /// The gRPC health service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<PortNumber>,
    /// A command in the container that exits with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// Seconds before the first check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub initial_delay_seconds: Option<i32>,
    /// Seconds between checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub period_seconds: Option<i32>,
    /// Seconds after which a check has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 600))]
    pub timeout_seconds: Option<i32>,
    /// Failures in a row that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub failure_threshold: Option<i32>,
}

/// HTTP GET on the pod's own address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpGet {
    /// Path, beginning with a slash.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = super::rules::http_path())]
    pub path: String,
    /// Number of the port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// A port by number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortNumber {
    /// Number of the port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// A command in the container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exec {
    /// Program and arguments.
    #[schemars(length(min = 1, max = 16), inner(length(max = 1024)))]
    pub command: Vec<String>,
}

/// A volume and the place it is mounted at: exactly one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.emptyDir), has(self.configMap), has(self.secret), has(self.persistentVolumeClaim), has(self.modelCache)].filter(set, set).size() == 1").message("exactly one of `emptyDir`, `configMap`, `secret`, `persistentVolumeClaim` and `modelCache` must be set"))]
#[x_kube(validation = Rule::new("self.mountPath.matches('^(/[!-.0-9;-~][!-.0-9;-~]*)+$') && !self.mountPath.contains('/.')").message("`mountPath` must be a plain absolute path such as '/models': no ':', no white space, no part that begins with '.'").field_path(".mountPath"))]
#[x_kube(validation = Rule::new("!self.mountPath.matches('^/(proc|sys|dev)(/|$)')").message("`mountPath` must not be under '/proc', '/sys' or '/dev', which belong to the node; '/models' or '/cache' would do").field_path(".mountPath"))]
pub struct Volume {
    /// Name of the volume.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = super::rules::label_name())]
    pub name: String,
    /// Where it appears in the container, beginning with a slash.
    #[schemars(length(min = 2, max = 256))]
    pub mount_path: String,
    /// Scratch space that goes with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
    /// A ConfigMap of the pipeline's namespace, read-only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<NameRef>,
    /// A Secret of the pipeline's namespace, read-only. Refused unless the administrator allows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<NameRef>,
    /// A claim of the pipeline's namespace, writable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<NameRef>,
    /// A claim of the pipeline's namespace that holds model weights, read-only, shared by all replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_cache: Option<NameRef>,
}

/// Scratch space.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmptyDir {
    /// Most it may hold, such as '2Gi'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "optional_quantity")]
    pub size_limit: Option<Quantity>,
    /// Where it lives: `Disk` or `Memory`. Memory counts against the container's limit.
    #[serde(default)]
    pub medium: Medium,
}

fn optional_quantity(_: &mut SchemaGenerator) -> Schema {
    Schema::try_from(quantity("Most it may hold, such as '2Gi'.")).unwrap_or_default()
}

/// Where scratch space lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Medium {
    /// The node's disk.
    #[default]
    Disk,
    /// The node's memory.
    Memory,
}

/// An object of the pipeline's namespace, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NameRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = super::rules::object_name())]
    pub name: String,
}
