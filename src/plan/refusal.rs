//! What the operator would refuse or could not place, with the field at fault.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;

use super::Step;
use super::manifest::{Located, Problem, below};
use super::report::{self, Amount, Cost};
use crate::api::decimal::money;
use crate::api::labels::{MAX_COST_PER_HOUR, MAX_POWER_WATTS};
use crate::api::{ComputePool, TieredPipeline};
use crate::controller::capacity::{self, PoolObservation};
use crate::controller::pipeline::validated::{Exclusion, ValidatedPipeline, ValidatedStage};

/// A problem of a pipeline, at a field.
fn problem(of: &Located<TieredPipeline>, field: String, message: String) -> Problem {
    let name = of.object.name_any();
    Problem {
        place: of.at(&field),
        object: format!("TieredPipeline {}/{name}", of.object.namespace().unwrap_or_default()),
        field,
        message,
    }
}

/// Path of a field of a stage.
fn of_stage(pipeline: &TieredPipeline, stage: &str, field: &str) -> String {
    match pipeline.spec.stages.iter().position(|one| one.name == stage) {
        Some(at) => below(&format!("spec.stages[{at}]"), field),
        None => below("spec.stages", field),
    }
}

/// What validation refuses.
pub(super) fn refused(of: &Located<TieredPipeline>, valid: &ValidatedPipeline) -> Vec<Problem> {
    let each = valid.refusals.iter().map(|refusal| match &refusal.stage {
        Some(stage) => {
            let field = of_stage(&of.object, stage, &refusal.field);
            problem(of, field, format!("stage '{stage}': {}", refusal.message))
        }
        None => problem(of, refusal.field.clone(), refusal.message.clone()),
    });
    each.collect()
}

/// A stage that no pool takes.
pub(super) fn homeless(of: &Located<TieredPipeline>, stage: &ValidatedStage) -> Option<Problem> {
    if stage
        .pools
        .iter()
        .any(|pool| pool.fit.is_some() && pool.room > 0 && pool.cost.is_some())
    {
        return None;
    }
    let small: Vec<&str> = stage.pools.iter().map(|pool| pool.pool.as_str()).collect();
    let mut nearest: Vec<&(String, Exclusion)> = stage.excluded.iter().collect();
    nearest.sort_by_key(|(_, why)| nearness(why).0);
    let field = match nearest.first() {
        _ if !small.is_empty() => "container.resources",
        Some((_, why)) => nearness(why).1,
        None => "",
    };
    let mut whys = Vec::new();
    if !small.is_empty() {
        whys.push(format!("{}: no node has room for one replica", small.join(", ")));
    }
    for (pool, why) in grouped(nearest.iter().map(|(pool, why)| (pool.as_str(), why.to_string()))) {
        whys.push(format!("{pool}: {why}"));
    }
    if whys.is_empty() {
        whys.push("there is no ComputePool".to_owned());
    }
    let field = of_stage(&of.object, &stage.name, field);
    Some(problem(
        of,
        field,
        format!("stage '{}' can run on no pool: {}", stage.name, whys.join("; ")),
    ))
}

/// How near a pool is to being used, and the field of the stage that keeps it away.
const fn nearness(why: &Exclusion) -> (u8, &'static str) {
    match why {
        Exclusion::NameTaken(_) => (0, "name"),
        Exclusion::PoolProblem(_) => (1, ""),
        Exclusion::Closed | Exclusion::PowerUnknown => (2, ""),
        Exclusion::DeviceNotOffered(_) | Exclusion::DeviceNotRequested(_) => (3, "container.resources"),
        Exclusion::NoProfile => (4, "profiles"),
        Exclusion::Hint(..) => (5, "tierHint"),
    }
}

/// What is true of several, said once: names and what is said of them.
pub fn grouped<'a>(each: impl Iterator<Item = (&'a str, String)>) -> Vec<(String, String)> {
    let mut groups: Vec<(String, String)> = Vec::new();
    for (name, said) in each {
        match groups.iter_mut().find(|(_, known)| *known == said) {
            Some((names, _)) => {
                names.push_str(", ");
                names.push_str(name);
            }
            None => groups.push((name.to_owned(), said)),
        }
    }
    groups
}

/// Floors that find no place: what is placed, on which of it is reliable.
pub(super) fn short(of: &Located<TieredPipeline>, stage: &ValidatedStage, placed: (u32, u32)) -> Option<Problem> {
    let pools = stage
        .pools
        .iter()
        .map(|pool| pool.pool.as_str())
        .collect::<Vec<_>>()
        .join(", ");
    let (field, wanted, found, of_what) = if placed.0 < stage.min {
        ("replicas.min", stage.min, placed.0, "")
    } else if placed.1 < stage.reliable_min {
        (
            "replicas.reliableMin",
            stage.reliable_min,
            placed.1,
            " on reliable pools",
        )
    } else {
        return None;
    };
    let message = format!(
        "stage '{}': only {found} of the {wanted} replicas of the floor find a place{of_what}: {pools} {} no more room",
        stage.name,
        if stage.pools.len() == 1 { "has" } else { "have" },
    );
    Some(problem(of, of_stage(&of.object, &stage.name, field), message))
}

/// A budget that the floors alone exceed.
pub(super) fn over_budget(of: &Located<TieredPipeline>, budget: Option<u64>, cost: &Cost) -> Option<Problem> {
    let budget = budget.filter(|budget| cost.minimum.per_hour > *budget)?;
    let message = format!(
        "the least replicas alone cost {} per hour, more than the budget of {}",
        money(cost.minimum.per_hour),
        money(budget)
    );
    Some(problem(of, "spec.budget.maxCostPerHour".to_owned(), message))
}

/// A ceiling on power that the floors alone exceed.
pub(super) fn over_power(of: &Located<TieredPipeline>, most: Option<u64>, cost: &Cost) -> Option<Problem> {
    let (draws, most) = (cost.minimum.watts?, most?);
    let message = format!(
        "the least replicas alone draw {} W, more than the {} W that are allowed",
        draws.div_ceil(1_000),
        most / 1_000
    );
    (draws > most).then(|| problem(of, "spec.budget.maxPowerWatts".to_owned(), message))
}

/// Ceilings of namespaces that floors exceed, told at the first pipeline of each. `others`: what the floors of pipelines that
/// are not among the manifests cost at the least, millionths per hour by namespace.
pub(super) fn over_together(
    pipelines: &[Located<TieredPipeline>],
    steps: &[Step],
    planned: &[report::Pipeline],
    others: &BTreeMap<&str, u64>,
) -> Vec<Problem> {
    let mut told = BTreeSet::new();
    let mut problems = Vec::new();
    for (located, step) in pipelines.iter().zip(steps) {
        let namespace = step.valid.id.namespace.as_str();
        if !told.insert(namespace) {
            continue;
        }
        let here = planned.iter().filter(|one| one.namespace == namespace);
        let least = here.fold(Amount::default(), |sum, one| sum.plus(one.cost.minimum));
        let costs = least
            .per_hour
            .saturating_add(others.get(namespace).copied().unwrap_or(0));
        let limits = &step.valid.together.limits;
        let mut over = |verb: &str, takes: String, most: String, annotation: &str| {
            let message = format!(
                "the least replicas of all pipelines in namespace '{namespace}' {verb} {takes}, more than the {most} of its annotation {annotation}"
            );
            problems.push(problem(located, "metadata.namespace".to_owned(), message));
        };
        if let Some(most) = limits.budget_micros.filter(|&most| costs > most) {
            over(
                "cost",
                format!("{} per hour", money(costs)),
                money(most),
                MAX_COST_PER_HOUR,
            );
        }
        let most = limits.power_max_milliwatts;
        if let Some((draws, most)) = least.watts.zip(most).filter(|(draws, most)| draws > most) {
            let watts = |milliwatts: u64| format!("{} W", milliwatts.div_ceil(1_000));
            over("draw", watts(draws), watts(most), MAX_POWER_WATTS);
        }
    }
    problems
}

/// A pool that gives no capacity.
pub(super) fn unusable(of: &Located<ComputePool>, observed: &PoolObservation) -> Option<Problem> {
    let (field, message) = match observed.problem.as_ref()? {
        capacity::Problem::InvalidSpec { field, message } => (*field, message.clone()),
        capacity::Problem::PoolsOverlap { other, .. } => (
            "spec.nodeSelector",
            format!("selects nodes that pool '{other}' has: a node belongs to one pool"),
        ),
    };
    Some(Problem {
        place: of.at(field),
        object: format!("ComputePool {}", of.object.name_any()),
        field: field.to_owned(),
        message,
    })
}

/// Replicas that have a place, and those of them on reliable pools.
pub(super) fn placed(stage: &ValidatedStage, placed: &[u32]) -> (u32, u32) {
    let each = stage.pools.iter().zip(placed);
    each.fold((0, 0), |(all, reliable), (pool, &count)| {
        let safe = pool
            .fit
            .as_ref()
            .is_some_and(|fit| fit.pool.spec.capacity_type.is_reliable());
        (all + count, reliable + if safe { count } else { 0 })
    })
}
