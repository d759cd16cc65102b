//! The decision core alone: no API server, no clock of its own, one thread.

use std::hint::black_box;
use std::time::Instant;

use serde_json::{Value, json};
use tiercel::rebalance::world::{
    Event, Key, Mode, OnSignalLoss, Pipeline, PipelineIdx, Pool, PoolIdx, Reading, Resources, Stage, StageIdx, Tier,
    Traffic, Variant, VariantIdx, World,
};
use tiercel::rebalance::{State, step};

use crate::numbers::{self, Draws, summary};

const SEED: u64 = 0x00C0_4E5E;
const POOLS: u32 = 5;
const STAGES: [u32; 3] = [60, 600, 6_000];
const STAGES_PER_PIPELINE: u32 = 6;
const ROUNDS: usize = 21;
/// Requests a replica handles at once.
const SLOTS: u32 = 10;
/// Demand of a stage at rest, thousandths: two to three replicas of the slowest pool.
const CALM: u64 = 2_500;
const TARGET_PERMILLE: u32 = 750;

pub(crate) fn run() -> Value {
    let ample: Vec<_> = STAGES.into_iter().map(|stages| rung(stages, true)).collect();
    let short: Vec<_> = STAGES.into_iter().map(|stages| rung(stages, false)).collect();
    json!({
        "seed": SEED,
        "rounds": ROUNDS,
        "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
        "ample": ample,
        "short": short,
    })
}

fn rung(stages: u32, ample: bool) -> Value {
    let mut draws = Draws(SEED ^ u64::from(stages));
    let world = world(stages, POOLS, ample, &mut draws);
    let mut desired: Vec<u32> = world.variants.iter().map(|_| 0).collect();
    for first in (0..desired.len()).step_by(POOLS as usize) {
        let at = first + usize::try_from(draws.below(u64::from(POOLS))).unwrap_or_default();
        if let Some(slot) = desired.get_mut(at) {
            *slot = 1;
        }
    }
    let mut everything = vec![Event::World(world.clone())];
    everything.extend(replicas(&desired));
    everything.extend((0..stages).flat_map(|stage| readings(&world, &desired, stage, CALM, 1_000)));
    let (settled, now_ms) = settle(&world, &everything, &mut desired, stages);

    let (mut cold, mut idle, mut steady, mut jump, mut all) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut cold_decisions, mut jump_decisions, mut all_decisions) = (0, 0, 0);
    for _ in 0..ROUNDS {
        cold_decisions = timed(&mut cold, &mut State::new(), &everything, 1_000);
        let mut state = settled.clone();
        timed(&mut idle, &mut state, &[], now_ms + 1);
        let stage = u32::try_from(draws.below(u64::from(stages))).unwrap_or_default();
        timed(
            &mut steady,
            &mut state,
            &readings(&world, &desired, stage, CALM, now_ms + 2),
            now_ms + 2,
        );
        jump_decisions = timed(
            &mut jump,
            &mut state,
            &readings(&world, &desired, stage, CALM * 4, now_ms + 3),
            now_ms + 3,
        );
        let double: Vec<_> = (0..stages)
            .flat_map(|stage| readings(&world, &desired, stage, CALM * 2, now_ms + 4))
            .collect();
        all_decisions = timed(&mut all, &mut settled.clone(), &double, now_ms + 4);
    }
    let kind = if ample { "ample" } else { "short" };
    println!(
        "{stages} stages x {POOLS} pools, capacity {kind}; decisions: cold {cold_decisions}, all {all_decisions}, one \
         {jump_decisions}"
    );
    let print = |what: &str, samples: &[f64]| numbers::print(&format!("  {what}"), "us", summary(samples));
    print("cold: world, replicas and readings of everything", &cold);
    print("the demand of every stage doubles", &all);
    print("the demand of one stage jumps: plan and decision", &jump);
    print("one reading that changes nothing", &steady);
    print("only time passes", &idle);
    json!({
        "stages": stages,
        "pools": POOLS,
        "decisions": {"cold": cold_decisions, "all": all_decisions, "one": jump_decisions},
        "cold_us": summary(&cold),
        "all_demands_double_us": summary(&all),
        "one_demand_jumps_us": summary(&jump),
        "one_reading_changes_nothing_us": summary(&steady),
        "time_passes_us": summary(&idle),
    })
}

/// The core as it stands once all stages are at rest at their least, on the cheapest pool of each.
pub(crate) fn at_rest(stages: u32, pools: u32) -> State {
    let world = world(stages, pools, true, &mut Draws(SEED ^ u64::from(stages)));
    let mut desired = vec![0; world.variants.len()];
    desired.iter_mut().step_by(pools as usize).for_each(|count| *count = 1);
    let mut everything = vec![Event::World(world.clone())];
    everything.extend(replicas(&desired));
    everything.extend((0..stages).flat_map(|stage| readings(&world, &desired, stage, CALM / 4, 1_000)));
    let mut state = State::new();
    for second in 1..=10 {
        black_box(step(&mut state, &everything, second * 1_000));
        everything = (0..stages)
            .flat_map(|stage| readings(&world, &desired, stage, CALM / 4, (second + 1) * 1_000))
            .collect();
    }
    state
}

/// One step, microseconds. Returns how many decisions it made.
fn timed(samples: &mut Vec<f64>, state: &mut State, events: &[Event], now_ms: u64) -> usize {
    let start = Instant::now();
    let decisions = black_box(step(black_box(state), black_box(events), now_ms));
    samples.push(start.elapsed().as_secs_f64() * 1e6);
    decisions.len()
}

/// Plays an obedient cluster with steady load until nothing is decided any more. Returns the state, and its time.
fn settle(world: &World, everything: &[Event], desired: &mut [u32], stages: u32) -> (State, u64) {
    let mut state = State::new();
    let mut events = everything.to_vec();
    let (mut now_ms, mut still) = (1_000, 0);
    while still < 12 && now_ms < 300_000 {
        let decisions = step(&mut state, &events, now_ms);
        still = if decisions.is_empty() { still + 1 } else { 0 };
        for change in decisions.iter().flat_map(|decision| &decision.moves) {
            if let Some(slot) = desired.get_mut(change.variant.0 as usize) {
                *slot = change.to;
            }
        }
        now_ms += 1_000;
        events = replicas(desired).collect();
        events.extend((0..stages).flat_map(|stage| readings(world, desired, stage, CALM, now_ms)));
    }
    if still < 12 {
        println!("note: {stages} stages still move after {now_ms} ms of steady load");
    }
    (state, now_ms)
}

fn replicas(desired: &[u32]) -> impl Iterator<Item = Event> {
    (0_u32..).zip(desired).map(|(at, &count)| Event::Replicas {
        variant: VariantIdx(at),
        desired: count,
        ready: count,
    })
}

/// What the variants of a stage with replicas report: as many requests as show a demand, all on the first of them.
fn readings(world: &World, desired: &[u32], stage: u32, demand: u64, taken_ms: u64) -> Vec<Event> {
    let (start, end) = world.stages.get(stage as usize).map_or((0, 0), |stage| stage.variants);
    let range = start..end;
    let running = range
        .filter_map(|at| Some((at, *desired.get(at as usize)?)))
        .filter(|&(_, count)| count > 0);
    // A faster replica works off the same demand with fewer requests in flight.
    let requests = |at: u32| {
        let capacity = world
            .variants
            .get(at as usize)
            .map_or(1, |variant| variant.capacity_millis.max(1));
        demand * u64::from(SLOTS) * u64::from(TARGET_PERMILLE) / capacity
    };
    let report = |(place, (at, count)): (usize, (u32, u32))| Event::Reading {
        variant: VariantIdx(at),
        reading: Reading {
            taken_ms,
            sampled: count,
            expected: count,
            running_millis: Some(if place == 0 { requests(at) } else { 0 }),
            waiting_millis: Some(0),
            utilization_permille: None,
            rate_millis: None,
        },
    };
    running.enumerate().map(report).collect()
}

/// Pipelines of six stages in a chain over pools that differ in price and speed.
fn world(stages: u32, pools: u32, ample: bool, draws: &mut Draws) -> World {
    // About three replicas a stage at rest and six when demand doubles, one core each.
    let replicas_per_pool = u64::from(stages) * if ample { 30 } else { 1 };
    let shapes = (0..pools).map(|at| Pool {
        key: Key(u64::from(at)),
        tier: if at < 2 { Tier::Cpu } else { Tier::Accelerator },
        reliable: at != 2,
        capacity: Resources {
            cpu_millis: replicas_per_pool * 1_000,
            memory_kib: replicas_per_pool << 20,
            device_millis: replicas_per_pool * 1_000,
        },
    });
    let pipelines = (0..stages / STAGES_PER_PIPELINE).map(|at| Pipeline {
        key: Key(1_000 + u64::from(at)),
        priority: u16::try_from(draws.below(1_001)).unwrap_or_default(),
        budget_micros: None,
        power_max_milliwatts: None,
        shared: None,
        mode: Mode::Automatic,
        objective: None,
    });
    let pipelines = pipelines.collect();
    let variants = (0..stages * pools).map(|at| Variant {
        key: Key(10_000_000 + u64::from(at)),
        stage: StageIdx(at / pools),
        pool: PoolIdx(at % pools),
        request: Resources {
            cpu_millis: 1_000,
            memory_kib: 1 << 20,
            device_millis: if at % pools < 2 { 0 } else { 1_000 },
        },
        cost_micros: 100_000 * (1 + u64::from(at % pools)) + draws.below(50_000),
        marginal_micros: 100_000 * (1 + u64::from(at % pools)) + draws.below(50_000),
        power_milliwatts: None,
        hint_permille: 1_000,
        capacity_millis: 1_000 + 500 * u64::from(at % pools) + draws.below(1_000),
        concurrency: Some(SLOTS),
        startup_ms: 20_000,
        max: 100,
    });
    let variants = variants.collect();
    World {
        pools: shapes.collect(),
        pipelines,
        stages: (0..stages).map(|at| stage(at, pools)).collect(),
        variants,
        shared: Vec::new(),
    }
}

fn stage(at: u32, pools: u32) -> Stage {
    Stage {
        key: Key(1_000_000 + u64::from(at)),
        pipeline: PipelineIdx(at / STAGES_PER_PIPELINE),
        variants: (at * pools, (at + 1) * pools),
        min: 1,
        max: 100,
        reliable_min: 0,
        target_permille: TARGET_PERMILLE,
        traffic: Traffic::Pull,
        rated: false,
        sees_waiting: true,
        after: Vec::new(),
        tolerance_permille: 100,
        up_window_ms: 0,
        down_window_ms: 5_000,
        down_percent_per_minute: 100,
        moves_per_hour: 60,
        max_surge: 2,
        signal_loss_ms: 180_000,
        on_signal_loss: OnSignalLoss::Hold,
        reading_age_ms_max: 5_000,
        also: Vec::new(),
    }
}
