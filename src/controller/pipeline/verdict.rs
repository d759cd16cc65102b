//! Pure: conditions and messages. The order of the checks is the order of importance to a reader.

mod aspects;
mod words;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::SignedDuration;

pub use self::aspects::hold_text;
use self::aspects::{
    balanced, capacity_available, preferred_tier, says, signals_available, unlooked, within_budget, within_objective,
};
use self::words::no_pool;
pub use self::words::{dry_pools, stage_message};
use super::super::report::{Foreign, PipelineView};
use super::apply::{self, Report};
use super::status::running;
use super::validated::{Claim, Exclusion, Permission, StagePool, ValidatedPipeline, ValidatedStage};
use crate::api::TieredPipelineStatus;
use crate::api::conditions::{New, Reason, Status, Type};
use crate::api::tiered_pipeline::Mode;

/// How long a new pipeline waits for the pools that were created with it: the two kinds are watched apart, and who waits for
/// a pipeline may take the first `Stalled` for the last word.
const POOLS_FOLLOW: SignedDuration = SignedDuration::from_secs(2);

/// How the pipeline is, in one word and one sentence, and what kstatus calls it.
struct Summary {
    ready: Status,
    reason: Reason,
    message: String,
    reconciling: bool,
    stalled: bool,
}

/// Every condition that is to be set. `previous`: what the status said before this pass.
pub fn conditions(
    valid: &ValidatedPipeline,
    report: &Report,
    view: Option<&PipelineView>,
    previous: Option<&TieredPipelineStatus>,
    now: &Time,
) -> Vec<New> {
    let Summary {
        ready,
        reason,
        message,
        reconciling,
        stalled,
    } = summary(valid, report, view, previous, now);
    let new = |type_, status, reason, message: String| New {
        type_,
        status,
        reason,
        message,
    };
    let mut all = vec![new(Type::Ready, ready, reason, message.clone())];
    if reconciling {
        all.push(new(Type::Reconciling, Status::True, reason, message.clone()));
    }
    if stalled {
        all.push(new(Type::Stalled, Status::True, reason, message));
    }
    all.extend([within_budget(valid, view), preferred_tier(valid)]);
    match view {
        Some(view) => all.extend([signals_available(view), capacity_available(view), balanced(valid, view)]),
        // A restarted operator has not looked yet; what it saw before stands until it has.
        None => all.extend(unlooked().into_iter().filter(|new| !says(previous, new.type_))),
    }
    let objective = within_objective(valid, view);
    all.extend(objective.filter(|new| view.is_some() || !says(previous, new.type_)));
    all
}

/// The conditions that must not be there: of kstatus what does not hold, and what nobody asked for.
pub fn absent(
    valid: &ValidatedPipeline,
    report: &Report,
    view: Option<&PipelineView>,
    previous: Option<&TieredPipelineStatus>,
    now: &Time,
) -> Vec<Type> {
    let summary = summary(valid, report, view, previous, now);
    let held = [
        (Type::Reconciling, summary.reconciling),
        (Type::Stalled, summary.stalled),
        (Type::WithinObjective, valid.objective.is_some()),
    ];
    held.into_iter()
        .filter(|(_, held)| !held)
        .map(|(type_, _)| type_)
        .collect()
}

#[expect(
    clippy::too_many_lines,
    reason = "one check after the other, in order of importance to a reader"
)]
fn summary(
    valid: &ValidatedPipeline,
    report: &Report,
    view: Option<&PipelineView>,
    previous: Option<&TieredPipelineStatus>,
    now: &Time,
) -> Summary {
    let stalled = |reason, message: String| Summary {
        ready: Status::False,
        reason,
        message,
        reconciling: false,
        stalled: true,
    };
    let waiting = |ready, reason, message: String| Summary {
        ready,
        reason,
        message,
        reconciling: true,
        stalled: false,
    };
    if let Some(refusal) = valid.refusals.first() {
        let reason = if valid.stages.is_empty() {
            Reason::Invalid
        } else {
            Reason::Refused
        };
        return stalled(reason, more(refusal.to_string(), valid.refusals.len()));
    }
    let taken = valid
        .stages
        .iter()
        .flat_map(|stage| &stage.excluded)
        .find_map(|(_, why)| match why {
            Exclusion::NameTaken(name) => Some(name),
            _ => None,
        });
    if let Some(name) = taken {
        return stalled(
            Reason::NameTaken,
            format!("a Deployment named '{name}' exists and is not tiercel's: rename or delete it"),
        );
    }
    if let Some(stage) = valid
        .stages
        .iter()
        .find(|stage| stage.pools.iter().all(|pool| pool.fit.is_none()))
    {
        if awaits_pools(previous, now) {
            return waiting(Status::Unknown, Reason::Pending, no_pool(stage));
        }
        // Only a pool that would do otherwise counts as closed.
        let closed = stage.excluded.iter().any(|(_, why)| matches!(why, Exclusion::Closed))
            && !stage
                .excluded
                .iter()
                .any(|(_, why)| matches!(why, Exclusion::PoolProblem(_)));
        return stalled(
            if closed {
                Reason::PoolClosed
            } else {
                Reason::NoPoolMatches
            },
            no_pool(stage),
        );
    }
    if let Some(refused) = report.refused.iter().find(|refused| !refused.transient) {
        let reason = if refused.message == apply::TAKEN {
            Reason::NameTaken
        } else {
            Reason::ChildRefused
        };
        return stalled(
            reason,
            format!("{} '{}' was refused: {}", refused.kind, refused.name, refused.message),
        );
    }
    let foreign = view
        .into_iter()
        .flat_map(|view| view.stages.iter())
        .find_map(|(name, stage)| match &stage.foreign {
            Some(Foreign::Autoscaler(manager)) => Some((name, manager)),
            _ => None,
        });
    if let Some((name, manager)) = foreign {
        let message =
            format!("the replicas of stage '{name}' are owned by '{manager}': remove that autoscaler, or the stage");
        return Summary {
            ready: Status::False,
            reason: Reason::ReplicasOwnedElsewhere,
            message,
            reconciling: false,
            stalled: false,
        };
    }
    let unseen = valid.stages.iter().flat_map(unseen).count();
    if unseen > 0 {
        return waiting(
            Status::Unknown,
            Reason::Pending,
            format!("{unseen} Deployments are being created"),
        );
    }
    let written = |pool: &StagePool| {
        report
            .written
            .iter()
            .any(|(kind, name)| kind == "Deployment" && name == &pool.child)
    };
    if let Some((stage, pool)) = each_pool(valid).find(|(_, pool)| written(pool) && running(pool).desired > 0) {
        let message = format!("stage '{}' is rolling out on pool '{}'", stage.name, pool.pool);
        return waiting(Status::False, Reason::RollingOut, message);
    }
    if let Some(stage) = valid
        .stages
        .iter()
        .find(|stage| ready(stage) < stage.min.max(u32::from(desired(stage) > 0)))
    {
        if let Some(refused) = stage.pools.iter().find_map(replica_failure) {
            let message = format!(
                "stage '{}': {} of at least {} replicas are Ready: {refused}",
                stage.name,
                ready(stage),
                stage.min.max(1)
            );
            return waiting(Status::False, Reason::ChildRefused, message);
        }
        let short = view
            .and_then(|view| view.stages.get(&stage.name))
            .is_some_and(|view| view.short);
        let (reason, why) = if short {
            (Reason::NoCapacity, "no pool has room for more")
        } else {
            (Reason::RollingOut, "waiting for pods")
        };
        let message = format!(
            "stage '{}': {} of at least {} replicas are Ready, {why}",
            stage.name,
            ready(stage),
            stage.min.max(1)
        );
        return waiting(Status::False, reason, message);
    }
    if let Some((stage, pool)) = each_pool(valid).find(|(_, pool)| {
        let running = running(pool);
        running.outdated || running.lagging && running.desired > 0 && settling(valid, previous)
    }) {
        let message = format!("stage '{}' is rolling out on pool '{}'", stage.name, pool.pool);
        return waiting(Status::False, Reason::RollingOut, message);
    }
    let reason = if valid.mode == Permission::Mode(Mode::Paused) {
        Reason::Paused
    } else {
        Reason::AsDeclared
    };
    let message = match valid.stages.len() {
        1 => "the stage serves".to_owned(),
        n => format!("all {n} stages serve"),
    };
    Summary {
        ready: Status::True,
        reason,
        message,
        reconciling: false,
        stalled: false,
    }
}

/// Whether nothing has been said of the pipeline yet, but for what a first look brings.
fn awaits_pools(previous: Option<&TieredPipelineStatus>, now: &Time) -> bool {
    let mut conditions = previous.into_iter().flat_map(|status| &status.conditions);
    let ready = conditions.find(|condition| condition.type_ == Type::Ready.as_str());
    ready.is_none_or(|ready| {
        let age = now.0.duration_since(ready.last_transition_time.0).abs();
        ready.status == Status::Unknown.as_str() && age < POOLS_FOLLOW
    })
}

/// Whether a pass waits for pools that may be there in a moment, and should look again.
pub fn is_pending(status: &TieredPipelineStatus) -> bool {
    let pending =
        |condition: &Condition| condition.type_ == Type::Ready.as_str() && condition.reason == Reason::Pending.as_str();
    status.conditions.iter().any(pending)
}

/// Whether a roll-out may be under way that the Deployments' status does not show yet. It lags behind a change of
/// replicas as well, which is no roll-out: a pipeline that has served this spec before goes on serving.
fn settling(valid: &ValidatedPipeline, previous: Option<&TieredPipelineStatus>) -> bool {
    previous.is_none_or(|previous| {
        let reconciling = |condition: &Condition| condition.type_ == Type::Reconciling.as_str();
        previous.observed_generation != valid.generation || previous.conditions.iter().any(reconciling)
    })
}

/// Deployments that must be there before the stage can serve. One more, of a pool that is new, starts empty and keeps
/// nobody waiting.
fn unseen(stage: &ValidatedStage) -> impl Iterator<Item = &StagePool> {
    let first = stage.pools.iter().all(|pool| pool.live.is_none());
    let missing = stage
        .pools
        .iter()
        .filter(|pool| pool.fit.is_some() && pool.live.is_none());
    missing.filter(move |pool| first || pool.claim != Claim::Create(0))
}

/// What the cluster says to the pods of a Deployment that cannot be created: a quota, an admission plug-in.
fn replica_failure(pool: &StagePool) -> Option<&str> {
    pool.live.as_ref()?.facts.failure.as_deref()
}

fn each_pool(valid: &ValidatedPipeline) -> impl Iterator<Item = (&ValidatedStage, &StagePool)> {
    valid
        .stages
        .iter()
        .flat_map(|stage| stage.pools.iter().map(move |pool| (stage, pool)))
}

fn desired(stage: &ValidatedStage) -> u32 {
    stage.pools.iter().map(|pool| running(pool).desired).sum()
}

fn ready(stage: &ValidatedStage) -> u32 {
    stage.pools.iter().map(|pool| running(pool).ready).sum()
}

fn more(first: String, count: usize) -> String {
    if count > 1 {
        format!("{first} (and {} more)", count - 1)
    } else {
        first
    }
}
