//! Signals from elsewhere than the pods.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;
use tiercel_e2e::nodes::X86;

use crate::behaviour::{SHAPE, Scene, server, serving};
use crate::suite::Suite;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 1] {
    crate::scenarios![suite, behaviour_sources:
        a_stage_that_nobody_calls_sleeps_and_wakes_with_its_queue_at_a_broker,
    ]
}

pub(crate) async fn a_stage_that_nobody_calls_sleeps_and_wakes_with_its_queue_at_a_broker(suite: &Suite) {
    let mut scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let installed = Arc::clone(&scene.tiered.installed);
    let namespace = scene.tiered.namespace().to_owned();
    let queue = |messages| installed.broker.set(&namespace, "jobs.work", messages);
    let mut stage = server("work", 0, 4);
    stage["signal"]["preset"] = json!("broker");
    queue(Some((0.0, 0.0)));
    scene.tiered.create("jobs", &[stage]).await;
    scene.total("jobs", "work", "sleeps", |total| total == 0).await;
    // Three replicas' slots at the target.
    queue(Some((18.0, 0.0)));
    scene.settles("jobs", "work", &[("x86", 3)]).await;
    queue(Some((0.0, 4.0)));
    scene.settles("jobs", "work", &[("x86", 1)]).await;
    queue(Some((18.0, 0.0)));
    scene.settles("jobs", "work", &[("x86", 3)]).await;
    // The broker's exporter is gone: that is no empty queue.
    scene.scaled();
    queue(None);
    let message = scene
        .tiered
        .says("jobs", "SignalsAvailable", "False", "MetricsStale")
        .await;
    assert!(message.contains("'work'"), "{message}");
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(scene.scaled(), [], "{}", scene.history());
    queue(Some((0.0, 0.0)));
    scene.total("jobs", "work", "goes to sleep", |total| total == 0).await;
    scene.bounds_held();
}
