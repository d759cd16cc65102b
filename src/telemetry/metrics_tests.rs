use super::*;
use crate::telemetry::fixture::{conditions, everything, pool, sample, stage, whole};
use crate::telemetry::{PLAN_REJECTED, StageSample};

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
            format!("tiercel_stage_unserved_demand{{{stage}}} 0.5"),
            format!("tiercel_stage_below_preferred_tier{{{stage}}} 0"),
            format!("tiercel_stage_floor_cost_dollars_per_hour{{{stage}}} 0.03"),
            format!("tiercel_signal_fresh{{{stage}}} 1"),
            format!("tiercel_signal_age_seconds{{{stage}}} 0.25"),
            format!("tiercel_stage_plan_reason{{{stage},reason=\"Cheapest\"}} 1"),
            format!("tiercel_stage_capacity{{{on_pool}}} 2.5"),
            format!("tiercel_stage_replicas{{{on_pool}}} 3"),
            format!("tiercel_stage_ready_replicas{{{on_pool}}} 2"),
            format!("tiercel_stage_dry{{{on_pool}}} 1"),
            format!("tiercel_stage_cost_dollars_per_hour{{{on_pool}}} 0.09"),
            format!("tiercel_stage_planned_cost_dollars_per_hour{{{on_pool}}} 0.12"),
            format!("tiercel_stage_power_watts{{{on_pool}}} 45.0"),
            format!("tiercel_stage_moved_replicas_total{{{on_pool}}} 0"),
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
            stages: vec![stage],
            ..PipelineSample::default()
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
    assert_eq!(
        series_of(&metrics, "arm"),
        [
            "tiercel_pool_nodes{pool=\"arm\",tier=\"CPU\"} 0",
            "tiercel_pool_usable_nodes{pool=\"arm\",tier=\"CPU\"} 0"
        ],
        "that no node matches is known"
    );
}

#[test]
fn series_go_with_their_object_stage_and_pool() {
    let metrics = Metrics::default();
    metrics.set_pipeline("ai", "agent", sample(&["arm", "l4"]));
    metrics.set_pipeline("ai", "other", sample(&["arm"]));
    assert_eq!(series_of(&metrics, "pool=\"l4\"").len(), 8);
    metrics.set_pipeline("ai", "agent", sample(&["arm"]));
    assert_eq!(series_of(&metrics, "pool=\"l4\"").len(), 0);
    metrics.forget_pipeline("ai", "agent");
    assert_eq!(series_of(&metrics, "agent").len(), 0);
    assert_eq!(series_of(&metrics, "other").len(), 16);
    metrics.forget_pipeline("ai", "never-seen");

    metrics.set_pool("arm", pool());
    assert_eq!(
        series_of(&metrics, "tiercel_pool"),
        [
            "tiercel_pool_capacity{pool=\"arm\",tier=\"CPU\",resource=\"cpu\"} 64.0",
            "tiercel_pool_used{pool=\"arm\",tier=\"CPU\",resource=\"cpu\"} 0.5",
            "tiercel_pool_price_dollars_per_hour{pool=\"arm\",tier=\"CPU\"} 0.036",
            "tiercel_pool_shadow_price_dollars_per_hour{pool=\"arm\",tier=\"CPU\"} 0.072",
            "tiercel_pool_nodes{pool=\"arm\",tier=\"CPU\"} 3",
            "tiercel_pool_usable_nodes{pool=\"arm\",tier=\"CPU\"} 2",
            "tiercel_pool_placeholders{pool=\"arm\",tier=\"CPU\"} 5",
            "tiercel_pool_placeholders_held{pool=\"arm\",tier=\"CPU\"} 4",
            "tiercel_pool_condition{pool=\"arm\",tier=\"CPU\",condition=\"Ready\"} 1",
        ]
    );
    metrics.forget_pool("arm");
    assert_eq!(series_of(&metrics, "tiercel_pool").len(), 0);
}

#[test]
fn series_beyond_the_limit_are_left_out_and_counted() {
    // Each pipeline has 16 and keeps room for nine conditions.
    let metrics = Metrics::new(51);
    metrics.set_pipeline("ai", "a", sample(&["arm"]));
    metrics.set_pipeline("ai", "b", sample(&["arm"]));
    metrics.set_pipeline("ai", "c", sample(&["arm"]));
    assert_eq!(series_of(&metrics, "pipeline=\"c\"").len(), 0);
    assert_eq!(
        series_of(&metrics, "series_dropped"),
        ["tiercel_telemetry_series_dropped_total 25"]
    );
    // The same again is a replacement, not an addition; room that gets free is used.
    metrics.set_pipeline("ai", "b", sample(&["arm"]));
    assert_eq!(series_of(&metrics, "pipeline=\"b\"").len(), 16);
    metrics.forget_pipeline("ai", "a");
    metrics.set_pipeline("ai", "c", sample(&["arm"]));
    assert_eq!(series_of(&metrics, "pipeline=\"c\"").len(), 16);
}

#[test]
fn a_former_leader_no_longer_shows_objects() {
    let metrics = Metrics::default();
    metrics.set_leading(true);
    metrics.set_pipeline("ai", "agent", sample(&["arm"]));
    metrics.set_leading(true);
    assert_eq!(series_of(&metrics, "agent").len(), 16);
    metrics.set_leading(false);
    assert_eq!(series_of(&metrics, "agent").len(), 0);
    assert_eq!(series_of(&metrics, "lease_leading"), ["tiercel_lease_leading 0"]);
}

#[test]
fn every_family_is_named_by_the_convention_and_explains_itself() {
    let metrics = everything();
    let text = metrics.encode(Exposition::OpenMetrics);
    let families: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    assert!(families.len() >= 46, "{families:?}");
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
        "tiercel_queue_depth{queue=\"Notices\"} 4",
        "tiercel_api_requests_total{client=\"fast\",verb=\"patch_scale\",code=\"200\"} 1",
        "tiercel_api_throttle_wait_seconds_total{client=\"calls\"} 1.5",
        "tiercel_scale_replicas_total{direction=\"down\"} 3",
        "tiercel_stage_moved_replicas_total{namespace=\"ai\",pipeline=\"agent\",stage=\"plan\",pool=\"arm\",tier=\"CPU\"} 3",
        "tiercel_scale_write_duration_seconds_bucket{le=\"0.005\"} 1",
        "tiercel_pipeline_power_watts{namespace=\"ai\",pipeline=\"agent\"} 75.0",
        "tiercel_pipeline_condition{namespace=\"ai\",pipeline=\"agent\",condition=\"Stalled\"} 1",
        "tiercel_scale_reaction_seconds_bucket{le=\"0.01\"} 1",
        "tiercel_scale_reaction_seconds_bucket{le=\"0.005\"} 0",
    ] {
        assert!(
            text.lines().any(|line| line == expected),
            "{expected} is not in\n{text}"
        );
    }
}

#[test]
fn series_grow_with_stages_and_pools_and_with_nothing_else() {
    let (stages, pools) = (["parse", "plan", "answer"], ["arm", "x86", "l4", "h100"]);
    let metrics = Metrics::default();
    let before = series(&metrics).len();
    for pipeline in ["a", "b"] {
        metrics.set_conditions("ai", pipeline, conditions());
        metrics.set_pipeline("ai", pipeline, whole(&stages, &pools));
    }
    for name in pools {
        metrics.set_pool(name, pool());
    }
    let first = series(&metrics);
    // Seven of a pipeline and nine conditions; eight of a stage; eight of a stage on a pool. Two of a resource, six of a
    // pool and one condition. And one counter of holds.
    let (of_pipelines, of_pools) = (2 * (7 + 9 + 3 * (8 + 4 * 8)), 4 * (2 + 6 + 1));
    assert_eq!(first.len() - before, of_pipelines + of_pools + 1);
    // Time goes on: other numbers, other reasons, the same number of series.
    for pass in 0..50_u32 {
        let mut sample = whole(&stages, &pools);
        for stage in &mut sample.stages {
            stage.hold = Some(["CoolingDown", "NoCapacity"][pass as usize % 2]);
            stage.reason = Some(["Cheapest", "PoolFull", "PoolDry"][pass as usize % 3]);
        }
        metrics.set_pipeline("ai", "a", sample);
        metrics.scaled(("ai", "a"), &Arc::from("plan"), &Arc::from("arm"), (pass, pass + 1));
    }
    assert_eq!(
        series(&metrics).len(),
        first.len() + 2,
        "one more reason to hold, and one direction"
    );
    // And every name of a label is one that is meant.
    let known = [
        "namespace",
        "pipeline",
        "stage",
        "pool",
        "tier",
        "resource",
        "condition",
        "reason",
        "direction",
        "queue",
        "le",
        "version",
        "controller",
        "outcome",
        "trigger",
        "client",
        "verb",
        "code",
        "kind",
        "source",
        "why",
    ];
    for line in series(&everything()) {
        let labels = line
            .split_once('{')
            .map_or("", |(_, rest)| rest.split_once('}').unwrap().0);
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let name = label.split_once('=').unwrap().0;
            assert!(known.contains(&name), "{name} is a new label, is it closed? {line}");
        }
    }
}

#[test]
fn what_holds_a_stage_back_is_counted_when_it_begins() {
    let metrics = Metrics::default();
    let tell = |hold| {
        let stages = vec![StageSample {
            hold,
            ..stage("plan", &["arm"])
        }];
        metrics.set_pipeline("ai", "agent", PipelineSample { stages, ..sample(&[]) });
    };
    for hold in [
        None,
        Some("CoolingDown"),
        Some("CoolingDown"),
        None,
        Some("CoolingDown"),
        Some(PLAN_REJECTED),
    ] {
        tell(hold);
    }
    assert_eq!(
        series_of(&metrics, "reason=\"CoolingDown\""),
        ["tiercel_decision_held_total{reason=\"CoolingDown\"} 2"]
    );
    assert_eq!(
        series_of(&metrics, "tiercel_decision_rejected_plans"),
        ["tiercel_decision_rejected_plans_total 1"]
    );
    assert_eq!(series_of(&metrics, "tiercel_stage_hold").len(), 1);
    tell(None);
    assert_eq!(series_of(&metrics, "tiercel_stage_hold").len(), 0);
}

#[test]
fn conditions_show_with_their_pipeline_and_go_with_it() {
    let metrics = Metrics::default();
    let shown = |name: &str| {
        series_of(&metrics, "tiercel_pipeline_condition")
            .iter()
            .filter(|line| line.contains(name))
            .count()
    };
    metrics.set_conditions("ai", "agent", vec![("Ready", true), ("Balanced", false)]);
    assert_eq!(shown("agent"), 0, "nobody has planned it yet");
    metrics.set_pipeline("ai", "agent", sample(&["arm"]));
    assert_eq!(shown("agent"), 2);
    metrics.set_conditions("ai", "agent", vec![("Ready", false)]);
    assert_eq!(
        series_of(&metrics, "tiercel_pipeline_condition"),
        ["tiercel_pipeline_condition{namespace=\"ai\",pipeline=\"agent\",condition=\"Ready\"} 0"]
    );
    metrics.forget_pipeline("ai", "agent");
    metrics.set_pipeline("ai", "agent", sample(&["arm"]));
    assert_eq!(shown("agent"), 0, "of the one that went");
}
