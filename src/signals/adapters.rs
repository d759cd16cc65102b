//! I/O: numbers that adapters serve through the API server, `custom.metrics.k8s.io` per pod and `external.metrics.k8s.io`
//! per stage, with the operator's own client.
//!
//! The namespace is part of the path, so that a pipeline reads its own namespace's metrics only. Each value carries the
//! time at which its source measured it, on a clock that nothing else is known of: it has to advance.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use kube::api::ListParams;
use serde::Deserialize;

use super::presets::Role;
use super::prometheus::template::Names;
use super::sources::Unit;
use super::{Finite, Why};
use crate::quantity::Quantity;

const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";

/// Longest value of a label.
const LABEL_MAX: usize = 63;

/// A metric of every pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomMetric {
    /// What it is used for.
    pub role: Role,
    /// Its unit.
    pub unit: Unit,
    /// Its name at the API.
    pub metric: String,
    /// Oldest age at which it is fresh, milliseconds.
    pub freshness_ms: u64,
    /// Whether a pod may go without it.
    pub optional: bool,
}

/// A metric of something outside the cluster, such as a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalMetric {
    /// What it is used for.
    pub role: Role,
    /// Its unit.
    pub unit: Unit,
    /// Its name at the API.
    pub metric: String,
    /// Which of its series are a stage's.
    pub selector: Selector,
    /// Oldest age at which it is fresh, milliseconds.
    pub freshness_ms: u64,
    /// Whether a stage may go without it.
    pub optional: bool,
}

/// Exact values of labels, with names to be filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: BTreeMap<String, String>,
}

impl Selector {
    /// Adds a label; its value may hold `$namespace`, `$pipeline` and `$stage`.
    pub(super) fn add(&mut self, label: &str, value: &str) -> Result<(), String> {
        let is_key = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'/');
        if label.is_empty() || label.len() > 253 || !label.bytes().all(is_key) {
            return Err("not the name of a label".to_owned());
        }
        let sample = Names {
            namespace: "a",
            pipeline: "a",
            stage: "a",
            pods: &[],
        };
        let filled = filled(value, &sample);
        if filled.contains('$') {
            return Err("only $namespace, $pipeline and $stage can be filled in here".to_owned());
        }
        if !is_label_value(&filled) {
            return Err("use 1 to 63 letters, digits, dots, dashes and _, and names to be filled in".to_owned());
        }
        self.labels.insert(label.to_owned(), value.to_owned());
        Ok(())
    }

    /// The label selector about `names`; `None` if a name makes a value too long.
    pub fn about(&self, names: &Names<'_>) -> Option<String> {
        let mut selector = String::new();
        for (label, value) in &self.labels {
            let value = filled(value, names);
            if !is_label_value(&value) {
                return None;
            }
            if !selector.is_empty() {
                selector.push(',');
            }
            selector.push_str(label);
            selector.push('=');
            selector.push_str(&value);
        }
        Some(selector)
    }
}

fn filled(value: &str, names: &Names<'_>) -> String {
    value
        .replace("$namespace", names.namespace)
        .replace("$pipeline", names.pipeline)
        .replace("$stage", names.stage)
}

fn is_label_value(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let outer = |c: char| c.is_ascii_alphanumeric();
    (1..=LABEL_MAX).contains(&value.len())
        && value.bytes().all(inner)
        && value.starts_with(outer)
        && value.ends_with(outer)
}

/// One value and the time its source gives for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dated {
    /// In the unit of its role.
    pub value: Finite,
    /// Unix time in milliseconds on the source's clock.
    pub source_ms: i64,
    /// Over how long it was averaged, milliseconds; `None` if it is of one moment, or the source does not say so.
    pub window_ms: Option<u64>,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody serves the API.
    #[error("{api} is not served: install an adapter for it, or read the metric from Prometheus")]
    NotServed {
        /// The API.
        api: &'static str,
    },
    /// It is served, and nobody knows the metric.
    #[error("{api} knows no metric {metric} here: check its name, and the adapter's rules")]
    Unknown {
        /// The API.
        api: &'static str,
        /// The metric.
        metric: String,
    },
    /// The operator may not read it.
    #[error("{api} refuses the operator: grant it {verb} on {resource} in {api}")]
    Denied {
        /// The API.
        api: &'static str,
        /// What the operator did.
        verb: &'static str,
        /// As roles name it.
        resource: String,
    },
    /// The adapter is down or overloaded.
    #[error("{api} cannot answer now ({code}): check its adapter and APIService")]
    Unavailable {
        /// The API.
        api: &'static str,
        /// 429 or 503.
        code: u16,
    },
    /// No answer in time.
    #[error("{api} did not answer within {after:?}: check its adapter")]
    Timeout {
        /// The API.
        api: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The namespace, the metric or the selector make no request.
    #[error("{api} cannot be asked: {problem}")]
    Request {
        /// The API.
        api: &'static str,
        /// Why.
        problem: String,
    },
    /// Anything else.
    #[error("{api} cannot be read: {source}")]
    Api {
        /// The API.
        api: &'static str,
        /// What kube said.
        source: Box<kube::Error>,
    },
}

impl Error {
    /// The same as the absence of every number.
    pub fn why(&self) -> Why {
        match self {
            Self::NotServed { .. } | Self::Unknown { .. } => Why::NoSeries,
            Self::Denied { .. } => Why::Denied,
            Self::Timeout { .. } => Why::Timeout,
            Self::Request { .. } => Why::NoTarget,
            Self::Unavailable { .. } => Why::Unreachable,
            Self::Api { source, .. } => match **source {
                kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Why::Malformed,
                _ => Why::Unreachable,
            },
        }
    }
}

/// The metric of each pod of a namespace that matches a label selector, by the pod's name. A pod that is listed without
/// a legible value has the reason in its place; a pod that is not listed has none yet.
///
/// # Errors
/// There is no list.
pub async fn of_pods(
    client: &kube::Client,
    namespace: &str,
    metric: &CustomMetric,
    selector: &str,
    deadline: Duration,
) -> Result<BTreeMap<String, Result<Dated, Why>>, Error> {
    let CustomMetric { unit, metric, .. } = metric;
    let path = format!("/apis/{CUSTOM}/v1beta2/namespaces/{namespace}/pods/*/{metric}");
    let list: CustomList = request(
        client,
        path,
        selector,
        deadline,
        &Asked {
            api: CUSTOM,
            metric,
            verb: "get",
            resource: format!("pods/{metric}"),
        },
    )
    .await?;
    let mut pods = BTreeMap::new();
    for item in list.items {
        let object = item.described_object;
        // An adapter that answers about others than were asked for is not believed about these.
        if object.namespace.is_some_and(|found| found != namespace) || object.kind.is_some_and(|kind| kind != "Pod") {
            continue;
        }
        pods.entry(object.name)
            .and_modify(|twice| *twice = Err(Why::Ambiguous))
            .or_insert_with(|| item.number.read(*unit));
    }
    Ok(pods)
}

/// The metric about a stage: the sum over the series that its selector picks, as the horizontal pod autoscaler takes it.
///
/// # Errors
/// There is no list. That nothing, or nothing legible, is in the list is the inner reason.
pub async fn of_stage(
    client: &kube::Client,
    metric: &ExternalMetric,
    names: &Names<'_>,
    deadline: Duration,
) -> Result<Result<Dated, Why>, Error> {
    let namespace = names.namespace;
    let ExternalMetric {
        unit,
        metric,
        selector,
        role,
        ..
    } = metric;
    let Some(selector) = selector.about(names) else {
        return Err(Error::Request {
            api: EXTERNAL,
            problem: format!(
                "with the names filled in, the selector of {metric} has a value longer than 63 characters"
            ),
        });
    };
    let path = format!("/apis/{EXTERNAL}/v1beta1/namespaces/{namespace}/{metric}");
    let list: ExternalList = request(
        client,
        path,
        &selector,
        deadline,
        &Asked {
            api: EXTERNAL,
            metric,
            verb: "list",
            resource: metric.clone(),
        },
    )
    .await?;
    let numbers: Result<Vec<Dated>, Why> = list.items.iter().map(|item| item.read(*unit)).collect();
    Ok(numbers.and_then(|numbers| together(&numbers, *role)))
}

/// Counts are added up, of shares the largest counts; the oldest dates them all.
fn together(numbers: &[Dated], role: Role) -> Result<Dated, Why> {
    let counts = matches!(role, Role::Queued | Role::Running | Role::Throughput);
    let (first, rest) = numbers.split_first().ok_or(Why::NoSeries)?;
    rest.iter().try_fold(*first, |sum, next| {
        let (one, other) = (sum.value.get(), next.value.get());
        let value = if counts { one + other } else { one.max(other) };
        Ok(Dated {
            value: Finite::try_from(value)?,
            source_ms: sum.source_ms.min(next.source_ms),
            window_ms: sum.window_ms.max(next.window_ms),
        })
    })
}

/// What is asked, for messages.
struct Asked<'a> {
    api: &'static str,
    metric: &'a str,
    verb: &'static str,
    resource: String,
}

async fn request<L: serde::de::DeserializeOwned>(
    client: &kube::Client,
    path: String,
    selector: &str,
    after: Duration,
    asked: &Asked<'_>,
) -> Result<L, Error> {
    let api = asked.api;
    let mut parameters = ListParams::default();
    if !selector.is_empty() {
        parameters = parameters.labels(selector);
    }
    let list = kube::core::Request::new(path)
        .list(&parameters)
        .map_err(|error| Error::Request {
            api,
            problem: error.to_string(),
        })?;
    let answered = tokio::time::timeout(after, client.request::<L>(list)).await;
    let answered = answered.map_err(|_| Error::Timeout { api, after })?;
    answered.map_err(|error| match &error {
        // An adapter names the group it does not know, the API server a path that nobody serves.
        kube::Error::Api(status) if status.code == 404 && status.message.contains("could not find the requested") => {
            Error::NotServed { api }
        }
        kube::Error::Api(status) if status.code == 404 => Error::Unknown {
            api,
            metric: asked.metric.to_owned(),
        },
        kube::Error::Api(status) if matches!(status.code, 429 | 503) => Error::Unavailable { api, code: status.code },
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => Error::Denied {
            api,
            verb: asked.verb,
            resource: asked.resource.clone(),
        },
        _ => Error::Api {
            api,
            source: Box::new(error),
        },
    })
}

/// The part of `MetricValueList` that is read.
#[derive(Deserialize)]
struct CustomList {
    items: Vec<CustomItem>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CustomItem {
    described_object: Described,
    #[serde(flatten)]
    number: RawNumber,
}

#[derive(Deserialize)]
struct Described {
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
}

/// The part of `ExternalMetricValueList` that is read.
#[derive(Deserialize)]
struct ExternalList {
    items: Vec<RawNumber>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawNumber {
    timestamp: Option<String>,
    /// `windowSeconds` in both APIs; older adapters say `window`.
    #[serde(alias = "window")]
    window_seconds: Option<i64>,
    value: Option<String>,
}

impl RawNumber {
    fn read(&self, unit: Unit) -> Result<Dated, Why> {
        let value = self.value.as_ref().ok_or(Why::NoSeries)?;
        let value = Quantity::parse(value).map_err(|_| Why::Malformed)?;
        #[expect(clippy::cast_precision_loss, reason = "a signal needs no more than 53 bits")]
        let value = Finite::try_from(value.nanos() as f64 / 1e9)?;
        let timestamp = self.timestamp.as_ref().ok_or(Why::Malformed)?;
        let timestamp: jiff::Timestamp = timestamp.parse().map_err(|_| Why::Malformed)?;
        Ok(Dated {
            value: unit.converted(value)?,
            source_ms: timestamp.as_millisecond(),
            window_ms: self
                .window_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0)
                .map(|seconds| seconds.saturating_mul(1_000)),
        })
    }
}
