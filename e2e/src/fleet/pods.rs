//! The replicas that are being played, and the switches that act on all of them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::behaviour::Behaviours;
use super::directory::{Directory, Endpoint};
use super::faults::{Condition, Fault, Target};
use super::pod::{Load, Phase, Pod, PodSpec, Scrape, Scrapes};
use super::server;

/// Why the fleet cannot play a pod.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The fleet listens on loopback addresses only.
    #[error(
        "pod {pod} has address {address}, which is not a loopback address: start kwok with --cidr inside 127.64.0.0/10"
    )]
    NotLoopback {
        /// `namespace/name` of the pod.
        pod: String,
        /// Its address.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address} for pod {pod}: end the process that holds the address")]
    Bind {
        /// `namespace/name` of the pod.
        pod: String,
        /// Its address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// CPU use of one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuUsage {
    /// The pod's uid.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// Mean use since the last reading, thousandths of a core.
    pub cpu_millis: u32,
    /// The pod's CPU request, thousandths of a core.
    pub request_millis: u32,
}

struct Entry {
    spec: PodSpec,
    /// Nothing until the pod is ready for the first time.
    running: Option<Arc<Pod>>,
}

struct Inner {
    behaviours: Behaviours,
    time_scale: f64,
    pods: Mutex<HashMap<String, Entry>>,
    faults: Mutex<Vec<(Target, Fault)>>,
    directory: watch::Sender<Arc<Directory>>,
    scrapes: Scrapes,
}

/// All replicas of all pipelines. Clones share the same fleet; replicas stop when the last one is dropped or on
/// [`Fleet::stop`].
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

impl Fleet {
    /// An empty fleet. One second on the clock stands for `time_scale` seconds of the behaviours (1 = real time).
    pub fn new(behaviours: Behaviours, time_scale: f64) -> Self {
        Self {
            inner: Arc::new(Inner {
                behaviours,
                time_scale,
                pods: Mutex::default(),
                faults: Mutex::default(),
                directory: watch::Sender::new(Arc::default()),
                scrapes: Scrapes::default(),
            }),
        }
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.inner.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Vec<(Target, Fault)>> {
        self.inner.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a pod or its new state. A pod begins to listen when it is ready for the first time and keeps listening, as
    /// a server does that fails its probe; it is in the [`Directory`] while it is ready. Must run inside tokio.
    pub async fn upsert(&self, spec: PodSpec) -> Result<(), FleetError> {
        let name = || format!("{}/{}", spec.namespace, spec.name);
        if !spec.address.ip().is_loopback() {
            return Err(FleetError::NotLoopback {
                pod: name(),
                address: spec.address,
            });
        }
        let known = {
            let mut pods = self.pods();
            // The address moved on: whoever had it is gone, even if the news has not come yet.
            let stale: Vec<String> = pods
                .iter()
                .filter(|(uid, e)| **uid != spec.uid && e.spec.address == spec.address)
                .map(|(uid, _)| uid.clone())
                .collect();
            for uid in stale {
                end(pods.remove(&uid), Phase::Gone);
            }
            if pods.get(&spec.uid).is_some_and(|e| e.spec.address != spec.address) {
                end(pods.remove(&spec.uid), Phase::Gone);
            }
            let entry = pods.entry(spec.uid.clone()).or_insert_with(|| Entry {
                spec: spec.clone(),
                running: None,
            });
            entry.spec = spec.clone();
            entry.running.is_some()
        };
        if spec.ready && !known {
            let listener = server::bind(spec.address).await.map_err(|source| FleetError::Bind {
                pod: name(),
                address: spec.address,
                source,
            })?;
            let behaviour = self
                .inner
                .behaviours
                .of(&spec)
                .clone()
                .compressed(self.inner.time_scale);
            let stage = (spec.pipeline.clone(), spec.stage.clone());
            let pod = Pod::new(behaviour, self.condition(&spec), stage, self.inner.scrapes.clone());
            match self.pods().get_mut(&spec.uid) {
                Some(entry) if entry.running.is_none() => {
                    entry.running = Some(Arc::clone(&pod));
                    tokio::spawn(server::listen(listener, pod));
                }
                // Removed, or taken in twice, while the address was being bound.
                _ => {
                    pod.phase.send_replace(Phase::Gone);
                }
            }
            // A fault may have been switched while the pod was not in the list yet.
            self.apply_faults();
        }
        self.publish();
        Ok(())
    }

    /// The pod was deleted in good order: no new connections, what is in flight is finished (for at most a minute).
    pub fn remove(&self, uid: &str) {
        let entry = self.pods().remove(uid);
        end(entry, Phase::Draining);
        self.publish();
    }

    /// The pod's node or process died: every connection is cut.
    pub fn crash(&self, uid: &str) {
        let entry = self.pods().remove(uid);
        end(entry, Phase::Gone);
        self.publish();
    }

    /// Cuts everything and forgets all pods.
    pub fn stop(&self) {
        for (_, entry) in self.pods().drain() {
            end(Some(entry), Phase::Gone);
        }
        self.publish();
    }

    /// Switches a fault on, for replicas of now and later.
    pub fn inject(&self, target: Target, fault: Fault) {
        self.faults().push((target, fault));
        self.apply_faults();
    }

    /// Switches every fault of this target off.
    pub fn heal(&self, target: &Target) {
        self.faults().retain(|(t, _)| t != target);
        self.apply_faults();
    }

    /// The ready replicas, as a channel that tells changes.
    pub fn directory(&self) -> watch::Receiver<Arc<Directory>> {
        self.inner.directory.subscribe()
    }

    /// Every answer to a scrape so far, in order of time.
    pub fn scrapes(&self) -> Vec<Scrape> {
        let list = self.inner.scrapes.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.clone()
    }

    /// Load of every replica that listens.
    pub fn loads(&self) -> Vec<(PodSpec, Load)> {
        self.listening()
            .into_iter()
            .map(|(spec, pod)| (spec, pod.load()))
            .collect()
    }

    /// CPU use of every replica that listens, since the last call.
    pub fn cpu_usage(&self) -> Vec<CpuUsage> {
        let usage = |(spec, pod): (PodSpec, Arc<Pod>)| {
            let millis = f64::from(spec.cpu_millis) * pod.cpu_percent() / 100.0;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to a few million
            let cpu_millis = millis.round() as u32;
            CpuUsage {
                uid: spec.uid,
                namespace: spec.namespace,
                name: spec.name,
                cpu_millis,
                request_millis: spec.cpu_millis,
            }
        };
        self.listening().into_iter().map(usage).collect()
    }

    fn listening(&self) -> Vec<(PodSpec, Arc<Pod>)> {
        self.pods()
            .values()
            .filter_map(|e| Some((e.spec.clone(), Arc::clone(e.running.as_ref()?))))
            .collect()
    }

    fn condition(&self, spec: &PodSpec) -> Condition {
        let hits = |target: &Target| match target {
            Target::Pod(uid) => *uid == spec.uid,
            Target::Stage(pipeline, stage) => *pipeline == spec.pipeline && *stage == spec.stage,
            Target::Pool(pool) => *pool == spec.pool,
            Target::All => true,
        };
        self.faults()
            .iter()
            .filter(|(t, _)| hits(t))
            .fold(Condition::HEALTHY, |sum, (_, fault)| sum.with(*fault))
    }

    fn apply_faults(&self) {
        for (spec, pod) in self.listening() {
            let condition = self.condition(&spec);
            if pod.condition.send_replace(condition) != condition {
                pod.apply_pace();
            }
        }
    }

    fn publish(&self) {
        let pods = self.pods();
        let directory = Directory::new(pods.values().filter(|e| e.spec.ready).filter_map(|e| {
            let capacity = e.running.as_ref()?.behaviour.capacity;
            let endpoint = Endpoint {
                uid: e.spec.uid.as_str().into(),
                address: e.spec.address,
                pool: e.spec.pool.as_str().into(),
                weight: capacity.requests_per_s,
                slots: capacity.slots,
            };
            Some(((e.spec.pipeline.clone(), e.spec.stage.clone()), endpoint))
        }));
        // Sent while the pods are locked, so that an older directory never overwrites a newer one.
        self.inner.directory.send_if_modified(|current| {
            let changed = **current != directory;
            if changed {
                *current = Arc::new(directory);
            }
            changed
        });
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let pods = self.pods.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (_, entry) in pods.drain() {
            end(Some(entry), Phase::Gone);
        }
    }
}

fn end(entry: Option<Entry>, phase: Phase) {
    if let Some(pod) = entry.and_then(|e| e.running) {
        pod.phase.send_replace(phase);
    }
}
