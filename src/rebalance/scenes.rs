//! The generating stage of `config/samples/support-agent.yaml` on the pools of `pools.yaml`, with the demo's durations:
//! what was seen on a real control plane, replayed.
#![allow(clippy::cast_possible_truncation, reason = "small numbers by construction")]

use super::decision::{Decision, Move, Reason, Trigger};
use super::fixture::Fixture;
use super::sim::{Faults, Sim};
use super::world::{StageIdx, VariantIdx, World};

const L4: usize = 0;
const H100: usize = 1;
const GRAVITON: usize = 3;

/// A slot is a node. `hint` is what the controller puts on pools below the preferred tier.
fn generate() -> World {
    let mut world = Fixture::parse(
        "pool l4 11 spot\npool h100 1\npool inferentia 2\npool graviton 12 cpu\npool x86 4 cpu
         stage generate rated min 2 max 64 reliable 1 target 750 down 5000 surge 4 moves 1680 loss 7000
           l4 startup 3000
           h100 startup 3000
           inferentia startup 5000
           graviton startup 1000 hint 100000
           x86 startup 1000 hint 100000",
    )
    .world;
    let declared = [
        (293_300, 3_300),
        (6_880_000, 26_000),
        (1_967_860, 1_600),
        (628_320, 350),
        (705_600, 350),
    ];
    for (variant, (cost, capacity)) in world.variants.iter_mut().zip(declared) {
        (variant.cost_micros, variant.marginal_micros) = (cost, cost);
        variant.capacity_millis = capacity;
        variant.max = 64;
    }
    world.stages[0].reading_age_ms_max = 5_000;
    world
}

fn quiet(sim: &mut Sim, ticks: usize) -> Vec<Decision> {
    let before = sim.decisions.len();
    for _ in 0..ticks {
        sim.tick(&Faults::default());
    }
    assert_eq!(sim.violations, Vec::<String>::new());
    sim.decisions[before..].to_vec()
}

fn changes(decisions: &[Decision], variant: usize) -> Vec<(u32, u32)> {
    let moves = decisions.iter().flat_map(|decision| &decision.moves);
    moves
        .filter(|one| one.variant == VariantIdx(variant as u32))
        .map(|one| (one.from, one.to))
        .collect()
}

#[test]
fn the_first_replicas_of_a_stage_that_prefers_accelerators_are_on_accelerators() {
    let mut sim = Sim::new(generate(), vec![0], vec![0; 5], 1);
    quiet(&mut sim, 1);
    assert_eq!(sim.desired, [1, 0, 1, 0, 0], "one of two must be on a reliable pool");
}

#[test]
fn replicas_on_a_cordoned_pool_serve_until_others_do_or_the_provider_takes_them() {
    // 28 requests/s need 37.3 at the target. Without the L4 there is room for 34.8 at most.
    let mut sim = Sim::new(generate(), vec![28_000], vec![11, 0, 1, 0, 0], 1);
    quiet(&mut sim, 60);
    sim.set_capacity(L4, 0);
    quiet(&mut sim, 60);
    assert_eq!(
        sim.desired,
        [1, 1, 2, 12, 4],
        "nobody else could use the last L4, and its work is done nowhere else"
    );
    let hold = sim.state.report(StageIdx(0)).unwrap().hold;
    assert_eq!(hold, Some(super::decision::HoldReason::NoCapacity));
    // The demand falls; what the others cover now goes.
    sim.load[0] = 20_000;
    quiet(&mut sim, 120);
    assert_eq!(sim.desired[L4], 0, "{:?}", sim.desired);
}

#[test]
fn replicas_on_a_cordoned_pool_go_as_their_replacements_get_ready() {
    let mut sim = Sim::new(generate(), vec![20_000], vec![8, 0, 1, 0, 0], 1);
    quiet(&mut sim, 60);
    sim.set_capacity(L4, 0);
    for _ in 0..60 {
        let ready = |sim: &Sim| -> u64 {
            let each = sim.world.variants.iter().map(|variant| variant.capacity_millis);
            each.enumerate().map(|(at, each)| each * u64::from(sim.ready(at))).sum()
        };
        let before = ready(&sim).min(20_000 * 1_000 / 750);
        quiet(&mut sim, 1);
        assert!(ready(&sim) >= before, "{:?}", sim.decisions.last());
    }
    assert_eq!(sim.desired[L4], 0);
    assert_eq!(sim.desired[H100], 1);
}

#[test]
fn one_replica_probes_a_pool_that_was_lost_and_the_rest_follow_when_it_is_ready() {
    for taken in [true, false] {
        let mut sim = Sim::new(generate(), vec![20_000], vec![8, 0, 1, 0, 0], 1);
        quiet(&mut sim, 60);
        sim.set_capacity(L4, 0);
        // The provider takes them one by one after its notice, or we were faster.
        quiet(&mut sim, 3);
        while taken && sim.ready(L4) > 0 {
            sim.reclaim(L4);
            quiet(&mut sim, 1);
        }
        quiet(&mut sim, 20);
        assert_eq!(sim.desired[L4], 0);
        sim.set_capacity(L4, 100);
        let back_ms = sim.now_ms;
        let decided = quiet(&mut sim, 60);
        assert!(
            decided[0].at_ms <= back_ms + 1_000,
            "no pause is waited for: {decided:#?}"
        );
        let back = changes(&decided, L4);
        assert_eq!(back[0], (0, 1), "taken: {taken}, {decided:#?}");
        assert_eq!(decided[0].reason, Reason::Probe);
        let grows = |one: &Move| one.variant == VariantIdx(L4 as u32) && one.from > 0;
        let next = decided.iter().find(|one| one.moves.iter().any(grows)).unwrap();
        assert!(
            next.at_ms >= decided[0].at_ms + 1_500,
            "a replica takes its time: {decided:#?}"
        );
        assert_eq!((sim.desired[H100], sim.desired[GRAVITON]), (0, 0), "{:?}", sim.desired);
    }
}

#[test]
fn a_pool_whose_replicas_got_through_its_loss_needs_no_probe() {
    let mut sim = Sim::new(generate(), vec![20_000], vec![8, 0, 1, 0, 0], 1);
    quiet(&mut sim, 60);
    sim.set_capacity(L4, 0);
    while sim.desired[L4] > 4 {
        quiet(&mut sim, 1);
    }
    assert!(sim.ready(L4) > 0);
    sim.set_capacity(L4, 100);
    let decided = quiet(&mut sim, 60);
    assert!(decided.iter().all(|one| one.reason != Reason::Probe), "{decided:#?}");
    assert_eq!((sim.desired[H100], sim.desired[GRAVITON]), (0, 0), "{:?}", sim.desired);
}

#[test]
fn growth_is_never_put_down_to_less_demand() {
    // Less demand makes the L4 enough where H100 was needed: they grow, and it goes.
    let mut sim = Sim::new(generate(), vec![33_000], vec![5, 1, 1, 0, 0], 1);
    quiet(&mut sim, 60);
    assert_eq!(sim.desired[H100], 1);
    sim.load[0] = 25_000;
    let decided = quiet(&mut sim, 60);
    assert_eq!(sim.desired[H100], 0, "{:?}", sim.desired);
    let grows = |one: &&Decision| one.moves.iter().any(|one| one.to > one.from);
    let mut additions = decided.iter().filter(grows);
    assert_eq!(additions.next().unwrap().trigger, Trigger::CapacityGained);
    // A pool is lost, and the demand falls while its replacements are on their way: they are the loss's.
    let mut sim = Sim::new(generate(), vec![28_000], vec![11, 0, 1, 0, 0], 1);
    quiet(&mut sim, 60);
    sim.set_capacity(L4, 0);
    sim.load[0] = 24_000;
    let decided = quiet(&mut sim, 60);
    let mut additions = decided.iter().filter(grows);
    assert!(
        additions.all(|one| one.trigger == Trigger::CapacityLost),
        "{decided:#?}"
    );
}

/// Times a stage's total turned round.
fn reversals(decisions: &[Decision]) -> usize {
    let total = |one: &Decision| -> i64 {
        one.moves
            .iter()
            .map(|one| i64::from(one.to) - i64::from(one.from))
            .sum()
    };
    let ways: Vec<bool> = decisions
        .iter()
        .map(total)
        .filter(|&by| by != 0)
        .map(|by| by > 0)
        .collect();
    ways.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[test]
fn l2_a_window_too_short_for_the_noise_is_stretched_until_it_is_not() {
    for seed in 1..=20 {
        let mut sim = Sim::new(generate(), vec![18_000], vec![8, 0, 1, 0, 0], seed);
        sim.noise_permille = 150;
        quiet(&mut sim, 60);
        let decided = quiet(&mut sim, 1_800);
        assert!(
            reversals(&decided) <= 8,
            "seed {seed}: {} reversals",
            reversals(&decided)
        );
    }
}

#[test]
fn a_caller_whose_new_pods_do_not_report_yet_does_not_hold_the_called_up() {
    let mut fixture = Fixture::parse(
        "pool cpu 40 cpu\npool gpu 40
         stage calls rated target 1000
           cpu cap 10 has 2/2 at 500
         stage called rated target 1000 after calls 2
           gpu cap 4 has 10/10 at 950",
    );
    let mut state = super::State::new();
    let mut now_ms = 1_000_000;
    super::step(&mut state, &fixture.events(now_ms), now_ms);
    let demand = |state: &super::State| state.report(StageIdx(1)).unwrap().demand_millis.unwrap();
    assert_eq!(demand(&state), 40_000);
    // Load halves for both, and only one of the caller's two pods is heard.
    fixture.utilization = vec![None, Some(500)];
    for _ in 0..20 {
        now_ms += 1_000;
        let mut events = fixture.readings(now_ms);
        events.push(super::world::Event::Reading {
            variant: VariantIdx(0),
            reading: super::world::Reading {
                expected: 2,
                ..super::fixture::busy(now_ms, 1, 250)
            },
        });
        super::step(&mut state, &events, now_ms);
    }
    assert_eq!(demand(&state), 20_000);
}
