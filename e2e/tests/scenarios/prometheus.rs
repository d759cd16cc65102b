//! A Prometheus-compatible server on loopback that knows numbers about pods and about queues, as far as the operator asks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::loopback::Loopback;

/// What queries come to, by metric, namespace, and pod or queue.
type Series = Arc<Mutex<BTreeMap<(String, String, String), f64>>>;

/// The server. Ends with this value.
pub(crate) struct Prometheus {
    series: Series,
    server: Loopback,
}

impl Prometheus {
    /// Serves without any series.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let series = Series::default();
        let service = Router::new()
            .route("/api/v1/query", get(answer))
            .with_state(Arc::clone(&series));
        let server = Loopback::start(service).await?;
        Ok(Self { series, server })
    }

    /// What an administrator writes about it, YAML of the chart's `sources`: presets `broker` of stages, `gateway` and
    /// `metered` of pods, and those that ship.
    pub(crate) fn sources(&self) -> String {
        let query = |name: &str, per: &str, role: &str, kind: &str, query: &str| {
            format!(
                "  - {{name: {name}, source: main, per: {per}, role: {role}, kind: {kind}, freshness: 5s, query: '{query}'}}\n"
            )
        };
        let queue = |metric: &str| format!("sum({metric}{{namespace=\"$namespace\",queue=\"$pipeline.$stage\"}})");
        let busy = "max by (pod) (gateway_busy{namespace=\"$namespace\",pod=~\"$pods\"})";
        // Its rate is what the test says it is.
        let served = "sum by (pod) (rate(gateway_served_total{namespace=\"$namespace\",pod=~\"$pods\"}[1m]))";
        [
            "  prometheus:\n".to_owned(),
            format!(
                "  - {{name: main, url: 'http://{}', method: GET, interval: 1s, presets: [dcgm, psi]}}\n",
                self.server.address
            ),
            "  queries:\n".to_owned(),
            query("broker", "stage", "queued", "count", &queue("broker_waiting")),
            query("broker", "stage", "running", "count", &queue("broker_running")),
            query("gateway", "pod", "utilization", "ratio", busy),
            query("metered", "pod", "utilization", "ratio", busy),
            query("metered", "pod", "throughput", "perSecond", served),
        ]
        .concat()
    }

    /// What a query about a pod or queue comes to; none: there is no such series.
    pub(crate) fn set(&self, metric: &str, namespace: &str, subject: &str, value: Option<f64>) {
        let key = (metric.to_owned(), namespace.to_owned(), subject.to_owned());
        let mut series = self.series.lock().unwrap();
        match value {
            Some(value) => drop(series.insert(key, value)),
            None => drop(series.remove(&key)),
        }
    }

    /// A queue's messages that wait and are in work; none: nobody knows.
    pub(crate) fn queue(&self, namespace: &str, queue: &str, messages: Option<(f64, f64)>) {
        self.set("broker_waiting", namespace, queue, messages.map(|it| it.0));
        self.set("broker_running", namespace, queue, messages.map(|it| it.1));
    }
}

/// What stands between two marks.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

async fn answer(State(series): State<Series>, Query(asked): Query<BTreeMap<String, String>>) -> Json<Value> {
    let now_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    let series = series.lock().unwrap();
    let query = asked.get("query").map(String::as_str).unwrap_or_default();
    let samples = |part: &str| {
        let number = between(part, "\"tiercel_part\", \"", "\"")?;
        let (before, selector) = part.split_once('{')?;
        let metric = before.rsplit(['(', ' ']).next()?;
        let namespace = between(selector, "namespace=\"", "\"")?;
        // Neither sums of several series are known here, nor what relabelling does to labels.
        if selector.contains('{') || selector.contains("exported_") {
            return None;
        }
        let queue = between(selector, "queue=\"", "\"");
        let pods = between(selector, "pod=~\"(?:", ")\"").unwrap_or_default();
        let found = queue.map(|queue| (None, queue)).into_iter();
        let found = found.chain(pods.split('|').map(|pod| (Some(pod), pod)));
        let found = found.filter_map(|(pod, subject)| {
            let value = *series.get(&(metric.to_owned(), namespace.to_owned(), subject.to_owned()))?;
            let value = if part.contains("timestamp(") { now_s } else { value };
            let mut labels = json!({"tiercel_part": number});
            if let Some(pod) = pod {
                labels["pod"] = json!(pod);
            }
            Some(json!({"metric": labels, "value": [now_s, value.to_string()]}))
        });
        Some(found.collect::<Vec<Value>>())
    };
    let result: Vec<Value> = query.split("label_replace(").filter_map(samples).flatten().collect();
    Json(json!({"status": "success", "data": {"resultType": "vector", "result": result}}))
}
