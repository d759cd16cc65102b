//! Wiring: stores, the leader gate, the controllers and the rebalancer, and an orderly end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::Resource;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::clients::Clients;
use super::clock::Clock;
use super::events::Events;
use super::outcome::Outcomes;
use super::pipeline;
use super::pools::Look;
use super::rebalancer::{self, Notice, record::DecisionLog};
use super::report::Views;
use super::stores::{self, Stores, touched};
use super::view::{Change, watch_nodes, watch_pods, watch_pools};
use crate::api::{TieredPipeline, labels};
use crate::signals::scraper::{ScrapeConfig, Scraper};
use crate::telemetry::Metrics;

/// Children change together; their owner is looked at once.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How long running passes and writes may take to end.
const DRAIN: Duration = Duration::from_secs(10);

/// What the operator was told.
pub struct Settings {
    /// Passes at once.
    pub concurrency: u16,
    /// Whether containers may name secrets.
    pub allow_secrets: bool,
    /// How pods are scraped.
    pub scrape: ScrapeConfig,
    /// Where decisions are logged.
    pub decision_log: Option<PathBuf>,
    /// Name of this instance, for events.
    pub instance: String,
}

/// The operator ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A watch ended.
    #[error("a watch ended before its store was filled; check the operator's rights to list and watch")]
    Watch,
    /// The decision log cannot be opened.
    #[error("cannot open the decision log {}: {source}", path.display())]
    DecisionLog {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Everything that is watched, and the tasks that do it. Caches are warm before leadership.
pub struct Watched {
    /// The stores.
    pub stores: Stores,
    notices: (mpsc::UnboundedSender<Notice>, mpsc::UnboundedReceiver<Notice>),
    wake: (
        mpsc::UnboundedSender<ObjectRef<DeserializeGuard<TieredPipeline>>>,
        mpsc::UnboundedReceiver<ObjectRef<DeserializeGuard<TieredPipeline>>>,
    ),
    all: (watch::Sender<()>, watch::Receiver<()>),
    capacity: watch::Receiver<()>,
    tasks: JoinSet<()>,
}

/// Starts every watch and waits until each store has been filled. Pipelines and their children are looked at in one
/// namespace or in all; pods, nodes and namespaces always in all, because they take room from each other.
///
/// # Errors
/// When a watch ends before that.
pub async fn watch_everything(clients: &Clients, namespace: Option<&str>) -> Result<Watched, Error> {
    let client = || clients.watch.clone();
    let notices = mpsc::unbounded_channel();
    let wake = mpsc::unbounded_channel();
    let all = watch::channel(());
    let (capacity, capacities) = watch::channel(());
    let mut tasks = JoinSet::new();

    let (pipelines, stream) = stores::watch_pipelines(client(), namespace);
    let (notify, waker) = (notices.0.clone(), wake.0.clone());
    tasks.spawn(touched(stream).for_each(move |object| {
        let _ = notify.send(Notice::World);
        if let Some(object) = object {
            let _ = waker.send(ObjectRef::from_obj(&object));
        }
        futures::future::ready(())
    }));
    let (pools, stream) = watch_pools(client());
    tasks.spawn(world(touched(stream), notices.0.clone(), capacity.clone()));
    let (namespaces, stream) = stores::watch_namespaces(client());
    let (notify, everybody) = (notices.0.clone(), all.0.clone());
    tasks.spawn(touched(stream).for_each(move |_| {
        let _ = notify.send(Notice::World);
        everybody.send_replace(());
        futures::future::ready(())
    }));
    let (deployments, stream) = stores::watch_children::<Deployment>(client(), namespace);
    let (notify, waker) = (notices.0.clone(), wake.0.clone());
    let everybody = all.0.clone();
    tasks.spawn(touched(stream).for_each(move |object| {
        match &object {
            Some(deployment) => wake_owner(deployment, &waker),
            // Whatever vanished in the gap has an owner that nobody else would wake.
            None => everybody.send_replace(()),
        }
        let _ = notify.send(Notice::Deployment(object.map(Box::new)));
        futures::future::ready(())
    }));
    let (services, stream) = stores::watch_children(client(), namespace);
    tasks.spawn(owned(stream, wake.0.clone(), all.0.clone()));
    let (budgets, stream) = stores::watch_children(client(), namespace);
    tasks.spawn(owned(stream, wake.0.clone(), all.0.clone()));
    let (accounts, stream) = stores::watch_children(client(), namespace);
    tasks.spawn(owned(stream, wake.0.clone(), all.0.clone()));
    let (nodes, stream) = watch_nodes(client());
    let (notify, room) = (notices.0.clone(), capacity.clone());
    tasks.spawn(stream.for_each(move |change| {
        match change {
            Ok(_) => {
                room.send_replace(());
                let _ = notify.send(Notice::World);
            }
            Err(error) => tracing::warn!(%error, "the watch of nodes failed and is tried again"),
        }
        futures::future::ready(())
    }));
    let (pods, stream) = watch_pods(client());
    let notify = notices.0.clone();
    tasks.spawn(stream.for_each(move |change| {
        match change {
            Ok(change) => {
                let foreign = match &change {
                    Change::Applied(pod) | Change::Deleted(pod) => pod.variant_id().is_none(),
                    Change::Relisted => true,
                };
                if foreign {
                    let _ = notify.send(Notice::World);
                }
                capacity.send_replace(());
                let _ = notify.send(Notice::Pod(Box::new(change)));
            }
            Err(error) => tracing::warn!(%error, "the watch of pods failed and is tried again"),
        }
        futures::future::ready(())
    }));
    let stores = Stores { pipelines, pools, deployments, services, budgets, accounts, namespaces, nodes, pods };
    stores.wait_until_ready().await.map_err(|_| Error::Watch)?;
    Ok(Watched { stores, notices, wake, all, capacity: capacities, tasks })
}

/// Any change of these changes the world.
async fn world<K: Send>(
    changes: impl Stream<Item = Option<K>>,
    notices: mpsc::UnboundedSender<Notice>,
    capacity: watch::Sender<()>,
) {
    let mut changes = std::pin::pin!(changes);
    while changes.next().await.is_some() {
        capacity.send_replace(());
        let _ = notices.send(Notice::World);
    }
}

/// A child that changed wakes its owner; a list read anew wakes everybody.
async fn owned<K>(
    stream: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    wake: mpsc::UnboundedSender<ObjectRef<DeserializeGuard<TieredPipeline>>>,
    all: watch::Sender<()>,
) where
    K: Resource<DynamicType = ()> + Send,
{
    let mut changes = std::pin::pin!(touched(stream));
    while let Some(change) = changes.next().await {
        match &change {
            Some(child) => wake_owner(child, &wake),
            None => drop(all.send_replace(())),
        }
    }
}

fn wake_owner<K: Resource>(child: &K, wake: &mpsc::UnboundedSender<ObjectRef<DeserializeGuard<TieredPipeline>>>) {
    let owner = child.meta().labels.as_ref().and_then(|labels| labels.get(labels::PIPELINE));
    // By owner reference, so that a label that somebody changed still wakes the right one.
    let owners = child.meta().owner_references.iter().flatten();
    let name = owners.filter(|owner| owner.controller == Some(true)).map(|owner| &owner.name).next().or(owner);
    if let (Some(name), Some(namespace)) = (name, &child.meta().namespace) {
        let _ = wake.send(ObjectRef::new(name).within(namespace));
    }
}

/// Decides and writes until `stop` resolves; then ends in order: intake, passes, writes.
///
/// # Errors
/// When the decision log cannot be opened.
pub async fn lead(
    clients: Clients,
    watched: Watched,
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    epoch: i64,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let Watched { stores, notices, wake, all, capacity, mut tasks } = watched;
    let log = match settings.decision_log {
        None => None,
        Some(path) => Some(DecisionLog::open(&path).map_err(|source| Error::DecisionLog { path, source })?),
    };
    let views = Views::default();
    let (look, looks) = watch::channel(Arc::new(Look::default()));
    let (scraper, scraped) = Scraper::new(settings.scrape);
    let (stopping, stopped) = watch::channel(false);

    let (events, telling) = Events::start(clients.calls.clone(), &settings.instance, clock.clone(), metrics.clone());
    let outcomes = Outcomes::new(metrics.clone(), clock.clone());
    let context = rebalancer::Context {
        client: clients.fast.clone(),
        events: events.clone(),
        stores: stores.clone(),
        views: views.clone(),
        wake: wake.0.clone(),
        look,
        clock: clock.clone(),
        metrics: metrics.clone(),
        allow_secrets: settings.allow_secrets,
        log,
        epoch,
    };
    let rebalancer = tokio::spawn(rebalancer::run(context, scraper, scraped, notices, stopped.clone()));

    // Reconciles place by the look, so the first one comes before the first of them.
    let mut first = looks.clone();
    let _ = first.changed().await;
    let context = Arc::new(pipeline::Context {
        client: clients.calls.clone(),
        stores: stores.clone(),
        look: looks.clone(),
        views,
        events,
        outcomes,
        clock: clock.clone(),
        allow_secrets: settings.allow_secrets,
    });
    let config = controller::Config::default().concurrency(settings.concurrency).debounce(DEBOUNCE);
    // The store is fed by our own watch, whose events arrive as references.
    let passes = Controller::for_shared_stream(futures::stream::pending(), stores.pipelines.clone())
        .with_config(config)
        .reconcile_on(received(wake.1))
        .reconcile_all_on(changes(looks))
        .reconcile_all_on(changes(all.1))
        .graceful_shutdown_on(until(stopped.clone()))
        .run(pipeline::pass, pipeline::error_policy, context)
        .for_each(|done| {
            if let Err(error) = done {
                tracing::debug!(%error, "a pass ended with an error");
            }
            futures::future::ready(())
        });
    let passes = tokio::spawn(passes);
    let pools = super::compute_pool::Context::new(clients.calls, stores.pools, stores.nodes, stores.pods);
    let pools = tokio::spawn(super::compute_pool::run(Arc::new(pools), capacity, until(stopped)));

    stop.await;
    stopping.send_replace(true);
    let ended = tokio::time::timeout(DRAIN, async {
        let _ = futures::join!(passes, pools, rebalancer);
        let _ = telling.await;
    });
    if ended.await.is_err() {
        tracing::warn!("passes or writes did not end within {}s", DRAIN.as_secs());
    }
    tasks.shutdown().await;
    Ok(())
}

/// Resolves once `stopped` says so, or nobody is left to say it.
async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn received<T: Send + 'static>(receiver: mpsc::UnboundedReceiver<T>) -> impl Stream<Item = T> + Send {
    futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

fn changes<T: Send + Sync + 'static>(receiver: watch::Receiver<T>) -> impl Stream<Item = ()> + Send {
    futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.changed().await.ok()?;
        Some(((), receiver))
    })
}
