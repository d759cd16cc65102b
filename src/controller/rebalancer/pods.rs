//! Pure: the pods of each variant: who is Ready and how long that took, who cannot be placed or started.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::super::owners::Owners;
use super::super::view::{PodView, Stop};
use crate::rebalance::world::{DryReason, Event, VariantIdx};

/// How long a pod may be refused by the scheduler before that says anything about the pool: pods that are leaving make
/// room within it.
const UNSCHEDULABLE_MS: u64 = 3_000;
/// How long a container may fail to start before that says anything.
const CANNOT_START_MS: u64 = 5_000;

/// A start that takes no whole second by timestamps of whole seconds takes half of one.
const START_MS_MIN: u64 = 500;

/// Reasons of a waiting container that another try on the same pool will not mend.
const CANNOT_START: [&str; 8] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CrashLoopBackOff",
    "CreateContainerError",
    "CreateContainerConfigError",
    "RunContainerError",
    "StartError",
];

/// One pod of a variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its UID.
    pub uid: Arc<str>,
    /// UID of the `ReplicaSet` that controls it.
    replica_set: Box<str>,
    /// Its namespace and name.
    pub name: (String, String),
    /// Its address, if it may be asked for metrics.
    pub ip: Option<IpAddr>,
    /// The first container's first port.
    pub port: Option<u16>,
    /// Ready and not leaving.
    pub ready: bool,
    /// Being deleted; it holds its requests until it is gone.
    pub leaving: bool,
    trouble: Option<(DryReason, u64)>,
    /// The kubelet's word for a container that does not start.
    word: Option<Box<str>>,
    /// Its first readiness has been seen, or nobody can tell it any more.
    started: bool,
}

/// How a pod came to be Ready for the first time, by its own timestamps.
///
/// They have whole seconds, and come from the clocks of the API server, the scheduler and the node: a difference is off by less
/// than a second where those agree. One that is negative says that they do not, and counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Start {
    /// From its creation until it was bound to a node.
    waited_ms: u64,
    /// From its creation to Ready.
    took_ms: u64,
    /// It was Ready when it was seen first.
    found: bool,
}

/// All pods of tiercel by the label of their variant. A label proves nothing: only those count whose `ReplicaSet` belongs to
/// the variant's Deployment.
#[derive(Debug, Default)]
pub struct Pods {
    /// Most have one or none, and a node of a map has room for eleven.
    by_variant: HashMap<String, BTreeMap<Arc<str>, Box<Pod>>>,
    /// UID of the Deployment of each variant that has one.
    deployments: HashMap<Arc<str>, Arc<str>>,
    owners: Owners,
    /// Pods that cannot be placed or started, by variant and UID.
    troubled: BTreeSet<(String, Arc<str>)>,
    /// Pods that got Ready for the first time and have not been told yet, likewise.
    starts: BTreeMap<(String, Arc<str>), Start>,
}

impl Pods {
    /// None yet. `owners` tells which Deployment a `ReplicaSet` belongs to.
    pub fn new(owners: Owners) -> Self {
        Self {
            owners,
            ..Self::default()
        }
    }

    /// These are the variants' Deployments from now on, by UID.
    pub fn belong(&mut self, deployments: impl Iterator<Item = (Arc<str>, Arc<str>)>) {
        self.deployments = deployments.collect();
    }

    /// Takes in one pod. Says which variant's ready pods changed.
    pub fn apply(&mut self, view: &PodView, now_ms: u64) -> Option<String> {
        let (variant, uid) = (view.variant_id()?, view.uid()?);
        let pods = self.by_variant.entry(variant.to_owned()).or_default();
        let uid: Arc<str> = uid.into();
        let known = pods.get(&uid).map(AsRef::as_ref);
        let trouble = trouble(view).map(|reason| match known.and_then(|pod| pod.trouble) {
            Some((same, since)) if same == reason => (reason, since),
            _ => (reason, now_ms),
        });
        let before = known.is_some_and(|pod| pod.started);
        let found = known.is_none();
        if !before
            && view.status.ready
            && let Some(start) = start(view, found)
        {
            self.starts.insert((variant.to_owned(), Arc::clone(&uid)), start);
        }
        let pod = Pod {
            started: before || view.status.ready || view.status.again || stuck(view).is_some(),
            uid: Arc::clone(&uid),
            replica_set: view.replica_set()?.into(),
            name: (view.namespace().unwrap_or_default(), view.name_any()),
            // A pod on the node's network answers at the node's address, which is nobody's to scrape.
            ip: view.status.ip.filter(|_| !view.spec.host_network),
            port: view.spec.ports.first().map(|port| port.container_port),
            ready: view.status.ready && view.metadata.deletion_timestamp.is_none(),
            leaving: view.metadata.deletion_timestamp.is_some(),
            trouble,
            word: stuck(view).map(|stop| stop.reason.clone()),
        };
        let changed = known != Some(&pod);
        if pod.trouble.is_some() {
            self.troubled.insert((variant.to_owned(), Arc::clone(&uid)));
        } else if !self.troubled.is_empty() {
            self.troubled.remove(&(variant.to_owned(), Arc::clone(&uid)));
        }
        pods.insert(uid, Box::new(pod));
        changed.then(|| variant.to_owned())
    }

    /// Forgets one pod. Says which variant it belonged to.
    pub fn remove(&mut self, view: &PodView) -> Option<String> {
        let (variant, uid) = (view.variant_id()?, view.uid()?);
        let pods = self.by_variant.get_mut(variant)?;
        let (uid, _) = pods.remove_entry(uid.as_str())?;
        let key = (variant.to_owned(), uid);
        self.troubled.remove(&key);
        self.starts.remove(&key);
        if pods.is_empty() {
            self.by_variant.remove(variant);
        }
        Some(variant.to_owned())
    }

    /// Replaces everything with what a list shows: what vanished in a gap of the watch is gone.
    pub fn replace(&mut self, all: &[Arc<PodView>], now_ms: u64) {
        let mut before = std::mem::take(&mut self.by_variant);
        for view in all {
            if let Some(variant) = view.variant_id()
                && let Some(known) = before.remove(variant)
            {
                self.by_variant.insert(variant.to_owned(), known);
            }
        }
        let live: std::collections::HashSet<String> = all.iter().filter_map(|view| view.uid()).collect();
        for pods in self.by_variant.values_mut() {
            pods.retain(|uid, _| live.contains(uid.as_ref()));
        }
        let by_variant = &self.by_variant;
        let stays = |variant: &str, uid: &Arc<str>| by_variant.get(variant).is_some_and(|pods| pods.contains_key(uid));
        self.troubled.retain(|(variant, uid)| stays(variant, uid));
        self.starts.retain(|(variant, uid), _| stays(variant, uid));
        for view in all {
            self.apply(view, now_ms);
        }
    }

    /// Variants some of whose pods cannot be placed or started, each once for every such pod.
    pub fn troubled(&self) -> impl Iterator<Item = &str> {
        self.troubled.iter().map(|(variant, _)| variant.as_str())
    }

    /// Pods that got Ready for the first time, each told once, as soon as it counts: `known` gives a variant's index and what a
    /// new node may take there.
    pub fn starts(&mut self, known: impl Fn(&str) -> Option<(VariantIdx, u64)>) -> Vec<Event> {
        let mut events = Vec::new();
        let mut starts = std::mem::take(&mut self.starts);
        starts.retain(|(id, uid), start| {
            let counts = |uid: &Arc<str>| self.of(id).any(|pod| pod.uid == *uid);
            let Some((variant, provision_ms)) = known(id).filter(|_| counts(uid)) else {
                return true;
            };
            // A node that is started for it is part of its start. Any longer it has waited for room, which says nothing.
            if start.waited_ms <= UNSCHEDULABLE_MS.max(provision_ms) {
                events.push(Event::Started {
                    variant,
                    took_ms: start.took_ms.max(START_MS_MIN),
                    found: start.found,
                });
            }
            false
        });
        self.starts = starts;
        events
    }

    /// The pods of a variant.
    pub fn of(&self, variant: &str) -> impl Iterator<Item = &Pod> {
        let deployment = self.deployments.get(variant);
        let all = self
            .by_variant
            .get(variant)
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(AsRef::as_ref);
        all.filter(move |pod: &&Pod| deployment.is_some_and(|uid| self.owners.own(uid, &pod.replica_set)))
    }

    /// Ready pods of a variant.
    pub fn ready(&self, variant: &str) -> u32 {
        u32::try_from(self.of(variant).filter(|pod| pod.ready).count()).unwrap_or(u32::MAX)
    }

    /// Pods of a variant that are being deleted and still hold their requests.
    pub fn leaving(&self, variant: &str) -> u32 {
        u32::try_from(self.of(variant).filter(|pod| pod.leaving).count()).unwrap_or(u32::MAX)
    }

    /// The kubelet's word for why pods of a variant do not start, such as `ImagePullBackOff`.
    pub fn word(&self, variant: &str) -> Option<&str> {
        self.of(variant).find_map(|pod| pod.word.as_deref())
    }

    /// Why a variant cannot place or start pods, once that has lasted. `provision_ms` is what a new node may take.
    pub fn dry(&self, variant: &str, provision_ms: u64, now_ms: u64) -> Option<DryReason> {
        self.of(variant).find_map(|pod| {
            let (reason, since) = pod.trouble?;
            let patience = match reason {
                DryReason::Unschedulable => UNSCHEDULABLE_MS.max(provision_ms),
                DryReason::CannotStart => CANNOT_START_MS,
                DryReason::Reclaimed => 0,
            };
            (now_ms.saturating_sub(since) >= patience).then_some(reason)
        })
    }
}

/// How a pod came to be Ready, if that was its first time.
fn start(view: &PodView, found: bool) -> Option<Start> {
    let created = view.metadata.creation_timestamp.as_ref()?;
    let since = |time: &Time| u64::try_from(time.0.duration_since(created.0).as_millis()).ok();
    let took_ms = since(view.status.ready_changed.as_ref()?)?;
    let waited_ms = view.status.scheduled.as_ref().and_then(since).unwrap_or_default();
    (!view.status.again).then_some(Start {
        waited_ms,
        took_ms,
        found,
    })
}

fn trouble(view: &PodView) -> Option<DryReason> {
    if view.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if view.status.unschedulable.is_some() {
        return Some(DryReason::Unschedulable);
    }
    stuck(view).map(|_| DryReason::CannotStart)
}

/// Of a pod that stays, why a container does not start.
fn stuck(view: &PodView) -> Option<&Stop> {
    let waiting = view.status.waiting.as_ref()?;
    let stays = view.metadata.deletion_timestamp.is_none();
    (stays && CANNOT_START.contains(&waiting.reason.as_ref())).then_some(waiting)
}

#[cfg(test)]
mod tests;
