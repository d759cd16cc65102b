//! What manifests would come to, before anybody applies them: which objects, where replicas go, what that costs and draws, and
//! what is refused.
//!
//! Nothing of it is worked out a second time here. Manifests go through the operator's own path: pools and nodes through
//! `capacity::observe`, pipelines through `validate` and `build`, and replicas through the decision core, which is asked
//! where they rest without load ([`rest`]), and where under the most that pipelines can serve from end to end ([`most`]). Two
//! plans compared give a [`change`].
//!
//! Pure: texts and objects in, a [`Report`](report::Report) out. Files, git and clusters are `cli::plan`'s.

pub mod change;
mod children;
pub mod ground;
pub mod manifest;
mod most;
mod refusal;
pub mod report;
mod rest;
mod supply;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use self::children::children;
use self::ground::Ground;
use self::manifest::{Located, Problem};
use self::most::{Limit, Most, most};
pub use self::refusal::grouped;
use self::report::{Cost, Excluded, Pipeline, Placement, Plan, Pool, Stage};
use self::rest::{Load, Rest, rest};
use self::words::{Held, held, mode};
use crate::api::compute_pool::Tier;
use crate::api::{ComputePool, TieredPipeline};
use crate::controller::capacity::PoolObservation;
use crate::controller::pipeline::build::{Desired, build};
use crate::controller::pipeline::validate::validate;
use crate::controller::pipeline::validated::{Claim, StagePool, ValidatedPipeline};
use crate::controller::rebalancer::view::floor_cost;
use crate::controller::rebalancer::world;
use crate::rebalance::world::{Resources, StageIdx, World};
use crate::simulate::ground::standing;

/// One pipeline on its way through the operator's steps.
struct Step {
    /// As the operator finds it.
    desired: Desired,
    valid: ValidatedPipeline,
    /// Once all of its Deployments exist.
    standing: ValidatedPipeline,
    /// Replicas that Deployments would be created with if there were none, by stage and pool of `standing`.
    start: Vec<u32>,
}

/// What pipelines come to on their ground, and what is refused of them and of the pools among the manifests.
pub fn plan(
    pipelines: &[Located<TieredPipeline>],
    pools: &[Located<ComputePool>],
    ground: &Ground,
) -> (Plan, Vec<Problem>) {
    let steps: Vec<Step> = pipelines
        .iter()
        .map(|pipeline| step(&pipeline.object, ground))
        .collect();
    let neighbours: Vec<Step> = ground
        .neighbours
        .iter()
        .map(|pipeline| step(pipeline, ground))
        .collect();
    let mut all: Vec<ValidatedPipeline> = Vec::with_capacity(steps.len() + neighbours.len());
    let mut start = Vec::new();
    for step in &steps {
        all.push(step.standing.clone());
        start.extend_from_slice(&step.start);
    }
    let planned: usize = all.iter().map(|pipeline| pipeline.stages.len()).sum();
    for step in &neighbours {
        all.push(step.standing.clone());
        start.extend(of_pools(&step.standing).map(|pool| now(pool).unwrap_or_default()));
    }
    let (world, _) = world::world(&all, &ground.observed);
    let load = |stage: StageIdx| {
        let ours = (stage.0 as usize) < planned;
        if ours { Load::Idle } else { Load::Steady }
    };
    let idle = rest(&world, &start, load);
    let full = most(&world, steps.len(), &idle.desired);

    let mut problems: Vec<Problem> = Vec::new();
    for pool in pools {
        let observed = ground
            .observed
            .iter()
            .find(|observed| observed.name == pool.object.name_any());
        problems.extend(observed.and_then(|observed| refusal::unusable(pool, observed)));
    }
    let mut plan = Plan::default();
    if ground.live {
        plan.cost.now = Some(report::Amount::default());
    }
    let mut at = Cursor::default();
    let ends = Ends {
        world: &world,
        idle: &idle,
        full: &full,
        room: supply::room(&world, &full.rest.placed),
    };
    for (located, step) in pipelines.iter().zip(&steps) {
        let (pipeline, refused) = pipeline(located, step, &ends, &mut at, ground.live);
        plan.cost = plan.cost.plus(pipeline.cost);
        plan.pipelines.push(pipeline);
        problems.extend(refused);
    }
    let others = floors(&world, &all, steps.len());
    problems.extend(refusal::over_together(pipelines, &steps, &plan.pipelines, &others));
    plan.pools = (ground.observed.iter().enumerate())
        .map(|(at, pool)| of_pool(at, pool, &world, &full.rest, &plan))
        .collect();
    (plan, problems)
}

/// What the core made of the world, at its least and at its most.
struct Ends<'a> {
    world: &'a World,
    idle: &'a Rest,
    full: &'a Most,
    /// What is left of each pool at the most.
    room: Vec<Resources>,
}

/// Where the world's pipelines, stages and variants have been read to.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    pipeline: usize,
    stage: usize,
    variant: usize,
}

fn step(raw: &TieredPipeline, ground: &Ground) -> Step {
    let found = ground.found(raw);
    let valid = validate(raw, &found);
    let desired = build(&valid);
    let mut unmade = found.clone();
    unmade.deployments.clear();
    let unmade = validate(raw, &unmade);
    let mut there = found;
    let standing = standing(raw, &mut there);
    let first = |stage: &str, pool: &str| {
        let stage = unmade.stages.iter().find(|one| one.name == stage)?;
        match stage.pools.iter().find(|one| one.pool == pool)?.claim {
            Claim::Create(count) => Some(count),
            Claim::HandOver(_) | Claim::Released => None,
        }
    };
    let start = standing.stages.iter().flat_map(|stage| {
        let name = stage.name.as_str();
        stage
            .pools
            .iter()
            .map(move |pool| first(name, &pool.pool).unwrap_or_default())
    });
    Step {
        start: start.collect(),
        desired,
        valid,
        standing,
    }
}

/// What the floors of pipelines from `first` on cost at the least, by namespace.
fn floors<'a>(world: &World, all: &'a [ValidatedPipeline], first: usize) -> BTreeMap<&'a str, u64> {
    let mut sums = BTreeMap::new();
    for stage in &world.stages {
        let at = stage.pipeline.0 as usize;
        if let Some(pipeline) = all.get(at).filter(|_| at >= first) {
            let sum: &mut u64 = sums.entry(pipeline.id.namespace.as_str()).or_default();
            *sum = sum.saturating_add(floor_cost(stage, world).unwrap_or(0));
        }
    }
    sums
}

fn of_pools(pipeline: &ValidatedPipeline) -> impl Iterator<Item = &StagePool> {
    pipeline.stages.iter().flat_map(|stage| &stage.pools)
}

/// Replicas that the Deployment asks for.
fn now(pool: &StagePool) -> Option<u32> {
    pool.live.as_ref().map(|live| live.facts.desired)
}

/// What one replica costs and draws: millionths per hour, milliwatts.
fn each(pool: &StagePool) -> [u64; 2] {
    let cost = pool.cost.map_or(0, |cost| cost.cost_micros);
    [cost, pool.cost.and_then(|cost| cost.power_milliwatts).unwrap_or(0)]
}

/// Name of the stage that holds a pipeline back, if one does. `first`: index of the pipeline's first stage.
fn narrowest(limit: Limit, pipeline: &ValidatedPipeline, first: usize) -> Option<&str> {
    match limit {
        Limit::Narrowest(stage) => {
            let at = (stage.0 as usize).checked_sub(first)?;
            pipeline.stages.get(at).map(|stage| stage.name.as_str())
        }
        Limit::Budget | Limit::Power | Limit::BudgetAndPower | Limit::Namespace | Limit::Still => None,
    }
}

/// What replicas, given by variant, leave of a pipeline's ceilings: millionths per hour, milliwatts.
fn left(step: &Step, placed: &[u32]) -> [Option<u64>; 2] {
    let all = of_pools(&step.standing).zip(placed);
    let [money, power] = all.fold([0_u64; 2], |[money, power], (pool, &count)| {
        let [costs, draws] = each(pool).map(|each| each.saturating_mul(u64::from(count)));
        [money.saturating_add(costs), power.saturating_add(draws)]
    });
    let budget = step.valid.budget_micros.map(|most| most.saturating_sub(money));
    let ceiling = step.valid.power_max_milliwatts.map(|most| most.saturating_sub(power));
    [budget, ceiling]
}

/// Whether one replica more takes more than is left, in money and in power.
fn broke(left: [Option<u64>; 2], pool: &StagePool) -> [bool; 2] {
    let ([money, power], [costs, draws]) = (left, each(pool));
    [
        money.is_some_and(|left| left < costs),
        power.is_some_and(|left| left < draws),
    ]
}

fn pipeline(
    located: &Located<TieredPipeline>,
    step: &Step,
    ends: &Ends<'_>,
    at: &mut Cursor,
    live: bool,
) -> (Pipeline, Vec<Problem>) {
    let (idle, full) = (ends.idle, &ends.full.rest);
    let limit = ends.full.limits.get(at.pipeline).copied().unwrap_or(Limit::Still);
    let narrowest = narrowest(limit, &step.standing, at.stage);
    let mut problems = refusal::refused(located, &step.valid);
    let mut cost = Cost {
        now: live.then(report::Amount::default),
        ..Cost::default()
    };
    let left = left(step, full.placed.get(at.variant..).unwrap_or_default());
    let mut stages = Vec::with_capacity(step.standing.stages.len());
    for standing in &step.standing.stages {
        let range = at.variant..at.variant + standing.pools.len();
        let report = full.reports.get(at.stage).and_then(Option::as_ref);
        let not_used = report.map(|report| report.not_used.as_slice()).unwrap_or_default();
        let count = |counts: &[u32], site: usize| counts.get(range.start + site).copied().unwrap_or_default();
        let valid = step.valid.stages.iter().find(|valid| valid.name == standing.name);
        let reached: u32 = full.placed.get(range.clone()).unwrap_or_default().iter().sum();
        let ended = ends.full.ended.get(at.stage).copied().unwrap_or(false);
        let variants = ends.world.variants.get(range.clone()).unwrap_or_default();
        let used = || (range.clone()).filter(|&at| full.placed.get(at).is_some_and(|count| *count > 0));
        let dearest = used()
            .filter_map(|at| ends.world.variants.get(at))
            .map(supply::per_unit)
            .max();
        let rows = standing.pools.iter().enumerate().map(|(site, pool)| {
            let before = valid.and_then(|valid| valid.pools.iter().find(|one| one.pool == pool.pool));
            let variant = variants.get(site);
            let row = Held {
                why: not_used.get(site).copied().flatten(),
                reached,
                limit,
                narrowest: narrowest.filter(|_| !ended),
                full: variant.is_some_and(|one| supply::is_full(one, count(&full.placed, site), &ends.room)),
                preferred: (variant.map(supply::per_unit).zip(dearest)).is_some_and(|(own, dearest)| own < dearest),
                broke: broke(left, pool),
            };
            Placement {
                pool: pool.pool.clone(),
                profile: pool.fit.as_ref().and_then(|fit| fit.profile.clone()),
                now: if live {
                    Some(before.and_then(now).unwrap_or_default())
                } else {
                    None
                },
                created: before.filter(|one| one.live.is_none()).and_then(|one| match one.claim {
                    Claim::Create(count) => Some(count),
                    Claim::HandOver(_) | Claim::Released => None,
                }),
                minimum: count(&idle.placed, site),
                maximum: count(&full.placed, site),
                each_per_hour: pool.cost.map(|cost| cost.cost_micros),
                each_watts: pool.cost.and_then(|cost| cost.power_milliwatts),
                why_not_more: held(&row, step.valid.mode, standing, pool),
            }
        });
        let rows: Vec<Placement> = rows.collect();
        cost = rows.iter().fold(cost, |sum, row| sum.plus(row.cost()));
        let placed = refusal::placed(standing, idle.placed.get(range.clone()).unwrap_or_default());
        let missing = || refusal::short(located, standing, placed);
        problems.extend(refusal::homeless(located, standing).or_else(missing));
        let excluded = standing.excluded.iter().map(|(pool, why)| Excluded {
            pool: pool.clone(),
            why: why.to_string(),
        });
        stages.push(Stage {
            name: standing.name.clone(),
            min: standing.min,
            max: standing.max,
            pools: rows,
            excluded: excluded.collect(),
        });
        at.stage += 1;
        at.variant = range.end;
    }
    problems.extend(refusal::over_budget(located, step.valid.budget_micros, &cost));
    problems.extend(refusal::over_power(located, step.valid.power_max_milliwatts, &cost));
    let requests = ends.full.requests.get(at.pipeline).copied().flatten();
    at.pipeline += 1;
    let pipeline = Pipeline {
        namespace: step.valid.id.namespace.clone(),
        name: step.valid.id.name.clone(),
        source: located.place.clone(),
        mode: mode(step.valid.mode).to_owned(),
        budget_per_hour: step.valid.budget_micros,
        budget_watts: step.valid.power_max_milliwatts,
        refused_stages: step.desired.kept_stages.clone(),
        stages,
        cost,
        requests_per_second_at_maximum: requests,
        children: children(&step.desired),
    };
    (pipeline, problems)
}

fn of_pool(at: usize, pool: &PoolObservation, world: &World, full: &Rest, plan: &Plan) -> Pool {
    let placements = plan
        .pipelines
        .iter()
        .flat_map(|pipeline| &pipeline.stages)
        .flat_map(|stage| &stage.pools);
    let here: Vec<&Placement> = placements.filter(|placement| placement.pool == pool.name).collect();
    let capacity = pool.capacity();
    let variants = world.variants.iter().zip(&full.placed);
    let taken =
        variants
            .filter(|(variant, _)| variant.pool.0 as usize == at)
            .fold([0_u64; 3], |sum, (variant, &count)| {
                let request = variant.request;
                let each = [request.cpu_millis, request.memory_kib, request.device_millis];
                let mut sum = sum;
                for (sum, each) in sum.iter_mut().zip(each) {
                    *sum = sum.saturating_add(each.saturating_mul(u64::from(count)));
                }
                sum
            });
    let whole = [capacity.cpu_millis, capacity.memory_kib, capacity.device_millis];
    let shares = taken
        .iter()
        .zip(whole)
        .filter_map(|(taken, whole)| taken.saturating_mul(100).checked_div(whole));
    Pool {
        name: pool.name.clone(),
        tier: match pool.tier {
            Tier::Cpu => "CPU",
            Tier::Accelerator => "Accelerator",
        }
        .to_owned(),
        nodes: u32::try_from(pool.usable.len()).unwrap_or(u32::MAX),
        elastic_nodes: pool.elastic_nodes,
        node_per_hour: pool.cost_per_node_micros,
        minimum: here.iter().map(|placement| placement.minimum).sum(),
        maximum: here.iter().map(|placement| placement.maximum).sum(),
        used_percent_at_maximum: shares
            .max()
            .and_then(|share| u32::try_from(share).ok())
            .unwrap_or_default(),
    }
}
