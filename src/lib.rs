//! tiercel.
pub mod api;
pub mod cli;
pub mod controller;
#[cfg(test)]
pub mod fixtures;
pub mod quantity;
pub mod rebalance;
pub mod signals;
pub mod telemetry;
