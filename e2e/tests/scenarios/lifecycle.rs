//! What becomes of a pipeline's children when its spec changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel::api::labels;
use tiercel_e2e::nodes::X86;
use tiercel_e2e::wait::{eventually, wanted};

use crate::suite::Suite;
use crate::support::{PATIENCE, Tiered, stage};

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 4] {
    crate::scenarios![suite, lifecycle:
        a_stage_that_is_added_comes_up_and_the_others_keep_their_pods,
        a_stage_that_is_removed_takes_its_children_along_and_no_others,
        a_renamed_stage_gets_children_of_its_new_name_and_the_others_keep_their_pods,
        of_many_edits_the_last_one_counts_and_no_orphan_stays,
    ]
}

/// A pool, and a pipeline of three stages that is Ready on it.
async fn three_stages(suite: &Suite) -> Tiered {
    let tiered = suite.tiered(&[]).await;
    tiered.space.nodes(&X86, 2).await;
    tiered.cpu_pool("x86", &[]).await;
    tiered.create("rag", &stages(&["retrieve", "guard", "answer"])).await;
    tiered.ready("rag").await;
    tiered
}

/// A chain of stages; floors of two, so that each has a budget.
fn stages(names: &[&str]) -> Vec<Value> {
    let after = |index: usize| index.checked_sub(1).and_then(|before| names.get(before).copied());
    names
        .iter()
        .enumerate()
        .map(|(index, name)| stage(name, after(index).as_slice(), 2))
        .collect()
}

async fn edit(tiered: &Tiered, stages: &[Value]) {
    let patch = json!({"spec": {"stages": stages}});
    let edited = tiered
        .pipelines()
        .patch("rag", &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    drop(edited.unwrap());
}

/// Stages that have a Deployment, a Service, a PodDisruptionBudget.
async fn stages_with_children(tiered: &Tiered) -> [BTreeSet<String>; 3] {
    let stage = |labels: &std::collections::BTreeMap<String, String>| labels[labels::STAGE].clone();
    let of_pipeline = ListParams::default().labels(&format!("{}=rag", labels::PIPELINE));
    let client = || tiered.space.client.clone();
    let services = Api::<Service>::namespaced(client(), tiered.namespace())
        .list(&of_pipeline)
        .await
        .unwrap();
    let budgets = Api::<PodDisruptionBudget>::namespaced(client(), tiered.namespace())
        .list(&of_pipeline)
        .await
        .unwrap();
    [
        tiered
            .deployments("rag")
            .await
            .into_keys()
            .map(|(stage, _)| stage)
            .collect(),
        services.items.iter().map(|service| stage(service.labels())).collect(),
        budgets.items.iter().map(|budget| stage(budget.labels())).collect(),
    ]
}

async fn children_are_of(tiered: &Tiered, names: &[&str]) {
    let names: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let all = [names.clone(), names.clone(), names];
    eventually(
        PATIENCE,
        "Deployments, Services and budgets are those of the stages",
        async || wanted(stages_with_children(tiered).await, &all),
    )
    .await
    .unwrap();
}

pub(crate) async fn a_stage_that_is_added_comes_up_and_the_others_keep_their_pods(suite: &Suite) {
    let tiered = three_stages(suite).await;
    children_are_of(&tiered, &["retrieve", "guard", "answer"]).await;
    let (retrieve, guard) = (
        tiered.pod_uids("rag", "retrieve").await,
        tiered.pod_uids("rag", "guard").await,
    );
    edit(&tiered, &stages(&["retrieve", "guard", "answer", "polish"])).await;
    tiered.ready("rag").await;
    children_are_of(&tiered, &["retrieve", "guard", "answer", "polish"]).await;
    assert_eq!(tiered.pod_uids("rag", "polish").await.len(), 2);
    // `answer` calls a new stage and has to learn its address; the others have not changed.
    assert_eq!(
        tiered.pod_uids("rag", "retrieve").await,
        retrieve,
        "pods of an untouched stage were replaced"
    );
    assert_eq!(
        tiered.pod_uids("rag", "guard").await,
        guard,
        "pods of an untouched stage were replaced"
    );
    let answer = &tiered.deployments("rag").await[&("answer".into(), "x86".into())];
    let env = serde_json::to_string(&answer.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].env);
    assert!(env.as_ref().unwrap().contains("TIERCEL_STAGE_POLISH_URL"), "{env:?}");
}

pub(crate) async fn a_stage_that_is_removed_takes_its_children_along_and_no_others(suite: &Suite) {
    let tiered = three_stages(suite).await;
    let retrieve = tiered.pod_uids("rag", "retrieve").await;
    edit(&tiered, &stages(&["retrieve", "guard"])).await;
    tiered.ready("rag").await;
    children_are_of(&tiered, &["retrieve", "guard"]).await;
    assert_eq!(
        tiered.pod_uids("rag", "retrieve").await,
        retrieve,
        "pods of an untouched stage were replaced"
    );
    eventually(PATIENCE, "the removed stage has no pod left", async || {
        wanted(tiered.pod_uids("rag", "answer").await.len(), &0)
    })
    .await
    .unwrap();
}

pub(crate) async fn a_renamed_stage_gets_children_of_its_new_name_and_the_others_keep_their_pods(suite: &Suite) {
    let tiered = three_stages(suite).await;
    let retrieve = tiered.pod_uids("rag", "retrieve").await;
    edit(&tiered, &stages(&["retrieve", "guard", "reply"])).await;
    tiered.ready("rag").await;
    children_are_of(&tiered, &["retrieve", "guard", "reply"]).await;
    assert_eq!(
        tiered.pod_uids("rag", "retrieve").await,
        retrieve,
        "pods of an untouched stage were replaced"
    );
    assert_eq!(tiered.pod_uids("rag", "reply").await.len(), 2);
}

pub(crate) async fn of_many_edits_the_last_one_counts_and_no_orphan_stays(suite: &Suite) {
    let tiered = three_stages(suite).await;
    let with_image = |names: &[&str], image: &str| {
        let mut all = stages(names);
        all[0]["container"]["image"] = json!(image);
        all
    };
    // A roll-out begins and is overtaken by five edits within the second, some with other stages.
    edit(
        &tiered,
        &with_image(&["retrieve", "guard", "answer"], "registry.example.com/stage:2"),
    )
    .await;
    for (version, names) in [
        (3, vec!["retrieve", "guard", "answer", "polish"]),
        (4, vec!["retrieve", "answer"]),
        (5, vec!["retrieve", "guard"]),
        (6, vec!["retrieve", "guard", "answer", "translate"]),
        (7, vec!["retrieve", "guard", "answer"]),
    ] {
        edit(
            &tiered,
            &with_image(&names, &format!("registry.example.com/stage:{version}")),
        )
        .await;
    }
    tiered.ready("rag").await;
    children_are_of(&tiered, &["retrieve", "guard", "answer"]).await;
    eventually(PATIENCE, "every pod is of the last edit", async || {
        let pods = tiered.pods("rag").await;
        let of_retrieve = pods.iter().filter(|pod| pod.labels()[labels::STAGE] == "retrieve");
        let images: BTreeSet<_> = of_retrieve
            .map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone())
            .collect();
        wanted(
            (images, pods.len()),
            &([Some("registry.example.com/stage:7".to_owned())].into(), 6),
        )
    })
    .await
    .unwrap();
}
