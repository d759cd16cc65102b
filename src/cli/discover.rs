//! `tiercel discover`: pools for the nodes of a cluster.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};

use super::cluster::{self, Cluster, Context};
use super::get::listed;
use super::print::{self, Format, Look};
use crate::api::ComputePool;
use crate::api::compute_pool::{CapacityType, Tier};
use crate::discover::{Proposal, Proposed, prices, propose, render};
use crate::files::{self, Unreadable};
use crate::view::{Cell, Layout, Row, Style, Tone, wrapped};

/// Who creates pools, for `managedFields`.
const MANAGER: &str = "kubectl-tiercel";

/// Arguments of `tiercel discover`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Create the proposed pools, after printing them. Pools that exist are never changed.
    #[arg(long)]
    apply: bool,
    /// Prices and power of your own, before the few list prices that the program knows.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// `text`, `yaml` (for kubectl apply) or `json`.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    context: Context,
    #[command(flatten)]
    look: Look,
}

/// Nothing can be proposed, or not all of it created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of prices cannot be read.
    #[error(transparent)]
    Read(#[from] Unreadable),
    /// It is none.
    #[error("{}: {source}", path.display())]
    Prices {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: prices::Error,
    },
    /// The bundled table is broken: a defect.
    #[error(transparent)]
    Bundled(prices::Error),
    /// Some pools have no price.
    #[error("{0} not created: nobody says what their nodes cost; name the instance types in --prices FILE")]
    Unpriced(String),
    /// The cluster does not show its nodes, or takes no pool.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The answer cannot be printed.
    #[error(transparent)]
    Print(#[from] print::Error),
}

impl Error {
    /// 2 for the file of prices, otherwise what [`cluster::Error::code`] says.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Read(_) | Self::Prices { .. } => 2,
            Self::Cluster(error) => error.code(),
            Self::Unpriced(_) | Self::Bundled(_) | Self::Print(_) => 1,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the cluster does not show its nodes, or a pool cannot be created.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let prices = read(arguments.prices.as_ref())?;
    print::wait(discover(arguments, &prices))
}

fn read(path: Option<&PathBuf>) -> Result<prices::Prices, Error> {
    let Some(path) = path else {
        return prices::Prices::read(None).map_err(Error::Bundled);
    };
    let text = files::text(path)?;
    prices::Prices::read(Some(&text)).map_err(|source| Error::Prices {
        path: path.clone(),
        source,
    })
}

async fn discover(arguments: &Arguments, prices: &prices::Prices) -> Result<(), Error> {
    let cluster = arguments.context.connect().await?;
    let (nodes, pools) = seen(&cluster).await?;
    if pools.is_none() && arguments.apply {
        return Err(cluster::Error::NotInstalled.into());
    }
    let proposal = propose(&nodes, pools.as_deref().unwrap_or_default(), prices);
    let yaml = || render(&proposal.pools).map_err(print::Error::Shape);
    let text = match arguments.output {
        Format::Json => print::json(&proposal)?,
        Format::Yaml => yaml()?,
        Format::Text if arguments.apply => yaml()?,
        Format::Text => text(&proposal, arguments.look.style()),
    };
    print::write(&text)?;
    if arguments.output != Format::Text || arguments.apply {
        for note in left_out(&proposal) {
            eprintln!("tiercel: {note}");
        }
    }
    if pools.is_none() {
        eprintln!(
            "tiercel: the cluster knows no ComputePool yet: keep what -o yaml prints until tiercel is installed there"
        );
    }
    if arguments.apply {
        create(&cluster, &proposal.pools).await?;
    }
    Ok(())
}

/// Nodes, and pools that exist; `None` where tiercel is not installed yet. Without the right to see pools, all nodes would seem to be
/// free.
async fn seen(cluster: &Cluster) -> Result<(Vec<Node>, Option<Vec<ComputePool>>), Error> {
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let nodes = cluster.ask("a node", "list nodes", listed(&nodes, ListParams::default()));
    let nodes = nodes.await?;
    let pools: Api<ComputePool> = Api::all(cluster.client.clone());
    let pools = cluster.ask("a pool", "list computepools", listed(&pools, ListParams::default()));
    match pools.await {
        Ok(pools) => Ok((nodes, Some(pools))),
        Err(cluster::Error::NotInstalled) => Ok((nodes, None)),
        Err(error) => Err(error.into()),
    }
}

/// Creates what has a price.
async fn create(cluster: &Cluster, pools: &[Proposed]) -> Result<(), Error> {
    let api: Api<ComputePool> = Api::all(cluster.client.clone());
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    let mut unpriced = Vec::new();
    for proposed in pools {
        let name = proposed.pool.name_any();
        if !proposed.is_priced() {
            unpriced.push(format!("'{name}'"));
            continue;
        }
        let created = api.create(&params, &proposed.pool);
        cluster.ask("the pool", "create computepools", created).await?;
        eprintln!("created computepool '{name}'");
    }
    if unpriced.is_empty() {
        return Ok(());
    }
    Err(Error::Unpriced(unpriced.join(", ")))
}

/// Nodes without a pool, and why.
fn left_out(proposal: &Proposal) -> Vec<String> {
    let count = |count: u32| {
        if count == 1 {
            "1 node".to_owned()
        } else {
            format!("{count} nodes")
        }
    };
    let covered = proposal
        .covered
        .iter()
        .map(|(pool, nodes)| format!("pool '{pool}' exists and covers {}", count(*nodes)));
    let apart = proposal
        .apart
        .iter()
        .map(|(why, nodes)| format!("left out, {}: each {why}", count(*nodes)));
    covered.chain(apart).collect()
}

/// For people.
fn text(proposal: &Proposal, style: Style) -> String {
    let mut lines = Vec::new();
    if proposal.pools.is_empty() {
        lines.push("no pool to propose".to_owned());
    } else {
        lines.extend(table(&proposal.pools).lines(style));
        lines.push(String::new());
    }
    for proposed in &proposal.pools {
        let name = proposed.pool.name_any();
        for note in &proposed.notes {
            let width = style.width.unwrap_or(100).saturating_sub(2);
            let parts = wrapped(&format!("{name}: {note}"), width);
            lines.extend(
                parts
                    .iter()
                    .enumerate()
                    .map(|(at, part)| format!("{}{part}", if at == 0 { "" } else { "  " })),
            );
        }
    }
    lines.extend(left_out(proposal).iter().map(|note| style.paint(Tone::Quiet, note)));
    if proposal.pools.iter().any(|proposed| !proposed.is_priced()) {
        let text = "a pool without a price is not created: name its instance type in --prices FILE";
        lines.push(style.paint(Tone::Warn, text));
    }
    if !proposal.pools.is_empty() {
        lines.push(style.paint(Tone::Quiet, "-o yaml prints the pools, --apply creates them"));
    }
    lines.join("\n") + "\n"
}

fn table(pools: &[Proposed]) -> Layout {
    let row = |proposed: &Proposed| {
        let spec = &proposed.pool.spec;
        let tier = match spec.tier {
            Tier::Cpu => "CPU",
            Tier::Accelerator => "Accelerator",
        };
        let bought = match spec.capacity_type {
            CapacityType::OnDemand => "on demand",
            CapacityType::Spot => "spot",
            CapacityType::Reserved => "reserved",
        };
        let price = if proposed.is_priced() {
            Cell::plain(spec.cost_per_node_hour.to_string())
        } else {
            Cell::toned(Tone::Warn, "unknown")
        };
        // The values say it; keys are in the YAML.
        let last = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
        let expressions = spec.match_expressions.iter();
        let selector = spec
            .node_selector
            .values()
            .cloned()
            .chain(expressions.map(|expression| format!("no {}", last(&expression.key))));
        Row(vec![
            Cell::toned(Tone::Strong, proposed.pool.name_any()),
            tier.into(),
            spec.class.clone().unwrap_or_default().into(),
            spec.architecture
                .map_or("", |architecture| architecture.as_str())
                .into(),
            bought.into(),
            proposed.nodes.len().to_string().into(),
            price,
            Cell::toned(Tone::Quiet, selector.collect::<Vec<_>>().join(", ")),
        ])
    };
    Layout {
        titles: vec![
            "POOL",
            "TIER",
            "CLASS",
            "ARCH",
            "BOUGHT",
            "NODES",
            "PRICE/H",
            "NODES WITH",
        ],
        right: vec![5, 6],
        rows: pools.iter().map(row).collect(),
    }
}
