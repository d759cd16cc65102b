use serde_json::{Value, json};

use super::*;

const ID: &str = "v1";

fn at(second: u32) -> String {
    format!("2026-03-01T10:{:02}:{:02}Z", second / 60, second % 60)
}

/// A pod of the variant as the API server shows it: created at second 0, bound a second later. `ready`: the condition's status
/// and when it changed.
fn pod(uid: &str, ready: (bool, u32)) -> Value {
    json!({
        "metadata": {"name": uid, "namespace": "rag", "uid": uid, "labels": {(crate::api::labels::VARIANT_ID): ID},
            "creationTimestamp": at(0),
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "replica-set", "controller": true}]},
        "spec": {"containers": [{"name": "server"}]},
        "status": {"phase": "Running", "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(1)},
            {"type": "Ready", "status": if ready.0 {"True"} else {"False"}, "lastTransitionTime": at(ready.1)}],
            "containerStatuses": [{"restartCount": 0, "state": {"running": {"startedAt": at(2)}}}]},
    })
}

fn with(mut pod: Value, pointer: &str, value: Value) -> Value {
    *pod.pointer_mut(pointer).unwrap() = value;
    pod
}

/// The pods of one variant, whose Deployment owns the one `ReplicaSet`.
struct World {
    pods: Pods,
    provision_ms: u64,
}

impl World {
    fn new() -> Self {
        let mut writer = super::super::super::owners::Writer::default();
        // Nobody may look at ReplicaSets: labels have to do.
        writer.refused(403);
        let mut pods = Pods::new(writer.owners());
        pods.belong(std::iter::once((ID.into(), "deployment".into())));
        Self { pods, provision_ms: 0 }
    }

    fn see(&mut self, pod: Value) -> Vec<(u64, bool)> {
        let view: PodView = serde_json::from_value(pod).unwrap();
        self.pods.apply(&view, 0);
        self.told()
    }

    /// Milliseconds that starts took, and whether they were found.
    fn told(&mut self) -> Vec<(u64, bool)> {
        let provision_ms = self.provision_ms;
        let known = |id: &str| (id == ID).then_some((VariantIdx(0), provision_ms));
        let told = |event| match event {
            Event::Started { took_ms, found, .. } => (took_ms, found),
            other => panic!("{other:?}"),
        };
        self.pods.starts(known).into_iter().map(told).collect()
    }
}

#[test]
fn a_start_is_told_once_for_each_pod_by_its_own_timestamps() {
    let mut world = World::new();
    assert_eq!(world.see(pod("a", (false, 1))), []);
    assert_eq!(world.see(pod("a", (true, 41))), [(41_000, false)], "seen to get Ready");
    // Readiness lost and won back is no start.
    assert_eq!(world.see(pod("a", (false, 90))), []);
    assert_eq!(world.see(pod("a", (true, 120))), []);
    assert_eq!(
        world.see(pod("b", (true, 35))),
        [(35_000, true)],
        "Ready when it was seen first"
    );
    assert_eq!(world.see(pod("b", (true, 35))), []);
}

#[test]
fn a_list_read_anew_and_a_pod_that_went_tell_nothing_twice() {
    let mut world = World::new();
    world.see(pod("a", (true, 41)));
    let views = |pods: &[Value]| -> Vec<Arc<PodView>> {
        let view = |pod: &Value| Arc::new(serde_json::from_value(pod.clone()).unwrap());
        pods.iter().map(view).collect()
    };
    world
        .pods
        .replace(&views(&[pod("a", (true, 41)), pod("b", (true, 20))]), 0);
    assert_eq!(world.told(), [(20_000, true)]);
    world.pods.replace(
        &views(&[pod("a", (true, 41)), pod("b", (true, 20)), pod("c", (true, 9))]),
        0,
    );
    world.pods.remove(&views(&[pod("c", (true, 9))])[0]);
    assert_eq!(world.told(), [], "`c` was gone before it counted");
}

#[test]
fn what_was_ready_before_or_started_twice_is_no_first_readiness() {
    let restarted = |pod| with(pod, "/status/containerStatuses/0/restartCount", json!(1));
    let mut world = World::new();
    assert_eq!(world.see(restarted(pod("a", (true, 300)))), []);
    // Not Ready since after its container began to run: it lost its readiness while nobody looked.
    assert_eq!(world.see(pod("b", (false, 200))), []);
    assert_eq!(world.see(pod("b", (true, 260))), []);
    // Its image came at last: that was a fault, and no start.
    let pulls = json!({"waiting": {"reason": "ImagePullBackOff"}});
    assert_eq!(
        world.see(with(pod("c", (false, 1)), "/status/containerStatuses/0/state", pulls)),
        []
    );
    assert_eq!(world.see(pod("c", (true, 600))), []);
}

#[test]
fn waiting_for_room_is_no_part_of_a_start_and_a_node_that_is_started_for_it_is() {
    let late = |uid| {
        with(
            pod(uid, (true, 100)),
            "/status/conditions/0/lastTransitionTime",
            json!(at(80)),
        )
    };
    let mut world = World::new();
    assert_eq!(world.see(late("a")), []);
    world.provision_ms = 90_000;
    assert_eq!(world.see(late("b")), [(100_000, true)]);
    world.provision_ms = 60_000;
    assert_eq!(world.see(late("c")), [], "longer than a node takes");
}

#[test]
fn whole_seconds_make_no_start_instant_and_clocks_that_disagree_tell_nothing() {
    let mut world = World::new();
    let created = |pod, second| with(pod, "/metadata/creationTimestamp", json!(at(second)));
    assert_eq!(world.see(created(pod("a", (true, 1)), 1)), [(500, true)]);
    assert_eq!(world.see(created(pod("b", (true, 5)), 9)), []);
}

#[test]
fn a_pod_of_a_stranger_waits_until_it_counts() {
    let mut world = World::new();
    world.pods.belong(std::iter::empty());
    assert_eq!(world.see(pod("a", (true, 41))), []);
    world.pods.belong(std::iter::once((ID.into(), "deployment".into())));
    assert_eq!(world.told(), [(41_000, true)]);
}
