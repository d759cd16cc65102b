//! Pipelines: read, validate, build, write, report. Five steps, five files; this is the driver.

pub mod apply;
pub mod build;
pub mod ceilings;
pub mod compare;
pub mod dereference;
pub mod placement;
pub mod status;
pub mod validate;
pub mod validated;
pub mod verdict;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Client, Resource as _, ResourceExt};
use tokio::sync::{mpsc, watch};

use super::clock::Clock;
use super::events::Events;
use super::outcome::{self, Outcome, Outcomes};
use super::own_writes::OwnWrites;
use super::pools::Look;
use super::rebalancer::Notice;
use super::report::Views;
use super::spans;
use super::status_write;
use super::stores::Stores;
use crate::api::{TieredPipeline, TieredPipelineStatus, conditions};
use crate::telemetry::Metrics;

/// What passes share.
pub struct Context {
    /// Client of the reconcilers.
    pub client: Client,
    /// The watched world.
    pub stores: Stores,
    /// Tells the rebalancer which Deployments it need not wait for.
    pub notices: mpsc::UnboundedSender<Notice>,
    /// The latest look at the pools.
    pub look: watch::Receiver<Arc<Look>>,
    /// What the rebalancer knows.
    pub views: Views,
    /// Tells people.
    pub events: Events,
    /// Statuses on their way to the store.
    pub own: OwnWrites<TieredPipelineStatus>,
    /// Counts passes and backs off.
    pub outcomes: Outcomes,
    /// Shows the conditions.
    pub metrics: Metrics,
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
    #[error("cannot write the status: {0}")]
    Status(#[from] status_write::Error),
}

/// One pass over one pipeline, counted, and isolated from all others.
///
/// # Errors
/// When the pass failed; it is repeated with back-off.
pub async fn pass(
    object: Arc<DeserializeGuard<TieredPipeline>>,
    ctx: Arc<Context>,
) -> Result<Action, outcome::Error<Error>> {
    let uid = object.uid().unwrap_or_default();
    let (outcomes, span) = (ctx.outcomes.clone(), spans::pass("pipeline", object.meta()));
    let pass = Box::pin(outcomes.run("pipeline", &uid, reconcile(object, ctx)));
    spans::within(span, pass).await
}

/// Five steps. The driver has no opinion of its own.
async fn reconcile(object: Arc<DeserializeGuard<TieredPipeline>>, ctx: Arc<Context>) -> Result<Outcome, Error> {
    let raw = object
        .0
        .as_ref()
        .map_err(|invalid| Error::Malformed(invalid.to_string()))?;
    if raw.metadata.deletion_timestamp.is_some() {
        // Owner references take the children away; there is no finalizer to wait for us.
        return Ok(Outcome::Skipped);
    }
    let mut look = Arc::clone(&ctx.look.borrow());
    if !look.knows_all(&ctx.stores.pools.state()) {
        look = Arc::new(Look::at(&ctx.stores));
    }
    let found = dereference::dereference(&ctx.stores, &look, ctx.allow_secrets, raw);
    let valid = validate::validate(raw, &found);
    let desired = build::build(&valid);
    let report = apply::apply(&ctx.client, desired, &found).await?;
    for name in report.refused_deployments() {
        // Nobody listens any more where leadership has just ended.
        let _ = ctx
            .notices
            .send(Notice::Refused((valid.id.namespace.clone(), name.to_owned())));
    }
    let view = ctx.views.get(&valid.id.uid);
    let now = Time(ctx.clock.wall());
    let own = ctx.own.after(&raw.metadata);
    let previous = own.as_ref().or(raw.status.as_ref());
    let status = status::compute_status(&valid, &report, view.as_deref(), previous, &now);
    ctx.metrics.set_conditions(
        &valid.id.namespace,
        &valid.id.name,
        conditions::verdicts(&status.conditions),
    );
    status::tell(&ctx.events, raw, (previous, &status), view.as_deref());
    let pending = verdict::is_pending(&status);
    let told = previous == Some(&status) || status::write(&ctx.client, raw, status, &ctx.own).await?;
    Ok(if report.refused.is_empty() && !pending && told {
        Outcome::Applied
    } else {
        Outcome::Waiting
    })
}

/// What happens after a failed pass.
#[expect(clippy::needless_pass_by_value, reason = "the controller hands over what it owns")]
pub fn error_policy(
    object: Arc<DeserializeGuard<TieredPipeline>>,
    error: &outcome::Error<Error>,
    ctx: Arc<Context>,
) -> Action {
    let name = object.name_any();
    tracing::warn!(controller = "pipeline", namespace = object.namespace(), name, %error, "a pass failed");
    match error {
        // Only its author can help.
        outcome::Error::Failed(Error::Malformed(_)) => Action::await_change(),
        outcome::Error::Failed(Error::Apply(_) | Error::Status(_)) | outcome::Error::Panicked(_) => {
            ctx.outcomes.retry(&object.uid().unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod pass_tests;
#[cfg(test)]
mod situations;
#[cfg(test)]
mod tests;
