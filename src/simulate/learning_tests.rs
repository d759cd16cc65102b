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
    println!(
        "sent ahead: Ready after {} s, {:.0} waited, {:.2} % late",
        ahead.0, ahead.1, ahead.2
    );
    println!(
        "not:        Ready after {} s, {:.0} waited, {:.2} % late",
        alone.0, alone.1, alone.2
    );
    assert!(ahead.0 <= 20, "{ahead:?}");
    assert!(ahead.1 <= 8.0, "less than one call per replica waits: {ahead:?}");
    assert!(alone.0 >= 2 * ahead.0, "{alone:?}");
    assert!(alone.1 >= 4.0 * ahead.1.max(1.0), "{alone:?}");
}

#[test]
fn calls_that_were_learned_have_the_last_stage_ready_too_and_declared_ones_that_are_wrong_do_not() {
    // True are three calls per request into the last stage, declared is one.
    let mut scenario = chain_of_four();
    scenario.world.stages[3].after[0].calls_millis = 3_000;
    let load = load("step:4:16", 2_000);
    let run = |state: State| {
        let mut world = scenario.world.clone();
        world.stages[3].after[0].calls_millis = 1_000;
        let (outcome, told) = simulate(&scenario, &load, Told::new(state, world, Shows::RateAndBacklog));
        let calls = told.state().report(StageIdx(3)).unwrap().calls;
        let (seconds, waited) = last_stage(told.moments(), 24);
        (seconds, waited, outcome.late_percent(), calls)
    };
    let learned = run(State::new());
    let declared = run(State::unlearning());
    println!("learned:  {learned:?}");
    println!("declared: {declared:?}");
    let calls = learned.3.unwrap();
    assert!(
        (2_700..=3_300).contains(&calls.value) && calls.declared == 1_000,
        "{calls:?}"
    );
    assert!(learned.0 <= 20 && learned.1 <= 24.0, "{learned:?}");
    assert!(
        declared.0 > learned.0 && declared.1 >= 4.0 * learned.1.max(24.0),
        "{declared:?}"
    );
}

/// One stage, CPU use and rate every 15 s.
fn one_stage(cap: u64) -> (Scenario, World) {
    let mut scenario = scenario(
        vec![pool(0, 200)],
        vec![stage(0, (0, 1), Vec::new())],
        vec![variant(0, 0, 2_000, 10)],
    );
    scenario.world.stages[0].reading_age_ms_max = 45_000;
    let mut world = scenario.world.clone();
    world.variants[0].capacity_millis = cap;
    (scenario, world)
}

#[test]
fn a_capacity_that_is_declared_three_times_too_low_costs_more_for_minutes_and_not_for_ever() {
    let load = load("steady:30", 3_600);
    let (scenario, right) = one_stage(2_000);
    let (_, wrong) = one_stage(667);
    let run = |state, world| simulate(&scenario, &load, Told::new(state, world, Shows::UtilizationAndRate));
    let (truth, _) = run(State::new(), right);
    let (learned, told) = run(State::new(), wrong.clone());
    let (declared, _) = run(State::unlearning(), wrong);
    let known = told.state().report(StageIdx(0)).unwrap().learned[0].capacity;
    assert!(
        (1_850..=2_150).contains(&known.value) && known.declared == 667,
        "{known:?}"
    );
    let right = truth.frames.last().unwrap().placed[0];
    let settled = told.moments()[900].desired[0];
    assert!(
        settled.abs_diff(right) <= 2,
        "after a quarter of an hour {settled}, right are {right}"
    );
    assert!(
        learned.cost < 1.3 * truth.cost && learned.late_percent() < 0.1,
        "{learned:?}"
    );
    assert!(declared.cost > 2.5 * truth.cost);
}
