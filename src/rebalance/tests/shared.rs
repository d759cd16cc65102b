//! Ceilings that pipelines keep together.

use super::*;

#[test]
fn pipelines_keep_ceilings_together_that_they_share_the_more_important_first() {
    let two = |shared: &str, first: u16, second: u16| {
        format!(
            "shared {shared}\npool gpu 20
             pipe a priority {first} shares 0\nstage s\n gpu cost 1 watts 100 has 3/3 at 1600
             pipe b priority {second} shares 0\nstage t\n gpu cost 1 watts 100 has 3/3 at 1600"
        )
    };
    // Each wants five.
    check(&two("budget 10", 500, 500), "s/gpu 3->5, t/gpu 3->5");
    check(&two("budget 8", 900, 100), "s/gpu 3->5");
    check(&two("budget 8", 100, 900), "t/gpu 3->5");
    check(&two("watts 800", 900, 100), "s/gpu 3->5");
    // The tighter ceiling decides, also between what is shared and what is not.
    check(&two("budget 10 watts 800", 100, 900), "t/gpu 3->5");
    check(
        &two("budget 10", 900, 100).replace("pipe a", "pipe a budget 4"),
        "s/gpu 3->4, t/gpu 3->5",
    );
    // Who shares nothing is held back by nothing.
    check(&two("budget 3", 900, 100).replace("900 shares 0", "900"), "s/gpu 3->5");
    // What an advisory pipeline runs counts; what it would like does not, and here it would find nothing left.
    check(
        &two("budget 7", 900, 100).replace("pipe a", "pipe a mode advisory"),
        "t/gpu 3->4",
    );
}

#[test]
fn a_shared_ceiling_lowered_below_the_cost_is_met_by_the_least_important_down_to_its_floor() {
    let world = |shared: &str| {
        format!(
            "shared {shared}\npool gpu 20
             pipe a priority 900 shares 0\nstage s min 1\n gpu cost 1 watts 100 has 3/3 at 750
             pipe b priority 100 shares 0\nstage t min 1\n gpu cost 1 watts 100 has 3/3 at 750"
        )
    };
    check(&world("budget 6"), "-");
    check(&world("budget 5"), "t/gpu 3->2");
    check(&world("budget 4"), "t/gpu 3->1");
    check(&world("watts 400"), "t/gpu 3->1");
    check(&world("budget 3"), "s/gpu 3->2, t/gpu 3->1");
    check(&world("budget 1"), "s/gpu 3->1, t/gpu 3->1");
}

#[test]
fn a_pool_that_a_shared_ceiling_leaves_nothing_for_says_so() {
    let run = Run::of(
        "shared budget 5\npool gpu 20\npool arm 20 cpu
         pipe p shares 0\nstage s min 1\n gpu cost 2 has 2/2 at 1600\n arm cost 3 has 0/0",
    );
    let report = run.state.report(StageIdx(0)).unwrap();
    assert_eq!(report.not_used[1], Some(NotUsed::OverShared));
    assert_eq!(report.reason, Reason::BudgetExhausted);
}

#[test]
fn a_shared_ceiling_that_is_raised_lets_those_grow_who_were_held_back() {
    let mut run = Run::of(
        "shared budget 4\npool gpu 20
         pipe a priority 900 shares 0\nstage s min 1\n gpu cost 1 has 3/3 at 750
         pipe b priority 100 shares 0\nstage t min 1\n gpu cost 1 has 1/1 at 1600",
    );
    run.decides("-");
    let mut world = run.fixture.world.clone();
    world.shared[0].budget_micros = Some(5_000_000);
    run.after(10_000, &[Event::World(world)]).decides("t/gpu 1->2");
}
