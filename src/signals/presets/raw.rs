//! Presets as written, and the checks that make a [`super::Preset`] of them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Combine, Exclude, Kind, Role, Selection, Source, Type};

/// As `signal.preset` has it.
const NAME_MAX: usize = 30;
const TEXT_MAX: usize = 200;
const SIGNALS_MAX: usize = 32;
const FROZEN_AFTER: std::ops::RangeInclusive<u32> = frozen_after()..=60;
const FRESHNESS_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Preset {
    name: String,
    source: Source,
    enable_hint: String,
    #[serde(default = "frozen_after")]
    frozen_after: u32,
    #[serde(default)]
    replaces: bool,
    #[serde(default)]
    exclude: Exclude,
    signals: Vec<Signal>,
}

/// The fewest answers that show a standstill rather than a coincidence.
const fn frozen_after() -> u32 {
    3
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Signal {
    role: Role,
    metric: String,
    #[serde(default)]
    fallback: Vec<String>,
    #[serde(default)]
    selector: BTreeMap<String, String>,
    r#type: Type,
    kind: Kind,
    over: Option<Over>,
    per: Option<String>,
    within_pod: Combine,
    across_pods: Combine,
    freshness: String,
    #[serde(default)]
    optional: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Over {
    metric: String,
    #[serde(default)]
    selector: BTreeMap<String, String>,
}

type Refusal = (String, &'static str);

impl Preset {
    pub(super) fn checked(self) -> Result<super::Preset, Refusal> {
        let Self {
            name,
            source,
            enable_hint,
            frozen_after,
            replaces,
            exclude,
            signals,
        } = self;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(plain);
        check(
            fits && !name.starts_with('-') && !name.ends_with('-'),
            "name",
            "use 1 to 30 lower-case letters, digits and dashes, no dash at either end",
        )?;
        check(
            is_text(&enable_hint),
            "enableHint",
            "say in 1 to 200 characters how to switch the metrics on",
        )?;
        check(
            FROZEN_AFTER.contains(&frozen_after),
            "frozenAfter",
            "use 3 to 60 answers",
        )?;
        if let Source::Scrape { port, path } = &source {
            check(*port > 0, "source.scrape.port", "use 1 to 65535")?;
            let fits = path.starts_with('/') && is_text(path) && path.bytes().all(|byte| byte.is_ascii_graphic());
            check(
                fits && !path.contains(['#', '?']),
                "source.scrape.path",
                "start with /, without blanks, query or fragment",
            )?;
        }
        check(
            (1..=SIGNALS_MAX).contains(&signals.len()),
            "signals",
            "list 1 to 32 signals",
        )?;
        let texts = exclude.labels.iter().chain(&exclude.values);
        check(
            exclude.labels.is_empty() == exclude.values.is_empty() && texts.into_iter().all(|text| is_text(text)),
            "exclude",
            "name labels, and values that they have in series to leave out, in 1 to 200 characters each",
        )?;
        let mut checked: Vec<super::Signal> = Vec::with_capacity(signals.len());
        for (index, signal) in signals.into_iter().enumerate() {
            let prefixed = |(field, problem)| (format!("signals[{index}].{field}"), problem);
            let alternatives = signal.checked(&source, &exclude).map_err(prefixed)?;
            let Some(signal) = alternatives.first() else { continue };
            if let Some(first) = checked.iter().find(|first| first.role == signal.role) {
                let agrees = |same: bool, field: &str| {
                    check(same, field, "alternatives of one role must agree on this").map_err(prefixed)
                };
                agrees(first.across_pods == signal.across_pods, "acrossPods")?;
                agrees(first.freshness_ms == signal.freshness_ms, "freshness")?;
                agrees(first.optional == signal.optional, "optional")?;
            }
            checked.extend(alternatives);
        }
        check(
            checked.iter().any(|signal| !signal.optional),
            "signals",
            "at least one signal must not be optional",
        )?;
        Ok(super::Preset {
            name,
            source,
            enable_hint,
            frozen_after,
            replaces,
            signals: checked,
        })
    }
}

impl Signal {
    /// One signal, or one for each name where each needs two series.
    fn checked(self, source: &Source, exclude: &Exclude) -> Result<Vec<super::Signal>, Refusal> {
        self.check_names()?;
        self.check_unit(source)?;
        let Self {
            role,
            metric,
            fallback,
            selector: labels,
            r#type,
            kind,
            over,
            per,
            within_pod,
            across_pods,
            freshness,
            optional,
        } = self;
        let freshness_ms = duration_ms(&freshness).filter(|ms| FRESHNESS_MS.contains(ms));
        let freshness_ms = freshness_ms.ok_or(("freshness".to_owned(), "use 1s to 10m, such as 5s"))?;
        let select = |names: Vec<String>, labels: &BTreeMap<String, String>| Selection {
            names,
            labels: labels.clone(),
            exclude: exclude.clone(),
        };
        let signal = |of: Selection, over: Option<Selection>| super::Signal {
            role,
            of,
            over,
            per: per.clone(),
            kind,
            within_pod,
            across_pods,
            freshness_ms,
            optional,
        };
        let names = std::iter::once(metric).chain(fallback);
        let suffixed = |name: &str, suffix: &str| vec![format!("{name}{suffix}")];
        Ok(match (r#type, over) {
            (Type::Histogram, _) if role == Role::Latency => names
                .map(|name| {
                    let (sum, count) = (suffixed(&name, "_sum"), suffixed(&name, "_count"));
                    signal(select(sum, &labels), Some(select(count, &labels)))
                })
                .collect(),
            (Type::Histogram, _) => {
                let counts = names.map(|name| name + "_count").collect();
                vec![signal(select(counts, &labels), None)]
            }
            (_, over) => {
                let over = over.map(|over| select(vec![over.metric], &over.selector));
                vec![signal(select(names.collect(), &labels), over)]
            }
        })
    }

    fn check_names(&self) -> Result<(), Refusal> {
        let problem = "name a series in 1 to 200 characters";
        check(is_text(&self.metric), "metric", problem)?;
        check(
            self.fallback.iter().all(|name| is_text(name)),
            "fallback",
            "name series in 1 to 200 characters",
        )?;
        check(
            self.per.as_deref().is_none_or(is_text),
            "per",
            "name a label in 1 to 200 characters",
        )?;
        if let Some(over) = &self.over {
            check(is_text(&over.metric), "over.metric", problem)?;
        }
        Ok(())
    }

    fn check_unit(&self, source: &Source) -> Result<(), Refusal> {
        let Self {
            role,
            r#type,
            kind,
            within_pod,
            across_pods,
            ..
        } = self;
        let counts = matches!(role, Role::Queued | Role::Running | Role::Throughput);
        check(
            counts == (*kind == Kind::Count),
            "kind",
            "queued, running and throughput are counts, the others are not",
        )?;
        check(
            (*role == Role::Latency) == kind.is_time(),
            "kind",
            "latency is in seconds, milli or micros, and nothing else is",
        )?;
        check(
            (*kind == Kind::OfRequest) == (*source == Source::ResourceMetrics),
            "kind",
            "resource metrics are ofRequest, and nothing else is",
        )?;
        check(
            (*r#type != Type::Gauge) == matches!(role, Role::Throughput | Role::Latency),
            "type",
            "throughput and latency are counters or histograms, everything else is a gauge",
        )?;
        let over = self.over.is_some();
        check(
            match role {
                Role::Latency => over == (*r#type == Type::Counter),
                _ => !over || *kind == Kind::Ratio,
            },
            "over",
            "a ratio may have a denominator; a latency counter must have one, the counter of requests; nothing else has",
        )?;
        check(*within_pod != Combine::Avg, "withinPod", "use sum or max")?;
        check(
            self.per.is_none() || counts,
            "per",
            "only counts are added up over a label",
        )?;
        let across = if counts {
            *across_pods == Combine::Sum
        } else {
            *across_pods != Combine::Sum
        };
        check(
            across,
            "acrossPods",
            "counts are summed over pods, ratios and latencies are avg or max",
        )?;
        if *source == Source::ResourceMetrics {
            check(
                *role == Role::Utilization,
                "role",
                "resource metrics have utilization only",
            )?;
            check(self.metric == "cpu", "metric", "resource metrics are read for cpu only")?;
        }
        Ok(())
    }
}

fn check(holds: bool, field: &str, problem: &'static str) -> Result<(), Refusal> {
    if holds {
        Ok(())
    } else {
        Err((field.to_owned(), problem))
    }
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_MAX && !text.contains(char::is_control)
}

/// `500ms`, `5s`, `2m`.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let scale = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}
