//! The operator as a process beside the cluster, speaking as its own ServiceAccount: a missing permission fails here as it
//! would in a pod.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::command;
use crate::controlplane::{self, Cluster};
use crate::process::{self, Process, Remembered, Spec};

/// What the operator needs to shut down in order: giving up its lease, flushing status.
const GRACE: Duration = Duration::from_secs(5);

/// Values of the chart for an operator beside a local cluster: everything but the pod, and leave to scrape the pods'
/// loopback addresses, which is refused otherwise.
pub fn outside_values(cluster: &Cluster) -> String {
    format!("replicaCount: 0\nscrape:\n  allowCIDRs: [{:?}]\n", cluster.pod_range())
}

/// The arguments that the installed chart gives its pod, with the metrics address moved to `127.0.0.1:port`: what runs
/// outside is what would run inside.
pub async fn arguments(cluster: &Cluster, namespace: &str, deployment: &str, port: u16) -> Result<Vec<String>, Error> {
    let container = container(cluster, namespace, deployment).await?;
    let args = container.get("args").and_then(Value::as_array);
    let args = args.ok_or_else(|| Error::NoArguments(deployment.to_owned()))?;
    let own = args
        .iter()
        .filter_map(|arg| arg.as_str())
        .map(|arg| match arg.split_once('=') {
            Some(("--metrics-bind-address", _)) => format!("--metrics-bind-address=127.0.0.1:{port}"),
            _ => arg.to_owned(),
        });
    Ok(own.collect())
}

/// The environment variables that it gives likewise: those with a value of their own.
pub async fn environment(cluster: &Cluster, namespace: &str, deployment: &str) -> Result<Vec<(String, String)>, Error> {
    let container = container(cluster, namespace, deployment).await?;
    let variables = container.get("env").and_then(Value::as_array).into_iter().flatten();
    let text = |of: &Value, key: &str| Some(of.get(key)?.as_str()?.to_owned());
    Ok(variables
        .filter_map(|it| Some((text(it, "name")?, text(it, "value")?)))
        .collect())
}

async fn container(cluster: &Cluster, namespace: &str, deployment: &str) -> Result<Value, Error> {
    let mut object = cluster
        .kubectl()
        .get(&["deployment", deployment, "-n", namespace])
        .await?;
    let container = object.pointer_mut("/spec/template/spec/containers/0");
    Ok(container.map(Value::take).unwrap_or_default())
}

/// How to start the operator.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of this instance: its log is `<name>.log` in the cluster's folder.
    pub name: String,
    /// The `tiercel` binary, see [`find_binary`].
    pub binary: PathBuf,
    /// Namespace of the ServiceAccount.
    pub namespace: String,
    /// The ServiceAccount, created by the chart.
    pub service_account: String,
    /// Everything after the program's name.
    pub args: Vec<String>,
    /// Further environment variables.
    pub env: Vec<(String, String)>,
    /// Whether it lives on after the harness.
    pub outlives_parent: bool,
}

/// Why the operator does not run.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("no tiercel binary at {0}: run `cargo build --bin tiercel` first, or set TIERCEL_BIN")]
    NoBinary(PathBuf),
    #[error("the chart's Deployment {0} gives its container no arguments")]
    NoArguments(String),
    #[error(transparent)]
    Kubectl(#[from] command::Error),
    #[error(transparent)]
    Cluster(#[from] controlplane::Error),
    #[error(transparent)]
    Process(#[from] process::Error),
}

/// A running operator; dropping it ends it at once.
#[derive(Debug)]
pub struct Operator {
    process: Process,
}

impl Operator {
    /// Gets a token for the ServiceAccount and starts the binary with `KUBECONFIG` pointing to it.
    pub async fn start(cluster: &Cluster, options: Options) -> Result<Self, Error> {
        let kubeconfig = cluster
            .kubeconfig_as(&options.namespace, &options.service_account)
            .await?;
        let mut env = options.env;
        env.push(("KUBECONFIG".into(), kubeconfig.display().to_string()));
        let process = Process::start(Spec {
            log: cluster.folder().join(format!("{}.log", options.name)),
            name: options.name,
            program: options.binary,
            args: options.args,
            env,
            outlives_parent: options.outlives_parent,
        })?;
        Ok(Self { process })
    }

    /// The log file; a restarted operator goes on in the same.
    pub fn log(&self) -> PathBuf {
        self.process.spec().log.clone()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What a later run needs to end it.
    pub fn remember(&self) -> Remembered {
        self.process.remember(self.process.spec().program.display().to_string())
    }

    /// An error with the end of the log if it has ended by itself.
    pub fn check(&mut self) -> Result<(), Error> {
        Ok(self.process.check()?)
    }

    /// SIGKILL: no chance to give up the lease or to write anything.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM, then SIGKILL after 5 s. Blocks.
    pub fn stop(&mut self) {
        self.process.terminate();
        self.process.wait(GRACE);
    }

    /// Starts it again as before, after [`Operator::kill`] or [`Operator::stop`].
    pub fn restart(&mut self) -> Result<(), Error> {
        self.process = Process::start(self.process.spec().clone())?;
        Ok(())
    }
}

/// The `tiercel` binary: `TIERCEL_BIN`, or the one that cargo built beside this program.
pub fn find_binary() -> Result<PathBuf, Error> {
    if let Some(path) = std::env::var_os("TIERCEL_BIN").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(Error::NoBinary(path))
        };
    }
    let this = std::env::current_exe().unwrap_or_default();
    let folder = this.parent().unwrap_or(&this);
    // Test programs lie in `deps`, one level below the binaries.
    let folder = if folder.ends_with("deps") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    let path = folder.join("tiercel");
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::NoBinary(path))
    }
}
