//! `tiercel explain`: why a pipeline is where it is. The operator is asked for what it goes by at this moment; where it cannot
//! be reached, the pipeline's status says what was learned and decided, and one line why the rest is missing.

mod pool;
mod recorded;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::asking::{self, Reach};
use super::cluster::{self, Target, is_name, others};
use super::print::{self, Format};
use crate::api::TieredPipeline;
use crate::explain::Document;
use crate::view::asked::{Asked, asked};

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
    #[command(flatten)]
    target: Target,
    /// `text`, `json` or `yaml`.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    reach: Reach,
}

/// Nothing can be explained. Each kind has an exit code of its own, see [`Error::code`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for cannot be understood.
    #[error("{0}")]
    Usage(String),
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
    /// The cluster does not show the pipeline.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The answer cannot be printed.
    #[error(transparent)]
    Print(#[from] print::Error),
}

impl Error {
    /// 2 for arguments, 3 for what does not exist, otherwise what [`cluster::Error::code`] says.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::UnknownStage { .. } | Self::UnknownPool { .. } => 3,
            Self::Cluster(error) => error.code(),
            Self::Print(_) => 1,
        }
    }
}

/// What is printed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explained {
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
    let explained = print::wait(explain(arguments))?;
    let printed = match arguments.output.document(&explained)? {
        Some(document) => document,
        None if arguments.pool.is_some() => pool::render(&explained),
        None => text::render(&explained),
    };
    Ok(print::write(&printed)?)
}

async fn explain(arguments: &Arguments) -> Result<Explained, Error> {
    let subject = Subject::parse(&arguments.name, arguments.stage.as_deref())?;
    let direct = arguments
        .reach
        .direct()
        .map_err(|wrong| Error::Usage(wrong.to_string()))?;
    let cluster = arguments.target.connect().await?;
    let pipeline = cluster.pipeline(&subject.name).await?;
    if let Some(stage) = &subject.stage
        && !pipeline.spec.stages.iter().any(|known| known.name == *stage)
    {
        return Err(Error::UnknownStage {
            stage: stage.clone(),
            pipeline: subject.name,
            known: pipeline.spec.stages.iter().map(|stage| stage.name.clone()).collect(),
        });
    }
    arguments.reach.installed.warn(&cluster).await;
    let namespace = cluster.namespace;
    let operator = direct.unwrap_or_else(|| arguments.reach.behind(cluster.client));
    let explained = of_pipeline(&operator, &namespace, &subject.name, &pipeline).await;
    let explained = explained.of(subject.stage.as_deref());
    match &arguments.pool {
        Some(pool) => explained.on(pool),
        None => Ok(explained),
    }
}

/// Why one pipeline is where it is, as far as the operator can be asked.
pub(super) async fn of_pipeline(
    operator: &asking::Operator,
    namespace: &str,
    name: &str,
    pipeline: &TieredPipeline,
) -> Explained {
    let live = operator.ask(namespace, name).await;
    joined(live, recorded::document(namespace, name, pipeline))
}

/// What `why` says of a document in sentences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sentences {
    /// How far the joint plan is from the best one; absent where the operator was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
    /// Of each stage, by name: what is needed and what decides.
    headlines: BTreeMap<String, String>,
    /// Of each reason: what shaped the plan.
    reasons: BTreeMap<String, &'static str>,
}

impl Explained {
    /// Why the operator was not asked.
    pub(super) fn unreached(&self) -> Option<&str> {
        self.unreached.as_deref()
    }

    /// The same as `why` prints it.
    pub(super) fn sentences(&self) -> Sentences {
        let stages = || self.document.stages.iter().filter(|_| self.live);
        let reasons = stages().filter_map(|stage| stage.reason.clone());
        Sentences {
            proof: self.live.then(|| text::proof(self.document.gap_percent)),
            headlines: stages()
                .map(|stage| (stage.name.clone(), text::headline(stage)))
                .collect(),
            reasons: reasons
                .map(|reason| {
                    let words = shaped(&reason);
                    (reason, words)
                })
                .collect(),
        }
    }
}

impl Explained {
    /// What of it is shown beside the status.
    pub(super) fn asked(&self) -> Asked {
        asked(&self.document)
    }
}

/// What shaped a plan or decision, in a few words.
pub(super) fn shaped(reason: &str) -> &'static str {
    text::shaped(reason)
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
