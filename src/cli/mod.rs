//! Command lines of both binaries: raw arguments become settings here, once.

pub mod crd;

use clap::{Parser, Subcommand};

/// Arguments of `tiercel`.
#[derive(Debug, Parser)]
#[command(name = "tiercel", version, about = "Places the stages of AI pipelines on the right processors, and keeps them there.")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the custom resource definitions, or write them to a folder.
    Crd(crd::Arguments),
}

/// Runs what the arguments ask for.
///
/// # Errors
/// What went wrong, as one line for a person.
pub fn run(arguments: Arguments) -> Result<(), Error> {
    match arguments.command {
        Command::Crd(arguments) => crd::run(&arguments).map_err(Error::Crd),
    }
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `tiercel crd`.
    #[error(transparent)]
    Crd(crd::Error),
}
