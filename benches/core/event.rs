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
use tiercel::rebalance::solve::event::{certificate, drain, event, ready};
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

#[derive(Clone, Copy)]
struct Run {
    name: &'static str,
    events: usize,
    among: u64,
    flush: bool,
}

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

fn world(stages: usize, scarce: bool) -> Value {
    let rows = fleet(&Fleet {
        stages,
        pools: 8,
        scarce,
        running: true,
        seed: SEED,
    });
    let mut instance = Instance::new(&rows);
    let mut memory = Memory::default();
    solve(&instance, &mut memory, &settings(), &mut || true);
    let start = Instant::now();
    assert!(ready(&instance, &mut memory));
    let ready_ms = start.elapsed().as_secs_f64() * 1e3;
    let before = certificate(&instance, &memory);
    let mut dice = Dice::new(SEED);
    let buffer = vec![1_u64; COLD_BYTES / 8];
    let runs = [
        Run {
            name: "hot",
            events: 20_000,
            among: HOT,
            flush: false,
        },
        Run {
            name: "as it comes",
            events: 20_000,
            among: stages as u64,
            flush: false,
        },
        Run {
            name: "cold",
            events: 300,
            among: stages as u64,
            flush: true,
        },
    ];
    let mut figures = Vec::new();
    let mut demands = rows
        .stages
        .iter()
        .map(|stage| stage.demand_millis)
        .collect::<Vec<u64>>();
    let mut drains = Vec::new();
    for swing in [2, 20] {
        let mut samples: Vec<[Vec<f64>; 3]> = runs.iter().map(|_| Default::default()).collect();
        let mut moved = [0_u32; 3];
        for _ in 0..ROUNDS {
            for ((run, samples), moved) in runs.iter().zip(&mut samples).zip(&mut moved) {
                let mut times = Vec::with_capacity(run.events);
                for _ in 0..run.events {
                    let at = usize::try_from(dice.between(0, run.among - 1)).expect("an index");
                    let usual = rows.stages[at].demand_millis;
                    demands[at] = usual * dice.between(100 - swing, 100 + swing) / 100;
                    if run.flush {
                        black_box(
                            buffer
                                .iter()
                                .step_by(8)
                                .fold(0_u64, |sum, word| sum.wrapping_add(*word)),
                        );
                    }
                    let mut change = Default::default();
                    times.push(nanos(|| change = event(&mut instance, &mut memory, at, demands[at])));
                    *moved += u32::from(change.moved);
                }
                samples[0].push(median(&times));
                samples[1].push(quantile(&times, 990));
                samples[2].push(times.iter().sum::<f64>() / times.len() as f64);
                // What events left to be looked at, in ticks of a fixed size.
                loop {
                    let mut looked = 0;
                    let time = nanos(|| looked = drain(&instance, &mut memory, TICK, &mut |_| ()));
                    if looked > 0 {
                        drains.push(time);
                    }
                    if looked < TICK || drains.len() > 20_000 {
                        break;
                    }
                }
            }
        }
        let mut counted = Dice::new(SEED + swing);
        let allocations = allocation_counter::measure(|| {
            for _ in 0..20_000 {
                let at = usize::try_from(counted.between(0, stages as u64 - 1)).expect("an index");
                demands[at] = rows.stages[at].demand_millis * counted.between(100 - swing, 100 + swing) / 100;
                event(&mut instance, &mut memory, at, demands[at]);
                drain(&instance, &mut memory, TICK, &mut |_| ());
            }
        });
        for ((run, samples), moved) in runs.iter().zip(&samples).zip(moved) {
            let events = run.events * ROUNDS;
            println!(
                "| {} | ±{swing} % | {} | {events} | {:.0} | {:.0} | {:.0} | {:.0} % | {} |",
                if scarce { "scarce" } else { "ample" },
                run.name,
                median(&samples[0]),
                median(&samples[1]),
                median(&samples[2]),
                100.0 * f64::from(moved) / events as f64,
                allocations.count_total,
            );
            figures.push(json!({
                "demands_change_percent": swing,
                "caches": run.name,
                "events_per_round": run.events,
                "p50_ns": spread(&samples[0]),
                "p99_ns": spread(&samples[1]),
                "mean_ns": spread(&samples[2]),
                "moved": moved,
                "allocations_in_20000_events": allocations.count_total,
            }));
        }
    }
    let drift = drift(rows, &demands, &instance, &memory);
    let again = again(&mut instance, &mut memory);
    println!(
        "ready for events: {ready_ms:.0} ms; a tick of {TICK}: p50 {:.0} ns, p99 {:.0} ns; gap {:?} -> {:?} ppm after all \
         events, cost {:.4} of a fresh solve; resolve for one stage: {:.0} ns",
        median(&drains),
        quantile(&drains, 990),
        before.gap_ppm,
        drift["gap_ppm"].as_u64(),
        drift["cost_to_fresh"].as_f64().unwrap_or(f64::NAN),
        again,
    );
    json!({
        "scarce": scarce, "ready_ms": ready_ms, "runs": figures,
        "tick": { "stages": TICK, "ticks": drains.len(), "p50_ns": median(&drains), "p99_ns": quantile(&drains, 990) },
        "gap_ppm_before": before.gap_ppm, "after_all_events": drift, "resolve_one_stage_ns": again,
    })
}

/// What all events left, beside a solve from nothing.
fn drift(mut rows: Rows, demands: &[u64], instance: &Instance, memory: &Memory) -> Value {
    for (row, &demand) in rows.stages.iter_mut().zip(demands) {
        row.demand_millis = demand;
    }
    let fresh = solve(&Instance::new(&rows), &mut Memory::default(), &settings(), &mut || true);
    let now = certificate(instance, memory);
    assert!(now.bound <= fresh.cost, "a bound above a plan");
    json!({ "gap_ppm": now.gap_ppm, "fresh_gap_ppm": fresh.gap_ppm, "cost_to_fresh": now.cost as f64 / fresh.cost as f64 })
}

/// The other way to plan one stage again: `resolve`, which looks for improvements and publishes everything.
fn again(instance: &mut Instance, memory: &mut Memory) -> f64 {
    let mut dice = Dice::new(SEED);
    let times: Vec<f64> = (0..9)
        .map(|_| {
            let at = usize::try_from(dice.between(0, instance.stages() as u64 - 1)).expect("an index");
            instance.set_demand(at, dice.between(1_000, 50_000));
            nanos(|| {
                resolve(instance, memory, &[at], &settings(), &mut || false);
            })
        })
        .collect();
    median(&times)
}
