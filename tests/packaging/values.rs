//! The chart's values: every key explained, every key in the schema, no unknown key let through.

use serde_json::Value;

use crate::programs::{documents, read};

/// Keys whose content is a Kubernetes type or the user's own: their shape is the API server's to check.
fn is_opaque(schema: &Value) -> bool {
    schema.get("properties").is_none()
}

/// Walks values and schema together and reports what does not match.
fn compare(path: &str, values: &Value, schema: &Value, faults: &mut Vec<String>) {
    let Some(values) = values.as_object() else { return };
    if is_opaque(schema) {
        return;
    }
    if path != "global" && schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        faults.push(format!("schema of '{path}' lets unknown keys through"));
    }
    let properties = schema["properties"].as_object().unwrap();
    let join = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    for (key, value) in values {
        match properties.get(key) {
            Some(schema) => compare(&join(key), value, schema, faults),
            None => faults.push(format!("'{}' is not in the schema", join(key))),
        }
    }
    for key in properties.keys().filter(|key| !values.contains_key(*key)) {
        faults.push(format!("'{}' is in the schema only", join(key)));
    }
}

#[test]
fn values_and_schema_have_the_same_keys_and_no_others_pass() {
    let values = documents(&read("charts/tiercel/values.yaml")).remove(0);
    let schema: Value = serde_json::from_str(&read("charts/tiercel/values.schema.json")).unwrap();
    let mut faults = Vec::new();
    compare("", &values, &schema, &mut faults);
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Lines of values.yaml that set a value of ours without a `# --` comment above them.
fn undocumented(text: &str, schema: &Value) -> Vec<String> {
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut explained = false;
    let mut faults = Vec::new();
    for line in text.lines() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if content.starts_with('#') {
            explained |= content.starts_with("# --");
            continue;
        }
        let Some((key, _)) = content.split_once(':') else {
            explained = false;
            continue;
        };
        path.retain(|(outer, _)| *outer < indent);
        path.push((indent, key.to_owned()));
        let mut node = schema;
        let known = path.iter().all(|(_, key)| {
            node = &node["properties"][key.as_str()];
            !node.is_null()
        });
        // A group of ours is explained by its members, the inside of a Kubernetes type by the API reference.
        if known && is_opaque(node) && !explained {
            faults.push(path.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join("."));
        }
        explained = false;
    }
    faults
}

#[test]
fn every_value_says_what_it_is() {
    let schema: Value = serde_json::from_str(&read("charts/tiercel/values.schema.json")).unwrap();
    assert_eq!(
        undocumented(&read("charts/tiercel/values.yaml"), &schema),
        Vec::<String>::new()
    );
    // The check sees what it is for.
    assert_eq!(
        undocumented("log:\n  # -- How.\n  format: json\n  filter: info\n", &schema),
        ["log.filter"]
    );
}
