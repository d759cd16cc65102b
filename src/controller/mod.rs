//! The only part that talks to the API server: watches in, children, replicas and status out.

mod by_name;
pub mod capacity;
pub mod clients;
pub mod clock;
pub mod compute_pool;
pub mod events;
pub mod lease;
pub mod live;
pub mod outcome;
pub mod own_writes;
pub mod owners;
pub mod pipeline;
pub mod pools;
pub mod rebalancer;
#[cfg(test)]
mod recorded;
pub mod report;
pub mod run;
pub mod spans;
pub mod status_write;
pub mod stores;
mod token_bucket;
pub mod view;
pub mod warm_buffer;
pub mod watch;

pub use token_bucket::Rate;
