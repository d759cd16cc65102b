//! Controllers.

pub mod capacity;
pub mod clock;
pub mod compute_pool;
pub mod lease;
pub mod pipeline;
pub mod rebalancer;
pub mod report;
pub mod stores;
pub mod view;
