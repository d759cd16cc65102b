//! What the web view shows: the same models as `get`, `status` and `top`, with the graph and the last hour beside them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use serde::Serialize;

use super::State;
use super::graph::{Graph, graph};
use super::hour::{Hour, Past};
use super::status::{Screen, Serves, screen};
use super::top::pool_state;
use super::tree::{Pipeline, Seen, Stage, Tree, tree};
use crate::api::compute_pool::{CapacityType, ComputePoolStatus, ResourceCapacity, Tier};
use crate::api::{ComputePool, TieredPipeline};
use crate::quantity::Quantity;

/// Version of both documents' shapes. Fields may be added to them; another meaning is another version.
pub const VERSION: u32 = 1;

/// Where the view looks, and whether it still sees. No address and nothing of a credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Name of the context.
    pub context: String,
    /// The namespace that is looked at; absent for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Version of this program.
    pub version: &'static str,
    /// Since when it looks, RFC 3339.
    pub since: String,
    /// What may not be seen, or is worth knowing.
    pub notes: Vec<String>,
    /// Why pools are not there to see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_pools: Option<String>,
    /// Nothing has come yet.
    pub waiting: bool,
    /// What is shown is not what is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
}

/// The cluster no longer shows what it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Since when, RFC 3339.
    pub since: String,
    /// What is in the way.
    pub problem: String,
    /// How to go on.
    pub advice: &'static str,
}

/// All pipelines and pools.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// See [`VERSION`].
    pub version: u32,
    /// When this was made, RFC 3339.
    pub time: String,
    /// Where, and since when.
    pub session: Session,
    /// By namespace and name.
    pub pipelines: Vec<Entry>,
    /// By name.
    pub pools: Vec<Pool>,
}

/// A pipeline in short: its tree without pods, and whether it serves.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// As in `get`.
    #[serde(flatten)]
    pub pipeline: Pipeline,
    /// Whether requests get through.
    pub serves: Serves,
    /// Why, or why not.
    pub because: String,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How it is, as in `top`.
    pub state: State,
    /// Its tier.
    pub tier: Tier,
    /// Its hardware class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// How its nodes are bought.
    pub capacity_type: CapacityType,
    /// Price of a node per hour.
    pub cost_per_node_hour: String,
    /// What a node draws.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_watts_per_node: Option<i32>,
    /// How many nodes it may grow to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_nodes: Option<i32>,
    /// What is known about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ComputePoolStatus>,
    /// Whose each resource is, in the order of its status.
    pub shares: Vec<Share>,
    /// Stages that are on it.
    pub stages: Vec<OnPool>,
}

/// Parts of a resource, in thousandths of what nodes offer to pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Name of the resource.
    pub resource: String,
    /// Of pipelines' replicas.
    pub tiercel: u32,
    /// Of other pods.
    pub others: u32,
    /// Free, after the reserve.
    pub free: u32,
}

/// A stage on a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OnPool {
    /// Namespace of the pipeline.
    pub namespace: String,
    /// The pipeline.
    pub pipeline: String,
    /// The stage.
    pub stage: String,
    /// Replicas there.
    pub replicas: i32,
    /// How many of them are Ready.
    pub ready: i32,
}

/// One pipeline with its graph and its last hour.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    /// See [`VERSION`].
    pub version: u32,
    /// When this was made, RFC 3339.
    pub time: String,
    /// As in `status`.
    pub screen: Screen,
    /// Stages as in `get`, without pods.
    pub stages: Vec<Stage>,
    /// How the stages are drawn.
    pub graph: Graph,
    /// What was seen of it.
    pub past: Past,
    /// All conditions, also those that are as they should be.
    pub conditions: Vec<Condition>,
}

/// All pipelines and pools, as they were last seen.
pub fn overview(seen: &Seen, session: &Session, now: Timestamp) -> Overview {
    let tree = tree(seen, now);
    let mut pools: Vec<Pool> = seen.pools.iter().map(|object| pool(object, &tree)).collect();
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    let objects: BTreeMap<(String, String), &TieredPipeline> = seen
        .pipelines
        .iter()
        .map(|object| ((object.namespace().unwrap_or_default(), object.name_any()), object))
        .collect();
    let entries = tree.pipelines.into_iter().filter_map(|pipeline| {
        let object = objects.get(&(pipeline.namespace.clone(), pipeline.name.clone()))?;
        Some(entry(object, pipeline, now))
    });
    Overview {
        version: VERSION,
        time: now.to_string(),
        session: session.clone(),
        pipelines: entries.collect(),
        pools,
    }
}

/// One pipeline; `None` if there is none such.
pub fn detail(seen: &Seen, hour: &Hour, namespace: &str, name: &str, now: Timestamp) -> Option<Detail> {
    let is_meant =
        |object: &&TieredPipeline| object.metadata.namespace.as_deref() == Some(namespace) && object.name_any() == name;
    let object = seen.pipelines.iter().find(is_meant)?;
    let beside = seen
        .pods
        .iter()
        .filter(|pod| pod.metadata.namespace.as_deref() == Some(namespace));
    let only = Seen {
        pipelines: vec![object.clone()],
        pods: beside.cloned().collect(),
        pools: seen.pools.clone(),
    };
    let pipeline = tree(&only, now).pipelines.pop()?;
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    Some(Detail {
        version: VERSION,
        time: now.to_string(),
        stages: without_pods(pipeline.clone()).stages,
        screen: screen(object, pipeline, now),
        graph: graph(object),
        past: hour.of(namespace, name, now),
        conditions: conditions.cloned().collect(),
    })
}

fn entry(object: &TieredPipeline, pipeline: Pipeline, now: Timestamp) -> Entry {
    let short = without_pods(pipeline.clone());
    let screen = screen(object, pipeline, now);
    Entry {
        pipeline: short,
        serves: screen.serves,
        because: screen.because,
    }
}

fn without_pods(mut pipeline: Pipeline) -> Pipeline {
    for pool in pipeline.stages.iter_mut().flat_map(|stage| &mut stage.pools) {
        pool.pods.clear();
    }
    pipeline
}

fn pool(object: &ComputePool, tree: &Tree) -> Pool {
    let name = object.name_any();
    let stages = tree.pipelines.iter().flat_map(|pipeline| {
        let stages = pipeline.stages.iter();
        stages.map(move |stage| (pipeline, stage))
    });
    let on_it = stages.filter_map(|(pipeline, stage)| {
        let place = stage.pools.iter().find(|pool| pool.name == name && pool.replicas > 0)?;
        Some(OnPool {
            namespace: pipeline.namespace.clone(),
            pipeline: pipeline.name.clone(),
            stage: stage.name.clone(),
            replicas: place.replicas,
            ready: place.ready,
        })
    });
    let capacity = object.status.iter().flat_map(|status| &status.capacity);
    Pool {
        stages: on_it.collect(),
        state: pool_state(object),
        tier: object.spec.tier,
        class: object.spec.class.clone(),
        capacity_type: object.spec.capacity_type,
        cost_per_node_hour: object.spec.cost_per_node_hour.0.clone(),
        power_watts_per_node: object.spec.power_watts_per_node,
        max_nodes: object.spec.elastic.as_ref().map(|elastic| elastic.max_nodes),
        shares: capacity.filter_map(share).collect(),
        status: object.status.clone(),
        name,
    }
}

/// `None` where a number cannot be read, or there is nothing to share.
fn share(capacity: &ResourceCapacity) -> Option<Share> {
    let millis = |text: &str| Some(Quantity::parse(text).ok()?.millis(crate::quantity::Round::Down).max(0));
    let all = millis(&capacity.allocatable).filter(|&all| all > 0)?;
    let part = |text: &str| u32::try_from((millis(text)? * 1_000 / all).min(1_000)).ok();
    Some(Share {
        resource: capacity.resource.clone(),
        tiercel: part(&capacity.requested_by_tiercel)?,
        others: part(&capacity.requested_by_others)?,
        free: part(&capacity.free)?,
    })
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
