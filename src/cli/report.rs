//! `tiercel report`: what a bug report needs, in one archive, without secrets.

mod archive;
mod collect;
#[cfg(test)]
mod tests;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::asking::{Misaddressed, Reach};
use super::cluster::{self, Target};
use super::print;

/// Arguments of `tiercel report`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The pipeline.
    #[arg(value_name = "NAME")]
    name: String,
    /// The archive; named after the pipeline and the time if absent. An existing file is not overwritten.
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    reach: Reach,
}

/// There is no archive.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for cannot be understood.
    #[error(transparent)]
    Usage(#[from] Misaddressed),
    /// The cluster does not show the pipeline.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The archive cannot be written.
    #[error("cannot write {}: {problem}; name another one with --file", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        problem: String,
    },
    /// The answer cannot be printed.
    #[error(transparent)]
    Print(#[from] print::Error),
}

impl Error {
    /// 2 for arguments, otherwise what [`cluster::Error::code`] says.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Cluster(error) => error.code(),
            Self::Write { .. } | Self::Print(_) => 1,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the cluster does not show the pipeline, or the archive cannot be written.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    print::wait(report(arguments))
}

async fn report(arguments: &Arguments) -> Result<(), Error> {
    let direct = arguments.reach.direct()?;
    let cluster = arguments.target.connect().await?;
    let now = print::now();
    let installed = &arguments.reach.installed;
    let operator = direct.unwrap_or_else(|| arguments.reach.behind(cluster.client.clone()));
    let entries = collect::collect(&cluster, &arguments.name, installed, &operator, now).await?;
    let path = arguments.file.clone().unwrap_or_else(|| {
        let time = now.strftime("%Y%m%dT%H%M%SZ");
        PathBuf::from(format!(
            "tiercel-report-{}-{}-{time}.zip",
            cluster.namespace, arguments.name
        ))
    });
    let bytes = save(&path, &entries)?;
    installed.warn(&cluster).await;
    let text = format!(
        "{}: {} files, {} KiB; what looked secret is redacted, but look through it before you pass it on\n",
        path.display(),
        entries.len(),
        bytes.div_ceil(1_024)
    );
    Ok(print::write(&text)?)
}

/// Writes a new file; its size in bytes.
fn save(path: &Path, entries: &[archive::Entry]) -> Result<usize, Error> {
    let refused = |problem: String| Error::Write {
        path: path.to_owned(),
        problem,
    };
    let bytes = archive::packed(entries).map_err(refused)?;
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(&bytes));
    written.map_err(|error| refused(error.to_string()))?;
    Ok(bytes.len())
}
