//! From `kubectl apply` of the sample to all pods Ready, beside bare Deployments of the same shape.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};
use tiercel_e2e::nodes::{GRAVITON, H100, INFERENTIA2, L4_SPOT, X86};

use crate::Failure;
use crate::ground::Ground;
use crate::numbers::{self, ratio, summary};
use crate::result::repository;

const ROUNDS: usize = 7;
/// Start-up of every simulated pod.
const POD_MS: u32 = 500;
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn run() -> Result<Value, Failure> {
    let nodes: [(_, _, _, &[(&str, &str)]); 5] = [
        (&GRAVITON, "graviton", 4, &[]),
        (&X86, "x86", 3, &[]),
        (&L4_SPOT, "l4-spot", 4, &[]),
        (&H100, "h100", 2, &[]),
        (&INFERENTIA2, "inferentia2", 2, &[]),
    ];
    let ground = Ground::start(&nodes).await?;
    let samples = repository().join("config/samples");
    ground
        .cluster
        .kubectl()
        .apply(&std::fs::read_to_string(samples.join("pools.yaml"))?)
        .await?;
    let sample = std::fs::read_to_string(samples.join("support-agent.yaml"))?;
    ground.quiet(Duration::from_secs(3), PATIENCE).await?;

    // Not measured: shows how many pods there will be, and what to copy.
    ground.namespace("sample", POD_MS).await?;
    ground.cluster.kubectl().apply_in("sample", &sample).await?;
    ground.quiet(Duration::from_secs(3), PATIENCE).await?;
    let pods = ground.pods("sample").await?.1;
    let copies = copies(&ground).await?;
    remove(&ground, "sample").await?;

    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = format!("sample-{round}");
        ground.namespace(&name, POD_MS).await?;
        ours.push(until_ready(&ground, &name, &sample, pods).await?);
        remove(&ground, &name).await?;
        let name = format!("bare-{round}");
        ground.namespace(&name, POD_MS).await?;
        bare.push(until_ready(&ground, &name, &copies, pods).await?);
        remove(&ground, &name).await?;
    }
    let beyond = |seconds: &[f64]| {
        let pod_s = f64::from(POD_MS) / 1e3;
        summary(&seconds.iter().map(|&all| (all - pod_s) * 1e3).collect::<Vec<_>>())
    };
    let (ours, bare) = (beyond(&ours), beyond(&bare));
    println!(
        "ratio, sample / bare Deployments: p50 {:.2} ({:+.0} ms); {pods} pods, {POD_MS} ms of start-up taken off",
        ratio(ours.p50, bare.p50).unwrap_or_default(),
        ours.p50 - bare.p50
    );
    numbers::print("kubectl apply of the sample -> all pods Ready", "ms", ours);
    numbers::print("kubectl apply of the same as bare Deployments", "ms", bare);
    Ok(json!({
        "operator": ground.profile,
        "rounds": ROUNDS,
        "pods": pods,
        "pod_startup_ms": POD_MS,
        "ratio_p50": ratio(ours.p50, bare.p50),
        "sample_beyond_pod_startup_ms": ours,
        "bare_beyond_pod_startup_ms": bare,
    }))
}

/// Seconds from the start of kubectl until so many pods are Ready.
async fn until_ready(ground: &Ground, namespace: &str, yaml: &str, pods: usize) -> Result<f64, Failure> {
    let start = Instant::now();
    ground.cluster.kubectl().apply_in(namespace, yaml).await?;
    loop {
        let (ready, all) = ground.pods(namespace).await?;
        if ready >= pods {
            return Ok(start.elapsed().as_secs_f64());
        }
        if start.elapsed() > PATIENCE {
            return Err(
                format!("{ready} of {pods} pods are Ready in {namespace} after {PATIENCE:?} ({all} exist)").into(),
            );
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Takes everything away and waits until its capacity is free again.
async fn remove(ground: &Ground, namespace: &str) -> Result<(), Failure> {
    ground
        .cluster
        .kubectl()
        .run(&["delete", "namespace", namespace, "--wait=true"])
        .await?;
    ground.quiet(Duration::from_secs(2), PATIENCE).await?;
    Ok(())
}

/// The operator's Deployments with replicas, as a manifest that means nothing to the operator.
async fn copies(ground: &Ground) -> Result<String, Failure> {
    let all = Api::<Deployment>::namespaced(ground.client.clone(), "sample")
        .list(&ListParams::default())
        .await?;
    let mut items = Vec::new();
    for live in all.items {
        let text = serde_json::to_string(&live.spec)?.replace("tiercel.dev/", "bare.example/");
        let mut spec: Value = serde_json::from_str(&text)?;
        if spec["replicas"] == 0 {
            continue;
        }
        // Its ServiceAccount is the pipeline's.
        if let Some(pod) = spec.pointer_mut("/template/spec").and_then(Value::as_object_mut) {
            pod.remove("serviceAccountName");
            pod.remove("serviceAccount");
        }
        let metadata = json!({"name": live.metadata.name});
        items.push(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}));
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
}
