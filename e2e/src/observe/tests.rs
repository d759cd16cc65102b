//! A checker that cannot fail proves nothing: each bound is crossed here once, and each excuse is tried.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::{Bounds, Kind, Ledger, Sample, StageKey, bounds, cost};

/// A pipeline `p` with one stage `s` within 2..=4, and 10 $/h.
struct World {
    ledger: Ledger,
    revision: u64,
}

fn key() -> StageKey {
    StageKey {
        namespace: "n".into(),
        pipeline: "p".into(),
        stage: "s".into(),
    }
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            ledger: Ledger::default(),
            revision: 0,
        };
        world.bounds(2, 4, 10);
        world
    }

    fn bounds(&mut self, min: i64, max: i64, dollars: i64) {
        self.revision += 1;
        self.bounds_at(self.revision, min, max, dollars);
    }

    fn bounds_at(&mut self, revision: u64, min: i64, max: i64, dollars: i64) {
        let stages = BTreeMap::from([(
            "s".to_owned(),
            Bounds {
                min: Some(min),
                max: Some(max),
            },
        )]);
        self.ledger
            .pipeline(Duration::ZERO, ("n", "p", revision), &stages, Some(dollars * 1_000_000));
    }

    /// `spec` replicas on `pool`, all of them ready, at one dollar each.
    fn scale(&mut self, pool: &str, spec: i64) {
        self.scale_with(pool, spec, spec, 1);
    }

    fn scale_with(&mut self, pool: &str, spec: i64, ready: i64, dollars: i64) {
        self.revision += 1;
        let unit_cost_micros = Some(dollars * 1_000_000);
        let (at, pool_name) = (Duration::from_millis(self.revision), pool.to_owned());
        let sample = Sample {
            at,
            key: key(),
            pool: pool_name,
            spec,
            ready,
            revision: self.revision,
            unit_cost_micros,
        };
        self.ledger.deployment(pool, sample);
    }

    fn kinds(&self) -> Vec<Kind> {
        self.ledger
            .violations()
            .iter()
            .map(|violation| violation.kind)
            .collect()
    }
}

#[test]
fn replicas_that_come_up_cross_no_floor() {
    let mut world = World::new();
    world.scale("a", 0);
    world.scale("a", 1);
    world.scale("b", 1);
    assert_eq!(world.kinds(), []);
}

#[test]
fn shrinking_before_growing_crosses_the_floor_once() {
    let mut world = World::new();
    world.scale("a", 2);
    world.scale_with("a", 1, 2, 1);
    world.scale_with("b", 0, 0, 1);
    world.scale("b", 1);
    assert_eq!(world.kinds(), [Kind::Floor]);
    let violation = &world.ledger.violations()[0];
    assert_eq!((violation.seen, violation.bound, &violation.key), (1, 2, &key()));
}

#[test]
fn growing_before_shrinking_crosses_nothing() {
    let mut world = World::new();
    world.scale("a", 2);
    world.scale("b", 2);
    world.scale("a", 0);
    assert_eq!(world.kinds(), []);
    assert_eq!(
        world.ledger.pools(&key()),
        BTreeMap::from([("a".into(), (0, 0)), ("b".into(), (2, 2))])
    );
}

#[test]
fn a_lost_replica_crosses_the_ready_floor_only() {
    let mut world = World::new();
    world.scale("a", 2);
    world.scale_with("a", 2, 1, 1);
    assert_eq!(world.kinds(), [Kind::ReadyFloor]);
}

#[test]
fn readiness_that_two_statuses_tell_one_after_the_other_is_no_shortage() {
    for (late_ms, kinds) in [(10, vec![]), (500, vec![Kind::ReadyFloor])] {
        let mut world = World::new();
        world.scale("a", 2);
        world.scale_with("b", 2, 0, 1);
        world.scale("a", 0);
        assert_eq!(world.kinds(), [Kind::ReadyFloor]);
        world.revision += late_ms;
        world.scale("b", 2);
        assert_eq!(world.kinds(), kinds, "{late_ms} ms");
    }
    let mut world = World::new();
    world.scale("a", 2);
    world.scale_with("a", 2, 1, 1);
    world.scale("a", 2);
    assert_eq!(
        world.kinds(),
        [Kind::ReadyFloor],
        "its own replica was away, however short"
    );
}

#[test]
fn the_ceiling_counts_all_pools_together() {
    let mut world = World::new();
    world.scale("a", 3);
    world.scale("b", 1);
    assert_eq!(world.kinds(), []);
    world.scale("b", 2);
    assert_eq!(world.kinds(), [Kind::Ceiling]);
}

#[test]
fn the_budget_counts_every_replica_at_its_price() {
    let mut world = World::new();
    world.scale_with("cheap", 2, 2, 1);
    world.scale_with("dear", 1, 0, 8);
    assert_eq!(
        (world.ledger.cost_micros("n", "p"), world.kinds()),
        (10_000_000, vec![])
    );
    world.scale_with("cheap", 3, 3, 1);
    assert_eq!(world.kinds(), [Kind::Budget]);
}

#[test]
fn a_lowered_ceiling_counts_once_it_is_kept() {
    let mut world = World::new();
    world.scale("a", 4);
    world.bounds(2, 3, 10);
    assert_eq!(world.kinds(), [], "the operator has not had a chance");
    world.scale("a", 3);
    world.scale("a", 4);
    assert_eq!(world.kinds(), [Kind::Ceiling]);
}

#[test]
fn a_change_of_bounds_that_is_seen_late_takes_back_what_its_predecessor_blamed() {
    let mut world = World::new();
    world.scale("a", 2);
    let edited = world.revision + 1;
    world.revision = edited;
    // The watch of Deployments is ahead of the watch of pipelines.
    world.scale("a", 1);
    assert_eq!(world.kinds(), [Kind::Floor, Kind::ReadyFloor]);
    world.bounds_at(edited, 1, 4, 10);
    assert_eq!(world.kinds(), []);
    world.scale("a", 0);
    assert_eq!(world.kinds(), [Kind::Floor, Kind::ReadyFloor], "the new floor counts");
}

#[test]
fn a_deleted_pipeline_may_lose_its_replicas() {
    let mut world = World::new();
    world.scale("a", 2);
    world.ledger.forget("n", "p");
    world.scale("a", 0);
    assert_eq!(world.kinds(), []);
}

#[test]
fn a_list_is_judged_as_a_whole() {
    let mut world = World::new();
    world.scale("a", 1);
    world.scale("b", 1);
    world.ledger.begin_list();
    world.scale("b", 1);
    world.scale("a", 1);
    world.ledger.end_list(Duration::from_secs(1));
    assert_eq!(world.kinds(), []);
}

#[test]
fn bounds_and_budget_are_read_from_the_object() {
    let object = json!({"spec": {"budget": {"maxCostPerHour": "1.5"}, "stages": [
        {"name": "a", "replicas": {"min": 1, "max": 3}, "disruption": {"maxSurge": 2}}, {"name": "b"}]}});
    let (stages, budget) = bounds(&object);
    assert_eq!(budget, Some(1_500_000));
    assert_eq!(
        stages["a"],
        Bounds {
            min: Some(1),
            max: Some(5)
        }
    );
    assert_eq!(stages["b"], Bounds::default());
}

#[test]
fn a_replica_costs_its_largest_share_of_the_dearest_node_that_admits_it() {
    let deployment: Deployment = parse(json!({"spec": {"selector": {}, "template": {"spec": {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "gpu", "operator": "In", "values": ["l4"]}]}]}}},
        "containers": [{"name": "main", "resources": {
            "requests": {"cpu": "500m", "memory": "8Gi"}, "limits": {"example.com/gpu": "1"}}}],
    }}}}));
    let node = |gpu: &str, memory: &str, gpus: &str| -> Arc<Node> {
        Arc::new(parse(json!({
            "metadata": {"labels": {"gpu": gpu}},
            "status": {"allocatable": {"cpu": "8", "memory": memory, "example.com/gpu": gpus}},
        })))
    };
    // Shares: 1/16 of the CPU, 1/4 of the memory, 1/2 and 1/8 of the devices.
    let nodes = [
        node("l4", "32Gi", "2"),
        node("l4", "32Gi", "8"),
        node("h100", "8Gi", "1"),
    ];
    assert_eq!(cost::per_replica(&deployment, &nodes, 1_000_000), Some(500_000));
    assert_eq!(cost::per_replica(&deployment, &nodes[1..], 1_000_000), Some(250_000));
    assert_eq!(
        cost::per_replica(&deployment, &nodes[2..], 1_000_000),
        None,
        "no node admits it"
    );
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}
