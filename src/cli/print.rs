//! The edge to the terminal: what is known of it, and the one way in which answers leave.

use std::future::Future;
use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use crate::view::Style;

/// How to print what has no wide form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// How the answer looks.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Look {
    /// No colours, as with the environment variable `NO_COLOR`. There are none in a pipe anyway.
    #[arg(long)]
    pub(super) no_color: bool,
}

/// Nothing can be printed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The asynchronous runtime cannot be started.
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    /// The answer cannot be printed.
    #[error("the answer cannot be written: {0}")]
    Write(#[from] std::io::Error),
    /// The answer cannot be put into this format.
    #[error("the answer cannot be written: {0}")]
    Shape(String),
}

impl Look {
    /// What standard output can show.
    pub(super) fn style(self) -> Style {
        let terminal = std::io::stdout().is_terminal();
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
        let size = ratatui::crossterm::terminal::size().ok().filter(|_| terminal);
        Style {
            colour: terminal && !self.no_color && set("NO_COLOR").is_none() && set("TERM").as_deref() != Some("dumb"),
            unicode: locale.is_none_or(|locale| locale.to_ascii_lowercase().replace('-', "").contains("utf8")),
            width: size
                .map(|(columns, _)| usize::from(columns))
                .filter(|&columns| columns > 0),
        }
    }
}

impl Format {
    /// The document for programs; `None` where people read.
    pub(super) fn document<T: Serialize>(self, document: &T) -> Result<Option<String>, Error> {
        match self {
            Self::Text => Ok(None),
            Self::Json => json(document).map(Some),
            Self::Yaml => yaml(document).map(Some),
        }
    }
}

/// As JSON.
pub(super) fn json<T: Serialize>(document: &T) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(document).map_err(|error| Error::Shape(error.to_string()))?;
    Ok(text + "\n")
}

/// As YAML.
pub(super) fn yaml<T: Serialize>(document: &T) -> Result<String, Error> {
    let text = serde_saphyr::to_string(document).map_err(|error| Error::Shape(error.to_string()))?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

/// To standard output.
pub(super) fn write(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(Error::Write),
    }
}

/// Wall time, for ages that people read.
pub(super) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Runs one command to its end on this thread.
pub(super) fn wait<T, E: From<Error>>(command: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Error::Runtime)?.block_on(command)
}
