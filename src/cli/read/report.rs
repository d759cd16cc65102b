//! One or two bodies and a preset -> what there is to say, for people and programs.

use std::time::Duration;

use serde::Serialize;

use super::Error;
use crate::signals::Finite;
use crate::signals::exposition::{self, Exposition, Limits};
use crate::signals::presets::{self, Account, Combine, Kind, Part, Preset, Role, Source};
use crate::yaml;

/// Bytes of a damaged line that are shown.
const SHOWN_MAX: usize = 100;

/// Bad lines that are listed; all are counted.
const BAD_LINES_MAX: usize = 20;

/// A body and its samples.
pub(super) struct Seen<'a> {
    body: &'a [u8],
    parsed: Exposition<'a>,
}

impl<'a> Seen<'a> {
    pub(super) fn parse(from: &str, body: &'a [u8]) -> Result<Self, Error> {
        match Exposition::parse(body, &Limits::SCRAPE) {
            Ok(parsed) => Ok(Self { body, parsed }),
            Err(source) => Err(Error::Body {
                from: from.to_owned(),
                begins: match source {
                    exposition::Error::NotExposition => one_line(&shown(body.get(..40).unwrap_or(body))),
                    _ => String::new(),
                },
                source,
            }),
        }
    }

    fn line(&self, number: u32) -> &'a [u8] {
        let at = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
        self.body.split(|byte| *byte == b'\n').nth(at).unwrap_or_default()
    }
}

/// Without what a terminal takes for an order.
fn one_line(text: &str) -> String {
    let plain: String = (text.chars())
        .map(|letter| match letter {
            letter if letter.is_whitespace() => ' ',
            letter if letter.is_control() => '?',
            letter => letter,
        })
        .collect();
    yaml::one_line(&plain)
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end();
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// All there is to say.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) preset: String,
    pub(super) from: String,
    /// `Prometheus text` or `OpenMetrics`.
    pub(super) format: &'static str,
    pub(super) bytes: usize,
    pub(super) samples: usize,
    /// Between the two readings, if there were two.
    pub(super) seconds: Option<f64>,
    pub(super) roles: Vec<RoleReport>,
    pub(super) bad_lines: Vec<BadLine>,
    pub(super) bad_lines_total: usize,
    /// Every required role has a number.
    pub(super) enough: bool,
    /// How to switch the metrics on; only where a required role is missing.
    pub(super) enable_hint: Option<String>,
    /// Presets whose required roles are all there, where this one's are not.
    pub(super) fits: Vec<String>,
}

/// What is taken for one role.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RoleReport {
    pub(super) role: Role,
    pub(super) required: bool,
    /// In `unit`; of counters only after two readings.
    pub(super) value: Option<f64>,
    pub(super) unit: &'static str,
    /// Why there is no value.
    pub(super) why: Option<String>,
    /// The counter at the reading before and at this one.
    pub(super) counter: Option<Counter>,
    /// Series that would do, the most wanted first.
    pub(super) wanted: Vec<String>,
    pub(super) metric: Option<String>,
    pub(super) kind: Option<Kind>,
    pub(super) within_pod: Option<Combine>,
    pub(super) per: Option<String>,
    pub(super) across_pods: Option<Combine>,
    pub(super) series: Vec<SeriesReport>,
    /// Series of the metric that the preset leaves out.
    pub(super) excluded: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Counter {
    pub(super) before: Option<f64>,
    pub(super) now: f64,
}

/// One series behind a number.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SeriesReport {
    pub(super) series: String,
    pub(super) line: u32,
    /// It is what is divided by.
    pub(super) divisor: bool,
    pub(super) raw: Option<f64>,
    /// Why it spoils the number.
    pub(super) problem: Option<String>,
}

/// A line that was skipped.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct BadLine {
    pub(super) line: u32,
    pub(super) column: u32,
    pub(super) problem: String,
    pub(super) text: String,
}

impl Report {
    pub(super) fn new(preset: &Preset, from: &str, now: &Seen<'_>, before: Option<(&Seen<'_>, Duration)>) -> Self {
        let accounts = preset.account(&now.parsed);
        let earlier = before.map(|(seen, _)| preset.account(&seen.parsed)).unwrap_or_default();
        let seconds = before.map(|(_, span)| span.as_secs_f64());
        let roles: Vec<RoleReport> = accounts
            .iter()
            .map(|account| {
                let earlier = earlier.iter().find(|other| other.role == account.role);
                role(account, earlier.zip(seconds), now)
            })
            .collect();
        let enough = complete(&accounts);
        let errors = now.parsed.errors();
        Self {
            preset: preset.name().to_owned(),
            from: from.to_owned(),
            format: if now.parsed.is_open_metrics() {
                "OpenMetrics"
            } else {
                "Prometheus text"
            },
            bytes: now.body.len(),
            samples: now.parsed.samples().len(),
            seconds,
            roles,
            bad_lines: errors
                .iter()
                .take(BAD_LINES_MAX)
                .map(|error| BadLine {
                    line: error.line,
                    column: error.column,
                    problem: error.problem.to_string(),
                    text: shown(now.line(error.line)),
                })
                .collect(),
            bad_lines_total: errors.len(),
            enough,
            enable_hint: (!enough).then(|| preset.enable_hint().to_owned()),
            fits: if enough { Vec::new() } else { fitting(now) },
        }
    }

    pub(super) const fn enough(&self) -> bool {
        self.enough
    }

    pub(super) fn missing(&self) -> Error {
        let roles = self.roles.iter().filter(|role| role.required && role.why.is_some());
        let roles: Vec<_> = roles.map(|role| format!("'{}'", role.role.as_str())).collect();
        Error::Missing {
            preset: self.preset.clone(),
            roles: roles.join(" and "),
        }
    }
}

fn complete(accounts: &[Account]) -> bool {
    accounts
        .iter()
        .all(|account| !account.required || account.outcome.is_ok())
}

/// Presets that this body would do for.
fn fitting(seen: &Seen<'_>) -> Vec<String> {
    let known = presets::load().unwrap_or_default();
    let scraped = known
        .iter()
        .filter(|preset| matches!(preset.source(), Source::Scrape { .. }));
    scraped
        .filter(|preset| complete(&preset.account(&seen.parsed)))
        .map(|preset| preset.name().to_owned())
        .collect()
}

fn role(account: &Account, earlier: Option<(&Account, f64)>, seen: &Seen<'_>) -> RoleReport {
    let now = account.outcome.ok().map(Finite::get);
    let counts = matches!(account.role, Role::Throughput | Role::Latency);
    let before = earlier.and_then(|(before, _)| before.outcome.ok()).map(Finite::get);
    let mut why = account.outcome.err().map(|why| why.to_string());
    let value = match (account.role, now, earlier) {
        (_, None, _) | (Role::Throughput | Role::Latency, Some(_), None) => None,
        (Role::Throughput, Some(now), Some((_, seconds))) => {
            let rate = before
                .filter(|before| now >= *before)
                .map(|before| (now - before) / seconds);
            if rate.is_none() {
                why = Some("no rate: the counter fell, as it does when the server starts again".to_owned());
            }
            rate
        }
        (Role::Latency, Some(_), Some((before, _))) => {
            let mean = account
                .served
                .zip(before.served)
                .and_then(|(now, before)| now.mean_since(&before));
            if mean.is_none() {
                why = Some("no mean: no request was finished between the two readings".to_owned());
            }
            mean.map(Finite::get)
        }
        (_, Some(now), _) => Some(now),
    };
    let used = account.used.as_ref();
    let series = used.map(|used| used.series.as_slice()).unwrap_or_default();
    RoleReport {
        role: account.role,
        required: account.required,
        value,
        unit: match account.role {
            Role::Queued | Role::Running => "requests",
            Role::CacheUse | Role::Utilization => "of 1",
            Role::Throughput => "requests/s",
            Role::Latency => "s",
        },
        why,
        counter: now.filter(|_| counts).map(|now| Counter { before, now }),
        wanted: account.wanted.clone(),
        metric: used.map(|used| used.metric.clone()),
        kind: used.map(|used| used.kind),
        within_pod: used.map(|used| used.within_pod),
        per: used.and_then(|used| used.per.clone()),
        across_pods: used.map(|used| used.across_pods),
        excluded: used.map(|used| used.excluded.clone()).unwrap_or_default(),
        series: series
            .iter()
            .map(|series| SeriesReport {
                series: series.text.clone(),
                line: series.line,
                divisor: series.part == Part::Divisor,
                raw: series.raw,
                problem: series.problem.map(|why| match series.raw {
                    Some(_) => why.to_string(),
                    None => format!("{why}: {}", value_text(seen.line(series.line))),
                }),
            })
            .collect(),
    }
}

/// What stands for the number in a line whose number is none.
fn value_text(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    // An exemplar has braces of its own.
    let series = text.split(" # ").next().unwrap_or_default();
    let value = match series.rfind('}') {
        Some(brace) => series.get(brace + 1..),
        None => series
            .trim_start()
            .split_once(char::is_whitespace)
            .map(|(_, rest)| rest),
    };
    let mut words = value.unwrap_or_default().split_whitespace();
    words.next().unwrap_or_default().to_owned()
}
