//! The harness itself: a control plane that is real, isolated and gone afterwards.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel_e2e::audit::{self, Log};
use tiercel_e2e::controlplane::{Cluster, Options};
use tiercel_e2e::helm::Helm;
use tiercel_e2e::nodes::{self, GRAVITON, L4, SHAPES, X86};
use tiercel_e2e::tools::Tool;
use tiercel_e2e::wait::{eventually, wanted};

use crate::suite::{Space, Suite};

const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 12] {
    crate::scenarios![suite, harness:
        the_control_plane_comes_up_and_reports_its_version,
        nodes_of_every_shape_become_ready_with_their_architecture_and_devices,
        a_deployment_with_node_affinity_gets_running_pods_with_addresses_of_its_own,
        a_namespace_says_how_long_starts_take_per_pool,
        deleted_pods_free_their_place_at_once,
        faults_keep_pods_from_ready_until_they_are_taken_away,
        a_failed_node_is_not_ready_until_it_recovers,
        kubectl_top_yields_the_annotated_usage,
        two_clusters_at_once_do_not_collide_and_leave_nothing_behind,
        a_killed_api_server_comes_back_with_its_objects,
        a_service_account_may_do_only_what_its_role_grants_and_the_audit_log_tells,
        helm_installs_and_removes_a_chart,
    ]
}

pub(crate) async fn the_control_plane_comes_up_and_reports_its_version(suite: &Suite) {
    let cluster = suite.cluster().await;
    let version = cluster.kubectl().run(&["version", "-o", "json"]).await.unwrap();
    let version: Value = serde_json::from_str(&version).unwrap();
    assert_eq!(version["serverVersion"]["gitVersion"], "v1.36.4");
    cluster.check().unwrap();
}

pub(crate) async fn nodes_of_every_shape_become_ready_with_their_architecture_and_devices(suite: &Suite) {
    let space = suite.space(&[]).await;
    for shape in &SHAPES {
        let names = space.nodes(shape, 1).await;
        let node = Api::<Node>::all(space.client.clone()).get(&names[0]).await.unwrap();
        let status = node.status.unwrap();
        assert_eq!(
            status.node_info.unwrap().architecture,
            shape.architecture,
            "{}",
            shape.name
        );
        let allocatable = status.allocatable.unwrap();
        for (device, count) in shape.devices {
            assert_eq!(allocatable[*device].0, count.to_string(), "{}", shape.name);
        }
        let taints: Vec<_> = node
            .spec
            .unwrap()
            .taints
            .into_iter()
            .flatten()
            .map(|taint| taint.key)
            .collect();
        let expected: Vec<_> = shape.taints.iter().map(|(key, _)| (*key).to_owned()).collect();
        assert_eq!(taints, expected, "{}", shape.name);
    }
}

pub(crate) async fn a_deployment_with_node_affinity_gets_running_pods_with_addresses_of_its_own(suite: &Suite) {
    let cluster = suite.cluster().await;
    let space = suite.space(&[("startup-milliseconds", "100")]).await;
    let graviton = space.nodes(&GRAVITON, 2).await;
    space.nodes(&X86, 2).await;
    apply(&cluster, &space, &deployment(&space, "web", 6, "arm64")).await;
    let pods = running(&space, "web", 6).await;
    let hosts: BTreeSet<_> = pods
        .iter()
        .map(|pod| pod.spec.as_ref().unwrap().node_name.clone().unwrap())
        .collect();
    assert!(
        hosts.iter().all(|host| graviton.contains(host)),
        "{hosts:?} beside {graviton:?}"
    );
    let addresses: BTreeSet<_> = pods.iter().map(address).collect();
    assert_eq!(addresses.len(), 6, "addresses are shared: {addresses:?}");
    assert!(
        addresses.iter().all(|address| cluster.holds(*address)),
        "{addresses:?} outside {}",
        cluster.pod_range()
    );
}

pub(crate) async fn a_namespace_says_how_long_starts_take_per_pool(suite: &Suite) {
    let cluster = suite.cluster().await;
    let space = suite
        .space(&[("startup-milliseconds", "200"), ("startup-milliseconds.l4", "3000")])
        .await;
    space.nodes(&X86, 1).await;
    apply(&cluster, &space, &deployment(&space, "quick", 2, "amd64")).await;
    let mut slow = deployment(&space, "slow", 2, "amd64");
    slow["spec"]["template"]["metadata"]["labels"]["tiercel.dev/pool"] = json!("l4");
    apply(&cluster, &space, &slow).await;
    // Condition times are cut to whole seconds.
    for (name, least, most) in [("quick", 0, 2000), ("slow", 2000, 6000)] {
        for pod in running(&space, name, 2).await {
            let start = condition_time(&pod, "Initialized");
            let ready = condition_time(&pod, "Ready");
            let took = ready.duration_since(start).as_millis();
            assert!(
                (least..most).contains(&took),
                "{name}: Ready after {took} ms, not within {least}..{most}"
            );
        }
    }
}

pub(crate) async fn deleted_pods_free_their_place_at_once(suite: &Suite) {
    let cluster = suite.cluster().await;
    let space = suite.space(&[("startup-milliseconds", "100")]).await;
    space.nodes(&L4, 1).await;
    let mut gpu = deployment(&space, "gpu", 1, "amd64");
    gpu["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] = json!({"nvidia.com/gpu": "1"});
    apply(&cluster, &space, &gpu).await;
    let first = running(&space, "gpu", 1).await;
    let name = first[0].metadata.name.clone().unwrap();
    cluster
        .kubectl()
        .run(&["delete", "pod", &name, "-n", &space.name, "--wait=false"])
        .await
        .unwrap();
    // The only GPU is free again: the successor runs.
    eventually(Duration::from_secs(15), "another pod has the GPU", async || {
        let pods = running_now(&space.client, &space.name, "gpu").await?;
        wanted(
            pods.iter()
                .filter(|pod| pod.metadata.name.as_deref() != Some(&name))
                .count(),
            &1,
        )
    })
    .await
    .unwrap();
}

pub(crate) async fn faults_keep_pods_from_ready_until_they_are_taken_away(suite: &Suite) {
    let cluster = suite.cluster().await;
    let space = suite
        .space(&[
            ("startup-milliseconds", "100"),
            ("fault.l4", "image-pull"),
            ("fault.h100", "crash-loop"),
        ])
        .await;
    space.nodes(&X86, 1).await;
    for (name, pool) in [("pulls", "l4"), ("crashes", "h100"), ("hangs", "x86")] {
        let mut faulty = deployment(&space, name, 1, "amd64");
        faulty["spec"]["template"]["metadata"]["labels"]["tiercel.dev/pool"] = json!(pool);
        apply(&cluster, &space, &faulty).await;
    }
    let hanging = running(&space, "hangs", 1).await[0].metadata.name.clone().unwrap();
    annotate(&cluster, &space, &hanging, "kwok.tiercel.dev/fault=unready").await;
    for (name, reason) in [
        ("pulls", "ImagePullBackOff"),
        ("crashes", "CrashLoopBackOff"),
        ("hangs", ""),
    ] {
        let pod = eventually(PATIENCE, format!("{name} is not Ready, for {reason:?}"), async || {
            let pod = pods(&space.client, &space.name, name).await?.pop().ok_or("no pod")?;
            let status = pod.status.clone().unwrap_or_default();
            let waiting = status.container_statuses.unwrap_or_default().into_iter().next();
            let waiting = waiting
                .and_then(|status| status.state?.waiting?.reason)
                .unwrap_or_default();
            wanted((is_ready(&pod), waiting), &(false, reason.to_owned())).map(|_| pod)
        })
        .await
        .unwrap();
        annotate(&cluster, &space, &pod.metadata.name.unwrap(), "kwok.tiercel.dev/fault-").await;
        running(&space, name, 1).await;
    }
}

pub(crate) async fn a_failed_node_is_not_ready_until_it_recovers(suite: &Suite) {
    let space = suite.space(&[]).await;
    let node = space.nodes(&X86, 1).await.remove(0);
    let status = async || {
        let node = Api::<Node>::all(space.client.clone())
            .get(&node)
            .await
            .map_err(|error| error.to_string())?;
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
        ready
            .map(|condition| condition.status)
            .ok_or_else(|| "no condition Ready".to_owned())
    };
    nodes::fail(&space.client, &node, true).await.unwrap();
    let failed = eventually(PATIENCE, "the node fails", async || {
        wanted(status().await?, &"False".to_owned())
    })
    .await;
    failed.unwrap();
    nodes::fail(&space.client, &node, false).await.unwrap();
    nodes::ready(&space.client, std::slice::from_ref(&node)).await.unwrap();
    nodes::delete(&space.client, &node).await.unwrap();
}

pub(crate) async fn kubectl_top_yields_the_annotated_usage(suite: &Suite) {
    let cluster = suite.cluster().await;
    let space = suite.space(&[("startup-milliseconds", "100")]).await;
    space.nodes(&X86, 1).await;
    apply(&cluster, &space, &deployment(&space, "busy", 1, "amd64")).await;
    let pod = running(&space, "busy", 1).await[0].metadata.name.clone().unwrap();
    annotate(&cluster, &space, &pod, "kwok.x-k8s.io/usage-cpu=750m").await;
    annotate(&cluster, &space, &pod, "kwok.x-k8s.io/usage-memory=300Mi").await;
    // Two samples, 15 s apart, after the annotation.
    eventually(Duration::from_secs(90), "kubectl top shows the usage", async || {
        let args = ["top", "pod", &pod, "-n", &space.name, "--no-headers"];
        let line = cluster.kubectl().run(&args).await.map_err(|error| error.to_string())?;
        let columns: Vec<_> = line.split_whitespace().skip(1).map(str::to_owned).collect();
        let [cpu, memory] = columns.as_slice() else {
            return Err(line);
        };
        let millis: u32 = cpu.trim_end_matches('m').parse().map_err(|_| line.clone())?;
        if (700..=800).contains(&millis) && memory == "300Mi" {
            Ok(())
        } else {
            Err(line)
        }
    })
    .await
    .unwrap();
}

pub(crate) async fn two_clusters_at_once_do_not_collide_and_leave_nothing_behind(suite: &Suite) {
    let first = suite.cluster().await;
    let second = Cluster::start(&suite.tools().await, Options::default()).await.unwrap();
    assert_ne!(first.pod_range(), second.pod_range());
    assert_ne!(first.server(), second.server());
    let client = second.client().await.unwrap();
    nodes::create(&client, &X86, "alone", 0..1, &[(Space::LABEL, "alone")])
        .await
        .unwrap();
    let space = Space {
        name: "default".into(),
        client,
    };
    let mut web = deployment(&space, "web", 2, "amd64");
    let affinity = "/spec/template/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    *web.pointer_mut(&format!("{affinity}/nodeSelectorTerms/0/matchExpressions/0/values"))
        .unwrap() = json!(["alone"]);
    apply(&second, &space, &web).await;
    for address in running(&space, "web", 2).await.iter().map(address) {
        assert!(second.holds(address) && !first.holds(address), "{address}");
    }
    // The first does not know the second's objects.
    let names = first.kubectl().run(&["get", "nodes", "-o", "name"]).await.unwrap();
    assert!(!names.contains("node/alone-0"), "{names}");
    let (folder, pids) = (second.folder().to_owned(), second.pids());
    tokio::task::spawn_blocking(move || drop(second)).await.unwrap();
    assert!(!folder.exists(), "{} is left", folder.display());
    for (name, pid) in pids {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "{name} ({pid}) still runs"
        );
    }
    first.check().unwrap();
}

pub(crate) async fn a_killed_api_server_comes_back_with_its_objects(suite: &Suite) {
    let cluster = Cluster::start(&suite.tools().await, Options::default()).await.unwrap();
    cluster
        .kubectl()
        .run(&["create", "configmap", "kept", "--from-literal=a=b"])
        .await
        .unwrap();
    cluster.kill(Tool::ApiServer).unwrap();
    assert!(cluster.check().is_err(), "a killed server goes unnoticed");
    assert!(
        cluster.kubectl().run(&["get", "configmap", "kept"]).await.is_err(),
        "it still answers"
    );
    cluster.restart(Tool::ApiServer).await.unwrap();
    let kept = cluster.kubectl().get(&["configmap", "kept"]).await.unwrap();
    assert_eq!(kept["data"]["a"], "b");
    tokio::task::spawn_blocking(move || drop(cluster)).await.unwrap();
}

pub(crate) async fn a_service_account_may_do_only_what_its_role_grants_and_the_audit_log_tells(suite: &Suite) {
    let cluster = suite.cluster().await;
    let space = suite.space(&[]).await;
    for args in [
        vec!["create", "serviceaccount", "reader"],
        vec!["create", "role", "reader", "--verb=list", "--resource=pods"],
        vec![
            "create",
            "rolebinding",
            "reader",
            "--role=reader",
            &format!("--serviceaccount={}:reader", space.name),
        ],
    ] {
        cluster
            .kubectl()
            .run(&[&["-n", &space.name], args.as_slice()].concat())
            .await
            .unwrap();
    }
    let mut log = Log::from_now(cluster.audit_log()).unwrap();
    let client = cluster.client_as(&space.name, "reader").await.unwrap();
    let mine = Api::<Pod>::namespaced(client.clone(), &space.name);
    eventually(PATIENCE, "the role takes effect", async || {
        mine.list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    let others = Api::<Pod>::namespaced(client.clone(), "kube-system")
        .list(&ListParams::default())
        .await;
    assert!(matches!(others, Err(kube::Error::Api(status)) if status.code == 403));
    let writes = Api::<Pod>::namespaced(client, &space.name)
        .delete("none", &kube::api::DeleteParams::default())
        .await;
    assert!(matches!(writes, Err(kube::Error::Api(status)) if status.code == 403));
    let user = format!("system:serviceaccount:{}:reader", space.name);
    let requests: Vec<_> = log
        .read()
        .unwrap()
        .into_iter()
        .filter(|request| request.user == user)
        .collect();
    let denied: Vec<_> = requests
        .iter()
        .filter(|request| request.code == 403)
        .map(|it| it.verb.as_str())
        .collect();
    assert!(denied.ends_with(&["list", "delete"]), "{denied:?}");
    let counts = audit::count(requests.iter().filter(|request| request.is_mutating()));
    assert_eq!(counts, [((user, "delete".into(), "pods".into()), 1)].into());
}

pub(crate) async fn helm_installs_and_removes_a_chart(suite: &Suite) {
    let cluster = suite.cluster().await;
    let chart = tempfile::tempdir().unwrap();
    std::fs::create_dir(chart.path().join("templates")).unwrap();
    std::fs::write(
        chart.path().join("Chart.yaml"),
        "apiVersion: v2\nname: tiny\nversion: 0.1.0\n",
    )
    .unwrap();
    let template =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tiny}\ndata: {greeting: {{ .Values.greeting }}}\n";
    std::fs::write(chart.path().join("templates/configmap.yaml"), template).unwrap();
    let helm = Helm::new(&cluster);
    for greeting in ["hello", "again"] {
        helm.install("tiny", chart.path(), "tiny", &format!("greeting: {greeting}\n"))
            .await
            .unwrap();
        let installed = cluster
            .kubectl()
            .get(&["configmap", "tiny", "-n", "tiny"])
            .await
            .unwrap();
        assert_eq!(installed["data"]["greeting"], greeting);
    }
    helm.uninstall("tiny", "tiny").await.unwrap();
    assert!(
        cluster
            .kubectl()
            .get(&["configmap", "tiny", "-n", "tiny"])
            .await
            .is_err()
    );
}

/// A Deployment on the nodes of its space with one architecture.
fn deployment(space: &Space, name: &str, replicas: u32, architecture: &str) -> Value {
    let labels = json!({"app": name});
    let is = |key: &str, value: &str| json!({"key": key, "operator": "In", "values": [value]});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [
                            is(Space::LABEL, &space.name), is("kubernetes.io/arch", architecture)]}]}}},
                    "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
                    "containers": [{"name": "main", "image": "example.com/main:1",
                        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
                },
            },
        },
    })
}

async fn apply(cluster: &Cluster, space: &Space, object: &Value) {
    cluster
        .kubectl()
        .apply_in(&space.name, &object.to_string())
        .await
        .unwrap();
    let name = object["metadata"]["name"].as_str().unwrap();
    Api::<Deployment>::namespaced(space.client.clone(), &space.name)
        .get(name)
        .await
        .unwrap();
}

async fn annotate(cluster: &Cluster, space: &Space, pod: &str, annotation: &str) {
    cluster
        .kubectl()
        .run(&["annotate", "pod", pod, annotation, "-n", &space.name, "--overwrite"])
        .await
        .unwrap();
}

async fn pods(client: &Client, namespace: &str, app: &str) -> Result<Vec<Pod>, String> {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let list = api.list(&ListParams::default().labels(&format!("app={app}"))).await;
    Ok(list.map_err(|error| error.to_string())?.items)
}

async fn running_now(client: &Client, namespace: &str, app: &str) -> Result<Vec<Pod>, String> {
    Ok(pods(client, namespace, app)
        .await?
        .into_iter()
        .filter(is_ready)
        .collect())
}

/// The pods of `app` once `count` of them are Running and Ready.
async fn running(space: &Space, app: &str, count: usize) -> Vec<Pod> {
    eventually(PATIENCE, format!("{count} pods of {app} run"), async || {
        let pods = running_now(&space.client, &space.name, app).await?;
        wanted(pods.len(), &count).map(|_| pods)
    })
    .await
    .unwrap()
}

fn is_ready(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let mut conditions = status.conditions.iter().flatten();
    status.phase.as_deref() == Some("Running")
        && pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn address(pod: &Pod) -> Ipv4Addr {
    pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap().parse().unwrap()
}

/// When a condition last changed, to the second.
fn condition_time(pod: &Pod, kind: &str) -> k8s_openapi::jiff::Timestamp {
    let conditions = pod.status.as_ref().unwrap().conditions.as_ref().unwrap();
    let condition = conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    condition.last_transition_time.as_ref().unwrap().0
}
