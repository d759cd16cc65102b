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
