//! I/O: the one write of the rebalancer, `spec.replicas` through `/scale`.
//!
//! Short deadline, no retry by the client: whatever fails is decided anew from what is true then.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};

use super::super::spans;
use crate::api::labels;

/// Deadline of one write.
const DEADLINE: Duration = Duration::from_secs(5);
/// Tries against a version that moved on although the replicas did not (status updates move it all the time).
const TRIES_MAX: usize = 4;

/// One write.
#[derive(Clone, Debug)]
pub struct Write {
    /// Namespace and name of the Deployment.
    pub child: (String, String),
    /// What it asks for, as far as we know.
    pub from: u32,
    /// What it shall ask for.
    pub to: u32,
    /// Version to write against.
    pub resource_version: String,
    /// When the newest signal behind it was received; absent where no signal caused it.
    pub sampled_ms: Option<u64>,
}

impl Write {
    /// It takes the field over with the value that is there.
    pub const fn is_claim(&self) -> bool {
        self.from == self.to
    }
}

/// What became of a write.
#[derive(Debug)]
pub enum Outcome {
    /// Written: the version that resulted.
    Written(String),
    /// The replicas were not what we thought: these, at this version.
    Moved(u32, String),
    /// The Deployment is gone.
    Gone,
    /// Refused, unreachable or too slow; nothing is known of the replicas.
    Failed(String),
}

impl Outcome {
    /// Tells the current span.
    pub fn trace(&self) {
        let word = match self {
            Self::Written(_) => "written",
            Self::Moved(..) => "moved",
            Self::Gone => "gone",
            Self::Failed(message) => {
                spans::failed(message);
                "failed"
            }
        };
        tracing::Span::current().record("tiercel.outcome", word);
    }
}

/// Writes replicas where they still are what the decision took them for.
pub async fn scale(client: &Client, write: &Write) -> Outcome {
    let (namespace, name) = &write.child;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let mut version = write.resource_version.clone();
    for _ in 0..TRIES_MAX {
        match apply(&deployments, name, write.to, version).await {
            Applied::Done(outcome) => return outcome,
            Applied::Stale => match read(&deployments, name).await {
                Ok((replicas, seen)) if replicas == write.from => version = seen,
                Ok((replicas, seen)) => return Outcome::Moved(replicas, seen),
                Err(outcome) => return outcome,
            },
        }
    }
    Outcome::Failed("the Deployment changes faster than it can be written".to_owned())
}

/// Claims `spec.replicas` with the value that is there.
pub async fn claim(client: &Client, write: &Write) -> Outcome {
    let (namespace, name) = &write.child;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    match apply(&deployments, name, write.to, write.resource_version.clone()).await {
        Applied::Done(outcome) => outcome,
        Applied::Stale => match read(&deployments, name).await {
            Ok((replicas, version)) => Outcome::Moved(replicas, version),
            Err(outcome) => outcome,
        },
    }
}

enum Applied {
    Done(Outcome),
    /// The Deployment is at another version.
    Stale,
}

/// One apply of a Scale against a version.
///
/// An apply and not a merge patch: the server leaves 0 out of a Scale, and after a merge patch to 0 nobody would own the
/// field. Forced for the same reason: it sees a conflict where there is none; the version makes sure that nobody's change
/// is overwritten.
async fn apply(deployments: &Api<Deployment>, name: &str, replicas: u32, version: String) -> Applied {
    let body = Scale {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: Some(version),
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec {
            replicas: Some(i32::try_from(replicas).unwrap_or(i32::MAX)),
        }),
        status: None,
    };
    let params = PatchParams::apply(labels::REBALANCER_FIELD_MANAGER).force();
    let patch = Patch::Apply(&body);
    Applied::Done(
        match tokio::time::timeout(DEADLINE, deployments.patch_scale(name, &params, &patch)).await {
            Err(_) => Outcome::Failed(too_slow()),
            Ok(Ok(scale)) => Outcome::Written(scale.metadata.resource_version.unwrap_or_default()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Outcome::Gone,
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => return Applied::Stale,
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
        },
    )
}

fn too_slow() -> String {
    format!(
        "no answer within {}s: the API server is slow, or has asked for a pause",
        DEADLINE.as_secs()
    )
}

async fn read(deployments: &Api<Deployment>, name: &str) -> Result<(u32, String), Outcome> {
    match tokio::time::timeout(DEADLINE, deployments.get_scale(name)).await {
        Err(_) => Err(Outcome::Failed(too_slow())),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(Outcome::Gone),
        Ok(Err(error)) => Err(Outcome::Failed(error.to_string())),
        Ok(Ok(scale)) => {
            // An absent number in a Scale is 0: the field is left out when it is.
            let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or_default();
            Ok((
                u32::try_from(replicas).unwrap_or_default(),
                scale.metadata.resource_version.unwrap_or_default(),
            ))
        }
    }
}
