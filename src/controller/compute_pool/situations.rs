//! Every situation of a pool as an object on record.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::status::compute_status;
use crate::api::conditions::Type;
use crate::controller::capacity::fixtures::World;
use crate::controller::events::table::{self, POOL};
use crate::controller::recorded;
use crate::controller::report::{Room, ShadowPrices};

/// A pool `a` with `patch` merged in.
fn pool(patch: Value) -> World {
    World::default().pool("a", patch)
}

/// The last pool of a world with what the operator says of it.
fn told(world: &World) -> Value {
    let observed = world.observe();
    let (pool, observation) = (world.pools.last().unwrap(), observed.last().unwrap());
    let now = Time(jiff::Timestamp::UNIX_EPOCH);
    let mut pool = (**pool).clone();
    pool.status = Some(compute_status(
        &pool,
        observation,
        &ShadowPrices::default(),
        &Room::None,
        None,
        &now,
    ));
    serde_json::to_value(pool).unwrap()
}

#[test]
fn every_situation_is_on_record_for_argo_cd_and_flux() {
    let elastic = || {
        let elastic = json!({"maxNodes": 3, "nodeAllocatable": {"cpu": "4", "memory": "8Gi"}});
        json!({"spec": {"elastic": elastic}})
    };
    let cordoned = || json!({"spec": {"unschedulable": true}});
    let node = |world: World| world.node("n", "a", json!({}));
    let full = |world: World| node(world).replica("n", "8", "1Gi", json!({}));
    let invalid = json!({"spec": {"costPerNodeHour": "x"}});
    let going =
        json!({"metadata": {"deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": ["foregroundDeletion"]}});
    let overlap = node(pool(json!({})).pool("b", json!({"spec": {"nodeSelector": {"pool": "a"}}})));
    let mut edited = told(&node(pool(json!({}))));
    edited["metadata"]["generation"] = json!(2);
    let mut stalled_then_edited = told(&node(pool(invalid.clone())));
    stalled_then_edited["metadata"]["generation"] = json!(2);
    let created = serde_json::to_value(&*pool(json!({})).pools[0]).unwrap();
    let recorded = [
        ("created", recorded::unseen(created, "computepools.yaml")),
        ("nodes", told(&node(pool(json!({}))))),
        ("no-nodes", told(&pool(json!({})))),
        ("no-nodes-yet", told(&pool(elastic()))),
        ("all-cordoned", told(&pool(json!({})).node("n", "a", cordoned()))),
        (
            "all-cordoned-more-to-come",
            told(&pool(elastic()).node("n", "a", cordoned())),
        ),
        (
            "some-set-aside",
            told(&node(pool(json!({}))).node("m", "a", cordoned())),
        ),
        ("full", told(&full(pool(json!({}))))),
        ("full-more-to-come", told(&full(pool(elastic())))),
        ("overlap", told(&overlap)),
        ("invalid", told(&node(pool(invalid)))),
        ("edited", edited),
        ("stalled-then-edited", stalled_then_edited),
        (
            "deleted-in-use",
            told(&node(pool(going)).replica("n", "1", "1Gi", json!({}))),
        ),
    ];
    for (what, object) in &recorded {
        for condition in object["status"]["conditions"].as_array().into_iter().flatten() {
            let row = table::find(POOL, Type::Ready, condition["reason"].as_str().unwrap());
            assert!(
                condition["type"] != "Ready" || row.is_some(),
                "{what}: {condition} is not told"
            );
        }
    }
    recorded::hold("ComputePool", &recorded);
}
