use kube::runtime::watcher::Event;
use serde_json::{Value, json};

use super::*;

const UID: &str = "uid-rag";

fn wanted(image: &str, fingerprint: u64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "rag--serve--cpu", "annotations": {"tiercel.dev/applied": format!("{fingerprint:016x}")}},
        "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
    })
}

/// What the server makes of it: defaults, its own metadata, replicas and a status.
fn stored(name: &str, owner: &str, version: u64, image: &str, fingerprint: u64) -> Wire<Deployment> {
    let mut object = wanted(image, fingerprint);
    object["metadata"]["name"] = json!(name);
    object["metadata"]["namespace"] = json!("agents");
    object["metadata"]["uid"] = json!(format!("uid-{name}"));
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    object["metadata"]["generation"] = json!(version);
    object["metadata"]["labels"] = json!({"tiercel.dev/stage": "serve", "tiercel.dev/pool": "cpu"});
    object["metadata"]["ownerReferences"] = json!([{"name": "rag", "uid": owner, "controller": true}]);
    object["metadata"]["managedFields"] = json!([
        {"manager": "tiercel", "fieldsV1": {"f:spec": {"f:template": {}}}},
        {"manager": "tiercel-rebalancer", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
    ]);
    object["spec"]["replicas"] = json!(version);
    object["spec"]["progressDeadlineSeconds"] = json!(600);
    object["status"] = json!({"replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "observedGeneration": 4});
    serde_json::from_value(object).unwrap()
}

fn ours(version: u64, image: &str, fingerprint: u64) -> Wire<Deployment> {
    stored("rag--serve--cpu", UID, version, image, fingerprint)
}

fn names(store: &Children<Deployment>, uid: &str, prefix: &str) -> Vec<String> {
    store.of("agents", uid, prefix).into_keys().collect()
}

#[test]
fn of_a_deployment_the_replicas_their_writer_and_its_place_are_kept() {
    let live = ours(7, "a", 1).live;
    assert_eq!((&*live.namespace, &*live.name), ("agents", "rag--serve--cpu"));
    assert_eq!(
        (live.stage.as_deref(), live.pool.as_deref()),
        (Some("serve"), Some("cpu"))
    );
    assert!(live.is_ours(UID) && !live.is_ours("uid-other") && !live.leaving);
    let facts = Workload {
        desired: 7,
        claimed: true,
        writer: Some("tiercel-rebalancer".into()),
        generation: Some(7),
        observed_generation: Some(4),
        replicas: 3,
        ready: 2,
        updated: 1,
        failure: None,
    };
    assert_eq!(live.facts, facts);
    assert_eq!(
        kube::Resource::meta(&ours(7, "a", 1)).resource_version.as_deref(),
        Some("7")
    );
}

#[test]
fn a_child_is_as_wanted_only_under_the_fingerprint_that_it_carries() {
    let live = ours(1, "a", 1).live;
    for _ in 0..2 {
        assert!(!live.is_as(2, &wanted("a", 2)), "another fingerprint stands in it");
        assert!(live.is_as(1, &wanted("a", 1)), "first compared, then remembered");
    }
}

#[test]
fn what_a_child_says_is_compared_again_once_it_says_something_else() {
    let (store, mut writer) = Children::new();
    let mut live = |event| {
        writer.apply(event);
        store.of("agents", UID, "rag")["rag--serve--cpu"].clone()
    };
    let first = live(Event::Apply(ours(1, "a", 1)));
    assert!(first.is_as(1, &wanted("a", 1)));
    // Replicas, status and versions are not what it says. Nobody compares with this again, so it could not stand in it.
    let moved = live(Event::Apply(ours(2, "a", 1)));
    assert_eq!(moved.facts.desired, 2);
    assert!(moved.is_as(1, &wanted("not looked at", 1)));
    let edited = live(Event::Apply(ours(3, "b", 1)));
    assert!(!edited.is_as(1, &wanted("a", 1)));
    assert!(edited.is_as(1, &wanted("b", 1)));
    live(Event::Init);
    live(Event::InitApply(ours(4, "b", 1)));
    let listed = live(Event::InitDone);
    assert!(listed.is_as(1, &wanted("not looked at", 1)), "a list says it once more");
}

#[test]
fn a_store_gives_a_pipeline_its_own_children_and_those_in_its_way() {
    let (store, mut writer) = Children::new();
    for (name, owner) in [
        ("rag--a", UID),
        ("rag--b", "uid-other"),
        ("rags", "x"),
        ("other", UID),
        ("ra", "x"),
    ] {
        assert!(matches!(
            writer.apply(Event::Apply(stored(name, owner, 1, "a", 1))),
            News::Of(_)
        ));
    }
    assert_eq!(names(&store, UID, "rag"), ["other", "rag--a", "rag--b", "rags"]);
    assert_eq!(store.of("elsewhere", UID, "rag").len(), 0);
    writer.apply(Event::Delete(stored("rag--a", UID, 2, "a", 1)));
    assert_eq!(names(&store, UID, "rag"), ["other", "rag--b", "rags"]);
    // One that changes hands leaves its owner's list.
    writer.apply(Event::Apply(stored("other", "uid-new", 3, "a", 1)));
    assert_eq!(names(&store, UID, "rag"), ["rag--b", "rags"]);
}

#[tokio::test]
async fn a_list_takes_the_place_of_all_that_was_there_once_it_is_whole() {
    let (store, mut writer) = Children::new();
    writer.apply(Event::Apply(stored("rag--old", UID, 1, "a", 1)));
    assert!(matches!(writer.apply(Event::Init), News::None));
    for _ in 0..2 {
        let shown = Event::InitApply(stored("rag--new", UID, 2, "a", 1));
        assert!(matches!(writer.apply(shown), News::None));
    }
    assert_eq!(names(&store, UID, "rag"), ["rag--old"]);
    assert!(matches!(writer.apply(Event::InitDone), News::Everything));
    assert_eq!(names(&store, UID, "rag"), ["rag--new"]);
    store.wait_until_ready().await.unwrap();
    writer.apply(Event::Delete(stored("rag--new", UID, 3, "a", 1)));
    assert_eq!(
        names(&store, UID, "rag"),
        [""; 0],
        "shown twice by a list, it is there once"
    );
}
