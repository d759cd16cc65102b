use super::*;
use crate::rebalance::decision::Reason;
use crate::signals::presets::Preset;
use crate::signals::stage::{StageAnswer, StageNumbers};
use crate::signals::{PodSignals, Served};

fn preset(name: &str) -> &'static Preset {
    Preset::named(name).unwrap()
}

fn number(value: f64) -> Finite {
    Finite::try_from(value).unwrap()
}

/// What a vLLM server said; `fingerprint` differs from answer to answer.
fn vllm(running: f64, finished: f64, fingerprint: u64) -> PodSignals {
    PodSignals {
        running: Ok(number(running)),
        waiting: Ok(number(1.0)),
        cache_use: Ok(number(0.25)),
        utilization: Err(Why::NoSeries),
        finished: Ok(number(finished)),
        rate: Err(Why::NoSeries),
        served: Ok(Served {
            seconds: number(finished * 0.5),
            requests: number(finished),
        }),
        source_ms: None,
        fingerprint,
    }
}

fn uids(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|&name| Arc::from(name)).collect()
}

/// Two answers of two pods, a second apart, received at 1 and 2 s, and 300 ms later.
fn observed() -> Observations {
    let mut seen = Observations::default();
    for second in 1..=2_u32 {
        let at_ms = u64::from(second) * 1_000;
        let finished = f64::from(second) * 10.0;
        seen.record(&Arc::from("a"), at_ms, Ok(vllm(3.0, finished, at_ms)));
        seen.record(&Arc::from("b"), at_ms + 300, Ok(vllm(5.0, finished, at_ms + 1)));
    }
    seen
}

fn said(signal: &Signal, role: &str) -> Option<f64> {
    signal
        .values
        .iter()
        .find(|value| value.role == role)
        .map(|value| value.value)
}

#[test]
fn what_pods_said_is_told_with_both_ages_and_in_the_unit_of_its_role() {
    let signal = of_pods(&observed(), (&uids(&["a", "b"]), &NAMES), preset("vllm"), 2_700);
    assert_eq!(signal.state, State::Fresh);
    assert_eq!(
        signal.pods,
        Some(Pods {
            sampled: 2,
            expected: 2
        })
    );
    assert_eq!((signal.newest_seconds, signal.oldest_seconds), (Some(0.4), Some(0.7)));
    assert_eq!(said(&signal, "running"), Some(8.0));
    assert_eq!(said(&signal, "queued"), Some(2.0));
    assert_eq!(said(&signal, "cacheUse"), Some(0.25));
    assert_eq!(said(&signal, "throughput"), Some(20.0), "both, per second");
    assert_eq!(said(&signal, "latency"), Some(0.5));
    assert_eq!(said(&signal, "utilization"), None, "the preset has none");
    assert_eq!(signal.gaps, []);
}

const NAMES: [&str; 4] = ["pod-a", "pod-b", "pod-c", "pod-d"];

#[test]
fn a_pod_that_is_missing_is_counted_and_its_reason_is_told_once() {
    let mut seen = observed();
    seen.record(&Arc::from("c"), 2_500, Err(Why::Unreachable));
    seen.record(&Arc::from("d"), 2_500, Err(Why::Unreachable));
    let signal = of_pods(&seen, (&uids(&["a", "b", "c", "d"]), &NAMES), preset("vllm"), 2_700);
    assert_eq!((signal.state, signal.pods.unwrap().sampled), (State::Fresh, 2));
    assert_eq!(signal.gaps.len(), 1, "{:?}", signal.gaps);
    assert_eq!(
        (signal.gaps[0].pods, signal.gaps[0].why.contains("unreachable")),
        (Some(2), true)
    );
    assert_eq!(signal.gaps[0].named, ["pod-c", "pod-d"]);
}

#[test]
fn old_numbers_are_shown_as_stale_and_no_numbers_as_absent() {
    let seen = observed();
    let stale = of_pods(&seen, (&uids(&["a", "b"]), &NAMES), preset("vllm"), 60_000);
    assert_eq!((stale.state, stale.oldest_seconds), (State::Stale, Some(58.0)));
    assert_eq!(said(&stale, "running"), Some(8.0), "what it was last");
    assert_eq!(said(&stale, "throughput"), None);
    let absent = of_pods(&seen, (&uids(&["new"]), &NAMES), preset("vllm"), 2_700);
    assert_eq!((absent.state, absent.newest_seconds), (State::Absent, None));
    assert!(absent.gaps[0].why.starts_with("no target"), "{:?}", absent.gaps);
    let nobody = of_pods(&seen, (&[], &NAMES), preset("vllm"), 2_700);
    assert_eq!(
        (nobody.state, nobody.gaps[0].why.as_str()),
        (State::Absent, "no pod is Ready")
    );
    assert_eq!(nobody.gaps[0].pods, None);
}

#[test]
fn a_series_that_is_missing_comes_with_how_to_switch_it_on() {
    let mut seen = Observations::default();
    let silent = PodSignals {
        running: Err(Why::NoSeries),
        ..vllm(0.0, 0.0, 1)
    };
    seen.record(&Arc::from("a"), 1_000, Ok(silent));
    let signal = of_pods(&seen, (&uids(&["a"]), &NAMES), preset("sglang"), 1_500);
    assert_eq!(signal.state, State::Absent);
    assert!(signal.gaps[0].why.contains("--enable-metrics"), "{:?}", signal.gaps);
}

#[test]
fn a_source_of_the_whole_stage_has_one_age_and_no_pods() {
    let key = StageKey {
        namespace: "rag".into(),
        pipeline: "chat".into(),
        stage: "embed".into(),
    };
    let mut answers = StageAnswers::default();
    let preset = preset("vllm");
    let never = of_stage(&answers, &key, preset, 1_000);
    assert_eq!((never.state, never.newest_seconds), (State::Absent, None));
    let answer = |outcome| StageAnswer {
        stage: key.clone(),
        preset,
        received_ms: 10_000,
        outcome,
    };
    answers.record(answer(Ok(StageNumbers {
        roles: std::collections::BTreeMap::from([(Role::Queued, Ok(number(40.0))), (Role::Running, Ok(number(2.0)))]),
        source_ms: None,
        age_ms: Some(2_000),
    })));
    let fresh = of_stage(&answers, &key, preset, 11_000);
    assert_eq!(
        (fresh.state, fresh.newest_seconds, fresh.pods),
        (State::Fresh, Some(3.0), None)
    );
    assert_eq!(said(&fresh, "queued"), Some(40.0));
    assert_eq!(fresh.gaps, []);
    answers.record(answer(Err(Why::Timeout)));
    let stale = of_stage(&answers, &key, preset, 60_000);
    assert_eq!((stale.state, said(&stale, "queued")), (State::Stale, Some(40.0)));
    assert!(stale.gaps[0].why.starts_with("timed out"), "{:?}", stale.gaps);
}

#[test]
fn why_a_pool_is_not_used_more_comes_with_the_numbers_of_now() {
    let text = |why| not_more(why, &variant(1_000), None, true, 10_000);
    assert_eq!(text(NotUsed::Dearer(120_000)), "dearer by 0.12 per hour and request/s");
    assert_eq!(
        text(NotUsed::DryUntil(44_900, DryReason::Unschedulable)),
        "could not place pods lately; tried again in 34 s"
    );
    assert_eq!(
        text(NotUsed::DryUntil(9_000, DryReason::Reclaimed)),
        "nodes are being taken away; is being tried again"
    );
    let image = NotUsed::DryUntil(44_900, DryReason::CannotStart);
    assert_eq!(
        not_more(image, &variant(1_000), Some("ImagePullBackOff"), true, 10_000),
        "pods could not start lately (ImagePullBackOff); tried again in 34 s"
    );
}

fn variant(hint_permille: u32) -> VariantAccount {
    let known = |declared| Known {
        declared,
        value: declared,
        samples: 0,
    };
    VariantAccount {
        replicas: (2, 1),
        capacity: known(10_000),
        startup: known(60_000),
        startup_slow_ms: 60_000,
        cost_micros: 120_000,
        hint_permille,
        reliable: false,
        room: 3,
        alone: 2,
        dry: None,
    }
}

/// Everything that may keep a pool from being used, or a change from being made, in the words that people read.
#[test]
fn every_reason_is_told_in_words_of_its_own() {
    use crate::api::compute_pool::Tier;
    use crate::api::stage::TierHint;
    use crate::controller::pipeline::validated::Exclusion;

    let mut lines = Vec::new();
    let dry = |until_ms, reason| NotUsed::DryUntil(until_ms, reason);
    for (why, hint) in [
        (NotUsed::Dearer(120_000), 1_000),
        (NotUsed::Dearer(0), 1_000),
        (NotUsed::Dearer(12_000_000), 100_000),
        (NotUsed::Full, 1_000),
        (dry(44_900, DryReason::Unschedulable), 1_000),
        (dry(44_900, DryReason::CannotStart), 1_000),
        (dry(44_900, DryReason::Reclaimed), 1_000),
        (dry(9_000, DryReason::Unschedulable), 1_000),
        (NotUsed::OverBudget, 1_000),
        (NotUsed::OverPower, 1_000),
        (NotUsed::OverShared, 1_000),
        (NotUsed::AtBounds, 1_000),
        (NotUsed::Excluded, 1_000),
    ] {
        lines.push(format!(
            "not more: {}",
            not_more(why, &variant(hint), None, true, 10_000)
        ));
    }
    for why in [
        Exclusion::Hint(TierHint::AcceleratorRequired, Tier::Cpu),
        Exclusion::Hint(TierHint::CpuSufficient, Tier::Accelerator),
        Exclusion::Closed,
        Exclusion::NoProfile,
        Exclusion::PowerUnknown,
        Exclusion::DeviceNotOffered("nvidia.com/gpu".to_owned()),
        Exclusion::DeviceNotRequested("nvidia.com/gpu".to_owned()),
        Exclusion::PoolProblem("it selects node 'n1', which pool 'l4' has".to_owned()),
        Exclusion::NameTaken("chat-generate-l4".to_owned()),
    ] {
        lines.push(format!("not allowed: {why}"));
    }
    for hold in [
        HoldReason::MetricsStale,
        HoldReason::Paused,
        HoldReason::Advisory,
        HoldReason::BudgetExhausted,
        HoldReason::NoCapacity,
        HoldReason::CoolingDown,
        HoldReason::MovesExhausted,
        HoldReason::WithinTolerance,
        HoldReason::AwaitingReady,
        HoldReason::AtFloor,
        HoldReason::PlanRejected,
    ] {
        let held = held(hold, None, 0);
        lines.push(format!("held: {} ({})", held.message, held.reason));
    }
    let distinct: BTreeSet<&String> = lines.iter().collect();
    assert_eq!(distinct.len(), lines.len(), "{lines:#?}");
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_pool_is_told_with_what_it_costs_and_what_all_of_the_stage_would_take() {
    let told = pool(&variant(1_000), None, None, &account(), 0);
    let costs = told.replica.map(|replica| (replica.cost_per_hour, replica.watts));
    assert_eq!(costs, Some((0.12, None)), "power is not declared, which is not zero");
    let alone = told.alone.map(|alone| (alone.replicas, alone.cost_per_hour));
    assert_eq!((alone, told.room), (Some((2, 0.24)), Some(3)));
    assert!(!told.below_hint && pool(&variant(100_000), None, None, &account(), 0).below_hint);
    // Spot may not have all of it.
    let guarded = StageAccount {
        reliable_floor: 1,
        ..account()
    };
    let told = pool(&variant(1_000), None, None, &guarded, 0);
    assert_eq!(told.alone, None);
    assert_eq!(
        told.not_alone.as_deref(),
        Some("`reliableMin` wants 1 on pools whose nodes are not taken away")
    );
}

#[test]
fn a_dry_pool_is_told_with_the_seconds_that_are_left_whatever_else_keeps_it_from_use() {
    let dry = |now_ms| {
        let known = VariantAccount {
            dry: Some((44_900, DryReason::Unschedulable)),
            ..variant(1_000)
        };
        pool(&known, None, None, &account(), now_ms).dry
    };
    let told = |seconds| {
        Some(Dry {
            why: "could not place pods lately".to_owned(),
            seconds,
        })
    };
    assert_eq!(dry(10_000), told(34.9));
    assert_eq!(dry(50_000), told(0.0), "one replica may try");
    assert_eq!(pool(&variant(1_000), None, None, &account(), 0).dry, None);
}

#[test]
fn where_floors_decide_a_replica_is_compared_with_a_replica() {
    let known = StageAccount {
        floor: 2,
        variants: vec![variant(1_000), variant(1_000)],
        ..account()
    };
    let planned = |planned: &[u32]| StageReport {
        planned: planned.to_vec(),
        ..report()
    };
    assert_eq!(at_floor(&known, &planned(&[2, 0])), Some(120_000));
    assert_eq!(at_floor(&known, &planned(&[2, 1])), None, "demand asks for more");
    assert_eq!(at_floor(&known, &planned(&[0, 0])), None);
    assert_eq!(
        dearer_each(&variant(1_000), 20_000),
        "dearer by 0.10 per hour and replica"
    );
    assert!(dearer_each(&variant(1_000), 120_000).starts_with("no cheaper per replica"));
}

fn account() -> StageAccount {
    StageAccount {
        rated: true,
        target_permille: 750,
        bounds: (1, 8),
        needs: vec![crate::rebalance::explain::Need {
            driver: Driver::Running,
            asks: 18_750,
        }],
        floor: 1,
        reliable_floor: 0,
        decided: Some(Driver::Running),
        demand_millis: Some(18_750),
        saturated: false,
        held_until_ms: Some(52_000),
        planned_micros: Some(240_000),
        calls: Vec::new(),
        variants: Vec::new(),
    }
}

#[test]
fn what_holds_a_change_is_told_with_the_time_it_has_left() {
    let told = held(HoldReason::CoolingDown, account().held_until_ms, 10_000);
    assert_eq!((told.seconds, told.reason.as_str()), (Some(42.0), "CoolingDown"));
    assert_eq!(held(HoldReason::AtFloor, None, 10_000).seconds, None);
}

fn report() -> StageReport {
    StageReport {
        demand_millis: Some(18_750),
        ready_capacity_millis: 20_000,
        pending_capacity_millis: 0,
        planned: vec![2],
        unserved_millis: 0,
        hold: None,
        reason: Reason::Cheapest,
        signal_taken_ms: Some(400),
        signals_fresh: true,
        signals_partial: false,
        silent: 0,
        below_hint: false,
        not_used: Vec::new(),
        driver: Some(Driver::Running),
        learned: Vec::new(),
        calls: None,
    }
}

#[test]
fn numbers_of_the_core_are_told_in_whole_units() {
    let of = world::StageRef {
        pipeline: PipelineIdx(0),
        name: "serve".into(),
        also: vec![preset("psi")],
    };
    let told = stage(&account(), &report(), &of, |_| None, 10_000);
    assert_eq!((told.demand, told.ready_capacity), (Some(18.75), Some(20.0)));
    assert_eq!(told.decided.as_deref(), Some("Running"));
    assert_eq!(told.cost_per_hour, Some(0.24));
    let needs: Vec<(&str, f64)> = told.needs.iter().map(|need| (need.need.as_str(), need.asks)).collect();
    assert_eq!(needs, [("Running", 18.75), ("Floor", 1.0)]);
    assert_eq!(named(Driver::Also(0), &of, 2.0).need, "psi");
    let known = Known {
        declared: 10_000,
        value: 7_412,
        samples: 37,
    };
    let told = learned(known);
    assert_eq!((told.value, told.declared, told.range), (7.412, 10.0, [1.25, 80.0]));
    assert!(told.samples == 37);
}

#[test]
fn the_silent_are_told_with_pods_age_and_the_commonest_reason() {
    let mut seen = observed();
    seen.record(&Arc::from("c"), 2_500, Err(Why::Unreachable));
    let told = |ready: &[&str], now_ms: u64| {
        let signal = of_pods(&seen, (&uids(ready), &NAMES), preset("vllm"), now_ms);
        super::super::view::silence(vec![signal], now_ms)
    };
    assert_eq!(told(&["a", "b"], 2_700), [], "all is fresh");
    let some = told(&["a", "b", "c"], 2_700);
    assert_eq!(
        (some[0].pods, some[0].named.as_slice(), some[0].newest.as_deref()),
        (Some((2, 3)), &["pod-c".to_owned()][..], None),
        "the newest moves with every answer"
    );
    let frozen = Signal {
        state: State::Stale,
        newest_seconds: Some(0.4),
        fresh_seconds: 5.0,
        ..Signal::default()
    };
    let told_of_frozen = super::super::view::silence(vec![frozen], 60_000);
    assert_eq!(told_of_frozen[0].newest, None, "answers go on, with nothing new");
    // The same whenever it is looked at, or status would be written again and again.
    let (one, later) = (told(&["a", "b"], 60_000), told(&["a", "b"], 60_400));
    assert_eq!(one, later);
    assert_eq!(
        (one[0].newest.as_deref(), one[0].about),
        (Some("1970-01-01T00:00:02Z"), 2)
    );
}
