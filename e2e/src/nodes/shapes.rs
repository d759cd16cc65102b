//! The hardware, as data.

use super::{Provider, Shape};

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
/// AWS Graviton4, half the memory.
pub const GRAVITON_COMPUTE: Shape = Shape {
    name: "graviton-c8g",
    instance: "c8g.4xlarge",
    memory_gib: 32,
    labels: &[
        ("karpenter.k8s.aws/instance-cpu-manufacturer", "aws"),
        ("karpenter.k8s.aws/instance-family", "c8g"),
    ],
    price: "0.63808",
    ..GRAVITON
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
/// AMD x86.
pub const X86_AMD: Shape = Shape {
    name: "x86-c7a",
    instance: "c7a.4xlarge",
    memory_gib: 32,
    labels: &[
        ("karpenter.k8s.aws/instance-cpu-manufacturer", "amd"),
        ("karpenter.k8s.aws/instance-family", "c7a"),
    ],
    price: "0.82112",
    ..X86
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
    price: "0.2933",
    ..L4
};
/// NVIDIA L4 on Google Kubernetes Engine.
pub const L4_GKE: Shape = Shape {
    name: "l4-gke",
    instance: "g2-standard-8",
    provider: Provider::Google,
    labels: &[
        ("cloud.google.com/gke-accelerator", "nvidia-l4"),
        ("cloud.google.com/gke-accelerator-count", "1"),
    ],
    ..L4
};
/// NVIDIA L40S.
pub const L40S: Shape = Shape {
    name: "l40s",
    instance: "g6e.2xlarge",
    vcpus: 8,
    memory_gib: 64,
    devices: &[("nvidia.com/gpu", 1)],
    labels: &[
        ("nvidia.com/gpu.product", "NVIDIA-L40S"),
        ("nvidia.com/gpu.count", "1"),
        ("nvidia.com/gpu.memory", "46068"),
        ("karpenter.k8s.aws/instance-gpu-name", "l40s"),
    ],
    taints: &[NVIDIA_TAINT],
    price: "2.24208",
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
    price: "48",
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
    price: "5",
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
    price: "13",
    ..BASE
};

/// Every shape. AWS prices are on demand, Linux, us-east-1, from Karpenter's price table of 2026-07-20; spot L4 is 30 % of
/// it, GKE's L4 takes the price of the same board on AWS, and those of MI300, TPU and Gaudi are round placeholders.
pub const SHAPES: [Shape; 18] = [
    GRAVITON,
    GRAVITON_COMPUTE,
    X86,
    X86_AMD,
    L4,
    L4_SPOT,
    L4_GKE,
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
