//! The harness behind the scenarios, the demo and `make cluster`.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`tools`] | the control plane's programs, found or built once |
//! | [`controlplane`] | a real control plane on loopback: start, clients, restart, stop |
//! | [`slot`], [`certs`], [`process`], [`command`] | what it stands on: ports and addresses, certificates, child processes |
//! | [`wait`] | waiting with failures that say what was seen |

pub mod certs;
pub mod command;
pub mod controlplane;
pub mod kubectl;
pub mod process;
pub mod slot;
pub mod tools;
pub mod wait;
