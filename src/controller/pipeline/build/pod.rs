//! The pod of one stage on one pool: the author's container inside the restricted profile.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapKeySelector, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, ExecAction, GRPCAction, HTTPGetAction, Lifecycle, LifecycleHandler,
    PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, Probe, ResourceRequirements, SeccompProfile,
    SecretKeySelector, SecretVolumeSource, SecurityContext, SleepAction, TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::validated::{Fit, StagePool, ValidatedPipeline, ValidatedStage};
use super::affinity;
use crate::api::container::{self, Medium};
use crate::api::names;

/// Seconds that a leaving pod keeps serving, so that load balancers have taken it out before it stops.
const DEREGISTER_SECONDS_MAX: u32 = 5;

/// The pod spec.
pub(super) fn spec(
    pipeline: &ValidatedPipeline,
    stage: &ValidatedStage,
    pool: &StagePool,
    fit: &Fit,
    selector: &LabelSelector,
) -> PodSpec {
    let drain = stage.pace.drain_seconds;
    let volumes: Vec<Volume> = fit.container.volumes.iter().map(volume).collect();
    PodSpec {
        affinity: Some(affinity::require(&fit.pool.spec)),
        tolerations: some(affinity::tolerations(&fit.pool.spec)),
        topology_spread_constraints: Some(affinity::spread(selector)),
        runtime_class_name: fit.pool.spec.runtime_class_name.clone(),
        service_account_name: Some(names::service_account(&pipeline.id.name, &pipeline.id.uid)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        // The process gets `drain` after it has been taken out of the load balancers.
        termination_grace_period_seconds: Some(i64::from(drain + drain.min(DEREGISTER_SECONDS_MAX))),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![main(pipeline, stage, pool, fit)],
        volumes: some(volumes),
        ..PodSpec::default()
    }
}

fn main(pipeline: &ValidatedPipeline, stage: &ValidatedStage, pool: &StagePool, fit: &Fit) -> Container {
    let container::Container {
        image,
        command,
        args,
        env,
        ports,
        resources,
        startup_probe,
        readiness_probe,
        liveness_probe,
        volumes,
    } = &fit.container;
    let deregister = stage.pace.drain_seconds.min(DEREGISTER_SECONDS_MAX);
    Container {
        name: "stage".to_owned(),
        image: Some(image.clone()),
        command: some(command.clone()),
        args: some(args.clone()),
        env: Some(
            given(pipeline, stage, pool)
                .into_iter()
                .chain(env.iter().map(variable))
                .collect(),
        ),
        ports: some(ports.iter().map(port).collect()),
        resources: Some(requirements(resources)),
        startup_probe: startup_probe.as_ref().map(probe),
        readiness_probe: readiness_probe.as_ref().map(probe),
        liveness_probe: liveness_probe.as_ref().map(probe),
        volume_mounts: some(volumes.iter().map(mount).collect()),
        lifecycle: (deregister > 0).then(|| Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction {
                    seconds: i64::from(deregister),
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            run_as_non_root: Some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

/// What every container is told: who it is, and where its successors are.
fn given(pipeline: &ValidatedPipeline, stage: &ValidatedStage, pool: &StagePool) -> Vec<EnvVar> {
    let value = |name: String, value: String| EnvVar {
        name,
        value: Some(value),
        value_from: None,
    };
    let id = &pipeline.id;
    let mut all = vec![
        value("TIERCEL_PIPELINE".to_owned(), id.name.clone()),
        value("TIERCEL_STAGE".to_owned(), stage.name.clone()),
        value("TIERCEL_POOL".to_owned(), pool.pool.clone()),
    ];
    for (callee, port) in &stage.calls {
        let service = names::stage(&id.name, &id.uid, callee);
        all.push(value(
            names::stage_url_variable(callee),
            format!("http://{service}.{}.svc:{port}", id.namespace),
        ));
    }
    all
}

fn variable(variable: &container::EnvVar) -> EnvVar {
    EnvVar {
        name: variable.name.clone(),
        value: variable.value.clone(),
        value_from: variable.value_from.as_ref().map(|source| EnvVarSource {
            config_map_key_ref: source.config_map_key_ref.as_ref().map(|key| ConfigMapKeySelector {
                name: key.name.clone(),
                key: key.key.clone(),
                optional: None,
            }),
            secret_key_ref: source.secret_key_ref.as_ref().map(|key| SecretKeySelector {
                name: key.name.clone(),
                key: key.key.clone(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    }
}

fn port(port: &container::Port) -> ContainerPort {
    ContainerPort {
        name: Some(port.name.clone()),
        container_port: port.container_port,
        // Written out, because server-side apply keys ports by number and protocol.
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn requirements(resources: &container::Resources) -> ResourceRequirements {
    let quantities = |map: &BTreeMap<String, container::Quantity>| {
        some_map(
            map.iter()
                .map(|(name, raw)| (name.clone(), Quantity(raw.0.clone())))
                .collect(),
        )
    };
    let mut limits = resources.limits.clone();
    // Extended resources must be limited to what they request; authors may name either.
    let devices = resources.requests.iter().filter(|(name, _)| name.contains('/'));
    for (name, raw) in devices {
        limits.entry(name.clone()).or_insert_with(|| raw.clone());
    }
    let mut requests = resources.requests.clone();
    for (name, raw) in resources.limits.iter().filter(|(name, _)| name.contains('/')) {
        requests.entry(name.clone()).or_insert_with(|| raw.clone());
    }
    ResourceRequirements {
        requests: quantities(&requests),
        limits: quantities(&limits),
        claims: None,
    }
}

fn probe(probe: &container::Probe) -> Probe {
    Probe {
        http_get: probe.http_get.as_ref().map(|get| HTTPGetAction {
            path: Some(get.path.clone()),
            port: IntOrString::Int(get.port),
            ..HTTPGetAction::default()
        }),
        tcp_socket: probe.tcp_socket.as_ref().map(|tcp| TCPSocketAction {
            port: IntOrString::Int(tcp.port),
            ..TCPSocketAction::default()
        }),
        grpc: probe.grpc.as_ref().map(|grpc| GRPCAction {
            port: grpc.port,
            ..GRPCAction::default()
        }),
        exec: probe.exec.as_ref().map(|exec| ExecAction {
            command: Some(exec.command.clone()),
        }),
        initial_delay_seconds: probe.initial_delay_seconds,
        period_seconds: probe.period_seconds,
        timeout_seconds: probe.timeout_seconds,
        failure_threshold: probe.failure_threshold,
        ..Probe::default()
    }
}

fn volume(volume: &container::Volume) -> Volume {
    let claim = |name: &str, read_only: bool| PersistentVolumeClaimVolumeSource {
        claim_name: name.to_owned(),
        read_only: read_only.then_some(true),
    };
    Volume {
        name: volume.name.clone(),
        empty_dir: volume.empty_dir.as_ref().map(|scratch| EmptyDirVolumeSource {
            medium: (scratch.medium == Medium::Memory).then(|| "Memory".to_owned()),
            size_limit: scratch.size_limit.as_ref().map(|limit| Quantity(limit.0.clone())),
        }),
        config_map: volume.config_map.as_ref().map(|map| ConfigMapVolumeSource {
            name: map.name.clone(),
            ..ConfigMapVolumeSource::default()
        }),
        secret: volume.secret.as_ref().map(|secret| SecretVolumeSource {
            secret_name: Some(secret.name.clone()),
            ..SecretVolumeSource::default()
        }),
        persistent_volume_claim: volume
            .persistent_volume_claim
            .as_ref()
            .map(|source| claim(&source.name, false))
            .or_else(|| volume.model_cache.as_ref().map(|source| claim(&source.name, true))),
        ..Volume::default()
    }
}

fn mount(volume: &container::Volume) -> VolumeMount {
    let writable = volume.empty_dir.is_some() || volume.persistent_volume_claim.is_some();
    VolumeMount {
        name: volume.name.clone(),
        mount_path: volume.mount_path.clone(),
        read_only: (!writable).then_some(true),
        ..VolumeMount::default()
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn some_map<V>(map: BTreeMap<String, V>) -> Option<BTreeMap<String, V>> {
    (!map.is_empty()).then_some(map)
}
