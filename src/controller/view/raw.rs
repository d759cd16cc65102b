//! Objects as the API server writes them, and the way from there to what is kept.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use super::amounts::{self, Amounts, RawQuantities, RawRequests};
use super::{ControlledBy, NodeStatusView, Phase, PodSpecView, PodStatusView, PodView, Port, Stop};
use crate::api::labels;

/// Longest text kept of a message, bytes.
const MESSAGE_BYTES_MAX: usize = 512;

#[derive(Deserialize)]
pub(super) struct RawPod {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpecView,
    #[serde(default)]
    status: PodStatusView,
}

impl From<RawPod> for PodView {
    fn from(raw: RawPod) -> Self {
        let RawPod {
            mut metadata,
            spec,
            status,
        } = raw;
        let owners = metadata.owner_references.take().unwrap_or_default();
        let controller = owners.into_iter().find(|owner| owner.controller == Some(true));
        let variant = metadata
            .labels
            .take()
            .and_then(|mut all| all.remove(labels::VARIANT_ID));
        let controlled_by = match controller {
            Some(owner) if owner.kind == "ReplicaSet" && owner.api_version.starts_with("apps/") => {
                ControlledBy::ReplicaSet {
                    uid: owner.uid.into(),
                    variant: variant.map(Into::into),
                }
            }
            Some(owner) if owner.kind == "DaemonSet" => ControlledBy::DaemonSet,
            _ => ControlledBy::Other,
        };
        Self {
            metadata,
            controlled_by,
            spec,
            status,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawPodSpec {
    node_name: Option<Box<str>>,
    priority_class_name: Option<Box<str>>,
    #[serde(default)]
    host_network: bool,
    #[serde(default)]
    containers: Vec<RawContainer>,
    #[serde(default)]
    init_containers: Vec<RawContainer>,
    #[serde(default)]
    resources: RawRequests,
    #[serde(default)]
    overhead: RawQuantities,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainer {
    restart_policy: Option<Box<str>>,
    #[serde(default)]
    resources: RawRequests,
    #[serde(default)]
    ports: Vec<Port>,
}

impl From<RawPodSpec> for PodSpecView {
    fn from(mut raw: RawPodSpec) -> Self {
        let requests = effective_requests(&raw);
        let ports = raw.containers.first_mut().map(|first| std::mem::take(&mut first.ports));
        Self {
            node_name: raw.node_name.filter(|name| !name.is_empty()),
            requests,
            yields: raw.priority_class_name.as_deref() == Some(labels::WARM_BUFFER_CLASS),
            host_network: raw.host_network,
            ports: ports.unwrap_or_default().into_boxed_slice(),
        }
    }
}

/// What the scheduler reserves. Init containers run one after the other, each beside the sidecars (init containers that
/// restart always) listed before it; then all containers run beside all sidecars. Requests of the pod as a whole stand in
/// for those of its containers.
fn effective_requests(pod: &RawPodSpec) -> Amounts {
    let (mut sidecars, mut peak) = (Amounts::default(), Amounts::default());
    for container in &pod.init_containers {
        let request = Amounts::requested(&container.resources.requests);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = sidecars.plus(&request);
            peak = peak.max(&sidecars);
        } else {
            peak = peak.max(&sidecars.plus(&request));
        }
    }
    let running = pod.containers.iter().fold(sidecars, |sum, container| {
        sum.plus(&Amounts::requested(&container.resources.requests))
    });
    running
        .max(&peak)
        .overridden_by(&pod.resources.requests)
        .plus(&Amounts::requested(&pod.overhead))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawPodStatus {
    #[serde(default)]
    phase: Phase,
    #[serde(rename = "podIP")]
    pod_ip: Option<Box<str>>,
    start_time: Option<Time>,
    #[serde(default)]
    conditions: Vec<RawCondition>,
    #[serde(default)]
    init_container_statuses: Vec<RawContainerStatus>,
    #[serde(default)]
    container_statuses: Vec<RawContainerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCondition {
    #[serde(rename = "type")]
    type_: Box<str>,
    status: Box<str>,
    reason: Option<Box<str>>,
    message: Option<Box<str>>,
    last_transition_time: Option<Time>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawContainerStatus {
    #[serde(default)]
    restart_count: i32,
    #[serde(default)]
    state: RawState,
    #[serde(default)]
    last_state: RawState,
}

#[derive(Default, Deserialize)]
struct RawState {
    waiting: Option<Stop>,
    running: Option<RawRunning>,
    terminated: Option<Stop>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRunning {
    started_at: Option<Time>,
}

#[derive(Deserialize)]
pub(super) struct RawStop {
    reason: Option<Box<str>>,
    message: Option<Box<str>>,
}

impl From<RawStop> for Stop {
    fn from(raw: RawStop) -> Self {
        Self {
            reason: raw.reason.unwrap_or_default(),
            message: cut(raw.message.unwrap_or_default()),
        }
    }
}

impl From<RawPodStatus> for PodStatusView {
    fn from(raw: RawPodStatus) -> Self {
        let (mut ready, mut ready_changed, mut unschedulable, mut scheduled) = (false, None, None, None);
        for condition in raw.conditions {
            match (&*condition.type_, &*condition.status) {
                ("Ready", status) => (ready, ready_changed) = (status == "True", condition.last_transition_time),
                ("PodScheduled", "True") => scheduled = condition.last_transition_time,
                ("PodScheduled", "False") if condition.reason.as_deref() == Some("Unschedulable") => {
                    unschedulable = Some(cut(condition.message.unwrap_or_default()));
                }
                _ => {}
            }
        }
        let (mut waiting, mut ended, mut again) = (None, None, false);
        for container in raw.init_container_statuses.into_iter().chain(raw.container_statuses) {
            // A container in its ordinary turn waits as well: only those that wait for a reason of their own count.
            let stuck = container
                .state
                .waiting
                .filter(|stop| !matches!(&*stop.reason, "" | "PodInitializing" | "ContainerCreating"));
            waiting = waiting.or(stuck);
            // Not Ready since before a container ran is how every pod begins; since then, it has lost what it was.
            let runs = container.state.running.and_then(|running| running.started_at);
            let lost = matches!((&ready_changed, runs), (Some(since), Some(runs)) if !ready && since.0 > runs.0);
            again |= container.restart_count > 0 || lost;
            let ending = container.state.terminated.or(container.last_state.terminated);
            ended = ended.or(ending.filter(|stop| &*stop.reason != "Completed"));
        }
        Self {
            phase: raw.phase,
            ip: raw.pod_ip.and_then(|ip| ip.parse().ok()),
            ready,
            ready_changed,
            scheduled,
            again,
            started: raw.start_time,
            unschedulable,
            waiting,
            ended,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct RawNodeStatus {
    #[serde(default)]
    allocatable: RawQuantities,
    #[serde(default)]
    conditions: Vec<RawCondition>,
    #[serde(default)]
    addresses: Vec<RawAddress>,
}

#[derive(Deserialize)]
struct RawAddress {
    #[serde(default)]
    address: Box<str>,
}

impl From<RawNodeStatus> for NodeStatusView {
    fn from(raw: RawNodeStatus) -> Self {
        let ready = raw
            .conditions
            .iter()
            .any(|condition| &*condition.type_ == "Ready" && &*condition.status == "True");
        Self {
            pods: amounts::pods(&raw.allocatable),
            allocatable: Amounts::offered(&raw.allocatable),
            ready,
            addresses: raw
                .addresses
                .iter()
                .filter_map(|one| one.address.parse().ok())
                .collect(),
        }
    }
}

fn cut(text: Box<str>) -> Box<str> {
    if text.len() <= MESSAGE_BYTES_MAX {
        return text;
    }
    let end = text.floor_char_boundary(MESSAGE_BYTES_MAX);
    text.get(..end).unwrap_or_default().into()
}
