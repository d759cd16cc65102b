//! How fast the operator's writes followed what it could have seen, told by the two ends that are not the operator: the
//! fleet knows when it answered each scrape, and the API server's audit log when each write came in and was answered.
//!
//! For one write: from the newest scrape of the stage, or of a stage that calls it, answered before the write came in, to
//! the write's answer. Only stages whose signal is read from the pods, and only writes whose decision was set off by demand
//! that rose: a fall is acted on when its window ends, and a shift goes on when a new replica is Ready, not when a signal
//! comes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::decisions::Logged;
use super::models::StageModel;

/// One answered `PATCH` of a Deployment's scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The Deployment.
    pub deployment: String,
    /// When it came in, seconds since 1970.
    pub received_unix_s: f64,
    /// When it was answered.
    pub answered_unix_s: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    #[serde(default)]
    user: User,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Status,
    request_received_timestamp: jiff::Timestamp,
    stage_timestamp: jiff::Timestamp,
}

#[derive(Default, Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}

/// Successful scale writes of `user` in `namespace`, in the order of the audit log. Other lines are passed over.
pub fn writes(log: &Path, user: &str, namespace: &str) -> std::io::Result<Vec<Write>> {
    let text = std::fs::read_to_string(log)?;
    Ok(text.lines().filter_map(|line| write(line, user, namespace)).collect())
}

fn write(line: &str, user: &str, namespace: &str) -> Option<Write> {
    // Most lines are reads: looking for the word is much cheaper than parsing them.
    if !line.contains("\"scale\"") {
        return None;
    }
    let event: Event = serde_json::from_str(line).ok()?;
    let target = event.object_ref;
    let wanted = event.stage == "ResponseComplete"
        && event.verb == "patch"
        && event.user.username == user
        && target.resource == "deployments"
        && target.subresource == "scale"
        && target.namespace == namespace
        && event.response_status.code == 200;
    let unix_s = |time: jiff::Timestamp| time.duration_since(jiff::Timestamp::UNIX_EPOCH).as_secs_f64();
    wanted.then(|| Write {
        deployment: target.name,
        received_unix_s: unix_s(event.request_received_timestamp),
        answered_unix_s: unix_s(event.stage_timestamp),
    })
}

/// Reaction times, ms. `scrapes` (stage, seconds since 1970) may be in any order; `deployments` says which stage and pool a
/// Deployment is.
pub fn reactions(
    writes: &[Write],
    scrapes: &[(String, f64)],
    decisions: &[Logged],
    deployments: &BTreeMap<String, (String, String)>,
    stages: &[StageModel],
) -> Vec<f32> {
    let mut by_stage: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (stage, at) in scrapes {
        by_stage.entry(stage).or_default().push(*at);
    }
    for times in by_stage.values_mut() {
        times.sort_by(f64::total_cmp);
    }
    let newest_before = |stage: &str, at: f64| {
        let times = by_stage.get(stage)?;
        times
            .get(times.partition_point(|time| *time <= at).checked_sub(1)?)
            .copied()
    };
    let reaction = |write: &Write| {
        let (stage, pool) = deployments.get(&write.deployment)?;
        let position = stages.iter().position(|model| model.name == *stage && model.scraped)?;
        by_rise(write, stage, pool, decisions).then_some(())?;
        let seen = evidence(position, stages);
        let newest = seen
            .iter()
            .filter_map(|name| newest_before(name, write.received_unix_s));
        let newest = newest.max_by(f64::total_cmp)?;
        #[allow(clippy::cast_possible_truncation)] // a time in ms needs no more digits
        let ms = ((write.answered_unix_s - newest) * 1e3) as f32;
        Some(ms)
    };
    writes.iter().filter_map(reaction).collect()
}

/// Whether the last decision about this variant before the write came in was set off by a rise of demand.
fn by_rise(write: &Write, stage: &str, pool: &str, decisions: &[Logged]) -> bool {
    // Both clocks are this machine's; the log rounds to milliseconds.
    let before = |decision: &&Logged| {
        let at = decision.time.duration_since(jiff::Timestamp::UNIX_EPOCH).as_secs_f64();
        at <= write.received_unix_s + 0.002
            && decision.stage() == stage
            && decision.moves().iter().any(|step| step.pool == pool)
    };
    let last = decisions.iter().rfind(before);
    last.is_some_and(|decision| decision.trigger == "DemandRose")
}

/// The stage and everything that calls it, directly or not.
fn evidence(position: usize, stages: &[StageModel]) -> BTreeSet<&str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![position];
    while let Some(model) = open.pop().and_then(|at| stages.get(at)) {
        if seen.insert(model.name.as_str()) {
            open.extend(model.after.iter().map(|(from, _)| *from));
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::models::tests::models;

    const LINE: &str = r#"{"stage":"ResponseComplete","verb":"patch","user":{"username":"op"},"objectRef":{"resource":"deployments","subresource":"scale","namespace":"agents","name":"gen-l4"},"responseStatus":{"code":200},"requestReceivedTimestamp":"1970-01-01T00:00:10.020000Z","stageTimestamp":"1970-01-01T00:00:10.026000Z"}"#;

    fn decision(time: &str, trigger: &str) -> Logged {
        serde_json::from_value(
            serde_json::json!({"id": "1-1", "time": time, "trigger": trigger, "reason": "Cheapest",
            "summary": "generate: l4-spot 1->2", "costBefore": "1", "costAfter": "2", "demandMillis": 1}),
        )
        .unwrap()
    }

    fn measured(scrapes: &[(&str, f64)], decisions: &[Logged]) -> Vec<f32> {
        let (stages, _) = models();
        let scrapes: Vec<_> = scrapes.iter().map(|(stage, at)| ((*stage).to_owned(), *at)).collect();
        let deployments = [("gen-l4".to_owned(), ("generate".to_owned(), "l4-spot".to_owned()))].into();
        reactions(
            &[write(LINE, "op", "agents").unwrap()],
            &scrapes,
            decisions,
            &deployments,
            &stages,
        )
    }

    #[test]
    fn the_clock_starts_with_the_newest_answer_of_the_stage_or_a_caller() {
        let decisions = [decision("1970-01-01T00:00:10.019Z", "DemandRose")];
        let own = measured(&[("generate", 10.0), ("generate", 9.0), ("generate", 10.5)], &decisions);
        assert_eq!(own, [26.0]);
        assert_eq!(measured(&[("generate", 9.0), ("retrieve", 10.01)], &decisions), [16.0]);
        assert_eq!(
            measured(&[("tools", 10.01)], &decisions),
            [] as [f32; 0],
            "tools does not call it"
        );
    }

    #[test]
    fn shifts_and_other_users_are_no_reactions() {
        let decisions = [
            decision("1970-01-01T00:00:09.000Z", "DemandRose"),
            decision("1970-01-01T00:00:10.019Z", "ReplicaReady"),
        ];
        assert_eq!(measured(&[("generate", 10.0)], &decisions), [] as [f32; 0]);
        let fell = [decision("1970-01-01T00:00:10.019Z", "DemandFell")];
        assert_eq!(
            measured(&[("generate", 10.0)], &fell),
            [] as [f32; 0],
            "the window's end set it off"
        );
        assert_eq!(write(LINE, "somebody", "agents"), None);
        assert_eq!(
            write(&LINE.replace("\"code\":200", "\"code\":409"), "op", "agents"),
            None
        );
    }
}
