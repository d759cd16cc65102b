//! What the core is told: the world that edits change, and the events that arrive between edits.
//!
//! Units, everywhere in the core: money in millionths of a dollar per hour (`_micros`), power in milliwatts, CPU in
//! millicores, memory in KiB, devices in thousandths, capacity and demand in thousandths of the stage's unit (requests
//! per second where the stage declares them, else replicas' worth of work), time in monotonic milliseconds.

use super::propose::Proposal;

/// Stable identity of a pipeline, stage, pool or variant across worlds. Carries history over; never decides a tie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

/// Index of a pool in [`World::pools`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolIdx(pub u32);

/// Index of a pipeline in [`World::pipelines`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PipelineIdx(pub u32);

/// Index of a stage in [`World::stages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StageIdx(pub u32);

/// Index of a variant (one stage on one pool) in [`World::variants`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariantIdx(pub u32);

/// A bundle of node resources: millicores, KiB, thousandths of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU, millicores.
    pub cpu_millis: u64,
    /// Memory, KiB.
    pub memory_kib: u64,
    /// The pool's device (GPU, TPU, Neuron …), thousandths.
    pub device_millis: u64,
}

/// One pool of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Identity across worlds.
    pub key: Key,
    /// Accelerator or CPU nodes.
    pub tier: Tier,
    /// On-demand or reserved: not taken away on short notice. Counts towards `reliable_min`.
    pub reliable: bool,
    /// Allocatable minus requests of pods that are not tiercel's minus the reserve, over usable nodes, plus what the
    /// pool may still grow by. Replicas of tiercel are *not* subtracted.
    pub capacity: Resources,
}

/// Class of hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// General-purpose processors.
    Cpu,
    /// GPUs, TPUs and other accelerators.
    Accelerator,
}

/// One pipeline: what its stages share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// Identity across worlds.
    pub key: Key,
    /// 0 to 1000; higher is served first when capacity is short.
    pub priority: u16,
    /// Ceiling on the cost of all replicas at every instant, surge included.
    pub budget_micros: Option<u64>,
    /// Ceiling on their power likewise. Pools that declare no power are no place for such a pipeline.
    pub power_max_milliwatts: Option<u64>,
    /// Ceilings that it keeps together with others: a place in [`World::shared`].
    pub shared: Option<u32>,
    /// Whether decisions are taken and written.
    pub mode: Mode,
    /// End-to-end latency to plan headroom for.
    pub objective: Option<Objective>,
}

/// Ceilings that several pipelines keep together, such as those of a namespace. What advisory and paused pipelines run
/// counts like any other's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// On the cost of all replicas at every instant, surge included.
    pub budget_micros: Option<u64>,
    /// On their power likewise.
    pub power_max_milliwatts: Option<u64>,
}

/// An end-to-end latency, and who must meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Objective {
    /// Latency from the first stage to the last, milliseconds.
    pub latency_ms: u64,
    /// Share of requests that must meet it, per cent: 50 to 99.
    pub percentile: u32,
}

/// What may be written for a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Decide and write.
    Automatic,
    /// Decide and report; write nothing.
    Advisory,
    /// Decide nothing, write nothing.
    Paused,
    /// Break-glass: growth only.
    NoScaleIn,
    /// Break-glass: shrinking only.
    NoScaleOut,
}

/// How requests reach the replicas of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Every replica gets the same share: all in use serve at the pace of the slowest.
    Uniform,
    /// Shares follow capacity: capacities add.
    Weighted,
    /// Workers take from a queue: capacities add.
    Pull,
}

/// What a stage falls back to when its signals stay away for longer than [`Stage::signal_loss_ms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSignalLoss {
    /// Keep the replicas there are.
    Hold,
    /// Keep what there is, or what the last known demand asked for, whichever is more.
    CurrentIfHigher,
    /// Go to this total, never below `min`.
    Static(u32),
}

/// One edge into a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The stage that calls.
    pub from: StageIdx,
    /// Calls per request of `from`, thousandths.
    pub calls_millis: u64,
}

/// A signal that a stage is read by beside its own: whichever shows the larger need decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Also {
    /// Utilization at which a replica counts as full by this signal, thousandths.
    pub target_permille: u32,
    /// Oldest age at which a reading of it is fresh.
    pub reading_age_ms_max: u64,
    /// Whether work that waits can be seen by it without any replica.
    pub sees_waiting: bool,
}

/// One stage of a pipeline, over all its pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Identity across worlds.
    pub key: Key,
    /// The pipeline it belongs to.
    pub pipeline: PipelineIdx,
    /// Its variants: a contiguous range of [`World::variants`], start inclusive, end exclusive.
    pub variants: (u32, u32),
    /// Bounds on the total over all pools; `min <= max`.
    pub min: u32,
    /// See `min`.
    pub max: u32,
    /// At least so many on reliable pools.
    pub reliable_min: u32,
    /// Utilization at which a replica counts as full, thousandths (750 = 75 %).
    pub target_permille: u32,
    /// How requests are spread.
    pub traffic: Traffic,
    /// Capacities are in requests per second, so that demand can flow along edges.
    pub rated: bool,
    /// Whether work that waits can be seen, so that zero replicas are safe.
    pub sees_waiting: bool,
    /// Callers. Only stages with a smaller index.
    pub after: Vec<Edge>,
    /// Relative change below which nothing happens, thousandths (100 = 10 %).
    pub tolerance_permille: u32,
    /// Growth follows the lowest demand of this window.
    pub up_window_ms: u64,
    /// Shrinking follows the highest demand of this window.
    pub down_window_ms: u64,
    /// A shrink takes at most this share of the replicas per minute, per cent; 0 = no shrink at all.
    pub down_percent_per_minute: u32,
    /// Shifts between pools allowed per hour (growth for load is not a shift).
    pub moves_per_hour: u32,
    /// Replicas beyond the planned total that a shift may hold for a while.
    pub max_surge: u32,
    /// How long signals may be missing before `on_signal_loss` applies.
    pub signal_loss_ms: u64,
    /// The declared fallback.
    pub on_signal_loss: OnSignalLoss,
    /// Oldest age at which a reading is fresh.
    pub reading_age_ms_max: u64,
    /// Signals beside its own.
    pub also: Vec<Also>,
}

/// One stage on one pool: one Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Identity across worlds.
    pub key: Key,
    /// The stage.
    pub stage: StageIdx,
    /// The pool.
    pub pool: PoolIdx,
    /// What one replica requests.
    pub request: Resources,
    /// What one replica costs: the largest share of a node it takes, times the node's price. Shown to people and held
    /// against budgets.
    pub cost_micros: u64,
    /// The same for decisions: zero on reserved pools, whose nodes are paid for anyway.
    pub marginal_micros: u64,
    /// Power of one replica by the same share, if the pool declares it.
    pub power_milliwatts: Option<u64>,
    /// Factor on the price that stands for the tier hint, thousandths (1000 = no preference). Forbidden pools have no
    /// variant at all, or `max` 0.
    pub hint_permille: u32,
    /// What one replica serves at its target, thousandths of the stage's unit.
    pub capacity_millis: u64,
    /// Requests one replica handles at once, if declared.
    pub concurrency: Option<u32>,
    /// Expected time from the creation of a pod to its first readiness.
    pub startup_ms: u64,
    /// Most replicas that fit on the pool's nodes one by one (fragmentation), or that the stage may have there.
    pub max: u32,
}

/// Everything that edits change. Replaces the previous world; histories carry over by [`Key`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// Pools.
    pub pools: Vec<Pool>,
    /// Pipelines.
    pub pipelines: Vec<Pipeline>,
    /// Stages; callers before the called.
    pub stages: Vec<Stage>,
    /// Variants, grouped by stage.
    pub variants: Vec<Variant>,
    /// Ceilings that pipelines share.
    pub shared: Vec<Ceilings>,
}

impl World {
    /// Priority of a stage: that of its pipeline.
    pub(super) fn priority(&self, stage: usize) -> u16 {
        let pipeline = self.stages.get(stage).map(|stage| stage.pipeline.0 as usize);
        pipeline
            .and_then(|at| self.pipelines.get(at))
            .map_or(0, |pipeline| pipeline.priority)
    }
}

/// What the pods of one variant reported, summed over those that reported. Absence is `None`, never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When the oldest part of it was received.
    pub taken_ms: u64,
    /// Ready pods that reported.
    pub sampled: u32,
    /// Ready pods that should have.
    pub expected: u32,
    /// Requests being handled, thousandths, summed.
    pub running_millis: Option<u64>,
    /// Requests waiting, thousandths, summed.
    pub waiting_millis: Option<u64>,
    /// Utilization of a replica's capacity, thousandths, averaged over `sampled`.
    pub utilization_permille: Option<u32>,
    /// Requests arriving per second, thousandths, summed.
    pub rate_millis: Option<u64>,
}

/// What was learned, beside what is declared. Units are those of the declared value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// What is declared.
    pub declared: u64,
    /// What is in force.
    pub value: u64,
    /// Observations it rests on; zero where nothing was learned.
    pub samples: u32,
}

/// What something was learned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// What one replica serves, thousandths of the stage's unit.
    Capacity(VariantIdx),
    /// Expected time from the creation of a pod to its first readiness, milliseconds.
    Startup(VariantIdx),
    /// Calls of a stage per request of its callers, all edges summed, thousandths.
    Calls(StageIdx),
}

/// Why a variant cannot take more replicas now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DryReason {
    /// A pod could not be scheduled.
    Unschedulable,
    /// The image does not start there (pull error, wrong architecture, crash loop).
    CannotStart,
    /// Nodes are being taken away.
    Reclaimed,
}

/// What happened since the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The declared world changed.
    World(World),
    /// Observed replicas of a variant: what the Deployment asks for and how many are Ready.
    Replicas {
        /// The variant.
        variant: VariantIdx,
        /// `spec.replicas`.
        desired: u32,
        /// Ready pods.
        ready: u32,
    },
    /// Pods of a variant that are on their way out: no longer asked for, not Ready, and still holding what they
    /// requested. Counts against the pool until a newer value. Send it before the `Replicas` it belongs to; a caller
    /// that never sends it has replicas placed where they wait for a drain to end.
    Leaving {
        /// The variant.
        variant: VariantIdx,
        /// How many.
        count: u32,
    },
    /// A pod of a variant got Ready for the first time. To be sent once for each pod; a caller that never sends it has
    /// start-up times that stay as declared.
    Started {
        /// The variant.
        variant: VariantIdx,
        /// From its creation to its first readiness, milliseconds, without the time that it waited for room.
        took_ms: u64,
        /// It was Ready before anybody looked. Then it may be among those that [`Event::Learned`] already counts, or have lost
        /// its readiness and won it back: send it after that event.
        found: bool,
    },
    /// A new reading.
    Reading {
        /// The variant.
        variant: VariantIdx,
        /// Its reading.
        reading: Reading,
    },
    /// A new reading by a signal beside the stage's own.
    Also {
        /// The variant.
        variant: VariantIdx,
        /// Index in [`Stage::also`].
        signal: u8,
        /// Its reading.
        reading: Reading,
    },
    /// A variant cannot place or start more pods.
    Dry {
        /// The variant.
        variant: VariantIdx,
        /// Why.
        reason: DryReason,
    },
    /// A plan that was made aside, see [`propose`](super::propose). It is taken only if it is better.
    Proposal(Box<Proposal>),
    /// What was learned before a restart, from the report of then. To be sent once after the [`Event::World`] that it is
    /// about, best together with it. It counts only while the same is declared and nothing else has been learned yet.
    Learned {
        /// What it is about.
        subject: Subject,
        /// What was learned.
        learned: Learned,
    },
}
