//! `tiercel plan` on a real control plane: what it says beforehand is what the operator does, to the last field.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use libtest_mimic::Trial;
use serde_json::Value;
use tiercel_e2e::command::Output;
use tiercel_e2e::wait::{eventually, wanted};

use crate::explain::tiercel;
use crate::suite::Suite;
use crate::support::{PATIENCE, Tiered, documents, file};

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 2] {
    crate::scenarios![suite, plan:
        what_is_planned_for_the_sample_is_what_the_operator_applies_field_by_field,
        a_plan_for_a_cluster_that_does_not_let_you_look_ends_with_one_line,
    ]
}

/// The sample with one more thing done to it, in a file as its author would have it.
fn sample(tiered: &Tiered, name: &str, edit: impl Fn(&mut Value)) -> PathBuf {
    let mut scoped = tiered.scoped(documents(&file("config/samples/support-agent.yaml")).remove(0));
    edit(&mut scoped);
    let path = tiered
        .installed
        .cluster
        .folder()
        .join(format!("{}-{name}.yaml", tiered.namespace()));
    std::fs::write(&path, scoped.to_string()).unwrap();
    path
}

/// Runs `tiercel plan` on a file against the cluster.
async fn plan(tiered: &Tiered, path: &std::path::Path, args: &[&str]) -> Output {
    let path = path.display().to_string();
    let kubeconfig = tiered.installed.cluster.kubeconfig();
    tiercel(kubeconfig, &[&["plan", "-f", &path, "--context"], args].concat()).await
}

type Objects = BTreeMap<(String, String), Value>;

fn keyed(objects: impl IntoIterator<Item = Value>) -> Objects {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let key = |object: &Value| (word(&object["kind"]), word(&object["metadata"]["name"]));
    objects.into_iter().map(|object| (key(&object), object)).collect()
}

/// The pipeline's children as they are.
async fn live(tiered: &Tiered) -> Objects {
    let kinds = "deployments,services,serviceaccounts,poddisruptionbudgets";
    let labels = "app.kubernetes.io/managed-by=tiercel";
    let kubectl = tiered.installed.cluster.kubectl();
    let list = kubectl
        .get(&[kinds, "-n", tiered.namespace(), "-l", labels])
        .await
        .unwrap();
    keyed(list["items"].as_array().unwrap().clone())
}

/// What an author says of a child: without what the API server keeps and the operator's fingerprint.
fn said(object: &Value) -> Value {
    let metadata = &object["metadata"];
    serde_json::json!({
        "labels": metadata["labels"], "ownerReferences": metadata["ownerReferences"],
        "spec": object["spec"], "automount": object["automountServiceAccountToken"],
    })
}

fn templates(objects: &Objects) -> BTreeMap<String, Value> {
    let deployments = objects.iter().filter(|((kind, _), _)| kind == "Deployment");
    deployments
        .map(|((_, name), object)| (name.clone(), object["spec"]["template"].clone()))
        .collect()
}

#[expect(
    clippy::too_many_lines,
    reason = "one change after the other, told in the order it happens"
)]
pub(crate) async fn what_is_planned_for_the_sample_is_what_the_operator_applies_field_by_field(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    tiered.sample_pools().await;

    // Before anything is there: names, replicas and templates. UIDs nobody can know.
    let path = sample(&tiered, "first", |_| ());
    let told = plan(&tiered, &path, &["-o", "yaml"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let planned = keyed(documents(&told.stdout));
    let told = plan(&tiered, &path, &["--exit-code"]).await;
    assert_eq!(
        told.code,
        Some(3),
        "a pipeline that is not there yet is a change: {told:?}"
    );
    assert!(told.stdout.contains(": new\n"), "{told:?}");
    let kubectl = tiered.installed.cluster.kubectl();
    kubectl
        .run(&["apply", "-f", &path.display().to_string()])
        .await
        .unwrap();
    tiered.ready("support-agent").await;
    let found = live(&tiered).await;
    assert_eq!(
        planned.keys().collect::<Vec<_>>(),
        found.keys().collect::<Vec<_>>(),
        "the objects that were planned, and no others"
    );
    assert!(planned.len() > 20, "{} objects", planned.len());
    for ((kind, name), planned) in planned.iter().filter(|((kind, _), _)| kind == "Deployment") {
        let found = &found[&(kind.clone(), name.clone())];
        assert_eq!(planned["spec"]["replicas"], found["spec"]["replicas"], "{name}");
        let container = |object: &Value| object["spec"]["template"]["spec"]["containers"][0].clone();
        let fields = ["image", "args", "env", "resources"];
        for field in fields {
            assert_eq!(container(planned)[field], container(found)[field], "{name}: {field}");
        }
    }

    // Now UIDs are known, and the plan is exactly what the operator's field manager has written: writing it once more as
    // that manager neither adds nor takes away a field.
    let again = async || {
        let told = plan(&tiered, &path, &["-o", "yaml"]).await;
        assert_eq!(told.code, Some(0), "{told:?}");
        told.stdout
    };
    let found = eventually(
        PATIENCE,
        "the rebalancer owns every Deployment's replicas",
        async || {
            let yaml = again().await;
            let planned = keyed(documents(&yaml));
            let claims = planned
                .iter()
                .filter(|((kind, _), object)| kind == "Deployment" && !object["spec"]["replicas"].is_null());
            wanted(claims.count(), &0)?;
            let args = [
                "apply",
                "--server-side",
                "--field-manager=tiercel",
                "--dry-run=server",
                "-o",
                "json",
                "-f",
                "-",
            ];
            let applied = kubectl.output(&args, &yaml).await.map_err(|error| error.to_string())?;
            let applied = applied
                .success("kubectl apply".to_owned())
                .map_err(|error| error.to_string())?
                .stdout;
            let applied: Value = serde_json::from_str(&applied).map_err(|error| error.to_string())?;
            Ok((
                keyed(applied["items"].as_array().cloned().unwrap_or_default()),
                live(&tiered).await,
            ))
        },
    );
    let (applied, found) = found.await.unwrap();
    assert_eq!(applied.len(), found.len());
    for (key, applied) in &applied {
        assert_eq!(said(applied), said(&found[key]), "{key:?}");
    }

    // What runs is told as it is, and nothing differs.
    let told = plan(&tiered, &path, &["-o", "json", "--exit-code"]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    let report: Value = serde_json::from_str(&told.stdout).unwrap();
    let stages = report["after"]["pipelines"][0]["stages"].as_array().unwrap();
    let rows = stages.iter().flat_map(|stage| {
        let pools = stage["pools"].as_array().unwrap();
        pools.iter().map(|row| (stage["name"].as_str().unwrap(), row))
    });
    let mut seen = 0;
    for (stage, row) in rows {
        let name = format!("support-agent--{stage}--{}", row["pool"].as_str().unwrap());
        let found = &found[&("Deployment".to_owned(), name.clone())];
        assert_eq!(row["now"], found["spec"]["replicas"], "{name}");
        assert_eq!(
            row["minimum"], row["now"],
            "without load the operator rests where the plan says: {name}"
        );
        seen += 1;
    }
    assert!(seen >= 15, "{seen} rows");
    let status = tiered.pipeline("support-agent").await.status.unwrap();
    let per_hour = report["after"]["cost"]["now"]["perHour"].as_f64().unwrap();
    assert_eq!(status.cost_per_hour, Some(format!("{per_hour:.2}")), "{report}");

    // A change: the plan names the Deployments whose pods start anew, and it is these.
    let path = sample(&tiered, "second", |pipeline| {
        pipeline["spec"]["stages"][1]["container"]["image"] = "registry.example.com/support/guard:2.2.0".into();
    });
    let told = plan(&tiered, &path, &["-o", "json", "--exit-code"]).await;
    assert_eq!(told.code, Some(3), "{told:?}");
    let report: Value = serde_json::from_str(&told.stdout).unwrap();
    let change = &report["before"]["changes"][0];
    let restarted = change["restarted"].as_array().unwrap().iter();
    let restarted: BTreeSet<String> = restarted
        .map(|name| name.as_str().unwrap().trim_start_matches("Deployment ").to_owned())
        .collect();
    assert_eq!(
        (restarted.len(), change["created"].as_array().unwrap().len()),
        (2, 0),
        "{change}"
    );
    kubectl
        .run(&["apply", "-f", &path.display().to_string()])
        .await
        .unwrap();
    tiered.ready("support-agent").await;
    let (before, after) = (templates(&found), templates(&live(&tiered).await));
    let differs: BTreeSet<String> = after
        .into_iter()
        .filter(|(name, one)| before[name] != *one)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(differs, restarted);
}

pub(crate) async fn a_plan_for_a_cluster_that_does_not_let_you_look_ends_with_one_line(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    let path = sample(&tiered, "only", |_| ());
    let path = path.display().to_string();
    let cluster = &tiered.installed.cluster;
    let refused = async |kubeconfig: PathBuf, args: &[&str], code: i32, says: &str| {
        let told = tiercel(kubeconfig, &[&["plan", "-f", &path], args].concat()).await;
        assert_eq!((told.code, told.stdout.as_str()), (Some(code), ""), "{told:?}");
        assert!(
            told.stderr.lines().count() == 1 && told.stderr.contains(says),
            "{told:?}"
        );
    };
    let nobody = cluster.kubeconfig_as(tiered.namespace(), "default").await.unwrap();
    refused(
        nobody,
        &["--context"],
        4,
        "the right to list tieredpipelines, computepools, nodes",
    )
    .await;
    refused(cluster.kubeconfig(), &["--context", "none"], 6, "--context").await;
    refused(cluster.kubeconfig(), &[], 2, "no ComputePool is known").await;
    let away = cluster.folder().join(format!("{}-away.kubeconfig", tiered.namespace()));
    let config = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    std::fs::write(&away, config.replace(&cluster.server(), "https://127.0.0.1:1")).unwrap();
    refused(away, &["--context"], 6, "https://127.0.0.1:1").await;
}
