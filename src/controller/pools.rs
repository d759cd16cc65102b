//! Pools out of the store.

use std::sync::Arc;

use kube::core::DeserializeGuard;

use crate::api::ComputePool;

/// The pools that can be decoded and are not being deleted.
pub fn decoded(pools: &[Arc<DeserializeGuard<ComputePool>>]) -> Vec<Arc<ComputePool>> {
    let live = pools.iter().filter_map(|pool| pool.0.as_ref().ok());
    live.filter(|pool| pool.metadata.deletion_timestamp.is_none()).map(|pool| Arc::new(pool.clone())).collect()
}
