//! The demo: a pipeline on a local cluster under recorded load, told as a story, with a report at the end.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`schedule`] | how long everything lasts; one speed for load, start-up times and windows |
//! | [`models`] | what the sample declares, as numbers: the servers to play, what replicas can do |
//! | [`stage_set`] | the cluster, the operator, the fleet: everything that has to stand before the load begins |
//! | [`story`] | the chapters, in order |
//! | [`reclaim`] | a spot pool that dries up and comes back |
//! | [`scene`] | what is seen at one moment, kept for the report |
//! | [`decisions`], [`reaction`] | the operator's decision log; how fast its writes followed what it could have seen |
//! | [`planning`] | how good its plans were and how long it planned, as its metrics tell |
//! | [`tally`] | decisions and shifts, counted by the audit log and the observer |
//! | [`accelerators`] | what the same demand costs on accelerators only, by the same planner |
//! | [`rehearsal`] | the same servers and load on a cluster that somebody tries things on by hand: `make load` |
//! | [`view`], [`screen`] | the live view as lines of text; a terminal or a log that shows them |
//! | [`ending`] | the report, and whether the run was good |

pub mod accelerators;
pub mod decisions;
pub mod ending;
pub mod models;
pub mod planning;
pub mod reaction;
pub mod reclaim;
pub mod rehearsal;
pub mod scene;
pub mod schedule;
pub mod screen;
pub mod stage_set;
pub mod story;
pub mod tally;
pub mod view;

/// Anything that ends the demo: its message says what to do.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where the pipeline runs.
pub const NAMESPACE: &str = "agents";
/// Where the operator's objects are.
pub const OPERATOR_NAMESPACE: &str = "tiercel-system";
/// The pool that dries up.
pub const SPOT_POOL: &str = "l4-spot";
