//! What people install and what it is made of: the chart, the kustomize bases, the samples, the dependency graph.
//!
//! `TIERCEL_TOOLS_BIN` names the folder with `helm` and `kubectl`; `make test` sets it.
// `cfg(test)` always holds here; it tells clippy that helpers may fail by panicking, as tests do.
#![cfg(test)]

mod blocks;
mod chart;
mod definitions;
mod dependencies;
mod docs;
mod gitops;
mod krew;
mod kustomize;
mod monitoring;
mod programs;
mod samples;
mod values;
