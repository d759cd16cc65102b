//! What is learned about pools decides, and outlives the operator. On a cluster of its own: learning takes minutes, in which
//! nobody may end the operator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;
use tiercel::api::tiered_pipeline::Learned;
use tiercel_e2e::controlplane::{Cluster, Options};
use tiercel_e2e::fleet::{Behaviour, Behaviours, Exposition};
use tiercel_e2e::nodes::{GRAVITON, X86};
use tiercel_e2e::wait::eventually;

use crate::behaviour::{SHAPE, Scene, server};
use crate::behaviour_restart::TAKEN_OVER;
use crate::suite::Suite;
use crate::support::Installed;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 1] {
    crate::scenarios![suite, behaviour_learning:
        what_was_learned_decides_after_a_restart_without_being_learned_again,
    ]
}

/// Six samples of fifteen seconds, twenty seconds after replicas last changed, on a machine that may be slow.
const LEARNED: Duration = Duration::from_mins(8);

/// What was learned of the replicas of a pipeline's first stage on a pool.
async fn learned(scene: &Scene, pipeline: &str, pool: &str) -> Option<Learned> {
    let status = scene.tiered.pipeline(pipeline).await.status?;
    let pools = status.stages.into_iter().next()?.pools;
    let name = scene.tiered.pool_name(pool);
    pools.into_iter().find(|it| it.name == name)?.requests_per_second
}

/// The same, once it is no more than 10 requests per second. What is declared is 20: half of that is the most that goes at
/// once.
pub(crate) async fn learns(scene: &Scene, pipeline: &str, pool: &str) -> Learned {
    let known = eventually(LEARNED, format!("what {pool} serves is known"), async || {
        let known = learned(scene, pipeline, pool).await.ok_or("nothing learned")?;
        let value: f64 = known.value.parse().map_err(|_| known.value.clone())?;
        if value <= 10.0 {
            Ok(known)
        } else {
            Err(format!("{known:?}"))
        }
    });
    let known = known.await.unwrap_or_else(|late| panic!("{late}"));
    assert_eq!(known.declared, "20");
    known
}

/// Declared alike, one pool serves two fifths of what is said of it: the other is worth its higher price, at every load on
/// the way from what one of its replicas serves to what needs two.
pub(crate) async fn what_was_learned_decides_after_a_restart_without_being_learned_again(suite: &Suite) {
    let options = Options {
        audit: true,
        ..Options::default()
    };
    let cluster = Cluster::start(&suite.tools().await, options).await.unwrap();
    let installed = Arc::new(Installed::on(Arc::new(cluster), "").await.unwrap());
    let scene = Scene::apart_playing(suite, &installed, |tiered| {
        let serving = |per_s| Behaviour::vllm(per_s, 8).showing(Exposition::TritonTrtllm);
        Behaviours::new(serving(20.0)).hardware(&tiered.pool_name("x86"), serving(8.0))
    })
    .await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.space.nodes(&GRAVITON, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.cpu_pool("graviton", &[(SHAPE, "graviton")]).await;
    scene.price("graviton", "1.3").await;
    let mut stage = server("generate", 1, 4);
    stage["capacity"] = json!({"requestsPerSecond": "20", "concurrency": 8});
    stage["signal"]["preset"] = json!("triton");
    scene.tiered.create("chat", &[stage]).await;
    scene.settles("chat", "generate", &[("x86", 1)]).await;
    let learns = async {
        let known = learns(&scene, "chat", "x86").await;
        scene.settles("chat", "generate", &[("graviton", 1)]).await;
        let before = scene.states("chat", "generate").len();
        installed.operator().kill();
        installed.operator().restart().unwrap();
        // By what is declared, x86 would be the cheaper one as soon as the new operator has seen the load.
        tokio::time::sleep(TAKEN_OVER + Duration::from_secs(8)).await;
        let stays = |state: &BTreeMap<String, (i64, i64)>| state.get("graviton").is_some_and(|it| it.0 > 0);
        let after = scene.states("chat", "generate").split_off(before - 1);
        assert!(after.iter().all(stays), "{}", scene.history());
        let after = learned(&scene, "chat", "x86").await.unwrap();
        assert_eq!((&after.value, &after.declared), (&known.value, &known.declared));
        assert!(after.samples >= known.samples, "{after:?} after {known:?}");
        // It is at work, with what was learned: by what is declared, two on x86 would do.
        let more = async {
            scene.total("chat", "generate", "grows", |total| total >= 2).await;
            tokio::time::sleep(Duration::from_secs(8)).await;
            let after = scene.states("chat", "generate").split_off(before - 1);
            assert!(after.iter().all(stays), "{}", scene.history());
        };
        tokio::select! {
            () = more => {}
            summary = scene.load("chat", &[(0, 12.0), (240, 12.0)]) => panic!("not done within the load: {summary:?}"),
        }
    };
    tokio::select! {
        () = learns => {}
        summary = scene.load("chat", &[(0, 9.5), (900, 9.5)]) => panic!("not done within the load: {summary:?}"),
    }
    scene.bounds_held();
    installed.operator().stop();
    installed.cluster.stop();
}
