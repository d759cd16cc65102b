//! One request and its answer, over a connection that is kept between scrapes.
//!
//! What a connection needs while it works (buffers, a queue of requests, a task's worth of state) is sixty KiB, and a
//! thousand pods wait most of the time. So it is made for every request, and only the socket is kept.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::slots::Slot;
use super::{Shared, Target, Why};

/// Bodies beyond this are read a few at a time, so that many large ones together stay within bounded memory.
const LARGE_BODY: usize = 256 * 1024;

/// Read buffer of a connection; bounds the response headers too.
const BUFFER_MAX: usize = 16 * 1024;

const ACCEPTED: &str = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5";

const AGENT: &str = concat!("tiercel/", env!("CARGO_PKG_VERSION"));

/// A whole body, and the right to hold a large one.
pub(super) struct Fetched<'s> {
    pub(super) bytes: Vec<u8>,
    _large: Option<Slot<'s>>,
}

/// One request, over the kept connection if it still stands. Leaves the connection behind if it can be used again.
pub(super) async fn fetch<'s>(
    target: &Target,
    shared: &'s Shared,
    kept: &mut Option<TcpStream>,
) -> Result<Fetched<'s>, Why> {
    // Bound first: the guard of the channel must not be held across an await.
    let permitted = shared.rules.borrow().check(target.address.ip());
    let address = SocketAddr::new(permitted.map_err(|_| Why::Denied)?, target.address.port());
    let answered = match kept.take() {
        Some(stream) => ask(stream, target, address).await.ok(),
        None => None,
    };
    let (mut connection, response) = if let Some(answered) = answered {
        answered
    } else {
        // Either there was none, or the server closed it meanwhile, which it may at any time.
        let stream = connect(address, shared).await?;
        ask(stream, target, address).await.map_err(|error| {
            if error.is_parse() {
                Why::Malformed
            } else {
                Why::Unreachable
            }
        })?
    };
    check(&response)?;
    let fetched = connection
        .drive(body(response.into_body(), shared, &target.namespace))
        .await?;
    *kept = connection.into_idle().await;
    Ok(fetched)
}

pub(super) async fn connect(address: SocketAddr, shared: &Shared) -> Result<TcpStream, Why> {
    let stream = TcpStream::connect(address).await.map_err(|_| Why::Unreachable)?;
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
        return Err(Why::Unreachable);
    };
    shared.rules.borrow().check(peer.ip()).map_err(|_| Why::Denied)?;
    // A connect to a free local port can meet itself.
    if peer == local {
        return Err(Why::Unreachable);
    }
    stream.set_nodelay(true).map_err(|_| Why::Unreachable)?;
    Ok(stream)
}

/// A connection at work.
struct Connection {
    requests: http1::SendRequest<Empty<Bytes>>,
    driver: http1::Connection<TokioIo<TcpStream>, Empty<Bytes>>,
    /// It came to its end: what was read is still there, nothing more comes.
    ended: bool,
}

impl Connection {
    /// Does `work` while the connection reads and writes for it.
    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let Self { driver, ended, .. } = self;
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            if *ended {
                return Poll::Pending;
            }
            // What goes wrong here also fails the request that is under way, which is where it is reported.
            *ended = driver.poll_without_shutdown(context).is_ready();
            if *ended {
                work.as_mut().poll(context)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// The socket, if the server lets it be used again.
    async fn into_idle(mut self) -> Option<TcpStream> {
        if self.ended {
            return None;
        }
        let (requests, driver) = (&mut self.requests, &mut self.driver);
        let mut ready = pin!(requests.ready());
        let reusable = poll_fn(|context| match driver.poll_without_shutdown(context) {
            Poll::Ready(_) => Poll::Ready(false),
            Poll::Pending => ready.as_mut().poll(context).map(|ready| ready.is_ok()),
        });
        if !reusable.await {
            return None;
        }
        let parts = self.driver.into_parts();
        parts.read_buf.is_empty().then(|| parts.io.into_inner())
    }
}

async fn ask(
    stream: TcpStream,
    target: &Target,
    address: SocketAddr,
) -> Result<(Connection, Response<Incoming>), hyper::Error> {
    let handshake = http1::Builder::new()
        .max_buf_size(BUFFER_MAX)
        .handshake(TokioIo::new(stream));
    let (mut requests, driver) = handshake.await?;
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target.path.clone().into();
    let headers = request.headers_mut();
    if let Ok(host) = address.to_string().parse() {
        headers.insert(HOST, host);
    }
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let answer = requests.send_request(request);
    let mut connection = Connection {
        requests,
        driver,
        ended: false,
    };
    let response = connection.drive(answer).await?;
    Ok((connection, response))
}

fn check(response: &Response<Incoming>) -> Result<(), Why> {
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Why::NoSeries),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Why::Denied),
        status if status.is_redirection() => return Err(Why::Denied),
        _ => return Err(Why::Unreachable),
    }
    match response.headers().get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(Why::Malformed),
        _ => Ok(()),
    }
}

/// Reads a body up to the limit and not a chunk further.
async fn body<'s>(mut incoming: Incoming, shared: &'s Shared, namespace: &Arc<str>) -> Result<Fetched<'s>, Why> {
    let max = shared.config.limits.bytes_max;
    let announced = incoming.size_hint().lower();
    if usize::try_from(announced).map_or(true, |announced| announced > max) {
        return Err(Why::TooLarge);
    }
    let mut bytes = Vec::new();
    let mut large = None;
    while let Some(frame) = incoming.frame().await {
        // The connection ended before the body did: cut off, and a cut number may look whole.
        let frame = frame.map_err(|_| Why::Unreachable)?;
        let Ok(chunk) = frame.into_data() else { continue };
        if bytes.len() + chunk.len() > max {
            return Err(Why::TooLarge);
        }
        if large.is_none() && bytes.len() + chunk.len() > LARGE_BODY {
            large = Some(shared.large_bodies.acquire(namespace).await);
            // At once, because growing by doubling would take up to twice the limit.
            bytes.reserve_exact(max - bytes.len());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Fetched { bytes, _large: large })
}
