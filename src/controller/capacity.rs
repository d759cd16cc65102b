//! What the pools offer: nodes and pods in, capacity, fit and cost per pool out. Pure.
//!
//! Room of a node = allocatable − requests of pods that are not tiercel's − reserve. Nodes that are cordoned, not Ready,
//! leaving, or closed by a taint that the pool does not tolerate give none. Offers are rounded down and requests up, so a
//! sum never promises room that is not there. Read by the controller of pools (status) and by the rebalancer (world).

pub mod arithmetic;
mod selector;
mod usable;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arithmetic::{fits, largest_share, minus, plus, reserve, times};
pub use selector::{admits, matches};
pub use usable::{SetAside, summary};

use super::view::{Amounts, NodeView, PodView};
use crate::api::compute_pool::{Architecture, CapacityType, Operator, Tier};
use crate::api::{ComputePool, labels};
use crate::quantity::{Quantity, Round};
use crate::rebalance::world::Resources;

/// What one pool offers now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolObservation {
    /// Name of the pool.
    pub name: String,
    /// UID of the pool.
    pub uid: String,
    /// Somebody asked for the pool to be deleted.
    pub deleting: bool,
    /// Tier of the hardware.
    pub tier: Tier,
    /// Hardware class: as declared, else the pool's name.
    pub class: String,
    /// As declared, else as the nodes agree; `None` while unknown or mixed.
    pub architecture: Option<Architecture>,
    /// Extended resource of the pool's device.
    pub device: Option<String>,
    /// Not taken away on short notice.
    pub reliable: bool,
    /// Paid for whether used or not.
    pub reserved: bool,
    /// Price of a node, millionths per hour; `None` if it cannot be read.
    pub cost_per_node_micros: Option<u64>,
    /// Power of a node, if declared.
    pub watts_per_node: Option<u32>,
    /// Nodes that match.
    pub nodes: u32,
    /// Nodes that match and can take replicas, by name.
    pub usable: Vec<NodeRoom>,
    /// Nodes that match and cannot, by name, with the reason.
    pub set_aside: Vec<(String, SetAside)>,
    /// What one node offers to pods: the most common one of those there are, else as declared. Prices are shares of it.
    pub shape: Option<Resources>,
    /// How many more nodes may come; 0 while it is not known what they would offer.
    pub elastic_nodes: u32,
    /// What one more node would have room for.
    pub elastic_room: Resources,
    /// Time until a further node is Ready.
    pub provision_ms: u64,
    /// Sums over the usable nodes.
    pub totals: Totals,
    /// Replicas of pipelines on the pool's nodes, usable or not; those being deleted are not counted.
    pub replicas: u32,
    /// Why the pool gives no capacity at all.
    pub problem: Option<Problem>,
}

/// Room on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRoom {
    /// Name of the node.
    pub name: String,
    /// What it offers to pods.
    pub allocatable: Resources,
    /// What pods of others request.
    pub foreign: Resources,
    /// Allocatable − foreign − reserve. Replicas of pipelines are *not* subtracted.
    pub room: Resources,
    /// Pods that it takes beside those of others.
    pub pods: u32,
    /// What replicas of pipelines request.
    pub used_by_tiercel: Resources,
}

/// Sums over the usable nodes of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// What the nodes offer to pods.
    pub allocatable: Resources,
    /// What pods of others request.
    pub foreign: Resources,
    /// What replicas of pipelines request.
    pub used_by_tiercel: Resources,
    /// What is left of the room, node by node.
    pub free: Resources,
}

/// Why a pool gives no capacity at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// An older pool selects one of its nodes.
    PoolsOverlap {
        /// The first such node by name.
        node: String,
        /// The older pool.
        other: String,
    },
    /// A field cannot be read. Admission refuses these; an object from before a rule may still have one.
    InvalidSpec {
        /// Path of the field.
        field: &'static str,
        /// What is wrong and what is allowed.
        message: String,
    },
}

/// Cost of one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaCost {
    /// Its share of a node, millionths per hour: for budgets and reports.
    pub cost_micros: u64,
    /// What one more costs: zero on reserved pools, whose nodes are paid for anyway.
    pub marginal_micros: u64,
    /// Its share of a node's power, if declared.
    pub power_milliwatts: Option<u64>,
}

impl PoolObservation {
    /// What tiercel may use in all: room on usable nodes and on those that may still come.
    pub fn capacity(&self) -> Resources {
        let elastic = times(self.elastic_room, self.elastic_nodes);
        self.usable.iter().fold(elastic, |sum, node| plus(sum, node.room))
    }

    /// How many replicas with this request fit node by node, if tiercel had nothing else there.
    pub fn replicas_that_fit(&self, request: Resources) -> u32 {
        let elastic = fits(self.elastic_room, request).saturating_mul(self.elastic_nodes);
        let each = self.usable.iter().map(|node| fits(node.room, request).min(node.pods));
        each.fold(elastic, u32::saturating_add)
    }

    /// Cost of a replica: the largest share of a node that it takes, times the node's price. `None` while no node's
    /// offer is known, or where the nodes have none of what it requests.
    pub fn replica_cost(&self, request: Resources) -> Option<ReplicaCost> {
        let shape = self.shape?;
        let cost_micros = largest_share(self.cost_per_node_micros?, request, shape)?;
        let milliwatts = self.watts_per_node.map(|watts| u64::from(watts) * 1_000);
        Some(ReplicaCost {
            cost_micros,
            marginal_micros: if self.reserved { 0 } else { cost_micros },
            power_milliwatts: milliwatts.and_then(|milliwatts| largest_share(milliwatts, request, shape)),
        })
    }
}

/// What each pool offers, in the order of `pools`.
///
/// A pod counts as tiercel's as [`PodView::variant_id`] says, as of others otherwise. A node that several pools select
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
}

fn loads(pods: &[Arc<PodView>]) -> HashMap<&str, Load> {
    let mut loads: HashMap<&str, Load> = HashMap::new();
    for pod in pods.iter().filter(|pod| pod.holds_requests()) {
        let Some(node) = pod.spec.node_name.as_deref() else {
            continue;
        };
        let load = loads.entry(node).or_default();
        if pod.variant_id().is_some() {
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
    let replicas = ours
        .filter_map(|member| load(loads, member.node))
        .map(|load| load.replicas)
        .sum();
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
        problem,
        device,
    };
    let device = observation.device.as_deref();
    let mut daemons = Resources::default();
    for node in &nodes {
        if let Some(reason) = usable::set_aside(node, &spec.tolerations) {
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
mod tests;
