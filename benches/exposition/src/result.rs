//! Samples to medians, and the file with what a reader needs to repeat them.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The middle of some samples.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Writes `target/bench/exposition.json`.
pub(crate) fn write(figures: &Value) -> std::io::Result<()> {
    let folder = repository().join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, name: &str| {
        let found = text.lines().find(|line| line.starts_with(name));
        found
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program)
            .args(args)
            .current_dir(repository())
            .output()
            .ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let all = json!({
        "id": "exposition",
        "date": said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "command": "make bench BENCH=exposition",
        "commit": said("git", &["rev-parse", "--short", "HEAD"]),
        "machine": {
            "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            "processor": line(&read("/proc/cpuinfo"), "model name"),
            "memory": line(&read("/proc/meminfo"), "MemTotal"),
            "kernel": read("/proc/sys/kernel/osrelease").trim(),
            // Other work on the machine shows here.
            "load_average": read("/proc/loadavg").trim(),
            "rustc": said("rustc", &["--version"]),
        },
        "figures": figures,
    });
    let text = serde_json::to_string_pretty(&all).map_err(std::io::Error::other)?;
    std::fs::write(folder.join("exposition.json"), text + "\n")?;
    println!("written: target/bench/exposition.json");
    Ok(())
}
