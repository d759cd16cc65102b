//! Who decides. Every policy sees the same cluster through [`View`], as often and as finely as its published defaults let
//! it, and answers with replicas per variant.
//!
//! Peers that know no pools (`hpa`, `keda`, `kpa`) decide a total per stage. What an operator would give them is one
//! Deployment per stage with preferred node affinity: [`Ladder`] puts each further replica on the first pool of
//! [`Scenario::ladder`] (preferred tier, then price per request) that has room, and takes replicas from its end first.
//! That is better than they would do by themselves: real affinity does not choose which replica goes.

pub mod clairvoyant;
pub mod cost_greedy;
pub mod hpa;
pub mod keda;
pub mod kpa;
pub mod kthena;
mod ladder;
pub mod melange;
pub mod tiercel;
pub mod told;
mod watch;

use std::collections::BTreeMap;

pub use ladder::Ladder;

use super::cluster::Seen;
use super::load::Load;
use super::metrics::Metrics;
use super::scenario::Scenario;
use crate::rebalance::world::Resources;

/// What a policy is shown.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Declared facts.
    pub scenario: &'a Scenario,
    /// Now, milliseconds since the start. A whole second.
    pub now_ms: u64,
    /// Replicas by variant.
    pub seen: &'a [Seen],
    /// Every start so far, in order: its variant, and how long it took, milliseconds.
    pub started: &'a [(usize, u64)],
    /// Load by variant.
    pub metrics: &'a Metrics,
    /// Calls by stage that wait where no replica is: a broker or an activator would see them, servers do not.
    pub outside: &'a [u32],
    /// Room of the pools in all, by pool.
    pub capacity: &'a [Resources],
}

impl View<'_> {
    /// Whether a period that began with the run ends now.
    pub fn every(&self, period_ms: u64) -> bool {
        self.now_ms.is_multiple_of(period_ms.max(1_000) / 1_000 * 1_000)
    }

    /// Replicas asked for and Ready over the variants of a stage.
    pub fn totals(&self, stage: usize) -> (u32, u32) {
        let seen = self.scenario.variants_of(stage).map(|at| self.seen[at]);
        seen.fold((0, 0), |sum, seen| (sum.0 + seen.desired, sum.1 + seen.ready))
    }
}

/// Replicas to ask for from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The variant.
    pub variant: usize,
    /// How many.
    pub to: u32,
}

/// What has to change so that every variant has so many replicas.
fn orders(counts: &[u32], view: &View<'_>) -> Vec<Order> {
    let wanted = counts.iter().enumerate();
    let changed = wanted.filter(|(at, count)| view.seen[*at].desired != **count);
    changed.map(|(variant, &to)| Order { variant, to }).collect()
}

/// Decides once per simulated second.
pub trait Policy {
    /// What to write now.
    fn step(&mut self, view: &View<'_>) -> Vec<Order>;
}

/// Numbers that a policy may be tuned by.
pub type Knobs = BTreeMap<String, f64>;

/// A policy by name, with the knobs that differ from its defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Which.
    pub kind: &'static Kind,
    /// Its knobs.
    pub knobs: Knobs,
}

/// A policy as this module offers it.
#[derive(Debug)]
pub struct Kind {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line for help.
    pub about: &'static str,
    /// Knobs and the values that a sweep tries, the default first.
    pub knobs: &'static [(&'static str, &'static [f64])],
    build: fn(&Scenario, &Load, &Knobs) -> Box<dyn Policy>,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// All policies.
pub const KINDS: &[Kind] = &[
    tiercel::KIND,
    hpa::KIND,
    keda::KIND,
    kpa::KIND,
    cost_greedy::KIND,
    melange::KIND,
    kthena::KIND,
    clairvoyant::KIND,
];

/// A policy cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such policy.
    #[error("there is no policy '{name}': give one or more of {}", names())]
    Unknown {
        /// What was written.
        name: String,
    },
    /// It has no such knob.
    #[error("policy '{policy}' has no knob '{knob}': it has {known}")]
    Knob {
        /// The policy.
        policy: &'static str,
        /// What was written.
        knob: String,
        /// What there is.
        known: String,
    },
    /// A value is no number.
    #[error("'{0}' is not a knob: write NAME=NUMBER")]
    Value(String),
}

fn names() -> String {
    let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    names.join(", ")
}

impl std::str::FromStr for Spec {
    type Err = Error;

    /// `NAME` or `NAME:KNOB=NUMBER:KNOB=NUMBER`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let kind = KINDS
            .iter()
            .find(|kind| kind.name == name)
            .ok_or_else(|| Error::Unknown { name: name.to_owned() })?;
        let mut knobs = Knobs::new();
        for part in parts {
            let (knob, value) = part.split_once('=').ok_or_else(|| Error::Value(part.to_owned()))?;
            if !kind.knobs.iter().any(|(known, _)| *known == knob) {
                let known: Vec<&str> = kind.knobs.iter().map(|(known, _)| *known).collect();
                return Err(Error::Knob {
                    policy: kind.name,
                    knob: knob.to_owned(),
                    known: known.join(", "),
                });
            }
            let value: f64 = value.parse().map_err(|_| Error::Value(part.to_owned()))?;
            if !value.is_finite() || value < 0.0 {
                return Err(Error::Value(part.to_owned()));
            }
            knobs.insert(knob.to_owned(), value);
        }
        Ok(Self { kind, knobs })
    }
}

impl std::fmt::Display for Spec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind.name)?;
        self.knobs
            .iter()
            .try_for_each(|(knob, value)| write!(f, ":{knob}={value}"))
    }
}

impl Spec {
    /// The policy, ready for one run over `load`.
    pub fn build(&self, scenario: &Scenario, load: &Load) -> Box<dyn Policy> {
        (self.kind.build)(scenario, load, &self.knobs)
    }

    /// Every combination of the values that a sweep tries; knobs that are set stay.
    pub fn sweep(&self) -> Vec<Self> {
        let mut specs = vec![self.clone()];
        for (knob, values) in self
            .kind
            .knobs
            .iter()
            .filter(|(knob, _)| !self.knobs.contains_key(*knob))
        {
            let with = |spec: &Self, value: f64| {
                let mut spec = spec.clone();
                spec.knobs.insert((*knob).to_owned(), value);
                spec
            };
            specs = specs
                .iter()
                .flat_map(|spec| values.iter().map(|&value| with(spec, value)))
                .collect();
        }
        specs
    }
}

/// A knob's value, or what stands if it is not set.
fn knob(knobs: &Knobs, name: &str, default: f64) -> f64 {
    knobs.get(name).copied().unwrap_or(default)
}

/// Utilization at which a replica counts as full: the knob in per cent, else as the stage declares.
fn target(knobs: &Knobs, scenario: &Scenario, stage: usize) -> f64 {
    let declared = f64::from(scenario.world.stages[stage].target_permille) / 1e3;
    knobs
        .get("target")
        .map_or(declared, |percent| (percent / 100.0).clamp(0.01, 1.0))
}

/// The least whole number that is not smaller, with room for the last bits of a quotient.
fn ceil(value: f64) -> u32 {
    (value - 1e-9).ceil().max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_named_with_their_knobs_or_refused_with_what_there_is() {
        let spec: Spec = "hpa:target=50".parse().unwrap();
        assert_eq!((spec.kind.name, spec.knobs["target"]), ("hpa", 50.0));
        assert_eq!(spec.to_string(), "hpa:target=50");
        let unknown = "vpa".parse::<Spec>().unwrap_err().to_string();
        assert!(unknown.contains("tiercel, hpa"), "{unknown}");
        let knob = "hpa:speed=1".parse::<Spec>().unwrap_err().to_string();
        assert!(knob.contains("target"), "{knob}");
        assert!("hpa:target".parse::<Spec>().is_err());
        assert!("hpa:target=nan".parse::<Spec>().is_err());
    }

    #[test]
    fn a_sweep_tries_every_combination_and_leaves_alone_what_is_set() {
        let all = "hpa".parse::<Spec>().unwrap().sweep();
        let combinations: usize = hpa::KIND.knobs.iter().map(|(_, values)| values.len()).product();
        assert_eq!(all.len(), combinations);
        let fixed = "hpa:target=55".parse::<Spec>().unwrap().sweep();
        assert!(fixed.iter().all(|spec| spec.to_string().contains("target=55")) && fixed.len() < all.len());
    }
}
