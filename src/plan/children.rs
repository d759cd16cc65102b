//! The objects behind a pipeline, as rows of a plan.

use serde_json::Value;

use super::report::Child;
use crate::api::labels;
use crate::controller::pipeline::build::Desired;

/// The objects that the operator would apply, in its order.
pub(super) fn children(desired: &Desired) -> Vec<Child> {
    let accounts = desired.accounts.iter().map(|child| child_of("ServiceAccount", child));
    let services = desired.services.iter().map(|child| child_of("Service", child));
    let budgets = desired
        .budgets
        .iter()
        .map(|child| child_of("PodDisruptionBudget", child));
    let deployments = desired
        .deployments
        .iter()
        .map(|(child, _)| child_of("Deployment", child));
    accounts.chain(services).chain(budgets).chain(deployments).collect()
}

fn child_of<K: serde::Serialize + kube::ResourceExt>(kind: &str, child: &K) -> Child {
    let manifest = serde_json::to_value(child).unwrap_or_default();
    let mut body = manifest.clone();
    // Replicas are told as rows; they are the rebalancer's.
    if let Some(spec) = body.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("replicas");
    }
    Child {
        kind: kind.to_owned(),
        name: child.meta().name.clone().unwrap_or_default(),
        stage: child.labels().get(labels::STAGE).cloned().unwrap_or_default(),
        template: manifest
            .pointer("/spec/template")
            .map(ToString::to_string)
            .unwrap_or_default(),
        body: body.to_string(),
        manifest,
    }
}
