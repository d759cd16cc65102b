//! The PodDisruptionBudget of a stage, or none where it would do harm.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::validated::{ValidatedPipeline, ValidatedStage};
use super::meta;
use crate::api::names;

/// A floor of one replica with a budget would block every drain of its node for ever; a floor of two or more always
/// leaves one that may go. `maxUnavailable` follows the replicas, whatever the rebalancer makes of them.
const FLOOR_MIN: u32 = 2;

/// One replica at a time may be evicted, from floors of two on.
pub(super) fn budget(pipeline: &ValidatedPipeline, stage: &ValidatedStage) -> Option<PodDisruptionBudget> {
    if stage.min < FLOOR_MIN {
        return None;
    }
    let id = &pipeline.id;
    Some(PodDisruptionBudget {
        metadata: meta::child(
            id,
            names::stage(&id.name, &id.uid, &stage.name),
            meta::stage_labels(id, stage),
        ),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(meta::stage_selector(id, stage)),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}
