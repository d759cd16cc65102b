//! Everything that talks to the API server.

pub mod clients;
pub mod clock;
pub mod events;
pub mod lease;
pub mod outcome;
mod token_bucket;

pub use token_bucket::Rate;
