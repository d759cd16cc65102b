//! The samples on the hardware that they are for, and the samples of the features.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt;
use libtest_mimic::Trial;
use serde_json::Value;
use tiercel::api::TieredPipeline;
use tiercel_e2e::nodes::{SHAPES, Shape};
use tiercel_e2e::wait::eventually;

use crate::suite::Suite;
use crate::support::{PATIENCE, Tiered, documents, file, repository, told};

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 2] {
    crate::scenarios![suite, hardware:
        every_hardware_sample_runs_on_its_hardware_and_nowhere_else,
        every_feature_sample_reaches_a_defined_state,
    ]
}

/// Names of the files of a folder of samples, without folder.
fn samples(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(repository().join("config/samples").join(folder)).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 10, "only {names:?} in {folder}");
    names
}

/// The only shape that a sample's pool selects.
fn shape_of(pool: &Value) -> &'static Shape {
    let selector = pool["spec"]["nodeSelector"].as_object().unwrap();
    let selects = |shape: &&Shape| {
        let labels = shape.node_labels("node", 0);
        selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let found: Vec<_> = SHAPES.iter().filter(selects).collect();
    let [shape] = found.as_slice() else {
        panic!("{pool}: selects {found:?}")
    };
    shape
}

pub(crate) async fn every_hardware_sample_runs_on_its_hardware_and_nowhere_else(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    // Every kind of node is there before the first pool, so that a replica could land on any.
    for shape in &SHAPES {
        tiered.space.nodes(shape, 1).await;
    }
    let mut expected = Vec::new();
    for sample in samples("hardware") {
        let text = file(&format!("config/samples/hardware/{sample}"));
        let all = documents(&text);
        let pools: Vec<_> = all.iter().filter(|object| object["kind"] == "ComputePool").collect();
        let [pool] = pools.as_slice() else {
            panic!("{sample}: {} pools", pools.len())
        };
        let (pool_name, shape) = (pool["metadata"]["name"].as_str().unwrap().to_owned(), shape_of(pool));
        for object in all.iter().filter(|object| object["kind"] == "TieredPipeline") {
            expected.push((
                sample.clone(),
                pool_name.clone(),
                shape,
                object["metadata"]["name"].as_str().unwrap().to_owned(),
            ));
        }
        tiered.apply_yaml(&text).await;
    }
    for (sample, pool, shape, pipeline) in expected {
        let status = tiered.ready(&pipeline).await.status.unwrap();
        assert!(status.ready_replicas >= 1, "{sample}: Ready without a replica");
        let pools: BTreeSet<_> = status
            .stages
            .iter()
            .flat_map(|stage| &stage.pools)
            .map(|used| used.name.clone())
            .collect();
        assert_eq!(pools, [tiered.pool_name(&pool)].into(), "{sample}: pools in use");
        let node = format!("{}-{}-0", tiered.namespace(), shape.name);
        let pods = tiered.pods(&pipeline).await;
        assert!(!pods.is_empty(), "{sample}: no pod");
        for pod in pods {
            let spec = pod.spec.as_ref().unwrap();
            assert_eq!(
                spec.node_name.as_deref(),
                Some(node.as_str()),
                "{sample}: {} is elsewhere",
                pod.name_any()
            );
            for (device, _) in shape.devices.iter().take(1) {
                let resources = spec.containers[0].resources.clone().unwrap();
                assert!(
                    resources.limits.unwrap().contains_key(*device),
                    "{sample}: holds no {device}"
                );
            }
        }
    }
}

pub(crate) async fn every_feature_sample_reaches_a_defined_state(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    for shape in ["graviton", "x86", "l4-spot", "h100", "inferentia2"] {
        tiered.space.nodes(tiercel_e2e::nodes::shape(shape).unwrap(), 3).await;
    }
    tiered.apply_yaml(&file("config/samples/pools.yaml")).await;
    for sample in samples("features") {
        let text = file(&format!("config/samples/features/{sample}"));
        tiered.apply_yaml(&text).await;
        for object in documents(&text) {
            let name = object["metadata"]["name"].as_str().unwrap();
            match object["kind"].as_str().unwrap() {
                "ComputePool" => pool_is_decided(&tiered, &object, name).await,
                "TieredPipeline" => {
                    let what = format!("{sample}: pipeline '{name}' is Ready");
                    tiered.until(name, &what, |pipeline| is_ready(&pipeline)).await;
                }
                other => panic!("{sample}: {other}"),
            }
        }
        // Room for the next one, and no pool whose nodes nobody brings here.
        for object in documents(&text).iter().filter(|object| object["kind"] == "ComputePool") {
            tiered.delete_pool(object["metadata"]["name"].as_str().unwrap()).await;
        }
        for object in documents(&text)
            .iter()
            .filter(|object| object["kind"] == "TieredPipeline")
        {
            let name = object["metadata"]["name"].as_str().unwrap();
            drop(
                tiered
                    .pipelines()
                    .delete(name, &kube::api::DeleteParams::default())
                    .await
                    .unwrap(),
            );
            eventually(
                PATIENCE,
                format!("{sample}: the pods of '{name}' go with it"),
                async || {
                    let left = tiered.pods(name).await.len();
                    if left == 0 { Ok(()) } else { Err(format!("{left} pods")) }
                },
            )
            .await
            .unwrap();
        }
    }
}

/// `Ready` is True.
fn is_ready(pipeline: &TieredPipeline) -> Result<(), String> {
    let conditions = &pipeline.status.as_ref().ok_or("no status")?.conditions;
    let all: Vec<_> = conditions.iter().map(told).collect();
    if conditions
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    {
        Ok(())
    } else {
        Err(format!("{all:?}"))
    }
}

async fn pool_is_decided(tiered: &Tiered, pool: &serde_json::Value, name: &str) {
    // No simulated node is of the features' own pools: what is elastic may grow, the rest has nothing.
    let (status, reason) = if pool["spec"]["elastic"].is_null() {
        ("False", "NoNodes")
    } else {
        ("True", "Elastic")
    };
    tiered.pool_says(name, "Ready", status, reason).await;
}
