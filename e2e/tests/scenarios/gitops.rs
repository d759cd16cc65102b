//! What GitOps tools do with our objects: Helm waits for them, `kubectl` applies the same once more and compares.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel_e2e::command::Output;
use tiercel_e2e::helm::Helm;
use tiercel_e2e::nodes::X86;
use tiercel_e2e::wait::{eventually, wanted};

use crate::behaviour::{Scene, handed_over, server, serving};
use crate::suite::Suite;
use crate::support::{PATIENCE, Tiered, cpu_pool, documents, file, pipeline, stage};

/// How long pods start where somebody waits for them.
const STARTUP: Duration = Duration::from_secs(3);

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 4] {
    crate::scenarios![suite, gitops:
        helm_waits_until_a_pipeline_serves,
        helm_stops_waiting_for_a_pipeline_that_needs_help_and_says_which,
        a_second_server_side_apply_after_a_move_changes_nothing,
        a_second_client_side_apply_after_a_move_changes_nothing,
    ]
}

/// A chart of these objects.
fn chart(folder: &Path, objects: &[Value]) {
    let templates = folder.join("templates");
    std::fs::create_dir_all(&templates).unwrap();
    let about = json!({"apiVersion": "v2", "name": "agents", "version": "1.0.0"});
    std::fs::write(folder.join("Chart.yaml"), about.to_string()).unwrap();
    for (number, object) in objects.iter().enumerate() {
        std::fs::write(templates.join(format!("{number}.yaml")), object.to_string()).unwrap();
    }
}

/// `helm install --wait` of these objects in the space of a scenario, and how long it took.
async fn install(tiered: &Tiered, objects: &[Value]) -> (Output, Duration) {
    let folder = tempfile::tempdir().unwrap();
    let scoped: Vec<Value> = objects.iter().map(|object| tiered.scoped(object.clone())).collect();
    chart(folder.path(), &scoped);
    let helm = Helm::new(&tiered.installed.cluster);
    let path = folder.path().display().to_string();
    let start = Instant::now();
    let wait = ["--namespace", tiered.namespace(), "--wait", "--timeout", "60s"];
    let output = helm
        .output(&[&["install", "agents", &path], &wait[..]].concat(), "")
        .await;
    (output.unwrap(), start.elapsed())
}

pub(crate) async fn helm_waits_until_a_pipeline_serves(suite: &Suite) {
    let milliseconds = STARTUP.as_millis().to_string();
    let tiered = suite.tiered(&[("startup-milliseconds", &milliseconds)]).await;
    tiered.space.nodes(&X86, 1).await;
    let stages = [stage("retrieve", &[], 1), stage("answer", &["retrieve"], 2)];
    let objects = [cpu_pool("x86", &[]), pipeline("web", &stages)];
    let (output, took) = install(&tiered, &objects).await;
    let status = tiered.pipeline("web").await.status.unwrap_or_default();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        took >= STARTUP,
        "helm was back after {took:?}, before a pod could be Ready"
    );
    assert_eq!((status.replicas, status.ready_replicas), (3, 3));
    let ready = status.conditions.iter().find(|it| it.type_ == "Ready").unwrap();
    assert_eq!(ready.status, "True", "{ready:?}");
    drop(
        Helm::new(&tiered.installed.cluster)
            .uninstall("agents", tiered.namespace())
            .await
            .unwrap(),
    );
}

pub(crate) async fn helm_stops_waiting_for_a_pipeline_that_needs_help_and_says_which(suite: &Suite) {
    let tiered = suite.tiered(&[]).await;
    tiered.space.nodes(&X86, 1).await;
    let mut picky = stage("generate", &[], 1);
    picky["tierHint"] = json!("AcceleratorRequired");
    let objects = [cpu_pool("x86", &[]), pipeline("picky", &[picky])];
    let (output, took) = install(&tiered, &objects).await;
    assert_ne!(output.code, Some(0), "{output:?}");
    assert!(
        took < Duration::from_secs(30),
        "helm waited {took:?} for what cannot come"
    );
    tiered.says("picky", "Stalled", "True", "NoPoolMatches").await;
    // The pools of other scenarios come and go in the message.
    let namespace = tiered.namespace();
    let begins = format!("TieredPipeline/{namespace}/picky not ready. status: Failed, message: no pool");
    for part in [
        &*begins,
        "stage 'generate'",
        "tierHint 'AcceleratorRequired' forbids CPU pools",
    ] {
        assert!(
            output.stderr.contains(part),
            "helm must say `{part}`:\n{}",
            output.stderr
        );
    }
}

/// How a tool applies.
#[derive(Clone, Copy)]
enum Way {
    /// With the field manager of Argo CD.
    ServerSide,
    /// With the last applied configuration in an annotation.
    ClientSide,
}

impl Way {
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::ServerSide => &["--server-side", "--field-manager=argocd-controller"],
            Self::ClientSide => &["--server-side=false"],
        }
    }
}

/// What Argo CD marks an object with, by either of its methods. A child that carried the mark would count as an object of the
/// application that is not in Git, and be pruned.
fn marked(mut object: Value) -> Value {
    let (kind, name) = (object["kind"].clone(), object["metadata"]["name"].clone());
    let (kind, name) = (kind.as_str().unwrap(), name.as_str().unwrap());
    object["metadata"]["labels"][MARK_LABEL] = json!("agents");
    object["metadata"]["annotations"][MARK] = json!(format!("agents:tiercel.dev/{kind}:/{name}"));
    object
}

const MARK_LABEL: &str = "app.kubernetes.io/instance";
const MARK: &str = "argocd.argoproj.io/tracking-id";
/// Kinds of a pipeline's children, and the two that people write.
const CHILDREN: &str = "deployments.apps,services,serviceaccounts,poddisruptionbudgets.policy";
const OURS: &str = "tieredpipelines.tiercel.dev,computepools.tiercel.dev";

/// What a repository holds, applied in one way.
struct Repository {
    scene: Scene,
    way: Way,
    objects: Vec<Value>,
}

impl Repository {
    fn manifests(&self) -> String {
        let texts: Vec<String> = self.objects.iter().map(Value::to_string).collect();
        texts.join("\n---\n")
    }

    async fn kubectl(&self, verb: &str, manifests: &str) -> Output {
        let args = [&[verb, "-f", "-"], self.way.arguments()].concat();
        let kubectl = self.scene.tiered.installed.cluster.kubectl();
        kubectl.output(&args, manifests).await.unwrap()
    }

    async fn apply(&self) -> String {
        let output = self.kubectl("apply", &self.manifests()).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        assert!(!output.stderr.contains("conflict"), "{output:?}");
        output.stdout
    }

    async fn shows_no_difference(&self, manifests: &str) {
        // It reads everything twice; status may move in between, and not every time.
        let same = eventually(PATIENCE, "there is no difference", async || {
            let output = self.kubectl("diff", manifests).await;
            wanted((output.code, output.stdout), &(Some(0), String::new()))
        });
        same.await.unwrap();
    }

    /// Everything of this space that somebody applied or the operator made, status aside, and the version of each.
    async fn stored(&self) -> (BTreeMap<String, Value>, BTreeMap<String, String>) {
        let kubectl = self.scene.tiered.installed.cluster.kubectl();
        let namespace = self.scene.tiered.namespace();
        let kinds = format!("{CHILDREN},{OURS}");
        let list = kubectl
            .get(&[&*kinds, "-n", namespace, "--show-managed-fields"])
            .await
            .unwrap();
        let (mut objects, mut versions) = (BTreeMap::new(), BTreeMap::new());
        for mut object in list["items"].as_array().unwrap().clone() {
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            let elsewhere = object["kind"] == "ComputePool" && !name.starts_with(&format!("{namespace}-"));
            // The account that Kubernetes puts into each namespace.
            if elsewhere || name == "default" {
                continue;
            }
            let key = format!("{} {name}", object["kind"].as_str().unwrap());
            object.as_object_mut().unwrap().remove("status");
            let metadata = object["metadata"].as_object_mut().unwrap();
            versions.insert(key.clone(), metadata.remove("resourceVersion").unwrap().to_string());
            // The Deployment controller counts its passes here.
            let fields = metadata["managedFields"].as_array_mut().unwrap();
            fields.retain(|entry| entry["subresource"] != "status");
            objects.insert(key, object);
        }
        (objects, versions)
    }
}

/// The samples, marked by Argo CD, and a pipeline `chat` that moves within seconds; all of it applied, Ready, and `chat`
/// driven off the pool that it was on by a price that the repository changes.
async fn moved(suite: &Suite, way: Way) -> Repository {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.sample_nodes().await;
    let samples = ["config/samples/pools.yaml", "config/samples/support-agent.yaml"];
    let samples = samples.iter().flat_map(|path| documents(&file(path)));
    let all = samples.chain([pipeline("chat", &[server("generate", 2, 8)])]);
    let objects = all.map(|object| marked(scene.tiered.scoped(object))).collect();
    let mut repository = Repository { scene, way, objects };
    repository.apply().await;
    let scene = &repository.scene;
    scene.tiered.ready("support-agent").await;
    scene.tiered.ready("chat").await;
    let at = || scene.wanted("chat", "generate").into_keys().collect::<Vec<_>>();
    let [first] = &at()[..] else {
        panic!("on one pool: {:?}", at())
    };
    let expensive = scene.tiered.pool_name(first);
    let priced = repository
        .objects
        .iter_mut()
        .find(|it| it["metadata"]["name"] == expensive.as_str());
    priced.unwrap()["spec"]["costPerNodeHour"] = json!("90");
    repository.apply().await;
    let scene = &repository.scene;
    eventually(PATIENCE, format!("'chat' leaves pool '{first}'"), async || {
        let now = at();
        if now.contains(first) || now.is_empty() {
            Err(format!("{now:?}"))
        } else {
            Ok(())
        }
    })
    .await
    .unwrap();
    scene.tiered.says("chat", "Balanced", "True", "WithinTolerance").await;
    eventually(PATIENCE, "the rebalancer owns the replicas", async || {
        handed_over(&scene.tiered, "chat").await
    })
    .await
    .unwrap();
    repository
}

async fn applies_to_no_effect(repository: &Repository) {
    let manifests = repository.manifests();
    repository.shows_no_difference(&manifests).await;
    let replicas = repository.scene.wanted("chat", "generate");
    // Status moves the version too. An attempt during which nothing else happens shows that applying does not.
    eventually(PATIENCE, "a second apply leaves every version as it was", async || {
        let (before, versions) = repository.stored().await;
        let told = repository.apply().await;
        let (after, versions_after) = repository.stored().await;
        let of_chat = |objects: &BTreeMap<String, Value>| {
            let chat = objects.iter().filter(|(key, _)| !key.contains("support-agent"));
            chat.map(|(key, it)| (key.clone(), it.clone()))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(of_chat(&before), of_chat(&after), "{told}");
        let moved: Vec<_> = versions
            .iter()
            .filter(|(key, version)| versions_after.get(*key) != Some(*version))
            .collect();
        if moved.is_empty() {
            Ok(())
        } else {
            Err(format!("{moved:?}"))
        }
    })
    .await
    .unwrap();
    repository.shows_no_difference(&manifests).await;
    assert_eq!(
        repository.scene.wanted("chat", "generate"),
        replicas,
        "{}",
        repository.scene.history()
    );
    handed_over(&repository.scene.tiered, "chat").await.unwrap();
    repository.scene.bounds_held();

    // The repository leaves out what has a default. With all of them written out it says the same.
    let (stored, _) = repository.stored().await;
    let mut spelled = repository.objects.clone();
    for object in &mut spelled {
        let key = format!(
            "{} {}",
            object["kind"].as_str().unwrap(),
            object["metadata"]["name"].as_str().unwrap()
        );
        let spec = stored[&key]["spec"].clone();
        assert_ne!(object["spec"], spec, "{key} has no defaults");
        object["spec"] = spec;
    }
    let spelled: Vec<String> = spelled.iter().map(Value::to_string).collect();
    let wordy = repository.kubectl("diff", &spelled.join("\n---\n")).await;
    // A client notes down what it applied last, which is another text now; nothing else may differ.
    let changed = wordy.stdout.lines().filter(|line| {
        let edit = line.starts_with(['+', '-']) && !line.starts_with("+++") && !line.starts_with("---");
        edit && !line.contains("{\"apiVersion\":")
    });
    assert_eq!(changed.collect::<Vec<_>>(), Vec::<&str>::new(), "{wordy:?}");

    // Children carry nothing that an application counts its objects by.
    let children = stored
        .iter()
        .filter(|(_, object)| object["metadata"].get("ownerReferences").is_some());
    let mut count = 0;
    for (key, child) in children {
        let metadata = &child["metadata"];
        assert!(metadata["labels"].get(MARK_LABEL).is_none(), "{key}: {metadata}");
        let annotations = metadata["annotations"].as_object();
        let copied = annotations.into_iter().flatten().map(|(key, _)| key);
        let copied: Vec<_> = copied
            .filter(|key| *key == MARK || key.starts_with("kubectl.kubernetes.io/"))
            .collect();
        assert!(copied.is_empty(), "{key}: {copied:?}");
        count += 1;
    }
    assert!(count > 10, "only {count} children");
}

pub(crate) async fn a_second_server_side_apply_after_a_move_changes_nothing(suite: &Suite) {
    applies_to_no_effect(&moved(suite, Way::ServerSide).await).await;
}

pub(crate) async fn a_second_client_side_apply_after_a_move_changes_nothing(suite: &Suite) {
    // kubectl says `configured` all the same: it sends lists without their defaults, which the server fills in again.
    applies_to_no_effect(&moved(suite, Way::ClientSide).await).await;
}
