//! The HTTP client of the load: one call to one replica.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::fleet::{Answer, RequestSize};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_ANSWER: usize = 64 * 1024;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// No connection, or it broke.
    #[error("the replica at {address} cannot be reached")]
    Unreachable {
        address: SocketAddr,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another status than 200.
    #[error("the replica at {address} answered {status}")]
    Status { address: SocketAddr, status: StatusCode },
    /// The body is not an [`Answer`].
    #[error("the answer of the replica at {address} cannot be read")]
    Body { address: SocketAddr },
}

#[derive(Clone)]
pub(super) struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Caller {
    pub(super) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(32)
            .build(connector);
        Self { client }
    }

    pub(super) async fn call(&self, address: SocketAddr, size: RequestSize) -> Result<Answer, CallError> {
        let unreachable = |source| CallError::Unreachable { address, source };
        let body = serde_json::to_vec(&size).map_err(|e| unreachable(e.into()))?;
        let request = Request::post(format!("http://{address}/"))
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|e| unreachable(e.into()))?;
        let response = self.client.request(request).await.map_err(|e| unreachable(e.into()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(unreachable)?;
        if status != StatusCode::OK {
            return Err(CallError::Status { address, status });
        }
        serde_json::from_slice(&body.to_bytes()).map_err(|_| CallError::Body { address })
    }
}
