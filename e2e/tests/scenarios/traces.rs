//! Traces, as a collector on loopback takes them in from the real operator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use libtest_mimic::Trial;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as Verdict;
use prost::Message as _;
use serde_json::json;
use tiercel_e2e::nodes::X86;
use tiercel_e2e::wait::eventually;

use crate::behaviour::{SHAPE, Scene, server, serving};
use crate::loopback::Loopback;
use crate::suite::Suite;
use crate::support::PATIENCE;

/// Spans kept; older ones go.
const SPANS_MAX: usize = 200_000;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 1] {
    crate::scenarios![suite, traces:
        a_decision_is_traced_from_its_signal_to_the_answer_of_the_api_server,
    ]
}

/// A span as the collector got it.
#[derive(Clone, Debug)]
struct Span {
    service: String,
    name: String,
    id: Vec<u8>,
    parent: Vec<u8>,
    trace: Vec<u8>,
    nanos: (u64, u64),
    failed: bool,
    attributes: BTreeMap<String, String>,
}

impl Span {
    fn get(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// The collector. Ends with this value.
pub(crate) struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    server: Loopback,
}

impl Collector {
    /// Takes spans in, OTLP over HTTP.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let spans = Arc::default();
        let service = Router::new()
            .route("/v1/traces", post(export))
            .with_state(Arc::clone(&spans));
        let server = Loopback::start(service).await?;
        Ok(Self { spans, server })
    }

    /// What an operator needs to send its spans here soon.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://{}", self.server.address);
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT".into(), endpoint),
            ("OTEL_EXPORTER_OTLP_COMPRESSION".into(), "gzip".into()),
            ("OTEL_BSP_SCHEDULE_DELAY".into(), "200".into()),
        ]
    }

    fn find(&self, fits: impl Fn(&Span) -> bool) -> Vec<Span> {
        let spans = self.spans.lock().unwrap();
        spans.iter().filter(|span| fits(span)).cloned().collect()
    }

    /// The first span that fits, once it is here.
    async fn one(&self, what: &str, fits: impl Fn(&Span) -> bool) -> Span {
        let found = eventually(PATIENCE, format!("a span: {what}"), async || {
            let found = self.find(&fits).into_iter().next();
            found.ok_or_else(|| format!("{} others", self.spans.lock().unwrap().len()))
        });
        found.await.unwrap_or_else(|late| panic!("{late}"))
    }
}

fn text(attribute: &KeyValue) -> (String, String) {
    let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
    let value = match value {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        Some(Any::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    (attribute.key.clone(), value)
}

async fn export(
    State(spans): State<Arc<Mutex<Vec<Span>>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Vec<u8>, StatusCode> {
    let is = |name: &str, value: &str| {
        headers
            .get(name)
            .is_some_and(|found| found.as_bytes() == value.as_bytes())
    };
    if !is("content-type", "application/x-protobuf") || !is("content-encoding", "gzip") {
        return Err(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let mut plain = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(&*body), &mut plain).map_err(|_| StatusCode::BAD_REQUEST)?;
    let request = ExportTraceServiceRequest::decode(&*plain).map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut spans = spans.lock().unwrap();
    for resource in request.resource_spans {
        let of = resource
            .resource
            .iter()
            .flat_map(|resource| &resource.attributes)
            .map(text);
        let service = of
            .collect::<BTreeMap<_, _>>()
            .remove("service.name")
            .unwrap_or_default();
        spans.extend(
            resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
                .map(|span| Span {
                    service: service.clone(),
                    failed: span.status.is_some_and(|status| status.code() == Verdict::Error),
                    attributes: span.attributes.iter().map(text).collect(),
                    nanos: (span.start_time_unix_nano, span.end_time_unix_nano),
                    name: span.name,
                    id: span.span_id,
                    parent: span.parent_span_id,
                    trace: span.trace_id,
                }),
        );
    }
    let over = spans.len().saturating_sub(SPANS_MAX);
    spans.drain(..over);
    Ok(ExportTraceServiceResponse::default().encode_to_vec())
}

pub(crate) async fn a_decision_is_traced_from_its_signal_to_the_answer_of_the_api_server(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let installed = Arc::clone(&scene.tiered.installed);
    let (collector, namespace) = (&installed.collector, scene.tiered.namespace().to_owned());
    let queue = |messages| installed.prometheus.queue(&namespace, "traced.work", messages);
    let mut stage = server("work", 1, 4);
    stage["signal"]["preset"] = json!("broker");
    queue(Some((0.0, 0.0)));
    scene.tiered.create("traced", &[stage]).await;
    scene.settles("traced", "work", &[("x86", 1)]).await;
    queue(Some((18.0, 0.0)));
    scene.settles("traced", "work", &[("x86", 3)]).await;
    let ours = |span: &Span| span.get("k8s.namespace.name") == namespace;

    // The decision that status shows, with what it was told and what came of it.
    let grown = "1->3";
    let shown = scene
        .tiered
        .decided("traced", "grows the stage", |it| it.summary.contains(grown))
        .await;
    let decided = collector
        .one("the decision", |span| {
            span.name == "decide" && span.get("tiercel.decision") == shown.id
        })
        .await;
    assert_eq!(decided.service, "tiercel");
    assert!(
        ours(&decided) && decided.parent.is_empty() && !decided.failed,
        "{decided:?}"
    );
    assert_eq!(decided.get("tiercel.pipeline"), "traced");
    assert_eq!(decided.get("tiercel.stage"), "work");
    assert_eq!(decided.get("tiercel.trigger"), shown.trigger);
    assert_eq!(decided.get("tiercel.reason"), shown.reason);
    assert_eq!(decided.get("tiercel.summary"), shown.summary);
    assert_eq!(decided.get("tiercel.cost_after"), shown.cost_after);
    let number = |key| decided.get(key).parse::<u64>();
    assert!(number("tiercel.demand_millis").unwrap() > 0, "{decided:?}");
    assert!(number("tiercel.signal.age_ms").unwrap() < 5_000, "{decided:?}");

    // Its write, and the call of the API server, within it.
    let below = |parent: &Span, name: &'static str| {
        let (id, trace) = (parent.id.clone(), parent.trace.clone());
        move |span: &Span| span.parent == id && span.trace == trace && span.name == name
    };
    let within = |inner: &Span, outer: &Span| outer.nanos.0 <= inner.nanos.0 && inner.nanos.1 <= outer.nanos.1;
    let scaled = collector.one("its write", below(&decided, "scale")).await;
    assert_eq!(scaled.get("tiercel.replicas.from"), "1");
    assert_eq!(scaled.get("tiercel.replicas.to"), "3");
    assert_eq!(scaled.get("tiercel.outcome"), "written");
    assert!(within(&scaled, &decided), "{scaled:?} in {decided:?}");
    // A Deployment that changed in between is answered with a conflict, read and asked again.
    let call = below(&scaled, "patch_scale");
    let answered = |span: &Span, status| call(span) && span.get("http.response.status_code") == status;
    let called = collector.one("its call", |span| answered(span, "200")).await;
    let refused = collector.find(|span| call(span) && !answered(span, "200") && !answered(span, "409"));
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(called.get("http.request.method"), "PATCH");
    let path = format!(
        "/apis/apps/v1/namespaces/{namespace}/deployments/{}/scale",
        scaled.get("k8s.deployment.name")
    );
    assert_eq!(called.get("url.path"), path);
    assert!(within(&called, &scaled), "{called:?} in {scaled:?}");

    // The pass that made the Deployment.
    let passes = collector.find(|span| span.name == "reconcile" && ours(span) && !span.failed);
    assert!(!passes.is_empty());
    let made = passes.iter().find(|pass| {
        let made = below(pass, "patch");
        let calls = collector.find(|span| made(span) && span.get("url.path").contains("/deployments/"));
        calls.len() == 1 && calls[0].get("http.response.status_code") == "201"
    });
    let made = made.unwrap_or_else(|| panic!("no pass created the Deployment: {passes:?}"));
    assert_eq!(made.get("tiercel.controller"), "pipeline");
    assert_eq!(made.get("k8s.object.name"), "traced");
    assert_eq!(made.get("k8s.object.generation"), "1");
    assert!(
        ["Applied", "Waiting"].contains(&made.get("tiercel.outcome")),
        "{made:?}"
    );
    scene.bounds_held();
}
