//! What the watches have brought, for whoever is served: one writer, readers that never wait for the cluster.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::api::TieredPipeline;
use crate::view::hour::Hour;
use crate::view::page::{self, Detail, Lost, Overview, Session};
use crate::view::tree::{Seen, tree};

/// All that is known now.
pub(super) struct Board {
    known: Mutex<Known>,
    /// Counts what has changed.
    changes: watch::Sender<u64>,
}

struct Known {
    seen: Seen,
    hour: Hour,
    session: Session,
}

impl Board {
    /// Nothing known yet.
    pub(super) fn new(session: Session, now: Timestamp) -> Self {
        let known = Known {
            seen: Seen::default(),
            hour: Hour::new(now),
            session,
        };
        Self {
            known: Mutex::new(known),
            changes: watch::Sender::new(0),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Everything is as `seen` says at this moment.
    pub(super) fn show(&self, seen: Seen, now: Timestamp) {
        self.with(|known| {
            let decisions: Vec<_> = seen
                .pipelines
                .iter()
                .filter_map(|object| {
                    let (namespace, name) = (object.metadata.namespace.as_deref()?, object.metadata.name.as_deref()?);
                    Some((namespace, name, object.status.as_ref()?.decisions.as_slice()))
                })
                .collect();
            known.hour.see(&tree(&seen, now), &decisions, now);
            known.seen = seen;
            known.session.waiting = false;
            known.session.lost = None;
        });
        self.changed();
    }

    /// Nobody knows how everything is. What was seen last stays.
    pub(super) fn lose(&self, problem: String, advice: &'static str, now: Timestamp) {
        self.with(|known| {
            let since = known
                .session
                .lost
                .take()
                .map_or_else(|| now.to_string(), |lost| lost.since);
            known.session.lost = Some(Lost { since, problem, advice });
        });
        self.changed();
    }

    /// All pipelines and pools.
    pub(super) fn overview(&self, now: Timestamp) -> Overview {
        self.with(|known| page::overview(&known.seen, &known.session, now))
    }

    /// The namespace that is looked at; `None` for all.
    pub(super) fn namespace(&self) -> Option<String> {
        self.with(|known| known.session.namespace.clone())
    }

    /// One pipeline.
    pub(super) fn detail(&self, namespace: &str, name: &str, now: Timestamp) -> Option<Detail> {
        self.with(|known| page::detail(&known.seen, &known.hour, namespace, name, now))
    }

    /// One pipeline as its author wrote it.
    pub(super) fn pipeline(&self, namespace: &str, name: &str) -> Option<TieredPipeline> {
        let is_meant = |object: &&TieredPipeline| {
            object.metadata.namespace.as_deref() == Some(namespace) && object.metadata.name.as_deref() == Some(name)
        };
        self.with(|known| known.seen.pipelines.iter().find(is_meant).cloned())
    }

    /// Tells of every change from now on; several in a row may be told as one.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
