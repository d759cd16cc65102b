//! What goes into a report. Whatever may not be seen is left out, and said in it.

use std::fmt::Write as _;
use std::future::Future;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Node, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use serde_json::{Value, json};

use super::archive::Entry;
use crate::api::{TieredPipeline, labels};
use crate::cli::asking::Operator;
use crate::cli::cluster::{self, Cluster};
use crate::cli::explain;
use crate::cli::get::{Question, listed};
use crate::cli::operator::Installed;
use crate::redact;
use crate::view::{self, Style};

/// Lines of a log's end, and bytes of it at most.
const LOG_LINES: i64 = 2_000;
const LOG_BYTES: i64 = 2 << 20;

/// Everything, under names of files.
pub(super) async fn collect(
    cluster: &Cluster,
    name: &str,
    installed: &Installed,
    operator: &Operator,
    now: Timestamp,
) -> Result<Vec<Entry>, cluster::Error> {
    let question = Question::of(&cluster.namespace, name);
    let (seen, notes) = question.ask(cluster).await?;
    let mut report = Report {
        cluster,
        entries: Vec::new(),
        problems: notes,
    };
    report.objects("pipeline.yaml", &seen.pipelines);
    report.objects("pods.yaml", &seen.pods);
    report.objects("computepools.yaml", &seen.pools);
    report.screens(&seen, now);
    let namespace = &cluster.namespace;
    let client = &cluster.client;
    let own = ListParams::default().labels(&format!("{}={name}", labels::PIPELINE));
    let (deployments, services, budgets) = (
        Api::<Deployment>::namespaced(client.clone(), namespace),
        Api::<Service>::namespaced(client.clone(), namespace),
        Api::<PodDisruptionBudget>::namespaced(client.clone(), namespace),
    );
    report.list("deployments.yaml", listed(&deployments, own.clone())).await;
    report.list("services.yaml", listed(&services, own.clone())).await;
    report.list("poddisruptionbudgets.yaml", listed(&budgets, own)).await;
    report.events(name).await;
    report.nodes().await;
    for pipeline in &seen.pipelines {
        report.why(operator, name, pipeline).await;
    }
    report.operator(installed).await;
    report.metrics(operator, name).await;
    report.versions(installed, now).await;
    Ok(report.finished(name))
}

struct Report<'a> {
    cluster: &'a Cluster,
    entries: Vec<Entry>,
    /// What is missing, and why.
    problems: Vec<String>,
}

impl Report<'_> {
    fn add(&mut self, name: &str, text: String) {
        self.entries.push(Entry {
            name: name.to_owned(),
            text,
        });
    }

    /// Objects as YAML documents.
    fn objects<K: Serialize>(&mut self, name: &str, objects: &[K]) {
        let documents = objects.iter().map(|object| {
            let mut value = serde_json::to_value(object).map_err(|error| error.to_string())?;
            redact::object(&mut value);
            serde_saphyr::to_string(&value).map_err(|error| error.to_string())
        });
        match documents.collect::<Result<Vec<_>, _>>() {
            Ok(documents) => self.add(name, documents.join("---\n")),
            Err(problem) => self.problems.push(format!("{name}: {problem}")),
        }
    }

    async fn list<K: Serialize>(&mut self, name: &str, question: impl Future<Output = Result<Vec<K>, kube::Error>>) {
        match self.cluster.ask(name, "list these objects", question).await {
            Ok(objects) => self.objects(name, &objects),
            Err(error) => self.problems.push(format!("{name}: {error}")),
        }
    }

    /// What `get` and `status` would show.
    fn screens(&mut self, seen: &view::tree::Seen, now: Timestamp) {
        let style = Style {
            unicode: true,
            ..Style::default()
        };
        let tree = view::tree::tree(seen, now);
        self.add("tree.txt", scrubbed(&tree.text(style, true)));
        for (tree, object) in tree.pipelines.into_iter().zip(&seen.pipelines) {
            let screen = view::status::screen(object, tree, now);
            self.add("status.txt", scrubbed(&screen.text(style)));
        }
    }

    /// What `why -o json` would print.
    async fn why(&mut self, operator: &Operator, name: &str, pipeline: &TieredPipeline) {
        let explained = explain::of_pipeline(operator, &self.cluster.namespace, name, pipeline).await;
        if let Some(unreached) = explained.unreached() {
            self.problems
                .push(format!("why.json has only what the status knows: {unreached}"));
        }
        let text = serde_json::to_value(&explained).and_then(|mut value| {
            redact::object(&mut value);
            serde_json::to_string_pretty(&value)
        });
        match text {
            Ok(text) => self.add("why.json", text + "\n"),
            Err(error) => self.problems.push(format!("why.json: {error}")),
        }
    }

    /// What the operator exposes for Prometheus, without the series of other pipelines.
    async fn metrics(&mut self, operator: &Operator, name: &str) {
        match operator.metrics().await {
            Ok(text) => {
                let text = about(&text, &self.cluster.namespace, name);
                self.add("operator/metrics.txt", scrubbed(&text));
            }
            Err(why) => self.problems.push(format!("operator/metrics.txt: {why}")),
        }
    }

    /// Events about the pipeline and its children.
    async fn events(&mut self, name: &str) {
        let api: Api<Event> = Api::namespaced(self.cluster.client.clone(), &self.cluster.namespace);
        let all = listed(&api, ListParams::default());
        let all = self.cluster.ask("events", "list events in this namespace", all).await;
        let children = format!("{name}--");
        match all {
            Ok(events) => {
                let about = |event: &Event| {
                    let about = event.involved_object.name.as_deref().unwrap_or_default();
                    about == name || about.starts_with(&children)
                };
                let kept: Vec<Event> = events.into_iter().filter(about).collect();
                self.objects("events.yaml", &kept);
            }
            Err(error) => self.problems.push(format!("events.yaml: {error}")),
        }
    }

    /// Of nodes what placement goes by: labels, taints, what they offer, whether they are Ready.
    async fn nodes(&mut self) {
        let api: Api<Node> = Api::all(self.cluster.client.clone());
        let nodes = listed(&api, ListParams::default());
        match self.cluster.ask("nodes", "list nodes", nodes).await {
            Ok(nodes) => {
                let kept: Vec<Value> = nodes.iter().map(node).collect();
                self.objects("nodes.yaml", &kept);
            }
            Err(error) => self.problems.push(format!("nodes.yaml: {error}")),
        }
    }

    /// The operator's Deployment, pods and the ends of their logs.
    async fn operator(&mut self, installed: &Installed) {
        let (client, namespace) = (&self.cluster.client, &installed.operator_namespace);
        let by_labels = ListParams::default().labels(&installed.operator_selector);
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        self.list("operator/deployments.yaml", listed(&deployments, by_labels.clone()))
            .await;
        let found = listed(&pods, by_labels);
        let found = self
            .cluster
            .ask("the operator's pods", "list pods in its namespace", found)
            .await;
        let found = match found {
            Ok(found) => found,
            Err(error) => return self.problems.push(format!("operator/pods.yaml: {error}")),
        };
        if found.is_empty() {
            let labels = &installed.operator_selector;
            self.problems.push(format!(
                "operator: no pod with the labels {labels} in namespace '{namespace}'; --operator-namespace names another one"
            ));
        }
        self.objects("operator/pods.yaml", &found);
        for pod in &found {
            let name = pod.name_any();
            let params = LogParams {
                tail_lines: Some(LOG_LINES),
                limit_bytes: Some(LOG_BYTES),
                timestamps: true,
                ..LogParams::default()
            };
            let log = self
                .cluster
                .ask("a log", "get pods/log in its namespace", pods.logs(&name, &params));
            match log.await {
                Ok(log) => self.add(&format!("operator/{name}.log"), scrubbed(&log)),
                Err(error) => self.problems.push(format!("operator/{name}.log: {error}")),
            }
        }
    }

    async fn versions(&mut self, installed: &Installed, now: Timestamp) {
        let server = self.cluster.client.apiserver_version();
        let server = self.cluster.ask("the server", "get /version", server).await;
        let versions = json!({
            "time": now.to_string(),
            "plugin": env!("CARGO_PKG_VERSION"),
            "operator": installed.version(self.cluster).await,
            "server": server.ok().map(|server| server.git_version),
        });
        self.add("versions.json", format!("{versions:#}\n"));
    }

    fn finished(mut self, name: &str) -> Vec<Entry> {
        let mut text = format!(
            "What tiercel and the cluster say of pipeline '{name}' in namespace '{}'.\n\nValues of environment variables, headers \
             and foreign annotations are left out, and so is what looks\nlike a secret elsewhere. Logs of the pipeline's own pods, \
             Secrets and ConfigMaps are not in here.\n\nMissing:\n",
            self.cluster.namespace
        );
        if self.problems.is_empty() {
            text += "nothing\n";
        }
        for problem in &self.problems {
            let _ = writeln!(text, "- {}", redact::line(problem));
        }
        let readme = Entry {
            name: "README.txt".to_owned(),
            text,
        };
        self.entries.insert(0, readme);
        self.entries
    }
}

fn node(node: &Node) -> Value {
    let status = node.status.as_ref();
    json!({
        "metadata": {"name": node.name_any(), "labels": node.metadata.labels},
        "spec": {
            "taints": node.spec.as_ref().and_then(|spec| spec.taints.as_ref()),
            "unschedulable": node.spec.as_ref().and_then(|spec| spec.unschedulable),
        },
        "status": {
            "allocatable": status.and_then(|status| status.allocatable.as_ref()),
            "conditions": status.and_then(|status| status.conditions.as_ref()),
        },
    })
}

/// Lines of an exposition that are about one pipeline, or about none.
fn about(text: &str, namespace: &str, name: &str) -> String {
    let (namespace, name) = (format!("namespace=\"{namespace}\""), format!("pipeline=\"{name}\""));
    let kept = text.lines().filter(|line| {
        let labels = line.split_once('{').map(|(_, labels)| labels).unwrap_or_default();
        let of_one = labels.split(',').any(|label| label.starts_with("pipeline="));
        !of_one || (labels.contains(&namespace) && labels.contains(&name))
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}

fn scrubbed(text: &str) -> String {
    text.lines().map(|line| redact::line(line) + "\n").collect()
}
