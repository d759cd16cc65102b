//! `tiercel replay`: a recorded decision log through today's core.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use crate::decision_log as log;
use crate::files::{self, Unreadable};

/// Arguments of `tiercel replay`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A decision log, as `tiercel run --decision-log` and `tiercel simulate --decisions` write it. One that went on in a
    /// second file: both, the older (`.1`) first.
    #[arg(value_name = "LOG", required = true)]
    logs: Vec<PathBuf>,
}

/// A replay failed, or came out differently.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] Unreadable),
    /// The log cannot be replayed.
    #[error("{files}: {source}")]
    Log {
        /// Its files.
        files: String,
        /// What is wrong with it.
        source: log::Error,
    },
    /// Steps are missing.
    #[error(
        "line {line} of the log says that {steps} steps are missing there ({because}): {skipped} steps behind them could not be replayed; all others are identical"
    )]
    Gap {
        /// Where, counted from 1.
        line: usize,
        /// How many.
        steps: u64,
        /// What kept them from being written.
        because: String,
        /// Steps on record that could not be taken.
        skipped: usize,
    },
    /// The core decides otherwise today.
    #[error("{different} of {steps} steps are decided differently")]
    Different {
        /// How many.
        different: usize,
        /// Of how many.
        steps: usize,
    },
}

impl Error {
    /// 2 for files that are no log, 1 for one that is not replayed whole or comes out differently.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Open(_) | Self::Log { .. } => 2,
            Self::Gap { .. } | Self::Different { .. } => 1,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the log cannot be replayed whole, or the decisions are not the same.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let mut all: Box<dyn Read> = Box::new(std::io::empty());
    for path in &arguments.logs {
        let file = File::open(path).map_err(|error| Unreadable::because(path, &error))?;
        all = Box::new(all.chain(file));
    }
    let replay = log::replay(BufReader::new(all)).map_err(|source| {
        let files: Vec<String> = arguments.logs.iter().map(|path| files::shown(path)).collect();
        match source {
            // A folder is opened, and then not read.
            log::Error::Read(error) => Error::Open(Unreadable {
                file: files.join(", "),
                problem: files::said(&error),
            }),
            source => Error::Log {
                files: files.join(", "),
                source,
            },
        }
    })?;
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
    if let Some((line, gap)) = replay.gaps.into_iter().next() {
        return Err(Error::Gap {
            line,
            steps: gap.steps,
            because: gap.because,
            skipped: replay.skipped,
        });
    }
    println!("identical: {} steps, {} decisions", replay.steps, replay.decisions);
    Ok(())
}
