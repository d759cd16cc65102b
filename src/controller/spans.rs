//! The spans that are traced, all of them: docs/reference/traces.md says what each tells.
//!
//! Names and keys follow OpenTelemetry's conventions where there are any; ours start with `tiercel.`. A span that nobody
//! wants is never filled.

use std::fmt::Display;

use hyper::{Request, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::client::Body;
use tracing::field::{Empty, display};
use tracing::{Instrument as _, Span, info_span};

use super::rebalancer::writes::Write;
use crate::api::tiered_pipeline::DecisionSummary;

/// One pass over an object.
pub fn pass(controller: &'static str, object: &ObjectMeta) -> Span {
    info_span!(
        parent: None,
        "reconcile",
        tiercel.controller = controller,
        k8s.namespace.name = object.namespace,
        k8s.object.name = object.name,
        k8s.object.generation = object.generation,
        tiercel.outcome = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    )
}

/// What led to a decision.
pub struct Inputs<'a> {
    /// Namespace and name of the pipeline.
    pub pipeline: (&'a str, &'a str),
    /// The stage.
    pub stage: &'a str,
    /// Its demand, thousandths of requests per second.
    pub demand_millis: u64,
    /// Age of the stage's newest signal, milliseconds; absent where none has come.
    pub signal_age_ms: Option<u64>,
    /// What the core took for this step, all its decisions together, microseconds.
    pub step_us: u128,
}

/// One decision, until its last write is acknowledged.
pub fn decision(inputs: &Inputs<'_>, decision: &DecisionSummary, advisory: bool) -> Span {
    info_span!(
        parent: None,
        "decide",
        k8s.namespace.name = inputs.pipeline.0,
        tiercel.pipeline = inputs.pipeline.1,
        tiercel.stage = inputs.stage,
        tiercel.demand_millis = inputs.demand_millis,
        tiercel.signal = decision.signal,
        tiercel.signal.age_ms = inputs.signal_age_ms,
        tiercel.step_us = u64::try_from(inputs.step_us).unwrap_or(u64::MAX),
        tiercel.decision = decision.id,
        tiercel.trigger = decision.trigger,
        tiercel.reason = decision.reason,
        tiercel.cost_before = decision.cost_before,
        tiercel.cost_after = decision.cost_after,
        tiercel.summary = decision.summary,
        tiercel.advisory = advisory,
    )
}

/// One write of a decision, from when it is asked for: waiting for its turn is part of it.
pub fn write(decision: &Span, write: &Write) -> Span {
    info_span!(
        parent: decision,
        "scale",
        k8s.namespace.name = write.child.0,
        k8s.deployment.name = write.child.1,
        tiercel.replicas.from = write.from,
        tiercel.replicas.to = write.to,
        tiercel.outcome = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    )
}

/// One search of the solver.
pub fn search(stages: usize) -> Span {
    info_span!(
        parent: None,
        "solve",
        tiercel.stages = stages,
        tiercel.gap_ppm = Empty,
        tiercel.gap_in_force_ppm = Empty,
    )
}

/// One call of the API server, its turn in the budget of writes and its answer's body included.
pub fn call(client: &'static str, verb: &'static str, request: &Request<Body>) -> Span {
    info_span!(
        "call",
        otel.name = verb,
        otel.kind = "client",
        tiercel.client = client,
        http.request.method = request.method().as_str(),
        url.path = request.uri().path(),
        http.response.status_code = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    )
}

/// Tells the current call what it was answered.
pub fn answered(status: StatusCode) {
    let span = Span::current();
    span.record("http.response.status_code", status.as_u16());
    if !status.is_success() {
        span.record("otel.status_code", "error");
    }
}

/// Tells the current span that it failed.
pub fn failed(problem: &dyn Display) {
    let span = Span::current();
    span.record("otel.status_code", "error");
    span.record("otel.status_description", display(problem));
}

/// Runs `body` in a span, which hears of its error.
pub async fn within<T, E: Display>(span: Span, body: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    async { body.await.inspect_err(|error| failed(error)) }
        .instrument(span)
        .await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Words in backticks of the reference page, spans and keys among them.
    fn described() -> BTreeSet<&'static str> {
        let page = include_str!("../../docs/reference/traces.md");
        page.split('`').skip(1).step_by(2).collect()
    }

    #[test]
    fn every_span_and_every_key_is_described() {
        let (code, _) = include_str!("spans.rs").split_once("#[cfg(test)]").unwrap();
        let described = described();
        let mut keys = 0;
        for line in code.lines().map(str::trim) {
            let key = line
                .split_once(" = ")
                .map(|(key, _)| key)
                .filter(|key| key.contains('.'));
            let span = line.strip_prefix('"').and_then(|rest| rest.strip_suffix("\","));
            // Those of OpenTelemetry itself become name, kind and status, and a call has the name of its verb.
            for word in key
                .into_iter()
                .chain(span)
                .filter(|word| !word.starts_with("otel.") && *word != "call")
            {
                assert!(
                    described.contains(word),
                    "docs/reference/traces.md does not describe {word}"
                );
                keys += 1;
            }
        }
        assert!(keys > 25, "only {keys} were found");
    }
}
