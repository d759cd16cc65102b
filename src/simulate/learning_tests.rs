//! What the core learns and sends ahead, on whole runs: seen by what its replicas do, beside a core that does not.

use super::demand::initial;
use super::engine::{Options, run};
use super::fixture::{pool, scenario, stage, variant};
use super::load::{Change, Load};
use super::outcome::Outcome;
use super::policy::told::{Moment, Shows, Told};
use super::scenario::Scenario;
use crate::rebalance::State;
use crate::rebalance::world::{Edge, StageIdx, World};

fn load(name: &str, seconds: u64) -> Load {
    let nowhere = std::path::Path::new("nowhere");
    let change = Change {
        seconds: Some(seconds),
        ..Change::NONE
    };
    Load::named(name, nowhere, change, 1).unwrap()
}

fn simulate(scenario: &Scenario, load: &Load, mut told: Told) -> (Outcome, Told) {
    let start = initial(scenario, load);
    let outcome = run(scenario, load, &start, ("told", &mut told), &Options::default());
    (outcome, told)
}

/// Four stages, each on a pool of its own, that call each other once; replicas serve 2 per second and take 10 s to start.
fn chain_of_four() -> Scenario {
    let edge = |from| Edge {
        from: StageIdx(from),
        calls_millis: 1_000,
    };
    let after = |at: u32| at.checked_sub(1).map(edge).into_iter().collect();
    let stages = (0..4).map(|at| stage(at, (at, at + 1), after(at))).collect();
    let variants = (0..4).map(|at| variant(at, at, 2_000, 10)).collect();
    scenario((0..4).map(|at| pool(at, 60)).collect(), stages, variants)
}

/// The step of `step:4:16` comes after 20 minutes.
const STEP_MS: u64 = 1_200_000;

/// Seconds after the step until the last stage has so many Ready, and the most that ever waited there in the two minutes
/// before that and after.
fn last_stage(moments: &[Moment], ready: u32) -> (u64, f64) {
    let after = moments.iter().filter(|moment| moment.at_ms >= STEP_MS);
    let there = after.clone().find(|moment| moment.ready[3] >= ready);
    let seconds = there.map_or(u64::MAX, |moment| (moment.at_ms - STEP_MS) / 1_000);
    let waited = after.take(180).map(|moment| moment.waiting[3]).fold(0.0, f64::max);
    (seconds, waited)
}

fn without_edges(world: &World) -> World {
    let mut world = world.clone();
    world.stages.iter_mut().for_each(|stage| stage.after.clear());
    world
}

#[test]
fn a_step_at_the_source_has_the_last_of_four_stages_ready_before_its_queue_grows() {
    let scenario = chain_of_four();
    let load = load("step:4:16", 2_000);
    let run = |world: World| {
        let (outcome, told) = simulate(&scenario, &load, Told::new(State::new(), world, Shows::RateAndBacklog));
        // Sixteen per second keep eight replicas busy.
        let (seconds, waited) = last_stage(told.moments(), 8);
        (seconds, waited, outcome.late_percent())
    };
    let ahead = run(scenario.world.clone());
    let alone = run(without_edges(&scenario.world));
    println!("sent ahead: Ready after {} s, {:.0} waited, {:.2} % late", ahead.0, ahead.1, ahead.2);
    println!("not:        Ready after {} s, {:.0} waited, {:.2} % late", alone.0, alone.1, alone.2);
    assert!(ahead.0 <= 20, "{ahead:?}");
    assert!(ahead.1 <= 8.0, "less than one call per replica waits: {ahead:?}");
    assert!(alone.0 >= 2 * ahead.0, "{alone:?}");
    assert!(alone.1 >= 4.0 * ahead.1.max(1.0), "{alone:?}");
}
