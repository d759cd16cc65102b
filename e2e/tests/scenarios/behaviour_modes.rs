//! Who must not write does not write: Advisory, Paused and the pause annotation.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;
use tiercel_e2e::nodes::{GRAVITON, X86};
use tiercel_e2e::wait::eventually;

use crate::behaviour::{SHAPE, Scene, claimed, server, serving};
use crate::suite::Suite;
use crate::support::PATIENCE;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 3] {
    crate::scenarios![suite, behaviour_modes:
        advisory_says_what_it_would_do_and_writes_no_replicas,
        paused_writes_no_replicas_and_goes_on_when_it_is_lifted,
        the_pause_annotation_holds_one_direction_only,
    ]
}

/// Two replicas on x86, although graviton is cheaper from then on unless that is held back.
async fn about_to_move(suite: &Suite, patch: serde_json::Value) -> Scene {
    let mut scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.space.nodes(&GRAVITON, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.cpu_pool("graviton", &[(SHAPE, "graviton")]).await;
    scene.price("graviton", "2").await;
    scene.tiered.create("chat", &[server("generate", 2, 8)]).await;
    scene.settles("chat", "generate", &[("x86", 2)]).await;
    scene.tiered.says("chat", "Balanced", "True", "WithinTolerance").await;
    owned(&scene).await;
    scene.edit("chat", patch).await;
    scene.tiered.ready("chat").await;
    scene.scaled();
    scene.price("x86", "9").await;
    scene
}

/// Waits until the rebalancer has claimed the replicas: from then on every write of replicas is a decision.
async fn owned(scene: &Scene) {
    eventually(PATIENCE, "the rebalancer owns the replicas", async || {
        claimed(&scene.tiered, "chat").await
    })
    .await
    .unwrap();
}

pub(crate) async fn advisory_says_what_it_would_do_and_writes_no_replicas(suite: &Suite) {
    let mut scene = about_to_move(suite, json!({"spec": {"mode": "Advisory"}})).await;
    scene.tiered.says("chat", "Balanced", "False", "Advisory").await;
    let pool = scene.tiered.pool_name("graviton");
    let advice = scene
        .tiered
        .until("chat", "the advice is in the status", |pipeline| {
            let decisions = pipeline.status.unwrap_or_default().decisions;
            let advice = decisions.iter().find(|it| it.summary.contains("(advisory)"));
            advice
                .map(|it| it.summary.clone())
                .ok_or_else(|| format!("{decisions:?}"))
        })
        .await;
    assert!(advice.contains(&format!("{pool} 0->")), "{advice}");
    scene.stays("chat", "generate", Duration::from_secs(5)).await;
    assert_eq!(scene.scaled(), []);
    scene.edit("chat", json!({"spec": {"mode": "Automatic"}})).await;
    scene.settles("chat", "generate", &[("graviton", 2)]).await;
    scene.bounds_held();
}

pub(crate) async fn paused_writes_no_replicas_and_goes_on_when_it_is_lifted(suite: &Suite) {
    let mut scene = about_to_move(suite, json!({"spec": {"mode": "Paused"}})).await;
    scene.stays("chat", "generate", Duration::from_secs(5)).await;
    assert_eq!(scene.scaled(), []);
    // The annotation wins over the mode.
    scene
        .edit(
            "chat",
            json!({"metadata": {"annotations": {"tiercel.dev/pause": "all"}}, "spec": {"mode": "Automatic"}}),
        )
        .await;
    scene.stays("chat", "generate", Duration::from_secs(5)).await;
    assert_eq!(scene.scaled(), []);
    scene
        .edit(
            "chat",
            json!({"metadata": {"annotations": {"tiercel.dev/pause": null}}}),
        )
        .await;
    scene.settles("chat", "generate", &[("graviton", 2)]).await;
    scene.bounds_held();
}

pub(crate) async fn the_pause_annotation_holds_one_direction_only(suite: &Suite) {
    let mut scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.create("chat", &[server("generate", 3, 8)]).await;
    scene.settles("chat", "generate", &[("x86", 3)]).await;
    let pause = |value: serde_json::Value, min: u32| {
        let stages = [server("generate", min, 8)];
        json!({"metadata": {"annotations": {"tiercel.dev/pause": value}}, "spec": {"stages": stages}})
    };
    owned(&scene).await;
    // Nothing goes: five seconds after the window of five.
    scene.scaled();
    scene.edit("chat", pause(json!("scale-in"), 2)).await;
    scene.stays("chat", "generate", Duration::from_secs(10)).await;
    assert_eq!(scene.scaled(), []);
    // But something may come.
    scene.edit("chat", pause(json!("scale-in"), 4)).await;
    scene.settles("chat", "generate", &[("x86", 4)]).await;
    // Nothing comes.
    scene.scaled();
    scene.edit("chat", pause(json!("scale-out"), 6)).await;
    scene.stays("chat", "generate", Duration::from_secs(5)).await;
    assert_eq!(scene.scaled(), []);
    // But something may go.
    scene.edit("chat", pause(json!("scale-out"), 2)).await;
    scene.settles("chat", "generate", &[("x86", 2)]).await;
    scene.edit("chat", pause(json!(null), 3)).await;
    scene.settles("chat", "generate", &[("x86", 3)]).await;
}
