//! Where pods may run: the pool's nodes and no others.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Toleration,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::compute_pool::{Architecture, ComputePoolSpec, TolerationOperator};
use crate::api::labels;

/// Required node affinity: every label of the pool, and its architecture where that is known.
pub(in crate::controller) fn require(spec: &ComputePoolSpec) -> Affinity {
    let requirement = |key: &str, operator: &str, values: Vec<String>| NodeSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: (!values.is_empty()).then_some(values),
    };
    let mut requirements: Vec<NodeSelectorRequirement> = spec
        .node_selector
        .iter()
        .map(|(key, value)| requirement(key, "In", vec![value.clone()]))
        .collect();
    requirements.extend(
        spec.match_expressions
            .iter()
            .map(|expression| requirement(&expression.key, expression.operator.as_str(), expression.values.clone())),
    );
    let names_architecture = requirements
        .iter()
        .any(|requirement| requirement.key == labels::ARCHITECTURE);
    // Only what the pool declares: what was read from nodes may change, and a change would restart every pod.
    if let Some(architecture) = spec.architecture.filter(|_| !names_architecture) {
        requirements.push(requirement(
            labels::ARCHITECTURE,
            "In",
            vec![architecture.as_str().to_owned()],
        ));
    }
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![NodeSelectorTerm {
                    match_expressions: Some(requirements),
                    ..NodeSelectorTerm::default()
                }],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// The pool's tolerations, and the customary one of Arm nodes.
pub(in crate::controller) fn tolerations(spec: &ComputePoolSpec) -> Vec<Toleration> {
    let mut all: Vec<Toleration> = spec
        .tolerations
        .iter()
        .map(|toleration| Toleration {
            key: Some(toleration.key.clone()),
            operator: Some(
                match toleration.operator {
                    TolerationOperator::Exists => "Exists",
                    TolerationOperator::Equal => "Equal",
                }
                .to_owned(),
            ),
            value: toleration.value.clone(),
            effect: toleration.effect.map(|effect| effect.as_str().to_owned()),
            ..Toleration::default()
        })
        .collect();
    let names_architecture = all
        .iter()
        .any(|toleration| toleration.key.as_deref() == Some(labels::ARCHITECTURE));
    if spec.architecture == Some(Architecture::Arm64) && !names_architecture {
        all.push(Toleration {
            key: Some(labels::ARCHITECTURE.to_owned()),
            operator: Some("Equal".to_owned()),
            value: Some(Architecture::Arm64.as_str().to_owned()),
            effect: Some("NoSchedule".to_owned()),
            ..Toleration::default()
        });
    }
    all
}

/// Soft spread over nodes and zones: better apart, never unschedulable for it.
pub(super) fn spread(selector: &LabelSelector) -> Vec<TopologySpreadConstraint> {
    [labels::HOSTNAME, labels::ZONE]
        .map(|key| TopologySpreadConstraint {
            max_skew: 1,
            topology_key: key.to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(selector.clone()),
            ..TopologySpreadConstraint::default()
        })
        .into()
}
