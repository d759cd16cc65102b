//! The custom resources of `tiercel.dev/v1alpha1`: their types, their schema and their admission rules.
//!
//! The types are the single source: `tiercel crd` prints the manifests in `crds/` from them. Nothing here talks to a
//! cluster.
#![allow(unreachable_pub, reason = "kube's schema derive repeats each type inside a function")]

pub mod compute_pool;
pub mod conditions;
pub mod container;
pub mod decimal;
pub mod json_schema;
pub mod labels;
pub mod names;
pub mod reference;
mod rules;
pub mod schema;
pub mod stage;
pub mod tiered_pipeline;

#[cfg(test)]
mod tests;

pub use compute_pool::{ComputePool, ComputePoolSpec, ComputePoolStatus};
pub use stage::Stage;
pub use tiered_pipeline::{TieredPipeline, TieredPipelineSpec, TieredPipelineStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// API group of both kinds.
pub const GROUP: &str = "tiercel.dev";
/// The one served and stored version.
pub const VERSION: &str = "v1alpha1";

/// Both definitions, as installed: what kube derives, made conventional by [`schema::normalise`].
///
/// # Errors
/// When a derived schema is not valid JSON for a definition; a defect of the types, caught by a test.
pub fn crds() -> Result<Vec<CustomResourceDefinition>, serde_json::Error> {
    [ComputePool::crd(), TieredPipeline::crd()]
        .into_iter()
        .map(schema::normalise)
        .collect()
}
