//! I/O: fetches the metrics endpoints of pods, each on its own beat, and passes every answer on as it arrives.
//!
//! One task per target keeps one connection. A target costs at most its deadline, a bounded body and a slot; targets
//! that keep using up their deadline or sending too much are asked less often, so that they cannot starve the others.
//! No redirects, proxies, credentials or compression: the request goes to the address that the rules accepted, and the
//! rules see the address of the connected socket as well.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, HOST, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::address::AddressRules;
use super::exposition::{self, Exposition, Limits};
use super::presets::{Preset, Source};
use super::{PodSignals, Why};

/// Bodies beyond this are read a few at a time, so that many large ones together stay within bounded memory.
const LARGE_BODY: usize = 256 * 1024;

/// Large bodies read at once.
const LARGE_BODIES_MAX: usize = 8;

/// Read buffer of a connection; bounds the response headers too.
const BUFFER_MAX: usize = 16 * 1024;

/// Answers waiting to be taken; a consumer further behind slows the scrapes down instead of piling up old news.
const ANSWERS_MAX: usize = 1_024;

/// Ticks left out between attempts at a target that keeps timing out or sending too much.
const TICKS_LEFT_OUT_MAX: u32 = 3;

const ACCEPTED: &str = "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5";

const AGENT: &str = concat!("tiercel/", env!("CARGO_PKG_VERSION"));

/// How to scrape.
#[derive(Clone, Debug)]
pub struct ScrapeConfig {
    /// From one scrape of a target to its next.
    pub interval: Duration,
    /// From connecting to the last byte.
    pub deadline: Duration,
    /// What a body may hold.
    pub limits: Limits,
    /// Scrapes under way at once.
    pub concurrency: usize,
    /// Where to connect.
    pub rules: AddressRules,
    /// Monotonic milliseconds, on the clock of the decisions.
    pub clock_ms: fn() -> u64,
}

impl ScrapeConfig {
    /// Every second, 800 ms each, 64 at once.
    pub fn new(rules: AddressRules, clock_ms: fn() -> u64) -> Self {
        Self {
            interval: Duration::from_secs(1),
            deadline: Duration::from_millis(800),
            limits: Limits::SCRAPE,
            concurrency: 64,
            rules,
            clock_ms,
        }
    }
}

/// One pod to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    uid: Arc<str>,
    address: SocketAddr,
    path: PathAndQuery,
    preset: &'static Preset,
}

/// Why a pod cannot be scraped as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The preset's numbers come from elsewhere.
    #[error("the preset is not read from pods: use one that is, or leave the signal's port and path out")]
    NotScraped,
    /// The path is none.
    #[error("the path of the signal must start with / and hold no blanks, query or fragment")]
    Path,
}

impl Target {
    /// The pod `uid` at `ip`. Port and path default to the preset's.
    pub fn new(
        uid: Arc<str>,
        ip: IpAddr,
        port: Option<u16>,
        path: Option<&str>,
        preset: &'static Preset,
    ) -> Result<Self, TargetError> {
        let Source::Scrape {
            port: usual_port,
            path: usual_path,
        } = preset.source()
        else {
            return Err(TargetError::NotScraped);
        };
        let path = path.unwrap_or(usual_path);
        if !path.starts_with('/') || path.contains(['?', '#']) {
            return Err(TargetError::Path);
        }
        let path = path.parse().map_err(|_| TargetError::Path)?;
        Ok(Self {
            uid,
            address: SocketAddr::new(ip, port.unwrap_or(*usual_port)),
            path,
            preset,
        })
    }
}

/// One answer, or the reason for its absence.
#[derive(Clone, Debug, PartialEq)]
pub struct Scraped {
    /// The pod.
    pub uid: Arc<str>,
    /// What it was read by.
    pub preset: &'static Preset,
    /// When the last byte was there, or the attempt ended.
    pub received_ms: u64,
    /// What the pod said.
    pub outcome: Result<PodSignals, Why>,
}

/// The running scrapes. Ends with the value.
#[derive(Debug)]
pub struct Scraper {
    shared: Arc<Shared>,
    rules: watch::Sender<AddressRules>,
    running: BTreeMap<Arc<str>, (Target, Task)>,
}

#[derive(Debug)]
struct Shared {
    config: ScrapeConfig,
    rules: watch::Receiver<AddressRules>,
    slots: Semaphore,
    large_bodies: Semaphore,
    answers: mpsc::Sender<Scraped>,
}

impl Scraper {
    /// Starts without targets. Answers come out of the receiver.
    pub fn new(config: ScrapeConfig) -> (Self, mpsc::Receiver<Scraped>) {
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        let (rules, seen) = watch::channel(config.rules.clone());
        let slots = Semaphore::new(config.concurrency.max(1));
        let large_bodies = Semaphore::new(LARGE_BODIES_MAX);
        let shared = Arc::new(Shared {
            config,
            rules: seen,
            slots,
            large_bodies,
            answers,
        });
        (
            Self {
                shared,
                rules,
                running: BTreeMap::new(),
            },
            receiver,
        )
    }

    /// Replaces the targets, one per pod UID; unchanged ones keep their beat and connection. To be called within a
    /// Tokio runtime.
    pub fn set_targets(&mut self, targets: Vec<Target>) {
        let mut before = std::mem::take(&mut self.running);
        for target in targets {
            let task = match before.remove(&target.uid) {
                Some((same, task)) if same == target => task,
                _ => Task(tokio::spawn(scrape(target.clone(), Arc::clone(&self.shared)))),
            };
            self.running.insert(Arc::clone(&target.uid), (target, task));
        }
    }

    /// Replaces the address rules, from the next scrape of every target on; kept connections obey them too.
    pub fn set_rules(&self, rules: AddressRules) {
        self.rules.send_replace(rules);
    }
}

/// A task that ends with the value.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Scrapes one target until it is no longer wanted.
async fn scrape(target: Target, shared: Arc<Shared>) {
    let ScrapeConfig {
        interval,
        deadline,
        limits,
        clock_ms,
        ..
    } = &shared.config;
    // Spreads the targets over the interval; always at the same place for the same pod.
    let spread = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    tokio::time::sleep(Duration::from_millis(
        exposition::fingerprint(target.uid.as_bytes()) % spread,
    ))
    .await;
    let mut ticks = tokio::time::interval(*interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    let mut costly_in_a_row: u32 = 0;
    loop {
        for _ in 0..=costly_in_a_row.saturating_sub(1).min(TICKS_LEFT_OUT_MAX) {
            ticks.tick().await;
        }
        let Ok(slot) = shared.slots.acquire().await else { return };
        let fetched = tokio::time::timeout(*deadline, fetch(&target, &shared, &mut connection)).await;
        let received_ms = clock_ms();
        let outcome = fetched
            .unwrap_or(Err(Why::Timeout))
            .and_then(|body| read(&body.bytes, limits, target.preset));
        drop(slot);
        match outcome {
            Ok(_) => costly_in_a_row = 0,
            Err(why) => {
                connection = None;
                let costly = matches!(why, Why::Timeout | Why::TooLarge);
                costly_in_a_row = if costly { costly_in_a_row.saturating_add(1) } else { 0 };
            }
        }
        if shared
            .answers
            .send(Scraped {
                uid: Arc::clone(&target.uid),
                preset: target.preset,
                received_ms,
                outcome,
            })
            .await
            .is_err()
        {
            return;
        }
    }
}

fn read(body: &[u8], limits: &Limits, preset: &Preset) -> Result<PodSignals, Why> {
    let parsed = Exposition::parse(body, limits).map_err(|error| match error {
        exposition::Error::NotExposition => Why::Malformed,
        exposition::Error::TooManyBytes { .. }
        | exposition::Error::TooManyLines { .. }
        | exposition::Error::TooManyLabels { .. } => Why::TooLarge,
    })?;
    Ok(preset.read(&parsed, exposition::fingerprint(body)))
}

/// A whole body, and the right to hold a large one.
struct Fetched<'s> {
    bytes: Vec<u8>,
    _large: Option<SemaphorePermit<'s>>,
}

/// A connection that can take a request, and the task that drives it.
struct Connection {
    requests: http1::SendRequest<Empty<Bytes>>,
    _driver: Task,
}

/// One request, over the kept connection if it still stands. Leaves the connection behind if it can be used again.
async fn fetch<'s>(target: &Target, shared: &'s Shared, kept: &mut Option<Connection>) -> Result<Fetched<'s>, Why> {
    // Bound first: the guard of the channel must not be held across an await.
    let permitted = shared.rules.borrow().check(target.address.ip());
    let address = SocketAddr::new(permitted.map_err(|_| Why::Denied)?, target.address.port());
    let answered = match kept.take() {
        Some(mut connection) => ask(&mut connection, target, address)
            .await
            .ok()
            .map(|response| (connection, response)),
        None => None,
    };
    let (connection, response) = if let Some(answered) = answered {
        answered
    } else {
        // Either there was none, or the server closed it meanwhile, which it may at any time.
        let mut connection = connect(address, shared).await?;
        let response = ask(&mut connection, target, address).await.map_err(|error| {
            if error.is_parse() {
                Why::Malformed
            } else {
                Why::Unreachable
            }
        })?;
        (connection, response)
    };
    check(&response)?;
    let fetched = body(response.into_body(), shared).await?;
    *kept = Some(connection);
    Ok(fetched)
}

async fn connect(address: SocketAddr, shared: &Shared) -> Result<Connection, Why> {
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
    let handshake = http1::Builder::new()
        .max_buf_size(BUFFER_MAX)
        .handshake(TokioIo::new(stream))
        .await;
    let (requests, driver) = handshake.map_err(|_| Why::Unreachable)?;
    let driver = Task(tokio::spawn(async move {
        // What goes wrong here also fails the request that is under way, which is where it is reported.
        let _ = driver.await;
    }));
    Ok(Connection {
        requests,
        _driver: driver,
    })
}

async fn ask(
    connection: &mut Connection,
    target: &Target,
    address: SocketAddr,
) -> Result<Response<Incoming>, hyper::Error> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target.path.clone().into();
    let headers = request.headers_mut();
    if let Ok(host) = address.to_string().parse() {
        headers.insert(HOST, host);
    }
    headers.insert(USER_AGENT, hyper::header::HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, hyper::header::HeaderValue::from_static(ACCEPTED));
    headers.insert(ACCEPT_ENCODING, hyper::header::HeaderValue::from_static("identity"));
    connection.requests.ready().await?;
    connection.requests.send_request(request).await
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
async fn body(mut incoming: Incoming, shared: &Shared) -> Result<Fetched<'_>, Why> {
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
            large = Some(shared.large_bodies.acquire().await.map_err(|_| Why::Unreachable)?);
            // At once, because growing by doubling would take up to twice the limit.
            bytes.reserve_exact(max - bytes.len());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Fetched { bytes, _large: large })
}
