//! The programs that the tests run, and what they print.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the repository.
pub(crate) fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// The files below a folder of the repository with this extension, sorted.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let Some(folder) = std::env::var_os("TIERCEL_TOOLS_BIN").filter(|folder| !folder.is_empty()) else {
        panic!(
            "TIERCEL_TOOLS_BIN must name the folder with `helm` and `kubectl`: `make tools` builds them and prints it, `make test` does both"
        );
    };
    let path = Path::new(&folder).join(program);
    Command::new(&path)
        .args(arguments)
        .current_dir(root())
        // Nobody's cluster, nobody's plug-ins.
        .env("KUBECONFIG", "/dev/null")
        .env("HELM_PLUGINS", "/dev/null")
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}; `make tools` builds it", path.display()))
}

/// Standard output of a run that must succeed.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {} failed:\n{error}",
        arguments.join(" ")
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `helm`, which must succeed.
pub(crate) fn helm(arguments: &[&str]) -> String {
    output("helm", arguments)
}

/// Renders the chart as release `tiercel` in namespace `tiercel-system`.
pub(crate) fn template(arguments: &[&str]) -> String {
    helm(
        &[
            &["template", "tiercel", "charts/tiercel", "--namespace=tiercel-system"],
            arguments,
        ]
        .concat(),
    )
}

/// Why the chart refuses to render; fails if it renders.
pub(crate) fn refusal(arguments: &[&str]) -> String {
    refusal_of("charts/tiercel", arguments)
}

/// Likewise of a chart by its folder.
pub(crate) fn refusal_of(chart: &str, arguments: &[&str]) -> String {
    let output = run("helm", &[&["template", "tiercel", chart], arguments].concat());
    assert!(
        !output.status.success(),
        "helm template {} must be refused",
        arguments.join(" ")
    );
    String::from_utf8(output.stderr).unwrap()
}

/// Builds a kustomization of the repository.
pub(crate) fn kustomize(folder: &str) -> String {
    output("kubectl", &["kustomize", folder])
}

/// The documents of a YAML stream, empty ones left out.
pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// `Kind namespace/name` of an object.
pub(crate) fn id(object: &Value) -> String {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!(
        "{} {}/{}",
        text("/kind"),
        text("/metadata/namespace"),
        text("/metadata/name")
    )
}
