//! What is kept of an hour, and what is not made up.

use super::super::tree::{Seen, tree};
use super::*;
use crate::api::TieredPipeline;
use crate::view::tests::pipeline;
use serde_json::json;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + seconds).unwrap()
}

/// `rag/chat` with `retrieve` on `graviton` and `generate` on the given pools.
fn chat(places: &[(&str, i32, i32)]) -> TieredPipeline {
    let mut object = pipeline(&json!({}));
    let stage = &mut object.status.as_mut().unwrap().stages[1];
    stage.replicas = places.iter().map(|place| place.1).sum();
    stage.ready_replicas = places.iter().map(|place| place.2).sum();
    let place = |&(name, replicas, ready): &(&str, i32, i32)| crate::api::tiered_pipeline::StagePoolStatus {
        name: name.to_owned(),
        replicas,
        ready,
        ..Default::default()
    };
    stage.pools = places.iter().map(place).collect();
    object
}

fn see(hour: &mut Hour, pipelines: &[TieredPipeline], now: Timestamp) {
    let seen = Seen {
        pipelines: pipelines.to_vec(),
        ..Seen::default()
    };
    let decisions: Vec<_> = pipelines
        .iter()
        .map(|object| ("rag", "chat", object.status.as_ref().unwrap().decisions.as_slice()))
        .collect();
    hour.see(&tree(&seen, now), &decisions, now);
}

/// Runs of `generate` on a pool, counted from the end of the hour: how many steps ago, how many, replicas, Ready.
fn runs(hour: &Hour, pool: &str, now: Timestamp) -> Vec<(usize, usize, u16, u16)> {
    let past = hour.of("rag", "chat", now);
    let row = past.rows.iter().find(|row| row.stage == "generate" && row.pool == pool);
    let runs = row.map(|row| row.runs.clone()).unwrap_or_default();
    runs.iter()
        .map(|run| (STEPS - run.at, run.steps, run.replicas, run.ready))
        .collect()
}

#[test]
fn what_was_seen_stands_where_it_was_seen_and_the_rest_is_a_gap() {
    let mut hour = Hour::new(at(0));
    see(&mut hour, &[chat(&[("l4", 2, 1)])], at(0));
    see(&mut hour, &[chat(&[("l4", 2, 2)])], at(5));
    see(&mut hour, &[chat(&[("l4", 2, 2)])], at(10));
    // Nobody looked for half a minute.
    see(&mut hour, &[chat(&[("l4", 3, 2)])], at(50));
    assert_eq!(runs(&hour, "l4", at(50)), [(6, 2, 2, 2), (1, 1, 3, 2)]);
    assert_eq!(runs(&hour, "l4", at(70)), [(8, 2, 2, 2), (3, 1, 3, 2)]);
    let past = hour.of("rag", "chat", at(50));
    assert_eq!(past.since, at(0).to_string());
    assert_eq!(past.cost.len(), 2, "{past:?}");
}

#[test]
fn a_pool_that_the_status_no_longer_lists_has_none_and_a_pipeline_that_is_gone_a_gap() {
    let mut hour = Hour::new(at(0));
    see(&mut hour, &[chat(&[("l4", 2, 2)])], at(0));
    see(&mut hour, &[chat(&[("h100", 1, 1)])], at(10));
    see(&mut hour, &[], at(20));
    assert_eq!(runs(&hour, "l4", at(20)), [(3, 1, 2, 2), (2, 1, 0, 0)]);
    // Before it was listed there were none, as far back as somebody looked.
    assert_eq!(runs(&hour, "h100", at(20)), [(3, 1, 0, 0), (2, 1, 1, 1)]);
}

#[test]
fn a_stage_without_a_status_is_unknown_not_empty() {
    let mut hour = Hour::new(at(0));
    let mut new = chat(&[]);
    new.status = None;
    let seen = Seen {
        pipelines: vec![new],
        ..Seen::default()
    };
    hour.see(&tree(&seen, at(0)), &[], at(0));
    assert!(hour.of("rag", "chat", at(0)).rows.is_empty());
    // Asleep is known: one row, on no pool.
    see(&mut hour, &[chat(&[])], at(10));
    assert_eq!(runs(&hour, "", at(10)), [(1, 1, 0, 0)]);
}

#[test]
fn an_hour_later_it_is_forgotten() {
    let mut hour = Hour::new(at(0));
    see(&mut hour, &[chat(&[("l4", 2, 2)])], at(0));
    for seconds in (10..3_600).step_by(10) {
        see(&mut hour, &[chat(&[("h100", 1, 1)])], at(seconds));
    }
    assert_eq!(runs(&hour, "l4", at(3_599))[0], (360, 1, 2, 2));
    see(&mut hour, &[chat(&[("h100", 1, 1)])], at(3_600));
    // Nothing of it was on l4 within the hour.
    assert_eq!(runs(&hour, "l4", at(3_600)), []);
    assert_eq!(runs(&hour, "h100", at(3_600)), [(360, 360, 1, 1)]);
    // After a night only what is now.
    see(&mut hour, &[chat(&[("h100", 1, 1)])], at(40_000));
    assert_eq!(runs(&hour, "h100", at(40_000)), [(1, 1, 1, 1)]);
    see(&mut hour, &[], at(80_000));
    assert!(hour.pipelines.is_empty() && hour.rows == 0);
}

#[test]
fn a_clock_that_is_put_back_starts_anew_and_a_correction_does_not() {
    let mut hour = Hour::new(at(0));
    see(&mut hour, &[chat(&[("l4", 2, 2)])], at(100));
    see(&mut hour, &[chat(&[("l4", 3, 3)])], at(95));
    assert_eq!(runs(&hour, "l4", at(100)), [(1, 1, 3, 3)]);
    see(&mut hour, &[chat(&[("l4", 4, 4)])], at(-3_000));
    assert_eq!(runs(&hour, "l4", at(-3_000)), [(1, 1, 4, 4)]);
    assert_eq!(hour.of("rag", "chat", at(-3_000)).since, at(-3_000).to_string());
}

#[test]
fn decisions_outlive_the_five_of_the_status_up_to_an_hour() {
    let decided = |id: i64| {
        json!({"id": id.to_string(), "time": at(id * 60).to_string(), "trigger": "Signal",
        "summary": "generate: l4 1->2", "costBefore": "1", "costAfter": "2", "reason": "Cheapest"})
    };
    let mut hour = Hour::new(at(0));
    for last in 5..=70 {
        let five: Vec<_> = (last - 4..=last).rev().map(decided).collect();
        let object = pipeline(&json!({"status": {"decisions": five}}));
        see(&mut hour, &[object], at(last * 60));
    }
    let ids = |now: i64| {
        let decisions = hour.of("rag", "chat", at(now)).decisions;
        decisions.iter().map(|decision| decision.id.clone()).collect::<Vec<_>>()
    };
    let kept: Vec<String> = (21..=70).rev().map(|id| id.to_string()).collect();
    assert_eq!(ids(70 * 60), kept);
    assert!(hour.of("rag", "chat", at(70 * 60)).more_decisions);
    assert_eq!(ids(70 * 60 + 3_300), kept[..5]);
    assert!(!hour.of("rag", "chat", at(70 * 60 + 3_300)).more_decisions);
}

#[test]
fn memory_is_bounded_and_says_so() {
    let mut hour = Hour::new(at(0));
    let many: Vec<TieredPipeline> = (0..=PIPELINES_MAX)
        .map(|at| pipeline(&json!({"metadata": {"name": format!("p{at}")}})))
        .collect();
    see(&mut hour, &many[..PIPELINES_MAX], at(0));
    assert!(!hour.of("rag", "p0", at(0)).incomplete);
    see(&mut hour, &many, at(10));
    assert!(hour.of("rag", "p0", at(10)).incomplete);
    assert!(hour.pipelines.len() <= PIPELINES_MAX && hour.rows <= ROWS_MAX);
    let mut tight = Kept::default();
    let all = tree(
        &Seen {
            pipelines: vec![chat(&[("a", 1, 1), ("b", 1, 1)])],
            ..Seen::default()
        },
        at(0),
    );
    assert_eq!(tight.see(&all.pipelines[0], 0, 2), (2, true));
    assert_eq!(tight.rows.len(), 2);
}
