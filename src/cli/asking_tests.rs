use hyper::{Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use tower_test::mock;

use super::*;

/// Answers requests in order, each told by its path and query.
async fn answered(expected: Vec<(&'static str, u16, String)>) -> Result<Document, Unreached> {
    let (service, mut server) = mock::pair::<hyper::Request<Body>, Response<Body>>();
    let client = Client::new(service, "default");
    let serve = async {
        for (path, code, body) in expected {
            let (request, send) = server.next_request().await.unwrap();
            assert_eq!(request.uri().path_and_query().unwrap().as_str(), path);
            let answer = Response::builder().status(StatusCode::from_u16(code).unwrap());
            send.send_response(answer.body(Body::from(body.into_bytes())).unwrap());
        }
    };
    let operator = Operator::behind(client, "tiercel-system", "app=tiercel");
    let (document, ()) = tokio::join!(operator.ask("rag", "chat"), serve);
    document
}

const LIST: &str = "/api/v1/namespaces/tiercel-system/pods?&labelSelector=app%3Dtiercel";

fn pod(name: &str, phase: &str, port: Option<i32>) -> Value {
    let ports =
        port.map(|port| json!([{"name": "http", "containerPort": 1}, {"name": "metrics", "containerPort": port}]));
    json!({
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "operator", "ports": ports}]},
        "status": {"phase": phase},
    })
}

fn list(pods: &[Value]) -> String {
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}).to_string()
}

fn document() -> String {
    let document = Document {
        version: explain::VERSION,
        pipeline: "chat".to_owned(),
        ..Document::default()
    };
    serde_json::to_string(&document).unwrap()
}

#[tokio::test]
async fn of_the_operators_pods_the_one_that_leads_answers() {
    let pods = list(&[
        pod("gone", "Succeeded", None),
        pod("standby", "Running", None),
        pod("leader", "Running", Some(9_090)),
    ]);
    let found = answered(vec![
        (LIST, 200, pods),
        (
            "/api/v1/namespaces/tiercel-system/pods/http:standby:8080/proxy/v1/explain/rag/chat",
            503,
            explain::ask::Error::Standby.to_string() + "\n",
        ),
        (
            "/api/v1/namespaces/tiercel-system/pods/http:leader:9090/proxy/v1/explain/rag/chat",
            200,
            document(),
        ),
    ]);
    assert_eq!(found.await.unwrap().pipeline, "chat");
}

#[tokio::test]
async fn what_is_in_the_way_is_told_rather_than_that_another_stands_by() {
    let pods = list(&[pod("standby", "Running", None), pod("leader", "Running", None)]);
    let refused = "error trying to reach service: dial tcp 10.0.0.7:8080: i/o timeout";
    let found = answered(vec![
        (LIST, 200, pods),
        (
            "/api/v1/namespaces/tiercel-system/pods/http:standby:8080/proxy/v1/explain/rag/chat",
            503,
            explain::ask::Error::Standby.to_string(),
        ),
        (
            "/api/v1/namespaces/tiercel-system/pods/http:leader:8080/proxy/v1/explain/rag/chat",
            503,
            refused.to_owned(),
        ),
    ]);
    assert_eq!(found.await.unwrap_err().to_string(), format!("pod leader: {refused}"));
}

#[tokio::test]
async fn whoever_may_not_ask_learns_which_right_it_takes() {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden",
        "message": "pods is forbidden: User \"ann\" cannot list resource \"pods\""});
    let error = answered(vec![(LIST, 403, status.to_string())]).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("User \"ann\"") && text.contains("pods/proxy"), "{text}");
}

#[tokio::test]
async fn no_pod_another_version_and_another_server_are_told_apart() {
    let none = answered(vec![(LIST, 200, list(&[]))]).await.unwrap_err();
    assert!(matches!(none, Unreached::NoPod { .. }), "{none}");
    let path = "/api/v1/namespaces/tiercel-system/pods/http:a:8080/proxy/v1/explain/rag/chat";
    let pods = || list(&[pod("a", "Running", None)]);
    let newer = document().replace("\"version\":1", "\"version\":2");
    let cases = [
        (200, newer, "version 2"),
        (200, "<html>".to_owned(), "does not answer as an operator does"),
        (404, String::new(), "knows no /v1/explain"),
        (
            404,
            explain::ask::Error::Unknown.to_string(),
            "does not plan this pipeline",
        ),
    ];
    for (code, body, says) in cases {
        let error = answered(vec![(LIST, 200, pods()), (path, code, body)])
            .await
            .unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn an_address_is_checked_before_anything_is_asked() {
    for url in ["", "8080", "ftp://a:1", "http://", "http://ann:secret@a:8080"] {
        let Err(error) = Operator::at(url) else {
            panic!("{url} passes")
        };
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
