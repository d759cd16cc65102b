//! tiercel.
pub mod api;
pub mod cli;
pub mod controller;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod telemetry;
