//! Which series of which server mean what, as data: one YAML file per server under `presets/`.
//!
//! The files are part of the binary, parsed and checked once; [`load`] at start reports the field at fault. No server
//! is known by name here.

mod raw;
mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use serde::Deserialize;

use super::prometheus::template::Per;
use super::sources;

pub(super) use raw::duration_ms;
pub(super) use read::of_request;

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

static LOADED: LazyLock<Result<Vec<Preset>, Error>> = LazyLock::new(|| {
    let mut presets: Vec<Preset> = FILES
        .iter()
        .map(|(file, text)| Preset::parse(file, text))
        .collect::<Result<_, _>>()?;
    presets.extend(sources::shipped()?);
    Ok(presets)
});

/// Presets that the administrators' sources add, for as long as the process lives.
static ADDED: OnceLock<Vec<Preset>> = OnceLock::new();

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
pub(super) enum Kind {
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
    frozen_after: u32,
    signals: Vec<Signal>,
}

/// Whether a file of this name is one of the presets that pods are read with.
pub(super) fn is_file(name: &str) -> bool {
    FILES.iter().any(|(file, _)| *file == name)
}

/// Makes the presets of the administrators' sources known; to be called once, at start. Their names are free: the
/// configuration was checked for that.
pub fn add<'a>(presets: impl Iterator<Item = &'a Preset>) {
    // A second call changes nothing: pipelines hold on to the presets of the first.
    let _ = ADDED.set(presets.cloned().collect());
}

/// Checks the presets of this binary; to be called at start, so that a broken one is found before it is needed.
pub fn load() -> Result<&'static [Preset], Error> {
    LOADED.as_deref().map_err(Clone::clone)
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
            },
            over: None,
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
            signals: signals.collect(),
        }
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
