//! Kubernetes' own autoscaler: CPU use, through the simulated kubelets and metrics-server, to the controller manager.

use std::time::{Duration, Instant};

use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::Failure;

/// CPU of one request in flight, millicores. A replica asks for ten of them, as a replica of the others takes ten requests.
const MILLIS_PER_REQUEST: u32 = 10;
/// Requests that a replica handles at once.
pub(super) const REQUESTS_PER_REPLICA: u32 = 10;
/// The autoscaler does nothing within a tenth of the target.
const TOLERANCE_PERCENT: u32 = 10;

/// A Deployment that no operator looks after, with one replica.
pub(super) fn deployment(name: &str) -> Result<Deployment, Failure> {
    let cpu = format!("{}m", MILLIS_PER_REQUEST * REQUESTS_PER_REPLICA);
    let resources = json!({"requests": {"cpu": cpu, "memory": "128Mi"}});
    let labels = json!({"app": name});
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{
                "name": "generate", "image": "registry.example.com/bench/generate:1", "resources": resources,
            }]}},
        },
    }))?)
}

/// An autoscaler that keeps CPU use at what is requested, everything else at its default.
pub(super) async fn create(client: &Client, namespace: &str, name: &str) -> Result<(), Failure> {
    let target = json!({"type": "Utilization", "averageUtilization": 100});
    let object: HorizontalPodAutoscaler = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1,
            "maxReplicas": 4,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }))?;
    let api = Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Deletes all autoscalers of a namespace.
pub(super) async fn delete_all(client: &Client, namespace: &str) -> Result<(), Failure> {
    let api = Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), namespace);
    api.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    Ok(())
}

/// Waits until so many autoscalers of a namespace have read their metric.
pub(super) async fn active(client: &Client, namespace: &str, wanted: usize, patience: Duration) -> Result<(), Failure> {
    let api = Api::<HorizontalPodAutoscaler>::namespaced(client.clone(), namespace);
    let start = Instant::now();
    loop {
        let all = api.list(&ListParams::default()).await?.items;
        let (ready, other): (Vec<_>, Vec<_>) = all.iter().partition(|it| is_active(it));
        if ready.len() >= wanted {
            return Ok(());
        }
        if start.elapsed() > patience {
            let why = other.first().map(|it| (it.name_any(), it.status.clone()));
            return Err(format!(
                "{} of {wanted} autoscalers of {namespace} are active: {why:?}",
                ready.len()
            )
            .into());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn is_active(it: &HorizontalPodAutoscaler) -> bool {
    let mut conditions = it.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "ScalingActive" && condition.status == "True")
}

/// Makes a pod use what so many requests need; returns when the API server has it. The kubelet shows it when it is asked.
pub(super) async fn set_load(client: &Client, namespace: &str, pod: &str, requests: u32) -> Result<Timestamp, Failure> {
    let usage = format!("{}m", requests * MILLIS_PER_REQUEST);
    let patch = json!({"metadata": {"annotations": {"kwok.x-k8s.io/usage-cpu": usage}}});
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    pods.patch_metadata(pod, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    Ok(Timestamp::now())
}

/// Names of Deployments of which the metrics API shows more use than one replica is meant to have.
pub(super) async fn overloaded(client: &Client, namespace: &str) -> Result<Vec<String>, Failure> {
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
    let all: Value = client.request(Request::get(path).body(Vec::new())?).await?;
    let limit = f64::from(MILLIS_PER_REQUEST * REQUESTS_PER_REPLICA * (100 + TOLERANCE_PERCENT) / 100) / 1e3;
    let mut use_by_app = std::collections::BTreeMap::<&str, f64>::new();
    for pod in all["items"].as_array().into_iter().flatten() {
        let cores = pod.pointer("/containers/0/usage/cpu").and_then(Value::as_str);
        let app = pod.pointer("/metadata/labels/app").and_then(Value::as_str);
        if let (Some(app), Some(cores)) = (app, cores.and_then(cores_of)) {
            *use_by_app.entry(app).or_default() += cores;
        }
    }
    let over = use_by_app.into_iter().filter(|(_, cores)| *cores > limit);
    Ok(over.map(|(app, _)| app.to_owned()).collect())
}

/// metrics-server writes CPU in nanocores, rarely in a larger unit.
fn cores_of(quantity: &str) -> Option<f64> {
    let digits = quantity.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let scale = match quantity.get(digits.len()..)? {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        _ => return None,
    };
    Some(digits.parse::<f64>().ok()? * scale)
}
