//! What the operator holds of very many stages, part by part: memory of a process that holds nothing else.

use std::process::Command;

use serde_json::{Value, json};
use tiercel::controller::live::{Children, Wire};

use crate::{Failure, core, proc};

const STAGES: [u32; 2] = [1_000, 10_000];
const POOLS: u32 = 8;
const PARTS: [&str; 2] = ["core", "deployments"];
/// Names the part that this process is to fill, and for how many stages.
const FILL: &str = "B8_FILL";

/// One row per part and number of stages.
pub(super) fn all() -> Result<Value, Failure> {
    let mut rows = Vec::new();
    for stages in STAGES {
        for part in PARTS {
            let child = Command::new(std::env::current_exe()?)
                .env(FILL, format!("{part} {stages}"))
                .output()?;
            let text = String::from_utf8_lossy(&child.stdout).into_owned();
            let kib: u64 = text.trim().parse().map_err(|_| format!("{part}: {text}"))?;
            let variants = stages * POOLS;
            println!(
                "{part:>11} of {stages:>6} stages alone: {:>6.1} MiB, {} bytes a variant",
                proc::float(kib) / 1024.0,
                kib * 1024 / u64::from(variants)
            );
            rows.push(json!({"part": part, "stages": stages, "variants": variants, "kib": kib}));
        }
    }
    Ok(json!(rows))
}

/// Fills a part if this process was started for that, and prints how many KiB it takes.
pub(crate) fn fill() -> Result<bool, Failure> {
    let Ok(asked) = std::env::var(FILL) else {
        return Ok(false);
    };
    let (part, stages) = asked.split_once(' ').ok_or("a part and a number of stages")?;
    let stages = stages.parse()?;
    let before = proc::usage(std::process::id())?.own_kib;
    let held: Box<dyn std::any::Any> = match part {
        "core" => Box::new(core::at_rest(stages, POOLS)),
        _ => Box::new(deployments(stages)?),
    };
    let after = proc::usage(std::process::id())?.own_kib;
    println!("{}", after.saturating_sub(before));
    drop(held);
    Ok(true)
}

/// The store of Deployments, each as an API server would send it, and compared once with what is wanted of it.
fn deployments(stages: u32) -> Result<Children<k8s_openapi::api::apps::v1::Deployment>, Failure> {
    let (store, mut writer) = Children::new();
    for at in 0..stages * POOLS {
        let object = deployment(at);
        let wire: Wire<_> = serde_json::from_value(object.clone())?;
        writer.apply(kube::runtime::watcher::Event::Apply(wire));
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let mut wanted = object.clone();
        if let Some(spec) = wanted["spec"].as_object_mut() {
            spec.remove("replicas");
        }
        if let Some(fields) = wanted.as_object_mut() {
            fields.remove("status");
        }
        if let Some(metadata) = wanted["metadata"].as_object_mut() {
            metadata.retain(|key, _| matches!(key.as_str(), "name" | "namespace" | "labels" | "annotations"));
        }
        for live in store.of("size", "", name).values() {
            if !live.is_as(u64::from(at), &wanted) {
                return Err(format!("{name} is not as wanted").into());
            }
        }
    }
    Ok(store)
}

fn deployment(at: u32) -> Value {
    let (pipeline, stage, pool) = (at / POOLS / 5, at / POOLS % 5, at % POOLS);
    let uid = |of: u32| format!("5c1f4f0e-94f3-4d6f-9c8e-{of:012x}");
    let labels = json!({
        "app.kubernetes.io/managed-by": "tiercel", "app.kubernetes.io/part-of": format!("agent-{pipeline:04}"),
        "app.kubernetes.io/component": format!("stage-{stage}"), "tiercel.dev/pipeline": format!("agent-{pipeline:04}"),
        "tiercel.dev/stage": format!("stage-{stage}"), "tiercel.dev/stage-id": format!("{:013x}", at / POOLS),
        "tiercel.dev/stage-kind": "Inference", "tiercel.dev/pool": format!("pool-{pool}"),
        "tiercel.dev/variant-id": format!("{at:013x}"),
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": format!("agent-{pipeline:04}--stage-{stage}--pool-{pool}"), "namespace": "size", "uid": uid(at),
            "resourceVersion": (100_000 + at).to_string(), "generation": 2, "labels": labels,
            "annotations": {"tiercel.dev/applied": format!("{at:016x}")},
            "ownerReferences": [{"apiVersion": "tiercel.dev/v1alpha1", "kind": "TieredPipeline", "controller": true,
                                 "name": format!("agent-{pipeline:04}"), "uid": uid(1 << 24 | pipeline)}],
            "managedFields": [{"manager": "tiercel-rebalancer", "fieldsV1": {"f:spec": {"f:replicas": {}}}}],
        },
        "spec": {"replicas": u32::from(pool == 0), "template": {"metadata": {"labels": labels}, "spec": {
            "nodeSelector": {"bench.example/pool": pool.to_string()},
            "containers": [{"name": "stage", "image": "registry.example.com/bench/stage:1",
                            "resources": {"requests": {"cpu": "150m", "memory": "256Mi"}}}]}}},
        "status": {"observedGeneration": 2, "replicas": u32::from(pool == 0), "readyReplicas": u32::from(pool == 0)},
    })
}
