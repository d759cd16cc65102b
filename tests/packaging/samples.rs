//! The samples say what they mean to say: nothing in them is unknown to the types, and they fit together.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tiercel::api::{ComputePool, TieredPipeline};

use crate::programs::{documents, files, read, root, template};

/// (path, document) of every sample.
fn samples() -> Vec<(String, Value)> {
    let mut samples = Vec::new();
    for path in files("config/samples", "yaml") {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        let yaml = std::fs::read_to_string(&path).unwrap();
        samples.extend(documents(&yaml).into_iter().map(|document| (name.clone(), document)));
    }
    assert!(samples.len() > 30, "{} samples", samples.len());
    samples
}

fn of<T: DeserializeOwned>(kind: &str) -> Vec<(String, T)> {
    let matching = samples().into_iter().filter(|(_, document)| document["kind"] == kind);
    matching
        .map(|(name, document)| (name, serde_json::from_value(document).unwrap()))
        .collect()
}

/// Paths of what is written but not in what was understood.
fn lost(path: &str, written: &Value, understood: &Value, into: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in written {
                match understood.get(key) {
                    Some(other) => lost(&format!("{path}.{key}"), value, other, into),
                    None => into.push(format!("{path}.{key}")),
                }
            }
        }
        (Value::Array(written), Value::Array(understood)) if written.len() == understood.len() => {
            for (index, (value, other)) in written.iter().zip(understood).enumerate() {
                lost(&format!("{path}[{index}]"), value, other, into);
            }
        }
        _ if written == understood => {}
        _ => into.push(format!("{path}: {written} became {understood}")),
    }
}

pub(crate) fn assert_understood<T: DeserializeOwned + Serialize>(name: &str, document: &Value) {
    let understood: T = serde_json::from_value(document.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut faults = Vec::new();
    lost("", document, &serde_json::to_value(understood).unwrap(), &mut faults);
    assert!(faults.is_empty(), "{name}: {faults:?}");
}

#[test]
fn no_sample_has_a_field_that_the_types_do_not_know() {
    for (name, document) in samples() {
        match document["kind"].as_str().unwrap() {
            "ComputePool" => assert_understood::<ComputePool>(&name, &document),
            "TieredPipeline" => assert_understood::<TieredPipeline>(&name, &document),
            "RuntimeClass" => {}
            other => panic!("{name}: unexpected kind {other}"),
        }
    }
}

#[test]
fn examples_inside_the_chart_are_understood_too() {
    let chart = documents(&read("charts/tiercel/Chart.yaml")).remove(0);
    let examples = documents(chart["annotations"]["artifacthub.io/crdsExamples"].as_str().unwrap()).remove(0);
    let rendered = documents(&template(&["--set=tests.enabled=true,tests.image=kubectl"]));
    let tested = rendered
        .iter()
        .find_map(|object| object.pointer("/data/pipeline.yaml"))
        .unwrap();
    let mut kinds = Vec::new();
    for document in examples
        .as_array()
        .unwrap()
        .iter()
        .chain(&documents(tested.as_str().unwrap()))
    {
        let kind = document["kind"].as_str().unwrap();
        match kind {
            "ComputePool" => assert_understood::<ComputePool>("Chart.yaml", document),
            _ => assert_understood::<TieredPipeline>("chart", document),
        }
        kinds.push(kind.to_owned());
    }
    assert_eq!(kinds, ["ComputePool", "TieredPipeline", "TieredPipeline"]);
}

#[test]
fn no_two_sample_pools_could_match_the_same_node() {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    // pools.yaml is a set of its own: its machines appear again among the samples of single kinds of hardware.
    for (name, pool) in of::<ComputePool>("ComputePool")
        .into_iter()
        .filter(|(name, _)| !name.contains("pools.yaml"))
    {
        // Instance types and accelerator labels exclude one another, so different selectors mean different nodes.
        let selector = format!("{:?}", pool.spec.node_selector);
        if let Some(other) = seen.insert(selector.clone(), name.clone()) {
            panic!("{name} and {other} both select {selector}");
        }
    }
}

#[test]
fn every_class_that_a_sample_names_is_a_sample_pools_and_its_device_is_the_one_requested() {
    let pools = of::<ComputePool>("ComputePool");
    for (name, pipeline) in of::<TieredPipeline>("TieredPipeline") {
        for stage in &pipeline.spec.stages {
            for profile in &stage.profiles {
                let overridden = profile
                    .container
                    .as_ref()
                    .and_then(|container| container.resources.as_ref());
                let resources = overridden.unwrap_or(&stage.container.resources);
                for class in profile.pools.iter().flat_map(|pools| &pools.classes) {
                    let of_class = |spec: &tiercel::api::ComputePoolSpec| spec.class.as_ref() == Some(class);
                    let pool = pools.iter().find(|(_, pool)| of_class(&pool.spec));
                    let (_, pool) = pool.unwrap_or_else(|| panic!("{name}: no sample pool has class '{class}'"));
                    let device = pool.spec.device.iter().map(|device| device.resource_name.as_str());
                    let requested = resources
                        .limits
                        .keys()
                        .map(String::as_str)
                        .filter(|key| key.contains('/'));
                    assert_eq!(
                        device.collect::<BTreeSet<_>>(),
                        requested.collect::<BTreeSet<_>>(),
                        "{name}: stage '{}', profile '{}' on class '{class}'",
                        stage.name,
                        profile.name
                    );
                }
            }
        }
    }
}

#[test]
fn every_kind_of_hardware_has_a_sample_of_its_own() {
    let wanted = [
        "amd-mi300x",
        "aws-graviton",
        "aws-inferentia",
        "aws-trainium",
        "google-tpu",
        "intel-gaudi",
        "nvidia-a100",
        "nvidia-a10g",
        "nvidia-h100",
        "nvidia-h200",
        "nvidia-l4",
        "nvidia-l40s",
        "nvidia-t4g-on-arm",
        "x86",
    ];
    let found: Vec<String> = files("config/samples/hardware", "yaml")
        .iter()
        .map(|path| path.file_stem().unwrap().display().to_string())
        .collect();
    assert_eq!(found, wanted);
    for path in files("config/samples/hardware", "yaml") {
        let kinds: BTreeSet<String> = documents(&std::fs::read_to_string(&path).unwrap())
            .iter()
            .map(|document| document["kind"].as_str().unwrap().to_owned())
            .collect();
        assert!(
            kinds.contains("ComputePool") && kinds.contains("TieredPipeline"),
            "{}: {kinds:?}",
            path.display()
        );
    }
}

#[test]
fn every_price_says_where_it_comes_from() {
    for (name, document) in samples() {
        if document["kind"] == "ComputePool" {
            let text = read(&name);
            let sourced = text.contains("zz_generated.pricing_aws.go") || text.contains("put in what you pay");
            assert!(
                sourced,
                "{name}: a price needs its source and date, or a word that it is a placeholder"
            );
        }
    }
}

#[test]
fn the_support_agent_has_six_stages_and_stays_readable() {
    let text = read("config/samples/support-agent.yaml");
    let pipeline: TieredPipeline = serde_json::from_value(documents(&text).remove(0)).unwrap();
    let stages: Vec<_> = pipeline.spec.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(
        stages,
        ["retrieve", "guard", "orchestrate", "generate", "tools", "postprocess"]
    );
    assert!(text.lines().count() <= 65, "{} lines", text.lines().count());
}
