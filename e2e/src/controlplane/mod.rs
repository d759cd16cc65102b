//! A real control plane on loopback: etcd, API server, controller manager, scheduler, metrics-server, with kwok playing
//! nodes and pods. One folder holds everything of one cluster; nothing outside it is touched, least of all the caller's
//! kubeconfig.

mod components;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use tempfile::TempDir;

use crate::certs::{self, Identity, write_kubeconfig};
use crate::kubectl::Kubectl;
use crate::process::{self, Process, Remembered, Spec};
use crate::slot::{Full, Port, Slot};
use crate::tools::{Tool, Tools};

/// A control plane is up within seconds; a loaded machine gets patience.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// For ending in order; whoever takes longer is killed.
const GRACE: Duration = Duration::from_secs(3);
/// A ServiceAccount that is not there is asked for so many times more, 15 s in all.
const ACCOUNT_TRIES: u32 = 75;
const ACCOUNT_PAUSE: Duration = Duration::from_millis(200);
/// Longest life of a ServiceAccount token made here.
const TOKEN_SECONDS: i64 = 24 * 3600;

/// How to start a cluster.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where everything goes; absent: a temporary folder that is removed at the end (kept if `TIERCEL_E2E_KEEP` is set).
    pub folder: Option<PathBuf>,
    /// Whether metrics-server runs too.
    pub metrics_server: bool,
    /// Whether every request goes to an audit log, see [`Cluster::audit_log`].
    pub audit: bool,
    /// Limits for concurrent reading and mutating requests; absent: the API server's own.
    pub inflight: Option<(u32, u32)>,
    /// Whether the processes live on after the harness.
    pub outlives_parent: bool,
}

/// Why a cluster is not there.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error(transparent)]
    Full(#[from] Full),
    #[error(transparent)]
    Certificates(#[from] certs::Error),
    #[error(transparent)]
    Process(#[from] process::Error),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{what} is not ready after {after:?}: {last_seen}; the end of the log of {component}:\n{tail}")]
    NotReady {
        what: &'static str,
        after: Duration,
        last_seen: String,
        component: &'static str,
        tail: String,
    },
    #[error("cannot read kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("the API server refused: {0}")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Kubectl(#[from] crate::command::Error),
    #[error("the API server answered a TokenRequest without a token")]
    NoToken,
    #[error("there is no component {0:?}")]
    NoComponent(Tool),
}

/// A running control plane. Dropping it ends all its processes; [`Cluster::stop`] does so in order.
#[derive(Debug)]
pub struct Cluster {
    slot: Slot,
    folder: PathBuf,
    temporary: Mutex<Option<TempDir>>,
    tools: Tools,
    processes: Mutex<Vec<(Tool, Process)>>,
    outlives_parent: bool,
}

impl Cluster {
    /// Starts everything and waits until it is ready (4 to 8 s on 2 cores).
    pub async fn start(tools: &Tools, options: Options) -> Result<Self, Error> {
        install_tls_provider();
        let slot = Slot::claim()?;
        let (folder, temporary) = folder(&options)?;
        let credentials = components::Credentials::create(&folder, &slot)?;
        for (path, text) in components::files(&folder) {
            std::fs::write(&path, text).map_err(|source| Error::File { path, source })?;
        }
        let specs = components::all(&folder, &slot, &credentials, &options);
        let outlives_parent = options.outlives_parent;
        let cluster = Self {
            slot,
            folder,
            temporary: Mutex::new(temporary),
            tools: tools.clone(),
            processes: Mutex::default(),
            outlives_parent,
        };
        for (tool, args) in specs {
            let process = Process::start(cluster.spec(tool, args))?;
            cluster.processes().push((tool, process));
            if tool == Tool::ApiServer {
                // The others give up or back off for seconds when they find no server.
                cluster.api_server_ready().await?;
            }
        }
        cluster.components_ready().await?;
        cluster.kubectl().apply(components::POD_ANNOTATIONS).await?;
        if options.metrics_server {
            cluster.kubectl().apply(&components::metrics_api(&cluster.slot)).await?;
        }
        Ok(cluster)
    }

    /// Folder of this cluster: logs, certificates, kubeconfigs, data.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        components::kubeconfig(&self.folder, "admin").into()
    }

    /// Address of the API server.
    pub fn server(&self) -> String {
        components::server_url(&self.slot)
    }

    /// The tools that this cluster was started with.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// `kubectl` as administrator of this cluster.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.tools.path(Tool::Kubectl), self.kubeconfig())
    }

    /// The range of this cluster's pod addresses, CIDR notation.
    pub fn pod_range(&self) -> String {
        self.slot.pod_range()
    }

    /// Whether an address lies in the range of this cluster's pods.
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        self.slot.holds(address)
    }

    /// A port on 127.0.0.1 that is reserved for this cluster.
    pub fn port(&self, port: Port) -> u16 {
        self.slot.port(port)
    }

    /// The audit log, JSON lines (with [`Options::audit`]).
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// The log of a component.
    pub fn log(&self, tool: Tool) -> PathBuf {
        self.folder.join(format!("{}.log", tool.name()))
    }

    /// A client as administrator. Each call opens connections of its own.
    pub async fn client(&self) -> Result<Client, Error> {
        client(&self.kubeconfig()).await
    }

    /// A client as a ServiceAccount, with a token from the TokenRequest API.
    pub async fn client_as(&self, namespace: &str, service_account: &str) -> Result<Client, Error> {
        client(&self.kubeconfig_as(namespace, service_account).await?).await
    }

    /// Writes a kubeconfig that speaks as a ServiceAccount (token valid for 24 h); for the operator outside the cluster.
    pub async fn kubeconfig_as(&self, namespace: &str, service_account: &str) -> Result<PathBuf, Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let params = PostParams::default();
        let ask = || accounts.create_token_request(service_account, &params, &request);
        let mut answer = ask().await;
        // A controller makes `default` some time after its namespace.
        for _ in 0..ACCOUNT_TRIES {
            if !matches!(&answer, Err(kube::Error::Api(status)) if status.is_not_found()) {
                break;
            }
            tokio::time::sleep(ACCOUNT_PAUSE).await;
            answer = ask().await;
        }
        let answer = answer?;
        let token = answer.status.and_then(|status| status.token).ok_or(Error::NoToken)?;
        let path = PathBuf::from(components::kubeconfig(
            &self.folder,
            &format!("{namespace}.{service_account}"),
        ));
        write_kubeconfig(
            &path,
            &self.server(),
            &self.folder.join("pki/ca.crt"),
            Identity::Token(&token),
        )?;
        Ok(path)
    }

    /// Process ids with their names, in start order.
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        self.processes()
            .iter()
            .map(|(tool, process)| (tool.name(), process.pid()))
            .collect()
    }

    /// Ends one component at once, as a crash would.
    pub fn kill(&self, tool: Tool) -> Result<(), Error> {
        let mut processes = self.processes();
        let (_, process) = processes
            .iter_mut()
            .find(|(name, _)| *name == tool)
            .ok_or(Error::NoComponent(tool))?;
        process.kill();
        Ok(())
    }

    /// Ends one component (if it still runs), starts it again and waits until the control plane is ready.
    pub async fn restart(&self, tool: Tool) -> Result<(), Error> {
        self.restart_with(tool, &[]).await
    }

    /// As [`Cluster::restart`], with further flags. They win over equal ones from before.
    pub async fn restart_with(&self, tool: Tool, flags: &[&str]) -> Result<(), Error> {
        {
            let mut processes = self.processes();
            let (_, process) = processes
                .iter_mut()
                .find(|(name, _)| *name == tool)
                .ok_or(Error::NoComponent(tool))?;
            process.terminate();
            process.wait(GRACE);
            let mut spec = process.spec().clone();
            spec.args.extend(flags.iter().map(|&flag| flag.to_owned()));
            *process = Process::start(spec)?;
        }
        self.api_server_ready().await?;
        self.components_ready().await
    }

    /// Ends all processes, the last started first, and removes a temporary folder. Blocks up to 3 s per process that does
    /// not want to. Nothing else is of use afterwards.
    pub fn stop(&self) {
        let mut processes = self.processes();
        while let Some((_, mut process)) = processes.pop() {
            process.terminate();
            process.wait(GRACE);
        }
        let folder = self.temporary.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(folder) = folder.filter(|_| std::env::var_os("TIERCEL_E2E_KEEP").is_some()) {
            eprintln!("kept {}", folder.keep().display());
        }
    }

    /// An error if any process has ended by itself.
    pub fn check(&self) -> Result<(), Error> {
        self.processes()
            .iter_mut()
            .try_for_each(|(_, process)| Ok(process.check()?))
    }

    /// What a later run needs to end the processes, in start order.
    pub fn remember(&self) -> Vec<Remembered> {
        let folder = self.folder.display().to_string();
        self.processes()
            .iter()
            .map(|(_, process)| process.remember(folder.clone()))
            .collect()
    }

    /// Leaves the processes running; only for [`Options::outlives_parent`].
    pub fn leave_running(mut self) -> PathBuf {
        let processes = self.processes.get_mut().unwrap_or_else(PoisonError::into_inner);
        processes.clear();
        let temporary = self.temporary.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = temporary.take() {
            let _ = folder.keep();
        }
        self.folder.clone()
    }

    fn spec(&self, tool: Tool, args: Vec<String>) -> Spec {
        Spec {
            name: tool.name().into(),
            program: self.tools.path(tool),
            args,
            env: Vec::new(),
            log: self.log(tool),
            outlives_parent: self.outlives_parent,
        }
    }

    /// A panic elsewhere leaves the list itself intact.
    fn processes(&self) -> MutexGuard<'_, Vec<(Tool, Process)>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn api_server_ready(&self) -> Result<(), Error> {
        let client = self.client().await?;
        self.ready("the API server", Tool::ApiServer, async || {
            let request = http_get("/readyz")?;
            client
                .request_text(request)
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        })
        .await
    }

    /// Controllers work once the `default` ServiceAccount exists; scheduler and kwok once they serve.
    async fn components_ready(&self) -> Result<(), Error> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, "default");
        self.ready("the ServiceAccount controller", Tool::ControllerManager, async || {
            accounts
                .get("default")
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        })
        .await?;
        for (what, tool, port) in [
            ("the scheduler", Tool::Scheduler, Port::Scheduler),
            ("kwok", Tool::Kwok, Port::Kwok),
        ] {
            let address = (Ipv4Addr::LOCALHOST, self.slot.port(port));
            self.ready(what, tool, async || {
                tokio::net::TcpStream::connect(address)
                    .await
                    .map(drop)
                    .map_err(|error| error.to_string())
            })
            .await?;
        }
        Ok(())
    }

    /// Looks until it is ready, gives up as soon as any process has ended.
    async fn ready(
        &self,
        what: &'static str,
        tool: Tool,
        mut look: impl AsyncFnMut() -> Result<(), String>,
    ) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            for (_, process) in self.processes().iter_mut() {
                process.check()?;
            }
            let seen = tokio::time::timeout(Duration::from_secs(5), look()).await;
            let last_seen = match seen {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(seen)) => seen,
                Err(_) => "no answer within 5 s".into(),
            };
            if start.elapsed() > READY_WITHIN {
                let tail = process::tail(&self.log(tool));
                return Err(Error::NotReady {
                    what,
                    after: READY_WITHIN,
                    last_seen,
                    component: tool.name(),
                    tail,
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

fn folder(options: &Options) -> Result<(PathBuf, Option<TempDir>), Error> {
    if let Some(folder) = &options.folder {
        std::fs::create_dir_all(folder).map_err(|source| Error::File {
            path: folder.clone(),
            source,
        })?;
        return Ok((folder.clone(), None));
    }
    let temporary = tempfile::Builder::new()
        .prefix("tiercel-cluster-")
        .tempdir()
        .map_err(|source| Error::File {
            path: std::env::temp_dir(),
            source,
        })?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}

/// A client from a kubeconfig file.
pub async fn client(kubeconfig: &Path) -> Result<Client, Error> {
    install_tls_provider();
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &options).await?;
    Ok(Client::try_from(config)?)
}

/// Both rustls users of this process (kube and rcgen's provider) share one provider; a second call changes nothing.
fn install_tls_provider() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>, String> {
    http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| error.to_string())
}
