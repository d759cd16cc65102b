//! What becomes of stages when their pools close, empty, overlap or go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel::api::{ComputePool, labels};
use tiercel_e2e::nodes::{self, GRAVITON, X86};
use tiercel_e2e::observe::Observer;
use tiercel_e2e::wait::{eventually, wanted};

use crate::suite::Suite;
use crate::support::{PATIENCE, Tiered, cpu_pool, pipeline, stage};

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 10] {
    crate::scenarios![suite, pools:
        a_pool_that_closes_is_left_without_going_below_the_floor,
        replicas_on_the_last_pool_stay_when_it_closes_and_the_status_says_so,
        a_pool_whose_nodes_are_deleted_is_left_and_says_that_no_node_matches,
        a_pool_that_is_deleted_while_used_is_left_first,
        replicas_on_the_last_pool_stay_when_it_is_deleted_and_are_taken_up_when_it_returns,
        the_younger_of_two_overlapping_pools_says_which_node_and_pool_and_gives_no_capacity,
        a_pool_that_matches_nothing_says_so,
        a_stage_whose_hint_no_pool_matches_says_why_and_the_other_stages_run,
        a_new_pool_changes_nothing_for_a_pipeline_that_serves,
        a_used_pool_that_moves_to_other_nodes_takes_its_replicas_along_without_going_below_the_floor,
    ]
}

const AMD64: [(&str, &str); 1] = [("kubernetes.io/arch", "amd64")];
const ARM64: [(&str, &str); 1] = [("kubernetes.io/arch", "arm64")];

/// A cheap pool `x86` and a dear pool `arm`, and a pipeline `web` of one stage whose three replicas are on `x86`.
async fn on_the_cheaper_of_two_pools(suite: &Suite) -> Tiered {
    // Slow enough to see what is said on the way.
    let tiered = suite.tiered(&[("startup-milliseconds", "1500")]).await;
    tiered.space.nodes(&X86, 2).await;
    tiered.space.nodes(&GRAVITON, 2).await;
    tiered.cpu_pool("x86", &AMD64).await;
    let mut dear = cpu_pool("arm", &ARM64);
    dear["spec"]["costPerNodeHour"] = json!("3");
    tiered.apply(dear).await;
    for pool in ["x86", "arm"] {
        tiered.pool_says(pool, "Ready", "True", "NodesAvailable").await;
    }
    tiered.create("web", &[stage("serve", &[], 3)]).await;
    tiered.ready("web").await;
    assert_eq!(tiered.assignment("web").await, on("x86", 3));
    tiered
}

/// All replicas of the stage `serve` on one pool.
fn on(pool: &str, replicas: i32) -> std::collections::BTreeMap<(String, String), i32> {
    [(("serve".to_owned(), pool.to_owned()), replicas)].into()
}

async fn patch_pool(tiered: &Tiered, pool: &str, patch: Value) {
    let pools = Api::<ComputePool>::all(tiered.space.client.clone());
    let patched = pools
        .patch(&tiered.pool_name(pool), &PatchParams::default(), &Patch::Merge(patch))
        .await;
    drop(patched.unwrap());
}

async fn close(tiered: &Tiered, pool: &str) {
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "nobody"}}});
    patch_pool(tiered, pool, json!({"spec": {"allowedNamespaces": selector}})).await;
}

/// Waits until `serve` has moved from `x86` to `arm` and `x86` has no Deployment any more. On the way at least three
/// replicas are Ready all the time. Returns what the stage's message said meanwhile.
async fn moves_to_arm(tiered: &Tiered) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    eventually(PATIENCE, "the stage has moved from 'x86' to 'arm'", async || {
        let status = tiered.pipeline("web").await.status.unwrap_or_default();
        told.extend(status.stages.iter().filter_map(|stage| stage.message.clone()));
        let ready: i32 = tiered
            .deployments("web")
            .await
            .values()
            .filter_map(|deployment| deployment.status.as_ref()?.ready_replicas)
            .sum();
        assert!(
            ready >= 3,
            "only {ready} replicas were Ready on the way; told: {told:?}"
        );
        let left: Vec<_> = tiered
            .deployments("web")
            .await
            .into_keys()
            .map(|(_, pool)| pool)
            .collect();
        wanted(left, &vec!["arm".to_owned()])?;
        wanted(tiered.assignment("web").await, &on("arm", 3)).map(|_| ())
    })
    .await
    .unwrap();
    told
}

pub(crate) async fn a_pool_that_closes_is_left_without_going_below_the_floor(suite: &Suite) {
    let tiered = on_the_cheaper_of_two_pools(suite).await;
    close(&tiered, "x86").await;
    let told = moves_to_arm(&tiered).await;
    let x86 = tiered.pool_name("x86");
    let said = |text: &String| text.contains(&x86) && text.contains("does not admit this namespace");
    assert!(told.iter().any(said), "nothing said why '{x86}' was left: {told:?}");
    tiered.ready("web").await;
}

pub(crate) async fn replicas_on_the_last_pool_stay_when_it_closes_and_the_status_says_so(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    tiered.space.nodes(&X86, 1).await;
    tiered.cpu_pool("x86", &[]).await;
    tiered.create("web", &[stage("serve", &[], 2)]).await;
    tiered.ready("web").await;
    let before = tiered.pod_uids("web", "serve").await;
    close(&tiered, "x86").await;
    let message = tiered.says("web", "Stalled", "True", "PoolClosed").await;
    assert!(message.contains(&tiered.pool_name("x86")), "which pool? {message}");
    tiered.says("web", "Ready", "False", "PoolClosed").await;
    // Long enough for a move that must not come.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        tiered.pod_uids("web", "serve").await,
        before,
        "replicas did not stay on the closed pool"
    );
    let space = json!({"matchLabels": {"kubernetes.io/metadata.name": tiered.namespace()}});
    patch_pool(
        &tiered,
        "x86",
        json!({"spec": {"allowedNamespaces": {"from": "Selector", "selector": space}}}),
    )
    .await;
    tiered.ready("web").await;
    assert_eq!(
        tiered.pod_uids("web", "serve").await,
        before,
        "reopening the pool replaced pods"
    );
}

pub(crate) async fn a_pool_whose_nodes_are_deleted_is_left_and_says_that_no_node_matches(suite: &Suite) {
    let tiered = on_the_cheaper_of_two_pools(suite).await;
    for index in 0..2 {
        nodes::delete(&tiered.space.client, &format!("{}-x86-{index}", tiered.namespace()))
            .await
            .unwrap();
    }
    let message = tiered.pool_says("x86", "Ready", "False", "NoNodes").await;
    assert!(message.contains("no node matches"), "{message}");
    eventually(PATIENCE, "the stage runs on 'arm'", async || {
        wanted(tiered.assignment("web").await, &on("arm", 3))
    })
    .await
    .unwrap();
    tiered.ready("web").await;
}

pub(crate) async fn a_pool_that_is_deleted_while_used_is_left_first(suite: &Suite) {
    let tiered = on_the_cheaper_of_two_pools(suite).await;
    tiered.delete_pool("x86").await;
    let told = moves_to_arm(&tiered).await;
    let x86 = tiered.pool_name("x86");
    let said = |text: &String| text.contains(&x86) && text.contains("the pool is gone");
    assert!(told.iter().any(said), "nothing said why '{x86}' was left: {told:?}");
    tiered.ready("web").await;
}

pub(crate) async fn replicas_on_the_last_pool_stay_when_it_is_deleted_and_are_taken_up_when_it_returns(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    tiered.space.nodes(&X86, 1).await;
    // Pools of other scenarios are of another class.
    let class = format!("{}-only", tiered.namespace());
    let mut pool = cpu_pool("x86", &[]);
    pool["spec"]["class"] = json!(class);
    tiered.apply(pool.clone()).await;
    let mut serve = stage("serve", &[], 2);
    serve["profiles"] = json!([{"name": "only", "pools": {"classes": [class]}}]);
    tiered.create("web", &[serve]).await;
    tiered.ready("web").await;
    let before = tiered.pod_uids("web", "serve").await;
    tiered.delete_pool("x86").await;
    let message = tiered.says("web", "Stalled", "True", "NoPoolMatches").await;
    assert!(
        message.contains(&tiered.pool_name("x86")),
        "what is stranded where? {message}"
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        tiered.pod_uids("web", "serve").await,
        before,
        "stranded replicas did not stay"
    );
    tiered.apply(pool).await;
    tiered.ready("web").await;
    assert_eq!(
        tiered.pod_uids("web", "serve").await,
        before,
        "the pool's return replaced pods"
    );
}

pub(crate) async fn the_younger_of_two_overlapping_pools_says_which_node_and_pool_and_gives_no_capacity(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    let node = tiered.space.nodes(&X86, 1).await.remove(0);
    tiered.cpu_pool("older", &[]).await;
    tiered.pool_says("older", "Ready", "True", "NodesAvailable").await;
    // Creation times are whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let mut younger = cpu_pool("a-younger", &AMD64);
    younger["spec"]["costPerNodeHour"] = json!("0.1");
    tiered.apply(younger).await;
    let message = tiered.pool_says("a-younger", "Ready", "False", "PoolsOverlap").await;
    let older = tiered.pool_name("older");
    assert!(
        message.contains(&node) && message.contains(&older),
        "which node and pool? {message}"
    );
    tiered.pool_says("a-younger", "Stalled", "True", "PoolsOverlap").await;
    tiered.create("web", &[stage("serve", &[], 1)]).await;
    tiered.ready("web").await;
    assert_eq!(
        tiered.assignment("web").await,
        on("older", 1),
        "the node's older pool has it, whatever the price"
    );
    tiered.pool_counts("older", 1).await;
    tiered.delete_pool("older").await;
    tiered.pool_says("a-younger", "Ready", "True", "NodesAvailable").await;
    eventually(PATIENCE, "the pool that is left takes the stage over", async || {
        wanted(tiered.assignment("web").await, &on("a-younger", 1))
    })
    .await
    .unwrap();
}

pub(crate) async fn a_pool_that_matches_nothing_says_so(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    tiered.cpu_pool("nowhere", &[("kubernetes.io/arch", "s390x")]).await;
    let message = tiered.pool_says("nowhere", "Ready", "False", "NoNodes").await;
    assert!(message.contains("`nodeSelector`"), "no hint what to do: {message}");
    tiered.pool_says("nowhere", "Reconciling", "True", "NoNodes").await;
}

pub(crate) async fn a_stage_whose_hint_no_pool_matches_says_why_and_the_other_stages_run(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    tiered.space.nodes(&X86, 1).await;
    tiered.cpu_pool("x86", &[]).await;
    tiered.pool_says("x86", "Ready", "True", "NodesAvailable").await;
    let mut answer = stage("answer", &["retrieve"], 1);
    answer["kind"] = json!("Inference");
    answer["tierHint"] = json!("AcceleratorRequired");
    answer["signal"] = json!({"preset": "vllm"});
    // Pools of other scenarios offer no such class.
    answer["profiles"] =
        json!([{"name": "abacus", "pools": {"classes": ["abacus"]}, "capacity": {"requestsPerSecond": "1"}}]);
    tiered
        .apply(pipeline("rag", &[stage("retrieve", &[], 1), answer]))
        .await;
    let message = tiered.says("rag", "Stalled", "True", "NoPoolMatches").await;
    assert!(message.contains("'answer'"), "which stage? {message}");
    // Other scenarios' pools are there as well: only so many are named.
    assert!(message.contains("AcceleratorRequired"), "why? {message}");
    tiered.says("rag", "Ready", "False", "NoPoolMatches").await;
    eventually(PATIENCE, "the stage that has a pool runs", async || {
        let status = tiered.pipeline("rag").await.status.unwrap_or_default();
        let seen: Vec<_> = status
            .stages
            .iter()
            .map(|stage| (stage.name.as_str(), stage.ready_replicas))
            .collect();
        if seen == [("retrieve", 1), ("answer", 0)] {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await
    .unwrap();
}

pub(crate) async fn a_new_pool_changes_nothing_for_a_pipeline_that_serves(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    tiered.space.nodes(&X86, 1).await;
    tiered.cpu_pool("x86", &AMD64).await;
    tiered.create("web", &[stage("serve", &[], 2)]).await;
    let ready_since = |pipeline: &tiercel::api::TieredPipeline| {
        crate::support::condition(pipeline, "Ready")
            .map(|ready| ready.last_transition_time)
            .unwrap()
    };
    let before = ready_since(&tiered.ready("web").await);
    let pods = tiered.pod_uids("web", "serve").await;
    // Transition times are whole seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    tiered.space.nodes(&GRAVITON, 1).await;
    let mut dear = cpu_pool("arm", &ARM64);
    dear["spec"]["costPerNodeHour"] = json!("3");
    tiered.apply(dear).await;
    let deployments = eventually(PATIENCE, "the stage has a Deployment on the new pool", async || {
        let all = tiered.deployments("web").await;
        if all.len() == 2 {
            Ok(all)
        } else {
            Err(format!("{:?}", all.keys()))
        }
    });
    let deployments = deployments.await.unwrap();
    assert!(
        deployments
            .values()
            .all(|deployment| deployment.labels()[labels::STAGE] == "serve")
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        ready_since(&tiered.ready("web").await),
        before,
        "Ready went away and came back for a new pool"
    );
    assert_eq!(tiered.pod_uids("web", "serve").await, pods);
    assert_eq!(tiered.assignment("web").await, on("x86", 2));
}

pub(crate) async fn a_used_pool_that_moves_to_other_nodes_takes_its_replicas_along_without_going_below_the_floor(
    suite: &Suite,
) {
    // Slow enough that pods replaced all at once would be missed.
    let tiered = suite.tiered(&[("startup-milliseconds", "1500")]).await;
    let old = tiered.space.nodes(&X86, 2).await;
    let new = tiered.space.nodes(&GRAVITON, 2).await;
    tiered.cpu_pool("moving", &AMD64).await;
    tiered.create("web", &[stage("serve", &[], 3)]).await;
    tiered.ready("web").await;
    assert_eq!(nodes_of(&tiered, "web").await, (3, old.iter().cloned().collect()));
    // Sees every state that the API server stores, and counts the floor of 3 from here on.
    let observer = Observer::start(tiered.space.client.clone()).await.unwrap();

    patch_pool(
        &tiered,
        "moving",
        json!({"spec": {"nodeSelector": {"kubernetes.io/arch": "arm64"}}}),
    )
    .await;
    eventually(PATIENCE, "every pod runs on the pool's new nodes", async || {
        let (pods, nodes) = nodes_of(&tiered, "web").await;
        let moved = pods == 3 && nodes.iter().all(|node| new.contains(node));
        moved.then_some(()).ok_or_else(|| format!("{pods} pods on {nodes:?}"))
    })
    .await
    .unwrap();
    tiered.ready("web").await;
    assert_eq!(tiered.assignment("web").await, on("moving", 3));
    tiered.pool_counts("moving", 2).await;

    let ledger = observer.snapshot();
    assert_eq!(ledger.gaps(), [] as [String; 0], "the observer was blind for a while");
    let own = |namespace: &str| namespace == tiered.namespace();
    let crossed: Vec<_> = ledger.violations().iter().filter(|it| own(&it.key.namespace)).collect();
    let states = ledger.samples().iter().filter(|it| own(&it.key.namespace));
    let ready: Vec<_> = states.map(|it| (it.at, it.spec, it.ready)).collect();
    assert!(crossed.is_empty(), "{crossed:?}; (time, asked for, Ready): {ready:?}");
}

/// How many pods of a pipeline there are, and the nodes that they are on; a pod without a node is on "".
async fn nodes_of(tiered: &Tiered, pipeline: &str) -> (usize, BTreeSet<String>) {
    let pods = tiered.pods(pipeline).await;
    let node = |pod: &k8s_openapi::api::core::v1::Pod| pod.spec.as_ref()?.node_name.clone();
    let nodes = pods.iter().map(|pod| node(pod).unwrap_or_default());
    (pods.len(), nodes.collect())
}
