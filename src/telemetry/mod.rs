//! Logs, metrics and health. Knows no controller: what it is told comes as closed words and numbers.

use std::{io::IsTerminal as _, panic::PanicHookInfo};

use tracing_subscriber::{EnvFilter, Registry, fmt, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _};

mod exposition;
mod families;
#[cfg(test)]
pub(crate) mod fixture;
mod metrics;
mod objects;
mod samples;
mod server;

pub use exposition::Exposition;
pub use metrics::{Metrics, PLAN_REJECTED};
pub use samples::{PipelineSample, PoolSample, ResourceSample, StageSample, VariantSample};
pub use server::{Health, serve};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// Text on a terminal, JSON otherwise.
    pub fn detect() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}

/// Changes the log filter of the running process.
#[derive(Clone)]
pub struct LogFilter(reload::Handle<EnvFilter, Registry>);

impl LogFilter {
    /// Replaces the filter.
    ///
    /// # Errors
    /// The filter does not parse; the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), Error> {
        self.0.reload(parse(filter)?).map_err(Error::Reload)
    }
}

/// Logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not one.
    #[error("log filter {filter:?} does not parse, write for example info or info,tiercel=debug")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging was set up before.
    #[error("logging is set up already, set it up once per process")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
    /// The subscriber is gone.
    #[error("the log filter cannot be changed any more")]
    Reload(#[source] reload::Error),
}

fn parse(filter: &str) -> Result<EnvFilter, Error> {
    EnvFilter::builder().parse(filter).map_err(|source| Error::Filter {
        filter: filter.to_owned(),
        source,
    })
}

/// Sends log lines to standard error, and panics to the log. Once per process.
///
/// # Errors
/// The filter does not parse, or it is the second time.
pub fn subscribe(filter: &str, format: LogFormat) -> Result<LogFilter, Error> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    let written = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => registry
            .with(written.with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => registry
            .with(written.json().flatten_event(true).with_span_list(false))
            .try_init(),
    }
    .map_err(Error::Twice)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(LogFilter(handle))
}

/// A caught panic is one line of the log like any other, not a paragraph between two JSON objects.
fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let message = info.payload_as_str().unwrap_or("no message");
    let backtrace = std::backtrace::Backtrace::capture();
    tracing::error!(location, %backtrace, "panic: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_does_not_parse_is_refused_with_an_example() {
        let error = parse("tiercel=loud").unwrap_err();
        assert_eq!(
            error.to_string(),
            "log filter \"tiercel=loud\" does not parse, write for example info or info,tiercel=debug"
        );
    }

    #[test]
    fn logging_is_set_up_once_and_its_filter_can_be_changed() {
        let filter = subscribe("warn", LogFormat::Json).unwrap();
        assert!(!tracing::enabled!(tracing::Level::INFO));
        filter.set("info").unwrap();
        assert!(tracing::enabled!(tracing::Level::INFO));
        assert!(matches!(filter.set("tiercel=loud"), Err(Error::Filter { .. })));
        assert!(tracing::enabled!(tracing::Level::INFO), "the old filter stays");
        filter.set("off").unwrap();
        assert!(matches!(subscribe("info", LogFormat::Text), Err(Error::Twice(_))));
    }
}
