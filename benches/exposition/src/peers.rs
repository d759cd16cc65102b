//! The published parsers behind one face: a body -> how many of its sample lines came through.

use signals::exposition::{Exposition, Limits};

/// One parser.
pub(crate) struct Parser {
    /// Name and version.
    pub(crate) name: &'static str,
    /// Reads a body, keeps the result until it is counted.
    pub(crate) read: fn(&str) -> Result<usize, String>,
}

pub(crate) const ALL: [Parser; 6] = [
    Parser {
        name: "tiercel",
        read: tiercel,
    },
    Parser {
        name: "prom_text_format_parser 0.1.0",
        read: prom_text_format,
    },
    Parser {
        name: "openmetrics-parser 0.5.1",
        read: open_metrics,
    },
    Parser {
        name: "prometheus-parse 0.2.5",
        read: prometheus_parse,
    },
    Parser {
        name: "prometheus-scrape 0.1.1",
        read: prometheus_scrape,
    },
    Parser {
        name: "prometheus-exposition-format-rs 0.1.2",
        read: exposition_format,
    },
];

fn tiercel(body: &str) -> Result<usize, String> {
    let parsed = Exposition::parse(body.as_bytes(), &Limits::SCRAPE).map_err(|error| error.to_string())?;
    Ok(parsed.samples().len())
}

fn prom_text_format(body: &str) -> Result<usize, String> {
    let parsed = prom_text_format_parser::Scrape::parse(body).map_err(|error| format!("{error:?}"))?;
    Ok(parsed.metrics.iter().map(|metric| metric.samples.len()).sum())
}

/// The crate has a parser for each format; what either reads counts.
fn open_metrics(body: &str) -> Result<usize, String> {
    use openmetrics_parser::{MetricFamily, OpenMetricsValue, PrometheusValue as Value};
    let lines = |value: &Value| match value {
        Value::Unknown(_) | Value::Gauge(_) | Value::Counter(_) => 1,
        Value::Histogram(h) => h.buckets.len() + usize::from(h.sum.is_some()) + usize::from(h.count.is_some()),
        Value::Summary(s) => s.quantiles.len() + usize::from(s.sum.is_some()) + usize::from(s.count.is_some()),
    };
    match openmetrics_parser::prometheus::parse_prometheus(body) {
        Ok(parsed) => {
            let samples = parsed.families.values().flat_map(MetricFamily::iter_samples);
            Ok(samples.map(|sample| lines(&sample.value)).sum())
        }
        // Only short inputs with counters and gauges get here.
        Err(error) if body.trim_end().ends_with("# EOF") => {
            let parsed = openmetrics_parser::openmetrics::parse_openmetrics(body).map_err(|_| error.to_string())?;
            let samples = parsed.families.values().flat_map(MetricFamily::iter_samples);
            let counted = |value: &OpenMetricsValue| {
                usize::from(matches!(
                    value,
                    OpenMetricsValue::Counter(_) | OpenMetricsValue::Gauge(_)
                ))
            };
            Ok(samples.map(|sample| counted(&sample.value)).sum())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn prometheus_parse(body: &str) -> Result<usize, String> {
    use prometheus_parse::Value;
    // The crate takes lines as owned strings only; making them is part of using it.
    let lines = body.lines().map(|line| Ok(line.to_owned()));
    let parsed = prometheus_parse::Scrape::parse(lines).map_err(|error| error.to_string())?;
    let lines = |value: &Value| match value {
        Value::Histogram(buckets) => buckets.len(),
        Value::Summary(quantiles) => quantiles.len(),
        _ => 1,
    };
    Ok(parsed.samples.iter().map(|sample| lines(&sample.value)).sum())
}

/// Of a histogram or summary the crate keeps one list for all series of a name, without labels, and shows it to nobody: that is one
/// sample.
fn prometheus_scrape(body: &str) -> Result<usize, String> {
    // As the crate above, which began as a copy of this one.
    let lines = body.lines().map(|line| Ok(line.to_owned()));
    let parsed = prometheus_scrape::Scrape::parse(lines).map_err(|error| error.to_string())?;
    Ok(parsed.samples.len())
}

fn exposition_format(body: &str) -> Result<usize, String> {
    let parsed = prometheus_exposition_format_rs::parse_complete(body).map_err(|error| format!("{error:?}"))?;
    Ok(parsed.iter().map(|metric| metric.samples.len()).sum())
}

/// Every sample of the body as both parsers that read all of it see it, for comparison: `name{labels} value`, sorted.
pub(crate) fn seen_by_both(body: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let line = |name: &str, mut labels: Vec<String>, value: f64| {
        labels.sort();
        format!("{name}{{{}}} {value}", labels.join(","))
    };
    let ours = Exposition::parse(body.as_bytes(), &Limits::SCRAPE).map_err(|error| error.to_string())?;
    let mut our_lines = Vec::new();
    for sample in ours.samples() {
        let labels = sample
            .labels()
            .map(|label| format!("{}={}", label.name.resolved(), label.value.resolved()));
        let value = match sample.value {
            signals::exposition::Value::Number(number) => number.get(),
            signals::exposition::Value::NotFinite => f64::NAN,
        };
        our_lines.push(line(&sample.name.resolved(), labels.collect(), value));
    }
    let theirs = prom_text_format_parser::Scrape::parse(body).map_err(|error| format!("{error:?}"))?;
    let mut their_lines = Vec::new();
    for metric in &theirs.metrics {
        use prom_text_format_parser::{Type, ValueType};
        for sample in &metric.samples {
            let suffix = match (metric.kind, sample.value.value_type) {
                (Type::Histogram, ValueType::Sample) => "_bucket",
                (Type::Histogram | Type::Summary, ValueType::Sum) => "_sum",
                (Type::Histogram | Type::Summary, ValueType::Count) => "_count",
                _ => "",
            };
            let labels = sample
                .labels
                .iter()
                .map(|label| format!("{}={}", label.key, label.value));
            let name = format!("{}{suffix}", metric.name);
            their_lines.push(line(&name, labels.collect(), sample.value.value.as_f64()));
        }
    }
    our_lines.sort();
    their_lines.sort();
    Ok((our_lines, their_lines))
}
