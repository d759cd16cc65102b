//! The plan against the operator's own steps, and what is refused, line by line.

mod together;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::change::{Kind, changes};
use super::*;
use crate::controller::capacity;
use crate::controller::pipeline::dereference::{Found, pool_facts};
use crate::lint::Schemas;
use crate::plan::manifest::Manifests;
use crate::simulate::ground::nodes;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/samples")
}

fn manifests(texts: &[(&str, &str)]) -> Manifests {
    let schemas = Schemas::installed().unwrap();
    let mut manifests = Manifests::default();
    for (file, text) in texts {
        manifests.add(&schemas, file, text, "default");
    }
    manifests
}

/// Plans texts without a cluster. `given` as in `--nodes`.
fn planned(texts: &[(&str, &str)], given: &[&str]) -> (Plan, Vec<String>) {
    let given: Vec<_> = given.iter().map(|text| text.parse().unwrap()).collect();
    let mut manifests = manifests(texts);
    let ground = Ground::offline(&mut manifests, &given, false);
    let (plan, refused) = plan(&manifests.pipelines, &manifests.pools, &ground);
    let problems = manifests.problems.iter().chain(&refused);
    (plan, problems.map(ToString::to_string).collect())
}

fn pool(name: &str, patch: &Value) -> String {
    let mut pool = json!({
        "apiVersion": "tiercel.dev/v1alpha1", "kind": "ComputePool", "metadata": {"name": name},
        "spec": {"tier": "CPU", "nodeSelector": {"pool": name}, "costPerNodeHour": "1.60"},
    });
    merge(&mut pool, patch);
    pool.to_string() + "\n---\n"
}

fn pipeline(name: &str, stages: &[Value], patch: &Value) -> String {
    let mut pipeline = json!({
        "apiVersion": "tiercel.dev/v1alpha1", "kind": "TieredPipeline", "metadata": {"name": name, "namespace": "agents"},
        "spec": {"stages": stages},
    });
    merge(&mut pipeline, patch);
    pipeline.to_string() + "\n---\n"
}

fn stage(name: &str, min: u32, max: u32) -> Value {
    json!({
        "name": name, "kind": "Custom",
        "container": {"image": "registry.example.com/stage:1", "ports": [{"name": "http", "containerPort": 8000}],
                      "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
        "replicas": {"min": min, "max": max},
    })
}

fn merge(base: &mut Value, patch: &Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, patch) => *base = patch.clone(),
    }
}

/// Replicas by stage and pool: at the minimum and at the maximum.
fn replicas(plan: &Plan) -> Vec<String> {
    let stages = plan.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let rows = stages.flat_map(|stage| {
        stage
            .pools
            .iter()
            .map(|row| format!("{}@{} {} {}", stage.name, row.pool, row.minimum, row.maximum))
    });
    rows.collect()
}

#[test]
fn the_objects_of_a_plan_are_those_that_the_operator_builds_for_every_sample() {
    let folders = [samples(), samples().join("features"), samples().join("hardware")];
    let pools = std::fs::read_to_string(samples().join("pools.yaml")).unwrap();
    let (mut seen, mut deployments) = (0, 0);
    for folder in folders {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ending| ending != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let own = text.contains("kind: ComputePool");
            let texts = [("sample", text.as_str()), ("pools", pools.as_str())];
            let mut read = manifests(if own { &texts[..1] } else { &texts });
            assert_eq!(read.problems, [], "{}", path.display());
            let ground = Ground::offline(&mut read, &[], false);
            let (plan, problems) = plan(&read.pipelines, &read.pools, &ground);
            assert_eq!(problems, [], "{}", path.display());

            // The same by hand, as a reconcile does it: look at the pools, find, validate, build.
            let objects: Vec<ComputePool> = read.pools.iter().map(|pool| pool.object.clone()).collect();
            let raw: Vec<TieredPipeline> = read.pipelines.iter().map(|one| one.object.clone()).collect();
            let nodes = nodes(&raw, &objects, &[]).0;
            let objects: Vec<Arc<ComputePool>> = objects.into_iter().map(Arc::new).collect();
            let observed = capacity::observe(&objects, &nodes, &[]);
            for (raw, planned) in raw.iter().zip(&plan.pipelines) {
                let mut found = Found {
                    pools: pool_facts(&objects, &observed, &std::collections::BTreeMap::new()),
                    ..Found::default()
                };
                for facts in &mut found.pools {
                    facts.admits = true;
                }
                let desired = build(&validate(raw, &found));
                let wanted: Vec<Value> = (desired.accounts.iter().map(|it| serde_json::to_value(it).unwrap()))
                    .chain(desired.services.iter().map(|it| serde_json::to_value(it).unwrap()))
                    .chain(desired.budgets.iter().map(|it| serde_json::to_value(it).unwrap()))
                    .chain(
                        desired
                            .deployments
                            .iter()
                            .map(|(it, _)| serde_json::to_value(it).unwrap()),
                    )
                    .collect();
                let told: Vec<Value> = planned.children.iter().map(|child| child.manifest.clone()).collect();
                assert_eq!(told, wanted, "{}", path.display());
                let rows = planned
                    .stages
                    .iter()
                    .flat_map(|stage| &stage.pools)
                    .map(|row| row.created);
                let created = desired
                    .deployments
                    .iter()
                    .map(|(_, claim)| claim.to_send().map(|n| n.try_into().unwrap()));
                assert_eq!(
                    rows.collect::<Vec<Option<u32>>>(),
                    created.collect::<Vec<_>>(),
                    "{}",
                    path.display()
                );
                deployments += desired.deployments.len();
            }
            seen += 1;
        }
    }
    assert!(
        seen >= 25 && deployments >= 60,
        "{seen} samples with {deployments} Deployments"
    );
}

#[test]
fn floors_are_where_they_are_cheapest_and_the_most_fills_what_there_is_in_the_order_of_price() {
    let text = pool("cheap", &json!({})) + &pool("dear", &json!({"spec": {"costPerNodeHour": "3.20"}}));
    let text = text + &pipeline("chat", &[stage("answer", 2, 10)], &json!({}));
    let (plan, problems) = planned(&[("a.yaml", &text)], &["cheap=1:4,16Gi", "dear=4:4,16Gi"]);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(replicas(&plan), ["answer@cheap 2 4", "answer@dear 0 6"]);
    let rows = &plan.pipelines[0].stages[0].pools;
    assert_eq!(
        (rows[0].each_per_hour, rows[1].each_per_hour),
        (Some(400_000), Some(800_000))
    );
    let cost = plan.cost;
    assert_eq!(
        (cost.now, cost.minimum.per_hour, cost.maximum.per_hour),
        (None, 800_000, 6_400_000)
    );
    assert_eq!(rows[0].why_not_more.as_deref(), Some("no room for one more"));
    let used: Vec<u32> = plan.pools.iter().map(|pool| pool.used_percent_at_maximum).collect();
    assert_eq!(used, [100, 37]);
}

#[test]
fn a_budget_bounds_the_maximum_and_a_pause_keeps_what_is_created() {
    let limited = json!({"spec": {"budget": {"maxCostPerHour": "0.95"}}});
    let paused = json!({"spec": {"mode": "Paused"}});
    let text = pool("cpu", &json!({}))
        + &pipeline("limited", &[stage("answer", 1, 10)], &limited)
        + &pipeline("paused", &[stage("other", 3, 10)], &paused);
    let (plan, problems) = planned(&[("a.yaml", &text)], &["cpu=4:4,16Gi"]);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(replicas(&plan), ["answer@cpu 1 2", "other@cpu 3 3"]);
    let why = plan.pipelines[0].stages[0].pools[0].why_not_more.as_deref();
    assert_eq!(why, Some("the budget leaves no more"));
    assert_eq!(plan.pipelines[1].mode, "Paused");
    let why = plan.pipelines[1].stages[0].pools[0].why_not_more.as_deref();
    assert_eq!(why, Some("the pipeline is paused"));
}

/// A stage that serves so many requests per second on one CPU.
fn rated(name: &str, max: u32, per_second: &str, after: &Value) -> Value {
    let mut rated = stage(name, 1, max);
    merge(
        &mut rated,
        &json!({"capacity": {"requestsPerSecond": per_second}, "after": after}),
    );
    rated
}

/// Why each row holds no more at the maximum, with its replicas there.
fn bounds(plan: &Plan) -> Vec<String> {
    let stages = plan.pipelines.iter().flat_map(|pipeline| &pipeline.stages);
    let rows = stages.flat_map(|stage| {
        let why = |row: &Placement| row.why_not_more.clone().unwrap_or_default();
        let told = |row: &Placement| format!("{}@{} {}: {}", stage.name, row.pool, row.maximum, why(row));
        stage.pools.iter().map(told).collect::<Vec<_>>()
    });
    rows.collect()
}

/// Three stages: `answer` is called twice per request, `check` every other time.
fn chain(name: &str, patch: &Value) -> String {
    let after = |calls: &str| json!([{"stage": "find", "callsPerRequest": calls}]);
    let stages = [
        rated("find", 40, "4", &json!([])),
        rated("answer", 40, "2", &after("2")),
        rated("check", 40, "10", &after("0.5")),
    ];
    pipeline(name, &stages, patch)
}

#[test]
fn a_short_budget_is_shared_by_what_passes_all_stages() {
    // 0.40 an hour each: 24 replicas. A request takes a fourth of a `find`, a whole `answer` and a twentieth of a `check`.
    let limited = json!({"spec": {"budget": {"maxCostPerHour": "9.60"}}});
    let text = pool("cpu", &json!({})) + &chain("chat", &limited);
    let (plan, problems) = planned(&[("a.yaml", &text)], &["cpu=50:4,16Gi"]);
    assert_eq!(problems, Vec::<String>::new());
    let told = [
        "find@cpu 5: the budget leaves no more",
        "answer@cpu 18: the budget leaves no more",
        "check@cpu 1: the budget leaves no more",
    ];
    assert_eq!(bounds(&plan), told);
    // 18 × 2 ÷ 2 at a target of 70 per cent.
    assert_eq!(plan.pipelines[0].requests_per_second_at_maximum, Some(12_600));
}

#[test]
fn no_stage_holds_more_than_the_narrowest_of_its_pipeline_lets_through() {
    let text = pool("cpu", &json!({})) + &chain("chat", &json!({}));
    let (plan, problems) = planned(&[("a.yaml", &text)], &["cpu=50:4,16Gi"]);
    assert_eq!(problems, Vec::<String>::new());
    let told = [
        "find@cpu 10: no use: 'answer' is its pipeline's narrowest",
        "answer@cpu 40: replicas.max of 40 is reached",
        "check@cpu 2: no use: 'answer' is its pipeline's narrowest",
    ];
    assert_eq!(bounds(&plan), told);
    assert_eq!(plan.pipelines[0].requests_per_second_at_maximum, Some(28_000));

    // The same where `answer` alone runs on a pool that is small.
    let mut parts = [
        rated("find", 40, "4", &json!([])),
        rated("answer", 40, "2", &json!([{"stage": "find", "callsPerRequest": "2"}])),
    ];
    merge(&mut parts[0], &json!({"tierHint": "CPUSufficient"}));
    let gpu =
        json!({"tierHint": "AcceleratorRequired", "container": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}});
    merge(&mut parts[1], &gpu);
    let gpus = pool(
        "gpus",
        &json!({"spec": {"tier": "Accelerator", "device": {"resourceName": "nvidia.com/gpu"}}}),
    );
    let text = pool("cpu", &json!({})) + &gpus + &pipeline("chat", &parts, &json!({}));
    let (plan, problems) = planned(&[("a.yaml", &text)], &["cpu=50:4,16Gi", "gpus=8:4,16Gi,1"]);
    assert_eq!(problems, Vec::<String>::new());
    let told = [
        "find@cpu 2: no use: 'answer' is its pipeline's narrowest",
        "answer@gpus 8: no room for one more",
    ];
    assert_eq!(bounds(&plan), told);
}

#[test]
fn stages_that_are_each_at_their_own_end_say_so() {
    // Neither declares what it serves: both come to their most together.
    let mut fixed = stage("answer", 1, 9);
    fixed["container"]["resources"]["requests"]["memory"] = json!("8Gi");
    let text = pool("cpu", &json!({})) + &pipeline("chat", &[stage("find", 1, 8), fixed], &json!({}));
    let (plan, problems) = planned(&[("a.yaml", &text)], &["cpu=4:4,16Gi"]);
    assert_eq!(problems, Vec::<String>::new());
    let told = [
        "find@cpu 7: no use: 'answer' is its pipeline's narrowest",
        "answer@cpu 7: no room for one more",
    ];
    assert_eq!(bounds(&plan), told);
    let (plan, problems) = planned(&[("a.yaml", &text)], &["cpu=5:16,80Gi"]);
    assert_eq!(problems, Vec::<String>::new());
    let told = [
        "find@cpu 8: replicas.max of 8 is reached",
        "answer@cpu 9: replicas.max of 9 is reached",
    ];
    assert_eq!(bounds(&plan), told);
    assert_eq!(plan.pipelines[0].requests_per_second_at_maximum, None);
}

#[test]
fn stages_that_share_a_pool_which_is_too_small_are_scaled_together() {
    let text = pool("cpu", &json!({})) + &chain("chat", &json!({}));
    let (plan, problems) = planned(&[("a.yaml", &text)], &["cpu=6:4,16Gi"]);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(replicas(&plan), ["find@cpu 1 5", "answer@cpu 1 18", "check@cpu 1 1"]);
    assert_eq!(
        plan.pipelines[0].stages[1].pools[0].why_not_more.as_deref(),
        Some("no room for one more")
    );
}

#[test]
fn a_ceiling_on_power_is_named_where_it_is_what_holds_a_pipeline() {
    let declared = pool("cpu", &json!({"spec": {"powerWattsPerNode": 400}}));
    let limited = json!({"spec": {"budget": {"maxCostPerHour": "90", "maxPowerWatts": 2400}}});
    let text = declared + &chain("chat", &limited);
    let (plan, problems) = planned(&[("a.yaml", &text)], &["cpu=50:4,16Gi"]);
    assert_eq!(problems, Vec::<String>::new());
    let told = [
        "find@cpu 5: the ceiling on power leaves no more",
        "answer@cpu 18: the ceiling on power leaves no more",
        "check@cpu 1: the ceiling on power leaves no more",
    ];
    assert_eq!(bounds(&plan), told);
}

#[test]
fn power_is_told_only_where_every_pool_in_use_declares_it() {
    let declared = pool("cheap", &json!({"spec": {"powerWattsPerNode": 400}}));
    let text = declared + &pool("dear", &json!({"spec": {"costPerNodeHour": "3.20"}}));
    let text = text + &pipeline("chat", &[stage("answer", 2, 10)], &json!({}));
    let (plan, _) = planned(&[("a.yaml", &text)], &["cheap=1:4,16Gi", "dear=4:4,16Gi"]);
    assert_eq!(
        (plan.cost.minimum.watts, plan.cost.maximum.watts),
        (Some(200_000), None)
    );
}

/// What is said of texts: of the manifests, and of what the operator would make of them.
fn said(text: &str, given: &[&str]) -> Vec<String> {
    planned(&[("a.yaml", text)], given).1
}

#[test]
fn what_the_operator_refuses_or_cannot_place_is_told_with_file_line_and_field() {
    let cpu = pool("cpu", &json!({}));
    let one = |patch: &Value| {
        let mut one = stage("answer", 1, 4);
        merge(&mut one, patch);
        cpu.clone() + &pipeline("chat", &[one], &json!({}))
    };
    let tight = json!({"spec": {"budget": {"maxCostPerHour": "0.30"}}});
    let cases: [(String, &str, &str); 9] = [
        (
            one(&json!({"signal": {"preset": "vlm"}})),
            "spec.stages[0].signal.preset",
            "'vlm' is not a preset",
        ),
        (
            one(&json!({"replicas": {"min": 5}})),
            "spec.stages[0].replicas.min",
            "`min` must not be greater than `max`",
        ),
        (
            one(&json!({"replicas": {"min": 0}})),
            "spec.stages[0].replicas.min",
            "must be at least 1 when `signal.preset` is 'cpu'",
        ),
        (
            one(
                &json!({"container": {"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}}),
            ),
            "spec.stages[0].container.env.valueFrom.secretKeyRef",
            "secrets are not allowed here",
        ),
        (
            one(&json!({"tierHint": "AcceleratorRequired"})),
            "spec.stages[0].tierHint",
            "can run on no pool: cpu: tierHint 'AcceleratorRequired' forbids CPU pools",
        ),
        (
            one(&json!({"container": {"resources": {"requests": {"cpu": "9"}}}})),
            "spec.stages[0].container.resources",
            "can run on no pool: cpu: no node has room for one replica",
        ),
        (
            one(&json!({"replicas": {"min": 9, "max": 20}})),
            "spec.stages[0].replicas.min",
            "only 8 of the 9 replicas of the floor find a place: cpu has no more room",
        ),
        (
            cpu.clone() + &pipeline("chat", &[stage("answer", 1, 4)], &tight),
            "spec.budget.maxCostPerHour",
            "the least replicas alone cost 0.40 per hour, more than the budget of 0.30",
        ),
        (
            cpu.clone() + &pool("same", &json!({"spec": {"nodeSelector": {"pool": "cpu"}}})),
            "spec.nodeSelector",
            "selects nodes that pool 'cpu' has",
        ),
    ];
    for (text, field, says) in cases {
        let lines = said(&text, &["cpu=2:4,16Gi"]);
        // A rule may say more of the same field.
        let of_field = |line: &String| line.contains(&format!(": {field}: "));
        assert!(!lines.is_empty() && lines.iter().all(of_field), "{field}: {lines:?}");
        let line = &lines[0];
        assert!(line.starts_with("a.yaml:3: document 2: "), "{line}");
        assert!(
            line.contains(&format!(": {field}: ")) && line.contains(says),
            "{field}: {line}"
        );
    }
}

#[test]
fn floors_of_several_pipelines_that_do_not_fit_together_are_told() {
    let text = pool("cpu", &json!({}))
        + &pipeline("first", &[stage("answer", 3, 4)], &json!({}))
        + &pipeline("second", &[stage("answer", 3, 4)], &json!({}));
    let lines = said(&text, &["cpu=1:4,16Gi"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("TieredPipeline agents/second: spec.stages[0].replicas.min: "),
        "{lines:?}"
    );
    assert!(lines[0].contains("only 1 of the 3 replicas"), "{lines:?}");
}

/// A good document, so that a test sees that it is not lost beside a bad one.
const GOOD: &str = "apiVersion: tiercel.dev/v1alpha1
kind: ComputePool
metadata: {name: cpu}
spec:
  tier: CPU
  nodeSelector: {a: b}
  costPerNodeHour: \"1\"
";

#[test]
fn of_several_documents_the_bad_are_named_and_the_good_are_read() {
    let table = [
        // Not YAML.
        (
            "kind: ComputePool\nspec: {tier: [\n",
            "a.yaml:10: document 2: not YAML: unclosed bracket",
        ),
        (
            "a: 1\nb: 2\na: 3\n",
            "a.yaml:11: document 2: not YAML: duplicate mapping key",
        ),
        ("kind: ComputePool\n\tspec: 1\n", "a.yaml:9: document 2: not YAML: "),
        // A template of ours.
        (
            "kind: TieredPipeline\nmetadata: {{ .Values.a }}\n",
            "a.yaml:9: document 2: a template of a TieredPipeline: fill it in first",
        ),
        // The envelope.
        (
            "apiVersion: tiercel.dev/v1\nkind: ComputePool\nmetadata: {name: x}\nspec: {tier: CPU, nodeSelector: {a: b}, costPerNodeHour: \"1\"}\n",
            "a.yaml:9: document 2: ComputePool x: apiVersion: must be 'tiercel.dev/v1alpha1', not 'tiercel.dev/v1'",
        ),
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: Pipeline\nmetadata: {name: x}\n",
            "a.yaml:10: document 2: Pipeline x: kind: 'Pipeline' is no kind of tiercel.dev: use TieredPipeline or ComputePool",
        ),
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: ComputePool\nspec: {tier: CPU, nodeSelector: {a: b}, costPerNodeHour: \"1\"}\n",
            "a.yaml:9: document 2: ComputePool ?: metadata.name: must be set",
        ),
        // Fields.
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: ComputePool\nmetadata: {name: x}\nspec:\n  tier: CPU\n  costPerNodeHour: \"1\"\n  nodeSelector: {a: b}\n  nodeSelectors: {a: c}\n",
            "a.yaml:16: document 2: ComputePool x: spec.nodeSelectors: is unknown; 'nodeSelector' may be meant",
        ),
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: ComputePool\nmetadata: {name: x, label: {}}\nspec: {tier: CPU, nodeSelector: {a: b}, costPerNodeHour: \"1\"}\n",
            "a.yaml:11: document 2: ComputePool x: metadata.label: is unknown; 'labels' may be meant",
        ),
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: ComputePool\nmetadata: {name: x}\nspec:\n  tier: GPU\n  costPerNodeHour: \"1\"\n",
            "a.yaml:13: document 2: ComputePool x: spec.tier: is 'GPU', but must be one of 'CPU', 'Accelerator'",
        ),
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: ComputePool\nmetadata: {name: x}\nspec:\n  tier: CPU\n  costPerNodeHour: 1.5\n",
            "a.yaml:14: document 2: ComputePool x: spec.costPerNodeHour: is a number, but must be a text: write it in quotes",
        ),
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: ComputePool\nmetadata: {name: x}\nspec:\n  tier: CPU\n",
            "a.yaml:12: document 2: ComputePool x: spec.costPerNodeHour: must be set",
        ),
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: ComputePool\nmetadata: {name: x}\nspec:\n  tier: CPU\n  costPerNodeHour: \"1\"\n  reservePercent: 95\n",
            "a.yaml:15: document 2: ComputePool x: spec.reservePercent: is 95, but must be from 0 to 90",
        ),
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: TieredPipeline\nmetadata: {name: x}\nspec: {stages: []}\n",
            "a.yaml:12: document 2: TieredPipeline default/x: spec.stages: must not be empty",
        ),
        // Names that children are named after.
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: ComputePool\nmetadata: {name: Big_pool}\nspec: {tier: CPU, nodeSelector: {a: b}, costPerNodeHour: \"1\"}\n",
            "a.yaml:11: document 2: ComputePool Big_pool: metadata.name: `metadata.name` must be at most 63 lower-case letters",
        ),
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: TieredPipeline\nmetadata: {name: x, namespace: Agents}\nspec: {stages: [{name: a, kind: Custom, container: {image: i, resources: {requests: {cpu: 1, memory: 1Gi}}}, replicas: {min: 1, max: 1}}]}\n",
            "a.yaml:11: document 2: TieredPipeline Agents/x: metadata.namespace: must be at most 63 lower-case letters, digits and dashes",
        ),
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: TieredPipeline\nmetadata: {name: x}\nspec:\n  stages:\n  - name: a--b\n    kind: Custom\n    container: {image: i, resources: {requests: {cpu: 1, memory: 1Gi}}}\n    replicas: {min: 1, max: 1}\n",
            "a.yaml:14: document 2: TieredPipeline default/x: spec.stages[0].name: must be lower-case letters, digits and single dashes",
        ),
        (
            "apiVersion: tiercel.dev/v1alpha1\nkind: ComputePool\nmetadata: {name: \"a\\e[31m\"}\nspec: {tier: CPU, nodeSelector: {a: b}, costPerNodeHour: \"1\"}\n",
            "a.yaml:11: document 2: ComputePool a?[31m: metadata.name: ",
        ),
        // Twice the same.
        (
            GOOD,
            "a.yaml:9: document 2: ComputePool cpu: metadata.name: declared twice: first at a.yaml:1: document 1; that one is planned",
        ),
    ];
    for (bad, says) in table {
        let text = format!("{GOOD}---\n{bad}---\n# only a remark\n---\nkind: ConfigMap\napiVersion: v1\n");
        let read = manifests(&[("a.yaml", &text)]);
        let lines: Vec<String> = read.problems.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 1, "{bad}: {lines:?}");
        assert!(
            lines[0].starts_with(says),
            "{bad}\nexpected {says}\nfound    {}",
            lines[0]
        );
        assert!(!lines[0].contains('\n'), "{lines:?}");
        assert_eq!(read.pools[0].object.name_any(), "cpu", "{bad}");
        assert_eq!(read.skipped.get("ConfigMap"), Some(&1), "{bad}");
    }
}

#[test]
fn what_is_no_business_of_tiercel_is_counted_and_lists_are_opened() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        serde_json::from_str::<Value>(pool("one", &json!({})).trim_end_matches("\n---\n")).unwrap(),
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}},
        {"apiVersion": "tiercel.dev/v1alpha1", "kind": "ComputePool", "metadata": {"name": "two"}, "spec": {"tier": "CPU"}},
    ]});
    let others = "replicaCount: 1\n---\n{{- if .Values.a }}\nkind: Service\n---\napiVersion: x.io/v1\nkind: ComputePool\n---\n\
                  apiVersion: v1\nkind: Namespace\nmetadata: {name: agents, labels: {team: a}}\n";
    let read = manifests(&[("list.json", &list.to_string()), ("b.yaml", others)]);
    let lines: Vec<String> = read.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["list.json:1: document 1: ComputePool two: items[2].spec.costPerNodeHour: must be set"]
    );
    assert_eq!(read.pools.len(), 1);
    let skipped: Vec<(&str, u32)> = read
        .skipped
        .iter()
        .map(|(kind, count)| (kind.as_str(), *count))
        .collect();
    let expected = [
        ("ComputePool", 1),
        ("Namespace", 1),
        ("Service", 1),
        ("templates", 1),
        ("without a kind", 1),
    ];
    assert_eq!(skipped, expected);
    assert_eq!(read.namespaces["agents"].labels["team"], "a");
}

#[test]
fn a_pool_that_admits_by_label_goes_by_the_namespace_among_the_files() {
    let closed =
        json!({"spec": {"allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}}});
    let text = pool("cpu", &closed) + &pipeline("chat", &[stage("answer", 1, 4)], &json!({}));
    let namespace =
        |team: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: agents, labels: {{team: {team}}}}}\n");
    assert_eq!(said(&text, &[]), Vec::<String>::new());
    assert_eq!(said(&(text.clone() + &namespace("a")), &[]), Vec::<String>::new());
    let lines = said(&(text.clone() + &namespace("b")), &[]);
    assert!(
        lines.len() == 1 && lines[0].contains("cpu: the pool does not admit this namespace"),
        "{lines:?}"
    );
    let mut read = manifests(&[("a.yaml", &text)]);
    let ground = Ground::offline(&mut read, &["cpu=1:4,16Gi".parse().unwrap()], false);
    assert_eq!(ground.assumptions.len(), 1, "{:?}", ground.assumptions);
    assert!(
        ground.assumptions[0].starts_with("namespace 'agents'"),
        "{:?}",
        ground.assumptions
    );
}

#[test]
fn a_change_names_what_comes_goes_is_written_anew_and_starts_anew() {
    let pools = pool("cpu", &json!({})) + &pool("dear", &json!({"spec": {"costPerNodeHour": "3.20"}}));
    let plan_of = |text: &str| {
        planned(
            &[("a.yaml", &(pools.clone() + text))],
            &["cpu=2:4,16Gi", "dear=2:4,16Gi"],
        )
        .0
    };
    let two = [stage("first", 1, 4), stage("second", 1, 4)];
    let before = plan_of(&(pipeline("chat", &two, &json!({})) + &pipeline("old", &two[..1], &json!({}))));
    assert_eq!(changes(&before, &before), []);

    let mut image = stage("first", 1, 4);
    image["container"]["image"] = json!("registry.example.com/stage:2");
    let after = plan_of(
        &(pipeline("chat", &[image, stage("third", 2, 4)], &json!({})) + &pipeline("new", &two[..1], &json!({}))),
    );
    let all = changes(&before, &after);
    let kinds: Vec<(&str, Kind)> = all.iter().map(|change| (change.name.as_str(), change.kind)).collect();
    assert_eq!(
        kinds,
        [("chat", Kind::Changed), ("new", Kind::Added), ("old", Kind::Removed)]
    );
    let chat = &all[0];
    assert_eq!(
        chat.restarted,
        ["Deployment chat--first--cpu", "Deployment chat--first--dear"]
    );
    assert_eq!(
        chat.created,
        [
            "Service chat--third",
            "PodDisruptionBudget chat--third",
            "Deployment chat--third--cpu",
            "Deployment chat--third--dear"
        ]
    );
    assert_eq!(
        chat.deleted,
        [
            "Service chat--second",
            "Deployment chat--second--cpu",
            "Deployment chat--second--dear"
        ]
    );
    assert_eq!((chat.updated.len(), chat.placed_anew), (0, true));
    assert_eq!(all[1].created.len(), 4);
    assert_eq!(all[2].deleted.len(), 4);

    // More replicas at most: no object is another.
    let more = plan_of(
        &(pipeline("chat", &[stage("first", 1, 5), two[1].clone()], &json!({}))
            + &pipeline("old", &two[..1], &json!({}))),
    );
    let all = changes(&before, &more);
    assert_eq!(all.len(), 1);
    assert!(
        all[0].placed_anew && all[0].created.is_empty() && all[0].restarted.is_empty(),
        "{all:?}"
    );
}
