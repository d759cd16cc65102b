//! Tiny worlds as text, for tests. One entity per line, indentation as one likes:
//!
//! ```text
//! pipe rag priority 700 budget 40
//! pool gpu 8 spot
//! stage gen min 1 max 20 uniform
//!   gpu cap 4 cost 10 has 2/3 at 960
//! ```
//!
//! A pool has so many slots, a replica takes one (`slots` for more). `has ready/desired`, `at` utilization in permille;
//! `at ?` is a variant without a reading. `shared budget 40 watts 900` are ceilings, by their number those of pipelines with
//! `shares 0`. Capacities are whole units, costs whole dollars per hour, power whole watts.
#![allow(clippy::cast_possible_truncation, reason = "small numbers by construction")]

use super::decision::Decision;
use super::world::{
    Ceilings, Edge, Event, Key, Mode, Objective, OnSignalLoss, Pipeline, PipelineIdx, Pool, PoolIdx, Reading,
    Resources, Stage, StageIdx, Tier, Traffic, Variant, VariantIdx, World,
};

/// A parsed text.
#[derive(Clone, Debug, Default)]
pub(super) struct Fixture {
    pub(super) world: World,
    pub(super) replicas: Vec<(u32, u32)>,
    pub(super) utilization: Vec<Option<u32>>,
    pools: Vec<String>,
    stages: Vec<String>,
}

impl Fixture {
    pub(super) fn parse(text: &str) -> Self {
        let mut fixture = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                ["shared", rest @ ..] => fixture.shared(rest),
                ["pipe", _name, rest @ ..] => fixture.pipe(rest),
                ["pool", name, slots, rest @ ..] => fixture.pool(name, slots.parse().unwrap(), rest),
                ["stage", name, rest @ ..] => fixture.stage(name, rest),
                [pool, rest @ ..] => fixture.variant(pool, rest),
            }
        }
        fixture
    }

    fn shared(&mut self, words: &[&str]) {
        let mut shared = Ceilings::default();
        for pair in words.chunks(2) {
            match pair {
                ["budget", value] => shared.budget_micros = Some(value.parse::<u64>().unwrap() * 1_000_000),
                ["watts", value] => shared.power_max_milliwatts = Some(value.parse::<u64>().unwrap() * 1_000),
                other => panic!("shared: {other:?}"),
            }
        }
        self.world.shared.push(shared);
    }

    fn pipe(&mut self, words: &[&str]) {
        let key = Key(1_000 + self.world.pipelines.len() as u64);
        let mut pipe = Pipeline {
            key,
            priority: 500,
            budget_micros: None,
            power_max_milliwatts: None,
            shared: None,
            mode: Mode::Automatic,
            objective: None,
        };
        for pair in words.chunks(2) {
            match pair {
                ["priority", value] => pipe.priority = value.parse().unwrap(),
                ["budget", value] => pipe.budget_micros = Some(value.parse::<u64>().unwrap() * 1_000_000),
                ["watts", value] => pipe.power_max_milliwatts = Some(value.parse::<u64>().unwrap() * 1_000),
                ["shares", value] => pipe.shared = Some(value.parse().unwrap()),
                ["objective", value] => {
                    pipe.objective = Some(Objective {
                        latency_ms: value.parse().unwrap(),
                        percentile: 95,
                    });
                }
                ["mode", "advisory"] => pipe.mode = Mode::Advisory,
                ["mode", "paused"] => pipe.mode = Mode::Paused,
                ["mode", "no-scale-in"] => pipe.mode = Mode::NoScaleIn,
                ["mode", "no-scale-out"] => pipe.mode = Mode::NoScaleOut,
                other => panic!("pipe: {other:?}"),
            }
        }
        self.world.pipelines.push(pipe);
    }

    fn pool(&mut self, name: &str, slots: u64, words: &[&str]) {
        self.world.pools.push(Pool {
            key: Key(2_000 + self.pools.len() as u64),
            tier: if words.contains(&"cpu") {
                Tier::Cpu
            } else {
                Tier::Accelerator
            },
            reliable: !words.contains(&"spot"),
            capacity: Resources {
                cpu_millis: slots * 1_000,
                memory_kib: slots << 20,
                device_millis: slots * 1_000,
            },
        });
        self.pools.push(name.to_owned());
    }

    fn stage(&mut self, name: &str, words: &[&str]) {
        if self.world.pipelines.is_empty() {
            self.pipe(&[]);
        }
        let start = self.world.variants.len() as u32;
        let mut stage = Stage {
            key: Key(3_000 + self.stages.len() as u64),
            pipeline: PipelineIdx(self.world.pipelines.len() as u32 - 1),
            variants: (start, start),
            min: 1,
            max: 1_000,
            reliable_min: 0,
            target_permille: 1_000,
            traffic: Traffic::Weighted,
            rated: false,
            sees_waiting: false,
            after: Vec::new(),
            tolerance_permille: 100,
            up_window_ms: 0,
            down_window_ms: 0,
            down_percent_per_minute: 100,
            moves_per_hour: 100,
            max_surge: 2,
            signal_loss_ms: 60_000,
            on_signal_loss: OnSignalLoss::Hold,
            reading_age_ms_max: 10_000,
            also: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let mut value = || words.next().unwrap().parse::<u32>().unwrap();
            match word {
                "uniform" => stage.traffic = Traffic::Uniform,
                "rated" => stage.rated = true,
                "waiting" => stage.sees_waiting = true,
                "min" => stage.min = value(),
                "max" => stage.max = value(),
                "reliable" => stage.reliable_min = value(),
                "target" => stage.target_permille = value(),
                "tolerance" => stage.tolerance_permille = value(),
                "up" => stage.up_window_ms = u64::from(value()),
                "down" => stage.down_window_ms = u64::from(value()),
                "percent" => stage.down_percent_per_minute = value(),
                "moves" => stage.moves_per_hour = value(),
                "surge" => stage.max_surge = value(),
                "loss" => stage.signal_loss_ms = u64::from(value()),
                "static" => stage.on_signal_loss = OnSignalLoss::Static(value()),
                "current-if-higher" => stage.on_signal_loss = OnSignalLoss::CurrentIfHigher,
                "after" => {
                    let from = words.next().unwrap();
                    let from = self.stages.iter().position(|name| name == from).unwrap();
                    let calls: u64 = words.next().unwrap().parse().unwrap();
                    stage.after.push(Edge {
                        from: StageIdx(from as u32),
                        calls_millis: calls * 1_000,
                    });
                }
                other => panic!("stage: {other}"),
            }
        }
        self.world.stages.push(stage);
        self.stages.push(name.to_owned());
    }

    fn variant(&mut self, pool: &str, words: &[&str]) {
        let pool = self
            .pools
            .iter()
            .position(|name| name == pool)
            .unwrap_or_else(|| panic!("no pool {pool}"));
        let stage = self.world.stages.len() as u32 - 1;
        let slot = Resources {
            cpu_millis: 1_000,
            memory_kib: 1 << 20,
            device_millis: 1_000,
        };
        let mut variant = Variant {
            key: Key(4_000 + self.world.variants.len() as u64),
            stage: StageIdx(stage),
            pool: PoolIdx(pool as u32),
            request: slot,
            cost_micros: 1_000_000,
            marginal_micros: 1_000_000,
            power_milliwatts: None,
            hint_permille: 1_000,
            capacity_millis: 1_000,
            concurrency: None,
            startup_ms: 20_000,
            max: 1_000,
        };
        let (mut replicas, mut utilization) = ((0, 0), None);
        for pair in words.chunks(2) {
            let number = || pair[1].parse::<u64>().unwrap();
            match pair[0] {
                "cap" => variant.capacity_millis = number() * 1_000,
                "cost" => {
                    variant.cost_micros = number() * 1_000_000;
                    variant.marginal_micros = variant.cost_micros;
                }
                "watts" => variant.power_milliwatts = Some(number() * 1_000),
                "marginal" => variant.marginal_micros = number() * 1_000_000,
                "hint" => variant.hint_permille = number() as u32,
                "slots" => {
                    let slots = number();
                    variant.request = Resources {
                        cpu_millis: slots * 1_000,
                        memory_kib: slots << 20,
                        device_millis: slots * 1_000,
                    };
                }
                "max" => variant.max = number() as u32,
                "startup" => variant.startup_ms = number(),
                "concurrency" => variant.concurrency = Some(number() as u32),
                "has" => {
                    let (ready, desired) = pair[1].split_once('/').unwrap();
                    replicas = (desired.parse().unwrap(), ready.parse().unwrap());
                }
                "at" => utilization = pair[1].parse().ok(),
                other => panic!("variant: {other}"),
            }
        }
        self.world.variants.push(variant);
        self.world.stages.last_mut().unwrap().variants.1 += 1;
        self.replicas.push(replicas);
        self.utilization.push(utilization);
    }

    /// The world, what runs, and a reading of every variant that has one.
    pub(super) fn events(&self, now_ms: u64) -> Vec<Event> {
        let mut events = vec![Event::World(self.world.clone())];
        for (at, &(desired, ready)) in (0..).zip(&self.replicas) {
            events.push(Event::Replicas {
                variant: VariantIdx(at),
                desired,
                ready,
            });
        }
        events.extend(self.readings(now_ms));
        events
    }

    pub(super) fn readings(&self, now_ms: u64) -> Vec<Event> {
        let seen = (0..).zip(&self.replicas).zip(&self.utilization);
        seen.filter_map(|((at, &(_, ready)), used)| Some((at, ready, (*used)?)))
            .filter(|&(_, ready, _)| ready > 0)
            .map(|(at, ready, used)| Event::Reading {
                variant: VariantIdx(at),
                reading: busy(now_ms, ready, used),
            })
            .collect()
    }

    /// Decisions as `gpu 2->3, arm 1->0`, or `-` for none.
    pub(super) fn render(&self, decisions: &[Decision]) -> String {
        let moves = decisions.iter().flat_map(|decision| &decision.moves);
        let lines = moves.map(|one| {
            let variant = &self.world.variants[one.variant.0 as usize];
            let pool = &self.pools[variant.pool.0 as usize];
            let stage = &self.stages[variant.stage.0 as usize];
            let name = if self.stages.len() > 1 {
                format!("{stage}/{pool}")
            } else {
                pool.clone()
            };
            format!("{name} {}->{}", one.from, one.to)
        });
        let lines: Vec<String> = lines.collect();
        if lines.is_empty() {
            "-".to_owned()
        } else {
            lines.join(", ")
        }
    }
}

/// Cases of a property: `PROPTEST_CASES`, or so many.
pub(super) fn cases(count: u32) -> proptest::test_runner::Config {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    let mut config = proptest::test_runner::Config {
        cases: asked.unwrap_or(count),
        ..proptest::test_runner::Config::default()
    };
    // What a seeded bug fails on is nothing to remember.
    if cfg!(feature = "seeded-bugs") {
        config.failure_persistence = None;
    }
    config
}

/// A complete reading by utilization.
pub(super) fn busy(now_ms: u64, ready: u32, utilization_permille: u32) -> Reading {
    Reading {
        taken_ms: now_ms,
        sampled: ready,
        expected: ready,
        running_millis: None,
        waiting_millis: None,
        utilization_permille: Some(utilization_permille),
        rate_millis: None,
    }
}
