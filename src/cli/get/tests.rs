use serde_json::{Value, json};

use super::*;
use crate::fixtures::{ScriptedApi, status};

fn list(items: &[Value], more: &str) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"continue": more}, "items": items})
}

fn pipeline(name: &str) -> Value {
    json!({"apiVersion": "tiercel.dev/v1alpha1", "kind": "TieredPipeline", "metadata": {"name": name, "namespace": "rag"},
        "spec": {"stages": []}})
}

fn question(name: Option<&str>, namespace: Option<&str>) -> Question {
    Question {
        name: name.map(ToOwned::to_owned),
        namespace: namespace.map(ToOwned::to_owned),
    }
}

#[tokio::test]
async fn all_pages_are_read_and_what_may_not_be_seen_is_left_out_and_said() {
    let (client, mut api) = ScriptedApi::new();
    api.expect("GET", "/apis/tiercel.dev/v1alpha1/tieredpipelines?&limit=500")
        .reply(200, list(&[pipeline("a")], "next"));
    api.expect("GET", "continue=next")
        .reply(200, list(&[pipeline("b")], ""));
    api.expect("GET", "/api/v1/pods?")
        .reply(403, status(403, "pods is forbidden"));
    api.expect("GET", "/computepools?")
        .reply(403, status(403, "computepools is forbidden"));
    let script = api.serve();
    let (seen, notes) = question(None, None).ask(&Cluster::scripted(client)).await.unwrap();
    script.finish().await;
    let names: Vec<_> = seen.pipelines.iter().map(kube::ResourceExt::name_any).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("pods is forbidden") && notes[0].contains("list pods"),
        "{notes:?}"
    );
}

#[tokio::test]
async fn one_pipeline_is_asked_for_by_name_and_so_are_its_pods() {
    let (client, mut api) = ScriptedApi::new();
    api.expect("GET", "/namespaces/rag/tieredpipelines/chat")
        .reply(200, pipeline("chat"));
    api.expect("GET", "/namespaces/rag/pods?").reply(200, list(&[], ""));
    api.expect("GET", "/computepools?").reply(200, list(&[], ""));
    let script = api.serve();
    let asked = question(Some("chat"), Some("rag"));
    let (seen, notes) = asked.ask(&Cluster::scripted(client)).await.unwrap();
    script.finish().await;
    assert_eq!((seen.pipelines.len(), notes.len()), (1, 0));
    assert_eq!(
        asked.selector(),
        "app.kubernetes.io/managed-by=tiercel,tiercel.dev/pipeline=chat"
    );
}
