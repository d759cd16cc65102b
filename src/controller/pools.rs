//! One look at the pools, shared by everything that places.

use std::sync::Arc;

use kube::ResourceExt;
use kube::core::DeserializeGuard;

use super::capacity::{self, PoolObservation};
use super::stores::Stores;
use crate::api::ComputePool;
use crate::api::compute_pool::Architecture;
use crate::rebalance::world::Resources;

/// The pools and what their nodes offer, as of one moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Pools that can be decoded and are not being deleted.
    pub pools: Vec<Arc<ComputePool>>,
    /// What each offers.
    pub observed: Vec<PoolObservation>,
}

/// What of a pool decides how children look: all of it but the numbers that move with load.
type Traits<'a> = (
    &'a str,
    Option<i64>,
    Option<Architecture>,
    Option<&'a capacity::Problem>,
    Option<Resources>,
);

impl Look {
    /// Looks at the stores.
    pub fn at(stores: &Stores) -> Self {
        let pools = decoded(&stores.pools.state());
        let observed = capacity::observe(&pools, &stores.nodes.state(), &stores.pods.state());
        Self { pools, observed }
    }

    /// Whether it knows all of these pools in their latest generation. Pools and pipelines are often applied together: a
    /// pipeline must not be placed as if the pools beside it were not there.
    pub fn knows_all(&self, pools: &[Arc<DeserializeGuard<ComputePool>>]) -> bool {
        let mut live = pools.iter().filter_map(|pool| pool.0.as_ref().ok());
        live.all(|pool| {
            let same = |known: &&Arc<ComputePool>| known.metadata.uid == pool.metadata.uid;
            let known = self.pools.iter().find(same);
            pool.metadata.deletion_timestamp.is_some()
                || known.is_some_and(|known| known.metadata.generation == pool.metadata.generation)
        })
    }

    /// Whether children and prices would come out the same.
    pub fn places_like(&self, other: &Self) -> bool {
        self.traits() == other.traits()
    }

    fn traits(&self) -> Vec<Traits<'_>> {
        let observed = self.observed.iter().map(|observed| {
            let object = self.pools.iter().find(|pool| pool.name_any() == observed.name);
            let generation = object.and_then(|pool| pool.metadata.generation);
            (
                observed.uid.as_str(),
                generation,
                observed.architecture,
                observed.problem.as_ref(),
                observed.shape,
            )
        });
        observed.collect()
    }
}

fn decoded(pools: &[Arc<DeserializeGuard<ComputePool>>]) -> Vec<Arc<ComputePool>> {
    let live = pools.iter().filter_map(|pool| pool.0.as_ref().ok());
    live.filter(|pool| pool.metadata.deletion_timestamp.is_none())
        .map(|pool| Arc::new(pool.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(name: &str, patch: serde_json::Value) -> Arc<DeserializeGuard<ComputePool>> {
        let base = json!({
            "apiVersion": "tiercel.dev/v1alpha1", "kind": "ComputePool",
            "metadata": {"name": name, "uid": name, "generation": 1},
            "spec": {"tier": "CPU", "costPerNodeHour": "1"},
        });
        let pool: Arc<ComputePool> = capacity::fixtures::object(base, patch);
        Arc::new(DeserializeGuard(Ok(Arc::unwrap_or_clone(pool))))
    }

    #[test]
    fn a_look_is_too_old_for_a_pool_that_came_or_was_edited_since_but_not_for_one_that_goes() {
        let (old, new) = (stored("old", json!({})), stored("new", json!({})));
        let edited = stored("old", json!({"metadata": {"generation": 2}}));
        let leaving = stored(
            "new",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        );
        let look = Look {
            pools: decoded(&[Arc::clone(&old)]),
            observed: Vec::new(),
        };
        assert!(look.knows_all(&[Arc::clone(&old)]));
        assert!(!look.knows_all(&[Arc::clone(&old), new]));
        assert!(!look.knows_all(&[edited]));
        assert!(look.knows_all(&[old, leaving]));
    }
}
