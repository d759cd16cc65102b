//! The watched world: one store per kind, shared by everything that reads.

use std::future;

use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ObjectMeta};
use kube::api::PartialObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::view::{NodeView, PodView, watcher_config};
use crate::api::{ComputePool, TieredPipeline, labels};

/// What the controllers read from. Every store is complete before anything is decided.
#[derive(Clone)]
pub struct Stores {
    /// Pipelines; one that cannot be decoded does not stop the others.
    pub pipelines: Store<DeserializeGuard<TieredPipeline>>,
    /// Pools; likewise.
    pub pools: Store<DeserializeGuard<ComputePool>>,
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
    /// Nodes.
    pub nodes: Store<NodeView>,
    /// Pods of everybody.
    pub pods: Store<PodView>,
}

impl Stores {
    /// Waits until every store has been filled once.
    ///
    /// # Errors
    /// When a watch ended before that.
    pub async fn wait_until_ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.pipelines.wait_until_ready().await?;
        self.pools.wait_until_ready().await?;
        self.deployments.wait_until_ready().await?;
        self.services.wait_until_ready().await?;
        self.budgets.wait_until_ready().await?;
        self.accounts.wait_until_ready().await?;
        self.namespaces.wait_until_ready().await?;
        self.nodes.wait_until_ready().await?;
        self.pods.wait_until_ready().await
    }
}

/// Watches what tiercel manages of one kind, in all namespaces.
pub fn watch_children<K>(
    client: &Client,
    namespace: Option<&str>,
) -> (
    Store<K>,
    impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + use<K>,
)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let ours = watcher_config().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    watched(scope(client, namespace), ours, |object: &mut K| slim(object.meta_mut()))
}

/// Watches the labels of namespaces.
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
        namespace.annotations_mut().clear();
    });
    (store, stream.reflect(writer))
}

/// Watches the pipelines.
pub fn watch_pipelines(
    client: &Client,
    namespace: Option<&str>,
) -> (
    Store<DeserializeGuard<TieredPipeline>>,
    impl Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<TieredPipeline>>>> + Send + use<>,
) {
    watched(
        scope(client, namespace),
        watcher_config(),
        |object: &mut DeserializeGuard<TieredPipeline>| {
            object.meta_mut().managed_fields = None;
        },
    )
}

fn scope<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    namespace.map_or_else(
        || Api::all(client.clone()),
        |namespace| Api::namespaced(client.clone(), namespace),
    )
}

fn watched<K>(
    api: Api<K>,
    config: watcher::Config,
    slim: impl FnMut(&mut K) + Send,
) -> (Store<K>, impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let stream = watcher(api, config).default_backoff().modify(slim).reflect(writer);
    (store, stream)
}

/// Of the managed fields only who owns the replicas is ever read; the rest is half of an object's metadata.
fn slim(meta: &mut ObjectMeta) {
    let Some(entries) = &mut meta.managed_fields else {
        return;
    };
    entries.retain_mut(|entry| {
        let owns = entry
            .fields_v1
            .as_ref()
            .is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some());
        if owns {
            entry.fields_v1 = Some(FieldsV1(serde_json::json!({"f:spec": {"f:replicas": {}}})));
        }
        owns
    });
}

/// Objects that changed, from a stream of watch events; `None` stands for a list read anew, after which anything may be
/// gone without an event.
pub fn touched<K: Send>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
) -> impl Stream<Item = Option<K>> + Send {
    events.filter_map(|event| {
        future::ready(match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::Delete(object)) => Some(Some(object)),
            Ok(watcher::Event::InitDone) => Some(None),
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
            Err(error) => {
                tracing::warn!(%error, "a watch failed and is tried again");
                None
            }
        })
    })
}
