//! Services: one per stage, and one per pool where traffic is weighted.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::validated::{ValidatedPipeline, ValidatedStage};
use super::meta;
use crate::api::names;
use crate::api::stage::Traffic;

/// The Services of a stage; none where it listens on no port.
pub(super) fn services(pipeline: &ValidatedPipeline, stage: &ValidatedStage) -> Vec<Service> {
    let Some((name, number)) = &stage.port else {
        return Vec::new();
    };
    let id = &pipeline.id;
    let service = |child: String, selector: BTreeMap<String, String>| Service {
        metadata: meta::child(id, child, meta::stage_labels(id, stage)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector),
            ports: Some(vec![ServicePort {
                name: Some(name.clone()),
                port: *number,
                // By name: a profile may listen on another number.
                target_port: Some(IntOrString::String(name.clone())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    let mut all = vec![service(
        names::stage(&id.name, &id.uid, &stage.name),
        meta::stage_selector(id, stage),
    )];
    if stage.traffic == Traffic::Weighted {
        let fitting = stage.pools.iter().filter(|pool| pool.fit.is_some());
        all.extend(fitting.map(|pool| service(pool.child.clone(), meta::variant_selector(id, stage, &pool.pool))));
    }
    all
}
