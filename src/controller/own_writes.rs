//! What a controller last wrote to the status of an object, until the watch shows it.
//!
//! A pass may start between a write and its news. Computed from the status of before, it would find every condition that
//! just changed changed once more: another transition time, another Event, another write.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Objects whose write the watch has not shown, at most; the oldest write gives way. Those of objects that were deleted
/// meanwhile leave in no other way.
const UNSEEN_MAX: usize = 4_096;

/// The last status written to each object, by UID.
pub struct OwnWrites<S>(Mutex<BTreeMap<String, Last<S>>>);

struct Last<S> {
    version: u64,
    status: S,
}

impl<S> Default for OwnWrites<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S: Clone> OwnWrites<S> {
    /// The status that was written after the object was as `seen`; `None` if the object shows what it has.
    pub fn after(&self, seen: &ObjectMeta) -> Option<S> {
        let uid = seen.uid.as_deref()?;
        let mut writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = writes.get(uid)?;
        if version(seen).is_some_and(|seen| seen < last.version) {
            return Some(last.status.clone());
        }
        writes.remove(uid);
        None
    }

    /// The API server has stored this status.
    pub fn note(&self, stored: &ObjectMeta, status: S) {
        let (Some(uid), Some(version)) = (stored.uid.clone(), version(stored)) else {
            return;
        };
        let mut writes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if writes.len() >= UNSEEN_MAX && !writes.contains_key(&uid) {
            let oldest = writes.iter().min_by_key(|(_, last)| last.version);
            let oldest = oldest.map(|(uid, _)| uid.clone());
            oldest.and_then(|uid| writes.remove(&uid));
        }
        writes.insert(uid, Last { version, status });
    }
}

#[cfg(test)]
impl<S> OwnWrites<S> {
    /// Exchanges what two controllers wrote.
    pub(crate) fn swap(&self, other: &Self) {
        std::mem::swap(&mut *self.0.lock().unwrap(), &mut *other.0.lock().unwrap());
    }
}

/// Versions of one kind are comparable numbers: the API guarantees it since 1.35, etcd always did.
fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str, version: u64) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn a_write_counts_until_the_watch_shows_it_or_something_later() {
        let own = OwnWrites::default();
        own.note(&meta("a", 7), "ours");
        assert_eq!(own.after(&meta("a", 5)), Some("ours"));
        assert_eq!(
            own.after(&meta("a", 6)),
            Some("ours"),
            "an edit of the spec came between"
        );
        assert_eq!(own.after(&meta("b", 5)), None, "another object");
        assert_eq!(own.after(&meta("a", 7)), None);
        assert_eq!(own.after(&meta("a", 5)), None, "it was shown once");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        let own = OwnWrites::default();
        own.note(&meta("a", 10), ());
        assert_eq!(own.after(&meta("a", 9)), Some(()));
    }

    #[test]
    fn of_too_many_the_oldest_is_given_up() {
        let own = OwnWrites::default();
        for at in 0..=UNSEEN_MAX as u64 {
            own.note(&meta(&format!("uid-{at}"), 10 + at), at);
        }
        assert_eq!(own.after(&meta("uid-0", 1)), None);
        assert_eq!(own.after(&meta("uid-1", 1)), Some(1));
    }
}
