//! What manifests meet: pools and their nodes, namespaces, and what a cluster already runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::manifest::{Located, Manifests};
use crate::api::compute_pool::NamespacesFrom;
use crate::api::{ComputePool, TieredPipeline};
use crate::controller::capacity::{self, PoolObservation};
use crate::controller::live::Live;
use crate::controller::pipeline::ceilings::NamespaceCeilings;
use crate::controller::pipeline::dereference::{Found, pool_facts};
use crate::controller::view::{NodeView, PodView};
use crate::simulate::ground::{Nodes, nodes};

/// What is known of namespaces, by name.
pub type Namespaces = BTreeMap<String, Namespace>;

/// A namespace as far as it matters to pipelines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its labels, by which pools admit it.
    pub labels: BTreeMap<String, String>,
    /// What its pipelines may take together.
    pub ceilings: NamespaceCeilings,
}

/// What a cluster holds.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// All pipelines.
    pub pipelines: Vec<TieredPipeline>,
    /// All pools.
    pub pools: Vec<ComputePool>,
    /// All nodes.
    pub nodes: Vec<Arc<NodeView>>,
    /// All pods that hold something.
    pub pods: Vec<Arc<PodView>>,
    /// All namespaces.
    pub namespaces: Namespaces,
    /// Deployments that tiercel manages.
    pub deployments: Vec<Arc<Live<Deployment>>>,
}

/// What manifests meet.
#[derive(Clone, Debug, Default)]
pub struct Ground {
    /// Pools; their order breaks ties.
    pub(super) pools: Vec<Arc<ComputePool>>,
    /// What their nodes offer.
    pub(super) observed: Vec<PoolObservation>,
    namespaces: Namespaces,
    deployments: Vec<Arc<Live<Deployment>>>,
    /// Pipelines of the cluster that the manifests do not speak of.
    pub(super) neighbours: Vec<TieredPipeline>,
    /// There is a cluster that says what runs.
    pub(super) live: bool,
    allow_secrets: bool,
    /// What had to be assumed.
    pub assumptions: Vec<String>,
}

impl Ground {
    /// Without a cluster: nodes as given, as the pools declare, or assumed.
    pub fn offline(manifests: &mut Manifests, given: &[Nodes], allow_secrets: bool) -> Self {
        for (at, pool) in manifests.pools.iter_mut().enumerate() {
            // As if they were created one after the other.
            pool.object.metadata.uid = Some(format!("pool-{at:06}-{}", pool.object.name_any()));
        }
        for pipeline in &mut manifests.pipelines {
            let object = &mut pipeline.object;
            object.metadata.uid = Some(placeholder(object));
        }
        let pools: Vec<ComputePool> = manifests.pools.iter().map(|pool| pool.object.clone()).collect();
        let pipelines: Vec<TieredPipeline> = manifests.pipelines.iter().map(|one| one.object.clone()).collect();
        let (nodes, assumed) = nodes(&pipelines, &pools, given);
        let pools: Vec<Arc<ComputePool>> = pools.into_iter().map(Arc::new).collect();
        let mut ground = Self {
            observed: capacity::observe(&pools, &nodes, &[]),
            pools,
            namespaces: manifests.namespaces.clone(),
            allow_secrets,
            assumptions: assumed.iter().map(ToString::to_string).collect(),
            ..Self::default()
        };
        ground.doubt_namespaces(manifests);
        ground
    }

    /// On a cluster: manifests take the place of the objects that they name.
    pub fn on(snapshot: &Snapshot, manifests: &mut Manifests, allow_secrets: bool) -> Self {
        let mut pools = snapshot.pools.clone();
        for (at, wanted) in manifests.pools.iter_mut().enumerate() {
            let name = wanted.object.name_any();
            if let Some(pool) = pools.iter_mut().find(|pool| pool.name_any() == name) {
                pool.spec = wanted.object.spec.clone();
                continue;
            }
            // The youngest of all.
            wanted.object.metadata.uid = Some(format!("pool-{at:06}-{name}"));
            wanted.object.metadata.creation_timestamp = Some(Time(k8s_openapi::jiff::Timestamp::MAX));
            pools.push(wanted.object.clone());
        }
        let mut namespaces = snapshot.namespaces.clone();
        namespaces.extend(manifests.namespaces.clone());
        let same = |one: &TieredPipeline, other: &TieredPipeline| {
            one.name_any() == other.name_any() && one.namespace() == other.namespace()
        };
        for pipeline in &mut manifests.pipelines {
            let object = &mut pipeline.object;
            let known = snapshot.pipelines.iter().find(|known| same(known, object));
            let Some(known) = known else {
                object.metadata.uid = Some(placeholder(object));
                continue;
            };
            object.metadata.uid.clone_from(&known.metadata.uid);
            // An apply leaves what it does not name: a pause among them.
            let mut annotations = known.annotations().clone();
            annotations.extend(std::mem::take(object.annotations_mut()));
            *object.annotations_mut() = annotations;
        }
        let planned = |known: &&TieredPipeline| !manifests.pipelines.iter().any(|one| same(known, &one.object));
        let neighbours = snapshot.pipelines.iter().filter(planned).cloned().collect();
        let pools: Vec<Arc<ComputePool>> = pools.into_iter().map(Arc::new).collect();
        let mut ground = Self {
            observed: capacity::observe(&pools, &snapshot.nodes, &snapshot.pods),
            pools,
            namespaces,
            deployments: snapshot.deployments.clone(),
            neighbours,
            live: true,
            allow_secrets,
            assumptions: Vec::new(),
        };
        ground.doubt_namespaces(manifests);
        ground
    }

    /// There is no pool at all.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// Pipelines of the cluster that manifests name, as they are.
    pub fn before(snapshot: &Snapshot, manifests: &Manifests) -> Vec<Located<TieredPipeline>> {
        let named = |known: &&TieredPipeline| {
            let mut wanted = manifests.pipelines.iter().map(|one| &one.object);
            wanted.any(|one| one.name_any() == known.name_any() && one.namespace() == known.namespace())
        };
        snapshot
            .pipelines
            .iter()
            .filter(named)
            .cloned()
            .map(Located::of_cluster)
            .collect()
    }

    /// What the operator would find for a pipeline.
    pub(super) fn found(&self, pipeline: &TieredPipeline) -> Found {
        let namespace = pipeline.namespace().unwrap_or_default();
        let around = self.namespaces.get(&namespace);
        let known = around.cloned().unwrap_or_default();
        let mut found = Found {
            pools: pool_facts(&self.pools, &self.observed, &known.labels),
            ceilings: known.ceilings,
            allow_secrets: self.allow_secrets,
            ..Found::default()
        };
        if around.is_none() {
            for facts in &mut found.pools {
                facts.admits = true;
            }
        }
        let here = self
            .deployments
            .iter()
            .filter(|deployment| *deployment.namespace == *namespace);
        found.deployments = here
            .map(|deployment| (deployment.name.to_string(), Arc::clone(deployment)))
            .collect();
        found
    }

    fn doubt_namespaces(&mut self, manifests: &Manifests) {
        for (name, namespace) in &self.namespaces {
            let problems = namespace.ceilings.problems.iter();
            self.assumptions.extend(
                problems.map(|problem| format!("namespace '{name}': {problem}; until then it holds nothing back")),
            );
        }
        let selective = |pool: &Arc<ComputePool>| pool.spec.allowed_namespaces.from == NamespacesFrom::Selector;
        if !self.pools.iter().any(selective) {
            return;
        }
        let mut unknown: Vec<String> = manifests
            .pipelines
            .iter()
            .filter_map(|one| one.object.namespace())
            .collect();
        unknown.sort();
        unknown.dedup();
        unknown.retain(|namespace| !self.namespaces.contains_key(namespace));
        self.assumptions.extend(unknown.into_iter().map(|namespace| {
            format!(
                "namespace '{namespace}': its labels are not known, so every pool is taken to admit it; add its Namespace to the files"
            )
        }));
    }
}

/// Stands for the UID that the API server will give.
fn placeholder(pipeline: &TieredPipeline) -> String {
    format!(
        "given-at-creation-{}-{}",
        pipeline.namespace().unwrap_or_default(),
        pipeline.name_any()
    )
}
