//! Measured CPU use, written into the annotation from which kwok computes what metrics-server reads.
//!
//! Every write is a request to the API server, so there are only so many per second, and they go to the replicas whose
//! use has moved most since their last one.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use tokio::time::MissedTickBehavior;

use super::pods::{CpuUsage, Fleet};

const ANNOTATION: &str = "kwok.x-k8s.io/usage-cpu";
const PERIOD: Duration = Duration::from_secs(1);
/// Weight of the newest second in the running mean: follows a step within about 4 s and evens out single requests.
const NEWEST: f64 = 0.4;
/// Changes below this part of the request are not worth a write.
const TOLERANCE: f64 = 0.03;
/// Writes in flight at the same time.
const CONCURRENCY: usize = 8;

/// Writes every replica's CPU use to its pod, at most `writes_per_s` a second, until it is dropped.
pub async fn report_cpu(fleet: Fleet, client: Client, writes_per_s: usize) {
    let mut ledger = Ledger::default();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let due = ledger.due(fleet.cpu_usage(), writes_per_s);
        let written: Vec<(CpuUsage, bool)> = futures::stream::iter(due)
            .map(|usage| {
                let client = client.clone();
                async move {
                    let ok = write(client, &usage).await;
                    (usage, ok)
                }
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for (usage, _) in written.iter().filter(|(_, ok)| *ok) {
            ledger.note(usage);
        }
    }
}

async fn write(client: Client, usage: &CpuUsage) -> bool {
    let patch = serde_json::json!({"metadata": {"annotations": {ANNOTATION: format!("{}m", usage.cpu_millis)}}});
    let pods: Api<Pod> = Api::namespaced(client, &usage.namespace);
    let result = pods
        .patch_metadata(&usage.name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    // A pod that was deleted meanwhile is no news.
    result
        .inspect_err(|error| tracing::debug!(%error, pod = usage.name, "CPU use not written"))
        .is_ok()
}

#[derive(Clone, Copy, Debug)]
struct Known {
    mean_millis: f64,
    written_millis: Option<u32>,
}

/// What was measured and what was written, per replica.
#[derive(Debug, Default)]
struct Ledger {
    known: HashMap<String, Known>,
}

impl Ledger {
    /// Takes in one second's measurements and picks at most `budget` replicas to write, the largest change first.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a mean of u32 values
    fn due(&mut self, measured: Vec<CpuUsage>, budget: usize) -> Vec<CpuUsage> {
        let mut next = HashMap::with_capacity(measured.len());
        let mut due: Vec<(f64, CpuUsage)> = Vec::new();
        for mut usage in measured {
            let now = f64::from(usage.cpu_millis);
            let known = self.known.get(&usage.uid).copied().unwrap_or(Known {
                mean_millis: now,
                written_millis: None,
            });
            let mean = known.mean_millis + NEWEST * (now - known.mean_millis);
            usage.cpu_millis = mean.round() as u32;
            let request = f64::from(usage.request_millis.max(1));
            let change = known
                .written_millis
                .map_or(f64::INFINITY, |w| (mean - f64::from(w)).abs() / request);
            next.insert(
                usage.uid.clone(),
                Known {
                    mean_millis: mean,
                    ..known
                },
            );
            if change >= TOLERANCE {
                due.push((change, usage));
            }
        }
        self.known = next;
        due.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.uid.cmp(&b.1.uid)));
        due.into_iter().take(budget).map(|(_, usage)| usage).collect()
    }

    /// Remembers a write that was acknowledged.
    fn note(&mut self, usage: &CpuUsage) {
        if let Some(known) = self.known.get_mut(&usage.uid) {
            known.written_millis = Some(usage.cpu_millis);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(uid: &str, cpu_millis: u32) -> CpuUsage {
        CpuUsage {
            uid: uid.into(),
            namespace: "n".into(),
            name: uid.into(),
            cpu_millis,
            request_millis: 1_000,
        }
    }

    fn uids(due: &[CpuUsage]) -> Vec<&str> {
        due.iter().map(|u| u.uid.as_str()).collect()
    }

    #[test]
    fn new_replicas_come_first_then_the_largest_change_within_the_budget() {
        let mut ledger = Ledger::default();
        for u in ledger.due(vec![usage("a", 100), usage("b", 100)], 10) {
            ledger.note(&u);
        }
        let due = ledger.due(vec![usage("a", 300), usage("b", 900), usage("c", 5)], 2);
        assert_eq!(uids(&due), ["c", "b"]);
        assert_eq!(due[1].cpu_millis, 420, "the running mean, not the newest second");
    }

    #[test]
    fn a_steady_replica_is_written_once_and_a_failed_write_is_tried_again() {
        let mut ledger = Ledger::default();
        let first = ledger.due(vec![usage("a", 500)], 1);
        assert_eq!(uids(&first), ["a"]);
        assert_eq!(
            uids(&ledger.due(vec![usage("a", 500)], 1)),
            ["a"],
            "not acknowledged yet"
        );
        ledger.note(&first[0]);
        assert!(ledger.due(vec![usage("a", 510)], 1).is_empty(), "inside the tolerance");
    }
}
