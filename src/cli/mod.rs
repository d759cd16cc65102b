//! Command lines of both binaries: raw arguments become settings here, once.

pub mod asking;
pub mod cluster;
pub mod complete;
pub mod cost;
pub mod crd;
pub mod discover;
pub mod explain;
pub mod get;
pub mod lint;
pub mod operator;
pub mod pause;
pub mod plan;
pub mod print;
pub mod read;
pub mod replay;
pub mod report;
pub mod run;
pub mod simulate;
pub mod solve;
pub mod status;
pub mod top;
pub mod ui;
mod watch;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// Arguments of `tiercel`.
#[derive(Debug, Parser)]
#[command(
    name = "tiercel",
    version,
    about = "Places the stages of AI pipelines on the right processors, and keeps them there."
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the completion script of a shell.
    Completion(complete::Arguments),
    /// What kubectl asks for.
    #[command(name = "__complete", hide = true)]
    Complete(complete::Words),
    /// Show what pipelines cost and draw, now and, with Prometheus, over a time that is past.
    Cost(cost::Arguments),
    /// Print the custom resource definitions, or write them to a folder.
    Crd(crd::Arguments),
    /// Propose pools for the nodes of the cluster, with list prices where they are known.
    Discover(discover::Arguments),
    /// Say why a pipeline is where it is: signals and their age, needs and which one decided, what was learned.
    #[command(visible_alias = "why")]
    Explain(explain::Arguments),
    /// Show what manifests would create and where, what that costs, and what is refused, before anybody applies them.
    Plan(plan::Arguments),
    /// Show pipelines as a tree: stages, the pools that they are on, pods.
    Get(get::Arguments),
    /// Check manifests without a cluster: what the API server would refuse, and advice.
    Lint(lint::Arguments),
    /// Stop decisions about a pipeline, or only growing or shrinking, until `resume`.
    Pause(pause::Arguments),
    /// Show what the operator would take from the metrics of a server, and what it would not and why.
    Read(read::Arguments),
    /// Put a recorded decision log through this program's core: identical decisions, or what differs.
    Replay(replay::Arguments),
    /// Write an archive for a bug report: objects, events, status, the operator's log; secrets are redacted.
    Report(report::Arguments),
    /// End what `pause` began.
    Resume(pause::Arguments),
    /// Run the operator.
    Run(run::Arguments),
    /// Compare policies on recorded or synthetic load, without a cluster.
    Simulate(simulate::Arguments),
    /// Show one pipeline on one screen: whether it serves, where, at what cost, and what it waits for.
    Status(status::Arguments),
    /// Watch pools and stages: their room, replicas and cost.
    Top(top::Arguments),
    /// Serve a read-only web view of pipelines and pools on this machine, until interrupted.
    Ui(ui::Arguments),
    /// Plan one instance offline: replicas, cost, and the proof of how far that is from the best plan.
    Solve(solve::Arguments),
}

/// The whole program: TLS provider, arguments, dispatch, exit code.
pub fn main() -> ExitCode {
    crate::controller::clients::install_tls_provider();
    let called = std::env::args_os().next().map(std::path::PathBuf::from);
    let plugin = called.is_some_and(|path| path.file_stem().is_some_and(|name| name == "kubectl-tiercel"));
    let mut command = Arguments::command();
    if plugin {
        command = command.bin_name("kubectl tiercel");
    }
    let arguments = Arguments::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tiercel: {error}");
            error.code()
        }
    }
}

/// Runs what the arguments ask for.
///
/// # Errors
/// What went wrong, as one line for a person.
pub fn run(arguments: Arguments) -> Result<(), Error> {
    match arguments.command {
        Command::Completion(arguments) => complete::script(&arguments).map_err(Error::Complete),
        Command::Complete(arguments) => complete::candidates(&arguments).map_err(Error::Complete),
        Command::Cost(arguments) => cost::run(&arguments).map_err(Error::Cost),
        Command::Crd(arguments) => crd::run(&arguments).map_err(Error::Crd),
        Command::Discover(arguments) => discover::run(&arguments).map_err(Error::Discover),
        Command::Explain(arguments) => explain::run(&arguments).map_err(Error::Explain),
        Command::Plan(arguments) => plan::run(&arguments).map_err(Error::Plan),
        Command::Get(arguments) => get::run(&arguments).map_err(Error::Get),
        Command::Lint(arguments) => lint::run(&arguments).map_err(Error::Lint),
        Command::Pause(arguments) => pause::run(&arguments, pause::Direction::Pause).map_err(Error::Pause),
        Command::Resume(arguments) => pause::run(&arguments, pause::Direction::Resume).map_err(Error::Pause),
        Command::Read(arguments) => read::run(&arguments).map_err(Error::Read),
        Command::Replay(arguments) => replay::run(&arguments).map_err(Error::Replay),
        Command::Simulate(arguments) => simulate::run(&arguments).map_err(Error::Simulate),
        Command::Run(arguments) => run::run(arguments).map_err(|error| Error::Run(Box::new(error))),
        Command::Top(arguments) => top::run(&arguments).map_err(Error::Top),
        Command::Ui(arguments) => ui::run(&arguments).map_err(Error::Ui),
        Command::Report(arguments) => report::run(&arguments).map_err(Error::Report),
        Command::Status(arguments) => status::run(&arguments).map_err(Error::Status),
        Command::Solve(arguments) => solve::run(&arguments).map_err(Error::Solve),
    }
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `tiercel completion`.
    #[error(transparent)]
    Complete(print::Error),
    /// `tiercel cost`.
    #[error(transparent)]
    Cost(cost::Error),
    /// `tiercel crd`.
    #[error(transparent)]
    Crd(crd::Error),
    /// `tiercel discover`.
    #[error(transparent)]
    Discover(discover::Error),
    /// `tiercel explain`.
    #[error(transparent)]
    Explain(explain::Error),
    /// `tiercel plan`.
    #[error(transparent)]
    Plan(plan::Error),
    /// `tiercel get`.
    #[error(transparent)]
    Get(get::Error),
    /// `tiercel lint`.
    #[error(transparent)]
    Lint(lint::Error),
    /// `tiercel pause` and `tiercel resume`.
    #[error(transparent)]
    Pause(pause::Error),
    /// `tiercel read`.
    #[error(transparent)]
    Read(read::Error),
    /// `tiercel replay`.
    #[error(transparent)]
    Replay(replay::Error),
    /// `tiercel simulate`.
    #[error(transparent)]
    Simulate(simulate::Error),
    /// `tiercel report`.
    #[error(transparent)]
    Report(report::Error),
    /// `tiercel run`.
    #[error(transparent)]
    Run(Box<run::Error>),
    /// `tiercel solve`.
    #[error(transparent)]
    Solve(solve::Error),
    /// `tiercel status`.
    #[error(transparent)]
    Status(cluster::NotShown),
    /// `tiercel top`.
    #[error(transparent)]
    Top(cluster::NotShown),
    /// `tiercel ui`.
    #[error(transparent)]
    Ui(ui::Error),
}

impl Error {
    /// 2 where arguments, or a file that they name, could not be understood; what each command says of its own; 1 otherwise.
    fn code(&self) -> ExitCode {
        let code = match self {
            Self::Complete(_) => 1,
            Self::Cost(error) => error.code(),
            Self::Crd(error) => error.code(),
            Self::Discover(error) => error.code(),
            Self::Explain(error) => error.code(),
            Self::Get(error) => error.code(),
            Self::Lint(error) => error.code(),
            Self::Pause(error) => error.code(),
            Self::Plan(error) => error.code(),
            Self::Read(error) => error.code(),
            Self::Replay(error) => error.code(),
            Self::Report(error) => error.code(),
            Self::Run(error) => error.code(),
            Self::Simulate(error) => error.code(),
            Self::Solve(error) => error.code(),
            Self::Status(error) | Self::Top(error) => error.code(),
            Self::Ui(error) => error.code(),
        };
        ExitCode::from(code)
    }
}
