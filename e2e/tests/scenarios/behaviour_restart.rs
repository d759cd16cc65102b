//! The operator dies, comes back, or stays away. On a cluster of their own, one scenario at a time.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use libtest_mimic::Trial;
use serde_json::json;
use tiercel_e2e::nodes::{GRAVITON, X86};
use tiercel_e2e::wait::eventually;

use crate::behaviour::{SHAPE, Scene, claimed, server};
use crate::suite::Suite;
use crate::support::{PATIENCE, repository};

/// A lease that nobody renews is free after so long; what else a start takes comes on top.
pub(crate) const TAKEN_OVER: Duration = Duration::from_secs(22);

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 4] {
    crate::scenarios![suite, behaviour_restart:
        a_converged_operator_writes_nothing_for_a_minute_nor_after_it_was_killed,
        a_move_goes_on_where_a_killed_operator_left_it,
        a_namespace_goes_away_without_the_operator,
        a_pipeline_that_cannot_be_read_does_not_stop_the_others,
    ]
}

/// Start-ups that the status says were learned from on `x86`.
async fn starts_on_record(scene: &Scene) -> i32 {
    let status = scene.tiered.pipeline("chat").await.status.unwrap_or_default();
    let pools = status.stages.into_iter().flat_map(|stage| stage.pools);
    let mut of_x86 = pools.filter(|pool| pool.name == scene.tiered.pool_name("x86"));
    of_x86
        .find_map(|pool| pool.startup_seconds)
        .map_or(0, |learned| learned.samples)
}

async fn two_cpu_pools(scene: &Scene, min: u32) {
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.space.nodes(&GRAVITON, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.cpu_pool("graviton", &[(SHAPE, "graviton")]).await;
    scene.price("graviton", "2").await;
    scene.tiered.create("chat", &[server("generate", min, 8)]).await;
    scene.settles("chat", "generate", &[("x86", i64::from(min))]).await;
    scene.tiered.ready("chat").await;
    eventually(PATIENCE, "the rebalancer owns the replicas", async || {
        claimed(&scene.tiered, "chat").await
    })
    .await
    .unwrap();
}

pub(crate) async fn a_converged_operator_writes_nothing_for_a_minute_nor_after_it_was_killed(suite: &Suite) {
    let (_alone, installed) = suite.apart().await;
    let mut scene = Scene::apart(suite, &installed, &[]).await;
    two_cpu_pools(&scene, 3).await;
    scene.tiered.says("chat", "SignalsAvailable", "True", "Fresh").await;
    scene.tiered.says("chat", "Balanced", "True", "WithinTolerance").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    // Three pods; a status says powers of two.
    assert_eq!(starts_on_record(&scene).await, 2);
    scene.changes_everywhere();
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(scene.changes_everywhere(), [], "converged is quiet");
    let status = scene.tiered.pipeline("chat").await.status;
    installed.operator().kill();
    installed.operator().restart().unwrap();
    tokio::time::sleep(TAKEN_OVER).await;
    assert_eq!(scene.tiered.pipeline("chat").await.status, status);
    // It is there again: it reacts.
    let before = scene.changes_everywhere();
    assert_eq!(before, [], "a restart of a converged operator writes nothing");
    scene
        .edit("chat", json!({"spec": {"stages": [server("generate", 4, 8)]}}))
        .await;
    scene.settles("chat", "generate", &[("x86", 4)]).await;
    claimed(&scene.tiered, "chat").await.unwrap();
    let counts = async |what: &str| {
        let counted = eventually(PATIENCE, what, async || match starts_on_record(&scene).await {
            4 => Ok(()),
            other => Err(other.to_string()),
        });
        counted.await.unwrap();
    };
    counts("the pods of before the restart count once, and the new one").await;
    // Nothing on record: the pods tell it all over again.
    installed.operator().kill();
    let forgotten = Patch::Merge(json!({"status": {"stages": []}}));
    let pipelines = scene.tiered.pipelines();
    let patched = pipelines
        .patch_status("chat", &PatchParams::default(), &forgotten)
        .await;
    drop(patched.unwrap());
    assert_eq!(starts_on_record(&scene).await, 0);
    installed.operator().restart().unwrap();
    counts("what was learned comes back from the pods").await;
    scene.bounds_held();
}

pub(crate) async fn a_move_goes_on_where_a_killed_operator_left_it(suite: &Suite) {
    let (_alone, installed) = suite.apart().await;
    let scene = Scene::apart(suite, &installed, &[("startup-milliseconds", "4000")]).await;
    two_cpu_pools(&scene, 2).await;
    let before = scene.states("chat", "generate").len();
    scene.price("x86", "9").await;
    eventually(PATIENCE, "the move has begun", async || {
        let last = scene.states("chat", "generate").pop().unwrap_or_default();
        match last.get("graviton") {
            Some((spec, 0)) if *spec > 0 => Ok(()),
            _ => Err(format!("{last:?}")),
        }
    })
    .await
    .unwrap();
    installed.operator().kill();
    installed.operator().restart().unwrap();
    scene.settles("chat", "generate", &[("graviton", 2)]).await;
    // The floor of two and the surge of one are three replicas when the operator dies. Whoever takes over cannot know that
    // one of them was surplus, and holds three for a window, with a surge of its own.
    for state in &scene.states("chat", "generate")[before..] {
        let (spec, ready): (i64, i64) = state.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        assert!(
            (2..=4).contains(&spec) && ready >= 2,
            "{state:?}, history: {}",
            scene.history()
        );
    }
    claimed(&scene.tiered, "chat").await.unwrap();
    scene.bounds_held();
    // Both operators are on record, and what they were told leads to the very same decisions once more.
    let replay = installed.replayed();
    assert_eq!(
        replay.differences,
        Vec::<String>::new(),
        "{} of {} steps",
        replay.different,
        replay.steps
    );
    assert_eq!((replay.gaps, replay.skipped), (Vec::new(), 0));
    assert!(
        replay.starts >= 2 && replay.decisions >= 2,
        "{} decisions of {} operators say little",
        replay.decisions,
        replay.starts
    );
}

pub(crate) async fn a_namespace_goes_away_without_the_operator(suite: &Suite) {
    let (_alone, installed) = suite.apart().await;
    let scene = Scene::apart(suite, &installed, &[]).await;
    two_cpu_pools(&scene, 2).await;
    installed.operator().kill();
    let namespaces = Api::<Namespace>::all(scene.tiered.space.client.clone());
    let name = scene.tiered.namespace();
    drop(namespaces.delete(name, &DeleteParams::default()).await.unwrap());
    let gone = eventually(
        PATIENCE,
        format!("namespace {name} is gone"),
        async || match namespaces.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(left)) => Err(format!("{:?}", left.status)),
            Err(error) => Err(error.to_string()),
        },
    )
    .await;
    installed.operator().restart().unwrap();
    gone.unwrap();
}

pub(crate) async fn a_pipeline_that_cannot_be_read_does_not_stop_the_others(suite: &Suite) {
    let (_alone, installed) = suite.apart().await;
    let scene = Scene::apart(suite, &installed, &[]).await;
    two_cpu_pools(&scene, 2).await;
    let kubectl = installed.cluster.kubectl();
    // What a schema of another version would let in: the definition without its own.
    let open = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]);
    let crd = "tieredpipelines.tiercel.dev";
    kubectl
        .run(&["patch", "crd", crd, "--type=json", "-p", &open.to_string()])
        .await
        .unwrap();
    let resource = kube::core::ApiResource::erase::<tiercel::api::TieredPipeline>(&());
    let api = Api::<kube::core::DynamicObject>::namespaced_with(
        scene.tiered.space.client.clone(),
        scene.tiered.namespace(),
        &resource,
    );
    let poison = |name: &str, spec: serde_json::Value| {
        let object = json!({"apiVersion": "tiercel.dev/v1alpha1", "kind": "TieredPipeline", "metadata": {"name": name}, "spec": spec});
        serde_json::from_value::<kube::core::DynamicObject>(object).unwrap()
    };
    let specs = [
        json!("not even an object"),
        json!({"stages": "none"}),
        json!({"stages": [{"name": 7}]}),
        json!({"stages": [{"name": "x", "container": {"image": "i"}, "replicas": {"min": -5, "max": -9}}]}),
        json!({"stages": []}),
    ];
    for (number, spec) in specs.into_iter().enumerate() {
        let name = format!("poison-{number}");
        let posted = eventually(PATIENCE, format!("{name} is accepted"), async || {
            let posted = api.create(&PostParams::default(), &poison(&name, spec.clone())).await;
            posted.map(drop).map_err(|error| error.to_string())
        });
        posted.await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    installed.operator().check().unwrap();
    // With the poison in place the operator starts, and still does its work.
    installed.operator().kill();
    installed.operator().restart().unwrap();
    scene
        .edit("chat", json!({"spec": {"stages": [server("generate", 3, 8)]}}))
        .await;
    scene.settles("chat", "generate", &[("x86", 3)]).await;
    scene.price("x86", "9").await;
    scene.settles("chat", "generate", &[("graviton", 3)]).await;
    installed.operator().check().unwrap();
    for number in 0..5 {
        drop(
            api.delete(&format!("poison-{number}"), &DeleteParams::default())
                .await
                .unwrap(),
        );
    }
    // The patch above took the schema from whoever applied it.
    let crd = repository().join("crds/tieredpipelines.yaml");
    let crd = crd.to_str().unwrap();
    kubectl
        .run(&["apply", "--server-side", "--force-conflicts", "-f", crd])
        .await
        .unwrap();
}
