//! Results as files, with what a reader needs to repeat them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::Failure;

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
    harness.parent().unwrap_or(harness).to_owned()
}

/// Writes `target/bench/<id>.json`.
pub(crate) fn write(id: &str, figures: &Value) -> Result<(), Failure> {
    let folder = repository().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let all = json!({
        "id": id,
        "date": jiff::Timestamp::now().to_string(),
        "command": format!("make bench BENCH={id}"),
        "commit": said("git", &["rev-parse", "--short", "HEAD"]),
        "machine": machine(),
        "figures": figures,
    });
    let path = folder.join(format!("{id}.json"));
    std::fs::write(&path, serde_json::to_string_pretty(&all)? + "\n")?;
    println!("written: target/bench/{id}.json");
    Ok(())
}

fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, name: &str| {
        let found = text.lines().find(|line| line.starts_with(name));
        found
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    json!({
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "processor": line(&read("/proc/cpuinfo"), "model name"),
        "memory": line(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        // Other work on the machine shows here.
        "load_average": read("/proc/loadavg").trim(),
        "rustc": said("rustc", &["--version"]),
        "kubernetes": "v1.36.4, etcd and kwok as in e2e/controlplane/go.mod",
    })
}

fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(repository())
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
