//! The fleet: one process that plays every model server and stage server of every pipeline.
//!
//! kwok gives each pod an address of its own inside `127.64.0.0/10`; the fleet listens on it, runs requests through a
//! queueing model per (stage, pool), and shows the metrics that the stage's real server would show.
//!
//! * [`Fleet`] takes pods in ([`Fleet::upsert`], [`watch_pods`]) and knows who is ready ([`Directory`]).
//! * [`Behaviours`] says how fast replicas are and which server they play; [`queue`] is the pure model behind it.
//! * [`Fault`]s make replicas hang, lie, slow down or lose their metrics.
//! * [`report_cpu`] writes measured CPU use into the annotation from which kwok computes pod metrics.

pub mod queue;

mod behaviour;
mod directory;
mod exposition;
mod faults;
mod pod;
mod pods;
mod server;
mod usage;
mod watch;

pub use behaviour::{Behaviour, Behaviours, Exposition, Work};
pub use directory::{Directory, Endpoint, StageKey};
pub use faults::{Fault, Metrics, Target};
pub use pod::{Answer, Load, PodSpec, Scrape};
pub use pods::{CpuUsage, Fleet, FleetError};
pub use queue::Capacity;
pub use server::RequestSize;
pub use usage::report_cpu;
pub use watch::{watch_pods, watch_pods_in};

#[cfg(test)]
pub(crate) mod tests;
