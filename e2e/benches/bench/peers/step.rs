//! Who scales, how they are set, and one step of load with what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::audit::Request;
use crate::probes::{Bare, name};

/// Deployments of each autoscaler.
pub(super) const PROBES: usize = 40;
/// The controller manager's period between two looks at an autoscaler, as it is and tuned.
pub(super) const SYNC: Duration = Duration::from_secs(15);
pub(super) const SYNC_TUNED: Duration = Duration::from_secs(1);

/// Who scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Tiercel,
    Hpa,
    Keda,
}

impl Who {
    pub(super) const ALL: [Self; 3] = [Self::Tiercel, Self::Hpa, Self::Keda];

    pub(super) const fn space(self) -> &'static str {
        match self {
            Self::Tiercel => "probes",
            Self::Hpa => "hpa",
            Self::Keda => "scaled-objects",
        }
    }

    /// The label that tells the Deployments' pods apart.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Tiercel => "tiercel.dev/pipeline",
            Self::Hpa | Self::Keda => "app",
        }
    }

    /// The label's value: the pipeline, or the Deployment.
    pub(super) fn probe(self, at: usize) -> String {
        match self {
            Self::Tiercel => name(at),
            Self::Hpa => format!("hpa-{at:02}"),
            Self::Keda => format!("keda-{at:02}"),
        }
    }
}

/// How the autoscalers beside tiercel are set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) sync: Duration,
    /// `None`: KEDA's own.
    pub(super) polling: Option<Duration>,
    pub(super) probes: usize,
    /// The steps fall anywhere in so long.
    pub(super) spread: Duration,
    /// What a bare client writes to its copies meanwhile.
    pub(super) bare_replicas: u32,
}

pub(super) const SETTINGS: [Setting; 2] = [
    Setting {
        name: "defaults",
        sync: SYNC,
        polling: None,
        probes: PROBES,
        spread: Duration::from_secs(60),
        bare_replicas: 2,
    },
    Setting {
        name: "tuned",
        sync: SYNC_TUNED,
        polling: Some(Duration::from_secs(1)),
        probes: 20,
        spread: Duration::from_secs(45),
        bare_replicas: 1,
    },
];

/// One step of load and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) who: Who,
    pub(super) probe: String,
    pub(super) deployment: String,
    pub(super) set: Timestamp,
    /// When its signal first called for a second replica.
    pub(super) shown: Option<Timestamp>,
    /// When the write of `scale` that followed was answered.
    pub(super) written: Option<Timestamp>,
    /// When the second replica was Ready.
    pub(super) ready: Option<Timestamp>,
}

impl Step {
    pub(super) fn is_over(&self) -> bool {
        self.shown.is_some() && self.written.is_some() && self.ready.is_some()
    }
}

/// What one setting gave.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) steps: Vec<Step>,
    pub(super) patches: Vec<Bare>,
    /// By program.
    pub(super) cpu_cores: BTreeMap<String, f64>,
    /// By user or account, leases aside.
    pub(super) requests_per_s: BTreeMap<String, f64>,
}

/// The first write of `scale` after the step that is not the bare client's.
pub(super) fn note_write(steps: &mut [Step], request: &Request) {
    let is_write = request.resource == "deployments/scale" && request.is_mutating() && request.code == 200;
    if !is_write || request.user == "tiercel-e2e-admin" {
        return;
    }
    let mine = |step: &&mut Step| step.deployment == request.name && request.received >= step.set;
    if let Some(step) = steps.iter_mut().find(mine) {
        step.written.get_or_insert(request.answered);
    }
}
