//! HTTP services with the metrics of a common library: what the client libraries' examples show, OpenTelemetry's semantic
//! conventions, and Micrometer's timers.

use super::{Page, Text};

/// The names of Prometheus' own client libraries.
#[allow(clippy::cast_precision_loss)] // counters stay far below 2^53
pub(super) fn client_library(out: &mut Text, page: &Page<'_>) {
    let Some(engine) = page.engines.first() else { return };
    out.family("http_requests_total", "counter", "Requests answered, by status.");
    out.sample(
        "http_requests_total",
        "code=\"200\",method=\"POST\"",
        engine.succeeded as f64,
    );
    out.sample(
        "http_requests_total",
        "code=\"503\",method=\"POST\"",
        engine.refused as f64,
    );
    out.single(
        "http_requests_in_flight",
        "gauge",
        "Requests accepted and not answered yet.",
        f64::from(engine.running) + f64::from(engine.waiting),
    );
    out.family(
        "http_request_duration_seconds",
        "histogram",
        "Time from arrival to answer.",
    );
    out.histogram("http_request_duration_seconds", "method=\"POST\"", &engine.latency);
    out.single(
        "process_cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
        engine.busy_s,
    );
}

/// OpenTelemetry's conventions. Scrapes have their route, and are counted too.
pub(super) fn open_telemetry(out: &mut Text, page: &Page<'_>) {
    let Some(engine) = page.engines.first() else { return };
    out.family(
        "http_server_active_requests",
        "gauge",
        "Number of active HTTP server requests.",
    );
    let scope = "http_request_method=\"POST\",url_scheme=\"http\",otel_scope_name=\"asgi\"";
    out.sample(
        "http_server_active_requests",
        scope,
        f64::from(engine.running) + f64::from(engine.waiting),
    );
    let name = "http_server_request_duration_seconds";
    out.family(name, "histogram", "Duration of HTTP server requests.");
    let route = "http_request_method=\"POST\",http_response_status_code=\"200\",http_route=\"/v1/check\"";
    out.histogram(name, route, &engine.latency);
    let scrapes = "http_request_method=\"GET\",http_response_status_code=\"200\",http_route=\"/metrics\"";
    out.sample(&format!("{name}_count"), scrapes, f64::from(page.scrapes));
    out.sample(&format!("{name}_sum"), scrapes, f64::from(page.scrapes) * 0.001);
}

/// Micrometer's timers, as Spring names them. Scrapes have their URI, and are counted too.
pub(super) fn micrometer(out: &mut Text, page: &Page<'_>) {
    let Some(engine) = page.engines.first() else { return };
    let active = f64::from(engine.running) + f64::from(engine.waiting);
    let name = "http_server_requests_active_seconds";
    out.family(name, "summary", "");
    let labels = "exception=\"none\",method=\"POST\",outcome=\"SUCCESS\",status=\"200\",uri=\"UNKNOWN\"";
    out.sample(&format!("{name}_count"), labels, active);
    let name = "http_server_requests_seconds";
    out.family(name, "histogram", "");
    let labels = |method: &str, uri: &str| {
        format!(
            "error=\"none\",exception=\"none\",method=\"{method}\",outcome=\"SUCCESS\",status=\"200\",uri=\"{uri}\""
        )
    };
    out.histogram(name, &labels("POST", "/rank"), &engine.latency);
    let scrapes = labels("GET", "/actuator/prometheus");
    out.sample(&format!("{name}_count"), &scrapes, f64::from(page.scrapes));
    out.sample(&format!("{name}_sum"), &scrapes, f64::from(page.scrapes) * 0.001);
}
