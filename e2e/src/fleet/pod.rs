//! One replica: a listener on the pod's own loopback address, its engines, and the clock that finishes their work.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::behaviour::Behaviour;
use super::exposition::{self, EngineStats, Page};
use super::faults::{Condition, Metrics};
use super::queue::{Admission, Capacity, Finished, Station};

/// How long a replica that was removed may take to finish what it has.
const DRAIN: Duration = Duration::from_mins(1);

/// A pod that the fleet shall play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSpec {
    /// The object's uid.
    pub uid: String,
    /// The object's namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// Its pipeline as `namespace/name`.
    pub pipeline: String,
    /// Its stage.
    pub stage: String,
    /// Its pool.
    pub pool: String,
    /// Pod address and container port; loopback only.
    pub address: SocketAddr,
    /// Whether the pod is Ready and not leaving. A pod listens from the first time it is.
    pub ready: bool,
    /// CPU request, thousandths of a core.
    pub cpu_millis: u32,
}

/// What a replica says about one request it served.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Answer {
    /// Time spent waiting for a slot, ms.
    pub queue_ms: f64,
    /// Time spent in a slot, ms.
    pub service_ms: f64,
}

/// How busy a replica is and what it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that wait for a slot.
    pub waiting: u32,
    /// Requests in a slot.
    pub running: u32,
    /// Requests served since the start.
    pub served: u64,
    /// Requests refused since the start.
    pub refused: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    /// No new connections; what is in flight is finished.
    Draining,
    /// Everything is cut.
    Gone,
}

struct InFlight {
    input: u32,
    output: u32,
    /// Tokens of the prompt and of the answer that the counters show already.
    counted: (u64, u64),
    done: oneshot::Sender<Finished>,
}

struct Engine {
    station: Station,
    in_flight: HashMap<u64, InFlight>,
    stats: EngineStats,
}

struct Engines {
    list: Vec<Engine>,
    next_id: u64,
    usage_at: f64,
    usage_busy_s: f64,
}

/// Pages that [`Metrics::Replayed`] goes through.
const REPLAYED: usize = 4;

/// Pages as they were.
#[derive(Default)]
struct OldPages {
    /// The one that is shown while metrics are frozen.
    frozen: Option<String>,
    /// The last ones that were true.
    seen: VecDeque<String>,
}

/// A running replica.
pub(super) struct Pod {
    pub(super) behaviour: Behaviour,
    stage: super::StageKey,
    pub(super) condition: watch::Sender<Condition>,
    pub(super) phase: watch::Sender<Phase>,
    engines: Mutex<Engines>,
    connections: AtomicUsize,
    wake: Notify,
    epoch: Instant,
    started_unix_s: f64,
    scrapes: Scrapes,
    /// Times the page was shown.
    shown: AtomicU32,
    old: Mutex<OldPages>,
}

/// One answer to `GET /metrics`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scrape {
    /// The pipeline (`namespace/name`) and the stage of the replica.
    pub stage: super::StageKey,
    /// When it was answered, seconds since 1970.
    pub at_unix_s: f64,
}

/// Where all replicas note their scrapes; bounded, the oldest stay.
#[derive(Clone, Debug, Default)]
pub(super) struct Scrapes(pub(super) Arc<Mutex<Vec<Scrape>>>);

const SCRAPES_MAX: usize = 1_000_000;

impl Scrapes {
    fn note(&self, stage: &super::StageKey) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < SCRAPES_MAX {
            list.push(Scrape {
                stage: stage.clone(),
                at_unix_s: unix_now_s(),
            });
        }
    }
}

/// Why a replica did not serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unserved {
    /// Its queue is full.
    QueueFull,
    /// It went away.
    Gone,
}

impl Pod {
    pub(super) fn new(
        behaviour: Behaviour,
        condition: Condition,
        stage: super::StageKey,
        scrapes: Scrapes,
    ) -> Arc<Self> {
        let engines = behaviour.engines();
        let exposition = behaviour.exposition;
        let share = Capacity {
            slots: (behaviour.capacity.slots / engines).max(1),
            requests_per_s: behaviour.capacity.requests_per_s / f64::from(engines),
            ..behaviour.capacity
        };
        let list = (0..engines)
            .map(|_| Engine {
                station: Station::new(share, 0.0),
                in_flight: HashMap::new(),
                stats: EngineStats::new(exposition),
            })
            .collect();
        let pod = Arc::new(Self {
            behaviour,
            stage,
            condition: watch::Sender::new(condition),
            phase: watch::Sender::new(Phase::Serving),
            engines: Mutex::new(Engines {
                list,
                next_id: 0,
                usage_at: 0.0,
                usage_busy_s: 0.0,
            }),
            connections: AtomicUsize::new(0),
            wake: Notify::new(),
            epoch: Instant::now(),
            started_unix_s: unix_now_s(),
            scrapes,
            shown: AtomicU32::default(),
            old: Mutex::default(),
        });
        pod.apply_pace();
        tokio::spawn(Arc::clone(&pod).finish_on_time());
        pod
    }

    /// Counts a connection until the answer is dropped: a replica that drains waits for every answer to be sent.
    pub(super) fn connect(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }

    fn now(&self) -> f64 {
        self.epoch.elapsed().as_secs_f64()
    }

    fn engines(&self) -> MutexGuard<'_, Engines> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the engines run at the speed that the condition allows.
    pub(super) fn apply_pace(&self) {
        let (now, pace) = (self.now(), self.condition.borrow().pace());
        for engine in &mut self.engines().list {
            engine.station.set_pace(now, pace);
        }
        self.wake.notify_one();
    }

    /// Runs a request of so many tokens and answers when it is done. Dropping the future cancels the request.
    pub(super) async fn serve(&self, input: u32, output: u32) -> Result<Answer, Unserved> {
        let work = self.behaviour.work.of(input, output);
        let (done, finished) = oneshot::channel();
        let ticket = {
            let mut engines = self.engines();
            let now = self.now();
            let id = engines.next_id;
            engines.next_id += 1;
            let least = engines
                .list
                .iter()
                .enumerate()
                .min_by_key(|(_, e)| e.in_flight.len())
                .map(|(i, _)| i);
            let Some((index, engine)) = least.and_then(|i| engines.list.get_mut(i).map(|e| (i, e))) else {
                return Err(Unserved::Gone);
            };
            if engine.station.arrive(now, id, work) == Admission::Refused {
                engine.stats.refused += 1;
                return Err(Unserved::QueueFull);
            }
            engine.in_flight.insert(
                id,
                InFlight {
                    input,
                    output,
                    counted: (0, 0),
                    done,
                },
            );
            Ticket {
                pod: self,
                engine: index,
                id,
            }
        };
        self.wake.notify_one();
        let finished = finished.await.map_err(|_| Unserved::Gone)?;
        drop(ticket);
        Ok(Answer {
            queue_ms: (finished.started - finished.arrived) * 1e3,
            service_ms: (finished.finished - finished.started) * 1e3,
        })
    }

    /// Waits while the replica hangs.
    pub(super) async fn until_responsive(&self) {
        let mut condition = self.condition.subscribe();
        let _ = condition.wait_for(|c| !c.hang).await;
    }

    /// What is shown in the place of `page`: the first page since the metrics froze, or pages of before the replay began,
    /// over and over in their order; `page` itself while neither is on.
    pub(super) fn shown(&self, fault: Option<Metrics>, page: String) -> String {
        let mut old = self.old.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(Metrics::Frozen) => old.frozen.get_or_insert(page).clone(),
            Some(Metrics::Replayed) => {
                // A replica that is new has nothing old but this.
                if old.seen.is_empty() {
                    old.seen.push_back(page);
                }
                old.seen.rotate_left(1);
                old.seen.back().cloned().unwrap_or_default()
            }
            Some(_) => page,
            None => {
                old.frozen = None;
                if old.seen.len() == REPLAYED {
                    old.seen.pop_front();
                }
                old.seen.push_back(page.clone());
                page
            }
        }
    }

    /// The page that `/metrics` shows.
    pub(super) fn metrics(&self) -> String {
        self.scrapes.note(&self.stage);
        let mut engines = self.engines();
        self.settle(&mut engines);
        let cache_tokens = self.behaviour.kv_tokens / u64::from(self.behaviour.engines());
        let stats: Vec<EngineStats> = engines
            .list
            .iter_mut()
            .map(|engine| {
                let held: u64 = engine
                    .in_flight
                    .iter()
                    .filter(|(id, _)| engine.station.is_running(**id))
                    .map(|(_, r)| u64::from(r.input) + u64::from(r.output))
                    .sum();
                engine.stats.cache_usage = ratio(held, cache_tokens);
                engine.stats.clone()
            })
            .collect();
        drop(engines);
        exposition::render(&Page {
            exposition: self.behaviour.exposition,
            model: &self.behaviour.model,
            engines: &stats,
            started_unix_s: self.started_unix_s,
            capacity: self.behaviour.capacity,
            scrapes: self.shown.fetch_add(1, Ordering::Relaxed),
            condition: *self.condition.borrow(),
        })
    }

    pub(super) fn load(&self) -> Load {
        let mut engines = self.engines();
        self.settle(&mut engines);
        engines.list.iter().fold(Load::default(), |sum, e| Load {
            waiting: sum.waiting + e.stats.waiting,
            running: sum.running + e.stats.running,
            served: sum.served + e.stats.succeeded,
            refused: sum.refused + e.stats.refused,
        })
    }

    /// Mean CPU use since the last call, per cent of the pod's request.
    pub(super) fn cpu_percent(&self) -> f64 {
        let mut engines = self.engines();
        self.settle(&mut engines);
        let now = self.now();
        let count = f64::from(self.behaviour.engines());
        let busy_s = engines.list.iter().map(|e| e.station.busy_s()).sum::<f64>() / count;
        let window = now - engines.usage_at;
        let busy = if window > 0.0 {
            ((busy_s - engines.usage_busy_s) / window).clamp(0.0, 1.0)
        } else {
            0.0
        };
        engines.usage_at = now;
        engines.usage_busy_s = busy_s;
        let (idle, full) = (self.behaviour.idle_cpu_percent, self.behaviour.full_cpu_percent);
        idle + (full - idle) * busy
    }

    /// Lets the engines catch up with the clock and answers what is done.
    fn settle(&self, engines: &mut Engines) {
        let now = self.now();
        for engine in &mut engines.list {
            engine.station.advance(now);
            for finished in engine.station.take_finished() {
                engine.settle(&self.behaviour, finished);
            }
            engine.count_tokens(&self.behaviour);
            engine.stats.running = engine.station.running();
            engine.stats.waiting = engine.station.waiting();
            engine.stats.busy_s = engine.station.busy_s();
        }
    }

    /// Answers requests when they are done, until the replica is gone or drained.
    async fn finish_on_time(self: Arc<Self>) {
        let mut phase = self.phase.subscribe();
        let mut drain_until = None;
        loop {
            let next = {
                let mut engines = self.engines();
                self.settle(&mut engines);
                let completions = engines.list.iter().filter_map(|e| e.station.next_completion());
                completions.reduce(f64::min)
            };
            let idle = self.connections.load(Ordering::Relaxed) == 0;
            let now_phase = *phase.borrow_and_update();
            if now_phase == Phase::Draining && drain_until.is_none() {
                drain_until = Some(Instant::now() + DRAIN);
            }
            let overdue = drain_until.is_some_and(|until| Instant::now() >= until);
            if now_phase == Phase::Gone || (now_phase == Phase::Draining && (idle || overdue)) {
                break;
            }
            // An hour stands for "nothing to wait for": arrivals and phases wake the loop.
            let mut at = next.map_or_else(
                || Instant::now() + Duration::from_hours(1),
                |at| self.epoch + Duration::try_from_secs_f64(at).unwrap_or(Duration::from_hours(1)),
            );
            if let Some(until) = drain_until {
                at = at.min(until);
            }
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = self.wake.notified() => {}
                _ = phase.changed() => {}
            }
        }
        self.phase.send_replace(Phase::Gone);
        for engine in &mut self.engines().list {
            engine.in_flight.clear();
        }
    }
}

impl Engine {
    /// Counts the tokens that requests in progress have got so far: a server's counters move with every batch, not only
    /// when a request ends.
    fn count_tokens(&mut self, behaviour: &Behaviour) {
        if behaviour.exposition.is_web() {
            return;
        }
        for (id, request) in &mut self.in_flight {
            let Some(progress) = self.station.progress(*id) else {
                continue;
            };
            let so_far = behaviour.work.tokens_at(progress, request.input, request.output);
            // Never back: the work of one request is counted once.
            let so_far = (so_far.0.max(request.counted.0), so_far.1.max(request.counted.1));
            self.stats.prompt_tokens += so_far.0 - request.counted.0;
            self.stats.generation_tokens += so_far.1 - request.counted.1;
            request.counted = so_far;
        }
    }

    fn settle(&mut self, behaviour: &Behaviour, finished: Finished) {
        let Some(request) = self.in_flight.remove(&finished.id) else {
            return;
        };
        let (queue_s, service_s) = (
            finished.started - finished.arrived,
            finished.finished - finished.started,
        );
        let stats = &mut self.stats;
        stats.succeeded += 1;
        stats.latency.observe(queue_s + service_s);
        if !behaviour.exposition.is_web() {
            let work = behaviour.work.of(request.input, request.output);
            let prompt_share = if work > 0.0 {
                behaviour.work.prefill(request.input) / work
            } else {
                0.0
            };
            stats.prompt_tokens += u64::from(request.input).saturating_sub(request.counted.0);
            stats.generation_tokens += u64::from(request.output).saturating_sub(request.counted.1);
            stats.prompt_s += service_s * prompt_share;
            stats.generation_s += service_s * (1.0 - prompt_share);
            stats.queue_time.observe(queue_s);
            stats.first_token.observe(queue_s + service_s * prompt_share);
            stats
                .per_token
                .observe(service_s * (1.0 - prompt_share) / f64::from(request.output.max(1)));
        }
        // The client may have gone at this very moment.
        let _ = request.done.send(finished);
    }
}

/// An open connection to a replica.
pub(super) struct Connected(Arc<Pod>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.wake.notify_one();
    }
}

/// Takes the request out of the engine if it is dropped before the answer.
struct Ticket<'a> {
    pod: &'a Pod,
    engine: usize,
    id: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let now = self.pod.now();
        let mut engines = self.pod.engines();
        if let Some(engine) = engines.list.get_mut(self.engine)
            && engine.in_flight.remove(&self.id).is_some()
        {
            engine.station.cancel(now, self.id);
            drop(engines);
            self.pod.wake.notify_one();
        }
    }
}

#[allow(clippy::cast_precision_loss)] // token counts stay far below 2^53
fn ratio(held: u64, capacity: u64) -> f64 {
    if capacity == 0 {
        0.0
    } else {
        (held as f64 / capacity as f64).min(1.0)
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "the servers that are played show when they started"
)]
fn unix_now_s() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
