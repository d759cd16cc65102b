//! Writes that must wait: an API server that has no time for those of replicas, and an operator that may write little. On
//! clusters of their own, because these limits are for all.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use libtest_mimic::Trial;
use serde_json::json;
use tiercel_e2e::controlplane::{Cluster, Options};
use tiercel_e2e::nodes::{self, X86};
use tiercel_e2e::slot::Port;
use tiercel_e2e::wait::eventually;

use crate::behaviour::{SHAPE, Scene, claimed, server};
use crate::quickstart::as_hinted;
use crate::suite::Suite;
use crate::support::{Installed, NAMESPACE, PATIENCE, Tiered, file};

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 2] {
    crate::scenarios![suite, behaviour_busy:
        first_placements_stand_however_slowly_they_are_written,
        writes_that_a_busy_api_server_refuses_get_fewer_and_all_of_them_arrive,
    ]
}

const PIPELINES: [&str; 6] = ["one", "two", "three", "four", "five", "six"];
const STAGES: [&str; 4] = ["a", "b", "c", "d"];
/// The API server's own name for the place of our writes in its queues.
const LEVEL: &str = "tiercel-replicas";
/// Metrics are text of some kilobytes.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// One write of replicas at a time, and whatever comes meanwhile is refused at once.
fn one_at_a_time() -> String {
    let level = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": LEVEL},
        "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 1, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        }},
    });
    let flow = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": LEVEL},
        "spec": {
            "priorityLevelConfiguration": {"name": LEVEL},
            "matchingPrecedence": 150,
            "rules": [{
                "subjects": [{"kind": "ServiceAccount", "serviceAccount": {"namespace": NAMESPACE, "name": "tiercel"}}],
                "resourceRules": [{
                    "verbs": ["patch"], "apiGroups": ["apps"], "resources": ["deployments/scale"], "namespaces": ["*"],
                }],
            }],
        },
    });
    format!("{level}\n---\n{flow}")
}

/// What the operator's metrics say, added up over the series whose line holds all of `parts`.
async fn metric(cluster: &Cluster, parts: &[&str]) -> f64 {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let uri = format!("http://127.0.0.1:{}/metrics", cluster.port(Port::Operator));
    let answer = client.get(uri.parse().unwrap()).await.unwrap();
    let page = Limited::new(answer.into_body(), PAGE_BYTES_MAX)
        .collect()
        .await
        .unwrap()
        .to_bytes();
    let page = String::from_utf8_lossy(&page);
    let lines = page.lines().filter(|line| parts.iter().all(|part| line.contains(part)));
    lines
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum()
}

/// Twenty-four stages need their second replica in the same second.
pub(crate) async fn writes_that_a_busy_api_server_refuses_get_fewer_and_all_of_them_arrive(suite: &Suite) {
    let options = Options {
        audit: true,
        inflight: Some((80, 40)),
        ..Options::default()
    };
    let cluster = Cluster::start(&suite.tools().await, options).await.unwrap();
    let installed = Arc::new(Installed::on(Arc::new(cluster), "").await.unwrap());
    let mut scene = Scene::apart(suite, &installed, &[]).await;
    let (cluster, namespace) = (&installed.cluster, scene.tiered.namespace().to_owned());
    scene.tiered.space.nodes(&X86, 6).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let queues = |waiting: f64| {
        for queue in PIPELINES
            .iter()
            .flat_map(|pipeline| STAGES.map(|stage| format!("{pipeline}.{stage}")))
        {
            installed.prometheus.queue(&namespace, &queue, Some((waiting, 0.0)));
        }
    };
    queues(0.0);
    for name in PIPELINES {
        let stages = STAGES.map(|stage| {
            let mut stage = server(stage, 1, 2);
            stage["signal"]["preset"] = json!("broker");
            stage
        });
        scene.tiered.create(name, &stages).await;
    }
    for name in PIPELINES {
        let what = format!("replicas of '{name}' are the operator's");
        eventually(PATIENCE, what, async || claimed(&scene.tiered, name).await)
            .await
            .unwrap();
        for stage in STAGES {
            scene.settles(name, stage, &[("x86", 1)]).await;
        }
    }
    cluster.kubectl().apply(&one_at_a_time()).await.unwrap();
    let seats = format!("apiserver_flowcontrol_nominal_limit_seats{{priority_level=\"{LEVEL}\"}} 1");
    eventually(PATIENCE, "the limit is in force", async || {
        let page = cluster.kubectl().run(&["get", "--raw", "/metrics"]).await;
        let page = page.map_err(|error| error.to_string())?;
        if page.lines().any(|line| line == seats) {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await
    .unwrap();
    scene.scaled();
    let throttled = ["tiercel_api_throttle_wait_seconds_total{", "client=\"fast\""];
    let waited_before = metric(cluster, &throttled).await;

    // Two replicas' slots at the target.
    queues(10.0);
    let began = scene.observer.elapsed();
    for (name, stage) in PIPELINES.iter().flat_map(|name| STAGES.map(|stage| (name, stage))) {
        scene.settles(name, stage, &[("x86", 2)]).await;
    }
    let took = scene.observer.elapsed() - began;

    let writes = scene.scaled();
    let of_code = |code: u16| writes.iter().filter(|it| it.verb == "patch" && it.code == code).count();
    let (written, refused) = (of_code(200), of_code(429));
    // Those that came at once could not know yet.
    let mut once = HashSet::new();
    let again = writes
        .iter()
        .filter(|it| it.code == 429 && !once.insert(&it.name))
        .count();
    let waited = metric(cluster, &throttled).await - waited_before;
    let told = format!(
        "{written} written, {refused} refused, {again} of them again, within {took:?}; writes waited {waited:.1} s"
    );
    eprintln!("{told}");
    assert_eq!(written, PIPELINES.len() * STAGES.len(), "{told}");
    assert!(refused > 0, "{told}");
    let counted = metric(
        cluster,
        &["tiercel_api_requests_total{", "client=\"fast\"", "code=\"429\""],
    )
    .await;
    let refusals = f64::from(u32::try_from(refused).unwrap());
    assert!(
        (counted - refusals).abs() < 0.5,
        "the operator counts {counted}: {told}"
    );
    // The server was heard: what had not been sent yet waited, and what was refused did not come back all at once.
    assert!(waited > 1.0, "{told}");
    assert!(again <= written / 2, "a storm: {told}");
    assert!(took < Duration::from_secs(45), "{told}");
    scene.bounds_held();
    installed.operator().stop();
    installed.cluster.stop();
}

/// Of each pipeline eight Deployments are written at once, and the next wait for those of five others: a quarter of a minute in
/// which nothing of a stage comes.
pub(crate) async fn first_placements_stand_however_slowly_they_are_written(suite: &Suite) {
    let cluster = Cluster::start(&suite.tools().await, Options::default()).await.unwrap();
    let installed = Installed::on(Arc::new(cluster), "kubeWritesPerSecond: 3\n")
        .await
        .unwrap();
    let installed = Arc::new(installed);
    let space = suite
        .space_on(&installed.cluster, &[("startup-milliseconds", "100")])
        .await;
    let tiered = Tiered {
        space,
        installed: Arc::clone(&installed),
    };
    for shape in ["graviton", "x86", "l4-spot", "h100", "inferentia2"] {
        tiered.space.nodes(nodes::shape(shape).unwrap(), 6).await;
    }
    tiered.apply_yaml(&file("config/samples/pools.yaml")).await;
    for pool in ["graviton", "x86", "l4-spot", "h100", "inferentia"] {
        tiered.pool_counts(pool, 6).await;
    }
    let sample = file("config/samples/support-agent.yaml");
    for name in PIPELINES {
        tiered
            .apply_yaml(&sample.replace("name: support-agent", &format!("name: {name}")))
            .await;
    }
    for name in PIPELINES {
        let status = tiered.ready(name).await.status.unwrap();
        as_hinted(&tiered, &status);
        assert_eq!(status.decisions, [], "'{name}' was decided upon before it stood");
    }
    installed.operator().stop();
    installed.cluster.stop();
}
