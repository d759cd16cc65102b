use std::collections::BTreeMap;
use std::time::Duration;

use http::{Request, Response};
use kube::client::Body;

use super::{CustomMetric, Dated, Error, ExternalMetric, Selector, of_pods, of_stage};
use crate::signals::Why;
use crate::signals::presets::Role;
use crate::signals::prometheus::template::Names;
use crate::signals::sources::Unit;

/// An API server that gives one answer, and the request line it got.
fn api_server(status: u16, body: &str) -> (kube::Client, tokio::task::JoinHandle<String>) {
    let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let body = body.as_bytes().to_vec();
    let server = tokio::spawn(async move {
        let (request, send) = handle.next_request().await.expect("a request");
        let response = Response::builder()
            .status(status)
            .header("content-type", "application/json");
        send.send_response(response.body(Body::from(body)).unwrap());
        format!("{} {}", request.method(), request.uri())
    });
    (kube::Client::new(service, "default"), server)
}

async fn pods(status: u16, body: &str) -> (String, Result<BTreeMap<String, Result<Dated, Why>>, Error>) {
    let metric = CustomMetric {
        role: Role::Running,
        unit: Unit::Count,
        metric: "in_flight".to_owned(),
        freshness_ms: 45_000,
        optional: false,
    };
    let (client, server) = api_server(status, body);
    let found = of_pods(&client, "rag", &metric, "app=x", Duration::from_secs(20)).await;
    (server.await.unwrap(), found)
}

fn external(role: Role, unit: Unit) -> ExternalMetric {
    let mut selector = Selector::default();
    selector.add("queue", "$pipeline.$stage").unwrap();
    selector.add("region", "eu").unwrap();
    ExternalMetric {
        role,
        unit,
        metric: "messages".to_owned(),
        selector,
        freshness_ms: 60_000,
        optional: false,
    }
}

const NAMES: Names<'static> = Names {
    namespace: "rag",
    pipeline: "support",
    stage: "embed",
    pods: &[],
};

async fn stage(metric: &ExternalMetric, status: u16, body: &str) -> (String, Result<Result<Dated, Why>, Error>) {
    let (client, server) = api_server(status, body);
    let found = of_stage(&client, metric, &NAMES, Duration::from_secs(20)).await;
    (server.await.unwrap(), found)
}

#[tokio::test]
async fn one_request_reads_the_metric_of_all_pods() {
    let body = r#"{"kind": "MetricValueList", "apiVersion": "custom.metrics.k8s.io/v1beta2", "metadata": {}, "items": [
        {"describedObject": {"kind": "Pod", "namespace": "rag", "name": "one", "apiVersion": "/v1"},
         "metric": {"name": "in_flight", "selector": null}, "timestamp": "2026-11-21T03:00:15Z", "windowSeconds": 30,
         "value": "1500m"},
        {"describedObject": {"kind": "Pod", "name": "two"}, "timestamp": "2026-11-21T03:00:14.5Z", "value": "7"},
        {"describedObject": {"name": "negative"}, "timestamp": "2026-11-21T03:00:15Z", "value": "-1"},
        {"describedObject": {"name": "nan"}, "timestamp": "2026-11-21T03:00:15Z", "value": "NaN"},
        {"describedObject": {"name": "undated"}, "value": "1"},
        {"describedObject": {"name": "unvalued"}, "timestamp": "2026-11-21T03:00:15Z"},
        {"describedObject": {"name": "twice"}, "timestamp": "2026-11-21T03:00:15Z", "value": "1"},
        {"describedObject": {"name": "twice"}, "timestamp": "2026-11-21T03:00:15Z", "value": "1"},
        {"describedObject": {"namespace": "other", "name": "foreign"}, "timestamp": "2026-11-21T03:00:15Z", "value": "1"},
        {"describedObject": {"kind": "Service", "name": "service"}, "timestamp": "2026-11-21T03:00:15Z", "value": "1"}
    ]}"#;
    let (request, found) = pods(200, body).await;
    assert_eq!(
        request,
        "GET /apis/custom.metrics.k8s.io/v1beta2/namespaces/rag/pods/*/in_flight?&labelSelector=app%3Dx"
    );
    let found = found.unwrap();
    let of = |name: &str| found[name].map(|dated| (dated.value.get(), dated.source_ms, dated.window_ms));
    assert_eq!(of("one"), Ok((1.5, 1_795_230_015_000, Some(30_000))));
    assert_eq!(of("two"), Ok((7.0, 1_795_230_014_500, None)));
    for (name, expected) in [
        ("negative", Why::OutOfRange),
        ("nan", Why::Malformed),
        ("undated", Why::Malformed),
        ("unvalued", Why::NoSeries),
        ("twice", Why::Ambiguous),
    ] {
        assert_eq!(of(name), Err(expected), "{name}");
    }
    assert!(!found.contains_key("foreign") && !found.contains_key("service"));
}

#[tokio::test]
async fn an_external_metric_is_the_sum_of_a_stages_series_as_old_as_the_oldest() {
    let body = r#"{"kind": "ExternalMetricValueList", "apiVersion": "external.metrics.k8s.io/v1beta1", "metadata": {}, "items": [
        {"metricName": "messages", "metricLabels": {"queue": "support.embed"}, "timestamp": "2026-11-21T03:00:15Z", "value": "40"},
        {"metricName": "messages", "metricLabels": {}, "timestamp": "2026-11-21T03:00:10Z", "window": 60, "value": "2500m"}
    ]}"#;
    let (request, found) = stage(&external(Role::Queued, Unit::Count), 200, body).await;
    assert_eq!(
        request,
        "GET /apis/external.metrics.k8s.io/v1beta1/namespaces/rag/messages?&labelSelector=queue%3Dsupport.embed%2Cregion%3Deu"
    );
    let found = found.unwrap().unwrap();
    assert_eq!(
        (found.value.get(), found.source_ms, found.window_ms),
        (42.5, 1_795_230_010_000, Some(60_000))
    );

    let shares = body.replace("40", "0.4").replace("2500m", "0.9");
    let metric = external(Role::Utilization, Unit::Ratio);
    let found = stage(&metric, 200, &shares).await.1.unwrap().unwrap();
    assert!((found.value.get() - 0.9).abs() < 1e-9, "of shares the largest");

    let queue = external(Role::Queued, Unit::Count);
    let empty = r#"{"items": []}"#;
    assert_eq!(
        stage(&queue, 200, empty).await.1.unwrap(),
        Err(Why::NoSeries),
        "nothing is not zero"
    );
    let one_bad = body.replace("2500m", "-1");
    assert_eq!(stage(&queue, 200, &one_bad).await.1.unwrap(), Err(Why::OutOfRange));
}

#[tokio::test]
async fn an_answer_that_is_no_list_says_what_to_do() {
    let status = |code: u16, message: &str| {
        format!(
            r#"{{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "{message}", "reason": "x", "code": {code}}}"#
        )
    };
    let unserved = "the server could not find the requested resource";
    for (code, message, expected, says) in [
        (404, unserved, Why::NoSeries, "is not served"),
        (
            404,
            "the server could not find the metric",
            Why::NoSeries,
            "knows no metric",
        ),
        (403, "no", Why::Denied, "grant it"),
        (401, "no", Why::Denied, "grant it"),
        (503, "no", Why::Unreachable, "APIService"),
        (429, "no", Why::Unreachable, "cannot answer now"),
        (500, "no", Why::Unreachable, "cannot be read"),
    ] {
        let error = pods(code, &status(code, message)).await.1.unwrap_err();
        assert_eq!(error.why(), expected, "{code}: {error}");
        assert!(error.to_string().contains(says), "{code}: {error}");
        let queue = external(Role::Queued, Unit::Count);
        let error = stage(&queue, code, &status(code, message)).await.1.unwrap_err();
        assert_eq!(error.why(), expected, "{code}: {error}");
    }
    let error = pods(403, &status(403, "no")).await.1.unwrap_err().to_string();
    assert!(
        error.contains("get on pods/in_flight in custom.metrics.k8s.io"),
        "{error}"
    );
    for body in [
        "",
        "null",
        "{}",
        "<html>",
        r#"{"items": [{}]}"#,
        r#"{"items": [{"describedObject": {}}]}"#,
    ] {
        let error = pods(200, body).await.1.unwrap_err();
        assert_eq!(error.why(), Why::Malformed, "{body}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_api_server_is_left_at_the_deadline() {
    let (service, _handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
    let client = kube::Client::new(service, "default");
    let metric = external(Role::Queued, Unit::Count);
    let error = of_stage(&client, &metric, &NAMES, Duration::from_secs(4))
        .await
        .unwrap_err();
    assert_eq!(error.why(), Why::Timeout);
}

#[test]
fn a_name_that_makes_a_label_too_long_asks_nothing() {
    let long = "a".repeat(60);
    let names = Names { stage: &long, ..NAMES };
    let selector = external(Role::Queued, Unit::Count).selector;
    assert_eq!(selector.about(&names), None);
    assert_eq!(selector.about(&NAMES).as_deref(), Some("queue=support.embed,region=eu"));
    let injected = Names {
        stage: "x,team=other",
        ..NAMES
    };
    assert_eq!(selector.about(&injected), None, "a name cannot add a label");
}
