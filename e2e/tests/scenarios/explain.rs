//! `tiercel explain` on a real control plane: what was read, learned and decided, and what it says where it cannot look.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel_e2e::command::{self, Output};
use tiercel_e2e::nodes::{GRAVITON, X86};
use tiercel_e2e::operator::find_binary;
use tiercel_e2e::slot::Port;
use tiercel_e2e::wait::eventually;

use crate::behaviour::{SHAPE, Scene, server, serving};
use crate::suite::Suite;
use crate::support::PATIENCE;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 2] {
    crate::scenarios![suite, explain:
        a_loaded_stage_shows_what_was_read_and_learned_and_which_need_decided,
        what_does_not_exist_or_may_not_be_seen_is_told_in_one_line,
    ]
}

/// Runs `tiercel ARGS` with a kubeconfig. The exit code is the caller's to judge.
pub(crate) async fn tiercel(kubeconfig: PathBuf, args: &[&str]) -> Output {
    let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
    let env = [("KUBECONFIG".to_owned(), kubeconfig.display().to_string())];
    command::run(find_binary().unwrap(), &args, &env, "", Duration::from_secs(30))
        .await
        .unwrap()
}

/// What is told of a stage on one pool. Pools of the same second come in any order.
fn on<'a>(stage: &'a Value, pool: &str) -> &'a Value {
    let mut pools = stage["pools"].as_array().into_iter().flatten();
    pools.find(|known| known["name"] == pool).unwrap_or(&Value::Null)
}

/// Words of the needs that readings show.
const SEEN: [&str; 4] = ["Rate", "Utilization", "Running", "Waiting"];

pub(crate) async fn a_loaded_stage_shows_what_was_read_and_learned_and_which_need_decided(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.space.nodes(&GRAVITON, 1).await;
    scene.tiered.cpu_pool("graviton", &[(SHAPE, "graviton")]).await;
    scene.price("graviton", "1.3").await;
    let mut stage = server("generate", 1, 2);
    // Half of what it can do at once: then two replicas are busy enough to say something about what one serves.
    stage["capacity"]["concurrency"] = json!(4);
    scene.tiered.create("chat", &[stage]).await;
    scene.tiered.ready("chat").await;
    let cluster = &scene.tiered.installed.cluster;
    let url = format!("http://127.0.0.1:{}", cluster.port(Port::Operator));
    let namespace = scene.tiered.namespace();
    let explain = async |more: &[&str]| {
        let args = [&["explain", "chat/generate", "-n", namespace, "--operator", &url], more].concat();
        tiercel(cluster.kubeconfig(), &args).await
    };
    // Two replicas more than half full, for as long as a sample of what they serve takes; no third one disturbs it.
    let load = scene.load("chat", &[(0, 12.0), (90, 12.0)]);
    let watch = async {
        let stage = eventually(
            PATIENCE,
            "the stage is explained with all that is learned of it",
            async || {
                let told = explain(&["-o", "json"]).await;
                let document: Value = serde_json::from_str(&told.stdout).map_err(|_| format!("{told:?}"))?;
                let stage = document["stages"][0].clone();
                let x86 = on(&stage, &scene.tiered.pool_name("x86"));
                let taught = x86["requestsPerSecond"]["samples"].as_u64() >= Some(1)
                    && x86["startupSeconds"]["samples"].as_u64() >= Some(1);
                if document["live"] == true && stage["trusted"] == true && taught {
                    Ok(stage)
                } else {
                    Err(document.to_string())
                }
            },
        );
        let (chosen, other) = (scene.tiered.pool_name("x86"), scene.tiered.pool_name("graviton"));
        let told = (
            stage.await.unwrap(),
            explain(&[]).await.stdout,
            explain(&["--pool", &chosen]).await.stdout,
            explain(&["--pool", &other]).await.stdout,
        );
        let unknown = explain(&["--pool", "none"]).await;
        assert_eq!(unknown.code, Some(3), "{unknown:?}");
        assert!(
            unknown.stderr.contains("knows a pool 'none'; there is '"),
            "{unknown:?}"
        );
        told
    };
    let (summary, (stage, text, chosen, other)) = tokio::join!(load, watch);
    assert!(summary.served > 300, "{summary:?}");

    read_and_trusted(&stage);
    let decided = stage["decided"].as_str().unwrap();
    assert!(SEEN.contains(&decided) || decided == "Recent", "{stage}");
    let needs = stage["needs"].as_array().unwrap();
    let asked = |need: &str| {
        needs
            .iter()
            .find(|one| one["need"] == need)
            .and_then(|one| one["asks"].as_f64())
    };
    assert!(asked(decided).unwrap() > 0.0, "{stage}");
    // What arrives, at a target of 75 %.
    let arrives = stage["signals"][0]["values"]
        .as_array()
        .unwrap()
        .iter()
        .find(|value| value["role"] == "throughput");
    let arrives = arrives.unwrap()["value"].as_f64().unwrap();
    let ratio = asked("Rate").unwrap() * 0.75 / arrives;
    assert!((0.7..1.4).contains(&ratio), "{stage}");
    let (x86, graviton) = (scene.tiered.pool_name("x86"), scene.tiered.pool_name("graviton"));
    let learned = &on(&stage, &x86)["requestsPerSecond"];
    assert_eq!(
        (&learned["declared"], &learned["range"]),
        (&json!(10.0), &json!([1.25, 80.0])),
        "{stage}"
    );

    for part in [
        "fresh",
        "decides",
        "requests/s of a replica",
        "seconds until Ready",
        "as the operator sees it",
    ] {
        assert!(text.contains(part), "'{part}' is missing:\n{text}");
    }
    let costs = |pool: &str| on(&stage, pool)["replica"]["costPerHour"].as_f64().unwrap();
    // A replica takes as much of a node that costs 1 as of one that costs 1.3.
    assert!((costs(&graviton) / costs(&x86) - 1.3).abs() < 0.01, "{stage}");
    told_of_both(&chosen, &other);
    assert!(text.is_ascii(), "no colour, no signs that a terminal may lack:\n{text}");
}

/// All pods answered just now, in the roles that the preset has.
fn read_and_trusted(stage: &Value) {
    let signal = &stage["signals"][0];
    assert_eq!(
        (&signal["preset"], &signal["source"]),
        (&json!("vllm"), &json!("pods")),
        "{stage}"
    );
    assert_eq!(
        (&signal["state"], &signal["gaps"]),
        (&json!("fresh"), &json!([])),
        "{stage}"
    );
    assert_eq!(signal["pods"]["sampled"], signal["pods"]["expected"], "{stage}");
    let oldest = signal["oldestSeconds"].as_f64().unwrap();
    assert!(
        oldest < 5.0 && signal["newestSeconds"].as_f64().unwrap() <= oldest,
        "{stage}"
    );
    let roles: BTreeSet<&str> = signal["values"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|value| value["role"].as_str())
        .collect();
    assert!(
        roles.is_superset(&BTreeSet::from(["queued", "running", "throughput"])),
        "{stage}"
    );
}

/// One pool was chosen, the other would have cost more.
fn told_of_both(chosen: &str, other: &str) {
    for (text, part) in [
        (chosen, "x86: chosen"),
        (chosen, "2 replicas wanted there, 2 asked for, 2 Ready"),
        (other, "graviton: not chosen"),
        // Two is what the stage may have.
        (other, "why not: the stage's bounds are reached"),
        (other, "all of the stage there: 2 replicas"),
    ] {
        assert!(text.contains(part), "'{part}' is missing:\n{text}");
    }
    // It is said of all pipelines together, and others may be short.
    let gaps = [
        "the plan is the cheapest there can be",
        "of all pipelines together the plan costs at most",
    ];
    assert!(gaps.iter().any(|gap| other.contains(gap)), "no gap is told:\n{other}");
}

pub(crate) async fn what_does_not_exist_or_may_not_be_seen_is_told_in_one_line(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    scene.tiered.create("chat", &[server("generate", 1, 2)]).await;
    scene.tiered.ready("chat").await;
    let cluster = &scene.tiered.installed.cluster;
    let namespace = scene.tiered.namespace();
    let refused = async |kubeconfig: PathBuf, args: &[&str], code: i32, says: &[&str]| {
        let told = tiercel(kubeconfig, &[args, &["-n", namespace]].concat()).await;
        assert_eq!(told.code, Some(code), "{told:?}");
        assert_eq!((told.stdout.as_str(), told.stderr.lines().count()), ("", 1), "{told:?}");
        for part in says {
            assert!(told.stderr.contains(part), "'{part}' is missing: {told:?}");
        }
    };
    let admin = cluster.kubeconfig();
    refused(
        admin.clone(),
        &["explain", "chart"],
        3,
        &["no pipeline 'chart'", "there is 'chat'"],
    )
    .await;
    refused(
        admin.clone(),
        &["why", "chat", "embed"],
        3,
        &["no stage 'embed'", "there is 'generate'"],
    )
    .await;
    refused(admin.clone(), &["explain", "chat/a/b"], 2, &["NAME/STAGE"]).await;
    refused(
        admin.clone(),
        &["explain", "chat", "--context", "none"],
        6,
        &["--context"],
    )
    .await;
    let nobody = cluster.kubeconfig_as(namespace, "default").await.unwrap();
    refused(nobody, &["explain", "chat"], 4, &["not permitted", "tieredpipelines"]).await;
    // The same cluster, but nobody listens.
    let config = std::fs::read_to_string(&admin)
        .unwrap()
        .replace(&cluster.server(), "https://127.0.0.1:1");
    let away = cluster.folder().join(format!("{namespace}-away.kubeconfig"));
    std::fs::write(&away, config).unwrap();
    refused(away, &["explain", "chat"], 6, &["https://127.0.0.1:1", "refused"]).await;

    // Without the operator the status says what it knows, and why that is not more.
    let recorded = async |args: &[&str], why: &str| {
        let told = tiercel(
            cluster.kubeconfig(),
            &[&["explain", "chat", "-n", namespace], args].concat(),
        )
        .await;
        assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{told:?}");
        let words = told.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(why), "'{why}' is missing: {told:?}");
        assert!(words.contains(&scene.tiered.pool_name("x86")), "{told:?}");
    };
    recorded(&["--operator", "http://127.0.0.1:1"], "refused").await;
    recorded(&[], "no pod with the labels").await;
    // The API server takes the question as far as the pod: it asks no pod at a loopback address.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "stand-in", "namespace": namespace, "labels": {"stands": "in"}},
        "spec": {
            "nodeSelector": {"tiercel.test/space": namespace},
            "containers": [{"name": "operator", "image": "registry.example.com/server:1",
                "ports": [{"name": "metrics", "containerPort": 8080}]}],
        },
    });
    cluster.kubectl().apply(&pod.to_string()).await.unwrap();
    eventually(PATIENCE, "the stand-in runs", async || {
        let pod = cluster
            .kubectl()
            .get(&["pod", "stand-in", "-n", namespace])
            .await
            .map_err(|error| error.to_string())?;
        if pod["status"]["phase"] == "Running" {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    })
    .await
    .unwrap();
    let through = ["--operator-namespace", namespace, "--operator-selector", "stands=in"];
    recorded(&through, "pod stand-in: address not allowed").await;
}
