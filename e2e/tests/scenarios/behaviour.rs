//! What scenarios about moving replicas share: a fleet that answers for the pods of one namespace, an observer, the audit
//! log, and the words to ask them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tiercel::api::{ComputePool, TieredPipeline, labels};
use tiercel_e2e::audit::{Log, Request};
use tiercel_e2e::fleet::{Behaviour, Behaviours, Fleet, watch_pods_in};
use tiercel_e2e::load::{DriveOptions, Rate, Recorder, Route, Spacing, Summary, drive};
use tiercel_e2e::observe::{Kind, Observer, Sample, Violation};
use tiercel_e2e::slot::Port;
use tiercel_e2e::wait::{Look, eventually};
use tokio::task::JoinSet;

use crate::explain::tiercel;
use crate::suite::Suite;
use crate::support::{Installed, NAMESPACE, PATIENCE, Tiered, condition, told};

/// The label by which pools tell the shapes of one space apart.
pub(crate) const SHAPE: &str = "karpenter.sh/nodepool";
/// Tokens of the reference request.
const SIZE: (u32, u32) = (1_155, 211);

/// A space with everything around it that watches and answers. Ends with the scenario.
pub(crate) struct Scene {
    pub(crate) tiered: Tiered,
    pub(crate) observer: Observer,
    pub(crate) fleet: Fleet,
    audit: Log,
    states: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Scene {
    /// On the shared cluster.
    pub(crate) async fn shared(suite: &Suite, annotations: &[(&str, &str)], behaviours: Behaviours) -> Self {
        Self::around(suite.tiered(annotations).await, behaviours).await
    }

    /// On the cluster of `installed`.
    pub(crate) async fn apart(suite: &Suite, installed: &Arc<Installed>, annotations: &[(&str, &str)]) -> Self {
        let all = [&[("startup-milliseconds", "100")], annotations].concat();
        let space = suite.space_on(&installed.cluster, &all).await;
        let installed = Arc::clone(installed);
        Self::around(Tiered { space, installed }, serving()).await
    }

    /// The same with servers that differ by pool.
    pub(crate) async fn apart_playing(
        suite: &Suite,
        installed: &Arc<Installed>,
        behaviours: impl FnOnce(&Tiered) -> Behaviours,
    ) -> Self {
        let space = suite
            .space_on(&installed.cluster, &[("startup-milliseconds", "100")])
            .await;
        let installed = Arc::clone(installed);
        let tiered = Tiered { space, installed };
        let behaviours = behaviours(&tiered);
        Self::around(tiered, behaviours).await
    }

    async fn around(tiered: Tiered, behaviours: Behaviours) -> Self {
        let client = tiered.space.client.clone();
        let fleet = Fleet::new(behaviours, 1.0);
        let mut tasks = JoinSet::new();
        let (played, namespace) = (fleet.clone(), tiered.namespace().to_owned());
        tasks.spawn({
            let client = client.clone();
            async move { watch_pods_in(played, client, &namespace).await }
        });
        let states = Arc::new(Mutex::new(Vec::new()));
        tasks.spawn(note_ready(tiered.pipelines(), Arc::clone(&states)));
        Self {
            audit: Log::from_now(tiered.installed.cluster.audit_log()).unwrap(),
            observer: Observer::start(client).await.unwrap(),
            tiered,
            fleet,
            states,
            _tasks: tasks,
        }
    }

    /// What the operator asked the API server to change in this namespace since the last call, leases aside.
    pub(crate) fn changes(&mut self) -> Vec<Request> {
        let mut changes = self.changes_everywhere();
        changes.retain(|it| it.namespace == self.tiered.namespace());
        changes
    }

    /// The same in the whole cluster: for clusters that no other scenario uses.
    pub(crate) fn changes_everywhere(&mut self) -> Vec<Request> {
        let operator = format!("system:serviceaccount:{NAMESPACE}:tiercel");
        let mut requests = self.audit.read().unwrap();
        requests.retain(|it| it.user == operator && it.is_mutating() && !it.is_lease());
        requests
    }

    /// Writes of replicas among [`Scene::changes`].
    pub(crate) fn scaled(&mut self) -> Vec<Request> {
        let mut changes = self.changes();
        changes.retain(|it| it.resource == "deployments/scale");
        changes
    }

    /// Values that the condition `Ready` of a pipeline has had, repetitions left out.
    pub(crate) fn ready_values(&self, pipeline: &str) -> Vec<String> {
        let states = self.states.lock().unwrap();
        let mut values: Vec<String> = states
            .iter()
            .filter_map(|line| line.strip_prefix(&format!("{pipeline}=")).map(str::to_owned))
            .collect();
        values.dedup();
        values
    }

    /// From here on [`Scene::ready_values`] counts anew.
    pub(crate) fn forget_ready_values(&self) {
        let mut states = self.states.lock().unwrap();
        let last: BTreeMap<String, String> = states
            .iter()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        *states = last
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
    }

    /// Bounds of this namespace that were crossed.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        let mut all = self.observer.violations();
        all.retain(|it| it.key.namespace == self.tiered.namespace());
        all
    }

    /// No bound was crossed, by no decision and by no pod that was missing.
    pub(crate) fn bounds_held(&self) {
        assert_eq!(self.violations(), [], "history: {}", self.history());
        let gaps = self.observer.snapshot().gaps().to_vec();
        assert!(gaps.is_empty(), "the observer was blind for a while: {gaps:?}");
    }

    /// No bound was crossed by a decision; pods may have been missing through a fault.
    pub(crate) fn decisions_kept_bounds(&self) {
        let mut all = self.violations();
        all.retain(|it| it.kind != Kind::ReadyFloor);
        assert_eq!(all, [], "history: {}", self.history());
    }

    /// Every change of a stage since the observer's start, with the stage's state after it: (asked for, Ready) by pool.
    pub(crate) fn states(&self, pipeline: &str, stage: &str) -> Vec<BTreeMap<String, (i64, i64)>> {
        let mut now = BTreeMap::new();
        let samples = self.samples();
        let of_stage = samples
            .iter()
            .filter(|it| it.key.pipeline == pipeline && it.key.stage == stage);
        of_stage
            .map(|sample| {
                now.insert(self.short(&sample.pool), (sample.spec, sample.ready));
                now.clone()
            })
            .collect()
    }

    /// When the wanted replicas of a stage on one pool changed, and to what.
    pub(crate) fn changes_on(&self, pipeline: &str, stage: &str, pool: &str) -> Vec<(Duration, i64)> {
        let mut all: Vec<(Duration, i64)> = self
            .samples()
            .into_iter()
            .filter(|it| it.key.pipeline == pipeline && it.key.stage == stage && self.short(&it.pool) == pool)
            .map(|it| (it.at, it.spec))
            .collect();
        all.dedup_by_key(|(_, spec)| *spec);
        all
    }

    /// When Ready replicas of a stage on one pool changed, and to what.
    pub(crate) fn ready_on(&self, pipeline: &str, stage: &str, pool: &str) -> Vec<(Duration, i64)> {
        let all = self.samples().into_iter();
        all.filter(|it| it.key.pipeline == pipeline && it.key.stage == stage && self.short(&it.pool) == pool)
            .map(|it| (it.at, it.ready))
            .collect()
    }

    fn samples(&self) -> Vec<Sample> {
        let ledger = self.observer.snapshot();
        let own = ledger.samples().iter();
        own.filter(|it| it.key.namespace == self.tiered.namespace())
            .cloned()
            .collect()
    }

    fn short(&self, pool: &str) -> String {
        let prefix = format!("{}-", self.tiered.namespace());
        pool.strip_prefix(&prefix).unwrap_or(pool).to_owned()
    }

    /// What happened, for failure messages.
    pub(crate) fn history(&self) -> String {
        let lines = self.samples().into_iter().map(|it| {
            let at = it.at.as_millis();
            let (stage, pool) = (it.key.stage, self.short(&it.pool));
            format!(
                "\n{at} ms {}/{stage} on {pool}: {} ({} ready)",
                it.key.pipeline, it.spec, it.ready
            )
        });
        lines.collect()
    }

    /// Wanted replicas of a stage by pool, as the observer saw them last; pools without any left out.
    pub(crate) fn wanted(&self, pipeline: &str, stage: &str) -> BTreeMap<String, i64> {
        let last = self.states(pipeline, stage).pop().unwrap_or_default();
        last.into_iter()
            .filter(|(_, (spec, _))| *spec > 0)
            .map(|(pool, (spec, _))| (pool, spec))
            .collect()
    }

    /// Ready replicas of a stage by pool.
    fn serving(&self, pipeline: &str, stage: &str) -> BTreeMap<String, i64> {
        let last = self.states(pipeline, stage).pop().unwrap_or_default();
        last.into_iter()
            .filter(|(_, (spec, ready))| *spec > 0 || *ready > 0)
            .map(|(pool, (_, ready))| (pool, ready))
            .collect()
    }

    /// Waits until exactly these replicas of a stage are wanted and Ready.
    pub(crate) async fn settles(&self, pipeline: &str, stage: &str, pools: &[(&str, i64)]) {
        let expected: BTreeMap<String, i64> = pools.iter().map(|(pool, count)| ((*pool).to_owned(), *count)).collect();
        let what = format!("stage '{stage}' of '{pipeline}' settles on {expected:?}");
        let settled = eventually(PATIENCE, what, async || {
            let seen = (self.wanted(pipeline, stage), self.serving(pipeline, stage));
            if seen == (expected.clone(), expected.clone()) {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        });
        if let Err(late) = settled.await {
            panic!("{late}\n{}\n{}", self.history(), self.conditions(pipeline).await);
        }
    }

    /// Waits until the total of a stage satisfies `fits`.
    pub(crate) async fn total(&self, pipeline: &str, stage: &str, what: &str, fits: impl Fn(i64) -> bool) {
        let total = || self.wanted(pipeline, stage).values().sum::<i64>();
        let reached = eventually(PATIENCE, format!("stage '{stage}': {what}"), async || {
            let total = total();
            if fits(total) { Ok(()) } else { Err(total.to_string()) }
        });
        if let Err(late) = reached.await {
            panic!("{late}\n{}\n{}", self.history(), self.conditions(pipeline).await);
        }
    }

    /// The total of a stage does not change for so long.
    pub(crate) async fn stays(&self, pipeline: &str, stage: &str, length: Duration) {
        let before = self.wanted(pipeline, stage);
        tokio::time::sleep(length).await;
        assert_eq!(self.wanted(pipeline, stage), before, "{}", self.history());
    }

    /// What a pipeline says about itself, for failure messages.
    pub(crate) async fn conditions(&self, pipeline: &str) -> String {
        let pipeline = self.tiered.pipeline(pipeline).await;
        let status = pipeline.status.unwrap_or_default();
        let lines = status.conditions.iter().map(told);
        let decisions = status
            .decisions
            .iter()
            .map(|it| format!("{} {} {}", it.trigger, it.reason, it.summary));
        let stages = status.stages.iter().filter_map(|it| it.message.clone());
        lines
            .chain(decisions)
            .chain(stages)
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Merges a patch into a pipeline.
    pub(crate) async fn edit(&self, pipeline: &str, patch: Value) {
        let api = self.tiered.pipelines();
        drop(
            api.patch(pipeline, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .unwrap(),
        );
    }

    /// Merges a patch into a pool.
    pub(crate) async fn edit_pool(&self, pool: &str, patch: Value) {
        let api = Api::<ComputePool>::all(self.tiered.space.client.clone());
        let name = self.tiered.pool_name(pool);
        drop(
            api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
                .await
                .unwrap(),
        );
    }

    /// Changes a pool's price per node and hour.
    pub(crate) async fn price(&self, pool: &str, price: &str) {
        self.edit_pool(pool, json!({"spec": {"costPerNodeHour": price}})).await;
    }

    /// Name of the Deployment of a stage on a pool.
    pub(crate) async fn child(&self, pipeline: &str, stage: &str, pool: &str) -> String {
        let key = (stage.to_owned(), pool.to_owned());
        self.tiered.deployments(pipeline).await[&key].name_any()
    }

    /// What `tiercel explain` says of a pipeline or a stage of it: its document.
    pub(crate) async fn explained(&self, of: &str) -> Value {
        let cluster = &self.tiered.installed.cluster;
        let url = format!("http://127.0.0.1:{}", cluster.port(Port::Operator));
        let namespace = self.tiered.namespace();
        let args = ["explain", of, "-n", namespace, "--operator", &url, "-o", "json"];
        let told = tiercel(cluster.kubeconfig(), &args).await;
        serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"))
    }

    /// Runs kubectl in this namespace.
    pub(crate) async fn kubectl(&self, args: &[&str]) -> String {
        let args = [args, &["-n", self.tiered.namespace()]].concat();
        self.tiered.installed.cluster.kubectl().run(&args).await.unwrap()
    }

    /// Sends requests of the reference size through a pipeline: straight lines between (second, requests per second).
    pub(crate) async fn load(&self, pipeline: &str, rate: &[(u64, f64)]) -> Summary {
        self.load_into(Arc::default(), pipeline, rate).await
    }

    /// The same with measurements that can be read before it ends.
    pub(crate) async fn load_into(&self, recorder: Arc<Recorder>, pipeline: &str, rate: &[(u64, f64)]) -> Summary {
        let object = serde_json::to_value(self.tiered.pipeline(pipeline).await).unwrap();
        let route = Route::of_pipeline(&object).unwrap();
        self.load_along(recorder, route, rate).await
    }

    /// The same along stages that need not be what the pipeline declares.
    pub(crate) async fn load_along(&self, recorder: Arc<Recorder>, route: Route, rate: &[(u64, f64)]) -> Summary {
        let rate = Rate::points(rate.iter().map(|(at, per_s)| (Duration::from_secs(*at), *per_s)));
        let trace = rate.trace(Spacing::Regular, SIZE.0, SIZE.1);
        drive(route, &trace, self.fleet.directory(), DriveOptions::default(), recorder).await
    }
}

/// Every replica plays a vLLM server that serves 10 requests per second, 8 at a time.
pub(crate) fn serving() -> Behaviours {
    Behaviours::new(Behaviour::vllm(10.0, 8))
}

/// A stage for CPU pools that is read as a vLLM server and follows its load within seconds. A tenth of an x86 node each.
pub(crate) fn server(name: &str, min: u32, max: u32) -> Value {
    json!({
        "name": name,
        "kind": "Custom",
        "container": {
            "image": "registry.example.com/server:1",
            "ports": [{"name": "http", "containerPort": 8000}],
            "resources": {"requests": {"cpu": "1589m", "memory": "256Mi"}},
        },
        "capacity": {"requestsPerSecond": "10", "concurrency": 8},
        "startupSeconds": 1,
        "traffic": "Pull",
        "replicas": {"min": min, "max": max},
        "signal": {"preset": "vllm", "targetPercent": 75, "lossSeconds": 5},
        "scaling": {"scaleDown": {"stabilizationWindowSeconds": 5}},
        "disruption": {"drainSeconds": 0, "maxMovesPerHour": 1000, "maxSurge": 1},
    })
}

/// A model server with a profile for GPUs, 10 requests per second, and one for CPUs, as `cpu` has its capacity.
pub(crate) fn either(name: &str, min: u32, max: u32, cpu: &Value) -> Value {
    let mut stage = server(name, min, max);
    stage["kind"] = json!("Inference");
    stage.as_object_mut().unwrap().remove("capacity");
    stage["profiles"] = json!([
        {
            "name": "gpu",
            "pools": {"tier": "Accelerator"},
            "container": {"resources": {"requests": {"cpu": "4", "memory": "4Gi"}, "limits": {"nvidia.com/gpu": "1"}}},
            "capacity": {"requestsPerSecond": "10", "concurrency": 8},
        },
        {"name": "cpu", "pools": {"tier": "CPU"}, "capacity": cpu},
    ]);
    stage
}

/// Field managers that own `spec.replicas`.
pub(crate) fn owners(deployment: &Deployment) -> BTreeSet<String> {
    let entries = deployment.managed_fields().iter().filter(|entry| {
        let fields = entry.fields_v1.as_ref();
        fields.is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
    });
    entries.filter_map(|entry| entry.manager.clone()).collect()
}

/// The managers named, as a set.
pub(crate) fn managers(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Whether the rebalancer owns the replicas of every Deployment of a pipeline. Until it first changes them, or the
/// Deployment is edited, `tiercel` is still named beside it.
pub(crate) async fn claimed(tiered: &Tiered, pipeline: &str) -> Look<()> {
    let all = tiered.deployments(pipeline).await;
    let owners: Vec<_> = all.values().map(owners).collect();
    let ours = owners
        .iter()
        .all(|owners| owners.contains(labels::REBALANCER_FIELD_MANAGER));
    if ours && !all.is_empty() {
        Ok(())
    } else {
        Err(format!("the owners are {owners:?}"))
    }
}

/// Whether the rebalancer alone owns them.
pub(crate) async fn handed_over(tiered: &Tiered, pipeline: &str) -> Look<()> {
    let wanted = managers(&[labels::REBALANCER_FIELD_MANAGER]);
    let all = tiered.deployments(pipeline).await;
    let others: Vec<_> = all.values().map(owners).filter(|owners| *owners != wanted).collect();
    if others.is_empty() && !all.is_empty() {
        Ok(())
    } else {
        Err(format!("{others:?} instead of {wanted:?}"))
    }
}

async fn note_ready(pipelines: Api<TieredPipeline>, states: Arc<Mutex<Vec<String>>>) {
    let mut changes = watcher(pipelines, watcher::Config::default())
        .default_backoff()
        .touched_objects()
        .boxed();
    while let Some(change) = changes.next().await {
        let Ok(pipeline) = change else { continue };
        if let Ok(ready) = condition(&pipeline, "Ready") {
            let line = format!("{}={}", pipeline.name_any(), ready.status);
            states.lock().unwrap().push(line);
        }
    }
}
