//! I/O: asks `metrics.k8s.io` for the CPU usage of the pods whose preset is read from there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::{mpsc, watch};

use super::Notice;
use crate::api::labels;
use crate::controller::clock::Clock;
use crate::quantity::Quantity;
use crate::signals::Why;
use crate::signals::metrics_api::pod_usage;
use crate::signals::scraper::Scraped;

/// How often is asked. The source has a new value every 15 s by default; asking more often finds it sooner.
const INTERVAL: Duration = Duration::from_secs(5);
/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(4);

/// Pods to ask about, by namespace and name.
pub(super) type Targets = BTreeMap<String, BTreeMap<String, Target>>;

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Its UID.
    pub(super) uid: Arc<str>,
    /// The CPU it requests, which utilization is measured against.
    pub(super) request_millis: u64,
}

/// Asks until the targets' sender or the notices' receiver is gone.
pub(super) async fn poll(
    client: Client,
    clock: Clock,
    mut targets: watch::Receiver<Arc<Targets>>,
    notices: mpsc::UnboundedSender<Notice>,
) {
    let selector = format!("{}={}", labels::MANAGED_BY, labels::MANAGER);
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while targets.has_changed().is_ok() {
        ticks.tick().await;
        let wanted = Arc::clone(&targets.borrow_and_update());
        let mut answers = Vec::new();
        for (namespace, pods) in wanted.iter() {
            let usage = pod_usage(&client, namespace, &selector, DEADLINE).await;
            let received_ms = clock.now_ms();
            if let Err(error) = &usage {
                tracing::warn!(namespace, %error, "no CPU usage");
            }
            answers.extend(pods.iter().map(|(name, target)| {
                let outcome = match &usage {
                    Err(error) => Err(error.why()),
                    Ok(usage) => match (usage.get(name), Quantity::parse(&format!("{}m", target.request_millis))) {
                        (Some(Ok(usage)), Ok(request)) => Ok(usage.signals(request)),
                        (Some(Err(why)), _) => Err(*why),
                        _ => Err(Why::NoSeries),
                    },
                };
                Scraped {
                    uid: Arc::clone(&target.uid),
                    received_ms,
                    outcome,
                }
            }));
        }
        if !answers.is_empty() && notices.send(Notice::Usage(answers)).is_err() {
            break;
        }
    }
}
