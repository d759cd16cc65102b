//! JSON Schemas of both kinds for editors and offline checks, from the structural schemas of the definitions.
//!
//! What only Kubernetes knows is said in JSON Schema's words where it has them (`int-or-string`, sets, fields that nobody knows),
//! told in the description where it has not (CEL rules), and left out where nobody writes it (maps that are lists).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

use super::{GROUP, VERSION};

/// The version that editors know best.
pub const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// The schema of one kind, by itself.
///
/// # Errors
/// When a definition is not JSON; a defect, caught by a test.
pub fn of_kind(definition: &CustomResourceDefinition) -> Result<Value, serde_json::Error> {
    let mut schema = body(definition)?;
    if let Some(members) = schema.as_object_mut() {
        members.insert("$schema".to_owned(), json!(DIALECT));
    }
    Ok(schema)
}

/// One schema for files that hold any of the kinds: what applies follows from `kind`.
///
/// # Errors
/// When a definition is not JSON; a defect, caught by a test.
pub fn of_all(definitions: &[CustomResourceDefinition]) -> Result<Value, serde_json::Error> {
    let mut bodies = Map::new();
    let mut choices = Vec::new();
    for definition in definitions {
        let kind = &definition.spec.names.kind;
        bodies.insert(kind.clone(), body(definition)?);
        choices.push(json!({
            "if": {"properties": {"kind": {"const": kind}}},
            "then": {"$ref": format!("#/definitions/{kind}")},
        }));
    }
    let kinds: Vec<&String> = bodies.keys().collect();
    Ok(json!({
        "$schema": DIALECT,
        "title": format!("{GROUP}/{VERSION}"),
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {"kind": {"enum": kinds}},
        "allOf": choices,
        "definitions": bodies,
    }))
}

fn body(definition: &CustomResourceDefinition) -> Result<Value, serde_json::Error> {
    let version = definition.spec.versions.first();
    let structural = version.and_then(|version| version.schema.as_ref()?.open_api_v3_schema.as_ref());
    let mut schema = serde_json::to_value(structural)?;
    plain(&mut schema);
    let kind = &definition.spec.names.kind;
    if let Some(members) = schema.as_object_mut() {
        members.insert("title".to_owned(), json!(kind));
        head(members, kind);
    }
    Ok(schema)
}

/// What every object begins with, which definitions do not repeat.
fn head(schema: &mut Map<String, Value>, kind: &str) {
    let required = schema.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut() {
        for name in ["apiVersion", "kind", "metadata"].into_iter().rev() {
            required.retain(|known| known != name);
            required.insert(0, json!(name));
        }
    }
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert("apiVersion".to_owned(), json!({"const": format!("{GROUP}/{VERSION}")}));
        properties.insert("kind".to_owned(), json!({"const": kind}));
        properties.insert(
            "metadata".to_owned(),
            json!({
                "description": "Name, namespace, labels and annotations, as of every object.",
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "namespace": {"type": "string", "maxLength": 63},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            }),
        );
        // Nobody writes a status: its default is the server's business.
        if let Some(status) = properties.get_mut("status").and_then(Value::as_object_mut) {
            status.remove("default");
        }
    }
    schema.insert("additionalProperties".to_owned(), json!(false));
}

/// A node, and those below it, in words of JSON Schema alone.
fn plain(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    for within in ["properties", "definitions"] {
        let fields = members.get_mut(within).and_then(Value::as_object_mut);
        fields.into_iter().flat_map(Map::values_mut).for_each(plain);
    }
    for within in ["items", "additionalProperties", "not"] {
        members.get_mut(within).into_iter().for_each(plain);
    }
    for within in ["allOf", "anyOf", "oneOf"] {
        let parts = members.get_mut(within).and_then(Value::as_array_mut);
        parts.into_iter().flatten().for_each(plain);
    }
    if members.remove("x-kubernetes-int-or-string") == Some(Value::Bool(true)) {
        // A structural schema says the same by two branches without types.
        members.remove("anyOf");
        members.insert("type".to_owned(), json!(["integer", "string"]));
    }
    if members.remove("nullable") == Some(Value::Bool(true))
        && let Some(known) = members.get("type").filter(|known| known.is_string()).cloned()
    {
        members.insert("type".to_owned(), json!([known, "null"]));
    }
    if members.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("set") {
        members.insert("uniqueItems".to_owned(), json!(true));
    }
    let open = members.remove("x-kubernetes-preserve-unknown-fields") == Some(Value::Bool(true));
    if members.contains_key("properties") && !members.contains_key("additionalProperties") && !open {
        // The server drops such fields, or refuses them: nobody means to write one.
        members.insert("additionalProperties".to_owned(), json!(false));
    }
    // Widths of integers are bounds here, and those are written out.
    members.retain(|key, value| key != "format" || !value.as_str().is_some_and(|format| format.starts_with("int")));
    if let Some(rules) = members.remove("x-kubernetes-validations") {
        tell(members, &rules);
    }
    members.retain(|key, _| !key.starts_with("x-kubernetes-"));
}

/// Puts into the description what only the API server checks.
fn tell(schema: &mut Map<String, Value>, rules: &Value) {
    let messages = rules.as_array().into_iter().flatten();
    let messages: Vec<&str> = messages.filter_map(|rule| rule.get("message")?.as_str()).collect();
    if messages.is_empty() {
        return;
    }
    let description = schema.entry("description").or_insert_with(|| json!(""));
    if let Value::String(text) = description {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str("Checked when it is applied: ");
        text.push_str(&messages.join("; "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::crds;
    use crate::lint::check;

    /// Every node of a schema, with its path.
    fn nodes<'a>(schema: &'a Value, path: String, found: &mut Vec<(String, &'a Map<String, Value>)>) {
        match schema {
            Value::Object(members) => {
                for (key, value) in members {
                    nodes(value, format!("{path}/{key}"), found);
                }
                found.push((path, members));
            }
            Value::Array(items) => {
                for (at, value) in items.iter().enumerate() {
                    nodes(value, format!("{path}/{at}"), found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn nothing_of_kubernetes_is_left_and_nothing_else_is_lost() {
        for definition in crds().unwrap() {
            let schema = of_kind(&definition).unwrap();
            let mut all = Vec::new();
            nodes(&schema, String::new(), &mut all);
            assert!(all.len() > 50, "{}", all.len());
            for (path, members) in &all {
                let foreign = members
                    .keys()
                    .find(|key| key.starts_with("x-kubernetes-") || *key == "nullable");
                assert_eq!(foreign, None, "{path}");
                let field =
                    path != "/properties/metadata" && path.contains("/properties") && !path.ends_with("/properties");
                assert!(
                    !field || !members.contains_key("properties") || members.contains_key("additionalProperties"),
                    "{path}"
                );
            }
            let at = |path: &str| schema.pointer(path).unwrap_or_else(|| panic!("{path}: {schema:#}"));
            assert_eq!(at("/properties/apiVersion/const"), "tiercel.dev/v1alpha1");
            assert_eq!(at("/required"), &json!(["apiVersion", "kind", "metadata", "spec"]));
            assert_eq!(at("/additionalProperties"), false);
            if definition.spec.names.kind == "TieredPipeline" {
                let stage = "/properties/spec/properties/stages/items/properties";
                assert_eq!(at(&format!("{stage}/tierHint/enum/0")), "AcceleratorRequired");
                let cpu = at(&format!(
                    "{stage}/container/properties/resources/properties/requests/additionalProperties"
                ));
                assert_eq!(cpu["type"], json!(["integer", "string"]), "{cpu:#}");
                assert_eq!(cpu.get("anyOf"), None, "{cpu:#}");
                let told = cpu["description"].as_str().unwrap();
                assert!(
                    told.contains("Checked when it is applied: must be a quantity"),
                    "{told}"
                );
            }
        }
    }

    /// What this says of a document, by the checker that `lint` has for structural schemas: bounds, types, required fields.
    fn said(schema: &Value, document: &Value) -> Vec<(String, String)> {
        let mut complaints = Vec::new();
        check(schema, &mut document.clone(), "", &mut complaints);
        complaints
    }

    #[test]
    fn every_sample_fits_and_a_broken_one_does_not() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples");
        let schemas: Vec<(String, Value)> = (crds().unwrap().iter())
            .map(|definition| (definition.spec.names.kind.clone(), of_kind(definition).unwrap()))
            .collect();
        let mut seen = 0;
        for folder in [folder.clone(), folder.join("features"), folder.join("hardware")] {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|end| end != "yaml") {
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                for document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
                    let Some((_, schema)) = schemas.iter().find(|(kind, _)| document["kind"] == **kind) else {
                        continue;
                    };
                    let none: Vec<(String, String)> = Vec::new();
                    assert_eq!(said(schema, &document), none, "{}", path.display());
                    let mut broken = document;
                    broken["spec"]["tierrr"] = json!(1);
                    assert_eq!(said(schema, &broken).len(), 1, "{}", path.display());
                    seen += 1;
                }
            }
        }
        assert!(seen > 30, "{seen}");
    }

    #[test]
    fn one_schema_for_both_kinds_leads_to_the_one_that_is_meant() {
        let schema = of_all(&crds().unwrap()).unwrap();
        assert_eq!(
            schema["properties"]["kind"]["enum"],
            json!(["ComputePool", "TieredPipeline"])
        );
        for choice in schema["allOf"].as_array().unwrap() {
            let path = choice["then"]["$ref"].as_str().unwrap().trim_start_matches('#');
            assert_eq!(
                schema.pointer(path).unwrap()["properties"]["kind"]["const"],
                choice["if"]["properties"]["kind"]["const"]
            );
        }
    }
}
