//! The rebalancing core: observations in, decisions with reasons out.
//!
//! Pure: `std` only, no clock (time is an argument), no I/O, no logging, no hash order. The same log of events gives the
//! same decisions, bit for bit, on every platform.

pub mod decision;
pub mod world;
