//! B5: cost against lateness on recorded loads, every policy swept over its knobs, beside somebody who knows the load.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::{Value, json};
use tiercel::simulate::demand::{bound, initial};
use tiercel::simulate::engine::{self, Options};
use tiercel::simulate::ground::Nodes;
use tiercel::simulate::input::{self, Objects};
use tiercel::simulate::load::{Change, Load};
use tiercel::simulate::outcome::Outcome;
use tiercel::simulate::policy::{KINDS, Spec};
use tiercel::simulate::scenario::Scenario;
use tiercel::simulate::table::{best, frontier};

/// As in docs/simulator.md.
const NODES: [&str; 5] = [
    "graviton=8:16,64Gi",
    "x86=8:16,64Gi",
    "l4-spot=8:8,32Gi,1",
    "h100=4:16,256Gi,1",
    "inferentia=8:32,128Gi,1",
];
const SEED: u64 = 1;

fn loads() -> [(&'static str, Change); 4] {
    let servegen = Change {
        scale: 0.0005,
        speed: 12.0,
        seconds: Some(7_200),
    };
    [
        ("azure-conv", Change::NONE),
        ("azure-code", Change::NONE),
        ("mooncake", Change::NONE),
        ("servegen:m_small_rps", servegen),
    ]
}

/// Runs every spec, on as many threads as there are.
fn all(scenario: &Scenario, load: &Load, specs: &[Spec]) -> Vec<Outcome> {
    let options = Options {
        seed: SEED,
        ..Options::default()
    };
    let start = initial(scenario, load);
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(specs.len())));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((at, spec)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, specs.get(at)?)))
                {
                    let mut policy = spec.build(scenario, load);
                    let outcome = engine::run(scenario, load, &start, (&spec.to_string(), policy.as_mut()), &options);
                    done.lock().expect("nobody panics with it").push((at, outcome));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody panics with it");
    done.sort_by_key(|&(at, _)| at);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

fn point(outcome: &Outcome) -> Value {
    json!({ "policy": outcome.policy, "dollars": outcome.cost, "late_percent": outcome.late_percent() })
}

/// Whether some run of `ours` is as good as each of `theirs` in both cost and lateness.
fn dominates(ours: &[&Outcome], theirs: &[&Outcome]) -> bool {
    theirs.iter().all(|they| {
        ours.iter()
            .any(|we| we.cost <= they.cost && we.late_percent() <= they.late_percent())
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) fn run() -> Value {
    let nodes: Vec<Nodes> = NODES
        .iter()
        .map(|text| text.parse().expect("nodes as documented"))
        .collect();
    let scenario = input::scenario(Objects::default(), &nodes).expect("the samples");
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/traces");
    let mut figures = Vec::new();
    for (name, change) in loads() {
        let load = Load::named(name, &traces, change, SEED).expect("a recorded load");
        let started = Instant::now();
        let (mut rows, mut fronts) = (Vec::new(), Vec::new());
        let mut runs = 0;
        for kind in KINDS {
            let spec: Spec = kind.name.parse().expect("a known policy");
            let declared = all(&scenario, &load, std::slice::from_ref(&spec));
            let swept = all(&scenario, &load, &spec.sweep());
            runs += swept.len() + 1;
            let every: Vec<&Outcome> = declared.iter().chain(&swept).collect();
            let front: Vec<Outcome> = frontier(&every).into_iter().cloned().collect();
            rows.push((
                kind.name,
                best(&every).expect("there are runs").clone(),
                declared[0].clone(),
                every.iter().copied().map(point).collect::<Vec<_>>(),
            ));
            fronts.push((kind.name, front));
        }
        let knowing = rows
            .iter()
            .find(|row| row.0 == "clairvoyant")
            .expect("it is one of the policies")
            .1
            .cost;
        println!(
            "\n{name}: {} requests in {} s; {runs} runs in {:.0} s",
            load.arrivals.len(),
            load.span_ms() / 1_000,
            started.elapsed().as_secs_f64()
        );
        println!(
            "| policy | cheapest in time | late % | $ | x clairvoyant | as declared: late %, $ | ours dominates its frontier |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- |");
        let ours: Vec<&Outcome> = fronts[0].1.iter().collect();
        let mut policies = Vec::new();
        for ((kind, good, declared, points), (_, front)) in rows.iter().zip(&fronts) {
            let theirs: Vec<&Outcome> = front.iter().collect();
            let dominated = dominates(&ours, &theirs);
            println!(
                "| {kind} | {} | {:.2} | {:.2} | {:.2} | {:.2}, {:.2} | {} |",
                good.policy,
                good.late_percent(),
                good.cost,
                good.cost / knowing,
                declared.late_percent(),
                declared.cost,
                if dominated { "yes" } else { "no" }
            );
            policies.push(
                json!({ "policy": kind, "runs": points.len() - 1, "best": point(good), "declared": point(declared),
                "points": points, "x_clairvoyant": good.cost / knowing, "dominated_by_tiercel": dominated,
                "frontier": front.iter().map(point).collect::<Vec<_>>() }),
            );
        }
        figures.push(
            json!({ "load": name, "requests": load.arrivals.len(), "span_s": load.span_ms() / 1_000,
            "bound_dollars": bound(&scenario, &load), "policies": policies }),
        );
    }
    json!({ "seed": SEED, "nodes": NODES, "loads": figures })
}
