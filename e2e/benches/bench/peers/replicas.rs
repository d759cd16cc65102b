//! When the pods of a namespace became Ready, seen by a watch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::task::JoinHandle;

use crate::ground::is_ready;

/// A Ready pod that stays.
#[derive(Clone, Debug)]
struct Serving {
    name: String,
    since: Timestamp,
}

type Known = Arc<Mutex<HashMap<String, Vec<Serving>>>>;

/// Ready pods by the value of one label, in the order they came.
#[derive(Debug)]
pub(super) struct Replicas {
    known: Known,
    watch: JoinHandle<()>,
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Replicas {
    pub(super) fn watch(client: Client, namespace: &str, label: &'static str) -> Self {
        let known = Known::default();
        let pods = Api::<Pod>::namespaced(client, namespace);
        let watch = tokio::spawn(follow(pods, Arc::clone(&known), label));
        Self { known, watch }
    }

    /// When the pod came with which so many were Ready; `None` while there are fewer.
    pub(super) fn reached(&self, value: &str, count: usize) -> Option<Timestamp> {
        self.of(value, |pods| Some(pods.get(count.checked_sub(1)?)?.since))
    }

    pub(super) fn count(&self, value: &str) -> usize {
        self.of(value, |pods| Some(pods.len())).unwrap_or_default()
    }

    /// Name of the pod that has been Ready for longest.
    pub(super) fn first(&self, value: &str) -> Option<String> {
        self.of(value, |pods| Some(pods.first()?.name.clone()))
    }

    fn of<T>(&self, value: &str, look: impl FnOnce(&[Serving]) -> Option<T>) -> Option<T> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        look(known.get(value)?)
    }
}

async fn follow(pods: Api<Pod>, known: Known, label: &'static str) {
    let mut events = std::pin::pin!(watcher(pods, watcher::Config::default().labels(label)).default_backoff());
    while let Some(event) = events.next().await {
        let (pod, leaves) = match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => (pod, false),
            Ok(watcher::Event::Delete(pod)) => (pod, true),
            Ok(_) => continue,
            Err(error) => {
                eprintln!("the watch on pods is taken up again: {error}");
                continue;
            }
        };
        let (Some(value), name) = (pod.labels().get(label), pod.name_any()) else {
            continue;
        };
        let mut all = known.lock().unwrap_or_else(PoisonError::into_inner);
        let of = all.entry(value.clone()).or_default();
        if leaves || !is_ready(&pod) {
            of.retain(|serving| serving.name != name);
        } else if of.iter().all(|serving| serving.name != name) {
            let since = Timestamp::now();
            of.push(Serving { name, since });
        }
    }
}
