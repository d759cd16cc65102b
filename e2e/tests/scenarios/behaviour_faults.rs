//! Signals that are lost or lie, and images that do not start.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel::api::tiered_pipeline::DecisionSummary;
use tiercel_e2e::fleet::{Behaviour, Behaviours, Exposition, Fault, Metrics, Target};
use tiercel_e2e::nodes::{GRAVITON, X86};
use tiercel_e2e::wait::eventually;

use crate::behaviour::{SHAPE, Scene, server, serving};
use crate::suite::Suite;
use crate::support::PATIENCE;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 10] {
    crate::scenarios![suite, behaviour_faults:
        nothing_shrinks_whatever_is_wrong_with_the_metrics_of_idle_servers,
        nothing_shrinks_on_negative_numbers,
        nothing_shrinks_on_numbers_that_stand_still_under_load,
        nothing_shrinks_on_a_page_that_stopped_moving_at_rest,
        nothing_shrinks_on_pages_of_before_nor_on_numbers_in_another_unit,
        lost_signals_leave_a_stage_what_it_declares_for_that_and_nothing_before_its_time,
        one_pod_that_says_nothing_runs_takes_nothing_from_the_others,
        a_pod_that_is_silent_beside_others_is_named_and_what_it_may_serve_is_kept,
        a_lie_of_any_size_moves_nothing_beyond_the_bounds,
        a_stage_whose_image_does_not_start_on_one_pool_goes_to_another,
    ]
}

/// What may be wrong with metrics while a server is idle, each for the name of a pipeline.
const WRONG: [(&str, Fault); 11] = [
    ("down", Fault::Metrics(Metrics::Unavailable)),
    ("slow", Fault::Metrics(Metrics::Slow)),
    ("denied", Fault::Metrics(Metrics::Denied)),
    ("nan", Fault::Metrics(Metrics::Nan)),
    ("plus-infinity", Fault::Metrics(Metrics::PlusInfinity)),
    ("minus-infinity", Fault::Metrics(Metrics::MinusInfinity)),
    ("missing", Fault::Metrics(Metrics::Missing)),
    ("duplicated", Fault::Metrics(Metrics::Duplicated)),
    ("huge", Fault::Metrics(Metrics::Huge)),
    ("empty", Fault::Metrics(Metrics::Empty)),
    ("hanging", Fault::Hang),
];

/// Three replicas each for a floor of one, held up by load that ends; then all servers of a pipeline have its fault.
pub(crate) async fn nothing_shrinks_whatever_is_wrong_with_the_metrics_of_idle_servers(suite: &Suite) {
    let mut scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 4).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    for (name, _) in WRONG {
        scene.tiered.create(name, &[server("generate", 1, 3)]).await;
    }
    for (name, _) in WRONG {
        scene.tiered.ready(name).await;
    }
    let grown = async {
        for (name, _) in WRONG {
            scene.settles(name, "generate", &[("x86", 3)]).await;
        }
    };
    let loads = WRONG.map(|(name, _)| scene.load(name, &[(0, 18.0), (90, 18.0)]));
    tokio::select! {
        () = grown => {}
        _ = futures::future::join_all(loads) => panic!("no growth within the load: {}", scene.history()),
    }
    for (name, fault) in WRONG {
        let pipeline = format!("{}/{name}", scene.tiered.namespace());
        scene.fleet.inject(Target::Stage(pipeline, "generate".into()), fault);
    }
    scene.scaled();
    for (name, _) in WRONG {
        let message = scene
            .tiered
            .says(name, "SignalsAvailable", "False", "MetricsStale")
            .await;
        assert!(message.contains("'generate'"), "{message}");
    }
    // Longer than the window and the declared time of loss together; the default is to hold.
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(scene.scaled(), [], "{}", scene.history());
    for (name, _) in WRONG {
        let pipeline = format!("{}/{name}", scene.tiered.namespace());
        scene.fleet.heal(&Target::Stage(pipeline, "generate".into()));
    }
    for (name, _) in WRONG {
        scene.settles(name, "generate", &[("x86", 1)]).await;
        scene.tiered.says(name, "SignalsAvailable", "True", "Fresh").await;
    }
    scene.bounds_held();
}

/// A replica may be read between its start and its first request. A page that stops there shows nobody at work, is believed, and
/// with it the stage has a signal.
const FIRST_REQUESTS: Duration = Duration::from_secs(3);

/// Four replicas that need to be four, and all of them say something that cannot be.
async fn lies_under_load(suite: &Suite, fault: Fault) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.create("chat", &[server("generate", 1, 4)]).await;
    scene.tiered.ready("chat").await;
    let lie = async {
        scene.total("chat", "generate", "grows", |total| total == 4).await;
        scene.settles("chat", "generate", &[("x86", 4)]).await;
        tokio::time::sleep(FIRST_REQUESTS).await;
        scene.fleet.inject(Target::All, fault);
        scene
            .tiered
            .says("chat", "SignalsAvailable", "False", "MetricsStale")
            .await;
        let note = scene.tiered.told("chat", "Warning MetricsStale").await;
        assert!(note.contains("'generate'"), "{note}");
        scene.stays("chat", "generate", Duration::from_secs(12)).await;
        scene.fleet.heal(&Target::All);
        scene.tiered.says("chat", "SignalsAvailable", "True", "Fresh").await;
        scene.tiered.told("chat", "Normal Fresh").await;
        let all = scene.tiered.events("chat").await;
        let count = |what: &str| all.iter().filter(|(event, _)| event == what).count();
        assert_eq!(
            (count("Warning MetricsStale"), count("Normal Fresh")),
            (1, 1),
            "nothing is told twice: {all:?}"
        );
    };
    tokio::select! {
        () = lie => {}
        // Longer than any wait, so that what does not come says so itself.
        _ = scene.load("chat", &[(0, 33.0), (240, 33.0)]) => panic!("not done within the load: {}", scene.history()),
    }
    scene.bounds_held();
}

pub(crate) async fn nothing_shrinks_on_negative_numbers(suite: &Suite) {
    // Nothing times minus one is still nothing: the load stays on.
    lies_under_load(suite, Fault::Lie(-1.0)).await;
}

pub(crate) async fn nothing_shrinks_on_numbers_that_stand_still_under_load(suite: &Suite) {
    lies_under_load(suite, Fault::Metrics(Metrics::Frozen)).await;
}

/// What is wrong although every page looks like a page under load, each for the name of a pipeline.
const PLAUSIBLE: [(&str, Fault); 2] = [
    ("replayed", Fault::Metrics(Metrics::Replayed)),
    ("wrong-unit", Fault::Metrics(Metrics::WrongUnit)),
];

pub(crate) async fn nothing_shrinks_on_pages_of_before_nor_on_numbers_in_another_unit(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 2).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    for (name, _) in PLAUSIBLE {
        scene.tiered.create(name, &[server("generate", 1, 4)]).await;
    }
    let changes = || PLAUSIBLE.map(|(name, _)| scene.changes_on(name, "generate", "x86"));
    let lie = async {
        for (name, _) in PLAUSIBLE {
            scene.settles(name, "generate", &[("x86", 4)]).await;
        }
        tokio::time::sleep(FIRST_REQUESTS).await;
        let before = changes();
        for (name, fault) in PLAUSIBLE {
            let pipeline = format!("{}/{name}", scene.tiered.namespace());
            scene.fleet.inject(Target::Stage(pipeline, "generate".into()), fault);
        }
        // What was counted does not come back: such a page is no news.
        scene
            .tiered
            .says("replayed", "SignalsAvailable", "False", "MetricsStale")
            .await;
        // Several times around, and longer than the window.
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert_eq!(changes(), before, "{}", scene.history());
        for (name, _) in PLAUSIBLE {
            let pipeline = format!("{}/{name}", scene.tiered.namespace());
            scene.fleet.heal(&Target::Stage(pipeline, "generate".into()));
        }
        for (name, _) in PLAUSIBLE {
            scene.tiered.says(name, "SignalsAvailable", "True", "Fresh").await;
        }
    };
    tokio::select! {
        () = lie => {}
        _ = futures::future::join_all(PLAUSIBLE.map(|(name, _)| scene.load(name, &[(0, 33.0), (240, 33.0)]))) => {
            panic!("not done within the load: {}", scene.history())
        }
    }
    scene.bounds_held();
}

/// An idle server and a stuck exporter both show no work. But this page counts its own scrapes: it moved while nothing was
/// to do.
pub(crate) async fn nothing_shrinks_on_a_page_that_stopped_moving_at_rest(suite: &Suite) {
    let playing = Behaviours::new(Behaviour::http(10.0, 8).showing(Exposition::HttpOpenTelemetry));
    let scene = Scene::shared(suite, &[], playing).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let check = |min: u32| {
        let mut stage = server("check", min, 4);
        stage["signal"]["preset"] = json!("http");
        stage["container"]["ports"][0]["containerPort"] = json!(8080);
        stage
    };
    scene.tiered.create("chat", &[check(3)]).await;
    scene.settles("chat", "check", &[("x86", 3)]).await;
    scene.tiered.says("chat", "SignalsAvailable", "True", "Fresh").await;
    // Half a minute of rest, and as many scrapes after it as show that the page moves all the same.
    tokio::time::sleep(Duration::from_secs(50)).await;
    scene.tiered.says("chat", "SignalsAvailable", "True", "Fresh").await;
    scene.fleet.inject(Target::All, Fault::Metrics(Metrics::Frozen));
    let message = scene
        .tiered
        .says("chat", "SignalsAvailable", "False", "MetricsStale")
        .await;
    assert!(message.contains("'check'"), "{message}");
    scene.edit("chat", json!({"spec": {"stages": [check(1)]}})).await;
    // Longer than the window.
    scene.stays("chat", "check", Duration::from_secs(12)).await;
    scene.fleet.heal(&Target::All);
    scene.settles("chat", "check", &[("x86", 1)]).await;
    scene.tiered.says("chat", "SignalsAvailable", "True", "Fresh").await;
    scene.bounds_held();
}

/// Stages that lose their signals, by the name of the pipeline: replicas at least and at most, at which load per second, and
/// what they declare for that. At 22 requests per second three replicas are needed; two fall behind.
fn losing() -> [(&'static str, (u32, u32), f64, Value); 5] {
    let fixed = |replicas: u32, after_s: u32| json!({"onSignalLoss": "Static", "staticReplicas": replicas, "lossSeconds": after_s});
    let higher = || json!({"onSignalLoss": "CurrentIfHigher", "lossSeconds": 5});
    [
        ("static-more", (1, 4), 0.0, fixed(3, 5)),
        ("static-fewer", (1, 3), 22.0, fixed(2, 10)),
        ("demand-higher", (1, 2), 22.0, higher()),
        ("current-higher", (3, 4), 0.0, higher()),
        ("held", (1, 2), 22.0, json!({"onSignalLoss": "Hold", "lossSeconds": 5})),
    ]
}

pub(crate) async fn lost_signals_leave_a_stage_what_it_declares_for_that_and_nothing_before_its_time(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 2).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let declared = |(min, max): (u32, u32), loss: &Value| {
        let mut stage = server("generate", min, max);
        let signal = stage["signal"].as_object_mut().unwrap();
        signal.extend(loss.as_object().unwrap().clone());
        stage
    };
    for (name, bounds, _, loss) in losing() {
        scene.tiered.create(name, &[declared(bounds, &loss)]).await;
    }
    let settle = async |all: &[(&str, i64)]| {
        for &(name, count) in all {
            scene.settles(name, "generate", &[("x86", count)]).await;
        }
    };
    let first_change = |name: &str, since: Duration| {
        let changes = scene.changes_on(name, "generate", "x86").into_iter();
        let first = changes.map(|(at, _)| at).find(|at| *at >= since);
        first.unwrap_or_else(|| panic!("'{name}' did not change: {}", scene.history()))
    };
    let lose = async {
        settle(&[
            ("static-more", 1),
            ("static-fewer", 3),
            ("demand-higher", 2),
            ("current-higher", 3),
            ("held", 2),
        ])
        .await;
        for (name, ..) in losing() {
            scene.tiered.says(name, "SignalsAvailable", "True", "Fresh").await;
        }
        // Two are reached before three are asked for: the load rises, and what it asks for is averaged.
        scene.stays("static-fewer", "generate", Duration::from_secs(6)).await;
        let silent = scene.observer.elapsed();
        scene.fleet.inject(Target::All, Fault::Metrics(Metrics::Unavailable));
        settle(&[("static-more", 3), ("static-fewer", 2)]).await;
        for (name, after_s) in [("static-more", 5), ("static-fewer", 10)] {
            // From the last reading, which is at most an interval before.
            let took = first_change(name, silent) - silent;
            let earliest = Duration::from_secs(after_s) - Duration::from_millis(1_500);
            assert!(took >= earliest, "'{name}' changed after {took:?}: {}", scene.history());
        }
        // What was needed last finds room, and what runs is more than is asked for.
        let edited = scene.observer.elapsed();
        for (name, bounds) in [("demand-higher", (1, 3)), ("current-higher", (1, 4)), ("held", (1, 3))] {
            let (.., loss) = losing().into_iter().find(|it| it.0 == name).unwrap();
            let stages = json!({"spec": {"stages": [declared(bounds, &loss)]}});
            scene.edit(name, stages).await;
        }
        settle(&[("demand-higher", 3)]).await;
        // Longer than the window of shrinking.
        scene.stays("demand-higher", "generate", Duration::from_secs(6)).await;
        for name in ["current-higher", "held", "static-more", "static-fewer"] {
            let changes = scene.changes_on(name, "generate", "x86");
            assert!(changes.iter().all(|(at, _)| *at < edited), "'{name}': {changes:?}");
        }
        scene.fleet.heal(&Target::All);
        settle(&[
            ("static-more", 1),
            ("static-fewer", 3),
            ("demand-higher", 3),
            ("current-higher", 1),
            ("held", 3),
        ])
        .await;
        for (name, ..) in losing() {
            scene.tiered.says(name, "SignalsAvailable", "True", "Fresh").await;
        }
    };
    let loaded = losing().into_iter().filter(|(_, _, rate, _)| *rate > 0.0);
    let loads = loaded.map(|(name, _, rate, _)| {
        let scene = &scene;
        async move { scene.load(name, &[(0, 9.0), (3, rate), (240, rate)]).await }
    });
    tokio::select! {
        () = lose => {}
        _ = futures::future::join_all(loads) => panic!("not done within the load: {}", scene.history()),
    }
    scene.bounds_held();
}

pub(crate) async fn one_pod_that_says_nothing_runs_takes_nothing_from_the_others(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.create("chat", &[server("generate", 1, 4)]).await;
    scene.tiered.ready("chat").await;
    let lie = async {
        scene.settles("chat", "generate", &[("x86", 4)]).await;
        let pod = scene.tiered.pods("chat").await[0].metadata.uid.clone().unwrap();
        scene.fleet.inject(Target::Pod(pod), Fault::Lie(0.0));
        scene.stays("chat", "generate", Duration::from_secs(15)).await;
    };
    tokio::select! {
        () = lie => {}
        summary = scene.load("chat", &[(0, 36.0), (60, 36.0)]) => panic!("not done within the load: {summary:?}"),
    }
    scene.bounds_held();
}

pub(crate) async fn a_pod_that_is_silent_beside_others_is_named_and_what_it_may_serve_is_kept(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.create("chat", &[server("generate", 1, 4)]).await;
    scene.tiered.ready("chat").await;
    let silence = async {
        scene.settles("chat", "generate", &[("x86", 4)]).await;
        scene.tiered.says("chat", "SignalsAvailable", "True", "Fresh").await;
        let pod = &scene.tiered.pods("chat").await[0].metadata;
        let target = Target::Pod(pod.uid.clone().unwrap());
        scene.fleet.inject(target.clone(), Fault::Metrics(Metrics::Unavailable));
        let message = scene
            .tiered
            .says("chat", "SignalsAvailable", "False", "MetricsStale")
            .await;
        let named = pod.name.as_deref().unwrap();
        for word in ["stage 'generate'", "beside others", "3 of 4 pods", named] {
            assert!(message.contains(word), "no {word} in: {message}");
        }
        scene.stays("chat", "generate", Duration::from_secs(12)).await;
        scene.fleet.heal(&target);
        scene.tiered.says("chat", "SignalsAvailable", "True", "Fresh").await;
    };
    tokio::select! {
        () = silence => {}
        summary = scene.load("chat", &[(0, 36.0), (240, 36.0)]) => panic!("not done within the load: {summary:?}"),
    }
    scene.bounds_held();
}

pub(crate) async fn a_lie_of_any_size_moves_nothing_beyond_the_bounds(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.create("honest", &[server("generate", 2, 4)]).await;
    scene.tiered.create("liar", &[server("generate", 1, 5)]).await;
    scene.tiered.ready("honest").await;
    scene.tiered.ready("liar").await;
    let pipeline = format!("{}/liar", scene.tiered.namespace());
    scene
        .fleet
        .inject(Target::Stage(pipeline, "generate".into()), Fault::Lie(1e15));
    let watch = async {
        tokio::time::sleep(Duration::from_secs(12)).await;
    };
    tokio::select! {
        () = watch => {}
        summary = scene.load("liar", &[(0, 3.0), (30, 3.0)]) => panic!("{summary:?}"),
    }
    scene.settles("honest", "generate", &[("x86", 2)]).await;
    scene.tiered.ready("honest").await;
    scene.bounds_held();
}

pub(crate) async fn a_stage_whose_image_does_not_start_on_one_pool_goes_to_another(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    let broken = scene.tiered.pool_name("graviton");
    let annotation = format!("kwok.tiercel.dev/fault.{broken}=image-pull");
    let kubectl = scene.tiered.installed.cluster.kubectl();
    kubectl
        .run(&["annotate", "namespace", scene.tiered.namespace(), &annotation])
        .await
        .unwrap();
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.space.nodes(&GRAVITON, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.cpu_pool("graviton", &[(SHAPE, "graviton")]).await;
    scene.price("x86", "3").await;
    scene.tiered.create("chat", &[server("generate", 2, 4)]).await;
    scene.settles("chat", "generate", &[("x86", 2)]).await;
    scene.tiered.ready("chat").await;
    let left = |it: &DecisionSummary| it.reason == "CannotStart";
    drop(scene.tiered.decided("chat", "leaves the broken pool", left).await);
    let told = scene.explained("chat/generate").await;
    let mut pools = told["stages"][0]["pools"].as_array().into_iter().flatten();
    let why = pools.find_map(|pool| pool["dry"]["why"].as_str()).unwrap_or_default();
    assert!(
        why.contains("ImagePull") || why.contains("ErrImage"),
        "the kubelet's word is missing: {told}"
    );
    scene
        .tiered
        .until("chat", "the stage's message names the pool", |pipeline| {
            let stages = pipeline.status.unwrap_or_default().stages;
            let message = stages[0].message.clone().unwrap_or_default();
            if message.contains(&broken) {
                Ok(())
            } else {
                Err(message)
            }
        })
        .await;
    let told = eventually(PATIENCE, "that the pool is dry is told once", async || {
        let events = scene.tiered.events("chat").await;
        let dry = events.iter().filter(|(what, _)| what == "Warning PoolDry");
        let dry: Vec<&String> = dry.map(|(_, note)| note).collect();
        let is_told = matches!(dry[..], [note] if note.contains("'generate'") && note.contains(&broken));
        if is_told { Ok(()) } else { Err(format!("{events:?}")) }
    });
    told.await.unwrap();
    scene.decisions_kept_bounds();
}
