//! Minimal pools, nodes and pods: each a base object with a JSON merge patch on top.

use std::sync::Arc;

use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{PoolObservation, observe};
use crate::api::ComputePool;
use crate::controller::view::{NodeView, PodView};

/// A world: what a test adds to nothing.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) pools: Vec<Arc<ComputePool>>,
    pub(crate) nodes: Vec<Arc<NodeView>>,
    pub(crate) pods: Vec<Arc<PodView>>,
}

/// A store that has been filled once.
pub(crate) fn filled<K>(objects: impl IntoIterator<Item = K>) -> Store<K>
where
    K: reflector::Lookup<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    writer.apply_watcher_event(&Event::Init);
    objects
        .into_iter()
        .for_each(|object| writer.apply_watcher_event(&Event::InitApply(object)));
    writer.apply_watcher_event(&Event::InitDone);
    store
}

impl World {
    /// Pools, nodes and pods as watches show them.
    pub(crate) fn stores(&self) -> (Store<DeserializeGuard<ComputePool>>, Store<NodeView>, Store<PodView>) {
        let pools = self.pools.iter().map(|pool| DeserializeGuard(Ok((**pool).clone())));
        let nodes = self.nodes.iter().map(|node| (**node).clone());
        (
            filled(pools),
            filled(nodes),
            filled(self.pods.iter().map(|pod| (**pod).clone())),
        )
    }

    /// A CPU pool that selects nodes labelled `pool: <name>`, 1.00 an hour; the later added, the younger.
    pub(crate) fn pool(mut self, name: &str, patch: Value) -> Self {
        let base = json!({
            "apiVersion": "tiercel.dev/v1alpha1", "kind": "ComputePool",
            "metadata": {"name": name, "uid": format!("uid-{name}"), "generation": 1,
                         "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", self.pools.len())},
            "spec": {"tier": "CPU", "nodeSelector": {"pool": name}, "costPerNodeHour": "1"},
        });
        self.pools.push(object(base, patch));
        self
    }

    /// A Ready amd64 node of pool `pool` with 8 CPUs and 32 GiB.
    pub(crate) fn node(mut self, name: &str, pool: &str, patch: Value) -> Self {
        let base = json!({
            "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"pool": pool, "kubernetes.io/arch": "amd64"}},
            "spec": {},
            "status": {"allocatable": {"cpu": "8", "memory": "32Gi", "pods": "110"},
                       "conditions": [{"type": "Ready", "status": "True"}]},
        });
        self.nodes.push(object(base, patch));
        self
    }

    /// A running pod of somebody else, bound to `node`.
    pub(crate) fn foreign(self, node: &str, cpu: &str, memory: &str, patch: Value) -> Self {
        self.pod(node, cpu, memory, json!({}), patch)
    }

    /// A running replica of a pipeline, bound to `node`.
    pub(crate) fn replica(self, node: &str, cpu: &str, memory: &str, patch: Value) -> Self {
        let ours = json!({"metadata": {
            "labels": {"tiercel.dev/variant-id": "v"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "u", "controller": true}],
        }});
        self.pod(node, cpu, memory, ours, patch)
    }

    fn pod(mut self, node: &str, cpu: &str, memory: &str, ours: Value, patch: Value) -> Self {
        let name = format!("pod-{}", self.pods.len());
        let mut base = json!({
            "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")},
            "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]},
            "status": {"phase": "Running"},
        });
        merge(&mut base, ours);
        self.pods.push(object(base, patch));
        self
    }

    pub(crate) fn observe(&self) -> Vec<PoolObservation> {
        observe(&self.pools, &self.nodes, &self.pods)
    }

    /// The observation of the only pool.
    pub(crate) fn only(&self) -> PoolObservation {
        let mut observed = self.observe();
        assert_eq!(observed.len(), 1, "one pool");
        observed.remove(0)
    }
}

/// The base with the patch merged in.
pub(crate) fn object<T: DeserializeOwned>(mut base: Value, patch: Value) -> Arc<T> {
    merge(&mut base, patch);
    Arc::new(serde_json::from_value(base.clone()).unwrap_or_else(|error| panic!("{base}: {error}")))
}

/// RFC 7386.
fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, patch) => *base = patch,
    }
}
