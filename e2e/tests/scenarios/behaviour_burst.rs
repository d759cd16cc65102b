//! Room that is kept for bursts: placeholders hold it, and yield to replicas.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use libtest_mimic::Trial;
use serde_json::json;
use tiercel::api::compute_pool::WarmBufferStatus;
use tiercel_e2e::nodes::X86;
use tiercel_e2e::wait::eventually;

use crate::behaviour::{SHAPE, Scene, server, serving};
use crate::suite::Suite;
use crate::support::{NAMESPACE, PATIENCE};

/// CPU that a node of the pool offers, and what a replica takes, millicores.
const NODE: u32 = 15_890;
const REPLICA: u32 = 1_589;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 1] {
    crate::scenarios![suite, behaviour_burst:
        room_for_a_burst_that_has_been_is_kept_and_yields_to_the_next_one_on_a_full_node,
    ]
}

/// What the pool says of its room once it holds so much.
async fn held(scene: &Scene, placeholders: RangeInclusive<u32>) -> WarmBufferStatus {
    let what = format!("room is kept for {placeholders:?} replicas");
    eventually(PATIENCE, what, async || {
        let status = scene.tiered.pool("x86").await.status.unwrap_or_default();
        match status.warm_buffer {
            Some(buffer)
                if u32::try_from(buffer.placeholders).is_ok_and(|count| placeholders.contains(&count))
                    && buffer.held == buffer.placeholders =>
            {
                Ok(buffer)
            }
            other => Err(format!("{other:?}\n{}", scene.history())),
        }
    })
    .await
    .unwrap()
}

pub(crate) async fn room_for_a_burst_that_has_been_is_kept_and_yields_to_the_next_one_on_a_full_node(suite: &Suite) {
    let scene = Scene::shared(suite, &[("startup-milliseconds", "500")], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let elastic = json!({"maxNodes": 2, "provisionSeconds": 60, "warmBuffer": {"maxNodes": 1}});
    scene.edit_pool("x86", json!({"spec": {"elastic": elastic}})).await;
    scene.tiered.create("chat", &[server("generate", 1, 6)]).await;
    scene.tiered.ready("chat").await;
    let burst = [(0, 3.0), (3, 3.0), (3, 35.0), (10, 35.0), (10, 2.0), (12, 2.0)];
    let first = scene.load("chat", &burst).await;
    assert!(first.served > 200, "{first:?}");
    scene.settles("chat", "generate", &[("x86", 1)]).await;

    // While replicas go, the room for them follows: three to five, two where the machine is too busy for so much load.
    let buffer = held(&scene, 2..=5).await;
    let stage = format!("stage 'generate' of pipeline '{}/chat'", scene.tiered.namespace());
    assert!(buffer.reason.contains(&stage), "{buffer:?}");
    assert_eq!(json!(buffer.requests), json!({"cpu": "1589m", "memory": "256Mi"}));

    // Now the node is full, but for what yields.
    let left = NODE - REPLICA * (1 + u32::try_from(buffer.placeholders).unwrap());
    let filler = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "filler"},
        "spec": {
            "nodeName": format!("{}-x86-0", scene.tiered.namespace()),
            "containers": [{"name": "c", "image": "registry.example.com/filler:1",
                            "resources": {"requests": {"cpu": format!("{}m", left - 100)}}}],
        },
    });
    scene.tiered.apply(filler).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begun = scene.observer.elapsed();
    let load = scene.load("chat", &[(0, 16.0), (8, 16.0)]);
    let grows = async {
        let ready = eventually(PATIENCE, "two replicas are Ready", async || {
            let last = scene.ready_on("chat", "generate", "x86").pop();
            if last.is_some_and(|(_, ready)| ready >= 2) {
                Ok(())
            } else {
                Err(format!("{last:?}"))
            }
        });
        ready.await.unwrap();
    };
    tokio::join!(load, grows);
    let asked = scene.changes_on("chat", "generate", "x86");
    let asked = asked.iter().find(|(at, wanted)| *at > begun && *wanted >= 2).unwrap().0;
    let ready = scene.ready_on("chat", "generate", "x86");
    let ready = ready.iter().find(|(at, ready)| *at > begun && *ready >= 2).unwrap().0;
    println!("asked for after {:?}, Ready {:?} later", asked - begun, ready - asked);
    assert!(
        ready - asked < Duration::from_secs(10),
        "{:?}: no node came",
        ready - asked
    );
    // The scheduler took the place of a placeholder.
    let deployment = format!("tiercel-warm-buffer-{}", scene.tiered.pool_name("x86"));
    let events: Api<Event> = Api::namespaced(scene.tiered.space.client.clone(), NAMESPACE);
    let events = events.list(&ListParams::default()).await.unwrap();
    let yielded = events.iter().filter(|event| {
        let about = event.regarding.as_ref().and_then(|object| object.name.as_deref());
        event.reason.as_deref() == Some("Preempted") && about.is_some_and(|name| name.starts_with(&deployment))
    });
    assert!(yielded.count() > 0, "nobody yielded");

    // Without the setting nothing is kept.
    scene
        .edit_pool("x86", json!({"spec": {"elastic": {"warmBuffer": null}}}))
        .await;
    let deployments: Api<Deployment> = Api::namespaced(scene.tiered.space.client.clone(), NAMESPACE);
    eventually(PATIENCE, "the placeholders are gone", async || {
        match deployments.get_opt(&deployment).await.unwrap() {
            None => Ok(()),
            Some(_) => Err("still there".to_owned()),
        }
    })
    .await
    .unwrap();
    scene.bounds_held();
}
