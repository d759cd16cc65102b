//! B4: planning again after a change, with the plan that runs now and moves that have a price.
//!
//! | change | how it is planned |
//! | --- | --- |
//! | 1 % of demands change by up to a fifth | `resolve`: prices and plan of the last solve |
//! | a short pool loses a tenth of its room | laid out anew and solved with what runs as the start |
//! | that pool is lost | the same |
//!
//! # The least that any plan must move
//!
//! *Starts*: to serve what the new plan serves, a stage needs at least as many new replicas as its fastest option takes to
//! close the distance from what its old replicas (without those on a lost pool) could serve. *Stops*: what is over the room
//! of the smaller pool has to go, so at least as many replicas as the largest ones there make up for it, in the resource
//! for which that is most. Both are counted from the rows alone; no plan can be below, and the least may be unreachable.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tiercel::rebalance::solve::generate::{Dice, Fleet, fleet};
use tiercel::rebalance::solve::rows::{Rows, StageRow};
use tiercel::rebalance::solve::{Instance, Memory, Settings, Solution, Traffic, resolve, searching, solve};

use crate::result::{median, spread};

const ROUNDS: u64 = 5;
/// Stages and the time that a plan may take.
const SIZES: [(usize, u64); 4] = [(100, 2), (1_000, 10), (10_000, 50), (125_000, 150)];

pub(crate) fn run() -> Value {
    println!(
        "| stages × 8 | change | budget ms | ms | layout ms | gap % | unserved stages | starts | at least | stops | at least |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let most = crate::stages();
    let sizes = SIZES.iter().filter(|&&(stages, _)| stages <= most);
    json!({ "pools": 8, "rounds": ROUNDS, "sizes": sizes.map(|&(stages, ms)| size(stages, ms)).collect::<Vec<_>>() })
}

/// One plan against the one before.
struct Sample {
    ms: f64,
    layout_ms: f64,
    gap_ppm: f64,
    unserved: usize,
    starts: u64,
    starts_least: u64,
    stops: u64,
    stops_least: u64,
}

fn size(stages: usize, budget_ms: u64) -> Value {
    let mut samples: [Vec<Sample>; 3] = Default::default();
    for seed in 1..=ROUNDS {
        let world = World::new(stages, seed, budget_ms);
        samples[0].push(world.demands_change(seed));
        samples[1].push(world.pool_shrinks(90));
        samples[2].push(world.pool_shrinks(0));
    }
    let names = ["1 % of demands change", "a pool loses a tenth", "a pool is lost"];
    let all = names.iter().zip(&samples).map(|(name, samples)| {
        let column = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<f64>>();
        let middle = |of: &dyn Fn(&Sample) -> f64| median(&column(of));
        println!(
            "| {stages} | {name} | {budget_ms} | {:.2} | {:.2} | {:.3} | {} | {} | {} | {} | {} |",
            middle(&|sample| sample.ms),
            middle(&|sample| sample.layout_ms),
            middle(&|sample| sample.gap_ppm) / 1e4,
            middle(&|sample| sample.unserved as f64),
            middle(&|sample| sample.starts as f64),
            middle(&|sample| sample.starts_least as f64),
            middle(&|sample| sample.stops as f64),
            middle(&|sample| sample.stops_least as f64),
        );
        json!({
            "change": name,
            "ms": spread(&column(&|sample| sample.ms)),
            "layout_ms": spread(&column(&|sample| sample.layout_ms)),
            "gap_ppm": spread(&column(&|sample| sample.gap_ppm)),
            "stages_not_wholly_served": spread(&column(&|sample| sample.unserved as f64)),
            "starts": spread(&column(&|sample| sample.starts as f64)),
            "starts_least": spread(&column(&|sample| sample.starts_least as f64)),
            "stops": spread(&column(&|sample| sample.stops as f64)),
            "stops_least": spread(&column(&|sample| sample.stops_least as f64)),
        })
    });
    let changes: Vec<Value> = all.collect();
    json!({ "stages": stages, "budget_ms": budget_ms, "seeds": (1..=ROUNDS).collect::<Vec<_>>(), "changes": changes })
}

/// A fleet that runs its plan.
struct World {
    rows: Rows,
    instance: Instance,
    memory: Memory,
    running: Solution,
    budget: Duration,
}

impl World {
    fn new(stages: usize, seed: u64, budget_ms: u64) -> Self {
        let mut rows = fleet(&Fleet {
            stages,
            pools: 8,
            scarce: true,
            running: true,
            seed,
        });
        let settings = Settings::default();
        let first = solve(&Instance::new(&rows), &mut Memory::default(), &settings, &mut || true);
        let options = rows.stages.iter_mut().flat_map(|stage| &mut stage.options);
        for (option, &count) in options.zip(&first.counts) {
            option.current = count;
        }
        let instance = Instance::new(&rows);
        let mut memory = Memory::default();
        let running = solve(&instance, &mut memory, &settings, &mut || true);
        // What it would still rather move is moved.
        let options = rows.stages.iter_mut().flat_map(|stage| &mut stage.options);
        for (option, &count) in options.zip(&running.counts) {
            option.current = count;
        }
        Self {
            rows,
            instance,
            memory,
            running,
            budget: Duration::from_millis(budget_ms),
        }
    }

    fn demands_change(&self, seed: u64) -> Sample {
        let (mut rows, mut instance, mut memory) = (self.rows.clone(), self.instance.clone(), self.memory.clone());
        let mut dice = Dice::new(seed);
        let count = rows.stages.len();
        let changed: Vec<usize> = (0..count.div_ceil(100))
            .map(|_| usize::try_from(dice.between(0, count as u64 - 1)).expect("an index"))
            .collect();
        for &at in &changed {
            let demand = &mut rows.stages[at].demand_millis;
            *demand = self.rows.stages[at].demand_millis * dice.between(80, 120) / 100;
        }
        let start = Instant::now();
        for &at in &changed {
            instance.set_demand(at, rows.stages[at].demand_millis);
        }
        let layout_ms = start.elapsed().as_secs_f64() * 1e3;
        let settings = Settings::default();
        let mut go_on = || start.elapsed() < self.budget;
        let solution = resolve(&instance, &mut memory, &changed, &settings, &mut go_on).clone();
        let ms = start.elapsed().as_secs_f64() * 1e3;
        self.sample(&rows, &solution, ms, layout_ms, None)
    }

    fn pool_shrinks(&self, percent: i64) -> Sample {
        let mut rows = self.rows.clone();
        // Pool 0 is short.
        let pool = &mut rows.pools[0];
        for room in [&mut pool.cpu_millis, &mut pool.memory_kib, &mut pool.device_millis] {
            *room = *room / 100 * percent;
        }
        let start = Instant::now();
        let instance = Instance::new(&rows);
        let layout_ms = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        let slice = searching(instance.options(), self.budget);
        let mut go_on = || start.elapsed() < slice;
        let solution = solve(&instance, &mut Memory::default(), &Settings::default(), &mut go_on);
        let ms = start.elapsed().as_secs_f64() * 1e3;
        self.sample(&rows, &solution, ms, layout_ms, Some(0))
    }

    fn sample(&self, rows: &Rows, solution: &Solution, ms: f64, layout_ms: f64, shrunk: Option<u32>) -> Sample {
        let (mut starts, mut stops, mut starts_least, mut at) = (0, 0, 0, 0);
        let lost = shrunk.filter(|&pool| rows.pools[pool as usize].cpu_millis == 0);
        for (number, stage) in rows.stages.iter().enumerate() {
            let range = at..at + stage.options.len();
            at = range.end;
            let (before, after) = (&self.running.counts[range.clone()], &solution.counts[range]);
            for (&before, &after) in before.iter().zip(after) {
                starts += u64::from(after.saturating_sub(before));
                stops += u64::from(before.saturating_sub(after));
            }
            starts_least += least_starts(stage, before, stage.demand_millis - solution.unserved[number], lost);
        }
        Sample {
            ms,
            layout_ms,
            gap_ppm: solution.gap_ppm.map_or(f64::NAN, |gap| gap as f64),
            unserved: solution.unserved.iter().filter(|&&open| open > 0).count(),
            starts,
            starts_least,
            stops,
            stops_least: shrunk.map_or(0, |pool| least_stops(rows, &self.running.counts, pool)),
        }
    }
}

fn least_starts(stage: &StageRow, before: &[u32], served: u64, lost: Option<u32>) -> u64 {
    let stays = stage
        .options
        .iter()
        .zip(before)
        .filter(|(option, _)| lost != Some(option.pool));
    let (mut replicas, mut supply) = (0, 0);
    for (option, &count) in stays {
        replicas += u64::from(count);
        supply += u64::from(count) * option.capacity_millis;
    }
    let usable = stage.options.iter().filter(|option| lost != Some(option.pool));
    let fastest = usable.map(|option| option.capacity_millis).max().unwrap_or(1).max(1);
    match stage.traffic {
        // All at the pace of the slowest: at best, that is the fastest option's.
        Traffic::Uniform => served.div_ceil(fastest).saturating_sub(replicas),
        Traffic::Weighted | Traffic::Pull => served.saturating_sub(supply).div_ceil(fastest),
    }
}

fn least_stops(rows: &Rows, running: &[u32], pool: u32) -> u64 {
    let room = &rows.pools[pool as usize];
    let options = rows.stages.iter().flat_map(|stage| &stage.options);
    let here: Vec<([u64; 3], u32)> = options
        .zip(running)
        .filter(|(option, count)| option.pool == pool && **count > 0)
        .map(|(option, &count)| {
            let request = &option.request;
            ([request.cpu_millis, request.memory_kib, request.device_millis], count)
        })
        .collect();
    let rooms = [room.cpu_millis, room.memory_kib, room.device_millis];
    let least = rooms.iter().enumerate().map(|(resource, &room)| {
        let mut sizes: Vec<(u64, u32)> = here
            .iter()
            .map(|&(request, count)| (request[resource], count))
            .collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let used: u64 = sizes.iter().map(|&(size, count)| size * u64::from(count)).sum();
        let mut over = used.saturating_sub(u64::try_from(room).unwrap_or(0));
        let mut stops = 0;
        for (size, count) in sizes {
            let needed = over.div_ceil(size.max(1)).min(u64::from(count));
            if over == 0 || size == 0 {
                break;
            }
            stops += needed;
            over = over.saturating_sub(needed * size);
        }
        stops
    });
    least.max().unwrap_or(0)
}
