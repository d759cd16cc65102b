//! Registries that show every family, for tests here and for the reference page.

use std::sync::Arc;
use std::time::Duration;

use super::{Metrics, PLAN_REJECTED, PipelineSample, PoolSample, ResourceSample, StageSample, VariantSample};
use crate::api::conditions::Type;

pub(crate) fn variant(pool: &str) -> VariantSample {
    let pool = pool.into();
    VariantSample {
        pool,
        tier: "CPU",
        capacity_millis: 2_500,
        cost_per_hour_micros: 90_000,
        planned_cost_per_hour_micros: Some(120_000),
        power_milliwatts: Some(45_000),
        replicas: 3,
        ready_replicas: 2,
        dry: true,
    }
}

pub(crate) fn stage(name: &str, pools: &[&str]) -> StageSample {
    StageSample {
        stage: name.into(),
        demand_millis: Some(1_500),
        unserved_millis: Some(500),
        signal_age_ms: Some(250),
        signals_fresh: Some(true),
        below_preferred_tier: Some(false),
        reason: Some("Cheapest"),
        hold: None,
        floor_cost_per_hour_micros: Some(30_000),
        variants: pools.iter().map(|pool| variant(pool)).collect(),
    }
}

/// One stage, `plan`.
pub(crate) fn sample(pools: &[&str]) -> PipelineSample {
    PipelineSample {
        cost_per_hour_micros: Some(1_250_000),
        stages: vec![stage("plan", pools)],
        ..PipelineSample::default()
    }
}

/// All that a pipeline can show at once.
pub(crate) fn whole(stages: &[&str], pools: &[&str]) -> PipelineSample {
    let held = |name: &&str| StageSample {
        hold: Some("CoolingDown"),
        ..stage(name, pools)
    };
    PipelineSample {
        cost_per_thousand_micros: Some(231_481),
        budget_micros: Some(2_000_000),
        power_max_milliwatts: Some(3_000_000),
        namespace_budget_micros: Some(9_000_000),
        namespace_power_max_milliwatts: Some(8_000_000),
        power_milliwatts: Some(75_000),
        stages: stages.iter().map(held).collect(),
        ..sample(&[])
    }
}

/// All that a pool can show at once, with one resource.
pub(crate) fn pool() -> PoolSample {
    PoolSample {
        tier: "CPU",
        price_per_hour_micros: Some(36_000),
        shadow_price_per_hour_micros: Some(72_000),
        nodes: 3,
        usable_nodes: 2,
        placeholders: Some((5, 4)),
        resources: vec![ResourceSample {
            resource: "cpu".into(),
            capacity_millis: 64_000,
            used_millis: 500,
        }],
        conditions: vec![("Ready", true)],
    }
}

/// Every condition type that there is, true.
pub(crate) fn conditions() -> Vec<(&'static str, bool)> {
    Type::ALL.iter().map(|type_| (type_.as_str(), true)).collect()
}

/// At least one series of every family.
pub(crate) fn everything() -> Metrics {
    let metrics = Metrics::default();
    metrics.reconcile_started("pipeline");
    metrics.reconciled("pipeline", "Applied", Duration::from_millis(20));
    metrics.watch_restarted("Node");
    metrics.api_request("fast", "patch_scale", 200);
    metrics.throttled("calls", Duration::from_millis(1_500));
    metrics.decided("DemandRose", "Cheapest");
    metrics.decision_took(Duration::from_micros(40));
    metrics.set_plan_gap(Some(20_000));
    metrics.plan_solved(Duration::from_millis(3));
    metrics.decision_log_lost(1);
    metrics.reacted(Duration::from_millis(7));
    metrics.scale_write("Acknowledged");
    metrics.scale_write_took(Duration::from_millis(4));
    metrics.scaled(("ai", "agent"), &Arc::from("plan"), &Arc::from("arm"), (5, 2));
    metrics.signal_error("vllm", "Timeout");
    metrics.event("Published");
    metrics.set_queue_depth("Notices", 4);
    let mut sample = whole(&["plan"], &["arm"]);
    metrics.set_conditions("ai", "agent", conditions());
    metrics.set_pipeline("ai", "agent", sample.clone());
    for stage in &mut sample.stages {
        stage.hold = Some(PLAN_REJECTED);
    }
    metrics.set_pipeline("ai", "agent", sample);
    metrics.set_pool("arm", pool());
    metrics
}
