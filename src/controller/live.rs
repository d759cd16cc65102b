//! Children as far as tiercel reads them.
//!
//! There are thousands: a Deployment for every stage on every pool. So a store keeps of each only who it is, what its
//! replicas are about, and whether it is as wanted. What it says in full is kept, packed, until a pass has compared it with
//! what is wanted; after that one word, the fingerprint it was applied with, stands for all of it.

mod body;
mod store;
mod wire;
mod words;
mod workload;

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Resource;
use serde_json::Value;

use self::body::Body;
pub use self::store::{Children, News, Writer};
pub use self::wire::Wire;
use self::words::Words;
pub use self::workload::Workload;

/// A kind that tiercel writes.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + fmt::Debug + Send + Sync + 'static
{
    /// What is read of it beside its identity.
    type Facts: for<'a> From<wire::Source<'a>> + Clone + fmt::Debug + Send + Sync + 'static;

    /// A word of its facts that many have in common.
    fn common_word(facts: &mut Self::Facts) -> Option<&mut Arc<str>> {
        let _ = facts;
        None
    }
}

impl Kind for Deployment {
    type Facts = Workload;

    fn common_word(facts: &mut Workload) -> Option<&mut Arc<str>> {
        facts.writer.as_mut()
    }
}

impl Kind for Service {
    type Facts = ();
}

impl Kind for PodDisruptionBudget {
    type Facts = ();
}

impl Kind for ServiceAccount {
    type Facts = ();
}

/// A child in the cluster.
pub struct Live<K: Kind> {
    /// Its name.
    pub name: Box<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its UID; empty if it says none.
    pub uid: Arc<str>,
    /// Its version; empty if it says none.
    pub resource_version: Box<str>,
    /// It is being deleted.
    pub leaving: bool,
    /// Who controls it.
    pub controller: Option<Controller>,
    /// The pipeline that its label names.
    pub pipeline: Option<Arc<str>>,
    /// The stage that its label names.
    pub stage: Option<Arc<str>>,
    /// The stage's identity that its label names.
    pub stage_id: Option<Arc<str>>,
    /// The pool that its label names.
    pub pool: Option<Arc<str>>,
    /// What is read of its kind.
    pub facts: K::Facts,
    body: Mutex<Body>,
    kind: PhantomData<K>,
}

/// An owner reference that says `controller`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// The owner's name.
    pub name: Arc<str>,
    /// The owner's UID.
    pub uid: Arc<str>,
}

impl<K: Kind> Live<K> {
    /// Controlled by the pipeline with this UID.
    pub fn is_ours(&self, uid: &str) -> bool {
        self.controller.as_ref().is_some_and(|owner| &*owner.uid == uid)
    }

    /// Whether it says all that `wanted` says, replicas left out. `fingerprint` is that of `wanted`, and stands in its
    /// annotations.
    pub fn is_as(&self, fingerprint: u64, wanted: &Value) -> bool {
        self.body().is_as(fingerprint, wanted)
    }

    /// Shares with others what they say too.
    fn share(&mut self, words: &mut Words) {
        let labels = [&mut self.pipeline, &mut self.stage, &mut self.stage_id, &mut self.pool];
        let owner = self
            .controller
            .iter_mut()
            .flat_map(|owner| [&mut owner.name, &mut owner.uid]);
        let all = labels.into_iter().flatten().chain(owner);
        for word in all.chain(K::common_word(&mut self.facts)).chain([&mut self.namespace]) {
            words.share(word);
        }
    }

    /// Takes over what is known of an older version if it says the same; else packs what it says.
    fn settle(&self, known: Option<&Self>) {
        let mut body = self.body();
        match known.filter(|known| known.uid == self.uid) {
            Some(known) => body.settle(&known.body()),
            None => body.pack(),
        }
    }

    fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Kind> Clone for Live<K> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            uid: self.uid.clone(),
            resource_version: self.resource_version.clone(),
            leaving: self.leaving,
            controller: self.controller.clone(),
            pipeline: self.pipeline.clone(),
            stage: self.stage.clone(),
            stage_id: self.stage_id.clone(),
            pool: self.pool.clone(),
            facts: self.facts.clone(),
            body: Mutex::new(self.body().clone()),
            kind: PhantomData,
        }
    }
}

impl<K: Kind> fmt::Debug for Live<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(&K::kind(&()))
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("resource_version", &self.resource_version)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
