use serde_json::json;

use super::*;

fn good() -> Value {
    json!({
        "apiVersion": "tiercel.dev/v1alpha1", "kind": "TieredPipeline",
        "metadata": {"name": "chat", "namespace": "rag"},
        "spec": {"stages": [
            {"name": "retrieve", "container": container(), "capacity": {"requestsPerSecond": "4"}},
            {"name": "generate", "kind": "Inference", "after": [{"stage": "retrieve"}], "container": container(),
                "capacity": {"requestsPerSecond": "4"}},
        ]},
    })
}

fn container() -> Value {
    json!({"image": "registry.example.com/server:1", "ports": [{"name": "http", "containerPort": 80}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 80}},
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}})
}

fn pool() -> Value {
    json!({
        "apiVersion": "tiercel.dev/v1alpha1", "kind": "ComputePool", "metadata": {"name": "x86"},
        "spec": {"tier": "CPU", "costPerNodeHour": "1", "nodeSelector": {"a": "b"}},
    })
}

/// All findings as `weight path: message`.
fn said(documents: Vec<Value>) -> Vec<String> {
    let lint = lint(documents).unwrap();
    assert!(lint.unchecked.is_empty(), "{:?}", lint.unchecked);
    let findings = lint.reports.into_iter().flat_map(|report| report.findings);
    findings
        .map(|finding| format!("{} {}: {}", finding.weight, finding.path, finding.message))
        .collect()
}

/// The document with one field changed; `null` takes it away.
fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap_or_else(|| panic!("no {parent}"));
    match (parent, value) {
        (Value::Object(members), Value::Null) => drop(members.remove(field)),
        (Value::Object(members), value) => drop(members.insert(field.to_owned(), value)),
        (Value::Array(items), value) => items[field.parse::<usize>().unwrap()] = value,
        (other, _) => panic!("{other}"),
    }
    document
}

#[test]
fn what_the_server_would_take_and_nobody_would_ask_about_passes() {
    assert_eq!(said(vec![good()]), Vec::<String>::new());
    assert_eq!(said(vec![pool()]), Vec::<String>::new());
}

#[test]
#[expect(clippy::too_many_lines, reason = "one row for each kind of error")]
fn each_error_names_the_field_and_what_would_be_right() {
    let stage = "/spec/stages/0";
    let cases: Vec<(String, Value, &str, &str)> = vec![
        (
            "/apiVersion".into(),
            json!("tiercel.dev/v2"),
            "apiVersion",
            "must be 'tiercel.dev/v1alpha1'",
        ),
        ("/spec/stages".into(), Value::Null, "spec.stages", "must be set"),
        ("/spec/stages".into(), json!([]), "spec.stages", "must not be empty"),
        ("/spec/stages".into(), json!("x"), "spec.stages", "must be a list"),
        (
            "/spec/priority".into(),
            json!(1_001),
            "spec.priority",
            "must be from 0 to 1000",
        ),
        (
            "/spec/priority".into(),
            json!("5"),
            "spec.priority",
            "must be a whole number",
        ),
        (
            "/spec/mode".into(),
            json!("Auto"),
            "spec.mode",
            "'Automatic', 'Advisory', 'Paused'",
        ),
        (
            "/spec/budgett".into(),
            json!({}),
            "spec.budgett",
            "'budget' may be meant",
        ),
        ("/metadata/name".into(), json!("Chat"), "", "`metadata.name`"),
        (
            "/spec/budget".into(),
            json!({"maxCostPerHour": "1,5"}),
            "spec.budget.maxCostPerHour",
            "decimal",
        ),
        (
            "/spec/budget".into(),
            json!({"maxCostPerHour": "0"}),
            "spec.budget.maxCostPerHour",
            "greater than zero",
        ),
        (
            "/spec/budget".into(),
            json!({}),
            "spec.budget",
            "`maxPowerWatts` or both",
        ),
        (
            format!("{stage}/name"),
            json!("a--b"),
            "spec.stages[0].name",
            "single dashes",
        ),
        (
            format!("{stage}/replicas"),
            json!({"min": 5, "max": 2}),
            "spec.stages[0].replicas.min",
            "greater than `max`",
        ),
        (
            format!("{stage}/traffic"),
            json!("Weighted"),
            "spec.gateway",
            "`gateway` must be set",
        ),
        (
            format!("{stage}/container/image"),
            json!("bad image"),
            "spec.stages[0].container.image",
            "image",
        ),
        (
            format!("{stage}/container/resources/requests/cpu"),
            Value::Null,
            "spec.stages[0].container.resources.requests",
            "'cpu' and 'memory'",
        ),
        (
            format!("{stage}/container/resources/requests/memory"),
            json!("2Gi"),
            "spec.stages[0].container.resources.limits",
            "`limits` must not be less",
        ),
        (
            format!("{stage}/container/resources/requests/cpu"),
            json!("9999"),
            "spec.stages[0].container.resources.requests",
            "from '1m' to '4096'",
        ),
        (
            format!("{stage}/container/resources/limits/nvidia.com~1gpu").replace("~1", "%"),
            json!("half"),
            "spec.stages[0].container.resources.limits",
            "",
        ),
        (
            format!("{stage}/container/env"),
            json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
            "spec.stages[0].container.env[1].name",
            "same twice",
        ),
        (
            format!("{stage}/after"),
            json!([{"stage": "generate"}]),
            "spec.stages[0].after[0].stage",
            "listed above",
        ),
        (
            format!("{stage}/replicas"),
            json!({"min": 0}),
            "spec.stages[0].replicas.min",
            "at least 1",
        ),
        (
            "/spec/stages/1/tierHint".into(),
            json!("GPU"),
            "spec.stages[1].tierHint",
            "AcceleratorRequired",
        ),
        (
            "/spec/stages/1/name".into(),
            json!("retrieve"),
            "spec.stages[1].name",
            "same twice",
        ),
    ];
    for (pointer, value, path, says) in cases {
        let said = said(vec![with(good(), &pointer, value)]);
        let fits = |line: &String| line.starts_with(&format!("error {path}")) && line.contains(says);
        assert!(said.iter().any(fits), "{pointer}: {said:#?}");
    }
}

#[test]
fn each_error_of_a_pool_names_the_field_and_what_would_be_right() {
    for (pointer, value, path, says) in [
        (
            "/spec/nodeSelector",
            Value::Null,
            "spec.nodeSelector",
            "at least one label",
        ),
        (
            "/spec/tier",
            json!("Accelerator"),
            "spec.device",
            "`device` must be set",
        ),
        (
            "/spec/costPerNodeHour",
            json!(""),
            "spec.costPerNodeHour",
            "must not be empty",
        ),
        (
            "/spec/costPerNodeHour",
            json!(1.5),
            "spec.costPerNodeHour",
            "must be a text: write it in quotes",
        ),
        (
            "/spec/tolerations",
            json!([{"operator": "Exists"}]),
            "spec.tolerations[0].key",
            "must be set",
        ),
        (
            "/spec/tolerations",
            json!([{"key": "node-role.kubernetes.io/control-plane"}]),
            "spec.tolerations[0].key",
            "control-plane",
        ),
    ] {
        let said = said(vec![with(pool(), pointer, value)]);
        let fits = |line: &String| line.starts_with(&format!("error {path}")) && line.contains(says);
        assert!(said.iter().any(fits), "{pointer}: {said:#?}");
    }
}

#[test]
fn advice_names_the_field_and_what_to_do() {
    let stage = "/spec/stages/0";
    for (pointer, value, path, says) in [
        (
            format!("{stage}/container/image"),
            json!("a.example.com:5000/x"),
            "container.image",
            "fixed version",
        ),
        (
            format!("{stage}/container/image"),
            json!("x:latest"),
            "container.image",
            "fixed version",
        ),
        (
            format!("{stage}/container/readinessProbe"),
            Value::Null,
            "container.readinessProbe",
            "before it serves",
        ),
        (
            format!("{stage}/container/resources/limits"),
            Value::Null,
            "container.resources.limits",
            "memory limit",
        ),
        (format!("{stage}/capacity"), Value::Null, "capacity", "not declared"),
        (
            format!("{stage}/tierHint"),
            json!("AcceleratorRequired"),
            "tierHint",
            "names a device",
        ),
        (
            "/spec/objective".into(),
            json!({"latencyMilliseconds": 5}),
            "capacity",
            "`objective` needs",
        ),
    ] {
        let said = said(vec![with(good(), &pointer, value)]);
        let start = format!("advice spec.stages[0].{path}: ");
        assert!(
            said.iter().any(|line| line.starts_with(&start) && line.contains(says)),
            "{pointer}: {said:#?}"
        );
        assert!(
            said.iter().all(|line| line.starts_with("advice")),
            "{pointer}: {said:#?}"
        );
    }
    let free = said(vec![with(pool(), "/spec/costPerNodeHour", json!("0.00"))]);
    assert!(free[0].contains("spec.costPerNodeHour: a price of 0"), "{free:?}");
}

#[test]
fn pipelines_are_held_against_the_pools_of_the_same_files() {
    let hinted = |hint: &str| with(good(), "/spec/stages/1/tierHint", json!(hint));
    let device = json!({"resourceName": "nvidia.com/gpu"});
    let mut gpu = with(pool(), "/spec/tier", json!("Accelerator"));
    gpu = with(gpu, "/spec/device", device);
    gpu = with(gpu, "/spec/tolerations", json!([{"key": "nvidia.com/gpu"}]));
    let spot = with(pool(), "/spec/capacityType", json!("Spot"));
    let about = |documents: Vec<Value>, says: &str| {
        let said = said(documents);
        assert!(said.iter().any(|line| line.contains(says)), "{says}: {said:#?}");
    };
    about(
        vec![hinted("AcceleratorRequired"), pool()],
        "no ComputePool of these files fits",
    );
    about(vec![hinted("AcceleratorPreferred"), pool()], "only such below the hint");
    about(vec![hinted("CPUSufficient"), spot.clone()], "Spot");
    assert_eq!(
        said(vec![hinted("AcceleratorPreferred"), pool(), gpu, spot]),
        Vec::<String>::new()
    );
}

#[test]
fn a_misspelt_field_hides_no_broken_rule() {
    let broken = with(
        with(good(), "/spec/priorty", json!(1)),
        "/spec/stages/0/replicas",
        json!({"min": 3, "max": 2}),
    );
    let said = said(vec![broken]);
    assert_eq!(said.len(), 2, "{said:#?}");
}

#[test]
fn what_is_not_ours_is_counted_and_left_alone() {
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}});
    let lint = lint(vec![deployment, Value::Null, json!("text"), good()]).unwrap();
    assert_eq!((lint.others, lint.reports.len()), (2, 1));
    assert_eq!(lint.reports[0].document, 4);
}

#[test]
fn every_rule_of_both_definitions_can_be_checked_here() {
    // A document that reaches every rule, so that one which the interpreter cannot evaluate would show.
    let mut full = good();
    full["spec"]["gateway"] = json!({"name": "gw", "sectionName": "web"});
    full["spec"]["budget"] = json!({"maxCostPerHour": "9", "maxPowerWatts": 900});
    let stage = &mut full["spec"]["stages"][1];
    stage["signal"] =
        json!({"preset": "vllm", "also": [{"preset": "dcgm"}], "onSignalLoss": "Static", "staticReplicas": 2});
    stage["container"]["env"] = json!([{"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    stage["container"]["volumes"] = json!([{"name": "tmp", "mountPath": "/tmp", "emptyDir": {}}]);
    stage["container"]["resources"]["requests"]["memory"] = json!(1_073_741_824);
    stage["profiles"] = json!([{"name": "gpu", "pools": {"tier": "Accelerator", "classes": ["nvidia-l4"], "architectures": ["amd64"]},
        "preset": "vllm", "capacity": {"concurrency": 2}, "container": {"image": "x:1", "resources": {
            "requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"memory": "2Gi", "nvidia.com/gpu": 1}}}}]);
    let mut wide = pool();
    wide["spec"]["matchExpressions"] = json!([{"key": "a", "operator": "In", "values": ["b"]}]);
    wide["spec"]["tolerations"] = json!([{"key": "a", "operator": "Equal", "value": "b"}]);
    wide["spec"]["elastic"] = json!({"maxNodes": 2, "nodeAllocatable": {"cpu": "1", "memory": "1Gi"}});
    wide["spec"]["allowedNamespaces"] = json!({"from": "Selector", "selector": {"matchLabels": {"a": "b"}}});
    let lint = lint(vec![full, wide]).unwrap();
    assert_eq!(lint.unchecked, BTreeSet::new());
    for report in &lint.reports {
        let errors: Vec<&Finding> = report
            .findings
            .iter()
            .filter(|finding| finding.weight == Weight::Error)
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}
