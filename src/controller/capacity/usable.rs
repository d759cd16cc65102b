//! Whether a node can take replicas, and if not, why.

use std::{collections::BTreeMap, fmt};

use crate::api::compute_pool::{Architecture, ComputePoolSpec, TaintEffect, Toleration, TolerationOperator};
use crate::api::labels;
use crate::controller::view::{Effect, NodeView, Taint};

/// Taints of nodes that are leaving or not there yet. No toleration makes such a node a place to stay.
const LEAVING: [&str; 6] = [
    "karpenter.sh/disrupted",
    "karpenter.sh/unregistered",
    "ToBeDeletedByClusterAutoscaler",
    "node.kubernetes.io/unschedulable",
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];

/// Why a node that belongs to the pool gives no capacity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetAside {
    /// It is being deleted.
    Deleting,
    /// Somebody cordoned it.
    Cordoned,
    /// It carries a taint of nodes that leave or have not arrived.
    Leaving {
        /// The taint's key.
        taint: String,
    },
    /// It is not Ready.
    NotReady,
    /// Its label does not say the architecture that the pool declares, which replicas insist on.
    OtherArchitecture {
        /// What the label says; empty without one.
        label: String,
    },
    /// It carries a taint that the pool does not tolerate.
    NotTolerated {
        /// The taint as `key=value:effect`.
        taint: String,
    },
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deleting => f.write_str("being deleted"),
            Self::Cordoned => f.write_str("cordoned"),
            Self::Leaving { taint } => write!(f, "leaving or not there yet (taint '{taint}')"),
            Self::NotReady => f.write_str("not Ready"),
            Self::OtherArchitecture { label } => {
                write!(
                    f,
                    "with label '{}={label}', not the declared `architecture`",
                    labels::ARCHITECTURE
                )
            }
            Self::NotTolerated { taint } => write!(f, "with taint '{taint}' that `tolerations` does not name"),
        }
    }
}

/// Why the node gives no capacity; `None` if it does. What will not pass by itself is named first.
pub(super) fn set_aside(node: &NodeView, spec: &ComputePoolSpec) -> Option<SetAside> {
    if node.metadata.deletion_timestamp.is_some() {
        return Some(SetAside::Deleting);
    }
    if node.spec.unschedulable {
        return Some(SetAside::Cordoned);
    }
    if let Some(taint) = node.spec.taints.iter().find(|taint| LEAVING.contains(&&*taint.key)) {
        return Some(SetAside::Leaving {
            taint: taint.key.to_string(),
        });
    }
    if let Some(label) = other_architecture(node, spec) {
        return Some(SetAside::OtherArchitecture { label });
    }
    if !node.status.ready {
        return Some(SetAside::NotReady);
    }
    let refused = node
        .spec
        .taints
        .iter()
        .filter(|taint| taint.effect != Effect::PreferNoSchedule);
    let mut refused = refused.filter(|taint| !tolerated(spec, taint));
    refused
        .next()
        .map(|taint| SetAside::NotTolerated { taint: spelled(taint) })
}

/// Replicas require the declared architecture by label, unless the pool's own requirements already speak of it.
fn other_architecture(node: &NodeView, spec: &ComputePoolSpec) -> Option<String> {
    let named = spec.node_selector.contains_key(labels::ARCHITECTURE)
        || spec
            .match_expressions
            .iter()
            .any(|expression| expression.key == labels::ARCHITECTURE);
    let declared = spec.architecture.filter(|_| !named)?;
    let label = node
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(labels::ARCHITECTURE));
    (label.map(String::as_str) != Some(declared.as_str())).then(|| label.cloned().unwrap_or_default())
}

/// As the replicas will: the pool's tolerations, and on Arm pools the customary taint of Arm nodes.
fn tolerated(spec: &ComputePoolSpec, taint: &Taint) -> bool {
    let named = spec
        .tolerations
        .iter()
        .any(|toleration| toleration.key == labels::ARCHITECTURE);
    let customary = spec.architecture == Some(Architecture::Arm64)
        && !named
        && *taint.key == *labels::ARCHITECTURE
        && *taint.value == *Architecture::Arm64.as_str()
        && taint.effect == Effect::NoSchedule;
    customary || spec.tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = match toleration.effect {
        None => true,
        Some(TaintEffect::NoSchedule) => taint.effect == Effect::NoSchedule,
        Some(TaintEffect::PreferNoSchedule) => taint.effect == Effect::PreferNoSchedule,
        Some(TaintEffect::NoExecute) => taint.effect == Effect::NoExecute,
    };
    let value = match toleration.operator {
        TolerationOperator::Exists => true,
        TolerationOperator::Equal => toleration.value.as_deref().unwrap_or_default() == &*taint.value,
    };
    effect && value && toleration.key == *taint.key
}

fn spelled(taint: &Taint) -> String {
    let effect = match taint.effect {
        Effect::PreferNoSchedule => TaintEffect::PreferNoSchedule,
        Effect::NoExecute => TaintEffect::NoExecute,
        Effect::NoSchedule => TaintEffect::NoSchedule,
    };
    let equals = if taint.value.is_empty() { "" } else { "=" };
    format!("{}{equals}{}:{}", taint.key, taint.value, effect.as_str())
}

/// How many nodes are set aside for which reason, as part of a sentence: `2 cordoned, 1 not Ready`. Bounded.
pub fn summary<'a>(reasons: impl IntoIterator<Item = &'a SetAside>) -> String {
    const SHOWN: usize = 4;
    let mut counts: BTreeMap<&SetAside, u32> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<String> = counts
        .iter()
        .take(SHOWN)
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    let rest: u32 = counts.values().skip(SHOWN).sum();
    if rest > 0 {
        parts.push(format!("{rest} for other reasons"));
    }
    parts.join(", ")
}
