//! One stage of a pipeline, as its author writes it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compute_pool::{Architecture, Tier};
use super::container::{Container, ContainerOverride};
use super::decimal::Decimal;

/// One step of a pipeline: a container, where it may run, how far it scales and by which signal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.tierHint) || self.tierHint != 'AcceleratorRequired' || !has(self.profiles) || self.profiles.size() == 0 || self.profiles.exists(p, !has(p.pools) || !has(p.pools.tier) || p.pools.tier == 'Accelerator')").message("`tierHint` must not be 'AcceleratorRequired' when every profile is for CPU pools").field_path(".tierHint"))]
#[x_kube(validation = Rule::new("(has(self.tierHint) ? self.tierHint != 'CPUSufficient' : self.kind == 'Inference') || !has(self.profiles) || self.profiles.size() == 0 || self.profiles.exists(p, !has(p.pools) || !has(p.pools.tier) || p.pools.tier == 'CPU')").message("`tierHint` must not be 'CPUSufficient', which is the default unless `kind` is 'Inference', when every profile is for accelerator pools; set another one").field_path(".tierHint"))]
#[x_kube(validation = Rule::new("self.replicas.min > 0 || self.signal.preset != 'cpu' || (has(self.signal.also) && self.signal.also.exists(a, !(a.preset in ['cpu', 'dcgm', 'psi'])))").message("`replicas.min` must be at least 1 when `signal.preset` is 'cpu' and no signal in `signal.also` sees waiting work: without replicas nobody would see it").field_path(".replicas.min"))]
#[x_kube(validation = Rule::new("self.replicas.min > 0 || (has(self.after) && self.after.size() > 0) || !(self.signal.preset in ['cpu', 'vllm', 'llamacpp', 'sglang', 'trtllm', 'triton', 'tgi', 'rayserve', 'http', 'dcgm', 'psi']) || (has(self.signal.also) && self.signal.also.exists(a, !(a.preset in ['cpu', 'dcgm', 'psi'])))").message("`replicas.min` must be at least 1 for a stage without `after` whose `signal.preset` speaks of pods, unless a signal in `signal.also` speaks of the stage: nobody else would see its waiting work").field_path(".replicas.min"))]
#[x_kube(validation = Rule::new("(has(self.container.ports) && self.container.ports.size() > 0) || (has(self.profiles) && self.profiles.size() > 0 ? self.profiles.all(p, !((has(p.preset) ? p.preset : self.signal.preset) in ['vllm', 'llamacpp', 'sglang', 'trtllm', 'triton', 'tgi', 'rayserve', 'http']) || (has(p.container) && has(p.container.ports))) : !(self.signal.preset in ['vllm', 'llamacpp', 'sglang', 'trtllm', 'triton', 'tgi', 'rayserve', 'http']))").message("`container.ports` must not be empty when the preset of the stage or of a profile is read from the pods: the first port serves the metrics").field_path(".container.ports"))]
#[x_kube(validation = Rule::new("!has(self.signal.staticReplicas) || (self.signal.staticReplicas >= self.replicas.min && self.signal.staticReplicas <= self.replicas.max)").message("`signal.staticReplicas` must be at least `replicas.min` and at most `replicas.max`").field_path(".signal.staticReplicas"))]
pub struct Stage {
    /// Name of the stage: at most 30 lower-case letters, digits and single dashes, beginning with a letter.
    #[schemars(length(min = 1, max = 30))]
    #[x_kube(validation = super::rules::part_name())]
    pub name: String,
    /// What the stage does: `Retrieval`, `Orchestration`, `PolicyCheck`, `ToolUse`, `Inference`, `PostProcessing` or `Custom`. Sets the default tier hint.
    #[serde(default)]
    pub kind: Kind,
    /// Which tier the stage needs: `AcceleratorRequired` (accelerators only), `AcceleratorPreferred` (CPU while accelerators are short), `CPUPreferred` (the reverse) or `CPUSufficient` (CPU only). `AcceleratorPreferred` for `Inference`, else `CPUSufficient`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "TierHint")]
    pub tier_hint: Option<TierHint>,
    /// Stages that call this one; each must be listed above it. A stage without callers is a source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["stage".into()]))]
    pub after: Vec<Caller>,
    /// What a replica runs.
    pub container: Container,
    /// The same stage on other hardware: the first profile that matches a pool is used there. Without profiles `container` runs on every pool that the hint allows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub profiles: Vec<Profile>,
    /// What one replica serves, where profiles do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Seconds until a new replica is Ready, where profiles do not say it.
    #[serde(default = "startup_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub startup_seconds: i32,
    /// Bounds on the replicas over all pools.
    #[serde(default)]
    pub replicas: Replicas,
    /// How requests reach the replicas: `Uniform` (every replica gets the same share), `Weighted` (shares follow capacity; needs `spec.gateway`; spread and planned like `Uniform` until tiercel writes routes) or `Pull` (workers take from a queue).
    #[serde(default)]
    pub traffic: Traffic,
    /// What says how much work there is.
    #[serde(default)]
    pub signal: Signal,
    /// How fast replicas may follow.
    #[serde(default)]
    pub scaling: Scaling,
    /// How much a shift between pools may disturb.
    #[serde(default)]
    pub disruption: Disruption,
}

const fn startup_seconds() -> i32 {
    10
}

impl Stage {
    /// The hint in force: what the author wrote, else the kind's default.
    pub fn hint(&self) -> TierHint {
        self.tier_hint.unwrap_or(match self.kind {
            Kind::Inference => TierHint::AcceleratorPreferred,
            _ => TierHint::CpuSufficient,
        })
    }
}

/// What a stage does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// Finds what the model needs to know.
    Retrieval,
    /// Decides what is called next.
    Orchestration,
    /// Checks what may go in or out.
    PolicyCheck,
    /// Calls something outside.
    ToolUse,
    /// Runs a model.
    Inference,
    /// Shapes the answer.
    PostProcessing,
    /// Anything else.
    #[default]
    Custom,
}

impl Kind {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retrieval => "Retrieval",
            Self::Orchestration => "Orchestration",
            Self::PolicyCheck => "PolicyCheck",
            Self::ToolUse => "ToolUse",
            Self::Inference => "Inference",
            Self::PostProcessing => "PostProcessing",
            Self::Custom => "Custom",
        }
    }
}

/// Which tier a stage needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TierHint {
    /// Accelerator pools only.
    AcceleratorRequired,
    /// CPU pools only while accelerators are short, dry or over budget.
    AcceleratorPreferred,
    /// Accelerator pools only while CPU pools are short, dry or over budget.
    #[serde(rename = "CPUPreferred")]
    CpuPreferred,
    /// CPU pools only; never holds an accelerator.
    #[serde(rename = "CPUSufficient")]
    CpuSufficient,
}

impl TierHint {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AcceleratorRequired => "AcceleratorRequired",
            Self::AcceleratorPreferred => "AcceleratorPreferred",
            Self::CpuPreferred => "CPUPreferred",
            Self::CpuSufficient => "CPUSufficient",
        }
    }

    /// Whether the hint allows the tier at all.
    pub const fn allows(self, tier: Tier) -> bool {
        !matches!(
            (self, tier),
            (Self::AcceleratorRequired, Tier::Cpu) | (Self::CpuSufficient, Tier::Accelerator)
        )
    }

    /// The tier that the hint would rather have.
    pub const fn preferred(self) -> Tier {
        match self {
            Self::AcceleratorRequired | Self::AcceleratorPreferred => Tier::Accelerator,
            Self::CpuPreferred | Self::CpuSufficient => Tier::Cpu,
        }
    }
}

/// An edge: a stage that calls this one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// Name of a stage that is listed above.
    #[schemars(length(min = 1, max = 30))]
    #[x_kube(validation = super::rules::part_name())]
    pub stage: String,
    /// Calls per request of that stage, on average; below 1 for a branch that is not always taken.
    #[serde(default = "one_call")]
    #[x_kube(validation = super::rules::positive())]
    #[x_kube(validation = Rule::new("!self.matches('^[0-9]{5}')").message("must be less than 10000 calls for each request"))]
    pub calls_per_request: Decimal,
}

fn one_call() -> Decimal {
    Decimal("1".to_owned())
}

/// The stage on some hardware.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// Name of the profile.
    #[schemars(length(min = 1, max = 30))]
    #[x_kube(validation = super::rules::part_name())]
    pub name: String,
    /// Pools it is for; all that the hint allows if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pools: Option<PoolSelector>,
    /// What differs from the stage's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerOverride>,
    /// What one replica serves on this hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Seconds until a new replica is Ready on this hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub startup_seconds: Option<i32>,
    /// Which metrics are read on this hardware, where another server runs than on the rest: a name as in `signal.preset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 30))]
    #[x_kube(validation = super::rules::preset())]
    pub preset: Option<String>,
}

/// Pools by what they are, never by node labels. All members that are set must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolSelector {
    /// Tier of the pool, `CPU` or `Accelerator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Tier")]
    pub tier: Option<Tier>,
    /// Hardware classes; any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[x_kube(validation = Rule::new("self.all(c, c.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$'))").message("must hold lower-case letters, digits, dashes and dots, such as 'nvidia-l4'"))]
    pub classes: Vec<String>,
    /// Processor architectures; any of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub architectures: Vec<Architecture>,
}

/// What one replica serves at its latency target. A prior until measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.requestsPerSecond) || has(self.concurrency)").message("`requestsPerSecond` or `concurrency` must be set"))]
pub struct Capacity {
    /// Requests per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = super::rules::positive())]
    pub requests_per_second: Option<Decimal>,
    /// Requests handled at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub concurrency: Option<i32>,
}

/// Bounds on the replicas of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("`min` must not be greater than `max`").field_path(".min"))]
#[x_kube(validation = Rule::new("!has(self.reliableMin) || self.reliableMin <= self.max").message("`reliableMin` must not be greater than `max`").field_path(".reliableMin"))]
pub struct Replicas {
    /// Fewest replicas over all pools; 0 lets a stage with `after` sleep until its callers have work for it.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 10_000))]
    pub min: i32,
    /// Most replicas over all pools. While a shift between pools is under way, at most `disruption.maxSurge` more.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max: i32,
    /// At least so many on pools that are not `Spot`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000))]
    pub reliable_min: i32,
}

const fn one() -> i32 {
    1
}

const fn ten() -> i32 {
    10
}

impl Default for Replicas {
    fn default() -> Self {
        Self {
            min: one(),
            max: ten(),
            reliable_min: 0,
        }
    }
}

/// How requests reach the replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Traffic {
    /// Every replica gets the same share; the slowest in use sets the pace.
    #[default]
    Uniform,
    /// Shares follow ready capacity.
    Weighted,
    /// Workers take from a queue.
    Pull,
}

/// What says how much work there is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.onSignalLoss == 'Static') == has(self.staticReplicas)").message("`staticReplicas` must be set when `onSignalLoss` is 'Static', and must not be set otherwise").field_path(".staticReplicas"))]
#[x_kube(validation = Rule::new("!has(self.also) || self.also.all(a, a.preset != self.preset)").message("`also` must not name the `preset` that the stage is read by anyway").field_path(".also"))]
pub struct Signal {
    /// Which metrics are read: `cpu` (metrics.k8s.io), those of a model server (`vllm`, `llamacpp`, `sglang`, `trtllm`, `triton`, `tgi`, `rayserve`) or of any HTTP server (`http`), what Prometheus knows of a pod's GPUs (`dcgm`) or CPU pressure (`psi`), or a preset that the administrator has added. docs/reference/signals.md and docs/reference/sources.md have them all.
    #[serde(default = "cpu")]
    #[schemars(length(min = 1, max = 30))]
    #[x_kube(validation = super::rules::preset())]
    pub preset: String,
    /// Utilization at which a replica counts as full, per cent.
    #[serde(default = "seventy")]
    #[schemars(range(min = 1, max = 100))]
    pub target_percent: i32,
    /// Signals beside `preset`: whichever asks for the most replicas decides. While one of them is missing, the others can let the stage grow and nothing lets it shrink.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["preset".into()]))]
    pub also: Vec<AlsoSignal>,
    /// What happens when all signals stay away for `lossSeconds`: `Hold` (keep what runs), `CurrentIfHigher` (keep what runs or what was last needed, whichever is more) or `Static` (go to `staticReplicas`).
    #[serde(default)]
    pub on_signal_loss: OnSignalLoss,
    /// Replicas while signals are lost, with `Static`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub static_replicas: Option<i32>,
    /// Seconds without a fresh signal after which `onSignalLoss` applies. Until then nothing shrinks. Pods that are silent beside others are told by name after as long, if they are more than the tolerance covers.
    #[serde(default = "loss_seconds")]
    #[schemars(range(min = 5, max = 3600))]
    pub loss_seconds: i32,
}

/// A signal beside the one that a stage is mainly read by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlsoSignal {
    /// Which metrics are read: `cpu`, `dcgm`, `psi`, or a preset of the administrator's that is not read from the pods themselves.
    #[schemars(length(min = 1, max = 30))]
    #[x_kube(validation = super::rules::preset())]
    #[x_kube(validation = super::rules::not_scraped())]
    pub preset: String,
    /// Utilization at which a replica counts as full by this signal, per cent.
    #[serde(default = "seventy")]
    #[schemars(range(min = 1, max = 100))]
    pub target_percent: i32,
}

fn cpu() -> String {
    "cpu".to_owned()
}

const fn seventy() -> i32 {
    70
}

const fn loss_seconds() -> i32 {
    180
}

impl Default for Signal {
    fn default() -> Self {
        Self {
            preset: cpu(),
            target_percent: seventy(),
            also: Vec::new(),
            on_signal_loss: OnSignalLoss::default(),
            static_replicas: None,
            loss_seconds: loss_seconds(),
        }
    }
}

/// What happens when signals stay away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnSignalLoss {
    /// Keep what runs.
    #[default]
    Hold,
    /// Keep what runs or what was last needed, whichever is more.
    CurrentIfHigher,
    /// Go to a declared number.
    Static,
}

/// How fast replicas may follow. Names and meaning as in the behaviour of `HorizontalPodAutoscaler` v2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scaling {
    /// Growth.
    #[serde(default)]
    pub scale_up: ScaleUp,
    /// Shrinking.
    #[serde(default)]
    pub scale_down: ScaleDown,
    /// Difference between demand and capacity below which nothing happens, per cent.
    #[serde(default = "ten")]
    #[schemars(range(min = 0, max = 50))]
    pub tolerance_percent: i32,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            scale_up: ScaleUp::default(),
            scale_down: ScaleDown::default(),
            tolerance_percent: ten(),
        }
    }
}

/// Growth.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleUp {
    /// Seconds over which the lowest need counts.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_window_seconds: i32,
}

/// Shrinking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleDown {
    /// Seconds over which the highest need counts.
    #[serde(default = "down_window")]
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_window_seconds: i32,
    /// Most that may go within a minute, per cent of the replicas; 0 forbids shrinking.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 100))]
    pub percent_per_minute: i32,
}

const fn down_window() -> i32 {
    120
}

const fn hundred() -> i32 {
    100
}

impl Default for ScaleDown {
    fn default() -> Self {
        Self {
            stabilization_window_seconds: down_window(),
            percent_per_minute: hundred(),
        }
    }
}

/// How much a shift between pools may disturb.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Disruption {
    /// Most replicas that may be shifted between pools within an hour. Growth for load does not count.
    #[serde(default = "moves_per_hour")]
    #[schemars(range(min = 0, max = 10_000))]
    pub max_moves_per_hour: i32,
    /// Replicas that a shift may hold beyond the plan until the new ones are Ready.
    #[serde(default = "surge")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_surge: i32,
    /// Seconds that a leaving replica gets to finish its requests.
    #[serde(default = "drain_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_seconds: i32,
}

const fn moves_per_hour() -> i32 {
    60
}

const fn surge() -> i32 {
    2
}

const fn drain_seconds() -> i32 {
    30
}

impl Default for Disruption {
    fn default() -> Self {
        Self {
            max_moves_per_hour: moves_per_hour(),
            max_surge: surge(),
            drain_seconds: drain_seconds(),
        }
    }
}
