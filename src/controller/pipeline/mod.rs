//! Pipelines: read, validate, build, write, report. Five steps, five files; this is the driver.

pub mod apply;
pub mod build;
pub mod compare;
pub mod dereference;
pub mod placement;
pub mod status;
pub mod validate;
pub mod validated;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt};
use tokio::sync::watch;

use super::clock::Clock;
use super::pools::Look;
use super::report::Views;
use super::stores::Stores;
use crate::api::TieredPipeline;

/// A pass that left something open is repeated after so long, if nothing wakes it sooner.
const RETRY: Duration = Duration::from_secs(15);
/// Nothing is trusted to wake us for ever.
const REPEAT_SECONDS: u64 = 240;
/// Passes are spread over so many seconds more.
const SPREAD_SECONDS: u64 = 60;

/// What passes share.
pub struct Context {
    /// Client of the reconcilers.
    pub client: Client,
    /// The watched world.
    pub stores: Stores,
    /// The latest look at the pools.
    pub look: watch::Receiver<Arc<Look>>,
    /// What the rebalancer knows.
    pub views: Views,
    /// The clock; here for display only.
    pub clock: Clock,
    /// Whether containers may name secrets.
    pub allow_secrets: bool,
}

/// A pass failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object cannot be decoded; only its author can help.
    #[error("the pipeline cannot be read: {0}")]
    Malformed(String),
    /// A child could not be written.
    #[error(transparent)]
    Apply(#[from] apply::Error),
    /// The status could not be written.
    #[error(transparent)]
    Status(#[from] status::Error),
}

/// One pass over one pipeline.
///
/// # Errors
/// When the API server cannot be reached; the pass is repeated with back-off.
pub async fn reconcile(object: Arc<DeserializeGuard<TieredPipeline>>, ctx: Arc<Context>) -> Result<Action, Error> {
    let raw = object.0.as_ref().map_err(|invalid| Error::Malformed(invalid.to_string()))?;
    if raw.metadata.deletion_timestamp.is_some() {
        // Owner references take the children away; there is no finalizer to wait for us.
        return Ok(Action::await_change());
    }
    let look = Arc::clone(&ctx.look.borrow());
    let found = dereference::dereference(&ctx.stores, &look, ctx.allow_secrets, raw);
    let valid = validate::validate(raw, &found);
    let desired = build::build(&valid);
    let report = apply::apply(&ctx.client, desired, &found).await?;
    let view = ctx.views.get(&valid.id.uid);
    let now = Time(ctx.clock.wall());
    let status = status::compute_status(&valid, &report, view.as_deref(), raw.status.as_ref(), &now);
    status::update(&ctx.client, raw, status).await?;
    Ok(if report.refused.is_empty() { repeat(raw) } else { Action::requeue(RETRY) })
}

/// Four to five minutes, spread by identity.
fn repeat(raw: &TieredPipeline) -> Action {
    let uid = raw.uid().unwrap_or_default();
    let spread = crate::api::names::key(&[&uid]) % SPREAD_SECONDS;
    Action::requeue(Duration::from_secs(REPEAT_SECONDS + spread))
}
