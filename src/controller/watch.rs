//! Every watch, what it wakes, and the stores it fills. Caches are warm before leadership.

use std::future::ready;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::live::{Children, Kind, Live};
use super::owners::{self, Owners, watch_owners};
use super::rebalancer::Notice;
use super::stores::{self, Stores, touched};
use super::view::{Change, watch_nodes, watch_pods, watch_pools};
use crate::api::TieredPipeline;
use crate::telemetry::Metrics;

/// Reference to a pipeline that is to be reconciled.
pub type Pipeline = ObjectRef<DeserializeGuard<TieredPipeline>>;

/// A watch ended before its store was filled.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a watch ended before its store was filled; check the operator's rights to list and watch")]
pub struct Ended;

/// Everything that is watched.
pub struct Watched {
    /// The stores.
    pub stores: Stores,
    /// What the rebalancer must look at; the sender is for sources beside the watches.
    pub notices: (mpsc::UnboundedSender<Notice>, mpsc::UnboundedReceiver<Notice>),
    /// Pipelines that must be reconciled; likewise.
    pub wake: (mpsc::UnboundedSender<Pipeline>, mpsc::UnboundedReceiver<Pipeline>),
    /// All pipelines must be reconciled.
    pub all: watch::Receiver<()>,
    /// The capacity of pools may have changed.
    pub capacity: watch::Receiver<()>,
    /// The watches themselves. They end with the value.
    pub tasks: JoinSet<()>,
}

/// Where the watches report.
#[derive(Clone)]
struct Sinks {
    notices: mpsc::UnboundedSender<Notice>,
    wake: mpsc::UnboundedSender<Pipeline>,
    all: watch::Sender<()>,
    capacity: watch::Sender<()>,
    metrics: Metrics,
}

impl Sinks {
    /// A watch of this kind failed; it is tried again.
    fn failed(&self, kind: &'static str, error: &watcher::Error) {
        tracing::warn!(kind, %error, "a watch failed and is tried again");
        self.metrics.watch_restarted(kind);
    }

    /// The same for streams that are read elsewhere.
    fn failing(&self, kind: &'static str) -> impl FnMut(&watcher::Error) + Send + use<> {
        let sinks = self.clone();
        move |error| sinks.failed(kind, error)
    }

    /// A receiver that is gone belongs to a loop that has ended: nobody needs the news.
    fn notice(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }

    fn wake(&self, pipeline: Pipeline) {
        let _ = self.wake.send(pipeline);
    }

    /// Wakes the owner, by owner reference: a label that somebody changed still wakes the right one.
    fn wake_owner<K: Kind>(&self, child: &Live<K>) {
        let owner = child.controller.as_ref().map(|owner| &owner.name);
        if let Some(name) = owner.or(child.pipeline.as_ref()) {
            self.wake(ObjectRef::new(name).within(&child.namespace));
        }
    }
}

/// Starts every watch and waits until each store has been filled. Pipelines and their children are looked at in one
/// namespace or in all; pods, nodes and namespaces always in all, because they take room from each other.
///
/// # Errors
/// When a watch ends before that.
pub async fn watch_everything(client: &Client, namespace: Option<&str>, metrics: &Metrics) -> Result<Watched, Ended> {
    let notices = mpsc::unbounded_channel();
    let wake = mpsc::unbounded_channel();
    let (all, everybody) = watch::channel(());
    let (capacity, capacities) = watch::channel(());
    let sinks = Sinks {
        notices: notices.0.clone(),
        wake: wake.0.clone(),
        all,
        capacity,
        metrics: metrics.clone(),
    };
    let mut tasks = JoinSet::new();
    let stores = Stores {
        pipelines: pipelines(client, namespace, &sinks, &mut tasks),
        pools: pools(client, &sinks, &mut tasks),
        deployments: deployments(client, namespace, &sinks, &mut tasks),
        services: children(client, namespace, "Service", &sinks, &mut tasks),
        budgets: children(client, namespace, "PodDisruptionBudget", &sinks, &mut tasks),
        accounts: children(client, namespace, "ServiceAccount", &sinks, &mut tasks),
        namespaces: namespaces(client, &sinks, &mut tasks),
        nodes: nodes(client, &sinks, &mut tasks),
        pods: pods(client, &sinks, &mut tasks),
        owners: owners(client, namespace, &sinks, &mut tasks),
    };
    stores.wait_until_ready().await?;
    Ok(Watched {
        stores,
        notices,
        wake,
        all: everybody,
        capacity: capacities,
        tasks,
    })
}

fn pipelines(
    client: &Client,
    namespace: Option<&str>,
    sinks: &Sinks,
    tasks: &mut JoinSet<()>,
) -> Store<DeserializeGuard<TieredPipeline>> {
    let (store, stream) = stores::watch_pipelines(client, namespace);
    let sinks = sinks.clone();
    let failing = sinks.failing("TieredPipeline");
    tasks.spawn(touched(stream, failing).for_each(move |object| {
        sinks.notice(Notice::World);
        match object {
            Some(object) => sinks.wake(ObjectRef::from_obj(&object)),
            None => drop(sinks.all.send(())),
        }
        ready(())
    }));
    store
}

fn pools(client: &Client, sinks: &Sinks, tasks: &mut JoinSet<()>) -> Store<DeserializeGuard<crate::api::ComputePool>> {
    let (store, stream) = watch_pools(client.clone());
    let sinks = sinks.clone();
    let failing = sinks.failing("ComputePool");
    tasks.spawn(touched(stream, failing).for_each(move |_| {
        sinks.capacity.send_replace(());
        sinks.notice(Notice::World);
        ready(())
    }));
    store
}

fn deployments(
    client: &Client,
    namespace: Option<&str>,
    sinks: &Sinks,
    tasks: &mut JoinSet<()>,
) -> Children<Deployment> {
    let (store, changes) = stores::watch_children(client, namespace, sinks.failing("Deployment"));
    let sinks = sinks.clone();
    tasks.spawn(changes.for_each(move |object| {
        match &object {
            Some(deployment) => sinks.wake_owner(deployment),
            // Whatever vanished in the gap has an owner that nobody else would wake.
            None => drop(sinks.all.send(())),
        }
        sinks.notice(Notice::Deployment(object));
        ready(())
    }));
    store
}

/// A child that changed wakes its owner; a list read anew wakes everybody.
fn children<K: Kind>(
    client: &Client,
    namespace: Option<&str>,
    kind: &'static str,
    sinks: &Sinks,
    tasks: &mut JoinSet<()>,
) -> Children<K> {
    let (store, changes) = stores::watch_children(client, namespace, sinks.failing(kind));
    tasks.spawn(owned(changes, sinks.clone()));
    store
}

async fn owned<K: Kind>(changes: impl Stream<Item = Option<Arc<Live<K>>>> + Send, sinks: Sinks) {
    let mut changes = std::pin::pin!(changes);
    while let Some(change) = changes.next().await {
        match &change {
            Some(child) => sinks.wake_owner(child),
            None => drop(sinks.all.send(())),
        }
    }
}

fn namespaces(
    client: &Client,
    sinks: &Sinks,
    tasks: &mut JoinSet<()>,
) -> Store<kube::api::PartialObjectMeta<k8s_openapi::api::core::v1::Namespace>> {
    let (store, stream) = stores::watch_namespaces(client);
    let sinks = sinks.clone();
    let failing = sinks.failing("Namespace");
    tasks.spawn(touched(stream, failing).for_each(move |_| {
        sinks.notice(Notice::World);
        sinks.all.send_replace(());
        ready(())
    }));
    store
}

fn nodes(client: &Client, sinks: &Sinks, tasks: &mut JoinSet<()>) -> Store<super::view::NodeView> {
    let (store, stream) = watch_nodes(client.clone());
    let sinks = sinks.clone();
    tasks.spawn(stream.for_each(move |change| {
        match change {
            Ok(_) => {
                sinks.capacity.send_replace(());
                sinks.notice(Notice::World);
            }
            Err(error) => sinks.failed("Node", &error),
        }
        ready(())
    }));
    store
}

/// A `ReplicaSet` that comes to be known makes pods count that came before it.
fn owners(client: &Client, namespace: Option<&str>, sinks: &Sinks, tasks: &mut JoinSet<()>) -> Owners {
    let (owners, mut writer, stream) = watch_owners(client, namespace);
    let sinks = sinks.clone();
    tasks.spawn(stream.for_each(move |event| {
        let news = match event {
            Ok(event) => writer.apply(event),
            Err(error) => {
                sinks.failed("ReplicaSet", &error);
                writer.refused(stores::status_code(&error))
            }
        };
        match news {
            Some(owners::News::Of(variant)) => sinks.notice(Notice::Owner(variant)),
            Some(owners::News::Everything) => sinks.notice(Notice::World),
            None => {}
        }
        ready(())
    }));
    owners
}

fn pods(client: &Client, sinks: &Sinks, tasks: &mut JoinSet<()>) -> Store<super::view::PodView> {
    let (store, stream) = watch_pods(client.clone());
    let sinks = sinks.clone();
    tasks.spawn(stream.for_each(move |change| {
        match change {
            Ok(change) => {
                let foreign = match &change {
                    Change::Applied(pod) | Change::Deleted(pod) => pod.variant_id().is_none(),
                    Change::Relisted => true,
                };
                if foreign {
                    sinks.notice(Notice::World);
                }
                sinks.capacity.send_replace(());
                sinks.notice(Notice::Pod(Box::new(change)));
            }
            Err(error) => sinks.failed("Pod", &error),
        }
        ready(())
    }));
    store
}
