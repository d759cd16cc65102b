//! Logs, metrics, traces and health. Knows no controller: what it is told comes as closed words and numbers.

use std::{io::IsTerminal as _, panic::PanicHookInfo};

use tracing::Metadata;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload, util::SubscriberInitExt as _};

mod exposition;
mod families;
#[cfg(test)]
pub(crate) mod fixture;
mod metrics;
mod objects;
mod samples;
mod server;
mod traces;

pub use exposition::Exposition;
pub use metrics::{Metrics, PLAN_REJECTED};
#[cfg(test)]
pub(crate) use objects::SERIES_MAX;
pub use samples::{PipelineSample, PoolSample, ResourceSample, StageSample, VariantSample};
pub use server::{Health, serve};
pub use traces::{Error as TracesError, Traces};

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

/// Spans of ours, and what is logged within them. Those of libraries would tell of every poll.
fn is_traced(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("tiercel") && *metadata.level() <= tracing::Level::INFO
}

/// Sends log lines to standard error, panics to the log, and spans to `traces`. Once per process.
///
/// Lines of the log name what they are about themselves, so spans are made for traces only: without them there are none.
///
/// # Errors
/// The filter does not parse, or it is the second time.
pub fn subscribe(filter: &str, format: LogFormat, traces: Option<&Traces>) -> Result<LogFilter, Error> {
    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let written = fmt::layer().with_writer(std::io::stderr);
    let written: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => written.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => written.json().flatten_event(true).with_span_list(false).boxed(),
    };
    let registry =
        tracing_subscriber::registry().with(written.with_filter(filter.and(filter_fn(|metadata| !metadata.is_span()))));
    // An absent layer would count as one that wants everything.
    match traces {
        None => registry.try_init(),
        Some(traces) => {
            // Where in the code, on which thread and how busily is for profilers.
            let spans = tracing_opentelemetry::layer()
                .with_tracer(traces.tracer())
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_tracked_inactivity(false);
            registry.with(spans.with_filter(filter_fn(is_traced))).try_init()
        }
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
        let filter = subscribe("warn", LogFormat::Json, None).unwrap();
        assert!(!tracing::enabled!(tracing::Level::INFO));
        filter.set("info").unwrap();
        assert!(tracing::enabled!(tracing::Level::INFO));
        assert!(matches!(filter.set("tiercel=loud"), Err(Error::Filter { .. })));
        assert!(tracing::enabled!(tracing::Level::INFO), "the old filter stays");
        filter.set("off").unwrap();
        assert!(matches!(subscribe("info", LogFormat::Text, None), Err(Error::Twice(_))));
    }
}
