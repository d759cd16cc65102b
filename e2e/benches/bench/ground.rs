//! A control plane with the operator, for one measurement.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use tiercel_e2e::controlplane::{Cluster, Options};
use tiercel_e2e::demo::decisions::Tail;
use tiercel_e2e::helm::Helm;
use tiercel_e2e::nodes::{self, Shape};
use tiercel_e2e::operator::{self, Operator};
use tiercel_e2e::slot::Port;
use tiercel_e2e::tools;

use crate::Failure;
use crate::audit::{Log, Request};
use crate::result::repository;

const NAMESPACE: &str = "tiercel-system";

/// Everything one measurement stands on. Dropping it ends all processes.
pub(crate) struct Ground {
    /// First, so that it ends before the cluster does.
    pub(crate) operator: Operator,
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    /// Which build of the operator this is.
    pub(crate) profile: String,
}

impl Ground {
    /// Control plane, nodes `<shape>` × count with further labels, chart, operator with the chart's own arguments.
    pub(crate) async fn start(nodes: &[(&Shape, &str, usize, &[(&str, &str)])]) -> Result<Self, Failure> {
        Self::with(nodes, false).await
    }

    /// The same, with metrics-server or without.
    pub(crate) async fn with(
        nodes: &[(&Shape, &str, usize, &[(&str, &str)])],
        metrics_server: bool,
    ) -> Result<Self, Failure> {
        let (binary, profile) = tokio::task::spawn_blocking(binary).await??;
        let tools = tokio::task::spawn_blocking(|| tools::find_or_build(|line| eprintln!("{line}"))).await??;
        let options = Options {
            audit: true,
            metrics_server,
            ..Options::default()
        };
        let cluster = Cluster::start(&tools, options).await?;
        let client = cluster.client().await?;
        for (shape, set, count, labels) in nodes {
            nodes::create(&client, shape, set, 0..*count, labels).await?;
        }
        let chart = repository().join("charts/tiercel");
        let values = operator::outside_values(&cluster);
        Helm::new(&cluster)
            .install("tiercel", &chart, NAMESPACE, &values)
            .await?;
        let args = operator::arguments(&cluster, NAMESPACE, "tiercel", cluster.port(Port::Operator)).await?;
        let mut env = operator::environment(&cluster, NAMESPACE, "tiercel").await?;
        let log = cluster.folder().join("decisions.jsonl").display().to_string();
        env.push(("TIERCEL_DECISION_LOG".into(), log));
        let operator = Operator::start(
            &cluster,
            operator::Options {
                name: "operator".into(),
                binary,
                namespace: NAMESPACE.into(),
                service_account: "tiercel".into(),
                args,
                env,
                outlives_parent: false,
            },
        )
        .await?;
        Ok(Self {
            operator,
            cluster,
            client,
            profile,
        })
    }

    /// A namespace whose pods become Ready `startup_ms` after they land on a node.
    pub(crate) async fn namespace(&self, name: &str, startup_ms: u32) -> Result<(), Failure> {
        let annotations = json!({"kwok.tiercel.dev/startup-milliseconds": startup_ms.to_string()});
        let metadata = json!({"name": name, "annotations": annotations});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        self.cluster.kubectl().apply(&namespace.to_string()).await?;
        Ok(())
    }

    /// Applies objects as one list.
    pub(crate) async fn apply(&self, namespace: &str, objects: &[Value]) -> Result<(), Failure> {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.cluster.kubectl().apply_in(namespace, &list.to_string()).await?;
        Ok(())
    }

    /// Pods of a namespace that are Ready and stay, and all that there are.
    pub(crate) async fn pods(&self, namespace: &str) -> Result<(usize, usize), Failure> {
        let all = Api::<Pod>::namespaced(self.client.clone(), namespace)
            .list(&ListParams::default())
            .await?
            .items;
        Ok((all.iter().filter(|pod| is_ready(pod)).count(), all.len()))
    }

    /// A reader of the audit log from now on.
    pub(crate) fn audit(&self) -> Result<Log, Failure> {
        Log::from_now(self.cluster.audit_log())
    }

    /// Whether a request is the operator's.
    pub(crate) fn is_operators(&self, request: &Request) -> bool {
        request.user == format!("system:serviceaccount:{NAMESPACE}:tiercel")
    }

    /// Decisions in the operator's decision log.
    pub(crate) fn decisions(&self) -> usize {
        let mut log = Tail::new(self.cluster.folder().join("decisions.jsonl"));
        log.read()
    }

    /// Waits until the operator has asked for no change but its lease for `still`. `false` if that does not come
    /// within `patience`.
    pub(crate) async fn quiet(&self, still: Duration, patience: Duration) -> Result<bool, Failure> {
        let mut log = self.audit()?;
        let start = std::time::Instant::now();
        let mut since = start;
        while since.elapsed() < still {
            if start.elapsed() > patience {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            let busy = |request: &Request| self.is_operators(request) && request.is_mutating() && !request.is_lease();
            if log.read()?.iter().any(busy) {
                since = std::time::Instant::now();
            }
        }
        Ok(true)
    }
}

/// Whether a pod serves and stays.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none() && conditions.any(|it| it.type_ == "Ready" && it.status == "True")
}

/// `TIERCEL_BIN`, or a release build, and what to call it in the results.
fn binary() -> Result<(PathBuf, String), Failure> {
    if std::env::var_os("TIERCEL_BIN").is_some_and(|path| !path.is_empty()) {
        let path = operator::find_binary()?;
        let folder = path
            .parent()
            .and_then(|folder| folder.file_name())
            .unwrap_or_default()
            .to_string_lossy();
        return Ok((path.clone(), format!("{folder} (TIERCEL_BIN)")));
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut build = std::process::Command::new(cargo);
    build
        .args(["build", "--release", "--bin", "tiercel"])
        .current_dir(repository());
    if !build.status()?.success() {
        return Err("the release build of the operator failed; its output is above".into());
    }
    // <target>/<profile>/deps/<this>
    let this = std::env::current_exe()?;
    let target = this
        .ancestors()
        .nth(3)
        .ok_or("this program is not inside a target folder")?;
    Ok((target.join("release/tiercel"), "release".into()))
}
