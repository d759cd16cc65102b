//! `tiercel replay`: a recorded decision log through today's core.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use crate::simulate::log;

/// Arguments of `tiercel replay`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A decision log, as `tiercel simulate --decisions` writes it.
    #[arg(value_name = "LOG")]
    log: PathBuf,
}

/// A replay failed, or came out differently.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot read {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The log cannot be replayed.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The core decides otherwise today.
    #[error("{different} of {steps} steps are decided differently")]
    Different {
        /// How many.
        different: usize,
        /// Of how many.
        steps: usize,
    },
}

/// Runs the command.
///
/// # Errors
/// When the log cannot be replayed, or the decisions are not the same.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let file = File::open(&arguments.log).map_err(|source| Error::Open {
        path: arguments.log.clone(),
        source,
    })?;
    let replay = log::replay(BufReader::new(file))?;
    for difference in &replay.differences {
        println!("{difference}");
    }
    if replay.different > replay.differences.len() {
        println!("… and {} more", replay.different - replay.differences.len());
    }
    if replay.different > 0 {
        return Err(Error::Different {
            different: replay.different,
            steps: replay.steps,
        });
    }
    println!("identical: {} steps, {} decisions", replay.steps, replay.decisions);
    Ok(())
}
