//! The plugin's archives and its manifest for krew, as `make release-archives` writes them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::programs::{documents, read, root};

/// Runs the script behind `make release-archives` with the program that cargo has built for the tests.
fn pack(out: &Path) {
    let output = Command::new(root().join(".ci/release-archives"))
        .env("OUT", out)
        .env("VERSION", "v1.2.3")
        .env("PLUGIN", env!("CARGO_BIN_EXE_kubectl-tiercel"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn tar(arguments: &[&str]) -> String {
    let output = Command::new("tar").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn sha256(path: &Path) -> String {
    format!("{:x}", Sha256::digest(std::fs::read(path).unwrap()))
}

/// What stands between quotes after `addURIAndSha` in the template.
fn published() -> Vec<String> {
    let template = read(".krew.yaml");
    let uris = template.lines().filter_map(|line| line.split("addURIAndSha \"").nth(1));
    uris.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn the_archive_of_this_platform_has_the_name_and_the_checksum_of_the_manifest_and_holds_the_licence() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    pack(out);
    let os = std::env::consts::OS.replace("macos", "darwin");
    let arch = std::env::consts::ARCH
        .replace("x86_64", "amd64")
        .replace("aarch64", "arm64");
    let name = format!("kubectl-tiercel-{os}-{arch}.tar.gz");
    let archive = out.join(&name);
    let path = archive.to_str().unwrap();
    let listed = tar(&["-tzf", path]);
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        [
            "LICENSE",
            "THIRD-PARTY-LICENSES",
            "kubectl-tiercel",
            "kubectl_complete-tiercel"
        ]
    );
    tar(&["-xzf", path, "-C", out.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(out.join("LICENSE")).unwrap(), read("LICENSE"));

    let others = std::fs::read_to_string(out.join("THIRD-PARTY-LICENSES")).unwrap();
    let (crates, texts) = others.split_once("\n---").unwrap();
    // Linked, through others, and one that only tests use.
    let linked = ["hyper", "aws-lc-sys", "insta"].map(|name| crates.contains(&format!("\n{name} v")));
    assert_eq!(linked, [true, true, false], "{crates}");
    let asked = ["Sean McArthur", "Redistributions in binary form must"];
    assert_eq!(asked.map(|text| texts.contains(text)), [true; 2]);

    let manifest = documents(&std::fs::read_to_string(out.join("tiercel.yaml")).unwrap()).remove(0);
    assert_eq!(manifest["kind"], "Plugin");
    assert_eq!(manifest["spec"]["version"], "v1.2.3");
    let uri = format!("https://github.com/tiercel/tiercel/releases/download/v1.2.3/{name}");
    let platform = json!([{
        "selector": {"matchLabels": {"os": os, "arch": arch}},
        "uri": uri, "sha256": sha256(&archive), "bin": "kubectl-tiercel",
    }]);
    assert_eq!(manifest["spec"]["platforms"], platform, "those that have an archive");
    let bin = out.join(platform[0]["bin"].as_str().unwrap());
    let size = |path: &Path| std::fs::metadata(path).unwrap().len();
    let built = Path::new(env!("CARGO_BIN_EXE_kubectl-tiercel"));
    assert!(size(&bin) < size(built), "what only debuggers read is not shipped");
    let help = Command::new(bin).arg("--version").output().unwrap();
    let told = String::from_utf8(help.stdout).unwrap();
    assert!(told.contains(env!("CARGO_PKG_VERSION")), "{told}");
}

#[test]
fn with_an_archive_of_every_platform_the_manifest_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let names = published();
    let names = names.iter().map(|uri| uri.rsplit('/').next().unwrap());
    for name in names.clone() {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    pack(folder.path());
    let text = std::fs::read_to_string(folder.path().join("tiercel.yaml")).unwrap();
    assert!(!text.contains("{{"), "{text}");
    let manifest = documents(&text).remove(0);
    let platforms = manifest["spec"]["platforms"].as_array().unwrap();
    let labels = |platform: &Value, key: &str| platform["selector"]["matchLabels"][key].as_str().unwrap().to_owned();
    let mut selected = Vec::new();
    for platform in platforms {
        let (os, arch) = (labels(platform, "os"), labels(platform, "arch"));
        let name = format!("kubectl-tiercel-{os}-{arch}.tar.gz");
        assert!(
            platform["uri"].as_str().unwrap().ends_with(&format!("/v1.2.3/{name}")),
            "{platform}"
        );
        assert_eq!(platform["sha256"], sha256(&folder.path().join(&name)), "{platform}");
        selected.push(name);
    }
    assert_eq!(selected, names.collect::<Vec<_>>());
    assert_eq!(selected.len(), 4, "linux and darwin, amd64 and arm64");
}
