//! What only the cluster can know and refuse: names, quotas, references.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, ResourceExt};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel_e2e::nodes::X86;
use tiercel_e2e::wait::{eventually, wanted};

use crate::suite::Suite;
use crate::support::{PATIENCE, Tiered, stage};

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 6] {
    crate::scenarios![suite, lifecycle_refusals:
        a_deployment_of_somebody_else_under_a_childs_name_is_never_touched,
        a_service_of_somebody_else_under_a_childs_name_is_never_touched,
        a_quota_on_deployments_stops_one_stage_and_no_other_until_it_goes,
        pods_that_a_quota_refuses_are_named_in_the_status,
        a_secret_that_is_not_allowed_stops_its_stage_and_no_other,
        a_runtime_class_that_does_not_exist_is_named_in_the_status,
    ]
}

async fn one_pool(suite: &Suite) -> Tiered {
    let tiered = suite.tiered(&[]).await;
    tiered.space.nodes(&X86, 1).await;
    tiered.cpu_pool("x86", &[]).await;
    tiered.pool_says("x86", "Ready", "True", "NodesAvailable").await;
    tiered
}

async fn create(tiered: &Tiered, object: Value) {
    let made = tiered
        .installed
        .cluster
        .kubectl()
        .apply_in(tiered.namespace(), &object.to_string())
        .await;
    drop(made.unwrap());
}

async fn delete(tiered: &Tiered, kind: &str, name: &str) {
    let args = ["delete", kind, name, "-n", tiered.namespace()];
    drop(tiered.installed.cluster.kubectl().run(&args).await.unwrap());
}

/// Ready replicas by stage.
async fn ready_replicas(tiered: &Tiered, pipeline: &str) -> Vec<(String, i32)> {
    let status = tiered.pipeline(pipeline).await.status.unwrap_or_default();
    status
        .stages
        .into_iter()
        .map(|stage| (stage.name, stage.ready_replicas))
        .collect()
}

async fn serve(tiered: &Tiered, pipeline: &str, expected: &[(&str, i32)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, ready)| ((*name).to_owned(), *ready))
        .collect();
    eventually(PATIENCE, "the stages that can run do", async || {
        wanted(ready_replicas(tiered, pipeline).await, &expected)
    })
    .await
    .unwrap();
}

pub(crate) async fn a_deployment_of_somebody_else_under_a_childs_name_is_never_touched(suite: &Suite) {
    let tiered = one_pool(suite).await;
    let taken = format!("web--serve--{}", tiered.pool_name("x86"));
    create(
        &tiered,
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": taken, "labels": {"team": "other"}},
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"app": "other"}},
                "template": {
                    "metadata": {"labels": {"app": "other"}},
                    "spec": {"containers": [{"name": "other", "image": "registry.example.com/other:1"}]},
                },
            },
        }),
    )
    .await;
    let deployments = Api::<Deployment>::namespaced(tiered.space.client.clone(), tiered.namespace());
    let before = deployments.get(&taken).await.unwrap();
    tiered
        .create("web", &[stage("serve", &[], 1), stage("log", &["serve"], 1)])
        .await;
    let message = tiered.says("web", "Stalled", "True", "NameTaken").await;
    assert!(message.contains(&taken), "which name? {message}");
    tiered.says("web", "Ready", "False", "NameTaken").await;
    serve(&tiered, "web", &[("serve", 0), ("log", 1)]).await;
    let after = deployments.get(&taken).await.unwrap();
    // The Deployment controller may have written status since; spec, labels and owners must not have changed.
    assert_eq!(after.spec, before.spec);
    assert_eq!(after.metadata.labels, before.metadata.labels);
    assert_eq!(after.metadata.owner_references, before.metadata.owner_references);
    let managers: BTreeSet<_> = after
        .managed_fields()
        .iter()
        .filter_map(|entry| entry.manager.as_deref())
        .collect();
    assert!(
        !managers.iter().any(|manager| manager.starts_with("tiercel")),
        "{managers:?}"
    );
    delete(&tiered, "deployment", &taken).await;
    tiered.ready("web").await;
    serve(&tiered, "web", &[("serve", 1), ("log", 1)]).await;
}

pub(crate) async fn a_service_of_somebody_else_under_a_childs_name_is_never_touched(suite: &Suite) {
    let tiered = one_pool(suite).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web--serve"},
        "spec": {"selector": {"app": "other"}, "ports": [{"name": "other", "port": 9}]},
    });
    create(&tiered, service).await;
    tiered.create("web", &[stage("serve", &[], 1)]).await;
    let message = tiered.says("web", "Stalled", "True", "NameTaken").await;
    assert!(message.contains("Service 'web--serve'"), "which name? {message}");
    let kept = tiered
        .installed
        .cluster
        .kubectl()
        .get(&["service", "web--serve", "-n", tiered.namespace()])
        .await
        .unwrap();
    assert_eq!(kept["spec"]["selector"], json!({"app": "other"}));
    assert_eq!(kept["metadata"]["ownerReferences"], Value::Null);
    delete(&tiered, "service", "web--serve").await;
    tiered.ready("web").await;
}

pub(crate) async fn a_quota_on_deployments_stops_one_stage_and_no_other_until_it_goes(suite: &Suite) {
    let tiered = one_pool(suite).await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "two"},
        "spec": {"hard": {"count/deployments.apps": "2"}},
    });
    create(&tiered, quota).await;
    eventually(PATIENCE, "the quota is in force", async || {
        let quota = tiered
            .installed
            .cluster
            .kubectl()
            .get(&["resourcequota", "two", "-n", tiered.namespace()])
            .await;
        let quota = quota.map_err(|error| error.to_string())?;
        if quota["status"]["hard"].is_object() {
            Ok(())
        } else {
            Err("no status".to_owned())
        }
    })
    .await
    .unwrap();
    tiered
        .create(
            "web",
            &[stage("a", &[], 1), stage("b", &["a"], 1), stage("c", &["b"], 1)],
        )
        .await;
    let message = tiered.says("web", "Stalled", "True", "ChildRefused").await;
    // They are written side by side: the server says which of them came last.
    let refused: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .filter(|stage| message.contains(&format!("web--{stage}--")))
        .collect();
    assert!(
        refused.len() == 1 && message.contains("exceeded quota"),
        "what was refused, and why? {message}"
    );
    let served = ["a", "b", "c"].map(|stage| (stage, i32::from(!refused.contains(&stage))));
    serve(&tiered, "web", &served).await;
    delete(&tiered, "resourcequota", "two").await;
    tiered.ready("web").await;
    serve(&tiered, "web", &[("a", 1), ("b", 1), ("c", 1)]).await;
}

pub(crate) async fn pods_that_a_quota_refuses_are_named_in_the_status(suite: &Suite) {
    let tiered = one_pool(suite).await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"},
        "spec": {"hard": {"requests.cpu": "600m"}},
    });
    create(&tiered, quota).await;
    tiered.create("web", &[stage("serve", &[], 2)]).await;
    let message = tiered
        .until("web", "the status names the quota", |pipeline| {
            let ready = crate::support::condition(&pipeline, "Ready")?;
            if ready.message.contains("exceeded quota") {
                Ok(ready)
            } else {
                Err(crate::support::told(&ready))
            }
        })
        .await;
    assert_eq!(
        (message.status.as_str(), message.reason.as_str()),
        ("False", "ChildRefused"),
        "{message:?}"
    );
    serve(&tiered, "web", &[("serve", 1)]).await;
    delete(&tiered, "resourcequota", "small").await;
    serve(&tiered, "web", &[("serve", 2)]).await;
    tiered.ready("web").await;
}

pub(crate) async fn a_secret_that_is_not_allowed_stops_its_stage_and_no_other(suite: &Suite) {
    let tiered = one_pool(suite).await;
    let mut secretive = stage("secretive", &["serve"], 1);
    secretive["container"]["env"] =
        json!([{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "other-team"}}}]);
    tiered.create("web", &[stage("serve", &[], 1), secretive]).await;
    let message = tiered.says("web", "Stalled", "True", "Refused").await;
    assert!(
        message.contains("'secretive'") && message.contains("secretKeyRef"),
        "where? {message}"
    );
    assert!(message.contains("--allow-secrets"), "what to do? {message}");
    serve(&tiered, "web", &[("serve", 1)]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stages: BTreeSet<_> = tiered
        .deployments("web")
        .await
        .into_keys()
        .map(|(stage, _)| stage)
        .collect();
    assert_eq!(
        stages,
        ["serve".to_owned()].into(),
        "the refused stage has a Deployment"
    );
}

pub(crate) async fn a_runtime_class_that_does_not_exist_is_named_in_the_status(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    tiered.space.nodes(&X86, 1).await;
    let mut pool = crate::support::cpu_pool("x86", &[]);
    let class = format!("{}-sandbox", tiered.namespace());
    pool["spec"]["runtimeClassName"] = json!(class);
    tiered.apply(pool).await;
    tiered.create("web", &[stage("serve", &[], 1)]).await;
    let message = tiered
        .until("web", "the status names the runtime class", |pipeline| {
            let ready = crate::support::condition(&pipeline, "Ready")?;
            if ready.message.contains(&class) {
                Ok(ready.message)
            } else {
                Err(crate::support::told(&ready))
            }
        })
        .await;
    assert!(message.contains("'serve'"), "which stage? {message}");
}
