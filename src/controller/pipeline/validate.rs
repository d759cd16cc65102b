//! Pure: the raw object and what was found in the cluster become a [`ValidatedPipeline`], with refusals beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;

use super::dereference::{Found, PoolFacts};
use super::placement;
use super::validated::{
    Claim, Exclusion, Fit, Pace, Permission, PipelineId, Refusal, SignalRule, StagePool, ValidatedPipeline,
    ValidatedStage,
};
use crate::api::conditions::Reason;
use crate::api::container::{Container, ContainerOverride, Quantity as RawQuantity};
use crate::api::stage::{Capacity, PoolSelector, Profile};
use crate::api::tiered_pipeline::Mode;
use crate::api::{Stage, TieredPipeline, labels, names};
use crate::quantity::{Quantity, Round};
use crate::rebalance::world::Resources;

/// What one replica serves where nothing is declared: one replica's worth of work.
const UNRATED_CAPACITY_MILLIS: u64 = 1_000;

/// Checks the pipeline against what was found. Never fails: what cannot be accepted is a refusal beside the result, so
/// that one bad stage does not stop the others.
pub fn validate(raw: &TieredPipeline, found: &Found) -> ValidatedPipeline {
    let id = PipelineId {
        namespace: raw.namespace().unwrap_or_default(),
        name: raw.name_any(),
        uid: raw.uid().unwrap_or_default(),
    };
    let mut refusals = Vec::new();
    let budget_micros = raw.spec.budget.as_ref().and_then(|budget| {
        let refused = |error: crate::api::decimal::InvalidDecimal| refusal(None, "spec.budget.maxCostPerHour", error);
        budget
            .max_cost_per_hour
            .micros()
            .map_err(|error| refusals.push(refused(error)))
            .ok()
    });
    let mut stages: Vec<ValidatedStage> = Vec::with_capacity(raw.spec.stages.len());
    for stage in &raw.spec.stages {
        match self::stage(&id, raw, stage, &stages, found) {
            Ok(valid) => stages.push(valid),
            Err(refused) => refusals.push(*refused),
        }
    }
    ValidatedPipeline {
        mode: permission(raw),
        generation: raw.metadata.generation,
        priority: u16::try_from(raw.spec.priority).unwrap_or_default(),
        id,
        budget_micros,
        stages,
        refusals,
    }
}

/// Break-glass wins over the mode.
fn permission(raw: &TieredPipeline) -> Permission {
    match raw.annotations().get(labels::PAUSE).map(String::as_str) {
        Some("scale-in") => Permission::NoScaleIn,
        Some("scale-out") => Permission::NoScaleOut,
        // `all`. An unknown word must not unpause by accident what somebody meant to stop.
        Some(_) => Permission::Mode(Mode::Paused),
        None => Permission::Mode(raw.spec.mode),
    }
}

fn refusal(stage: Option<&str>, field: &str, message: impl std::fmt::Display) -> Refusal {
    Refusal {
        stage: stage.map(str::to_owned),
        field: field.to_owned(),
        reason: Reason::Refused,
        message: message.to_string(),
    }
}

fn stage(
    id: &PipelineId,
    raw: &TieredPipeline,
    stage: &Stage,
    earlier: &[ValidatedStage],
    found: &Found,
) -> Result<ValidatedStage, Box<Refusal>> {
    let refused = |field: &str, message: String| Box::new(refusal(Some(&stage.name), field, message));
    let mut after = Vec::with_capacity(stage.after.len());
    for caller in &stage.after {
        let index = earlier
            .iter()
            .position(|valid| valid.name == caller.stage)
            .ok_or_else(|| {
                refused(
                    "after.stage",
                    format!("'{}' must be a valid stage that is listed above", caller.stage),
                )
            })?;
        let calls = caller
            .calls_per_request
            .millis()
            .map_err(|error| refused("after.callsPerRequest", error.to_string()))?;
        after.push((index, calls));
    }
    let port = service_port(stage).map_err(|message| refused("container.ports", message))?;
    forbidden_secrets(stage, found).map_err(|field| {
        refused(
            field,
            "secrets are not allowed here; ask the administrator to start tiercel with --allow-secrets".into(),
        )
    })?;
    let replicas = &stage.replicas;
    if replicas.min > replicas.max {
        return Err(refused(
            "replicas.min",
            "must not be greater than `replicas.max`".into(),
        ));
    }

    let mut pools = Vec::new();
    let mut excluded = Vec::new();
    for facts in &found.pools {
        let name = facts.object.name_any();
        match fit(stage, facts) {
            Ok(fit) => match stage_pool(id, stage, &name, Some(fit), found) {
                Ok(pool) => pools.push(pool),
                Err(Problem::Excluded(exclusion)) => excluded.push((name, exclusion)),
                Err(Problem::Refused(field, message)) => return Err(refused(field, message)),
            },
            Err(exclusion) => excluded.push((name, exclusion)),
        }
    }
    leaving(id, stage, &mut pools, found);
    // Capacities of one stage must share a unit: requests per second only where every pool declares them.
    if pools.iter().any(|pool| pool.fit.is_some() && !pool.rated) {
        for pool in &mut pools {
            pool.rated = false;
            pool.capacity_millis = UNRATED_CAPACITY_MILLIS;
        }
    }
    placement::place(&mut pools, natural(replicas.min), natural(replicas.reliable_min));
    let calls = raw
        .spec
        .stages
        .iter()
        .filter(|other| other.after.iter().any(|edge| edge.stage == stage.name));
    Ok(ValidatedStage {
        name: stage.name.clone(),
        kind: stage.kind,
        hint: stage.hint(),
        traffic: stage.traffic,
        after,
        calls: calls.map(|other| other.name.clone()).collect(),
        port,
        min: natural(replicas.min),
        max: natural(replicas.max),
        reliable_min: natural(replicas.reliable_min),
        signal: SignalRule {
            target_percent: natural(stage.signal.target_percent).max(1),
            loss_seconds: natural(stage.signal.loss_seconds),
            on_loss: stage.signal.on_signal_loss,
            static_replicas: natural(stage.signal.static_replicas.unwrap_or_default()),
        },
        pace: Pace {
            tolerance_percent: natural(stage.scaling.tolerance_percent),
            up_window_seconds: natural(stage.scaling.scale_up.stabilization_window_seconds),
            down_window_seconds: natural(stage.scaling.scale_down.stabilization_window_seconds),
            down_percent_per_minute: natural(stage.scaling.scale_down.percent_per_minute),
            moves_per_hour: natural(stage.disruption.max_moves_per_hour),
            max_surge: natural(stage.disruption.max_surge),
            drain_seconds: natural(stage.disruption.drain_seconds),
        },
        pools,
        excluded,
    })
}

/// The schema keeps these at zero or more; with admission off a negative number counts as none.
fn natural(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

/// The first port of the container; every profile that replaces the ports must keep its name.
fn service_port(stage: &Stage) -> Result<Option<(String, i32)>, String> {
    let Some(port) = stage.container.ports.first() else {
        return Ok(None);
    };
    let lost = stage.profiles.iter().find(|profile| {
        let ports = profile
            .container
            .as_ref()
            .and_then(|container| container.ports.as_ref());
        ports.is_some_and(|ports| ports.iter().all(|other| other.name != port.name))
    });
    match lost {
        Some(profile) => Err(format!(
            "profile '{}' must keep a port named '{}': the Service needs it",
            profile.name, port.name
        )),
        None => Ok(Some((port.name.clone(), port.container_port))),
    }
}

/// The field that names a Secret although the administrator does not allow it.
fn forbidden_secrets(stage: &Stage, found: &Found) -> Result<(), &'static str> {
    if found.allow_secrets {
        return Ok(());
    }
    let overrides = stage
        .profiles
        .iter()
        .filter_map(|profile| profile.container.as_ref())
        .flat_map(|c| &c.env);
    let mut env = stage
        .container
        .env
        .iter()
        .chain(overrides)
        .filter_map(|variable| variable.value_from.as_ref());
    if env.any(|source| source.secret_key_ref.is_some()) {
        return Err("container.env.valueFrom.secretKeyRef");
    }
    if stage.container.volumes.iter().any(|volume| volume.secret.is_some()) {
        return Err("container.volumes.secret");
    }
    Ok(())
}

/// Whether and how the stage runs on the pool.
fn fit(stage: &Stage, facts: &PoolFacts) -> Result<Fit, Exclusion> {
    let pool = &facts.object.spec;
    let hint = stage.hint();
    if !hint.allows(pool.tier) {
        return Err(Exclusion::Hint(hint, pool.tier));
    }
    let (profile, container) = match &stage.profiles[..] {
        [] => (None, stage.container.clone()),
        profiles => {
            let matching = profiles.iter().find(|profile| matches(profile.pools.as_ref(), facts));
            let profile = matching.ok_or(Exclusion::NoProfile)?;
            (
                Some(profile.name.clone()),
                merge(&stage.container, profile.container.as_ref()),
            )
        }
    };
    let offered = pool.device.as_ref().map(|device| device.resource_name.as_str());
    let requested = |key: &&String| key.contains('/');
    let resources = &container.resources;
    if let Some(other) = resources
        .limits
        .keys()
        .chain(resources.requests.keys())
        .filter(requested)
        .find(|key| Some(key.as_str()) != offered)
    {
        return Err(Exclusion::DeviceNotOffered(other.clone()));
    }
    if let Some(device) = offered
        && !resources.limits.contains_key(device)
        && !resources.requests.contains_key(device)
    {
        return Err(Exclusion::DeviceNotRequested(device.to_owned()));
    }
    // Last, so that they are named only where they alone stand in the way.
    if !facts.admits {
        return Err(Exclusion::Closed);
    }
    if let Some(problem) = facts.problem() {
        return Err(Exclusion::PoolProblem(problem));
    }
    Ok(Fit {
        preferred: hint.preferred() == pool.tier,
        pool: Arc::clone(&facts.object),
        architecture: facts.architecture(),
        profile,
        container,
    })
}

fn matches(selector: Option<&PoolSelector>, facts: &PoolFacts) -> bool {
    let Some(selector) = selector else { return true };
    let pool = &facts.object.spec;
    let name = facts.object.name_any();
    let class = pool.class.as_deref().unwrap_or(&name);
    selector.tier.is_none_or(|tier| tier == pool.tier)
        && (selector.classes.is_empty() || selector.classes.iter().any(|wanted| wanted == class))
        && (selector.architectures.is_empty()
            || facts
                .architecture()
                .is_some_and(|architecture| selector.architectures.contains(&architecture)))
}

/// The stage's container with what the profile changes.
fn merge(base: &Container, change: Option<&ContainerOverride>) -> Container {
    let Some(change) = change else { return base.clone() };
    let ContainerOverride {
        image,
        command,
        args,
        env,
        ports,
        resources,
        startup_probe,
        readiness_probe,
        liveness_probe,
    } = change.clone();
    let mut variables = base.env.clone();
    for variable in env {
        match variables.iter_mut().find(|existing| existing.name == variable.name) {
            Some(existing) => *existing = variable,
            None => variables.push(variable),
        }
    }
    Container {
        image: image.unwrap_or_else(|| base.image.clone()),
        command: command.unwrap_or_else(|| base.command.clone()),
        args: args.unwrap_or_else(|| base.args.clone()),
        env: variables,
        ports: ports.unwrap_or_else(|| base.ports.clone()),
        resources: resources.unwrap_or_else(|| base.resources.clone()),
        startup_probe: startup_probe.or_else(|| base.startup_probe.clone()),
        readiness_probe: readiness_probe.or_else(|| base.readiness_probe.clone()),
        liveness_probe: liveness_probe.or_else(|| base.liveness_probe.clone()),
        volumes: base.volumes.clone(),
    }
}

enum Problem {
    Excluded(Exclusion),
    Refused(&'static str, String),
}

fn stage_pool(
    id: &PipelineId,
    stage: &Stage,
    pool: &str,
    fit: Option<Fit>,
    found: &Found,
) -> Result<StagePool, Problem> {
    let child = names::deployment(&id.name, &id.uid, &stage.name, pool);
    let live = match found.deployments.get(&child) {
        Some(deployment) if is_ours(deployment.as_ref(), &id.uid) => Some(Arc::clone(deployment)),
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
fn leaving(id: &PipelineId, stage: &Stage, pools: &mut Vec<StagePool>, found: &Found) {
    let stage_id = names::stage_id(&id.uid, &stage.name);
    for deployment in found.deployments.values() {
        let label = |key: &str| deployment.labels().get(key);
        if label(labels::STAGE_ID) != Some(&stage_id) || !is_ours(deployment.as_ref(), &id.uid) {
            continue;
        }
        let Some(pool) = label(labels::POOL) else { continue };
        if pools.iter().any(|known| &known.pool == pool) {
            continue;
        }
        if let Ok(left) = stage_pool(id, stage, pool, None, found) {
            pools.push(left);
        }
    }
}

/// Who owns `spec.replicas` now, read from `managedFields`.
fn claim(live: Option<&Deployment>) -> Claim {
    let Some(live) = live else { return Claim::Create(0) };
    let rebalancer = live.managed_fields().iter().any(|entry| {
        entry.manager.as_deref() == Some(labels::REBALANCER_FIELD_MANAGER)
            && entry
                .fields_v1
                .as_ref()
                .is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
    });
    if rebalancer {
        Claim::Released
    } else {
        Claim::HandOver(desired(live))
    }
}

/// What the Deployment asks for. The server stores 1 where nothing is said.
pub fn desired(live: &Deployment) -> u32 {
    live.spec.as_ref().and_then(|spec| spec.replicas).map_or(1, natural)
}

/// Controlled by the pipeline with this UID.
pub fn is_ours(object: &impl ResourceExt, uid: &str) -> bool {
    object
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.uid == uid)
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
