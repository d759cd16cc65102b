//! Pure: what is known of each Deployment's replicas, who wrote them last, and whether somebody else insists.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;

use super::super::live::Live;
use super::super::report::Foreign;
use crate::api::labels;

/// Foreign changes taken back within [`CONTEST_WINDOW_MS`] before tiercel holds.
const TAKE_BACKS_MAX: usize = 3;
/// How long a foreign change is remembered.
const CONTEST_WINDOW_MS: u64 = 5 * 60_000;

/// One Deployment as the rebalancer knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Child {
    /// The Deployment's UID.
    pub uid: Arc<str>,
    /// What it asks for, our own writes included once they are acknowledged: before that the core counts on them for
    /// nothing, or a shrink could be decided, and land, before the growth that it counts on.
    pub desired: u32,
    /// Version to write against.
    pub resource_version: String,
    /// `managedFields` show that the rebalancer owns the replicas.
    pub claimed: bool,
    /// A write of replicas is under way.
    pub in_flight: bool,
    /// A claim is under way. It changes no replicas, so no write waits for it: each is against a version, and whichever
    /// comes second looks again.
    pub claiming: bool,
    /// When claiming may be tried again.
    pub claim_after_ms: u64,
    /// Version of our last acknowledged write: older news from the watch is old news.
    acknowledged: Option<u64>,
    /// Times of foreign changes.
    taken: VecDeque<u64>,
    /// Who else writes.
    pub foreign: Option<Foreign>,
}

/// What an observation of a Deployment means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing new about replicas.
    Same,
    /// The replicas are these now; first sight, or our own write seen late.
    Replicas(u32),
    /// Somebody else changed them.
    Changed(u32),
}

impl Child {
    /// First sight of a Deployment.
    pub fn new(live: &Live<Deployment>) -> Self {
        let writer = live.facts.writer.as_deref();
        Self {
            uid: Arc::clone(&live.uid),
            desired: live.facts.desired,
            resource_version: live.resource_version.to_string(),
            claimed: live.facts.claimed,
            foreign: writer
                .filter(|writer| is_autoscaler(writer))
                .map(|writer| Foreign::Autoscaler(writer.to_owned())),
            ..Self::default()
        }
    }

    /// Takes in what the watch shows.
    pub fn observe(&mut self, live: &Live<Deployment>, now_ms: u64) -> Seen {
        let version = live.resource_version.to_string();
        // Versions of one kind are comparable numbers (the API guarantees it since 1.35, etcd always did it).
        let number = version.parse::<u64>().ok();
        if self.in_flight || matches!((number, self.acknowledged), (Some(seen), Some(own)) if seen < own) {
            return Seen::Same;
        }
        self.resource_version = version;
        self.claimed = live.facts.claimed;
        let owner = live.facts.writer.as_deref().unwrap_or_default().to_owned();
        self.taken.retain(|&at| now_ms.saturating_sub(at) < CONTEST_WINDOW_MS);
        let replicas = live.facts.desired;
        let foreign = owner != labels::REBALANCER_FIELD_MANAGER && owner != labels::FIELD_MANAGER;
        if replicas != self.desired && foreign {
            self.taken.push_back(now_ms);
        }
        self.foreign = if foreign && is_autoscaler(&owner) {
            Some(Foreign::Autoscaler(owner))
        } else if self.taken.len() > TAKE_BACKS_MAX {
            Some(Foreign::Contested(if foreign {
                owner
            } else {
                "another manager".to_owned()
            }))
        } else {
            None
        };
        if replicas == self.desired {
            return Seen::Same;
        }
        self.desired = replicas;
        if foreign {
            Seen::Changed(replicas)
        } else {
            Seen::Replicas(replicas)
        }
    }

    /// Our write was acknowledged.
    pub fn acknowledge(&mut self, replicas: u32, resource_version: String) {
        self.in_flight = false;
        self.claimed = true;
        self.desired = replicas;
        self.acknowledged = resource_version.parse().ok().or(self.acknowledged);
        self.resource_version = resource_version;
    }

    /// Our claim was acknowledged.
    pub fn claim(&mut self, resource_version: String) {
        self.claimed = true;
        self.learn(None, resource_version);
    }

    /// Our claim found these replicas at another version.
    pub fn outrun(&mut self, replicas: u32, resource_version: String) {
        self.learn(Some(replicas), resource_version);
    }

    /// Takes in what a claim has seen, unless a write of replicas knows better.
    fn learn(&mut self, replicas: Option<u32>, resource_version: String) {
        self.claiming = false;
        let number = resource_version.parse::<u64>().ok();
        if !self.in_flight && number > self.acknowledged {
            self.desired = replicas.unwrap_or(self.desired);
            self.acknowledged = number;
            self.resource_version = resource_version;
        }
    }

    /// Forgets old contests; says whether that changed anything.
    pub fn relax(&mut self, now_ms: u64) -> bool {
        self.taken.retain(|&at| now_ms.saturating_sub(at) < CONTEST_WINDOW_MS);
        if matches!(self.foreign, Some(Foreign::Contested(_))) && self.taken.len() <= TAKE_BACKS_MAX {
            self.foreign = None;
            return true;
        }
        false
    }
}

/// A Deployment that is not there so long after the last of its pipeline came is not waited for any longer. Generous: where
/// hundreds of pipelines are new, what is written of one waits for its turn among all the others.
pub const CREATION_MS: u64 = 60_000;

/// Deployments that are wanted and not there: since when each is waited for, or that none is coming. The core leaves a stage
/// alone whose Deployments are still coming, and goes on without those that are not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing(HashMap<(String, String), Option<u64>>);

/// A Deployment that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Namespace and name.
    pub key: (String, String),
    /// It was not wanted before, and others of its stage were there before: it will be created empty, so there is nothing
    /// about it to wait for.
    pub added: bool,
}

impl Missing {
    /// Takes in one pipeline's Deployments that are missing. `comes`: another of them has come since the last look, so
    /// however slow the server is, nothing has been given up yet.
    pub fn look(&mut self, before: &Self, missing: impl Iterator<Item = Absent>, comes: bool, now_ms: u64) {
        for Absent { key, added } in missing {
            let since_ms = match before.0.get(&key).copied() {
                Some(None) => None,
                Some(since_ms) if !comes => since_ms,
                None if added => None,
                _ => Some(now_ms),
            };
            self.0.insert(key, since_ms);
        }
    }

    /// The API server refuses it. Says whether that is news.
    pub fn refuse(&mut self, key: (String, String)) -> bool {
        self.0.insert(key, None) != Some(None)
    }

    /// Wanted, not there, and waited for.
    pub fn is_coming(&self, key: &(String, String), now_ms: u64) -> bool {
        let since_ms = self.0.get(key).copied().flatten();
        since_ms.is_some_and(|since_ms| now_ms < since_ms + CREATION_MS)
    }

    /// Some have just been given up; true for a second, so that no look misses it.
    pub fn gives_up(&self, now_ms: u64) -> bool {
        let mut ends = self.0.values().flatten().map(|since_ms| since_ms + CREATION_MS);
        ends.any(|end_ms| (end_ms..end_ms + 1_000).contains(&now_ms))
    }
}

/// `HorizontalPodAutoscaler` writes through the controller manager, which writes no other Deployment's replicas.
fn is_autoscaler(manager: &str) -> bool {
    manager == "kube-controller-manager" || manager.starts_with("keda") || manager.contains("autoscaler")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> (String, String) {
        ("space".to_owned(), name.to_owned())
    }

    fn look(before: &Missing, missing: &[(&str, bool)], comes: bool, now_ms: u64) -> Missing {
        let mut next = Missing::default();
        let absent = missing.iter().map(|&(name, added)| Absent { key: key(name), added });
        next.look(before, absent, comes, now_ms);
        next
    }

    #[test]
    fn a_missing_deployment_is_waited_for_while_others_of_its_pipeline_come_and_for_a_minute_more() {
        let first = look(&Missing::default(), &[("a", false), ("b", false)], false, 1_000);
        let slow = look(&first, &[("b", false)], true, 60_900);
        assert!(slow.is_coming(&key("b"), 120_899), "`a` came at 60.9 s");
        assert!(!slow.is_coming(&key("b"), 120_900));
        assert!(!slow.is_coming(&key("a"), 61_000), "it is there");
        let late = look(&slow, &[("b", false)], false, 65_000);
        assert_eq!(late, slow, "nothing came: the clock runs on");
        assert!(!late.gives_up(120_899) && late.gives_up(120_900) && !late.gives_up(121_900));
    }

    #[test]
    fn a_deployment_that_is_refused_is_not_waited_for_not_even_while_others_come() {
        let mut first = look(&Missing::default(), &[("a", false), ("b", false)], false, 1_000);
        assert!(first.refuse(key("b")));
        assert!(!first.refuse(key("b")), "known");
        assert!(first.is_coming(&key("a"), 1_000) && !first.is_coming(&key("b"), 1_000));
        let next = look(&first, &[("a", false), ("b", false)], true, 2_000);
        assert!(next.is_coming(&key("a"), 2_000) && !next.is_coming(&key("b"), 2_000));
        assert!(!next.gives_up(61_000), "of `b` nothing more is to be learned");
        let mut soon = Missing::default();
        soon.refuse(key("c"));
        assert!(
            !look(&soon, &[("c", false)], true, 0).is_coming(&key("c"), 0),
            "refused before it was looked for"
        );
        let there = look(&next, &[("a", false)], true, 3_000);
        assert!(
            look(&there, &[("b", false)], false, 4_000).is_coming(&key("b"), 4_000),
            "it was there meanwhile"
        );
    }

    #[test]
    fn a_stage_that_runs_does_not_wait_for_what_is_created_empty_beside_it() {
        let first = look(&Missing::default(), &[("a", true), ("b", false)], false, 1_000);
        assert!(!first.is_coming(&key("a"), 1_000) && first.is_coming(&key("b"), 1_000));
        let next = look(&first, &[("a", false), ("b", true)], true, 2_000);
        assert!(
            !next.is_coming(&key("a"), 2_000),
            "wanted before, and still created empty"
        );
        assert!(
            next.is_coming(&key("b"), 2_000),
            "others of its stage came after it was wanted"
        );
    }

    fn deployment(replicas: i32, version: u64, manager: &str) -> Live<Deployment> {
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "resourceVersion": version.to_string(), "managedFields": [{
                "manager": manager, "operation": "Update", "apiVersion": "apps/v1",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]},
            "spec": {"replicas": replicas, "selector": {}, "template": {}},
        }))
        .unwrap()
    }

    #[test]
    fn news_older_than_our_own_write_is_ignored() {
        let mut child = Child::new(&deployment(2, 10, labels::FIELD_MANAGER));
        child.acknowledge(5, "20".into());
        assert_eq!(child.observe(&deployment(2, 15, labels::FIELD_MANAGER), 0), Seen::Same);
        assert_eq!(child.desired, 5);
        assert_eq!(
            child.observe(&deployment(5, 20, labels::REBALANCER_FIELD_MANAGER), 0),
            Seen::Same
        );
        assert_eq!(child.observe(&deployment(4, 21, "kubectl"), 0), Seen::Changed(4));
    }

    #[test]
    fn a_claim_beside_a_write_never_takes_back_what_the_write_did() {
        let child = || {
            let mut child = Child::new(&deployment(2, 10, labels::FIELD_MANAGER));
            (child.claiming, child.in_flight) = (true, true);
            child
        };
        let mut first = child();
        first.claim("11".into());
        assert!(first.claimed && first.in_flight && !first.claiming);
        first.acknowledge(5, "12".into());
        assert_eq!((first.desired, first.resource_version.as_str()), (5, "12"));

        let mut last = child();
        last.acknowledge(5, "12".into());
        last.claim("11".into());
        assert_eq!((last.desired, last.resource_version.as_str()), (5, "12"));

        let mut outrun = child();
        outrun.in_flight = false;
        outrun.outrun(3, "11".into());
        assert_eq!((outrun.desired, outrun.resource_version.as_str()), (3, "11"));
        assert_eq!(outrun.observe(&deployment(2, 10, labels::FIELD_MANAGER), 0), Seen::Same);
    }

    #[test]
    fn a_fight_is_given_up_after_three_take_backs_and_forgotten_after_five_minutes() {
        let mut child = Child::new(&deployment(2, 1, labels::REBALANCER_FIELD_MANAGER));
        for round in 0..4_u64 {
            child.observe(&deployment(7, 10 + 2 * round, "kubectl"), round * 1_000);
            assert_eq!(child.foreign.is_some(), round == 3, "round {round}");
            child.acknowledge(2, (11 + 2 * round).to_string());
        }
        assert!(!child.relax(60_000));
        assert!(child.relax(CONTEST_WINDOW_MS + 60_000));
        assert_eq!(child.foreign, None);
    }

    #[test]
    fn replicas_that_an_autoscaler_owns_are_its_own() {
        let mut child = Child::new(&deployment(2, 1, labels::REBALANCER_FIELD_MANAGER));
        child.observe(&deployment(3, 2, "kube-controller-manager"), 0);
        assert_eq!(
            child.foreign,
            Some(Foreign::Autoscaler("kube-controller-manager".into()))
        );
    }
}
