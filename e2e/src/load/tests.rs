// Counts and fractions that are exact in binary; counts far below 2^53.
#![allow(clippy::float_cmp, clippy::cast_precision_loss)]

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::fleet::tests::pod;
use crate::fleet::{Behaviour, Behaviours, Fleet};

fn s(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn stage(name: &str, after: &[(&str, f64)], traffic: Traffic) -> StageRoute {
    StageRoute {
        name: name.into(),
        after: after.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect(),
        traffic,
    }
}

#[test]
fn the_recordings_are_what_their_readme_says() {
    for (recording, rows, span_s, mean_in) in [
        (Recording::AzureCode, 8_819, 3_436.0, 2_048.0),
        (Recording::AzureConversation, 19_366, 3_502.0, 1_155.0),
        (Recording::MooncakeConversation, 12_031, 3_537.0, 12_035.0),
    ] {
        let trace = Trace::recorded(recording).unwrap();
        assert_eq!(trace.arrivals().len(), rows, "{recording:?}");
        assert!(
            (trace.span().as_secs_f64() - span_s).abs() < 4.0,
            "{recording:?}: {:?}",
            trace.span()
        );
        let sum: f64 = trace.arrivals().iter().map(|a| f64::from(a.input_tokens)).sum();
        let mean = sum / f64::from(u32::try_from(rows).unwrap());
        assert!((mean - mean_in).abs() < 1.0, "{recording:?}: mean input {mean}");
    }
}

#[test]
fn mooncake_steps_are_spread_so_that_no_second_holds_a_whole_step() {
    let trace = Trace::recorded(Recording::MooncakeConversation).unwrap();
    let mut per_s = std::collections::HashMap::new();
    for a in trace.arrivals() {
        *per_s.entry(a.at.as_secs()).or_insert(0) += 1;
    }
    let peak = per_s.values().max().copied().unwrap();
    assert!(
        peak <= 10,
        "28 arrive in the worst step of 3 s, so at most 10 a second: {peak}"
    );
    let early: Vec<_> = trace.arrivals().iter().take(3).map(|a| a.at).collect();
    assert_eq!(early, [s(0.0), s(0.3), s(0.6)]);
}

#[test]
fn slicing_compressing_and_amplifying_change_time_and_count_as_said() {
    let trace = Trace::recorded(Recording::AzureConversation)
        .unwrap()
        .slice(s(600.0), s(300.0));
    let count = trace.arrivals().len() as f64;
    assert!((1_200.0..2_400.0).contains(&count), "{count}");
    assert!(trace.span() < s(300.0) && trace.arrivals()[0].at < s(5.0));
    let fast = trace.clone().compress(10.0);
    assert_eq!(fast.arrivals().len() as f64, count);
    assert!(fast.span() < s(30.0));
    let seed = 5;
    let more = trace.clone().amplify(2.5, seed);
    let ratio = more.arrivals().len() as f64 / count;
    assert!((ratio - 2.5).abs() < 0.05, "seed {seed}: {ratio}");
    assert_eq!(
        more,
        trace.clone().amplify(2.5, seed),
        "the same seed gives the same load"
    );
    assert_ne!(more, trace.amplify(2.5, seed + 1));
    assert!(more.arrivals().is_sorted_by_key(|a| a.at));
}

#[test]
fn a_bad_trace_says_what_and_where() {
    let error = |text: &str| Trace::parse("t", text.as_bytes()).unwrap_err().to_string();
    assert!(error("arrival_ms,input_tokens\n").contains("no column output_tokens"));
    assert!(error("arrival_ms,input_tokens,output_tokens\n1,2,x\n").contains("line 2"));
    assert!(error("arrival_ms,input_tokens,output_tokens\n5,1,1\n4,1,1\n").contains("line 3"));
    let swapped = Trace::parse("t", "output_tokens,arrival_ms,input_tokens,more\n3,1,2,9\n".as_bytes()).unwrap();
    assert_eq!(
        swapped.arrivals(),
        [Arrival {
            at: Duration::from_millis(1),
            input_tokens: 2,
            output_tokens: 3
        }]
    );
}

#[test]
fn synthetic_rates_give_the_area_under_the_rate() {
    let count = |rate: &Rate, from: f64, to: f64| {
        let trace = rate.trace(Spacing::Regular, 1, 1);
        trace
            .arrivals()
            .iter()
            .filter(|a| a.at >= s(from) && a.at < s(to))
            .count()
    };
    let step = Rate::step(10.0, 50.0, s(10.0), s(20.0));
    assert!(count(&step, 0.0, 10.0).abs_diff(100) <= 1 && count(&step, 10.0, 20.0).abs_diff(500) <= 1);
    let ramp = Rate::ramp(0.0, 100.0, s(10.0));
    assert!(count(&ramp, 0.0, 5.0).abs_diff(125) <= 1 && count(&ramp, 5.0, 10.0).abs_diff(375) <= 1);
    let seed = 3;
    let poisson = Rate::constant(100.0, s(100.0)).trace(Spacing::Poisson(seed), 1, 1);
    let (n, times) = (poisson.arrivals().len() as f64, poisson.arrivals());
    assert!((n - 10_000.0).abs() < 400.0, "4 standard deviations, seed {seed}: {n}");
    let gaps: Vec<f64> = times
        .windows(2)
        .map(|w| w[1].at.saturating_sub(w[0].at).as_secs_f64())
        .collect();
    let mean = gaps.iter().sum::<f64>() / n;
    let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / n;
    let cv = variance.sqrt() / mean;
    assert!((cv - 1.0).abs() < 0.05, "gaps of a Poisson process, seed {seed}: {cv}");
}

#[test]
fn fan_out_multiplies_along_edges_and_is_the_same_for_the_same_seed() {
    let stages = vec![
        stage("retrieve", &[], Traffic::Uniform),
        stage("rerank", &[("retrieve", 2.0)], Traffic::Uniform),
        stage("generate", &[("retrieve", 1.0), ("rerank", 0.75)], Traffic::Uniform),
        stage("tool", &[("generate", 0.3)], Traffic::Uniform),
    ];
    let route = Route::new("agents/support", stages).unwrap();
    let seed = 9;
    let mut sums = [0_u32; 4];
    for request in 0..20_000 {
        let calls = route.calls(seed, request);
        assert_eq!(calls, route.calls(seed, request));
        assert_eq!(calls[..2], [1, 2]);
        assert!((2..=3).contains(&calls[2]), "1 and 1.5: {}", calls[2]);
        sums.iter_mut().zip(&calls).for_each(|(sum, c)| *sum += c);
    }
    let mean = |i: usize| f64::from(sums[i]) / 20_000.0;
    assert!((mean(2) - 2.5).abs() < 0.02, "seed {seed}: {}", mean(2));
    assert!((mean(3) - 0.75).abs() < 0.02, "seed {seed}: {}", mean(3));
}

#[test]
fn a_route_is_read_from_a_pipeline_object_and_refuses_a_stage_out_of_order() {
    let object = serde_json::json!({
        "metadata": {"name": "support", "namespace": "agents"},
        "spec": {"stages": [
            {"name": "guard", "kind": "PolicyCheck"},
            {"name": "generate", "after": [{"stage": "guard", "callsPerRequest": "2.5"}], "traffic": "Weighted"},
        ]},
    });
    let route = Route::of_pipeline(&object).unwrap();
    let want = vec![
        stage("guard", &[], Traffic::Uniform),
        stage("generate", &[("guard", 2.5)], Traffic::Weighted),
    ];
    assert_eq!(route, Route::new("agents/support", want).unwrap());
    let early = vec![
        stage("a", &[("b", 1.0)], Traffic::Uniform),
        stage("b", &[], Traffic::Uniform),
    ];
    assert!(matches!(Route::new("n/p", early), Err(RouteError::Order { .. })));
}

fn three_stages(traffic: Traffic) -> Route {
    let stages = vec![
        stage("guard", &[], Traffic::Uniform),
        stage("generate", &[("guard", 1.0)], traffic),
        stage("post", &[("generate", 1.0)], Traffic::Uniform),
    ];
    Route::new("agents/support", stages).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_replicas_serve_two_thousand_requests_over_real_http() {
    let table = Behaviours::new(Behaviour::http(200.0, 4)).stage("generate", Behaviour::vllm(40.0, 8));
    let fleet = Fleet::new(table, 1.0);
    for index in 0..200 {
        let stage = ["guard", "generate", "post"][index % 3];
        fleet.upsert(pod(&format!("p{index}"), stage, "pool")).await.unwrap();
    }
    let trace = Rate::constant(1_000.0, s(2.0)).trace(Spacing::Poisson(7), 1_155, 211);
    let offered = trace.arrivals().len() as u64;
    let recorder = Arc::new(Recorder::default());
    let options = DriveOptions {
        objective: Some(s(5.0)),
        ..DriveOptions::default()
    };
    let summary = drive(
        three_stages(Traffic::Uniform),
        &trace,
        fleet.directory(),
        options,
        Arc::clone(&recorder),
    )
    .await;
    assert!((1_800..2_200).contains(&offered), "{offered}");
    assert_eq!(
        (summary.requests, summary.served, summary.failed),
        (offered, offered, 0),
        "{summary:?}"
    );
    // Three stages: 20 ms, 50 to 200 ms, 20 ms.
    let p50 = summary.latency_ms.p50.unwrap();
    assert!((80.0..2_000.0).contains(&p50), "{p50}");
    let calls: u64 = fleet.loads().iter().map(|(_, load)| load.served).sum();
    assert_eq!(calls, 3 * offered, "every request went through every stage");
    let seconds: u64 = summary.seconds.iter().map(|s| u64::from(s.offered)).sum();
    assert_eq!(seconds, offered);
    assert_eq!(recorder.progress().in_flight, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_unequal_replicas_pull_and_weighted_beat_uniform() {
    // 40 requests/s on a fast replica (50/s) and a slow one (5/s): half of it is ten times too much for the slow one.
    let mut p95 = Vec::new();
    for traffic in [Traffic::Uniform, Traffic::Weighted, Traffic::Pull] {
        let table = Behaviours::new(Behaviour::http(1_000.0, 50))
            .on("generate", "fast", Behaviour::http(50.0, 1))
            .on("generate", "slow", Behaviour::http(5.0, 1));
        let fleet = Fleet::new(table, 1.0);
        for (uid, stage, pool) in [
            ("g", "guard", "any"),
            ("f", "generate", "fast"),
            ("s", "generate", "slow"),
            ("p", "post", "any"),
        ] {
            fleet.upsert(pod(uid, stage, pool)).await.unwrap();
        }
        let trace = Rate::constant(40.0, s(0.8)).trace(Spacing::Regular, 1, 1);
        let recorder = Arc::new(Recorder::default());
        let summary = drive(
            three_stages(traffic),
            &trace,
            fleet.directory(),
            DriveOptions::default(),
            recorder,
        )
        .await;
        assert_eq!(summary.failed, 0);
        p95.push(summary.latency_ms.p95.unwrap());
    }
    assert!(
        p95[1] * 3.0 < p95[0] && p95[2] * 3.0 < p95[0],
        "uniform, weighted, pull: {p95:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_for_the_first_replica_and_a_lost_one_costs_a_retry_not_the_request() {
    // A second stage that takes a second, so that the lost replica is lost in the middle of requests.
    let table = Behaviours::new(Behaviour::http(100.0, 4)).stage("generate", Behaviour::http(20.0, 20));
    let fleet = Fleet::new(table, 1.0);
    for (uid, stage) in [("g", "guard"), ("p", "post")] {
        fleet.upsert(pod(uid, stage, "any")).await.unwrap();
    }
    let trace = Rate::constant(20.0, s(1.0)).trace(Spacing::Regular, 1, 1);
    let recorder = Arc::new(Recorder::default());
    let driving = {
        let (directory, recorder) = (fleet.directory(), Arc::clone(&recorder));
        tokio::spawn(async move {
            drive(
                three_stages(Traffic::Uniform),
                &trace,
                directory,
                DriveOptions::default(),
                recorder,
            )
            .await
        })
    };
    tokio::time::sleep(s(0.3)).await;
    assert_eq!(recorder.progress().served, 0, "nobody serves the second stage yet");
    for uid in ["n1", "n2"] {
        fleet.upsert(pod(uid, "generate", "any")).await.unwrap();
    }
    tokio::time::sleep(s(0.3)).await;
    fleet.crash("n2");
    let summary = driving.await.unwrap();
    assert_eq!((summary.served, summary.failed), (20, 0), "{summary:?}");
    assert!(summary.retries > 0, "{summary:?}");
    let wait = &summary.stages[1];
    assert!(
        wait.wait_ms.p99.unwrap() > 150.0,
        "the first ones waited for a replica: {wait:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stage_begins_once_when_all_stages_before_it_are_done() {
    let stages = vec![
        stage("fast", &[], Traffic::Uniform),
        stage("slow", &[], Traffic::Uniform),
        stage("join", &[("fast", 1.0), ("slow", 1.0)], Traffic::Uniform),
    ];
    let route = Route::new("agents/support", stages).unwrap();
    let table = Behaviours::new(Behaviour::http(1_000.0, 10)).stage("slow", Behaviour::http(25.0, 10));
    let fleet = Fleet::new(table, 1.0);
    for stage in ["fast", "slow", "join"] {
        fleet.upsert(pod(stage, stage, "any")).await.unwrap();
    }
    let trace = Rate::constant(10.0, s(0.5)).trace(Spacing::Regular, 1, 1);
    let summary = drive(
        route,
        &trace,
        fleet.directory(),
        DriveOptions::default(),
        Arc::default(),
    )
    .await;
    assert_eq!((summary.requests, summary.served), (5, 5));
    let joins: u64 = fleet
        .loads()
        .iter()
        .filter(|(p, _)| p.stage == "join")
        .map(|(_, load)| load.served)
        .sum();
    assert_eq!(joins, 2 * 5, "one call per edge");
    assert!(
        summary.latency_ms.p50.unwrap() >= 410.0,
        "400 ms and 10 ms, one after the other: {summary:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_slow_is_late_what_is_out_of_time_fails_and_too_many_in_flight_are_shed() {
    let fleet = Fleet::new(
        Behaviours::new(Behaviour::http(1_000.0, 10)).stage("generate", Behaviour::http(4.0, 1)),
        1.0,
    );
    for (uid, stage) in [("g", "guard"), ("n", "generate"), ("p", "post")] {
        fleet.upsert(pod(uid, stage, "any")).await.unwrap();
    }
    // 20 in 0.5 s, of which 4 a second are served: the first within 0.3 s, the next late, others out of time.
    let trace = Rate::constant(40.0, s(0.5)).trace(Spacing::Regular, 1, 1);
    let options = DriveOptions {
        objective: Some(s(0.4)),
        timeout: s(1.2),
        max_in_flight: 10,
        ..DriveOptions::default()
    };
    let summary = drive(
        three_stages(Traffic::Uniform),
        &trace,
        fleet.directory(),
        options,
        Arc::default(),
    )
    .await;
    assert_eq!(summary.requests, 20);
    assert_eq!(summary.served + summary.failed, 20);
    assert!((3..=6).contains(&summary.served), "{summary:?}");
    assert!(summary.late >= 2 && summary.late < summary.served, "{summary:?}");
    assert!((5..=10).contains(&summary.shed), "{summary:?}");
    assert!(summary.late_percent > 80.0, "{summary:?}");
}

#[test]
fn percentiles_are_nearest_rank_and_absent_where_nothing_was_served() {
    let mut values: Vec<f32> = (1..=100_u8).rev().map(f32::from).collect();
    assert_eq!(
        Percentiles::of(&mut values),
        Percentiles {
            p50: Some(50.0),
            p95: Some(95.0),
            p99: Some(99.0)
        }
    );
    assert_eq!(
        Percentiles::of(&mut [7.0]),
        Percentiles {
            p50: Some(7.0),
            p95: Some(7.0),
            p99: Some(7.0)
        }
    );
    assert_eq!(Percentiles::of(&mut []), Percentiles::default());
}
