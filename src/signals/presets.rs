//! Which series of which server mean what, as data: one YAML file per server under `presets/`.
//!
//! The files are part of the binary, parsed and checked once; administrators may add a folder of their own. [`load`] at
//! start reports the file, line and field at fault. No server is known by name here.

mod account;
mod folder;
mod raw;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{LazyLock, OnceLock};

use serde::{Deserialize, Serialize};

use super::prometheus::template::Per;
use super::sources;
use crate::yaml;

pub use account::{Account, Part, Series, Used};
pub(super) use raw::duration_ms;
pub(super) use read::of_request;

/// File name and text of each preset.
const FILES: [(&str, &str); 9] = [
    ("cpu.yaml", include_str!("presets/cpu.yaml")),
    ("http.yaml", include_str!("presets/http.yaml")),
    ("llamacpp.yaml", include_str!("presets/llamacpp.yaml")),
    ("rayserve.yaml", include_str!("presets/rayserve.yaml")),
    ("sglang.yaml", include_str!("presets/sglang.yaml")),
    ("tgi.yaml", include_str!("presets/tgi.yaml")),
    ("triton.yaml", include_str!("presets/triton.yaml")),
    ("trtllm.yaml", include_str!("presets/trtllm.yaml")),
    ("vllm.yaml", include_str!("presets/vllm.yaml")),
];

static SHIPPED: LazyLock<Result<Vec<Preset>, Error>> = LazyLock::new(|| {
    let mut presets: Vec<Preset> = FILES
        .iter()
        .map(|(file, text)| Preset::parse(file, text))
        .collect::<Result<_, _>>()?;
    presets.extend(sources::shipped()?);
    Ok(presets)
});

/// Presets that the administrators' sources add, for as long as the process lives.
static ADDED: OnceLock<Vec<Preset>> = OnceLock::new();

/// What ships, with an administrator's folder: set once, at start.
static KNOWN: OnceLock<Vec<Preset>> = OnceLock::new();

/// Why a preset is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The folder, or a file of it, cannot be read.
    #[error("presets {path}: {problem}")]
    Folder {
        /// The folder or file.
        path: String,
        /// What the system says, or what to change.
        problem: String,
    },
    /// Not YAML, or not of a preset's shape.
    #[error("preset file {file}: {problem}")]
    Syntax {
        /// The file.
        file: String,
        /// What the parser says, with the place.
        problem: String,
    },
    /// A field with a value that cannot work.
    #[error("preset file {file}, line {line}: {field}: {problem}")]
    Field {
        /// The file.
        file: String,
        /// Line of the field, or of what it belongs to, from 1.
        line: u64,
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
    /// A Prometheus-compatible server, by the queries that [`sources`] holds.
    #[serde(skip_deserializing)]
    Prometheus(Per),
    /// `custom.metrics.k8s.io`, per pod.
    #[serde(skip_deserializing)]
    CustomMetrics,
    /// `external.metrics.k8s.io`, per stage.
    #[serde(skip_deserializing)]
    ExternalMetrics,
}

/// What the core uses a signal for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
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
    /// How long requests take, from counters of time and requests.
    Latency,
}

impl Role {
    /// All of them, in the order in which people ask for them.
    pub const ALL: [Self; 6] = [
        Self::Queued,
        Self::Running,
        Self::CacheUse,
        Self::Utilization,
        Self::Throughput,
        Self::Latency,
    ];

    /// The word in preset files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::CacheUse => "cacheUse",
            Self::Utilization => "utilization",
            Self::Throughput => "throughput",
            Self::Latency => "latency",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Type {
    Gauge,
    Counter,
    /// Of its series `_count` counts requests and `_sum` their time; buckets are not read.
    Histogram,
}

/// Unit of a series. Each has its converter and its range in `read.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Things, from 0.
    Count,
    /// 0 to 1.
    Ratio,
    /// 0 to 100.
    Percent,
    /// 0 to 100 times the pod's request: may be exceeded, unlike a ratio.
    OfRequest,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milli,
    /// Microseconds.
    Micros,
}

impl Kind {
    /// The word in preset files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Ratio => "ratio",
            Self::Percent => "percent",
            Self::OfRequest => "ofRequest",
            Self::Seconds => "seconds",
            Self::Milli => "milli",
            Self::Micros => "micros",
        }
    }

    const fn is_time(self) -> bool {
        matches!(self, Self::Seconds | Self::Milli | Self::Micros)
    }
}

/// How series of one pod, or pods of one variant, become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Combine {
    /// Add them up.
    Sum,
    /// The largest.
    Max,
    /// Their mean.
    Avg,
}

impl Combine {
    /// The word in preset files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Avg => "avg",
        }
    }
}

/// A metric and the labels that a series of it must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selection {
    names: Vec<String>,
    labels: BTreeMap<String, String>,
    exclude: Exclude,
}

/// Series to leave out: those in which one of these labels has one of these values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Exclude {
    labels: Vec<String>,
    values: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signal {
    role: Role,
    of: Selection,
    over: Option<Selection>,
    /// Series that differ in this label are different things: each is combined by itself, then all are added up.
    per: Option<String>,
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
    frozen_after: u32,
    /// Stands for the shipped preset of its name.
    replaces: bool,
    signals: Vec<Signal>,
}

/// Whether a file of this name is one of the presets that pods are read with.
pub(super) fn is_file(name: &str) -> bool {
    FILES.iter().any(|(file, _)| *file == name)
}

/// Makes the presets of the administrators' sources known; to be called once, at start, after [`load`] or [`load_with`].
///
/// # Errors
/// As [`load`], and when a preset of that name is known already.
pub fn add<'a>(presets: impl Iterator<Item = &'a Preset>) -> Result<(), Error> {
    let known = load()?;
    let added: Vec<Preset> = presets.cloned().collect();
    if let Some(twice) = added.iter().find(|new| known.iter().any(|old| old.name == new.name)) {
        return Err(Error::Folder {
            path: "of --sources".to_owned(),
            problem: format!("there is another preset {}: use another name", twice.name),
        });
    }
    // A second call changes nothing: pipelines hold on to the presets of the first.
    let _ = ADDED.set(added);
    Ok(())
}

/// Checks the presets; to be called at start, so that a broken one is found before it is needed.
///
/// # Errors
/// The file, line and field of the first preset that cannot work.
pub fn load() -> Result<&'static [Preset], Error> {
    let shipped = SHIPPED.as_deref().map_err(Clone::clone)?;
    Ok(KNOWN.get().map_or(shipped, Vec::as_slice))
}

/// As [`load`], with the presets of an administrator's folder, one YAML file each. The folder counts from then on for the
/// whole process; naming another one later changes nothing.
///
/// # Errors
/// As [`load`], and when the folder cannot be read.
pub fn load_with(folder: &Path) -> Result<&'static [Preset], Error> {
    let shipped = SHIPPED.as_deref().map_err(Clone::clone)?;
    let all = folder::merged(shipped, &folder::files(folder)?)?;
    Ok(KNOWN.get_or_init(|| all))
}

/// Names of all presets, for messages: `'cpu', 'vllm' or …`, in the order of the alphabet.
pub fn names() -> String {
    let known = load()
        .unwrap_or_default()
        .iter()
        .chain(ADDED.get().into_iter().flatten());
    let mut names: Vec<_> = known.map(|preset| format!("'{}'", preset.name)).collect();
    names.sort_unstable();
    let last = names.pop().unwrap_or_default();
    if names.is_empty() {
        last
    } else {
        format!("{} or {last}", names.join(", "))
    }
}

impl Preset {
    /// The preset of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        let added = ADDED.get().into_iter().flatten();
        load().ok()?.iter().chain(added).find(|preset| preset.name == name)
    }

    /// A preset whose numbers are asked for elsewhere: of each signal role, unit, how pods are combined, freshness in
    /// milliseconds and whether it is optional. The caller has checked them.
    pub(super) fn outlined(
        name: &str,
        source: Source,
        enable_hint: &str,
        signals: impl Iterator<Item = (Role, Kind, Combine, u64, bool)>,
    ) -> Self {
        let signals = signals.map(|(role, kind, across_pods, freshness_ms, optional)| Signal {
            role,
            of: Selection {
                names: Vec::new(),
                labels: BTreeMap::new(),
                exclude: Exclude::default(),
            },
            over: None,
            per: None,
            kind,
            within_pod: Combine::Sum,
            across_pods,
            freshness_ms,
            optional,
        });
        Self {
            name: name.to_owned(),
            source,
            enable_hint: enable_hint.to_owned(),
            frozen_after: raw::frozen_after(),
            replaces: false,
            signals: signals.collect(),
        }
    }

    /// Reads one preset; `file` is for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, Error> {
        let raw: raw::Preset = yaml::only(text).map_err(|broken| Error::Syntax {
            file: file.to_owned(),
            problem: broken.to_string(),
        })?;
        raw.checked()
            .map_err(|(field, problem)| folder::field_error(file, text, field, problem))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its numbers come from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Whether its numbers speak of a stage as a whole, and of none of its pods.
    pub fn is_of_stages(&self) -> bool {
        matches!(self.source, Source::Prometheus(Per::Stage) | Source::ExternalMetrics)
    }

    /// What to tell people whose server does not show the series.
    pub fn enable_hint(&self) -> &str {
        &self.enable_hint
    }

    /// So many identical answers in a row, from a pod that claims to work, are not believed.
    pub fn frozen_after(&self) -> u32 {
        self.frozen_after
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
