//! `make cluster`: the scenarios' control plane for trying things by hand.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser, Subcommand};
use serde::{Deserialize, Serialize};
use tiercel_e2e::controlplane::{self, Cluster};
use tiercel_e2e::helm::Helm;
use tiercel_e2e::nodes::{self, Shape};
use tiercel_e2e::operator::{self, Operator};
use tiercel_e2e::process::Remembered;
use tiercel_e2e::slot::Port;
use tiercel_e2e::tools::{self, Tool, Tools};

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
    /// Stop the cluster that was started with DETACH=1.
    Down,
    /// Say whether it runs, and where.
    Status,
    /// Build the control plane's programs if they are not there, and print their folder.
    Tools,
}

#[derive(clap::Args, Clone)]
struct Up {
    /// Return once the cluster is ready and leave it running.
    #[arg(long, env = "DETACH", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    detach: bool,
    /// Only the control plane, nodes and CRDs: no chart, no operator.
    #[arg(long, env = "PLAIN", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    plain: bool,
    /// Nodes to create: SHAPE=COUNT, separated by commas.
    #[arg(
        long,
        env = "NODES",
        default_value = "graviton=4,x86=3,l4-spot=4,h100=2,inferentia2=2"
    )]
    nodes: String,
}

/// What `down` and `status` need to know about a cluster that was left running.
#[derive(Serialize, Deserialize)]
struct State {
    processes: Vec<Remembered>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

const NAMESPACE: &str = "tiercel-system";

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let folder = cli.folder.unwrap_or_else(|| repository().join("target/cluster"));
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    let done = match cli.command {
        None => up(&folder, cli.up).await,
        Some(Command::Up(options)) => up(&folder, options).await,
        Some(Command::Down) => down(&folder),
        Some(Command::Status) => status(&folder),
        Some(Command::Tools) => find_tools()
            .await
            .map(|tools| println!("{}", tools.folder().display()))
            .map(|()| ExitCode::SUCCESS),
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

async fn up(folder: &Path, options: Up) -> Result<ExitCode, Failure> {
    if running(folder)?.iter().any(Remembered::is_alive) {
        let folder = folder.display();
        return Err(format!("a cluster runs in {folder} already: `make cluster-down` stops it").into());
    }
    let wanted = parse_nodes(&options.nodes)?;
    let start = Instant::now();
    let say = |what: &str| println!("[{:>5.1} s] {what}", start.elapsed().as_secs_f64());
    let tools = find_tools().await?;
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    say("starting etcd, API server, controller manager, scheduler, kwok, metrics-server");
    let interrupted = tokio::signal::ctrl_c();
    let work = async {
        let cluster = Cluster::start(
            &tools,
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
        let operator = if options.plain {
            plain(&cluster, &say).await?
        } else {
            install(&cluster, &say, &options).await?
        };
        Ok::<_, Failure>((cluster, operator))
    };
    let (cluster, operator) = tokio::select! {
        done = work => done?,
        _ = interrupted => return Ok(ExitCode::from(130)),
    };
    say("ready");
    next_commands(folder, &cluster.tools().path(Tool::Kubectl), operator.is_some());
    if options.detach {
        let mut processes = cluster.remember();
        processes.extend(operator.as_ref().map(Operator::remember));
        std::fs::write(state_file(folder), serde_json::to_string_pretty(&State { processes })?)?;
        println!("\nIt stays up until `make cluster-down`.");
        drop(operator);
        cluster.leave_running();
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nIt stays up until Ctrl-C.");
    stay(cluster, operator).await
}

/// Until Ctrl-C or until something that should run has ended.
async fn stay(cluster: Cluster, mut operator: Option<Operator>) -> Result<ExitCode, Failure> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut watch = tokio::time::interval(Duration::from_secs(1));
    let ended = loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break Ok(ExitCode::SUCCESS),
            _ = terminate.recv() => break Ok(ExitCode::SUCCESS),
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
async fn plain(cluster: &Cluster, say: &impl Fn(&str)) -> Result<Option<Operator>, Failure> {
    let crds = repository().join("crds");
    if crds.is_dir() {
        let path = crds.display().to_string();
        cluster.kubectl().run(&["apply", "--server-side", "-k", &path]).await?;
        say("CRDs installed");
    } else {
        say("no folder crds/ yet: no CRDs installed");
    }
    Ok(None)
}

/// Chart by helm, operator as a process beside the cluster.
async fn install(cluster: &Cluster, say: &impl Fn(&str), options: &Up) -> Result<Option<Operator>, Failure> {
    let chart = repository().join("charts/tiercel");
    if !chart.join("Chart.yaml").is_file() {
        say("no charts/tiercel yet: only the CRDs");
        return plain(cluster, say).await;
    }
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
    Ok(Some(operator))
}

fn next_commands(folder: &Path, kubectl: &Path, operator: bool) {
    println!("\nexport KUBECONFIG={}", folder.join("kubeconfig").display());
    println!("alias kubectl={}    # if there is none on the PATH", kubectl.display());
    println!("kubectl get nodes -L karpenter.sh/nodepool,kubernetes.io/arch");
    if operator {
        println!("kubectl get cpool,tpipe -A");
        println!("kubectl apply -f config/samples/support-agent.yaml");
        println!("tail -f {}", folder.join("operator.log").display());
    }
}

fn down(folder: &Path) -> Result<ExitCode, Failure> {
    let processes = running(folder)?;
    if processes.is_empty() {
        println!("no cluster was left running in {}", folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    for process in processes.iter().rev() {
        println!("stopping {} (pid {})", process.name, process.pid);
        process.stop(Duration::from_secs(5));
    }
    std::fs::remove_dir_all(folder)?;
    Ok(ExitCode::SUCCESS)
}

/// Exit code 0 when every process runs, 1 otherwise.
fn status(folder: &Path) -> Result<ExitCode, Failure> {
    let processes = running(folder)?;
    if processes.is_empty() {
        println!(
            "no cluster was left running in {} (one in a terminal ends with Ctrl-C there)",
            folder.display()
        );
        return Ok(ExitCode::FAILURE);
    }
    for process in &processes {
        println!(
            "{:<24} pid {:<8} {}",
            process.name,
            process.pid,
            if process.is_alive() { "runs" } else { "ended" }
        );
    }
    println!("export KUBECONFIG={}", folder.join("kubeconfig").display());
    Ok(if processes.iter().all(Remembered::is_alive) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn running(folder: &Path) -> Result<Vec<Remembered>, Failure> {
    match std::fs::read_to_string(state_file(folder)) {
        Ok(text) => Ok(serde_json::from_str::<State>(&text)?.processes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
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
