//! Nodes to simulate: the hardware that has to work as pools, with its providers' labels, taints and devices.

mod shapes;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams, ObjectList, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};

use crate::wait::{Late, eventually};

pub use shapes::*;

/// One kind of machine.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Short name, also the value of the provider's node pool label.
    pub name: &'static str,
    /// The provider's name of the machine.
    pub instance: &'static str,
    /// `amd64` or `arm64`.
    pub architecture: &'static str,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory, GiB.
    pub memory_gib: u32,
    /// Extended resources and how many of each.
    pub devices: &'static [(&'static str, u32)],
    /// Whose labels the node carries.
    pub provider: Provider,
    /// Labels beside those that every node of the provider has.
    pub labels: &'static [(&'static str, &'static str)],
    /// Taints with effect `NoSchedule`: key and value.
    pub taints: &'static [(&'static str, &'static str)],
    /// Whether the capacity may be taken back.
    pub spot: bool,
    /// USD per hour, decimal; see [`SHAPES`] for the sources.
    pub price: &'static str,
}

/// Whose conventions for labels a node follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// AWS with Karpenter.
    Aws,
    /// Google Kubernetes Engine.
    Google,
    /// Azure Kubernetes Service.
    Azure,
}

/// A shape by its name.
pub fn shape(name: &str) -> Option<&'static Shape> {
    SHAPES.iter().find(|shape| shape.name == name)
}

impl Shape {
    /// What pods may request of one node: the kubelet keeps about 110m CPU and 7 % of memory for itself.
    pub fn allocatable(&self) -> Value {
        self.resources(
            u64::from(self.vcpus) * 1000 - 110,
            u64::from(self.memory_gib) * 1024 * 93 / 100,
        )
    }

    fn capacity(&self) -> Value {
        self.resources(u64::from(self.vcpus) * 1000, u64::from(self.memory_gib) * 1024)
    }

    fn resources(&self, millicpus: u64, memory_mib: u64) -> Value {
        let mut resources = Map::from_iter([
            ("cpu".into(), json!(format!("{millicpus}m"))),
            ("memory".into(), json!(format!("{memory_mib}Mi"))),
            ("ephemeral-storage".into(), json!("200Gi")),
            ("pods".into(), json!("110")),
        ]);
        resources.extend(
            self.devices
                .iter()
                .map(|&(device, count)| (device.into(), json!(count.to_string()))),
        );
        resources.into()
    }

    /// Labels of the node `name`, number `index` of its set (sets spread over three zones).
    pub fn node_labels(&self, name: &str, index: usize) -> Map<String, Value> {
        let zone = ["a", "b", "c"].get(index % 3).copied().unwrap_or("a");
        let (region, pool, spot): (_, _, &[(&str, &str)]) = match (self.provider, self.spot) {
            (Provider::Aws, false) => (
                "us-east-1",
                "karpenter.sh/nodepool",
                &[("karpenter.sh/capacity-type", "on-demand")],
            ),
            (Provider::Aws, true) => (
                "us-east-1",
                "karpenter.sh/nodepool",
                &[("karpenter.sh/capacity-type", "spot")],
            ),
            (Provider::Google, false) => ("us-central1", "cloud.google.com/gke-nodepool", &[]),
            (Provider::Google, true) => (
                "us-central1",
                "cloud.google.com/gke-nodepool",
                &[("cloud.google.com/gke-spot", "true")],
            ),
            (Provider::Azure, false) => ("eastus", "kubernetes.azure.com/agentpool", &[]),
            (Provider::Azure, true) => (
                "eastus",
                "kubernetes.azure.com/agentpool",
                &[("kubernetes.azure.com/scalesetpriority", "spot")],
            ),
        };
        let zone = if self.provider == Provider::Aws {
            format!("{region}{zone}")
        } else {
            format!("{region}-{zone}")
        };
        let common = [
            ("kubernetes.io/hostname", name),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", self.architecture),
            ("node.kubernetes.io/instance-type", self.instance),
            ("topology.kubernetes.io/region", region),
            ("topology.kubernetes.io/zone", &zone),
            (pool, self.name),
        ];
        common
            .iter()
            .chain(spot)
            .chain(self.labels)
            .map(|&(key, value)| (key.to_owned(), json!(value)))
            .collect()
    }
}

/// Why nodes are not as wanted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("node {name}: {source}")]
    Api { name: String, source: kube::Error },
    #[error("cannot make a node of this: {0}")]
    Shape(#[from] serde_json::Error),
    #[error(transparent)]
    Late(#[from] Late),
}

/// Creates the nodes `<set>-<number>` for every number of `numbers`, with further `labels`, and waits until they are
/// Ready. Returns their names.
pub async fn create(
    client: &Client,
    shape: &Shape,
    set: &str,
    numbers: Range<usize>,
    labels: &[(&str, &str)],
) -> Result<Vec<String>, Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let names: Vec<_> = numbers.clone().map(|number| format!("{set}-{number}")).collect();
    try_join_all(numbers.zip(&names).map(async |(number, name)| {
        let node = node(shape, name, number, labels)?;
        let created = nodes.create(&PostParams::default(), &node).await;
        created.map(drop).map_err(|source| Error::Api {
            name: name.clone(),
            source,
        })
    }))
    .await?;
    ready(client, &names).await?;
    Ok(names)
}

fn node(shape: &Shape, name: &str, number: usize, labels: &[(&str, &str)]) -> Result<Node, serde_json::Error> {
    let mut all_labels = shape.node_labels(name, number);
    all_labels.extend(labels.iter().map(|&(key, value)| (key.to_owned(), json!(value))));
    let taints: Vec<_> = shape
        .taints
        .iter()
        .map(|(key, value)| json!({"key": key, "value": value, "effect": "NoSchedule"}))
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": all_labels,
            "annotations": {"metrics.k8s.io/resource-metrics-path": format!("/metrics/nodes/{name}/metrics/resource")},
        },
        "spec": {"taints": taints},
        "status": {"capacity": shape.capacity(), "allocatable": shape.allocatable()},
    }))
}

/// Waits until all of `names` are Ready and free of the taints that new nodes start with.
pub async fn ready(client: &Client, names: &[String]) -> Result<(), Late> {
    let nodes: Api<Node> = Api::all(client.clone());
    eventually(Duration::from_mins(1), "the nodes are Ready", async || {
        let list = nodes
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let waiting: Vec<_> = names.iter().filter(|name| !is_ready(&list, name)).cloned().collect();
        if waiting.is_empty() {
            Ok(())
        } else {
            Err(format!("not Ready: {}", waiting.join(", ")))
        }
    })
    .await
}

fn is_ready(list: &ObjectList<Node>, name: &str) -> bool {
    list.items
        .iter()
        .filter(|node| node.metadata.name.as_deref() == Some(name))
        .any(|node| {
            let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
            conditions
                .into_iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
                && !taints.any(|taint| taint.key == "node.kubernetes.io/not-ready")
        })
}

/// Cordons or uncordons a node.
pub async fn cordon(client: &Client, name: &str, cordoned: bool) -> Result<(), Error> {
    patch(client, name, &json!({"spec": {"unschedulable": cordoned}})).await
}

/// Adds a taint, or takes the taint with this key away when `effect` is `None`.
pub async fn taint(client: &Client, name: &str, key: &str, value: &str, effect: Option<&str>) -> Result<(), Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = nodes.get(name).await.map_err(|source| Error::Api {
        name: name.to_owned(),
        source,
    })?;
    let mut taints: Vec<Value> = Vec::new();
    for taint in node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .filter(|taint| taint.key != key)
    {
        taints.push(serde_json::to_value(taint)?);
    }
    taints.extend(effect.map(|effect| json!({"key": key, "value": value, "effect": effect})));
    patch(client, name, &json!({"spec": {"taints": taints}})).await
}

/// Makes a node report that it is not ready, or recover.
pub async fn fail(client: &Client, name: &str, failed: bool) -> Result<(), Error> {
    let fault = failed.then_some("not-ready");
    patch(
        client,
        name,
        &json!({"metadata": {"annotations": {"kwok.tiercel.dev/fault": fault}}}),
    )
    .await
}

/// Deletes a node, as a provider does when it takes a machine back.
pub async fn delete(client: &Client, name: &str) -> Result<(), Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let deleted = nodes.delete(name, &DeleteParams::default()).await;
    deleted.map(drop).map_err(|source| Error::Api {
        name: name.to_owned(),
        source,
    })
}

async fn patch(client: &Client, name: &str, patch: &Value) -> Result<(), Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let patched = nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.map(drop).map_err(|source| Error::Api {
        name: name.to_owned(),
        source,
    })
}
