//! Pure: whether a stage runs on a pool, and with which container.

use std::sync::Arc;

use kube::ResourceExt;

use super::super::dereference::PoolFacts;
use super::super::validated::{Exclusion, Fit};
use crate::api::Stage;
use crate::api::container::{Container, ContainerOverride};
use crate::api::stage::PoolSelector;

/// Whether and how the stage runs on the pool. `weighed`: only where it is known what a replica draws.
pub(super) fn fit(stage: &Stage, facts: &PoolFacts, weighed: bool) -> Result<Fit, Exclusion> {
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
    if weighed && pool.power_watts_per_node.is_none() {
        return Err(Exclusion::PowerUnknown);
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
