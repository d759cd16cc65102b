//! I/O-free reading: what one pass needs, taken out of the stores. Nothing is read after this.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::super::capacity::{self, PoolObservation, Problem};
use super::super::live::Live;
use super::super::pools::Look;
use super::super::stores::Stores;
use super::ceilings::NamespaceCeilings;
use crate::api::compute_pool::Architecture;
use crate::api::{ComputePool, TieredPipeline, names};

/// What was found in the cluster for one pipeline.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Every pool, oldest first.
    pub pools: Vec<PoolFacts>,
    /// Deployments by name: those of the pipeline, and those that could be in the way.
    pub deployments: BTreeMap<String, Arc<Live<Deployment>>>,
    /// Services; likewise.
    pub services: BTreeMap<String, Arc<Live<Service>>>,
    /// PodDisruptionBudgets; likewise.
    pub budgets: BTreeMap<String, Arc<Live<PodDisruptionBudget>>>,
    /// ServiceAccounts; likewise.
    pub accounts: BTreeMap<String, Arc<Live<ServiceAccount>>>,
    /// What the namespace's pipelines may take together.
    pub ceilings: NamespaceCeilings,
    /// Whether the administrator allows secrets in containers.
    pub allow_secrets: bool,
}

/// One pool as a pipeline sees it.
#[derive(Clone, Debug)]
pub struct PoolFacts {
    /// The object.
    pub object: Arc<ComputePool>,
    /// What its nodes offer; absent until it has been looked at.
    pub observed: Option<PoolObservation>,
    /// Whether it admits the pipeline's namespace.
    pub admits: bool,
}

impl PoolFacts {
    /// Architecture of its nodes: as declared, else as they agree.
    pub fn architecture(&self) -> Option<Architecture> {
        self.object
            .spec
            .architecture
            .or_else(|| self.observed.as_ref()?.architecture)
    }

    /// Why nobody can use it now, if so.
    pub fn problem(&self) -> Option<String> {
        Some(match self.observed.as_ref()?.problem.as_ref()? {
            Problem::PoolsOverlap { node, other } => format!("it selects node '{node}', which pool '{other}' has"),
            Problem::InvalidSpec { field, message } => format!("its `{field}` {message}"),
        })
    }
}

/// Everything about `raw` that the stores and the latest look at the pools know.
pub fn dereference(stores: &Stores, look: &Look, allow_secrets: bool, raw: &TieredPipeline) -> Found {
    let namespace = raw.namespace().unwrap_or_default();
    let (uid, prefix) = (raw.uid().unwrap_or_default(), names::prefix(&raw.name_any()));
    let around = stores.namespaces.get(&ObjectRef::new(&namespace));
    let around = around.as_deref().map(|found| (found.labels(), found.annotations()));
    let (labels, annotations) = around.unzip();
    Found {
        pools: pool_facts(&look.pools, &look.observed, labels.unwrap_or(&BTreeMap::new())),
        ceilings: annotations.map(NamespaceCeilings::of).unwrap_or_default(),
        deployments: stores.deployments.of(&namespace, &uid, &prefix),
        services: stores.services.of(&namespace, &uid, &prefix),
        budgets: stores.budgets.of(&namespace, &uid, &prefix),
        accounts: stores.accounts.of(&namespace, &uid, &prefix),
        allow_secrets,
    }
}

/// Pools that are not being deleted, oldest first: their order breaks ties that names must not.
pub fn pool_facts(
    pools: &[Arc<ComputePool>],
    observed: &[PoolObservation],
    namespace_labels: &BTreeMap<String, String>,
) -> Vec<PoolFacts> {
    let mut pools: Vec<&Arc<ComputePool>> = pools
        .iter()
        .filter(|pool| pool.metadata.deletion_timestamp.is_none())
        .collect();
    pools.sort_by_key(|pool| (pool.creation_timestamp().map(|time| time.0), pool.uid()));
    let fact = |object: &Arc<ComputePool>| PoolFacts {
        observed: observed
            .iter()
            .find(|observation| observation.name == object.name_any())
            .cloned(),
        admits: capacity::admits(object, namespace_labels),
        object: Arc::clone(object),
    };
    pools.into_iter().map(fact).collect()
}
