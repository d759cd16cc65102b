//! An observer that is not the operator: it watches Deployments, pipelines, pools and nodes with a client of its own, keeps
//! what it saw, and checks every state against the pipelines' own bounds.
//!
//! The states are true ones: one watch delivers all Deployments in the order in which they were stored, so after each event
//! the sums over a stage are what the cluster held at that moment.

mod cost;
mod ledger;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Node;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

pub use ledger::{Bounds, Kind, Ledger, Sample, StageKey, Violation};

/// Label of the pipeline that a Deployment belongs to.
pub const PIPELINE: &str = "tiercel.dev/pipeline";
/// Label of its stage.
pub const STAGE: &str = "tiercel.dev/stage";
/// Label of its pool.
pub const POOL: &str = "tiercel.dev/pool";

/// How long the first lists may take.
const FIRST_LISTS: Duration = Duration::from_secs(30);

/// The observer could not start.
#[derive(Debug, thiserror::Error)]
#[error("the observer did not see the first lists within {FIRST_LISTS:?}: are the CRDs installed?")]
pub struct Blind;

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Observer {
    ledger: Arc<Mutex<Ledger>>,
    start: Instant,
    _tasks: JoinSet<()>,
}

impl Observer {
    /// Starts watching and returns once everything that exists has been seen.
    pub async fn start(client: Client) -> Result<Self, Blind> {
        let start = Instant::now();
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let mut tasks = JoinSet::new();
        let nodes = store(&mut tasks, Api::<Node>::all(client.clone()));
        let pools = dynamic_store(&mut tasks, &client, "ComputePool", "computepools");
        let lists = async {
            let _ = nodes.wait_until_ready().await;
            let _ = pools.wait_until_ready().await;
            let pipelines = Api::all_with(client.clone(), &resource("TieredPipeline", "tieredpipelines"));
            let seen = follow(&mut tasks, pipelines, &ledger, move |ledger, event| {
                pipeline(ledger, start, event);
            });
            let _ = seen.await;
            let deployments = Api::<Deployment>::all(client.clone());
            let seen = follow(&mut tasks, deployments, &ledger, move |ledger, event| {
                deployment(ledger, start, event, &nodes, &pools);
            });
            let _ = seen.await;
        };
        tokio::time::timeout(FIRST_LISTS, lists).await.map_err(|_| Blind)?;
        Ok(Self {
            ledger,
            start,
            _tasks: tasks,
        })
    }

    /// Time since the start: the clock of samples and violations.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Everything seen so far.
    pub fn snapshot(&self) -> Ledger {
        lock(&self.ledger).clone()
    }

    /// Every crossing of a bound so far.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.ledger).violations().to_vec()
    }
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("tiercel.dev", "v1alpha1", kind), plural)
}

fn store<K>(tasks: &mut JoinSet<()>, api: Api<K>) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let stream = watch(api, watcher::Config::default()).default_backoff().reflect(writer);
    tasks.spawn(stream.for_each(async |_| {}));
    store
}

fn dynamic_store(tasks: &mut JoinSet<()>, client: &Client, kind: &str, plural: &str) -> Store<DynamicObject> {
    let resource = resource(kind, plural);
    let writer = reflector::store::Writer::new(resource.clone());
    let store = writer.as_reader();
    let api = Api::all_with(client.clone(), &resource);
    let stream = watch(api, watcher::Config::default()).default_backoff().reflect(writer);
    tasks.spawn(stream.for_each(async |_| {}));
    store
}

/// Feeds every event of a watch to `note`, in order. The receiver resolves after the first list.
fn follow<K>(
    tasks: &mut JoinSet<()>,
    api: Api<K>,
    ledger: &Arc<Mutex<Ledger>>,
    note: impl Fn(&mut Ledger, Event<K>) + Send + 'static,
) -> oneshot::Receiver<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let (send, receive) = oneshot::channel();
    let ledger = Arc::clone(ledger);
    let stream = watch(api, watcher::Config::default()).default_backoff();
    tasks.spawn(consume(stream, ledger, note, send));
    receive
}

async fn consume<K>(
    stream: impl Stream<Item = watcher::Result<Event<K>>> + Send,
    ledger: Arc<Mutex<Ledger>>,
    note: impl Fn(&mut Ledger, Event<K>) + Send,
    first_list: oneshot::Sender<()>,
) {
    let mut stream = std::pin::pin!(stream);
    let mut first_list = Some(first_list);
    while let Some(event) = stream.next().await {
        let mut ledger = lock(&ledger);
        match event {
            Ok(event) => {
                let listed = matches!(event, Event::InitDone);
                note(&mut ledger, event);
                if let Some(done) = first_list.take_if(|_| listed) {
                    let _ = done.send(());
                }
            }
            // The watch starts over with a list: what happened in between stays unseen, and the ledger says so.
            Err(error) => ledger.gap(error.to_string()),
        }
    }
}

fn pipeline(ledger: &mut Ledger, start: Instant, event: Event<DynamicObject>) {
    let at = start.elapsed();
    match event {
        Event::Apply(object) | Event::InitApply(object) => {
            let (stages, budget) = bounds(&object.data);
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            ledger.pipeline(at, (&namespace, &name, revision(&object)), &stages, budget);
        }
        Event::Delete(object) => ledger.forget(&object.namespace().unwrap_or_default(), &object.name_any()),
        Event::Init | Event::InitDone => {}
    }
}

/// Replica bounds per stage, and the budget in millionths of a dollar per hour.
fn bounds(object: &Value) -> (BTreeMap<String, Bounds>, Option<i64>) {
    let stages = object
        .pointer("/spec/stages")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let bounds = stages.filter_map(|stage| {
        let number = |path: &str| stage.pointer(path).and_then(Value::as_i64);
        let surge = number("/disruption/maxSurge").unwrap_or_default();
        Some((
            stage.get("name")?.as_str()?.to_owned(),
            Bounds {
                min: number("/replicas/min"),
                max: number("/replicas/max").map(|max| max + surge),
            },
        ))
    });
    let budget = object.pointer("/spec/budget/maxCostPerHour").and_then(Value::as_str);
    (bounds.collect(), budget.and_then(cost::micros))
}

fn deployment(
    ledger: &mut Ledger,
    start: Instant,
    event: Event<Deployment>,
    nodes: &Store<Node>,
    pools: &Store<DynamicObject>,
) {
    let at = start.elapsed();
    match event {
        Event::Apply(object) | Event::InitApply(object) => {
            let Some((key, pool)) = identity(&object) else { return };
            let spec = object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).into();
            let ready = object
                .status
                .as_ref()
                .and_then(|status| status.ready_replicas)
                .unwrap_or(0)
                .into();
            let price = pools
                .state()
                .iter()
                .find(|object| object.name_any() == pool)
                .and_then(|object| {
                    object
                        .data
                        .pointer("/spec/costPerNodeHour")
                        .and_then(Value::as_str)
                        .and_then(cost::micros)
                });
            let unit_cost_micros = price.and_then(|price| cost::per_replica(&object, &nodes.state(), price));
            let sample = Sample {
                at,
                key,
                pool,
                spec,
                ready,
                revision: revision(&object),
                unit_cost_micros,
            };
            ledger.deployment(&object.name_any(), sample);
        }
        Event::Delete(object) => {
            if let Some((key, pool)) = identity(&object) {
                let sample = Sample {
                    at,
                    key,
                    pool,
                    spec: 0,
                    ready: 0,
                    revision: revision(&object),
                    unit_cost_micros: None,
                };
                ledger.gone(&object.name_any(), sample);
            }
        }
        Event::Init => ledger.begin_list(),
        Event::InitDone => ledger.end_list(at),
    }
}

/// With etcd behind the server, revisions of all kinds come from one counter.
fn revision(object: &impl kube::Resource) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|revision| revision.parse().ok())
        .unwrap_or_default()
}

fn identity(object: &Deployment) -> Option<(StageKey, String)> {
    let label = |name| object.labels().get(name).cloned();
    let key = StageKey {
        namespace: object.namespace()?,
        pipeline: label(PIPELINE)?,
        stage: label(STAGE)?,
    };
    Some((key, label(POOL)?))
}
