//! I/O: fetches the metrics endpoints of pods, each on its own beat, and passes every answer on as it arrives.
//!
//! One task per target keeps one connection, and of it only the socket between two scrapes. A target costs at most its
//! deadline, a bounded body and a slot; targets that keep using up their deadline or sending too much are asked less
//! often, so that they cannot starve the others. Slots are shared fairly between namespaces (`slots`).
//!
//! Targets are spread over the interval in [`BEAT`]s, and those of one beat are asked together: waking up costs more than
//! an exchange does, for the threads here and for the loop that takes the answers.
//! No redirects, proxies, credentials or compression: the request goes to the address that the rules accepted, and the
//! rules see the address of the connected socket as well.

mod exchange;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::http::uri::PathAndQuery;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use self::exchange::fetch;
use self::slots::Slots;
use super::address::AddressRules;
use super::exposition::{self, Exposition, Limits};
use super::presets::{Preset, Source};
use super::{PodSignals, Why};

/// Large bodies read at once.
const LARGE_BODIES_MAX: usize = 8;

/// Answers waiting to be taken; a consumer further behind slows the scrapes down instead of piling up old news.
const ANSWERS_MAX: usize = 1_024;

/// Ticks left out between attempts at a target that keeps timing out or sending too much.
const TICKS_LEFT_OUT_MAX: u32 = 3;

/// The grid on which targets are spread over the interval: twenty wake-ups a second, however many targets there are.
const BEAT: Duration = Duration::from_millis(50);

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
    namespace: Arc<str>,
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
    /// The pod `uid` of `namespace` at `ip`. Port and path default to the preset's.
    pub fn new(
        uid: Arc<str>,
        namespace: Arc<str>,
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
            namespace,
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
    slots: Slots,
    large_bodies: Slots,
    answers: mpsc::Sender<Scraped>,
    /// Where the grid of beats begins.
    origin: Instant,
}

impl Scraper {
    /// Starts without targets. Answers come out of the receiver.
    pub fn new(config: ScrapeConfig) -> (Self, mpsc::Receiver<Scraped>) {
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        let (rules, seen) = watch::channel(config.rules.clone());
        let slots = Slots::new(config.concurrency);
        let large_bodies = Slots::new(LARGE_BODIES_MAX);
        let shared = Arc::new(Shared {
            config,
            rules: seen,
            slots,
            large_bodies,
            answers,
            origin: Instant::now(),
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

    /// Refuses these addresses beside those of the configuration, from the next scrape of every target on; kept
    /// connections obey too. What an earlier call named and this one does not is free again.
    pub fn refuse_hosts(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let mut rules = self.shared.config.rules.clone();
        rules
            .hosts
            .extend(addresses.into_iter().map(|address| address.to_canonical()));
        self.rules.send_if_modified(|known| {
            let differs = *known != rules;
            *known = rules;
            differs
        });
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
    let first = first_tick(shared.origin, *interval, &target.uid, Instant::now());
    let mut ticks = tokio::time::interval_at(first, *interval);
    // Whoever was late is asked again on its beat.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut connection = None;
    let mut costly_in_a_row: u32 = 0;
    loop {
        for _ in 0..=costly_in_a_row.saturating_sub(1).min(TICKS_LEFT_OUT_MAX) {
            ticks.tick().await;
        }
        let slot = shared.slots.acquire(&target.namespace).await;
        // On the heap, and only for as long as it lasts: most targets wait most of the time.
        let fetched = Box::pin(tokio::time::timeout(
            *deadline,
            fetch(&target, &shared, &mut connection),
        ))
        .await;
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

/// The next moment from `now` on at which a target is asked: always at the same place of the interval for the same pod.
fn first_tick(origin: Instant, interval: Duration, uid: &str, now: Instant) -> Instant {
    let beats = (interval.as_nanos() / BEAT.as_nanos()).max(1);
    let beat = u128::from(exposition::fingerprint(uid.as_bytes())) % beats;
    let place = BEAT * u32::try_from(beat).unwrap_or(0);
    let past = now.saturating_duration_since(origin).saturating_sub(place);
    let rounds = past.as_nanos().div_ceil(interval.as_nanos().max(1));
    origin + place + interval * u32::try_from(rounds).unwrap_or(u32::MAX)
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
