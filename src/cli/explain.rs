//! `tiercel explain`: why a pipeline is where it is. The operator is asked for what it goes by at this moment; where it cannot
//! be reached, the pipeline's status says what was learned and decided, and one line why the rest is missing.

mod asking;
mod cluster;
mod pool;
mod recorded;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use kube::config::{KubeConfigOptions, KubeconfigError};
use kube::{Client, Config};
use serde::Serialize;

pub(super) use self::cluster::plainly;
use super::Output;
use crate::explain::Document;

/// From connecting to the cluster to its answer.
const CLUSTER_DEADLINE: Duration = Duration::from_secs(10);

/// Arguments of `tiercel explain`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The pipeline, or one stage of it.
    #[arg(value_name = "NAME[/STAGE]")]
    name: String,
    /// The stage, if not given with the name.
    #[arg(value_name = "STAGE")]
    stage: Option<String>,
    /// Only what concerns this pool: why it was chosen or not, with what it costs and what the whole stage would cost there.
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// Namespace of the pipeline; the context's if absent.
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Context of the kubeconfig; the current one if absent.
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
    /// `text` or `json`.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Metrics address of the operator, such as `http://127.0.0.1:8080`, for one that runs outside of the cluster. If absent it is
    /// asked through the API server, which takes the right to get `pods/proxy` in its namespace.
    #[arg(long, env = "TIERCEL_OPERATOR", value_name = "URL")]
    operator: Option<String>,
    /// Namespace of the operator's pods.
    #[arg(
        long,
        env = "TIERCEL_OPERATOR_NAMESPACE",
        default_value = "tiercel-system",
        value_name = "NAMESPACE"
    )]
    operator_namespace: String,
    /// Labels of the operator's pods.
    #[arg(long, default_value = "app.kubernetes.io/name=tiercel", value_name = "SELECTOR")]
    operator_selector: String,
}

/// Nothing can be explained. Each kind has an exit code of its own, see [`Error::code`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// No such pipeline.
    #[error("there is no pipeline '{name}' in namespace '{namespace}'; {}", others(.known, "namespaces are named with -n"))]
    UnknownPipeline {
        /// What was asked for.
        name: String,
        /// Where.
        namespace: String,
        /// What there is, if that may be seen.
        known: Vec<String>,
    },
    /// The pipeline has no such stage.
    #[error("pipeline '{pipeline}' has no stage '{stage}'; {}", others(.known, "it has no stage at all"))]
    UnknownStage {
        /// What was asked for.
        stage: String,
        /// Of which pipeline.
        pipeline: String,
        /// Its stages.
        known: Vec<String>,
    },
    /// No stage that was asked for knows the pool.
    #[error("no stage asked for knows a pool '{pool}'; {}", others(.known, "none knows any"))]
    UnknownPool {
        /// What was asked for.
        pool: String,
        /// Pools that stages use, or may not.
        known: Vec<String>,
    },
    /// The server does not let this user look.
    #[error("not permitted: {0}; ask for the right to get tieredpipelines in this namespace")]
    NotPermitted(String),
    /// The server does not know who this is.
    #[error("the API server does not accept the credentials: {0}; log in again, or use another --context")]
    Credentials(String),
    /// The server knows no pipelines.
    #[error(
        "the cluster knows no TieredPipeline: tiercel is not installed there, or another cluster is meant (--context)"
    )]
    NotInstalled,
    /// No cluster is configured, or not this context.
    #[error("no cluster is configured: {0}; set KUBECONFIG, or name a context with --context")]
    NoCluster(String),
    /// Nobody answers.
    #[error("the API server at {url} does not answer: {problem}; check the address, the network and the context")]
    Unreachable {
        /// Where.
        url: String,
        /// What happened.
        problem: String,
    },
    /// Any other answer of the server.
    #[error("the API server refuses: {0}")]
    Refused(String),
    /// The object is none that this version reads.
    #[error("pipeline '{name}' cannot be read by this version of tiercel: {problem}; use the operator's version")]
    Unreadable {
        /// Which.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The asynchronous runtime cannot be started.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    /// The answer cannot be printed.
    #[error("the answer cannot be written: {0}")]
    Print(std::io::Error),
}

fn others(known: &[String], none: &str) -> String {
    if known.is_empty() {
        return none.to_owned();
    }
    let quoted: Vec<String> = known.iter().map(|name| format!("'{name}'")).collect();
    format!("there is {}", quoted.join(", "))
}

impl Error {
    /// 2 for arguments, 3 for what does not exist, 4 for what is not permitted, 5 where tiercel is not installed, 6 where nobody
    /// answers, 1 for anything else.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::UnknownPipeline { .. } | Self::UnknownStage { .. } | Self::UnknownPool { .. } => 3,
            Self::NotPermitted(_) | Self::Credentials(_) => 4,
            Self::NotInstalled => 5,
            Self::NoCluster(_) | Self::Unreachable { .. } => 6,
            Self::Refused(_) | Self::Unreadable { .. } | Self::Runtime(_) | Self::Print(_) => 1,
        }
    }
}

/// What is printed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained {
    /// The operator was asked; else this is what the status says.
    live: bool,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreached: Option<String>,
    #[serde(flatten)]
    document: Document,
}

/// A pipeline, and one of its stages if only that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Subject {
    name: String,
    stage: Option<String>,
}

impl Subject {
    fn parse(name: &str, stage: Option<&str>) -> Result<Self, Error> {
        let usage = |problem: &str| Error::Usage(format!("'{name}': {problem}: write NAME, NAME/STAGE or NAME STAGE"));
        let (name, own) = match name.split_once('/') {
            None => (name, None),
            Some((name, own)) => (name, Some(own)),
        };
        let is_name = |text: &str| {
            let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
            !text.is_empty() && text.chars().all(fits)
        };
        if !is_name(name) || own.or(stage).is_some_and(|own| !is_name(own)) {
            return Err(usage("not the name of a pipeline or stage"));
        }
        if own.is_some() && stage.is_some() {
            return Err(usage("the stage is given twice"));
        }
        Ok(Self {
            name: name.to_owned(),
            stage: own.or(stage).map(ToOwned::to_owned),
        })
    }
}

/// Runs the command.
///
/// # Errors
/// When there is no such pipeline or stage, or the cluster does not show it.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let explained = runtime.block_on(explain(arguments))?;
    let printed = match arguments.output {
        Output::Text if arguments.pool.is_some() => pool::render(&explained),
        Output::Text => text::render(&explained),
        Output::Json => serde_json::to_string_pretty(&explained).map_err(|error| Error::Print(error.into()))? + "\n",
    };
    match std::io::stdout().lock().write_all(printed.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(Error::Print),
    }
}

async fn explain(arguments: &Arguments) -> Result<Explained, Error> {
    let subject = Subject::parse(&arguments.name, arguments.stage.as_deref())?;
    let direct = arguments.operator.as_deref().map(asking::Operator::at).transpose()?;
    let config = config(arguments.context.as_deref()).await?;
    let namespace = arguments
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).map_err(|error| Error::NoCluster(cluster::plainly(&error)))?;
    let found = tokio::time::timeout(
        CLUSTER_DEADLINE,
        cluster::pipeline(&client, &url, &namespace, &subject.name),
    );
    let pipeline = found.await.map_err(|_| Error::Unreachable {
        url: url.clone(),
        problem: format!("no answer within {} s", CLUSTER_DEADLINE.as_secs()),
    })??;
    if let Some(stage) = &subject.stage
        && !pipeline.spec.stages.iter().any(|known| known.name == *stage)
    {
        return Err(Error::UnknownStage {
            stage: stage.clone(),
            pipeline: subject.name,
            known: pipeline.spec.stages.iter().map(|stage| stage.name.clone()).collect(),
        });
    }
    let operator = direct.unwrap_or_else(|| {
        asking::Operator::behind(client, &arguments.operator_namespace, &arguments.operator_selector)
    });
    let live = operator.ask(&namespace, &subject.name).await;
    let explained = joined(live, recorded::document(&namespace, &subject.name, &pipeline));
    let explained = explained.of(subject.stage.as_deref());
    match &arguments.pool {
        Some(pool) => explained.on(pool),
        None => Ok(explained),
    }
}

/// What the operator says, with what only the status knows; without the former, the latter.
fn joined(live: Result<Document, asking::Unreached>, recorded: Document) -> Explained {
    match live {
        Err(why) => Explained {
            live: false,
            unreached: Some(why.to_string()),
            document: recorded,
        },
        Ok(mut document) => {
            let stages = recorded.stages.into_iter().map(|on_record| {
                let known = document.stages.iter().position(|stage| stage.name == on_record.name);
                let Some(known) = known.map(|at| document.stages.swap_remove(at)) else {
                    return on_record;
                };
                let message = on_record.message;
                crate::explain::Stage { message, ..known }
            });
            document.stages = stages.collect();
            Explained {
                live: true,
                unreached: None,
                document,
            }
        }
    }
}

impl Explained {
    /// Only what concerns one stage, if one is asked for.
    fn of(mut self, stage: Option<&str>) -> Self {
        if let Some(name) = stage {
            self.document.stages.retain(|stage| stage.name == name);
            let about = format!("{name}: ");
            self.document
                .decisions
                .retain(|decision| decision.summary.starts_with(&about));
        }
        self
    }
}

impl Explained {
    /// Only what concerns one pool.
    fn on(mut self, pool: &str) -> Result<Self, Error> {
        let mut known = BTreeSet::new();
        for stage in &mut self.document.stages {
            known.extend(stage.pools.iter().map(|known| known.name.clone()));
            known.extend(stage.excluded.iter().map(|known| known.pool.clone()));
            stage.pools.retain(|known| known.name == pool);
            stage.excluded.retain(|known| known.pool == pool);
            stage.signals.retain(|signal| signal.pool.as_deref() == Some(pool));
        }
        if !known.contains(pool) {
            return Err(Error::UnknownPool {
                pool: pool.to_owned(),
                known: known.into_iter().collect(),
            });
        }
        let mut stages = std::mem::take(&mut self.document.stages);
        stages.retain(|stage| !stage.pools.is_empty() || !stage.excluded.is_empty());
        self.document.stages = stages;
        Ok(self)
    }
}

/// How to reach the cluster: as kubectl does.
pub(super) async fn config(context: Option<&str>) -> Result<Config, Error> {
    let options = KubeConfigOptions {
        context: context.map(ToOwned::to_owned),
        ..KubeConfigOptions::default()
    };
    let mut config = match Config::from_kubeconfig(&options).await {
        Ok(config) => config,
        // In a pod there is no kubeconfig.
        Err(_) if context.is_none() && std::env::var_os("KUBECONFIG").is_none() && Config::incluster().is_ok() => {
            Config::incluster().map_err(|error| Error::NoCluster(one_line(&error)))?
        }
        Err(error) => return Err(no_cluster(&error)),
    };
    config.default_retry = false;
    config.connect_timeout = Some(CLUSTER_DEADLINE / 2);
    Ok(config)
}

fn no_cluster(error: &KubeconfigError) -> Error {
    Error::NoCluster(one_line(error))
}

/// The innermost reason of an error, in one line.
fn one_line(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
