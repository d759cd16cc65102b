//! Pure: the conditions beside `Ready`: signals, capacity, balance, budget, tier.

use super::super::super::report::{Foreign, PipelineView, Prospect, Signals, StageView};
use super::super::status::{cost_micros, milliwatts, running};
use super::super::validated::{StagePool, ValidatedPipeline, ValidatedStage};
use super::{desired, more};
use crate::api::TieredPipelineStatus;
use crate::api::conditions::{New, Reason, Status, Type};
use crate::api::decimal::money;
use crate::rebalance::decision::{HoldReason, Lack};

/// What only the rebalancer can tell, before it has looked at the pipeline.
pub(super) fn unlooked() -> [New; 3] {
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

pub(super) fn says(status: Option<&TieredPipelineStatus>, type_: Type) -> bool {
    let mut conditions = status.into_iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| condition.type_ == type_.as_str())
}

pub(super) fn signals_available(view: &PipelineView) -> New {
    let named = |which: fn(&StageView) -> bool| -> Vec<&str> {
        let found = view.stages.iter().filter(|(_, stage)| which(stage));
        found.map(|(name, _)| &**name).collect()
    };
    let stale = named(|stage| stage.signals != Signals::Fresh);
    let partial = named(|stage| stage.partial);
    let missing: Vec<String> = view
        .stages
        .iter()
        .filter(|(_, stage)| !stage.missing.is_empty())
        .map(|(name, stage)| format!("'{name}' ({})", stage.missing.join(", ")))
        .collect();
    // What holds the most comes first; who is silent is told of all.
    let lacks = if !stale.is_empty() {
        format!("no fresh signal from {}: nothing shrinks there", stages(&stale))
    } else if !missing.is_empty() {
        format!(
            "some signals are missing of {}: nothing shrinks there",
            missing.join(", ")
        )
    } else if !partial.is_empty() {
        let whose = stages(&partial);
        format!("pods of {whose} are silent beside others: what they may serve is kept")
    } else {
        return New {
            type_: Type::SignalsAvailable,
            status: Status::True,
            reason: Reason::Fresh,
            message: "every stage has fresh signals".into(),
        };
    };
    let never = view.stages.iter().all(|(_, stage)| stage.signals == Signals::Unseen);
    New {
        type_: Type::SignalsAvailable,
        status: if never { Status::Unknown } else { Status::False },
        reason: Reason::MetricsStale,
        message: lacks + &who_is_silent(view),
    }
}

/// Stages whose sources are named in one message.
const SILENT_MAX: usize = 3;

/// Source, pods, age and reason of what is missing, stage by stage.
fn who_is_silent(view: &PipelineView) -> String {
    let silent = view.stages.iter();
    let told = silent.filter_map(|(name, stage)| {
        let all: Vec<String> = stage.silence.iter().map(ToString::to_string).collect();
        (!all.is_empty()).then(|| format!(". {name}: {}", all.join("; ")))
    });
    told.take(SILENT_MAX).collect()
}

pub(super) fn capacity_available(view: &PipelineView) -> New {
    let type_ = Type::CapacityAvailable;
    let short: Vec<&str> = view
        .stages
        .iter()
        .filter(|(_, stage)| stage.short)
        .map(|(name, _)| &**name)
        .collect();
    if short.is_empty() {
        return New {
            type_,
            status: Status::True,
            reason: Reason::RoomLeft,
            message: "every stage has the capacity it needs".into(),
        };
    }
    let verb = if short.len() == 1 { "needs" } else { "need" };
    let message = format!("{} {verb} more than the pools, bounds or budget leave", stages(&short));
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

pub(super) fn balanced(valid: &ValidatedPipeline, view: &PipelineView) -> New {
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

/// Why replicas are not what the plan says, in one sentence.
pub fn hold_text(hold: Option<HoldReason>) -> &'static str {
    match hold {
        None => "replicas are being changed",
        Some(HoldReason::AwaitingReady) => "new replicas must be Ready before old ones go",
        Some(HoldReason::MetricsStale) => "no fresh signal allows the change",
        Some(HoldReason::Paused) => "the pipeline is paused",
        Some(HoldReason::Advisory) => "advisory mode: the change is reported, not written",
        Some(HoldReason::BudgetExhausted) => "the change would exceed the budget",
        Some(HoldReason::NoCapacity) => "the pools have no room",
        Some(HoldReason::CoolingDown) => "the stabilization window has not passed",
        Some(HoldReason::MovesExhausted) => "the moves of this hour are used up",
        Some(HoldReason::WithinTolerance) => "the change is inside the tolerance",
        Some(HoldReason::AtFloor) => "floors forbid the change",
        Some(HoldReason::PlanRejected) => "the plan failed its own check; please report this",
    }
}

/// Its own ceilings, and those of its namespace.
pub(super) fn within_budget(valid: &ValidatedPipeline, view: Option<&PipelineView>) -> New {
    let (cost, power) = (cost_micros(valid), milliwatts(valid));
    let (mut over, mut under) = (Vec::new(), Vec::new());
    // No running figure where all is well: it would move with every replica.
    if let Some(budget) = valid.budget_micros {
        over.extend((cost > budget).then(|| format!("cost {} per hour, the budget is {}", money(cost), money(budget))));
        under.push(format!("cost no more than {} per hour", money(budget)));
    }
    if let Some(most) = valid.power_max_milliwatts {
        over.extend(match power {
            Some(power) if power <= most => None,
            Some(power) => Some(format!("draw {}, the ceiling is {}", watts(power), watts(most))),
            None => Some(format!("draw nobody knows how much, the ceiling is {}", watts(most))),
        });
        under.push(format!("draw no more than {}", watts(most)));
    }
    let (all_over, all_under) = within_namespace(valid, view);
    over.extend(all_over);
    under.extend(all_under);
    let problems = &valid.together.problems;
    let (status, reason, what) = if !over.is_empty() {
        (
            Status::False,
            Reason::BudgetExhausted,
            format!("replicas {}", over.join("; they ")),
        )
    } else if !problems.is_empty() {
        (
            Status::Unknown,
            Reason::Invalid,
            format!("{}; it holds nothing back", problems.join("; ")),
        )
    } else if under.is_empty() {
        (Status::True, Reason::WithinBudget, "no budget is set".to_owned())
    } else {
        (
            Status::True,
            Reason::WithinBudget,
            format!("replicas {}", under.join(" and ")),
        )
    };
    New {
        type_: Type::WithinBudget,
        status,
        reason,
        message: what,
    }
}

fn per_hour(micros: u64) -> String {
    format!("{} per hour", money(micros))
}

fn watts(milliwatts: u64) -> String {
    format!("{} W", milliwatts.div_ceil(1_000))
}

/// How the pipelines of the namespace together exceed its ceilings, and what these are.
fn within_namespace(valid: &ValidatedPipeline, view: Option<&PipelineView>) -> (Vec<String>, Vec<String>) {
    let (mut over, mut under) = (Vec::new(), Vec::new());
    let taken = view.and_then(|view| view.together);
    let (cost, power) = taken.map(|(cost, power)| (whole(cost), whole(power))).unzip();
    let namespace = &valid.id.namespace;
    let mut against = |verb: &str, most: Option<u64>, taken: Option<u64>, tell: fn(u64) -> String| {
        let Some(most) = most else { return };
        over.extend(taken.filter(|&taken| taken > most).map(|taken| {
            format!(
                "{verb} {} with all of namespace '{namespace}', which may {verb} {}",
                tell(taken),
                tell(most)
            )
        }));
        under.push(format!(
            "{verb} no more than {} with all of namespace '{namespace}'",
            tell(most)
        ));
    };
    let limits = &valid.together.limits;
    against("cost", limits.budget_micros, cost, per_hour);
    against("draw", limits.power_max_milliwatts, power, watts);
    (over, under)
}

fn whole(sum: u128) -> u64 {
    u64::try_from(sum).unwrap_or(u64::MAX)
}

/// What becomes of the latency objective, if one is declared.
pub(super) fn within_objective(valid: &ValidatedPipeline, view: Option<&PipelineView>) -> Option<New> {
    let objective = valid.objective?;
    let (latency_ms, percentile) = (objective.latency_ms, objective.percentile);
    let goal = format!("{latency_ms} ms at the {percentile}th percentile");
    let (status, reason, message) = if valid.refusals.is_empty() {
        match view.and_then(|view| view.objective.as_ref()) {
            None => (Status::Unknown, Reason::Pending, "nothing has been planned yet".into()),
            Some(Prospect::Kept) => (
                Status::True,
                Reason::HeadroomPlanned,
                format!("capacity is planned for {goal}"),
            ),
            Some(Prospect::OutOfReach(reach_ms)) => (
                Status::False,
                Reason::OutOfReach,
                format!(
                    "{goal} is out of reach: with all replicas that bounds and pools allow it is about {reach_ms} ms, so replicas follow demand alone"
                ),
            ),
            Some(Prospect::Undeclared(stage, lack)) => {
                let field = match lack {
                    Lack::Rate => "requestsPerSecond",
                    Lack::Concurrency => "concurrency",
                };
                let message = format!(
                    "stage '{stage}' declares no `capacity.{field}` for the pool that it would use first: {goal} cannot be split over the stages, and replicas follow demand alone"
                );
                (Status::Unknown, Reason::NotDeclared, message)
            }
            Some(Prospect::Unseen(stage)) => {
                let message = format!("the demand of stage '{stage}' is not known: headroom stays as it is");
                (Status::Unknown, Reason::MetricsStale, message)
            }
        }
    } else {
        let message = format!("{goal} cannot be planned for while part of the spec is refused");
        (Status::Unknown, Reason::Refused, message)
    };
    Some(New {
        type_: Type::WithinObjective,
        status,
        reason,
        message,
    })
}

pub(super) fn preferred_tier(valid: &ValidatedPipeline) -> New {
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
pub(super) fn below_hint(stage: &ValidatedStage) -> Option<String> {
    let on = |preferred: bool| {
        stage
            .pools
            .iter()
            .filter(move |pool| pool.fit.as_ref().is_some_and(|fit| fit.preferred == preferred))
    };
    let below: Vec<&StagePool> = on(false).filter(|pool| running(pool).desired > 0).collect();
    let count: u32 = below.iter().map(|pool| running(pool).desired).sum();
    let slowest = below.iter().map(|pool| pool.capacity_millis).min()?;
    let best = on(true).max_by_key(|pool| pool.capacity_millis);
    let names: Vec<String> = below.iter().map(|pool| format!("'{}'", pool.pool)).collect();
    let slower = match best {
        Some(best) if best.capacity_millis > slowest && slowest > 0 => {
            let tenths = best.capacity_millis * 10 / slowest;
            let (whole, tenth) = (tenths / 10, tenths % 10);
            format!(", each up to {whole}.{tenth} times slower than on '{}'", best.pool)
        }
        _ => String::new(),
    };
    Some(format!(
        "stage '{}': {count} of {} replicas on {}{slower}",
        stage.name,
        desired(stage),
        names.join(", ")
    ))
}
