use std::io::Read as _;

use serde_json::{Value, json};

use super::*;
use crate::cli::asking::Operator;
use crate::cli::cluster::Cluster;
use crate::cli::operator::Installed;
use crate::fixtures::{ScriptedApi, status};

/// Secrets of many forms, planted where people put them.
const CANARIES: [&str; 17] = [
    "canary-env-1",
    "canary-env-2",
    "canary-arg-3",
    "canary-arg-4",
    "canary-annotation-5",
    "canary-annotation-6",
    "canary-user-7",
    "canary-query-8",
    "canary-header-9",
    "canary-log-10",
    "hf_canary11canary",
    "canary-message-12",
    "canary-managed-13",
    "canary-path-14",
    "canary-gap-15",
    "canary-status-16",
    "canary-label-17",
];

fn pod_spec() -> Value {
    json!({"containers": [{
        "name": "server", "image": "registry.example.com/server:1",
        "env": [{"name": "API_KEY", "value": "canary-env-1"}, {"name": "PLAIN", "value": "canary-env-2"}],
        "command": ["sh", "-c", "PASSWORD=canary-arg-3 exec server"],
        "args": ["--model", "kept-model", "--token", "canary-arg-4", "--hub=hf_canary11canary",
            "--db", "postgres://ann:canary-user-7@db:5432/x?sslkey=canary-query-8"],
        "readinessProbe": {"httpGet": {"path": "/", "port": 80, "httpHeaders": [{"name": "X-Auth", "value": "canary-header-9"}]}},
    }]})
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": "rag",
        "labels": {"tiercel.dev/pipeline": "chat", "tiercel.dev/stage": "generate", "tiercel.dev/pool": "kept-pool"},
        "annotations": {"team.example.com/note": "canary-annotation-5",
            "kubectl.kubernetes.io/last-applied-configuration": "{\"env\":\"canary-annotation-6\"}"},
        "managedFields": [{"manager": "canary-managed-13"}]})
}

fn pod(name: &str) -> Value {
    json!({"metadata": metadata(name), "spec": pod_spec(),
        "status": {"phase": "Pending", "message": "pull of https://x:canary-message-12@registry.example.com failed"}})
}

fn pipeline() -> Value {
    json!({"apiVersion": "tiercel.dev/v1alpha1", "kind": "TieredPipeline", "metadata": metadata("chat"),
        "spec": {"stages": [{"name": "generate", "container": {
            "image": "registry.example.com/server:1",
            "env": [{"name": "API_KEY", "value": "canary-env-1"}],
            "args": ["--model", "kept-model", "--token", "canary-arg-4"],
            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}}]},
        "status": {"stages": [{"name": "generate", "replicas": 1, "readyReplicas": 0,
            "message": "cannot reach http://u:canary-user-7@host/ with token: canary-message-12"}]}})
}

/// What the operator says to `why`.
fn explained() -> Value {
    let gap = json!({"why": "connect to https://ann:canary-gap-15@10.0.0.1/metrics failed kept-gap", "pods": 1});
    let signal =
        json!({"preset": "vllm", "source": "pods", "state": "stale", "freshSeconds": 5.0, "values": [], "gaps": [gap]});
    json!({"version": 1, "namespace": "rag", "pipeline": "chat", "time": "2026-11-21T12:00:00Z", "decisions": [],
        "stages": [{"name": "generate", "unit": "replicas", "signals": [signal], "trusted": false, "needs": [],
            "saturated": false, "pools": [], "calls": [],
            "hold": {"reason": "MetricsStale", "message": "token=canary-status-16 kept-hold"}}]})
}

/// What it exposes.
const METRICS: &str = "# HELP tiercel_lease_leading 1 while this process leads\ntiercel_lease_leading 1\n\
    tiercel_stage_demand{namespace=\"rag\",pipeline=\"chat\",stage=\"kept-stage\"} 7\n\
    tiercel_stage_demand{namespace=\"rag\",pipeline=\"other-pipeline\",stage=\"a\"} 7\n\
    tiercel_stage_demand{namespace=\"other-namespace\",pipeline=\"chat\",stage=\"a\"} 7\n\
    tiercel_endpoint_up{url=\"https://ann:canary-label-17@prometheus/\"} 1\n";

/// What the server says to a path.
fn answer(path: &str) -> (u16, Value) {
    let list = |items: Value| {
        (
            200,
            json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
        )
    };
    let deployment = json!({"metadata": metadata("chat--generate--kept-pool"), "spec": {"selector": {}, "template": {
        "metadata": metadata("x"), "spec": pod_spec()}}});
    if path.contains("/log?") {
        let text =
            "starting with token=canary-log-10 kept-line\ncalling https://host/v1/Canary14canary14CANARY14canary/x\n";
        return (200, Value::from(text));
    }
    match path {
        path if path.contains("/proxy/v1/explain/rag/chat") => (200, explained()),
        path if path.contains("/tieredpipelines/chat") => (200, pipeline()),
        path if path.contains("/computepools") => list(json!([])),
        path if path.contains("/tiercel-system/pods") => {
            let mut operator = pod("operator-1");
            operator["status"]["phase"] = json!("Running");
            list(json!([operator]))
        }
        path if path.contains("/pods") => list(json!([pod("chat--generate--kept-pool-a")])),
        path if path.contains("/deployments") => list(json!([deployment])),
        path if path.contains("/services") => list(json!([])),
        path if path.contains("/events") => list(json!([
            {"metadata": {"name": "e1"}, "involvedObject": {"name": "chat"}, "message": "password: canary-message-12 kept-event"},
            {"metadata": {"name": "e2"}, "involvedObject": {"name": "other"}, "message": "not-about-chat"},
        ])),
        path if path.contains("/version") => (
            200,
            json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "",
            "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
        ),
        _ => (403, status(403, "forbidden by canary-free rule")),
    }
}

/// The whole way: questions, answers, archive, and out of it again.
async fn unpacked() -> Vec<(String, String)> {
    let (client, mut api) = ScriptedApi::new();
    let server = tokio::spawn(async move {
        while let Some(call) = api.call_within(std::time::Duration::from_secs(20)).await {
            if call.path.contains("/proxy/metrics") {
                call.reply_text(200, METRICS);
                continue;
            }
            let (code, body) = answer(&call.path);
            call.reply(code, &body);
        }
    });
    let installed = Installed {
        operator_namespace: "tiercel-system".to_owned(),
        operator_selector: "app=tiercel".to_owned(),
    };
    let now = "2026-11-21T12:00:00Z".parse().unwrap();
    let cluster = Cluster::scripted(client);
    let operator = Operator::behind(
        cluster.client.clone(),
        &installed.operator_namespace,
        &installed.operator_selector,
    );
    let entries = collect::collect(&cluster, "chat", &installed, &operator, now)
        .await
        .unwrap();
    drop((cluster, operator));
    server.abort();
    let bytes = archive::packed(&entries).unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
    (0..archive.len())
        .map(|at| {
            let mut file = archive.by_index(at).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            (file.name().unwrap().into_owned(), text)
        })
        .collect()
}

#[tokio::test]
async fn no_planted_secret_reaches_the_archive_and_what_helps_does() {
    let files = unpacked().await;
    let all: Vec<String> = files.iter().map(|(name, text)| format!("{name}\n{text}")).collect();
    let all = all.join("\n");
    for canary in CANARIES {
        assert!(!all.contains(canary), "{canary} is in the archive:\n{all}");
    }
    assert!(!all.contains("Canary14"), "{all}");
    for kept in [
        "kept-model",
        "kept-pool",
        "kept-line",
        "kept-event",
        "kept-gap",
        "kept-hold",
        "kept-stage",
        "API_KEY",
        "REDACTED",
        "v1.36.0",
    ] {
        assert!(all.contains(kept), "{kept} is missing:\n{all}");
    }
    for other in ["not-about-chat", "other-pipeline", "other-namespace"] {
        assert!(!all.contains(other), "{other}:\n{all}");
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "README.txt",
            "pipeline.yaml",
            "pods.yaml",
            "computepools.yaml",
            "tree.txt",
            "status.txt",
            "deployments.yaml",
            "services.yaml",
            "events.yaml",
            "why.json",
            "operator/deployments.yaml",
            "operator/pods.yaml",
            "operator/operator-1.log",
            "operator/metrics.txt",
            "versions.json"
        ]
    );
}

#[tokio::test]
async fn what_may_not_be_seen_is_named_with_the_right_that_it_takes() {
    let files = unpacked().await;
    let (_, readme) = &files[0];
    for missing in ["poddisruptionbudgets.yaml", "nodes.yaml", "list nodes"] {
        assert!(readme.contains(missing), "{missing}:\n{readme}");
    }
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.zip");
    std::fs::write(&path, "precious").unwrap();
    let error = save(&path, &[]).unwrap_err().to_string();
    assert!(error.contains("report.zip") && error.contains("--file"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    assert!(save(&folder.path().join("other.zip"), &[]).unwrap() > 0);
}
