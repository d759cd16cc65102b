//! `tiercel get`: pipelines, their stages, where these are, and the pods.

mod live;
#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, ObjectList};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;

use super::cluster::{self, Cluster, Scope};
use super::operator::Installed;
use super::print::{self, Look};
use crate::api::{ComputePool, TieredPipeline, labels};
use crate::view::tree::{Seen, tree};

/// Arguments of `tiercel get`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// One pipeline; all of the namespace if absent.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    scope: Scope,
    /// Go on showing what changes, until interrupted.
    #[arg(short, long)]
    watch: bool,
    /// With `-w`: end after so long.
    #[arg(long, value_name = "SECONDS", requires = "watch", value_parser = clap::value_parser!(u32).range(1..))]
    timeout_seconds: Option<u32>,
    /// `text`, `wide` (with tiers, classes and nodes), `json` or `yaml`.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    installed: Installed,
}

/// How to print a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For people with wide terminals.
    Wide,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// Nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for contradicts itself.
    #[error("{0}")]
    Usage(&'static str),
    /// The cluster does not show it.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The answer cannot be printed.
    #[error(transparent)]
    Print(#[from] print::Error),
}

impl Error {
    /// 2 for arguments, otherwise what [`cluster::Error::code`] says.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Cluster(error) => error.code(),
            Self::Print(_) => 1,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the cluster does not show the pipelines.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    if arguments.watch && matches!(arguments.output, Format::Json | Format::Yaml) {
        return Err(Error::Usage(
            "-w redraws for people: leave it out with -o json and -o yaml",
        ));
    }
    if arguments.name.is_some() && arguments.scope.all_namespaces {
        return Err(Error::Usage(
            "a name is looked for in one namespace: leave out -A, or the name",
        ));
    }
    print::wait(get(arguments))
}

async fn get(arguments: &Arguments) -> Result<(), Error> {
    let cluster = arguments.scope.target.connect().await?;
    let question = Question {
        name: arguments.name.clone(),
        namespace: arguments.scope.within(&cluster),
    };
    // Also before watching: what is wrong is said and ends the command here.
    let (seen, notes) = question.ask(&cluster).await?;
    for note in notes.into_iter().chain(arguments.installed.skew(&cluster).await) {
        eprintln!("tiercel: {note}");
    }
    if arguments.watch {
        let wide = arguments.output == Format::Wide;
        let style = arguments.look.style();
        let end = arguments.timeout_seconds.map(u64::from).map(Duration::from_secs);
        return Ok(live::watch(&cluster, &question, seen, style, wide, end).await?);
    }
    if seen.pipelines.is_empty() {
        eprintln!("{}", question.nothing());
        if matches!(arguments.output, Format::Text | Format::Wide) {
            return Ok(());
        }
    }
    let tree = tree(&seen, print::now());
    let style = arguments.look.style();
    let text = match arguments.output {
        Format::Text => tree.text(style, false),
        Format::Wide => tree.text(style, true),
        Format::Json => print::json(&tree)?,
        Format::Yaml => print::yaml(&tree)?,
    };
    Ok(print::write(&text)?)
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Question {
    name: Option<String>,
    /// `None` for all.
    namespace: Option<String>,
}

impl Question {
    /// For one pipeline.
    pub(super) fn of(namespace: &str, name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
        }
    }

    /// All that the tree shows, and what of it may not be seen.
    pub(super) async fn ask(&self, cluster: &Cluster) -> Result<(Seen, Vec<String>), cluster::Error> {
        let pipelines = if let Some(name) = &self.name {
            vec![cluster.pipeline(name).await?]
        } else {
            let api: Api<TieredPipeline> = self.api(cluster);
            let found = listed(&api, ListParams::default());
            cluster.ask("a pipeline", "list tieredpipelines there", found).await?
        };
        let mut notes = Vec::new();
        let pods: Api<Pod> = self.api(cluster);
        let pods = listed(&pods, ListParams::default().labels(&self.selector()));
        let pods = cluster.ask("a pod", "list pods there", pods).await;
        let pods = pods.unwrap_or_else(|error| {
            notes.push(format!("pods are left out: {error}"));
            Vec::new()
        });
        // Only what the pools are is missing without them.
        let pools: Api<ComputePool> = Api::all(cluster.client.clone());
        let pools = cluster.ask("a pool", "list computepools", listed(&pools, ListParams::default()));
        let pools = pools.await.unwrap_or_default();
        Ok((Seen { pipelines, pods, pools }, notes))
    }

    /// Objects of the namespace that is meant, or of all.
    fn api<K>(&self, cluster: &Cluster) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
            None => Api::all(cluster.client.clone()),
        }
    }

    /// Labels of the pods that are meant.
    fn selector(&self) -> String {
        let managed = format!("{}={}", labels::MANAGED_BY, labels::MANAGER);
        match &self.name {
            Some(name) => format!("{managed},{}={name}", labels::PIPELINE),
            None => format!("{managed},{}", labels::PIPELINE),
        }
    }

    /// That there is none.
    fn nothing(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("no pipelines in namespace '{namespace}'; -A shows those of every namespace"),
            None => "no pipelines in any namespace".to_owned(),
        }
    }
}

/// All objects, a page at a time.
pub(super) async fn listed<K>(api: &Api<K>, params: ListParams) -> Result<Vec<K>, kube::Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    const PAGE: u32 = 500;
    let mut params = params.limit(PAGE);
    let mut all = Vec::new();
    loop {
        let ObjectList { metadata, items, .. } = api.list(&params).await?;
        all.extend(items);
        match metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}
