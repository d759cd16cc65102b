//! Examples that read like the rules they show.

use super::decision::{Decision, HoldReason, NotUsed, Reason, Trigger};
use super::fixture::{Fixture, busy};
use super::world::{DryReason, Event, OnSignalLoss, Reading, StageIdx, VariantIdx};
use super::{State, step};

mod crowd;
mod cycle;
mod lean;
mod shared;
mod silence;
mod sleep;

const NOW_MS: u64 = 1_000_000;

/// A world and a core that has seen it once.
struct Run {
    fixture: Fixture,
    state: State,
    now_ms: u64,
    decided: Vec<Decision>,
}

impl Run {
    fn of(observed: &str) -> Self {
        let fixture = Fixture::parse(observed);
        let mut state = State::new();
        let decided = step(&mut state, &fixture.events(NOW_MS), NOW_MS);
        Self {
            fixture,
            state,
            now_ms: NOW_MS,
            decided,
        }
    }

    /// What the last step decided.
    fn decides(&self, expected: &str) -> &Self {
        assert_eq!(
            self.fixture.render(&self.decided),
            expected,
            "reports: {:#?}",
            self.state.reports
        );
        self
    }

    /// Later, with these events on top of fresh readings of what runs.
    fn after(&mut self, ms: u64, events: &[Event]) -> &mut Self {
        self.now_ms += ms;
        let mut all = events.to_vec();
        all.extend(self.fixture.readings(self.now_ms));
        self.decided = step(&mut self.state, &all, self.now_ms);
        self
    }

    /// Later, without a word from anybody.
    fn silence(&mut self, ms: u64) -> &mut Self {
        self.now_ms += ms;
        self.decided = step(&mut self.state, &[], self.now_ms);
        self
    }

    /// A variant is observed with so many replicas, and its pods are so busy.
    fn sees(&mut self, variant: u32, ready: u32, desired: u32, used: Option<u32>) -> Event {
        let at = variant as usize;
        self.fixture.replicas[at] = (desired, ready);
        self.fixture.utilization[at] = used;
        Event::Replicas {
            variant: VariantIdx(variant),
            desired,
            ready,
        }
    }

    fn hold(&self) -> Option<HoldReason> {
        self.state.report(StageIdx(0)).unwrap().hold
    }
}

/// What the first step decides.
fn check(observed: &str, expected: &str) {
    Run::of(observed).decides(expected);
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
fn a_remainder_goes_to_the_small_replica() {
    check(
        "pool gpu 8\npool arm 8 cpu
         stage s target 800
           gpu cap 4 cost 10 has 2/2 at 950
           arm cap 1 cost 3 has 0/0",
        "arm 0->2",
    );
}

#[test]
fn growth_goes_to_the_pool_with_room_when_the_first_is_full() {
    let run = Run::of(
        "pool gpu 2\npool arm 8 cpu
         stage s target 800
           gpu cap 4 cost 10 has 2/2 at 950
           arm cap 1 cost 6 has 0/0",
    );
    run.decides("arm 0->2");
    assert_eq!(run.decided[0].reason, Reason::PoolFull);
    assert_eq!(run.decided[0].rejected, [(VariantIdx(0), NotUsed::Full)]);
}

#[test]
fn under_uniform_traffic_a_slow_pool_is_not_mixed_with_a_fast_one() {
    // Where capacities add, one slow replica is enough; at its pace all three would serve only three units.
    let world = |traffic: &str| {
        format!(
            "pool gpu 8\npool arm 8 cpu
             stage s target 900 tolerance 0 {traffic}
               gpu cap 4 cost 10 has 2/2 at 960
               arm cap 1 cost 5 has 0/0"
        )
    };
    check(&world("uniform"), "gpu 2->3");
    check(&world(""), "arm 0->1");
}

#[test]
fn a_tier_hint_is_a_price() {
    let world = |hint: u32| {
        format!(
            "pool gpu 8\npool arm 8 cpu
             stage s\n gpu cost 5 has 1/1 at 990\n arm cost 3 hint {hint} has 0/0"
        )
    };
    check(&world(2_000), "gpu 1->2");
    check(&world(1_000), "arm 0->2");
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

#[test]
fn nothing_is_decided_before_all_replicas_are_observed() {
    let fixture = Fixture::parse("pool gpu 8\npool arm 8\nstage s min 2\n gpu has 0/0\n arm has 0/0");
    let mut state = State::new();
    let events = fixture.events(NOW_MS);
    assert_eq!(
        step(&mut state, &events[..2], NOW_MS),
        [],
        "one of two variants is observed"
    );
    assert_eq!(state.report(StageIdx(0)).unwrap().hold, Some(HoldReason::MetricsStale));
    assert_ne!(step(&mut state, &events[2..], NOW_MS), []);
}

#[test]
fn a_shift_makes_before_it_breaks() {
    let mut run = Run::of(
        "pool gpu 8\npool arm 8 cpu
         stage s surge 2
           gpu cost 10 has 3/3 at 950
           arm cost 1 has 0/0",
    );
    run.decides("arm 0->2");
    let arm = run.sees(1, 0, 2, None);
    run.after(1_000, &[arm]).decides("-");
    assert_eq!(run.hold(), Some(HoldReason::AwaitingReady));
    let events = [run.sees(0, 3, 3, Some(570)), run.sees(1, 2, 2, Some(570))];
    run.after(20_000, &events).decides("gpu 3->1");
    assert_eq!(
        (run.decided[0].trigger, run.decided[0].reason),
        (Trigger::ReplicaReady, Reason::MakeBeforeBreak)
    );
    let events = [run.sees(0, 1, 1, Some(950)), run.sees(1, 2, 2, Some(950))];
    run.after(1_000, &events).decides("arm 2->3");
    let events = [run.sees(0, 1, 1, Some(710)), run.sees(1, 3, 3, Some(710))];
    run.after(20_000, &events).decides("gpu 1->0");
    let events = [run.sees(0, 0, 0, None), run.sees(1, 3, 3, Some(950))];
    run.after(1_000, &events).decides("-");
    assert_eq!(run.hold(), None);
}

#[test]
fn a_shift_is_not_worth_less_than_one_part_in_twenty() {
    check(
        "pool a 8\npool b 8\nstage s\n a cost 100 has 3/3 at 950\n b cost 96 has 0/0",
        "-",
    );
    check(
        "pool a 8\npool b 8\nstage s\n a cost 100 has 3/3 at 950\n b cost 94 has 0/0",
        "b 0->2",
    );
}

#[test]
fn a_decided_write_is_not_repeated_before_it_had_time_to_be_observed() {
    let mut run = Run::of("pool gpu 8\nstage s target 500\n gpu has 2/2 at 900");
    run.decides("gpu 2->4");
    run.after(1_000, &[]).decides("-");
    run.after(3_999, &[]).decides("-");
    assert!(run.state.next_wake_ms().unwrap() <= NOW_MS + 5_000);
    run.after(1, &[]).decides("gpu 2->4");
}

#[test]
fn pending_replicas_are_capacity_and_not_asked_for_twice() {
    let mut run = Run::of("pool gpu 8\nstage s target 500\n gpu has 2/2 at 900");
    run.decides("gpu 2->4");
    let gpu = run.sees(0, 2, 4, Some(900));
    for _ in 0..15 {
        run.after(1_000, std::slice::from_ref(&gpu)).decides("-");
    }
    assert_eq!(run.state.report(StageIdx(0)).unwrap().pending_capacity_millis, 2_000);
}

#[test]
fn replicas_that_do_not_come_are_replaced_elsewhere_and_then_withdrawn() {
    let mut run = Run::of(
        "pool gpu 8\npool arm 8 cpu
         stage s target 500
           gpu has 2/2 at 900 startup 10000
           arm cost 2 has 0/0",
    );
    run.decides("gpu 2->4");
    let gpu = run.sees(0, 2, 4, Some(900));
    run.after(1_000, &[gpu]).decides("-");
    run.after(28_000, &[]).decides("-");
    run.after(1_000, &[]).decides("arm 0->2");
    let events = [run.sees(0, 2, 4, Some(450)), run.sees(1, 2, 2, Some(450))];
    run.after(20_000, &events).decides("gpu 4->2");
}

#[test]
fn l5_a_dry_pool_gives_up_what_is_pending_and_another_takes_over() {
    let mut run = Run::of(
        "pool gpu 8\npool arm 8 cpu
         stage s target 500
           gpu has 2/2 at 900
           arm cost 2 has 0/0",
    );
    run.decides("gpu 2->4");
    let gpu = run.sees(0, 2, 4, Some(900));
    run.after(1_000, &[gpu]);
    let dry = Event::Dry {
        variant: VariantIdx(0),
        reason: DryReason::Unschedulable,
    };
    run.after(1_000, std::slice::from_ref(&dry))
        .decides("arm 0->2, gpu 4->2");
    assert_eq!(run.decided[0].trigger, Trigger::CapacityLost);
    assert_eq!(run.decided[0].reason, Reason::PoolDry(DryReason::Unschedulable));
    let until_ms = run.now_ms + 30_000;
    assert_eq!(
        run.decided[0].rejected,
        [(VariantIdx(0), NotUsed::DryUntil(until_ms, DryReason::Unschedulable))]
    );
    let events = [run.sees(0, 2, 2, Some(450)), run.sees(1, 2, 2, Some(450))];
    run.after(20_000, &events).decides("-");
    // After the pause one replica goes first, and the rest only when it is Ready.
    run.after(10_000, &[]).decides("gpu 2->3");
    assert_eq!(run.decided[0].reason, Reason::Probe);
    let events = [run.sees(0, 2, 3, Some(450)), run.sees(1, 2, 2, Some(450))];
    run.after(1_000, &events).decides("-");
    let events = [run.sees(0, 3, 3, Some(360)), run.sees(1, 2, 2, Some(360))];
    run.after(20_000, &events).decides("gpu 3->4, arm 2->1");
}

#[test]
fn a_pool_that_stays_dry_is_left_alone_twice_as_long() {
    let mut run = Run::of("pool gpu 8\npool arm 8\nstage s target 500\n gpu has 2/2 at 900\n arm cost 2 has 0/0");
    let dry = Event::Dry {
        variant: VariantIdx(0),
        reason: DryReason::CannotStart,
    };
    let gpu = run.sees(0, 2, 4, Some(900));
    run.after(0, &[gpu, dry.clone()]);
    let events = [run.sees(0, 2, 2, Some(450)), run.sees(1, 2, 2, Some(450))];
    run.after(1_000, &events);
    run.after(29_000, &[]).decides("gpu 2->3");
    let gpu = run.sees(0, 2, 3, Some(450));
    run.after(1_000, &[gpu, dry]).decides("gpu 3->2");
    let gpu = run.sees(0, 2, 2, Some(450));
    run.after(1_000, &[gpu]).decides("-");
    run.after(58_000, &[]).decides("-");
    run.after(1_000, &[]).decides("gpu 2->3");
}

#[test]
fn s6_no_shrink_without_fresh_evidence_for_that_stage() {
    let mut run = Run::of("pool gpu 8\nstage s loss 60000 static 1\n gpu has 4/4 at 900");
    run.silence(10_000).decides("-");
    run.silence(40_000).decides("-");
    assert_eq!(run.hold(), Some(HoldReason::MetricsStale));
    run.silence(10_000).decides("gpu 4->1");
    assert_eq!(
        (run.decided[0].trigger, run.decided[0].reason),
        (Trigger::SignalsLost, Reason::Fallback)
    );
}

#[test]
fn s6_pods_that_do_not_report_count_as_idle_for_growth_and_as_full_for_shrinking() {
    let partial = |used| Event::Reading {
        variant: VariantIdx(0),
        reading: Reading {
            sampled: 2,
            expected: 4,
            ..busy(NOW_MS + 1_000, 2, used)
        },
    };
    for (used, expected) in [(100, "gpu 4->3"), (900, "-")] {
        let mut run = Run::of("pool gpu 8\nstage s target 800\n gpu has 4/4 at 800");
        run.now_ms += 1_000;
        let decided = step(&mut run.state, &[partial(used)], run.now_ms);
        assert_eq!(run.fixture.render(&decided), expected, "two of four pods report {used}");
    }
}

#[test]
fn s7_zero_only_if_enabled_and_n_fresh_samples_are_idle() {
    let idle = |now_ms| Event::Reading {
        variant: VariantIdx(0),
        reading: Reading {
            running_millis: Some(0),
            waiting_millis: Some(0),
            ..busy(now_ms, 1, 0)
        },
    };
    for (words, expected) in [("min 0 waiting", "gpu 1->0"), ("min 0", "-"), ("min 1 waiting", "-")] {
        let mut run = Run::of(&format!("pool gpu 8\nstage s {words}\n gpu has 1/1 at ?"));
        for sample in 1..=3 {
            run.decides("-");
            run.after(1_000, &[idle(NOW_MS + sample * 1_000)]);
        }
        run.decides(expected);
    }
}

#[test]
fn shrinking_waits_for_the_window_and_keeps_to_its_share_per_minute() {
    let mut run = Run::of("pool gpu 20\nstage s down 60000 percent 50\n gpu has 8/8 at 950");
    let gpu = run.sees(0, 8, 8, Some(200));
    run.after(1_000, &[gpu]).decides("-");
    assert_eq!(run.hold(), Some(HoldReason::CoolingDown));
    for _ in 0..60 {
        run.after(1_000, &[]).decides("-");
    }
    for _ in 0..3 {
        run.after(1_000, &[]);
        if !run.decided.is_empty() {
            break;
        }
    }
    run.decides("gpu 8->4");
    let gpu = run.sees(0, 4, 4, Some(400));
    run.after(1_000, &[gpu]).decides("-");
    assert_eq!(run.hold(), Some(HoldReason::CoolingDown));
    for _ in 0..58 {
        run.after(1_000, &[]).decides("-");
    }
    run.after(1_000, &[]).decides("gpu 4->2");
}

#[test]
fn one_silent_pod_does_not_hide_what_the_others_say() {
    let mut run = Run::of("pool gpu 20\nstage s\n gpu has 4/4 at 800");
    run.decides("-");
    // The reading stays as old as the silent pod's last answer.
    run.now_ms += 1_000;
    let event = Event::Reading {
        variant: VariantIdx(0),
        reading: busy(NOW_MS, 4, 1_000),
    };
    run.decided = step(&mut run.state, &[event], run.now_ms);
    run.decides("gpu 4->6");
}

#[test]
fn slow_pools_that_set_the_pace_are_left_together() {
    // Neither slow replica may go alone: the other would still set the pace.
    check(
        "pool gpu 8\npool arm 8 cpu\npool old 8 cpu
         stage s uniform min 1
           gpu cap 4 cost 1 has 2/2 at 250
           arm cap 1 cost 9 has 1/1 at 950
           old cap 1 cost 9 has 1/1 at 950",
        "gpu 2->1, arm 1->0, old 1->0",
    );
}

#[test]
fn a_lost_pool_is_replaced_before_it_is_left() {
    let mut run = Run::of("pool gpu 8\npool arm 8 cpu\nstage s\n gpu cost 1 has 3/3 at 950\n arm cost 4 has 0/0");
    run.decides("-");
    let mut world = run.fixture.world.clone();
    world.pools[0].capacity = super::world::Resources::default();
    run.after(1_000, &[Event::World(world)]).decides("arm 0->2");
    assert_eq!(run.decided[0].trigger, Trigger::CapacityLost);
    let events = [run.sees(0, 3, 3, Some(570)), run.sees(1, 2, 2, Some(570))];
    run.after(20_000, &events).decides("gpu 3->1");
}

#[test]
fn a_blind_stage_that_leaves_a_closed_pool_holds_what_ran_and_not_what_the_shift_holds_twice() {
    let mut run = Run::of(
        "pool old 8\npool new 40
         stage s min 2 max 20 surge 4
           old cost 1 has 3/3 at ?
           new cost 2 has 0/0",
    );
    run.decides("-");
    let mut world = run.fixture.world.clone();
    world.pools[0].capacity = super::world::Resources::default();
    world.variants[0].max = 0;
    let mut events = vec![Event::World(world)];
    // The cluster does what it is told; replicas get Ready at once, and nobody ever reports.
    for _ in 0..20 {
        run.after(2_000, &events);
        let moves: Vec<_> = run.decided.iter().flat_map(|decision| decision.moves.clone()).collect();
        events = moves
            .iter()
            .map(|one| run.sees(one.variant.0, one.to, one.to, None))
            .collect();
        assert!(run.fixture.replicas[1].0 <= 3, "{:?}", run.fixture.replicas);
    }
    assert_eq!(run.fixture.replicas, [(0, 0), (3, 3)]);
}

#[test]
fn over_budget_the_pipeline_moves_to_cheaper_pools_before_it_shrinks() {
    let world = |budget: u32| {
        format!(
            "pipe p budget {budget}\npool gpu 8\npool arm 20 cpu
             stage s
               gpu cap 4 cost 10 hint 1000 has 0/0
               arm cap 1 cost 2 hint 5000 has 4/4 at ?"
        )
    };
    let grown = |budget: u32| {
        let mut run = Run::of(&world(budget));
        run.state.changed = true;
        let arm = run.sees(1, 4, 4, Some(1_000));
        run.after(1_000, &[arm]);
        run
    };
    grown(100).decides("gpu 0->2");
    // One gpu and two arm would cost less, but old and new together would cost too much on the way there.
    let mut run = grown(15);
    run.decides("-");
    run.after(1, &[]).decides("arm 4->6");
    assert_eq!(run.decided[0].reason, Reason::BudgetExhausted);
    let run = grown(9);
    run.decides("-");
    assert_eq!(run.state.report(StageIdx(0)).unwrap().unserved_millis, 2_000);
}

#[test]
fn a_budget_lowered_below_the_cost_is_met_at_once_down_to_the_floor() {
    check(
        "pipe p budget 2\npool gpu 8\nstage s min 1\n gpu cost 1 has 4/4 at 950",
        "gpu 4->2",
    );
    check(
        "pipe p budget 2\npool gpu 8\nstage s min 3\n gpu cost 1 has 4/4 at 950",
        "gpu 4->3",
    );
}

#[test]
fn a_power_ceiling_binds_like_a_budget_and_beside_it() {
    // Met at once, down to the floor.
    check(
        "pipe p watts 700\npool gpu 8\nstage s min 1\n gpu watts 300 has 4/4 at 950",
        "gpu 4->2",
    );
    check(
        "pipe p watts 700\npool gpu 8\nstage s min 3\n gpu watts 300 has 4/4 at 950",
        "gpu 4->3",
    );
    // The tighter of two ceilings decides.
    check(
        "pipe p budget 3 watts 700\npool gpu 8\nstage s min 1\n gpu cost 1 watts 300 has 4/4 at 950",
        "gpu 4->2",
    );
    check(
        "pipe p budget 1 watts 700\npool gpu 8\nstage s min 1\n gpu cost 1 watts 300 has 4/4 at 950",
        "gpu 4->1",
    );
}

#[test]
fn under_a_power_ceiling_a_stage_moves_to_what_serves_more_per_watt_though_it_is_dearer() {
    let world = |ceiling: &str| {
        format!(
            "pipe p {ceiling}\npool x86 20 cpu\npool arm 20 cpu
             stage s
               x86 cost 2 watts 100 has 4/4 at ?
               arm cost 3 watts 40 has 0/0"
        )
    };
    let grown = |ceiling: &str| {
        let mut run = Run::of(&world(ceiling));
        run.state.changed = true;
        let x86 = run.sees(0, 4, 4, Some(2_000));
        run.after(1_000, &[x86]);
        run
    };
    grown("").decides("x86 4->8");
    // Eight on x86 would draw 800 W, two of them on Arm 680 W.
    grown("watts 720").decides("x86 4->6, arm 0->2");
    // Six of eight on Arm; the first two have room in watts beside what runs.
    let run = grown("watts 480");
    run.decides("arm 0->2");
    assert_eq!(run.state.report(StageIdx(0)).unwrap().planned, [2, 6]);
}

#[test]
fn a_pool_that_declares_no_power_takes_nothing_of_a_pipeline_with_a_ceiling_on_it() {
    let mut run = Run::of(
        "pipe p watts 500\npool old 20 cpu\npool new 20 cpu
         stage s
           old cost 1 has 0/0
           new cost 2 watts 100 has 2/2 at ?",
    );
    run.state.changed = true;
    let new = run.sees(1, 2, 2, Some(2_000));
    run.after(1_000, &[new]).decides("new 2->4");
    assert_eq!(
        run.state.report(StageIdx(0)).unwrap().not_used[0],
        Some(NotUsed::OverPower)
    );
}

#[test]
fn what_runs_where_nobody_knows_its_power_goes_only_once_it_is_replaced() {
    let mut run = Run::of(
        "pipe p\npool old 20 cpu\npool new 20 cpu
         stage s
           old cost 1 has 3/3 at 900
           new cost 2 watts 100 has 0/0",
    );
    run.decides("-");
    run.fixture.world.pipelines[0].power_max_milliwatts = Some(1_000_000);
    let edited = Event::World(run.fixture.world.clone());
    run.after(1_000, &[edited]);
    let seen: Vec<Event> = [run.sees(0, 3, 3, Some(900))].into();
    run.after(1_000, &seen);
    let moved: Vec<_> = run.decided.iter().flat_map(|one| &one.moves).collect();
    assert!(moved.iter().all(|one| one.to >= one.from), "{moved:?}");
}

#[test]
fn a_pool_is_dearer_than_those_that_carry_the_load_not_than_one_that_holds_a_floor() {
    let run = Run::of(
        "pool l4 8 spot\npool inferentia 8\npool h100 8
         stage s min 2 reliable 1
           l4 cap 3 cost 1 has 2/2 at 1000
           inferentia cap 1 cost 2 has 1/1 at 1000
           h100 cap 26 cost 12 has 0/0",
    );
    run.decides("l4 2->4");
    let why = run.state.report(StageIdx(0)).unwrap().not_used[2];
    // 12 for 26 beside 1 for 3.
    assert!(matches!(why, Some(NotUsed::Dearer(120_000..140_000))), "{why:?}");
}

#[test]
fn a_budget_that_is_too_small_leaves_every_stage_the_same_share() {
    check(
        "pipe p budget 9\npool gpu 40
         stage a\n gpu cost 1 has 4/4 at 950
         stage b\n gpu cost 1 has 4/4 at 950
         stage c\n gpu cost 1 has 4/4 at 950",
        "a/gpu 4->3, b/gpu 4->3, c/gpu 4->3",
    );
    // By order of the stages, the dear one would keep a quarter or none.
    check(
        "pipe p budget 12\npool gpu 40
         stage a\n gpu cost 1 has 4/4 at 950
         stage b\n gpu cost 3 has 4/4 at 950",
        "a/gpu 4->3, b/gpu 4->3",
    );
}

#[test]
fn s8_the_higher_priority_is_served_first() {
    check(
        "pool gpu 4\npipe low priority 100\nstage a min 1\n gpu has 1/1 at 1000
         pipe high priority 900\nstage b min 1\n gpu has 2/2 at 1000",
        "b/gpu 2->3",
    );
}

#[test]
fn demand_is_forwarded_along_edges_in_the_same_step() {
    check(
        "pool gpu 20\nstage a rated\n gpu has 2/2 at 800
         stage b rated after a 3\n gpu has 1/1 at 900",
        "b/gpu 1->5",
    );
}

#[test]
fn paused_and_advisory_write_nothing() {
    let world = |mode: &str| format!("pipe p mode {mode}\npool gpu 8\nstage s\n gpu has 1/1 at 1000");
    let run = Run::of(&world("paused"));
    run.decides("-");
    assert_eq!(run.hold(), Some(HoldReason::Paused));
    let mut run = Run::of(&world("advisory"));
    run.decides("gpu 1->2");
    assert!(run.decided[0].advisory);
    run.after(1_000, &[]).decides("-");
    run.after(60_000, &[]).decides("-");
    assert_eq!(run.hold(), Some(HoldReason::Advisory));
}

#[test]
fn break_glass_modes_stop_one_direction() {
    let world = |mode: &str, used: u32| format!("pipe p mode {mode}\npool gpu 8\nstage s\n gpu has 4/4 at {used}");
    check(&world("no-scale-in", 200), "-");
    check(&world("no-scale-in", 1_000), "gpu 4->6");
    check(&world("no-scale-out", 1_000), "-");
    check(&world("no-scale-out", 200), "gpu 4->1");
    let mut run = Run::of(&world("no-scale-out", 900));
    let gpu = run.sees(0, 4, 4, Some(400));
    run.after(1_000, &[gpu]).decides("gpu 4->2");
}

#[test]
fn someone_elses_scaling_is_noticed_and_put_right() {
    let mut run = Run::of("pool gpu 8\nstage s\n gpu has 3/3 at 950");
    let gpu = run.sees(0, 3, 1, Some(950));
    run.after(1_000, &[gpu]).decides("gpu 1->3");
    assert_eq!(run.decided[0].trigger, Trigger::Drift);
}

#[test]
fn shifts_beyond_the_hourly_allowance_wait() {
    let world = "pool a 8\npool b 8\nstage s moves 0\n a cost 100 has 3/3 at 950\n b cost 10 has 0/0";
    let mut run = Run::of(world);
    run.decides("-");
    // Growth for load is not a shift.
    let a = run.sees(0, 3, 3, Some(1_000));
    run.after(1_000, &[a]).decides("b 0->2");
}

#[test]
fn on_signal_loss_current_if_higher_keeps_the_last_demand() {
    let mut run = Run::of("pool gpu 8\nstage s loss 20000 current-if-higher\n gpu has 4/4 at 900");
    run.fixture.utilization[0] = None;
    run.silence(30_000).decides("-");
    let gpu = run.sees(0, 2, 2, None);
    run.after(1_000, &[gpu]).decides("gpu 2->4");
    assert_eq!(
        run.fixture.world.stages[0].on_signal_loss,
        OnSignalLoss::CurrentIfHigher
    );
}

#[test]
fn q1_floors_of_reliable_pools_are_kept() {
    check(
        "pool spot 8 spot\npool safe 8\nstage s min 2 reliable 1\n spot cost 1 has 0/0\n safe cost 5 has 0/0",
        "spot 0->1, safe 0->1",
    );
}
