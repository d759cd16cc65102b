//! Holds the room that pools keep for bursts: one Deployment of placeholder pods for each such pool, in the operator's namespace.
//!
//! A placeholder asks for as much as a replica would and does nothing. Its priority class is below that of any replica, so the
//! scheduler takes its place for a replica at once, and the cluster's autoscaler, to which it is a pod like any other, brings a
//! node for it instead of for the replica. That works with every autoscaler and without any.
//!
//! Written when what is wanted changes, and compared with what there is at start and every few minutes: somebody may have changed it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements, SeccompProfile,
    SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::Store;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::pipeline::build::affinity;
use super::report::{WarmRoom, WarmRooms, WarmTroubles};
use super::view::coalesced;
use crate::api::{ComputePool, GROUP, VERSION, labels};

/// How often what there is is compared with what is wanted.
const COMPARE_EVERY: Duration = Duration::from_mins(5);
/// Changes are looked at together, at most this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a refusal, all is tried again so soon.
const RETRY: Duration = Duration::from_secs(30);
/// The user that placeholders run as: nobody in particular.
const USER: i64 = 65_532;

/// What placeholders are made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of the Deployments: the operator's.
    pub namespace: String,
    /// Image of a container that only waits.
    pub image: String,
}

/// What there is of a pool's room.
#[derive(Clone, Debug, Default)]
struct Held {
    /// What was applied last; absent if it has to be applied anew.
    applied: Option<Deployment>,
    /// The generation that left.
    generation: Option<i64>,
}

/// What is held, by the Deployment's name.
type All = BTreeMap<String, Held>;

/// Holds what room is wanted until `stopped` says so. `changed` tells that pools may have changed; `troubles` is told what is
/// refused.
pub async fn run(
    client: Client,
    settings: Settings,
    pools: Store<DeserializeGuard<ComputePool>>,
    (rooms, changed): (watch::Receiver<Option<Arc<WarmRooms>>>, watch::Receiver<()>),
    troubles: watch::Sender<Arc<WarmTroubles>>,
    mut stopped: watch::Receiver<bool>,
) {
    let api = Api::<Deployment>::namespaced(client, &settings.namespace);
    let looks = [
        coalesced(rooms.clone(), LOOK_EVERY).boxed(),
        coalesced(changed, LOOK_EVERY).boxed(),
    ];
    let mut looks = futures::stream::select_all(looks);
    let mut held = All::new();
    // What another process left behind is looked for once, whatever is wanted.
    let (mut first, mut compare_at) = (true, Instant::now());
    loop {
        let Some(rooms) = rooms.borrow().clone() else {
            tokio::select! {
                look = looks.next() => if look.is_none() { return },
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            continue;
        };
        let wanted = wanted(&settings, &pools, &rooms);
        if Instant::now() >= compare_at {
            compare_at = Instant::now() + COMPARE_EVERY;
            if first || !held.is_empty() || !wanted.is_empty() {
                match compare(&api, &mut held).await {
                    Ok(()) => first = false,
                    // Whoever wants no room need not have the right to look for it.
                    Err(error) if wanted.is_empty() => tracing::debug!(%error, "placeholders cannot be listed"),
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "placeholders of warm buffers cannot be listed"
                        );
                        compare_at = Instant::now() + RETRY;
                    }
                }
            }
        }
        let refused = hold(&api, wanted, &mut held).await;
        let waits = !refused.is_empty();
        let until = if waits { Instant::now() + RETRY } else { compare_at };
        troubles.send_if_modified(|known| {
            let differs = **known != refused;
            if differs {
                *known = Arc::new(refused);
            }
            differs
        });
        tokio::select! {
            // Whoever refuses is not asked again for every change.
            look = looks.next(), if !waits => if look.is_none() { return },
            () = tokio::time::sleep_until(until) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
    }
}

/// The Deployments that are wanted.
fn wanted(
    settings: &Settings,
    pools: &Store<DeserializeGuard<ComputePool>>,
    rooms: &WarmRooms,
) -> BTreeMap<String, Deployment> {
    let pools = pools.state();
    let known = pools.iter().filter_map(|pool| pool.0.as_ref().ok());
    let kept = known.filter_map(|pool| Some((pool, rooms.get(&pool.name_any())?)));
    kept.filter(|(pool, _)| pool.metadata.deletion_timestamp.is_none())
        .map(|(pool, room)| deployment(settings, pool, room))
        .map(|deployment| (deployment.name_any(), deployment))
        .collect()
}

/// Takes over what there is. What somebody changed or deleted is applied anew.
async fn compare(api: &Api<Deployment>, held: &mut All) -> Result<(), kube::Error> {
    let selector = format!(
        "{}={},{}={}",
        labels::MANAGED_BY,
        labels::MANAGER,
        labels::COMPONENT,
        labels::WARM_BUFFER
    );
    let found = api.list_metadata(&ListParams::default().labels(&selector)).await?;
    let found = found.items.into_iter().map(|object: PartialObjectMeta<Deployment>| {
        let name = object.name_any();
        let before = held.remove(&name).unwrap_or_default();
        let generation = object.metadata.generation;
        let applied = before.applied.filter(|_| before.generation == generation);
        (name, Held { applied, generation })
    });
    *held = found.collect();
    Ok(())
}

/// Writes what is not held as wanted. Returns what was refused, by pool; what cannot be deleted, by its own name.
async fn hold(api: &Api<Deployment>, wanted: BTreeMap<String, Deployment>, held: &mut All) -> WarmTroubles {
    let mut refused = WarmTroubles::new();
    let surplus: Vec<String> = held
        .keys()
        .filter(|name| !wanted.contains_key(*name))
        .cloned()
        .collect();
    for name in surplus {
        match api.delete(&name, &DeleteParams::background()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => {
                tracing::warn!(
                    name,
                    error = &error as &dyn std::error::Error,
                    "placeholders cannot be deleted"
                );
                refused.insert(name, error.to_string());
                continue;
            }
        }
        tracing::info!(name, "no room is kept any more");
        held.remove(&name);
    }
    for (name, deployment) in wanted {
        if held
            .get(&name)
            .is_some_and(|held| held.applied.as_ref() == Some(&deployment))
        {
            continue;
        }
        let params = PatchParams::apply(labels::FIELD_MANAGER).force();
        match api.patch(&name, &params, &Patch::Apply(&deployment)).await {
            Ok(stored) => {
                let parts = deployment.spec.as_ref().and_then(|spec| spec.replicas);
                tracing::info!(name, placeholders = parts, "room is kept for bursts");
                let generation = stored.metadata.generation;
                let applied = Some(deployment);
                held.insert(name, Held { applied, generation });
            }
            Err(error) => {
                tracing::warn!(
                    name,
                    error = &error as &dyn std::error::Error,
                    "placeholders cannot be written"
                );
                let pool = deployment.labels().get(labels::POOL).cloned();
                refused.insert(pool.unwrap_or(name), error.to_string());
            }
        }
    }
    refused
}

/// The placeholders of one pool. Same input, same bytes.
fn deployment(settings: &Settings, pool: &ComputePool, room: &WarmRoom) -> Deployment {
    let name = pool.name_any();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let selector = BTreeMap::from([pair(labels::COMPONENT, labels::WARM_BUFFER), pair(labels::POOL, &name)]);
    let mut all = selector.clone();
    all.extend([
        pair(labels::MANAGED_BY, labels::MANAGER),
        pair(labels::PART_OF, labels::MANAGER),
    ]);
    Deployment {
        metadata: ObjectMeta {
            name: Some(format!("tiercel-{}-{name}", labels::WARM_BUFFER)),
            namespace: Some(settings.namespace.clone()),
            labels: Some(all.clone()),
            owner_references: Some(vec![OwnerReference {
                api_version: format!("{GROUP}/{VERSION}"),
                kind: "ComputePool".to_owned(),
                name,
                uid: pool.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(i32::try_from(room.parts).unwrap_or(i32::MAX)),
            revision_history_limit: Some(0),
            // Others of another size take the place of these, not one beside them.
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                rolling_update: None,
            }),
            selector: LabelSelector {
                match_labels: Some(selector),
                ..LabelSelector::default()
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(all),
                    ..ObjectMeta::default()
                }),
                spec: Some(placeholder(settings, pool, room)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn placeholder(settings: &Settings, pool: &ComputePool, room: &WarmRoom) -> PodSpec {
    let spec = &pool.spec;
    let tolerations = affinity::tolerations(spec);
    PodSpec {
        affinity: Some(affinity::require(spec)),
        tolerations: (!tolerations.is_empty()).then_some(tolerations),
        runtime_class_name: spec.runtime_class_name.clone(),
        priority_class_name: Some(labels::WARM_BUFFER_CLASS.to_owned()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        // A replica waits for its place.
        termination_grace_period_seconds: Some(0),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![Container {
            name: "placeholder".to_owned(),
            image: Some(settings.image.clone()),
            resources: Some(requests(pool, room)),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities {
                    drop: Some(vec!["ALL".to_owned()]),
                    ..Capabilities::default()
                }),
                ..SecurityContext::default()
            }),
            ..Container::default()
        }],
        ..PodSpec::default()
    }
}

/// CPU and memory as requests alone; of devices, Kubernetes wants limit and request to be the same whole number.
fn requests(pool: &ComputePool, room: &WarmRoom) -> ResourceRequirements {
    let part = room.part;
    let mut requests = BTreeMap::from([
        ("cpu".to_owned(), Quantity(format!("{}m", part.cpu_millis))),
        ("memory".to_owned(), Quantity(format!("{}Ki", part.memory_kib))),
    ]);
    let devices = part.device_millis.div_ceil(1_000);
    let device = pool.spec.device.as_ref().filter(|_| devices > 0);
    let limits = device.map(|device| BTreeMap::from([(device.resource_name.clone(), Quantity(devices.to_string()))]));
    requests.extend(limits.clone().unwrap_or_default());
    ResourceRequirements {
        requests: Some(requests),
        limits,
        ..ResourceRequirements::default()
    }
}

#[cfg(test)]
mod tests;
