//! Presets as written, and the checks that make a [`super::Preset`] of them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Combine, Kind, Role, Selection, Source, Type};

const NAME_MAX: usize = 40;
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
    signals: Vec<Signal>,
}

/// The fewest answers that show a standstill rather than a coincidence.
pub(super) const fn frozen_after() -> u32 {
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
            signals,
        } = self;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        check(
            !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(plain),
            "name",
            "use 1 to 40 lower-case letters, digits and dashes",
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
        let mut checked: Vec<super::Signal> = Vec::with_capacity(signals.len());
        for (index, signal) in signals.into_iter().enumerate() {
            let prefixed = |(field, problem)| (format!("signals[{index}].{field}"), problem);
            let signal = signal.checked(&source).map_err(prefixed)?;
            if let Some(first) = checked.iter().find(|first| first.role == signal.role) {
                let agrees = |same: bool, field: &str| {
                    check(same, field, "alternatives of one role must agree on this").map_err(prefixed)
                };
                agrees(first.across_pods == signal.across_pods, "acrossPods")?;
                agrees(first.freshness_ms == signal.freshness_ms, "freshness")?;
                agrees(first.optional == signal.optional, "optional")?;
            }
            checked.push(signal);
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
            signals: checked,
        })
    }
}

impl Signal {
    fn checked(self, source: &Source) -> Result<super::Signal, Refusal> {
        let Self {
            role,
            metric,
            fallback,
            selector,
            r#type,
            kind,
            over,
            within_pod,
            across_pods,
            freshness,
            optional,
        } = self;
        check(is_text(&metric), "metric", "name a series in 1 to 200 characters")?;
        check(
            fallback.iter().all(|name| is_text(name)),
            "fallback",
            "name series in 1 to 200 characters",
        )?;
        let counts = matches!(role, Role::Queued | Role::Running | Role::Throughput);
        check(
            counts == (kind == Kind::Count),
            "kind",
            "queued, running and throughput are counts, the others are not",
        )?;
        check(
            (kind == Kind::OfRequest) == (*source == Source::ResourceMetrics),
            "kind",
            "resource metrics are ofRequest, and nothing else is",
        )?;
        check(
            (r#type == Type::Counter) == (role == Role::Throughput),
            "type",
            "throughput is a counter, everything else a gauge",
        )?;
        check(within_pod != Combine::Avg, "withinPod", "use sum or max")?;
        let across = if counts {
            across_pods == Combine::Sum
        } else {
            across_pods != Combine::Sum
        };
        check(
            across,
            "acrossPods",
            "counts are summed over pods, ratios are avg or max",
        )?;
        if *source == Source::ResourceMetrics {
            check(
                role == Role::Utilization,
                "role",
                "resource metrics have utilization only",
            )?;
            check(metric == "cpu", "metric", "resource metrics are read for cpu only")?;
        }
        let freshness_ms = duration_ms(&freshness).filter(|ms| FRESHNESS_MS.contains(ms));
        let freshness_ms = freshness_ms.ok_or(("freshness".to_owned(), "use 1s to 10m, such as 5s"))?;
        let over = match over {
            None => None,
            Some(over) => {
                check(kind == Kind::Ratio, "over", "only a ratio has a denominator")?;
                check(
                    is_text(&over.metric),
                    "over.metric",
                    "name a series in 1 to 200 characters",
                )?;
                Some(Selection {
                    names: vec![over.metric],
                    labels: over.selector,
                })
            }
        };
        let names = std::iter::once(metric).chain(fallback).collect();
        let of = Selection {
            names,
            labels: selector,
        };
        Ok(super::Signal {
            role,
            of,
            over,
            kind,
            within_pod,
            across_pods,
            freshness_ms,
            optional,
        })
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
pub(in crate::signals) fn duration_ms(text: &str) -> Option<u64> {
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
