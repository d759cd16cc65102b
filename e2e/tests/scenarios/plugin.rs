//! `kubectl tiercel` on a real control plane: what it shows is what is there, and what it says of manifests is what the API server
//! says of them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel_e2e::command::{self, Output};
use tiercel_e2e::nodes::X86;
use tiercel_e2e::operator::find_binary;
use tiercel_e2e::slot::Port;
use tiercel_e2e::wait::eventually;

use crate::behaviour::{SHAPE, Scene, server, serving};
use crate::suite::Suite;
use crate::support::{PATIENCE, cpu_pool, documents, file, pipeline};

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 2] {
    crate::scenarios![suite, plugin:
        what_is_there_is_shown_paused_resumed_and_reported,
        lint_and_the_api_server_refuse_the_same_manifests,
    ]
}

/// Runs the program, as whoever the kubeconfig says.
pub(crate) async fn tiercel(kubeconfig: PathBuf, args: &[&str]) -> Output {
    let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
    let env = [
        ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ];
    command::run(find_binary().unwrap(), &args, &env, "", Duration::from_secs(30))
        .await
        .unwrap()
}

#[expect(clippy::too_many_lines, reason = "one session, told in the order it happens")]
pub(crate) async fn what_is_there_is_shown_paused_resumed_and_reported(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.create("chat", &[server("generate", 2, 2)]).await;
    scene.tiered.ready("chat").await;
    let cluster = &scene.tiered.installed.cluster;
    let namespace = scene.tiered.namespace();
    let told = async |args: &[&str]| {
        let told = tiercel(cluster.kubeconfig(), &[args, &["-n", namespace]].concat()).await;
        assert_eq!(told.code, Some(0), "{args:?}: {told:?}");
        told.stdout
    };

    // The tree holds exactly the pods that there are, under the pool that they are on.
    let tree: Value = serde_json::from_str(&told(&["get", "chat", "-o", "json"]).await).unwrap();
    let pool = &tree["pipelines"][0]["stages"][0]["pools"][0];
    assert_eq!(pool["name"], json!(scene.tiered.pool_name("x86")), "{tree}");
    let mut shown: Vec<&str> = pool["pods"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| pod["name"].as_str().unwrap())
        .collect();
    shown.sort_unstable();
    let pods = scene.tiered.pods("chat").await;
    let mut there: Vec<&str> = pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect();
    there.sort_unstable();
    assert_eq!(shown, there, "{tree}");
    let text = told(&["get"]).await;
    assert!(
        there.iter().all(|pod| text.contains(pod)) && !text.contains('\x1b'),
        "{text}"
    );
    let wide = told(&["get", "-o", "wide"]).await;
    assert!(wide.contains("CPU x86"), "{wide}");

    let status: Value = serde_json::from_str(&told(&["status", "chat", "-o", "json"]).await).unwrap();
    assert_eq!(
        (&status["serves"], &status["ready"]),
        (&json!("Yes"), &json!(2)),
        "{status}"
    );
    let top = told(&["top"]).await;
    assert!(
        top.contains(&scene.tiered.pool_name("x86")) && top.contains("generate"),
        "{top}"
    );

    // What it costs, as the operator says it now: all that there is, all that is planned, and all that must be.
    let operator = format!("http://127.0.0.1:{}", cluster.port(Port::Operator));
    let per_hour: f64 = status["costPerHour"].as_str().unwrap().parse().unwrap();
    // Metrics follow once a second.
    eventually(PATIENCE, format!("everything costs {per_hour}"), async || {
        let costs = told(&["cost", "chat", "-o", "json", "--operator", &operator]).await;
        let costs: Value = serde_json::from_str(&costs).map_err(|error| error.to_string())?;
        let line = &costs["lines"][0];
        let is_right = |column| (line[column].as_f64().unwrap_or(f64::NAN) - per_hour).abs() < 0.01;
        let all = ["perHour", "plannedPerHour", "minimumPerHour"]
            .into_iter()
            .all(is_right);
        let all = all && line["of"] == json!([namespace, "chat"]);
        if all { Ok(()) } else { Err(costs.to_string()) }
    })
    .await
    .unwrap();
    let by_pool = told(&["cost", "--by", "pool", "--operator", &operator]).await;
    assert!(by_pool.contains(&scene.tiered.pool_name("x86")), "{by_pool}");

    // Paused is what the operator goes by, too.
    let words = told(&["pause", "chat"]).await;
    assert!(words.contains("is paused"), "{words}");
    eventually(PATIENCE, "the operator says that it is paused", async || {
        let pipeline = scene.tiered.pipeline("chat").await;
        let conditions = pipeline.status.unwrap_or_default().conditions;
        if conditions.iter().any(|condition| condition.reason == "Paused") {
            Ok(())
        } else {
            Err(format!("{conditions:?}"))
        }
    })
    .await
    .unwrap();
    assert!(told(&["get"]).await.contains("Paused"));
    let words = told(&["resume", "chat", "--scale-in"]).await;
    assert!(words.contains("does not grow"), "{words}");
    told(&["resume", "chat"]).await;
    scene.tiered.ready("chat").await;

    let path = cluster.folder().join(format!("{namespace}-report.zip"));
    told(&["report", "chat", "--file", &path.display().to_string()]).await;
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.starts_with(b"PK") && bytes.len() > 2_000, "{} bytes", bytes.len());

    // All nodes of the space belong to its pool; proposals for others' are valid as far as they have a price.
    let told = tiercel(cluster.kubeconfig(), &["discover", "-o", "json"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let proposal: Value = serde_json::from_str(&told.stdout).unwrap();
    assert!(
        proposal["covered"][scene.tiered.pool_name("x86")].as_u64() >= Some(1),
        "{proposal}"
    );
    for proposed in proposal["pools"].as_array().unwrap() {
        if proposed["priceSource"].is_string() {
            let answer = cluster
                .kubectl()
                .dry_run(namespace, &proposed["pool"].to_string())
                .await
                .unwrap();
            assert_eq!(answer.code, Some(0), "{proposed}: {answer:?}");
        }
    }
}

/// A manifest with one field changed; `null` takes it away.
fn with(mut object: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap();
    if value.is_null() {
        parent.as_object_mut().unwrap().remove(field);
    } else {
        parent[field] = value;
    }
    object
}

pub(crate) async fn lint_and_the_api_server_refuse_the_same_manifests(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    let cluster = &scene.tiered.installed.cluster;
    let namespace = scene.tiered.namespace();
    let chat = || pipeline("chat", &[server("retrieve", 1, 2), server("generate", 1, 2)]);
    let stage = "/spec/stages/0";
    let at = |field: &str| format!("{stage}/{field}");
    let mut manifests = vec![chat(), cpu_pool("x86", &[("a", "b")])];
    manifests.extend(documents(&file("config/samples/support-agent.yaml")));
    for (pointer, value) in [
        ("/spec/priority".to_owned(), json!(1_001)),
        ("/spec/mode".to_owned(), json!("Auto")),
        ("/spec/stages".to_owned(), json!([])),
        ("/spec/unknown".to_owned(), json!(1)),
        ("/metadata/name".to_owned(), json!("a--b")),
        ("/spec/budget".to_owned(), json!({"maxCostPerHour": "0.0"})),
        ("/spec/budget".to_owned(), json!({"maxCostPerHour": "12.5"})),
        ("/spec/gateway".to_owned(), json!({"name": "Bad_Name"})),
        (at("name"), json!("generate")),
        (at("traffic"), json!("Weighted")),
        (at("replicas"), json!({"min": 3, "max": 2})),
        (at("replicas"), json!({"min": 0})),
        (at("tierHint"), json!("AcceleratorRequired")),
        (at("after"), json!([{"stage": "generate"}])),
        (at("startupSeconds"), json!(3_601)),
        (at("capacity"), json!({})),
        (at("capacity"), json!({"requestsPerSecond": "1e3"})),
        (at("container/image"), json!("a b")),
        (at("container/ports"), Value::Null),
        (at("container/env"), json!([{"name": "TIERCEL_X", "value": "1"}])),
        (
            at("container/env"),
            json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]),
        ),
        (at("container/resources/requests/cpu"), json!("5000")),
        (at("container/resources/requests/cpu"), json!(2)),
        (at("container/resources/requests/memory"), json!("1Mib")),
        (at("container/resources/requests/memory"), Value::Null),
        (at("container/resources/limits"), json!({"memory": "1Mi"})),
        (at("container/resources/limits"), json!({"nvidia.com/gpu": "1.5"})),
        (at("container/resources/limits"), json!({"nvidia.com/gpu": 2})),
        (at("signal"), json!({"preset": "vllm", "onSignalLoss": "Static"})),
        (at("signal"), json!({"preset": "vllm", "also": [{"preset": "vllm"}]})),
        (
            at("profiles"),
            json!([{"name": "cpu", "pools": {"classes": ["NVIDIA"]}}]),
        ),
    ] {
        manifests.push(with(chat(), &pointer, value));
    }
    for (pointer, value) in [
        ("/spec/nodeSelector", Value::Null),
        ("/spec/nodeSelector", json!({"bad key": "x"})),
        ("/spec/tier", json!("Accelerator")),
        ("/spec/device", json!({"resourceName": "nvidia.com/gpu"})),
        ("/spec/costPerNodeHour", json!("")),
        ("/spec/costPerNodeHour", json!(1)),
        ("/spec/reservePercent", json!(91)),
        ("/spec/tolerations", json!([{"key": "node.kubernetes.io/not-ready"}])),
        (
            "/spec/tolerations",
            json!([{"key": "a", "operator": "Exists", "value": "b"}]),
        ),
        ("/spec/matchExpressions", json!([{"key": "a", "operator": "In"}])),
        (
            "/spec/matchExpressions",
            json!([{"key": "a", "operator": "Gt", "values": ["x"]}]),
        ),
        ("/spec/elastic", json!({"maxNodes": 2, "nodeAllocatable": {"cpu": "1"}})),
        ("/spec/allowedNamespaces", json!({"from": "Selector"})),
    ] {
        manifests.push(with(cpu_pool("x86", &[("a", "b")]), pointer, value));
    }
    let path = cluster.folder().join(format!("{namespace}-lint.json"));
    let mut refused = 0;
    for manifest in &manifests {
        std::fs::write(&path, manifest.to_string()).unwrap();
        let told = tiercel(cluster.kubeconfig(), &["lint", "-f", &path.display().to_string()]).await;
        let answer = cluster
            .kubectl()
            .dry_run(namespace, &manifest.to_string())
            .await
            .unwrap();
        let (ours, theirs) = (told.code != Some(0), answer.code != Some(0));
        assert_eq!(ours, theirs, "{manifest}\nlint: {told:?}\nserver: {answer:?}");
        assert!(!told.stdout.contains("only the API server checks"), "{told:?}");
        refused += usize::from(ours);
    }
    assert!(
        refused > 30 && refused < manifests.len() - 3,
        "{refused} of {}",
        manifests.len()
    );
}
