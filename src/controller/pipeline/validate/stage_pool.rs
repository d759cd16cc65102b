//! Pure: one stage on one pool: its Deployment, its requests, what a replica serves, who owns the replicas.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;

use super::super::dereference::Found;
use super::super::validated::{Claim, Exclusion, Fit, PipelineId, StagePool};
use super::natural;
use crate::api::container::{Container, Quantity as RawQuantity};
use crate::api::stage::{Capacity, Profile};
use crate::api::{Stage, names};
use crate::controller::live::Live;
use crate::quantity::{Quantity, Round};
use crate::rebalance::world::Resources;

/// What one replica serves where nothing is declared: one replica's worth of work.
pub(super) const UNRATED_CAPACITY_MILLIS: u64 = 1_000;

pub(super) enum Problem {
    Excluded(Exclusion),
    Refused(&'static str, String),
}

pub(super) fn stage_pool(
    id: &PipelineId,
    stage: &Stage,
    pool: &str,
    fit: Option<Fit>,
    found: &Found,
) -> Result<StagePool, Problem> {
    let child = names::deployment(&id.name, &id.uid, &stage.name, pool);
    let live = match found.deployments.get(&child) {
        Some(deployment) if deployment.is_ours(&id.uid) => Some(Arc::clone(deployment)),
        Some(_) => return Err(Problem::Excluded(Exclusion::NameTaken(child))),
        None => None,
    };
    let profile = fit.as_ref().and_then(|fit| fit.profile.as_deref());
    let profile: Option<&Profile> = stage
        .profiles
        .iter()
        .find(|candidate| Some(candidate.name.as_str()) == profile);
    let container = fit.as_ref().map_or(&stage.container, |fit| &fit.container);
    let device = fit
        .as_ref()
        .and_then(|fit| fit.pool.spec.device.as_ref())
        .map(|device| device.resource_name.as_str());
    let request = request(container, device).map_err(|(field, message)| Problem::Refused(field, message))?;
    let capacity: Option<&Capacity> = profile.and_then(|p| p.capacity.as_ref()).or(stage.capacity.as_ref());
    let rate = match capacity.and_then(|capacity| capacity.requests_per_second.as_ref()) {
        None => None,
        Some(decimal) => {
            let millis = decimal
                .millis()
                .map_err(|error| Problem::Refused("capacity.requestsPerSecond", error.to_string()))?;
            if millis == 0 {
                let message = "must be at least 0.001: a replica that serves nothing is never useful".to_owned();
                return Err(Problem::Refused("capacity.requestsPerSecond", message));
            }
            Some(millis)
        }
    };
    let observed = found
        .pools
        .iter()
        .find(|facts| facts.object.name_any() == pool)
        .and_then(|f| f.observed.as_ref());
    Ok(StagePool {
        pool: pool.to_owned(),
        room: observed.map_or(0, |observed| observed.replicas_that_fit(request)),
        cost: observed.and_then(|observed| observed.replica_cost(request)),
        claim: claim(live.as_deref()),
        child,
        live,
        request,
        capacity_millis: rate.unwrap_or(UNRATED_CAPACITY_MILLIS),
        rated: rate.is_some(),
        concurrency: capacity.and_then(|capacity| capacity.concurrency).map(natural),
        preset: profile
            .and_then(|p| p.preset.as_ref())
            .unwrap_or(&stage.signal.preset)
            .clone(),
        startup_seconds: natural(profile.and_then(|p| p.startup_seconds).unwrap_or(stage.startup_seconds)),
        fit,
    })
}

/// Deployments of the stage on pools that it may not use any more. They stay until their replicas have moved off.
pub(super) fn leaving(id: &PipelineId, stage: &Stage, pools: &mut Vec<StagePool>, found: &Found) {
    let stage_id = names::stage_id(&id.uid, &stage.name);
    for deployment in found.deployments.values() {
        if deployment.stage_id.as_deref() != Some(&*stage_id) || !deployment.is_ours(&id.uid) {
            continue;
        }
        let Some(pool) = deployment.pool.as_deref() else {
            continue;
        };
        if pools.iter().any(|known| known.pool == pool) {
            continue;
        }
        if let Ok(left) = stage_pool(id, stage, pool, None, found) {
            pools.push(left);
        }
    }
}

/// Who owns `spec.replicas` now, read from `managedFields`.
fn claim(live: Option<&Live<Deployment>>) -> Claim {
    let Some(live) = live else { return Claim::Create(0) };
    if live.facts.claimed {
        Claim::Released
    } else {
        Claim::HandOver(live.facts.desired)
    }
}

fn request(container: &Container, device: Option<&str>) -> Result<Resources, (&'static str, String)> {
    let resources = &container.resources;
    let parse = |field: &'static str, raw: &RawQuantity| {
        Quantity::parse(&raw.0).map_err(|error| (field, format!("'{}': {error}", raw.0)))
    };
    let mut requests = BTreeMap::new();
    for (name, raw) in &resources.requests {
        requests.insert(name.as_str(), parse("container.resources.requests", raw)?);
    }
    for (name, raw) in &resources.limits {
        let limit = parse("container.resources.limits", raw)?;
        match requests.get(name.as_str()) {
            Some(request) if *request > limit => {
                let message = format!("'{name}' must not be greater than its limit '{}'", raw.0);
                return Err(("container.resources.requests", message));
            }
            Some(request) if name.contains('/') && *request != limit => {
                let message = format!("'{name}' must equal its limit: devices cannot be overcommitted");
                return Err(("container.resources.requests", message));
            }
            Some(_) => {}
            None => {
                requests.insert(name.as_str(), limit);
            }
        }
    }
    let need = |name: &str| requests.get(name).copied().unwrap_or(Quantity::ZERO);
    let clamp = |value: i128| u64::try_from(value).unwrap_or_default();
    let (cpu, memory) = (need("cpu"), need("memory"));
    if cpu <= Quantity::ZERO || memory <= Quantity::ZERO {
        let message = "'cpu' and 'memory' must be greater than 0: placement and cost follow from them".to_owned();
        return Err(("container.resources.requests", message));
    }
    Ok(Resources {
        cpu_millis: clamp(cpu.millis(Round::Up)),
        memory_kib: clamp(memory.kib(Round::Up)),
        device_millis: device.map_or(0, |device| clamp(need(device).millis(Round::Up))),
    })
}
