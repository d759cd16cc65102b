//! tiercel.
pub mod api;
pub mod cli;
pub mod controller;
pub mod quantity;
pub mod rebalance;
