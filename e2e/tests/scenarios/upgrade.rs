//! From the previous chart to this one and back, by the commands of docs/how-to/upgrade.md as written.
//!
//! What is real: helm, both charts with their definitions and roles, the objects in the API server and their conversion to
//! what the newer definitions say, the ServiceAccount that the operator speaks as, its arguments out of the chart's
//! Deployment, the Lease. What is not: the operator runs beside the cluster and is this build on both sides, so its own
//! upgrade is a second process that takes over; pods are played by kwok, which would start them anew as a kubelet does.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel_e2e::command::Output;
use tiercel_e2e::controlplane::{Cluster, Options};
use tiercel_e2e::helm::Helm;
use tiercel_e2e::nodes::X86;
use tiercel_e2e::operator::{self, Operator};
use tiercel_e2e::slot::Port;
use tiercel_e2e::wait::{eventually, wanted};

use crate::suite::{Space, Suite};
use crate::support::{NAMESPACE, PATIENCE, cpu_pool, pipeline, repository, stage};
use crate::typed;

const PAGE: &str = "docs/how-to/upgrade.md";

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 1] {
    crate::scenarios![suite, upgrade:
        the_previous_chart_is_upgraded_rolled_back_and_installed_again_without_a_restart_of_any_pod,
    ]
}

/// A cluster of its own: definitions belong to a whole cluster.
struct Stand {
    cluster: Cluster,
    space: Space,
    binary: PathBuf,
}

impl Stand {
    async fn start(suite: &Suite) -> Self {
        let cluster = Cluster::start(&suite.tools().await, Options::default()).await.unwrap();
        let space = suite.space_on(&cluster, &[("startup-milliseconds", "100")]).await;
        let binary = operator::find_binary().unwrap();
        Self { cluster, space, binary }
    }

    /// The operator with the arguments that the installed chart gives it.
    async fn operator(&self, name: &str, port: Port) -> Operator {
        let port = self.cluster.port(port);
        let args = operator::arguments(&self.cluster, NAMESPACE, "tiercel", port)
            .await
            .unwrap();
        let options = operator::Options {
            name: name.into(),
            binary: self.binary.clone(),
            namespace: NAMESPACE.into(),
            service_account: "tiercel".into(),
            args,
            env: Vec::new(),
            outlives_parent: false,
        };
        Operator::start(&self.cluster, options).await.unwrap()
    }

    /// Types a block of the page, all of which must succeed.
    async fn types(&self, first: &str) -> String {
        let block = typed::block(PAGE, first);
        let output = self.shell(&block).await;
        output.success(block).unwrap().stdout
    }

    async fn shell(&self, commands: &str) -> Output {
        typed::shell(self.cluster.tools().folder(), &self.cluster.kubeconfig(), commands).await
    }

    /// Does what the pod of `helm test` does, as its ServiceAccount: no kubelet runs pods here, and no image has kubectl.
    async fn passes_its_helm_test(&self) {
        let chart = repository().join("charts/tiercel");
        let values = "tests: {enabled: true, image: example.invalid/kubectl}";
        let rendered = Helm::new(&self.cluster)
            .template("tiercel", &chart, NAMESPACE, values)
            .await;
        let hooks = rendered.unwrap();
        let hooks = hooks.split("\n---\n").filter(|object| object.contains("helm.sh/hook"));
        let (mut rights, mut others) = (Vec::new(), Vec::new());
        for object in hooks {
            let kind = object.lines().find_map(|line| line.strip_prefix("kind: "));
            match kind.unwrap() {
                "ServiceAccount" | "Role" | "RoleBinding" => rights.push(object),
                "ConfigMap" | "Pod" => others.push(object),
                other => panic!("nobody plays a {other}"),
            }
        }
        let [map, pod] = others[..] else {
            panic!("a manifest and a pod: {others:?}")
        };
        assert!(
            pod.contains("command: [kubectl, create, --dry-run=server, --filename=/pipeline/pipeline.yaml]"),
            "{pod}"
        );
        let (_, manifest) = map.split_once("  pipeline.yaml: |\n").unwrap();
        let lines: Vec<&str> = manifest.lines().map(|line| line.get(4..).unwrap_or_default()).collect();
        let account = format!("--as=system:serviceaccount:{NAMESPACE}:tiercel-test");
        let kubectl = self.cluster.kubectl();
        let test = async |manifest: &str| {
            let args = ["create", "--dry-run=server", "--filename=-", &account];
            kubectl.output(&args, manifest).await.unwrap()
        };
        let manifest = lines.join("\n");
        let refused = test(&manifest).await;
        assert!(refused.stderr.contains("Forbidden"), "{refused:?}");
        kubectl.apply(&rights.join("\n---\n")).await.unwrap();
        let passed = eventually(PATIENCE, "the test's rights are known", async || {
            let output = test(&manifest).await;
            if output.stderr.contains("Forbidden") {
                Err(output.stderr)
            } else {
                Ok(output)
            }
        });
        let passed = passed.await.unwrap();
        assert!(
            passed
                .stdout
                .contains("tieredpipeline.tiercel.dev/helm-test created (server dry run)"),
            "{passed:?}"
        );
        // What it is for: a definition or a policy that refuses fails the test.
        let wrong = test(&manifest.replace("mode: Advisory", "mode: Sometimes")).await;
        assert!(wrong.code != Some(0) && wrong.stderr.contains("Sometimes"), "{wrong:?}");
        let pipelines = kubectl.get(&["tieredpipelines", "-n", NAMESPACE]).await.unwrap();
        assert_eq!(
            pipelines["items"].as_array().map(Vec::len),
            Some(0),
            "nothing is stored"
        );
    }

    async fn holder(&self) -> String {
        let lease = self.cluster.kubectl().get(&["lease", "tiercel", "-n", NAMESPACE]).await;
        lease.unwrap()["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Waits until somebody else than `before` leads.
    async fn handed_over(&self, before: &str) -> Duration {
        let start = Instant::now();
        eventually(PATIENCE, format!("somebody else than {before} leads"), async || {
            let now = self.holder().await;
            if now.is_empty() || now == before {
                Err(now)
            } else {
                Ok(())
            }
        })
        .await
        .unwrap();
        start.elapsed()
    }

    /// UIDs of the pods, and generations of the Deployments, which every change of a spec moves: what a restart would change.
    async fn running(&self) -> BTreeMap<String, String> {
        let kubectl = self.cluster.kubectl();
        let list = kubectl
            .get(&["pods,deployments,replicasets", "-n", &self.space.name])
            .await
            .unwrap();
        let items = list["items"].as_array().unwrap().iter();
        let facts = items.map(|item| {
            let metadata = &item["metadata"];
            let key = format!(
                "{} {}",
                item["kind"].as_str().unwrap(),
                metadata["name"].as_str().unwrap()
            );
            (key, format!("{} {}", metadata["uid"], metadata["generation"]))
        });
        facts.collect()
    }

    /// Waits until the pipeline serves with so many replicas, by the generation that it is in.
    async fn serves(&self, replicas: i64) {
        eventually(PATIENCE, format!("{replicas} replicas serve"), async || {
            let kubectl = self.cluster.kubectl();
            let object = kubectl.get(&["tpipe", "web", "-n", &self.space.name]).await;
            let object = object.map_err(|error| error.to_string())?;
            let status = &object["status"];
            let conditions = status["conditions"].as_array().into_iter().flatten();
            let ready = conditions
                .into_iter()
                .any(|it| it["type"] == "Ready" && it["status"] == "True");
            let seen = (
                status["observedGeneration"].clone(),
                ready,
                status["readyReplicas"].as_i64(),
            );
            wanted(seen, &(object["metadata"]["generation"].clone(), true, Some(replicas)))
        })
        .await
        .unwrap();
    }

    async fn apply(&self, least: u32) {
        let mut pool = cpu_pool("x86", &[(Space::LABEL, &self.space.name)]);
        pool["spec"]["class"] = json!("x86");
        let mut web = pipeline(
            "web",
            &[stage("retrieve", &[], 1), stage("answer", &["retrieve"], least)],
        );
        web["metadata"]["namespace"] = json!(self.space.name);
        self.cluster
            .kubectl()
            .apply(&format!("{pool}\n---\n{web}"))
            .await
            .unwrap();
    }

    /// Whether the definitions in the cluster know `signal.also`, which the previous ones do not.
    async fn knows_more_signals(&self) -> bool {
        let mut signals = stage("serve", &[], 1);
        signals["signal"] = json!({"preset": "cpu", "also": [{"preset": "psi"}]});
        let mut object = pipeline("signals", &[signals]);
        object["metadata"]["namespace"] = json!(self.space.name);
        let output = self
            .cluster
            .kubectl()
            .dry_run(&self.space.name, &object.to_string())
            .await
            .unwrap();
        let refused = output.stderr.contains("also");
        assert_eq!(output.code == Some(0), !refused, "{output:?}");
        !refused
    }

    /// The release that a definition belongs to.
    async fn release_of(&self, definition: &str) -> Value {
        let object = self.cluster.kubectl().get(&["crd", definition]).await.unwrap();
        object["metadata"]["annotations"]["meta.helm.sh/release-name"].clone()
    }
}

pub(crate) async fn the_previous_chart_is_upgraded_rolled_back_and_installed_again_without_a_restart_of_any_pod(
    suite: &Suite,
) {
    let stand = Stand::start(suite).await;
    let previous = repository().join("e2e/previous/tiercel-0.1.0-alpha.1.tgz");
    let values = operator::outside_values(&stand.cluster);
    let helm = Helm::new(&stand.cluster);
    drop(helm.install("tiercel", &previous, NAMESPACE, &values).await.unwrap());
    let mut old = stand.operator("operator-previous", Port::Operator).await;
    stand.space.nodes(&X86, 2).await;
    stand.apply(2).await;
    stand.serves(3).await;
    assert!(
        !stand.knows_more_signals().await,
        "the previous definitions are not previous"
    );
    let running = stand.running().await;
    assert_eq!(
        running.keys().filter(|key| key.starts_with("Pod ")).count(),
        3,
        "{running:?}"
    );

    // The values that were set stay: without the range of addresses the operator's arguments would be others.
    let told = stand
        .types("helm upgrade tiercel charts/tiercel --namespace tiercel-system --reset-then-reuse-values\nkubectl")
        .await;
    let row = told.lines().find(|line| line.split_whitespace().nth(1) == Some("web"));
    assert_eq!(
        row.and_then(|row| row.split_whitespace().nth(2)),
        Some("True"),
        "{told}"
    );
    assert!(stand.knows_more_signals().await, "the definitions were not upgraded");
    let leader = stand.holder().await;
    let mut new = stand.operator("operator-present", Port::Load).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    new.check().unwrap();
    assert_eq!(stand.holder().await, leader, "the new one stands by");
    old.stop();
    let gap = stand.handed_over(&leader).await;
    assert!(gap < Duration::from_secs(10), "the Lease was left to expire: {gap:?}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(stand.running().await, running, "an upgrade restarts nothing");
    stand.apply(3).await;
    stand.serves(4).await;

    let running = stand.running().await;
    stand.types("helm rollback").await;
    assert!(
        !stand.knows_more_signals().await,
        "the definitions belong to the release, which went back"
    );
    let leader = stand.holder().await;
    let mut old = stand.operator("operator-previous", Port::Operator).await;
    new.stop();
    stand.handed_over(&leader).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(stand.running().await, running, "a rollback restarts nothing");
    stand.serves(4).await;

    // Gone and back, with the values that the chart has by itself: its own pods, played here.
    old.stop();
    stand.types("helm uninstall").await;
    assert_eq!(stand.running().await, running, "what runs does not need the operator");
    let install = typed::block("docs/quick-start.md", "helm install");
    drop(stand.shell(&install).await.success(install).unwrap());
    let available = "kubectl wait deployment/tiercel -n tiercel-system --for=condition=Available --timeout=30s";
    drop(stand.shell(available).await.success(available.to_owned()).unwrap());
    assert!(
        stand.knows_more_signals().await,
        "installing again brings the new definitions"
    );
    assert_eq!(stand.running().await, running, "installing again restarts nothing");
    stand.passes_its_helm_test().await;

    for definition in ["tieredpipelines.tiercel.dev", "computepools.tiercel.dev"] {
        assert_eq!(stand.release_of(definition).await, "tiercel", "{definition}");
    }
    stand
        .types("helm upgrade tiercel charts/tiercel --namespace tiercel-system --reset-then-reuse-values --set")
        .await;
    for definition in ["tieredpipelines.tiercel.dev", "computepools.tiercel.dev"] {
        assert_eq!(stand.release_of(definition).await, "tiercel-crds", "{definition}");
    }
    assert_eq!(
        stand.running().await,
        running,
        "handing the definitions over restarts nothing"
    );
    let mut last = stand.operator("operator-last", Port::Operator).await;
    stand.apply(4).await;
    stand.serves(5).await;
    last.stop();
    stand.cluster.stop();
}
