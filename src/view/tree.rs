//! The tree of `get`: pipeline, stage, pool, pods.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod as CorePod;
use kube::ResourceExt as _;
use serde::Serialize;

use super::facts::{self, Pause};
use super::{State, seconds_since};
use crate::api::compute_pool::{CapacityType, Tier};
use crate::api::conditions::Type;
use crate::api::labels;
use crate::api::tiered_pipeline::{Mode, StageStatus};
use crate::api::{ComputePool, Stage as Declared, TieredPipeline};

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The pipelines to show.
    pub pipelines: Vec<TieredPipeline>,
    /// Pods of theirs; others are left out.
    pub pods: Vec<CorePod>,
    /// Pools, as far as they may be seen.
    pub pools: Vec<ComputePool>,
}

/// All pipelines, by namespace and name.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tree {
    /// The pipelines.
    pub pipelines: Vec<Pipeline>,
}

/// A pipeline.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pipeline {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// Its mode.
    pub mode: Mode,
    /// What somebody paused by annotation: `all`, `scale-in` or `scale-out`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<&'static str>,
    /// Reason of the condition `Ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Message of the condition `Ready`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Replicas of all stages.
    pub replicas: i32,
    /// How many of them are Ready.
    pub ready: i32,
    /// What they cost per hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_hour: Option<String>,
    /// What they draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_watts: Option<i32>,
    /// Seconds since it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<i64>,
    /// Its stages, in its order.
    pub stages: Vec<Stage>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// What it does.
    pub kind: &'static str,
    /// Which tier it needs.
    pub tier_hint: &'static str,
    /// Its replicas over all pools.
    pub replicas: i32,
    /// How many of them are Ready.
    pub ready: i32,
    /// Whether the pipeline's throughput is limited here.
    pub bottleneck: bool,
    /// What is worth knowing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where it is.
    pub pools: Vec<Pool>,
}

/// A stage on one pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Name of the pool.
    pub name: String,
    /// How the stage is there.
    pub state: State,
    /// Tier of the pool, if it may be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// Its hardware class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// How its nodes are bought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_type: Option<CapacityType>,
    /// Replicas there.
    pub replicas: i32,
    /// How many of them are Ready.
    pub ready: i32,
    /// The pods.
    pub pods: Vec<Pod>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// Why, where that says more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often its containers have started anew.
    pub restarts: i32,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Seconds since it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<i64>,
}

/// The tree of what was seen.
pub fn tree(seen: &Seen, now: Timestamp) -> Tree {
    let mut pipelines: Vec<Pipeline> = seen
        .pipelines
        .iter()
        .map(|pipeline| self::pipeline(pipeline, seen, now))
        .collect();
    pipelines.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Tree { pipelines }
}

/// Pods of one stage, by pool.
type Pods<'a> = BTreeMap<&'a str, Vec<&'a CorePod>>;

fn pipeline(object: &TieredPipeline, seen: &Seen, now: Timestamp) -> Pipeline {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let mut pods: BTreeMap<&str, Pods> = BTreeMap::new();
    for pod in &seen.pods {
        let label = |key: &str| pod.labels().get(key).map(String::as_str);
        let own = label(labels::PIPELINE) == Some(&name) && pod.metadata.namespace.as_ref() == Some(&namespace);
        if let (true, Some(stage), Some(pool)) = (own, label(labels::STAGE), label(labels::POOL)) {
            pods.entry(stage).or_default().entry(pool).or_default().push(pod);
        }
    }
    let status = object.status.as_ref();
    let stages = object.spec.stages.iter().map(|declared| {
        let known = status.and_then(|status| status.stages.iter().find(|stage| stage.name == declared.name));
        stage(
            declared,
            known,
            &pods.remove(declared.name.as_str()).unwrap_or_default(),
            &seen.pools,
            now,
        )
    });
    let ready = facts::condition(object, Type::Ready);
    Pipeline {
        state: facts::pipeline_state(object),
        mode: object.spec.mode,
        paused: Pause::of(object).annotation(),
        reason: ready.map(|ready| ready.reason.clone()),
        message: ready
            .map(|ready| ready.message.clone())
            .filter(|message| !message.is_empty()),
        replicas: status.map_or(0, |status| status.replicas),
        ready: status.map_or(0, |status| status.ready_replicas),
        cost_per_hour: status.and_then(|status| status.cost_per_hour.clone()),
        power_watts: status.and_then(|status| status.power_watts),
        age_seconds: age(object.metadata.creation_timestamp.as_ref(), now),
        stages: stages.collect(),
        namespace,
        name,
    }
}

fn age(created: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>, now: Timestamp) -> Option<i64> {
    created.map(|created| seconds_since(created, now))
}

fn stage(
    declared: &Declared,
    known: Option<&StageStatus>,
    pods: &Pods,
    pools: &[ComputePool],
    now: Timestamp,
) -> Stage {
    let on_record = || known.iter().flat_map(|known| &known.pools);
    let mut names: Vec<&str> = on_record().map(|pool| pool.name.as_str()).collect();
    names.extend(pods.keys().filter(|name| !on_record().any(|pool| pool.name == **name)));
    let pools: Vec<Pool> = names
        .into_iter()
        .map(|name| {
            let counts = on_record().find(|pool| pool.name == name);
            let counts = counts.map_or((0, 0), |pool| (pool.replicas, pool.ready));
            let empty = Vec::new();
            let object = pools.iter().find(|pool| pool.name_any() == name);
            pool(name, counts, pods.get(name).unwrap_or(&empty), object, now)
        })
        .collect();
    let (replicas, ready) = known.map_or((0, 0), |known| (known.replicas, known.ready_replicas));
    let failing = pools.iter().any(|pool| pool.state == State::Failing);
    let waiting = pools.iter().any(|pool| pool.state == State::Waiting);
    let state = match (known, replicas) {
        (None, _) => State::Unknown,
        (_, 0) if declared.replicas.min > 0 => State::Waiting,
        (_, 0) => State::Asleep,
        _ if ready >= replicas => State::Ready,
        _ if failing && ready == 0 => State::Failing,
        _ if failing => State::Degraded,
        _ if waiting => State::Waiting,
        _ => State::Starting,
    };
    Stage {
        name: declared.name.clone(),
        state,
        kind: declared.kind.as_str(),
        tier_hint: declared.hint().as_str(),
        replicas,
        ready,
        bottleneck: known.is_some_and(|known| known.bottleneck),
        message: known.and_then(|known| known.message.clone()),
        pools,
    }
}

fn pool(
    name: &str,
    (replicas, ready): (i32, i32),
    pods: &[&CorePod],
    object: Option<&ComputePool>,
    now: Timestamp,
) -> Pool {
    let mut pods: Vec<Pod> = pods.iter().map(|object| pod(object, now)).collect();
    // What needs a look comes first.
    pods.sort_by(|a, b| b.state.cmp(&a.state).then_with(|| a.name.cmp(&b.name)));
    let worst = pods.iter().map(|pod| pod.state).max();
    let state = match worst {
        Some(worst @ (State::Failing | State::Waiting)) => worst,
        _ if replicas > ready => State::Starting,
        _ if replicas > 0 => State::Ready,
        Some(State::Leaving) => State::Leaving,
        _ => State::Idle,
    };
    Pool {
        name: name.to_owned(),
        state,
        tier: object.map(|object| object.spec.tier),
        class: object.and_then(|object| object.spec.class.clone()),
        capacity_type: object.map(|object| object.spec.capacity_type),
        replicas,
        ready,
        pods,
    }
}

fn pod(object: &CorePod, now: Timestamp) -> Pod {
    let (state, reason) = facts::pod_state(object);
    Pod {
        name: object.name_any(),
        state,
        reason,
        restarts: facts::restarts(object),
        node: object.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        age_seconds: age(object.metadata.creation_timestamp.as_ref(), now),
    }
}
