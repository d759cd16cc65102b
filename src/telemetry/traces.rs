//! Traces: one span per pass, decision, write, call and search, sent as OTLP over HTTP.
//!
//! Off until the standard variables of OpenTelemetry name a collector, and then set up by them alone: endpoint, headers,
//! timeout, compression, CA, sampler, batches, service name and resource. Which ones this program reads itself and which
//! ones the SDK reads stands at [`Wanted::parse`]. While tracing is off a span costs one check of a flag.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, body::Bytes};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Key, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use crate::tls;

/// Time for one request to the collector, unless a variable says otherwise; the specification's default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time for what is still to be sent when the program ends.
const FLUSH: Duration = Duration::from_secs(3);
/// No answer of a collector is larger.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const SERVICE: &str = "tiercel";
/// What the SDK calls a service that nobody named.
const NAMELESS: &str = "unknown_service";

/// Tracing cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A variable has a value that tiercel cannot follow.
    #[error("{variable} is {value:?}: {allowed}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// As set.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
    /// The roots that the collector's certificate is checked by.
    #[error("cannot trust the collector by {}: {problem}; check OTEL_EXPORTER_OTLP_CERTIFICATE", file.display())]
    Roots {
        /// The file, or what stands for the system's roots.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// A variable that the exporter reads.
    #[error("spans cannot be sent: {0}; check the variables OTEL_EXPORTER_OTLP_…")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// What the variables ask for that the SDK does not read for us.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    timeout: Duration,
    ca_file: Option<PathBuf>,
}

impl Wanted {
    /// Reads `OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER`, and of `OTEL_EXPORTER_OTLP_[TRACES_]…` what is named `PROTOCOL`,
    /// `TIMEOUT` (milliseconds) and `CERTIFICATE`; of `ENDPOINT` only whether there is one. `None`: no traces.
    ///
    /// The SDK reads the rest: `ENDPOINT`, `HEADERS` and `COMPRESSION` (`gzip`), `OTEL_SERVICE_NAME`,
    /// `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER[_ARG]`, `OTEL_BSP_…` and the limits `OTEL_SPAN_…`.
    fn parse(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let set = |name: &'static str| Some((name, get(name).filter(|value| !value.trim().is_empty())?));
        // What is said of traces comes before what is said of all signals.
        let of = |[traces, all]: [&'static str; 2]| set(traces).or_else(|| set(all));
        if set("OTEL_SDK_DISABLED").is_some_and(|(_, value)| value.trim().eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        match set("OTEL_TRACES_EXPORTER") {
            None if of(["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]).is_none() => {
                return Ok(None);
            }
            Some((_, value)) if value.trim() == "none" => return Ok(None),
            Some((variable, value)) if value.trim() != "otlp" => {
                return Err(Error::Variable {
                    variable,
                    value,
                    allowed: "must be otlp or none",
                });
            }
            _ => {}
        }
        let protocol = of(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
        if let Some((variable, value)) = protocol.filter(|(_, value)| value.trim() != "http/protobuf") {
            return Err(Error::Variable {
                variable,
                value,
                allowed: "must be http/protobuf, for which collectors usually listen on port 4318",
            });
        }
        let timeout = match of(["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]) {
            None => TIMEOUT,
            Some((variable, value)) => match value.trim().parse() {
                Ok(milliseconds @ 1..=600_000) => Duration::from_millis(milliseconds),
                _ => {
                    return Err(Error::Variable {
                        variable,
                        value,
                        allowed: "must be milliseconds, 1 to 600000",
                    });
                }
            },
        };
        let ca_file = of([
            "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
        ]);
        Ok(Some(Self {
            timeout,
            ca_file: ca_file.map(|(_, file)| PathBuf::from(file)),
        }))
    }
}

/// Where spans go.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// As the environment wants it; `None` where it asks for nothing. Call within a runtime: the exporter's requests run
    /// on it.
    ///
    /// # Errors
    /// A variable says what is not possible here.
    pub fn from_env() -> Result<Option<Self>, Error> {
        Wanted::parse(|name| std::env::var(name).ok())?
            .map(|wanted| Self::start(&wanted))
            .transpose()
    }

    fn start(wanted: &Wanted) -> Result<Self, Error> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Transport::new(wanted)?)
            .build()?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource())
            .build();
        Ok(Self(provider))
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.0.tracer(SERVICE)
    }

    /// Sends what is left, for a few seconds at most. Nothing is traced after it.
    pub async fn flush(self) {
        // It waits for the exporter's thread, whose requests need the runtime's.
        let flushed = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(FLUSH)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// The environment's resource, and our name if it gives none.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let given = Resource::builder().build();
    let name = given.get(&Key::from_static_str("service.name"));
    let builder = Resource::builder().with_attribute(version);
    if name.is_none_or(|name| name.as_str().starts_with(NAMELESS)) {
        builder.with_service_name(SERVICE).build()
    } else {
        builder.build()
    }
}

/// The exporter's way to the collector. It is called from a thread of the SDK that has no runtime, so requests run on ours.
/// No redirects, no proxies.
#[derive(Debug)]
struct Transport {
    runtime: Handle,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

impl Transport {
    fn new(wanted: &Wanted) -> Result<Self, Error> {
        let failed = |problem: String| Error::Roots {
            file: wanted.ca_file.clone().unwrap_or_else(|| "the system's roots".into()),
            problem,
        };
        let roots = match &wanted.ca_file {
            Some(file) => {
                let bundle = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
                tls::of_bundle(&bundle).map_err(failed)?
            }
            // A collector without TLS needs none; one with TLS is then not trusted, and the log says so.
            None => tls::of_system().unwrap_or_else(|_| rustls::RootCertStore::empty()),
        };
        let settings = tls::client(roots).map_err(|error| failed(error.to_string()))?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(settings)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            runtime: Handle::current(),
            client: Client::builder(TokioExecutor::new()).build(connector),
            timeout: wanted.timeout,
        })
    }

    fn exchange(
        &self,
        request: Request<Bytes>,
    ) -> impl Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'static {
        let answer = self.client.request(request.map(Full::new));
        async move {
            let (parts, body) = answer.await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
            Ok(Response::from_parts(parts, body))
        }
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (exchange, timeout) = (self.exchange(request), self.timeout);
        let sent = self
            .runtime
            .spawn(async move { tokio::time::timeout(timeout, exchange).await });
        sent.await?
            .map_err(|_| HttpError::from(format!("no answer within {timeout:?}")))?
    }
}

#[cfg(test)]
#[path = "traces_tests.rs"]
mod tests;
