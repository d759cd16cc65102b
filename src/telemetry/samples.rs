//! What controllers tell of an object at a time: closed words, names and whole numbers. What is unknown is absent, not zero.

use std::sync::Arc;

/// A word of a closed list.
pub(super) type Word = &'static str;

/// State of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineSample {
    /// Of all replicas asked for, millionths of a dollar; absent while a price is unknown.
    pub cost_per_hour_micros: Option<u64>,
    /// Per thousand requests that arrive now, millionths of a dollar; absent while their rate is unknown or zero.
    pub cost_per_thousand_micros: Option<u64>,
    /// The declared ceiling per hour, millionths of a dollar.
    pub budget_micros: Option<u64>,
    /// Declared ceiling on power.
    pub power_max_milliwatts: Option<u64>,
    /// Ceiling on the cost of all pipelines of its namespace together.
    pub namespace_budget_micros: Option<u64>,
    /// Ceiling on their power.
    pub namespace_power_max_milliwatts: Option<u64>,
    /// Of all replicas asked for; absent unless every pool in use declares its power.
    pub power_milliwatts: Option<u64>,
    /// Its stages.
    pub stages: Vec<StageSample>,
}

/// State of a stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageSample {
    /// Name within the pipeline.
    pub stage: Arc<str>,
    /// Thousandths of the stage's unit; absent while no signal has been seen.
    pub demand_millis: Option<u64>,
    /// Part of it that the plan leaves unserved, thousandths.
    pub unserved_millis: Option<u64>,
    /// Age of the newest reading, milliseconds; absent if there is none.
    pub signal_age_ms: Option<u64>,
    /// Signals are fresh enough to shrink on.
    pub signals_fresh: Option<bool>,
    /// Some of the plan is below the tier that the hint prefers.
    pub below_preferred_tier: Option<bool>,
    /// What shaped the plan.
    pub reason: Option<Word>,
    /// What holds a wanted change back now.
    pub hold: Option<Word>,
    /// Of the least replicas it may have, where they are cheapest, millionths of a dollar; absent where no pool may be used.
    pub floor_cost_per_hour_micros: Option<u64>,
    /// The stage on each of its pools.
    pub variants: Vec<VariantSample>,
}

/// State of a stage on a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VariantSample {
    /// Name of the pool.
    pub pool: Arc<str>,
    /// `CPU` or `Accelerator`.
    pub tier: Word,
    /// Of Ready replicas, thousandths of the stage's unit.
    pub capacity_millis: u64,
    /// Of the replicas asked for, millionths of a dollar.
    pub cost_per_hour_micros: u64,
    /// Of the replicas planned, millionths of a dollar; absent while there is no plan.
    pub planned_cost_per_hour_micros: Option<u64>,
    /// Of the replicas asked for; absent unless the pool declares its power.
    pub power_milliwatts: Option<u64>,
    /// Asked for.
    pub replicas: u32,
    /// Ready to serve.
    pub ready_replicas: u32,
    /// The pool does not deliver replicas to this stage at the moment.
    pub dry: bool,
}

/// State of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSample {
    /// `CPU` or `Accelerator`.
    pub tier: Word,
    /// Of a node, millionths of a dollar; absent if unknown.
    pub price_per_hour_micros: Option<u64>,
    /// What one more node would save, millionths of a dollar; absent while the pool is not short.
    pub shadow_price_per_hour_micros: Option<u64>,
    /// Nodes that match.
    pub nodes: u32,
    /// Nodes that match and can take replicas.
    pub usable_nodes: u32,
    /// Placeholder pods of its warm buffer: wanted, and those that hold room; absent while none is kept.
    pub placeholders: Option<(u32, u32)>,
    /// By resource: `cpu`, `memory`, `nvidia.com/gpu`.
    pub resources: Vec<ResourceSample>,
    /// Condition types that are true or false; what is unknown is left out.
    pub conditions: Vec<(Word, bool)>,
}

/// One resource of a pool, thousandths of its base unit (cores, bytes, devices).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceSample {
    /// Name of the resource.
    pub resource: String,
    /// What pods of the pipelines may use.
    pub capacity_millis: u64,
    /// What they have asked for.
    pub used_millis: u64,
}
