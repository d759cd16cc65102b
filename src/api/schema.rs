//! From what the derive prints to what a reader of a CRD expects.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

/// Makes a derived definition conventional: no titles, no `nullable`, no number formats beyond the API's own, whole numbers
/// as bounds, and the bounds that `metav1.Condition` documents but its Rust type does not carry.
///
/// # Errors
/// When the result is not a definition any more; a defect, caught by a test.
pub fn normalise(crd: CustomResourceDefinition) -> Result<CustomResourceDefinition, serde_json::Error> {
    let mut value = serde_json::to_value(crd)?;
    if let Some(versions) = value.pointer_mut("/spec/versions").and_then(Value::as_array_mut) {
        for version in versions {
            if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
                tidy(schema);
                describe_root(schema);
            }
        }
    }
    serde_json::from_value(value)
}

/// Everything below here is about one schema node and its children.
fn tidy(node: &mut Value) {
    let Value::Object(schema) = node else { return };
    schema.remove("title");
    schema.remove("nullable");
    if schema
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| !matches!(format, "int32" | "int64"))
    {
        schema.remove("format");
    }
    if schema.get("format").and_then(Value::as_str) == Some("int64") && schema.contains_key("maximum") {
        // A bound below 2^53 says more than the width.
        schema.remove("format");
    }
    for bound in ["minimum", "maximum"] {
        if let Some(number) = schema.get(bound).and_then(Value::as_f64) {
            schema.insert(bound.to_owned(), Value::from(whole(number)));
        }
    }
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    if is_condition(schema) {
        bound_condition(schema);
    }
    for key in ["properties", "items", "additionalProperties"] {
        match (key, schema.get_mut(key)) {
            ("properties", Some(Value::Object(properties))) => properties.values_mut().for_each(tidy),
            (_, Some(child)) => tidy(child),
            _ => {}
        }
    }
}

/// JSON writes every number of a derived schema as a float; all of ours are whole.
#[expect(clippy::cast_possible_truncation, reason = "bounds are whole numbers within 2^53")]
const fn whole(number: f64) -> i64 {
    number as i64
}

fn is_condition(schema: &Map<String, Value>) -> bool {
    let Some(Value::Object(properties)) = schema.get("properties") else {
        return false;
    };
    ["lastTransitionTime", "reason", "status", "type", "message"]
        .iter()
        .all(|name| properties.contains_key(*name))
}

/// Bounds and patterns of `k8s.io/apimachinery` `metav1.Condition`.
fn bound_condition(schema: &mut Map<String, Value>) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    let bounds = [
        (
            "lastTransitionTime",
            "When the status last changed, RFC 3339.",
            json!({"maxLength": 40}),
        ),
        (
            "message",
            "Why, for a person, with what to do.",
            json!({"maxLength": 32768}),
        ),
        (
            "observedGeneration",
            "Generation of the spec that the condition is about.",
            json!({"minimum": 0, "maximum": 9_007_199_254_740_991_i64}),
        ),
        (
            "reason",
            "Why, as one word in CamelCase.",
            json!({"minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"}),
        ),
        (
            "status",
            "Whether it holds: `True`, `False` or `Unknown`.",
            json!({"maxLength": 7, "enum": ["True", "False", "Unknown"]}),
        ),
        (
            "type",
            "Name of the condition, such as `Ready`.",
            json!({"maxLength": 316}),
        ),
    ];
    for (name, description, bound) in bounds {
        if let (Some(Value::Object(property)), Value::Object(bound)) = (properties.get_mut(name), bound) {
            property.extend(bound);
            property.insert("description".to_owned(), Value::from(description));
        }
    }
}

/// `kubectl explain` shows these first.
fn describe_root(schema: &mut Value) {
    for (name, text) in [
        ("spec", "What is wanted."),
        (
            "status",
            "What is known. Written by tiercel; anything written here by others is overwritten.",
        ),
    ] {
        if let Some(Value::Object(node)) = schema.pointer_mut(&format!("/properties/{name}")) {
            node.insert("description".to_owned(), Value::from(text));
        }
    }
}
