//! I/O: writes the children in order, workloads last, and prunes what belongs to no stage any more.
//!
//! A child that already is as wanted is not written: converged pipelines cost no request.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::{FuturesOrdered, StreamExt as _};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::build::Desired;
use super::dereference::Found;
use super::validate::{is_ours, rebalancer_owns};
use crate::api::labels;
use crate::controller::live::{Kind, Live};

/// What a child is refused for when somebody else has its name.
pub const TAKEN: &str = "the name is taken by an object that tiercel does not own; rename or delete it";
/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(30);
/// Children of one kind that are written at once: a new pipeline stands as soon as the server can take it, and one pass
/// cannot crowd out the others. The client's own limit comes on top.
const IN_FLIGHT: usize = 8;

/// Writing failed for the whole pass.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A child cannot be written as JSON; a defect.
    #[error("cannot serialize {kind} '{name}': {source}")]
    Serialize {
        /// Kind of the child.
        kind: String,
        /// Its name.
        name: String,
        /// What went wrong.
        source: serde_json::Error,
    },
    /// The API server did not answer in time.
    #[error("no answer to writing {kind} '{name}' within {}s", DEADLINE.as_secs())]
    Deadline {
        /// Kind of the child.
        kind: String,
        /// Its name.
        name: String,
    },
    /// The API server could not be asked, or is out of order.
    #[error("cannot write {kind} '{name}': {source}")]
    Api {
        /// Kind of the child.
        kind: String,
        /// Its name.
        name: String,
        /// What it said.
        source: kube::Error,
    },
}

/// A child that the API server refused: a quota, an admission plug-in, a conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Kind of the child.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What the server said.
    pub message: String,
    /// The next pass may well succeed: somebody else was faster.
    pub transient: bool,
}

/// What a pass wrote.
#[derive(Debug)]
pub struct Report {
    /// Children written, by kind and name.
    pub written: Vec<(String, String)>,
    /// Children deleted, by kind and name.
    pub pruned: Vec<(String, String)>,
    /// Children refused.
    pub refused: Vec<Refused>,
}

impl Report {
    /// Names of Deployments that are not coming.
    pub fn refused_deployments(&self) -> impl Iterator<Item = &str> {
        let lasting = self.refused.iter().filter(|child| !child.transient);
        lasting
            .filter(|child| child.kind == "Deployment")
            .map(|child| child.name.as_str())
    }
}

/// Brings the children in line with `desired`.
///
/// # Errors
/// When the API server cannot be reached or does not answer: the pass is tried again. What it refuses is in the report.
pub async fn apply(client: &Client, desired: Desired, found: &Found) -> Result<Report, Error> {
    let Desired {
        namespace,
        uid,
        accounts,
        services,
        budgets,
        deployments,
        kept,
        kept_stages,
        ..
    } = desired;
    // All of it before the first wait: while a pass waits for its turn to write, it holds only what it will write.
    let accounts = Wanted::of(accounts.into_iter().map(|it| (it, true)), &found.accounts, &uid)?;
    let services = Wanted::of(services.into_iter().map(|it| (it, true)), &found.services, &uid)?;
    let budgets = Wanted::of(budgets.into_iter().map(|it| (it, true)), &found.budgets, &uid)?;
    let deployments = deployments.into_iter().map(|(it, claim)| (it, claim.forces()));
    let deployments = Wanted::of(deployments, &found.deployments, &uid)?;
    let mut pass = Pass {
        namespace,
        uid,
        ..Pass::new(client)
    };
    pass.ensure_all(accounts.unmet, &found.accounts).await?;
    pass.ensure_all(services.unmet, &found.services).await?;
    pass.ensure_all(budgets.unmet, &found.budgets).await?;
    pass.ensure_all(deployments.unmet, &found.deployments).await?;
    let stays = |stage: Option<&str>| stage.is_some_and(|stage| kept_stages.iter().any(|kept| kept == stage));
    pass.prune(&found.deployments, |name, child| {
        deployments.names.contains(name) || kept.iter().any(|kept| kept == name) || stays(child.stage.as_deref())
    })
    .await?;
    pass.prune(&found.services, |name, child| {
        services.names.contains(name) || stays(child.stage.as_deref())
    })
    .await?;
    pass.prune(&found.budgets, |name, child| {
        budgets.names.contains(name) || stays(child.stage.as_deref())
    })
    .await?;
    let Pass {
        written,
        pruned,
        refused,
        ..
    } = pass;
    Ok(Report {
        written,
        pruned,
        refused,
    })
}

/// The children of one kind: all their names, and what is not as wanted yet.
struct Wanted<K> {
    names: BTreeSet<String>,
    unmet: Vec<Unmet<K>>,
}

/// A child to be written.
struct Unmet<K> {
    name: String,
    /// What to apply, as JSON: a fifth of the object.
    body: Box<[u8]>,
    /// Whether it takes fields over.
    force: bool,
    kind: PhantomData<K>,
}

impl<K: Kind + Serialize> Wanted<K> {
    /// `all`: each with whether it takes fields over.
    fn of(
        all: impl Iterator<Item = (K, bool)>,
        live: &BTreeMap<String, Arc<Live<K>>>,
        uid: &str,
    ) -> Result<Self, Error> {
        let (mut names, mut unmet) = (BTreeSet::new(), Vec::new());
        for (child, force) in all {
            let name = child.name_any();
            names.insert(name.clone());
            let serialize = |source| Error::Serialize {
                kind: K::kind(&()).into_owned(),
                name: name.clone(),
                source,
            };
            let mut body = serde_json::to_value(&child).map_err(serialize)?;
            let fingerprint = fingerprint(&body);
            if let Some(metadata) = body.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
                metadata.insert(
                    "annotations".to_owned(),
                    serde_json::json!({ labels::APPLIED: format!("{fingerprint:016x}") }),
                );
            }
            let met = live
                .get(&name)
                .is_some_and(|live| live.is_ours(uid) && live.is_as(fingerprint, &without_replicas(&body)));
            if !met {
                unmet.push(Unmet {
                    name,
                    body: body.to_string().into_bytes().into(),
                    force,
                    kind: PhantomData,
                });
            }
        }
        Ok(Self { names, unmet })
    }
}

struct Pass<'a> {
    client: &'a Client,
    namespace: String,
    uid: String,
    written: Vec<(String, String)>,
    pruned: Vec<(String, String)>,
    refused: Vec<Refused>,
}

impl<'a> Pass<'a> {
    const fn new(client: &'a Client) -> Self {
        Self {
            client,
            namespace: String::new(),
            uid: String::new(),
            written: Vec::new(),
            pruned: Vec::new(),
            refused: Vec::new(),
        }
    }

    /// Writes what is not as wanted of the children of one kind.
    async fn ensure_all<K>(&mut self, unmet: Vec<Unmet<K>>, live: &BTreeMap<String, Arc<Live<K>>>) -> Result<(), Error>
    where
        K: Kind + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        let stopped = AtomicBool::new(false);
        let (api, uid, stopped) = (&api, self.uid.clone(), &stopped);
        let begin = |child: Unmet<K>| {
            let uid = uid.as_str();
            async move {
                // What is under way when one fails is waited for, for it may have been done; nothing more is begun.
                if stopped.load(Ordering::Relaxed) {
                    return (child.name, Ok(Ensured::AsWanted));
                }
                let outcome = ensure(api, uid, &child, live.get(&child.name)).await;
                stopped.fetch_or(outcome.is_err(), Ordering::Relaxed);
                (child.name, outcome)
            }
        };
        // Begun one by one: a write that only waits for its turn is kilobytes.
        let mut waiting = unmet.into_iter();
        let mut under_way: FuturesOrdered<_> = waiting.by_ref().take(IN_FLIGHT).map(begin).collect();
        let mut failed = None;
        while let Some((name, outcome)) = under_way.next().await {
            under_way.extend(waiting.next().map(begin));
            let kind = K::kind(&()).into_owned();
            match outcome {
                Ok(Ensured::AsWanted) => {}
                Ok(Ensured::Written) => self.written.push((kind, name)),
                Ok(Ensured::Refused { message, transient }) => self.refuse(kind, name, &message, transient),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Deletes our children that nothing wants any more, and only exactly what was looked at.
    async fn prune<K>(
        &mut self,
        live: &BTreeMap<String, Arc<Live<K>>>,
        wanted: impl Fn(&str, &Live<K>) -> bool,
    ) -> Result<(), Error>
    where
        K: Kind + DeserializeOwned,
    {
        let stale = live
            .iter()
            .filter(|(name, child)| child.is_ours(&self.uid) && !child.leaving && !wanted(name, child));
        let stale: Vec<(String, Arc<Live<K>>)> = stale.map(|(name, child)| (name.clone(), Arc::clone(child))).collect();
        for (name, child) in stale {
            let kind = K::kind(&()).into_owned();
            let params = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Background),
                preconditions: Some(Preconditions {
                    uid: Some(child.uid.to_string()),
                    resource_version: Some(child.resource_version.to_string()),
                }),
                ..DeleteParams::default()
            };
            let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
            match tokio::time::timeout(DEADLINE, api.delete(&name, &params)).await {
                Err(_) => return Err(Error::Deadline { kind, name }),
                Ok(Ok(_)) => {
                    tracing::info!(kind, name, "deleted: no stage needs it any more");
                    self.pruned.push((kind, name));
                }
                // Gone already, or changed since: the next pass looks again.
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                    self.refuse(kind, name, &status.message, true);
                }
                Ok(Err(source)) => return Err(Error::Api { kind, name, source }),
            }
        }
        Ok(())
    }

    fn refuse(&mut self, kind: String, name: String, message: &str, transient: bool) {
        self.refused.push(Refused {
            kind,
            name,
            message: message.to_owned(),
            transient,
        });
    }
}

/// What became of one child.
enum Ensured {
    AsWanted,
    Written,
    Refused { message: String, transient: bool },
}

/// Applies one child that is not as wanted.
async fn ensure<K>(api: &Api<K>, uid: &str, wanted: &Unmet<K>, live: Option<&Arc<Live<K>>>) -> Result<Ensured, Error>
where
    K: Kind + DeserializeOwned,
{
    let (kind, name) = (K::kind(&()).into_owned(), wanted.name.clone());
    // Only objects with our labels are watched: another one under this name would not show in the stores.
    let unwatched = match live {
        Some(_) => None,
        None => look(api, &kind, &name).await?,
    };
    let there = live.map_or_else(
        || unwatched.as_ref().map(|found| is_ours(found, uid)),
        |live| Some(live.is_ours(uid)),
    );
    if there == Some(false) {
        return Ok(Ensured::Refused {
            message: TAKEN.to_owned(),
            transient: false,
        });
    }
    // Ours, and merely newer than the stores: they will show it and wake the next pass, which then knows its replicas.
    if unwatched.as_ref().is_some_and(is_watched) {
        return Ok(Ensured::AsWanted);
    }
    let mut body: serde_json::Value = serde_json::from_slice(&wanted.body).map_err(|source| Error::Serialize {
        kind: kind.clone(),
        name: name.clone(),
        source,
    })?;
    if unwatched.as_ref().is_some_and(rebalancer_owns) {
        body = without_replicas(&body);
    }
    let params = PatchParams {
        // Nothing to take over where there is nothing: whoever creates the name meanwhile keeps it.
        force: wanted.force && there.is_some(),
        ..PatchParams::apply(labels::FIELD_MANAGER)
    };
    let patch = Patch::Apply(&body);
    let call = tokio::time::timeout(DEADLINE, api.patch(&name, &params, &patch));
    match call.await {
        Err(_) => Err(Error::Deadline { kind, name }),
        Ok(Ok(_)) => {
            tracing::debug!(kind, name, "applied");
            Ok(Ensured::Written)
        }
        Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) && status.code != 429 => {
            Ok(Ensured::Refused {
                message: status.message.clone(),
                transient: status.code == 409,
            })
        }
        Ok(Err(source)) => Err(Error::Api { kind, name, source }),
    }
}

/// What is known of the object under this name, if there is one.
async fn look<K>(api: &Api<K>, kind: &str, name: &str) -> Result<Option<PartialObjectMeta<K>>, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let (kind, name) = (kind.to_owned(), name.to_owned());
    match tokio::time::timeout(DEADLINE, api.get_metadata_opt(&name)).await {
        Err(_) => Err(Error::Deadline { kind, name }),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(source)) => Err(Error::Api { kind, name, source }),
    }
}

/// Whether the stores show such an object sooner or later.
fn is_watched(object: &impl ResourceExt) -> bool {
    object
        .labels()
        .get(labels::MANAGED_BY)
        .is_some_and(|by| by == labels::MANAGER)
}

/// Replicas are not compared: the rebalancer owns them.
fn without_replicas(body: &serde_json::Value) -> serde_json::Value {
    let mut body = body.clone();
    if let Some(spec) = body.get_mut("spec").and_then(serde_json::Value::as_object_mut) {
        spec.remove("replicas");
    }
    body
}

/// Short hash of what is applied, replicas left out.
fn fingerprint(body: &serde_json::Value) -> u64 {
    let digest = Sha256::digest(without_replicas(body).to_string());
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
