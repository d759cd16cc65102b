//! The decision core, compiled alone.

#[path = "../../../src/rebalance/mod.rs"]
pub mod rebalance;
