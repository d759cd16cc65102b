//! Sends a trace end to end through a pipeline.
//!
//! The load is open: requests are sent when the trace says, whatever became of earlier ones, so that waiting shows up as
//! latency and not as less load.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client::{CallError, Caller};
use super::dispatch::Dispatch;
use super::record::{Recorder, Summary};
use super::route::Route;
use super::trace::{Arrival, Trace};
use crate::fleet::{Directory, RequestSize};

/// Longest run that is recorded, seconds.
pub(super) const MAX_SECONDS: usize = 24 * 3_600;

/// Pause before a failed call is tried on another replica.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Bounds of a drive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DriveOptions {
    /// Seed of the fan-out.
    pub seed: u64,
    /// Served requests that took longer are late.
    pub objective: Option<Duration>,
    /// Requests that take longer fail.
    pub timeout: Duration,
    /// How often a call that failed before it ran is tried again.
    pub retries: u32,
    /// Requests in flight; more are shed and count as failed.
    pub max_in_flight: usize,
    /// Requests of the trace that are sent at most.
    pub max_requests: usize,
    /// Time after which nothing more is sent.
    pub max_time: Duration,
}

impl Default for DriveOptions {
    /// Half a minute per request, 2 retries, 4,000 in flight, a million requests, an hour.
    fn default() -> Self {
        Self {
            seed: 1,
            objective: None,
            timeout: Duration::from_secs(30),
            retries: 2,
            max_in_flight: 4_000,
            max_requests: 1_000_000,
            max_time: Duration::from_hours(1),
        }
    }
}

struct Drive {
    route: Route,
    options: DriveOptions,
    stages: Vec<Arc<Dispatch>>,
    caller: Caller,
    recorder: Arc<Recorder>,
    start: Instant,
}

/// Sends `trace` along `route` to the replicas in `directory` and waits for the last answer. Measurements go to
/// `recorder`, which may be read meanwhile. Dropping the future ends the drive and its requests.
pub async fn drive(
    route: Route,
    trace: &Trace,
    directory: watch::Receiver<Arc<Directory>>,
    options: DriveOptions,
    recorder: Arc<Recorder>,
) -> Summary {
    recorder.stages(route.stage_names());
    let stages: Vec<Arc<Dispatch>> = route.stages().iter().map(|s| Dispatch::new(s.traffic)).collect();
    let keys = route
        .stage_names()
        .map(|stage| (route.pipeline.clone(), stage.to_owned()))
        .collect();
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(directory, keys, stages.clone()));
    let drive = Drive {
        route,
        options,
        stages,
        caller: Caller::new(),
        recorder,
        start: Instant::now(),
    };
    let drive = Arc::new(drive);
    drive.send_all(trace).await;
    drive.recorder.summary()
}

/// Keeps the dispatchers in step with the directory.
async fn follow(
    mut directory: watch::Receiver<Arc<Directory>>,
    keys: Vec<crate::fleet::StageKey>,
    stages: Vec<Arc<Dispatch>>,
) {
    loop {
        let current = Arc::clone(&directory.borrow_and_update());
        for (key, stage) in keys.iter().zip(&stages) {
            stage.set_endpoints(current.of(key));
        }
        if directory.changed().await.is_err() {
            return;
        }
    }
}

impl Drive {
    async fn send_all(self: &Arc<Self>, trace: &Trace) {
        let in_flight = Arc::new(Semaphore::new(self.options.max_in_flight));
        let mut requests = JoinSet::new();
        for (index, arrival) in (0_u64..).zip(trace.arrivals()).take(self.options.max_requests) {
            if arrival.at >= self.options.max_time {
                break;
            }
            tokio::time::sleep_until(self.start + arrival.at).await;
            while requests.try_join_next().is_some() {}
            self.recorder.offered(self.start.elapsed());
            match Arc::clone(&in_flight).try_acquire_owned() {
                Ok(permit) => {
                    let (drive, arrival) = (Arc::clone(self), *arrival);
                    requests.spawn(async move {
                        drive.request(index, arrival).await;
                        drop(permit);
                    });
                }
                Err(_) => self.recorder.failed(self.start.elapsed(), true),
            }
        }
        // Bounded: every request ends at its timeout.
        while requests.join_next().await.is_some() {}
    }

    async fn request(&self, index: u64, arrival: Arrival) {
        let sent = Instant::now();
        let outcome = tokio::time::timeout(self.options.timeout, self.through_stages(index, arrival)).await;
        let (now, latency) = (self.start.elapsed(), sent.elapsed());
        match outcome {
            Ok(Ok(())) => {
                let late = self.options.objective.is_some_and(|objective| latency > objective);
                self.recorder.served(now, latency, late);
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, index, "request failed");
                self.recorder.failed(now, false);
            }
            Err(_) => self.recorder.failed(now, false),
        }
    }

    /// Runs the stages along their edges: a stage begins when all stages before it are done, and makes its calls at once.
    async fn through_stages(&self, index: u64, arrival: Arrival) -> Result<(), CallError> {
        let size = RequestSize {
            input_tokens: arrival.input_tokens,
            output_tokens: arrival.output_tokens,
        };
        let calls = self.route.calls(self.options.seed, index);
        let stages = self.route.stages();
        let mut blocked: Vec<usize> = stages.iter().map(|s| s.after.len()).collect();
        let mut active = FuturesUnordered::new();
        let start = |stage: usize| {
            let count = calls.get(stage).copied().unwrap_or(0);
            async move {
                let all = (0..count).map(|_| self.call(stage, size));
                futures::future::try_join_all(all).await.map(|_| stage)
            }
        };
        active.extend(
            blocked
                .iter()
                .enumerate()
                .filter(|(_, n)| **n == 0)
                .map(|(stage, _)| start(stage)),
        );
        while let Some(done) = active.next().await {
            let done = done?;
            for (stage, next) in stages.iter().enumerate() {
                let edges = next.after.iter().filter(|(from, _)| *from == done).count();
                if edges > 0
                    && let Some(left) = blocked.get_mut(stage)
                {
                    *left = left.saturating_sub(edges);
                    if *left == 0 {
                        active.push(start(stage));
                    }
                }
            }
        }
        Ok(())
    }

    async fn call(&self, stage: usize, size: RequestSize) -> Result<(), CallError> {
        let Some(dispatch) = self.stages.get(stage) else {
            return Ok(());
        };
        let mut tries = 0;
        loop {
            let asked = Instant::now();
            let Some(lease) = dispatch.lease().await else {
                return Ok(());
            };
            let waited_ms = asked.elapsed().as_secs_f64() * 1e3;
            match self.caller.call(lease.endpoint.address, size).await {
                Ok(answer) => {
                    self.recorder.waited(stage, waited_ms + answer.queue_ms);
                    return Ok(());
                }
                Err(error) if tries >= self.options.retries => return Err(error),
                Err(_) => {
                    drop(lease);
                    tries += 1;
                    self.recorder.retried();
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}
