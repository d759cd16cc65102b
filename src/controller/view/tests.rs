use std::time::Duration;

use futures::{StreamExt, stream};
use kube::runtime::watcher::{Error, Event};
use serde_json::{Value, json};

use super::watch::{Change, coalesced, watched};
use super::*;
use crate::quantity::Round;
use crate::rebalance::world::Resources;

fn pod(value: Value) -> PodView {
    serde_json::from_value(value).expect("a pod")
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "`json!` at the call reads better without `&`"
)]
fn container(requests: Value) -> Value {
    json!({"name": "c", "resources": {"requests": requests}})
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "`json!` at the call reads better without `&`"
)]
fn sidecar(requests: Value) -> Value {
    json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": requests}})
}

#[test]
fn a_pod_requests_the_larger_of_its_start_up_and_its_running_phase() {
    let cpu = |cpu: &str| json!({"cpu": cpu});
    for (what, spec, expected) in [
        ("nothing", json!({}), 0),
        ("no requests", json!({"containers": [{"name": "c"}]}), 0),
        (
            "containers add",
            json!({"containers": [container(cpu("1")), container(cpu("500m"))]}),
            1_500,
        ),
        (
            "a large init container stands alone",
            json!({"containers": [container(cpu("1"))], "initContainers": [container(cpu("3")), container(cpu("2"))]}),
            3_000,
        ),
        (
            "a small init container is covered",
            json!({"containers": [container(cpu("1"))], "initContainers": [container(cpu("300m"))]}),
            1_000,
        ),
        (
            "sidecars run beside the containers",
            json!({"containers": [container(cpu("1"))], "initContainers": [sidecar(cpu("200m")), sidecar(cpu("100m"))]}),
            1_300,
        ),
        (
            "an init container runs beside the sidecars before it only",
            json!({"containers": [container(cpu("1"))],
                   "initContainers": [sidecar(cpu("200m")), container(cpu("3")), sidecar(cpu("700m"))]}),
            3_200,
        ),
        (
            "a sidecar that starts last counts in both phases",
            json!({"containers": [container(cpu("1"))], "initContainers": [container(cpu("1")), sidecar(cpu("5"))]}),
            6_000,
        ),
        (
            "overhead comes on top",
            json!({"containers": [container(cpu("1"))], "overhead": {"cpu": "250m"}}),
            1_250,
        ),
        (
            "the pod as a whole stands in for its containers",
            json!({"containers": [container(cpu("1"))], "resources": {"requests": {"cpu": "4"}}, "overhead": {"cpu": "1"}}),
            5_000,
        ),
    ] {
        let spec: PodSpecView = serde_json::from_value(spec).expect(what);
        assert_eq!(spec.requests.resources(None, Round::Up).cpu_millis, expected, "{what}");
    }
}

#[test]
fn sums_are_exact_and_rounded_once() {
    let spec = json!({"containers": [container(json!({"cpu": "1n"})), container(json!({"cpu": "999999n"}))]});
    let spec: PodSpecView = serde_json::from_value(spec).expect("a spec");
    assert_eq!(spec.requests.resources(None, Round::Up).cpu_millis, 1);
}

#[test]
fn devices_are_kept_by_name_and_other_resources_dropped() {
    let spec = json!({"containers": [
        container(json!({"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "2", "ephemeral-storage": "5Gi"})),
        container(json!({"amd.com/gpu": 1, "nvidia.com/gpu": "1"})),
    ]});
    let spec: PodSpecView = serde_json::from_value(spec).expect("a spec");
    let gpu = |name| spec.requests.resources(Some(name), Round::Up).device_millis;
    assert_eq!(
        (gpu("nvidia.com/gpu"), gpu("amd.com/gpu"), gpu("ephemeral-storage")),
        (3_000, 1_000, 0)
    );
}

#[test]
fn what_cannot_be_read_is_all_there_is_when_requested_and_nothing_when_offered() {
    let spec = json!({"containers": [container(json!({"cpu": "INVALID"})), container(json!({"cpu": "1"}))]});
    let spec: PodSpecView = serde_json::from_value(spec).expect("a spec");
    assert!(spec.requests.resources(None, Round::Up).cpu_millis > 1_000_000_000_000);
    let status: NodeStatusView =
        serde_json::from_value(json!({"allocatable": {"cpu": "INVALID", "pods": "x"}})).expect("a status");
    assert_eq!(
        (status.allocatable.resources(None, Round::Down), status.pods),
        (Resources::default(), None)
    );
    let addresses = json!({"addresses": [
        {"type": "InternalIP", "address": "10.0.0.7"},
        {"type": "InternalIP", "address": "fd00::7"},
        {"type": "Hostname", "address": "ip-10-0-0-7.example"},
        {"type": "ExternalIP"},
    ]});
    let status: NodeStatusView = serde_json::from_value(addresses).expect("a status");
    let found = status.addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(found, ["10.0.0.7", "fd00::7"]);
    let below: NodeStatusView =
        serde_json::from_value(json!({"allocatable": {"cpu": "-1", "pods": "-1"}})).expect("a status");
    assert_eq!(
        (below.allocatable.resources(None, Round::Down), below.pods),
        (Resources::default(), Some(0))
    );
}

#[test]
fn a_pod_tells_why_it_does_not_run() {
    let status = |value: Value| -> PodStatusView { serde_json::from_value(value).expect("a status") };
    let scheduled = |reason: &str| {
        status(json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": reason, "message": "0/3 nodes are available"}]}))
    };
    assert_eq!(
        scheduled("Unschedulable").unschedulable.as_deref(),
        Some("0/3 nodes are available")
    );
    assert_eq!(scheduled("SchedulingGated").unschedulable, None, "held back on purpose");

    let waiting = |reason: &str| {
        let found = status(json!({"containerStatuses": [
            {"state": {"running": {}}}, {"state": {"waiting": {"reason": reason, "message": "m"}}}]}));
        found.waiting.map(|stop| stop.reason.to_string())
    };
    for reason in [
        "ErrImagePull",
        "ImagePullBackOff",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
    ] {
        assert_eq!(waiting(reason).as_deref(), Some(reason));
    }
    for reason in ["ContainerCreating", "PodInitializing"] {
        assert_eq!(waiting(reason), None, "{reason} is the ordinary turn of things");
    }
    let crash = status(
        json!({"initContainerStatuses": [{"state": {"terminated": {"reason": "Completed"}}}], "containerStatuses": [{
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"reason": "StartError", "message": "exec format error", "exitCode": 128}}}]}),
    );
    let ended = crash.ended.expect("an end");
    assert_eq!((&*ended.reason, &*ended.message), ("StartError", "exec format error"));
    let long = status(
        json!({"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "é".repeat(2_000)}}}]}),
    );
    assert_eq!(long.waiting.expect("a stop").message.len(), 512);
}

#[test]
fn a_ready_pod_says_since_when_and_where() {
    let pod = pod(json!({
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"hostNetwork": true, "containers": [
            {"name": "c", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}]}, {"name": "d", "ports": [{"containerPort": 9}]}]},
        "status": {"phase": "Running", "podIP": "127.10.0.1", "startTime": "2026-01-01T00:00:00Z", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}]},
    }));
    assert!(pod.status.ready && pod.spec.host_network);
    assert_eq!(pod.status.ip, Some([127, 10, 0, 1].into()));
    assert_eq!(
        *pod.spec.ports,
        [Port {
            name: Some("http".into()),
            container_port: 8080
        }]
    );
    let seconds = |time: Option<Time>| time.expect("a time").0.as_second();
    assert_eq!(seconds(pod.status.ready_changed) - seconds(pod.status.started), 5);
}

#[test]
fn objects_with_nothing_in_them_decode() {
    for value in [
        json!({}),
        json!({"metadata": {}, "spec": {}, "status": {}}),
        json!({"status": {"phase": "New"}}),
    ] {
        assert_eq!(pod(value.clone()).status.phase, Phase::Unknown);
        let node: NodeView = serde_json::from_value(value).expect("a node");
        assert!(!node.status.ready, "what does not say that it is Ready is not");
    }
}

fn node(patch: Value) -> NodeView {
    let mut node: NodeView = serde_json::from_value(patch).expect("a node");
    node.metadata.name = Some("n".to_owned());
    node
}

/// What a watch tells after these events: `+` applied, `-` deleted, `*` listed anew.
async fn told(events: Vec<Event<NodeView>>) -> (String, usize) {
    let (store, changes) = watched(stream::iter(events.into_iter().map(Ok::<_, Error>)));
    let told = changes.map(|change| match change.expect("no error") {
        Change::Applied(_) => '+',
        Change::Deleted(_) => '-',
        Change::Relisted => '*',
    });
    (told.collect().await, store.len())
}

#[tokio::test]
async fn heartbeats_wake_nobody_and_what_matters_does() {
    let ready = |heartbeat: &str, status: &str| {
        json!({"metadata": {"resourceVersion": heartbeat, "annotations": {"volumes": heartbeat}},
               "status": {"conditions": [{"type": "Ready", "status": status, "lastHeartbeatTime": heartbeat}]}})
    };
    let apply = |value| Event::Apply(node(value));
    let listed = vec![Event::Init, Event::InitApply(node(ready("1", "True"))), Event::InitDone];
    for (event, expected) in [
        (apply(ready("2", "True")), "*"),
        (apply(ready("2", "False")), "*+"),
        (
            apply(json!({"metadata": {"labels": {"a": "b"}}, "status": ready("2", "True")["status"]})),
            "*+",
        ),
        (
            apply(json!({"spec": {"unschedulable": true}, "status": ready("2", "True")["status"]})),
            "*+",
        ),
        (Event::Delete(node(ready("1", "True"))), "*-"),
    ] {
        let mut events = listed.clone();
        events.push(event);
        assert_eq!(told(events).await.0, expected);
    }
}

#[tokio::test]
async fn what_vanished_in_a_gap_of_the_watch_is_gone_and_the_relist_is_told() {
    let events = vec![
        Event::Init,
        Event::InitApply(node(json!({}))),
        Event::InitDone,
        Event::Init,
        Event::InitDone,
    ];
    assert_eq!(told(events).await, ("**".to_owned(), 0));
}

#[tokio::test]
async fn only_what_is_read_is_stored() {
    let full = pod(json!({"metadata": {
        "name": "p", "namespace": "d", "uid": "u", "generateName": "p-",
        "labels": {"app": "x", "tiercel.dev/variant-id": "v"},
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "s", "controller": true}],
        "annotations": {"a": "b"}, "managedFields": [{"manager": "m"}], "finalizers": ["f/g"]}}));
    let (store, changes) = watched(stream::iter([
        Ok::<_, Error>(Event::Init),
        Ok(Event::InitApply(full)),
        Ok(Event::InitDone),
    ]));
    changes.for_each(|_| std::future::ready(())).await;
    let pod = &store.state()[0];
    assert_eq!((pod.replica_set(), pod.variant_id()), (Some("s"), Some("v")));
    let stored = &pod.metadata;
    assert!(stored.labels.is_none() && stored.owner_references.is_none());
    assert!(stored.annotations.is_none() && stored.managed_fields.is_none() && stored.finalizers.is_none());
    assert!(stored.uid.is_some() && stored.namespace.is_some());
}

#[tokio::test(start_paused = true)]
async fn changes_are_looked_at_at_once_and_then_together() {
    let (sender, receiver) = tokio::sync::watch::channel(());
    let start = tokio::time::Instant::now();
    let mut looks = Box::pin(coalesced(receiver, Duration::from_millis(500)));
    sender.send_replace(());
    assert_eq!(looks.next().await, Some(()));
    assert_eq!(start.elapsed(), Duration::ZERO);
    for _ in 0..100 {
        sender.send_replace(());
    }
    assert_eq!(looks.next().await, Some(()));
    assert_eq!(start.elapsed(), Duration::from_millis(500));
    drop(sender);
    assert_eq!(looks.next().await, None, "nobody will tell any more");
}
