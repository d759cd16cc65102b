//! Objects as the operator's own code describes them, kept for the tests of what others read out of them: the health check
//! for Argo CD, the expressions for Flux, kstatus. `make reference` writes them.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

/// Layout of `resource_customizations` in Argo CD's repository.
const FOLDER: &str = "config/argocd/tiercel.dev";

/// Fails if the recorded objects of a kind are not these, by situation; or writes them where `TIERCEL_WRITE_REFERENCE` is
/// set.
pub(crate) fn hold(kind: &str, situations: &[(&str, Value)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(FOLDER)
        .join(kind)
        .join("testdata");
    let write = std::env::var_os("TIERCEL_WRITE_REFERENCE").is_some();
    let mut names = BTreeSet::new();
    for (situation, object) in situations {
        let name = format!("{situation}.yaml");
        let text = serde_saphyr::to_string(object).unwrap();
        if write {
            std::fs::write(folder.join(&name), &text).unwrap();
        }
        let found = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(
            found == text,
            "{FOLDER}/{kind}/testdata/{name} is not what the operator says: run `make reference`\n{text}"
        );
        assert!(names.insert(name), "'{situation}' is there twice");
    }
    let on_disk = std::fs::read_dir(&folder).unwrap();
    let on_disk: BTreeSet<String> = on_disk
        .map(|entry| entry.unwrap().file_name().display().to_string())
        .collect();
    assert_eq!(
        on_disk, names,
        "left what is recorded, right what the operator was asked"
    );
}

/// The object as it is stored before the operator has seen it: with the status that the definition of `file` gives it.
pub(crate) fn unseen(mut object: Value, file: &str) -> Value {
    let (_, definition) = crate::cli::crd::render()
        .unwrap()
        .into_iter()
        .find(|(name, _)| name == file)
        .unwrap();
    let definition: Value = serde_saphyr::from_str(&definition).unwrap();
    let mut status = definition
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status")
        .unwrap()
        .clone();
    let mut filled = status["default"].take();
    // A default below a default is filled in too.
    for (name, property) in status["properties"].as_object().unwrap() {
        if let (Some(default), None) = (property.get("default"), filled.get(name)) {
            filled[name] = default.clone();
        }
    }
    object["status"] = json!(filled);
    object
}
