//! Everything that has to stand before the load begins: control plane, nodes, operator, fleet.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kube::Client;
use tokio::task::JoinSet;

use super::models::StageModel;
use super::screen::Screen;
use super::{Failure, NAMESPACE, OPERATOR_NAMESPACE, models};
use crate::controlplane::{self, Cluster};
use crate::fleet::{self, Fleet};
use crate::helm::Helm;
use crate::nodes::{self, Shape};
use crate::operator::{self, Operator};
use crate::slot::Port;
use crate::tools;
use crate::wait::eventually;

/// What the nodes are, and how many: the L4 suffice for the peak of generation; without them H100 and Inferentia fall short
/// of it, and processors have to help.
pub const NODES: [(Shape, usize); 5] = [
    (nodes::GRAVITON, 12),
    (nodes::X86, 4),
    (nodes::L4_SPOT, 11),
    (nodes::H100, 1),
    (nodes::INFERENTIA2, 2),
];

/// CPU use of so many pods is written per second: enough for the demo's pods, little for the API server.
const USAGE_WRITES_PER_S: usize = 20;

/// How many nodes a pool has, and the vCPUs of one: pools are named after their shapes, but for Inferentia.
pub fn machines_of(pool: &str) -> (u64, u32) {
    let found = NODES.iter().find(|(shape, _)| shape.name.starts_with(pool));
    found.map_or((0, 0), |(shape, count)| (*count as u64, shape.vcpus))
}

/// What runs. Dropping it ends everything; [`StageSet::strike`] does so in order.
pub struct StageSet {
    /// The fleet.
    pub fleet: Fleet,
    /// A client as administrator.
    pub client: Client,
    /// The operator.
    pub operator: Operator,
    /// The control plane.
    pub cluster: Cluster,
    /// Watch on pods, CPU use.
    _tasks: JoinSet<()>,
}

/// Root of the repository.
pub fn repository() -> PathBuf {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
    harness.parent().unwrap_or(harness).to_owned()
}

impl StageSet {
    /// Starts everything; `folder` is the demo's.
    pub async fn build(folder: &Path, stages: &[StageModel], screen: &Screen) -> Result<Self, Failure> {
        let tools = tokio::task::spawn_blocking(|| tools::find_or_build(|line| println!("{line}"))).await??;
        let binary = operator_binary(screen).await?;
        screen.say(
            "control plane: etcd, API server, controller manager, scheduler, metrics-server; kwok plays the nodes",
        );
        let options = controlplane::Options {
            folder: Some(folder.join("cluster")),
            metrics_server: true,
            audit: true,
            ..controlplane::Options::default()
        };
        let cluster = Cluster::start(&tools, options).await?;
        screen.say(&format!("control plane ready at {}", cluster.server()));
        let client = cluster.client().await?;
        for (shape, count) in &NODES {
            nodes::create(&client, shape, shape.name, 0..*count, &[]).await?;
        }
        screen.say("nodes Ready; installing tiercel with helm");
        let operator = install(&cluster, binary, &folder.join("decisions.jsonl")).await?;
        screen.say(&format!(
            "tiercel runs as its own ServiceAccount (pid {})",
            operator.pid()
        ));
        let fleet = Fleet::new(models::behaviours(stages), 1.0);
        let mut tasks = JoinSet::new();
        tasks.spawn(fleet::watch_pods(fleet.clone(), client.clone()));
        tasks.spawn(fleet::report_cpu(fleet.clone(), client.clone(), USAGE_WRITES_PER_S));
        Ok(Self {
            fleet,
            client,
            operator,
            cluster,
            _tasks: tasks,
        })
    }

    /// Applies the pools and waits until each has seen its nodes. Returns what `kubectl get computepools` shows.
    pub async fn pools(&self, file: &Path) -> Result<String, Failure> {
        let kubectl = self.cluster.kubectl();
        kubectl.apply(&std::fs::read_to_string(file)?).await?;
        eventually(Duration::from_secs(30), "the pools are Ready", async || {
            let seen = kubectl
                .get(&["computepools"])
                .await
                .map_err(|error| error.to_string())?;
            let items = seen.get("items").and_then(serde_json::Value::as_array);
            let waiting = items.into_iter().flatten().filter(|pool| {
                let nodes = pool.pointer("/status/nodes").and_then(serde_json::Value::as_u64);
                nodes.unwrap_or(0) == 0
            });
            match waiting.count() {
                0 => Ok(()),
                count => Err(format!("{count} pools without nodes")),
            }
        })
        .await?;
        Ok(kubectl.run(&["get", "computepools"]).await?)
    }

    /// Makes the namespace of the pipeline. Starts take as long as the pipeline declares for each pool.
    pub async fn namespace(&self, stages: &[StageModel]) -> Result<(), Failure> {
        let mut annotations = serde_json::Map::new();
        annotations.insert("kwok.tiercel.dev/startup-milliseconds".into(), "1000".into());
        for (pool, replica) in stages
            .iter()
            .filter(|stage| stage.inference)
            .flat_map(|stage| &stage.replicas)
        {
            let millis = (replica.startup_s * 1_000).to_string();
            // Shared pools also run the quick stages: the declared time of the model counts where nothing else runs.
            if machines_of(pool).0 > 0 && stages.iter().filter(|stage| stage.replicas.contains_key(pool)).count() == 1 {
                annotations.insert(format!("kwok.tiercel.dev/startup-milliseconds.{pool}"), millis.into());
            }
        }
        let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "annotations": annotations}});
        self.cluster.kubectl().apply(&namespace.to_string()).await?;
        Ok(())
    }

    /// An error if something that should run has ended.
    pub fn check(&mut self) -> Result<(), Failure> {
        self.operator.check()?;
        self.cluster.check()?;
        Ok(())
    }

    /// Ends everything, the operator first. Blocks for some seconds.
    pub fn strike(mut self) {
        self.fleet.stop();
        self.operator.stop();
        self.cluster.stop();
    }
}

async fn install(cluster: &Cluster, binary: PathBuf, decision_log: &Path) -> Result<Operator, Failure> {
    let values = operator::outside_values(cluster);
    let chart = repository().join("charts/tiercel");
    Helm::new(cluster)
        .install("tiercel", &chart, OPERATOR_NAMESPACE, &values)
        .await?;
    let mut args = operator::arguments(cluster, OPERATOR_NAMESPACE, "tiercel", cluster.port(Port::Operator)).await?;
    if !args.iter().any(|arg| arg.starts_with("--leader-elect")) {
        args.push("--leader-elect".into());
    }
    args.push(format!("--decision-log={}", decision_log.display()));
    let options = operator::Options {
        name: "operator".into(),
        binary,
        namespace: OPERATOR_NAMESPACE.into(),
        service_account: "tiercel".into(),
        args,
        env: Vec::new(),
        outlives_parent: false,
    };
    Ok(Operator::start(cluster, options).await?)
}

/// `TIERCEL_BIN` if it is set; otherwise cargo brings the binary up to date first, so that what is shown is what is there.
async fn operator_binary(screen: &Screen) -> Result<PathBuf, Failure> {
    if std::env::var_os("TIERCEL_BIN").is_none_or(|path| path.is_empty()) {
        screen.say("building the operator: cargo build --workspace --bin tiercel");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = tokio::process::Command::new(cargo)
            .args(["build", "--workspace", "--bin", "tiercel"])
            .current_dir(repository())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await?;
        if !status.success() {
            return Err("`cargo build --workspace --bin tiercel` failed: its messages are above".into());
        }
    }
    Ok(operator::find_binary()?)
}
