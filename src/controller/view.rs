//! Pods and nodes as far as tiercel reads them.
//!
//! Every pod of the cluster is watched, because the pods of others take room on the nodes. So the views keep only what
//! somebody reads: requests are summed while an object is decoded, and labels, annotations and managed fields that
//! nobody asks for are dropped before it is stored. The views are read-only: they cannot be serialised, so no partial
//! object can be written back by mistake.

mod amounts;
mod raw;
mod watch;

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::Deserialize;

pub use amounts::Amounts;
use raw::{RawNodeStatus, RawPod, RawPodSpec, RawPodStatus, RawStop};
pub use watch::{Change, coalesced, watch_nodes, watch_pods, watch_pools, watcher_config};

/// A pod.
#[derive(Clone, Debug, Default, Deserialize, kube::Resource)]
#[resource(inherit = Pod)]
#[serde(from = "RawPod")]
pub struct PodView {
    /// Identity, creation and deletion. Labels and owner references are read into `controlled_by`, and dropped.
    pub metadata: ObjectMeta,
    /// Who controls it.
    pub controlled_by: ControlledBy,
    /// Where it is placed and what it requests.
    pub spec: PodSpecView,
    /// How far it got.
    pub status: PodStatusView,
}

/// Who controls a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ControlledBy {
    /// A `ReplicaSet`, as every replica of a Deployment.
    ReplicaSet {
        /// Its UID.
        uid: Box<str>,
        /// The variant that the pod's label names.
        variant: Option<Box<str>>,
    },
    /// A `DaemonSet`.
    DaemonSet,
    /// Somebody else, or nobody.
    #[default]
    Other,
}

impl PodView {
    /// Whether the pod holds its requests: all phases but the two final ones. A pod that is being deleted still does.
    pub fn holds_requests(&self) -> bool {
        !matches!(self.status.phase, Phase::Succeeded | Phase::Failed)
    }

    /// Identity of the variant (stage on pool) that the pod is a replica of; `None` for pods of others.
    ///
    /// Anybody may put a label on a pod, so the label alone proves nothing: the pod must also be controlled by a
    /// `ReplicaSet`, as every replica of a Deployment is. Whether that belongs to the variant's Deployment is known to the
    /// [`Owners`](super::owners::Owners), whom the reader that counts (the rebalancer) asks.
    pub fn variant_id(&self) -> Option<&str> {
        match &self.controlled_by {
            ControlledBy::ReplicaSet { variant, .. } => variant.as_deref(),
            ControlledBy::DaemonSet | ControlledBy::Other => None,
        }
    }

    /// UID of the `ReplicaSet` that controls the pod.
    pub fn replica_set(&self) -> Option<&str> {
        match &self.controlled_by {
            ControlledBy::ReplicaSet { uid, .. } => Some(uid),
            ControlledBy::DaemonSet | ControlledBy::Other => None,
        }
    }

    /// Whether the pod belongs to its node rather than to the cluster: the next node of the pool will carry one too.
    pub fn is_daemon(&self) -> bool {
        self.controlled_by == ControlledBy::DaemonSet
    }
}

/// What is read of a pod's spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "RawPodSpec")]
pub struct PodSpecView {
    /// Node it is bound to; `None` while pending.
    pub node_name: Option<Box<str>>,
    /// What the scheduler reserves for it: the larger of its start-up and its running phase, plus overhead.
    pub requests: Amounts,
    /// Only holds room for bursts, and yields to any replica: see [`labels::WARM_BUFFER_CLASS`].
    pub yields: bool,
    /// Shares the node's network, and with it the node's address.
    pub host_network: bool,
    /// Ports of the first container.
    pub ports: Box<[Port]>,
}

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its name.
    #[serde(default)]
    pub name: Option<Box<str>>,
    /// Its number.
    pub container_port: u16,
}

/// What is read of a pod's status.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(from = "RawPodStatus")]
pub struct PodStatusView {
    /// How far it got.
    pub phase: Phase,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Condition `Ready` is `True`.
    pub ready: bool,
    /// When condition `Ready` last changed.
    pub ready_changed: Option<Time>,
    /// When it was bound to its node.
    pub scheduled: Option<Time>,
    /// It has been Ready before, or a container was started again: condition `Ready` tells nothing of its start.
    pub again: bool,
    /// When the kubelet took it on.
    pub started: Option<Time>,
    /// What the scheduler says while no node fits: the message of `PodScheduled=False`, reason `Unschedulable`.
    pub unschedulable: Option<Box<str>>,
    /// The first container that waits to be started, and why.
    pub waiting: Option<Stop>,
    /// How the first container that ended last did so: `Error`, `OOMKilled`, `StartError` …
    pub ended: Option<Stop>,
}

/// Why a container does not run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "RawStop")]
pub struct Stop {
    /// One word, such as `ImagePullBackOff`, `ErrImagePull`, `CrashLoopBackOff`, `StartError`.
    pub reason: Box<str>,
    /// A sentence; cut.
    pub message: Box<str>,
}

/// Phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Phase {
    /// Accepted, not all containers run.
    Pending,
    /// Bound, at least one container runs.
    Running,
    /// All containers ended well.
    Succeeded,
    /// All containers ended, at least one badly.
    Failed,
    /// Not known.
    #[default]
    #[serde(other)]
    Unknown,
}

/// A node.
#[derive(Clone, Debug, Default, Deserialize, kube::Resource)]
#[resource(inherit = Node)]
pub struct NodeView {
    /// Identity, labels, deletion.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What keeps pods away.
    #[serde(default)]
    pub spec: NodeSpecView,
    /// What it offers.
    #[serde(default)]
    pub status: NodeStatusView,
}

/// What is read of a node's spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpecView {
    /// Cordoned.
    #[serde(default)]
    pub unschedulable: bool,
    /// Taints.
    #[serde(default)]
    pub taints: Vec<Taint>,
}

/// A taint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Taint {
    /// Its key.
    pub key: Box<str>,
    /// Its value.
    #[serde(default)]
    pub value: Box<str>,
    /// What it does.
    pub effect: Effect,
}

/// What a taint does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Effect {
    /// New pods stay away if they can.
    PreferNoSchedule,
    /// Running pods leave.
    NoExecute,
    /// New pods stay away. Effects that are not known yet are read as this one.
    #[default]
    #[serde(other)]
    NoSchedule,
}

/// What is read of a node's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "RawNodeStatus")]
pub struct NodeStatusView {
    /// What it offers to pods; what cannot be read counts as nothing.
    pub allocatable: Amounts,
    /// Most pods it takes; `None` if it does not say.
    pub pods: Option<u32>,
    /// Condition `Ready` is `True`.
    pub ready: bool,
    /// Where it is found, names left out.
    pub addresses: Box<[IpAddr]>,
}

/// Drops what nobody reads and tells what matters apart from what does not.
pub(crate) trait Watched: Resource<DynamicType = ()> {
    /// Drops what nobody reads.
    fn strip(&mut self);

    /// Whether nobody would see a difference: heartbeats and versions do not count.
    fn reads_like(&self, other: &Self) -> bool;
}

impl Watched for PodView {
    fn strip(&mut self) {
        strip(&mut self.metadata);
    }

    fn reads_like(&self, other: &Self) -> bool {
        alike(&self.metadata, &other.metadata)
            && self.controlled_by == other.controlled_by
            && self.spec == other.spec
            && self.status == other.status
    }
}

impl Watched for NodeView {
    fn strip(&mut self) {
        strip(&mut self.metadata);
    }

    fn reads_like(&self, other: &Self) -> bool {
        alike(&self.metadata, &other.metadata) && self.spec == other.spec && self.status == other.status
    }
}

fn strip(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.annotations = None;
    metadata.finalizers = None;
    metadata.generate_name = None;
}

fn alike(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    one.uid == other.uid
        && one.labels == other.labels
        && one.owner_references == other.owner_references
        && one.deletion_timestamp == other.deletion_timestamp
}

#[cfg(test)]
mod tests;
