//! Replicas follow the load, within bounds, budget and rank.

use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;
use tiercel::api::labels;
use tiercel::api::tiered_pipeline::DecisionSummary;
use tiercel_e2e::load::Recorder;
use tiercel_e2e::nodes::{GRAVITON, X86};
use tiercel_e2e::wait::{eventually, wanted};

use crate::behaviour::{SHAPE, Scene, server, serving};
use crate::suite::Suite;
use crate::support::{PATIENCE, pipeline, stage};

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 8] {
    crate::scenarios![suite, behaviour_load:
        replicas_follow_the_load_up_to_max_and_back_to_min,
        a_rolling_update_under_steady_load_changes_no_replicas,
        a_pod_that_burns_its_cpu_gets_company,
        of_several_signals_the_largest_need_wins_and_is_named,
        a_budget_in_money_or_power_is_never_exceeded_however_much_is_wanted,
        the_pipelines_of_a_namespace_keep_its_ceiling_together,
        under_scarcity_the_higher_class_gets_its_demand_and_the_lower_keeps_its_floor,
        a_pool_that_is_short_shows_what_one_more_node_would_save,
    ]
}

pub(crate) async fn replicas_follow_the_load_up_to_max_and_back_to_min(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.create("chat", &[server("generate", 1, 4)]).await;
    scene.tiered.ready("chat").await;
    let load = scene.load(
        "chat",
        &[
            (0, 3.0),
            (3, 3.0),
            (3, 18.0),
            (13, 18.0),
            (13, 45.0),
            (19, 45.0),
            (19, 2.0),
            (22, 2.0),
        ],
    );
    let watch = async {
        scene
            .total("chat", "generate", "grows with the load", |total| total >= 2)
            .await;
        scene
            .total("chat", "generate", "grows to max", |total| total == 4)
            .await;
        let full = scene.observer.elapsed();
        scene
            .total("chat", "generate", "falls back to min", |total| total == 1)
            .await;
        let shrunk = scene.observer.elapsed() - full;
        assert!(
            shrunk >= Duration::from_secs(5),
            "back after {shrunk:?}, inside the window"
        );
    };
    let (summary, ()) = tokio::join!(load, watch);
    assert!(summary.served > 400, "{summary:?}");
    scene.settles("chat", "generate", &[("x86", 1)]).await;
    scene.bounds_held();
}

/// Old and new pods serve side by side, new ones begin with nothing and old ones leave with what they have: none of it is
/// more load or less.
pub(crate) async fn a_rolling_update_under_steady_load_changes_no_replicas(suite: &Suite) {
    let life = [("startup-milliseconds", "1500"), ("shutdown-milliseconds", "1000")];
    let scene = Scene::shared(suite, &life, serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    // As far from what two replicas serve as from what four are wanted for; who leaves finishes what it has.
    let mut stage = server("generate", 2, 5);
    stage["disruption"]["drainSeconds"] = json!(2);
    scene.tiered.create("chat", std::slice::from_ref(&stage)).await;
    scene.tiered.ready("chat").await;
    let recorder = Arc::new(Recorder::default());
    let roll = async {
        let quiet = Duration::from_secs(8);
        let steady = eventually(PATIENCE, "three replicas serve the load", async || {
            let last = scene.changes_on("chat", "generate", "x86").pop();
            let lasts = matches!(last, Some((at, 3)) if scene.observer.elapsed() >= at + quiet);
            if lasts { Ok(()) } else { Err(format!("{last:?}")) }
        });
        if let Err(late) = steady.await {
            panic!("{late}\n{}\n{}", scene.history(), scene.conditions("chat").await);
        }
        scene.settles("chat", "generate", &[("x86", 3)]).await;
        let before = scene.changes_on("chat", "generate", "x86");
        let old = scene.tiered.pod_uids("chat", "generate").await;
        stage["container"]["image"] = json!("registry.example.com/server:2");
        scene.edit("chat", json!({"spec": {"stages": [stage]}})).await;
        let surge = eventually(PATIENCE, "more pods than are wanted", async || {
            let pods = scene.tiered.pod_uids("chat", "generate").await.len();
            if pods > 3 { Ok(()) } else { Err(pods.to_string()) }
        });
        surge.await.unwrap();
        let over = eventually(PATIENCE, "only new pods are left", async || {
            let new = scene.tiered.pod_uids("chat", "generate").await;
            wanted((new.len(), new.intersection(&old).count()), &(3, 0))
        });
        over.await.unwrap();
        scene.settles("chat", "generate", &[("x86", 3)]).await;
        scene.tiered.ready("chat").await;
        // Longer than the window of shrinking.
        scene.stays("chat", "generate", quiet).await;
        let after = scene.changes_on("chat", "generate", "x86");
        assert_eq!(after, before, "{}\n{}", scene.history(), scene.conditions("chat").await);
        assert_eq!(recorder.progress().failed, 0, "{:?}", recorder.summary());
    };
    tokio::select! {
        () = roll => {}
        summary = scene.load_into(Arc::clone(&recorder), "chat", &[(0, 9.0), (4, 18.8), (240, 18.8)]) => {
            panic!("not done within the load: {summary:?}")
        }
    }
    scene.bounds_held();
}

pub(crate) async fn a_pod_that_burns_its_cpu_gets_company(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let mut stage = stage("retrieve", &[], 1);
    stage["signal"] = json!({"preset": "cpu", "targetPercent": 60});
    scene.tiered.create("rag", &[stage]).await;
    scene.tiered.ready("rag").await;
    let pod = scene.tiered.pods("rag").await[0].metadata.name.clone().unwrap();
    // 480m of 500m: 96 % of the request, 1.6 replicas' worth at the target.
    scene
        .kubectl(&["annotate", "pod", &pod, "kwok.x-k8s.io/usage-cpu=480m"])
        .await;
    scene.total("rag", "retrieve", "grows", |total| total >= 2).await;
    scene.settles("rag", "retrieve", &[("x86", 2)]).await;
    scene.bounds_held();
}

pub(crate) async fn of_several_signals_the_largest_need_wins_and_is_named(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let mut stage = server("generate", 1, 4);
    stage["signal"]["also"] = json!([{"preset": "cpu", "targetPercent": 60}]);
    scene.tiered.create("chat", &[stage]).await;
    scene.tiered.ready("chat").await;
    scene.tiered.says("chat", "SignalsAvailable", "True", "Fresh").await;
    let pod = scene.tiered.pods("chat").await[0].metadata.name.clone().unwrap();
    let burn = async |usage: &str| {
        let usage = format!("kwok.x-k8s.io/usage-cpu={usage}");
        scene.kubectl(&["annotate", "--overwrite", "pod", &pod, &usage]).await;
    };
    // Its server counts no request. 96 % of what it asked for is 1.6 replicas' worth at the target.
    burn("1525m").await;
    scene.settles("chat", "generate", &[("x86", 2)]).await;
    let by_cpu = |it: &DecisionSummary| it.signal.as_deref() == Some("cpu");
    drop(scene.tiered.decided("chat", "names the signal", by_cpu).await);
    burn("10m").await;
    scene.settles("chat", "generate", &[("x86", 1)]).await;
    scene.bounds_held();
}

pub(crate) async fn a_budget_in_money_or_power_is_never_exceeded_however_much_is_wanted(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 2).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    // A tenth of a node each: one dollar per hour.
    scene.price("x86", "10").await;
    let mut object = pipeline("chat", &[server("generate", 1, 10)]);
    object["spec"]["budget"] = json!({"maxCostPerHour": "3.10"});
    scene.tiered.apply(object).await;
    scene.tiered.ready("chat").await;
    let load = scene.load("chat", &[(0, 5.0), (2, 5.0), (2, 40.0), (22, 40.0)]);
    let watch = async {
        scene
            .total("chat", "generate", "grows to what the budget allows", |total| {
                total == 3
            })
            .await;
        scene.stays("chat", "generate", Duration::from_secs(4)).await;
        let short = ("CapacityAvailable", "False", "NoCapacity");
        scene
            .tiered
            .says_that("chat", short, |told| told.contains("budget"))
            .await;
        // The image changes while everything is spent: not even a rollout asks for more replicas.
        let mut edited = server("generate", 1, 10);
        edited["container"]["image"] = json!("registry.example.com/server:2");
        scene.edit("chat", json!({"spec": {"stages": [edited]}})).await;
        scene.stays("chat", "generate", Duration::from_secs(3)).await;
        // A ceiling on power instead, of two replicas: met at once, and kept however much is wanted.
        let watts = json!({"spec": {"powerWattsPerNode": 1000}});
        scene.edit_pool("x86", watts).await;
        let budget = json!({"spec": {"budget": {"maxCostPerHour": null, "maxPowerWatts": 210}}});
        scene.edit("chat", budget).await;
        scene
            .total("chat", "generate", "shrinks to what the ceiling allows", |total| {
                total == 2
            })
            .await;
        scene.stays("chat", "generate", Duration::from_secs(2)).await;
        let within = ("WithinBudget", "True", "WithinBudget");
        let allowed = "replicas draw no more than 210 W";
        scene.tiered.says_that("chat", within, |told| told == allowed).await;
    };
    tokio::join!(load, watch);
    let most = scene
        .states("chat", "generate")
        .iter()
        .map(|state| state["x86"].0)
        .max();
    assert_eq!(most, Some(3), "{}", scene.history());
    scene.decisions_kept_bounds();
}

pub(crate) async fn the_pipelines_of_a_namespace_keep_its_ceiling_together(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    // A tenth of a node each: one dollar per hour.
    scene.price("x86", "10").await;
    let namespace = scene.tiered.namespace().to_owned();
    let allow = async |cost: Option<&str>| {
        let space = &scene.tiered.space;
        space.annotate(json!({(labels::MAX_COST_PER_HOUR): cost})).await;
    };
    allow(Some("4.10")).await;
    let installed = Arc::clone(&scene.tiered.installed);
    let queue = |name: &str, waiting: f64| {
        let queue = format!("{name}.work");
        installed.prometheus.queue(&namespace, &queue, Some((waiting, 0.0)));
    };
    for (name, priority) in [("batch", 100), ("live", 900)] {
        let mut stage = server("work", 1, 4);
        stage["signal"]["preset"] = json!("broker");
        queue(name, 0.0);
        let mut object = pipeline(name, &[stage]);
        object["spec"]["priority"] = json!(priority);
        scene.tiered.apply(object).await;
        scene.tiered.ready(name).await;
    }
    // Each could use three replicas; there is money for four.
    queue("batch", 18.0);
    scene.settles("batch", "work", &[("x86", 3)]).await;
    queue("live", 18.0);
    scene.settles("live", "work", &[("x86", 3)]).await;
    scene.settles("batch", "work", &[("x86", 1)]).await;
    let within = ("WithinBudget", "True", "WithinBudget");
    let allowed = format!("replicas cost no more than 4.10 per hour with all of namespace '{namespace}'");
    scene.tiered.says_that("live", within, |told| told == allowed).await;
    let short = ("CapacityAvailable", "False", "NoCapacity");
    scene
        .tiered
        .says_that("batch", short, |told| told.contains("budget"))
        .await;
    // More money, then a word that is none, which holds nothing back and says so.
    allow(Some("5.10")).await;
    scene.settles("batch", "work", &[("x86", 2)]).await;
    allow(Some("plenty")).await;
    scene.settles("batch", "work", &[("x86", 3)]).await;
    let unread = format!("annotation {} of the namespace is 'plenty'", labels::MAX_COST_PER_HOUR);
    let invalid = ("WithinBudget", "Unknown", "Invalid");
    scene
        .tiered
        .says_that("batch", invalid, |told| told.starts_with(&unread))
        .await;
    // Less than the floors cost: they run, and nothing else does.
    allow(Some("1")).await;
    for name in ["batch", "live"] {
        scene.settles(name, "work", &[("x86", 1)]).await;
    }
    let exhausted = ("WithinBudget", "False", "BudgetExhausted");
    let over = format!("replicas cost 2.00 per hour with all of namespace '{namespace}', which may cost 1.00 per hour");
    scene.tiered.says_that("live", exhausted, |told| told == over).await;
    allow(None).await;
    for name in ["batch", "live"] {
        scene.settles(name, "work", &[("x86", 3)]).await;
        scene
            .tiered
            .says_that(name, within, |told| told == "no budget is set")
            .await;
    }
    scene.decisions_kept_bounds();
}

pub(crate) async fn under_scarcity_the_higher_class_gets_its_demand_and_the_lower_keeps_its_floor(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    // Room for five.
    let mut stage = server("generate", 1, 5);
    stage["container"]["resources"]["requests"]["cpu"] = json!("3100m");
    for (name, priority) in [("batch", 100), ("live", 900)] {
        let mut object = pipeline(name, std::slice::from_ref(&stage));
        object["spec"]["priority"] = json!(priority);
        scene.tiered.apply(object).await;
        scene.tiered.ready(name).await;
    }
    let batch = scene.load("batch", &[(0, 60.0), (24, 60.0)]);
    let live = async {
        scene
            .total("batch", "generate", "takes what is free", |total| total == 4)
            .await;
        scene.load("live", &[(0, 28.0), (20, 28.0)]).await
    };
    let watch = async {
        scene
            .total("live", "generate", "gets its demand", |total| total >= 4)
            .await;
        scene
            .total("batch", "generate", "is left its floor", |total| total == 1)
            .await;
    };
    tokio::join!(batch, live, watch);
    scene.bounds_held();
}

pub(crate) async fn a_pool_that_is_short_shows_what_one_more_node_would_save(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    // Together room for all that may ever be asked for: what is missing has no price in money.
    scene.tiered.space.nodes(&X86, 3).await;
    scene.tiered.space.nodes(&GRAVITON, 2).await;
    scene.tiered.cpu_pool("dear", &[(SHAPE, "x86")]).await;
    scene.tiered.cpu_pool("cheap", &[(SHAPE, "graviton")]).await;
    scene.price("dear", "10").await;
    scene.price("cheap", "1").await;
    let shown = async |pool: &str| {
        let status = scene.tiered.pool(pool).await.status;
        status.and_then(|status| status.shadow_price)
    };
    // Two of them fill a node; six are wanted, or more where a queue has to be worked off.
    let mut stage = server("generate", 1, 5);
    stage["container"]["resources"]["requests"]["cpu"] = json!("7");
    for name in ["first", "second"] {
        scene.tiered.create(name, std::slice::from_ref(&stage)).await;
        scene.tiered.ready(name).await;
    }
    assert_eq!(shown("cheap").await, None, "everybody is where it is cheapest");
    let (first, second) = (
        scene.load("first", &[(0, 20.0), (150, 20.0)]),
        scene.load("second", &[(0, 20.0), (150, 20.0)]),
    );
    let watch = async {
        for name in ["first", "second"] {
            scene
                .total(name, "generate", "gets all it needs", |total| total >= 3)
                .await;
        }
        let price = eventually(PATIENCE, "the short pool has a price", async || {
            shown("cheap").await.ok_or_else(|| "no price".to_owned())
        });
        let price: f64 = price.await.unwrap().parse().unwrap();
        // A node's two replicas cost a dollar there and, beside each other, nearly nine on the other pool.
        assert!((1.0..=10.0).contains(&price), "{price}");
        assert_eq!(shown("dear").await, None, "there is room in it");
    };
    // The shortage lasts for as long as it is looked at: how soon it is priced depends on what else is solved.
    tokio::select! {
        () = watch => {}
        _ = async { tokio::join!(first, second) } => panic!("the load ended before anything was seen"),
    }
    let gone = eventually(PATIENCE, "the price goes with the shortage", async || {
        shown("cheap").await.map_or(Ok(()), Err)
    });
    gone.await.unwrap();
    scene.bounds_held();
    let replay = scene.tiered.installed.replayed();
    assert_eq!(replay.different, 0, "{:?}", replay.differences);
}
