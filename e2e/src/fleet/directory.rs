//! Who can serve what right now: the ready replicas of every stage.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// A pipeline (`namespace/name`) and one of its stages.
pub type StageKey = (String, String);

/// A ready replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The pod's uid.
    pub uid: Arc<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its pool.
    pub pool: Arc<str>,
    /// Requests per second it can serve, wall clock: its weight where traffic follows capacity.
    pub weight: f64,
    /// Requests it can run at the same time: what it takes from a queue.
    pub slots: u32,
}

/// The ready replicas of every stage, each list ordered by uid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directory {
    stages: BTreeMap<StageKey, Arc<[Endpoint]>>,
}

impl Directory {
    /// A directory with these replicas.
    pub fn new(endpoints: impl IntoIterator<Item = (StageKey, Endpoint)>) -> Self {
        let mut stages: BTreeMap<StageKey, Vec<Endpoint>> = BTreeMap::new();
        for (key, endpoint) in endpoints {
            stages.entry(key).or_default().push(endpoint);
        }
        for list in stages.values_mut() {
            list.sort_by(|a, b| a.uid.cmp(&b.uid));
        }
        Self {
            stages: stages.into_iter().map(|(key, list)| (key, list.into())).collect(),
        }
    }

    /// The ready replicas of a stage, none if it is unknown.
    pub fn of(&self, key: &StageKey) -> Arc<[Endpoint]> {
        self.stages.get(key).cloned().unwrap_or_else(|| Arc::new([]))
    }

    /// How many replicas of a stage are ready.
    pub fn ready(&self, key: &StageKey) -> usize {
        self.stages.get(key).map_or(0, |list| list.len())
    }
}
