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

/// A Deployment that is not there so long after the last of its pipeline came has been refused.
pub const CREATION_MS: u64 = 10_000;

/// Deployments that are wanted and not there, and since when. The core leaves a stage alone whose Deployments are still
/// coming, and goes on without those that have been refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing(HashMap<(String, String), u64>);

impl Missing {
    /// Takes in one pipeline's Deployments that are missing. `comes`: another of them has come since the last look, so
    /// however slow the server is, nothing has been refused yet.
    pub fn look(&mut self, before: &Self, missing: impl Iterator<Item = (String, String)>, comes: bool, now_ms: u64) {
        for key in missing {
            let since_ms = before.0.get(&key).copied().filter(|_| !comes);
            self.0.insert(key, since_ms.unwrap_or(now_ms));
        }
    }

    /// Wanted, not there, and not given up.
    pub fn is_coming(&self, key: &(String, String), now_ms: u64) -> bool {
        self.0.get(key).is_some_and(|since_ms| now_ms < since_ms + CREATION_MS)
    }

    /// Some have just been given up; true for a second, so that no look misses it.
    pub fn gives_up(&self, now_ms: u64) -> bool {
        let mut ends = self.0.values().map(|since_ms| since_ms + CREATION_MS);
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

    #[test]
    fn a_missing_deployment_is_waited_for_while_others_of_its_pipeline_come_and_for_ten_seconds_more() {
        let key = |name: &str| ("space".to_owned(), name.to_owned());
        let look = |before: &Missing, missing: &[&str], comes, now_ms| {
            let mut next = Missing::default();
            next.look(before, missing.iter().map(|name| key(name)), comes, now_ms);
            next
        };
        let first = look(&Missing::default(), &["a", "b"], false, 1_000);
        let slow = look(&first, &["b"], true, 10_900);
        assert!(slow.is_coming(&key("b"), 20_899), "`a` came at 10.9 s");
        assert!(!slow.is_coming(&key("b"), 20_900));
        assert!(!slow.is_coming(&key("a"), 11_000), "it is there");
        let refused = look(&slow, &["b"], false, 15_000);
        assert_eq!(refused, slow, "nothing came: the clock runs on");
        assert!(!refused.gives_up(20_899) && refused.gives_up(20_900) && !refused.gives_up(21_900));
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
