//! `tiercel ui`: pipelines and pools in a browser, read-only, with the rights of whoever runs it.

mod board;
mod dry;
mod guard;
mod live;
mod server;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::config::Kubeconfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::asking::{Misaddressed, Reach};
use super::cluster::{self, Cluster, Context};
use super::print;
use crate::api::{ComputePool, TieredPipeline};
use crate::view::page::Session;
use board::Board;
use live::Sources;
use server::Site;

/// Where it is found unless something else is asked for.
const PORT: u16 = 8480;

/// Arguments of `tiercel ui`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// One namespace. If absent, every namespace, or the context's for who may not see all.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Every namespace, or none at all.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    #[command(flatten)]
    context: Context,
    /// Address to listen on. Whoever reaches it sees what you may see, so leave it at a loopback address.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Port to listen on; 0 for any that is free.
    #[arg(long, value_name = "PORT", default_value_t = PORT)]
    port: u16,
    #[command(flatten)]
    reach: Reach,
}

/// Nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operator's address cannot be understood.
    #[error(transparent)]
    Operator(#[from] Misaddressed),
    /// The cluster does not show what there is.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Nothing can be printed.
    #[error(transparent)]
    Print(#[from] print::Error),
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {source}; choose another --port (0 for any that is free) or --address")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The listener broke.
    #[error("the listener broke: {0}; start it again")]
    Serve(std::io::Error),
}

impl Error {
    /// 2 for arguments, otherwise what [`cluster::Error::code`] says.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Operator(_) => 2,
            Self::Cluster(error) => error.code(),
            Self::Print(_) | Self::Listen { .. } | Self::Serve(_) => 1,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the cluster does not show pipelines, or the address cannot be listened on.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    print::wait(ui(arguments))
}

async fn ui(arguments: &Arguments) -> Result<(), Error> {
    let direct = arguments.reach.direct()?;
    let cluster = arguments.context.connect().await?;
    // Also before anything is served: what is wrong is said and ends the command here.
    let (sources, session) = look(arguments, &cluster).await?;
    let address = SocketAddr::new(arguments.address, arguments.port);
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| Error::Listen { address, source })?;
    let bound = listener.local_addr().map_err(Error::Serve)?;
    if !bound.ip().is_loopback() {
        eprintln!(
            "tiercel: {bound} is no loopback address: whoever reaches it sees what you may see, without a password"
        );
    }
    print::write(&told(bound, &session))?;
    let operator = direct.unwrap_or_else(|| arguments.reach.behind(cluster.client.clone()));
    let ended = CancellationToken::new();
    let board = Arc::new(Board::new(session, print::now()));
    let site = Site::new(Arc::clone(&board), operator, bound, ended.clone());
    tokio::select! {
        served = server::serve(listener, site, ended.clone()) => served.map_err(Error::Serve),
        () = live::follow(cluster.client, sources, &board) => Ok(()),
        interrupted = interrupted(&ended) => interrupted.map_err(Error::Serve),
    }
}

/// Ctrl-C, or what ends a service; open connections then have a moment.
async fn interrupted(ended: &CancellationToken) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted?,
            _ = terminate.recv() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    ended.cancel();
    // The server ends by itself, and the command with it.
    std::future::pending().await
}

/// What is printed once it listens.
fn told(bound: SocketAddr, session: &Session) -> String {
    let place = match &session.namespace {
        Some(namespace) => format!("namespace {namespace}"),
        None => "every namespace".to_owned(),
    };
    format!("http://{bound}  context {}, {place}; Ctrl-C ends it\n", session.context)
}

/// What may be seen. Without `-n` and `-A` that is every namespace, or else the context's.
async fn look(arguments: &Arguments, cluster: &Cluster) -> Result<(Sources, Session), Error> {
    let mut notes = Vec::new();
    let mut sources = Sources {
        namespace: arguments.namespace.clone(),
        pods: true,
        pools: true,
    };
    match may_list::<TieredPipeline>(cluster, &sources, "list tieredpipelines there").await {
        Err(cluster::Error::NotPermitted { .. }) if arguments.namespace.is_none() && !arguments.all_namespaces => {
            sources.namespace = Some(cluster.namespace.clone());
            may_list::<TieredPipeline>(cluster, &sources, "list tieredpipelines there").await?;
            notes.push(format!(
                "only namespace '{}' may be seen; others are named with -n",
                cluster.namespace
            ));
        }
        permitted => permitted?,
    }
    match may_list::<Pod>(cluster, &sources, "list pods there").await {
        Err(error @ cluster::Error::NotPermitted { .. }) => {
            notes.push(format!("pods are left out: {error}"));
            sources.pods = false;
        }
        permitted => permitted?,
    }
    let pools = kube::Api::<ComputePool>::all(cluster.client.clone());
    let one = ListParams::default().limit(1);
    let no_pools = match cluster.ask("a pool", "list computepools", pools.list(&one)).await {
        Err(error @ cluster::Error::NotPermitted { .. }) => {
            sources.pools = false;
            Some(error.to_string())
        }
        permitted => permitted.map(|_| None)?,
    };
    notes.extend(arguments.reach.installed.skew(cluster).await);
    let session = Session {
        context: context(arguments),
        namespace: sources.namespace.clone(),
        version: env!("CARGO_PKG_VERSION"),
        since: print::now().to_string(),
        notes,
        no_pools,
        waiting: true,
        lost: None,
    };
    Ok((sources, session))
}

/// Whether objects of a kind may be listed where the sources look.
async fn may_list<K>(cluster: &Cluster, sources: &Sources, right: &'static str) -> Result<(), cluster::Error>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let api = sources.api::<K>(&cluster.client);
    let one = ListParams::default().limit(1);
    cluster.ask("an object", right, api.list(&one)).await.map(drop)
}

/// Name of the context: nothing else of the kubeconfig is ever shown.
fn context(arguments: &Arguments) -> String {
    let named = arguments.context.context.clone();
    let current = || Kubeconfig::read().ok()?.current_context;
    named.or_else(current).unwrap_or_else(|| "in-cluster".to_owned())
}
