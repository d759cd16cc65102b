//! What one replica costs, worked out from cluster objects alone: its largest share of a node's allocatable resources,
//! times the node's price.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A decimal string such as `0.6528` in millionths; `None` if it is none.
pub(super) fn micros(decimal: &str) -> Option<i64> {
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    let digits = format!("{fraction:0<6}");
    let fraction: i64 = digits.get(..6)?.parse().ok()?;
    whole.parse::<i64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction)
}

/// Millionths of a dollar per hour for one replica, on the dearest of the nodes that its affinity admits; `None` if there
/// is no such node. `price` is millionths per node and hour.
pub(super) fn per_replica(deployment: &Deployment, nodes: &[Arc<Node>], price: i64) -> Option<i64> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    let requests = requests(pod);
    let admitted = nodes.iter().filter(|node| admits(pod, node));
    admitted.filter_map(|node| share_of(&requests, node, price)).max()
}

fn share_of(requests: &BTreeMap<String, i128>, node: &Node, price: i64) -> Option<i64> {
    let allocatable = node.status.as_ref()?.allocatable.as_ref()?;
    let costs = requests.iter().map(|(resource, requested)| {
        let available = allocatable
            .get(resource)
            .and_then(millis)
            .filter(|available| *available > 0)?;
        i64::try_from(requested * i128::from(price) / available).ok()
    });
    costs.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// Thousandths of each resource that the pod requests; extended resources may be given as limits only.
fn requests(pod: &PodSpec) -> BTreeMap<String, i128> {
    let mut sums = BTreeMap::new();
    for resources in pod
        .containers
        .iter()
        .filter_map(|container| container.resources.as_ref())
    {
        let mut own: BTreeMap<_, _> = resources.limits.iter().flatten().collect();
        own.extend(resources.requests.iter().flatten());
        for (resource, quantity) in own {
            *sums.entry(resource.clone()).or_default() += millis(quantity).unwrap_or_default();
        }
    }
    sums
}

/// A quantity in thousandths, rounded down.
fn millis(quantity: &Quantity) -> Option<i128> {
    let text = quantity.0.trim();
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(split)?;
    let binary = |power: u32| (1024_i128.pow(power), 1);
    let (factor, divisor) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        _ => return None,
    };
    Some(i128::from(micros(number)?) * factor / divisor / 1000)
}

fn admits(pod: &PodSpec, node: &Node) -> bool {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let selected = pod
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let required = pod.affinity.as_ref().and_then(|affinity| {
        affinity
            .node_affinity
            .as_ref()?
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    selected
        && required.is_none_or(|required| {
            let terms = required.node_selector_terms.iter();
            let mut terms = terms.map(|term| term.match_expressions.iter().flatten());
            terms.any(|mut expressions| expressions.all(|expression| matches(expression, labels)))
        })
}

fn matches(expression: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&expression.key);
    let listed = |value: &String| expression.values.iter().flatten().any(|wanted| wanted == value);
    match expression.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        operator @ ("Gt" | "Lt") => {
            let bound = expression
                .values
                .iter()
                .flatten()
                .next()
                .and_then(|bound| bound.parse::<i64>().ok());
            let value = value.and_then(|value| value.parse::<i64>().ok());
            bound
                .zip(value)
                .is_some_and(|(bound, value)| if operator == "Gt" { value > bound } else { value < bound })
        }
        _ => false,
    }
}
