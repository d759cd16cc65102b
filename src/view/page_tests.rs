//! What the web view is told.

use serde_json::json;

use super::*;
use crate::view::tests::{now, serving};

fn session() -> Session {
    Session {
        context: "kind-dev".to_owned(),
        since: "2026-11-21T11:30:00Z".to_owned(),
        version: "0.1.0",
        ..Session::default()
    }
}

fn seen() -> Seen {
    let mut seen = serving();
    seen.pools[1].status = serde_json::from_value(json!({
        "nodes": 4, "readyNodes": 3, "replicas": 2, "free": "1 of 4 nvidia.com/gpu", "costPerHour": "1.17",
        "shadowPrice": "0.4",
        "capacity": [
            {"resource": "nvidia.com/gpu", "allocatable": "4", "requestedByOthers": "1", "requestedByTiercel": "2", "free": "1"},
            {"resource": "memory", "allocatable": "0", "requestedByOthers": "0", "requestedByTiercel": "0", "free": "0"},
        ],
        "conditions": [{"type": "Ready", "status": "True", "reason": "X", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }))
    .unwrap();
    seen
}

#[test]
fn the_overview_is_on_record() {
    insta::assert_json_snapshot!(overview(&seen(), &session(), now()));
}

#[test]
fn one_pipeline_is_on_record() {
    let mut hour = Hour::new("2026-11-21T11:30:00Z".parse().unwrap());
    let decisions = seen().pipelines[0].status.as_ref().unwrap().decisions.clone();
    hour.see(&tree(&seen(), now()), &[("rag", "chat", &decisions)], now());
    insta::assert_json_snapshot!(detail(&seen(), &hour, "rag", "chat", now()).unwrap());
}

#[test]
fn there_is_no_pipeline_of_another_namespace() {
    let hour = Hour::new(now());
    for (namespace, name) in [("other", "chat"), ("rag", "chart"), ("", ""), ("rag", "")] {
        assert_eq!(
            detail(&seen(), &hour, namespace, name, now()),
            None,
            "{namespace}/{name}"
        );
    }
}

#[test]
fn pods_shape_states_and_are_not_sent() {
    let mut seen = seen();
    let stuck = json!({"phase": "Pending", "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false,
        "restartCount": 7, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
    seen.pods[1].status = serde_json::from_value(stuck).unwrap();
    let overview = overview(&seen, &session(), now());
    let place = &overview.pipelines[0].pipeline.stages[1].pools[0];
    assert_eq!((place.state, place.pods.len()), (State::Failing, 0));
    let detail = detail(&seen, &Hour::new(now()), "rag", "chat", now()).unwrap();
    assert!(detail.screen.waits_for[0].contains("CrashLoopBackOff"), "{detail:?}");
}

#[test]
fn a_share_needs_numbers_and_never_exceeds_the_whole() {
    let capacity = |allocatable: &str, tiercel: &str| ResourceCapacity {
        resource: "cpu".to_owned(),
        allocatable: allocatable.to_owned(),
        requested_by_others: "500m".to_owned(),
        requested_by_tiercel: tiercel.to_owned(),
        free: "-1".to_owned(),
    };
    let shown = share(&capacity("2", "9")).unwrap();
    assert_eq!((shown.tiercel, shown.others, shown.free), (1_000, 250, 0));
    assert_eq!(share(&capacity("0", "1")), None);
    assert_eq!(share(&capacity("2", "many")), None);
}
