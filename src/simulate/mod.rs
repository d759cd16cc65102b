//! A seeded simulator on a virtual clock: tiercel's real core and other autoscalers' published rules on the same recorded
//! or synthetic load, the same pools and the same start-up times, side by side.
//!
//! # Model
//!
//! **Requests** ([`requests`], [`engine`]) are simulated one by one. A request enters every stage without callers, and a
//! stage when all of its callers are done; it makes as many calls there as the edges say, at once, fractions drawn per
//! request. A stage that pulls has one queue, first come first served, from which the replica with the largest share of
//! free slots takes; a uniform stage deals calls to Ready replicas in turn, and each has a queue of its own, fast or slow.
//! A replica runs as many calls at once as its declared concurrency; they share its pace, which falls with their number
//! ([`scenario::Server`]): by a factor of four in a full batch of a model server that generates, in proportion on a shared
//! processor. At full slots it serves exactly what its profile declares. The work of a call to a generating stage follows
//! the tokens of its request, 15 % by the prompt and 85 % by the answer, one unit on the load's average; other calls are
//! one unit.
//!
//! **Late** is a request that is not served, or takes longer than its pipeline's objective plus what its own size beyond
//! the mean took in service: an objective is for a request of mean size, or no policy could keep it on a recording with
//! long answers. A pipeline without objective allows two seconds beyond its latency on full replicas. Clients give up after
//! two minutes.
//!
//! **Replicas** ([`cluster`]) need room in their pool in CPU, memory and device; without it they wait, in the order of the
//! variants. They start in 70 to 130 % of the declared time, drawn per start, are paid for from placement until they are
//! gone, and drain: waiting calls go elsewhere, running ones finish within the declared time, and begin anew elsewhere if
//! they do not. A [`engine::Fault`] takes nodes of a pool without notice. All policies start from the same replicas, Ready:
//! enough for the first five minutes at 70 %.
//!
//! **Metrics** ([`metrics`]) are what servers show in each second, and CPU over request per 15 s. What a policy gets of it,
//! how late and how averaged, is said on each policy's page under [`policy`].
//!
//! # What it is not
//!
//! Nodes are one sum per pool, so fragmentation is only in the declared capacity; new nodes take their time only where a
//! pool has none yet. The API server answers at once. Servers never lie, and no request is refused. A common queue shows
//! as waiting at the servers that pull from it, although a broker outside of them would hide it. Prefix caches, prefill and
//! decode as separate phases, and memory of the key-value cache are not modelled. CPU use is the share of a replica's
//! throughput that is drawn. Budgets bind tiercel only. Prices are shares of nodes; a half-empty node costs what is used.
//!
//! # Repeatable
//!
//! One seed gives the same run. What a request does and how long the n-th start of a variant takes depend on seed and
//! number alone, so all policies meet the same. No clock, no I/O but reading loads and objects, no hash order.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "times, counts and prices far below the precision of a float; floats are cut to numbers on purpose"
)]
#![allow(
    clippy::indexing_slicing,
    reason = "columns by variant, stage and pool are made together and never change in length"
)]

pub mod cluster;
pub mod cover;
pub mod demand;
pub mod engine;
#[cfg(test)]
pub(crate) mod fixture;
pub mod ground;
pub mod html;
pub mod input;
#[cfg(test)]
mod learning_tests;
pub mod load;
pub mod metrics;
pub mod outcome;
pub mod policy;
pub mod random;
pub mod requests;
pub mod scenario;
pub mod table;
#[cfg(test)]
mod tests;
