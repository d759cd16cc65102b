//! A Prometheus-compatible server on loopback that knows the queues of a broker, as far as the operator asks about them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Messages that wait and messages in work, by namespace and queue.
type Queues = Arc<Mutex<BTreeMap<(String, String), (f64, f64)>>>;

/// The server. Ends with this value.
pub(crate) struct Broker {
    queues: Queues,
    file: PathBuf,
    _task: JoinSet<()>,
}

impl Broker {
    /// Serves, and writes a file of sources into `folder` that makes preset `broker` of it.
    pub(crate) async fn start(folder: &Path) -> std::io::Result<Self> {
        let queues = Queues::default();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let file = folder.join("sources.yaml");
        let mut text =
            format!("prometheus:\n- {{name: broker, url: 'http://{address}', method: GET, interval: 1s}}\nqueries:\n");
        for (role, metric) in [("queued", "waiting"), ("running", "running")] {
            let _ = writeln!(
                text,
                "- {{name: broker, source: broker, per: stage, role: {role}, kind: count, freshness: 5s, query: \
                 'sum(broker_{metric}{{namespace=\"$namespace\",queue=\"$pipeline.$stage\"}})'}}"
            );
        }
        std::fs::write(&file, text)?;
        let service = Router::new()
            .route("/api/v1/query", get(answer))
            .with_state(Arc::clone(&queues));
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Ends by being dropped.
            let _ = axum::serve(listener, service).await;
        });
        Ok(Self {
            queues,
            file,
            _task: task,
        })
    }

    /// The file for `--sources`.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// A queue's messages that wait and are in work; none: nobody knows.
    pub(crate) fn set(&self, namespace: &str, queue: &str, messages: Option<(f64, f64)>) {
        let key = (namespace.to_owned(), queue.to_owned());
        let mut queues = self.queues.lock().unwrap();
        match messages {
            Some(messages) => drop(queues.insert(key, messages)),
            None => drop(queues.remove(&key)),
        }
    }
}

/// What stands between two marks.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

async fn answer(State(queues): State<Queues>, Query(asked): Query<BTreeMap<String, String>>) -> Json<Value> {
    let now_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64();
    let queues = queues.lock().unwrap();
    let query = asked.get("query").map(String::as_str).unwrap_or_default();
    let sample = |part: &str| {
        let key = (
            between(part, "namespace=\"", "\"")?.to_owned(),
            between(part, "queue=\"", "\"")?.to_owned(),
        );
        let &(waiting, running) = queues.get(&key)?;
        let value = if part.contains("timestamp(") {
            now_s
        } else if part.contains("broker_waiting{") {
            waiting
        } else {
            running
        };
        let number = between(part, "\"tiercel_part\", \"", "\"")?;
        Some(json!({"metric": {"tiercel_part": number}, "value": [now_s, value.to_string()]}))
    };
    let result: Vec<Value> = query.split("label_replace(").filter_map(sample).collect();
    Json(json!({"status": "success", "data": {"resultType": "vector", "result": result}}))
}
