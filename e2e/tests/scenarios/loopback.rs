//! What serves a test on loopback, for as long as the test lasts.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::serve::Listener;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A server. Ends with this value.
pub(crate) struct Loopback {
    pub(crate) address: SocketAddr,
    _task: JoinSet<()>,
}

impl Loopback {
    /// A port of loopback that is free.
    pub(crate) async fn listener() -> io::Result<TcpListener> {
        TcpListener::bind(("127.0.0.1", 0)).await
    }

    /// Serves over plain HTTP.
    pub(crate) async fn start(service: Router) -> io::Result<Self> {
        let listener = Self::listener().await?;
        let address = listener.local_addr()?;
        Ok(Self::on(listener, address, service))
    }

    /// Serves on a listener that has this address.
    pub(crate) fn on(listener: impl Listener<Addr: std::fmt::Debug>, address: SocketAddr, service: Router) -> Self {
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Ends by being dropped.
            let _ = axum::serve(listener, service).await;
        });
        Self { address, _task: task }
    }
}
