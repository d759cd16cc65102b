//! KEDA: operator and metrics adapter as processes beside the control plane, and what its triggers read.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Path as Segment, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use http::Request;
use jiff::Timestamp;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use tiercel_e2e::certs::{Authority, Pair};
use tiercel_e2e::keda::Keda;
use tiercel_e2e::process::{Process, Spec, tail};
use tiercel_e2e::slot::Port;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::hpa::REQUESTS_PER_REPLICA;
use crate::Failure;
use crate::ground::Ground;

const SPACE: &str = "keda";
const ACCOUNT: &str = "keda-operator";

/// Running KEDA; dropping it ends both processes.
#[derive(Debug)]
pub(super) struct Running {
    operator: Process,
    adapter: Process,
}

/// Installs the definitions, starts operator and adapter and waits until the external metrics API answers.
pub(super) async fn start(ground: &Ground, keda: &Keda) -> Result<Running, Failure> {
    let cluster = &ground.cluster;
    for path in keda.definitions()? {
        cluster.kubectl().apply(&std::fs::read_to_string(path)?).await?;
    }
    let port = cluster.port(Port::KedaAdapter);
    ground.apply(SPACE, &objects(port)).await?;
    let kubeconfig = cluster.kubeconfig_as(SPACE, ACCOUNT).await?.display().to_string();
    let authority = Authority::new(&cluster.folder().join("keda-pki"))?;
    let (server, client) = (
        authority.server("server", &["localhost", "127.0.0.1"])?,
        authority.client("adapter", "keda-adapter", None)?,
    );
    let service = format!("127.0.0.1:{}", cluster.port(Port::KedaService));
    let env: Vec<(String, String)> = [
        ("KUBECONFIG", kubeconfig.as_str()),
        ("WATCH_NAMESPACE", ""),
        ("POD_NAMESPACE", SPACE),
        ("KEDA_CLUSTER_OBJECT_NAMESPACE", SPACE),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let spec = |name: &str, program: PathBuf, args: Vec<String>| Spec {
        name: name.to_owned(),
        program,
        args,
        env: env.clone(),
        log: cluster.folder().join(format!("{name}.log")),
        outlives_parent: false,
    };
    let operator_certs = mounted(&cluster.folder().join("keda-operator-certs"), &authority, &server)?;
    let mut operator = Process::start(spec(
        "keda-operator",
        keda.operator(),
        vec![
            "--leader-elect=false".into(),
            "--enable-cert-rotation=false".into(),
            "--metrics-bind-address=0".into(),
            "--health-probe-bind-address=0".into(),
            format!("--metrics-service-bind-address={service}"),
            format!("--cert-dir={operator_certs}"),
            "--zap-log-level=info".into(),
        ],
    ))?;
    listening(&mut operator, cluster.port(Port::KedaService)).await?;
    let adapter_certs = mounted(&cluster.folder().join("keda-adapter-certs"), &authority, &client)?;
    let mut adapter = Process::start(spec(
        "keda-adapter",
        keda.adapter(),
        vec![
            "--bind-address=127.0.0.1".into(),
            format!("--secure-port={port}"),
            format!("--port={}", cluster.port(Port::KedaAdapterMetrics)),
            format!("--metrics-service-address={service}"),
            format!("--cert-dir={adapter_certs}"),
            format!("--tls-cert-file={}", server.cert.display()),
            format!("--tls-private-key-file={}", server.key.display()),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--lister-kubeconfig={kubeconfig}"),
        ],
    ))?;
    listening(&mut adapter, port).await?;
    answers(&ground.client, &adapter).await?;
    Ok(Running { operator, adapter })
}

impl Running {
    /// An error with the end of its log if either process has ended.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        self.operator.check()?;
        Ok(self.adapter.check()?)
    }

    /// Names and process ids.
    pub(super) fn pids(&self) -> [(&'static str, u32); 2] {
        [
            ("keda-operator", self.operator.pid()),
            ("keda-adapter", self.adapter.pid()),
        ]
    }

    /// The end of the operator's log, for messages.
    pub(super) fn log(&self) -> String {
        tail(&self.operator.spec().log)
    }
}

/// Account, rights and the announcement of the external metrics API. The Service is only a name for the loopback address.
fn objects(port: u16) -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, "namespace": SPACE}}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": ACCOUNT},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": SPACE}],
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "keda-metrics-apiserver", "namespace": SPACE},
            "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
        }),
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
            "spec": {
                "group": "external.metrics.k8s.io", "version": "v1beta1",
                "groupPriorityMinimum": 100, "versionPriority": 100, "insecureSkipTLSVerify": true,
                "service": {"name": "keda-metrics-apiserver", "namespace": SPACE, "port": port},
            },
        }),
    ]
}

/// A folder with the file names that KEDA expects.
fn mounted(folder: &Path, authority: &Authority, pair: &Pair) -> Result<String, Failure> {
    std::fs::create_dir_all(folder)?;
    std::fs::copy(authority.root(), folder.join("ca.crt"))?;
    std::fs::copy(&pair.cert, folder.join("tls.crt"))?;
    std::fs::copy(&pair.key, folder.join("tls.key"))?;
    Ok(folder.display().to_string())
}

async fn listening(process: &mut Process, port: u16) -> Result<(), Failure> {
    let start = Instant::now();
    while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .is_err()
    {
        process.check()?;
        if start.elapsed() > Duration::from_secs(60) {
            let log = tail(&process.spec().log);
            return Err(format!("{} does not listen after a minute:\n{log}", process.spec().name).into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn answers(client: &Client, adapter: &Process) -> Result<(), Failure> {
    let start = Instant::now();
    loop {
        let request = Request::get("/apis/external.metrics.k8s.io/v1beta1").body(Vec::new())?;
        let Err(error) = client.request::<Value>(request).await else {
            return Ok(());
        };
        if start.elapsed() > Duration::from_secs(60) {
            let log = tail(&adapter.spec().log);
            return Err(format!("the external metrics API does not answer: {error}\n{log}").into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn scaled_objects(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject"));
    Api::namespaced_with(client.clone(), namespace, &kind)
}

/// Has a Deployment scaled by its load, everything but the polling interval at its default.
pub(super) async fn create(
    client: &Client,
    namespace: &str,
    name: &str,
    loads: &Loads,
    polling: Option<Duration>,
) -> Result<(), Failure> {
    let metadata = json!({
        "url": loads.url(name), "valueLocation": "requests", "targetValue": REQUESTS_PER_REPLICA.to_string(),
    });
    let mut object = json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"name": name},
            "minReplicaCount": 1,
            "maxReplicaCount": 4,
            "triggers": [{"type": "metrics-api", "metadata": metadata}],
        },
    });
    if let Some(polling) = polling {
        object["spec"]["pollingInterval"] = json!(polling.as_secs());
    }
    scaled_objects(client, namespace)
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    Ok(())
}

/// Deletes all `ScaledObject`s of a namespace and waits until their autoscalers are gone with them.
pub(super) async fn delete_all(client: &Client, namespace: &str) -> Result<(), Failure> {
    let api = scaled_objects(client, namespace);
    api.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    let start = Instant::now();
    while !api.list(&ListParams::default()).await?.items.is_empty() {
        if start.elapsed() > Duration::from_secs(60) {
            return Err("KEDA has not let go of its ScaledObjects after a minute".into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
struct Load {
    requests: u32,
    shown: Option<Timestamp>,
}

type Known = Arc<Mutex<HashMap<String, Load>>>;

/// Requests per Deployment, served on loopback as one number each; remembers when each was first shown.
#[derive(Debug)]
pub(super) struct Loads {
    known: Known,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Drop for Loads {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Loads {
    pub(super) async fn serve() -> Result<Self, Failure> {
        let known = Known::default();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let routes = Router::new()
            .route("/load/{name}", get(show))
            .with_state(Arc::clone(&known));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                eprintln!("the server of loads has ended: {error}");
            }
        });
        Ok(Self { known, address, server })
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}/load/{name}", self.address)
    }

    /// Changes a load and forgets when the one before was shown.
    pub(super) fn set(&self, name: &str, requests: u32) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), Load { requests, shown: None });
    }

    /// When the load was first read.
    pub(super) fn shown(&self, name: &str) -> Option<Timestamp> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name)?.shown
    }
}

async fn show(State(known): State<Known>, Segment(name): Segment<String>) -> Result<Json<Value>, StatusCode> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    let load = known.get_mut(&name).ok_or(StatusCode::NOT_FOUND)?;
    load.shown.get_or_insert_with(Timestamp::now);
    Ok(Json(json!({"requests": load.requests})))
}
