//! A pipeline as a request sees it.

use serde::Deserialize;

use super::rng::Rng;

/// Most calls that one request may make to one stage.
const MAX_CALLS: u32 = 64;

/// How a stage's traffic finds a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Traffic {
    /// Every ready replica gets the same share, in turn.
    #[default]
    Uniform,
    /// Every ready replica gets a share by its capacity.
    Weighted,
    /// Replicas with a free slot take the oldest waiting call.
    Pull,
}

/// One stage and the edges into it.
#[derive(Clone, Debug, PartialEq)]
pub struct StageRoute {
    /// The stage's name.
    pub name: String,
    /// Stages that must be done first, and how many calls each of their calls makes here on average.
    pub after: Vec<(String, f64)>,
    /// How calls find a replica.
    pub traffic: Traffic,
}

/// Why a route cannot be driven.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There is nothing to call.
    #[error("pipeline {0} has no stages: list at least one")]
    Empty(String),
    /// A stage follows one that is not listed above it.
    #[error("stage {stage} comes after {after}, which is not listed above it: list stages in order")]
    Order {
        /// The stage.
        stage: String,
        /// What it comes after.
        after: String,
    },
    /// The object is not a pipeline.
    #[error("the object is not a TieredPipeline with metadata and spec.stages: {0}")]
    Object(String),
}

/// The stages of a pipeline in order, each after the ones it depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The pipeline as `namespace/name`.
    pub pipeline: String,
    stages: Vec<Resolved>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Resolved {
    pub(super) name: String,
    /// Index of an earlier stage, and calls per call of it.
    pub(super) after: Vec<(usize, f64)>,
    pub(super) traffic: Traffic,
}

impl Route {
    /// A route through these stages; `pipeline` is `namespace/name`. Stages without `after` are called once per request.
    pub fn new(pipeline: impl Into<String>, stages: Vec<StageRoute>) -> Result<Self, RouteError> {
        let pipeline = pipeline.into();
        if stages.is_empty() {
            return Err(RouteError::Empty(pipeline));
        }
        let mut resolved: Vec<Resolved> = Vec::with_capacity(stages.len());
        for stage in stages {
            let mut after = Vec::with_capacity(stage.after.len());
            for (name, calls) in stage.after {
                let Some(index) = resolved.iter().position(|s| s.name == name) else {
                    return Err(RouteError::Order {
                        stage: stage.name,
                        after: name,
                    });
                };
                after.push((index, calls.max(0.0)));
            }
            resolved.push(Resolved {
                name: stage.name,
                after,
                traffic: stage.traffic,
            });
        }
        Ok(Self {
            pipeline,
            stages: resolved,
        })
    }

    /// The route of a `TieredPipeline` object as JSON, as declared (learned fan-outs are not in it).
    pub fn of_pipeline(object: &serde_json::Value) -> Result<Self, RouteError> {
        let raw = Object::deserialize(object).map_err(|e| RouteError::Object(e.to_string()))?;
        let mut stages = Vec::with_capacity(raw.spec.stages.len());
        for stage in raw.spec.stages {
            let mut after = Vec::with_capacity(stage.after.len());
            for edge in stage.after {
                let calls = edge.calls_per_request.as_deref().unwrap_or("1");
                let calls = calls.parse().map_err(|_| {
                    RouteError::Object(format!(
                        "callsPerRequest of stage {} is not a decimal: {calls}",
                        stage.name
                    ))
                })?;
                after.push((edge.stage, calls));
            }
            stages.push(StageRoute {
                name: stage.name,
                after,
                traffic: stage.traffic,
            });
        }
        let namespace = raw.metadata.namespace.as_deref().unwrap_or("default");
        Self::new(format!("{namespace}/{}", raw.metadata.name), stages)
    }

    /// Names of the stages, in order.
    pub fn stage_names(&self) -> impl Iterator<Item = &str> {
        self.stages.iter().map(|s| s.name.as_str())
    }

    pub(super) fn stages(&self) -> &[Resolved] {
        &self.stages
    }

    /// How often request number `request` calls each stage, in order. Fractions are drawn from `seed`, per request and
    /// edge, so that the same request makes the same calls in every run.
    pub fn calls(&self, seed: u64, request: u64) -> Vec<u32> {
        let mut rng = Rng::for_item(seed, request);
        let mut calls: Vec<u32> = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            let count = if stage.after.is_empty() {
                1
            } else {
                let of = |(from, per_call): &(usize, f64)| {
                    let upstream = calls.get(*from).copied().unwrap_or(0);
                    rng.round(f64::from(upstream) * per_call)
                };
                stage.after.iter().map(of).fold(0_u32, u32::saturating_add)
            };
            calls.push(count.min(MAX_CALLS));
        }
        calls
    }
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct Spec {
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
struct Stage {
    name: String,
    #[serde(default)]
    after: Vec<Edge>,
    #[serde(default)]
    traffic: Traffic,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edge {
    stage: String,
    calls_per_request: Option<String>,
}
