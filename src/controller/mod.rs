//! The only part that talks to the API server: watches in, children, replicas and status out.

pub mod capacity;
pub mod clock;
pub mod compute_pool;
pub mod lease;
pub mod pipeline;
pub mod pools;
pub mod rebalancer;
pub mod report;
pub mod run;
pub mod stores;
pub mod view;
