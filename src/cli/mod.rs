//! Command lines of both binaries: raw arguments become settings here, once.

pub mod crd;
pub mod run;
pub mod solve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Print the custom resource definitions, or write them to a folder.
    Crd(crd::Arguments),
    /// Run the operator.
    Run(run::Arguments),
    /// Plan one instance offline: replicas, cost, and the proof of how far that is from the best plan.
    Solve(solve::Arguments),
}

/// The whole program: TLS provider, arguments, dispatch, exit code.
pub fn main() -> ExitCode {
    crate::controller::clients::install_tls_provider();
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tiercel: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what the arguments ask for.
///
/// # Errors
/// What went wrong, as one line for a person.
pub fn run(arguments: Arguments) -> Result<(), Error> {
    match arguments.command {
        Command::Crd(arguments) => crd::run(&arguments).map_err(Error::Crd),
        Command::Run(arguments) => run::run(arguments).map_err(|error| Error::Run(Box::new(error))),
        Command::Solve(arguments) => solve::run(&arguments).map_err(Error::Solve),
    }
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `tiercel crd`.
    #[error(transparent)]
    Crd(crd::Error),
    /// `tiercel run`.
    #[error(transparent)]
    Run(Box<run::Error>),
    /// `tiercel solve`.
    #[error(transparent)]
    Solve(solve::Error),
}
