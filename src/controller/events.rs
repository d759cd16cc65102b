//! Events for people. Publishing never delays a pass: what is told waits in a short queue for a task that writes.

pub mod table;
mod told;

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Client,
    runtime::events::{Event, Recorder, Reporter},
};
use tokio::{sync::mpsc, task::JoinHandle};

use self::table::Row;
use self::told::Told;
use super::clock::Clock;
use crate::telemetry::Metrics;

/// The API server refuses longer notes.
const NOTE_BYTES_MAX: usize = 1_024;
/// Events waiting to be written; more are dropped and counted.
const QUEUE_MAX: usize = 256;
/// What the operator was doing: passes look at everything, so there is one word.
const ACTION: &str = "Reconcile";
const CALL: Duration = Duration::from_secs(5);

/// Text for people from text of unknown origin: no control characters, at most 1 kB, cut between characters.
pub fn readable(text: &str) -> String {
    let mut clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() > NOTE_BYTES_MAX {
        clean.truncate(clean.floor_char_boundary(NOTE_BYTES_MAX - '…'.len_utf8()));
        clean.push('…');
    }
    clean
}

/// Where Events are handed in. A handle: clones share everything.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(ObjectReference, Event)>,
    told: std::sync::Arc<std::sync::Mutex<Told>>,
    clock: Clock,
    metrics: Metrics,
}

impl Events {
    /// Starts the task that writes. It ends once all handles are gone and the queue is empty. `instance` is the pod's name.
    ///
    /// Needs `create` on `events.events.k8s.io`. Events of cluster-scoped objects go to namespace `default`.
    pub fn start(client: Client, instance: &str, clock: Clock, metrics: Metrics) -> (Self, JoinHandle<()>) {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let reporter = Reporter {
            controller: "tiercel.dev/operator".to_owned(),
            instance: Some(instance.to_owned()),
        };
        let writer = tokio::spawn(write(client, reporter, waiting, metrics.clone()));
        (
            Self {
                queue,
                told: std::sync::Arc::default(),
                clock,
                metrics,
            },
            writer,
        )
    }

    /// Tells people how an object is: one Event per row of the table that holds now and is not what they were told last.
    /// `before`: its conditions on record. What an object has told too much for, or the queue has no room for, is put
    /// off until a later pass finds it still true. Returns at once.
    pub fn tell(&self, regarding: &ObjectReference, table: &'static [Row], before: &[Condition], now: &[Condition]) {
        let mut told = self.told();
        let mut reasons = Vec::new();
        for (row, condition) in told.news(uid(regarding), table, before, now, self.clock.now_ms()) {
            // Two conditions may say the same at once.
            let news = !reasons.contains(&row.reason);
            if news && !self.write(&mut told, regarding, row, &condition.message) {
                return;
            }
            reasons.push(row.reason);
            told.remember(uid(regarding), row);
        }
    }

    /// Tells people of what is seen about an object beside its conditions: one Event per change of the message. Put
    /// off where there are too many, like the others. Returns at once.
    pub fn publish(&self, regarding: &ObjectReference, row: Row, message: &str) {
        let mut told = self.told();
        if told.is_news(uid(regarding), row.reason.as_str(), message, self.clock.now_ms())
            && !self.write(&mut told, regarding, row, message)
        {
            told.forget(uid(regarding), row.reason.as_str());
        }
    }

    /// Hands one Event to the task that writes. False if the object had too many, or all objects together.
    fn write(&self, told: &mut Told, regarding: &ObjectReference, row: Row, message: &str) -> bool {
        if !told.take(uid(regarding), self.clock.now_ms()) {
            self.metrics.event("Limited");
            return false;
        }
        let event = Event {
            type_: row.severity,
            reason: row.reason.as_str().into(),
            note: Some(readable(message)),
            action: ACTION.into(),
            secondary: None,
        };
        let queued = self.queue.try_send((regarding.clone(), event)).is_ok();
        if !queued {
            self.metrics.event("Dropped");
        }
        queued
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn uid(regarding: &ObjectReference) -> &str {
    let name = || regarding.name.as_deref();
    regarding.uid.as_deref().or_else(name).unwrap_or_default()
}

/// One after the other: Events are the least of what the API server has to do for us.
async fn write(
    client: Client,
    reporter: Reporter,
    mut waiting: mpsc::Receiver<(ObjectReference, Event)>,
    metrics: Metrics,
) {
    while let Some((regarding, event)) = waiting.recv().await {
        metrics.set_queue_depth("Events", waiting.len() + 1);
        // A recorder of its own each time: a shared one would repeat the old note where only the note is new.
        let recorder = Recorder::new(client.clone(), reporter.clone());
        match tokio::time::timeout(CALL, recorder.publish(&event, &regarding)).await {
            Ok(Ok(())) => metrics.event("Published"),
            Ok(Err(error)) => {
                tracing::debug!(%error, reason = event.reason, "cannot publish an event");
                metrics.event("Failed");
            }
            Err(_) => metrics.event("Failed"),
        }
        metrics.set_queue_depth("Events", waiting.len());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::table::PIPELINE;
    use super::*;
    use crate::api::conditions::{New, Reason, Status, Type, set};
    use crate::{
        fixtures::{ScriptedApi, status},
        telemetry::Exposition,
    };

    #[test]
    fn notes_are_cut_between_characters_and_hold_no_control_characters() {
        assert_eq!(readable("a\nb\u{1b}[31mc"), "a b [31mc");
        for text in ["é".repeat(2_000), format!("x{}", "é".repeat(2_000)), "日".repeat(700)] {
            let note = readable(&text);
            assert!((1_018..=1_024).contains(&note.len()), "{}", note.len());
            assert!(note.ends_with('…'));
        }
        assert_eq!(readable(&"x".repeat(1_024)).len(), 1_024);
    }

    fn object(uid: &str) -> ObjectReference {
        ObjectReference {
            uid: Some(uid.into()),
            name: Some("agent".into()),
            namespace: Some("ai".into()),
            ..ObjectReference::default()
        }
    }

    /// A condition alone.
    fn says(type_: Type, status: Status, reason: Reason) -> Vec<Condition> {
        let mut conditions = Vec::new();
        let new = New {
            type_,
            status,
            reason,
            message: "stage 'plan'".to_owned(),
        };
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH);
        set(&mut conditions, &now, None, new);
        conditions
    }

    fn stale() -> Vec<Condition> {
        says(Type::SignalsAvailable, Status::False, Reason::MetricsStale)
    }

    fn fresh() -> Vec<Condition> {
        says(Type::SignalsAvailable, Status::True, Reason::Fresh)
    }

    #[tokio::test(start_paused = true)]
    async fn one_event_is_written_per_change_and_a_refusal_is_only_counted() {
        let (client, mut api) = ScriptedApi::new();
        let metrics = Metrics::default();
        let (events, writer) = Events::start(client, "tiercel-0", Clock::start(), metrics.clone());
        let regarding = object("1");
        events.tell(&regarding, PIPELINE, &fresh(), &stale());
        events.tell(&regarding, PIPELINE, &fresh(), &stale());
        events.tell(&regarding, PIPELINE, &stale(), &fresh());
        let row = table::find(PIPELINE, Type::CapacityAvailable, "PoolDry").unwrap();
        events.publish(&regarding, row, "pool 'l4' could not place pods lately");
        events.publish(&regarding, row, "pool 'l4' could not place pods lately");
        drop(events);
        let mut written = Vec::new();
        for refused in [true, false, false] {
            let call = api.call().await;
            assert_eq!(call.path, "/apis/events.k8s.io/v1/namespaces/ai/events?");
            let word = |key: &str| call.body[key].as_str().unwrap_or_default().to_owned();
            written.push([word("type"), word("reason"), word("action"), word("note")].join(" "));
            if refused {
                call.reply(403, &status(403, "Forbidden"));
            } else {
                call.reply(201, &json!({"metadata": {}}));
            }
        }
        writer.await.unwrap();
        assert_eq!(
            written,
            [
                "Warning MetricsStale Reconcile stage 'plan'",
                "Normal Fresh Reconcile stage 'plan'",
                "Warning PoolDry Reconcile pool 'l4' could not place pods lately",
            ]
        );
        let text = metrics.encode(Exposition::OpenMetrics);
        for (outcome, count) in [("Published", 2), ("Failed", 1)] {
            assert!(
                text.contains(&format!(
                    "tiercel_event_publications_total{{outcome=\"{outcome}\"}} {count}\n"
                )),
                "{text}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_conditions_that_say_the_same_at_once_make_one_event() {
        let (client, mut api) = ScriptedApi::new();
        let (events, writer) = Events::start(client, "tiercel-0", Clock::start(), Metrics::default());
        let mut short = says(Type::Ready, Status::False, Reason::NoCapacity);
        short.extend(says(Type::CapacityAvailable, Status::False, Reason::NoCapacity));
        events.tell(&object("1"), PIPELINE, &[], &short);
        events.tell(&object("1"), PIPELINE, &[], &short);
        drop(events);
        api.call().await.reply(201, &json!({"metadata": {}}));
        let second = api.call_within(Duration::from_secs(10)).await;
        assert!(second.is_none(), "{:?}", second.map(|call| call.body));
        writer.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_puts_events_off_and_costs_nothing_else() {
        let (client, mut api) = ScriptedApi::new();
        let metrics = Metrics::default();
        let (events, writer) = Events::start(client, "tiercel-0", Clock::start(), metrics.clone());
        events.tell(&object("first"), PIPELINE, &fresh(), &stale());
        let hanging = api.call().await;
        for uid in 0..QUEUE_MAX + 3 {
            events.tell(&object(&uid.to_string()), PIPELINE, &fresh(), &stale());
        }
        let text = metrics.encode(Exposition::OpenMetrics);
        assert!(
            text.contains("tiercel_event_publications_total{outcome=\"Dropped\"} 3\n"),
            "{text}"
        );
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(api.call().await.method, "POST", "the next one is tried");
        drop(hanging);
        let last = (QUEUE_MAX + 2).to_string();
        // The status is written by now.
        let news = |uid: &str| events.told().news(uid, PIPELINE, &stale(), &stale(), 0).len();
        assert_eq!(news("0"), 0, "told");
        assert_eq!(news(&last), 1, "put off");
        events.tell(&object(&last), PIPELINE, &stale(), &stale());
        assert_eq!(news(&last), 0, "a later pass has told it: there was room");
        let row = table::find(PIPELINE, Type::CapacityAvailable, "PoolDry").unwrap();
        let dry = "pool 'l4' could not place pods lately";
        events.publish(&object(&last), row, dry);
        let now_ms = events.clock.now_ms();
        assert!(
            events.told().is_news(&last, "PoolDry", dry, now_ms),
            "there was no room for it"
        );
        writer.abort();
    }
}
