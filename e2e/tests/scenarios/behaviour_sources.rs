//! Signals from elsewhere than the pods.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;
use tiercel_e2e::nodes::X86;

use crate::adapters::{IN_FLIGHT, TICKETS};
use crate::behaviour::{SHAPE, Scene, server, serving};
use crate::behaviour_learning::learns;
use crate::suite::Suite;
use crate::support::NAMESPACE;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 4] {
    crate::scenarios![suite, behaviour_sources:
        what_a_replica_serves_is_learned_from_a_rate_and_a_share_in_promql,
        a_stage_that_nobody_calls_sleeps_and_wakes_with_its_queue_at_a_broker,
        work_at_the_first_stage_wakes_a_chain_that_sleeps_at_once,
        stages_follow_custom_and_external_metrics_of_the_api_server,
    ]
}

pub(crate) async fn what_a_replica_serves_is_learned_from_a_rate_and_a_share_in_promql(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let mut stage = server("serve", 1, 3);
    stage["capacity"] = json!({"requestsPerSecond": "20"});
    stage["signal"]["preset"] = json!("metered");
    scene.tiered.create("web", &[stage]).await;
    scene.settles("web", "serve", &[("x86", 1)]).await;
    let installed = Arc::clone(&scene.tiered.installed);
    let namespace = scene.tiered.namespace().to_owned();
    let pods = scene.tiered.pods("web").await;
    let tell = |metric: &str, value: f64| {
        for pod in &pods {
            let name = pod.metadata.name.as_deref().unwrap();
            installed.prometheus.set(metric, &namespace, name, Some(value));
        }
    };
    // Six tenths full with 4.8 requests a second: eight when full, not twenty.
    tell("gateway_busy", 0.6);
    tell("gateway_served_total", 4.8);
    scene.tiered.says("web", "SignalsAvailable", "True", "Fresh").await;
    let known = learns(&scene, "web", "x86").await;
    assert!(known.value.parse::<f64>().unwrap() >= 7.5, "{known:?}");
    scene.settles("web", "serve", &[("x86", 1)]).await;
    // Declared, one replica would serve twelve a second at its target of 75 per cent; learned, it takes two.
    tell("gateway_busy", 0.7);
    tell("gateway_served_total", 12.0);
    scene
        .total("web", "serve", "grows by what was learned", |total| total == 2)
        .await;
    scene.bounds_held();
}

pub(crate) async fn a_stage_that_nobody_calls_sleeps_and_wakes_with_its_queue_at_a_broker(suite: &Suite) {
    let mut scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let installed = Arc::clone(&scene.tiered.installed);
    let namespace = scene.tiered.namespace().to_owned();
    let queue = |messages| installed.prometheus.queue(&namespace, "jobs.work", messages);
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
    assert!(message.contains("work: preset 'broker' ("), "{message}");
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(scene.scaled(), [], "{}", scene.history());
    queue(Some((0.0, 0.0)));
    scene.total("jobs", "work", "goes to sleep", |total| total == 0).await;
    scene.bounds_held();
}

pub(crate) async fn work_at_the_first_stage_wakes_a_chain_that_sleeps_at_once(suite: &Suite) {
    const STARTUP: Duration = Duration::from_secs(4);
    let startup = STARTUP.as_millis().to_string();
    let scene = Scene::shared(suite, &[("startup-milliseconds", &startup)], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let installed = Arc::clone(&scene.tiered.installed);
    let namespace = scene.tiered.namespace().to_owned();
    let queue = |messages| installed.prometheus.queue(&namespace, "chain.work", messages);
    let mut work = server("work", 0, 2);
    work["signal"]["preset"] = json!("broker");
    let called = |name: &str, caller: &str, counts_requests: bool| {
        let mut stage = server(name, 0, 2);
        stage["after"] = json!([{"stage": caller}]);
        if !counts_requests {
            stage["capacity"] = json!({"concurrency": 8});
        }
        stage
    };
    // How much is called is known of one of the three only; that they are called is of all.
    let stages = [
        work,
        called("guard", "work", false),
        called("generate", "guard", true),
        called("store", "generate", false),
    ];
    let names = ["work", "guard", "generate", "store"];
    queue(Some((0.0, 0.0)));
    scene.tiered.create("chain", &stages).await;
    for name in names {
        scene.total("chain", name, "sleeps", |total| total == 0).await;
    }
    let asleep = scene.observer.elapsed();
    queue(Some((6.0, 0.0)));
    for name in names {
        scene.settles("chain", name, &[("x86", 1)]).await;
    }
    let woken = names.map(|name| {
        let changes = scene.changes_on("chain", name, "x86").into_iter();
        let first = changes
            .filter(|(at, count)| *at > asleep && *count > 0)
            .map(|(at, _)| at);
        first
            .min()
            .unwrap_or_else(|| panic!("'{name}' never woke: {}", scene.history()))
    });
    let (first, last) = (woken.iter().min().unwrap(), woken.iter().max().unwrap());
    assert!(
        *last - *first < STARTUP,
        "one was Ready before another was woken: {woken:?}{}",
        scene.history()
    );
    queue(Some((0.0, 0.0)));
    for name in names {
        scene.total("chain", name, "goes to sleep", |total| total == 0).await;
    }
    scene.bounds_held();
}

pub(crate) async fn stages_follow_custom_and_external_metrics_of_the_api_server(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let installed = Arc::clone(&scene.tiered.installed);
    let namespace = scene.tiered.namespace().to_owned();
    // What each pod says is under way, as the fleet has it; what waits for the other stage, as the test has it.
    let (fleet, adapters, within) = (scene.fleet.clone(), Arc::clone(&installed), namespace.clone());
    let mut tell = tokio::task::JoinSet::new();
    tell.spawn(async move {
        loop {
            for (pod, load) in fleet.loads() {
                let under_way = f64::from(load.running) + f64::from(load.waiting);
                adapters.adapters.set(IN_FLIGHT, &within, &pod.name, Some(under_way));
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let tickets = |open| installed.adapters.set(TICKETS, &namespace, "queue=answer", open);
    for (name, stage, preset) in [("web", "serve", "in-flight"), ("desk", "answer", "tickets")] {
        let mut object = server(stage, 1, 3);
        object["signal"]["preset"] = json!(preset);
        scene.tiered.create(name, &[object]).await;
    }
    tickets(Some(0.0));
    for (name, stage) in [("web", "serve"), ("desk", "answer")] {
        scene.tiered.says(name, "SignalsAvailable", "True", "Fresh").await;
        scene.settles(name, stage, &[("x86", 1)]).await;
    }
    let operator = format!("system:serviceaccount:{NAMESPACE}:tiercel");
    assert_eq!(installed.adapters.user(), Some(operator), "asked as itself");
    // Three replicas' slots at the target.
    tickets(Some(18.0));
    tokio::select! {
        () = async {
            scene.settles("desk", "answer", &[("x86", 3)]).await;
            scene.total("web", "serve", "grows", |total| total == 3).await;
        } => {}
        _ = scene.load("web", &[(0, 25.0), (240, 25.0)]) => panic!("no growth within the load: {}", scene.history()),
    }
    // The adapter forgot the metric: that is no empty queue.
    tickets(None);
    let message = scene
        .tiered
        .says("desk", "SignalsAvailable", "False", "MetricsStale")
        .await;
    assert!(message.contains("'answer'"), "{message}");
    scene.stays("desk", "answer", Duration::from_secs(8)).await;
    tickets(Some(0.0));
    for (name, stage) in [("web", "serve"), ("desk", "answer")] {
        scene.settles(name, stage, &[("x86", 1)]).await;
    }
    scene.bounds_held();
}
