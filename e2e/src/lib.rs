//! The harness behind the scenarios, the demo and `make cluster`.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`tools`] | the control plane's programs, found or built once |
//! | [`keda`] | another autoscaler's programs, for the benchmark that measures beside it |
//! | [`prometheus`] | a real Prometheus, for the check of dashboard and alerts |
//! | [`controlplane`] | a real control plane on loopback: start, clients, restart, stop |
//! | [`slot`], [`certs`], [`process`], [`command`] | what it stands on: ports and addresses, certificates, child processes |
//! | [`nodes`] | the hardware to simulate, as data; create, cordon, taint, fail, delete |
//! | [`kubectl`], [`helm`], [`operator`] | the real programs, pointed at one cluster |
//! | [`observe`], [`audit`] | what happened, told by somebody who is not the operator |
//! | [`fleet`] | every model server and stage server, one listener per pod address |
//! | [`load`] | recorded and synthetic load through all stages of a pipeline |
//! | [`report`] | what a run showed, as JSON and as a page with plots |
//! | [`plots`] | pictures of what the benchmarks measured |
//! | [`demo`] | the story that `make demo` tells, and its live view |
//! | [`wait`] | waiting with failures that say what was seen |

pub mod audit;
pub mod certs;
pub mod command;
pub mod controlplane;
pub mod demo;
pub mod fleet;
pub mod helm;
pub mod keda;
pub mod kubectl;
pub mod load;
pub mod nodes;
pub mod observe;
pub mod operator;
pub mod plots;
pub mod process;
pub mod prometheus;
pub mod report;
pub mod slot;
pub mod tools;
pub mod wait;
