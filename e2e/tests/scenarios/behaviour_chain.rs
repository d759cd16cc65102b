//! What is known of calls between stages is told ahead: a stage grows with those that will call it, not after them.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel_e2e::load::{Recorder, Route, StageRoute, Summary, Traffic};
use tiercel_e2e::nodes::X86;

use crate::behaviour::{SHAPE, Scene, server, serving};
use crate::suite::Suite;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 1] {
    crate::scenarios![suite, behaviour_chain:
        a_step_at_the_source_has_the_last_of_four_stages_ready_before_its_queue_grows,
    ]
}

const NAMES: [&str; 4] = ["retrieve", "guard", "generate", "store"];
const STARTUP: Duration = Duration::from_secs(4);
/// The step, seconds after the load begins.
const STEP_S: u64 = 6;

/// Four stages of one replica that serves 10 requests a second. They call one another; `told` of it or not.
fn chain(told: bool) -> [Value; 4] {
    let mut caller = None;
    NAMES.map(|name| {
        let mut stage = server(name, 1, 6);
        // A queue shows at the server, not at the caller.
        stage["traffic"] = json!("Uniform");
        stage["startupSeconds"] = json!(STARTUP.as_secs());
        if let Some(caller) = caller.replace(name).filter(|_| told) {
            stage["after"] = json!([{"stage": caller}]);
        }
        stage
    })
}

/// What became of the last stage after the step: how long until three replicas were Ready, and how calls waited there.
#[derive(Debug)]
struct Last {
    ready_after: Duration,
    wait_p99_ms: f64,
}

/// The same load through both pipelines, side by side: one that says who calls whom, and one that says nothing, so that
/// each stage hears of the step when it is called more.
pub(crate) async fn a_step_at_the_source_has_the_last_of_four_stages_ready_before_its_queue_grows(suite: &Suite) {
    let startup = STARTUP.as_millis().to_string();
    let scene = Scene::shared(suite, &[("startup-milliseconds", &startup)], serving()).await;
    scene.tiered.space.nodes(&X86, 6).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    for (pipeline, told) in [("told", true), ("silent", false)] {
        scene.tiered.create(pipeline, &chain(told)).await;
    }
    for pipeline in ["told", "silent"] {
        scene.tiered.ready(pipeline).await;
    }
    let (told, silent) = tokio::join!(last(&scene, "told"), last(&scene, "silent"));
    let seen = format!("{told:?} instead of {silent:?} {}", scene.history());
    // Told of the calls, the last stage starts with the others, and is there before what piled up is passed on to it.
    assert!(told.ready_after + STARTUP < silent.ready_after, "{seen}");
    assert!(told.wait_p99_ms < 500.0, "{seen}");
    assert!(silent.wait_p99_ms > 1_000.0, "{seen}");
    scene.bounds_held();
}

async fn last(scene: &Scene, pipeline: &str) -> Last {
    let mut stages = Vec::new();
    for name in NAMES {
        let caller = stages.last().map(|caller: &StageRoute| (caller.name.clone(), 1.0));
        stages.push(StageRoute {
            name: name.to_owned(),
            after: caller.into_iter().collect(),
            traffic: Traffic::Uniform,
        });
    }
    let route = Route::new(format!("{}/{pipeline}", scene.tiered.namespace()), stages).unwrap();
    let begun = scene.observer.elapsed();
    let rate = [(0, 5.0), (STEP_S, 5.0), (STEP_S, 20.0), (STEP_S + 40, 20.0)];
    let summary = scene.load_along(Arc::new(Recorder::default()), route, &rate).await;
    Last {
        ready_after: ready(scene, pipeline, begun + Duration::from_secs(STEP_S)),
        wait_p99_ms: wait_p99_ms(&summary),
    }
}

fn ready(scene: &Scene, pipeline: &str, step: Duration) -> Duration {
    let [.., name] = NAMES;
    let first = scene
        .ready_on(pipeline, name, "x86")
        .into_iter()
        .find(|(at, ready)| *at >= step && *ready >= 3);
    let (at, _) =
        first.unwrap_or_else(|| panic!("'{name}' of '{pipeline}' never had three Ready: {}", scene.history()));
    at - step
}

fn wait_p99_ms(summary: &Summary) -> f64 {
    let last = summary.stages.last().unwrap();
    last.wait_ms
        .p99
        .unwrap_or_else(|| panic!("no call was answered: {summary:?}"))
}
