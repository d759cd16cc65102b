//! The configuration of sources as written, and the checks that make [`super::Sources`] of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Ask, Error, Outline, SHIPPED, Sources, Unit, preset};
use crate::signals::adapters::{CustomMetric, ExternalMetric, Selector};
use crate::signals::presets::{self, Combine, Preset, Role, Source, duration_ms};
use crate::signals::prometheus::endpoint::{BaseUrl, Endpoint, Method, header};
use crate::signals::prometheus::question::Signal;
use crate::signals::prometheus::template::{Per, Template};
use crate::yaml;

/// Longest name of a preset in a pipeline.
const NAME_MAX: usize = 30;
const ENDPOINTS_MAX: usize = 16;
const ENTRIES_MAX: usize = 256;
const SIGNALS_MAX: usize = 16;
const HEADERS_MAX: usize = 16;
const INTERVAL_MS: std::ops::RangeInclusive<u64> = 1_000..=300_000;
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=60_000;
const FRESHNESS_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;
const QUERIES_PER_SECOND: std::ops::RangeInclusive<u32> = 1..=100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    prometheus: Vec<RawEndpoint>,
    #[serde(default)]
    queries: Vec<RawQuery>,
    #[serde(default)]
    custom_metrics: Vec<RawMetric>,
    #[serde(default)]
    external_metrics: Vec<RawMetric>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ShippedFile {
    name: Spanned<String>,
    enable_hint: String,
    queries: Vec<RawQuery>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawEndpoint {
    name: Spanned<String>,
    url: Spanned<String>,
    ca_file: Option<Spanned<PathBuf>>,
    token_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    headers: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    method: Method,
    interval: Option<Spanned<String>>,
    timeout: Option<Spanned<String>>,
    queries_per_second: Option<Spanned<u32>>,
    #[serde(default)]
    presets: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawQuery {
    /// Absent in a file that ships, like `source`.
    name: Option<Spanned<String>>,
    source: Option<Spanned<String>>,
    query: Spanned<String>,
    per: Spanned<Per>,
    role: Spanned<Role>,
    kind: Spanned<Unit>,
    freshness: Spanned<String>,
    across_pods: Option<Spanned<Combine>>,
    #[serde(default = "pod")]
    pod_label: Spanned<String>,
    #[serde(default = "namespace")]
    namespace_label: Spanned<String>,
    #[serde(default)]
    optional: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawMetric {
    name: Spanned<String>,
    metric: Spanned<String>,
    #[serde(default)]
    selector: BTreeMap<String, Spanned<String>>,
    role: Spanned<Role>,
    kind: Spanned<Unit>,
    freshness: Spanned<String>,
    across_pods: Option<Spanned<Combine>>,
    #[serde(default)]
    optional: bool,
}

fn unplaced(text: &str) -> Spanned<String> {
    use serde_saphyr::Location;
    Spanned::new(text.to_owned(), Location::UNKNOWN, Location::UNKNOWN)
}

fn pod() -> Spanned<String> {
    unplaced("pod")
}

fn namespace() -> Spanned<String> {
    unplaced("namespace")
}

/// A field, the line it stands on, and what is allowed.
struct Refusal {
    line: u64,
    field: String,
    problem: String,
}

/// Refuses the value of `field` unless `holds`.
fn check<T>(holds: bool, at: &Spanned<T>, field: &str, problem: &str) -> Result<(), Refusal> {
    if holds {
        Ok(())
    } else {
        Err(refusal(at, field, problem))
    }
}

fn refusal<T>(at: &Spanned<T>, field: &str, problem: &str) -> Refusal {
    Refusal {
        line: at.referenced.line(),
        field: field.to_owned(),
        problem: problem.to_owned(),
    }
}

fn read<T: for<'d> Deserialize<'d>>(file: &str, text: &str) -> Result<T, Error> {
    yaml::only(text).map_err(|broken| Error::Syntax {
        file: file.to_owned(),
        problem: broken.to_string(),
    })
}

fn placed(file: &str, Refusal { line, field, problem }: Refusal) -> Error {
    Error::Field {
        file: file.to_owned(),
        line,
        field,
        problem,
    }
}

pub(super) fn sources(file: &str, text: &str) -> Result<Sources, Error> {
    let raw: File = read(file, text)?;
    raw.checked().map_err(|refusal| placed(file, refusal))
}

pub(super) fn shipped(file: &str, text: &str) -> Result<(Preset, Ask), Error> {
    let ShippedFile {
        name,
        enable_hint,
        queries,
    } = read(file, text)?;
    let mut known = Names::default();
    let checked = queries.into_iter().enumerate().try_for_each(|(index, query)| {
        let at = format!("queries[{index}]");
        known.add_query(&name, 0, query, &at)
    });
    checked.map_err(|refusal| placed(file, refusal))?;
    let presets = known.presets(&enable_hint).map_err(|refusal| placed(file, refusal))?;
    let preset = presets.into_values().next();
    preset.ok_or_else(|| placed(file, refusal(&name, "queries", "list at least one query")))
}

impl File {
    fn checked(self) -> Result<Sources, Refusal> {
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        let mut shipped = BTreeMap::new();
        for (index, raw) in self.prometheus.into_iter().enumerate() {
            let at = format!("prometheus[{index}]");
            check(index < ENDPOINTS_MAX, &raw.name, &at, "at most 16 endpoints")?;
            check(
                endpoints.iter().all(|known| known.name != raw.name.value),
                &raw.name,
                &format!("{at}.name"),
                "another endpoint has this name",
            )?;
            for (nth, name) in raw.presets.iter().enumerate() {
                let field = format!("{at}.presets[{nth}]");
                let ships = SHIPPED
                    .iter()
                    .any(|(file, _)| file.strip_suffix(".yaml") == Some(&*name.value));
                check(
                    ships,
                    name,
                    &field,
                    "use dcgm or psi; queries of your own say their source",
                )?;
                let known = shipped.insert(name.value.clone(), index);
                check(
                    known.is_none(),
                    name,
                    &field,
                    "this preset is read at another endpoint already",
                )?;
            }
            endpoints.push(Arc::new(raw.checked(&at)?));
        }
        let mut names = Names::default();
        for (index, query) in self.queries.into_iter().enumerate() {
            let at = format!("queries[{index}]");
            let source = query.source.as_ref();
            let name = query.name.clone();
            let (Some(source), Some(name)) = (source, name) else {
                return Err(refusal(&query.query, &at, "say the name of the preset and its source"));
            };
            let endpoint = endpoints.iter().position(|endpoint| endpoint.name == source.value);
            let Some(endpoint) = endpoint else {
                let known: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
                let problem = format!("name an endpoint of prometheus: one of [{}]", known.join(", "));
                return Err(refusal(source, &format!("{at}.source"), &problem));
            };
            names.add_query(&name, endpoint, query, &at)?;
        }
        for (index, metric) in self.custom_metrics.into_iter().enumerate() {
            names.add_custom(metric, &format!("customMetrics[{index}]"))?;
        }
        for (index, metric) in self.external_metrics.into_iter().enumerate() {
            names.add_external(metric, &format!("externalMetrics[{index}]"))?;
        }
        names.refuse_shipped()?;
        Ok(Sources {
            endpoints,
            presets: names
                .presets("look up the preset in the operator's sources file: its source knows no such series")?,
            shipped,
        })
    }
}

impl RawEndpoint {
    fn checked(self, at: &str) -> Result<Endpoint, Refusal> {
        check(is_name(&self.name.value), &self.name, &format!("{at}.name"), NAME)?;
        let url: BaseUrl =
            self.url
                .value
                .parse()
                .map_err(|error: crate::signals::prometheus::endpoint::UrlError| {
                    refusal(&self.url, &format!("{at}.url"), &error.to_string())
                })?;
        for (field, file) in [("caFile", &self.ca_file), ("tokenFile", &self.token_file)] {
            let Some(file) = file else { continue };
            let field = format!("{at}.{field}");
            check(file.value.is_absolute(), file, &field, "use an absolute path")?;
            check(
                url.is_secure(),
                file,
                &field,
                "only with https: over http a token could be read on the way, and nobody shows a certificate",
            )?;
        }
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let field = format!("{at}.headers.{name}");
            headers.push(header(name, &value.value).map_err(|problem| refusal(value, &field, problem))?);
            check(headers.len() <= HEADERS_MAX, value, &field, "at most 16 headers")?;
        }
        let milliseconds =
            |given: Option<&Spanned<String>>, field, range: &std::ops::RangeInclusive<u64>, usual, allowed| {
                let Some(given) = given else { return Ok(usual) };
                duration_ms(&given.value)
                    .filter(|ms| range.contains(ms))
                    .ok_or_else(|| refusal(given, &format!("{at}.{field}"), allowed))
            };
        let interval = milliseconds(
            self.interval.as_ref(),
            "interval",
            &INTERVAL_MS,
            5_000,
            "use 1s to 5m, such as 5s",
        )?;
        let timeout = milliseconds(
            self.timeout.as_ref(),
            "timeout",
            &TIMEOUT_MS,
            4_000,
            "use 100ms to 1m, such as 4s",
        )?;
        let queries_per_second = match &self.queries_per_second {
            None => 10,
            Some(given) => {
                check(
                    QUERIES_PER_SECOND.contains(&given.value),
                    given,
                    &format!("{at}.queriesPerSecond"),
                    "use 1 to 100",
                )?;
                given.value
            }
        };
        Ok(Endpoint {
            name: self.name.value,
            url,
            ca_file: self.ca_file.map(|file| file.value),
            token_file: self.token_file.map(|file| file.value),
            headers,
            method: self.method,
            interval: Duration::from_millis(interval),
            timeout: Duration::from_millis(timeout),
            queries_per_second,
        })
    }
}

/// The entries of each name so far: together they are one preset.
#[derive(Default)]
struct Names {
    by_name: BTreeMap<String, Entries>,
}

struct Entries {
    first: Spanned<String>,
    ask: Ask,
    across_pods: Vec<Combine>,
}

impl Names {
    fn add_query(&mut self, name: &Spanned<String>, endpoint: usize, raw: RawQuery, at: &str) -> Result<(), Refusal> {
        let per = raw.per.value;
        let label = |label: &Spanned<String>| {
            let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            !label.value.is_empty() && label.value.len() <= 100 && label.value.bytes().all(word)
        };
        for (field, value) in [("podLabel", &raw.pod_label), ("namespaceLabel", &raw.namespace_label)] {
            check(
                label(value) && !value.value.starts_with(|c: char| c.is_ascii_digit()),
                value,
                &format!("{at}.{field}"),
                "use the name of a label: letters, digits and _",
            )?;
        }
        let template = Template::parse(&raw.query.value, &raw.namespace_label.value, per)
            .map_err(|error| refusal(&raw.query, &format!("{at}.query"), &error.to_string()))?;
        let terms = Terms {
            role: &raw.role,
            kind: &raw.kind,
            freshness: &raw.freshness,
            across_pods: raw.across_pods.as_ref(),
            per,
        };
        let (freshness_ms, across_pods) = terms.checked(at)?;
        let signal = Signal {
            role: raw.role.value,
            unit: raw.kind.value,
            template,
            pod_label: raw.pod_label.value,
            freshness_ms,
            optional: raw.optional,
        };
        let entries = self.entry(name, at, || Ask::Queries {
            endpoint,
            per,
            signals: Vec::new(),
        })?;
        match &mut entries.ask {
            Ask::Queries {
                endpoint: first,
                per: first_per,
                signals,
            } if *first == endpoint && *first_per == per => signals.push(signal),
            _ => return Err(refusal(name, &format!("{at}.name"), SAME)),
        }
        entries.across_pods.push(across_pods);
        Ok(())
    }

    fn add_custom(&mut self, raw: RawMetric, at: &str) -> Result<(), Refusal> {
        check(
            is_metric(&raw.metric.value),
            &raw.metric,
            &format!("{at}.metric"),
            METRIC,
        )?;
        if let Some((label, value)) = raw.selector.iter().next() {
            return Err(refusal(
                value,
                &format!("{at}.selector.{label}"),
                "a custom metric is read for all pods of tiercel: leave the selector out",
            ));
        }
        let (freshness_ms, across_pods) = raw.terms(Per::Pod).checked(at)?;
        let metric = CustomMetric {
            role: raw.role.value,
            unit: raw.kind.value,
            metric: raw.metric.value,
            freshness_ms,
            optional: raw.optional,
        };
        let entries = self.entry(&raw.name, at, || Ask::CustomMetrics(Vec::new()))?;
        match &mut entries.ask {
            Ask::CustomMetrics(metrics) => metrics.push(metric),
            _ => return Err(refusal(&raw.name, &format!("{at}.name"), SAME)),
        }
        entries.across_pods.push(across_pods);
        Ok(())
    }

    fn add_external(&mut self, raw: RawMetric, at: &str) -> Result<(), Refusal> {
        check(
            is_metric(&raw.metric.value),
            &raw.metric,
            &format!("{at}.metric"),
            METRIC,
        )?;
        let (freshness_ms, across_pods) = raw.terms(Per::Stage).checked(at)?;
        let mut selector = Selector::default();
        for (label, value) in &raw.selector {
            selector
                .add(label, &value.value)
                .map_err(|problem| refusal(value, &format!("{at}.selector.{label}"), &problem))?;
        }
        let metric = ExternalMetric {
            role: raw.role.value,
            unit: raw.kind.value,
            metric: raw.metric.value,
            selector,
            freshness_ms,
            optional: raw.optional,
        };
        let entries = self.entry(&raw.name, at, || Ask::ExternalMetrics(Vec::new()))?;
        match &mut entries.ask {
            Ask::ExternalMetrics(metrics) => metrics.push(metric),
            _ => return Err(refusal(&raw.name, &format!("{at}.name"), SAME)),
        }
        entries.across_pods.push(across_pods);
        Ok(())
    }

    fn entry(&mut self, name: &Spanned<String>, at: &str, ask: impl FnOnce() -> Ask) -> Result<&mut Entries, Refusal> {
        let field = format!("{at}.name");
        check(is_name(&name.value), name, &field, NAME)?;
        check(
            self.by_name.contains_key(&name.value) || self.by_name.len() < ENTRIES_MAX,
            name,
            &field,
            "at most 256 presets",
        )?;
        let entries = self.by_name.entry(name.value.clone()).or_insert_with(|| Entries {
            first: name.clone(),
            ask: ask(),
            across_pods: Vec::new(),
        });
        check(
            entries.across_pods.len() < SIGNALS_MAX,
            name,
            &field,
            "at most 16 entries of one name",
        )?;
        Ok(entries)
    }

    /// Looked up by file, because the table of presets that ship is made with the help of this.
    fn refuse_shipped(&self) -> Result<(), Refusal> {
        for (name, entries) in &self.by_name {
            let file = format!("{name}.yaml");
            check(
                !presets::is_file(&file) && SHIPPED.iter().all(|(shipped, _)| *shipped != file),
                &entries.first,
                "name",
                "a preset of this name ships with tiercel: use another name",
            )?;
        }
        Ok(())
    }

    fn presets(self, hint: &str) -> Result<BTreeMap<String, (Preset, Ask)>, Refusal> {
        let mut presets = BTreeMap::new();
        for (
            name,
            Entries {
                first,
                ask,
                across_pods,
            },
        ) in self.by_name
        {
            let outline = |role, unit, freshness_ms, optional, across_pods| Outline {
                role,
                unit,
                across_pods,
                freshness_ms,
                optional,
            };
            let (source, outlines): (Source, Vec<Outline>) = match &ask {
                Ask::Queries { per, signals, .. } => (
                    Source::Prometheus(*per),
                    signals
                        .iter()
                        .zip(across_pods)
                        .map(|(s, across)| outline(s.role, s.unit, s.freshness_ms, s.optional, across))
                        .collect(),
                ),
                Ask::CustomMetrics(metrics) => (
                    Source::CustomMetrics,
                    metrics
                        .iter()
                        .zip(across_pods)
                        .map(|(m, across)| outline(m.role, m.unit, m.freshness_ms, m.optional, across))
                        .collect(),
                ),
                Ask::ExternalMetrics(metrics) => (
                    Source::ExternalMetrics,
                    metrics
                        .iter()
                        .zip(across_pods)
                        .map(|(m, across)| outline(m.role, m.unit, m.freshness_ms, m.optional, across))
                        .collect(),
                ),
            };
            agree(&first, &outlines)?;
            let made = preset(&name, source, hint, outlines.into_iter());
            presets.insert(name, (made, ask));
        }
        Ok(presets)
    }
}

/// Alternatives of one role are told apart by nothing but their order.
fn agree(first: &Spanned<String>, outlines: &[Outline]) -> Result<(), Refusal> {
    let mut seen: BTreeMap<Role, &Outline> = BTreeMap::new();
    for outline in outlines {
        let earlier = seen.entry(outline.role).or_insert(outline);
        check(
            earlier.freshness_ms == outline.freshness_ms
                && earlier.optional == outline.optional
                && earlier.across_pods == outline.across_pods,
            first,
            "name",
            "entries of this name with one role are alternatives: they must agree on freshness, optional and acrossPods",
        )?;
    }
    let required: BTreeSet<Role> = outlines
        .iter()
        .filter(|outline| !outline.optional)
        .map(|outline| outline.role)
        .collect();
    check(
        !required.is_empty(),
        first,
        "optional",
        "at least one entry of this name must not be optional",
    )
}

const NAME: &str = "use 1 to 30 lower-case letters, digits and dashes, beginning and ending with a letter or digit";
const METRIC: &str = "name a metric in 1 to 200 letters, digits, dots, dashes and _";
const SAME: &str = "entries of one name must have the same kind of source, endpoint and per";

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('-') && !name.ends_with('-')
}

/// Becomes a segment of a path of the API server.
fn is_metric(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    (1..=200).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
}

/// What every kind of entry says about its number.
struct Terms<'a> {
    role: &'a Spanned<Role>,
    kind: &'a Spanned<Unit>,
    freshness: &'a Spanned<String>,
    across_pods: Option<&'a Spanned<Combine>>,
    per: Per,
}

impl RawMetric {
    fn terms(&self, per: Per) -> Terms<'_> {
        Terms {
            role: &self.role,
            kind: &self.kind,
            freshness: &self.freshness,
            across_pods: self.across_pods.as_ref(),
            per,
        }
    }
}

impl Terms<'_> {
    /// Freshness in milliseconds, and how pods are combined.
    fn checked(&self, at: &str) -> Result<(u64, Combine), Refusal> {
        let (role, kind, per) = (self.role.value, self.kind.value, self.per);
        let (fits, allowed) = match role {
            Role::Queued | Role::Running => (kind == Unit::Count, "queued and running are of kind count"),
            Role::CacheUse | Role::Utilization => (
                matches!(kind, Unit::Ratio | Unit::Percent),
                "cacheUse and utilization are of kind ratio (0 to 1) or percent (0 to 100)",
            ),
            Role::Throughput => (
                kind == Unit::PerSecond,
                "throughput is of kind perSecond: ask for the rate of a counter, not for the counter",
            ),
            Role::Latency => {
                return Err(refusal(
                    self.role,
                    &format!("{at}.role"),
                    "latency is read from pods only",
                ));
            }
        };
        check(fits, self.kind, &format!("{at}.kind"), allowed)?;
        let freshness_ms = duration_ms(&self.freshness.value)
            .filter(|ms| FRESHNESS_MS.contains(ms))
            .ok_or_else(|| refusal(self.freshness, &format!("{at}.freshness"), "use 1s to 10m, such as 45s"))?;
        let counts = matches!(role, Role::Queued | Role::Running | Role::Throughput);
        let usual = match role {
            _ if counts => Combine::Sum,
            Role::CacheUse => Combine::Max,
            _ => Combine::Avg,
        };
        let Some(given) = self.across_pods else {
            return Ok((freshness_ms, usual));
        };
        let field = format!("{at}.acrossPods");
        check(
            per == Per::Pod,
            given,
            &field,
            "a number of a stage as a whole has no pods to combine",
        )?;
        check(
            counts == (given.value == Combine::Sum),
            given,
            &field,
            "counts are summed over pods, ratios are avg or max",
        )?;
        Ok((freshness_ms, given.value))
    }
}
