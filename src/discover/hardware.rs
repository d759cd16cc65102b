//! What a node's labels and resources say of its hardware, by the presets of the providers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;

use super::prices::Prices;
use crate::api::compute_pool::{Architecture, CapacityType};
use crate::api::labels;

/// Label of the instance type, on every provider.
pub(super) const INSTANCE: &str = "node.kubernetes.io/instance-type";

/// Labels that say how a node is bought, and what their values mean. The first that a node has counts.
pub(super) const BOUGHT: [(&str, &[(&str, CapacityType)]); 5] = [
    (
        "karpenter.sh/capacity-type",
        &[
            ("spot", CapacityType::Spot),
            ("on-demand", CapacityType::OnDemand),
            ("reserved", CapacityType::Reserved),
        ],
    ),
    (
        "eks.amazonaws.com/capacityType",
        &[
            ("SPOT", CapacityType::Spot),
            ("ON_DEMAND", CapacityType::OnDemand),
            ("CAPACITY_BLOCK", CapacityType::Reserved),
        ],
    ),
    ("cloud.google.com/gke-spot", &[("true", CapacityType::Spot)]),
    ("kubernetes.azure.com/scalesetpriority", &[("spot", CapacityType::Spot)]),
    ("kubernetes.azure.com/priority", &[("spot", CapacityType::Spot)]),
];

/// Resources under which nodes offer devices. The first that a node has counts.
const DEVICES: [&str; 7] = [
    "nvidia.com/gpu",
    "amd.com/gpu",
    "aws.amazon.com/neuron",
    "google.com/tpu",
    "habana.ai/gaudi",
    "gpu.intel.com/xe",
    "gpu.intel.com/i915",
];

/// Labels that name a device: with the resource that it belongs to.
pub(super) const PRODUCTS: [(&str, &str); 9] = [
    ("nvidia.com/gpu.product", "nvidia.com/gpu"),
    ("karpenter.k8s.aws/instance-gpu-name", "nvidia.com/gpu"),
    ("cloud.google.com/gke-accelerator", "nvidia.com/gpu"),
    ("karpenter.azure.com/sku-gpu-name", "nvidia.com/gpu"),
    ("kubernetes.azure.com/accelerator", "nvidia.com/gpu"),
    ("karpenter.k8s.aws/instance-gpu-name", "amd.com/gpu"),
    ("karpenter.azure.com/sku-gpu-name", "amd.com/gpu"),
    ("karpenter.k8s.aws/instance-accelerator-name", "aws.amazon.com/neuron"),
    ("cloud.google.com/gke-tpu-accelerator", "google.com/tpu"),
];

/// Label of a TPU slice's shape: nodes of one kind in several shapes are several pools.
pub(super) const TPU_TOPOLOGY: &str = "cloud.google.com/gke-tpu-topology";

/// Labels of the group that whoever made the node put it in, for nodes without an instance type.
pub(super) const GROUPS: [&str; 5] = [
    "karpenter.sh/nodepool",
    "eks.amazonaws.com/nodegroup",
    "cloud.google.com/gke-nodepool",
    "kubernetes.azure.com/agentpool",
    "agentpool",
];

/// What makes two nodes the same to a replica.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hardware {
    /// Resource of the device, if there is one.
    pub(super) device: Option<String>,
    /// Name of the hardware for profiles of stages.
    pub(super) class: String,
    /// Processor architecture.
    pub(super) architecture: Architecture,
    /// Instance type, if a label says it.
    pub(super) instance: Option<String>,
    /// Shape of a TPU slice.
    pub(super) topology: Option<String>,
    /// How it is bought.
    pub(super) bought: Bought,
}

/// How a node is bought, in the order of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bought {
    /// By the hour.
    OnDemand,
    /// Paid for whether used or not.
    Reserved,
    /// May be taken away.
    Spot,
}

impl Bought {
    /// As pools say it.
    pub(super) const fn capacity_type(self) -> CapacityType {
        match self {
            Self::OnDemand => CapacityType::OnDemand,
            Self::Reserved => CapacityType::Reserved,
            Self::Spot => CapacityType::Spot,
        }
    }
}

/// Why a node is in no pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(super) enum Apart {
    /// It belongs to the control plane.
    #[error("belongs to the control plane")]
    ControlPlane,
    /// It is kept for the provider's own pods.
    #[error("is kept for system pods (taint 'CriticalAddonsOnly')")]
    System,
    /// There is no machine behind it.
    #[error("is virtual: pods there share no node")]
    Virtual,
    /// It does not run Linux.
    #[error("does not run Linux")]
    Windows,
    /// It has an accelerator that nobody can ask for.
    #[error("seems to have an accelerator ({0}), but offers no device: is the device plug-in running there?")]
    NoDevice(String),
    /// Its architecture is none that images are placed by.
    #[error("has the architecture '{0}', which pools do not know")]
    Architecture(String),
}

/// Labels of a node.
pub(super) fn labels_of(node: &Node) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    node.metadata.labels.as_ref().unwrap_or(&NONE)
}

/// What a node is.
pub(super) fn hardware(node: &Node, prices: &Prices) -> Result<Hardware, Apart> {
    let all = labels_of(node);
    let label = |key: &str| all.get(key).map(String::as_str).filter(|value| !value.is_empty());
    apart(node)?;
    let arch = label(labels::ARCHITECTURE).or_else(|| {
        let info = node.status.as_ref()?.node_info.as_ref()?;
        Some(info.architecture.as_str())
    });
    let arch = arch.unwrap_or_default();
    let architecture = Architecture::from_label(arch).ok_or_else(|| Apart::Architecture(arch.to_owned()))?;
    let instance = label(INSTANCE);
    let device = device(node);
    if device.is_none() {
        let product = PRODUCTS.iter().find_map(|(key, _)| label(key));
        let known = instance.and_then(|instance| prices.class(instance));
        if let Some(product) = product.or(known) {
            return Err(Apart::NoDevice(product.to_owned()));
        }
    }
    let class = match &device {
        None => processor(architecture, instance),
        Some(resource) => {
            let product = PRODUCTS
                .iter()
                .filter(|(_, of)| of == resource)
                .find_map(|(key, _)| label(key));
            let known = instance
                .and_then(|instance| prices.class(instance))
                .map(ToOwned::to_owned);
            // A slice of a device is another thing than the device that the instance type has.
            match product {
                Some(product) if known.is_none() || product.contains("-MIG-") => accelerator(resource, product),
                // Of Neuron the family is the product; of GPUs it says nothing.
                _ => known.unwrap_or_else(|| {
                    let family = family(instance).filter(|_| resource == "aws.amazon.com/neuron");
                    accelerator(resource, family.unwrap_or_default())
                }),
            }
        }
    };
    let bought = BOUGHT.iter().find_map(|(key, values)| {
        let value = label(key)?;
        let (_, bought) = values.iter().find(|(known, _)| *known == value)?;
        Some(*bought)
    });
    Ok(Hardware {
        topology: label(TPU_TOPOLOGY)
            .filter(|_| device.as_deref() == Some("google.com/tpu"))
            .map(ToOwned::to_owned),
        device,
        class,
        architecture,
        instance: instance.map(ToOwned::to_owned),
        bought: match bought {
            None | Some(CapacityType::OnDemand) => Bought::OnDemand,
            Some(CapacityType::Reserved) => Bought::Reserved,
            Some(CapacityType::Spot) => Bought::Spot,
        },
    })
}

fn apart(node: &Node) -> Result<(), Apart> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    for taint in taints {
        match taint.key.as_str() {
            "node-role.kubernetes.io/control-plane" | "node-role.kubernetes.io/master" => {
                return Err(Apart::ControlPlane);
            }
            "CriticalAddonsOnly" => return Err(Apart::System),
            _ => {}
        }
    }
    let label = |key: &str| labels_of(node).get(key).map(String::as_str);
    if label("eks.amazonaws.com/compute-type") == Some("fargate") || label("type") == Some("virtual-kubelet") {
        return Err(Apart::Virtual);
    }
    match label("kubernetes.io/os") {
        None | Some("linux") => Ok(()),
        Some(_) => Err(Apart::Windows),
    }
}

/// The resource of the node's device.
fn device(node: &Node) -> Option<String> {
    let offered = node.status.as_ref()?.allocatable.as_ref()?;
    let some = |name: &str| offered.get(name).is_some_and(|quantity| quantity.0 != "0");
    let known = DEVICES.iter().find(|name| some(name)).map(|&name| name.to_owned());
    // With strategy `mixed` slices are resources of their own.
    known.or_else(|| {
        let slice = |name: &&String| name.starts_with("nvidia.com/mig-") && some(name);
        offered.keys().find(slice).cloned()
    })
}

/// How many devices a node offers.
pub(super) fn devices(node: &Node, resource: &str) -> u32 {
    let offered = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let count = offered.and_then(|offered| offered.get(resource));
    count.and_then(|count| count.0.parse().ok()).unwrap_or_default()
}

/// Part of an instance type before the size: `m8g` of `m8g.4xlarge`.
fn family(instance: Option<&str>) -> Option<&str> {
    instance.map(|instance| instance.split_once('.').map_or(instance, |(family, _)| family))
}

/// Class of a processor: what is sold under a name of its own, else the architecture.
fn processor(architecture: Architecture, instance: Option<&str>) -> String {
    let family = family(instance).unwrap_or_default();
    // Families of AWS: letters, the generation, `g` for Graviton, further letters.
    let generation = family.trim_start_matches(|letter: char| letter.is_ascii_lowercase());
    let mut rest = generation.chars();
    if let (Architecture::Arm64, true, Some(digit), Some('g')) = (
        architecture,
        instance.is_some_and(|instance| instance.contains('.')),
        rest.next().and_then(|digit| digit.to_digit(10)),
        rest.next(),
    ) {
        return match digit {
            6 => "aws-graviton2".to_owned(),
            7.. => format!("aws-graviton{}", digit - 4),
            _ => "arm64".to_owned(),
        };
    }
    architecture.as_str().to_owned()
}

/// Class of an accelerator: the vendor, and what the product is called without its trimmings.
fn accelerator(resource: &str, product: &str) -> String {
    let vendor = match resource {
        _ if resource.starts_with("nvidia.com/") => "nvidia",
        "amd.com/gpu" => "amd",
        "aws.amazon.com/neuron" => "aws",
        "google.com/tpu" => "google",
        "habana.ai/gaudi" => return "intel-gaudi".to_owned(),
        _ => "intel",
    };
    let product = clean(product);
    let mut name = product.as_str();
    for prefix in ["nvidia-", "amd-", "tesla-", "instinct-", "radeon-", "geforce-"] {
        name = name.strip_prefix(prefix).unwrap_or(name);
    }
    if let Some(profile) = resource.strip_prefix("nvidia.com/") {
        // A slice under a resource of its own.
        if profile.starts_with("mig-") {
            return clean(&format!("{vendor}-{}-{profile}", model(name)));
        }
    }
    let name = match name.split_once("-mig-") {
        Some((whole, slice)) => format!("{}-mig-{slice}", model(whole)),
        None if vendor == "google" => name.trim_end_matches("-podslice").trim_end_matches("-slice").to_owned(),
        None => model(name).to_owned(),
    };
    let name = match name.as_str() {
        "" if vendor == "google" => "tpu",
        "" if vendor == "aws" => "neuron",
        "" => "gpu",
        "tpu-v5-lite" => "tpu-v5e",
        "inf2" => "inferentia2",
        "inf1" | "inferentia" => "inferentia1",
        "trn1" | "trn1n" | "trainium" => "trainium1",
        "trn2" => "trainium2",
        name => name,
    };
    format!("{vendor}-{name}")
}

/// `h100` of `h100-80gb-hbm3`: the first word, if it is a model's number.
fn model(name: &str) -> &str {
    let first = name.split('-').next().unwrap_or_default();
    if first.chars().any(|letter| letter.is_ascii_digit()) {
        first
    } else {
        name
    }
}

/// What may stand in a class: lower-case letters, digits, dashes and dots.
fn clean(text: &str) -> String {
    let text: String = text
        .to_ascii_lowercase()
        .chars()
        .map(|letter| {
            let fits = letter.is_ascii_alphanumeric() || letter == '.';
            if fits { letter } else { '-' }
        })
        .take(50)
        .collect();
    text.trim_matches(['-', '.']).to_owned()
}
