//! Pure: conditions and messages. The order of the checks is the order of importance to a reader.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::super::report::{Foreign, PipelineView, Signals, StageView};
use super::apply::{self, Report};
use super::status::{cost_micros, running};
use super::validated::{Claim, Exclusion, Permission, StagePool, ValidatedPipeline, ValidatedStage};
use crate::api::TieredPipelineStatus;
use crate::api::conditions::{New, Reason, Status, Type};
use crate::api::decimal::money;
use crate::api::tiered_pipeline::Mode;
use crate::rebalance::decision::{HoldReason, NotUsed};
use crate::rebalance::world::DryReason;

/// Reasons why pools are of no use that a message names, and pools that it names for each.
const REASONS_MAX: usize = 4;
const POOLS_MAX: usize = 4;

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
) -> Vec<New> {
    let Summary {
        ready,
        reason,
        message,
        reconciling,
        stalled,
    } = summary(valid, report, view, previous);
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
    all.extend([within_budget(valid), preferred_tier(valid)]);
    match view {
        Some(view) => all.extend([signals_available(view), capacity_available(view), balanced(valid, view)]),
        // A restarted operator has not looked yet; what it saw before stands until it has.
        None => all.extend(unlooked().into_iter().filter(|new| !says(previous, new.type_))),
    }
    all
}

/// The kstatus conditions that do not hold and must not be there.
pub fn absent(
    valid: &ValidatedPipeline,
    report: &Report,
    view: Option<&PipelineView>,
    previous: Option<&TieredPipelineStatus>,
) -> Vec<Type> {
    let summary = summary(valid, report, view, previous);
    let held = [
        (Type::Reconciling, summary.reconciling),
        (Type::Stalled, summary.stalled),
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
        .flat_map(|view| &view.stages)
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
    let conditions = pool.live.as_ref()?.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|condition| condition.type_ == "ReplicaFailure" && condition.status == "True")?;
    failure.message.as_deref()
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

fn no_pool(stage: &ValidatedStage) -> String {
    let excluded = |pool: &StagePool| stage.excluded.iter().any(|(name, _)| name == &pool.pool);
    let stranded = stage.pools.iter().filter(|pool| running(pool).desired > 0);
    let mut whys: Vec<String> = stranded
        .map(|pool| {
            let gone = if excluded(pool) { "pool" } else { "the deleted pool" };
            format!(
                "{} on {gone} '{}' cannot move",
                replicas(running(pool).desired),
                pool.pool
            )
        })
        .collect();
    if stage.excluded.is_empty() {
        let stay = if whys.is_empty() {
            String::new()
        } else {
            format!("; {}", whys.join("; "))
        };
        return format!(
            "stage '{}' has no pool: the cluster has no ComputePool; ask the platform team for one{stay}",
            stage.name
        );
    }
    let mut nearest: Vec<&(String, Exclusion)> = stage.excluded.iter().collect();
    nearest.sort_by_key(|(_, why)| distance(why));
    // What stands in the way of many pools is said once.
    let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
    for (pool, why) in nearest {
        let (pool, why) = (format!("'{pool}'"), why.to_string());
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, pools)) => pools.push(pool),
            None => reasons.push((why, vec![pool])),
        }
    }
    let left_out = reasons.len().saturating_sub(REASONS_MAX);
    whys.extend(reasons.iter().take(REASONS_MAX).map(|(why, pools)| {
        let shown: Vec<&str> = pools.iter().take(POOLS_MAX).map(String::as_str).collect();
        format!("{}: {why}", several(&shown, pools.len()))
    }));
    if left_out > 0 {
        whys.push(format!("and {left_out} other reasons"));
    }
    format!("no pool is left for stage '{}': {}", stage.name, whys.join("; "))
}

/// The first of `count` names, and how many more there are.
fn several(shown: &[&str], count: usize) -> String {
    let more = count - shown.len();
    let names = shown.join(", ");
    if more == 0 {
        names
    } else {
        format!("{names} and {more} more")
    }
}

/// How far a pool is from being of use; what is easiest to change comes first.
const fn distance(why: &Exclusion) -> u8 {
    match why {
        Exclusion::NameTaken(_) | Exclusion::PoolProblem(_) => 0,
        Exclusion::Closed => 1,
        Exclusion::DeviceNotOffered(_) | Exclusion::DeviceNotRequested(_) => 2,
        Exclusion::NoProfile => 3,
        Exclusion::Hint(..) => 4,
    }
}

/// What only the rebalancer can tell, before it has looked at the pipeline.
fn unlooked() -> [New; 3] {
    let pending = |type_, message: &str| New {
        type_,
        status: Status::Unknown,
        reason: Reason::Pending,
        message: message.to_owned(),
    };
    [
        pending(Type::SignalsAvailable, "no signal has been read yet"),
        pending(Type::CapacityAvailable, "nothing has been planned yet"),
        pending(Type::Balanced, "nothing has been planned yet"),
    ]
}

fn says(status: Option<&TieredPipelineStatus>, type_: Type) -> bool {
    let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| condition.type_ == type_.as_str())
}

fn signals_available(view: &PipelineView) -> New {
    let type_ = Type::SignalsAvailable;
    let stale: Vec<&str> = view
        .stages
        .iter()
        .filter(|(_, stage)| stage.signals != Signals::Fresh)
        .map(|(name, _)| name.as_str())
        .collect();
    if stale.is_empty() {
        return New {
            type_,
            status: Status::True,
            reason: Reason::Fresh,
            message: "every stage has fresh signals".into(),
        };
    }
    let never = view.stages.values().all(|stage| stage.signals == Signals::Unseen);
    let status = if never { Status::Unknown } else { Status::False };
    let message = format!("no fresh signal from {}: nothing shrinks there", stages(&stale));
    New {
        type_,
        status,
        reason: Reason::MetricsStale,
        message,
    }
}

fn capacity_available(view: &PipelineView) -> New {
    let type_ = Type::CapacityAvailable;
    let short: Vec<&str> = view
        .stages
        .iter()
        .filter(|(_, stage)| stage.short)
        .map(|(name, _)| name.as_str())
        .collect();
    if short.is_empty() {
        return New {
            type_,
            status: Status::True,
            reason: Reason::RoomLeft,
            message: "every stage has the capacity it needs".into(),
        };
    }
    let message = format!("{} need more than the pools, bounds or budget leave", stages(&short));
    New {
        type_,
        status: Status::False,
        reason: Reason::NoCapacity,
        message,
    }
}

fn stages(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    format!(
        "{} {}",
        if quoted.len() == 1 { "stage" } else { "stages" },
        quoted.join(", ")
    )
}

fn balanced(valid: &ValidatedPipeline, view: &PipelineView) -> New {
    let type_ = Type::Balanced;
    let new = |status, reason, message: String| New {
        type_,
        status,
        reason,
        message,
    };
    let contested = view.stages.iter().find_map(|(name, stage)| match &stage.foreign {
        Some(Foreign::Contested(manager)) => Some((name, manager)),
        _ => None,
    });
    if let Some((name, manager)) = contested {
        let message =
            format!("'{manager}' keeps changing the replicas of stage '{name}': tiercel holds until it stops");
        return new(Status::False, Reason::Contested, message);
    }
    let off: Vec<(&ValidatedStage, &StageView)> = valid
        .stages
        .iter()
        .filter_map(|stage| view.stages.get(&stage.name).map(|view| (stage, view)))
        .filter(|(stage, view)| {
            stage
                .pools
                .iter()
                .any(|pool| view.planned.get(&pool.pool).copied().unwrap_or_default() != running(pool).desired)
        })
        .collect();
    let Some((stage, first)) = off.first() else {
        return new(
            Status::True,
            Reason::WithinTolerance,
            "replicas are where the plan wants them".into(),
        );
    };
    let reason = match first.hold {
        None | Some(HoldReason::AwaitingReady) => Reason::Shifting,
        Some(HoldReason::MetricsStale) => Reason::MetricsStale,
        Some(HoldReason::Paused) => Reason::Paused,
        Some(HoldReason::Advisory) => Reason::Advisory,
        Some(HoldReason::BudgetExhausted) => Reason::BudgetExhausted,
        Some(HoldReason::NoCapacity) => Reason::NoCapacity,
        Some(HoldReason::WithinTolerance) => {
            return new(
                Status::True,
                Reason::WithinTolerance,
                "differences are inside the tolerance".into(),
            );
        }
        Some(HoldReason::CoolingDown | HoldReason::MovesExhausted | HoldReason::AtFloor | HoldReason::PlanRejected) => {
            Reason::CoolingDown
        }
    };
    let message = format!("stage '{}': {}", stage.name, hold_text(first.hold));
    new(Status::False, reason, more(message, off.len()))
}

fn hold_text(hold: Option<HoldReason>) -> &'static str {
    match hold {
        None => "replicas are being changed",
        Some(HoldReason::AwaitingReady) => "new replicas must be Ready before old ones go",
        Some(HoldReason::MetricsStale) => "no fresh signal allows the change",
        Some(HoldReason::Paused) => "the pipeline is paused",
        Some(HoldReason::Advisory) => "advisory mode: the change is reported, not written",
        Some(HoldReason::BudgetExhausted) => "the change would cost more than the budget",
        Some(HoldReason::NoCapacity) => "the pools have no room",
        Some(HoldReason::CoolingDown) => "the stabilization window has not passed",
        Some(HoldReason::MovesExhausted) => "the moves of this hour are used up",
        Some(HoldReason::WithinTolerance) => "the change is inside the tolerance",
        Some(HoldReason::AtFloor) => "floors forbid the change",
        Some(HoldReason::PlanRejected) => "the plan failed its own check; please report this",
    }
}

fn within_budget(valid: &ValidatedPipeline) -> New {
    let type_ = Type::WithinBudget;
    let cost = cost_micros(valid);
    let (status, reason, message) = match valid.budget_micros {
        None => (Status::True, Reason::WithinBudget, "no budget is set".to_owned()),
        Some(budget) if cost > budget => {
            let message = format!(
                "replicas cost {} per hour, the budget is {}",
                money(cost),
                money(budget)
            );
            (Status::False, Reason::BudgetExhausted, message)
        }
        // No running figure: it would move with every replica.
        Some(budget) => (
            Status::True,
            Reason::WithinBudget,
            format!("replicas cost no more than {} per hour", money(budget)),
        ),
    };
    New {
        type_,
        status,
        reason,
        message,
    }
}

fn preferred_tier(valid: &ValidatedPipeline) -> New {
    let below: Vec<String> = valid.stages.iter().filter_map(below_hint).collect();
    if below.is_empty() {
        let message = "every stage runs on the tier that its hint prefers".to_owned();
        return New {
            type_: Type::PreferredTier,
            status: Status::True,
            reason: Reason::OnPreferredTier,
            message,
        };
    }
    New {
        type_: Type::PreferredTier,
        status: Status::False,
        reason: Reason::BelowPreferredTier,
        message: below.join("; "),
    }
}

/// How many replicas of a stage are below its hint, and how much slower one of them is.
fn below_hint(stage: &ValidatedStage) -> Option<String> {
    let on = |preferred: bool| {
        stage
            .pools
            .iter()
            .filter(move |pool| pool.fit.as_ref().is_some_and(|fit| fit.preferred == preferred))
    };
    let below: Vec<&StagePool> = on(false).filter(|pool| running(pool).desired > 0).collect();
    let count: u32 = below.iter().map(|pool| running(pool).desired).sum();
    let slowest = below.iter().map(|pool| pool.capacity_millis).min()?;
    let best = on(true).map(|pool| pool.capacity_millis).max().unwrap_or(slowest);
    let names: Vec<String> = below.iter().map(|pool| format!("'{}'", pool.pool)).collect();
    let slower = if best > slowest && slowest > 0 {
        let tenths = best * 10 / slowest;
        format!(", up to {}.{} times slower each", tenths / 10, tenths % 10)
    } else {
        String::new()
    };
    Some(format!(
        "stage '{}': {count} of {} replicas on {}{slower}",
        stage.name,
        desired(stage),
        names.join(", ")
    ))
}

/// What a reader of one stage should know, if anything.
pub fn stage_message(stage: &ValidatedStage, view: Option<&StageView>) -> Option<String> {
    let leaving: Vec<String> = stage
        .pools
        .iter()
        .filter(|pool| pool.fit.is_none() && running(pool).desired > 0)
        .map(|pool| {
            let why = stage
                .excluded
                .iter()
                .find(|(name, _)| name == &pool.pool)
                .map_or_else(|| "the pool is gone".to_owned(), |(_, why)| why.to_string());
            format!(
                "{} on '{}' must leave: {why}",
                replicas(running(pool).desired),
                pool.pool
            )
        })
        .collect();
    if !leaving.is_empty() {
        return Some(leaving.join("; "));
    }
    let refused = stage
        .pools
        .iter()
        .find_map(|pool| replica_failure(pool).map(|why| (&pool.pool, why)));
    if let Some((pool, why)) = refused {
        return Some(format!("no more pods on '{pool}': {why}"));
    }
    let view = view?;
    if let Some(below) = below_hint(stage) {
        let preferred = stage
            .pools
            .iter()
            .filter(|pool| pool.fit.as_ref().is_some_and(|fit| fit.preferred));
        let whys: Vec<String> = preferred
            .filter_map(|pool| view.not_used.get(&pool.pool).map(|why| not_used_text(&pool.pool, *why)))
            .take(3)
            .collect();
        let below = below.split_once(": ").map_or(below.as_str(), |(_, text)| text);
        return Some(if whys.is_empty() {
            below.to_owned()
        } else {
            format!("{below}, because {}", whys.join("; "))
        });
    }
    if view.short {
        let whys: Vec<String> = view
            .not_used
            .iter()
            .take(3)
            .map(|(pool, why)| not_used_text(pool, *why))
            .collect();
        return Some(format!("demand is not covered: {}", whys.join("; ")));
    }
    // Replicas are where they are because these pools could not take them.
    let broken: Vec<String> = view
        .not_used
        .iter()
        .filter(|(_, why)| matches!(why, NotUsed::DryUntil(..)))
        .map(|(pool, why)| not_used_text(pool, *why))
        .take(3)
        .collect();
    if !broken.is_empty() {
        return Some(broken.join("; "));
    }
    view.hold
        .filter(|hold| !matches!(hold, HoldReason::WithinTolerance | HoldReason::CoolingDown))
        .map(|hold| hold_text(Some(hold)).to_owned())
}

fn replicas(count: u32) -> String {
    if count == 1 {
        "1 replica".to_owned()
    } else {
        format!("{count} replicas")
    }
}

/// Why a pool is not used more, without numbers that move.
fn not_used_text(pool: &str, why: NotUsed) -> String {
    match why {
        NotUsed::Dearer(_) => format!("pool '{pool}' is dearer for this stage"),
        NotUsed::Full => format!("pool '{pool}' has no room for one more replica"),
        NotUsed::DryUntil(_, DryReason::Unschedulable) => format!("pool '{pool}' could not place pods lately"),
        NotUsed::DryUntil(_, DryReason::CannotStart) => format!("pods could not start on pool '{pool}' lately"),
        NotUsed::DryUntil(_, DryReason::Reclaimed) => format!("nodes of pool '{pool}' are being taken away"),
        NotUsed::OverBudget => format!("pool '{pool}' would exceed the budget"),
        NotUsed::AtBounds => "the stage's bounds are reached".to_owned(),
        NotUsed::Excluded => format!("pool '{pool}' takes no replicas of this stage"),
    }
}
