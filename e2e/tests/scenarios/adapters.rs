//! An adapter on loopback that serves `custom.metrics.k8s.io` and `external.metrics.k8s.io` behind the real API server, as
//! metrics-server serves its API: the Service is only a name for the loopback address.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::loopback::Loopback;

/// Metric of every pod, preset `in-flight`.
pub(crate) const IN_FLIGHT: &str = "http_requests_in_flight";
/// Metric of a queue, preset `tickets`.
pub(crate) const TICKETS: &str = "tickets_open";
const CUSTOM: &str = "custom.metrics.k8s.io/v1beta2";
const EXTERNAL: &str = "external.metrics.k8s.io/v1beta1";
/// A peer that has not shaken hands by then is left.
const HANDSHAKE: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Known {
    /// By metric, namespace, and pod or selector.
    numbers: BTreeMap<(String, String, String), f64>,
    /// On whose behalf the API server asked last.
    user: Option<String>,
}

/// The server. Ends with this value.
pub(crate) struct Adapters {
    known: Arc<Mutex<Known>>,
    server: Loopback,
}

impl Adapters {
    /// Serves both APIs without any number, with a certificate of its own.
    pub(crate) async fn start() -> io::Result<Self> {
        let known = Arc::new(Mutex::new(Known::default()));
        let listener = Loopback::listener().await?;
        let address = listener.local_addr()?;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(io::Error::other)?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .map_err(io::Error::other)?;
        let listener = Tls {
            listener,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        };
        let service = Router::new()
            .route(
                &format!("/apis/{CUSTOM}"),
                get(async || resources(CUSTOM, &format!("pods/{IN_FLIGHT}"))),
            )
            .route(
                &format!("/apis/{CUSTOM}/namespaces/{{namespace}}/pods/{{pod}}/{{metric}}"),
                get(of_pods),
            )
            .route(&format!("/apis/{EXTERNAL}"), get(async || resources(EXTERNAL, TICKETS)))
            .route(
                &format!("/apis/{EXTERNAL}/namespaces/{{namespace}}/{{metric}}"),
                get(of_stage),
            )
            .with_state(Arc::clone(&known));
        let server = Loopback::on(listener, address, service);
        Ok(Self { known, server })
    }

    /// What an administrator writes about it, YAML of the chart's `sources`.
    pub(crate) fn sources() -> String {
        format!(
            "  customMetrics:\n  - {{name: in-flight, metric: {IN_FLIGHT}, role: running, kind: count, freshness: 20s}}\n  \
             externalMetrics:\n  - {{name: tickets, metric: {TICKETS}, selector: {{queue: $stage}}, role: queued, kind: count, \
             freshness: 15s}}\n"
        )
    }

    /// The objects that announce it to the API server.
    pub(crate) fn objects(&self) -> String {
        let port = self.server.address.port();
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "metric-adapters", "namespace": "kube-system"},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        });
        let api = |api: &str| {
            let (group, version) = api.split_once('/').unwrap_or((api, ""));
            json!({
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": format!("{version}.{group}")},
                "spec": {
                    "group": group,
                    "version": version,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                    "insecureSkipTLSVerify": true,
                    "service": {"name": "metric-adapters", "namespace": "kube-system", "port": port},
                },
            })
        };
        json!({"apiVersion": "v1", "kind": "List", "items": [service, api(CUSTOM), api(EXTERNAL)]}).to_string()
    }

    /// A number about a pod, or about what a selector such as `queue=work` picks; none: nobody knows.
    pub(crate) fn set(&self, metric: &str, namespace: &str, subject: &str, value: Option<f64>) {
        let key = (metric.to_owned(), namespace.to_owned(), subject.to_owned());
        let mut known = self.known.lock().unwrap();
        match value {
            Some(value) => drop(known.numbers.insert(key, value)),
            None => drop(known.numbers.remove(&key)),
        }
    }

    /// On whose behalf the API server asked for a number last.
    pub(crate) fn user(&self) -> Option<String> {
        self.known.lock().unwrap().user.clone()
    }
}

/// A listener whose connections are encrypted.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl axum::serve::Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, peer)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let shaken = tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream)).await;
            if let Ok(Ok(stream)) = shaken {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// What discovery shows of an API.
fn resources(api: &str, name: &str) -> Json<Value> {
    let kind = if api == CUSTOM {
        "MetricValueList"
    } else {
        "ExternalMetricValueList"
    };
    Json(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api,
        "resources": [{"name": name, "singularName": "", "namespaced": true, "kind": kind, "verbs": ["get"]}],
    }))
}

fn note_user(known: &mut Known, headers: &HeaderMap) {
    let user = headers.get("x-remote-user").and_then(|value| value.to_str().ok());
    known.user = user.map(str::to_owned);
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Thousandths, as quantities write them.
fn quantity(value: f64) -> String {
    format!("{:.0}m", value * 1_000.0)
}

async fn of_pods(
    State(known): State<Arc<Mutex<Known>>>,
    Path((namespace, pod, metric)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let mut known = known.lock().unwrap();
    note_user(&mut known, &headers);
    let of_pod = known.numbers.iter().filter(|((name, within, subject), _)| {
        *name == metric && *within == namespace && (pod == "*" || *subject == pod)
    });
    let items: Vec<Value> = of_pod
        .map(|((.., pod), value)| {
            json!({
                "describedObject": {"kind": "Pod", "namespace": namespace, "name": pod, "apiVersion": "/v1"},
                "metric": {"name": metric, "selector": null},
                "timestamp": now(),
                "value": quantity(*value),
            })
        })
        .collect();
    if items.is_empty() {
        return unknown(&metric);
    }
    Json(json!({"kind": "MetricValueList", "apiVersion": CUSTOM, "metadata": {}, "items": items})).into_response()
}

async fn of_stage(
    State(known): State<Arc<Mutex<Known>>>,
    Path((namespace, metric)): Path<(String, String)>,
    Query(asked): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut known = known.lock().unwrap();
    note_user(&mut known, &headers);
    let selector = asked.get("labelSelector").cloned().unwrap_or_default();
    let Some(value) = known.numbers.get(&(metric.clone(), namespace, selector)) else {
        return unknown(&metric);
    };
    let item = json!({
        "metricName": metric,
        "metricLabels": {},
        "timestamp": now(),
        "value": quantity(*value),
    });
    let list = json!({"kind": "ExternalMetricValueList", "apiVersion": EXTERNAL, "metadata": {}, "items": [item]});
    Json(list).into_response()
}

/// What adapters say of a metric that they do not have.
fn unknown(metric: &str) -> Response {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "NotFound",
        "message": format!("the server could not find the metric {metric}"),
        "code": 404,
    });
    (StatusCode::NOT_FOUND, Json(status)).into_response()
}
