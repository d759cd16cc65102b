//! Whole runs.

use super::demand::initial;
use super::engine::{Fault, Options, run};
use super::fixture::{chain, one_stage, two_pools};
use super::load::{Change, Load};
use super::outcome::Outcome;
use super::policy::{KINDS, Order, Policy, Spec, View};
use super::scenario::Scenario;
use crate::rebalance::world::{Key, Pipeline, PipelineIdx, Stage, StageIdx, Traffic, Variant};

fn load(name: &str, seconds: u64) -> Load {
    let nowhere = std::path::Path::new("nowhere");
    Load::named(name, nowhere, Change::NONE, 1)
        .unwrap()
        .until(seconds * 1_000)
}

fn simulate(scenario: &Scenario, load: &Load, policy: &str, options: &Options) -> Outcome {
    let spec: Spec = policy.parse().unwrap();
    let mut policy = spec.build(scenario, load);
    run(
        scenario,
        load,
        &initial(scenario, load),
        (&spec.to_string(), policy.as_mut()),
        options,
    )
}

#[test]
fn requests_in_are_served_or_given_up_whatever_happens() {
    let faults = vec![Fault {
        pool: 0,
        from_ms: 200_000,
        until_ms: 420_000,
        percent: 10,
    }];
    let options = Options {
        faults,
        ..Options::default()
    };
    let load = load("step:4:20", 1_500);
    for kind in KINDS {
        let outcome = simulate(&chain(), &load, kind.name, &options);
        assert_eq!(outcome.requests, load.arrivals.len() as u64, "{}", kind.name);
        assert_eq!(outcome.requests, outcome.served + outcome.failed, "{}", kind.name);
        assert_eq!(outcome.served as usize, outcome.latencies_ms.len(), "{}", kind.name);
        assert!(outcome.late <= outcome.served && outcome.served > 0, "{}", kind.name);
    }
}

#[test]
fn a_seed_repeats_a_run_and_another_seed_is_another_run() {
    let load = load("step:4:20", 1_500);
    for kind in KINDS {
        let with = |seed| {
            let options = Options {
                seed,
                ..Options::default()
            };
            simulate(&chain(), &load, kind.name, &options)
        };
        assert_eq!(with(3), with(3), "{}", kind.name);
        assert_ne!(with(3).latencies_ms, with(4).latencies_ms, "{}", kind.name);
    }
}

#[test]
fn a_queue_with_one_slot_waits_as_long_as_the_textbook_says() {
    // M/D/1 at half load: the mean wait is rho / (2 (1 - rho)) services. One replica, never scaled.
    let mut scenario = one_stage(1);
    scenario.variants[0].slots = 1;
    scenario.world.variants[0].concurrency = Some(1);
    let load = load("steady:1", 3_600);
    let outcome = simulate(&scenario, &load, "hpa:target=100", &Options::default());
    let mean = outcome.latencies_ms.iter().map(|&ms| f64::from(ms)).sum::<f64>() / outcome.served as f64;
    let rho = load.arrivals.len() as f64 / 3_600.0 / 2.0;
    let expected = 500.0 * (1.0 + rho / (2.0 * (1.0 - rho)));
    assert!((mean / expected - 1.0).abs() < 0.08, "{mean} ms, expected {expected}");
}

/// Asks for the first variant's replicas at set times, seconds.
struct Script(&'static [(u64, u32)]);

impl Policy for Script {
    fn step(&mut self, view: &View<'_>) -> Vec<Order> {
        let now = self.0.iter().filter(|(at_s, _)| at_s * 1_000 == view.now_ms);
        now.map(|&(_, to)| Order { variant: 0, to }).collect()
    }
}

#[test]
fn calls_at_a_replica_that_goes_are_served_by_the_others() {
    for traffic in [Traffic::Uniform, Traffic::Pull] {
        let mut scenario = one_stage(9);
        scenario.world.stages[0].traffic = traffic;
        // Three replicas serve six per second; one of them goes while calls wait at it, and two come.
        let load = load("steady:6.2", 300);
        let mut script = Script(&[(60, 2), (70, 5)]);
        let outcome = run(&scenario, &load, &[3], ("script", &mut script), &Options::default());
        assert_eq!((outcome.served, outcome.failed), (outcome.requests, 0), "{traffic:?}");
        assert!(outcome.late > 0, "{traffic:?}: nothing waited, so nothing was shown");
    }
}

#[test]
fn cost_is_replicas_times_price_times_time() {
    let load = load("steady:1", 3_600);
    let outcome = simulate(&one_stage(1), &load, "hpa", &Options::default());
    let hours = outcome.span_ms as f64 / 3.6e6;
    assert!((outcome.replica_hours - hours).abs() < 1e-9);
    assert!((outcome.cost - 0.1 * hours).abs() < 1e-9, "{}", outcome.cost);
    assert!((outcome.cost_per_hour() - 0.1).abs() < 1e-9);
}

#[test]
fn a_lost_pool_moves_the_load_to_the_other() {
    let faults = vec![Fault {
        pool: 0,
        from_ms: 300_000,
        until_ms: u64::MAX,
        percent: 0,
    }];
    let options = Options {
        faults,
        ..Options::default()
    };
    let outcome = simulate(&two_pools(20, 20), &load("steady:10", 1_500), "tiercel", &options);
    let last = outcome.frames.last().unwrap();
    assert_eq!(last.placed[0], 0, "{:?}", outcome.frames);
    assert!(last.placed[1] >= 5, "{:?}", last.placed);
    assert!(outcome.late_percent() < 10.0, "{}", outcome.late_percent());
}

#[test]
fn what_is_short_goes_to_the_pipeline_with_the_higher_priority() {
    // Two pipelines alike, each needs ten replicas, and there are fourteen.
    let mut scenario = one_stage(14);
    let world = &mut scenario.world;
    world.pipelines.push(Pipeline {
        key: Key(201),
        priority: 900,
        ..world.pipelines[0].clone()
    });
    world.stages.push(Stage {
        key: Key(301),
        pipeline: PipelineIdx(1),
        variants: (1, 2),
        ..world.stages[0].clone()
    });
    world.variants.push(Variant {
        key: Key(1_001),
        stage: StageIdx(1),
        ..world.variants[0].clone()
    });
    scenario.pipelines.push(scenario.pipelines[0].clone());
    scenario.stages.push(scenario.stages[0].clone());
    scenario.variants.push(scenario.variants[0]);
    let outcome = simulate(&scenario, &load("steady:14", 1_800), "tiercel", &Options::default());
    let late = outcome
        .pipelines
        .iter()
        .map(|tally| tally.late_percent())
        .collect::<Vec<_>>();
    assert_eq!(
        outcome.pipelines.iter().map(|tally| tally.requests).sum::<u64>(),
        outcome.requests
    );
    assert!(
        late[1] < 15.0 && late[0] > 50.0,
        "the second has priority 900, the first 500: {late:?} % late"
    );
}

#[test]
fn the_clairvoyant_is_in_time_and_nobody_is_below_the_bound() {
    let (scenario, load) = (chain(), load("step:4:20", 3_600));
    let bound = super::demand::bound(&scenario, &load);
    let knowing = simulate(&scenario, &load, "clairvoyant:headroom=40", &Options::default());
    assert!(knowing.late_percent() < 0.5, "{}", knowing.late_percent());
    for kind in KINDS {
        let outcome = simulate(&scenario, &load, kind.name, &Options::default());
        assert!(outcome.cost >= bound, "{}: {} below {bound}", kind.name, outcome.cost);
    }
}
