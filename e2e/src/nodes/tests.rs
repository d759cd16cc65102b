use std::path::Path;

use serde_json::Value;

use super::*;

/// Every `ComputePool` of the samples.
fn sample_pools() -> Vec<Value> {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/samples");
    let hardware = std::fs::read_dir(samples.join("hardware"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = hardware.chain([samples.join("pools.yaml")]);
    let documents = files.flat_map(|file| {
        let text = std::fs::read_to_string(&file).unwrap();
        serde_saphyr::from_multiple::<Value>(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    });
    documents.filter(|object| object["kind"] == "ComputePool").collect()
}

#[test]
fn every_pool_of_the_samples_finds_hardware_that_fits_it() {
    let pools = sample_pools();
    assert!(pools.len() >= 18, "only {} pools", pools.len());
    for pool in pools {
        let name = &pool["metadata"]["name"];
        let selector = pool["spec"]["nodeSelector"].as_object().unwrap();
        let selects = |shape: &&Shape| {
            let labels = shape.node_labels("node", 0);
            selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let found: Vec<_> = SHAPES.iter().filter(selects).collect();
        let [shape] = found.as_slice() else {
            panic!("{name}: {found:?}")
        };
        assert_eq!(pool["spec"]["architecture"], shape.architecture, "{name}");
        let device = pool["spec"]["device"]["resourceName"].as_str();
        assert_eq!(device, shape.devices.first().map(|(device, _)| *device), "{name}");
        let tolerated = pool["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
        for (key, _) in shape.taints {
            assert!(
                tolerated.iter().any(|toleration| toleration["key"] == *key),
                "{name} does not tolerate {key}"
            );
        }
        let price = |text: &str| text.parse::<f64>().unwrap();
        let declared = price(pool["spec"]["costPerNodeHour"].as_str().unwrap());
        assert!(
            (declared - price(shape.price)).abs() < 0.001,
            "{name}: {declared} beside {}",
            shape.price
        );
    }
}
