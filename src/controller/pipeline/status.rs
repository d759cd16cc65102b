//! Pure: what a pass found and did becomes a status; then one write, if anything differs.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, Client, Resource, ResourceExt};

use super::super::events::Events;
use super::super::events::table::{self, PIPELINE};
use super::super::own_writes::OwnWrites;
use super::super::report::{PipelineView, PoolLearned};
use super::super::status_write;
use super::apply::Report;
use super::validated::{StagePool, ValidatedPipeline, ValidatedStage};
use super::verdict;
use crate::api::decimal::money;
use crate::api::tiered_pipeline::{StagePoolStatus, StageStatus};
use crate::api::{TieredPipeline, TieredPipelineStatus, conditions};

/// Longest message of a stage; the schema says the same.
const STAGE_MESSAGE_MAX: usize = 500;

/// Replicas of one Deployment: wanted, ready, and whether all run the latest template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// `spec.replicas`.
    pub desired: u32,
    /// Ready pods.
    pub ready: u32,
    /// Pods of an older template are still there.
    pub outdated: bool,
    /// The status is about an older spec: of another template, or merely of other replicas.
    pub lagging: bool,
}

/// Reads the replicas of one stage on one pool.
pub fn running(pool: &StagePool) -> Running {
    let Some(live) = &pool.live else {
        return Running::default();
    };
    let facts = &live.facts;
    Running {
        desired: facts.desired,
        ready: facts.ready,
        outdated: facts.updated < facts.replicas,
        lagging: facts.observed_generation < facts.generation,
    }
}

/// The status that follows from a pass. Takes no client: it cannot read more than it is given.
pub fn compute_status(
    valid: &ValidatedPipeline,
    report: &Report,
    view: Option<&PipelineView>,
    previous: Option<&TieredPipelineStatus>,
    now: &Time,
) -> TieredPipelineStatus {
    let kept = previous.filter(|_| view.is_none());
    let stages = valid.stages.iter().map(|stage| stage_status(stage, view, kept));
    let stages: Vec<StageStatus> = stages.collect();
    let ready = valid
        .stages
        .iter()
        .zip(&stages)
        .filter(|(stage, status)| is_ready(stage, status))
        .count();
    let mut status = TieredPipelineStatus {
        observed_generation: valid.generation,
        stages_ready: Some(format!(
            "{ready}/{}",
            valid.stages.len() + valid.refusals.iter().filter(|r| r.stage.is_some()).count()
        )),
        replicas: stages.iter().map(|stage| stage.replicas).sum(),
        ready_replicas: stages.iter().map(|stage| stage.ready_replicas).sum(),
        cost_per_hour: Some(money(cost_micros(valid))),
        power_watts: power_watts(valid),
        stages,
        // A restarted operator has decided nothing yet; what was decided before it stays on record.
        decisions: match (view, previous) {
            (Some(view), _) if !view.decisions.is_empty() => view.decisions.iter().map(|one| (**one).clone()).collect(),
            (_, Some(previous)) => previous.decisions.clone(),
            _ => Vec::new(),
        },
        conditions: previous.map(|previous| previous.conditions.clone()).unwrap_or_default(),
    };
    for new in verdict::conditions(valid, report, view, previous, now) {
        conditions::set(&mut status.conditions, now, valid.generation, new);
    }
    for absent in verdict::absent(valid, report, view, previous, now) {
        conditions::remove(&mut status.conditions, absent);
    }
    status
}

/// All wanted replicas are Ready.
pub fn is_ready(stage: &ValidatedStage, status: &StageStatus) -> bool {
    let floor = i32::try_from(stage.min).unwrap_or(i32::MAX);
    status.ready_replicas >= status.replicas.min(floor.max(1)) && status.replicas >= floor
}

/// `kept`: the status before this pass, where the rebalancer has not looked at the pipeline since the operator's start.
fn stage_status(
    stage: &ValidatedStage,
    view: Option<&PipelineView>,
    kept: Option<&TieredPipelineStatus>,
) -> StageStatus {
    let kept = kept.and_then(|status| status.stages.iter().find(|kept| kept.name == stage.name));
    let whole = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let view = view.and_then(|view| view.stages.get(&stage.name));
    let all: Vec<(&StagePool, Running)> = stage.pools.iter().map(|pool| (pool, running(pool))).collect();
    // What was learned before the start stays on record until the rebalancer has taken it up.
    let learned = |name: &str| match view {
        Some(view) => view.learned.get(name).cloned().unwrap_or_default(),
        None => (kept.and_then(|kept| kept.pools.iter().find(|pool| pool.name == name))).map_or_else(
            PoolLearned::default,
            |pool| PoolLearned {
                requests_per_second: pool.requests_per_second.clone(),
                startup_seconds: pool.startup_seconds.clone(),
            },
        ),
    };
    let pools = all.iter().map(|(pool, running)| {
        let learned = learned(&pool.pool);
        StagePoolStatus {
            name: pool.pool.clone(),
            replicas: whole(running.desired),
            ready: whole(running.ready),
            requests_per_second: learned.requests_per_second,
            startup_seconds: learned.startup_seconds,
        }
    });
    let known = |pool: &StagePoolStatus| {
        let learned = pool.requests_per_second.is_some() || pool.startup_seconds.is_some();
        pool.replicas > 0 || pool.ready > 0 || learned
    };
    let message = verdict::stage_message(stage, view).map(|mut text| {
        if text.len() > STAGE_MESSAGE_MAX {
            let end = (0..=STAGE_MESSAGE_MAX)
                .rev()
                .find(|&end| text.is_char_boundary(end))
                .unwrap_or_default();
            text.truncate(end);
            text.push('…');
        }
        text
    });
    let message = message.or_else(|| kept?.message.clone());
    StageStatus {
        name: stage.name.clone(),
        replicas: whole(all.iter().map(|(_, running)| running.desired).sum()),
        ready_replicas: whole(all.iter().map(|(_, running)| running.ready).sum()),
        bottleneck: view.map_or(kept.is_some_and(|kept| kept.bottleneck), |view| view.bottleneck),
        pools: pools.filter(known).collect(),
        calls_per_request: view.map_or_else(|| kept?.calls_per_request.clone(), |view| view.calls.clone()),
        message,
    }
}

/// What all replicas cost per hour, millionths. Replicas whose pool is gone cost nothing that anybody could know.
pub fn cost_micros(valid: &ValidatedPipeline) -> u64 {
    let pools = valid.stages.iter().flat_map(|stage| &stage.pools);
    pools.fold(0, |sum, pool| {
        let each = pool.cost.map_or(0, |cost| cost.cost_micros);
        sum.saturating_add(each.saturating_mul(u64::from(running(pool).desired)))
    })
}

fn power_watts(valid: &ValidatedPipeline) -> Option<i32> {
    i32::try_from(milliwatts(valid)? / 1_000).ok()
}

/// What all replicas draw; only if every pool in use declares it.
pub fn milliwatts(valid: &ValidatedPipeline) -> Option<u64> {
    let mut milliwatts = 0_u64;
    for pool in valid.stages.iter().flat_map(|stage| &stage.pools) {
        let count = u64::from(running(pool).desired);
        if count > 0 {
            milliwatts = milliwatts.saturating_add(pool.cost?.power_milliwatts?.saturating_mul(count));
        }
    }
    Some(milliwatts)
}

/// Writes the status. Says whether there was a pipeline to write it to.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn write(
    client: &Client,
    raw: &TieredPipeline,
    status: TieredPipelineStatus,
    own: &OwnWrites<TieredPipelineStatus>,
) -> Result<bool, status_write::Error> {
    let api: Api<TieredPipeline> = Api::namespaced(client.clone(), &raw.namespace().unwrap_or_default());
    let stored = status_write::apply(&api, raw, &status).await?;
    if let Some(stored) = &stored {
        own.note(&stored.metadata, stored.status.clone().unwrap_or(status));
    }
    Ok(stored.is_some())
}

/// Events of what changed for people, and of pools that are dry: their stock-out is news although others may have room.
pub fn tell(
    events: &Events,
    raw: &TieredPipeline,
    (previous, status): (Option<&TieredPipelineStatus>, &TieredPipelineStatus),
    view: Option<&PipelineView>,
) {
    let regarding = raw.object_ref(&());
    let before = previous.map(|status| status.conditions.as_slice());
    events.tell(&regarding, PIPELINE, before.unwrap_or_default(), &status.conditions);
    if let Some((row, message)) = table::dry_pools().zip(view.and_then(verdict::dry_pools)) {
        events.publish(&regarding, row, &message);
    }
}
