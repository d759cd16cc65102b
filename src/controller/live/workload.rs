//! What is read of a Deployment: its replicas, and who writes them.

use std::sync::Arc;

use super::wire::Source;
use crate::api::labels;

/// A Deployment's replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// `spec.replicas`. The server stores 1 where nothing is said.
    pub desired: u32,
    /// The rebalancer has claimed `spec.replicas`, as `managedFields` show.
    pub claimed: bool,
    /// The field manager that owns `spec.replicas`; of several, one that is not ours.
    pub writer: Option<Arc<str>>,
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// Generation that the status is about.
    pub observed_generation: Option<i64>,
    /// Pods that there are.
    pub replicas: u32,
    /// Of these, Ready.
    pub ready: u32,
    /// Of these, of the latest template.
    pub updated: u32,
    /// What the cluster says to pods that cannot be created: a quota, an admission plug-in.
    pub failure: Option<Box<str>>,
}

impl From<Source<'_>> for Workload {
    fn from(source: Source<'_>) -> Self {
        let count = |number: Option<i32>| number.map_or(0, natural);
        let status = source.status;
        let writers: Vec<&str> = source.replica_writers().collect();
        let ours = |name: &&&str| **name == labels::FIELD_MANAGER || **name == labels::REBALANCER_FIELD_MANAGER;
        let failed = status
            .conditions
            .iter()
            .find(|it| &*it.type_ == "ReplicaFailure" && &*it.status == "True");
        Self {
            desired: source.replicas.map_or(1, natural),
            claimed: writers.contains(&labels::REBALANCER_FIELD_MANAGER),
            writer: (writers.iter().find(|name| !ours(name)).or(writers.first())).map(|&name| name.into()),
            generation: source.generation,
            observed_generation: status.observed_generation,
            replicas: count(status.replicas),
            ready: count(status.ready_replicas),
            updated: count(status.updated_replicas),
            failure: failed.and_then(|it| it.message.as_deref()).map(Into::into),
        }
    }
}

impl From<Source<'_>> for () {
    fn from(_: Source<'_>) {}
}

fn natural(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}
