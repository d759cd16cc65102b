//! `tiercel pause` and `tiercel resume`: the break-glass annotation, which goes before `spec.mode` and before whatever a tool
//! applies from git, because it is no field of the spec.

#[cfg(test)]
mod tests;

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::cluster::{self, Cluster, Target};
use super::operator::Installed;
use super::print;
use crate::api::tiered_pipeline::Mode;
use crate::api::{TieredPipeline, labels};
use crate::view::facts::Pause;

/// Who annotates, for `managedFields`.
const MANAGER: &str = "kubectl-tiercel";
/// Attempts while others write the same pipeline.
const ATTEMPTS: u32 = 5;

/// Arguments of `tiercel pause` and `tiercel resume`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The pipeline.
    #[arg(value_name = "NAME")]
    name: String,
    /// Only shrinking.
    #[arg(long)]
    scale_in: bool,
    /// Only growing.
    #[arg(long)]
    scale_out: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    installed: Installed,
}

/// The pipeline is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster does not show it, or does not take the change.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Others write it all the time.
    #[error("others keep changing pipeline '{0}': nothing was changed; try again")]
    Contended(String),
    /// The answer cannot be printed.
    #[error(transparent)]
    Print(#[from] print::Error),
}

impl Error {
    /// What [`cluster::Error::code`] says.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Cluster(error) => error.code(),
            Self::Contended(_) | Self::Print(_) => 1,
        }
    }
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Nothing more is decided.
    Pause,
    /// Decisions go on.
    Resume,
}

impl Direction {
    /// What is paused afterwards. Without a direction both are meant.
    const fn after(self, before: Pause, scale_in: bool, scale_out: bool) -> Pause {
        let both = !scale_in && !scale_out;
        let (scale_in, scale_out) = (scale_in || both, scale_out || both);
        match self {
            Self::Pause => Pause {
                scale_in: before.scale_in || scale_in,
                scale_out: before.scale_out || scale_out,
            },
            Self::Resume => Pause {
                scale_in: before.scale_in && !scale_in,
                scale_out: before.scale_out && !scale_out,
            },
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the cluster does not take the change.
pub fn run(arguments: &Arguments, direction: Direction) -> Result<(), Error> {
    print::wait(async {
        let cluster = arguments.target.connect().await?;
        let said = change(&cluster, arguments, direction).await?;
        arguments.installed.warn(&cluster).await;
        Ok(print::write(&format!("{said}\n"))?)
    })
}

/// Reads, changes, and writes only what was read.
async fn change(cluster: &Cluster, arguments: &Arguments, direction: Direction) -> Result<String, Error> {
    let name = &arguments.name;
    let api: Api<TieredPipeline> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    for _ in 0..ATTEMPTS {
        let pipeline = cluster.pipeline(name).await?;
        let before = Pause::of(&pipeline);
        let after = direction.after(before, arguments.scale_in, arguments.scale_out);
        if before == after {
            return Ok(said(&pipeline, after, false));
        }
        let patch = json!({"metadata": {
            "resourceVersion": pipeline.metadata.resource_version,
            "annotations": {labels::PAUSE: after.annotation()},
        }});
        match api.patch_metadata(name, &params, &Patch::Merge(&patch)).await {
            Ok(_) => return Ok(said(&pipeline, after, true)),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                let right = "patch tieredpipelines in this namespace";
                return Err(cluster.told(&error, &format!("pipeline '{name}'"), right).into());
            }
        }
    }
    Err(Error::Contended(name.clone()))
}

/// What holds now.
fn said(pipeline: &TieredPipeline, now: Pause, changed: bool) -> String {
    let name = pipeline.metadata.name.as_deref().unwrap_or_default();
    let already = if changed { "" } else { "already " };
    let mode = pipeline.spec.mode;
    match now.annotation() {
        Some("all") => format!("pipeline '{name}' is {already}paused: replicas stay as they are; `resume` ends it"),
        Some("scale-in") => format!("pipeline '{name}' {already}does not shrink any more; it still grows"),
        Some(_) => format!("pipeline '{name}' {already}does not grow any more; it still shrinks"),
        None if mode == Mode::Paused => {
            format!("pipeline '{name}' has no pause by annotation, but `spec.mode` is Paused: nothing is decided")
        }
        None if mode == Mode::Advisory => {
            format!("pipeline '{name}' is not {already}paused; `spec.mode` is Advisory: no replicas are written")
                .replace("not already paused", "not paused")
        }
        None if changed => format!("pipeline '{name}' goes on: it grows and shrinks"),
        None => format!("pipeline '{name}' is not paused"),
    }
}
