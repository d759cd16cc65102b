//! The definitions in both charts that carry them.

use serde_json::Value;

use crate::chart::find;
use crate::programs::{documents, helm, id, read, refusal_of, root, template};

#[test]
fn definitions_follow_their_two_switches() {
    let definitions = |arguments: &[&str]| -> Vec<Value> {
        let rendered = documents(&template(arguments)).into_iter();
        rendered
            .filter(|object| object["kind"] == "CustomResourceDefinition")
            .collect()
    };
    let kept = definitions(&[]);
    let names: Vec<_> = kept
        .iter()
        .map(|object| object["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["computepools.tiercel.dev", "tieredpipelines.tiercel.dev"]);
    for object in &kept {
        assert_eq!(object["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    for object in definitions(&["--set=crds.keep=false"]) {
        assert!(
            object["metadata"].get("annotations").is_none(),
            "{} must go with the release",
            id(&object)
        );
    }
    assert!(definitions(&["--set=crds.enabled=false"]).is_empty());
    assert!(
        !root().join("charts/tiercel/crds").exists(),
        "helm installs `crds/` once and never upgrades it"
    );
}

/// The chart with nothing but the definitions, rendered.
fn definitions_alone(arguments: &[&str]) -> Vec<Value> {
    let command = [
        "template",
        "tiercel-crds",
        "charts/tiercel-crds",
        "--namespace=tiercel-system",
    ];
    documents(&helm(&[&command[..], arguments].concat()))
}

#[test]
fn the_two_charts_together_are_the_one_with_definitions() {
    helm(&["lint", "--strict", "charts/tiercel-crds"]);
    for (name, text) in tiercel::cli::crd::definition_templates().unwrap() {
        let found = read(&format!("charts/tiercel-crds/templates/{name}"));
        assert!(
            found == text,
            "charts/tiercel-crds/templates/{name} differs from the types: run `make crds`"
        );
    }
    // Labels name the release and its chart; everything else must be the same.
    let bare = |mut object: Value| {
        object["metadata"].as_object_mut().unwrap().remove("labels");
        object
    };
    let apart = documents(&template(&["--set=crds.enabled=false"])).into_iter();
    let apart: Vec<Value> = apart.chain(definitions_alone(&[])).map(bare).collect();
    let whole: Vec<Value> = documents(&template(&[])).into_iter().map(bare).collect();
    assert_eq!(apart.len(), whole.len());
    for object in whole {
        assert_eq!(find(&apart, &id(&object)), object, "{}", id(&object));
    }
}

#[test]
fn the_chart_of_definitions_follows_its_values() {
    for object in definitions_alone(&["--set=keep=false,commonLabels.team=platform"]) {
        assert_eq!(
            object["metadata"].get("annotations"),
            None,
            "{} must go with the release",
            id(&object)
        );
        assert_eq!(object["metadata"]["labels"]["team"], "platform");
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/name"], "tiercel-crds");
    }
    for wrong in ["crds.enabled=false", "keep=1"] {
        let message = refusal_of("charts/tiercel-crds", &["--set", wrong]);
        assert!(message.contains("values don't meet"), "{wrong}: {message}");
    }
}
