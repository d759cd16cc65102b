//! Somebody else writes too: kubectl scale, an autoscaler, a hand on the labels.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel::api::labels;
use tiercel_e2e::nodes::X86;
use tiercel_e2e::wait::{eventually, wanted};

use crate::behaviour::{SHAPE, Scene, claimed, server, serving};
use crate::suite::Suite;
use crate::support::PATIENCE;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 4] {
    crate::scenarios![suite, behaviour_owners:
        a_foreign_scale_is_taken_back_three_times_and_then_told_and_left_alone,
        replicas_that_an_autoscaler_took_are_left_to_it,
        a_foreign_hand_on_the_labels_of_a_child_is_undone,
        pods_of_a_foreign_replica_set_with_the_labels_of_a_stage_do_not_count,
    ]
}

async fn two_replicas(suite: &Suite) -> Scene {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.create("chat", &[server("generate", 2, 8)]).await;
    scene.settles("chat", "generate", &[("x86", 2)]).await;
    scene.tiered.ready("chat").await;
    eventually(PATIENCE, "the rebalancer owns the replicas", async || {
        claimed(&scene.tiered, "chat").await
    })
    .await
    .unwrap();
    scene
}

pub(crate) async fn a_foreign_scale_is_taken_back_three_times_and_then_told_and_left_alone(suite: &Suite) {
    let mut scene = two_replicas(suite).await;
    let child = scene.child("chat", "generate", "x86").await;
    let scale = async |scene: &Scene, replicas: i64| {
        scene
            .kubectl(&["scale", "deployment", &child, &format!("--replicas={replicas}")])
            .await;
        let seen = async || wanted(scene.wanted("chat", "generate"), &[("x86".to_owned(), replicas)].into());
        eventually(PATIENCE, "the observer saw the foreign scale", async || {
            if scene
                .states("chat", "generate")
                .iter()
                .any(|it| it["x86"].0 == replicas)
            {
                Ok(())
            } else {
                seen().await.map(drop)
            }
        })
        .await
        .unwrap();
    };
    for replicas in [1, 5, 1] {
        scale(&scene, replicas).await;
        scene.settles("chat", "generate", &[("x86", 2)]).await;
        // Above the floor nothing is wrong with the replicas but whose they are.
    }
    // The audit log tells a write a little later than the watch.
    scene.stays("chat", "generate", Duration::from_secs(1)).await;
    scene.scaled();
    scale(&scene, 4).await;
    let start = Instant::now();
    let message = scene.tiered.says("chat", "Balanced", "False", "Contested").await;
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "told after {:?}",
        start.elapsed()
    );
    assert!(message.contains("kubectl"), "{message}");
    scene.settles("chat", "generate", &[("x86", 4)]).await;
    scene.stays("chat", "generate", Duration::from_secs(8)).await;
    assert_eq!(scene.scaled(), [], "held, not fought over");
}

pub(crate) async fn replicas_that_an_autoscaler_took_are_left_to_it(suite: &Suite) {
    let mut scene = two_replicas(suite).await;
    let child = scene.child("chat", "generate", "x86").await;
    scene.scaled();
    let hpa = json!({
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "foreign"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": child},
            "minReplicas": 3,
            "maxReplicas": 5,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
        },
    });
    let kubectl = scene.tiered.installed.cluster.kubectl();
    kubectl
        .apply_in(scene.tiered.namespace(), &hpa.to_string())
        .await
        .unwrap();
    let message = scene
        .tiered
        .says("chat", "Ready", "False", "ReplicasOwnedElsewhere")
        .await;
    assert!(message.contains("remove that autoscaler"), "{message}");
    scene.settles("chat", "generate", &[("x86", 3)]).await;
    scene.stays("chat", "generate", Duration::from_secs(8)).await;
    assert_eq!(scene.scaled(), [], "not one write against the autoscaler");
    // Gone, its claim stays until somebody else writes: that is the way back.
    scene.kubectl(&["delete", "hpa", "foreign"]).await;
    scene.kubectl(&["scale", "deployment", &child, "--replicas=1"]).await;
    scene.settles("chat", "generate", &[("x86", 2)]).await;
    scene.tiered.ready("chat").await;
}

pub(crate) async fn a_foreign_hand_on_the_labels_of_a_child_is_undone(suite: &Suite) {
    let scene = two_replicas(suite).await;
    let child = scene.child("chat", "generate", "x86").await;
    let stomp = json!({
        "metadata": {"labels": {labels::STAGE: "other", labels::POOL: null}},
        "spec": {"template": {"metadata": {"labels": {labels::STAGE: "other"}}}},
    });
    let before = scene
        .kubectl(&[
            "get",
            "deployment",
            &child,
            "-o",
            "jsonpath={.metadata.labels}{.spec.template.metadata.labels}",
        ])
        .await;
    scene
        .kubectl(&["patch", "deployment", &child, "--type=merge", "-p", &stomp.to_string()])
        .await;
    eventually(Duration::from_secs(30), "the labels are as before", async || {
        let args = [
            "get",
            "deployment",
            &child,
            "-o",
            "jsonpath={.metadata.labels}{.spec.template.metadata.labels}",
        ];
        wanted(scene.kubectl(&args).await, &before)
    })
    .await
    .unwrap();
    scene.tiered.ready("chat").await;
}

pub(crate) async fn pods_of_a_foreign_replica_set_with_the_labels_of_a_stage_do_not_count(suite: &Suite) {
    let mut scene = two_replicas(suite).await;
    let child = scene.child("chat", "generate", "x86").await;
    let deployment = scene.kubectl(&["get", "deployment", &child, "-o", "json"]).await;
    let deployment: Value = serde_json::from_str(&deployment).unwrap();
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"]["app"] = json!("foreign");
    // Without the labels itself: with them the Deployment would adopt it.
    let foreign = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": "foreign", "namespace": scene.tiered.namespace(), "labels": {"app": "foreign"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "foreign"}}, "template": template},
    });
    scene.changes();
    scene.tiered.apply_yaml(&foreign.to_string()).await;
    eventually(PATIENCE, "the foreign pods are Ready", async || {
        let path = "jsonpath={.status.readyReplicas}";
        wanted(
            scene.kubectl(&["get", "replicaset", "foreign", "-o", path]).await,
            &"3".to_owned(),
        )
    })
    .await
    .unwrap();
    // Metrics are read every second.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let document = scene.explained("chat/generate").await;
        let pool = &document["stages"][0]["pools"][0];
        assert_eq!(pool["ready"], 2, "somebody else's pods count: {document}");
        let signal = &document["stages"][0]["signals"][0]["pods"];
        assert_eq!(signal["expected"], 2, "somebody else's pods are asked: {document}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(scene.scaled(), []);
}
