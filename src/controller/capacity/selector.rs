//! Label selectors, with the meaning that Kubernetes gives them.

use std::collections::BTreeMap;

use crate::api::ComputePool;
use crate::api::compute_pool::{MatchExpression, NamespacesFrom, Operator};

/// Whether `labels` satisfy all of `exact` and all of `expressions`. Nothing to satisfy is satisfied.
pub fn matches(
    exact: &BTreeMap<String, String>,
    expressions: &[MatchExpression],
    labels: &BTreeMap<String, String>,
) -> bool {
    exact.iter().all(|(key, value)| labels.get(key) == Some(value))
        && expressions
            .iter()
            .all(|expression| holds(expression, labels.get(&expression.key)))
}

/// `NotIn` and `DoesNotExist` hold without the label; `Gt` and `Lt` need whole numbers on both sides.
fn holds(expression: &MatchExpression, value: Option<&String>) -> bool {
    let listed = || value.is_some_and(|value| expression.values.contains(value));
    let compare = || {
        let bound: i64 = expression.values.first()?.parse().ok()?;
        Some(value?.parse::<i64>().ok()?.cmp(&bound))
    };
    match expression.operator {
        Operator::In => listed(),
        Operator::NotIn => !listed(),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
        Operator::Gt => compare().is_some_and(std::cmp::Ordering::is_gt),
        Operator::Lt => compare().is_some_and(std::cmp::Ordering::is_lt),
    }
}

/// Whether pipelines of a namespace with these labels may use the pool. A selector that is asked for and absent admits
/// nobody.
pub fn admits(pool: &ComputePool, namespace_labels: &BTreeMap<String, String>) -> bool {
    let allowed = &pool.spec.allowed_namespaces;
    match (allowed.from, &allowed.selector) {
        (NamespacesFrom::All, _) => true,
        (NamespacesFrom::Selector, None) => false,
        (NamespacesFrom::Selector, Some(selector)) => {
            let named = !selector.match_labels.is_empty() || !selector.match_expressions.is_empty();
            named && matches(&selector.match_labels, &selector.match_expressions, namespace_labels)
        }
    }
}
