//! What a pipeline means in this cluster: the only input of the builders and of the rebalancer's world.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;

use crate::api::compute_pool::{Architecture, Tier};
use crate::api::container::Container;
use crate::api::stage::{Kind, OnSignalLoss, TierHint, Traffic};
use crate::api::tiered_pipeline::Mode;
use crate::api::{ComputePool, conditions};
use crate::controller::capacity::ReplicaCost;
use crate::controller::live::Live;
use crate::controller::pipeline::ceilings::NamespaceCeilings;
use crate::rebalance::world::{Objective, Resources};
use crate::signals::presets::Preset;

/// A pipeline whose every part has been checked against the cluster.
#[derive(Clone, Debug)]
pub struct ValidatedPipeline {
    /// Name, namespace and UID of the object.
    pub id: PipelineId,
    /// Generation that was looked at.
    pub generation: Option<i64>,
    /// What may be written, after the pause annotation.
    pub mode: Permission,
    /// 0 to 1000.
    pub priority: u16,
    /// Ceiling on cost per hour, millionths.
    pub budget_micros: Option<u64>,
    /// Ceiling on power.
    pub power_max_milliwatts: Option<u64>,
    /// What it may take together with the other pipelines of its namespace.
    pub together: NamespaceCeilings,
    /// End-to-end latency to keep.
    pub objective: Option<Objective>,
    /// Stages that can be built.
    pub stages: Vec<ValidatedStage>,
    /// What was refused, with the field. A refused stage keeps its children.
    pub refusals: Vec<Refusal>,
}

/// Identity of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineId {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// What may be written for a pipeline: its mode, or what the break-glass annotation leaves of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// The mode of the spec.
    Mode(Mode),
    /// Annotation `scale-in`: no shrinking.
    NoScaleIn,
    /// Annotation `scale-out`: no growth.
    NoScaleOut,
}

/// One stage that can be built.
#[derive(Clone, Debug)]
pub struct ValidatedStage {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// The hint in force.
    pub hint: TierHint,
    /// How requests reach it.
    pub traffic: Traffic,
    /// Callers: index among the pipeline's valid stages, and calls per request in thousandths.
    pub after: Vec<(usize, u64)>,
    /// Names and ports of the stages it calls, refused ones too: what is wrong with them is no reason to restart this one.
    pub calls: Vec<(String, i32)>,
    /// The port that serves requests: name and number.
    pub port: Option<(String, i32)>,
    /// Bounds on the total.
    pub min: u32,
    /// See `min`.
    pub max: u32,
    /// Least replicas on reliable pools.
    pub reliable_min: u32,
    /// How its demand is read.
    pub signal: SignalRule,
    /// How fast replicas may follow.
    pub pace: Pace,
    /// Pools that it may use, and pools that it must leave.
    pub pools: Vec<StagePool>,
    /// Pools that it may not use, and why.
    pub excluded: Vec<(String, Exclusion)>,
}

/// How a stage's demand is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalRule {
    /// Utilization at which a replica counts as full, per cent.
    pub target_percent: u32,
    /// Signals beside the main one, with their targets, per cent.
    pub also: Vec<(&'static Preset, u32)>,
    /// Seconds of silence after which the fallback applies.
    pub loss_seconds: u32,
    /// The fallback.
    pub on_loss: OnSignalLoss,
    /// Replicas of a `Static` fallback.
    pub static_replicas: u32,
}

/// How fast replicas may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Tolerance, per cent.
    pub tolerance_percent: u32,
    /// Stabilization window for growth, seconds.
    pub up_window_seconds: u32,
    /// Stabilization window for shrinking, seconds.
    pub down_window_seconds: u32,
    /// Largest shrink per minute, per cent.
    pub down_percent_per_minute: u32,
    /// Shifts per hour.
    pub moves_per_hour: u32,
    /// Replicas beyond the plan during a shift.
    pub max_surge: u32,
    /// Seconds to finish requests.
    pub drain_seconds: u32,
}

/// One stage on one pool: one Deployment.
#[derive(Clone, Debug)]
pub struct StagePool {
    /// The pool's name.
    pub pool: String,
    /// Name of the Deployment.
    pub child: String,
    /// The Deployment as it is, if it exists and is ours.
    pub live: Option<Arc<Live<Deployment>>>,
    /// What the reconciler says about `spec.replicas`.
    pub claim: Claim,
    /// What one replica needs.
    pub request: Resources,
    /// What one replica serves, thousandths of the stage's unit.
    pub capacity_millis: u64,
    /// Whether that unit is requests per second.
    pub rated: bool,
    /// Requests that one replica handles at once.
    pub concurrency: Option<u32>,
    /// Name of the signal preset that its pods are read with.
    pub preset: String,
    /// Expected seconds until Ready.
    pub startup_seconds: u32,
    /// What one replica costs and draws; absent where the pool or the shape of its nodes is not known.
    pub cost: Option<ReplicaCost>,
    /// Replicas that fit on the pool's nodes, those of tiercel that run there not subtracted.
    pub room: u32,
    /// How it runs there; absent on a pool that must be left.
    pub fit: Option<Fit>,
}

/// How a stage runs on a pool that it may use.
#[derive(Clone, Debug)]
pub struct Fit {
    /// The pool.
    pub pool: Arc<ComputePool>,
    /// Architecture of its nodes.
    pub architecture: Option<Architecture>,
    /// The profile in use, if the stage has profiles.
    pub profile: Option<String>,
    /// The container, profile merged in.
    pub container: Container,
    /// Whether the pool's tier is the one that the hint prefers.
    pub preferred: bool,
}

/// The reconciler's claim on `spec.replicas`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// No Deployment yet: create it with so many.
    Create(u32),
    /// The rebalancer has not claimed the field yet: repeat what is there.
    HandOver(u32),
    /// The rebalancer owns the field: leave it out for good.
    Released,
}

impl Claim {
    /// What to send, if anything.
    pub fn to_send(self) -> Option<i32> {
        match self {
            Self::Create(n) | Self::HandOver(n) => Some(i32::try_from(n).unwrap_or(i32::MAX)),
            Self::Released => None,
        }
    }

    /// Only a claim without replicas may override other managers.
    pub const fn forces(self) -> bool {
        matches!(self, Self::Released)
    }
}

/// Why a pool is not used by a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// The hint forbids the tier.
    Hint(TierHint, Tier),
    /// The pool does not admit the namespace.
    Closed,
    /// No profile is for it.
    NoProfile,
    /// The container asks for a device that the pool does not offer.
    DeviceNotOffered(String),
    /// The container does not ask for the pool's device.
    DeviceNotRequested(String),
    /// The pipeline has a ceiling on power, and the pool declares none.
    PowerUnknown,
    /// The pool itself is not usable.
    PoolProblem(String),
    /// The name of the Deployment is taken by an object that is not ours.
    NameTaken(String),
}

/// A part of the spec that cannot be realised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stage, or the whole pipeline.
    pub stage: Option<String>,
    /// Path of the field.
    pub field: String,
    /// One word for conditions and events.
    pub reason: conditions::Reason,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.stage {
            Some(stage) => write!(f, "stage '{stage}': `{}`: {}", self.field, self.message),
            None => write!(f, "`{}`: {}", self.field, self.message),
        }
    }
}

impl std::fmt::Display for Exclusion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hint(hint, Tier::Cpu) => write!(f, "tierHint '{}' forbids CPU pools", hint.as_str()),
            Self::Hint(hint, Tier::Accelerator) => write!(f, "tierHint '{}' forbids accelerator pools", hint.as_str()),
            Self::Closed => f.write_str("the pool does not admit this namespace"),
            Self::NoProfile => f.write_str("no profile of the stage is for this pool"),
            Self::DeviceNotOffered(device) => {
                write!(f, "the container requests '{device}', which the pool does not offer")
            }
            Self::DeviceNotRequested(device) => {
                write!(f, "the container does not request '{device}', the pool's device")
            }
            Self::PowerUnknown => f.write_str(
                "the pool does not declare `powerWattsPerNode`, which the pipeline's `budget.maxPowerWatts` needs",
            ),
            Self::PoolProblem(problem) => write!(f, "the pool is not usable: {problem}"),
            Self::NameTaken(name) => write!(f, "the name '{name}' is taken by an object that tiercel does not own"),
        }
    }
}
