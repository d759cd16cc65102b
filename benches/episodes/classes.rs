//! B6: who is late when there is not enough for all.

use serde_json::{Value, json};
use tiercel::rebalance::world::Traffic;
use tiercel::simulate::demand::initial;
use tiercel::simulate::engine::{self, Options};
use tiercel::simulate::load::{Change, Load};
use tiercel::simulate::policy::Spec;
use tiercel::simulate::scenario::Scenario;

use crate::build::{empty, pipeline, pool, stage};
use crate::result::{median, spread};

const PIPELINES: usize = 50;
/// By class, highest first.
const PRIORITIES: [u16; 3] = [900, 500, 100];
const SEEDS: u64 = 5;
/// As they come; the other policies know no classes.
const POLICIES: [&str; 6] = ["tiercel", "hpa", "keda", "kpa", "cost-greedy", "kthena"];

/// Fifty pipelines of one stage each, which all may run on three pools; replicas differ by a factor of up to two between
/// stages. Pools hold about 60 % of what all need at their targets.
fn scenario() -> Scenario {
    let mut scenario = empty();
    for slots in [24, 40, 56] {
        pool(&mut scenario, slots, true);
    }
    for at in 0..PIPELINES {
        pipeline(&mut scenario, PRIORITIES[at % 3], None);
        let factor = 2 + (at / 3 % 3) as u64;
        let places = [(0, 500 * factor, 30), (1, 250 * factor, 10), (2, 125 * factor, 6)];
        stage(&mut scenario, Traffic::Pull, Vec::new(), &places);
    }
    scenario
}

/// Jain's index: 1 if all have the same, 1/n if one has it all.
fn fairness(shares: &[f64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), share| {
        (sum + share, squares + share * share)
    });
    if squares == 0.0 {
        1.0
    } else {
        sum * sum / (shares.len() as f64 * squares)
    }
}

pub(crate) fn run() -> Value {
    let scenario = scenario();
    let mut rows = Vec::new();
    println!(
        "| policy | late % by class: 900 | 500 | 100 | in time, least to most within 900 | 500 | 100 | Jain 900 | 500 | 100 | $/h |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for name in POLICIES {
        let (mut late, mut jain, mut least, mut most) = (
            [const { Vec::new() }; 3],
            [const { Vec::new() }; 3],
            [1.0_f64; 3],
            [0.0_f64; 3],
        );
        let mut costs = Vec::new();
        for seed in 1..=SEEDS {
            let load =
                Load::named("steady:2", std::path::Path::new("."), Change::NONE, seed).expect("a synthetic load");
            let load = load.until(1_800_000);
            let spec: Spec = name.parse().expect("a known policy");
            let mut policy = spec.build(&scenario, &load);
            let options = Options {
                seed,
                ..Options::default()
            };
            let start = initial(&scenario, &load);
            let outcome = engine::run(&scenario, &load, &start, (name, policy.as_mut()), &options);
            costs.push(outcome.cost_per_hour());
            for class in 0..3 {
                let mine: Vec<_> = outcome.pipelines.iter().skip(class).step_by(3).collect();
                let requests: u64 = mine.iter().map(|tally| tally.requests).sum();
                let missed: u64 = mine.iter().map(|tally| tally.late).sum();
                late[class].push(missed as f64 * 100.0 / requests as f64);
                let shares: Vec<f64> = mine.iter().map(|tally| 1.0 - tally.late_percent() / 100.0).collect();
                jain[class].push(fairness(&shares));
                least[class] = shares.iter().copied().fold(least[class], f64::min);
                most[class] = shares.iter().copied().fold(most[class], f64::max);
            }
        }
        let part = |class: usize| format!("{:.0}–{:.0} %", least[class] * 100.0, most[class] * 100.0);
        println!(
            "| {name} | {:.1} | {:.1} | {:.1} | {} | {} | {} | {:.3} | {:.3} | {:.3} | {:.2} |",
            median(&late[0]),
            median(&late[1]),
            median(&late[2]),
            part(0),
            part(1),
            part(2),
            median(&jain[0]),
            median(&jain[1]),
            median(&jain[2]),
            median(&costs)
        );
        let classes = (0..3).map(|class| {
            json!({ "priority": PRIORITIES[class], "late_percent": spread(&late[class]), "jain": spread(&jain[class]),
                "in_time_least": least[class], "in_time_most": most[class] })
        });
        rows.push(
            json!({ "policy": name, "classes": classes.collect::<Vec<_>>(), "dollars_per_hour": spread(&costs) }),
        );
    }
    json!({ "pipelines": PIPELINES, "seeds": SEEDS, "load": "steady:2 for 1800 s, every pipeline", "policies": rows })
}
