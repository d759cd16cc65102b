//! Controllers.

pub mod capacity;
pub mod clients;
pub mod clock;
pub mod compute_pool;
pub mod lease;
pub mod outcome;
pub mod pipeline;
pub mod rebalancer;
pub mod report;
pub mod view;
