//! `tiercel plan`: what manifests would come to, before anybody applies them.

mod files;
mod git;
mod joined;
mod markdown;
mod snapshot;
#[cfg(test)]
mod tests;
mod text;
mod yaml;

use std::collections::BTreeSet;
use std::path::PathBuf;

use kube::ResourceExt as _;

use super::{cluster, print};
use crate::api::TieredPipeline;
use crate::files::Unreadable;
use crate::lint::{self, Schemas};
use crate::plan::change::{changes, keep_refused};
use crate::plan::ground::{Ground, Snapshot};
use crate::plan::manifest::{Manifests, Place};
use crate::plan::plan;
use crate::plan::report::{Before, Report, VERSION};
use crate::simulate::ground::{InvalidNodes, Nodes};

/// Arguments of `tiercel plan`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 nothing is refused; 1 something is refused or invalid; 2 the command is not understood; \
                        3 with --exit-code, something differs from what it is compared with; \
                        4, 5, 6 with --context, the cluster does not let you look, has no tiercel, does not answer."
)]
pub struct Arguments {
    /// Manifests: a folder, a file, or `-` for the standard input. Several may be named.
    #[arg(short, long = "filename", value_name = "DIR|FILE|-", required = true)]
    files: Vec<PathBuf>,
    /// Folders with all folders in them.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// More manifests to take ComputePools from: a file or folder that is not itself planned.
    #[arg(long, value_name = "DIR|FILE", conflicts_with = "context")]
    pools: Vec<PathBuf>,
    /// Nodes of a pool: h100=2 or h100=2:16,256Gi,1 (CPU, memory, devices of each). Without it as many as the pool may grow
    /// to, or twenty.
    #[arg(long, value_name = "POOL=COUNT[:CPU,MEMORY[,DEVICES]]", conflicts_with = "context")]
    nodes: Vec<String>,
    /// Compare with what runs on the cluster of this context, the current one if it has no name, and take pools and nodes from
    /// there.
    #[arg(long, value_name = "CONTEXT", num_args = 0..=1, default_missing_value = "")]
    context: Option<String>,
    /// Compare with the same files in this commit, branch or tag.
    #[arg(long, value_name = "REF")]
    diff: Option<String>,
    /// Exit with 3 if something differs from what it is compared with.
    #[arg(long)]
    exit_code: bool,
    /// Namespace of pipelines that name none; the context's, or `default`, if absent.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Containers may name Secrets, as the operator's flag of this name allows it.
    #[arg(long)]
    allow_secrets: bool,
    /// What to print.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For pull requests.
    Markdown,
    /// The objects that the operator would apply.
    Yaml,
}

/// Nothing can be planned, or something of it is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// `--nodes` is not of its form.
    #[error(transparent)]
    Nodes(#[from] InvalidNodes),
    /// A file cannot be read.
    #[error(transparent)]
    Read(#[from] Unreadable),
    /// git does not give the files of the other side.
    #[error("`--diff {reference}`: {problem}")]
    Git {
        /// What was asked for.
        reference: String,
        /// What git says.
        problem: String,
    },
    /// The cluster does not show itself.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Something is refused; it has been printed.
    #[error("{}", refused(*.0))]
    Refused(usize),
    /// Something differs, and the exit code was to tell.
    #[error("there are changes")]
    Changed,
    /// The definitions cannot be derived.
    #[error(transparent)]
    Derive(#[from] lint::Error),
    /// The plan cannot be printed.
    #[error(transparent)]
    Print(#[from] print::Error),
}

fn refused(count: usize) -> String {
    let problems = if count == 1 { "problem" } else { "problems" };
    format!("{count} {problems}: see above, each with its file and field")
}

impl Error {
    /// See the help of the command.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Nodes(_) | Self::Read(_) | Self::Git { .. } => 2,
            Self::Cluster(error) => error.code(),
            Self::Changed => 3,
            Self::Refused(_) | Self::Derive(_) | Self::Print(_) => 1,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When nothing can be planned, or something is refused.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let report = report(arguments)?;
    let printed = match arguments.output {
        Format::Text => text::render(&report),
        Format::Json => print::json(&report)?,
        Format::Markdown => markdown::render(&report),
        Format::Yaml => yaml::render(&report)?,
    };
    print::write(&printed)?;
    if arguments.output == Format::Yaml {
        for problem in &report.problems {
            eprintln!("{problem}");
        }
    }
    let differs = report.before.as_ref().is_some_and(|before| !before.changes.is_empty());
    match report.refused {
        0 if differs && arguments.exit_code => Err(Error::Changed),
        0 => Ok(()),
        count => Err(Error::Refused(count)),
    }
}

/// Everything that is printed.
fn report(arguments: &Arguments) -> Result<Report, Error> {
    if arguments.exit_code && arguments.diff.is_none() && arguments.context.is_none() {
        let message = "`--exit-code` tells of differences: name what to compare with, by --diff or --context";
        return Err(Error::Usage(message.to_owned()));
    }
    let nodes: Vec<Nodes> = arguments
        .nodes
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    let texts = files::read(&arguments.files, arguments.recursive)?;
    let old = match &arguments.diff {
        Some(reference) => Some(git::read(reference, &arguments.files, arguments.recursive)?),
        None => None,
    };
    let (snapshot, own) = match arguments.context.as_deref().map(snapshot::of_cluster).transpose()? {
        Some((snapshot, namespace)) => (Some(snapshot), Some(namespace)),
        None => (None, None),
    };
    let side = Side {
        schemas: Schemas::installed()?,
        nodes,
        snapshot,
        namespace: arguments
            .namespace
            .clone()
            .or(own)
            .unwrap_or_else(|| "default".to_owned()),
        pools: files::read(&arguments.pools, arguments.recursive)?,
        arguments,
    };
    let mut manifests = side.manifests(&texts);
    let old = old.map(|texts| side.manifests(&texts));
    if let Some(old) = &old {
        keep_unreadable(&mut manifests, old);
    }
    let named = |nodes: &&Nodes| !manifests.pools.iter().any(|pool| pool.object.name_any() == nodes.pool);
    if let Some(unknown) = side.nodes.iter().find(named).filter(|_| manifests.problems.is_empty()) {
        let message = format!("`--nodes` names pool '{}', which no file declares", unknown.pool);
        return Err(Error::Usage(message));
    }
    let ground = side.ground(&mut manifests);
    if ground.is_empty() && !manifests.pipelines.is_empty() && manifests.problems.is_empty() {
        let message =
            "no ComputePool is known: name the files that hold them with --pools, or a cluster with --context";
        return Err(Error::Usage(message.to_owned()));
    }
    let (mut after, refused) = plan(&manifests.pipelines, &manifests.pools, &ground);
    let before = match (old, &side.snapshot) {
        (Some(mut old), _) => {
            let ground = side.ground(&mut old);
            let name = arguments.diff.clone().unwrap_or_default();
            Some((name, plan(&old.pipelines, &old.pools, &ground).0))
        }
        (None, Some(snapshot)) => {
            // As it is there, the pools too.
            let live = Ground::before(snapshot, &manifests);
            let mut named = Manifests {
                pipelines: live.clone(),
                ..Manifests::default()
            };
            let ground = Ground::on(snapshot, &mut named, arguments.allow_secrets);
            Some(("the cluster".to_owned(), plan(&live, &[], &ground).0))
        }
        (None, None) => None,
    };
    if let Some((_, before)) = &before {
        keep_refused(before, &mut after);
    }
    let mut problems = manifests.problems;
    problems.extend(refused);
    let mut seen = BTreeSet::new();
    problems.retain(|problem| seen.insert(problem.to_string()));
    Ok(Report {
        version: VERSION,
        refused: problems.len(),
        assumptions: ground.assumptions,
        skipped: manifests.skipped,
        before: before.map(|(name, before)| Before {
            changes: changes(&before, &after),
            name,
            plan: before,
        }),
        problems,
        after,
    })
}

/// What cannot be read any more does not go: it stays as it was.
fn keep_unreadable(manifests: &mut Manifests, old: &Manifests) {
    let problems = &manifests.problems;
    let lost = |object: &str, stood: Option<&Place>| {
        problems.iter().any(|problem| {
            let broken = problem.place.as_ref().filter(|_| problem.object.is_empty());
            let same_file = broken
                .zip(stood)
                .is_some_and(|(broken, stood)| stood.file.ends_with(&broken.file));
            problem.object == object || same_file
        })
    };
    for pool in &old.pools {
        let name = pool.object.name_any();
        let there = manifests.pools.iter().any(|known| known.object.name_any() == name);
        if !there && lost(&format!("ComputePool {name}"), pool.place.as_ref()) {
            manifests.pools.push(pool.clone());
        }
    }
    let key = |one: &TieredPipeline| {
        format!(
            "TieredPipeline {}/{}",
            one.namespace().unwrap_or_default(),
            one.name_any()
        )
    };
    for pipeline in &old.pipelines {
        let object = key(&pipeline.object);
        let there = manifests.pipelines.iter().any(|known| key(&known.object) == object);
        if !there && lost(&object, pipeline.place.as_ref()) {
            manifests.pipelines.push(pipeline.clone());
        }
    }
}

/// What both sides of a comparison share.
struct Side<'a> {
    schemas: Schemas,
    nodes: Vec<Nodes>,
    snapshot: Option<Snapshot>,
    /// Of pipelines that name none.
    namespace: String,
    /// Texts that only pools are taken from.
    pools: Vec<(String, String)>,
    arguments: &'a Arguments,
}

impl Side<'_> {
    fn manifests(&self, texts: &[(String, String)]) -> Manifests {
        let namespace = &self.namespace;
        let mut manifests = Manifests::default();
        for (file, text) in texts {
            manifests.add(&self.schemas, file, text, namespace);
        }
        let mut others = Manifests::default();
        for (file, text) in &self.pools {
            others.add(&self.schemas, file, text, namespace);
        }
        // Files that are planned say it better.
        let known: BTreeSet<String> = manifests.pools.iter().map(|pool| pool.object.name_any()).collect();
        manifests.pools.extend(
            others
                .pools
                .into_iter()
                .filter(|pool| !known.contains(&pool.object.name_any())),
        );
        manifests.problems.extend(others.problems);
        for (namespace, labels) in others.namespaces {
            manifests.namespaces.entry(namespace).or_insert(labels);
        }
        manifests
    }

    fn ground(&self, manifests: &mut Manifests) -> Ground {
        let allow_secrets = self.arguments.allow_secrets;
        match &self.snapshot {
            Some(snapshot) => Ground::on(snapshot, manifests, allow_secrets),
            None => Ground::offline(manifests, &self.nodes, allow_secrets),
        }
    }
}
