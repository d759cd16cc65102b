//! `make bench BENCH=b3`: joint plans beside HiGHS (one thread, the same instance, in the same run) and beside simpler
//! planners, with HiGHS as judge.
//!
//! The run fails if a plan of tiercel is cheaper than HiGHS' own bound, if its bound is above a plan of HiGHS, or if a
//! plan breaks a rule or costs something else than it claims; the last two are checked in integers from the rows, by code
//! that the solver does not share.
//!
//! `B3_SECONDS` is what HiGHS may spend on one instance (30). The whole run takes about six minutes.
#![allow(
    clippy::indexing_slicing,
    reason = "a program that measures; lengths are those of the instances it makes"
)]

mod agreement;
mod exact;
mod mip;
mod model;
mod ours;
mod peers;
mod result;
mod verdict;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use planner::rebalance::solve::Instance;
use planner::rebalance::solve::generate::{Fleet, fleet};
use planner::rebalance::solve::rows::Rows;
use serde_json::{Value, json};

use crate::mip::{Mip, dollars};
use crate::ours::{Call, Side, sample};
use crate::peers::Tuned;
use crate::result::{median, spread};

/// Whatever stops the benchmark.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const POOLS: usize = 8;
/// Of the seeds, the first is the one that all sides solve; the others show how far tiercel's figures vary.
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// One size of the benchmark.
struct Size {
    stages: usize,
    rounds: u64,
    seeds: usize,
    /// What tiercel may spend, cold and warm.
    cold: Duration,
    warm: Duration,
    /// HiGHS solves the program.
    program: bool,
    /// HiGHS solves the relaxation this often.
    relaxations: u64,
    peers: bool,
}

const SIZES: [Size; 5] = [
    Size::new(10, 9, Duration::from_millis(2)).program().relaxed(5),
    Size::new(100, 9, Duration::from_millis(2)).program().relaxed(5),
    Size::new(1_000, 7, Duration::from_millis(10)).program().relaxed(5),
    Size::new(10_000, 5, Duration::from_millis(50)).relaxed(1),
    Size {
        warm: Duration::from_millis(15),
        seeds: 1,
        peers: false,
        ..Size::new(125_000, 5, Duration::from_millis(150))
    },
];

impl Size {
    const fn new(stages: usize, rounds: u64, budget: Duration) -> Self {
        Self {
            stages,
            rounds,
            seeds: SEEDS.len(),
            cold: budget,
            warm: budget,
            program: false,
            relaxations: 0,
            peers: true,
        }
    }

    const fn program(mut self) -> Self {
        self.program = true;
        self
    }

    const fn relaxed(mut self, times: u64) -> Self {
        self.relaxations = times;
        self
    }

    fn call(&self, threads: usize) -> Call {
        Call {
            threads,
            cold: Some(self.cold),
            warm: self.warm,
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(against) if against.is_empty() => {
            println!("HiGHS objects to nothing");
            ExitCode::SUCCESS
        }
        Ok(against) => {
            for objection in against {
                eprintln!("OBJECTION: {objection}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("b3: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Vec<String>, Failure> {
    let limit = match std::env::var("B3_SECONDS") {
        Ok(text) => text
            .parse()
            .map_err(|_| format!("B3_SECONDS must be whole seconds, not {text:?}"))?,
        Err(_) => 30,
    };
    let limit = Duration::from_secs(limit);
    let start = Instant::now();
    println!("== b3");
    let mut against = Vec::new();
    let small = agreement::run(&mut against)?;
    if !against.is_empty() {
        return Ok(against);
    }
    let mut cases = Vec::new();
    for size in &SIZES {
        for scarce in [true, false] {
            cases.push(case(size, scarce, limit, &mut against)?);
        }
    }
    result::write(&json!({
        "highs_seconds": limit.as_secs(), "seconds": start.elapsed().as_secs_f64(), "pools": POOLS,
        "agreement": small, "cases": cases, "objections": against,
    }))?;
    Ok(against)
}

fn instance(stages: usize, scarce: bool, seed: u64) -> (Rows, usize) {
    let mut rows = fleet(&Fleet {
        stages,
        pools: POOLS,
        scarce,
        running: false,
        seed,
    });
    let cut = exact::cut_penalties(&mut rows);
    (rows, cut)
}

/// All sides on one size.
fn case(size: &Size, scarce: bool, limit: Duration, against: &mut Vec<String>) -> Result<Value, Failure> {
    let (rows, cut) = instance(size.stages, scarce, SEEDS[0]);
    let title = format!("{} x {POOLS}, {}", size.stages, if scarce { "scarce" } else { "ample" });
    println!("\n-- {title}");
    let layout = Instant::now();
    let options = Instance::new(&rows).options();
    let layout = layout.elapsed().as_secs_f64() * 1e3;
    let (mut cold, mut warm, mut unlimited, mut two) =
        (Side::default(), Side::default(), Side::default(), Side::default());
    let (mut ratio, mut single, mut rounding) = (Vec::new(), Vec::new(), Vec::new());
    let mut relaxation = Value::Null;
    let (mut program, mut per_stage) = (None, None);
    for round in 0..size.rounds {
        sample(&rows, &size.call(1), round, &mut cold, Some(&mut warm));
        let call = Call {
            cold: None,
            ..size.call(1)
        };
        sample(&rows, &call, round, &mut unlimited, None);
        if size.stages >= 20_000 {
            sample(&rows, &size.call(2), round, &mut two, None);
        }
        if size.peers {
            ratio.push(peers::cheapest_ratio(&rows)?);
            single.push(peers::single_pool(&rows)?);
        }
        if round < size.relaxations {
            let relaxed = mip::relax(&rows, limit)?;
            relaxation = json!({ "bound": relaxed.objective, "seconds": relaxed.seconds, "solved": relaxed.solved });
            if relaxed.solved {
                rounding.push(peers::rounded(&rows, &relaxed)?);
            }
        }
        if round == 1 && size.program {
            // Small ones to the end; for the others HiGHS' own default counts as closed.
            let gap = if size.stages <= 10 { 0.0 } else { 1e-4 };
            program = Some(mip::run(&rows, limit, gap)?);
            // Half a minute and more for 1,000 of them.
            if size.stages <= 100 {
                per_stage = Some(peers::program_per_stage(&rows)?);
            }
        }
    }
    println!(
        "  {options} options, laid out in {layout:.2} ms; {cut} penalties lowered to what the solver's integers take"
    );
    println!("  tiercel cold, {} ms      {}", size.cold.as_millis(), cold.said());
    println!("  tiercel warm, {} ms      {}", size.warm.as_millis(), warm.said());
    println!("  tiercel to its own end   {}", unlimited.said());
    if !two.millis.is_empty() {
        println!("  tiercel cold, 2 threads  {}", two.said());
    }
    let Some(claim) = cold.usual() else {
        return Err("no sample was taken".into());
    };
    for (name, side) in [
        ("cold", &cold),
        ("warm", &warm),
        ("to its end", &unlimited),
        ("two threads", &two),
    ] {
        let faults = side.claims.iter().flat_map(|claim| match &program {
            Some(mip) if name != "warm" => claim.objections(mip),
            _ => claim.faults(),
        });
        against.extend(faults.map(|fault| format!("{title}, seed {}, {name}: {fault}", SEEDS[0])));
    }
    let base = dollars(claim.cost);
    let highs = program
        .as_ref()
        .map(|mip| compared(mip, base, claim.gap_percent() / 100.0));
    let mut peers = serde_json::Map::new();
    let per_stage: Vec<Tuned> = per_stage.into_iter().collect();
    for (name, runs) in [
        ("relaxation, rounded", rounding),
        ("cheapest ratio", ratio),
        ("single pool", single),
        ("program per stage", per_stage),
    ] {
        if let Some(found) = peer(name, &runs, base) {
            peers.insert(name.to_owned(), found);
        }
    }
    let seeds = seeds(size, scarce, &title, against);
    Ok(json!({
        "stages": size.stages, "pools": POOLS, "scarce": scarce, "seed": SEEDS[0], "options": options,
        "penalties_lowered": cut, "layout_ms": layout,
        "tiercel": {
            "cost": base, "bound": dollars(claim.bound), "budget_ms": size.cold.as_secs_f64() * 1e3,
            "warm_budget_ms": size.warm.as_secs_f64() * 1e3, "cold": cold.json(), "warm": warm.json(),
            "to_its_end": unlimited.json(), "to_its_end_cost": unlimited.usual().as_ref().map(|claim| dollars(claim.cost)),
            "two_threads": (!two.millis.is_empty()).then(|| two.json()),
        },
        "highs": highs, "relaxation": relaxation, "peers": peers, "other_seeds": seeds,
    }))
}

/// HiGHS beside a plan that costs `base` dollars with a gap of `gap`.
fn compared(mip: &Mip, base: f64, gap: f64) -> Value {
    let when = |seconds: Option<f64>| seconds.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.1} s"));
    let (reached, certified) = (mip.reached(base), mip.certified(gap));
    println!(
        "  HiGHS                    {:.1} s, {}; its plan {:+.3} % of ours, its gap {:.3} %; as cheap as ours after {}, as certain after {}",
        mip.seconds,
        if mip.closed { "closed" } else { "not closed" },
        100.0 * (mip.objective / base - 1.0),
        100.0 * mip.gap(),
        when(reached),
        when(certified),
    );
    json!({
        "objective": mip.objective, "exact_cost": mip.cost.map(dollars), "bound": mip.bound, "gap_percent": 100.0 * mip.gap(),
        "closed": mip.closed, "seconds": mip.seconds, "cost_ratio": mip.objective / base,
        "seconds_to_our_cost": reached, "seconds_to_our_gap": certified,
    })
}

/// A simpler planner beside a plan that costs `base` dollars.
fn peer(name: &str, runs: &[Tuned], base: f64) -> Option<Value> {
    let best = runs.first()?;
    let millis: Vec<f64> = runs.iter().map(|run| run.seconds * 1e3).collect();
    let above = 100.0 * (dollars(best.cost) / base - 1.0);
    println!(
        "  {name:<24} {:.2} ms, {above:+.2} % of ours ({})",
        median(&millis),
        best.knobs
    );
    Some(json!({
        "ms": spread(&millis), "cost": dollars(best.cost), "cost_ratio": dollars(best.cost) / base, "knobs": best.knobs,
    }))
}

/// Tiercel alone on the other seeds.
fn seeds(size: &Size, scarce: bool, title: &str, against: &mut Vec<String>) -> Value {
    let (mut millis, mut gaps, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for &seed in &SEEDS[1..size.seeds] {
        let (rows, _) = instance(size.stages, scarce, seed);
        let (mut cold, mut unlimited) = (Side::default(), Side::default());
        for round in 0..5 {
            sample(&rows, &size.call(1), round, &mut cold, None);
        }
        let call = Call {
            cold: None,
            ..size.call(1)
        };
        sample(&rows, &call, 0, &mut unlimited, None);
        for side in [&cold, &unlimited] {
            let faults = side.claims.iter().flat_map(verdict::Claim::faults);
            against.extend(faults.map(|fault| format!("{title}, seed {seed}: {fault}")));
        }
        millis.push(median(&cold.millis));
        gaps.push(median(&cold.gaps));
        ends.push(median(&unlimited.gaps));
    }
    if millis.is_empty() {
        return Value::Null;
    }
    println!("  other seeds: ms {millis:.2?}, gap % {gaps:.3?}, to its own end {ends:.3?}");
    json!({ "seeds": SEEDS[1..size.seeds], "cold_ms": millis, "gap_percent": gaps, "to_its_end_gap_percent": ends })
}
