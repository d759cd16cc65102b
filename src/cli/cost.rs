//! `tiercel cost`: what pipelines cost and draw now, from the operator's metrics; and what they did cost, from a Prometheus
//! that keeps these.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Api;
use kube::api::ListParams;

use super::asking::{Reach, Unreached};
use super::cluster::{self, Cluster, Scope, is_name};
use super::print::{self, Format, Look};
use crate::api::TieredPipeline;
use crate::signals::exposition::{self, Exposition, Limits, Value};
use crate::signals::prometheus::client::{self, Client};
use crate::signals::prometheus::endpoint::{BaseUrl, Endpoint, Method};
use crate::view::cost::{By, Costs, Key, Series, costs};

/// What the operator exposes at most: 10,000 stages on eight pools, with room.
pub(super) const LIMITS: Limits = Limits {
    bytes_max: 512 << 20,
    lines_max: 4_000_000,
    labels_max: 64,
};

/// In front of the names of all series of ours.
const PREFIX: &str = "tiercel_";

/// Longest answer of Prometheus.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Points of a sum over time at most, so that a month is not asked for minute by minute.
const POINTS_MAX: u64 = 5_000;

/// Arguments of `tiercel cost`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// One pipeline; all of the namespace if absent.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    scope: Scope,
    /// What a line is of.
    #[arg(long, value_enum, default_value_t = By::Pipeline)]
    by: By,
    /// What was spent over a time that is past, such as `90m`, `24h` or `7d`; 24h if absent and Prometheus is named.
    #[arg(long, value_name = "TIME", value_parser = Past::parse)]
    since: Option<Past>,
    /// Prometheus that keeps the operator's metrics, such as `http://localhost:9090`.
    #[arg(long, value_name = "URL", env = "TIERCEL_PROMETHEUS")]
    prometheus: Option<String>,
    /// `text`, `json` or `yaml`.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    reach: Reach,
}

/// Nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// The cluster does not show it.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// The server does not let this user ask the operator.
    #[error("{0}; with --prometheus URL what was spent is shown without the operator")]
    NotPermitted(String),
    /// The operator does not say it.
    #[error("{0}; with --prometheus URL what was spent is shown without the operator")]
    Operator(String),
    /// What the operator exposes cannot be read.
    #[error("the operator's metrics cannot be read: {0}")]
    Exposition(#[from] exposition::Error),
    /// Prometheus does not say it.
    #[error(transparent)]
    Prometheus(#[from] client::Error),
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
            Self::NotPermitted(_) => 4,
            Self::Operator(_) | Self::Exposition(_) | Self::Prometheus(_) | Self::Print(_) => 1,
        }
    }
}

/// A time that is past, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Past {
    text: String,
    minutes: u64,
}

impl Past {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "write a number of minutes, hours, days or weeks, such as 90m, 24h, 7d or 4w".to_owned();
        let (number, each) = match text.char_indices().last() {
            Some((at, 'm')) => (text.get(..at), 1),
            Some((at, 'h')) => (text.get(..at), 60),
            Some((at, 'd')) => (text.get(..at), 24 * 60),
            Some((at, 'w')) => (text.get(..at), 7 * 24 * 60),
            _ => (None, 0),
        };
        let number: u64 = number.and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
        let minutes = number
            .checked_mul(each)
            .filter(|minutes| (1..=366 * 24 * 60).contains(minutes));
        minutes
            .map(|minutes| Self {
                text: text.to_owned(),
                minutes,
            })
            .ok_or_else(|| "must be between one minute and 366 days".to_owned())
    }

    /// Minutes from one point of a sum to the next.
    fn step(&self) -> u64 {
        self.minutes.div_ceil(POINTS_MAX).max(1)
    }
}

/// Runs the command.
///
/// # Errors
/// When neither the operator nor Prometheus says what is asked.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    print::wait(cost(arguments))
}

async fn cost(arguments: &Arguments) -> Result<(), Error> {
    let endpoint = arguments.prometheus.as_deref().map(endpoint).transpose()?;
    if arguments.since.is_some() && endpoint.is_none() {
        return Err(Error::Usage(
            "--since needs the metrics of the past: name a Prometheus with --prometheus or TIERCEL_PROMETHEUS"
                .to_owned(),
        ));
    }
    if arguments.name.is_some() && arguments.scope.all_namespaces {
        return Err(Error::Usage(
            "a name is looked for in one namespace: leave out -A, or the name".to_owned(),
        ));
    }
    let direct = arguments
        .reach
        .direct()
        .map_err(|wrong| Error::Usage(wrong.to_string()))?;
    let cluster = arguments.scope.target.connect().await?;
    let meant = Meant::of(arguments, &cluster).await?;
    let operator = direct.unwrap_or_else(|| arguments.reach.behind(cluster.client.clone()));
    arguments.reach.installed.warn(&cluster).await;
    let spent = match endpoint {
        None => None,
        Some(endpoint) => {
            let past = arguments.since.clone().unwrap_or_else(|| Past {
                text: "24h".to_owned(),
                minutes: 24 * 60,
            });
            let mut client = Client::new(Arc::new(endpoint));
            let answer = client.query(&query(arguments.by, &meant, &past)).await?;
            let of = |labels: &BTreeMap<String, String>| -> Option<Key> {
                arguments
                    .by
                    .labels()
                    .iter()
                    .map(|name| labels.get(*name).cloned())
                    .collect()
            };
            let sums = answer
                .samples
                .iter()
                .filter_map(|one| Some((of(&one.labels)?, one.value.ok()?)));
            Some((past.text, sums.collect()))
        }
    };
    let exposed = match operator.metrics().await {
        Ok(body) => series(&body)?,
        Err(why) if spent.is_none() => return Err(alone(&cluster, &why).await),
        Err(why) => {
            eprintln!("tiercel: what is now is left out: {}", unreached(&why));
            Vec::new()
        }
    };
    let costs = costs(&exposed, arguments.by, |labels| meant.is(labels), spent);
    if costs.lines.is_empty() {
        eprintln!("{}", meant.nothing());
        if arguments.output == Format::Text {
            return Ok(());
        }
    }
    shown(arguments, &costs)
}

fn shown(arguments: &Arguments, costs: &Costs) -> Result<(), Error> {
    let text = match arguments.output.document(costs)? {
        Some(document) => document,
        None => costs.text(arguments.look.style()),
    };
    Ok(print::write(&text)?)
}

/// What it means that the operator says nothing and nobody else is asked: often that the whole cluster says nothing.
async fn alone(cluster: &Cluster, why: &Unreached) -> Error {
    let pipelines: Api<TieredPipeline> = Api::all(cluster.client.clone());
    let any = ListParams::default().limit(1);
    let asked = cluster.ask("a pipeline", "list tieredpipelines", pipelines.list_metadata(&any));
    match (asked.await, why) {
        // The operator's pods are in one namespace, pipelines in all: whoever may not see these may see those.
        (Ok(_) | Err(cluster::Error::NotPermitted { .. }), Unreached::NotPermitted(_)) => {
            Error::NotPermitted(unreached(why))
        }
        (Ok(_) | Err(cluster::Error::NotPermitted { .. }), _) => Error::Operator(unreached(why)),
        (Err(error), _) => error.into(),
    }
}

fn unreached(why: &Unreached) -> String {
    format!("the operator's metrics were not read: {why}")
}

/// Of what the cost is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meant {
    namespace: Option<String>,
    pipeline: Option<String>,
}

impl Meant {
    /// A pipeline that is named must be there.
    async fn of(arguments: &Arguments, cluster: &Cluster) -> Result<Self, Error> {
        if let Some(name) = &arguments.name {
            drop(cluster.pipeline(name).await?);
        }
        let namespace = arguments.scope.within(cluster);
        if let Some(namespace) = namespace.as_deref().filter(|namespace| !is_name(namespace)) {
            return Err(Error::Usage(format!("'{namespace}' is not the name of a namespace")));
        }
        Ok(Self {
            namespace,
            pipeline: arguments.name.clone(),
        })
    }

    fn is(&self, labels: &BTreeMap<String, String>) -> bool {
        let fits = |wanted: &Option<String>, label: &str| wanted.is_none() || labels.get(label) == wanted.as_ref();
        fits(&self.namespace, "namespace") && fits(&self.pipeline, "pipeline")
    }

    /// As a selector of series.
    fn selector(&self) -> String {
        let part = |label: &str, value: &Option<String>| value.as_ref().map(|value| format!("{label}=\"{value}\""));
        let parts = [part("namespace", &self.namespace), part("pipeline", &self.pipeline)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(",")
    }

    fn nothing(&self) -> String {
        match (&self.pipeline, &self.namespace) {
            (Some(pipeline), _) => {
                format!("nothing is known of what pipeline '{pipeline}' costs: it was never planned")
            }
            (None, Some(namespace)) => {
                format!("nothing costs anything in namespace '{namespace}'; -A shows every namespace")
            }
            (None, None) => "nothing costs anything in any namespace".to_owned(),
        }
    }
}

/// Dollars over the time: dollars per hour at every step, in hours. Series of one thing by several instances of the operator
/// count once.
fn query(by: By, meant: &Meant, past: &Past) -> String {
    let (labels, step) = (by.labels().join(", "), past.step());
    let series = format!("{PREFIX}stage_cost_dollars_per_hour{{{}}}", meant.selector());
    format!(
        "sum by ({labels}) (sum_over_time(max by (namespace, pipeline, stage, pool) ({series})[{minutes}m:{step}m])) * {step} / 60",
        minutes = past.minutes
    )
}

fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let base: BaseUrl = url
        .parse()
        .map_err(|error| Error::Usage(format!("--prometheus '{url}': {error}")))?;
    Ok(Endpoint {
        name: format!("Prometheus at {}", url.trim_end_matches('/')),
        url: base,
        ca_file: None,
        token_file: None,
        headers: Vec::new(),
        method: Method::Post,
        interval: TIMEOUT,
        timeout: TIMEOUT,
        queries_per_second: 1,
    })
}

/// Our series of an exposition.
fn series(body: &str) -> Result<Vec<Series>, Error> {
    let parsed = Exposition::parse(body.as_bytes(), &LIMITS)?;
    let mut all = Vec::new();
    for sample in parsed.samples() {
        let (Some(name), Value::Number(value)) = (
            sample.name.resolved().strip_prefix(PREFIX).map(str::to_owned),
            sample.value,
        ) else {
            continue;
        };
        if name.contains("cost_dollars") || name == "stage_power_watts" {
            let text = |label: exposition::Label<'_>| {
                (label.name.resolved().into_owned(), label.value.resolved().into_owned())
            };
            all.push(Series {
                name,
                labels: sample.labels().map(text).collect(),
                value: value.get(),
            });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::fixture;

    #[test]
    fn what_the_operator_exposes_becomes_lines() {
        let metrics = crate::telemetry::Metrics::default();
        metrics.set_pipeline("rag", "chat", fixture::whole(&["generate", "guard"], &["arm", "l4"]));
        let body = metrics.encode(crate::telemetry::Exposition::Text);
        let costs = costs(&series(&body).unwrap(), By::Pipeline, |_| true, None);
        let line = &costs.lines[0];
        assert_eq!(line.of, ["rag", "chat"]);
        // Two stages on two pools, 0.09 each; planned 0.12; least 0.03 a stage; 45 W.
        let near = |seen: Option<f64>, wanted: f64| assert!((seen.unwrap() - wanted).abs() < 1e-9, "{seen:?} {wanted}");
        near(line.per_hour, 0.36);
        near(line.planned_per_hour, 0.48);
        near(line.minimum_per_hour, 0.06);
        near(line.watts, 180.0);
        near(line.per_thousand_requests, 0.231_481);
    }

    #[test]
    fn what_was_spent_is_a_sum_over_steps_of_whole_minutes() {
        let meant = Meant {
            namespace: Some("rag".to_owned()),
            pipeline: None,
        };
        assert_eq!(
            query(By::Pool, &meant, &Past::parse("24h").unwrap()),
            "sum by (pool) (sum_over_time(max by (namespace, pipeline, stage, pool) \
             (tiercel_stage_cost_dollars_per_hour{namespace=\"rag\"})[1440m:1m])) * 1 / 60"
        );
        let all = Meant {
            namespace: None,
            pipeline: None,
        };
        assert!(query(By::Pipeline, &all, &Past::parse("4w").unwrap()).contains("[40320m:9m])) * 9 / 60"));
    }

    #[test]
    fn a_time_that_is_past_has_a_number_and_a_unit() {
        let minutes = |text: &str| Past::parse(text).map(|past| past.minutes);
        assert_eq!(minutes("90m"), Ok(90));
        assert_eq!(minutes("7d"), Ok(7 * 24 * 60));
        for wrong in ["", "24", "h", "-1h", "1.5h", "24 h", "é", "1y"] {
            assert!(minutes(wrong).unwrap_err().contains("such as 90m"), "{wrong:?}");
        }
        for wide in ["0h", "99w", "18446744073709551615d"] {
            assert!(minutes(wide).unwrap_err().contains("366 days"), "{wide:?}");
        }
    }
}
