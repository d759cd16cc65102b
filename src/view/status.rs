//! The one screen of `status`: whether it serves, where, at what cost, and what it waits for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::tree::{Pipeline, Stage};
use super::{State, seconds_since};
use crate::api::TieredPipeline;
use crate::api::conditions::Type;
use crate::api::tiered_pipeline::{DecisionSummary, Mode};

/// Whether requests get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Serves {
    /// Every stage has Ready replicas.
    Yes,
    /// It does, but less than is asked of it.
    Short,
    /// A stage that every request passes has none.
    No,
    /// The operator has said nothing yet.
    Unknown,
}

/// All of the screen.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Screen {
    /// Namespace of the pipeline.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// Whether requests get through.
    pub serves: Serves,
    /// Why, or why not.
    pub because: String,
    /// Its mode.
    pub mode: Mode,
    /// What somebody paused by annotation: `all`, `scale-in` or `scale-out`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<&'static str>,
    /// Replicas of all stages.
    pub replicas: i32,
    /// How many of them are Ready.
    pub ready: i32,
    /// Where they are: replicas by pool.
    pub pools: BTreeMap<String, i32>,
    /// What they cost per hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_hour: Option<String>,
    /// What they may cost at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_cost_per_hour: Option<String>,
    /// Ceiling on power, watts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_power_watts: Option<i32>,
    /// What they draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_watts: Option<i32>,
    /// The stage that limits throughput.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bottleneck: Option<String>,
    /// Each stage, without pods.
    pub stages: Vec<Line>,
    /// Conditions that are not as they should be.
    pub conditions: Vec<Concern>,
    /// What is missing for it to be as declared.
    pub waits_for: Vec<String>,
    /// The last decisions, newest first.
    pub decisions: Vec<Decision>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// Its replicas.
    pub replicas: i32,
    /// How many of them are Ready.
    pub ready: i32,
    /// Where they are, in the operator's order.
    pub pools: Vec<Place>,
}

/// Replicas on one pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// Name of the pool.
    pub name: String,
    /// Replicas there.
    pub replicas: i32,
}

/// A condition that is not as it should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Concern {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// Its status.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why.
    pub message: String,
    /// Seconds since it is so.
    pub for_seconds: i64,
}

/// A decision, and how old it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Seconds since it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<i64>,
    #[serde(flatten)]
    /// As the status has it.
    pub summary: DecisionSummary,
}

/// The screen of one pipeline: as its author wrote it, and as the tree shows it.
pub fn screen(object: &TieredPipeline, tree: Pipeline, now: Timestamp) -> Screen {
    let (serves, because) = serves(object, &tree);
    let conditions = concerns(object, now);
    let waits_for = waits_for(object, &tree);
    let mut pools: BTreeMap<String, i32> = BTreeMap::new();
    for pool in tree.stages.iter().flat_map(|stage| &stage.pools) {
        if pool.replicas > 0 {
            *pools.entry(pool.name.clone()).or_default() += pool.replicas;
        }
    }
    let decisions = object.status.iter().flat_map(|status| &status.decisions);
    Screen {
        serves,
        because,
        bottleneck: tree
            .stages
            .iter()
            .find(|stage| stage.bottleneck)
            .map(|stage| stage.name.clone()),
        max_cost_per_hour: object
            .spec
            .budget
            .as_ref()
            .and_then(|budget| budget.max_cost_per_hour.as_ref())
            .map(ToString::to_string),
        max_power_watts: object.spec.budget.as_ref().and_then(|budget| budget.max_power_watts),
        stages: tree.stages.iter().map(line).collect(),
        conditions,
        waits_for,
        decisions: decisions
            .map(|summary| Decision {
                age_seconds: summary
                    .time
                    .parse()
                    .ok()
                    .map(|time: Timestamp| now.as_second() - time.as_second()),
                summary: summary.clone(),
            })
            .collect(),
        namespace: tree.namespace,
        name: tree.name,
        state: tree.state,
        mode: tree.mode,
        paused: tree.paused,
        replicas: tree.replicas,
        ready: tree.ready,
        pools,
        cost_per_hour: tree.cost_per_hour,
        power_watts: tree.power_watts,
    }
}

fn line(stage: &Stage) -> Line {
    let pools = stage.pools.iter().filter(|pool| pool.replicas > 0);
    Line {
        name: stage.name.clone(),
        state: stage.state,
        replicas: stage.replicas,
        ready: stage.ready,
        pools: pools
            .map(|pool| Place {
                name: pool.name.clone(),
                replicas: pool.replicas,
            })
            .collect(),
    }
}

/// A request passes every stage, so one without Ready replicas stops it; one that sleeps wakes when there is work.
fn serves(object: &TieredPipeline, tree: &Pipeline) -> (Serves, String) {
    if object.status.is_none() || tree.stages.iter().any(|stage| stage.state == State::Unknown) {
        let text = "the operator has not looked at it yet; is it running?";
        return (Serves::Unknown, text.to_owned());
    }
    let dead: Vec<String> = tree
        .stages
        .iter()
        .filter(|stage| stage.ready == 0 && stage.state != State::Asleep)
        .map(|stage| format!("'{}'", stage.name))
        .collect();
    match dead.as_slice() {
        [] => {}
        [one] => return (Serves::No, format!("stage {one} has no Ready replica")),
        many => return (Serves::No, format!("stages {} have no Ready replica", many.join(", "))),
    }
    let short = super::facts::condition(object, Type::CapacityAvailable).filter(|found| found.status == "False");
    if short.is_some() {
        return (Serves::Short, "with less capacity than demand asks for".to_owned());
    }
    if tree.ready < tree.replicas {
        let missing = tree.replicas - tree.ready;
        let text = format!("every stage has Ready replicas; {missing} more are not Ready");
        return (Serves::Yes, text);
    }
    (Serves::Yes, "every stage has what it needs".to_owned())
}

/// Conditions that are not as they should be. `Ready` is left out where another says the same.
fn concerns(object: &TieredPipeline, now: Timestamp) -> Vec<Concern> {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    let found: Vec<Concern> = conditions
        .filter(|condition| {
            let wanted = if [Type::Reconciling.as_str(), Type::Stalled.as_str()].contains(&condition.type_.as_str()) {
                "False"
            } else {
                "True"
            };
            condition.status != wanted
        })
        .map(|condition| Concern {
            type_: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            for_seconds: seconds_since(&condition.last_transition_time, now),
        })
        .collect();
    let said = |message: &str| found.iter().filter(|concern| concern.message == message).count() > 1;
    let ready = Type::Ready.as_str();
    let kept = found
        .iter()
        .filter(|concern| concern.type_ != ready || !said(&concern.message));
    kept.cloned().collect()
}

/// What is missing: the operator's look, what stages say, what pods are stuck at.
fn waits_for(object: &TieredPipeline, tree: &Pipeline) -> Vec<String> {
    let mut waits = Vec::new();
    let seen = object.status.as_ref().and_then(|status| status.observed_generation);
    if object.metadata.generation.is_some() && object.status.is_some() && seen != object.metadata.generation {
        waits.push("the operator to look at the last change of the spec".to_owned());
    }
    for stage in &tree.stages {
        waits.extend(stage.message.iter().map(|message| {
            if message.contains(&format!("'{}'", stage.name)) {
                message.clone()
            } else {
                format!("stage '{}': {message}", stage.name)
            }
        }));
        for pool in &stage.pools {
            let mut stuck: BTreeMap<&str, u32> = BTreeMap::new();
            for pod in &pool.pods {
                if matches!(pod.state, State::Failing | State::Waiting | State::Starting) {
                    *stuck.entry(pod.reason.as_deref().unwrap_or("starting")).or_default() += 1;
                }
            }
            waits.extend(stuck.into_iter().map(|(reason, count)| {
                let pods = if count == 1 {
                    "1 pod".to_owned()
                } else {
                    format!("{count} pods")
                };
                format!("{pods} of stage '{}' on pool '{}': {reason}", stage.name, pool.name)
            }));
        }
    }
    waits
}
