//! Metadata of children: labels, selectors, the owner reference.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::super::validated::{PipelineId, StagePool, ValidatedPipeline, ValidatedStage};
use crate::api::{GROUP, VERSION, labels, names};

type Labels = BTreeMap<String, String>;

fn with<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Labels of everything that belongs to a pipeline.
pub(super) fn pipeline_labels(id: &PipelineId) -> Labels {
    with([
        (labels::MANAGED_BY, labels::MANAGER),
        (labels::PART_OF, &id.name),
        (labels::PIPELINE, &id.name),
    ])
}

/// Labels of everything that belongs to a stage.
pub(super) fn stage_labels(id: &PipelineId, stage: &ValidatedStage) -> Labels {
    let mut all = pipeline_labels(id);
    all.extend(with([
        (labels::COMPONENT, &stage.name),
        (labels::STAGE, &stage.name),
        (labels::STAGE_KIND, stage.kind.as_str()),
        (labels::STAGE_ID, &names::stage_id(&id.uid, &stage.name)),
    ]));
    all
}

/// Labels of a Deployment and its pods.
pub(super) fn variant_labels(id: &PipelineId, stage: &ValidatedStage, pool: &StagePool) -> Labels {
    let mut all = stage_labels(id, stage);
    all.extend(with([(labels::POOL, &pool.pool)]));
    all.extend(variant_selector(id, stage, &pool.pool));
    if let Some(profile) = pool.fit.as_ref().and_then(|fit| fit.profile.as_deref()) {
        all.extend(with([(labels::PROFILE, profile)]));
    }
    all
}

/// Selector of a Deployment: immutable after creation, so built from identity alone.
pub(super) fn variant_selector(id: &PipelineId, stage: &ValidatedStage, pool: &str) -> Labels {
    with([(labels::VARIANT_ID, &names::variant_id(&id.uid, &stage.name, pool))])
}

/// Selector of a stage's pods on all pools.
pub(super) fn stage_selector(id: &PipelineId, stage: &ValidatedStage) -> Labels {
    with([(labels::STAGE_ID, &names::stage_id(&id.uid, &stage.name))])
}

/// Metadata of a child in the pipeline's namespace, owned by it.
pub(super) fn child(id: &PipelineId, name: String, labels: Labels) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(id.namespace.clone()),
        labels: Some(labels),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: "TieredPipeline".to_owned(),
            name: id.name.clone(),
            uid: id.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

/// The account that the pipeline's pods run as: no rights, no token.
pub(super) fn account(pipeline: &ValidatedPipeline) -> ServiceAccount {
    let id = &pipeline.id;
    ServiceAccount {
        metadata: child(id, names::service_account(&id.name, &id.uid), pipeline_labels(id)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
