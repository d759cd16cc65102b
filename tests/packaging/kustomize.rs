//! The kustomize bases install what the chart installs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::programs::{documents, files, id, kustomize, root, template};

/// The object without what differs by design: labels and annotations that only Helm sets, and empty metadata maps.
fn normalised(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    for (map, keys) in [
        ("labels", &["helm.sh/chart", "app.kubernetes.io/managed-by"][..]),
        ("annotations", &["helm.sh/resource-policy"][..]),
    ] {
        if let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) {
            entries.retain(|key, _| !keys.contains(&key.as_str()));
            if entries.is_empty() {
                metadata.remove(map);
            }
        }
    }
    object
}

fn by_id(yaml: &str, keep: impl Fn(&Value) -> bool) -> BTreeMap<String, Value> {
    documents(yaml)
        .into_iter()
        .filter(keep)
        .map(|object| (id(&object), normalised(object)))
        .collect()
}

fn assert_same(chart: &BTreeMap<String, Value>, bases: &BTreeMap<String, Value>) {
    assert!(!chart.is_empty());
    let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(chart), names(bases));
    let mut found = Vec::new();
    for (name, object) in chart {
        differences(name, object, &bases[name], &mut found);
    }
    assert!(
        found.is_empty(),
        "the chart and the bases differ:\n{}",
        found.join("\n")
    );
}

/// Paths where two values differ, with both values.
fn differences(path: &str, chart: &Value, base: &Value, into: &mut Vec<String>) {
    match (chart, base) {
        (Value::Object(left), Value::Object(right)) => {
            for key in left.keys().chain(right.keys().filter(|key| !left.contains_key(*key))) {
                let part = |object: &serde_json::Map<String, Value>| object.get(key).cloned().unwrap_or_default();
                differences(&format!("{path}.{key}"), &part(left), &part(right), into);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differences(&format!("{path}[{index}]"), left, right, into);
            }
        }
        // kustomize writes 1000.0 as 1000.
        (Value::Number(left), Value::Number(right)) if left.as_f64() == right.as_f64() => {}
        _ if chart == base => {}
        _ => into.push(format!("{path}: {chart} in the chart, {base} in the bases")),
    }
}

#[test]
fn config_default_equals_the_chart_with_default_values() {
    let chart = by_id(&template(&[]), |_| true);
    let bases = by_id(&kustomize("config/default"), |object| object["kind"] != "Namespace");
    assert_same(&chart, &bases);
}

#[test]
fn network_policy_and_service_monitor_equal_those_of_the_chart() {
    for (folder, switch, kind) in [
        ("config/network-policy", "networkPolicy.enabled", "NetworkPolicy"),
        ("config/prometheus", "metrics.serviceMonitor.enabled", "ServiceMonitor"),
    ] {
        let chart = by_id(&template(&[&format!("--set={switch}=true")]), |object| {
            object["kind"] == kind
        });
        assert_same(&chart, &by_id(&kustomize(folder), |_| true));
    }
}

#[test]
fn the_role_of_people_on_call_equals_that_of_the_chart() {
    let chart = by_id(&template(&["--set=rbac.onCall.create=true"]), |object| {
        id(object).ends_with("-on-call")
    });
    assert_same(&chart, &by_id(&kustomize("config/on-call"), |_| true));
}

#[test]
fn the_operators_namespace_enforces_the_restricted_profile() {
    let rendered = by_id(&kustomize("config/default"), |object| object["kind"] == "Namespace");
    let namespace = &rendered["Namespace /tiercel-system"];
    assert_eq!(
        namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
        "restricted"
    );
}

#[test]
fn every_manifest_of_a_base_is_listed_by_its_kustomization() {
    for path in files("config", "yaml") {
        let relative = path.strip_prefix(root()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        // What people apply by themselves, and what only Argo CD reads.
        let loose = ["config/samples", "config/argocd"]
            .iter()
            .any(|folder| relative.starts_with(folder));
        if loose || name == "kustomization.yaml" {
            continue;
        }
        let list = std::fs::read_to_string(path.with_file_name("kustomization.yaml")).unwrap();
        assert!(
            list.contains(&format!("- {name}")),
            "{} is in no kustomization",
            relative.display()
        );
    }
}
