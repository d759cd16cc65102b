//! The chart's values: every key explained, every key in the schema, no unknown key let through.

use std::fmt::Write as _;

use serde_json::Value;

use crate::programs::{documents, read, root};

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

const CHARTS: [&str; 2] = ["tiercel", "tiercel-crds"];

/// Text and schema of a chart's values.
fn values_of(chart: &str) -> (String, Value) {
    let schema = read(&format!("charts/{chart}/values.schema.json"));
    (
        read(&format!("charts/{chart}/values.yaml")),
        serde_json::from_str(&schema).unwrap(),
    )
}

#[test]
fn values_and_schema_have_the_same_keys_and_no_others_pass() {
    for chart in CHARTS {
        let (text, schema) = values_of(chart);
        let mut faults = Vec::new();
        compare("", &documents(&text)[0], &schema, &mut faults);
        assert!(faults.is_empty(), "{chart}: {faults:#?}");
    }
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
    for chart in CHARTS {
        let (text, schema) = values_of(chart);
        assert_eq!(undocumented(&text, &schema), Vec::<String>::new(), "{chart}");
    }
    let (_, schema) = values_of("tiercel");
    // The check sees what it is for.
    assert_eq!(
        undocumented("log:\n  # -- How.\n  format: json\n  filter: info\n", &schema),
        ["log.filter"]
    );
}

/// One value of ours: its path, its explanation.
fn explained(text: &str, schema: &Value) -> Vec<(String, String)> {
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut comment: Option<String> = None;
    let mut rows = Vec::new();
    for line in text.lines() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if let Some(more) = content.strip_prefix('#') {
            let more = more.trim();
            comment = match (more.strip_prefix("--"), comment) {
                (Some(first), _) => Some(first.trim().to_owned()),
                (None, Some(known)) => Some(format!("{known} {more}")),
                (None, None) => None,
            };
            continue;
        }
        let Some((key, _)) = content.split_once(':') else {
            comment = None;
            continue;
        };
        path.retain(|(outer, _)| *outer < indent);
        path.push((indent, key.to_owned()));
        let mut node = schema;
        let known = path.iter().all(|(_, key)| {
            node = &node["properties"][key.as_str()];
            !node.is_null()
        });
        if let Some(comment) = comment.take().filter(|_| known && is_opaque(node)) {
            let keys: Vec<&str> = path.iter().map(|(_, key)| key.as_str()).collect();
            rows.push((keys.join("."), comment));
        }
    }
    rows
}

#[test]
fn the_charts_readme_lists_every_value_with_its_default() {
    const BEGIN: &str = "<!-- Values: generated by `make reference` from values.yaml. Do not edit below. -->\n";
    for (chart, least) in [("tiercel", 61), ("tiercel-crds", 2)] {
        let (text, schema) = values_of(chart);
        let values = documents(&text).remove(0);
        let rows = explained(&text, &schema);
        assert!(rows.len() >= least, "{chart}: {} values", rows.len());
        let mut table = format!("{BEGIN}\n| value | default | what it does |\n| --- | --- | --- |\n");
        for (path, comment) in rows {
            let default = values.pointer(&format!("/{}", path.replace('.', "/"))).unwrap();
            let comment = comment.replace('|', "\\|");
            writeln!(table, "| `{path}` | `{default}` | {comment} |").unwrap();
        }
        let name = format!("charts/{chart}/README.md");
        let page = read(&name);
        let head = page.split(BEGIN).next().unwrap();
        let fresh = format!("{head}{table}");
        if std::env::var_os("TIERCEL_WRITE_REFERENCE").is_some() {
            std::fs::write(root().join(&name), &fresh).unwrap();
        } else {
            assert!(page == fresh, "{name} differs from values.yaml: run `make reference`");
        }
    }
}
