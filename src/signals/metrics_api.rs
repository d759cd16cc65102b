//! I/O: CPU usage of pods from `metrics.k8s.io`, the source of the `cpu` preset.
//!
//! The API names pods, not their UIDs, and each value carries the time its source measured it. Asking more often than
//! the source measures gives the same value again; [`super::aggregate`] sees that by the time and lets it age.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::ListParams;
use serde::Deserialize;

use super::exposition::fingerprint;
use super::presets::of_request;
use super::{PodSignals, Why};
use crate::quantity::Quantity;

/// What one pod used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// CPU of all its containers, averaged over the window.
    pub cpu: Quantity,
    /// When the source measured it: Unix time in milliseconds on the source's clock.
    pub source_ms: i64,
    /// Over how long, milliseconds; `None` if the source does not say so legibly.
    pub window_ms: Option<u64>,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody serves the API.
    #[error("metrics.k8s.io is not served: install metrics-server, or use a preset that is read from the pods")]
    NotServed,
    /// The operator may not read it.
    #[error("metrics.k8s.io refuses the operator: grant it list on pods in metrics.k8s.io")]
    Denied,
    /// No answer in time.
    #[error("metrics.k8s.io did not answer within {0:?}: check metrics-server and its APIService")]
    Timeout(Duration),
    /// The selector or the namespace make no request.
    #[error("metrics.k8s.io cannot be asked: {0}")]
    Request(#[source] kube::core::request::Error),
    /// Anything else.
    #[error("metrics.k8s.io cannot be read: {0}")]
    Api(#[source] Box<kube::Error>),
}

impl Error {
    /// The same as the absence of every pod's number.
    pub fn why(&self) -> Why {
        match self {
            Self::NotServed => Why::NoSeries,
            Self::Denied => Why::Denied,
            Self::Timeout(_) => Why::Timeout,
            Self::Request(_) => Why::NoTarget,
            Self::Api(error) => match **error {
                kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Why::Malformed,
                _ => Why::Unreachable,
            },
        }
    }
}

/// Usage of the pods of a namespace that match a label selector, by pod name. A pod that is listed without a legible
/// value has the reason in its place; a pod that is not listed has none yet.
pub async fn pod_usage(
    client: &kube::Client,
    namespace: &str,
    selector: &str,
    deadline: Duration,
) -> Result<BTreeMap<String, Result<Usage, Why>>, Error> {
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
    let list = kube::core::Request::new(path)
        .list(&ListParams::default().labels(selector))
        .map_err(Error::Request)?;
    let answered = tokio::time::timeout(deadline, client.request::<PodMetricsList>(list)).await;
    let list = answered
        .map_err(|_| Error::Timeout(deadline))?
        .map_err(|error| match &error {
            kube::Error::Api(status) if matches!(status.code, 404 | 503) => Error::NotServed,
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => Error::Denied,
            _ => Error::Api(Box::new(error)),
        })?;
    let mut usage = BTreeMap::new();
    for pod in list.items {
        let value = pod.usage();
        usage
            .entry(pod.metadata.name)
            .and_modify(|twice| *twice = Err(Why::Ambiguous))
            .or_insert(value);
    }
    Ok(usage)
}

impl Usage {
    /// The usage as a share of what the pod's containers request together.
    pub fn signals(&self, request: Quantity) -> PodSignals {
        let utilization = if request > Quantity::ZERO {
            #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
            of_request(self.cpu.nanos() as f64 / request.nanos() as f64)
        } else {
            // Nothing to measure against; the preset's hint says what to do.
            Err(Why::NoSeries)
        };
        let measured: Vec<u8> = self
            .source_ms
            .to_le_bytes()
            .into_iter()
            .chain(self.cpu.nanos().to_le_bytes())
            .collect();
        PodSignals {
            running: Err(Why::NoSeries),
            waiting: Err(Why::NoSeries),
            cache_use: Err(Why::NoSeries),
            utilization,
            finished: Err(Why::NoSeries),
            rate: Err(Why::NoSeries),
            served: Err(Why::NoSeries),
            source_ms: Some(self.source_ms),
            fingerprint: fingerprint(&measured),
        }
    }
}

/// The part of `PodMetricsList` that is read.
#[derive(Deserialize)]
struct PodMetricsList {
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Metadata,
    timestamp: Option<String>,
    window: Option<String>,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    usage: BTreeMap<String, String>,
}

impl PodMetrics {
    fn usage(&self) -> Result<Usage, Why> {
        if self.containers.is_empty() {
            return Err(Why::NoSeries);
        }
        let mut nanos: i128 = 0;
        for container in &self.containers {
            let cpu = container.usage.get("cpu").ok_or(Why::NoSeries)?;
            let cpu = Quantity::parse(cpu).map_err(|_| Why::Malformed)?;
            if cpu < Quantity::ZERO {
                return Err(Why::OutOfRange);
            }
            nanos = nanos.checked_add(cpu.nanos()).ok_or(Why::OutOfRange)?;
        }
        let timestamp = self.timestamp.as_ref().ok_or(Why::Malformed)?;
        let timestamp: jiff::Timestamp = timestamp.parse().map_err(|_| Why::Malformed)?;
        let window = self
            .window
            .as_ref()
            .and_then(|window| window.parse::<jiff::SignedDuration>().ok());
        Ok(Usage {
            cpu: Quantity::from_nanos(nanos),
            source_ms: timestamp.as_millisecond(),
            window_ms: window.and_then(|window| u64::try_from(window.as_millis()).ok()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::Finite;
    use http::{Request, Response};
    use kube::client::Body;

    /// Asks an API server that gives one answer, and shows the request line it got.
    async fn ask(status: u16, body: &'static str) -> (String, Result<BTreeMap<String, Result<Usage, Why>>, Error>) {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let client = kube::Client::new(service, "default");
        let server = tokio::spawn(async move {
            let (request, send) = handle.next_request().await.expect("a request");
            let response = Response::builder()
                .status(status)
                .header("content-type", "application/json");
            send.send_response(response.body(Body::from(body.as_bytes().to_vec())).unwrap());
            format!("{} {}", request.method(), request.uri())
        });
        let usage = pod_usage(&client, "rag", "app=x,tier in (a)", Duration::from_secs(20)).await;
        (server.await.unwrap(), usage)
    }

    const LIST: &str = r#"{"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}, "items": [
        {"metadata": {"name": "one", "namespace": "rag"}, "timestamp": "2026-11-21T03:00:15Z", "window": "15.018s",
         "containers": [{"name": "main", "usage": {"cpu": "1823746510n", "memory": "22492Ki"}}]},
        {"metadata": {"name": "two"}, "timestamp": "2026-11-21T03:00:14.5Z", "window": "1m0s",
         "containers": [{"name": "main", "usage": {"cpu": "250m"}}, {"name": "proxy", "usage": {"cpu": "3u"}}]},
        {"metadata": {"name": "idle"}, "timestamp": "2026-11-21T03:00:15Z", "window": "soon",
         "containers": [{"name": "main", "usage": {"cpu": "0"}}]},
        {"metadata": {"name": "empty"}, "timestamp": "2026-11-21T03:00:15Z", "window": "15s", "containers": []},
        {"metadata": {"name": "half"}, "timestamp": "2026-11-21T03:00:15Z",
         "containers": [{"name": "main", "usage": {"cpu": "1"}}, {"name": "proxy", "usage": {"memory": "1Ki"}}]},
        {"metadata": {"name": "garbled"}, "timestamp": "2026-11-21T03:00:15Z", "containers": [{"usage": {"cpu": "NaN"}}]},
        {"metadata": {"name": "negative"}, "timestamp": "2026-11-21T03:00:15Z", "containers": [{"usage": {"cpu": "-1"}}]},
        {"metadata": {"name": "undated"}, "containers": [{"usage": {"cpu": "1"}}]},
        {"metadata": {"name": "twice"}, "timestamp": "2026-11-21T03:00:15Z", "containers": [{"usage": {"cpu": "1"}}]},
        {"metadata": {"name": "twice"}, "timestamp": "2026-11-21T03:00:15Z", "containers": [{"usage": {"cpu": "1"}}]}
    ]}"#;

    #[tokio::test]
    async fn usage_is_summed_over_containers_exactly_and_dated_by_its_source() {
        let (request, usage) = ask(200, LIST).await;
        assert_eq!(
            request,
            "GET /apis/metrics.k8s.io/v1beta1/namespaces/rag/pods?&labelSelector=app%3Dx%2Ctier+in+%28a%29"
        );
        let usage = usage.unwrap();
        let of = |name: &str| usage[name].map(|usage| (usage.cpu.nanos(), usage.source_ms, usage.window_ms));
        assert_eq!(of("one"), Ok((1_823_746_510, 1_795_230_015_000, Some(15_018))));
        assert_eq!(of("two"), Ok((250_003_000, 1_795_230_014_500, Some(60_000))));
        assert_eq!(of("idle"), Ok((0, 1_795_230_015_000, None)));
        for (name, expected) in [
            ("empty", Why::NoSeries),
            ("half", Why::NoSeries),
            ("garbled", Why::Malformed),
            ("negative", Why::OutOfRange),
            ("undated", Why::Malformed),
            ("twice", Why::Ambiguous),
        ] {
            assert_eq!(of(name), Err(expected), "{name}");
        }
        assert!(!usage.contains_key("absent"));
    }

    #[tokio::test]
    async fn an_answer_that_is_no_list_says_what_to_do() {
        const STATUS: &str = r#"{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": "x", "code": CODE}"#;
        for (code, expected, message) in [
            (404, Why::NoSeries, "install metrics-server"),
            (503, Why::NoSeries, "install metrics-server"),
            (403, Why::Denied, "grant it list on pods"),
            (500, Why::Unreachable, "cannot be read"),
        ] {
            let body: &'static str = STATUS.replace("CODE", &code.to_string()).leak();
            let error = ask(code, body).await.1.unwrap_err();
            assert_eq!(error.why(), expected, "{code}: {error:?}");
            assert!(error.to_string().contains(message), "{error}");
        }
        for body in [
            "",
            "null",
            "{}",
            "[]",
            "<html>",
            r#"{"items": [{}]}"#,
            r#"{"items": [{"metadata": {}}]}"#,
        ] {
            let error = ask(200, body).await.1.unwrap_err();
            assert_eq!(error.why(), Why::Malformed, "{body}: {error:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_api_server_is_left_at_the_deadline() {
        let (service, _handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        let client = kube::Client::new(service, "default");
        let error = pod_usage(&client, "rag", "", Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.why(), Why::Timeout);
    }

    #[test]
    fn utilization_is_usage_over_request_and_may_exceed_it() {
        let usage = |cpu: &str| Usage {
            cpu: cpu.parse().unwrap(),
            source_ms: 7,
            window_ms: None,
        };
        let share = |cpu: &str, request: &str| {
            usage(cpu)
                .signals(request.parse().unwrap())
                .utilization
                .map(Finite::get)
        };
        assert_eq!(share("250m", "500m"), Ok(0.5));
        assert_eq!(share("2", "500m"), Ok(4.0));
        assert_eq!(share("0", "500m"), Ok(0.0));
        assert_eq!(share("51", "500m"), Err(Why::OutOfRange));
        assert_eq!(share("1", "0"), Err(Why::NoSeries));
        let signals = usage("1").signals(Quantity::from_millis(500));
        assert_eq!((signals.source_ms, signals.running), (Some(7), Err(Why::NoSeries)));
        assert_ne!(
            signals.fingerprint,
            usage("2").signals(Quantity::from_millis(500)).fingerprint
        );
    }
}
