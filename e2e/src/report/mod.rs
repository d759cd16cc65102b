//! The report of a run: numbers as JSON, and a page with plots that needs nothing but a browser.
//!
//! An observer fills a [`Timeline`] while the run goes on; [`Report::write`] puts `report.json` and `report.html` into a
//! folder. Whatever was not measured is `null` and shows as a dash, never as zero.

mod axis;
mod page;
mod plot;
mod tables;
mod timeline;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::load::{Percentiles, Second, StageWait, Summary};

pub(crate) use axis::{decade_ticks, number};
pub use timeline::{DemandSeries, ReplicaSeries, Sample, Series, Timeline};

/// Why a report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The folder or a file in it cannot be written.
    #[error("cannot write {}: check that the folder may be written and has room", path.display())]
    Write {
        /// Which file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A number is not finite.
    #[error("the report cannot be turned into JSON")]
    Json(#[from] serde_json::Error),
}

/// Which half of the hardware a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// CPUs only.
    #[serde(rename = "CPU")]
    Cpu,
    /// GPUs, NPUs, TPUs.
    Accelerator,
}

/// A pool, in the order in which plots stack it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolInfo {
    /// The pool's name.
    pub name: String,
    /// Decides its family of colours: CPU pools are cool, accelerators warm.
    pub tier: Tier,
    /// Price of one node, USD per hour.
    pub cost_per_node_hour: Option<f64>,
}

/// Something that was done to the cluster or seen in it, marked in every plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoryEvent {
    /// Seconds since the start of the load; may be negative.
    pub t_s: f64,
    /// A few words: "L4 pool dries up".
    pub label: String,
}

/// One decision of the operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionLine {
    /// Seconds since the start of the load; may be negative.
    pub t_s: f64,
    /// The stage.
    pub stage: String,
    /// What set it off: `DemandRose`.
    pub trigger: String,
    /// What changed: "l4-spot 9 -> 7, graviton 0 -> 2".
    pub change: String,
    /// The reason as a CamelCase word: `PoolDry`.
    pub reason: String,
    /// The reason as a sentence with numbers.
    pub message: String,
}

/// The same load under another policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// "HPA at 65 % CPU".
    pub name: String,
    /// `true`: measured in a run of its own; `false`: computed.
    pub measured: bool,
    /// Cost of the run, USD.
    pub cost_usd: Option<f64>,
    /// Late and failed requests, per cent.
    pub late_percent: Option<f64>,
    /// End-to-end latency.
    pub latency_ms: Percentiles,
}

/// Time from a signal to the acknowledged write that follows from it, ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reaction {
    /// Half are faster.
    pub p50: Option<f64>,
    /// 99 % are faster.
    pub p99: Option<f64>,
}

impl Reaction {
    /// Nearest-rank percentiles of these times, ms, in any order.
    pub fn of(values: &mut [f32]) -> Self {
        let Percentiles { p50, p99, .. } = Percentiles::of(values);
        Self { p50, p99 }
    }
}

/// How far plans were from the best there can be, per cent of the best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gap {
    /// Half of the time it was no larger.
    pub p50: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
}

/// One run. The names of the fields are the keys of `report.json`; units are in the names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Heading of the page.
    pub title: String,
    /// The pipeline as `namespace/name`.
    pub pipeline: String,
    /// What the load was, with its attribution: "azure-conv, 5 minutes at 12 x speed".
    pub load: String,
    /// Seed of everything random in the run.
    pub seed: u64,
    /// When the load began, RFC 3339.
    pub started_at: String,
    /// How long the load lasted.
    pub duration_s: f64,
    /// From `kubectl apply` to every stage ready.
    pub startup_s: Option<f64>,

    /// Requests sent.
    pub requests: u64,
    /// Requests answered by every stage.
    pub served: u64,
    /// Requests that were not.
    pub failed: u64,
    /// Late and failed requests, per cent of all.
    pub late_percent: f64,
    /// Served requests that took longer are late.
    pub objective_ms: Option<f64>,
    /// End-to-end latency of served requests.
    pub latency_ms: Percentiles,

    /// What the replicas cost during the load.
    pub cost_usd: Option<f64>,
    /// What the same demand costs on accelerators only, computed.
    pub cost_usd_all_accelerators: Option<f64>,
    /// Other policies; the key is absent if none was measured or computed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baselines: Vec<Baseline>,

    /// Times replicas were given up on one pool for ones that had come on another.
    pub shifts: u64,
    /// Groups of scale writes that belong together.
    pub decisions: u64,
    /// Signal sampled to write acknowledged.
    pub reaction_ms: Reaction,
    /// What plans cost beyond the proven bound.
    pub gap_percent: Gap,
    /// One step of the core, its plan included.
    pub plan_ms: Reaction,
    /// One search of the solver, beside the steps.
    pub solve_ms: Reaction,
    /// Times a stage was seen below its floor.
    pub floor_violations: u64,
    /// Times a stage or a pool was seen above its ceiling.
    pub ceiling_violations: u64,

    /// Pools in the order of the plots.
    pub pools: Vec<PoolInfo>,
    /// Stages in the order of the pipeline.
    pub stages: Vec<String>,
    /// Marks in the plots.
    pub events: Vec<StoryEvent>,
    /// Every decision.
    pub decision_log: Vec<DecisionLine>,
    /// Waiting by stage.
    pub stage_waits: Vec<StageWait>,
    /// What was observed over time.
    pub series: Series,
    /// Load and latency, second by second.
    pub seconds: Vec<Second>,
    /// How numbers were measured or computed, by key.
    pub definitions: BTreeMap<String, String>,
}

/// Where a report was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFiles {
    /// `report.json`.
    pub json: PathBuf,
    /// `report.html`.
    pub html: PathBuf,
}

impl Report {
    /// Takes over what the client measured.
    #[must_use]
    pub fn with_load(mut self, summary: Summary) -> Self {
        self.requests = summary.requests;
        self.served = summary.served;
        self.failed = summary.failed;
        self.late_percent = summary.late_percent;
        self.latency_ms = summary.latency_ms;
        self.stage_waits = summary.stages;
        self.seconds = summary.seconds;
        self
    }

    /// The page: HTML with everything inside, light and dark.
    pub fn html(&self) -> String {
        page::render(self)
    }

    /// Writes `report.json` and `report.html` into `folder`, which is created if it is missing.
    pub fn write(&self, folder: &Path) -> Result<ReportFiles, ReportError> {
        let write = |path: &Path, result: std::io::Result<()>| {
            result.map_err(|source| ReportError::Write {
                path: path.to_owned(),
                source,
            })
        };
        write(folder, std::fs::create_dir_all(folder))?;
        let files = ReportFiles {
            json: folder.join("report.json"),
            html: folder.join("report.html"),
        };
        write(
            &files.json,
            std::fs::write(&files.json, serde_json::to_vec_pretty(self)?),
        )?;
        write(&files.html, std::fs::write(&files.html, self.html()))?;
        Ok(files)
    }
}

#[cfg(test)]
mod tests;
