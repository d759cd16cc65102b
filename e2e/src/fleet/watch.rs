//! Feeds the fleet from the pods of a cluster.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};

use super::pod::PodSpec;
use super::pods::Fleet;

const PIPELINE: &str = "tiercel.dev/pipeline";
const STAGE: &str = "tiercel.dev/stage";
const POOL: &str = "tiercel.dev/pool";

/// Keeps the fleet in step with all pods labelled `tiercel.dev/pipeline`, in every namespace, until it is dropped.
/// A lost watch is taken up again with back-off.
pub async fn watch_pods(fleet: Fleet, client: Client) {
    follow(fleet, Api::all(client)).await;
}

/// The same for one namespace only, so that several fleets share a cluster.
pub async fn watch_pods_in(fleet: Fleet, client: Client, namespace: &str) {
    follow(fleet, Api::namespaced(client, namespace)).await;
}

async fn follow(fleet: Fleet, pods: Api<Pod>) {
    let events = watcher(pods, watcher::Config::default().labels(PIPELINE)).default_backoff();
    pin_mut!(events);
    let mut known = HashSet::new();
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(pod)) => {
                listed.extend(pod.uid());
                known.extend(pod.uid());
                take_in(&fleet, &pod).await;
            }
            Ok(watcher::Event::InitDone) => {
                for uid in known.difference(&listed) {
                    fleet.remove(uid);
                }
                known.clone_from(&listed);
            }
            Ok(watcher::Event::Apply(pod)) => {
                known.extend(pod.uid());
                take_in(&fleet, &pod).await;
            }
            Ok(watcher::Event::Delete(pod)) => {
                let Some(uid) = pod.uid() else { continue };
                known.remove(&uid);
                // Deleted without grace, as the pod of a dead node is: nothing is finished any more.
                if pod.metadata.deletion_grace_period_seconds == Some(0) && is_forced(&pod) {
                    fleet.crash(&uid);
                } else {
                    fleet.remove(&uid);
                }
            }
            Err(error) => tracing::debug!(%error, "the watch on pods broke off and is taken up again"),
        }
    }
}

/// A pod that went through its grace period has it at 0 in the end as well, but its declared one is not 0.
fn is_forced(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .and_then(|s| s.termination_grace_period_seconds)
        .is_none_or(|s| s == 0)
}

async fn take_in(fleet: &Fleet, pod: &Pod) {
    if let Some(uid) = pod.uid().filter(|_| is_over(pod)) {
        fleet.crash(&uid);
        return;
    }
    if let Some(spec) = spec_of(pod)
        && let Err(error) = fleet.upsert(spec).await
    {
        tracing::warn!(%error, "a pod is not played");
    }
}

fn is_over(pod: &Pod) -> bool {
    matches!(
        pod.status.as_ref().and_then(|s| s.phase.as_deref()),
        Some("Failed" | "Succeeded")
    )
}

/// The pod as the fleet sees it; nothing while it has no address.
fn spec_of(pod: &Pod) -> Option<PodSpec> {
    let status = pod.status.as_ref()?;
    let ip: IpAddr = status.pod_ip.as_deref()?.parse().ok()?;
    let container = pod.spec.as_ref()?.containers.first()?;
    let port = container.ports.as_ref()?.first()?.container_port;
    let namespace = pod.namespace()?;
    let label = |key: &str| pod.labels().get(key).cloned();
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True");
    let cpu = container
        .resources
        .as_ref()
        .and_then(|r| r.requests.as_ref())
        .and_then(|r| r.get("cpu"));
    Some(PodSpec {
        uid: pod.uid()?,
        name: pod.name_any(),
        pipeline: format!("{namespace}/{}", label(PIPELINE)?),
        namespace,
        stage: label(STAGE)?,
        pool: label(POOL)?,
        address: SocketAddr::new(ip, u16::try_from(port).ok()?),
        ready: ready && pod.metadata.deletion_timestamp.is_none(),
        cpu_millis: cpu.and_then(|q| millis(&q.0)).unwrap_or(1_000),
    })
}

/// Thousandths of a core from the two forms that the API server writes CPU in: `2`, `1500m`.
fn millis(quantity: &str) -> Option<u32> {
    match quantity.strip_suffix('m') {
        Some(millis) => millis.parse().ok(),
        None => quantity.parse::<u32>().ok()?.checked_mul(1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(change: impl FnOnce(&mut serde_json::Value)) -> Pod {
        let mut value = serde_json::json!({
            "metadata": {"name": "p-0", "namespace": "agents", "uid": "u1",
                "labels": {PIPELINE: "support", STAGE: "generate", POOL: "l4"}},
            "spec": {"containers": [{"name": "main", "ports": [{"containerPort": 8000}],
                "resources": {"requests": {"cpu": "1500m"}}}]},
            "status": {"phase": "Running", "podIP": "127.64.0.7", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_ready_pod_is_played_at_its_address() {
        let spec = spec_of(&pod(|_| {})).unwrap();
        assert_eq!(spec.address, "127.64.0.7:8000".parse().unwrap());
        assert_eq!(
            (spec.pipeline.as_str(), spec.stage.as_str(), spec.pool.as_str()),
            ("agents/support", "generate", "l4")
        );
        assert_eq!((spec.ready, spec.cpu_millis), (true, 1_500));
    }

    #[test]
    fn a_leaving_or_unready_pod_is_not_ready_and_one_without_address_or_labels_is_unknown() {
        let unready = pod(|v| v["status"]["conditions"][0]["status"] = "False".into());
        assert!(!spec_of(&unready).unwrap().ready);
        let leaving = pod(|v| v["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
        assert!(!spec_of(&leaving).unwrap().ready);
        assert_eq!(spec_of(&pod(|v| v["status"]["podIP"] = serde_json::Value::Null)), None);
        assert_eq!(
            spec_of(&pod(
                |v| v["metadata"]["labels"] = serde_json::json!({PIPELINE: "support"})
            )),
            None
        );
        assert!(is_over(&pod(|v| v["status"]["phase"] = "Failed".into())));
    }

    #[test]
    fn cpu_requests_are_read_in_both_canonical_forms() {
        assert_eq!(millis("2"), Some(2_000));
        assert_eq!(millis("250m"), Some(250));
        assert_eq!(millis("lots"), None);
    }
}
