//! tiercel.
pub mod api;
pub mod cli;
