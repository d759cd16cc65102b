//! Signals that are lost or lie, and images that do not start.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use tiercel_e2e::fleet::{Fault, Target};
use tiercel_e2e::nodes::{GRAVITON, X86};

use crate::behaviour::{SHAPE, Scene, server, serving};
use crate::suite::Suite;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 6] {
    crate::scenarios![suite, behaviour_faults:
        nothing_shrinks_while_metrics_are_unavailable,
        nothing_shrinks_on_numbers_that_are_none,
        nothing_shrinks_on_negative_numbers,
        nothing_shrinks_while_servers_hang,
        a_lie_of_any_size_moves_nothing_beyond_the_bounds,
        a_stage_whose_image_does_not_start_on_one_pool_goes_to_another,
    ]
}

/// Four replicas for a floor of one, held up by load that ends; then every server has the fault.
async fn loses(suite: &Suite, fault: Fault) {
    let mut scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.create("chat", &[server("generate", 1, 4)]).await;
    scene.tiered.ready("chat").await;
    let grown = async {
        scene.total("chat", "generate", "grows", |total| total == 4).await;
        scene.settles("chat", "generate", &[("x86", 4)]).await;
    };
    tokio::select! {
        () = grown => {}
        summary = scene.load("chat", &[(0, 35.0), (60, 35.0)]) => panic!("no growth within a minute: {summary:?}"),
    }
    scene.fleet.inject(Target::All, fault);
    scene.scaled();
    let message = scene
        .tiered
        .says("chat", "SignalsAvailable", "False", "MetricsStale")
        .await;
    assert!(message.contains("'generate'"), "{message}");
    // Longer than the window and the declared time of loss together; the default is to hold.
    scene.stays("chat", "generate", Duration::from_secs(12)).await;
    assert_eq!(scene.scaled(), []);
    scene.fleet.heal(&Target::All);
    scene.settles("chat", "generate", &[("x86", 1)]).await;
    scene.tiered.says("chat", "SignalsAvailable", "True", "Fresh").await;
    scene.bounds_held();
}

pub(crate) async fn nothing_shrinks_while_metrics_are_unavailable(suite: &Suite) {
    loses(suite, Fault::MetricsUnavailable).await;
}

pub(crate) async fn nothing_shrinks_on_numbers_that_are_none(suite: &Suite) {
    loses(suite, Fault::MetricsNan).await;
}

pub(crate) async fn nothing_shrinks_on_negative_numbers(suite: &Suite) {
    // Nothing times minus one is still nothing: the load stays on.
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.create("chat", &[server("generate", 1, 4)]).await;
    scene.tiered.ready("chat").await;
    let lie = async {
        scene.total("chat", "generate", "grows", |total| total == 4).await;
        scene.settles("chat", "generate", &[("x86", 4)]).await;
        scene.fleet.inject(Target::All, Fault::Lie(-1.0));
        scene
            .tiered
            .says("chat", "SignalsAvailable", "False", "MetricsStale")
            .await;
        scene.stays("chat", "generate", Duration::from_secs(12)).await;
        scene.fleet.heal(&Target::All);
        scene.tiered.says("chat", "SignalsAvailable", "True", "Fresh").await;
    };
    tokio::select! {
        () = lie => {}
        summary = scene.load("chat", &[(0, 33.0), (90, 33.0)]) => panic!("not done within the load: {summary:?}"),
    }
    scene.bounds_held();
}

pub(crate) async fn nothing_shrinks_while_servers_hang(suite: &Suite) {
    loses(suite, Fault::Hang).await;
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
    let status = scene.tiered.pipeline("chat").await.status.unwrap();
    assert!(
        status.decisions.iter().any(|it| it.reason == "CannotStart"),
        "{}",
        scene.conditions("chat").await
    );
    let message = status.stages[0].message.clone().unwrap_or_default();
    assert!(message.contains(&broken), "{message:?} does not name the pool");
    scene.decisions_kept_bounds();
}
