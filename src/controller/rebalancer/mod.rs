//! The rebalancer.

pub mod children;
pub mod world;
pub mod writes;
