//! Pure: the raw object and what was found in the cluster become a [`ValidatedPipeline`], with refusals beside it.

mod fit;
mod stage_pool;

use kube::ResourceExt;

use self::fit::fit;
use self::stage_pool::{Problem, UNRATED_CAPACITY_MILLIS, leaving, stage_pool};
use super::dereference::Found;
use super::placement;
use super::validated::{Pace, Permission, PipelineId, Refusal, SignalRule, ValidatedPipeline, ValidatedStage};
use crate::api::conditions::Reason;
use crate::api::tiered_pipeline::{self, Mode};
use crate::api::{Stage, TieredPipeline, labels};
use crate::rebalance::world::Objective;
use crate::signals::presets::{self, Preset};

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
            .as_ref()?
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
        power_max_milliwatts: power_max_milliwatts(raw),
        together: found.ceilings.clone(),
        objective: raw.spec.objective.as_ref().map(objective),
        stages,
        refusals,
    }
}

/// Whether a ceiling on power holds, its own or the namespace's.
fn counts_power(raw: &TieredPipeline, found: &Found) -> bool {
    power_max_milliwatts(raw)
        .or(found.ceilings.limits.power_max_milliwatts)
        .is_some()
}

fn power_max_milliwatts(raw: &TieredPipeline) -> Option<u64> {
    let watts = raw.spec.budget.as_ref()?.max_power_watts?;
    Some(u64::try_from(watts).unwrap_or_default() * 1_000)
}

fn objective(raw: &tiered_pipeline::Objective) -> Objective {
    Objective {
        latency_ms: u64::try_from(raw.latency_milliseconds).unwrap_or_default(),
        percentile: u32::try_from(raw.percentile).unwrap_or_default(),
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
                let above = raw.spec.stages.iter().take_while(|other| other.name != stage.name);
                let message = if above.into_iter().any(|other| other.name == caller.stage) {
                    format!(
                        "'{}' is refused itself; this stage stays as it is until that is mended",
                        caller.stage
                    )
                } else {
                    format!("'{}' must be a stage that is listed above", caller.stage)
                };
                refused("after.stage", message)
            })?;
        let calls = caller
            .calls_per_request
            .millis()
            .map_err(|error| refused("after.callsPerRequest", error.to_string()))?;
        after.push((index, calls));
    }
    let also = others(stage).map_err(|message| refused("signal.also.preset", message))?;
    metrics_port(stage).map_err(|message| refused("container.ports", message))?;
    let port = service_port(stage).map_err(|message| refused("container.ports", message))?;
    forbidden_secrets(stage, found).map_err(|field| {
        refused(
            field,
            "secrets are not allowed here; ask the administrator to start tiercel with --allow-secrets (chart: `allowSecrets`)".into(),
        )
    })?;
    known_presets(stage).map_err(|(field, message)| refused(field, message))?;
    bounds(stage).map_err(|message| refused("replicas.min", message))?;
    let replicas = &stage.replicas;

    let mut pools = Vec::new();
    let mut excluded = Vec::new();
    for facts in &found.pools {
        let name = facts.object.name_any();
        match fit(stage, facts, counts_power(raw, found)) {
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
    let called = raw
        .spec
        .stages
        .iter()
        .filter(|other| other.after.iter().any(|edge| edge.stage == stage.name));
    let calls = called.filter_map(|other| Some((other.name.clone(), other.container.ports.first()?.container_port)));
    Ok(ValidatedStage {
        name: stage.name.clone(),
        kind: stage.kind,
        hint: stage.hint(),
        traffic: stage.traffic,
        after,
        calls: calls.collect(),
        port,
        min: natural(replicas.min),
        max: natural(replicas.max),
        reliable_min: natural(replicas.reliable_min),
        signal: SignalRule {
            target_percent: natural(stage.signal.target_percent).max(1),
            also,
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

/// What `replicas.min` must not be.
fn bounds(stage: &Stage) -> Result<(), String> {
    let preset = &stage.signal.preset;
    let others = stage.signal.also.iter().map(|also| &also.preset);
    let all: Vec<&Preset> = std::iter::once(preset)
        .chain(others)
        .filter_map(|name| Preset::named(name))
        .collect();
    let beside = if stage.signal.also.is_empty() {
        ""
    } else {
        ", nor does any in `signal.also`"
    };
    if stage.replicas.min == 0 && !all.iter().any(|preset| preset.sees_waiting()) {
        Err(format!(
            "must be at least 1 when `signal.preset` is '{preset}': it does not see waiting work{beside}, so nobody would wake the stage"
        ))
    } else if stage.replicas.min == 0 && stage.after.is_empty() && !all.iter().any(|preset| preset.is_of_stages()) {
        Err(format!(
            "must be at least 1 for a stage without `after` when `signal.preset` is '{preset}', which speaks of pods: nobody else would see its waiting work"
        ))
    } else if stage.replicas.min > stage.replicas.max {
        Err("must not be greater than `replicas.max`".to_owned())
    } else {
        Ok(())
    }
}

/// Every preset that the stage or a profile names must exist; the field that names another one otherwise.
fn known_presets(stage: &Stage) -> Result<(), (&'static str, String)> {
    let of_profiles = stage.profiles.iter().filter_map(|profile| {
        let preset = profile.preset.as_ref()?;
        Some(("profiles.preset", preset, format!(" of profile '{}'", profile.name)))
    });
    let mut named = std::iter::once(("signal.preset", &stage.signal.preset, String::new())).chain(of_profiles);
    match named.find(|(_, name, _)| Preset::named(name).is_none()) {
        None => Ok(()),
        Some((field, name, of)) => Err((field, unknown_preset(name, &of))),
    }
}

/// The signals beside the main one. None of them is read from the pods themselves: their one exposition is read by
/// `signal.preset` or the profile's.
fn others(stage: &Stage) -> Result<Vec<(&'static Preset, u32)>, String> {
    let mut known: Vec<(&'static Preset, u32)> = Vec::with_capacity(stage.signal.also.len());
    for also in &stage.signal.also {
        let name = &also.preset;
        let preset = Preset::named(name).ok_or_else(|| unknown_preset(name, ""))?;
        if matches!(preset.source(), presets::Source::Scrape { .. }) {
            return Err(format!(
                "'{name}' is read from the pods themselves, which are read by `signal.preset`: use 'cpu', 'dcgm', 'psi' or one that the administrator has added"
            ));
        }
        let mains = std::iter::once(&stage.signal.preset)
            .chain(stage.profiles.iter().filter_map(|profile| profile.preset.as_ref()));
        if mains.into_iter().any(|main| main == name) || known.iter().any(|(other, _)| other.name() == name) {
            return Err(format!("'{name}' is named twice: the stage is read by it anyway"));
        }
        known.push((preset, natural(also.target_percent).max(1)));
    }
    Ok(known)
}

fn unknown_preset(name: &str, of: &str) -> String {
    format!(
        "'{name}'{of} is not a preset: use {}, or ask the administrator to add it with --presets (chart: `presets`)",
        presets::names()
    )
}

/// Where pods are read themselves, some port must be declared.
fn metrics_port(stage: &Stage) -> Result<(), String> {
    if !stage.container.ports.is_empty() {
        return Ok(());
    }
    let portless = stage.profiles.iter().filter(|profile| {
        let ports = profile
            .container
            .as_ref()
            .and_then(|container| container.ports.as_ref());
        ports.is_none_or(Vec::is_empty)
    });
    let of_profiles = portless.map(|profile| profile.preset.as_ref().unwrap_or(&stage.signal.preset));
    let of_stage = stage.profiles.is_empty().then_some(&stage.signal.preset);
    let scraped = |name: &&String| {
        let preset = Preset::named(name);
        preset.is_some_and(|preset| matches!(preset.source(), presets::Source::Scrape { .. }))
    };
    match of_profiles.chain(of_stage).find(scraped) {
        Some(preset) => Err(format!(
            "must not be empty: preset '{preset}' is read from the pods, at their first port"
        )),
        None => Ok(()),
    }
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

/// Whether the rebalancer has claimed `spec.replicas`, as `managedFields` show.
pub fn rebalancer_owns(object: &impl ResourceExt) -> bool {
    object.managed_fields().iter().any(|entry| {
        let fields = entry.fields_v1.as_ref();
        entry.manager.as_deref() == Some(labels::REBALANCER_FIELD_MANAGER)
            && fields.is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
    })
}

/// Controlled by the pipeline with this UID.
pub fn is_ours(object: &impl ResourceExt, uid: &str) -> bool {
    object
        .owner_references()
        .iter()
        .any(|owner| owner.controller == Some(true) && owner.uid == uid)
}
