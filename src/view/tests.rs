//! What people see, situation by situation: the whole text is on record in `snapshots/`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::status::Serves;
use super::tree::{Seen, tree};
use super::*;
use crate::api::{ComputePool, TieredPipeline};

/// A pipe with signs beyond ASCII.
const PIPE: Style = Style {
    colour: false,
    unicode: true,
    width: None,
};

pub(super) fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn stage(name: &str, min: i32) -> Value {
    json!({
        "name": name,
        "kind": "Inference",
        "container": {"image": "registry.example.com/server:1", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
        "replicas": {"min": min, "max": 9},
    })
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-11-21T11:48:00Z"})
}

/// `rag/chat` with three stages, of which the second stands on two pools.
pub(super) fn pipeline(patch: &Value) -> TieredPipeline {
    let mut object = json!({
        "apiVersion": "tiercel.dev/v1alpha1", "kind": "TieredPipeline",
        "metadata": {"name": "chat", "namespace": "rag", "uid": "u1", "creationTimestamp": "2026-11-21T09:30:00Z"},
        "spec": {"budget": {"maxCostPerHour": "20"}, "stages": [stage("retrieve", 1), stage("generate", 1), stage("rerank", 0)]},
        "status": {
            "stagesReady": "3/3", "replicas": 4, "readyReplicas": 4, "costPerHour": "4.12", "powerWatts": 350,
            "stages": [
                {"name": "retrieve", "replicas": 1, "readyReplicas": 1, "pools": [{"name": "graviton", "replicas": 1, "ready": 1}]},
                {"name": "generate", "replicas": 3, "readyReplicas": 3, "bottleneck": true, "pools": [
                    {"name": "l4-spot", "replicas": 2, "ready": 2}, {"name": "h100", "replicas": 1, "ready": 1}]},
                {"name": "rerank", "replicas": 0, "readyReplicas": 0},
            ],
            "decisions": [
                {"id": "2", "time": "2026-11-21T11:59:20Z", "trigger": "Signal", "summary": "generate: l4-spot 1->2",
                    "signal": "Waiting", "costBefore": "3.83", "costAfter": "4.12", "reason": "Cheapest"},
                {"id": "1", "time": "2026-11-21T11:00:00Z", "trigger": "Spec", "summary": "generate: l4-spot 0->1, h100 0->1",
                    "costBefore": "0.12", "costAfter": "3.83", "reason": "PoolFull"},
            ],
            "conditions": [condition("Ready", "True", "AsDeclared", "3 of 3 stages are Ready")],
        },
    });
    merge(&mut object, patch);
    serde_json::from_value(object).unwrap()
}

/// Like a merge patch, but without taking anything away.
fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(object.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

fn pod(stage: &str, pool: &str, suffix: &str, status: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("chat--{stage}--{pool}-7d9f-{suffix}"), "namespace": "rag", "creationTimestamp": "2026-11-21T11:57:00Z",
            "labels": {"tiercel.dev/pipeline": "chat", "tiercel.dev/stage": stage, "tiercel.dev/pool": pool},
        },
        "spec": {"containers": [], "nodeName": "node-1"},
        "status": status,
    }))
    .unwrap()
}

fn ready() -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
}

fn stuck(reason: &str, restarts: i32) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false,
        "restartCount": restarts, "state": {"waiting": {"reason": reason}}}]})
}

fn pool(name: &str, spec: &Value) -> ComputePool {
    let mut object = json!({"apiVersion": "tiercel.dev/v1alpha1", "kind": "ComputePool", "metadata": {"name": name},
        "spec": {"tier": "CPU", "costPerNodeHour": "1", "nodeSelector": {"a": "b"}}});
    merge(&mut object, &json!({ "spec": spec }));
    serde_json::from_value(object).unwrap()
}

pub(super) fn serving() -> Seen {
    Seen {
        pipelines: vec![pipeline(&json!({}))],
        pods: vec![
            pod("retrieve", "graviton", "aaaaa", &ready()),
            pod("generate", "l4-spot", "bbbbb", &ready()),
            pod("generate", "l4-spot", "ccccc", &ready()),
            pod("generate", "h100", "ddddd", &ready()),
            // Of another pipeline.
            serde_json::from_value(json!({"metadata": {"name": "other", "namespace": "rag", "labels": {
                "tiercel.dev/pipeline": "cha", "tiercel.dev/stage": "generate", "tiercel.dev/pool": "h100"}}}))
            .unwrap(),
        ],
        pools: vec![
            pool("graviton", &json!({"class": "aws-graviton4"})),
            pool(
                "l4-spot",
                &json!({"tier": "Accelerator", "class": "nvidia-l4", "capacityType": "Spot"}),
            ),
        ],
    }
}

/// Two pods are stuck, one has no node, one leaves, and nothing is decided any more.
fn troubled() -> Seen {
    let told = "no pool has room for stage 'generate': pool 'l4-spot' has no room for one more replica";
    let mut object = pipeline(&json!({
        "metadata": {"annotations": {"tiercel.dev/pause": "scale-in"}},
        "spec": {"mode": "Advisory"},
        "status": {
            "readyReplicas": 1,
            "conditions": [condition("Ready", "False", "NoCapacity", told)],
        },
    }));
    let status = object.status.as_mut().unwrap();
    status.stages[1].ready_replicas = 0;
    status.stages[1].message = Some(told.to_owned());
    status.stages[1].pools[0].ready = 0;
    status.stages[1].pools[1].ready = 0;
    let unplaced = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]});
    let mut leaving = pod("retrieve", "x86", "fffff", &ready());
    leaving.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-11-21T11:59:00Z")).unwrap());
    Seen {
        pipelines: vec![object],
        pods: vec![
            pod("retrieve", "graviton", "aaaaa", &ready()),
            pod("generate", "l4-spot", "bbbbb", &stuck("ImagePullBackOff", 0)),
            pod("generate", "l4-spot", "ccccc", &stuck("CrashLoopBackOff", 7)),
            pod("generate", "h100", "ddddd", &unplaced),
            pod("generate", "h100", "eeeee", &stuck("ContainerCreating", 0)),
            leaving,
        ],
        pools: Vec::new(),
    }
}

#[test]
fn a_pipeline_that_serves() {
    insta::assert_snapshot!(tree(&serving(), now()).text(PIPE, false));
}

#[test]
fn wide_says_where_everything_is() {
    insta::assert_snapshot!(tree(&serving(), now()).text(PIPE, true));
}

#[test]
fn pods_in_trouble_come_first_and_say_why() {
    insta::assert_snapshot!(tree(&troubled(), now()).text(PIPE, false));
}

#[test]
fn a_pipeline_that_the_operator_has_not_seen() {
    let mut new = pipeline(&json!({}));
    new.status = None;
    let seen = Seen {
        pipelines: vec![new],
        ..Seen::default()
    };
    insta::assert_snapshot!(tree(&seen, now()).text(PIPE, false));
}

#[test]
fn what_somebody_paused_is_said_also_where_all_is_well() {
    let mut object = pipeline(&json!({"metadata": {"annotations": {"tiercel.dev/pause": "all"}}}));
    let state = |object: &TieredPipeline| {
        let seen = Seen {
            pipelines: vec![object.clone()],
            ..Seen::default()
        };
        tree(&seen, now()).pipelines[0].state
    };
    assert_eq!(state(&object), State::Paused);
    object.metadata.annotations = None;
    assert_eq!(state(&object), State::Ready);
    object.spec.mode = crate::api::tiered_pipeline::Mode::Paused;
    assert_eq!(state(&object), State::Paused);
}

#[test]
fn a_terminal_is_never_overrun_and_pods_leave_out_what_their_place_says() {
    for width in [60, 80, 120] {
        let style = Style {
            width: Some(width),
            ..PIPE
        };
        let text = tree(&troubled(), now()).text(style, false);
        assert!(
            text.lines().all(|line| line.chars().count() <= width),
            "{width}:\n{text}"
        );
        assert_eq!(text.contains("…7d9f-bbbbb"), width < 120, "{width}:\n{text}");
    }
}

#[test]
fn without_signs_beyond_ascii_the_tree_still_reads() {
    let text = tree(&troubled(), now()).text(
        Style {
            width: Some(80),
            ..Style::default()
        },
        false,
    );
    assert!(text.is_ascii(), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn colours_change_no_column() {
    let style = Style { colour: true, ..PIPE };
    let painted = tree(&troubled(), now()).text(style, true);
    let mut plain = String::new();
    let mut rest = painted.as_str();
    while let Some((before, sequence)) = rest.split_once("\x1b[") {
        plain += before;
        rest = sequence.split_once('m').unwrap().1;
    }
    plain += rest;
    assert_ne!(painted, plain);
    assert_eq!(plain, tree(&troubled(), now()).text(PIPE, true));
}

#[test]
fn programs_get_the_same_tree() {
    insta::assert_json_snapshot!(tree(&serving(), now()).pipelines[0].stages[1]);
}

fn screen(seen: &Seen) -> status::Screen {
    let tree = tree(seen, now()).pipelines.remove(0);
    status::screen(&seen.pipelines[0], tree, now())
}

#[test]
fn one_screen_of_a_pipeline_that_serves() {
    insta::assert_snapshot!(screen(&serving()).text(PIPE));
}

#[test]
fn one_screen_of_a_pipeline_in_trouble() {
    let style = Style {
        width: Some(80),
        ..PIPE
    };
    let text = screen(&troubled()).text(style);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn one_screen_of_a_pipeline_that_the_operator_has_not_seen() {
    let mut seen = serving();
    seen.pipelines[0].status = None;
    insta::assert_snapshot!(screen(&seen).text(PIPE));
}

#[test]
fn whether_requests_get_through_follows_from_the_weakest_stage() {
    let serves = |change: &dyn Fn(&mut TieredPipeline)| {
        let mut seen = serving();
        change(&mut seen.pipelines[0]);
        screen(&seen).serves
    };
    assert_eq!(serves(&|_| {}), Serves::Yes);
    let stage = |object: &mut TieredPipeline, ready| object.status.as_mut().unwrap().stages[1].ready_replicas = ready;
    assert_eq!(serves(&|object| stage(object, 1)), Serves::Yes);
    assert_eq!(serves(&|object| stage(object, 0)), Serves::No);
    let short = |object: &mut TieredPipeline| {
        let told = condition("CapacityAvailable", "False", "NoCapacity", "short");
        let told = serde_json::from_value(told).unwrap();
        object.status.as_mut().unwrap().conditions.push(told);
    };
    assert_eq!(serves(&short), Serves::Short);
    assert_eq!(
        serves(&|object| object.status.as_mut().unwrap().stages.clear()),
        Serves::Unknown
    );
}

#[test]
fn programs_get_the_same_screen() {
    insta::assert_json_snapshot!(screen(&troubled()));
}

#[test]
fn ages_read_as_kubectl_writes_them() {
    for (seconds, text) in [
        (-5, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (3_600, "60m"),
        (10_800, "3h"),
        (11_100, "3h5m"),
        (90_000, "25h"),
        (200_000, "2d"),
    ] {
        assert_eq!(age(seconds), text);
    }
}

#[test]
fn an_unknown_word_pauses_everything() {
    use facts::Pause;
    for (word, pause, again) in [
        (None, Pause::default(), None),
        (Some("all"), Pause::ALL, Some("all")),
        (Some("please"), Pause::ALL, Some("all")),
    ] {
        assert_eq!(
            (Pause::read(word), Pause::read(word).annotation()),
            (pause, again),
            "{word:?}"
        );
    }
    for word in ["scale-in", "scale-out"] {
        assert_eq!(Pause::read(Some(word)).annotation(), Some(word));
    }
}
