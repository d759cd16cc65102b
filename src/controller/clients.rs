//! Clients of the API server: one for watches, one for reconciling, one for the fast path, from one configuration.
//!
//! kube's own retries are off. Every call of the two bounded clients has a deadline that covers its body, and every write
//! takes its turn in the client's own [`TokenBucket`]: a flood of reconciles never delays a move of replicas.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::TryFutureExt as _;
use http_body_util::{BodyExt as _, Limited};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, header};
use kube::{Client, Config, client::Body};
use tower_service::Service;

use super::{
    clock::Clock,
    spans,
    token_bucket::{Rate, TokenBucket},
};
use crate::telemetry::Metrics;

#[cfg(test)]
mod tests;

/// Deadline of a call of the reconcilers.
pub const RECONCILE_DEADLINE: Duration = Duration::from_secs(30);
/// Deadline of a call of the fast path.
pub const FAST_DEADLINE: Duration = Duration::from_secs(5);
/// Writes of the reconcilers.
pub const RECONCILE_RATE: Rate = Rate {
    per_second: 10,
    burst: 20,
};
/// Writes of the fast path.
pub const FAST_RATE: Rate = Rate {
    per_second: 50,
    burst: 50,
};
/// No answer to a single call is larger; lists go through the watch client.
const ANSWER_BYTES_MAX: usize = 32 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// kube's aids for debugging, which redirect a client or make it act for someone else.
const DEBUG_VARIABLES: [&str; 3] = [
    "KUBE_RS_DEBUG_OVERRIDE_URL",
    "KUBE_RS_DEBUG_IMPERSONATE_USER",
    "KUBE_RS_DEBUG_IMPERSONATE_GROUP",
];

/// The clients are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// In a cluster, a variable that redirects the client.
    #[error("{0} is set, which redirects the operator or makes it act for someone else: unset it in the pod")]
    DebugVariable(&'static str),
    /// No cluster is configured.
    #[error("no cluster is configured: set KUBECONFIG, or run in a pod with a service account")]
    Configuration(#[source] Box<kube::config::InferConfigError>),
    /// The configuration names credentials or certificates that do not work.
    #[error("cannot make a client from the configuration")]
    Client(#[source] kube::Error),
}

/// Limits of the two bounded clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Writes of the reconcilers.
    pub reconcile: Rate,
    /// Writes of the fast path.
    pub fast: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reconcile: RECONCILE_RATE,
            fast: FAST_RATE,
        }
    }
}

/// One client per purpose, each with connections of its own.
#[derive(Clone)]
pub struct Clients {
    /// Watches and their lists: no deadline, no budget. Also for the lease, which brings deadlines of its own.
    pub watch: Client,
    /// Everything a reconcile reads and writes. Not for watches.
    pub calls: Client,
    /// Moves of replicas, nothing else.
    pub fast: Client,
}

/// Makes aws-lc-rs the TLS provider of the process. First thing in `main`; a second call changes nothing.
pub fn install_tls_provider() {
    // The error only says that one is installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Finds the cluster: `KUBECONFIG` or `~/.kube/config`, else the pod's service account.
///
/// # Errors
/// Nothing is configured, or a debug variable is set in a pod.
pub async fn infer_config() -> Result<Config, Error> {
    refuse_debug_variables(|name| std::env::var_os(name).is_some())?;
    Config::infer()
        .await
        .map_err(|error| Error::Configuration(Box::new(error)))
}

fn refuse_debug_variables(is_set: impl Fn(&str) -> bool) -> Result<(), Error> {
    if !is_set("KUBERNETES_SERVICE_HOST") {
        return Ok(());
    }
    DEBUG_VARIABLES
        .into_iter()
        .find(|name| is_set(name))
        .map_or(Ok(()), |name| Err(Error::DebugVariable(name)))
}

impl Clients {
    /// Connects lazily: a server that is down shows in the first call.
    ///
    /// # Errors
    /// Credentials or certificates of the configuration do not work.
    pub fn new(config: &Config, limits: Limits, clock: &Clock, metrics: &Metrics) -> Result<Self, Error> {
        let client = |gate: Gate| {
            let mut config = config.clone();
            config.default_retry = false;
            config.read_timeout = None;
            config.connect_timeout = Some(CONNECT_TIMEOUT);
            let namespace = config.default_namespace.clone();
            let inner = Client::try_from(config).map_err(Error::Client)?;
            Ok(Client::new(Gated { inner, gate }, namespace))
        };
        let gate = |name, bounds| Gate {
            name,
            bounds,
            clock: clock.clone(),
            metrics: metrics.clone(),
        };
        Ok(Self {
            watch: client(gate("watch", None))?,
            calls: client(gate("calls", Some(Bounds::new(RECONCILE_DEADLINE, limits.reconcile))))?,
            fast: client(gate("fast", Some(Bounds::new(FAST_DEADLINE, limits.fast))))?,
        })
    }
}

/// A call got no answer in time. It may have been carried out all the same.
#[derive(Debug, thiserror::Error)]
#[error("no answer from the API server within {0:?}; the call may have been carried out")]
pub struct DeadlineExceeded(Duration);

/// True if `error` says that a deadline of ours passed.
pub fn deadline_exceeded(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(source) if source.is::<DeadlineExceeded>())
}

/// What a bounded client keeps to.
#[derive(Clone)]
struct Bounds {
    deadline: Duration,
    writes: Arc<Mutex<TokenBucket>>,
    /// Whoever holds it is next to write. Fair: tokio serves those who wait in the order they came in.
    queue: Arc<tokio::sync::Mutex<()>>,
}

impl Bounds {
    fn new(deadline: Duration, rate: Rate) -> Self {
        Self {
            deadline,
            writes: Arc::new(Mutex::new(TokenBucket::new(rate))),
            queue: Arc::default(),
        }
    }

    /// A poisoned lock is used on: a count that is off by one beats a controller that cannot write.
    fn writes(&self) -> std::sync::MutexGuard<'_, TokenBucket> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts every call; where there are bounds, makes writes take their turn and ends every call at the deadline.
#[derive(Clone)]
struct Gate {
    name: &'static str,
    bounds: Option<Bounds>,
    clock: Clock,
    metrics: Metrics,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Gate {
    async fn pass(self, inner: Client, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let verb = verb(&request);
        let answer = match &self.bounds {
            Some(bounds) => {
                let span = spans::call(self.name, verb, &request);
                let call = self.pass_bounded(bounds, inner, request);
                let call = call.inspect_ok(|answer| spans::answered(answer.status()));
                spans::within(span, call).await
            }
            // Watches last, and are not traced.
            None => inner.send(request).await.map_err(Into::into),
        };
        let code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        self.metrics.api_request(self.name, verb, code);
        answer
    }

    /// Waits until a write may be sent, behind those that came before.
    async fn turn(&self, bounds: &Bounds) {
        let came_ms = self.clock.now_ms();
        let _first = bounds.queue.lock().await;
        let goes_ms = loop {
            let now_ms = self.clock.now_ms();
            let wait_ms = bounds.writes().take(now_ms);
            if wait_ms == 0 {
                break now_ms;
            }
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        };
        if goes_ms > came_ms {
            self.metrics
                .throttled(self.name, Duration::from_millis(goes_ms - came_ms));
        }
    }

    async fn pass_bounded(
        &self,
        bounds: &Bounds,
        inner: Client,
        request: Request<Body>,
    ) -> Result<Response<Body>, BoxError> {
        if ![Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method()) {
            self.turn(bounds).await;
        }
        let call = async {
            let (parts, body) = inner.send(request).await?.into_parts();
            let bytes = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, Body::from(bytes)))
        };
        let answer: Result<_, BoxError> = match tokio::time::timeout(bounds.deadline, call).await {
            Ok(answer) => answer,
            Err(_) => Err(DeadlineExceeded(bounds.deadline).into()),
        };
        if let Ok(answer) = &answer
            && answer.status() == StatusCode::TOO_MANY_REQUESTS
        {
            bounds
                .writes()
                .refused(self.clock.now_ms(), retry_after_ms(answer.headers()));
        }
        answer
    }
}

/// kube's name of the call (`get`, `patch_scale`, …), which is one of a few; else the method.
fn verb(request: &Request<Body>) -> &'static str {
    if let Some(verb) = request.extensions().get::<&'static str>() {
        return verb;
    }
    match request.method().as_str() {
        "GET" => "get",
        "POST" => "create",
        "PUT" => "replace",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "other",
    }
}

/// The API server sends whole seconds.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(seconds.saturating_mul(1_000))
}

/// A client behind a [`Gate`]. It takes a client rather than its transport, because nothing may be sent before its turn and
/// a service may start to work as soon as it is called.
struct Gated {
    inner: Client,
    gate: Gate,
}

impl Service<Request<Body>> for Gated {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.gate.clone().pass(self.inner.clone(), request))
    }
}
