//! `tiercel run`: flags become settings, settings become a running operator.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::controller::Rate;
use crate::controller::clients::{self, Clients, Limits};
use crate::controller::clock::Clock;
use crate::controller::lease::{Leader, Leadership};
use crate::controller::run::{self as controller, Ground, Settings};
use crate::controller::warm_buffer;
use crate::controller::watch::{self as watches, watch_everything};
use crate::explain::ask::Asker;
use crate::signals::address::{AddressRules, Network, NetworkError};
use crate::signals::presets;
use crate::signals::scraper::ScrapeConfig;
use crate::signals::sources::{self, Sources};
use crate::telemetry::{self, Health, LogFormat, Metrics, Traces, TracesError, serve};

/// How often the loop tells that it is alive.
const BEAT: Duration = Duration::from_secs(5);
/// Worker threads. A thousand stages take half a core, and each thread keeps memory of its own: a node of 64 cores must not make
/// it 64.
const WORKERS_MAX: usize = 4;

/// Arguments of `tiercel run`. Every flag can be given as an environment variable `TIERCEL_…`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Decide only while holding a Lease, so that several replicas can run.
    #[arg(long, env = "TIERCEL_LEADER_ELECT")]
    leader_elect: bool,
    /// Name of the Lease.
    #[arg(long, env = "TIERCEL_LEASE_NAME", default_value = "tiercel", value_name = "NAME")]
    lease_name: String,
    /// Namespace of the Lease, and of the pods that hold room for bursts.
    #[arg(
        long,
        env = "TIERCEL_LEASE_NAMESPACE",
        default_value = "tiercel-system",
        value_name = "NAMESPACE"
    )]
    lease_namespace: String,
    /// Only look at pipelines of this namespace; all if absent. One operator serves one namespace, or all.
    #[arg(long, env = "TIERCEL_WATCH_NAMESPACE", value_name = "NAMESPACE")]
    watch_namespace: Option<String>,
    /// Address of /metrics, /livez, /readyz and of what `tiercel explain` asks for.
    #[arg(
        long,
        env = "TIERCEL_METRICS_BIND_ADDRESS",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS:PORT"
    )]
    metrics_bind_address: SocketAddr,
    /// Time between two scrapes of a pod.
    #[arg(long, env = "TIERCEL_SCRAPE_INTERVAL_MILLISECONDS", default_value_t = 1_000, value_name = "MS",
          value_parser = clap::value_parser!(u64).range(100..=60_000))]
    scrape_interval_milliseconds: u64,
    /// Also scrape pods in this network, although it is one that is refused by default (loopback).
    #[arg(long, env = "TIERCEL_SCRAPE_ALLOW_CIDR", value_name = "CIDR", value_delimiter = ',')]
    scrape_allow_cidr: Vec<Network>,
    /// `text` or `json`; text on a terminal if absent.
    #[arg(long, env = "TIERCEL_LOG_FORMAT", value_name = "FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
    /// What is logged, such as `info` or `info,tiercel=debug`.
    #[arg(long, env = "TIERCEL_LOG_FILTER", default_value = "info", value_name = "FILTER")]
    log_filter: String,
    /// Pipelines reconciled at once.
    #[arg(long, env = "TIERCEL_RECONCILE_CONCURRENCY", default_value_t = 32, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=256))]
    reconcile_concurrency: u16,
    /// Writes per second of the reconcilers; replicas have a budget of their own.
    #[arg(long, env = "TIERCEL_KUBE_WRITES_PER_SECOND", default_value_t = 50, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kube_writes_per_second: u32,
    /// Also read signals from the Prometheus-compatible servers and metrics APIs that this file names; see
    /// docs/reference/sources.md.
    #[arg(long, env = "TIERCEL_SOURCES", value_name = "FILE")]
    sources: Option<PathBuf>,
    /// Append every step of the planner to this file, one line of JSON each, for `tiercel replay`: what it was told, and what
    /// it decided. At 384 MiB the file becomes FILE.1.
    #[arg(long, env = "TIERCEL_DECISION_LOG", value_name = "FILE")]
    decision_log: Option<PathBuf>,
    /// Folder of further signal presets, one YAML file each; docs/reference/signals.md says how to write one. Read once, at
    /// start.
    #[arg(long, env = "TIERCEL_PRESETS", value_name = "DIR")]
    presets: Option<PathBuf>,
    /// Image of the pods that hold room for bursts on pools with a `warmBuffer`: one that does nothing and ends when told to.
    #[arg(
        long,
        env = "TIERCEL_PLACEHOLDER_IMAGE",
        default_value = "registry.k8s.io/pause:3.10",
        value_name = "IMAGE"
    )]
    placeholder_image: String,
    /// Let pipelines name Secrets of their namespace in `env` and `volumes`.
    #[arg(long, env = "TIERCEL_ALLOW_SECRETS")]
    allow_secrets: bool,
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be `text` or `json`".to_owned()),
    }
}

/// The operator could not start, or ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The asynchronous runtime cannot be started.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    /// Logging cannot be set up.
    #[error(transparent)]
    Log(#[from] telemetry::Error),
    /// Traces cannot be set up.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// A preset of `--presets` cannot work, or its folder cannot be read.
    #[error(transparent)]
    Presets(#[from] presets::Error),
    /// The file of `--sources` is refused.
    #[error(transparent)]
    Sources(#[from] sources::Error),
    /// A network of `--scrape-allow-cidr` is none.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// No cluster is configured, or its configuration does not work.
    #[error(transparent)]
    Clients(#[from] clients::Error),
    /// The metrics address is taken.
    #[error("cannot listen on {address}: {source}; choose another --metrics-bind-address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// A watch ended.
    #[error(transparent)]
    Watches(#[from] watches::Ended),
    /// The controllers ended with an error.
    #[error(transparent)]
    Controller(#[from] controller::Error),
}

impl Error {
    /// 2 for files and networks that the arguments name, 1 for anything else.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Presets(_) | Self::Sources(_) | Self::Network(_) => 2,
            Self::Runtime(_)
            | Self::Log(_)
            | Self::Traces(_)
            | Self::Clients(_)
            | Self::Listen { .. }
            | Self::Watches(_)
            | Self::Controller(_) => 1,
        }
    }
}

/// The monotonic clock of the process: scrapes and decisions share it.
fn clock() -> &'static Clock {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    CLOCK.get_or_init(Clock::start)
}

fn now_ms() -> u64 {
    clock().now_ms()
}

/// Runs the operator until it is told to stop.
///
/// # Errors
/// When it cannot start, or loses its watches.
pub fn run(arguments: Arguments) -> Result<(), Error> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.min(WORKERS_MAX))
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    runtime.block_on(operate(arguments))
}

/// Makes all presets known, and reads where those come from that pods are not asked for.
fn known_signals(folder: Option<&Path>, file: Option<&Path>) -> Result<Sources, Error> {
    if let Some(folder) = folder {
        presets::load_with(folder)?;
    } else {
        presets::load()?;
    }
    let sources = file.map(Sources::load).transpose()?.unwrap_or_default();
    presets::add(sources.presets())?;
    if folder.is_some() || file.is_some() {
        tracing::info!(presets = presets::names(), "presets are added");
    }
    Ok(sources)
}

/// Addresses of the API server that a client connects to. One that cannot be resolved now is none: there is no connection
/// to it either.
async fn addresses(server: &kube::Config) -> BTreeSet<IpAddr> {
    let Some(host) = server.cluster_url.host() else {
        return BTreeSet::new();
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match tokio::net::lookup_host((host, 0)).await {
        Ok(found) => found.map(|address| address.ip().to_canonical()).collect(),
        Err(error) => {
            tracing::warn!(host, %error, "the API server's address is not known: pods that claim it would be scraped");
            BTreeSet::new()
        }
    }
}

/// How pods are scraped: every so many milliseconds, also where it is refused by default, and never from these hosts.
fn scrape(interval_ms: u64, allowed: Vec<Network>, hosts: BTreeSet<IpAddr>) -> ScrapeConfig {
    let rules = AddressRules { allowed, hosts };
    let interval = Duration::from_millis(interval_ms);
    ScrapeConfig {
        interval,
        deadline: interval.mul_f32(0.8).min(Duration::from_secs(2)),
        ..ScrapeConfig::new(rules, now_ms)
    }
}

async fn operate(arguments: Arguments) -> Result<(), Error> {
    let traces = Traces::from_env()?;
    let format = arguments.log_format.unwrap_or_else(LogFormat::detect);
    telemetry::subscribe(&arguments.log_filter, format, traces.as_ref())?;
    let ended = lead_or_wait(arguments).await;
    if let Some(traces) = traces {
        traces.flush().await;
    }
    ended
}

async fn lead_or_wait(arguments: Arguments) -> Result<(), Error> {
    let sources = known_signals(arguments.presets.as_deref(), arguments.sources.as_deref())?;
    let namespace = arguments.watch_namespace.clone();
    let address = arguments.metrics_bind_address;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })?;
    let metrics = Metrics::default();
    let per_second = arguments.kube_writes_per_second;
    let limits = Limits {
        reconcile: Rate {
            per_second,
            burst: per_second.saturating_mul(2),
        },
        ..Limits::default()
    };
    let config = clients::infer_config().await?;
    let clients = Clients::new(&config, limits, clock(), &metrics)?;
    let health = Health::new(now_ms);
    let stopping = CancellationToken::new();
    let asker = Asker::default();
    let serving = serve(
        listener,
        metrics.clone(),
        health.clone(),
        asker.clone(),
        stopping.clone(),
    );
    let served = tokio::spawn(serving);
    let beating = tokio::spawn(beat(health.clone()));
    tokio::spawn(cancel_on_signal(stopping.clone()));

    let settings = Settings {
        concurrency: arguments.reconcile_concurrency,
        allow_secrets: arguments.allow_secrets,
        scrape: scrape(
            arguments.scrape_interval_milliseconds,
            arguments.scrape_allow_cidr,
            addresses(&config).await,
        ),
        sources: Arc::new(sources),
        decision_log: arguments.decision_log,
        warm_buffer: warm_buffer::Settings {
            namespace: arguments.lease_namespace.clone(),
            image: arguments.placeholder_image,
        },
        instance: host(),
        asker,
    };
    let watched = tokio::select! {
        watched = watch_everything(&clients.watch, namespace.as_deref(), &metrics) => watched?,
        () = stopping.cancelled() => return Ok(()),
    };
    health.set_synced(true);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "caches are filled");

    let result = if arguments.leader_elect {
        let identity = identity();
        let (leadership, lease) = Leader::start(
            clients.watch.clone(),
            &arguments.lease_name,
            &arguments.lease_namespace,
            &identity,
            clock().clone(),
        );
        let Some(term) = elected(leadership.clone(), &stopping).await else {
            lease.release().await;
            return Ok(());
        };
        tracing::info!(identity, epoch = term.epoch, "leading");
        metrics.set_leading(true);
        health.set_leading(true);
        let stop = stopped_or_deposed(leadership, stopping.clone());
        let ground = Ground {
            clients,
            clock: clock().clone(),
            metrics: metrics.clone(),
            epoch: term.epoch,
        };
        let result = controller::lead(ground, watched, settings, stop).await;
        // Only now: no write of ours is under way any more.
        lease.release().await;
        result
    } else {
        metrics.set_leading(true);
        health.set_leading(true);
        let ground = Ground {
            clients,
            clock: clock().clone(),
            metrics: metrics.clone(),
            epoch: 0,
        };
        controller::lead(ground, watched, settings, stopping.clone().cancelled_owned()).await
    };
    tracing::info!("stopped");
    stopping.cancel();
    beating.abort();
    let _ = served.await;
    Ok(result?)
}

/// Name of the pod, or of whatever stands for it.
fn host() -> String {
    std::env::var("HOSTNAME").unwrap_or_else(|_| "tiercel".to_owned())
}

/// Unique per process: a restarted container is another candidate.
fn identity() -> String {
    let host = host();
    format!("{host}-{}-{:x}", std::process::id(), clock().wall().as_nanosecond())
}

async fn elected(mut leadership: watch::Receiver<Leadership>, stopping: &CancellationToken) -> Option<Leadership> {
    tokio::select! {
        term = leadership.wait_for(|state| state.holds(now_ms())) => term.ok().map(|term| *term),
        () = stopping.cancelled() => None,
    }
}

/// Told to stop, or the lease is lost. A deposed leader ends its process: the next start stands for election again.
async fn stopped_or_deposed(mut leadership: watch::Receiver<Leadership>, stopping: CancellationToken) {
    loop {
        let state = *leadership.borrow_and_update();
        if !state.holds(now_ms()) {
            tracing::error!("the lease is lost: no further write");
            return;
        }
        let until = tokio::time::sleep_until(clock().instant(state.held_until_ms));
        tokio::select! {
            changed = leadership.changed() => if changed.is_err() { return },
            () = until => {}
            () = stopping.cancelled() => return,
        }
    }
}

async fn beat(health: Health) {
    let mut ticks = tokio::time::interval(BEAT);
    loop {
        ticks.tick().await;
        health.beat();
    }
}

async fn cancel_on_signal(stopping: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received: stop the process with SIGKILL");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stopping.cancel();
}
