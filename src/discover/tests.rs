use serde_json::{Value, json};

use super::*;
use crate::api::compute_pool::CapacityType::{OnDemand, Reserved, Spot};

/// A node with labels, what it offers beside CPU and memory, and taints as `key=value:effect`.
fn node(name: &str, labels: &[(&str, &str)], offers: &[(&str, &str)], taints: &[&str]) -> Node {
    let mut all: BTreeMap<&str, &str> =
        BTreeMap::from([("kubernetes.io/arch", "amd64"), ("kubernetes.io/os", "linux")]);
    all.insert("kubernetes.io/hostname", name);
    all.extend(labels.iter().copied());
    let mut allocatable = BTreeMap::from([("cpu", "16"), ("memory", "60Gi")]);
    allocatable.extend(offers.iter().copied());
    let taints = taints.iter().map(|taint| {
        let (taint, effect) = taint.split_once(':').unwrap();
        let (key, value) = taint.split_once('=').unwrap_or((taint, ""));
        json!({"key": key, "value": value, "effect": effect})
    });
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": all},
        "spec": {"taints": taints.collect::<Vec<Value>>()},
        "status": {"allocatable": allocatable},
    }))
    .unwrap()
}

fn pool(name: &str, spec: &Value) -> ComputePool {
    serde_json::from_value(json!({"apiVersion": "tiercel.dev/v1alpha1", "kind": "ComputePool",
        "metadata": {"name": name}, "spec": spec}))
    .unwrap()
}

fn bundled() -> Prices {
    Prices::read(None).unwrap()
}

const TYPE: &str = "node.kubernetes.io/instance-type";

fn karpenter() -> Vec<Node> {
    let bought = "karpenter.sh/capacity-type";
    let gpu = [("nvidia.com/gpu", "1")];
    let l4 = |name, how| {
        let labels = [
            (TYPE, "g6.2xlarge"),
            (bought, how),
            ("karpenter.k8s.aws/instance-gpu-name", "l4"),
            ("karpenter.sh/nodepool", "gpu"),
        ];
        node(name, &labels, &gpu, &["nvidia.com/gpu=true:NoSchedule"])
    };
    let arm = [
        ("kubernetes.io/arch", "arm64"),
        (TYPE, "m8g.4xlarge"),
        (bought, "on-demand"),
    ];
    let inferentia = [
        (TYPE, "inf2.8xlarge"),
        (bought, "on-demand"),
        ("karpenter.k8s.aws/instance-accelerator-name", "inferentia2"),
    ];
    vec![
        l4("l4-a", "spot"),
        l4("l4-b", "on-demand"),
        l4("l4-c", "spot"),
        node(
            "arm-a",
            &arm,
            &[],
            &[
                "kubernetes.io/arch=arm64:NoSchedule",
                "karpenter.sh/disrupted:NoSchedule",
            ],
        ),
        node(
            "inf-a",
            &inferentia,
            &[("aws.amazon.com/neuron", "1"), ("aws.amazon.com/neuroncore", "2")],
            &["aws.amazon.com/neuron:NoSchedule", "team=search:NoSchedule"],
        ),
    ]
}

fn eks() -> Vec<Node> {
    let bought = "eks.amazonaws.com/capacityType";
    let x86 = [
        (TYPE, "m7i.4xlarge"),
        (bought, "ON_DEMAND"),
        ("eks.amazonaws.com/nodegroup", "web"),
    ];
    let h100 = [
        (TYPE, "p5.48xlarge"),
        (bought, "CAPACITY_BLOCK"),
        ("nvidia.com/gpu.product", "NVIDIA-H100-80GB-HBM3"),
    ];
    vec![
        node("x86", &x86, &[], &[]),
        node(
            "h100",
            &h100,
            &[("nvidia.com/gpu", "8")],
            &["nvidia.com/gpu:NoSchedule"],
        ),
        node("fargate", &[("eks.amazonaws.com/compute-type", "fargate")], &[], &[]),
    ]
}

fn gke() -> Vec<Node> {
    let nodepool = "cloud.google.com/gke-nodepool";
    let l4 = [
        (TYPE, "g2-standard-8"),
        ("cloud.google.com/gke-accelerator", "nvidia-l4"),
        (nodepool, "gpu"),
    ];
    let spot = [l4.as_slice(), &[("cloud.google.com/gke-spot", "true")]].concat();
    let tpu = [
        (TYPE, "ct5lp-hightpu-4t"),
        ("cloud.google.com/gke-tpu-accelerator", "tpu-v5-lite-podslice"),
        ("cloud.google.com/gke-tpu-topology", "2x2"),
    ];
    let gpu = [("nvidia.com/gpu", "1")];
    vec![
        node("l4", &l4, &gpu, &["nvidia.com/gpu=present:NoSchedule"]),
        node("l4-spot", &spot, &gpu, &["nvidia.com/gpu=present:NoSchedule"]),
        node(
            "tpu",
            &tpu,
            &[("google.com/tpu", "4")],
            &["google.com/tpu=present:NoSchedule"],
        ),
        node(
            "axion",
            &[("kubernetes.io/arch", "arm64"), (TYPE, "c4a-standard-16")],
            &[],
            &["kubernetes.io/arch=arm64:NoSchedule"],
        ),
    ]
}

fn aks() -> Vec<Node> {
    let pool = "kubernetes.azure.com/agentpool";
    let a100 = [
        (TYPE, "Standard_NC24ads_A100_v4"),
        (pool, "gpu"),
        ("nvidia.com/gpu.product", "NVIDIA-A100-80GB-PCIe"),
    ];
    let spot = [a100.as_slice(), &[("kubernetes.azure.com/scalesetpriority", "spot")]].concat();
    let mi300x = [
        (TYPE, "Standard_ND96isr_MI300X_v5"),
        ("karpenter.azure.com/sku-gpu-name", "MI300X"),
    ];
    let gpu = [("nvidia.com/gpu", "1")];
    vec![
        node("a100", &a100, &gpu, &["sku=gpu:NoSchedule"]),
        node(
            "a100-spot",
            &spot,
            &gpu,
            &["kubernetes.azure.com/scalesetpriority=spot:NoSchedule"],
        ),
        node("mi300x", &mi300x, &[("amd.com/gpu", "8")], &[]),
        node(
            "system",
            &[(TYPE, "Standard_D4s_v5"), (pool, "system")],
            &[],
            &["CriticalAddonsOnly=true:NoSchedule"],
        ),
        node("windows", &[("kubernetes.io/os", "windows")], &[], &[]),
    ]
}

/// Machines that nobody but kubelet and GPU feature discovery labels.
fn generic() -> Vec<Node> {
    let gpu = [("nvidia.com/gpu", "2")];
    vec![
        node(
            "master",
            &[],
            &[],
            &["node-role.kubernetes.io/control-plane:NoSchedule"],
        ),
        node("plain-a", &[], &[], &[]),
        node("plain-b", &[], &[], &[]),
        node("arm", &[("kubernetes.io/arch", "arm64")], &[], &[]),
        node("riscv", &[("kubernetes.io/arch", "riscv64")], &[], &[]),
        node("l40s", &[("nvidia.com/gpu.product", "NVIDIA-L40S")], &gpu, &[]),
        node(
            "mig",
            &[("nvidia.com/gpu.product", "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb")],
            &[("nvidia.com/gpu", "7")],
            &[],
        ),
        node("gaudi", &[], &[("habana.ai/gaudi", "8")], &[]),
    ]
}

fn worlds() -> [(&'static str, Vec<Node>); 5] {
    [
        ("karpenter", karpenter()),
        ("eks", eks()),
        ("gke", gke()),
        ("aks", aks()),
        ("generic", generic()),
    ]
}

fn on_record(provider: &str) -> String {
    let (_, nodes) = worlds().into_iter().find(|(name, _)| *name == provider).unwrap();
    let proposal = propose(&nodes, &[], &bundled());
    format!("{}=== left out: {:?}", render(&proposal.pools).unwrap(), proposal.apart)
}

#[test]
fn nodes_of_karpenter_on_aws() {
    insta::assert_snapshot!(on_record("karpenter"));
}

#[test]
fn nodes_of_eks() {
    insta::assert_snapshot!(on_record("eks"));
}

#[test]
fn nodes_of_gke() {
    insta::assert_snapshot!(on_record("gke"));
}

#[test]
fn nodes_of_aks() {
    insta::assert_snapshot!(on_record("aks"));
}

#[test]
fn machines_with_few_labels() {
    insta::assert_snapshot!(on_record("generic"));
}

#[test]
fn each_pool_picks_its_nodes_and_no_others_also_where_all_providers_meet() {
    let mut all: Vec<Node> = worlds().into_iter().flat_map(|(_, nodes)| nodes).collect();
    // Nothing but what it offers tells it from plain machines.
    all.retain(|node| node.name_any() != "gaudi");
    let proposal = propose(&all, &[], &bundled());
    let mut seen = BTreeSet::new();
    for proposed in &proposal.pools {
        let spec = &proposed.pool.spec;
        assert!(
            proposed.notes.iter().all(|note| !note.contains("no label tells")),
            "{proposed:?}"
        );
        let picked: Vec<String> = all
            .iter()
            .filter(|node| matches(&spec.node_selector, &spec.match_expressions, labels_of(node)))
            .map(kube::ResourceExt::name_any)
            // Their taints keep replicas off.
            .filter(|name| !["system", "master"].contains(&name.as_str()))
            .collect();
        assert_eq!(picked, proposed.nodes, "{}", proposed.pool.name_any());
        assert!(
            seen.insert(proposed.pool.name_any()),
            "{} twice",
            proposed.pool.name_any()
        );
    }
    assert_eq!(seen.len(), 17, "{seen:?}");
}

#[test]
fn what_is_written_reads_back_as_the_object() {
    for (provider, nodes) in worlds() {
        let proposal = propose(&nodes, &[], &bundled());
        let text = render(&proposal.pools).unwrap();
        let read: Vec<ComputePool> = text
            .split("---\n")
            .map(|document| serde_saphyr::from_str(document).unwrap())
            .collect();
        let written: Vec<ComputePool> = proposal.pools.iter().map(|proposed| proposed.pool.clone()).collect();
        assert_eq!(read, written, "{provider}");
    }
}

#[test]
fn pools_that_exist_keep_their_nodes_and_their_names() {
    let existing = [
        pool(
            "mine",
            &json!({"tier": "CPU", "costPerNodeHour": "1", "nodeSelector": {TYPE: "m8g.4xlarge"}}),
        ),
        pool(
            "l4",
            &json!({"tier": "CPU", "costPerNodeHour": "1", "nodeSelector": {"other": "nodes"}}),
        ),
    ];
    let proposal = propose(&karpenter(), &existing, &bundled());
    assert_eq!(proposal.covered, BTreeMap::from([("mine".to_owned(), 1)]));
    let names: Vec<String> = proposal.pools.iter().map(|proposed| proposed.pool.name_any()).collect();
    assert_eq!(names, ["inferentia2", "l4-2", "l4-spot"]);
}

#[test]
fn nodes_that_no_label_tells_apart_are_said() {
    let mut with = node("gpu", &[], &[("nvidia.com/gpu", "1")], &[]);
    with.status.as_mut().unwrap().capacity = None;
    let proposal = propose(&[node("plain", &[], &[], &[]), with], &[], &bundled());
    let notes: Vec<&String> = proposal.pools.iter().flat_map(|proposed| &proposed.notes).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0].contains("no label tells these nodes from gpu") || notes[0].contains("from plain"),
        "{notes:?}"
    );
}

#[test]
fn an_accelerator_that_nobody_can_ask_for_is_no_cpu_pool() {
    let nodes = [
        node("a", &[(TYPE, "g6.2xlarge")], &[], &[]),
        node(
            "b",
            &[("nvidia.com/gpu.product", "NVIDIA-L4")],
            &[("nvidia.com/gpu", "0")],
            &[],
        ),
    ];
    let proposal = propose(&nodes, &[], &bundled());
    assert!(proposal.pools.is_empty(), "{proposal:?}");
    assert!(
        proposal.apart.keys().all(|why| why.contains("device plug-in")),
        "{proposal:?}"
    );
}

#[test]
fn names_are_legal_and_unique_whatever_labels_hold() {
    let odd = ["UPPER_case.9", "--", "", "9900", &"x".repeat(63), "a.b.c"];
    let nodes: Vec<Node> = odd
        .iter()
        .enumerate()
        .flat_map(|(at, product)| {
            let labels = [("nvidia.com/gpu.product", *product), (TYPE, *product)];
            let gpu = [("nvidia.com/gpu", "1")];
            let spot = [labels.as_slice(), &[("karpenter.sh/capacity-type", "spot")]].concat();
            [
                node(&format!("a{at}"), &labels, &gpu, &[]),
                node(&format!("b{at}"), &spot, &gpu, &[]),
            ]
        })
        .collect();
    let proposal = propose(&nodes, &[], &bundled());
    let mut names = BTreeSet::new();
    for proposed in &proposal.pools {
        let name = proposed.pool.name_any();
        let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        let legal =
            name.len() <= 63 && name.starts_with(|letter: char| letter.is_ascii_lowercase()) && name.chars().all(fits);
        assert!(legal && !name.contains("--") && !name.ends_with('-'), "{name}");
        assert!(names.insert(name.clone()), "{name} twice");
    }
}

#[test]
fn a_table_of_ones_own_goes_before_the_bundled_one() {
    let own = "source: what we pay\nspotShare: \"0.5\"\ninstances:\n  - {type: g6.2xlarge, costPerNodeHour: \"1\"}\n  \
               - {type: inf2.8xlarge, costPerNodeHour: \"2\", spotCostPerNodeHour: \"0.7\"}\n";
    let prices = Prices::read(Some(own)).unwrap();
    let price = |type_, bought| prices.price(type_, bought).map(|price| price.cost.0);
    assert_eq!(price("g6.2xlarge", OnDemand), Some("1".to_owned()));
    assert_eq!(price("g6.2xlarge", Spot), Some("0.5".to_owned()));
    assert_eq!(price("inf2.8xlarge", Spot), Some("0.7".to_owned()));
    assert_eq!(price("m8g.4xlarge", Reserved), Some("0.71808".to_owned()));
    assert_eq!(price("m8g.4xlarge", Spot), Some("0.35904".to_owned()));
    assert_eq!(price("unheard-of", OnDemand), None);
    // Its class is still known from the table behind.
    assert_eq!(prices.class("g6.2xlarge"), Some("nvidia-l4"));
}

#[test]
fn a_broken_table_says_what_is_wrong_in_one_line() {
    for (text, says) in [
        ("instances: 3", "table of prices"),
        ("prices: []", "prices"),
        ("instances: [{type: a, costPerNodeHour: \"1,5\"}]", "price of 'a'"),
        ("spotShare: x", "'x'"),
        ("a: [", "table of prices"),
    ] {
        let error = Prices::read(Some(text)).unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains('\n'), "{error}");
    }
}
