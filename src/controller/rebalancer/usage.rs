//! I/O: asks every source but the pods themselves, each on its own beat.
//!
//! A source is asked once for all pods or stages of a namespace, only while somebody wants it, and never waits for
//! another: per round there is one request to `metrics.k8s.io` per namespace, one to an endpoint per (preset, namespace),
//! one to `custom.metrics.k8s.io` per (metric, namespace) and one to `external.metrics.k8s.io` per (metric, stage).

mod adapters;
mod prometheus;
mod resource;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

use super::Notice;
use crate::api::labels;
use crate::controller::clock::Clock;
use crate::signals::presets::{Preset, Source};
use crate::signals::scraper::Scraped;
use crate::signals::sources::Sources;
use crate::signals::stage::{StageAnswer, StageKey};
use crate::signals::{PodSignals, Why};

/// How often the API server is asked. `metrics.k8s.io` has a new value every 15 s by default; asking more often finds it
/// sooner.
const INTERVAL: Duration = Duration::from_secs(5);
/// Deadline of one request to the API server.
const DEADLINE: Duration = Duration::from_secs(4);

/// Variants to ask about.
pub(super) type Targets = Vec<Target>;

/// One variant.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// What it is read by.
    pub(super) preset: &'static Preset,
    /// Its stage.
    pub(super) stage: StageKey,
    /// The CPU that a pod of it requests, which utilization is measured against.
    pub(super) request_millis: u64,
    /// UIDs of its Ready pods, by name: pods of ours, whoever else is in an answer.
    pub(super) pods: BTreeMap<String, Arc<str>>,
}

impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        // There is one of each preset.
        std::ptr::eq(self.preset, other.preset)
            && self.stage == other.stage
            && self.request_millis == other.request_millis
            && self.pods == other.pods
    }
}

/// What every poller works with.
#[derive(Clone)]
struct Ground {
    clock: Clock,
    sources: Arc<Sources>,
    targets: watch::Receiver<Arc<Targets>>,
    notices: mpsc::UnboundedSender<Notice>,
}

/// Asks until the targets' sender or the notices' receiver is gone.
pub(super) async fn poll(
    client: Client,
    clock: Clock,
    sources: Arc<Sources>,
    targets: watch::Receiver<Arc<Targets>>,
    notices: mpsc::UnboundedSender<Notice>,
) {
    let endpoints = sources.endpoints.len();
    let ground = Ground {
        clock,
        sources,
        targets,
        notices,
    };
    // They end with this future.
    let mut pollers = JoinSet::new();
    pollers.spawn(resource::poll(client.clone(), ground.clone()));
    pollers.spawn(adapters::poll(client, ground.clone()));
    pollers.spawn(without_source(ground.clone()));
    for index in 0..endpoints {
        pollers.spawn(prometheus::poll(index, ground.clone()));
    }
    while pollers.join_next().await.is_some() {}
}

/// Says of pods and stages whose preset nobody answers for that nobody does.
async fn without_source(mut ground: Ground) {
    let mut ticks = ticks(INTERVAL);
    while let Some(wanted) = ground.round(&mut ticks).await {
        for target in wanted.iter() {
            let elsewhere = matches!(target.preset.source(), Source::Scrape { .. } | Source::ResourceMetrics);
            if elsewhere || ground.sources.ask(target.preset.name()).is_some() {
                continue;
            }
            if !ground.fail(&[target], Why::NoTarget) {
                return;
            }
        }
    }
}

fn ticks(interval: Duration) -> Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Selects all pods of tiercel, of which those that are asked about are picked by name.
fn ours() -> String {
    format!("{}={}", labels::MANAGED_BY, labels::MANAGER)
}

impl Ground {
    /// Waits for the next tick; `None` when nobody wants anything any more.
    async fn round(&mut self, ticks: &mut Interval) -> Option<Arc<Targets>> {
        self.targets.has_changed().ok()?;
        ticks.tick().await;
        self.targets.has_changed().ok()?;
        Some(Arc::clone(&self.targets.borrow_and_update()))
    }

    /// Passes answers of pods on; false if nobody listens any more.
    fn pods(&self, answers: Vec<Scraped>) -> bool {
        answers.is_empty() || self.notices.send(Notice::Usage(answers)).is_ok()
    }

    /// Passes answers about stages on; false if nobody listens any more.
    fn stages(&self, answers: Vec<StageAnswer>) -> bool {
        answers.is_empty() || self.notices.send(Notice::StageUsage(answers)).is_ok()
    }

    /// Gives every pod or stage of the targets the same reason.
    fn fail(&self, targets: &[&Target], why: Why) -> bool {
        let received_ms = self.clock.now_ms();
        if targets.first().is_some_and(|target| target.preset.is_of_stages()) {
            let answer = |target: &&Target| StageAnswer {
                stage: target.stage.clone(),
                preset: target.preset,
                received_ms,
                outcome: Err(why),
            };
            return self.stages(targets.iter().map(answer).collect());
        }
        let pods = targets
            .iter()
            .flat_map(|target| target.pods.values().map(|uid| (uid, target.preset)));
        let failed = |(uid, preset)| scraped(uid, preset, received_ms, Err(why));
        self.pods(pods.map(failed).collect())
    }
}

fn scraped(uid: &Arc<str>, preset: &'static Preset, received_ms: u64, outcome: Result<PodSignals, Why>) -> Scraped {
    Scraped {
        uid: Arc::clone(uid),
        preset,
        received_ms,
        outcome,
    }
}

/// The targets that `wanted` says, by preset and namespace: what one request is about.
fn groups(targets: &Targets, wanted: impl Fn(&Target) -> bool) -> BTreeMap<(&'static str, Arc<str>), Vec<&Target>> {
    let mut groups: BTreeMap<_, Vec<&Target>> = BTreeMap::new();
    for target in targets.iter().filter(|target| wanted(target)) {
        let key = (target.preset.name(), Arc::clone(&target.stage.namespace));
        groups.entry(key).or_default().push(target);
    }
    groups
}

/// Troubles remembered at once.
const TROUBLES_MAX: usize = 1_000;

/// A trouble that lasts is said once, and once more when it becomes another.
#[derive(Debug, Default)]
struct Trouble {
    last: BTreeMap<String, String>,
}

impl Trouble {
    /// Says what went wrong with `subject`.
    fn say(&mut self, subject: &str, problem: &dyn std::fmt::Display) {
        let problem = problem.to_string();
        if self.last.len() >= TROUBLES_MAX {
            self.last.clear();
        }
        let known = self.last.insert(subject.to_owned(), problem.clone());
        if known.as_ref() == Some(&problem) {
            tracing::debug!(source = subject, problem, "still no signal");
        } else {
            tracing::warn!(source = subject, problem, "no signal");
        }
    }

    /// All is well with `subject`.
    fn over(&mut self, subject: &str) {
        if self.last.remove(subject).is_some() {
            tracing::info!(source = subject, "answers again");
        }
    }
}
