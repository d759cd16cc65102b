//! What the server takes, and somebody with experience would ask about. Each with the field and what to do.

use super::rules::{element, member};
use super::schema::Complaint;
use crate::api::compute_pool::{CapacityType, ComputePoolSpec, Tier};
use crate::api::container::Container;
use crate::api::stage::{Profile, Stage, TierHint};
use crate::api::{ComputePool, TieredPipeline};

/// Advice on a pool.
pub(super) fn pool(pool: &ComputePool) -> Vec<Complaint> {
    let mut said = Vec::new();
    let spec = &pool.spec;
    if spec.cost_per_node_hour.micros() == Ok(0) {
        let text = "a price of 0 puts the pool before all others; put in what a node costs, or declare `capacityType: Reserved`";
        said.push(("spec.costPerNodeHour".to_owned(), text.to_owned()));
    }
    if let Some(device) = &spec.device
        && spec.tolerations.is_empty()
    {
        let text = format!(
            "no tolerations: nodes with '{}' often carry a taint of that name, and would then count as unusable",
            device.resource_name
        );
        said.push(("spec.tolerations".to_owned(), text));
    }
    said
}

/// Advice on a pipeline. `pools` are those of the same files; without any, nothing is said of pools.
pub(super) fn pipeline(pipeline: &TieredPipeline, pools: &[&ComputePool]) -> Vec<Complaint> {
    let mut said = Vec::new();
    for (at, stage) in pipeline.spec.stages.iter().enumerate() {
        let path = element("spec.stages", at);
        said.extend(container(&stage.container, &member(&path, "container"), stage));
        said.extend(capacity(stage, &path));
        said.extend(placement(stage, &path, pools));
        if pipeline.spec.objective.is_some() && !says_both(stage) {
            let text = "`objective` needs `requestsPerSecond` and `concurrency` of every stage: without them nobody knows how \
                        long a queue takes";
            said.push((member(&path, "capacity"), text.to_owned()));
        }
    }
    said
}

fn container(container: &Container, path: &str, stage: &Stage) -> Vec<Complaint> {
    let mut said = Vec::new();
    let mut say = |field: &str, text: String| said.push((format!("{path}.{field}"), text));
    let last = container.image.rsplit('/').next().unwrap_or_default();
    if !last.contains('@') && matches!(last.split_once(':'), None | Some((_, "latest"))) {
        let text = "no fixed version: replicas that start later may run something else; pin a tag or a digest";
        say("image", text.to_owned());
    }
    let probed = |profile: &Profile| {
        let own = profile.container.as_ref();
        own.is_some_and(|own| own.readiness_probe.is_some())
    };
    let everywhere = !stage.profiles.is_empty() && stage.profiles.iter().all(probed);
    if container.readiness_probe.is_none() && !everywhere {
        let text = "no readiness probe: a replica counts as Ready as soon as it runs, and is sent requests before it serves; a \
                    shift takes the old one away at that moment";
        say("readinessProbe", text.to_owned());
    }
    if !container.resources.limits.contains_key("memory") {
        let text = "no memory limit: a leak ends other pods of the node before this one";
        say("resources.limits", text.to_owned());
    }
    said
}

fn says_both(stage: &Stage) -> bool {
    let both = |capacity: &crate::api::stage::Capacity| {
        capacity.requests_per_second.is_some() && capacity.concurrency.is_some()
    };
    let own = stage.capacity.as_ref().is_some_and(both);
    let each = |profile: &Profile| profile.capacity.as_ref().map_or(own, both);
    own || (!stage.profiles.is_empty() && stage.profiles.iter().all(each))
}

/// What a replica serves, where it is nowhere said.
fn capacity(stage: &Stage, path: &str) -> Vec<Complaint> {
    let none = stage.capacity.is_none() && stage.profiles.iter().all(|profile| profile.capacity.is_none());
    if !none {
        return Vec::new();
    }
    let text = "what a replica serves is not declared, here or in a profile: rates cannot be planned for, and pools are not told \
                apart by what they serve";
    vec![(member(path, "capacity"), text.to_owned())]
}

/// Whether a stage has anywhere to go.
fn placement(stage: &Stage, path: &str, pools: &[&ComputePool]) -> Vec<Complaint> {
    let mut said = Vec::new();
    let hint = stage.hint();
    let hinted = member(path, "tierHint");
    let requests_device = |container: &Container| container.resources.limits.keys().any(|key| key.contains('/'));
    let of_profile = |profile: &Profile| {
        let own = profile.container.as_ref().and_then(|own| own.resources.as_ref());
        own.is_some_and(|own| own.limits.keys().any(|key| key.contains('/')))
    };
    let device = requests_device(&stage.container) || stage.profiles.iter().any(of_profile);
    if hint == TierHint::AcceleratorRequired && !device {
        let text = "the stage needs an accelerator, but neither `container` nor a profile names a device in \
                    `resources.limits`, such as {nvidia.com/gpu: 1}";
        said.push((hinted.clone(), text.to_owned()));
    }
    if pools.is_empty() {
        return said;
    }
    let fitting: Vec<&&ComputePool> = pools
        .iter()
        .filter(|pool| fits(stage, pool.metadata.name.as_ref(), &pool.spec))
        .collect();
    if fitting.is_empty() {
        let text = format!(
            "no ComputePool of these files fits: the hint is {}, and profiles ask for tiers, classes and architectures that \
             none of them has",
            hint.as_str()
        );
        said.push((hinted, text));
        return said;
    }
    let preferred = fitting.iter().any(|pool| pool.spec.tier == hint.preferred());
    if !preferred {
        let text = format!(
            "of the ComputePools of these files only such below the hint {} fit: the stage will run, and report it",
            hint.as_str()
        );
        said.push((hinted, text));
    }
    let spot = fitting.iter().all(|pool| pool.spec.capacity_type == CapacityType::Spot);
    if spot {
        let text =
            "all ComputePools of these files that fit are Spot: the nodes of all replicas may be taken away at once";
        said.push((format!("{path}.replicas.reliableMin"), text.to_owned()));
    }
    said
}

/// Whether the hint allows the pool, and a profile is for it.
fn fits(stage: &Stage, name: Option<&String>, pool: &ComputePoolSpec) -> bool {
    let class = pool.class.as_ref().or(name);
    let asks_for = |profile: &Profile| {
        let Some(asked) = &profile.pools else { return true };
        let tier = asked.tier.is_none_or(|tier| tier == pool.tier);
        let class = asked.classes.is_empty() || class.is_some_and(|class| asked.classes.contains(class));
        let architecture = asked.architectures.is_empty()
            || pool
                .architecture
                .is_none_or(|known| asked.architectures.contains(&known));
        tier && class && architecture
    };
    let profiled = stage.profiles.is_empty() || stage.profiles.iter().any(asks_for);
    stage.hint().allows(pool.tier) && profiled && (pool.tier == Tier::Cpu || pool.device.is_some())
}
