//! The operator's own listener: `/metrics`, `/livez`, `/readyz`, and `/v1/explain/NAMESPACE/NAME`.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{exposition::Exposition, metrics::Metrics};
use crate::explain::{
    self,
    ask::{self, Asker},
};

/// A loop that has not ticked for so long hangs.
const BEAT_AGE_MS_MAX: u64 = 30_000;
/// How long open connections may delay the shutdown.
const GRACE: Duration = Duration::from_secs(2);

/// What the probes ask. A handle: clones share everything.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    now_ms: Box<dyn Fn() -> u64 + Send + Sync>,
    beat_ms: AtomicU64,
    synced: AtomicBool,
    leading: AtomicBool,
}

impl fmt::Debug for Health {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("Health")
            .field(&self.alive())
            .field(&self.ready())
            .finish()
    }
}

impl Health {
    /// Alive as of now, ready as a standby. `now_ms` is monotonic.
    pub fn new(now_ms: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let beat_ms = AtomicU64::new(now_ms());
        Self(Arc::new(Inner {
            now_ms: Box::new(now_ms),
            beat_ms,
            synced: false.into(),
            leading: false.into(),
        }))
    }

    /// The main loop ticked. Call it more often than every 30 s, leading or not.
    pub fn beat(&self) {
        self.0.beat_ms.store((self.0.now_ms)(), Ordering::Relaxed);
    }

    /// All caches are filled and can be watched.
    pub fn set_synced(&self, synced: bool) {
        self.0.synced.store(synced, Ordering::Relaxed);
    }

    /// Only a leader has to have its caches filled.
    pub fn set_leading(&self, leading: bool) {
        self.0.leading.store(leading, Ordering::Relaxed);
    }

    /// What is wrong if the process should be restarted.
    pub fn alive(&self) -> Result<(), String> {
        let age_ms = (self.0.now_ms)().saturating_sub(self.0.beat_ms.load(Ordering::Relaxed));
        if age_ms < BEAT_AGE_MS_MAX {
            Ok(())
        } else {
            Err(format!("the main loop has not ticked for {age_ms} ms"))
        }
    }

    /// What is missing before the process can do its work.
    pub fn ready(&self) -> Result<(), String> {
        let waits = self.0.leading.load(Ordering::Relaxed) && !self.0.synced.load(Ordering::Relaxed);
        if waits {
            Err("leading, but not all caches are filled".to_owned())
        } else {
            Ok(())
        }
    }
}

/// Serves until `shutdown`, then gives open connections 2 s.
///
/// # Errors
/// The listener broke.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    health: Health,
    asker: Asker,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let document = format!("{}/{{namespace}}/{{name}}", explain::PATH);
    let router = Router::new()
        .route("/metrics", get(scrape))
        .with_state(metrics)
        .route(
            "/livez",
            get(|State(health): State<Health>| async move { probe(health.alive()) }),
        )
        .route(
            "/readyz",
            get(|State(health): State<Health>| async move { probe(health.ready()) }),
        )
        .with_state(health)
        .route(&document, get(answer))
        .with_state(asker);
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let patience = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = served.into_future() => ended,
        () = patience => Ok(()),
    }
}

async fn scrape(State(metrics): State<Metrics>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let exposition = Exposition::accepted(accept);
    (
        [(header::CONTENT_TYPE, exposition.content_type())],
        metrics.encode(exposition),
    )
}

/// One pipeline's document, or one line why there is none.
async fn answer(State(asker): State<Asker>, Path((namespace, name)): Path<(String, String)>) -> impl IntoResponse {
    let (code, kind, body) = match asker.ask(&namespace, &name).await {
        Ok(document) => match serde_json::to_vec(&document) {
            Ok(body) => (StatusCode::OK, "application/json", body),
            Err(error) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain",
                format!("{error}\n").into(),
            ),
        },
        Err(why) => {
            let code = match why {
                ask::Error::Unknown => StatusCode::NOT_FOUND,
                ask::Error::Standby => StatusCode::SERVICE_UNAVAILABLE,
                ask::Error::Busy => StatusCode::GATEWAY_TIMEOUT,
            };
            (code, "text/plain", format!("{why}\n").into())
        }
    };
    (code, [(header::CONTENT_TYPE, kind)], body)
}

fn probe(verdict: Result<(), String>) -> impl IntoResponse {
    match verdict {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::SocketAddr,
    };

    use tokio::net::TcpStream;

    use super::*;

    /// A real server on loopback, its health, its clock.
    async fn start() -> (SocketAddr, Metrics, Health, Arc<AtomicU64>, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let now = Arc::new(AtomicU64::new(1_000));
        let clock = Arc::clone(&now);
        let health = Health::new(move || clock.load(Ordering::Relaxed));
        let (metrics, shutdown) = (Metrics::default(), CancellationToken::new());
        let asker = Asker::default();
        tokio::spawn(serve(
            listener,
            metrics.clone(),
            health.clone(),
            asker,
            shutdown.clone(),
        ));
        (address, metrics, health, now, shutdown)
    }

    /// The whole answer, head and body.
    async fn fetch(address: SocketAddr, path: &str, accept: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: tiercel\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
        let exchange = move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        tokio::task::spawn_blocking(exchange).await.unwrap()
    }

    #[tokio::test]
    async fn metrics_come_in_the_format_asked_for() {
        let (address, metrics, ..) = start().await;
        metrics.decision_log_lost(1);
        let openmetrics = fetch(address, "/metrics", "*/*").await;
        assert!(openmetrics.starts_with("HTTP/1.1 200"), "{openmetrics}");
        assert!(
            openmetrics.contains("content-type: application/openmetrics-text"),
            "{openmetrics}"
        );
        assert!(openmetrics.ends_with("# EOF\n"), "{openmetrics}");
        let text = fetch(address, "/metrics", "text/plain").await;
        assert!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
        assert!(
            text.contains("# TYPE tiercel_decision_log_lost_steps_total counter\n"),
            "{text}"
        );
        assert!(text.contains("tiercel_decision_log_lost_steps_total 1\n"), "{text}");
        assert!(!text.contains("# EOF"), "{text}");
    }

    #[tokio::test]
    async fn a_loop_that_stops_ticking_is_no_longer_alive() {
        let (address, _metrics, health, now, _shutdown) = start().await;
        now.store(30_999, Ordering::Relaxed);
        assert!(fetch(address, "/livez", "*/*").await.starts_with("HTTP/1.1 200"));
        now.store(31_000, Ordering::Relaxed);
        let answer = fetch(address, "/livez", "*/*").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("not ticked for 30000 ms"),
            "{answer}"
        );
        health.beat();
        assert!(fetch(address, "/livez", "*/*").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_standby_is_ready_and_a_leader_once_its_caches_are_filled() {
        let (address, _metrics, health, ..) = start().await;
        assert!(fetch(address, "/readyz", "*/*").await.starts_with("HTTP/1.1 200"));
        health.set_leading(true);
        let answer = fetch(address, "/readyz", "*/*").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("caches"),
            "{answer}"
        );
        health.set_synced(true);
        assert!(fetch(address, "/readyz", "*/*").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(address, "/", "*/*").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_document_is_json_and_its_absence_one_line() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asker, health) = (Asker::default(), Health::new(|| 0));
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(listener, Metrics::default(), health, asker.clone(), shutdown));
        let answer = fetch(address, "/v1/explain/rag/chat", "*/*").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("does not lead"),
            "{answer}"
        );
        let mut questions = asker.open();
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                let known = question.namespace == "rag" && question.name == "chat";
                let document = explain::Document {
                    pipeline: question.name,
                    ..explain::Document::default()
                };
                question.answer.send(known.then_some(document)).unwrap();
            }
        });
        let answer = fetch(address, "/v1/explain/rag/chat", "*/*").await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("application/json"),
            "{answer}"
        );
        assert!(answer.contains(r#""pipeline":"chat""#), "{answer}");
        let answer = fetch(address, "/v1/explain/rag/other", "*/*").await;
        assert!(
            answer.starts_with("HTTP/1.1 404") && answer.contains("does not plan"),
            "{answer}"
        );
        assert!(
            fetch(address, "/v1/explain/rag", "*/*")
                .await
                .starts_with("HTTP/1.1 404")
        );
    }

    #[tokio::test]
    async fn shutdown_closes_the_listener_even_while_a_connection_idles() {
        let (address, .., shutdown) = start().await;
        let _idle = TcpStream::connect(address).await.unwrap();
        shutdown.cancel();
        let closed = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), closed)
            .await
            .expect("the listener closes");
    }
}
