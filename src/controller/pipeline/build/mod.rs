//! Pure: the children of a pipeline. Same input, same bytes.

pub(in crate::controller) mod affinity;
mod deployment;
mod meta;
mod pdb;
mod pod;
mod service;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::validated::{Claim, ValidatedPipeline};
use crate::controller::live::Live;

/// The children of a pipeline, not yet written.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Namespace of all of them.
    pub namespace: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The pipeline's UID: what makes a child ours.
    pub uid: String,
    /// The account that pods run as.
    pub accounts: Vec<ServiceAccount>,
    /// One per stage with a port, and one per pool where traffic is weighted.
    pub services: Vec<Service>,
    /// One per stage where it does no harm.
    pub budgets: Vec<PodDisruptionBudget>,
    /// One per stage and pool.
    pub deployments: Vec<(Deployment, Claim)>,
    /// Names of Deployments that must stay although they are not built: stages refused, pools being left.
    pub kept: Vec<String>,
    /// Stages whose children must stay, because the stage was refused.
    pub kept_stages: Vec<String>,
}

/// The children of a pipeline.
pub fn build(pipeline: &ValidatedPipeline) -> Desired {
    let mut services = Vec::new();
    let mut budgets = Vec::new();
    let mut deployments = Vec::new();
    let mut kept = Vec::new();
    for stage in &pipeline.stages {
        services.extend(service::services(pipeline, stage));
        budgets.extend(pdb::budget(pipeline, stage));
        for pool in &stage.pools {
            match &pool.fit {
                Some(fit) => deployments.push((deployment::deployment(pipeline, stage, pool, fit), pool.claim)),
                // A pool that must be left: the Deployment goes when its last replica has.
                None if occupied(pool.live.as_deref()) => kept.push(pool.child.clone()),
                None => {}
            }
        }
    }
    Desired {
        namespace: pipeline.id.namespace.clone(),
        pipeline: pipeline.id.name.clone(),
        uid: pipeline.id.uid.clone(),
        accounts: vec![meta::account(pipeline)],
        services,
        budgets,
        deployments,
        kept,
        kept_stages: pipeline
            .refusals
            .iter()
            .filter_map(|refusal| refusal.stage.clone())
            .collect(),
    }
}

fn occupied(live: Option<&Live<Deployment>>) -> bool {
    live.is_some_and(|live| live.facts.desired > 0 || live.facts.replicas > 0)
}
