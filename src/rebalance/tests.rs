//! Examples that read like the rules they show.

use super::decision::{HoldReason, NotUsed, Reason, Trigger};
use super::fixture::Fixture;
use super::world::{DryReason, Event, StageIdx, VariantIdx};
use super::{State, step};

const NOW_MS: u64 = 1_000_000;

/// What the first step decides.
fn check(observed: &str, expected: &str) {
    let fixture = Fixture::parse(observed);
    let mut state = State::new();
    let decisions = step(&mut state, &fixture.events(NOW_MS), NOW_MS);
    assert_eq!(
        fixture.render(&decisions),
        expected,
        "observed:\n{observed}\nreports: {:#?}",
        state.reports
    );
}

#[test]
fn demand_beyond_capacity_adds_the_cheapest_replicas() {
    check(
        "pool gpu 8\npool arm 8 cpu
         stage s target 800
           gpu cap 4 cost 10 has 2/2 at 950
           arm cap 1 cost 6 has 0/0",
        "gpu 2->3",
    );
}

#[test]
fn growth_goes_to_the_pool_with_room_when_the_first_is_full() {
    check(
        "pool gpu 2\npool arm 8 cpu
         stage s target 800
           gpu cap 4 cost 10 has 2/2 at 950
           arm cap 1 cost 3 has 0/0",
        "arm 0->2",
    );
}

#[test]
fn a_converged_world_is_left_alone() {
    check("pool gpu 8\nstage s\n gpu has 3/3 at 950", "-");
}

#[test]
fn a_stage_without_any_reading_keeps_what_it_has() {
    check(
        "pool gpu 8\npool arm 8\nstage s\n gpu cost 9 has 3/3 at ?\n arm cost 1 has 0/0",
        "-",
    );
}

#[test]
fn a_stage_below_its_floor_is_lifted_without_any_reading() {
    check("pool gpu 8\nstage s min 2\n gpu has 0/0", "gpu 0->2");
}
