//! HTTP of one replica: `POST /` runs a request, `GET /metrics` shows the load, `/healthz` and `/props` answer.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::faults::Metrics;
use super::pod::{Phase, Pod, Unserved};

/// Largest request body read, bytes.
const MAX_BODY: usize = 64 * 1024;
/// Connections one replica keeps open; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 4_096;
/// How often and how long to try an address that another replica is about to leave.
const BIND_TRIES: u32 = 100;
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// What is sent.
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Body of `POST /`: the size of the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestSize {
    /// Tokens in the prompt.
    pub input_tokens: u32,
    /// Tokens in the answer.
    pub output_tokens: u32,
}

pub(super) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let mut tries = 0;
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < BIND_TRIES => {
                tries += 1;
                tokio::time::sleep(BIND_PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Accepts connections until the pod leaves; the listener is closed at that moment, so that its address is free.
pub(super) async fn listen(listener: TcpListener, pod: Arc<Pod>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut phase = pod.phase.subscribe();
    loop {
        let accepted = tokio::select! {
            _ = phase.wait_for(|p| *p != Phase::Serving) => return,
            accepted = accept(&listener, &connections) => accepted,
        };
        match accepted {
            Some((stream, permit)) => {
                let pod = Arc::clone(&pod);
                let connected = pod.connect();
                tokio::spawn(async move {
                    connection(stream, pod).await;
                    drop((permit, connected));
                });
            }
            // Out of descriptors or reset before it was taken: the next try may work.
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    let (stream, _) = listener.accept().await.ok()?;
    stream.set_nodelay(true).ok()?;
    Some((stream, permit))
}

async fn connection(stream: TcpStream, pod: Arc<Pod>) {
    let mut phase = pod.phase.subscribe();
    let service = hyper::service::service_fn(|request| {
        let pod = Arc::clone(&pod);
        async move { Ok::<_, Infallible>(answer(&pod, request).await) }
    });
    let mut serving = pin!(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    // Biased: the end of the replica also ends its requests, and a dead one answers nothing.
    tokio::select! {
        biased;
        _ = phase.wait_for(|p| *p != Phase::Serving) => {}
        _ = serving.as_mut() => return,
    }
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        _ = phase.wait_for(|p| *p == Phase::Gone) => {}
        _ = serving => {}
    }
}

async fn answer(pod: &Pod, request: Request<Incoming>) -> Response<Body> {
    pod.until_responsive().await;
    let condition = *pod.condition.borrow();
    match (request.method(), request.uri().path()) {
        (&Method::POST, _) if condition.refuse => {
            plain(StatusCode::INTERNAL_SERVER_ERROR, "this replica refuses to work\n")
        }
        (&Method::POST, _) => run(pod, request).await,
        (&Method::GET, path) if path == pod.behaviour.exposition.path() => metrics(pod, condition.metrics).await,
        // Where the page is elsewhere, this is its neighbour for programs: statistics of the last iterations.
        (&Method::GET, "/metrics") => respond(StatusCode::OK, "application/json", Bytes::from_static(b"[]")),
        (&Method::GET, "/healthz" | "/health") => plain(StatusCode::OK, "ok\n"),
        (&Method::GET, "/props") => {
            let props = serde_json::json!({ "total_slots": pod.behaviour.capacity.slots });
            respond(StatusCode::OK, "application/json", props.to_string().into())
        }
        _ => plain(
            StatusCode::NOT_FOUND,
            "POST / with {\"input_tokens\": n, \"output_tokens\": n}, or GET /metrics\n",
        ),
    }
}

/// Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long [`Metrics::Slow`] takes.
const SLOW: Duration = Duration::from_secs(5);
/// Bytes of [`Metrics::Huge`], and of one piece of it.
const HUGE: usize = 1 << 30;
const HUGE_PIECE: usize = 64 << 10;

async fn metrics(pod: &Pod, fault: Option<Metrics>) -> Response<Body> {
    let page = pod.shown(fault, pod.metrics());
    let page = match fault {
        Some(Metrics::Unavailable) => return plain(StatusCode::SERVICE_UNAVAILABLE, "no metrics\n"),
        Some(Metrics::Denied) => return plain(StatusCode::UNAUTHORIZED, "who are you?\n"),
        Some(Metrics::Slow) => {
            tokio::time::sleep(SLOW).await;
            page
        }
        Some(Metrics::Empty) => String::new(),
        Some(Metrics::Duplicated) => format!("{page}{page}"),
        Some(Metrics::Huge) => {
            let mut response = respond(StatusCode::OK, TEXT, Bytes::new());
            *response.body_mut() = huge(&page);
            return response;
        }
        _ => page,
    };
    respond(StatusCode::OK, TEXT, page.into())
}

/// The page over and over. One piece of it is all that is held.
fn huge(page: &str) -> Body {
    let piece = Bytes::from(page.repeat(HUGE_PIECE / page.len().max(1) + 1));
    let pieces = HUGE / piece.len().max(1) + 1;
    let frames = (0..pieces).map(move |_| Ok(Frame::data(piece.clone())));
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

async fn run(pod: &Pod, request: Request<Incoming>) -> Response<Body> {
    let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
        return plain(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 64 KiB or was cut off\n",
        );
    };
    let body = body.to_bytes();
    let size = if body.is_empty() {
        Ok(RequestSize::default())
    } else {
        serde_json::from_slice::<RequestSize>(&body)
    };
    let size = match size {
        Ok(size) => size,
        Err(error) => {
            return plain(
                StatusCode::BAD_REQUEST,
                format!("input_tokens and output_tokens are whole numbers: {error}\n"),
            );
        }
    };
    match pod.serve(size.input_tokens, size.output_tokens).await {
        Ok(answer) => respond(
            StatusCode::OK,
            "application/json",
            serde_json::to_vec(&answer).unwrap_or_default().into(),
        ),
        Err(Unserved::QueueFull) => plain(StatusCode::SERVICE_UNAVAILABLE, "the queue is full\n"),
        Err(Unserved::Gone) => plain(StatusCode::SERVICE_UNAVAILABLE, "this replica is gone\n"),
    }
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", text.into())
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static(content_type),
    );
    response
}
