//! Controllers.

pub mod capacity;
pub mod compute_pool;
pub mod view;
