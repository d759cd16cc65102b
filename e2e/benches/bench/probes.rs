//! Pipelines of one stage to step the load of, copies of their Deployments that are nobody's, and a bare client's PATCH.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tiercel_e2e::nodes::X86;

use crate::Failure;
use crate::audit::{Log, millis};
use crate::ground::Ground;
use crate::servers::Servers;

/// Requests in a stage: for one replica, and for two, at ten requests a replica.
pub(crate) const LOW: u32 = 5;
pub(crate) const HIGH: u32 = 15;
/// For what follows a step within seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn name(at: usize) -> String {
    format!("probe-{at:02}")
}

pub(crate) fn pool() -> Value {
    json!({
        "apiVersion": "tiercel.dev/v1alpha1",
        "kind": "ComputePool",
        "metadata": {"name": "bench"},
        "spec": {"tier": "CPU", "architecture": "amd64", "costPerNodeHour": "0.8064",
                 "nodeSelector": {"node.kubernetes.io/instance-type": X86.instance}},
    })
}

/// One stage that grows and shrinks at once: no window, no limit but the one on shrinking per minute.
pub(crate) fn pipeline(name: &str) -> Value {
    let resources = json!({"requests": {"cpu": "100m", "memory": "128Mi"}});
    let ports = json!([{"name": "http", "containerPort": 8000}]);
    json!({
        "apiVersion": "tiercel.dev/v1alpha1",
        "kind": "TieredPipeline",
        "metadata": {"name": name},
        "spec": {"stages": [{
            "name": "generate",
            "kind": "Inference",
            "container": {"image": "registry.example.com/bench/generate:1", "ports": ports, "resources": resources},
            "capacity": {"concurrency": 10},
            "replicas": {"min": 1, "max": 4},
            "signal": {"preset": "vllm", "targetPercent": 100},
            "scaling": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        }]},
    })
}

/// Names of the Deployments, in the order of the pipelines.
pub(crate) async fn children(ground: &Ground, space: &str, pipelines: usize) -> Result<Vec<String>, Failure> {
    let all = Api::<Deployment>::namespaced(ground.client.clone(), space)
        .list(&ListParams::default())
        .await?;
    let of = |pipeline: &str| {
        let mut mine = all
            .items
            .iter()
            .filter(|it| it.labels().get("tiercel.dev/pipeline").is_some_and(|is| is == pipeline));
        mine.next()
            .map(ResourceExt::name_any)
            .ok_or_else(|| format!("pipeline {pipeline} has no Deployment"))
    };
    Ok((0..pipelines).map(|at| of(&name(at))).collect::<Result<_, _>>()?)
}

/// Copies of the operator's Deployments that are nobody's.
pub(crate) async fn bare(ground: &Ground, from: &str, to: &str, children: &[String]) -> Result<(), Failure> {
    let mut copies = Vec::new();
    for child in children {
        let live = ground.cluster.kubectl().get(&["deployment", child, "-n", from]).await?;
        let spec: Value = serde_json::from_str(&live["spec"].to_string().replace("tiercel.dev/", "bare.example/"))?;
        let mut copy =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": child}, "spec": spec});
        // Its ServiceAccount is the pipeline's.
        if let Some(pod) = copy.pointer_mut("/spec/template/spec").and_then(Value::as_object_mut) {
            pod.remove("serviceAccountName");
            pod.remove("serviceAccount");
        }
        copies.push(copy);
    }
    ground.apply(to, &copies).await
}

/// Until every one of so many pipelines has so many Ready pods.
pub(crate) async fn ready(
    servers: &Servers,
    pipelines: usize,
    replicas: usize,
    patience: Duration,
) -> Result<(), Failure> {
    let start = Instant::now();
    while let Some(at) = (0..pipelines).find(|&at| servers.ready(&name(at)) != replicas) {
        if start.elapsed() > patience {
            return Err(format!(
                "{} has {} pods instead of {replicas}",
                name(at),
                servers.ready(&name(at))
            )
            .into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A bare client's PATCH: as the client saw it, milliseconds, and from its start to the server's answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bare {
    pub(crate) client_ms: f64,
    pub(crate) answered_ms: f64,
}

pub(crate) async fn bare_patch(
    api: &Api<Deployment>,
    log: &mut Log,
    name: &str,
    replicas: u32,
) -> Result<Bare, Failure> {
    log.read()?;
    let body = json!({"spec": {"replicas": replicas}});
    let (start, sent) = (Instant::now(), Timestamp::now());
    api.patch_scale(name, &PatchParams::default(), &Patch::Merge(&body))
        .await?;
    let client_ms = start.elapsed().as_secs_f64() * 1e3;
    loop {
        let requests = log.read()?;
        let mut mine = requests
            .iter()
            .filter(|request| request.name == name && request.user == "tiercel-e2e-admin");
        if let Some(patch) = mine.find(|request| request.verb == "patch" && request.resource == "deployments/scale") {
            return Ok(Bare {
                client_ms,
                answered_ms: millis(sent, patch.answered),
            });
        }
        if start.elapsed() > PATIENCE {
            return Err("a PATCH of the bare client is not in the audit log".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
