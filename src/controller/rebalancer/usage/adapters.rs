//! I/O: `custom.metrics.k8s.io` for pods and `external.metrics.k8s.io` for stages.

use std::collections::BTreeMap;

use kube::Client;

use super::{DEADLINE, Ground, INTERVAL, Target, Trouble, groups, ours, scraped, ticks};
use crate::signals::adapters::{CustomMetric, Dated, Error, ExternalMetric, of_pods, of_stage};
use crate::signals::exposition::fingerprint;
use crate::signals::presets::{Role, Source};
use crate::signals::prometheus::template::Names;
use crate::signals::scraper::Scraped;
use crate::signals::sources::Ask;
use crate::signals::stage::{StageAnswer, StageKey, StageNumbers};
use crate::signals::{PodSignals, Why};

type Roles = BTreeMap<Role, Result<Dated, Why>>;

pub(super) async fn poll(client: Client, mut ground: Ground) {
    let mut trouble = Trouble::default();
    let mut ticks = ticks(INTERVAL);
    while let Some(wanted) = ground.round(&mut ticks).await {
        let from_adapter =
            |target: &Target| matches!(target.preset.source(), Source::CustomMetrics | Source::ExternalMetrics);
        for ((preset, namespace), targets) in groups(&wanted, from_adapter) {
            let sources = std::sync::Arc::clone(&ground.sources);
            let listening = match sources.ask(preset) {
                Some((Ask::CustomMetrics(metrics), _)) => {
                    let answers = pods(&client, &ground, metrics, &namespace, &targets, &mut trouble).await;
                    ground.pods(answers)
                }
                Some((Ask::ExternalMetrics(metrics), _)) => {
                    let answers = stages(&client, &ground, metrics, &targets, &mut trouble).await;
                    ground.stages(answers)
                }
                _ => true,
            };
            if !listening {
                return;
            }
        }
    }
}

/// One request per metric, whatever the number of stages and pods.
async fn pods(
    client: &Client,
    ground: &Ground,
    metrics: &[CustomMetric],
    namespace: &str,
    targets: &[&Target],
    trouble: &mut Trouble,
) -> Vec<Scraped> {
    if targets.iter().all(|target| target.pods.is_empty()) {
        return Vec::new();
    }
    let sent_ms = ground.clock.now_ms();
    let mut lists = Vec::with_capacity(metrics.len());
    for metric in metrics {
        let list = of_pods(client, namespace, metric, &ours(), DEADLINE).await;
        tell(trouble, &format!("{namespace}/{}", metric.metric), list.as_ref().err());
        lists.push((metric, list));
    }
    let needed = |role| metrics.iter().any(|metric| metric.role == role && !metric.optional);
    let mut answers = Vec::new();
    let pods = targets
        .iter()
        .flat_map(|target| target.pods.iter().map(|(name, uid)| (name, uid, target.preset)));
    for (name, uid, preset) in pods {
        let mut roles = Roles::new();
        for (metric, list) in &lists {
            let number = match list {
                Err(error) => Err(error.why()),
                Ok(list) => list.get(name).copied().unwrap_or(Err(Why::NoSeries)),
            };
            take(&mut roles, metric.role, number);
        }
        answers.push(scraped(uid, preset, sent_ms, signals(&roles, needed)));
    }
    answers
}

/// One request per metric and stage.
async fn stages(
    client: &Client,
    ground: &Ground,
    metrics: &[ExternalMetric],
    targets: &[&Target],
    trouble: &mut Trouble,
) -> Vec<StageAnswer> {
    let by_stage: BTreeMap<&StageKey, &Target> = targets.iter().map(|target| (&target.stage, *target)).collect();
    let mut answers = Vec::new();
    for (stage, target) in by_stage {
        let names = Names {
            namespace: &stage.namespace,
            pipeline: &stage.pipeline,
            stage: &stage.stage,
            pods: &[],
        };
        let received_ms = ground.clock.now_ms();
        let mut roles = Roles::new();
        for metric in metrics {
            let number = of_stage(client, metric, &names, DEADLINE).await;
            tell(
                trouble,
                &format!("{}/{}", stage.namespace, metric.metric),
                number.as_ref().err(),
            );
            take(&mut roles, metric.role, number.unwrap_or_else(|error| Err(error.why())));
        }
        let source_ms = oldest(&roles);
        let outcome = if source_ms.is_none() {
            Err(reason(&roles, |role| {
                metrics.iter().any(|metric| metric.role == role && !metric.optional)
            }))
        } else {
            Ok(StageNumbers {
                roles: roles
                    .iter()
                    .map(|(role, number)| (*role, number.map(|number| number.value)))
                    .collect(),
                source_ms,
                age_ms: None,
            })
        };
        answers.push(StageAnswer {
            stage: stage.clone(),
            preset: target.preset,
            received_ms,
            outcome,
        });
    }
    answers
}

fn tell(trouble: &mut Trouble, subject: &str, error: Option<&Error>) {
    match error {
        Some(error) => trouble.say(subject, error),
        None => trouble.over(subject),
    }
}

/// Of the alternatives of a role the first that there is anything of decides.
fn take(roles: &mut Roles, role: Role, number: Result<Dated, Why>) {
    let known = roles.entry(role).or_insert(Err(Why::NoSeries));
    if *known == Err(Why::NoSeries) {
        *known = number;
    }
}

fn oldest(roles: &Roles) -> Option<i64> {
    let found = roles.values().filter_map(|number| number.as_ref().ok());
    found.map(|number| number.source_ms).min()
}

/// Why there is nothing: the reason of what was needed.
fn reason(roles: &Roles, needed: impl Fn(Role) -> bool) -> Why {
    let mut absent = roles.iter().filter_map(|(role, number)| Some((*role, number.err()?)));
    let first = absent.clone().next();
    let needed = absent.find(|(role, _)| needed(*role));
    needed.or(first).map_or(Why::NoSeries, |(_, why)| why)
}

fn signals(roles: &Roles, needed: impl Fn(Role) -> bool) -> Result<PodSignals, Why> {
    let source_ms = oldest(roles).ok_or_else(|| reason(roles, needed))?;
    let role = |role: Role| {
        roles
            .get(&role)
            .map_or(Err(Why::NoSeries), |number| number.map(|number| number.value))
    };
    let measured: Vec<u8> = roles
        .values()
        .filter_map(|number| number.ok())
        .flat_map(|number| [number.source_ms.to_le_bytes(), number.value.get().to_le_bytes()])
        .flatten()
        .collect();
    Ok(PodSignals {
        running: role(Role::Running),
        waiting: role(Role::Queued),
        cache_use: role(Role::CacheUse),
        utilization: role(Role::Utilization),
        finished: Err(Why::NoSeries),
        rate: role(Role::Throughput),
        served: Err(Why::NoSeries),
        source_ms: Some(source_ms),
        fingerprint: fingerprint(&measured),
    })
}
