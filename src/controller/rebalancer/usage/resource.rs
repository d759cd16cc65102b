//! I/O: `metrics.k8s.io`, the source of the `cpu` preset: one request per namespace.

use kube::Client;

use super::{DEADLINE, Ground, INTERVAL, Trouble, groups, ours, scraped, ticks};
use crate::quantity::Quantity;
use crate::signals::Why;
use crate::signals::metrics_api::pod_usage;
use crate::signals::presets::Source;

pub(super) async fn poll(client: Client, mut ground: Ground) {
    let selector = ours();
    let mut trouble = Trouble::default();
    let mut ticks = ticks(INTERVAL);
    while let Some(wanted) = ground.round(&mut ticks).await {
        for ((_, namespace), targets) in groups(&wanted, |target| *target.preset.source() == Source::ResourceMetrics) {
            if targets.iter().all(|target| target.pods.is_empty()) {
                continue;
            }
            let usage = pod_usage(&client, &namespace, &selector, DEADLINE).await;
            let received_ms = ground.clock.now_ms();
            match &usage {
                Err(error) => trouble.say(&namespace, error),
                Ok(_) => trouble.over(&namespace),
            }
            let mut answers = Vec::new();
            for target in targets {
                let request = Quantity::from_millis(i64::try_from(target.request_millis).unwrap_or(i64::MAX));
                answers.extend(target.pods.iter().map(|(name, uid)| {
                    let outcome = match &usage {
                        Err(error) => Err(error.why()),
                        Ok(usage) => match usage.get(name) {
                            Some(Ok(usage)) => Ok(usage.signals(request)),
                            Some(Err(why)) => Err(*why),
                            None => Err(Why::NoSeries),
                        },
                    };
                    scraped(uid, target.preset, received_ms, outcome)
                }));
            }
            if !ground.pods(answers) {
                return;
            }
        }
    }
}
