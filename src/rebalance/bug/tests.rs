//! Every seeded bug is caught by the tests that are there to catch it, and by none of them without the bug. Each test
//! runs in a process of its own, so that a bug is on for all of it and for nothing else.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::{Bug, VARIABLE};

/// A test that takes longer hangs.
const SECONDS_MAX: u32 = 300;

/// Which tests must fail while which bug is on. Names are those of the test harness, from the core's module on.
const CAUGHT_BY: &[(Bug, &[&str])] = &[
    (
        Bug::SilentPodsAreIdle,
        &["tests::s6_pods_that_do_not_report_count_as_idle_for_growth_and_as_full_for_shrinking"],
    ),
    (
        Bug::SilentVariantIsIdle,
        &["proofs::s6_a_variant_that_says_nothing_counts_as_full_for_shrinking"],
    ),
    (
        Bug::SilentAlsoIsIdle,
        &["also::tests::while_one_signal_is_silent_the_other_grows_the_stage_and_nothing_shrinks_it"],
    ),
    (
        Bug::EmptyReadingIsZero,
        &["proofs::a_reading_without_any_number_is_no_reading_of_zero"],
    ),
    (
        Bug::StaleIsFresh,
        &["tests::s6_no_shrink_without_fresh_evidence_for_that_stage"],
    ),
    (
        Bug::IdleAtOnce,
        &["tests::s7_zero_only_if_enabled_and_n_fresh_samples_are_idle"],
    ),
    (
        Bug::CoolDownIgnored,
        &["tests::shrinking_waits_for_the_window_and_keeps_to_its_share_per_minute"],
    ),
    (
        Bug::FanOutDropped,
        &["tests::demand_is_forwarded_along_edges_in_the_same_step"],
    ),
    (
        Bug::FloorOffByOne,
        &[
            "properties::q2_the_oracle_answers_like_the_exhaustive_judge",
            "tests::a_stage_below_its_floor_is_lifted_without_any_reading",
        ],
    ),
    (
        Bug::ReliableFloorIgnored,
        &[
            "properties::q2_the_oracle_answers_like_the_exhaustive_judge",
            "tests::q1_floors_of_reliable_pools_are_kept",
        ],
    ),
    (
        Bug::PaceRoundedDown,
        &["properties::q2_the_oracle_answers_like_the_exhaustive_judge"],
    ),
    (
        Bug::UniformIsMean,
        &[
            "proofs::replicas_that_share_a_service_serve_at_the_pace_of_the_slowest",
            "episodes::no_write_breaks_a_promise_in_any_of_many_short_episodes",
        ],
    ),
    (
        Bug::TieByPlace,
        &["properties::s12_the_order_of_items_does_not_change_what_is_chosen"],
    ),
    (
        Bug::TieByName,
        &["properties::s12_naming_and_the_order_of_events_do_not_change_a_decision"],
    ),
    (
        Bug::PriorityIgnored,
        &["proofs::s8_a_higher_class_is_served_before_one_that_needs_more"],
    ),
    (
        Bug::IncumbentIsBound,
        &[
            "proofs::a_search_that_is_cut_off_reports_what_it_left_open",
            "solve::proofs::a_stage_whose_search_is_cut_off_vouches_for_no_more_than_it_knows",
        ],
    ),
    (
        Bug::BudgetForgotten,
        &["tests::a_budget_lowered_below_the_cost_is_met_at_once_down_to_the_floor"],
    ),
    (
        Bug::PowerForgotten,
        &["tests::a_power_ceiling_binds_like_a_budget_and_beside_it"],
    ),
    (
        Bug::SharedForgotten,
        &[
            "tests::shared::pipelines_keep_ceilings_together_that_they_share_the_more_important_first",
            "episodes::no_write_breaks_a_promise_in_any_of_many_short_episodes",
        ],
    ),
    (Bug::MemoryForgotten, &["proofs::memory_is_a_resource_of_its_own"]),
    (
        Bug::LeavingForgotten,
        &["episodes::no_write_breaks_a_promise_in_any_of_many_short_episodes"],
    ),
    (
        Bug::InFlightIsCertain,
        &[
            "proofs::a_write_that_may_be_lost_holds_no_floor",
            "episodes::no_write_breaks_a_promise_in_any_of_many_short_episodes",
        ],
    ),
    (
        Bug::AskedAgain,
        &["tests::a_decided_write_is_not_repeated_before_it_had_time_to_be_observed"],
    ),
    (
        Bug::DryForever,
        &["tests::l5_a_dry_pool_gives_up_what_is_pending_and_another_takes_over"],
    ),
    (
        Bug::DryPauseStays,
        &["tests::a_pool_that_stays_dry_is_left_alone_twice_as_long"],
    ),
    (
        Bug::SpareOffByOne,
        &["episodes::no_write_breaks_a_promise_in_any_of_many_short_episodes"],
    ),
    (
        Bug::BreakBeforeMake,
        &[
            "tests::a_shift_makes_before_it_breaks",
            "episodes::no_write_breaks_a_promise_in_any_of_many_short_episodes",
        ],
    ),
    (
        Bug::MostGivesWay,
        &["tests::cycle::stages_in_each_others_way_are_untangled_where_more_is_served_for_it"],
    ),
    (
        Bug::PriceGivesWay,
        &["tests::cycle::for_a_price_alone_nobody_gives_way"],
    ),
    (
        Bug::ShrinkFirst,
        &["tests::l5_a_dry_pool_gives_up_what_is_pending_and_another_takes_over"],
    ),
    (Bug::SurgeIgnored, &["tests::a_shift_makes_before_it_breaks"]),
    (
        Bug::VerifySkipped,
        &["proofs::a_decision_that_fails_its_check_is_not_written"],
    ),
    (
        Bug::PriceSign,
        &["solve::properties::a_fleet_is_solved_close_to_its_bound_and_the_same_on_two_threads"],
    ),
    (
        Bug::GapHalved,
        &["solve::properties::a_tiny_instance_gets_the_best_of_all_plans_and_its_proof"],
    ),
    (
        Bug::RoomTermSign,
        &["solve::properties::a_tiny_instance_gets_the_best_of_all_plans_and_its_proof"],
    ),
    (
        Bug::CallersOrder,
        &["solve::properties::the_same_rows_in_another_order_get_the_same_plan"],
    ),
    (
        Bug::BottleneckIgnored,
        &["solve::proofs::prices_alone_buy_nothing_that_a_neighbour_cannot_pass_on"],
    ),
    (
        Bug::QueuesCountInFull,
        &["sustained::tests::whoever_waits_longest_is_not_left_with_the_least_where_a_pool_is_short"],
    ),
    (Bug::Fused, &["solve::proofs::golden_fleets_are_solved_to_the_bit"]),
    (
        Bug::LearnsFromSaturated,
        &["learn::tests::full_starting_silent_idle_and_rateless_replicas_teach_nothing"],
    ),
    (
        Bug::LearnedUnbounded,
        &["learn::estimate::tests::whatever_is_sampled_stays_within_an_eighth_and_eight_times"],
    ),
    (
        Bug::OneSampleTeaches,
        &[
            "learn::estimate::tests::what_is_declared_is_in_force_until_enough_samples_say_otherwise",
            "learn::estimate::tests::one_wild_sample_moves_nothing",
        ],
    ),
    (
        Bug::DemandNotConverted,
        &[
            "learn::tests::another_capacity_moves_no_replica_of_a_pool_that_is_led_by_utilization",
            "learn::tests::replicas_led_by_utilization_stay_while_a_prior_three_times_too_high_is_unlearned",
        ],
    ),
    (
        Bug::LearnedForgotten,
        &["learn::tests::a_restart_with_what_was_learned_writes_nothing_and_without_it_would"],
    ),
    (
        Bug::FanOutFromQueue,
        &["fanout::tests::a_shortage_never_teaches_that_fewer_calls_follow_a_request"],
    ),
];

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    /// There is no such test, it was not run to its end, or the process broke down.
    Unclear,
}

/// Waits for a process; whether it had to be ended, and what it said.
fn wait(mut child: Child) -> (bool, String) {
    let mut stdout = child.stdout.take().unwrap();
    // Read beside, or it waits for us to read while we wait for it to end.
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text).unwrap_or_default()
    });
    let ended = (0..SECONDS_MAX * 20).any(|_| {
        sleep(Duration::from_millis(50));
        child.try_wait().unwrap().is_some()
    });
    if !ended {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    (!ended, reader.join().unwrap())
}

/// Runs one test of this binary with a bug or without.
fn end_of(test: &str, bug: Option<Bug>) -> End {
    let module = module_path!();
    let (core, _) = module.split_once("::bug").unwrap();
    // The harness leaves the crate's name out.
    let core = core.split_once("::").unwrap().1;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("{core}::{test}")]);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env("RUST_BACKTRACE", "0");
    match bug {
        Some(bug) => command.env(VARIABLE, format!("{bug:?}")),
        None => command.env_remove(VARIABLE),
    };
    let (hangs, printed) = wait(command.spawn().unwrap());
    if hangs {
        End::Unclear
    } else if printed.contains("test result: ok. 1 passed; 0 failed") {
        End::Passed
    } else if printed.contains("test result: FAILED. 0 passed; 1 failed") {
        End::Failed
    } else {
        End::Unclear
    }
}

#[test]
fn every_seeded_bug_is_caught_by_the_tests_that_are_named_for_it() {
    let mut wrong = Vec::new();
    let mut tests: Vec<&str> = CAUGHT_BY.iter().flat_map(|(_, tests)| *tests).copied().collect();
    tests.sort_unstable();
    tests.dedup();
    for test in &tests {
        let end = end_of(test, None);
        if end != End::Passed {
            wrong.push(format!("without a bug, {test}: {end:?}"));
        }
    }
    for (bug, tests) in CAUGHT_BY {
        for test in *tests {
            let end = end_of(test, Some(*bug));
            println!(
                "{:<22} {:<7} {test}",
                format!("{bug:?}"),
                if end == End::Failed { "caught" } else { "MISSED" }
            );
            if end != End::Failed {
                wrong.push(format!("with {bug:?}, {test}: {end:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} bugs, {} tests that pass without them", CAUGHT_BY.len(), tests.len());
}

#[test]
fn no_bug_is_left_out() {
    let listed: Vec<usize> = CAUGHT_BY.iter().map(|(bug, _)| *bug as usize).collect();
    let declared: Vec<usize> = (0..=Bug::FanOutFromQueue as usize).collect();
    assert_eq!(
        listed, declared,
        "every bug once, in the order of declaration; the last is `FanOutFromQueue`"
    );
    assert!(
        CAUGHT_BY.iter().all(|(_, tests)| !tests.is_empty()),
        "a bug that no test is named for"
    );
}
