//! Memory and CPU of a process as the kernel counts them.

use std::path::PathBuf;

use serde::Serialize;

use crate::Failure;

/// Linux shows CPU time to programs in hundredths of a second, whatever its own tick is.
const TICKS_PER_S: f64 = 100.0;

/// One look at a process.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Usage {
    /// Resident memory, KiB (`VmRSS`).
    pub(crate) rss_kib: u64,
    /// Of that what is the process's own: heap and stacks, KiB (`RssAnon`).
    pub(crate) own_kib: u64,
    /// Most resident memory so far, KiB (`VmHWM`).
    pub(crate) rss_kib_max: u64,
    /// CPU time of all threads, user and system, seconds.
    pub(crate) cpu_s: f64,
    /// Threads.
    pub(crate) threads: u64,
}

/// Reads `/proc/<pid>`.
pub(crate) fn usage(pid: u32) -> Result<Usage, Failure> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let status = std::fs::read_to_string(folder.join("status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.trim_start_matches(':').split_whitespace().next()?.parse().ok());
        number.ok_or_else(|| format!("no {name} in the status of process {pid}"))
    };
    let stat = std::fs::read_to_string(folder.join("stat"))?;
    // The name in parentheses may hold blanks; utime and stime are the 12th and 13th field after it.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: u64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Ok(Usage {
        rss_kib: field("VmRSS")?,
        own_kib: field("RssAnon")?,
        rss_kib_max: field("VmHWM")?,
        cpu_s: float(ticks) / TICKS_PER_S,
        threads: field("Threads")?,
    })
}

/// Counts of this size are exact as doubles.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
