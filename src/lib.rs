//! A Kubernetes operator for tiered AI pipelines: the right workload on the right processor at the right time, with the
//! reason on record.
//!
//! ```text
//!              watches                          pure                        writes
//!  API server ──► controller::stores ──► pipeline::validate ──► pipeline::build ──► Deployments, Services, PDBs
//!       ▲                 │                                                          (manager `tiercel`)
//!       │                 ▼
//!  signals  ──► controller::rebalancer ──► rebalance::step ──► deployments/scale
//!                                                               (manager `tiercel-rebalancer`)
//! ```
//!
//! [`api`] holds the two kinds, [`rebalance`] the decision core (std only, no clock), [`signals`] what turns the outside
//! world into dated numbers, [`controller`] everything that talks to the API server, [`cli`] the command lines.
//! `ARCHITECTURE.md` says what must never be.

pub mod api;
pub mod cli;
pub mod controller;
pub mod decision_log;
pub mod discover;
pub mod explain;
pub mod files;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod lint;
pub mod plan;
pub mod quantity;
pub mod rebalance;
pub mod redact;
#[cfg(test)]
mod reference;
pub mod signals;
pub mod simulate;
pub mod telemetry;
#[cfg(test)]
mod tidy;
pub(crate) mod tls;
pub mod view;
pub mod yaml;
