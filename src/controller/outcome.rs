//! How a pass of a controller ended: counted, isolated from panics, backed off per object.

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use kube::runtime::controller::Action;

use super::{clock::Clock, events::readable};
use crate::telemetry::Metrics;

/// Objects under back-off at the same time; the one that failed longest ago gives way.
const BACKOFF_OBJECTS_MAX: usize = 4_096;
/// A pass is repeated at least this often, because an event can get lost.
const RESYNC_MS: u64 = 300_000;
/// First retry after an error, and the longest wait.
const ERROR_BACKOFF_MS: (u64, u64) = (500, RESYNC_MS);
/// First retry after a panic, and the longest wait: the object is in quarantine meanwhile.
const PANIC_BACKOFF_MS: (u64, u64) = (5_000, 600_000);
/// A pass that waits for something looks again after this even if nothing announces it.
const WAITING_MS: u64 = 10_000;

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything desired is written, or was there already.
    Applied,
    /// Written as far as possible; something outside has to happen first.
    Waiting,
    /// Nothing to do for this object: being deleted, or in quarantine.
    Skipped,
    /// The pass returned an error or panicked.
    Failed,
    /// The pass was dropped before it ended: shutdown, or leadership lost.
    Abandoned,
}

impl Outcome {
    /// As label of a metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Applied => "Applied",
            Self::Waiting => "Waiting",
            Self::Skipped => "Skipped",
            Self::Failed => "Failed",
            Self::Abandoned => "Abandoned",
        }
    }
}

/// A pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// With an error.
    #[error(transparent)]
    Failed(E),
    /// With a panic: a defect. The object is in quarantine.
    #[error(transparent)]
    Panicked(Panicked),
}

/// A panic that was caught; its message, at most 1 kB.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pass panicked, which is a defect of the operator: {0}")]
pub struct Panicked(pub String);

/// Runs a future; a panic in it is an error like any other.
///
/// # Errors
/// It panicked.
pub async fn isolated<T>(body: impl Future<Output = T>) -> Result<T, Panicked> {
    // What the body leaves half done is its own: passes share only stores, channels and locks that survive poisoning.
    AssertUnwindSafe(body).catch_unwind().await.map_err(|payload| {
        let message = payload.downcast_ref::<String>().map(String::as_str);
        Panicked(readable(
            message
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("no message"),
        ))
    })
}

/// Exponential back-off per object. Pure.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: HashMap<String, Failure>,
}

#[derive(Debug)]
struct Failure {
    count: u32,
    panicked: bool,
    at_ms: u64,
    until_ms: u64,
}

impl Backoff {
    /// The object failed again; returns when to try next, in milliseconds from now. Doubles per failure, spread by up to a
    /// fifth downwards so that objects that failed together do not come back together.
    pub fn failed(&mut self, uid: &str, panicked: bool, now_ms: u64) -> u64 {
        let count = self
            .failures
            .get(uid)
            .map_or(0, |failure| failure.count)
            .saturating_add(1);
        let (first_ms, max_ms) = if panicked { PANIC_BACKOFF_MS } else { ERROR_BACKOFF_MS };
        let full_ms = first_ms.saturating_mul(1 << (count - 1).min(32)).min(max_ms);
        let delay_ms = full_ms - spread(uid, count) % (full_ms / 5 + 1);
        if self.failures.len() >= BACKOFF_OBJECTS_MAX && !self.failures.contains_key(uid) {
            let oldest = self
                .failures
                .iter()
                .min_by_key(|(_, failure)| failure.at_ms)
                .map(|(uid, _)| uid.clone());
            oldest.and_then(|uid| self.failures.remove(&uid));
        }
        let failure = Failure {
            count,
            panicked,
            at_ms: now_ms,
            until_ms: now_ms.saturating_add(delay_ms),
        };
        self.failures.insert(uid.to_owned(), failure);
        delay_ms
    }

    /// The object is fine, or gone.
    pub fn reset(&mut self, uid: &str) {
        self.failures.remove(uid);
    }

    /// How long the object stays in quarantine after a panic; an error leaves it free to be tried at the next event.
    pub fn quarantine_ms(&self, uid: &str, now_ms: u64) -> Option<u64> {
        let failure = self.failures.get(uid).filter(|failure| failure.panicked)?;
        Some(failure.until_ms.saturating_sub(now_ms)).filter(|left_ms| *left_ms > 0)
    }
}

/// Scatters by identity rather than by chance, so that a run can be repeated.
fn spread(uid: &str, round: u32) -> u64 {
    let mut hasher = DefaultHasher::new();
    (uid, round).hash(&mut hasher);
    hasher.finish()
}

/// Outcomes of all passes. A handle: clones share everything.
#[derive(Clone)]
pub struct Outcomes {
    metrics: Metrics,
    clock: Clock,
    backoff: Arc<Mutex<Backoff>>,
}

impl Outcomes {
    /// Nothing failed yet.
    pub fn new(metrics: Metrics, clock: Clock) -> Self {
        Self {
            metrics,
            clock,
            backoff: Arc::default(),
        }
    }

    /// Starts to count a pass over the object with this UID.
    pub fn start(&self, controller: &'static str, uid: &str) -> Pass {
        self.metrics.reconcile_started(controller);
        let (outcomes, uid) = (self.clone(), uid.to_owned());
        Pass {
            started_ms: self.clock.now_ms(),
            outcomes,
            controller,
            uid,
            ended: false,
        }
    }

    /// The whole of a pass: skipped in quarantine, isolated, counted, its back-off kept, its outcome told to the span that
    /// it runs in. This is what a controller calls.
    ///
    /// # Errors
    /// The body's error, or its panic. Ask [`Outcomes::retry`] in the error policy.
    pub async fn run<E>(
        &self,
        controller: &'static str,
        uid: &str,
        body: impl Future<Output = Result<Outcome, E>>,
    ) -> Result<Action, Error<E>> {
        let pass = self.start(controller, uid);
        if let Some(left_ms) = self.backoff().quarantine_ms(uid, self.clock.now_ms()) {
            pass.count(Outcome::Skipped);
            return Ok(Action::requeue(Duration::from_millis(left_ms)));
        }
        match isolated(body).await {
            Ok(Ok(outcome)) => Ok(pass.finish(outcome)),
            Ok(Err(error)) => {
                pass.fail(false);
                Err(Error::Failed(error))
            }
            Err(panicked) => {
                pass.fail(true);
                Err(Error::Panicked(panicked))
            }
        }
    }

    /// For the error policy: when to try the object again.
    pub fn retry(&self, uid: &str) -> Action {
        let now_ms = self.clock.now_ms();
        let until_ms = self.backoff().failures.get(uid).map(|failure| failure.until_ms);
        let left_ms = until_ms.map_or(ERROR_BACKOFF_MS.0, |until_ms| until_ms.saturating_sub(now_ms));
        Action::requeue(Duration::from_millis(left_ms))
    }

    /// The object is gone.
    pub fn forget(&self, uid: &str) {
        self.backoff().reset(uid);
    }

    fn backoff(&self) -> std::sync::MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Outcomes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Outcomes").finish_non_exhaustive()
    }
}

/// A pass under way. Dropped without an end it counts as [`Outcome::Abandoned`].
#[derive(Debug)]
#[must_use = "a pass that is dropped counts as abandoned"]
pub struct Pass {
    outcomes: Outcomes,
    controller: &'static str,
    uid: String,
    started_ms: u64,
    ended: bool,
}

impl Pass {
    /// The pass ended well; returns when to look again, with nothing happening.
    pub fn finish(self, outcome: Outcome) -> Action {
        self.outcomes.backoff().reset(&self.uid);
        let interval_ms = match outcome {
            Outcome::Waiting => WAITING_MS,
            _ => RESYNC_MS,
        };
        let early_ms = spread(&self.uid, 0) % (interval_ms / 5 + 1);
        self.count(outcome);
        Action::requeue(Duration::from_millis(interval_ms - early_ms))
    }

    /// The pass failed: the object's next try moves further away.
    pub fn fail(self, panicked: bool) {
        self.outcomes
            .backoff()
            .failed(&self.uid, panicked, self.outcomes.clock.now_ms());
        self.count(Outcome::Failed);
    }

    fn count(mut self, outcome: Outcome) {
        self.ended = true;
        self.report(outcome);
    }

    fn report(&self, outcome: Outcome) {
        tracing::Span::current().record("tiercel.outcome", outcome.label());
        let took_ms = self.outcomes.clock.now_ms().saturating_sub(self.started_ms);
        self.outcomes
            .metrics
            .reconciled(self.controller, outcome.label(), Duration::from_millis(took_ms));
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.ended {
            self.report(Outcome::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Exposition;

    fn world() -> (Outcomes, Metrics, Clock) {
        let (metrics, clock) = (Metrics::default(), Clock::start());
        (Outcomes::new(metrics.clone(), clock.clone()), metrics, clock)
    }

    fn passes(metrics: &Metrics, outcome: &str) -> u32 {
        let start = format!("tiercel_reconcile_passes_total{{controller=\"pipeline\",outcome=\"{outcome}\"}} ");
        let text = metrics.encode(Exposition::OpenMetrics);
        assert!(!text.contains("in_flight{controller=\"pipeline\"} -"), "{text}");
        text.lines()
            .find_map(|line| line.strip_prefix(&start)?.parse().ok())
            .unwrap_or(0)
    }

    /// What the controller would wait, in milliseconds. An action shows its interval only to people.
    fn wait_ms(action: &Action) -> u64 {
        let shown = format!("{action:?}");
        let interval = shown
            .split_once("Some(")
            .and_then(|(_, rest)| rest.split_once(')'))
            .unwrap()
            .0;
        let (number, scale) = match interval.strip_suffix("ms") {
            Some(number) => (number, 1.0),
            None => (interval.strip_suffix('s').unwrap(), 1e3),
        };
        Duration::from_secs_f64(number.parse::<f64>().unwrap() * scale / 1e3 + 1e-6)
            .as_millis()
            .try_into()
            .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn every_way_a_pass_can_end_is_counted_once() {
        let (outcomes, metrics, _clock) = world();
        for outcome in [Outcome::Applied, Outcome::Waiting, Outcome::Skipped] {
            outcomes
                .run("pipeline", "a", async { Ok::<_, String>(outcome) })
                .await
                .unwrap();
        }
        outcomes
            .run("pipeline", "b", async { Err("no".to_owned()) })
            .await
            .unwrap_err();
        drop(outcomes.start("pipeline", "c"));
        let endless = outcomes.run("pipeline", "d", std::future::pending::<Result<Outcome, String>>());
        tokio::time::timeout(Duration::from_secs(1), endless).await.unwrap_err();
        let counts = ["Applied", "Waiting", "Skipped", "Failed", "Abandoned"].map(|label| passes(&metrics, label));
        assert_eq!(counts, [1, 1, 1, 1, 2]);
        let text = metrics.encode(Exposition::OpenMetrics);
        assert!(
            text.contains("tiercel_reconcile_in_flight{controller=\"pipeline\"} 0\n"),
            "{text}"
        );
        assert!(
            text.contains("tiercel_reconcile_duration_seconds_count{controller=\"pipeline\"} 6\n"),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_poisonous_object_is_put_in_quarantine_and_others_go_on() {
        let (outcomes, metrics, clock) = world();
        let poison = async || -> Result<Outcome, String> { panic!("index 3 of 2") };
        let error = outcomes.run("pipeline", "bad", poison()).await.unwrap_err();
        assert!(
            matches!(&error, Error::Panicked(Panicked(message)) if message == "index 3 of 2"),
            "{error}"
        );
        let retry_ms = wait_ms(&outcomes.retry("bad"));
        assert!((4_000..=5_000).contains(&retry_ms), "{retry_ms}");

        // An event for it does not get it out of quarantine; the body is not even polled.
        let early = outcomes.run("pipeline", "bad", poison()).await.unwrap();
        assert_eq!(wait_ms(&early), retry_ms);
        outcomes
            .run("pipeline", "good", async { Ok::<_, String>(Outcome::Applied) })
            .await
            .unwrap();

        let mut longest_ms = 0;
        for _ in 0..12 {
            let retry_ms = wait_ms(&outcomes.retry("bad"));
            longest_ms = longest_ms.max(retry_ms);
            tokio::time::sleep_until(clock.instant(clock.now_ms() + retry_ms)).await;
            outcomes.run("pipeline", "bad", poison()).await.unwrap_err();
        }
        assert!((480_000..=600_000).contains(&longest_ms), "{longest_ms}");
        assert_eq!((passes(&metrics, "Failed"), passes(&metrics, "Skipped")), (13, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn errors_back_off_and_a_success_starts_anew() {
        let (outcomes, ..) = world();
        let mut before_ms = 0;
        for round in 0..12 {
            outcomes
                .run("pipeline", "a", async { Err::<Outcome, _>("no") })
                .await
                .unwrap_err();
            let retry_ms = wait_ms(&outcomes.retry("a"));
            let full_ms = (500 << round).min(300_000);
            assert!(
                (full_ms * 4 / 5..=full_ms).contains(&retry_ms),
                "round {round}: {retry_ms}"
            );
            assert!(retry_ms >= before_ms || full_ms == 300_000, "round {round}: {retry_ms}");
            before_ms = retry_ms;
        }
        outcomes
            .run("pipeline", "a", async { Ok::<_, &str>(Outcome::Applied) })
            .await
            .unwrap();
        outcomes
            .run("pipeline", "a", async { Err::<Outcome, _>("no") })
            .await
            .unwrap_err();
        assert!(wait_ms(&outcomes.retry("a")) <= 500);
    }

    #[tokio::test(start_paused = true)]
    async fn a_settled_object_is_looked_at_again_within_five_minutes_and_not_all_at_once() {
        let (outcomes, ..) = world();
        let mut waits = Vec::new();
        for object in 0..20 {
            let uid = object.to_string();
            waits.push(wait_ms(&outcomes.start("pipeline", &uid).finish(Outcome::Applied)));
        }
        assert!(
            waits.iter().all(|wait_ms| (240_000..=300_000).contains(wait_ms)),
            "{waits:?}"
        );
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 15, "{waits:?}");
    }

    #[test]
    fn the_memory_of_failures_is_bounded_and_forgets_the_oldest() {
        let mut backoff = Backoff::default();
        for object in 0..BACKOFF_OBJECTS_MAX + 10 {
            backoff.failed(&object.to_string(), true, object as u64);
        }
        assert_eq!(backoff.failures.len(), BACKOFF_OBJECTS_MAX);
        assert_eq!(backoff.quarantine_ms("9", 10), None);
        assert!(backoff.quarantine_ms("10", 10).is_some());
        backoff.failed("10", true, u64::MAX);
        assert!(backoff.failures.len() == BACKOFF_OBJECTS_MAX);
    }

    #[tokio::test]
    async fn the_message_of_a_panic_is_kept_whatever_its_type() {
        assert_eq!(isolated(async { 3 }).await, Ok(3));
        let message = async |body: futures::future::BoxFuture<'static, ()>| isolated(body).await.unwrap_err().0;
        assert_eq!(message(async { panic!("plain") }.boxed()).await, "plain");
        assert_eq!(message(async { panic!("with {}", 1) }.boxed()).await, "with 1");
        assert_eq!(message(async { std::panic::panic_any(7) }.boxed()).await, "no message");
        assert!(message(async { panic!("{}", "x".repeat(5_000)) }.boxed()).await.len() <= 1_024);
    }
}
