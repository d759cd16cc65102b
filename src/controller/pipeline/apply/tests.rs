//! Which requests a pass sends, against a scripted API server.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::build::build;
use super::super::dereference::Found;
use super::super::tests::{found, rag, stage, world};
use super::super::validate::validate;
use super::{Report, TAKEN, apply};
use crate::fixtures::{ScriptedApi, status};

/// A first pass over a pipeline of one stage in a namespace where, outside the stores, `there` answers a look at a name.
/// Gives the report and the requests sent.
async fn first_pass(there: impl Fn(&str) -> Option<Value>) -> (Report, Vec<String>) {
    let raw = rag(json!([stage("serve", json!({}))]), json!({}));
    let found: Found = found(&world());
    let desired = build(&validate(&raw, &found));
    let (client, mut api) = ScriptedApi::new();
    let mut sent = Vec::new();
    let answering = async {
        while let Some(call) = api.call_within(Duration::from_secs(1)).await {
            let path = call.path.split('?').next().unwrap().to_owned();
            let forced = if call.path.contains("force=true") {
                " forced"
            } else {
                ""
            };
            sent.push(format!("{} {path}{forced}", call.method));
            match (call.method.as_str(), there(&path)) {
                ("GET", None) => call.reply(404, &status(404, "NotFound")),
                ("GET", Some(object)) => call.reply(200, &object),
                _ => {
                    let body = call.body.clone();
                    call.reply(200, &body);
                }
            }
        }
    };
    let (report, ()) = tokio::join!(apply(&client, desired, &found), answering);
    (report.unwrap(), sent)
}

fn metadata(name: &str, owner: Option<&str>) -> Value {
    let owners = owner.map(|uid| {
        json!([{"apiVersion": "tiercel.dev/v1alpha1", "kind": "TieredPipeline", "name": "rag", "uid": uid, "controller": true}])
    });
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"name": name, "namespace": "agents", "ownerReferences": owners}})
}

#[tokio::test(start_paused = true)]
async fn a_child_is_created_without_force_once_its_name_is_seen_to_be_free() {
    let (report, sent) = first_pass(|_| None).await;
    assert_eq!(report.refused, []);
    let (looks, writes): (Vec<_>, Vec<_>) = sent.iter().partition(|call| call.starts_with("GET"));
    assert_eq!(looks.len(), writes.len(), "{sent:#?}");
    assert_eq!(writes.len(), report.written.len(), "{sent:#?}");
    assert!(writes.iter().all(|call| !call.contains("forced")), "{sent:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_name_of_somebody_else_is_refused_and_never_written() {
    for kind in ["services", "deployments", "poddisruptionbudgets"] {
        let taken = |path: &str| path.contains(kind).then(|| metadata("other", Some("uid-other")));
        let (report, sent) = first_pass(taken).await;
        let refused: Vec<_> = report
            .refused
            .iter()
            .map(|it| (it.message.as_str(), it.transient))
            .collect();
        assert_eq!(refused, [(TAKEN, false)], "{kind}");
        let written = sent.iter().filter(|call| call.starts_with("PATCH"));
        assert!(written.clone().all(|call| !call.contains(kind)), "{kind}: {sent:#?}");
        assert!(written.count() > 0, "{kind}: the other children are written: {sent:#?}");
    }
}

/// A second pass may see some children of the first and not yet the others: what it would create them with is not what
/// they were created with.
#[tokio::test(start_paused = true)]
async fn a_child_of_ours_that_the_stores_do_not_show_yet_is_left_alone() {
    let ours = |path: &str| {
        let mut object = metadata("rag--serve", Some("uid-rag"));
        object["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "tiercel"});
        path.contains("deployments").then_some(object)
    };
    let (report, sent) = first_pass(ours).await;
    assert_eq!(report.refused, []);
    let written = |kind: &str| sent.iter().any(|call| call.starts_with("PATCH") && call.contains(kind));
    assert!(!written("deployments") && written("services"), "{sent:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_child_of_ours_that_lost_its_labels_gets_them_back() {
    let ours = |path: &str| {
        path.contains("services")
            .then(|| metadata("rag--serve", Some("uid-rag")))
    };
    let (report, sent) = first_pass(ours).await;
    assert_eq!(report.refused, []);
    let service = sent
        .iter()
        .find(|call| call.starts_with("PATCH") && call.contains("services"));
    assert!(service.unwrap().ends_with("forced"), "{sent:#?}");
}

#[tokio::test(start_paused = true)]
async fn children_are_written_eight_at_a_time_and_after_a_failure_none_is_begun() {
    let stages: Vec<Value> = (0..20).map(|at| stage(&format!("serve-{at}"), json!({}))).collect();
    let raw = rag(json!(stages), json!({}));
    let found: Found = found(&world());
    let desired = build(&validate(&raw, &found));
    let (client, mut api) = ScriptedApi::new();
    let (mut most, mut late) = (0, Vec::new());
    let answering = async {
        let mut failed = false;
        loop {
            let mut open = Vec::new();
            while let Some(call) = api.call_within(Duration::from_secs(1)).await {
                open.push(call);
            }
            if open.is_empty() {
                break;
            }
            most = most.max(open.len());
            late.extend(
                open.iter()
                    .filter(|call| failed && call.method == "GET")
                    .map(|call| call.path.clone()),
            );
            for call in open {
                match call.method.as_str() {
                    "GET" => call.reply(404, &status(404, "NotFound")),
                    // The last but one Service of the first eight meets a server that is out of order.
                    _ if call.path.contains("services/rag--serve-6") => {
                        failed = true;
                        call.reply(500, &status(500, "InternalError"));
                    }
                    _ => {
                        let body = call.body.clone();
                        call.reply(200, &body);
                    }
                }
            }
        }
    };
    let (report, ()) = tokio::join!(apply(&client, desired, &found), answering);
    let error = report.unwrap_err().to_string();
    assert!(error.starts_with("cannot write Service 'rag--serve-6'"), "{error}");
    assert_eq!((most, late), (8, Vec::<String>::new()));
}
