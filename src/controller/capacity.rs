//! What the pools offer: nodes and pods in, capacity, fit and cost per pool out. Pure.
//!
//! Room of a node = allocatable − requests of pods that are not tiercel's − reserve. Nodes that are cordoned, not Ready,
//! leaving, closed by a taint that the pool does not tolerate, or of another architecture than declared, give none. Offers are rounded down and requests up, so a
//! sum never promises room that is not there. Read by the controller of pools (status) and by the rebalancer (world).

pub mod arithmetic;
mod observation;
mod selector;
mod usable;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arithmetic::{minus, plus, reserve};
pub use observation::{NodeRoom, PoolObservation, Problem, ReplicaCost, Totals};
pub use selector::{admits, matches};
pub use usable::{SetAside, summary};

use super::view::{Amounts, NodeView, PodView};
use crate::api::compute_pool::{Architecture, CapacityType, Operator, Tier};
use crate::api::{ComputePool, labels};
use crate::quantity::{Quantity, Round};
use crate::rebalance::world::Resources;

/// What each pool offers, in the order of `pools`.
///
/// A pod counts as tiercel's as [`PodView::variant_id`] says, as of others otherwise; one that only holds room for bursts takes
/// none. A node that several pools select
/// belongs to the oldest of them (creation, then UID); the others get [`Problem::PoolsOverlap`] and no capacity, so
/// nothing counts twice.
pub fn observe(pools: &[Arc<ComputePool>], nodes: &[Arc<NodeView>], pods: &[Arc<PodView>]) -> Vec<PoolObservation> {
    let loads = loads(pods);
    // Stores have no order of their own.
    let mut nodes: Vec<&NodeView> = nodes.iter().map(|node| &**node).collect();
    nodes.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut by_age: Vec<usize> = (0..pools.len()).collect();
    by_age.sort_by_key(|index| pools.get(*index).map(|pool| seniority(pool)));

    let mut members: Vec<Vec<Member<'_>>> = vec![Vec::new(); pools.len()];
    let mut overlaps: Vec<Option<Problem>> = vec![None; pools.len()];
    for node in nodes {
        let mut first: Option<&ComputePool> = None;
        for index in &by_age {
            let (Some(pool), Some(member), Some(overlap)) =
                (pools.get(*index), members.get_mut(*index), overlaps.get_mut(*index))
            else {
                continue;
            };
            if !selects(pool, node) {
                continue;
            }
            member.push(Member {
                node,
                ours: first.is_none(),
            });
            match first {
                None => first = Some(pool),
                Some(older) if overlap.is_none() => {
                    *overlap = Some(Problem::PoolsOverlap {
                        node: name(node),
                        other: pool_name(older),
                    });
                }
                Some(_) => {}
            }
        }
    }
    let observed = pools.iter().zip(members).zip(overlaps);
    observed
        .map(|((pool, members), overlap)| observe_pool(pool, &members, overlap, &loads))
        .collect()
}

/// A node that a pool selects.
#[derive(Clone, Copy)]
struct Member<'a> {
    node: &'a NodeView,
    /// No older pool selects it.
    ours: bool,
}

fn seniority(pool: &ComputePool) -> (Option<i128>, Option<&String>) {
    let created = pool
        .metadata
        .creation_timestamp
        .as_ref()
        .map(|time| time.0.as_nanosecond());
    (created, pool.metadata.uid.as_ref())
}

/// A pool without any requirement selects nothing: it never means all nodes.
fn selects(pool: &ComputePool, node: &NodeView) -> bool {
    let spec = &pool.spec;
    let named = !spec.node_selector.is_empty() || !spec.match_expressions.is_empty();
    let unlabelled = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&unlabelled);
    named && matches(&spec.node_selector, &spec.match_expressions, labels)
}

/// What the pods on one node request.
#[derive(Clone, Debug, Default)]
struct Load {
    foreign: Amounts,
    foreign_pods: u32,
    daemons: Amounts,
    tiercel: Amounts,
    replicas: u32,
    placeholders: u32,
}

fn loads(pods: &[Arc<PodView>]) -> HashMap<&str, Load> {
    let mut loads: HashMap<&str, Load> = HashMap::new();
    for pod in pods.iter().filter(|pod| pod.holds_requests()) {
        let Some(node) = pod.spec.node_name.as_deref() else {
            continue;
        };
        let load = loads.entry(node).or_default();
        if pod.spec.yields {
            load.placeholders += 1;
        } else if pod.variant_id().is_some() {
            load.tiercel = load.tiercel.plus(&pod.spec.requests);
            load.replicas += u32::from(pod.metadata.deletion_timestamp.is_none());
        } else {
            load.foreign = load.foreign.plus(&pod.spec.requests);
            load.foreign_pods += 1;
            if pod.is_daemon() {
                load.daemons = load.daemons.plus(&pod.spec.requests);
            }
        }
    }
    loads
}

fn observe_pool(
    pool: &ComputePool,
    members: &[Member<'_>],
    overlap: Option<Problem>,
    loads: &HashMap<&str, Load>,
) -> PoolObservation {
    let spec = &pool.spec;
    let nodes: Vec<&NodeView> = members.iter().map(|member| member.node).collect();
    let ours = members.iter().filter(|member| member.ours);
    let (replicas, placeholders) = ours
        .filter_map(|member| load(loads, member.node))
        .fold((0, 0), |(replicas, placeholders), load| {
            (replicas + load.replicas, placeholders + load.placeholders)
        });
    let device = spec.device.as_ref().map(|device| device.resource_name.clone());
    let percent = u32::try_from(spec.reserve_percent).unwrap_or(0);
    let count = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
    let (declared, invalid) = match declared_shape(pool, device.as_deref()) {
        Ok(declared) => (declared, invalid_field(pool)),
        Err(problem) => (None, Some(problem)),
    };
    let problem = invalid.or(overlap);
    let mut observation = PoolObservation {
        name: pool_name(pool),
        uid: pool.metadata.uid.clone().unwrap_or_default(),
        deleting: pool.metadata.deletion_timestamp.is_some(),
        tier: spec.tier,
        class: spec.class.clone().unwrap_or_else(|| pool_name(pool)),
        architecture: spec.architecture.or_else(|| common_architecture(&nodes)),
        reliable: spec.capacity_type.is_reliable(),
        reserved: spec.capacity_type == CapacityType::Reserved,
        cost_per_node_micros: spec.cost_per_node_hour.micros().ok(),
        watts_per_node: spec.power_watts_per_node.and_then(|watts| u32::try_from(watts).ok()),
        nodes: count,
        usable: Vec::new(),
        set_aside: Vec::new(),
        shape: None,
        elastic_nodes: 0,
        elastic_room: Resources::default(),
        provision_ms: 0,
        totals: Totals::default(),
        replicas,
        warm_nodes: 0,
        placeholders,
        problem,
        device,
    };
    let device = observation.device.as_deref();
    let mut daemons = Resources::default();
    for node in &nodes {
        if let Some(reason) = usable::set_aside(node, spec) {
            observation.set_aside.push((name(node), reason));
            continue;
        }
        if observation.problem.is_some() {
            continue;
        }
        let room = node_room(node, load(loads, node), device, percent);
        if let Some(load) = load(loads, node) {
            daemons = larger(daemons, load.daemons.resources(device, Round::Up));
        }
        let totals = &mut observation.totals;
        totals.allocatable = plus(totals.allocatable, room.allocatable);
        totals.foreign = plus(totals.foreign, room.foreign);
        totals.used_by_tiercel = plus(totals.used_by_tiercel, room.used_by_tiercel);
        totals.free = plus(totals.free, minus(room.room, room.used_by_tiercel));
        observation.usable.push(room);
    }
    let offered = |node: &&NodeView| node.status.allocatable.resources(device, Round::Down);
    observation.shape = most_common(observation.usable.iter().map(|node| node.allocatable), device)
        .or_else(|| most_common(nodes.iter().map(offered), device))
        .or(declared);
    if let (Some(elastic), Some(shape), None) = (&spec.elastic, observation.shape, &observation.problem) {
        observation.elastic_nodes = u32::try_from(elastic.max_nodes).unwrap_or(0).saturating_sub(count);
        // The next node will carry the same daemons as those there are.
        observation.elastic_room = minus(minus(shape, daemons), reserve(shape, percent));
        let warm = elastic.warm_buffer.as_ref().map_or(0, |warm| warm.max_nodes);
        observation.warm_nodes = u32::try_from(warm).unwrap_or(0);
        observation.provision_ms = u64::try_from(elastic.provision_seconds).unwrap_or(0) * 1_000;
    }
    observation
}

fn node_room(node: &NodeView, load: Option<&Load>, device: Option<&str>, percent: u32) -> NodeRoom {
    let allocatable = node.status.allocatable.resources(device, Round::Down);
    let requested = |amounts: &Amounts| amounts.resources(device, Round::Up);
    let foreign = load.map(|load| requested(&load.foreign)).unwrap_or_default();
    let foreign_pods = load.map_or(0, |load| load.foreign_pods);
    NodeRoom {
        name: name(node),
        allocatable,
        foreign,
        room: minus(minus(allocatable, foreign), reserve(allocatable, percent)),
        pods: node
            .status
            .pods
            .map_or(u32::MAX, |pods| pods.saturating_sub(foreign_pods)),
        used_by_tiercel: load.map(|load| requested(&load.tiercel)).unwrap_or_default(),
    }
}

/// The offer that most nodes make; of equally common ones the smaller. Nodes whose device is not up yet say nothing.
fn most_common(offers: impl Iterator<Item = Resources>, device: Option<&str>) -> Option<Resources> {
    let mut counts: BTreeMap<[u64; 3], u32> = BTreeMap::new();
    for offer in offers.filter(|offer| offer.cpu_millis > 0 && (device.is_none() || offer.device_millis > 0)) {
        *counts
            .entry([offer.device_millis, offer.cpu_millis, offer.memory_kib])
            .or_default() += 1;
    }
    let (offer, _) = counts
        .into_iter()
        .max_by_key(|(offer, count)| (*count, Reverse(*offer)))?;
    let [device_millis, cpu_millis, memory_kib] = offer;
    Some(Resources {
        cpu_millis,
        memory_kib,
        device_millis,
    })
}

fn declared_shape(pool: &ComputePool, device: Option<&str>) -> Result<Option<Resources>, Problem> {
    let Some(elastic) = pool
        .spec
        .elastic
        .as_ref()
        .filter(|elastic| !elastic.node_allocatable.is_empty())
    else {
        return Ok(None);
    };
    for (resource, text) in &elastic.node_allocatable {
        if let Err(error) = Quantity::parse(&text.0) {
            let message = format!("`{resource}`: {error}");
            return Err(Problem::InvalidSpec {
                field: "spec.elastic.nodeAllocatable",
                message,
            });
        }
    }
    Ok(Some(
        Amounts::offered(&elastic.node_allocatable).resources(device, Round::Down),
    ))
}

/// What admission refuses, looked for once more.
fn invalid_field(pool: &ComputePool) -> Option<Problem> {
    let spec = &pool.spec;
    let invalid = |field, message: String| Some(Problem::InvalidSpec { field, message });
    if let Err(error) = spec.cost_per_node_hour.micros() {
        return invalid("spec.costPerNodeHour", error.to_string());
    }
    if spec.node_selector.is_empty() && spec.match_expressions.is_empty() {
        return invalid(
            "spec.nodeSelector",
            "must name at least one label: a pool never means all nodes".to_owned(),
        );
    }
    let numeric = |operator| matches!(operator, Operator::Gt | Operator::Lt);
    for expression in spec
        .match_expressions
        .iter()
        .filter(|expression| numeric(expression.operator))
    {
        if !matches!(expression.values.as_slice(), [value] if value.parse::<i64>().is_ok()) {
            let message = format!("`{}`: 'Gt' and 'Lt' must have one whole number", expression.key);
            return invalid("spec.matchExpressions", message);
        }
    }
    match (spec.tier, &spec.device) {
        (Tier::Accelerator, None) => invalid("spec.device", "must be set when `tier` is 'Accelerator'".to_owned()),
        (Tier::Cpu, Some(_)) => invalid("spec.device", "must not be set when `tier` is 'CPU'".to_owned()),
        _ => None,
    }
}

fn common_architecture(nodes: &[&NodeView]) -> Option<Architecture> {
    let mut labels = nodes
        .iter()
        .map(|node| node.metadata.labels.as_ref()?.get(labels::ARCHITECTURE));
    let first = labels.next()??;
    labels
        .all(|label| label == Some(first))
        .then(|| Architecture::from_label(first))?
}

fn load<'a>(loads: &'a HashMap<&str, Load>, node: &NodeView) -> Option<&'a Load> {
    loads.get(node.metadata.name.as_deref()?)
}

fn larger(a: Resources, b: Resources) -> Resources {
    plus(minus(a, b), b)
}

fn name(node: &NodeView) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

fn pool_name(pool: &ComputePool) -> String {
    pool.metadata.name.clone().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
