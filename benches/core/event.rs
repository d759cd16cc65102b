//! B2: one event.
//!
//! The whole path is timed, event by event: new demand, oracle, room, counts, certificate. The clock's own 20 to 40 ns are
//! in every figure and stated beside them. Three states of the caches, in turns:
//!
//! * hot: 64 stages over and over;
//! * as it comes: any of the stages; the instance is several times the caches;
//! * cold: as it comes, and between any two events a buffer of 96 MiB is read, timer stopped.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};
use tiercel::rebalance::solve::event::{Change, certificate, drain, event, ready};
use tiercel::rebalance::solve::generate::{Dice, Fleet, fleet};
use tiercel::rebalance::solve::rows::Rows;
use tiercel::rebalance::solve::{Instance, Memory, Settings, resolve, solve};

use crate::result::{median, quantile, spread};

const SEED: u64 = 1;
const ROUNDS: usize = 7;
const HOT: u64 = 64;
const COLD_BYTES: usize = 96 << 20;
/// Stages that a tick looks at again.
const TICK: usize = 8;

pub(crate) fn run() -> Value {
    let clock: Vec<f64> = (0..10_001).map(|_| nanos(|| ())).collect();
    println!("the clock alone: {:.0} ns (in every figure)", median(&clock));
    println!("| fleet | demands | caches | events | p50 ns | p99 ns | mean ns | moved | allocations |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let stages = crate::stages();
    let mut all = Vec::new();
    for scarce in [true, false] {
        all.push(world(stages, scarce));
    }
    json!({ "seed": SEED, "stages": stages, "pools": 8, "clock_ns": median(&clock), "rounds": ROUNDS, "worlds": all })
}

fn nanos(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64
}

fn settings() -> Settings {
    Settings {
        tries: 0,
        ..Settings::default()
    }
}

/// A fleet with its plan, ready for events.
struct World {
    rows: Rows,
    instance: Instance,
    memory: Memory,
    /// As they are now.
    demands: Vec<u64>,
    dice: Dice,
    buffer: Vec<u64>,
    drains: Vec<f64>,
}

fn world(stages: usize, scarce: bool) -> Value {
    let rows = fleet(&Fleet {
        stages,
        pools: 8,
        scarce,
        running: true,
        seed: SEED,
    });
    let instance = Instance::new(&rows);
    let mut memory = Memory::default();
    solve(&instance, &mut memory, &settings(), &mut || true);
    let before = certificate(&instance, &memory);
    let mut world = World {
        demands: rows.stages.iter().map(|stage| stage.demand_millis).collect(),
        rows,
        instance,
        memory,
        dice: Dice::new(SEED),
        buffer: vec![1; COLD_BYTES / 8],
        drains: Vec::new(),
    };
    let mut known = false;
    let ready_ms = nanos(|| known = ready(&world.instance, &mut world.memory)) / 1e6;
    assert!(known, "there is a solve");
    let runs: Vec<Value> = [2, 20]
        .into_iter()
        .flat_map(|swing| world.runs(stages, scarce, swing))
        .collect();
    let drift = world.drift();
    let again = world.again();
    let drains = &world.drains;
    println!(
        "{}: ready for events in {ready_ms:.0} ms; {} ticks of {TICK}: p50 {:.0} ns, p99 {:.0} ns; gap {:?} -> {:?} ppm after \
         all events, cost {:.4} of a fresh solve; resolve for one stage: {again:.0} ns",
        if scarce { "scarce" } else { "ample" },
        drains.len(),
        median(drains),
        quantile(drains, 990),
        before.gap_ppm,
        drift["gap_ppm"].as_u64(),
        drift["cost_to_fresh"].as_f64().unwrap_or(f64::NAN),
    );
    json!({
        "scarce": scarce, "ready_ms": ready_ms, "runs": runs,
        "tick": { "stages": TICK, "ticks": drains.len(), "p50_ns": median(drains), "p99_ns": quantile(drains, 990) },
        "gap_ppm_before": before.gap_ppm, "after_all_events": drift, "resolve_one_stage_ns": again,
    })
}

impl World {
    /// All states of the caches in turns, demands up to `swing` per cent around the usual.
    fn runs(&mut self, stages: usize, scarce: bool, swing: u64) -> Vec<Value> {
        let all = stages as u64;
        let runs = [
            ("hot", 20_000, HOT.min(all), false),
            ("as it comes", 20_000, all, false),
            ("cold", 300, all, true),
        ];
        let mut samples: [[Vec<f64>; 3]; 3] = <[[Vec<f64>; 3]; 3]>::default();
        let mut moved = [0_u32; 3];
        for _ in 0..ROUNDS {
            for ((&(_, events, among, flush), samples), moved) in runs.iter().zip(&mut samples).zip(&mut moved) {
                let times: Vec<f64> = (0..events).map(|_| self.one(among, swing, flush, moved)).collect();
                samples[0].push(median(&times));
                samples[1].push(quantile(&times, 990));
                samples[2].push(times.iter().sum::<f64>() / times.len() as f64);
                self.ticks();
            }
        }
        let allocations = allocation_counter::measure(|| {
            for _ in 0..20_000 {
                let (at, demand) = self.draw(all, swing);
                event(&mut self.instance, &mut self.memory, at, demand);
                drain(&self.instance, &mut self.memory, TICK, &mut |_| ());
            }
        });
        let figures = runs.iter().zip(&samples).zip(moved);
        let figures = figures.map(|((&(name, events, _, _), samples), moved)| {
            println!(
                "| {} | ±{swing} % | {name} | {} | {:.0} | {:.0} | {:.0} | {:.0} % | {} |",
                if scarce { "scarce" } else { "ample" },
                events * ROUNDS,
                median(&samples[0]),
                median(&samples[1]),
                median(&samples[2]),
                100.0 * f64::from(moved) / (events * ROUNDS) as f64,
                allocations.count_total,
            );
            json!({
                "demands_change_percent": swing,
                "caches": name,
                "events_per_round": events,
                "p50_ns": spread(&samples[0]),
                "p99_ns": spread(&samples[1]),
                "mean_ns": spread(&samples[2]),
                "moved": moved,
                "allocations_in_20000_events_and_ticks": allocations.count_total,
            })
        });
        figures.collect()
    }

    fn draw(&mut self, among: u64, swing: u64) -> (usize, u64) {
        let at = usize::try_from(self.dice.between(0, among - 1)).expect("an index");
        let usual = self.rows.stages[at].demand_millis;
        self.demands[at] = usual * self.dice.between(100 - swing, 100 + swing) / 100;
        (at, self.demands[at])
    }

    /// Nanoseconds of one event.
    fn one(&mut self, among: u64, swing: u64, flush: bool, moved: &mut u32) -> f64 {
        let (at, demand) = self.draw(among, swing);
        if flush {
            let lines = self.buffer.iter().step_by(8);
            black_box(lines.fold(0_u64, |sum, word| sum.wrapping_add(*word)));
        }
        let mut change = Change::default();
        let time = nanos(|| change = event(&mut self.instance, &mut self.memory, at, demand));
        *moved += u32::from(change.moved);
        time
    }

    /// What events left to be looked at, in ticks of a fixed size.
    fn ticks(&mut self) {
        loop {
            let mut looked = 0;
            let time = nanos(|| looked = drain(&self.instance, &mut self.memory, TICK, &mut |_| ()));
            if looked > 0 {
                self.drains.push(time);
            }
            if looked < TICK {
                return;
            }
        }
    }

    /// What all events left, beside a solve from nothing.
    fn drift(&self) -> Value {
        let mut rows = self.rows.clone();
        for (row, &demand) in rows.stages.iter_mut().zip(&self.demands) {
            row.demand_millis = demand;
        }
        let fresh = solve(&Instance::new(&rows), &mut Memory::default(), &settings(), &mut || true);
        let now = certificate(&self.instance, &self.memory);
        assert!(now.bound <= fresh.cost, "a bound above a plan");
        let ratio = now.cost as f64 / fresh.cost as f64;
        json!({ "gap_ppm": now.gap_ppm, "fresh_gap_ppm": fresh.gap_ppm, "cost_to_fresh": ratio })
    }

    /// The other way to plan one stage again: `resolve`, which looks for improvements and publishes everything.
    fn again(&mut self) -> f64 {
        let times: Vec<f64> = (0..9)
            .map(|_| {
                let (at, demand) = self.draw(self.instance.stages() as u64, 20);
                self.instance.set_demand(at, demand);
                nanos(|| {
                    resolve(&self.instance, &mut self.memory, &[at], &settings(), &mut || false);
                })
            })
            .collect();
        median(&times)
    }
}
