//! What objects of the cluster say, in the few facts that views show.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;

use super::State;
use crate::api::TieredPipeline;
use crate::api::conditions::Type;
use crate::api::labels;
use crate::api::tiered_pipeline::Mode;

/// Which directions somebody paused, by annotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    /// Nothing shrinks.
    pub scale_in: bool,
    /// Nothing grows.
    pub scale_out: bool,
}

impl Pause {
    /// Everything is paused.
    pub const ALL: Self = Self {
        scale_in: true,
        scale_out: true,
    };

    /// As the operator reads the annotation: an unknown word pauses everything.
    pub fn read(annotation: Option<&str>) -> Self {
        match annotation {
            None => Self::default(),
            Some("scale-in") => Self {
                scale_in: true,
                scale_out: false,
            },
            Some("scale-out") => Self {
                scale_in: false,
                scale_out: true,
            },
            Some(_) => Self::ALL,
        }
    }

    /// Of a pipeline.
    pub fn of(pipeline: &TieredPipeline) -> Self {
        Self::read(pipeline.annotations().get(labels::PAUSE).map(String::as_str))
    }

    /// The annotation that says so; `None` where nothing is paused.
    pub const fn annotation(self) -> Option<&'static str> {
        match (self.scale_in, self.scale_out) {
            (false, false) => None,
            (true, false) => Some("scale-in"),
            (false, true) => Some("scale-out"),
            (true, true) => Some("all"),
        }
    }
}

/// A condition of a pipeline.
pub fn condition(pipeline: &TieredPipeline, type_: Type) -> Option<&Condition> {
    let conditions = pipeline.status.as_ref()?.conditions.iter();
    conditions
        .into_iter()
        .find(|condition| condition.type_ == type_.as_str())
}

/// How a pipeline is. Paused in both directions is said before how it serves.
pub fn pipeline_state(pipeline: &TieredPipeline) -> State {
    let holds = |type_| condition(pipeline, type_).is_some_and(|condition| condition.status == "True");
    if pipeline.metadata.deletion_timestamp.is_some() {
        State::Leaving
    } else if pipeline.spec.mode == Mode::Paused || Pause::of(pipeline) == Pause::ALL {
        State::Paused
    } else if holds(Type::Stalled) {
        State::Failing
    } else if holds(Type::Ready) {
        State::Ready
    } else if holds(Type::Reconciling) {
        State::Starting
    } else if condition(pipeline, Type::Ready).is_some_and(|condition| condition.status == "False") {
        State::Degraded
    } else {
        State::Unknown
    }
}

/// How a pod is, and why in one word where that says more.
pub fn pod_state(pod: &Pod) -> (State, Option<String>) {
    if pod.metadata.deletion_timestamp.is_some() {
        return (State::Leaving, None);
    }
    let Some(status) = &pod.status else {
        return (State::Unknown, None);
    };
    let conditions = || status.conditions.iter().flatten();
    let ready = conditions().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    if ready {
        return (State::Ready, None);
    }
    let reason = || status.reason.clone();
    match status.phase.as_deref() {
        Some("Failed") => return (State::Failing, reason().or_else(|| Some("Failed".to_owned()))),
        Some("Succeeded") => return (State::Failing, Some("Completed".to_owned())),
        _ => {}
    }
    if let Some(why) = containers(pod).find_map(stuck) {
        return (State::Failing, Some(why));
    }
    let unplaced = conditions().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    match unplaced {
        Some(condition) => (State::Waiting, condition.reason.clone()),
        None => (State::Starting, containers(pod).find_map(waiting)),
    }
}

/// How often containers of a pod have started anew.
pub fn restarts(pod: &Pod) -> i32 {
    containers(pod).map(|container| container.restart_count).sum()
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    })
}

fn waiting(container: &ContainerStatus) -> Option<String> {
    container.state.as_ref()?.waiting.as_ref()?.reason.clone()
}

/// What a container waits for that will not come by itself.
fn stuck(container: &ContainerStatus) -> Option<String> {
    waiting(container).filter(|reason| !matches!(reason.as_str(), "ContainerCreating" | "PodInitializing"))
}
