//! `make cluster`: the scenarios' control plane for trying things by hand.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser, Subcommand};
use serde::{Deserialize, Serialize};
use tiercel_e2e::controlplane::{self, Cluster};
use tiercel_e2e::demo::rehearsal;
use tiercel_e2e::helm::Helm;
use tiercel_e2e::nodes::{self, Shape};
use tiercel_e2e::operator::{self, Operator};
use tiercel_e2e::process::Remembered;
use tiercel_e2e::prometheus;
use tiercel_e2e::slot::Port;
use tiercel_e2e::tools::{self, Tool, Tools};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A real Kubernetes control plane on loopback, with simulated nodes of several kinds and tiercel installed.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    up: Up,
    /// Folder for state, logs and the kubeconfig; `target/cluster` by default.
    #[arg(long, global = true)]
    folder: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster (the default).
    Up(Up),
    /// Stop the cluster, whether it was left running or stays in another terminal.
    Down,
    /// Play the servers of a pipeline on it, and send them recorded load, until Ctrl-C.
    Load(Load),
    /// Say whether it runs, and where.
    Status,
    /// Build the control plane's programs if they are not there, and print their folder.
    Tools,
    /// Build Prometheus and promtool if they are not there, and print their folder.
    Prometheus,
}

#[derive(clap::Args, Clone)]
struct Up {
    /// Return once the cluster is ready and leave it running.
    #[arg(long, env = "DETACH", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    detach: bool,
    /// Only the control plane, nodes and CRDs: no chart, no operator.
    #[arg(long, env = "PLAIN", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    plain: bool,
    /// The operator, but no pools: `kubectl tiercel discover` proposes them.
    #[arg(long, env = "NO_POOLS", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    no_pools: bool,
    /// Nodes to create: SHAPE=COUNT, separated by commas.
    #[arg(
        long,
        env = "NODES",
        default_value = "graviton=4,x86=3,l4-spot=4,h100=2,inferentia2=2"
    )]
    nodes: String,
}

#[derive(clap::Args, Clone)]
struct Load {
    /// The pipeline. Each of its stages must declare `capacity.requestsPerSecond`.
    #[arg(default_value = "support-agent")]
    pipeline: String,
    /// Its namespace.
    #[arg(short, long, default_value = "agents")]
    namespace: String,
    /// Mean requests per second.
    #[arg(long, env = "RATE", default_value_t = 6.0, value_parser = rate)]
    rate: f64,
}

/// Two cores play all servers: more requests would be late for want of them, and not of replicas.
fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| (0.1..=50.0).contains(rate))
        .ok_or_else(|| "must be a number from 0.1 to 50".to_owned())
}

/// What `up`, `down` and `status` need to know about a cluster that another run started.
#[derive(Default, Serialize, Deserialize)]
struct State {
    /// The run that starts the cluster or stays with it, and ends it when it is asked to.
    #[serde(default)]
    harness: Option<Remembered>,
    /// The cluster's processes in start order; none before it is ready.
    processes: Vec<Remembered>,
}

impl State {
    fn read(folder: &Path) -> Result<Self, Failure> {
        match std::fs::read_to_string(state_file(folder)) {
            Ok(text) => Ok(serde_json::from_str(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&self, folder: &Path) -> Result<(), Failure> {
        Ok(std::fs::write(state_file(folder), serde_json::to_string_pretty(self)?)?)
    }

    /// The order in which they are ended: the harness ends its processes itself.
    fn all(&self) -> impl Iterator<Item = &Remembered> {
        self.harness.iter().chain(self.processes.iter().rev())
    }

    fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }
}

/// Ctrl-C and SIGTERM, heard from the first moment on.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

const NAMESPACE: &str = "tiercel-system";
const POOLS: &str = "config/samples/pools.yaml";
/// For `.` in a shell; beside the kubeconfig.
const ENVIRONMENT: &str = "env";
/// A run that is asked to end gives each of its processes some seconds.
const HARNESS_GRACE: Duration = Duration::from_secs(30);
const GRACE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let folder = cli.folder.unwrap_or_else(|| repository().join("target/cluster"));
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let done = match cli.command {
        None => up(&folder, cli.up).await,
        Some(Command::Up(options)) => up(&folder, options).await,
        Some(Command::Down) => down(&folder),
        Some(Command::Load(options)) => load(&folder, options).await,
        Some(Command::Status) => status(&folder),
        Some(Command::Tools) => find_tools()
            .await
            .map(|tools| println!("{}", tools.folder().display()))
            .map(|()| ExitCode::SUCCESS),
        Some(Command::Prometheus) => find_prometheus().await,
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Progress goes to standard error: the output of `tools` is the folder and nothing else.
async fn find_tools() -> Result<Tools, Failure> {
    Ok(tokio::task::spawn_blocking(|| tools::find_or_build(|line| eprintln!("{line}"))).await??)
}

/// Likewise.
async fn find_prometheus() -> Result<ExitCode, Failure> {
    let found = tokio::task::spawn_blocking(|| prometheus::find_or_build(|line| eprintln!("{line}"))).await??;
    println!("{}", found.folder().display());
    Ok(ExitCode::SUCCESS)
}

/// Claims the folder, and gives it free again unless the cluster is left running.
async fn up(folder: &Path, options: Up) -> Result<ExitCode, Failure> {
    if State::read(folder)?.all().any(Remembered::is_alive) {
        let folder = folder.display();
        return Err(format!("a cluster runs in {folder} already: `make cluster-down` stops it").into());
    }
    let wanted = parse_nodes(&options.nodes)?;
    let tools = find_tools().await?;
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::create_dir_all(folder)?;
    let mut state = State {
        harness: Some(this_run()),
        processes: Vec::new(),
    };
    state.write(folder)?;
    let mut signals = Signals::listen()?;
    let mut operator = None;
    let started = tokio::select! {
        started = start(folder, &tools, &options, wanted, &mut operator) => started.map(Some),
        () = signals.any() => Ok(None),
    };
    let done = match started {
        Ok(Some(cluster)) => {
            state.processes = cluster.remember();
            state.processes.extend(operator.as_ref().map(Operator::remember));
            if options.detach {
                state.harness = None;
                state.write(folder)?;
                println!("\nIt stays up until `make cluster-down`.");
                cluster.leave_running();
                return Ok(ExitCode::SUCCESS);
            }
            state.write(folder)?;
            println!("\nIt stays up until Ctrl-C, or `make cluster-down` in another terminal.");
            stay(cluster, operator, &mut signals).await
        }
        unfinished => {
            // The cluster has ended with the start; an operator that was to outlive this run has not.
            if let Some(operator) = &mut operator {
                operator.stop();
            }
            unfinished.map(|_| ExitCode::from(130))
        }
    };
    // What cannot be removed names processes that have ended.
    drop(std::fs::remove_file(state_file(folder)));
    done
}

/// The operator is the caller's from its first moment on: this future may be dropped at any time.
async fn start(
    folder: &Path,
    tools: &Tools,
    options: &Up,
    wanted: Vec<(&'static Shape, usize)>,
    operator: &mut Option<Operator>,
) -> Result<Cluster, Failure> {
    let start = Instant::now();
    let say = |what: &str| println!("[{:>5.1} s] {what}", start.elapsed().as_secs_f64());
    say("starting etcd, API server, controller manager, scheduler, kwok, metrics-server");
    let cluster = Cluster::start(
        tools,
        controlplane::Options {
            folder: Some(folder.to_owned()),
            metrics_server: true,
            audit: true,
            outlives_parent: options.detach,
            ..controlplane::Options::default()
        },
    )
    .await?;
    std::fs::copy(cluster.kubeconfig(), folder.join("kubeconfig"))?;
    say(&format!("control plane ready at {}", cluster.server()));
    let client = cluster.client().await?;
    for (shape, count) in wanted {
        nodes::create(&client, shape, shape.name, 0..count, &[]).await?;
        say(&format!(
            "{count} × {} ({}, ${}/h each)",
            shape.name, shape.instance, shape.price
        ));
    }
    if options.plain {
        plain(&cluster, &say).await?;
    } else {
        *operator = Some(install(&cluster, &say, options).await?);
    }
    if operator.is_some() && !options.no_pools {
        let pools = repository().join(POOLS);
        cluster
            .kubectl()
            .run(&["apply", "-f", &pools.display().to_string()])
            .await?;
        say(&format!("pools of {POOLS}"));
    }
    say("ready");
    environment(folder, &cluster)?;
    next_commands(folder, options);
    Ok(cluster)
}

/// This process, as a later run finds it.
fn this_run() -> Remembered {
    Remembered {
        name: "make cluster".into(),
        pid: std::process::id(),
        mark: std::env::args().next().unwrap_or_default(),
    }
}

/// Until a signal, or until something that should run has ended.
async fn stay(cluster: Cluster, mut operator: Option<Operator>, signals: &mut Signals) -> Result<ExitCode, Failure> {
    let mut watch = tokio::time::interval(Duration::from_secs(1));
    let ended = loop {
        tokio::select! {
            () = signals.any() => break Ok(ExitCode::SUCCESS),
            _ = watch.tick() => {
                if let Err(error) = cluster.check() {
                    break Err(error.into());
                }
                if let Some(Err(error)) = operator.as_mut().map(Operator::check) {
                    eprintln!("the operator is gone, the cluster goes on: {error}");
                    operator = None;
                }
            }
        }
    };
    println!("\nstopping");
    if let Some(operator) = &mut operator {
        operator.stop();
    }
    cluster.stop();
    ended
}

/// CRDs only.
async fn plain(cluster: &Cluster, say: &impl Fn(&str)) -> Result<(), Failure> {
    let path = repository().join("crds").display().to_string();
    cluster.kubectl().run(&["apply", "--server-side", "-k", &path]).await?;
    say("CRDs installed");
    Ok(())
}

/// Chart by helm, operator as a process beside the cluster.
async fn install(cluster: &Cluster, say: &impl Fn(&str), options: &Up) -> Result<Operator, Failure> {
    let chart = repository().join("charts/tiercel");
    let binary = operator::find_binary()?;
    let values = operator::outside_values(cluster);
    Helm::new(cluster)
        .install("tiercel", &chart, NAMESPACE, &values)
        .await?;
    say(&format!("chart installed in namespace {NAMESPACE}"));
    let operator = Operator::start(
        cluster,
        operator::Options {
            name: "operator".into(),
            binary,
            namespace: NAMESPACE.into(),
            service_account: "tiercel".into(),
            args: operator::arguments(cluster, NAMESPACE, "tiercel", cluster.port(Port::Operator)).await?,
            env: Vec::new(),
            outlives_parent: options.detach,
        },
    )
    .await?;
    say(&format!(
        "operator runs (pid {}, http://127.0.0.1:{})",
        operator.pid(),
        cluster.port(Port::Operator)
    ));
    Ok(operator)
}

/// What a shell needs to find programs, cluster and operator, in a file of its own.
fn environment(folder: &Path, cluster: &Cluster) -> Result<(), Failure> {
    let kubectl = cluster.tools().path(Tool::Kubectl);
    let tiercel = operator::find_binary()?;
    let folders = [&kubectl, &tiercel].map(|program| program.parent().unwrap_or(program).display().to_string());
    let text = format!(
        "export KUBECONFIG={}\nexport TIERCEL_OPERATOR=http://127.0.0.1:{}\nexport PATH=\"{}:$PATH\"\n",
        folder.join("kubeconfig").display(),
        cluster.port(Port::Operator),
        folders.join(":")
    );
    Ok(std::fs::write(folder.join(ENVIRONMENT), text)?)
}

fn next_commands(folder: &Path, options: &Up) {
    println!("\n. {}", folder.join(ENVIRONMENT).display());
    println!("kubectl get nodes -L karpenter.sh/nodepool,kubernetes.io/arch");
    if options.plain {
        return;
    }
    if options.no_pools {
        println!("kubectl tiercel discover --apply");
    }
    println!("kubectl create namespace agents");
    println!("kubectl apply -n agents -f config/samples/support-agent.yaml");
    println!("make load    # in another terminal, until Ctrl-C");
    println!("kubectl tiercel get -n agents");
    println!("kubectl tiercel why support-agent generate -n agents");
    println!("tail -f {}", folder.join("operator.log").display());
}

/// Until Ctrl-C, SIGTERM or something that keeps it from going on.
async fn load(folder: &Path, options: Load) -> Result<ExitCode, Failure> {
    let kubeconfig = folder.join("kubeconfig");
    if !kubeconfig.is_file() {
        return Err(format!("no cluster runs in {}: `make cluster` starts one", folder.display()).into());
    }
    let options = rehearsal::Options {
        kubeconfig,
        namespace: options.namespace,
        pipeline: options.pipeline,
        requests_per_s: options.rate,
    };
    let mut signals = Signals::listen()?;
    tokio::select! {
        ended = rehearsal::rehearse(&options, |line| println!("{line}")) => ended.map(|()| ExitCode::SUCCESS),
        () = signals.any() => Ok(ExitCode::SUCCESS),
    }
}

fn down(folder: &Path) -> Result<ExitCode, Failure> {
    let state = State::read(folder)?;
    if state.is_empty() {
        println!("no cluster runs in {}", folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    let harness = state.harness.iter().map(|it| (it, HARNESS_GRACE));
    let processes = state.processes.iter().rev().map(|it| (it, GRACE));
    for (process, grace) in harness.chain(processes).filter(|(it, _)| it.is_alive()) {
        println!("stopping {} (pid {})", process.name, process.pid);
        process.stop(grace);
    }
    std::fs::remove_dir_all(folder)?;
    Ok(ExitCode::SUCCESS)
}

/// Exit code 0 when every process runs, 1 otherwise.
fn status(folder: &Path) -> Result<ExitCode, Failure> {
    let state = State::read(folder)?;
    if state.is_empty() {
        println!("no cluster runs in {}", folder.display());
        return Ok(ExitCode::FAILURE);
    }
    for process in state.all() {
        println!(
            "{:<24} pid {:<8} {}",
            process.name,
            process.pid,
            if process.is_alive() { "runs" } else { "ended" }
        );
    }
    println!(". {}", folder.join(ENVIRONMENT).display());
    Ok(if state.all().all(Remembered::is_alive) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn state_file(folder: &Path) -> PathBuf {
    folder.join("state.json")
}

fn repository() -> PathBuf {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
    harness.parent().unwrap_or(harness).to_owned()
}

fn parse_nodes(text: &str) -> Result<Vec<(&'static Shape, usize)>, Failure> {
    let names = || nodes::SHAPES.map(|shape| shape.name).join(", ");
    text.split(',')
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            let (name, count) = part.trim().split_once('=').unwrap_or((part.trim(), "1"));
            let shape = nodes::shape(name).ok_or_else(|| format!("no node shape {name:?}; there are {}", names()))?;
            let count = count
                .parse()
                .map_err(|_| format!("{count:?} is not a number of nodes"))?;
            Ok((shape, count))
        })
        .collect()
}
