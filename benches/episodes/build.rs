//! Scenarios from numbers.

use tiercel::rebalance::world::{
    Edge, Key, Mode, OnSignalLoss, Pipeline, PipelineIdx, Pool, PoolIdx, Resources, Stage, StageIdx, Tier, Traffic,
    Variant, World,
};
use tiercel::simulate::scenario::{PipelineFacts, Scenario, Server, Signal, StageFacts};

/// A pool of so many replicas of one core.
pub(crate) fn pool(scenario: &mut Scenario, slots: u64, reliable: bool) {
    let at = scenario.world.pools.len();
    scenario.world.pools.push(Pool {
        key: Key(100 + at as u64),
        tier: Tier::Cpu,
        reliable,
        capacity: Resources {
            cpu_millis: slots * 1_000,
            memory_kib: slots << 20,
            device_millis: 0,
        },
    });
    scenario.pools.push(format!("pool{at}"));
}

pub(crate) fn pipeline(scenario: &mut Scenario, priority: u16, budget_micros: Option<u64>) {
    let at = scenario.world.pipelines.len();
    scenario.world.pipelines.push(Pipeline {
        key: Key(10_000 + at as u64),
        priority,
        budget_micros,
        power_max_milliwatts: None,
        shared: None,
        mode: Mode::Automatic,
        objective: None,
    });
    scenario.pipelines.push(PipelineFacts {
        name: format!("pipeline{at}"),
        objective_ms: None,
    });
}

/// A place where a stage may run: pool, requests per second of a replica in thousandths, cents per hour.
pub(crate) type Place = (u32, u64, u64);

/// A stage of the last pipeline, called by `after`.
pub(crate) fn stage(scenario: &mut Scenario, traffic: Traffic, after: Vec<Edge>, places: &[Place]) {
    let (at, start) = (scenario.world.stages.len(), scenario.world.variants.len() as u32);
    for &(pool, capacity_millis, cents) in places {
        scenario.world.variants.push(Variant {
            key: Key(100_000 + scenario.world.variants.len() as u64),
            stage: StageIdx(at as u32),
            pool: PoolIdx(pool),
            request: Resources {
                cpu_millis: 1_000,
                memory_kib: 1 << 20,
                device_millis: 0,
            },
            cost_micros: cents * 10_000,
            marginal_micros: cents * 10_000,
            power_milliwatts: None,
            hint_permille: 1_000,
            capacity_millis,
            concurrency: Some(4),
            startup_ms: 10_000,
            max: 1_000,
        });
        scenario.variants.push(Server {
            slots: 4,
            slowdown: 4.0,
            signal: Signal::Server,
        });
    }
    scenario.world.stages.push(Stage {
        key: Key(1_000 + at as u64),
        pipeline: PipelineIdx(scenario.world.pipelines.len() as u32 - 1),
        variants: (start, scenario.world.variants.len() as u32),
        min: 1,
        max: 1_000,
        reliable_min: 0,
        target_permille: 700,
        traffic,
        rated: true,
        sees_waiting: true,
        after,
        tolerance_permille: 100,
        up_window_ms: 0,
        down_window_ms: 60_000,
        down_percent_per_minute: 100,
        moves_per_hour: 60,
        max_surge: 2,
        signal_loss_ms: 180_000,
        on_signal_loss: OnSignalLoss::Hold,
        reading_age_ms_max: 5_000,
        also: Vec::new(),
    });
    scenario.stages.push(StageFacts {
        name: format!("stage{at}"),
        sized: false,
        drain_ms: 30_000,
    });
}

pub(crate) fn empty() -> Scenario {
    Scenario {
        world: World::default(),
        ..Scenario::default()
    }
}
