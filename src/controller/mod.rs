//! Everything that talks to the API server.

pub mod clock;
pub mod lease;
