//! Labels that pick exactly the nodes of a pool.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use super::NAMED_MAX;
use super::hardware::{BOUGHT, GROUPS, Hardware, INSTANCE, PRODUCTS, TPU_TOPOLOGY, labels_of};
use crate::api::compute_pool::{MatchExpression, Operator};
use crate::api::labels;
use crate::controller::capacity::matches;

/// Label of a node's operating system.
const OS: &str = "kubernetes.io/os";
/// Label of what is behind a node on EKS, where that is no machine.
const COMPUTE_TYPE: &str = "eks.amazonaws.com/compute-type";

/// What picks the nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Picked {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) expressions: Vec<MatchExpression>,
    /// That it picks others, too.
    pub(super) note: Option<String>,
}

/// The fewest labels that tell the members from all other nodes.
pub(super) fn selector(hardware: &Hardware, members: &[&Node], nodes: &[&Node]) -> Picked {
    let mut picked = Picked::default();
    if let Some(instance) = &hardware.instance {
        picked.labels.insert(INSTANCE.to_owned(), instance.clone());
    } else {
        // A product before a group: the group is how the nodes came to be, not what they are.
        let products = PRODUCTS
            .iter()
            .filter(|(_, of)| Some(*of) == hardware.device.as_deref())
            .map(|(key, _)| *key);
        let named = products
            .chain(GROUPS)
            .find_map(|key| Some((key, common(members, key)?)));
        let (key, value) = named.unwrap_or((labels::ARCHITECTURE, hardware.architecture.as_str().to_owned()));
        picked.labels.insert(key.to_owned(), value);
    }
    for key in BOUGHT
        .iter()
        .map(|(key, _)| *key)
        .chain(hardware.topology.as_ref().map(|_| TPU_TOPOLOGY))
    {
        if let Some(value) = common(members, key) {
            picked.labels.insert(key.to_owned(), value);
        }
    }
    let is_member = |node: &Node| members.iter().any(|member| member.name_any() == node.name_any());
    let foreign = |picked: &Picked| -> Vec<&Node> {
        let picks = |node: &&Node| matches(&picked.labels, &picked.expressions, labels_of(node));
        let picked = nodes.iter().copied().filter(picks);
        picked.filter(|node| !is_member(node)).collect()
    };
    // Keys that only others have tell them apart; then values that all members share.
    let keys = || {
        let known = BOUGHT
            .iter()
            .map(|(key, _)| *key)
            .chain(PRODUCTS.iter().map(|(key, _)| *key));
        known
            .chain([INSTANCE, labels::ARCHITECTURE, OS, COMPUTE_TYPE])
            .chain(GROUPS)
    };
    for key in keys() {
        let others = foreign(&picked);
        if others.is_empty() {
            break;
        }
        let absent = members.iter().all(|node| !labels_of(node).contains_key(key));
        if absent && others.iter().any(|node| labels_of(node).contains_key(key)) {
            picked.expressions.push(MatchExpression {
                key: key.to_owned(),
                operator: Operator::DoesNotExist,
                values: Vec::new(),
            });
        } else if let Some(value) = common(members, key)
            && others.iter().any(|node| labels_of(node).get(key) != Some(&value))
        {
            picked.labels.insert(key.to_owned(), value);
        }
    }
    let others = foreign(&picked);
    if !others.is_empty() {
        let shown: Vec<String> = others.iter().take(NAMED_MAX).map(|node| node.name_any()).collect();
        let more = others.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        picked.note = Some(format!(
            "no label tells these nodes from {}{more}: give them one and name it here",
            shown.join(", ")
        ));
    }
    picked
}

/// The value that all of the nodes have.
fn common(nodes: &[&Node], key: &str) -> Option<String> {
    let mut values = nodes.iter().map(|node| labels_of(node).get(key));
    let first = values.next()??;
    values.all(|value| value == Some(first)).then(|| first.clone())
}
