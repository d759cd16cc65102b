//! What the workspace is made of: the same bans as `deny.toml`, held without cargo-deny and without the network.
//!
//! `cargo metadata` also lists packages that only a feature nobody enables would bring, such as `ring`. `cargo tree` shows
//! what is built, so that is what is read here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

use crate::programs::{read, root};

fn policy() -> Table {
    read("deny.toml").parse().unwrap()
}

fn strings(value: &Value) -> Vec<String> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry.as_str().unwrap().to_owned())
        .collect()
}

/// (name, version) -> licence of everything built for the targets of `deny.toml`, tests and build scripts included.
fn built() -> BTreeMap<(String, String), String> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(root()).args([
        "tree",
        "--workspace",
        "--locked",
        "--offline",
        "--edges=normal,build,dev",
    ]);
    command.args(["--prefix=none", "--no-dedupe", "--format={p}|{l}"]);
    for target in strings(&policy()["graph"]["targets"]) {
        command.arg(format!("--target={target}"));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut built = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (package, licence) = line.split_once('|').unwrap();
        let mut words = package.split_whitespace();
        let name = words.next().unwrap().to_owned();
        let version = words.next().unwrap().trim_start_matches('v').to_owned();
        built.insert((name, version), licence.to_owned());
    }
    assert!(
        built.len() > 100,
        "{} packages: `cargo tree` has changed its format",
        built.len()
    );
    built
}

/// Who uses a crate directly.
fn dependents(name: &str) -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(root())
        .args(["tree", "--workspace", "--locked", "--offline", "--target=all"]);
    command.args(["--edges=normal,build,dev", "--prefix=none", "--depth=1", "--format={p}"]);
    let output = command.arg(format!("--invert={name}")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|found| *found != name).map(str::to_owned).collect()
}

fn versions(built: &BTreeMap<(String, String), String>, name: &str) -> Vec<String> {
    built
        .keys()
        .filter(|(found, _)| found == name)
        .map(|(_, version)| version.clone())
        .collect()
}

#[test]
fn nothing_banned_is_built() {
    let built = built();
    for ban in policy()["bans"]["deny"].as_array().unwrap() {
        let name = ban["crate"].as_str().unwrap();
        let reason = ban["reason"].as_str().unwrap();
        let uses = if versions(&built, name).is_empty() {
            BTreeSet::new()
        } else {
            dependents(name)
        };
        let allowed = ban.get("wrappers").map(strings).unwrap_or_default();
        assert_eq!(
            uses,
            BTreeSet::from_iter(allowed),
            "left who uses {name}, right who may by `wrappers`: {reason}"
        );
    }
    for named in ["ring", "openssl", "native-tls", "serde_yaml", "backoff", "chrono"] {
        let bans = policy()["bans"]["deny"].as_array().unwrap().clone();
        assert!(
            bans.iter().any(|ban| ban["crate"].as_str() == Some(named)),
            "deny.toml must ban {named}"
        );
    }
}

#[test]
fn one_kube_one_kubernetes_api_and_one_tls_stack_are_built() {
    let built = built();
    for name in [
        "kube",
        "kube-client",
        "kube-core",
        "kube-runtime",
        "k8s-openapi",
        "rustls",
        "aws-lc-rs",
    ] {
        assert_eq!(versions(&built, name).len(), 1, "{name}: {:?}", versions(&built, name));
    }
    let providers: Vec<_> = [
        "aws-lc-rs",
        "ring",
        "rustls-rustcrypto",
        "rustls-openssl",
        "rustls-mbedcrypto-provider",
    ]
    .into_iter()
    .filter(|name| !versions(&built, name).is_empty())
    .collect();
    assert_eq!(providers, ["aws-lc-rs"]);
}

#[test]
fn a_second_version_of_a_crate_has_a_reason_on_record_and_every_reason_is_still_needed() {
    let mut by_name: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, version) in built().into_keys() {
        by_name.entry(name).or_default().insert(version);
    }
    let doubled: BTreeSet<String> = by_name
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, _)| name)
        .collect();
    let skipped: BTreeSet<String> = policy()["bans"]["skip"]
        .as_array()
        .unwrap()
        .iter()
        .map(|skip| {
            assert!(
                skip["reason"].as_str().is_some_and(|reason| reason.len() > 20),
                "{skip} needs a reason"
            );
            skip["crate"].as_str().unwrap().split('@').next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        doubled, skipped,
        "left what is built twice, right `bans.skip` of deny.toml"
    );
}

/// Whether an SPDX expression can be met with the allowed licences. `/` is the old spelling of `OR`.
fn is_met(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ")
        .replace(" WITH ", "_WITH_");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = any(&mut rest, allowed);
    assert!(rest.is_empty(), "cannot read '{expression}'");
    met
}

fn any(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = all(rest, allowed);
    while let ["OR", tail @ ..] = *rest {
        *rest = tail;
        met |= all(rest, allowed);
    }
    met
}

fn all(rest: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = one(rest, allowed);
    while let ["AND", tail @ ..] = *rest {
        *rest = tail;
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &[String]) -> bool {
    match *rest {
        ["(", tail @ ..] => {
            *rest = tail;
            let met = any(rest, allowed);
            let [")", tail @ ..] = *rest else {
                panic!("no closing parenthesis before {rest:?}")
            };
            *rest = tail;
            met
        }
        [licence, tail @ ..] => {
            *rest = tail;
            allowed.contains(&licence.replace("_WITH_", " WITH "))
        }
        [] => panic!("a licence is missing"),
    }
}

#[test]
fn licence_expressions_are_read_with_their_operators() {
    let allowed = ["MIT".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    for met in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "(GPL-3.0 OR MIT) AND MIT",
    ] {
        assert!(is_met(met, &allowed), "{met}");
    }
    for unmet in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "Apache-2.0",
        "(MIT OR GPL-3.0) AND ISC",
        "MIT AND (ISC OR GPL-3.0)",
    ] {
        assert!(!is_met(unmet, &allowed), "{unmet}");
    }
}

#[test]
fn every_licence_is_allowed_and_every_allowed_licence_is_used() {
    let allowed = strings(&policy()["licenses"]["allow"]);
    let built = built();
    for ((name, version), licence) in &built {
        assert!(
            is_met(licence, &allowed),
            "{name} {version}: '{licence}' is not allowed by deny.toml"
        );
    }
    for (index, licence) in allowed.iter().enumerate() {
        let mut without = allowed.clone();
        without.remove(index);
        let needed = built.values().any(|expression| !is_met(expression, &without));
        assert!(needed, "nothing needs '{licence}' any more: take it out of deny.toml");
    }
}

#[test]
fn everything_comes_from_crates_io() {
    let lock: Table = read("Cargo.lock").parse().unwrap();
    for package in lock["package"].as_array().unwrap() {
        let source = package
            .get("source")
            .map_or("workspace", |source| source.as_str().unwrap());
        let known = ["workspace", "registry+https://github.com/rust-lang/crates.io-index"];
        assert!(known.contains(&source), "{} comes from {source}", package["name"]);
    }
}

/// All Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn what_compiles_the_core_alone_has_the_crates_that_the_core_uses() {
    let table = |file: &str| read(file).parse::<Table>().unwrap()["dependencies"].clone();
    let (ours, judges) = (table("Cargo.toml"), table("e2e/judge/Cargo.toml"));
    let core = sources(&root().join("src/rebalance"));
    let texts: Vec<String> = core.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    let mut used = BTreeSet::new();
    for (name, version) in ours.as_table().unwrap() {
        let path = format!("{}::", name.replace('-', "_"));
        let mut lines = texts.iter().flat_map(|text| text.lines());
        if lines.any(|line| {
            line.trim_start()
                .strip_prefix("use ")
                .is_some_and(|line| line.starts_with(&path))
        }) {
            assert_eq!(
                judges.get(name),
                Some(version),
                "src/rebalance uses '{name}': e2e/judge/Cargo.toml must name it alike"
            );
            used.insert(name.as_str());
        }
    }
    assert!(used.contains("multiversion"), "{used:?}: nothing was compared");
}
