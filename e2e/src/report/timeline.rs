//! Observations over time, aligned on one axis.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an observer sees at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Replicas of (stage, pool): Ready, and asked for. A Deployment that does not exist has none.
    pub replicas: BTreeMap<(String, String), (u32, u32)>,
    /// By stage, in the stage's unit: what it needs, and what its ready replicas can do. `None`: not known at the moment.
    pub demand: BTreeMap<String, (Option<f64>, Option<f64>)>,
    /// What all replicas cost, USD per hour.
    pub cost_per_hour: Option<f64>,
    /// What the same demand would cost on accelerators only, USD per hour.
    pub cost_per_hour_all_accelerators: Option<f64>,
}

/// Replicas of one stage on one pool over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaSeries {
    /// The stage.
    pub stage: String,
    /// The pool.
    pub pool: String,
    /// Replicas that are Ready.
    pub ready: Vec<u32>,
    /// Replicas asked for.
    pub wanted: Vec<u32>,
}

/// Demand and capacity of one stage over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemandSeries {
    /// The stage.
    pub stage: String,
    /// Unit of both: "requests/s".
    pub unit: String,
    /// What the stage needs.
    pub demand: Vec<Option<f64>>,
    /// What its ready replicas can do.
    pub capacity: Vec<Option<f64>>,
}

/// Everything observed; every vector has one value per entry of `t_s`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Seconds since the start of the load; may be negative.
    pub t_s: Vec<f64>,
    /// By stage and pool.
    pub replicas: Vec<ReplicaSeries>,
    /// By stage.
    pub demand: Vec<DemandSeries>,
    /// USD per hour.
    pub cost_per_hour: Vec<Option<f64>>,
    /// USD per hour on accelerators only.
    pub cost_per_hour_all_accelerators: Vec<Option<f64>>,
}

impl Series {
    /// USD spent from time 0 to the end of the observation; `None` if the cost was never known. A cost holds until the next
    /// observation.
    pub fn cost_usd(&self) -> Option<f64> {
        spent(&self.t_s, &self.cost_per_hour)
    }

    /// USD that accelerators alone would have cost.
    pub fn cost_usd_all_accelerators(&self) -> Option<f64> {
        spent(&self.t_s, &self.cost_per_hour_all_accelerators)
    }
}

fn spent(t_s: &[f64], per_hour: &[Option<f64>]) -> Option<f64> {
    let spans = t_s.iter().zip(t_s.iter().skip(1)).map(|(a, b)| b.max(0.0) - a.max(0.0));
    let parts: Vec<f64> = spans
        .zip(per_hour)
        .filter_map(|(span, cost)| Some(span * (*cost)? / 3_600.0))
        .collect();
    (!parts.is_empty()).then(|| parts.iter().sum())
}

/// Collects samples into [`Series`].
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    t_s: Vec<f64>,
    samples: Vec<Sample>,
    units: BTreeMap<String, String>,
}

impl Timeline {
    /// Says in which unit a stage's demand is; "requests/s" otherwise.
    pub fn unit(&mut self, stage: &str, unit: &str) {
        self.units.insert(stage.to_owned(), unit.to_owned());
    }

    /// Takes in what was seen at `t_s` seconds; samples that go back in time are left out.
    pub fn observe(&mut self, t_s: f64, sample: Sample) {
        if self.t_s.last().is_none_or(|last| t_s >= *last) {
            self.t_s.push(t_s);
            self.samples.push(sample);
        }
    }

    /// Aligned series of all samples.
    pub fn series(&self) -> Series {
        let mut variants: Vec<&(String, String)> = self.samples.iter().flat_map(|s| s.replicas.keys()).collect();
        variants.sort();
        variants.dedup();
        let replicas = variants.into_iter().map(|key| {
            let at = |s: &Sample| s.replicas.get(key).copied().unwrap_or((0, 0));
            let (ready, wanted) = self.samples.iter().map(at).unzip();
            ReplicaSeries {
                stage: key.0.clone(),
                pool: key.1.clone(),
                ready,
                wanted,
            }
        });
        let mut stages: Vec<&String> = self.samples.iter().flat_map(|s| s.demand.keys()).collect();
        stages.sort();
        stages.dedup();
        let demand = stages.into_iter().map(|stage| {
            let at = |s: &Sample| s.demand.get(stage).copied().unwrap_or((None, None));
            let (demand, capacity) = self.samples.iter().map(at).unzip();
            let unit = self.units.get(stage).map_or("requests/s", String::as_str).to_owned();
            DemandSeries {
                stage: stage.clone(),
                unit,
                demand,
                capacity,
            }
        });
        Series {
            t_s: self.t_s.clone(),
            replicas: replicas.collect(),
            demand: demand.collect(),
            cost_per_hour: self.samples.iter().map(|s| s.cost_per_hour).collect(),
            cost_per_hour_all_accelerators: self.samples.iter().map(|s| s.cost_per_hour_all_accelerators).collect(),
        }
    }
}
