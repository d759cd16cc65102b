//! What the core answers: decisions to write, each with its reason, and a report per stage for everything people read.

use super::world::{DryReason, Learned, StageIdx, VariantIdx};

/// One change of `spec.replicas`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which Deployment.
    pub variant: VariantIdx,
    /// What it asks for now.
    pub from: u32,
    /// What it shall ask for.
    pub to: u32,
}

/// What set a decision off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trigger {
    /// Demand rose.
    DemandRose,
    /// Demand fell.
    DemandFell,
    /// The declared world changed: spec, prices, bounds.
    SpecChanged,
    /// A pool lost nodes, or a variant could not place or start pods.
    CapacityLost,
    /// Capacity came back, became cheaper, or is enough now for less demand.
    CapacityGained,
    /// A replica got Ready that a later step of a move had waited for.
    ReplicaReady,
    /// Signals stayed away for too long and the declared fallback applies.
    SignalsLost,
    /// Someone else changed the replicas.
    Drift,
    /// What a replica serves was learned to be something else.
    Learned,
}

/// The constraint that shaped a decision most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The cheapest pools that fit.
    Cheapest,
    /// Preferred pools have no room: no capacity left.
    PoolFull,
    /// Preferred pools are dry.
    PoolDry(DryReason),
    /// The budget leaves no more.
    BudgetExhausted,
    /// Bounds of the stage (`min`, `max`, `reliableMin`).
    AtBounds,
    /// Nothing may serve it: no pool left at all.
    NoCapacity,
    /// Second half of a shift: the target is Ready.
    MakeBeforeBreak,
    /// Stages wait for each other's room: this one loses least by giving up replicas before their replacement is Ready.
    GivesWay,
    /// One replica goes back to a pool that was dry.
    Probe,
    /// The declared fallback for lost signals.
    Fallback,
}

/// Why a wanted change does not happen now. The first guard that fires is the one people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoldReason {
    /// No fresh reading allows it.
    MetricsStale,
    /// The pipeline is paused, or this direction is.
    Paused,
    /// Advisory mode: reported, not written.
    Advisory,
    /// It would cost more than the budget.
    BudgetExhausted,
    /// The pool has no room.
    NoCapacity,
    /// The stabilization window has not passed.
    CoolingDown,
    /// The hourly allowance of moves is used up.
    MovesExhausted,
    /// The change is inside the tolerance.
    WithinTolerance,
    /// Waiting for new replicas to be Ready before old ones go.
    AwaitingReady,
    /// Floors (`min`, `reliableMin`) forbid it.
    AtFloor,
    /// The plan failed its own check. A defect: reported, nothing written.
    PlanRejected,
}

/// Why a pool is not used, or not used more, by a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotUsed {
    /// Others are cheaper for this stage; by how much per hour and unit of capacity, millionths of a dollar. 0 where a unit
    /// costs no more here, and a whole replica is more than is needed.
    Dearer(u64),
    /// Full: no room for one more replica.
    Full,
    /// Dry until this time.
    DryUntil(u64, DryReason),
    /// One more replica exceeds the budget.
    OverBudget,
    /// One more replica exceeds the power ceiling, or nobody declared what it draws.
    OverPower,
    /// It would take more than the pipelines that share a ceiling may take together.
    OverShared,
    /// The stage's bounds are reached.
    AtBounds,
    /// The hint forbids it or the variant takes no replicas.
    Excluded,
}

/// What an end-to-end latency objective comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// What the stages were asked for keeps it by the model: estimated latency, milliseconds.
    Kept(u64),
    /// All replicas that bounds and pools allow would take so many milliseconds. Stages are asked for what demand alone
    /// asks for.
    OutOfReach(u64),
    /// A stage does not say what the model needs: nothing is added for the objective.
    Undeclared(StageIdx, Lack),
    /// The demand of a stage is not known: what was added before stays.
    Unseen(StageIdx),
}

/// What a stage must declare before a latency objective can be split over the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Requests per second that a replica serves.
    Rate,
    /// Requests that a replica handles at once.
    Concurrency,
}

/// One decision about one stage: the moves to write now, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Serial number within this state.
    pub id: u64,
    /// When, in the core's time.
    pub at_ms: u64,
    /// The stage.
    pub stage: StageIdx,
    /// What set it off.
    pub trigger: Trigger,
    /// What shaped it.
    pub reason: Reason,
    /// Writes for now, in order. Further steps follow from later observations.
    pub moves: Vec<Move>,
    /// Demand it answers, thousandths of the stage's unit.
    pub demand_millis: u64,
    /// Cost of the pipeline per hour before and after the moves, millionths.
    pub cost_before_micros: u64,
    /// See `cost_before_micros`.
    pub cost_after_micros: u64,
    /// Advisory: record it, do not write it.
    pub advisory: bool,
    /// The stage's other pools, and why they were not chosen.
    pub rejected: Vec<(VariantIdx, NotUsed)>,
}

/// Which need decided how many replicas a stage is asked to have: the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Driver {
    /// Requests per second that arrive.
    Rate,
    /// How full replicas are.
    Utilization,
    /// Requests being handled, against declared concurrency.
    Running,
    /// The same, most of which wait.
    Waiting,
    /// Replicas are full, and more may wait than is seen.
    Saturation,
    /// What the callers send.
    Callers,
    /// A signal beside the stage's own: its index in [`Stage::also`](super::world::Stage::also).
    Also(u8),
    /// The pipeline's latency objective asks for headroom.
    Latency,
    /// More was needed within the scale-down window.
    Recent,
    /// Declared floors ask for more than demand does.
    Floor,
    /// The declared fallback for lost signals.
    Fallback,
}

/// What was learned of a variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VariantLearned {
    /// What one replica serves, thousandths of the stage's unit.
    pub capacity: Learned,
    /// Expected time from a larger `spec.replicas` to Ready, milliseconds.
    pub startup: Learned,
}

/// What is known about a stage after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageReport {
    /// Demand, thousandths of the stage's unit; absent while no signal has ever been seen.
    pub demand_millis: Option<u64>,
    /// Capacity of Ready replicas and of those expected within their start-up time.
    pub ready_capacity_millis: u64,
    /// See `ready_capacity_millis`.
    pub pending_capacity_millis: u64,
    /// Wanted replicas per variant of the stage, in variant order: where the moves lead.
    pub planned: Vec<u32>,
    /// Demand that the plan leaves unserved.
    pub unserved_millis: u64,
    /// Why `planned` is not yet (or not now) what runs.
    pub hold: Option<HoldReason>,
    /// What shaped the plan.
    pub reason: Reason,
    /// When the newest reading was taken; absent if none.
    pub signal_taken_ms: Option<u64>,
    /// Signals are fresh enough to shrink on.
    pub signals_fresh: bool,
    /// They are, but more Ready replicas than [`Stage::tolerance_permille`](super::world::Stage::tolerance_permille) covers
    /// have been no part of them for [`Stage::signal_loss_ms`](super::world::Stage::signal_loss_ms).
    pub signals_partial: bool,
    /// Signals that should speak and do not: bit 0 for the stage's own, then those of [`Stage::also`](super::world::Stage::also).
    pub silent: u16,
    /// Some planned replicas are below the stage's preferred tier.
    pub below_hint: bool,
    /// Why each variant is not used more, in variant order; `None` for the ones that carry the plan.
    pub not_used: Vec<Option<NotUsed>>,
    /// Which need was the largest; absent while nothing is needed or known.
    pub driver: Option<Driver>,
    /// What was learned of each variant, in variant order.
    pub learned: Vec<VariantLearned>,
    /// Calls per request of its callers, all edges summed, thousandths; absent without callers whose rates count.
    pub calls: Option<Learned>,
}
