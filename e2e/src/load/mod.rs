//! Load: recorded and synthetic arrivals, sent end to end through a pipeline's stages and measured at the client.
//!
//! * [`Trace`] holds arrivals: recordings ([`Recording`]), or a [`Rate`] over time; sliced, compressed, amplified.
//! * [`Route`] is the pipeline as a request sees it: stages, edges with fan-out, how each stage picks a replica.
//! * [`drive`] sends a trace along a route and measures it in a [`Recorder`].

pub mod rng;

mod client;
mod dispatch;
mod driver;
mod rate;
mod record;
mod route;
mod trace;

pub use driver::{DriveOptions, drive};
pub use rate::{Rate, Spacing};
pub use record::{Percentiles, Progress, Recorder, Second, StageWait, Summary};
pub use route::{Route, RouteError, StageRoute, Traffic};
pub use trace::{Arrival, Recording, Trace, TraceError};

#[cfg(test)]
mod tests;
