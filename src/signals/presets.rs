//! Which series of which server mean what, as data: one YAML file per server under `presets/`.
//!
//! The files are part of the binary, parsed and checked once; [`load`] at start reports the field at fault. No server
//! is known by name here.

mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// File name and text of each preset.
const FILES: [(&str, &str); 8] = [
    ("cpu.yaml", include_str!("presets/cpu.yaml")),
    ("llamacpp.yaml", include_str!("presets/llamacpp.yaml")),
    ("rayserve.yaml", include_str!("presets/rayserve.yaml")),
    ("sglang.yaml", include_str!("presets/sglang.yaml")),
    ("tgi.yaml", include_str!("presets/tgi.yaml")),
    ("triton.yaml", include_str!("presets/triton.yaml")),
    ("trtllm.yaml", include_str!("presets/trtllm.yaml")),
    ("vllm.yaml", include_str!("presets/vllm.yaml")),
];

static LOADED: LazyLock<Result<Vec<Preset>, Error>> =
    LazyLock::new(|| FILES.iter().map(|(file, text)| Preset::parse(file, text)).collect());

/// Why a preset is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not YAML, or not of a preset's shape.
    #[error("preset file {file}: {problem}")]
    Syntax {
        /// The file.
        file: String,
        /// What the parser says, with the place.
        problem: String,
    },
    /// A field with a value that cannot work.
    #[error("preset file {file}: {field}: {problem}")]
    Field {
        /// The file.
        file: String,
        /// Path of the field, such as `signals[1].freshness`.
        field: String,
        /// What to write instead.
        problem: &'static str,
    },
}

/// Where a preset's numbers come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Source {
    /// The pod's metrics endpoint.
    Scrape {
        /// Port that the server uses unless told otherwise.
        port: u16,
        /// Path, starting with `/`.
        path: String,
    },
    /// `metrics.k8s.io`.
    ResourceMetrics,
}

/// What the core uses a signal for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// Requests waiting.
    Queued,
    /// Requests being handled.
    Running,
    /// Share of the key-value cache in use.
    CacheUse,
    /// Share of the capacity in use.
    Utilization,
    /// Requests finished, as a counter.
    Throughput,
}

impl Role {
    const ALL: [Self; 5] = [
        Self::Queued,
        Self::Running,
        Self::CacheUse,
        Self::Utilization,
        Self::Throughput,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Type {
    Gauge,
    Counter,
}

/// Unit of a series. Each has its converter and its range in `read.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    /// Things, from 0.
    Count,
    /// 0 to 1.
    Ratio,
    /// 0 to 100.
    Percent,
    /// 0 to 100 times the pod's request: may be exceeded, unlike a ratio.
    OfRequest,
}

/// How series of one pod, or pods of one variant, become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Combine {
    /// Add them up.
    Sum,
    /// The largest.
    Max,
    /// Their mean.
    Avg,
}

/// A metric and the labels that a series of it must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selection {
    names: Vec<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signal {
    role: Role,
    of: Selection,
    over: Option<Selection>,
    kind: Kind,
    within_pod: Combine,
    across_pods: Combine,
    freshness_ms: u64,
    optional: bool,
}

/// A checked preset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preset {
    name: String,
    source: Source,
    enable_hint: String,
    signals: Vec<Signal>,
}

/// Checks the presets of this binary; to be called at start, so that a broken one is found before it is needed.
pub fn load() -> Result<&'static [Preset], Error> {
    LOADED.as_deref().map_err(Clone::clone)
}

impl Preset {
    /// The preset of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        load().ok()?.iter().find(|preset| preset.name == name)
    }

    /// Reads one preset; `file` is for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, Error> {
        let raw: raw::Preset = serde_saphyr::from_str(text).map_err(|error| Error::Syntax {
            file: file.to_owned(),
            problem: error.to_string(),
        })?;
        raw.checked().map_err(|(field, problem)| Error::Field {
            file: file.to_owned(),
            field,
            problem,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its numbers come from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// What to tell people whose server does not show the series.
    pub fn enable_hint(&self) -> &str {
        &self.enable_hint
    }

    /// Oldest age, milliseconds, at which a number of this role is fresh. `None` if the preset has no such role.
    pub fn freshness_ms(&self, role: Role) -> Option<u64> {
        self.signal(role).map(|signal| signal.freshness_ms)
    }

    /// Oldest age at which an answer as a whole is fresh: the strictest among the roles a pod must report.
    pub fn answer_freshness_ms(&self) -> u64 {
        self.required()
            .filter_map(|role| self.freshness_ms(role))
            .min()
            .unwrap_or_default()
    }

    /// The roles that a pod must report for its answer to count.
    pub fn required(&self) -> impl Iterator<Item = Role> {
        Role::ALL
            .into_iter()
            .filter(|role| self.signal(*role).is_some_and(|signal| !signal.optional))
    }

    /// Whether waiting work can be seen, without which a stage must not go to zero replicas.
    pub fn sees_waiting(&self) -> bool {
        self.signal(Role::Queued).is_some()
    }

    /// How numbers of this role are combined over pods. `None` if the preset has no such role.
    pub fn across_pods(&self, role: Role) -> Option<Combine> {
        self.signal(role).map(|signal| signal.across_pods)
    }

    /// The first of a role's alternatives; all of them agree on what is asked of it here.
    fn signal(&self, role: Role) -> Option<&Signal> {
        self.signals.iter().find(|signal| signal.role == role)
    }
}

/// Presets as written, before they are checked.
mod raw {
    use super::{BTreeMap, Combine, Deserialize, Kind, Role, Selection, Source, Type};

    const NAME_MAX: usize = 40;
    const TEXT_MAX: usize = 200;
    const SIGNALS_MAX: usize = 32;
    const FRESHNESS_MS: std::ops::RangeInclusive<u64> = 1_000..=600_000;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    pub(super) struct Preset {
        name: String,
        source: Source,
        enable_hint: String,
        signals: Vec<Signal>,
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
}
