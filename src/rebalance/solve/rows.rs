//! The problem as its caller states it: rows in any order, with any content.
//!
//! Units are those of [`world`](crate::rebalance::world): money in millionths of a dollar per hour, power in milliwatts,
//! CPU in millicores, memory in KiB, devices in thousandths, capacity and demand in thousandths of the stage's unit.
//!
//! `price` is what decides: any unit, as long as it is the same for all options, moves and penalties. Callers use
//! `marginal_micros × hint_permille`, so that a hint is a factor on the price. `cost_micros` and `power_milliwatts` are
//! what is reported and held against the ceilings of groups.

use super::Traffic;
use crate::rebalance::world::Resources;

/// One joint problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Pools, referred to by index.
    pub pools: Vec<PoolRow>,
    /// Ceilings over sets of stages (pipelines, namespaces), referred to by index.
    pub groups: Vec<GroupRow>,
    /// Stages.
    pub stages: Vec<StageRow>,
}

/// One pool of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolRow {
    /// Counts towards [`StageRow::reliable_min`].
    pub reliable: bool,
    /// CPU that all stages together may request, millicores. Negative is as good as none.
    pub cpu_millis: i64,
    /// Memory, KiB.
    pub memory_kib: i64,
    /// Devices, thousandths.
    pub device_millis: i64,
}

/// A ceiling on what some stages may cost or draw together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRow {
    /// Sum of `cost_micros` over all replicas, at most.
    pub money_max_micros: Option<u64>,
    /// Sum of `power_milliwatts` over all replicas, at most.
    pub power_max_milliwatts: Option<u64>,
}

/// One stage over all the pools where it can run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageRow {
    /// What it shall serve.
    pub demand_millis: u64,
    /// Replicas over all pools, at least.
    pub min: u32,
    /// Replicas over all pools, at most. Stands above `min` if they contradict.
    pub max: u32,
    /// Replicas on reliable pools, at least.
    pub reliable_min: u32,
    /// How requests are spread over replicas. `Weighted` and `Pull` add capacities; under `Uniform` every replica
    /// serves at the pace of the slowest in use.
    pub traffic: Traffic,
    /// Price of one thousandth of demand that stays unserved.
    pub penalty: u64,
    /// Class in which it is served first where something is short; a higher one goes first. It orders the search only:
    /// what a class is worth is `penalty`.
    pub priority: u16,
    /// Stages with the same number serve the same requests one after the other: what the slowest share of one of them
    /// cannot serve is lost to all.
    pub pipeline: Option<u32>,
    /// Ceilings it counts against.
    pub groups: Vec<u32>,
    /// Where it can run; one per pool. Of several on the same pool only the first can get replicas.
    pub options: Vec<OptionRow>,
}

/// A stage on a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionRow {
    /// Index of the pool.
    pub pool: u32,
    /// What a replica requests of the pool.
    pub request: Resources,
    /// Price of a replica, for decisions.
    pub price: u64,
    /// What a replica costs, held against [`GroupRow::money_max_micros`].
    pub cost_micros: u64,
    /// What a replica draws, held against [`GroupRow::power_max_milliwatts`].
    pub power_milliwatts: u64,
    /// What a replica serves.
    pub capacity_millis: u64,
    /// Diminishing returns: from so many replicas on, each further one serves only so much (thousandths of the stage's
    /// unit). Ascending; a capacity above the one before it is cut to that.
    pub further: Vec<(u32, u64)>,
    /// Replicas there now.
    pub current: u32,
    /// Price of every replica above `current`.
    pub move_up: u64,
    /// Price of every replica below `current`; cut to `price`, as keeping a replica never pays more than it costs.
    pub move_down: u64,
    /// Replicas that stay whatever the rest says: also above `max`, above the pool's capacity and above ceilings.
    pub lower: u32,
    /// Most replicas. Below `lower` it is `lower`.
    pub upper: u32,
}

impl Default for StageRow {
    fn default() -> Self {
        Self {
            demand_millis: 0,
            min: 0,
            max: u32::MAX,
            reliable_min: 0,
            traffic: Traffic::Pull,
            penalty: 0,
            priority: 0,
            pipeline: None,
            groups: Vec::new(),
            options: Vec::new(),
        }
    }
}

impl Default for OptionRow {
    fn default() -> Self {
        Self {
            pool: 0,
            request: Resources::default(),
            price: 0,
            cost_micros: 0,
            power_milliwatts: 0,
            capacity_millis: 0,
            further: Vec::new(),
            current: 0,
            move_up: 0,
            move_down: 0,
            lower: 0,
            upper: u32::MAX,
        }
    }
}
