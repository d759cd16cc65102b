//! The installed operator that scenarios share, and what they say and ask about pools and pipelines.
//!
//! Pools belong to the whole cluster, so every scenario's pools select nodes of its own space only and admit its own
//! namespace only: scenarios at the same time do not see each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tiercel::api::tiered_pipeline::DecisionSummary;
use tiercel::api::{ComputePool, TieredPipeline, labels};
use tiercel::decision_log::{Replay, replay};
use tiercel_e2e::controlplane::Cluster;
use tiercel_e2e::helm::Helm;
use tiercel_e2e::nodes;
use tiercel_e2e::operator::{self, Operator};
use tiercel_e2e::slot::Port;
use tiercel_e2e::wait::{Look, eventually, wanted};

use crate::adapters::Adapters;
use crate::behaviour_presets::OWN_SERVER;
use crate::prometheus::Prometheus;
use crate::suite::{Space, Suite};
use crate::traces::Collector;

/// Namespace of the chart.
pub(crate) const NAMESPACE: &str = "tiercel-system";
/// How long what takes seconds may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A cluster with chart and operator.
pub(crate) struct Installed {
    pub(crate) cluster: Arc<Cluster>,
    operator: Mutex<Operator>,
    /// What presets `broker`, `gateway`, `metered`, `dcgm` and `psi` ask.
    pub(crate) prometheus: Prometheus,
    /// What presets `in-flight` and `tickets` ask.
    pub(crate) adapters: Adapters,
    /// Where the operator's spans go.
    pub(crate) collector: Collector,
}

impl Installed {
    /// Installs the chart with helm, then starts the operator as its ServiceAccount. `values`: YAML beside what an
    /// operator outside of the cluster needs.
    pub(crate) async fn on(cluster: Arc<Cluster>, values: &str) -> Result<Self, String> {
        let message = |error: &dyn std::error::Error| format!("the operator cannot be installed: {error}");
        let binary = operator::find_binary().map_err(|error| message(&error))?;
        let prometheus = Prometheus::start().await.map_err(|error| message(&error))?;
        let adapters = Adapters::start().await.map_err(|error| message(&error))?;
        let collector = Collector::start().await.map_err(|error| message(&error))?;
        let sources = format!("sources:\n{}{}", prometheus.sources(), Adapters::sources());
        let presets = format!("presets:\n{OWN_SERVER}");
        let values = format!("{}{sources}{presets}{values}", operator::outside_values(&cluster));
        let chart = repository().join("charts/tiercel");
        let installed = Helm::new(&cluster).install("tiercel", &chart, NAMESPACE, &values).await;
        installed.map_err(|error| message(&error))?;
        let kubectl = cluster.kubectl();
        let announced = kubectl.apply(&adapters.objects()).await;
        announced.map_err(|error| message(&error))?;
        // What the chart mounts into the pod lies here.
        let mounts = cluster.folder().join("mounts");
        for volume in ["sources", "presets"] {
            let map = format!("tiercel-{volume}");
            let mounted = kubectl.get(&["configmap", &map, "-n", NAMESPACE]).await;
            let mounted = mounted.map_err(|error| message(&error))?;
            let folder = mounts.join(volume);
            std::fs::create_dir_all(&folder).map_err(|error| message(&error))?;
            for (name, text) in mounted["data"].as_object().into_iter().flatten() {
                let text = text.as_str().unwrap_or_default();
                std::fs::write(folder.join(name), text).map_err(|error| message(&error))?;
            }
        }
        let port = cluster.port(Port::Operator);
        let args = operator::arguments(&cluster, NAMESPACE, "tiercel", port).await;
        let args = args.map_err(|error| message(&error))?.into_iter();
        let here = format!("={}/", mounts.display());
        let args = args.map(|arg| arg.replacen("=/etc/tiercel/", &here, 1)).collect();
        let mut env = collector.environment();
        let log = decision_log(&cluster).display().to_string();
        env.push(("TIERCEL_DECISION_LOG".into(), log));
        let options = operator::Options {
            name: "operator".into(),
            binary,
            namespace: NAMESPACE.into(),
            service_account: "tiercel".into(),
            args,
            env,
            outlives_parent: false,
        };
        let operator = Operator::start(&cluster, options)
            .await
            .map_err(|error| message(&error))?;
        Ok(Self {
            cluster,
            operator: Mutex::new(operator),
            prometheus,
            adapters,
            collector,
        })
    }

    /// The operator's decision log so far, through this program's core. Half a line may be under way.
    pub(crate) fn replayed(&self) -> Replay {
        let log = std::fs::read(decision_log(&self.cluster)).unwrap();
        let whole = log.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        replay(&log[..whole]).unwrap()
    }

    /// The operator, to stop, kill or restart it.
    pub(crate) fn operator(&self) -> std::sync::MutexGuard<'_, Operator> {
        self.operator.lock().unwrap()
    }
}

fn decision_log(cluster: &Cluster) -> PathBuf {
    cluster.folder().join("decisions.jsonl")
}

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
    harness.parent().unwrap_or(harness).to_owned()
}

/// Text of a file of the repository.
pub(crate) fn file(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a YAML text.
pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

impl Suite {
    /// A namespace on the shared cluster, under the shared operator. Its pods start in 100 ms unless `annotations` say
    /// otherwise.
    pub(crate) async fn tiered(&self, annotations: &[(&str, &str)]) -> Tiered {
        let installed = self.installed().await;
        let all = [&[("startup-milliseconds", "100")], annotations].concat();
        let space = self.space(&all).await;
        Tiered { space, installed }
    }
}

/// A scenario's space under the operator: pools, pipelines, and what became of them.
pub(crate) struct Tiered {
    pub(crate) space: Space,
    pub(crate) installed: Arc<Installed>,
}

impl Tiered {
    /// The space's namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.space.name
    }

    /// The cluster-wide name of a pool that the scenario calls `name`.
    pub(crate) fn pool_name(&self, name: &str) -> String {
        format!("{}-{name}", self.space.name)
    }

    /// Confines a manifest to this space: pools get the space's name in front, select its nodes and admit its namespace
    /// unless they say otherwise; pipelines go to its namespace.
    pub(crate) fn scoped(&self, mut object: Value) -> Value {
        let space = &self.space.name;
        match object["kind"].as_str().unwrap() {
            "ComputePool" => {
                let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                object["metadata"]["name"] = json!(self.pool_name(&name));
                let spec = object["spec"].as_object_mut().unwrap();
                spec.entry("class").or_insert(json!(name));
                spec.entry("nodeSelector").or_insert(json!({}))[Space::LABEL] = json!(space);
                spec.entry("allowedNamespaces").or_insert(json!({
                    "from": "Selector",
                    "selector": {"matchLabels": {"kubernetes.io/metadata.name": space}},
                }));
            }
            "TieredPipeline" => object["metadata"]["namespace"] = json!(space),
            _ => {}
        }
        object
    }

    /// Applies one manifest as a user does, scoped to this space.
    pub(crate) async fn apply(&self, object: Value) {
        let object = self.scoped(object);
        self.installed
            .cluster
            .kubectl()
            .apply(&object.to_string())
            .await
            .unwrap();
    }

    /// Applies all documents of a YAML text, scoped to this space.
    pub(crate) async fn apply_yaml(&self, yaml: &str) {
        for object in documents(yaml) {
            self.apply(object).await;
        }
    }

    /// A CPU pool over the nodes of this space that have `labels` too.
    pub(crate) async fn cpu_pool(&self, name: &str, labels: &[(&str, &str)]) {
        self.apply(cpu_pool(name, labels)).await;
    }

    /// A pool of this space.
    pub(crate) async fn pool(&self, name: &str) -> ComputePool {
        Api::<ComputePool>::all(self.space.client.clone())
            .get(&self.pool_name(name))
            .await
            .unwrap()
    }

    /// Deletes a pool of this space.
    pub(crate) async fn delete_pool(&self, name: &str) {
        let pools = Api::<ComputePool>::all(self.space.client.clone());
        drop(
            pools
                .delete(&self.pool_name(name), &DeleteParams::default())
                .await
                .unwrap(),
        );
    }

    /// A pipeline of this space.
    pub(crate) async fn pipeline(&self, name: &str) -> TieredPipeline {
        self.pipelines().get(name).await.unwrap()
    }

    /// The pipelines of this space.
    pub(crate) fn pipelines(&self) -> Api<TieredPipeline> {
        Api::namespaced(self.space.client.clone(), &self.space.name)
    }

    /// Creates a pipeline of these stages.
    pub(crate) async fn create(&self, name: &str, stages: &[Value]) {
        let object = serde_json::from_value(self.scoped(pipeline(name, stages))).unwrap();
        self.pipelines().create(&PostParams::default(), &object).await.unwrap();
    }

    /// Waits until the latest spec has been seen and `Ready=True`.
    pub(crate) async fn ready(&self, name: &str) -> TieredPipeline {
        self.until(name, &format!("pipeline '{name}' is Ready"), |pipeline| {
            let ready = condition(&pipeline, "Ready")?;
            wanted(ready.status.as_str(), &"True").map_err(|_| told(&ready))?;
            Ok(pipeline)
        })
        .await
    }

    /// Waits until a condition of a pipeline has this status and reason, for the latest spec. Returns its message.
    pub(crate) async fn says(&self, name: &str, type_: &str, status: &str, reason: &str) -> String {
        self.says_that(name, (type_, status, reason), |_| true).await
    }

    /// As above, with a message that fits: reason and message may be from a moment before.
    pub(crate) async fn says_that(
        &self,
        name: &str,
        verdict: (&str, &str, &str),
        fits: impl Fn(&str) -> bool,
    ) -> String {
        let (type_, status, reason) = verdict;
        let what = format!("pipeline '{name}' says {type_}={status} {reason} in the words expected");
        self.until(name, &what, |pipeline| {
            let condition = condition(&pipeline, type_)?;
            let seen = (condition.status.as_str(), condition.reason.as_str());
            if seen == (status, reason) && fits(&condition.message) {
                Ok(condition.message)
            } else {
                Err(told(&condition))
            }
        })
        .await
    }

    /// Events about a pipeline, as type, reason and note, oldest first.
    pub(crate) async fn events(&self, name: &str) -> Vec<(String, String)> {
        let events: Api<Event> = Api::namespaced(self.space.client.clone(), &self.space.name);
        let mut all = events.list(&ListParams::default()).await.unwrap().items;
        let about = |event: &Event| {
            let regarding = event.regarding.clone().unwrap_or_default();
            (regarding.kind.as_deref(), regarding.name.as_deref()) == (Some("TieredPipeline"), Some(name))
        };
        all.retain(about);
        all.sort_by(|a, b| a.event_time.cmp(&b.event_time));
        let words = |event: Event| {
            let kind = event.type_.unwrap_or_default();
            let what = format!("{kind} {}", event.reason.unwrap_or_default());
            (what, event.note.unwrap_or_default())
        };
        all.into_iter().map(words).collect()
    }

    /// Waits for an event about a pipeline has this type and reason. Returns its note.
    pub(crate) async fn told(&self, name: &str, what: &str) -> String {
        let wait = format!("an event about '{name}' is {what}");
        let told = eventually(PATIENCE, wait, async || {
            let events = self.events(name).await;
            let found = events.iter().rev().find(|(event, _)| event == what);
            found.map(|(_, note)| note.clone()).ok_or_else(|| format!("{events:?}"))
        });
        told.await.unwrap()
    }

    /// Waits until a pipeline's status shows such a decision: replicas change first, status tells of it later.
    pub(crate) async fn decided(
        &self,
        name: &str,
        what: &str,
        fits: impl Fn(&DecisionSummary) -> bool,
    ) -> DecisionSummary {
        self.until(name, &format!("a decision {what}"), |pipeline| {
            let decisions = pipeline.status.unwrap_or_default().decisions;
            let told = format!("{decisions:?}");
            decisions.into_iter().find(|it| fits(it)).ok_or(told)
        })
        .await
    }

    /// Waits until `look` is satisfied with a pipeline whose latest spec has been seen.
    pub(crate) async fn until<T>(&self, name: &str, what: &str, mut look: impl FnMut(TieredPipeline) -> Look<T>) -> T {
        let pipelines = self.pipelines();
        eventually(PATIENCE, what, async || {
            let pipeline = pipelines.get(name).await.map_err(|error| error.to_string())?;
            let observed = pipeline.status.as_ref().and_then(|status| status.observed_generation);
            wanted(observed, &pipeline.metadata.generation).map_err(|seen| format!("observedGeneration {seen}"))?;
            look(pipeline)
        })
        .await
        .unwrap()
    }

    /// Nodes of every shape that the sample pools select.
    pub(crate) async fn sample_nodes(&self) {
        for (shape, count) in [
            ("graviton", 4),
            ("x86", 3),
            ("l4-spot", 4),
            ("h100", 2),
            ("inferentia2", 2),
        ] {
            self.space.nodes(nodes::shape(shape).unwrap(), count).await;
        }
    }

    /// Those nodes and the sample pools, once they count them. First placements are made of the nodes that are known; what
    /// joins later is moved to in its own time.
    pub(crate) async fn sample_pools(&self) {
        self.sample_nodes().await;
        self.apply_yaml(&file("config/samples/pools.yaml")).await;
        for pool in ["graviton", "x86", "l4-spot", "h100", "inferentia"] {
            self.pool_says(pool, "Ready", "True", "NodesAvailable").await;
        }
    }

    /// Waits until a condition of a pool has this status and reason. Returns its message.
    pub(crate) async fn pool_says(&self, name: &str, type_: &str, status: &str, reason: &str) -> String {
        let pools = Api::<ComputePool>::all(self.space.client.clone());
        eventually(
            PATIENCE,
            format!("pool '{name}' says {type_}={status} {reason}"),
            async || {
                let pool = pools
                    .get(&self.pool_name(name))
                    .await
                    .map_err(|error| error.to_string())?;
                let conditions = pool.status.map(|status| status.conditions).unwrap_or_default();
                let condition = conditions.into_iter().find(|condition| condition.type_ == type_);
                let condition = condition.ok_or_else(|| format!("no condition {type_}"))?;
                let seen = (condition.status.as_str(), condition.reason.as_str());
                wanted(seen, &(status, reason)).map_err(|_| told(&condition))?;
                Ok(condition.message)
            },
        )
        .await
        .unwrap()
    }

    /// Waits until a pool counts so many nodes, all of them ready.
    pub(crate) async fn pool_counts(&self, name: &str, nodes: i32) {
        let what = format!("pool '{name}' counts {nodes} ready nodes");
        eventually(PATIENCE, what, async || {
            let status = self.pool(name).await.status.unwrap_or_default();
            wanted((status.nodes, status.ready_nodes), &(nodes, nodes))
        })
        .await
        .unwrap();
    }

    /// The Deployments of a pipeline by (stage, pool as the scenario calls it).
    pub(crate) async fn deployments(&self, pipeline: &str) -> BTreeMap<(String, String), Deployment> {
        let api = Api::<Deployment>::namespaced(self.space.client.clone(), &self.space.name);
        let list = api.list(&of_pipeline(pipeline)).await.unwrap();
        let keyed = list.items.into_iter().map(|deployment| {
            let label = |key: &str| deployment.labels()[key].clone();
            let pool = label(labels::POOL);
            let short = pool
                .strip_prefix(&format!("{}-", self.space.name))
                .unwrap_or(&pool)
                .to_owned();
            ((label(labels::STAGE), short), deployment)
        });
        keyed.collect()
    }

    /// Wanted replicas by (stage, pool), Deployments without any left out.
    pub(crate) async fn assignment(&self, pipeline: &str) -> BTreeMap<(String, String), i32> {
        let all = self.deployments(pipeline).await;
        let counted = all
            .into_iter()
            .map(|(key, it)| (key, it.spec.and_then(|spec| spec.replicas).unwrap_or(1)));
        counted.filter(|(_, replicas)| *replicas > 0).collect()
    }

    /// The pods of a pipeline that are not on their way out.
    pub(crate) async fn pods(&self, pipeline: &str) -> Vec<Pod> {
        let api = Api::<Pod>::namespaced(self.space.client.clone(), &self.space.name);
        let list = api.list(&of_pipeline(pipeline)).await.unwrap();
        list.items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect()
    }

    /// UIDs of the pods of one stage.
    pub(crate) async fn pod_uids(&self, pipeline: &str, stage: &str) -> BTreeSet<String> {
        let pods = self.pods(pipeline).await;
        let of_stage = pods.iter().filter(|pod| pod.labels()[labels::STAGE] == stage);
        of_stage.map(|pod| pod.uid().unwrap()).collect()
    }
}

/// A pool of processors with a price.
pub(crate) fn cpu_pool(name: &str, labels: &[(&str, &str)]) -> Value {
    let selector: serde_json::Map<_, _> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    json!({
        "apiVersion": "tiercel.dev/v1alpha1",
        "kind": "ComputePool",
        "metadata": {"name": name},
        "spec": {
            "tier": "CPU",
            "nodeSelector": selector,
            "tolerations": [{"key": "kubernetes.io/arch", "operator": "Exists", "effect": "NoSchedule"}],
            "costPerNodeHour": "1",
        },
    })
}

/// A pipeline of these stages.
pub(crate) fn pipeline(name: &str, stages: &[Value]) -> Value {
    json!({
        "apiVersion": "tiercel.dev/v1alpha1",
        "kind": "TieredPipeline",
        "metadata": {"name": name},
        "spec": {"stages": stages},
    })
}

/// A small stage for CPU pools, after the stages named.
pub(crate) fn stage(name: &str, after: &[&str], min: u32) -> Value {
    let after: Vec<Value> = after.iter().map(|stage| json!({"stage": stage})).collect();
    json!({
        "name": name,
        "kind": "Custom",
        "after": after,
        "container": {
            "image": "registry.example.com/stage:1",
            "ports": [{"name": "http", "containerPort": 8000}],
            "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}},
        },
        "capacity": {"requestsPerSecond": "10"},
        "replicas": {"min": min, "max": 20},
        "disruption": {"drainSeconds": 0},
    })
}

/// The condition of this type.
pub(crate) fn condition(pipeline: &TieredPipeline, type_: &str) -> Look<Condition> {
    let mut conditions = pipeline.status.iter().flat_map(|status| &status.conditions);
    let found = conditions.find(|condition| condition.type_ == type_).cloned();
    found.ok_or_else(|| {
        let all = pipeline.status.iter().flat_map(|status| &status.conditions);
        format!(
            "no condition {type_}; there are {:?}",
            all.map(told).collect::<Vec<_>>()
        )
    })
}

/// A condition in one line.
pub(crate) fn told(condition: &Condition) -> String {
    format!(
        "{}={} {}: {}",
        condition.type_, condition.status, condition.reason, condition.message
    )
}

/// Selects everything of a pipeline.
fn of_pipeline(pipeline: &str) -> ListParams {
    ListParams::default().labels(&format!("{}={pipeline}", labels::PIPELINE))
}
