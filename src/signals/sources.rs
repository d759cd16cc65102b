//! What administrators say about sources other than the pods themselves: endpoints, queries and metrics of the API server,
//! each query a preset that pipelines may name.
//!
//! Endpoint and credential live together here and nowhere else; the authors' API has neither.

mod raw;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use super::adapters::{CustomMetric, ExternalMetric};
use super::presets::{self, Combine, Kind, Preset, Role, Source};
use super::prometheus::client::{self, check_files};
use super::prometheus::endpoint::Endpoint;
use super::prometheus::question::Signal;
use super::prometheus::template::Per;
use super::{Finite, Why};
use crate::files;

/// Largest configuration.
const FILE_MAX: u64 = 1 << 20;

/// File name and text of the presets that are read from Prometheus and ship with the program.
const SHIPPED: [(&str, &str); 2] = [
    ("dcgm.yaml", include_str!("presets/dcgm.yaml")),
    ("psi.yaml", include_str!("presets/psi.yaml")),
];

type Shipped = Vec<(Preset, Ask)>;

static LOADED: LazyLock<Result<Shipped, Error>> =
    LazyLock::new(|| SHIPPED.iter().map(|(file, text)| raw::shipped(file, text)).collect());

/// Why a configuration of sources is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("sources file {}: {problem}; check --sources and what is mounted there", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        problem: String,
    },
    /// Not YAML, or not of this shape.
    #[error("sources file {file}: {problem}")]
    Syntax {
        /// The file.
        file: String,
        /// What the parser says, with line and field.
        problem: String,
    },
    /// A field with a value that cannot work.
    #[error("sources file {file}, line {line}: {field}: {problem}")]
    Field {
        /// The file.
        file: String,
        /// Counted from 1.
        line: u64,
        /// Path of the field, such as `queries[1].freshness`.
        field: String,
        /// What is allowed.
        problem: String,
    },
    /// A token or a bundle of roots that an endpoint names cannot be used.
    #[error("sources file {file}: prometheus endpoint {endpoint}: {problem}")]
    Credential {
        /// The file.
        file: String,
        /// Name of the endpoint.
        endpoint: String,
        /// Why.
        problem: String,
    },
}

/// Unit of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// Things, from 0.
    Count,
    /// 0 to 1.
    Ratio,
    /// 0 to 100.
    Percent,
    /// Requests per second, from 0.
    PerSecond,
}

impl Unit {
    /// Converts to the unit of the role, then checks the range.
    ///
    /// # Errors
    /// The number is negative or in another unit.
    pub fn converted(self, raw: Finite) -> Result<Finite, Why> {
        let kind = match self {
            // Of a rate no more is known than of a count.
            Self::Count | Self::PerSecond => Kind::Count,
            Self::Ratio => Kind::Ratio,
            Self::Percent => Kind::Percent,
        };
        kind.converted(raw.get()).and_then(Finite::try_from)
    }
}

/// What is asked for a preset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Queries to the endpoint with this index. The index of a preset that ships counts for nothing: see [`Sources::ask`].
    Queries {
        /// In [`Sources::endpoints`].
        endpoint: usize,
        /// For whom they answer.
        per: Per,
        /// What they answer.
        signals: Vec<Signal>,
    },
    /// `custom.metrics.k8s.io`, per pod.
    CustomMetrics(Vec<CustomMetric>),
    /// `external.metrics.k8s.io`, per stage.
    ExternalMetrics(Vec<ExternalMetric>),
}

/// A checked configuration. Without a file there are no endpoints, and what would be read there has no target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Prometheus-compatible servers.
    pub endpoints: Vec<Arc<Endpoint>>,
    presets: BTreeMap<String, (Preset, Ask)>,
    /// Endpoint of each preset that ships and is told where to be read.
    shipped: BTreeMap<String, usize>,
}

impl Sources {
    /// Reads the configuration, and tries the files that it names.
    ///
    /// # Errors
    /// What is wrong, with file, line and field.
    pub fn load(file: &Path) -> Result<Self, Error> {
        use std::io::Read as _;
        let failed = |error: std::io::Error| Error::File {
            file: file.to_owned(),
            problem: files::said(&error),
        };
        let mut text = String::new();
        std::fs::File::open(file)
            .map_err(failed)?
            .take(FILE_MAX)
            .read_to_string(&mut text)
            .map_err(failed)?;
        let name = file.display().to_string();
        let sources = Self::parse(&name, &text)?;
        for endpoint in &sources.endpoints {
            check_files(endpoint).map_err(|problem: client::Error| Error::Credential {
                file: name.clone(),
                endpoint: endpoint.name.clone(),
                problem: problem.to_string(),
            })?;
        }
        Ok(sources)
    }

    /// Reads a configuration; `file` is for messages.
    ///
    /// # Errors
    /// What is wrong, with line and field.
    pub fn parse(file: &str, text: &str) -> Result<Self, Error> {
        raw::sources(file, text)
    }

    /// The presets that the configuration adds.
    pub fn presets(&self) -> impl Iterator<Item = &Preset> {
        self.presets.values().map(|(preset, _)| preset)
    }

    /// What is asked for a preset, and at which endpoint if at one. `None` if nothing here answers for it.
    pub fn ask(&self, preset: &str) -> Option<(&Ask, Option<usize>)> {
        if let Some((_, ask)) = self.presets.get(preset) {
            let endpoint = match ask {
                Ask::Queries { endpoint, .. } => Some(*endpoint),
                Ask::CustomMetrics(_) | Ask::ExternalMetrics(_) => None,
            };
            return Some((ask, endpoint));
        }
        let (_, ask) = shipped_asks()?.iter().find(|(known, _)| known.name() == preset)?;
        let endpoint = self.shipped.get(preset).copied().unwrap_or_default();
        (endpoint < self.endpoints.len()).then_some((ask, Some(endpoint)))
    }
}

fn shipped_asks() -> Option<&'static Shipped> {
    LOADED.as_ref().ok()
}

/// The presets that ship and are read from Prometheus.
pub(super) fn shipped() -> Result<Vec<Preset>, presets::Error> {
    match &*LOADED {
        Ok(shipped) => Ok(shipped.iter().map(|(preset, _)| preset.clone()).collect()),
        Err(error) => Err(presets::Error::Syntax {
            file: "of Prometheus".to_owned(),
            problem: error.to_string(),
        }),
    }
}

/// One signal of a preset as the rest of the program sees it.
struct Outline {
    role: Role,
    unit: Unit,
    across_pods: Combine,
    freshness_ms: u64,
    optional: bool,
}

fn preset(name: &str, source: Source, enable_hint: &str, signals: impl Iterator<Item = Outline>) -> Preset {
    Preset::outlined(
        name,
        source,
        enable_hint,
        signals.map(|signal| {
            let kind = match signal.unit {
                Unit::Count | Unit::PerSecond => Kind::Count,
                Unit::Ratio => Kind::Ratio,
                Unit::Percent => Kind::Percent,
            };
            (
                signal.role,
                kind,
                signal.across_pods,
                signal.freshness_ms,
                signal.optional,
            )
        }),
    )
}
