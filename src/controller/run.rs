//! Wiring: what leads while the lease is held, and an orderly end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::runtime::controller::{self, Controller};
use tokio::sync::{mpsc, watch};

use super::clients::Clients;
use super::clock::Clock;
use super::events::Events;
use super::outcome::Outcomes;
use super::own_writes::OwnWrites;
use super::pools::Look;
use super::rebalancer::{
    self,
    record::{DecisionLog, Written},
};
use super::report::{Kept, ShadowPrices, Views};
use super::watch::{Pipeline, Watched};
use super::{compute_pool, pipeline, warm_buffer};
use crate::explain::ask::Asker;
use crate::signals::scraper::{ScrapeConfig, Scraper};
use crate::signals::sources::Sources;
use crate::telemetry::Metrics;

/// Children change together; their owner is looked at once.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How long running passes and writes may take to end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the decision log may take to reach the disk at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// What the operator was told.
pub struct Settings {
    /// Passes at once.
    pub concurrency: u16,
    /// Whether containers may name secrets.
    pub allow_secrets: bool,
    /// How pods are scraped.
    pub scrape: ScrapeConfig,
    /// Sources of signals other than the pods themselves.
    pub sources: Arc<Sources>,
    /// Where decisions are logged.
    pub decision_log: Option<PathBuf>,
    /// What holds room for bursts.
    pub warm_buffer: warm_buffer::Settings,
    /// Name of this instance, for events.
    pub instance: String,
    /// Who asks why.
    pub asker: Asker,
}

/// What the operator stands on.
pub struct Ground {
    /// Clients.
    pub clients: Clients,
    /// The monotonic clock.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
    /// Epoch of the leadership.
    pub epoch: i64,
}

/// The decision log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the decision log {}: {source}", path.display())]
pub struct Error {
    path: PathBuf,
    source: std::io::Error,
}

/// Decides and writes until `stop` resolves; then ends in order: intake, passes, writes.
///
/// # Errors
/// When the decision log cannot be opened.
pub async fn lead(
    ground: Ground,
    watched: Watched,
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    let Ground {
        clients,
        clock,
        metrics,
        epoch,
    } = ground;
    let Watched {
        stores,
        notices,
        wake,
        all,
        capacity,
        mut tasks,
    } = watched;
    let opened = settings.decision_log.map(|path| {
        let opened = DecisionLog::open(&path, metrics.clone());
        opened.map_err(|source| Error { path, source })
    });
    let (log, recorded) = opened.transpose()?.unzip();
    let (views, prices) = (Views::default(), ShadowPrices::default());
    let (rooms, kept) = watch::channel(None);
    let (look, looks) = watch::channel(Arc::new(Look::default()));
    let (stopping, stopped) = watch::channel(false);
    let (events, telling) = Events::start(
        clients.calls.clone(),
        &settings.instance,
        clock.clone(),
        metrics.clone(),
    );

    let context = rebalancer::Context {
        client: clients.fast,
        stores: stores.clone(),
        views: views.clone(),
        prices: prices.clone(),
        rooms,
        events: events.clone(),
        wake: wake.0,
        look,
        clock: clock.clone(),
        metrics: metrics.clone(),
        allow_secrets: settings.allow_secrets,
        sources: settings.sources,
        log,
        epoch,
        asker: settings.asker,
    };
    let refused = notices.0.clone();
    let (scraper, answers) = Scraper::new(settings.scrape);
    let rebalancer = tokio::spawn(rebalancer::run(context, scraper, answers, notices, stopped.clone()));

    // Reconciles place by the look, so the first one comes before the first of them.
    let mut first = looks.clone();
    let _ = first.changed().await;
    let context = pipeline::Context {
        client: clients.calls.clone(),
        stores: stores.clone(),
        notices: refused,
        look: looks.clone(),
        views,
        events: events.clone(),
        own: OwnWrites::default(),
        outcomes: Outcomes::new(metrics.clone(), clock.clone()),
        metrics: metrics.clone(),
        clock,
        allow_secrets: settings.allow_secrets,
    };
    let passes = tokio::spawn(pipelines(
        context,
        settings.concurrency,
        wake.1,
        [changes(looks), changes(all)],
        stopped.clone(),
    ));
    let (trouble, troubles) = watch::channel(Arc::default());
    let holding = tokio::spawn(warm_buffer::run(
        clients.calls.clone(),
        settings.warm_buffer,
        stores.pools.clone(),
        (kept.clone(), capacity.clone()),
        trouble,
        stopped.clone(),
    ));
    let seen = (stores.pools, stores.nodes, stores.pods);
    let told = (prices, Kept { rooms: kept, troubles });
    let pools = compute_pool::Context::new(clients.calls, seen, told, events, metrics);
    let pools = tokio::spawn(compute_pool::run(
        Arc::new(pools),
        clients.watch,
        capacity,
        until(stopped),
    ));

    stop.await;
    stopping.send_replace(true);
    let under_way = async {
        let _ = futures::join!(passes, pools, holding, rebalancer);
        let _ = telling.await;
    };
    drain(under_way, recorded).await;
    tasks.shutdown().await;
    Ok(())
}

/// Waits for what is under way, and for the decision log: neither for ever.
async fn drain(under_way: impl Future<Output = ()>, recorded: Option<Written>) {
    if tokio::time::timeout(DRAIN, under_way).await.is_err() {
        tracing::warn!("passes or writes did not end within {}s", DRAIN.as_secs());
    }
    if let Some(recorded) = recorded {
        // A disk that stands still keeps nobody from ending.
        let _ = tokio::time::timeout(FLUSH, recorded).await;
    }
}

/// Reconciles pipelines as they are woken. The store is fed by our own watch, whose events arrive as references.
async fn pipelines(
    context: pipeline::Context,
    concurrency: u16,
    wake: mpsc::UnboundedReceiver<Pipeline>,
    all: [impl Stream<Item = ()> + Send + 'static; 2],
    stopped: watch::Receiver<bool>,
) {
    let config = controller::Config::default()
        .concurrency(concurrency)
        .debounce(DEBOUNCE);
    let [looks, everybody] = all;
    Controller::for_shared_stream(futures::stream::pending(), context.stores.pipelines.clone())
        .with_config(config)
        .reconcile_on(received(wake))
        .reconcile_all_on(looks)
        .reconcile_all_on(everybody)
        .graceful_shutdown_on(until(stopped))
        .run(pipeline::pass, pipeline::error_policy, Arc::new(context))
        .for_each(|done| {
            if let Err(error) = done {
                tracing::debug!(%error, "a pass ended with an error");
            }
            futures::future::ready(())
        })
        .await;
}

/// Resolves once `stopped` says so, or nobody is left to say it.
async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn received<T: Send + 'static>(receiver: mpsc::UnboundedReceiver<T>) -> impl Stream<Item = T> + Send {
    futures::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
}

fn changes<T: Send + Sync + 'static>(receiver: watch::Receiver<T>) -> futures::stream::BoxStream<'static, ()> {
    futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.changed().await.ok()?;
        Some(((), receiver))
    })
    .boxed()
}
