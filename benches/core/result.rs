//! Samples to medians, and files with what a reader needs to repeat them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// The sample that so many thousandths are not above.
pub(crate) fn quantile(samples: &[f64], permille: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() * permille / 1_000).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// The middle of some samples.
pub(crate) fn median(samples: &[f64]) -> f64 {
    quantile(samples, 500)
}

/// Median, least and most.
pub(crate) fn spread(samples: &[f64]) -> Value {
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let most = samples.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    json!({ "n": samples.len(), "p50": median(samples), "min": least, "max": most })
}

/// Writes `target/bench/<id>.json`.
pub(crate) fn write(id: &str, figures: &Value) -> std::io::Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = repository.join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let line = |text: &str, name: &str| {
        let found = text.lines().find(|line| line.starts_with(name));
        found
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
    };
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(repository).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let all = json!({
        "id": id,
        "date": jiff::Timestamp::now().to_string(),
        "command": format!("make bench BENCH={id}"),
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
    std::fs::write(
        folder.join(format!("{id}.json")),
        serde_json::to_string_pretty(&all)? + "\n",
    )?;
    println!("written: target/bench/{id}.json");
    Ok(())
}
