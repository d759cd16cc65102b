//! The watched world: one store per kind, shared by everything that reads.

use std::future;

use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};

use super::live::{Children, Kind, Live, News, Wire};
use super::owners::Owners;
use super::view::{NodeView, PodView, watcher_config};
use super::watch::Ended;
use crate::api::{ComputePool, TieredPipeline, labels};

/// What the controllers read from. Every store is complete before anything is decided.
#[derive(Clone)]
pub struct Stores {
    /// Pipelines; one that cannot be decoded does not stop the others.
    pub pipelines: Store<DeserializeGuard<TieredPipeline>>,
    /// Pools; likewise.
    pub pools: Store<DeserializeGuard<ComputePool>>,
    /// Deployments managed by tiercel.
    pub deployments: Children<Deployment>,
    /// Services managed by tiercel.
    pub services: Children<Service>,
    /// PodDisruptionBudgets managed by tiercel.
    pub budgets: Children<PodDisruptionBudget>,
    /// ServiceAccounts managed by tiercel.
    pub accounts: Children<ServiceAccount>,
    /// Namespaces, labels only.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Nodes.
    pub nodes: Store<NodeView>,
    /// Pods of everybody.
    pub pods: Store<PodView>,
    /// Which Deployment a pod's `ReplicaSet` belongs to.
    pub owners: Owners,
}

impl Stores {
    /// Waits until every store has been filled once.
    ///
    /// # Errors
    /// When a watch ended before that.
    pub async fn wait_until_ready(&self) -> Result<(), Ended> {
        self.pipelines.wait_until_ready().await.map_err(|_| Ended)?;
        self.pools.wait_until_ready().await.map_err(|_| Ended)?;
        self.deployments.wait_until_ready().await.map_err(|_| Ended)?;
        self.services.wait_until_ready().await.map_err(|_| Ended)?;
        self.budgets.wait_until_ready().await.map_err(|_| Ended)?;
        self.accounts.wait_until_ready().await.map_err(|_| Ended)?;
        self.namespaces.wait_until_ready().await.map_err(|_| Ended)?;
        self.nodes.wait_until_ready().await.map_err(|_| Ended)?;
        self.pods.wait_until_ready().await.map_err(|_| Ended)?;
        self.owners.wait_until_ready().await
    }
}

/// Watches what tiercel manages of one kind, in all namespaces. `None` stands for a list read anew, after which anything
/// may be gone without an item. `failed` hears of every failure, after which the watch is tried again.
pub fn watch_children<K: Kind, F: FnMut(&watcher::Error) + Send>(
    client: &Client,
    namespace: Option<&str>,
    mut failed: F,
) -> (Children<K>, impl Stream<Item = Option<Arc<Live<K>>>> + Send + use<K, F>) {
    let ours = watcher_config().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let (store, mut writer) = Children::new();
    let events = watcher(scope::<Wire<K>>(client, namespace), ours).default_backoff();
    let changes = events.filter_map(move |event| {
        future::ready(match event {
            Ok(event) => match writer.apply(event) {
                News::Of(child) => Some(Some(child)),
                News::Everything => Some(None),
                News::None => None,
            },
            Err(error) => {
                failed(&error);
                None
            }
        })
    });
    (store, changes)
}

/// Watches the labels of namespaces, and of their annotations the ceilings.
pub fn watch_namespaces(
    client: &Client,
) -> (
    Store<PartialObjectMeta<Namespace>>,
    impl Stream<Item = watcher::Result<watcher::Event<PartialObjectMeta<Namespace>>>> + Send + use<>,
) {
    let config = watcher_config();
    let (store, writer) = reflector::store();
    let stream = watcher(Api::<PartialObjectMeta<Namespace>>::all(client.clone()), config).default_backoff();
    let stream = stream.modify(|namespace| {
        namespace.managed_fields_mut().clear();
        let ceilings = [labels::MAX_COST_PER_HOUR, labels::MAX_POWER_WATTS];
        namespace
            .annotations_mut()
            .retain(|key, _| ceilings.contains(&key.as_str()));
    });
    (store, stream.reflect(writer))
}

/// Watches the pipelines. Of their annotations only the break-glass is kept: `kubectl apply` repeats the spec in one.
pub fn watch_pipelines(
    client: &Client,
    namespace: Option<&str>,
) -> (
    Store<DeserializeGuard<TieredPipeline>>,
    impl Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<TieredPipeline>>>> + Send + use<>,
) {
    let (store, writer) = reflector::store();
    let events = watcher(scope(client, namespace), watcher_config()).default_backoff();
    let stream = events.modify(|object: &mut DeserializeGuard<TieredPipeline>| {
        object.meta_mut().managed_fields = None;
        object.annotations_mut().retain(|key, _| key == labels::PAUSE);
        // A list is read into twice the room it may need.
        if let Ok(pipeline) = &mut object.0 {
            pipeline.spec.stages.shrink_to_fit();
            if let Some(status) = &mut pipeline.status {
                status.stages.shrink_to_fit();
                status.stages.iter_mut().for_each(|stage| stage.pools.shrink_to_fit());
                status.decisions.shrink_to_fit();
                status.conditions.shrink_to_fit();
            }
        }
    });
    (store, stream.reflect(writer))
}

/// The HTTP status of the server's answer; 0 for none.
pub const fn status_code(error: &watcher::Error) -> u16 {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.code,
        _ => 0,
    }
}

pub(super) fn scope<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    namespace.map_or_else(
        || Api::all(client.clone()),
        |namespace| Api::namespaced(client.clone(), namespace),
    )
}

/// Objects that changed, from a stream of watch events; `None` stands for a list read anew, after which anything may be
/// gone without an event. `failed` hears of every failure, after which the watch is tried again.
pub fn touched<K: Send>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    mut failed: impl FnMut(&watcher::Error) + Send,
) -> impl Stream<Item = Option<K>> + Send {
    events.filter_map(move |event| {
        future::ready(match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::Delete(object)) => Some(Some(object)),
            Ok(watcher::Event::InitDone) => Some(None),
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
            Err(error) => {
                failed(&error);
                None
            }
        })
    })
}
