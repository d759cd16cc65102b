//! The Deployment of one stage on one pool.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::super::validated::{Fit, StagePool, ValidatedPipeline, ValidatedStage};
use super::{meta, pod};

/// ReplicaSets kept for a roll-back.
const REVISIONS: i32 = 3;

/// The Deployment of one stage on one pool. Same input, same bytes.
pub(super) fn deployment(
    pipeline: &ValidatedPipeline,
    stage: &ValidatedStage,
    pool: &StagePool,
    fit: &Fit,
) -> Deployment {
    let labels = meta::variant_labels(&pipeline.id, stage, pool);
    let selector = LabelSelector {
        match_labels: Some(meta::variant_selector(&pipeline.id, stage, &pool.pool)),
        ..LabelSelector::default()
    };
    Deployment {
        metadata: meta::child(&pipeline.id, pool.child.clone(), labels.clone()),
        spec: Some(DeploymentSpec {
            // None once the rebalancer owns the field: the claim is given up, not the value.
            replicas: pool.claim.to_send(),
            revision_history_limit: Some(REVISIONS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod::spec(pipeline, stage, pool, fit, &selector)),
            },
            selector,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}
