//! `tiercel read`: what the operator would take from the metrics of a server, from which series, and what it would not take
//! and why. How a silent stage is debugged.

mod fetch;
mod page;
mod report;
#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::print::{self, Format};
use crate::controller::clock::Clock;
use crate::files::{self, Unreadable};
use crate::signals::exposition::{self, Limits};
use crate::signals::presets::{self, Preset, Source};

use fetch::Target;
use report::{Report, Seen};

/// Arguments of `tiercel read`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Which preset to read with, as in `signal.preset` of a stage.
    #[arg(long, value_name = "NAME")]
    preset: String,
    /// Folder of further presets, as of `tiercel run`.
    #[arg(long, env = "TIERCEL_PRESETS", value_name = "DIR")]
    presets: Option<PathBuf>,
    /// Seconds between two readings of a URL, which is what a rate takes; 0 reads once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=60))]
    seconds: u8,
    /// `text`, `json` or `yaml`.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    /// A file, `-` for the standard input, or a URL (`http://…`; a port or path that it leaves out is the preset's).
    #[arg(value_name = "FILE|URL|-")]
    from: String,
}

/// Reading failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for cannot be done.
    #[error(transparent)]
    Usage(#[from] Usage),
    /// The server does not answer as a scrape needs it.
    #[error("{0}")]
    Fetch(#[from] fetch::Error),
    /// The body is not metrics, or beyond a limit.
    #[error("{from}: {source}{}", if begins.is_empty() { String::new() } else { format!("; it begins with '{begins}'") })]
    Body {
        /// Where the body came from.
        from: String,
        /// What the body begins with.
        begins: String,
        /// What is wrong with it.
        source: exposition::Error,
    },
    /// The operator would not use this answer.
    #[error("not enough: preset '{preset}' needs {roles}, and the stage would count as silent without")]
    Missing {
        /// The preset.
        preset: String,
        /// Required roles without a number.
        roles: String,
    },
    /// The asynchronous runtime cannot be started.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    /// The answer cannot be printed.
    #[error(transparent)]
    Print(#[from] print::Error),
}

impl Error {
    /// 2 for arguments, and for what is not metrics; 1 for anything else.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Body { .. } => 2,
            Self::Fetch(_) | Self::Missing { .. } | Self::Runtime(_) | Self::Print(_) => 1,
        }
    }
}

/// What was asked for cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Usage {
    /// No preset has this name.
    #[error("there is no preset '{name}': use {known}, or name a folder with --presets")]
    Preset {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The folder of presets does not work.
    #[error(transparent)]
    Presets(#[from] presets::Error),
    /// The preset is not read from an exposition.
    #[error(
        "preset '{0}' is not read from a server's metrics: look at it with kubectl get --raw /apis/metrics.k8s.io/v1beta1/pods"
    )]
    NotScraped(String),
    /// The URL cannot be asked.
    #[error(transparent)]
    Url(#[from] fetch::UrlError),
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] Unreadable),
}

/// Runs the command.
///
/// # Errors
/// When there is nothing to read, or what the preset requires is not in it.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let report = report(arguments)?;
    let text = match arguments.output.document(&report)? {
        Some(document) => document,
        None => page::page(&report),
    };
    print::write(&text)?;
    if report.enough() { Ok(()) } else { Err(report.missing()) }
}

fn report(arguments: &Arguments) -> Result<Report, Error> {
    match &arguments.presets {
        Some(folder) => presets::load_with(folder),
        None => presets::load(),
    }
    .map_err(Usage::from)?;
    let preset = Preset::named(&arguments.preset).ok_or_else(|| Usage::Preset {
        name: arguments.preset.clone(),
        known: presets::names(),
    })?;
    let Source::Scrape { port, path } = preset.source() else {
        return Err(Usage::NotScraped(arguments.preset.clone()).into());
    };
    if arguments.from.contains("://") {
        let target = Target::parse(&arguments.from, *port, path).map_err(Usage::from)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        return runtime.block_on(twice(preset, &target, arguments.seconds));
    }
    let (from, body) = file(&arguments.from)?;
    Ok(Report::new(preset, &from, &Seen::parse(&from, &body)?, None))
}

/// Reads a URL, waits, reads it again.
async fn twice(preset: &Preset, target: &Target, seconds: u8) -> Result<Report, Error> {
    let clock = Clock::start();
    let from = target.to_string();
    let before = (clock.now(), fetch::body(target, Limits::SCRAPE.bytes_max).await?);
    if seconds == 0 {
        return Ok(Report::new(preset, &from, &Seen::parse(&from, &before.1)?, None));
    }
    // So that a body that cannot be read is said at once.
    let first = Seen::parse(&from, &before.1)?;
    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    let now = (clock.now(), fetch::body(target, Limits::SCRAPE.bytes_max).await?);
    let second = Seen::parse(&from, &now.1)?;
    Ok(Report::new(preset, &from, &second, Some((&first, now.0 - before.0))))
}

/// A file, or the standard input, up to one byte more than a scrape may bring: that byte is what refuses it.
fn file(path: &str) -> Result<(String, Vec<u8>), Usage> {
    let most = u64::try_from(Limits::SCRAPE.bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut body = Vec::new();
    let read = if path == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut body)
    } else {
        std::fs::File::open(Path::new(path)).and_then(|file| file.take(most).read_to_end(&mut body))
    };
    read.map_err(|error| Unreadable::because(Path::new(path), &error))?;
    Ok((files::shown(Path::new(path)), body))
}
