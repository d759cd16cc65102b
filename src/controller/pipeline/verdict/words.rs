//! Pure: why a stage has no pool, and what a reader of one stage should know.

use std::sync::Arc;

use super::super::super::report::{PipelineView, StageView};
use super::super::status::running;
use super::super::validated::{Exclusion, StagePool, ValidatedStage};
use super::aspects::{below_hint, hold_text};
use super::replica_failure;
use crate::rebalance::decision::{HoldReason, NotUsed};
use crate::rebalance::world::DryReason;

/// Reasons why pools are of no use that a message names, and pools that it names for each.
const REASONS_MAX: usize = 4;
const POOLS_MAX: usize = 4;

pub(super) fn no_pool(stage: &ValidatedStage) -> String {
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
        Exclusion::Closed | Exclusion::PowerUnknown => 1,
        Exclusion::DeviceNotOffered(_) | Exclusion::DeviceNotRequested(_) => 2,
        Exclusion::NoProfile => 3,
        Exclusion::Hint(..) => 4,
    }
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

/// The pools that could not place or start pods of stages, if any.
pub fn dry_pools(view: &PipelineView) -> Option<String> {
    let of = |(stage, view): &(Arc<str>, StageView)| {
        let dry = view
            .not_used
            .iter()
            .filter(|(_, why)| matches!(why, NotUsed::DryUntil(..)));
        let words: Vec<String> = dry.map(|(pool, why)| not_used_text(pool, *why)).collect();
        (!words.is_empty()).then(|| format!("stage '{stage}': {}", words.join(", ")))
    };
    let stages: Vec<String> = view.stages.iter().filter_map(of).collect();
    (!stages.is_empty()).then(|| stages.join("; "))
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
        NotUsed::OverPower => format!("pool '{pool}' would exceed the ceiling on power"),
        NotUsed::OverShared => format!("pool '{pool}' would exceed what the namespace may take"),
        NotUsed::AtBounds => "the stage's bounds are reached".to_owned(),
        NotUsed::Excluded => format!("pool '{pool}' takes no replicas of this stage"),
    }
}
