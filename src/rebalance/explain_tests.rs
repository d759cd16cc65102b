use super::super::fixture::Fixture;
use super::super::step::step;
use super::super::world::{Event, VariantIdx};
use super::*;

const NOW_MS: u64 = 1_000_000;

/// Two stages of one variant each, read once; the second is called twice per request of the first.
fn stepped(readings: [Reading; 2]) -> State {
    let fixture = Fixture::parse(
        "pool cpu 40 cpu\npool gpu 400
         stage calls rated min 1 max 9 target 500
           cpu cap 10 has 2/2
         stage called rated min 1 max 9 target 1000 after calls 2
           gpu cap 5 has 2/2",
    );
    let mut world = fixture.world.clone();
    world.variants[0].concurrency = Some(8);
    let mut events = vec![Event::World(world)];
    for (at, reading) in (0..).zip(readings) {
        let variant = VariantIdx(at);
        events.push(Event::Replicas {
            variant,
            desired: 2,
            ready: 2,
        });
        events.push(Event::Reading { variant, reading });
    }
    let mut state = State::new();
    step(&mut state, &events, NOW_MS);
    state
}

fn reading(rate: Option<u64>, running: Option<u64>, waiting: Option<u64>) -> Reading {
    Reading {
        taken_ms: NOW_MS,
        sampled: 2,
        expected: 2,
        running_millis: running,
        waiting_millis: waiting,
        utilization_permille: None,
        rate_millis: rate,
    }
}

fn asks(account: &StageAccount, driver: Driver) -> Option<u64> {
    let found = account.needs.iter().find(|need| need.driver == driver);
    found.map(|need| need.asks)
}

#[test]
fn every_need_that_is_known_is_told_beside_the_one_that_decided() {
    let state = stepped([
        reading(Some(4_000), Some(6_000), Some(1_000)),
        reading(Some(3_000), None, None),
    ]);
    let calls = state.account(StageIdx(0), NOW_MS).unwrap();
    // 4 per second at a target of 50 %; 7 requests in 8 slots of 10 per second, at the same target.
    assert_eq!(asks(&calls, Driver::Rate), Some(8_000));
    assert_eq!(asks(&calls, Driver::Running), Some(17_500));
    assert_eq!(
        asks(&calls, Driver::Utilization),
        None,
        "nobody says it, which is not zero"
    );
    assert_eq!(calls.decided, Some(Driver::Running));
    let called = state.account(StageIdx(1), NOW_MS).unwrap();
    assert_eq!(called.decided, Some(Driver::Callers));
    assert_eq!(asks(&called, Driver::Rate), Some(3_000));
    assert!(
        asks(&called, Driver::Callers) > asks(&called, Driver::Rate),
        "{:?}",
        called.needs
    );
    assert_eq!(asks(&called, Driver::Running), None, "slots are not declared");
    assert_eq!(called.calls[0].learned.declared, 2_000);
    assert_eq!(called.variants[0].replicas, (2, 2));
    assert_eq!(state.account(StageIdx(2), NOW_MS), None);
}

#[test]
fn a_reading_that_is_too_old_asks_for_nothing() {
    let state = stepped([
        reading(Some(4_000), Some(6_000), None),
        reading(Some(3_000), None, None),
    ]);
    let age_ms = state.world().stages[0].reading_age_ms_max;
    let asked = |now_ms| state.account(StageIdx(0), now_ms).unwrap().needs;
    assert_eq!(asked(NOW_MS + age_ms).len(), 2);
    assert_eq!(asked(NOW_MS + age_ms + 1), []);
}

#[test]
fn a_pool_is_dry_for_the_stage_that_found_it_so_and_until_when_is_told() {
    let mut state = stepped([
        reading(Some(4_000), Some(6_000), None),
        reading(Some(3_000), None, None),
    ]);
    let dry = |state: &State, stage| state.account(StageIdx(stage), NOW_MS).unwrap().variants[0].dry;
    assert_eq!((dry(&state, 0), dry(&state, 1)), (None, None));
    let event = Event::Dry {
        variant: VariantIdx(1),
        reason: DryReason::CannotStart,
    };
    step(&mut state, &[event], NOW_MS);
    assert_eq!(dry(&state, 0), None);
    assert_eq!(dry(&state, 1), Some((NOW_MS + 30_000, DryReason::CannotStart)));
    // Nodes come and go meanwhile: what was found stays found.
    let mut world = state.world().clone();
    world.variants[1].cost_micros += 1;
    step(&mut state, &[Event::World(world)], NOW_MS + 1);
    assert_eq!([0, 1].map(|at| state.is_dry(VariantIdx(at))), [false, true]);
}

#[test]
fn a_range_is_an_eighth_to_eight_times() {
    assert_eq!(range(10_000), (1_250, 80_000));
}
