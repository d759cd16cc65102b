//! Small scenarios for tests.

use super::cluster::Seen;
use super::metrics::{Metrics, Second};
use super::policy::View;
use super::scenario::{PipelineFacts, Scenario, Server, Signal, StageFacts};
use crate::rebalance::world::{
    Edge, Key, Mode, OnSignalLoss, Pipeline, PipelineIdx, Pool, PoolIdx, Resources, Stage, StageIdx, Tier, Traffic,
    Variant, World,
};

fn cores(count: u64) -> Resources {
    Resources {
        cpu_millis: count * 1_000,
        memory_kib: count << 20,
        device_millis: 0,
    }
}

pub(crate) fn pool(at: u64, slots: u64) -> Pool {
    Pool {
        key: Key(100 + at),
        tier: Tier::Cpu,
        reliable: true,
        capacity: cores(slots),
    }
}

/// A replica of one core: 10 s to start, so many thousandths of a request per second, so many cents per hour.
pub(crate) fn variant(stage: u32, pool: u32, capacity_millis: u64, cents: u64) -> Variant {
    Variant {
        key: Key(1_000 + u64::from(stage) * 10 + u64::from(pool)),
        stage: StageIdx(stage),
        pool: PoolIdx(pool),
        request: cores(1),
        cost_micros: cents * 10_000,
        marginal_micros: cents * 10_000,
        power_milliwatts: None,
        hint_permille: 1_000,
        capacity_millis,
        concurrency: Some(4),
        startup_ms: 10_000,
        max: 1_000,
    }
}

pub(crate) fn stage(at: u32, variants: (u32, u32), after: Vec<Edge>) -> Stage {
    Stage {
        key: Key(300 + u64::from(at)),
        pipeline: PipelineIdx(0),
        variants,
        min: 1,
        max: 1_000,
        reliable_min: 0,
        target_permille: 700,
        traffic: Traffic::Pull,
        rated: true,
        sees_waiting: true,
        after,
        tolerance_permille: 100,
        up_window_ms: 0,
        down_window_ms: 120_000,
        down_percent_per_minute: 100,
        moves_per_hour: 60,
        max_surge: 2,
        signal_loss_ms: 180_000,
        on_signal_loss: OnSignalLoss::Hold,
        reading_age_ms_max: 5_000,
        also: Vec::new(),
    }
}

pub(crate) fn scenario(pools: Vec<Pool>, stages: Vec<Stage>, variants: Vec<Variant>) -> Scenario {
    Scenario {
        pools: (0..pools.len()).map(|at| format!("pool{at}")).collect(),
        pipelines: vec![PipelineFacts {
            name: "p".to_owned(),
            objective_ms: None,
        }],
        stages: (0..stages.len())
            .map(|at| StageFacts {
                name: format!("stage{at}"),
                sized: false,
                drain_ms: 30_000,
            })
            .collect(),
        variants: variants
            .iter()
            .map(|_| Server {
                slots: 4,
                slowdown: 4.0,
                signal: Signal::Server,
            })
            .collect(),
        world: World {
            pools,
            pipelines: vec![Pipeline {
                key: Key(200),
                priority: 500,
                budget_micros: None,
                power_max_milliwatts: None,
                shared: None,
                mode: Mode::Automatic,
                objective: None,
            }],
            stages,
            variants,
            shared: Vec::new(),
        },
        notes: Vec::new(),
    }
}

/// One stage on one pool of `slots` replicas; a replica serves 2 requests per second for 10 cents per hour.
pub(crate) fn one_stage(slots: u64) -> Scenario {
    let stages = vec![stage(0, (0, 1), Vec::new())];
    scenario(vec![pool(0, slots)], stages, vec![variant(0, 0, 2_000, 10)])
}

/// One stage on two pools: the first serves 2 requests per second for 10 cents, the second 2 for 30.
pub(crate) fn two_pools(first: u64, second: u64) -> Scenario {
    let stages = vec![stage(0, (0, 2), Vec::new())];
    let variants = vec![variant(0, 0, 2_000, 10), variant(0, 1, 2_000, 30)];
    scenario(vec![pool(0, first), pool(1, second)], stages, variants)
}

/// Three stages on two pools: the second is called twice per request of the first, the third by four in five.
pub(crate) fn chain() -> Scenario {
    let edge = |calls_millis| Edge {
        from: StageIdx(0),
        calls_millis,
    };
    let stages = vec![
        stage(0, (0, 1), Vec::new()),
        stage(1, (1, 3), vec![edge(2_000)]),
        stage(2, (3, 4), vec![edge(800)]),
    ];
    let variants = vec![
        variant(0, 0, 4_000, 10),
        variant(1, 0, 2_000, 20),
        variant(1, 1, 6_000, 90),
        variant(2, 0, 5_000, 10),
    ];
    scenario(vec![pool(0, 24), pool(1, 8)], stages, variants)
}

/// A moment that a policy is shown.
pub(super) struct Scene {
    pub(super) scenario: Scenario,
    pub(super) seen: Vec<Seen>,
    pub(super) metrics: Metrics,
    pub(super) outside: Vec<u32>,
    capacity: Vec<Resources>,
}

impl Scene {
    /// So many Ready replicas by variant; no load.
    pub(super) fn new(scenario: Scenario, ready: &[u32]) -> Self {
        let seen = ready.iter().map(|&ready| Seen {
            desired: ready,
            ready,
            ..Seen::default()
        });
        Self {
            seen: seen.collect(),
            metrics: Metrics::new(scenario.variants.len()),
            outside: vec![0; scenario.stages.len()],
            capacity: scenario.world.pools.iter().map(|pool| pool.capacity).collect(),
            scenario,
        }
    }

    /// So many replicas by variant, all Ready.
    pub(super) fn ask(&mut self, counts: &[u32]) {
        for (seen, &count) in self.seen.iter_mut().zip(counts) {
            (seen.desired, seen.ready) = (count, count);
        }
    }

    /// So many seconds with so many calls in every slot of the variant and so many waiting.
    pub(super) fn load(&mut self, variant: usize, seconds: usize, running: f64, waiting: f64) {
        for _ in 0..seconds {
            let second = Second {
                ready: self.seen[variant].ready,
                running,
                waiting,
                running_now: running,
                waiting_now: waiting,
                arrivals: 0.0,
            };
            self.metrics.push(variant, second);
        }
    }

    pub(super) fn view(&self, now_ms: u64) -> View<'_> {
        View {
            scenario: &self.scenario,
            now_ms,
            seen: &self.seen,
            started: &[],
            metrics: &self.metrics,
            outside: &self.outside,
            capacity: &self.capacity,
        }
    }
}
