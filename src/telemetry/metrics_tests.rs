use super::*;
use crate::telemetry::{ResourceSample, StageSample, VariantSample};

fn variant(pool: &str) -> VariantSample {
    let pool = pool.into();
    VariantSample {
        pool,
        tier: "CPU",
        capacity_millis: 2_500,
        replicas: 3,
        ready_replicas: 2,
        dry: true,
    }
}

fn sample(pools: &[&str]) -> PipelineSample {
    let variants = pools.iter().map(|pool| variant(pool)).collect();
    let stage = StageSample {
        stage: "plan".into(),
        demand_millis: Some(1_500),
        signal_age_ms: Some(250),
        variants,
    };
    PipelineSample {
        cost_per_hour_micros: Some(1_250_000),
        stages: vec![stage],
    }
}

/// Sample lines, without help and types.
fn series(metrics: &Metrics) -> Vec<String> {
    let text = metrics.encode(Exposition::OpenMetrics);
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn series_of(metrics: &Metrics, needle: &str) -> Vec<String> {
    series(metrics)
        .into_iter()
        .filter(|line| line.contains(needle))
        .collect()
}

#[test]
fn a_pipeline_shows_all_its_series_with_units() {
    let metrics = Metrics::default();
    metrics.set_pipeline("ai", "agent", sample(&["arm"]));
    let stage = "namespace=\"ai\",pipeline=\"agent\",stage=\"plan\"";
    let on_pool = format!("{stage},pool=\"arm\",tier=\"CPU\"");
    assert_eq!(
        series_of(&metrics, "pipeline=\"agent\""),
        [
            "tiercel_pipeline_cost_dollars_per_hour{namespace=\"ai\",pipeline=\"agent\"} 1.25".to_owned(),
            format!("tiercel_stage_demand{{{stage}}} 1.5"),
            format!("tiercel_signal_age_seconds{{{stage}}} 0.25"),
            format!("tiercel_stage_capacity{{{on_pool}}} 2.5"),
            format!("tiercel_stage_replicas{{{on_pool}}} 3"),
            format!("tiercel_stage_ready_replicas{{{on_pool}}} 2"),
            format!("tiercel_stage_dry{{{on_pool}}} 1"),
        ]
    );
}

#[test]
fn what_is_unknown_has_no_series_rather_than_a_zero() {
    let metrics = Metrics::default();
    let stage = StageSample {
        stage: "plan".into(),
        ..StageSample::default()
    };
    metrics.set_pipeline(
        "ai",
        "agent",
        PipelineSample {
            cost_per_hour_micros: None,
            stages: vec![stage],
        },
    );
    metrics.set_pool(
        "arm",
        PoolSample {
            tier: "CPU",
            ..PoolSample::default()
        },
    );
    assert_eq!(series_of(&metrics, "agent"), [""; 0]);
    assert_eq!(series_of(&metrics, "arm"), [""; 0]);
}

#[test]
fn series_go_with_their_object_stage_and_pool() {
    let metrics = Metrics::default();
    metrics.set_pipeline("ai", "agent", sample(&["arm", "l4"]));
    metrics.set_pipeline("ai", "other", sample(&["arm"]));
    assert_eq!(series_of(&metrics, "pool=\"l4\"").len(), 4);
    metrics.set_pipeline("ai", "agent", sample(&["arm"]));
    assert_eq!(series_of(&metrics, "pool=\"l4\"").len(), 0);
    metrics.forget_pipeline("ai", "agent");
    assert_eq!(series_of(&metrics, "agent").len(), 0);
    assert_eq!(series_of(&metrics, "other").len(), 7);
    metrics.forget_pipeline("ai", "never-seen");

    let resources = vec![ResourceSample {
        resource: "cpu".into(),
        capacity_millis: 64_000,
        used_millis: 500,
    }];
    metrics.set_pool(
        "arm",
        PoolSample {
            tier: "CPU",
            price_per_hour_micros: Some(36_000),
            resources,
        },
    );
    assert_eq!(
        series_of(&metrics, "tiercel_pool"),
        [
            "tiercel_pool_capacity{pool=\"arm\",tier=\"CPU\",resource=\"cpu\"} 64.0",
            "tiercel_pool_used{pool=\"arm\",tier=\"CPU\",resource=\"cpu\"} 0.5",
            "tiercel_pool_price_dollars_per_hour{pool=\"arm\",tier=\"CPU\"} 0.036",
        ]
    );
    metrics.forget_pool("arm");
    assert_eq!(series_of(&metrics, "tiercel_pool").len(), 0);
}

#[test]
fn series_beyond_the_limit_are_left_out_and_counted() {
    let metrics = Metrics::new(15);
    metrics.set_pipeline("ai", "a", sample(&["arm"]));
    metrics.set_pipeline("ai", "b", sample(&["arm"]));
    metrics.set_pipeline("ai", "c", sample(&["arm"]));
    assert_eq!(series_of(&metrics, "pipeline=\"c\"").len(), 0);
    assert_eq!(
        series_of(&metrics, "series_dropped"),
        ["tiercel_telemetry_series_dropped_total 7"]
    );
    // The same again is a replacement, not an addition; room that gets free is used.
    metrics.set_pipeline("ai", "b", sample(&["arm"]));
    assert_eq!(series_of(&metrics, "pipeline=\"b\"").len(), 7);
    metrics.forget_pipeline("ai", "a");
    metrics.set_pipeline("ai", "c", sample(&["arm"]));
    assert_eq!(series_of(&metrics, "pipeline=\"c\"").len(), 7);
}

#[test]
fn a_former_leader_no_longer_shows_objects() {
    let metrics = Metrics::default();
    metrics.set_leading(true);
    metrics.set_pipeline("ai", "agent", sample(&["arm"]));
    metrics.set_leading(true);
    assert_eq!(series_of(&metrics, "agent").len(), 7);
    metrics.set_leading(false);
    assert_eq!(series_of(&metrics, "agent").len(), 0);
    assert_eq!(series_of(&metrics, "lease_leading"), ["tiercel_lease_leading 0"]);
}

#[test]
fn every_family_is_named_by_the_convention_and_explains_itself() {
    let metrics = Metrics::default();
    metrics.reconcile_started("pipeline");
    metrics.reconciled("pipeline", "Applied", Duration::from_millis(20));
    metrics.watch_restarted("Node");
    metrics.api_request("fast", "patch_scale", 200);
    metrics.throttled("calls", Duration::from_millis(1_500));
    metrics.decided("DemandRose", "Cheapest");
    metrics.decision_took(Duration::from_micros(40));
    metrics.held("CoolingDown");
    metrics.plan_rejected();
    metrics.reacted(Duration::from_millis(7));
    metrics.scale_write("Acknowledged");
    metrics.scaled(5, 2);
    metrics.signal_error("vllm", "Timeout");
    metrics.event("Published");
    metrics.set_pipeline("ai", "agent", sample(&["arm"]));
    let text = metrics.encode(Exposition::OpenMetrics);
    let families: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    assert!(families.len() >= 24, "{families:?}");
    let mut names: Vec<&str> = families.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), families.len(), "a name is used twice: {families:?}");
    for (name, kind) in &families {
        assert!(name.starts_with("tiercel_"), "{name}");
        assert!(*kind != "histogram" || name.ends_with("_seconds"), "{name} has no unit");
        let help = text
            .lines()
            .find_map(|line| line.strip_prefix(&format!("# HELP {name} ")[..]));
        let help = help.unwrap_or_default();
        assert!(
            help.ends_with('.') && !help.ends_with("..") && help.starts_with(|c: char| !c.is_lowercase()),
            "{name}: {help}"
        );
    }
    for expected in [
        "tiercel_build_info{version=\"0.1.0\"} 1",
        "tiercel_reconcile_passes_total{controller=\"pipeline\",outcome=\"Applied\"} 1",
        "tiercel_reconcile_in_flight{controller=\"pipeline\"} 0",
        "tiercel_api_requests_total{client=\"fast\",verb=\"patch_scale\",code=\"200\"} 1",
        "tiercel_api_throttle_wait_seconds_total{client=\"calls\"} 1.5",
        "tiercel_scale_replicas_total{direction=\"down\"} 3",
        "tiercel_scale_reaction_seconds_bucket{le=\"0.01\"} 1",
        "tiercel_scale_reaction_seconds_bucket{le=\"0.005\"} 0",
    ] {
        assert!(
            text.lines().any(|line| line == expected),
            "{expected} is not in\n{text}"
        );
    }
}
