//! The shared cluster of one run.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tiercel_e2e::controlplane::{Cluster, Options};
use tiercel_e2e::nodes::{self, Shape};
use tiercel_e2e::tools::{self, Tools};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::support::Installed;

/// What all scenarios of one run share.
pub(crate) struct Suite {
    runtime: Runtime,
    /// The outcome of the one start: when it fails, every scenario says why instead of trying again.
    cluster: OnceCell<Result<Arc<Cluster>, String>>,
    /// The same once more, for whoever stops it.
    running: Mutex<Option<Arc<Cluster>>>,
    /// Chart and operator on the shared cluster, likewise.
    installed: OnceCell<Result<Arc<Installed>, String>>,
    operator: Mutex<Option<Arc<Installed>>>,
    /// A second cluster for scenarios that end the operator or break its definitions: one at a time.
    apart: tokio::sync::Mutex<Option<Arc<Installed>>>,
    spaces: AtomicUsize,
}

/// A namespace, and a name for nodes that only pods of its scenario use.
pub(crate) struct Space {
    pub(crate) name: String,
    pub(crate) client: Client,
}

impl Default for Suite {
    fn default() -> Self {
        Self {
            runtime: Runtime::new().unwrap(),
            cluster: OnceCell::new(),
            running: Mutex::new(None),
            installed: OnceCell::new(),
            operator: Mutex::new(None),
            apart: tokio::sync::Mutex::new(None),
            spaces: AtomicUsize::new(1),
        }
    }
}

impl Suite {
    /// Runs one scenario to its end.
    pub(crate) fn run(&self, scenario: impl Future<Output = ()>) {
        self.runtime.block_on(scenario);
    }

    /// The control plane's programs, built if need be.
    pub(crate) async fn tools(&self) -> Tools {
        tokio::task::spawn_blocking(|| tools::find_or_build(|line| eprintln!("{line}")))
            .await
            .unwrap()
            .unwrap()
    }

    /// The shared cluster: metrics-server and audit log are on.
    pub(crate) async fn cluster(&self) -> Arc<Cluster> {
        let start = async || {
            let options = Options {
                metrics_server: true,
                audit: true,
                ..Options::default()
            };
            let cluster = Cluster::start(&self.tools().await, options).await.map(Arc::new);
            *self.running.lock().unwrap() = cluster.as_ref().ok().map(Arc::clone);
            cluster.map_err(|error| error.to_string())
        };
        match self.cluster.get_or_init(start).await {
            Ok(cluster) => Arc::clone(cluster),
            Err(error) => panic!("the shared cluster did not start: {error}"),
        }
    }

    /// The shared cluster with the chart installed and the operator running.
    pub(crate) async fn installed(&self) -> Arc<Installed> {
        let start = async || {
            let installed = Installed::on(self.cluster().await, "").await.map(Arc::new)?;
            *self.operator.lock().unwrap() = Some(Arc::clone(&installed));
            Ok(installed)
        };
        match self.installed.get_or_init(start).await {
            Ok(installed) => Arc::clone(installed),
            Err(error) => panic!("{error}"),
        }
    }

    /// The second cluster, for as long as the guard lives; its operator runs.
    pub(crate) async fn apart(&self) -> (tokio::sync::MutexGuard<'_, Option<Arc<Installed>>>, Arc<Installed>) {
        let mut apart = self.apart.lock().await;
        if let Some(installed) = &*apart {
            let installed = Arc::clone(installed);
            return (apart, installed);
        }
        let options = Options {
            metrics_server: true,
            audit: true,
            ..Options::default()
        };
        let cluster = Cluster::start(&self.tools().await, options).await.unwrap();
        let installed = Arc::new(Installed::on(Arc::new(cluster), "").await.unwrap());
        *apart = Some(Arc::clone(&installed));
        (apart, installed)
    }

    /// A new namespace whose annotations say how its pods behave (see e2e/kwok/annotate-pods.yaml).
    pub(crate) async fn space(&self, annotations: &[(&str, &str)]) -> Space {
        self.space_on(&*self.cluster().await, annotations).await
    }

    /// The same on a given cluster.
    pub(crate) async fn space_on(&self, cluster: &Cluster, annotations: &[(&str, &str)]) -> Space {
        let name = format!("space-{}", self.spaces.fetch_add(1, Ordering::Relaxed));
        let annotations: serde_json::Map<_, _> = annotations
            .iter()
            .map(|(key, value)| (format!("kwok.tiercel.dev/{key}"), json!(value)))
            .collect();
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "annotations": annotations}});
        cluster.kubectl().apply(&namespace.to_string()).await.unwrap();
        Space {
            name,
            client: cluster.client().await.unwrap(),
        }
    }

    /// Ends the shared operator and cluster, if they were started.
    pub(crate) fn stop(&self) {
        let operator = self.operator.lock().unwrap().take();
        if let Some(installed) = operator {
            installed.operator().stop();
        }
        if let Some(installed) = self.apart.try_lock().ok().and_then(|mut apart| apart.take()) {
            installed.operator().stop();
            installed.cluster.stop();
        }
        // Waits for a stop that is under way already.
        let mut running = self.running.lock().unwrap();
        if let Some(cluster) = running.take() {
            cluster.stop();
        }
    }

    /// Ctrl-C ends the cluster too, in order.
    pub(crate) fn stop_on_interrupt(self: &Arc<Self>) {
        let suite = Arc::clone(self);
        self.runtime.spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                tokio::task::spawn_blocking(move || suite.stop()).await.unwrap();
                std::process::exit(130);
            }
        });
    }
}

impl Space {
    /// Label that the nodes of [`Space::nodes`] carry, with the space's name as value.
    pub(crate) const LABEL: &'static str = "tiercel.test/space";

    /// Sets annotations of its namespace; null takes one away.
    pub(crate) async fn annotate(&self, annotations: Value) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let params = PatchParams::default();
        let patched = namespaces.patch_metadata(&self.name, &params, &patch).await;
        drop(patched.unwrap());
    }

    /// Nodes of one shape for this scenario only.
    pub(crate) async fn nodes(&self, shape: &Shape, count: usize) -> Vec<String> {
        let set = format!("{}-{}", self.name, shape.name);
        nodes::create(&self.client, shape, &set, 0..count, &[(Self::LABEL, &self.name)])
            .await
            .unwrap()
    }
}
