//! Events for people. Publishing never delays a pass: what is told waits in a short queue for a task that writes.

use std::{collections::HashMap, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::clock::Clock;
use crate::telemetry::Metrics;

/// The API server refuses longer notes.
const NOTE_BYTES_MAX: usize = 1_024;
/// Events waiting to be written; more are dropped and counted.
const QUEUE_MAX: usize = 256;
/// Remembered (object, reason) pairs; the one not told for the longest time gives way.
const TOLD_MAX: usize = 8_192;
/// A message told again within this time is the same news. Longer than the time between two passes.
const SAME_NEWS_MS: u64 = 360_000;
/// A reason of one object makes an Event at most this often, however its message flickers.
const INTERVAL_MS: u64 = 10_000;
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

/// What was told, to tell news from repetition. Pure.
#[derive(Debug, Default)]
pub struct Told {
    by_reason: HashMap<(String, &'static str), Telling>,
}

#[derive(Debug)]
struct Telling {
    message: String,
    published_ms: u64,
    told_ms: u64,
}

impl Told {
    /// True if this is news about the object and worth an Event.
    pub fn is_news(&mut self, uid: &str, reason: &'static str, message: &str, now_ms: u64) -> bool {
        let key = (uid.to_owned(), reason);
        if let Some(telling) = self.by_reason.get_mut(&key) {
            let same = telling.message == message && now_ms.saturating_sub(telling.told_ms) < SAME_NEWS_MS;
            if same || now_ms.saturating_sub(telling.published_ms) < INTERVAL_MS {
                telling.told_ms = now_ms;
                return false;
            }
        } else if self.by_reason.len() >= TOLD_MAX {
            let oldest = self
                .by_reason
                .iter()
                .min_by_key(|(_, telling)| telling.told_ms)
                .map(|(key, _)| key.clone());
            oldest.and_then(|key| self.by_reason.remove(&key));
        }
        let telling = Telling {
            message: message.to_owned(),
            published_ms: now_ms,
            told_ms: now_ms,
        };
        self.by_reason.insert(key, telling);
        true
    }
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

    /// Tells people about an object: one Event per change of the message under a reason. `reason` is one word of the API,
    /// `action` what the operator was doing. Returns at once.
    pub fn publish(
        &self,
        regarding: &ObjectReference,
        kind: EventType,
        reason: &'static str,
        action: &'static str,
        message: &str,
    ) {
        let note = readable(message);
        let uid = regarding
            .uid
            .as_deref()
            .or(regarding.name.as_deref())
            .unwrap_or_default();
        let told = || self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !told().is_news(uid, reason, &note, self.clock.now_ms()) {
            return;
        }
        let event = Event {
            type_: kind,
            reason: reason.into(),
            note: Some(note),
            action: action.into(),
            secondary: None,
        };
        if self.queue.try_send((regarding.clone(), event)).is_err() {
            self.metrics.event("Dropped");
        }
    }
}

/// One after the other: Events are the least of what the API server has to do for us.
async fn write(
    client: Client,
    reporter: Reporter,
    mut waiting: mpsc::Receiver<(ObjectReference, Event)>,
    metrics: Metrics,
) {
    while let Some((regarding, event)) = waiting.recv().await {
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
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        fixtures::{ScriptedApi, status},
        telemetry::Exposition,
    };

    #[test]
    fn news_is_a_changed_message_and_repetition_is_not() {
        let mut told = Told::default();
        let table = [
            (0, "a", "NoCapacity", "l4 is full", true),
            (1, "a", "NoCapacity", "l4 is full", false),
            (2, "b", "NoCapacity", "l4 is full", true),
            (3, "a", "PoolNotFound", "l4 is full", true),
            (9_999, "a", "NoCapacity", "h100 is full", false),
            (10_000, "a", "NoCapacity", "h100 is full", true),
            (300_000, "a", "NoCapacity", "h100 is full", false),
            (600_000, "a", "NoCapacity", "h100 is full", false),
            (960_000, "a", "NoCapacity", "h100 is full", true),
        ];
        for (now_ms, uid, reason, message, expected) in table {
            assert_eq!(
                told.is_news(uid, reason, message, now_ms),
                expected,
                "{uid} {reason} {message} at {now_ms}"
            );
        }
    }

    #[test]
    fn the_memory_of_what_was_told_is_bounded() {
        let mut told = Told::default();
        for object in 0..TOLD_MAX as u64 + 5 {
            assert!(told.is_news(&object.to_string(), "NoCapacity", "full", object));
        }
        assert_eq!(told.by_reason.len(), TOLD_MAX);
        assert!(
            told.is_news("4", "NoCapacity", "full", 9_000),
            "the oldest is forgotten"
        );
        assert!(!told.is_news("100", "NoCapacity", "full", 9_000));
    }

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

    #[tokio::test(start_paused = true)]
    async fn one_event_is_written_per_change_and_a_refusal_is_only_counted() {
        let (client, mut api) = ScriptedApi::new();
        api.expect("POST", "/apis/events.k8s.io/v1/namespaces/ai/events")
            .reply(403, status(403, "Forbidden"));
        api.expect("POST", "/apis/events.k8s.io/v1/namespaces/ai/events")
            .reply(201, json!({"metadata": {}}));
        let script = api.serve();
        let metrics = Metrics::default();
        let (events, writer) = Events::start(client, "tiercel-0", Clock::start(), metrics.clone());
        let regarding = ObjectReference {
            uid: Some("1".into()),
            name: Some("agent".into()),
            namespace: Some("ai".into()),
            ..ObjectReference::default()
        };
        let publish = |message| events.publish(&regarding, EventType::Warning, "NoCapacity", "Placing", message);
        publish("l4 is full");
        publish("l4 is full");
        tokio::time::sleep(Duration::from_secs(20)).await;
        publish("h100 is full");
        publish("h100 is full");
        drop(events);
        writer.await.unwrap();
        script.finish().await;
        let text = metrics.encode(Exposition::OpenMetrics);
        for outcome in ["Published", "Failed"] {
            assert!(
                text.contains(&format!(
                    "tiercel_event_publications_total{{outcome=\"{outcome}\"}} 1\n"
                )),
                "{text}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_costs_events_and_nothing_else() {
        let (client, mut api) = ScriptedApi::new();
        let metrics = Metrics::default();
        let (events, writer) = Events::start(client, "tiercel-0", Clock::start(), metrics.clone());
        let first = ObjectReference {
            uid: Some("first".into()),
            ..ObjectReference::default()
        };
        events.publish(&first, EventType::Normal, "Placed", "Placing", "on arm");
        let hanging = api.call().await;
        for object in 0..QUEUE_MAX + 3 {
            let regarding = ObjectReference {
                uid: Some(object.to_string()),
                ..ObjectReference::default()
            };
            events.publish(&regarding, EventType::Normal, "Placed", "Placing", "on arm");
        }
        let text = metrics.encode(Exposition::OpenMetrics);
        assert!(
            text.contains("tiercel_event_publications_total{outcome=\"Dropped\"} 3\n"),
            "{text}"
        );
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(api.call().await.method, "POST", "the next one is tried");
        drop(hanging);
        writer.abort();
    }
}
