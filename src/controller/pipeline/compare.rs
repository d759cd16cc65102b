//! Pure: whether a live object already says all that is wanted of it.

use serde_json::Value;

use crate::quantity::Quantity;

/// Whether every field of `wanted` stands in `live` with the same meaning. Fields that the API server adds do not count;
/// an empty value equals an absent one, and quantities compare by size (`1000m` is stored as `1`).
pub fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, value)| {
            live.get(key)
                .map_or_else(|| is_empty(value), |live| contains(live, value))
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        (Value::String(live), Value::String(wanted)) => live == wanted || same_quantity(live, wanted),
        _ => live == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

fn same_quantity(live: &str, wanted: &str) -> bool {
    matches!((Quantity::parse(live), Quantity::parse(wanted)), (Ok(live), Ok(wanted)) if live == wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_adds_does_not_count() {
        assert!(contains(&json!({"a": 1, "defaulted": true}), &json!({"a": 1})));
    }

    #[test]
    fn what_somebody_changed_counts() {
        assert!(!contains(
            &json!({"labels": {"team": "x"}}),
            &json!({"labels": {"team": "y"}})
        ));
        assert!(!contains(&json!({"args": ["a", "b"]}), &json!({"args": ["a"]})));
        assert!(!contains(&json!({}), &json!({"args": ["a"]})));
    }

    #[test]
    fn the_servers_own_spelling_is_the_same_value() {
        assert!(contains(
            &json!({"cpu": "1", "memory": "1Gi"}),
            &json!({"cpu": "1000m", "memory": "1024Mi"})
        ));
        assert!(contains(&json!({"name": "A"}), &json!({"name": "A", "value": ""})));
        assert!(contains(&json!({"medium": ""}), &json!({"emptyDir": {}})));
        assert!(!contains(&json!({"cpu": "1"}), &json!({"cpu": "1001m"})));
    }
}
