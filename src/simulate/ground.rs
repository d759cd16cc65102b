//! What a cluster would add to files, made up: nodes, and a Deployment for every stage and pool.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use serde_json::json;

use crate::api::compute_pool::{Operator, Tier};
use crate::api::{self, ComputePool, TieredPipeline};
use crate::controller::live::Live;
use crate::controller::pipeline::dereference::Found;
use crate::controller::pipeline::validate::validate;
use crate::controller::pipeline::validated::ValidatedPipeline;
use crate::controller::view::NodeView;

/// Nodes of a pool that says nothing about them.
const NODES: u32 = 20;
/// A CPU node of which nothing is known.
const CPU_NODE: (&str, &str) = ("16", "64Gi");

/// `--nodes` is not of its form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`--nodes {0}` is not understood: write POOL=COUNT or POOL=COUNT:CPU,MEMORY or POOL=COUNT:CPU,MEMORY,DEVICES, such as h100=2:16,256Gi,1"
)]
pub struct InvalidNodes(pub String);

/// Nodes that a pool is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nodes {
    /// The pool's name.
    pub pool: String,
    /// How many.
    pub count: u32,
    /// What each offers: CPU, memory, devices; absent, as declared or assumed.
    pub shape: Option<(String, String, u32)>,
}

impl std::str::FromStr for Nodes {
    type Err = InvalidNodes;

    fn from_str(text: &str) -> Result<Self, InvalidNodes> {
        let malformed = || InvalidNodes(text.to_owned());
        let (pool, rest) = text.split_once('=').ok_or_else(malformed)?;
        let (count, shape) = match rest.split_once(':') {
            None => (rest, None),
            Some((count, shape)) => {
                let mut parts = shape.split(',');
                let (cpu, memory) = (parts.next().ok_or_else(malformed)?, parts.next().ok_or_else(malformed)?);
                for quantity in [cpu, memory] {
                    crate::quantity::Quantity::parse(quantity).map_err(|_| malformed())?;
                }
                let devices = parts.next().map_or(Ok(0), str::parse).map_err(|_| malformed())?;
                (count, Some((cpu.to_owned(), memory.to_owned(), devices)))
            }
        };
        Ok(Self {
            pool: pool.to_owned(),
            count: count.parse().map_err(|_| malformed())?,
            shape,
        })
    }
}

/// Nodes that a pool was given because nobody said what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumption {
    /// The pool's name.
    pub pool: String,
    /// How many.
    pub count: u32,
    /// What each offers: CPU, memory, devices.
    pub shape: (String, String, u32),
    /// The pool has a device.
    device: bool,
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, count, .. } = self;
        let (cpu, memory, devices) = &self.shape;
        write!(f, "pool '{pool}': {count} nodes with {cpu} CPUs, {memory}")?;
        if *devices > 0 {
            write!(f, ", {devices} device{}", if *devices == 1 { "" } else { "s" })?;
        }
        let form = if self.device { ",DEVICES" } else { "" };
        write!(f, " are assumed; give --nodes {pool}=COUNT:CPU,MEMORY{form}")
    }
}

/// Nodes for every pool: as given, else none where the pool may grow by itself, else assumed.
pub fn nodes(
    pipelines: &[TieredPipeline],
    pools: &[ComputePool],
    given: &[Nodes],
) -> (Vec<Arc<NodeView>>, Vec<Assumption>) {
    let (mut nodes, mut assumptions) = (Vec::new(), Vec::new());
    for pool in pools {
        let name = pool.name_any();
        let wanted = given.iter().find(|nodes| nodes.pool == name);
        let grows = (pool.spec.elastic.as_ref()).is_some_and(|elastic| !elastic.node_allocatable.is_empty());
        if wanted.is_none() && grows {
            continue;
        }
        let count = wanted.map_or(NODES, |nodes| nodes.count);
        let (cpu, memory, devices) = match wanted.and_then(|nodes| nodes.shape.clone()) {
            Some(shape) => shape,
            None => assumed(pipelines, pool),
        };
        for number in 0..count {
            nodes.extend(node(pool, &format!("{name}-{number}"), &cpu, &memory, devices).map(Arc::new));
        }
        if wanted.is_none_or(|nodes| nodes.shape.is_none()) {
            assumptions.push(Assumption {
                pool: name,
                count,
                shape: (cpu, memory, devices),
                device: pool.spec.device.is_some(),
            });
        }
    }
    (nodes, assumptions)
}

/// The pipeline as it is once all of its Deployments exist: replicas are planned only where one does. Those that `found`
/// does not hold are added to it, without replicas.
pub fn standing(pipeline: &TieredPipeline, found: &mut Found) -> ValidatedPipeline {
    // Look once for the names, then again with all of them there.
    let first = validate(pipeline, found);
    for pool in first.stages.iter().flat_map(|stage| &stage.pools) {
        let deployment = serde_json::from_value::<Live<Deployment>>(json!({"metadata": {
            "name": pool.child,
            "namespace": first.id.namespace,
            "ownerReferences": [{"apiVersion": format!("{}/{}", api::GROUP, api::VERSION), "kind": "TieredPipeline",
                                 "name": first.id.name, "uid": first.id.uid, "controller": true}],
        }}));
        if let Ok(deployment) = deployment {
            found
                .deployments
                .entry(pool.child.clone())
                .or_insert_with(|| Arc::new(deployment));
        }
    }
    validate(pipeline, found)
}

/// A node of a pool of which nothing is known. Where there are devices it fits one of the largest replica.
fn assumed(pipelines: &[TieredPipeline], pool: &ComputePool) -> (String, String, u32) {
    let (cpu, memory) = CPU_NODE;
    let mut largest = (0_i128, 0_i128, 0_i128);
    let Some(device) = pool
        .spec
        .device
        .as_ref()
        .filter(|_| pool.spec.tier == Tier::Accelerator)
    else {
        return (cpu.to_owned(), memory.to_owned(), 0);
    };
    let stages = pipelines.iter().flat_map(|pipeline| &pipeline.spec.stages);
    for stage in stages {
        let overrides = stage
            .profiles
            .iter()
            .filter_map(|profile| profile.container.as_ref()?.resources.as_ref());
        for resources in std::iter::once(&stage.container.resources).chain(overrides) {
            let amount = |name: &str| {
                let text = resources.requests.get(name).or_else(|| resources.limits.get(name))?;
                crate::quantity::Quantity::parse(&text.0).ok()
            };
            let Some(devices) = amount(&device.resource_name) else {
                continue;
            };
            let up = crate::quantity::Round::Up;
            let millis = |name| amount(name).map_or(0, |quantity| quantity.millis(up));
            let kib = amount("memory").map_or(0, |quantity| quantity.kib(up));
            largest.0 = largest.0.max(millis("cpu"));
            largest.1 = largest.1.max(kib);
            largest.2 = largest.2.max(devices.units(up));
        }
    }
    if largest.2 == 0 {
        return (cpu.to_owned(), memory.to_owned(), 1);
    }
    let devices = u32::try_from(largest.2).unwrap_or(1);
    (
        plain(largest.0, &[(1_000, ""), (1, "m")]),
        plain(largest.1, &[(1 << 20, "Gi"), (1 << 10, "Mi"), (1, "Ki")]),
        devices,
    )
}

/// An amount in the largest of the units that it is whole in.
fn plain(amount: i128, units: &[(i128, &str)]) -> String {
    let whole = units.iter().find(|(unit, _)| amount % unit == 0);
    whole.map_or_else(|| amount.to_string(), |(unit, name)| format!("{}{name}", amount / unit))
}

/// A Ready node that the pool selects.
fn node(pool: &ComputePool, name: &str, cpu: &str, memory: &str, devices: u32) -> Option<NodeView> {
    let spec = &pool.spec;
    let mut labels: BTreeMap<String, String> = spec.node_selector.clone();
    for expression in &spec.match_expressions {
        let first = expression.values.first().cloned();
        let number = |by: i64| {
            first
                .as_ref()?
                .parse::<i64>()
                .ok()
                .map(|value| (value + by).to_string())
        };
        let value = match expression.operator {
            Operator::In => first,
            Operator::Exists => Some("true".to_owned()),
            Operator::Gt => number(1),
            Operator::Lt => number(-1),
            Operator::NotIn | Operator::DoesNotExist => None,
        };
        if let Some(value) = value {
            labels.insert(expression.key.clone(), value);
        }
    }
    if let Some(architecture) = spec.architecture {
        let key = crate::api::labels::ARCHITECTURE.to_owned();
        labels.entry(key).or_insert_with(|| architecture.as_str().to_owned());
    }
    let mut allocatable = json!({"cpu": cpu, "memory": memory, "pods": "110"});
    if let (Some(device), Some(offer)) = (&spec.device, allocatable.as_object_mut()) {
        offer.insert(device.resource_name.clone(), json!(devices.to_string()));
    }
    let node = json!({
        "metadata": {"name": name, "uid": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": "True"}]},
    });
    serde_json::from_value(node).ok()
}
