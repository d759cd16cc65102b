//! Which Deployment a `ReplicaSet` belongs to, by UIDs: labels and names can be written by anybody, the owner reference of a
//! `ReplicaSet` that a Deployment owns only by who may write what the Deployment's controller writes.
//!
//! There are as many as Deployments, so two UIDs are all that is kept of each, as numbers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use futures::Stream;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::Client;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::stores::scope;
use super::view::watcher_config;
use super::watch::Ended;
use crate::api::labels;

/// A UUID as text: 32 digits in five groups.
const UUID_BYTES: usize = 36;
/// HTTP status of what the caller may not do.
const FORBIDDEN: u16 = 403;

/// Owners by what they own.
type Known = HashMap<Uid, Uid>;

/// A UID as a number: its hexadecimal digits, as the API server gives them; of any other text a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Uid(u128);

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        let fits = |(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        };
        if text.len() == UUID_BYTES && text.bytes().enumerate().all(fits) {
            let digits = text.chars().filter_map(|digit| digit.to_digit(16));
            return Self(digits.fold(0, |number, digit| number << 4 | u128::from(digit)));
        }
        let digest = Sha256::digest(text.as_bytes());
        Self(
            digest
                .iter()
                .take(16)
                .fold(0, |number, &byte| number << 8 | u128::from(byte)),
        )
    }
}

/// What is known of all `ReplicaSet`s of tiercel's Deployments. A handle: clones share everything.
#[derive(Clone, Debug)]
pub struct Owners {
    known: Arc<RwLock<Known>>,
    filled: watch::Sender<bool>,
    /// Nobody lets us look: then labels have to do, as they did in roles of before.
    blind: Arc<AtomicBool>,
}

impl Default for Owners {
    fn default() -> Self {
        Self {
            known: Arc::default(),
            filled: watch::Sender::new(false),
            blind: Arc::default(),
        }
    }
}

impl Owners {
    /// Whether the Deployment with this UID owns the `ReplicaSet` with that; true of all while `ReplicaSet`s may not be seen.
    pub fn own(&self, deployment: &str, replica_set: &str) -> bool {
        if self.blind.load(Ordering::Relaxed) {
            return true;
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&replica_set.into()) == Some(&deployment.into())
    }

    /// Waits until it has been filled once, or may not be.
    ///
    /// # Errors
    /// When the watch ended before that.
    pub async fn wait_until_ready(&self) -> Result<(), Ended> {
        let mut filled = self.filled.subscribe();
        filled.wait_for(|filled| *filled).await.map(drop).map_err(|_| Ended)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A `ReplicaSet` was seen for the first time, with this label of a variant.
    Of(String),
    /// All were read anew.
    Everything,
}

/// Fills `Owners` from a watch.
#[derive(Debug, Default)]
pub struct Writer {
    owners: Owners,
    /// What a list has shown so far.
    listed: Known,
}

impl Writer {
    /// What it fills.
    pub fn owners(&self) -> Owners {
        self.owners.clone()
    }

    /// The server does not let us look, with this HTTP status. An operator that is upgraded before its roles goes on as the one
    /// before it did; what was known once still holds.
    pub fn refused(&mut self, code: u16) -> Option<News> {
        if code != FORBIDDEN || *self.owners.filled.borrow() {
            return None;
        }
        tracing::warn!(
            "the right to list and watch replicasets is missing: pods count by their labels; upgrade the operator's roles"
        );
        self.owners.blind.store(true, Ordering::Relaxed);
        self.owners.filled.send_replace(true);
        Some(News::Everything)
    }

    /// Takes in one event of the watch.
    pub fn apply(&mut self, event: Event<PartialObjectMeta<ReplicaSet>>) -> Option<News> {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(one) => self.listed.extend(owned(&one)),
            Event::InitDone => {
                let mut listed = std::mem::take(&mut self.listed);
                listed.shrink_to_fit();
                self.owners.with(|known| *known = listed);
                self.owners.blind.store(false, Ordering::Relaxed);
                self.owners.filled.send_replace(true);
                return Some(News::Everything);
            }
            Event::Apply(one) => {
                let (uid, owner) = owned(&one)?;
                let before = self.owners.with(|known| known.insert(uid, owner));
                let new = before.is_none_or(|before| before != owner);
                let variant = one.metadata.labels.as_ref()?.get(labels::VARIANT_ID)?;
                return new.then(|| News::Of(variant.clone()));
            }
            Event::Delete(one) => {
                if let Some(uid) = one.metadata.uid.as_deref() {
                    self.owners.with(|known| known.remove(&uid.into()));
                }
            }
        }
        None
    }
}

/// A `ReplicaSet`'s UID and that of the Deployment that controls it.
fn owned(one: &PartialObjectMeta<ReplicaSet>) -> Option<(Uid, Uid)> {
    let owners = one.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    let by_deployment = owner.kind == "Deployment" && owner.api_version.starts_with("apps/");
    let uid = one.metadata.uid.as_deref()?;
    by_deployment.then(|| (uid.into(), owner.uid.as_str().into()))
}

/// Watches them, in one namespace or in all. Whoever is told must poll the stream.
pub fn watch_owners(
    client: &Client,
    namespace: Option<&str>,
) -> (
    Owners,
    Writer,
    impl Stream<Item = watcher::Result<Event<PartialObjectMeta<ReplicaSet>>>> + Send + use<>,
) {
    let ours = watcher_config().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let writer = Writer::default();
    let events = watcher(scope::<PartialObjectMeta<ReplicaSet>>(client, namespace), ours).default_backoff();
    (writer.owners(), writer, events)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn replica_set(uid: &str, owner: &str, kind: &str) -> PartialObjectMeta<ReplicaSet> {
        serde_json::from_value(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": uid, "namespace": "rag", "uid": uid, "labels": {(labels::VARIANT_ID): "v1"},
                "ownerReferences": [
                    {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "deployment-a"},
                    {"apiVersion": "apps/v1", "kind": kind, "name": "d", "uid": owner, "controller": true}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_replica_set_is_owned_by_the_deployment_that_controls_it_and_by_no_other() {
        let mut writer = Writer::default();
        let owners = writer.owners.clone();
        assert_eq!(writer.apply(Event::Init), None);
        let listed = Event::InitApply(replica_set("one", "deployment-a", "Deployment"));
        assert_eq!(writer.apply(listed), None);
        assert!(!owners.own("deployment-a", "one"), "half a list is none");
        assert_eq!(writer.apply(Event::InitDone), Some(News::Everything));
        assert!(owners.own("deployment-a", "one") && !owners.own("deployment-b", "one"));
        let seen = |one| Event::Apply(one);
        let new = seen(replica_set("two", "deployment-b", "Deployment"));
        assert_eq!(writer.apply(new.clone()), Some(News::Of("v1".to_owned())));
        assert_eq!(writer.apply(new), None, "its status changed");
        let foreign = seen(replica_set("three", "deployment-a", "Other"));
        assert_eq!(writer.apply(foreign), None);
        assert!(owners.own("deployment-b", "two") && !owners.own("deployment-a", "three"));
        writer.apply(Event::Delete(replica_set("two", "deployment-b", "Deployment")));
        assert!(!owners.own("deployment-b", "two"));
        // What a list no longer shows is gone.
        writer.apply(Event::Init);
        writer.apply(Event::InitDone);
        assert!(!owners.own("deployment-a", "one"));
    }

    #[test]
    fn two_uids_are_one_number_only_if_they_are_one_text() {
        let all = [
            "0f7f9c5e-7d5b-4a35-9d6c-2d0f3f6d3f11",
            "0f7f9c5e-7d5b-4a35-9d6c-2d0f3f6d3f12",
            "0F7F9C5E-7D5B-4A35-9D6C-2D0F3F6D3F11",
            "0f7f9c5e7d5b4a359d6c2d0f3f6d3f11",
            "0f7f9c5e7d5b4a359d6c2d0f3f6d3f11----",
            "0f7f9c5e-7d5b-4a35-9d6c-2d0f3f6d3f1",
            "0f7f9c5e-7d5b-4a35-9d6c-2d0f3f6d3f1g",
            "",
            "0",
            "00",
        ];
        let numbers = std::collections::HashSet::from(all.map(Uid::from));
        assert_eq!(numbers.len(), all.len());
        assert_eq!(Uid::from(all[0]), Uid(0x0f7f_9c5e_7d5b_4a35_9d6c_2d0f_3f6d_3f11));
    }

    #[test]
    fn without_the_right_to_look_labels_have_to_do_until_there_is_one() {
        let mut writer = Writer::default();
        let owners = writer.owners.clone();
        assert_eq!(writer.refused(500), None);
        assert!(
            !owners.own("deployment-a", "one"),
            "the server is down, and tried again"
        );
        assert_eq!(writer.refused(403), Some(News::Everything));
        assert!(owners.own("deployment-a", "one"));
        assert_eq!(writer.refused(403), None, "told once");
        writer.apply(Event::Init);
        writer.apply(Event::InitDone);
        assert!(!owners.own("deployment-a", "one"));
        assert_eq!(writer.refused(403), None);
        assert!(!owners.own("deployment-a", "one"), "what was known once still holds");
    }
}
