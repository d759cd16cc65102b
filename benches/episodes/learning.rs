//! What learning, rates and feed-forward are worth, on whole runs of the core: the same requests, told differently.

use std::path::Path;

use serde_json::{Value, json};
use tiercel::rebalance::State;
use tiercel::rebalance::world::{Edge, StageIdx, Traffic, World};
use tiercel::simulate::demand::initial;
use tiercel::simulate::engine::{Options, run as simulate};
use tiercel::simulate::load::{Change, Load};
use tiercel::simulate::outcome::Outcome;
use tiercel::simulate::policy::told::{Moment, Shows, Told};
use tiercel::simulate::scenario::{Scenario, Server, Signal};

use crate::build::{empty, pipeline, pool, stage};

/// A run is right from the minute on from which its replicas cost within so much of the right ones.
const RIGHT: f64 = 0.1;
/// Late requests that a signal is allowed, per cent.
const LATE: [f64; 2] = [0.5, 2.0];
/// A value of `metrics.k8s.io` is fresh for so long.
const CPU_AGE_MS: u64 = 45_000;
const TARGETS: [u32; 9] = [200, 300, 400, 500, 600, 700, 800, 900, 1_000];

fn told(scenario: &Scenario, load: &Load, state: State, mut world: World, shows: Shows) -> (Outcome, Told) {
    if shows != Shows::RateAndBacklog {
        world
            .stages
            .iter_mut()
            .for_each(|stage| stage.reading_age_ms_max = CPU_AGE_MS);
    }
    let mut told = Told::new(state, world, shows);
    let start = initial(scenario, load);
    let outcome = simulate(scenario, load, &start, ("told", &mut told), &Options::default());
    (outcome, told)
}

fn synthetic(name: &str) -> Load {
    Load::named(name, Path::new("."), Change::NONE, 1).expect("a synthetic load")
}

/// One stage on one pool: a replica serves 2 per second for 10 cents.
fn one_pool() -> Scenario {
    let mut scenario = empty();
    pool(&mut scenario, 200, true);
    pipeline(&mut scenario, 500, None);
    stage(&mut scenario, Traffic::Pull, Vec::new(), &[(0, 2_000, 10)]);
    scenario
}

/// The same on two: a request costs 5 cents and hour on the first, 8 on the second.
fn two_pools() -> Scenario {
    let mut scenario = empty();
    pool(&mut scenario, 200, true);
    pool(&mut scenario, 200, true);
    pipeline(&mut scenario, 500, None);
    stage(
        &mut scenario,
        Traffic::Pull,
        Vec::new(),
        &[(0, 2_000, 10), (1, 5_000, 40)],
    );
    scenario
}

/// What the replicas asked for cost, cents per hour.
fn cents(scenario: &Scenario, moment: &Moment) -> f64 {
    let prices = scenario
        .world
        .variants
        .iter()
        .map(|variant| variant.cost_micros as f64 / 1e4);
    moment
        .desired
        .iter()
        .zip(prices)
        .map(|(&count, price)| f64::from(count) * price)
        .sum()
}

/// Mean cost of each minute.
fn minutes(scenario: &Scenario, moments: &[Moment]) -> Vec<f64> {
    let mean = |minute: &[Moment]| minute.iter().map(|one| cents(scenario, one)).sum::<f64>() / minute.len() as f64;
    moments.chunks_exact(60).map(mean).collect()
}

/// Minutes until a run costs what the right one does, and goes on doing so.
fn until_right(right: &[f64], seen: &[f64]) -> Option<usize> {
    let off = |(right, seen): (&f64, &f64)| (seen / right - 1.0).abs() > RIGHT;
    let last = right.iter().zip(seen).rposition(off).map_or(0, |at| at + 1);
    (last < right.len().min(seen.len())).then_some(last)
}

/// Priors that are wrong by three, either way, with and without learning.
fn priors() -> Vec<Value> {
    println!("| pools | signals | declared | learning | minutes until right | cost ÷ right | late % |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut rows = Vec::new();
    let load = synthetic("steady:30");
    for (pools, scenario) in [("one", one_pool()), ("two", two_pools())] {
        for shows in [Shows::UtilizationAndRate, Shows::RateAndBacklog] {
            let true_world = scenario.world.clone();
            let (truth, right) = told(&scenario, &load, State::unlearning(), true_world, shows);
            let right = minutes(&scenario, right.moments());
            for (declared, factor) in [("right", (1, 1)), ("a third", (1, 3)), ("three times", (3, 1))] {
                for learning in [true, false] {
                    let mut world = scenario.world.clone();
                    // On two pools the wrong one looks cheaper: the first too slow, or the second too fast.
                    let at = if factor.0 > factor.1 {
                        world.variants.len() - 1
                    } else {
                        0
                    };
                    let wrong = &mut world.variants[at];
                    wrong.capacity_millis = wrong.capacity_millis * factor.0 / factor.1;
                    let state = if learning { State::new() } else { State::unlearning() };
                    let (outcome, seen) = told(&scenario, &load, state, world, shows);
                    let seen = minutes(&scenario, seen.moments());
                    let minutes = until_right(&right, &seen);
                    let cost = outcome.cost / truth.cost;
                    println!(
                        "| {pools} | {} | {declared} | {} | {} | {cost:.2} | {:.2} |",
                        name(shows),
                        if learning { "on" } else { "off" },
                        minutes.map_or_else(|| "never".to_owned(), |minutes| minutes.to_string()),
                        outcome.late_percent()
                    );
                    rows.push(json!({ "pools": pools, "signals": name(shows), "declared": declared, "learning": learning,
                        "minutes_until_right": minutes, "cost_over_right": cost, "late_percent": outcome.late_percent() }));
                }
            }
        }
    }
    rows
}

fn name(shows: Shows) -> &'static str {
    match shows {
        Shows::Utilization => "utilization",
        Shows::UtilizationAndRate => "utilization and rate",
        Shows::RateAndBacklog => "rate and backlog",
    }
}

/// Four stages in a row, a step at the source: with what callers send ahead, without, and with calls declared wrong.
fn steps() -> Vec<Value> {
    println!("\n| edges | learning | last stage Ready after | waited there at most | late % |");
    println!("| --- | --- | --- | --- | --- |");
    let mut scenario = empty();
    pipeline(&mut scenario, 500, None);
    for at in 0..4_u32 {
        pool(&mut scenario, 200, true);
        let edge = |from| Edge {
            from: StageIdx(from),
            calls_millis: if at == 3 { 3_000 } else { 1_000 },
        };
        let after = at.checked_sub(1).map(edge).into_iter().collect();
        stage(&mut scenario, Traffic::Pull, after, &[(at, 2_000, 10)]);
    }
    let load = synthetic("step:4:16");
    // Three calls per request, sixteen per second, two served by each.
    let (step_ms, enough) = (1_200_000, 24);
    let mut rows = Vec::new();
    for (edges, calls, learning) in [
        ("right", Some(3_000), true),
        ("a third of the calls", Some(1_000), true),
        ("a third of the calls", Some(1_000), false),
        ("none", None, true),
    ] {
        let mut world = scenario.world.clone();
        match calls {
            Some(calls) => world.stages[3].after[0].calls_millis = calls,
            None => world.stages.iter_mut().for_each(|stage| stage.after.clear()),
        }
        let state = if learning { State::new() } else { State::unlearning() };
        let (outcome, seen) = told(&scenario, &load, state, world, Shows::RateAndBacklog);
        let after = seen.moments().iter().filter(|moment| moment.at_ms >= step_ms);
        let ready = after.clone().find(|moment| moment.ready[3] >= enough);
        let seconds = ready.map(|moment| (moment.at_ms - step_ms) / 1_000);
        let waited = after.take(180).map(|moment| moment.waiting[3]).fold(0.0, f64::max);
        println!(
            "| {edges} | {} | {} | {waited:.0} | {:.2} |",
            if learning { "on" } else { "off" },
            seconds.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds} s")),
            outcome.late_percent()
        );
        rows.push(
            json!({ "edges": edges, "learning": learning, "ready_after_s": seconds, "waited_max": waited,
            "late_percent": outcome.late_percent() }),
        );
    }
    rows
}

/// A generating stage behind one that prepares: one replica serves a request per second, sixteen at once, and starts in so
/// many seconds.
fn generating(startup_s: u64) -> Scenario {
    let mut scenario = empty();
    pool(&mut scenario, 100, true);
    pool(&mut scenario, 100, true);
    pipeline(&mut scenario, 500, None);
    stage(&mut scenario, Traffic::Uniform, Vec::new(), &[(0, 5_000, 4)]);
    let after = vec![Edge {
        from: StageIdx(0),
        calls_millis: 1_000,
    }];
    stage(&mut scenario, Traffic::Uniform, after, &[(1, 1_000, 80)]);
    scenario.stages[1].sized = true;
    scenario.variants[1] = Server {
        slots: 16,
        slowdown: 4.0,
        signal: Signal::Server,
    };
    let generating = &mut scenario.world.variants[1];
    (generating.concurrency, generating.startup_ms) = (Some(16), startup_s * 1_000);
    scenario
}

/// What a signal costs on recorded loads, each at the cheapest target that keeps late requests low enough.
fn signals() -> Vec<Value> {
    println!("\n| load | start-up | late at most | utilization | utilization and rate | rate and backlog |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/traces");
    let mut rows = Vec::new();
    for trace in ["azure-conv", "azure-code", "mooncake"] {
        for startup_s in [8, 82] {
            let scenario = generating(startup_s);
            let load = Load::named(trace, &traces, Change::NONE, 1).expect("a recorded load");
            let each = [Shows::Utilization, Shows::UtilizationAndRate, Shows::RateAndBacklog].map(|shows| {
                let runs = TARGETS.map(|target| {
                    let mut world = scenario.world.clone();
                    world.stages.iter_mut().for_each(|stage| stage.target_permille = target);
                    let (outcome, _) = told(&scenario, &load, State::new(), world, shows);
                    (outcome.cost, outcome.late_percent(), target)
                });
                (shows, runs)
            });
            for late in LATE {
                let best = each.each_ref().map(|(_, runs)| {
                    let kept = runs.iter().filter(|run| run.1 <= late);
                    kept.copied()
                        .reduce(|best, run| if run.0 < best.0 { run } else { best })
                });
                let cell = |best: &Option<(f64, f64, u32)>| {
                    best.map_or_else(
                        || "–".to_owned(),
                        |(cost, _, target)| format!("${cost:.2} (target {target})"),
                    )
                };
                println!(
                    "| {trace} | {startup_s} s | {late} % | {} | {} | {} |",
                    cell(&best[0]),
                    cell(&best[1]),
                    cell(&best[2])
                );
                let cost = |at: usize| best[at].map(|(cost, ..)| cost);
                rows.push(
                    json!({ "load": trace, "startup_s": startup_s, "late_percent_max": late, "utilization": cost(0),
                    "utilization_and_rate": cost(1), "rate_and_backlog": cost(2) }),
                );
            }
        }
    }
    rows
}

pub(crate) fn run() -> Value {
    json!({ "priors": priors(), "steps": steps(), "signals": signals() })
}
