//! What a newcomer types, and what he sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use libtest_mimic::Trial;
use tiercel::api::labels;
use tiercel_e2e::nodes::{self, X86};

use crate::suite::Suite;
use crate::support::{file, stage};

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 2] {
    crate::scenarios![suite, quickstart:
        the_sample_pools_and_the_support_agent_lead_to_six_stages_that_serve_where_their_hints_allow,
        kubectl_get_reads_well,
    ]
}

pub(crate) async fn the_sample_pools_and_the_support_agent_lead_to_six_stages_that_serve_where_their_hints_allow(
    suite: &Suite,
) {
    let tiered = suite.tiered(&[]).await;
    for (shape, count) in [
        ("graviton", 4),
        ("x86", 3),
        ("l4-spot", 4),
        ("h100", 2),
        ("inferentia2", 2),
    ] {
        tiered.space.nodes(nodes::shape(shape).unwrap(), count).await;
    }
    tiered.apply_yaml(&file("config/samples/pools.yaml")).await;
    tiered.apply_yaml(&file("config/samples/support-agent.yaml")).await;
    let pipeline = tiered.ready("support-agent").await;
    let status = pipeline.status.unwrap();
    assert_eq!(status.stages_ready.as_deref(), Some("6/6"));
    let names: Vec<_> = status.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(
        names,
        ["retrieve", "guard", "orchestrate", "generate", "tools", "postprocess"]
    );
    let tiers: BTreeMap<_, _> = ["graviton", "x86"]
        .map(|pool| (tiered.pool_name(pool), "CPU"))
        .into_iter()
        .chain(["l4-spot", "h100", "inferentia"].map(|pool| (tiered.pool_name(pool), "Accelerator")))
        .collect();
    for stage in &status.stages {
        let wanted = if stage.name == "generate" { "Accelerator" } else { "CPU" };
        assert!(!stage.pools.is_empty(), "stage '{}' runs nowhere", stage.name);
        for pool in &stage.pools {
            assert_eq!(
                tiers[&pool.name], wanted,
                "stage '{}' runs on pool '{}'",
                stage.name, pool.name
            );
        }
    }
    // The nodes themselves: hardware of the pool that the pod belongs to.
    let kinds: BTreeMap<_, _> = [
        ("graviton", "graviton"),
        ("x86", "x86"),
        ("l4-spot", "l4-spot"),
        ("h100", "h100"),
        ("inferentia", "inferentia2"),
    ]
    .map(|(pool, shape)| (tiered.pool_name(pool), format!("{}-{shape}-", tiered.namespace())))
    .into();
    for pod in tiered.pods("support-agent").await {
        let node = pod.spec.as_ref().unwrap().node_name.clone().unwrap_or_default();
        let prefix = &kinds[&pod.labels()[labels::POOL]];
        assert!(
            node.starts_with(prefix.as_str()),
            "{} is on '{node}', not on {prefix}*",
            pod.name_any()
        );
    }
}

pub(crate) async fn kubectl_get_reads_well(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    tiered.space.nodes(&X86, 2).await;
    tiered.cpu_pool("x86", &[]).await;
    tiered.cpu_pool("none", &[("kubernetes.io/arch", "s390x")]).await;
    tiered.pool_says("none", "Ready", "False", "NoNodes").await;
    tiered
        .create("web", &[stage("retrieve", &[], 1), stage("answer", &["retrieve"], 2)])
        .await;
    tiered.ready("web").await;
    let masked = |text: &str| {
        let lines = text.lines().map(|line| line.replace(tiered.namespace(), "space"));
        let words = lines.map(|line| {
            let mut words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            let last = words.last_mut().unwrap();
            if last.ends_with('s') && last.starts_with(|c: char| c.is_ascii_digit()) {
                "AGE".clone_into(last);
            }
            words.join(" ")
        });
        words.collect::<Vec<_>>()
    };
    let kubectl = tiered.installed.cluster.kubectl();
    let pipelines = kubectl.run(&["get", "tpipe", "-n", tiered.namespace()]).await.unwrap();
    assert_eq!(
        masked(&pipelines),
        [
            "NAME READY STAGES REPLICAS COST/H MODE REASON AGE",
            "web True 2/2 3 0.09 Automatic AsDeclared AGE",
        ]
    );
    let (x86, none) = (tiered.pool_name("x86"), tiered.pool_name("none"));
    // The pool's numbers settle for two seconds.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let pools = kubectl.run(&["get", "cpool", &x86, &none]).await.unwrap();
    assert_eq!(
        masked(&pools),
        [
            "NAME TIER CLASS ARCH NODES REPLICAS FREE COST/H READY REASON AGE",
            "space-x86 CPU x86 amd64 2 3 30 of 31 cpu 2.00 True NodesAvailable AGE",
            "space-none CPU none 0 0 False NoNodes AGE",
        ]
    );
}
