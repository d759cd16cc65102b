//! Nodes to simulate: the hardware that has to work as pools, as data, with its providers' labels, taints and devices.

use std::ops::Range;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams, ObjectList, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};

use crate::wait::{Late, eventually};

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

const BASE: Shape = Shape {
    name: "",
    instance: "",
    architecture: "amd64",
    vcpus: 0,
    memory_gib: 0,
    devices: &[],
    provider: Provider::Aws,
    labels: &[],
    taints: &[],
    spot: false,
    price: "",
};
const NVIDIA_TAINT: (&str, &str) = ("nvidia.com/gpu", "present");
const NEURON_TAINT: (&str, &str) = ("aws.amazon.com/neuron", "present");

/// AWS Graviton4.
pub const GRAVITON: Shape = Shape {
    name: "graviton",
    instance: "m8g.4xlarge",
    architecture: "arm64",
    vcpus: 16,
    memory_gib: 64,
    labels: &[
        ("karpenter.k8s.aws/instance-cpu-manufacturer", "aws"),
        ("karpenter.k8s.aws/instance-family", "m8g"),
    ],
    taints: &[("kubernetes.io/arch", "arm64")],
    price: "0.71808",
    ..BASE
};
/// Intel x86.
pub const X86: Shape = Shape {
    name: "x86",
    instance: "m7i.4xlarge",
    vcpus: 16,
    memory_gib: 64,
    labels: &[
        ("karpenter.k8s.aws/instance-cpu-manufacturer", "intel"),
        ("karpenter.k8s.aws/instance-family", "m7i"),
    ],
    price: "0.8064",
    ..BASE
};
/// NVIDIA L4.
pub const L4: Shape = Shape {
    name: "l4",
    instance: "g6.2xlarge",
    vcpus: 8,
    memory_gib: 32,
    devices: &[("nvidia.com/gpu", 1)],
    labels: &[
        ("nvidia.com/gpu.product", "NVIDIA-L4"),
        ("nvidia.com/gpu.count", "1"),
        ("nvidia.com/gpu.memory", "23034"),
        ("karpenter.k8s.aws/instance-gpu-name", "l4"),
    ],
    taints: &[NVIDIA_TAINT],
    price: "0.9776",
    ..BASE
};
/// NVIDIA L4 that may be taken back.
pub const L4_SPOT: Shape = Shape {
    name: "l4-spot",
    spot: true,
    price: "0.2415",
    ..L4
};
/// NVIDIA L40S.
pub const L40S: Shape = Shape {
    name: "l40s",
    instance: "g6e.xlarge",
    vcpus: 4,
    memory_gib: 32,
    devices: &[("nvidia.com/gpu", 1)],
    labels: &[
        ("nvidia.com/gpu.product", "NVIDIA-L40S"),
        ("nvidia.com/gpu.count", "1"),
        ("nvidia.com/gpu.memory", "46068"),
        ("karpenter.k8s.aws/instance-gpu-name", "l40s"),
    ],
    taints: &[NVIDIA_TAINT],
    price: "1.8610",
    ..BASE
};
/// NVIDIA A10G.
pub const A10G: Shape = Shape {
    name: "a10g",
    instance: "g5.2xlarge",
    vcpus: 8,
    memory_gib: 32,
    devices: &[("nvidia.com/gpu", 1)],
    labels: &[
        ("nvidia.com/gpu.product", "NVIDIA-A10G"),
        ("nvidia.com/gpu.count", "1"),
        ("nvidia.com/gpu.memory", "23028"),
        ("karpenter.k8s.aws/instance-gpu-name", "a10g"),
    ],
    taints: &[NVIDIA_TAINT],
    price: "1.2120",
    ..BASE
};
/// NVIDIA A100, eight of 40 GB.
pub const A100: Shape = Shape {
    name: "a100",
    instance: "p4d.24xlarge",
    vcpus: 96,
    memory_gib: 1152,
    devices: &[("nvidia.com/gpu", 8)],
    labels: &[
        ("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-40GB"),
        ("nvidia.com/gpu.count", "8"),
        ("nvidia.com/gpu.memory", "40960"),
        ("karpenter.k8s.aws/instance-gpu-name", "a100"),
    ],
    taints: &[NVIDIA_TAINT],
    price: "21.9576",
    ..BASE
};
/// NVIDIA H100, one of 80 GB.
pub const H100: Shape = Shape {
    name: "h100",
    instance: "p5.4xlarge",
    vcpus: 16,
    memory_gib: 256,
    devices: &[("nvidia.com/gpu", 1)],
    labels: &[
        ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3"),
        ("nvidia.com/gpu.count", "1"),
        ("nvidia.com/gpu.memory", "81559"),
        ("karpenter.k8s.aws/instance-gpu-name", "h100"),
    ],
    taints: &[NVIDIA_TAINT],
    price: "6.88",
    ..BASE
};
/// NVIDIA H200, eight of 141 GB.
pub const H200: Shape = Shape {
    name: "h200",
    instance: "p5en.48xlarge",
    vcpus: 192,
    memory_gib: 2048,
    devices: &[("nvidia.com/gpu", 8)],
    labels: &[
        ("nvidia.com/gpu.product", "NVIDIA-H200"),
        ("nvidia.com/gpu.count", "8"),
        ("nvidia.com/gpu.memory", "143771"),
        ("karpenter.k8s.aws/instance-gpu-name", "h200"),
    ],
    taints: &[NVIDIA_TAINT],
    price: "63.296",
    ..BASE
};
/// NVIDIA T4G on an Arm host.
pub const T4G: Shape = Shape {
    name: "t4g-arm",
    instance: "g5g.xlarge",
    architecture: "arm64",
    vcpus: 4,
    memory_gib: 8,
    devices: &[("nvidia.com/gpu", 1)],
    labels: &[
        ("nvidia.com/gpu.product", "NVIDIA-T4G"),
        ("nvidia.com/gpu.count", "1"),
        ("nvidia.com/gpu.memory", "15360"),
        ("karpenter.k8s.aws/instance-gpu-name", "t4g"),
    ],
    taints: &[NVIDIA_TAINT, ("kubernetes.io/arch", "arm64")],
    price: "0.4200",
    ..BASE
};
/// AMD Instinct MI300X, eight of 192 GB.
pub const MI300: Shape = Shape {
    name: "mi300",
    instance: "Standard_ND96isr_MI300X_v5",
    vcpus: 96,
    memory_gib: 1850,
    devices: &[("amd.com/gpu", 8)],
    provider: Provider::Azure,
    labels: &[
        ("kubernetes.azure.com/accelerator", "amd"),
        ("karpenter.azure.com/sku-gpu-name", "MI300X"),
    ],
    taints: &[("amd.com/gpu", "present")],
    price: "48.00",
    ..BASE
};
/// AWS Inferentia2.
pub const INFERENTIA2: Shape = Shape {
    name: "inferentia2",
    instance: "inf2.8xlarge",
    vcpus: 32,
    memory_gib: 128,
    devices: &[("aws.amazon.com/neuron", 1), ("aws.amazon.com/neuroncore", 2)],
    labels: &[("karpenter.k8s.aws/instance-accelerator-name", "inferentia2")],
    taints: &[NEURON_TAINT],
    price: "1.96786",
    ..BASE
};
/// AWS Trainium.
pub const TRAINIUM: Shape = Shape {
    name: "trainium",
    instance: "trn1.2xlarge",
    vcpus: 8,
    memory_gib: 32,
    devices: &[("aws.amazon.com/neuron", 1), ("aws.amazon.com/neuroncore", 2)],
    labels: &[("karpenter.k8s.aws/instance-accelerator-name", "trainium")],
    taints: &[NEURON_TAINT],
    price: "1.34375",
    ..BASE
};
/// Google TPU v5e, four chips.
pub const TPU: Shape = Shape {
    name: "tpu-v5e",
    instance: "ct5lp-hightpu-4t",
    vcpus: 112,
    memory_gib: 192,
    devices: &[("google.com/tpu", 4)],
    provider: Provider::Google,
    labels: &[
        ("cloud.google.com/gke-tpu-accelerator", "tpu-v5-lite-podslice"),
        ("cloud.google.com/gke-tpu-topology", "2x2"),
    ],
    taints: &[("google.com/tpu", "present")],
    price: "4.80",
    ..BASE
};
/// Intel Gaudi, eight cards.
pub const GAUDI: Shape = Shape {
    name: "gaudi",
    instance: "dl1.24xlarge",
    vcpus: 96,
    memory_gib: 768,
    devices: &[("habana.ai/gaudi", 8)],
    labels: &[("karpenter.k8s.aws/instance-accelerator-name", "gaudi")],
    taints: &[("habana.ai/gaudi", "present")],
    price: "13.10904",
    ..BASE
};

/// Every shape. AWS prices are on demand, Linux, us-east-1, from Karpenter's price table of 2026-07-20, except Gaudi's;
/// that one and those of spot L4, MI300 and TPU are sample values, not quotes.
pub const SHAPES: [Shape; 15] = [
    GRAVITON,
    X86,
    L4,
    L4_SPOT,
    L40S,
    A10G,
    A100,
    H100,
    H200,
    T4G,
    MI300,
    INFERENTIA2,
    TRAINIUM,
    TPU,
    GAUDI,
];

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
