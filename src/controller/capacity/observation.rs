//! What a pool offers, and the questions asked of it: how much, how many replicas, at what cost.

use super::SetAside;
use super::arithmetic::{fits, largest_share, minus, plus, times};
use crate::api::compute_pool::{Architecture, Tier};
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
    /// Most nodes' worth of room that is kept for bursts.
    pub warm_nodes: u32,
    /// Pods on the pool's nodes that hold such room. They yield to replicas, so they take none.
    pub placeholders: u32,
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

    /// How many more replicas with this request fit on the nodes that are there, beside what runs.
    pub fn replicas_that_fit_now(&self, request: Resources) -> u32 {
        let each = self
            .usable
            .iter()
            .map(|node| fits(minus(node.room, node.used_by_tiercel), request));
        each.fold(0, u32::saturating_add)
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
