//! Replicas move between pools: make before break, without a flicker, and back.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel_e2e::fleet::{Behaviour, Behaviours};
use tiercel_e2e::nodes::{self, GRAVITON, L4, X86};
use tiercel_e2e::wait::eventually;

use crate::behaviour::{SHAPE, Scene, claimed, either, handed_over, managers, owners, server, serving};
use crate::suite::Suite;
use crate::support::PATIENCE;

/// How long pods start here, less what two watches may differ by.
const STARTUP: Duration = Duration::from_millis(600);

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 4] {
    crate::scenarios![suite, behaviour_shift:
        a_price_moves_replicas_make_before_break_and_ready_never_flips,
        each_field_has_the_manager_it_was_designed_for_through_create_edit_and_move,
        a_cordoned_accelerator_pool_hands_over_to_the_cpu_tier_and_takes_back,
        generation_survives_the_eviction_of_its_accelerators_and_probes_before_it_returns,
    ]
}

async fn two_cpu_pools(suite: &Suite, min: u32) -> Scene {
    let scene = Scene::shared(suite, &[("startup-milliseconds", "700")], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.space.nodes(&GRAVITON, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.cpu_pool("graviton", &[(SHAPE, "graviton")]).await;
    scene.price("graviton", "2").await;
    scene.tiered.create("chat", &[server("generate", min, 8)]).await;
    scene.settles("chat", "generate", &[("x86", i64::from(min))]).await;
    scene.tiered.ready("chat").await;
    scene
}

pub(crate) async fn a_price_moves_replicas_make_before_break_and_ready_never_flips(suite: &Suite) {
    let mut scene = two_cpu_pools(suite, 3).await;
    scene.forget_ready_values();
    scene.scaled();
    let before = scene.states("chat", "generate").len();
    scene.price("x86", "9").await;
    scene.settles("chat", "generate", &[("graviton", 3)]).await;
    for state in &scene.states("chat", "generate")[before..] {
        let (spec, ready): (i64, i64) = state.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        assert!(
            (3..=4).contains(&spec) && ready >= 3,
            "{state:?}, history: {}",
            scene.history()
        );
    }
    let writes = scene.scaled();
    // The default surge is one replica: three times out and back.
    assert!((4..=8).contains(&writes.len()), "{writes:?}");
    assert_eq!(scene.ready_values("chat"), ["True"]);
    scene.tiered.says("chat", "Balanced", "True", "WithinTolerance").await;
    scene.bounds_held();
}

pub(crate) async fn each_field_has_the_manager_it_was_designed_for_through_create_edit_and_move(suite: &Suite) {
    let scene = two_cpu_pools(suite, 2).await;
    let handed = async |after: &str| {
        eventually(
            PATIENCE,
            format!("the rebalancer alone owns replicas after {after}"),
            async || handed_over(&scene.tiered, "chat").await,
        )
        .await
        .unwrap();
    };
    eventually(PATIENCE, "the rebalancer claims the replicas", async || {
        claimed(&scene.tiered, "chat").await
    })
    .await
    .unwrap();
    let mut stage = server("generate", 2, 8);
    stage["container"]["image"] = json!("registry.example.com/server:2");
    scene.edit("chat", json!({"spec": {"stages": [stage]}})).await;
    eventually(PATIENCE, "the new image is there", async || {
        let all = scene.tiered.deployments("chat").await;
        let images = all.values().map(|it| {
            let pod = it.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
            pod.containers[0].image.clone().unwrap()
        });
        let old: Vec<_> = images.filter(|image| !image.ends_with(":2")).collect();
        if old.is_empty() {
            Ok(())
        } else {
            Err(format!("{old:?}"))
        }
    })
    .await
    .unwrap();
    handed("an edit").await;
    scene.price("x86", "9").await;
    scene.settles("chat", "generate", &[("graviton", 2)]).await;
    handed("a move").await;
    for deployment in scene.tiered.deployments("chat").await.values() {
        assert_eq!(owners(deployment), managers(&["tiercel-rebalancer"]));
        let rebalancer: Vec<Value> = deployment
            .metadata
            .managed_fields
            .iter()
            .flatten()
            .filter(|entry| entry.manager.as_deref() == Some("tiercel-rebalancer"))
            .map(|entry| entry.fields_v1.clone().unwrap().0)
            .collect();
        for fields in rebalancer {
            assert_eq!(
                fields,
                json!({"f:spec": {"f:replicas": {}}}),
                "nothing else is the rebalancer's"
            );
        }
    }
    scene.bounds_held();
}

/// Two GPUs, and room on x86. A replica is four times faster on a GPU.
async fn two_tiers(suite: &Suite) -> Scene {
    let behaviours = Behaviours::new(Behaviour::vllm(10.0, 8));
    let scene = Scene::shared(suite, &[("startup-milliseconds", "700")], behaviours).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.space.nodes(&L4, 2).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene
        .tiered
        .apply(json!({
            "apiVersion": "tiercel.dev/v1alpha1",
            "kind": "ComputePool",
            "metadata": {"name": "l4"},
            "spec": {
                "tier": "Accelerator",
                "nodeSelector": {SHAPE: "l4"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "device": {"resourceName": "nvidia.com/gpu"},
                "costPerNodeHour": "1",
            },
        }))
        .await;
    let stage = either("generate", 2, 4, &json!({"requestsPerSecond": "2.5", "concurrency": 2}));
    scene.tiered.create("chat", &[stage]).await;
    scene.settles("chat", "generate", &[("l4", 2)]).await;
    scene.tiered.ready("chat").await;
    scene
        .tiered
        .says("chat", "PreferredTier", "True", "OnPreferredTier")
        .await;
    scene
}

async fn cordon(scene: &Scene, cordoned: bool) {
    for number in 0..2 {
        let node = format!("{}-l4-{number}", scene.tiered.namespace());
        nodes::cordon(&scene.tiered.space.client, &node, cordoned)
            .await
            .unwrap();
    }
}

pub(crate) async fn a_cordoned_accelerator_pool_hands_over_to_the_cpu_tier_and_takes_back(suite: &Suite) {
    let scene = two_tiers(suite).await;
    scene.forget_ready_values();
    cordon(&scene, true).await;
    scene.settles("chat", "generate", &[("x86", 2)]).await;
    let below = ("PreferredTier", "False", "BelowPreferredTier");
    scene
        .tiered
        .says_that("chat", below, |told| told.contains("4.0 times slower than on"))
        .await;
    cordon(&scene, false).await;
    scene.settles("chat", "generate", &[("l4", 2)]).await;
    scene
        .tiered
        .says("chat", "PreferredTier", "True", "OnPreferredTier")
        .await;
    assert_eq!(scene.ready_values("chat"), ["True"]);
    scene.bounds_held();
}

pub(crate) async fn generation_survives_the_eviction_of_its_accelerators_and_probes_before_it_returns(suite: &Suite) {
    let scene = two_tiers(suite).await;
    cordon(&scene, true).await;
    scene.kubectl(&["delete", "pods", "--all", "--wait=false"]).await;
    scene.settles("chat", "generate", &[("x86", 2)]).await;
    let below = ("PreferredTier", "False", "BelowPreferredTier");
    scene
        .tiered
        .says_that("chat", below, |told| told.contains("4.0 times slower than on"))
        .await;
    scene.tiered.ready("chat").await;
    // How many serve meanwhile depends on what could be read of the evicted; that nothing goes back does not.
    let left = scene.changes_on("chat", "generate", "l4");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(scene.changes_on("chat", "generate", "l4"), left, "{}", scene.history());
    cordon(&scene, false).await;
    scene.settles("chat", "generate", &[("l4", 2)]).await;
    let changes = scene.changes_on("chat", "generate", "l4");
    let [.., (_, 0), (probed, 1), (followed, 2)] = changes.as_slice() else {
        panic!("no probe: {changes:?}");
    };
    assert!(
        *followed - *probed >= STARTUP,
        "the rest followed before the probe can have been Ready: {}",
        scene.history()
    );
    scene
        .tiered
        .says("chat", "PreferredTier", "True", "OnPreferredTier")
        .await;
    scene.decisions_kept_bounds();
}
