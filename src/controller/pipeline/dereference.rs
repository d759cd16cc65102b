//! I/O-free reading: what one pass needs, taken out of the stores. Nothing is read after this.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};

use super::super::capacity::{self, PoolObservation};
use crate::api::compute_pool::Architecture;
use crate::api::{ComputePool, TieredPipeline};

/// What was found in the cluster for one pipeline.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Every pool, oldest first.
    pub pools: Vec<PoolFacts>,
    /// Deployments of the namespace by name: ours, and those that could be in the way.
    pub deployments: BTreeMap<String, Arc<Deployment>>,
    /// Services of the pipeline by name.
    pub services: BTreeMap<String, Arc<Service>>,
    /// PodDisruptionBudgets of the pipeline by name.
    pub budgets: BTreeMap<String, Arc<PodDisruptionBudget>>,
    /// ServiceAccounts of the pipeline by name.
    pub accounts: BTreeMap<String, Arc<ServiceAccount>>,
    /// Whether the administrator allows secrets in containers.
    pub allow_secrets: bool,
}

/// One pool as a pipeline sees it.
#[derive(Clone, Debug)]
pub struct PoolFacts {
    /// The object.
    pub object: Arc<ComputePool>,
    /// Architecture of its nodes.
    pub architecture: Option<Architecture>,
    /// Whether it admits the pipeline's namespace.
    pub admits: bool,
    /// Why nobody can use it now, if so.
    pub problem: Option<String>,
}

/// The stores that passes read from.
#[derive(Clone)]
pub struct Stores {
    /// Pools.
    pub pools: Store<ComputePool>,
    /// Deployments managed by tiercel.
    pub deployments: Store<Deployment>,
    /// Services managed by tiercel.
    pub services: Store<Service>,
    /// PodDisruptionBudgets managed by tiercel.
    pub budgets: Store<PodDisruptionBudget>,
    /// ServiceAccounts managed by tiercel.
    pub accounts: Store<ServiceAccount>,
    /// Namespaces, labels only.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
}

/// Everything about `raw` that the stores know. `observed` is the latest look at the pools' nodes.
pub fn dereference(stores: &Stores, observed: &[PoolObservation], allow_secrets: bool, raw: &TieredPipeline) -> Found {
    let namespace = raw.namespace().unwrap_or_default();
    let labels = stores.namespaces.get(&ObjectRef::new(&namespace)).map(|found| found.labels().clone());
    Found {
        pools: pool_facts(&stores.pools.state(), observed, &labels.unwrap_or_default()),
        deployments: named(&stores.deployments, &namespace),
        services: named(&stores.services, &namespace),
        budgets: named(&stores.budgets, &namespace),
        accounts: named(&stores.accounts, &namespace),
        allow_secrets,
    }
}

/// Pools that are not being deleted, oldest first: their order breaks ties that names must not.
pub fn pool_facts(
    pools: &[Arc<ComputePool>],
    observed: &[PoolObservation],
    namespace_labels: &BTreeMap<String, String>,
) -> Vec<PoolFacts> {
    let mut pools: Vec<&Arc<ComputePool>> =
        pools.iter().filter(|pool| pool.metadata.deletion_timestamp.is_none()).collect();
    pools.sort_by_key(|pool| (pool.creation_timestamp().map(|time| time.0), pool.uid()));
    let fact = |object: &Arc<ComputePool>| {
        let observation = observed.iter().find(|observation| observation.name == object.name_any());
        PoolFacts {
            architecture: object.spec.architecture.or_else(|| observation.and_then(|found| found.architecture)),
            admits: capacity::admits(object, namespace_labels),
            problem: observation.and_then(|found| found.problem.as_ref()).map(ToString::to_string),
            object: Arc::clone(object),
        }
    };
    pools.into_iter().map(fact).collect()
}

fn named<K>(store: &Store<K>, namespace: &str) -> BTreeMap<String, Arc<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let here = |object: &Arc<K>| object.meta().namespace.as_deref() == Some(namespace);
    store.state().into_iter().filter(here).map(|object| (object.name_any(), object)).collect()
}
