//! The dashboard and the alerts, evaluated by a real Prometheus that scrapes the real operator under load.
//!
//! Ignored by default: Prometheus is minutes of Go. `make alerts` runs it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel::api::labels;
use tiercel_e2e::fleet::{Fault, Metrics, Target};
use tiercel_e2e::nodes::{L4, X86};
use tiercel_e2e::prometheus::{self, Server};
use tiercel_e2e::slot::Port;
use tiercel_e2e::wait::eventually;

use crate::behaviour::{SHAPE, Scene, either, serving};
use crate::plugin::tiercel;
use crate::suite::Suite;
use crate::support::{PATIENCE, cpu_pool, file, pipeline, repository};

const DASHBOARD: &str = "charts/tiercel/dashboards/tiercel-pipelines.json";
const RULES: &str = "charts/tiercel/rules/alerts.yaml";
/// Panels that may stay empty here, and why.
const EMPTY: [(&str, &str); 3] = [
    (
        "Watches that failed",
        "no watch breaks off while the API server is well",
    ),
    (
        "Waiting under our own limits",
        "two pipelines write less than the limits allow",
    ),
    ("Dry pools", "only pools that were dry within the time shown have a row"),
];

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 1] {
    crate::scenarios![suite, monitoring:
        every_expression_of_dashboard_and_alerts_is_answered_under_load,
    ]
    .map(|trial| trial.with_ignored_flag(true))
}

/// A stage on GPUs or CPUs that serves whoever calls the pipeline.
fn generate() -> Value {
    either("generate", 2, 6, &json!({"requestsPerSecond": "10", "concurrency": 8}))
}

/// The expression with the dashboard's variables as a person would have them chosen.
fn chosen(expression: &str, namespace: &str) -> String {
    expression
        .replace("$namespace", namespace)
        .replace("$pipeline", ".*")
        .replace("$__rate_interval", "15s")
        .replace("$__range", "5m")
}

/// Whether any series of an answer has a number, however long ago within it.
fn has_numbers(answer: &Value) -> bool {
    let series = answer["data"]["result"].as_array().into_iter().flatten();
    let mut values = series.flat_map(|one| one["values"].as_array().into_iter().flatten());
    values.any(|value| value[1].as_str().is_some_and(|number| number != "NaN"))
}

pub(crate) async fn every_expression_of_dashboard_and_alerts_is_answered_under_load(suite: &Suite) {
    let programs = tokio::task::spawn_blocking(|| prometheus::find_or_build(|line| eprintln!("{line}")));
    let programs = programs.await.unwrap().unwrap();
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.space.nodes(&L4, 2).await;
    let mut x86 = cpu_pool("x86", &[(SHAPE, "x86")]);
    x86["spec"]["powerWattsPerNode"] = json!(400);
    scene.tiered.apply(x86).await;
    let l4 = json!({
        "apiVersion": "tiercel.dev/v1alpha1",
        "kind": "ComputePool",
        "metadata": {"name": "l4"},
        "spec": {
            "tier": "Accelerator",
            "nodeSelector": {SHAPE: "l4"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "device": {"resourceName": "nvidia.com/gpu"},
            "costPerNodeHour": "1",
            "powerWattsPerNode": 300,
        },
    });
    scene.tiered.apply(l4).await;
    let operator = scene.tiered.installed.cluster.port(Port::Operator);
    let mut prometheus = Server::start(&programs, operator, &repository().join(RULES))
        .await
        .unwrap();
    let ceilings = json!({(labels::MAX_COST_PER_HOUR): "80", (labels::MAX_POWER_WATTS): "200000"});
    scene.tiered.space.annotate(ceilings).await;
    let mut object = pipeline("chat", &[generate()]);
    object["spec"]["budget"] = json!({"maxCostPerHour": "50", "maxPowerWatts": 100_000});
    scene.tiered.apply(object).await;
    scene.tiered.ready("chat").await;
    // Another that prefers the two GPUs: they are short, so that the solver is asked and they have a price.
    let beside = either("answer", 1, 2, &json!({"requestsPerSecond": "10", "concurrency": 8}));
    scene.tiered.create("beside", &[beside]).await;

    // Up beyond the two GPUs, and down again; one second in which metrics pages cannot be read.
    let load = scene.load("chat", &[(0, 5.0), (5, 40.0), (25, 40.0), (27, 5.0), (70, 5.0)]);
    let disturb = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        scene.fleet.inject(Target::All, Fault::Metrics(Metrics::Unavailable));
        tokio::time::sleep(Duration::from_secs(3)).await;
        scene.fleet.heal(&Target::All);
    };
    let look = evaluated(&mut prometheus, scene.tiered.namespace());
    let (summary, (), ()) = tokio::join!(load, disturb, look);
    assert!(summary.served > 300, "{summary:?}");

    // What was spent by then, as `cost` sums it up: between what the least replicas and the most would have cost.
    let spent = tiercel(
        scene.tiered.installed.cluster.kubeconfig(),
        &[
            "cost",
            "chat",
            "-n",
            scene.tiered.namespace(),
            "--since",
            "2m",
            "--prometheus",
            &prometheus.url(),
            "--operator",
            &format!("http://127.0.0.1:{operator}"),
            "-o",
            "json",
        ],
    )
    .await;
    assert_eq!(spent.code, Some(0), "{spent:?}");
    let spent: Value = serde_json::from_str(&spent.stdout).unwrap();
    let line = &spent["lines"][0];
    let (least, spent) = (
        line["minimumPerHour"].as_f64().unwrap(),
        line["spent"].as_f64().unwrap(),
    );
    assert!(spent > least / 60.0 && spent < 50.0 / 30.0, "{line}");

    // Every rule was evaluated without an error, and nobody would have been woken.
    let rules = prometheus.ask("rules", &[]).await.unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap().iter();
    let rules: Vec<&Value> = groups.flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(rules.len() >= 17, "{rules:?}");
    for rule in rules {
        assert_eq!(
            (&rule["health"], &rule["lastError"]),
            (&json!("ok"), &Value::Null),
            "{rule}"
        );
        assert_ne!(rule["state"], "firing", "{rule}");
    }
}

/// Waits until every expression of the dashboard has had an answer with a number in it.
async fn evaluated(prometheus: &mut Server, namespace: &str) {
    let dashboard: Value = serde_json::from_str(&file(DASHBOARD)).unwrap();
    let mut open: Vec<(String, String)> = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = chosen(target["expr"].as_str().unwrap(), namespace);
            open.push((panel["title"].as_str().unwrap().to_owned(), expression));
        }
    }
    assert!(open.len() > 60, "{}", open.len());
    let prometheus = tokio::sync::Mutex::new(prometheus);
    let open = tokio::sync::Mutex::new(open);
    let all = eventually(PATIENCE, "every panel shows something", async || {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now_s = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let (from, to) = ((now_s - 120).to_string(), now_s.to_string());
        let mut open = open.lock().await;
        let mut left = Vec::new();
        for (title, expression) in open.drain(..) {
            let parameters = [
                ("query", &expression[..]),
                ("start", &from),
                ("end", &to),
                ("step", "2s"),
            ];
            let answer = prometheus.lock().await.ask("query_range", &parameters).await;
            let answer = answer.map_err(|error| error.to_string())?;
            assert_eq!(answer["status"], "success", "{title}: {expression}: {answer}");
            // What Prometheus finds odd, such as a rate over what is no counter.
            let odd = [&answer["warnings"], &answer["infos"]];
            assert_eq!(odd, [&Value::Null; 2], "{title}: {expression}");
            if !has_numbers(&answer) {
                left.push((title, expression));
            }
        }
        open.clone_from(&left);
        left.retain(|(title, _)| !EMPTY.iter().any(|(empty, _)| empty == title));
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:#?}"))
        }
    });
    all.await.unwrap();
    for (title, _) in open.lock().await.iter() {
        let why = EMPTY.iter().find(|(empty, _)| empty == title).map(|(_, why)| why);
        eprintln!("the panel '{title}' is empty: {}", why.unwrap());
    }
}
