//! Asking the operator: directly, or its pods through the API server, of which the one that leads answers.

use std::time::Duration;

use hyper::{Request, Uri};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client, Config, ResourceExt as _};

use super::cluster::plainly;
use super::operator::Installed;
use crate::explain::{self, Document};

/// From the first look for the operator's pods to its answer. It takes itself less than half of that.
const DEADLINE: Duration = Duration::from_secs(5);
/// Pods that are asked at most. Few installations have more than two.
const PODS_MAX: usize = 5;
/// Name of the container port that the chart gives the metrics, and its number by default.
const PORT: (&str, i32) = ("metrics", 8080);

/// Where the operator answers.
#[derive(Clone, Debug, clap::Args)]
pub struct Reach {
    /// Metrics address of the operator, such as `http://127.0.0.1:8080`, for one that runs outside of the cluster. If absent it is
    /// asked through the API server, which takes the right to get `pods/proxy` in its namespace.
    #[arg(long, env = "TIERCEL_OPERATOR", value_name = "URL")]
    operator: Option<String>,
    #[command(flatten)]
    pub(super) installed: Installed,
}

impl Reach {
    /// At the address that was given, if one was.
    pub(super) fn direct(&self) -> Result<Option<Operator>, Misaddressed> {
        self.operator.as_deref().map(Operator::at).transpose()
    }

    /// Behind the API server.
    pub(super) fn behind(&self, client: Client) -> Operator {
        Operator::behind(
            client,
            &self.installed.operator_namespace,
            &self.installed.operator_selector,
        )
    }
}

/// What was given is not the address of an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Misaddressed(String);

/// Where the operator is.
pub(super) enum Operator {
    /// At a URL, outside of the cluster.
    At(Client, String),
    /// Behind the API server: in these pods.
    Behind {
        client: Client,
        namespace: String,
        selector: String,
    },
}

/// Why the operator says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreached {
    /// It is not where it was looked for.
    #[error(
        "no pod with the labels {selector} runs in namespace '{namespace}': name the operator's with --operator-namespace and \
         --operator-selector, or its address with --operator"
    )]
    NoPod { namespace: String, selector: String },
    /// The server does not let this user ask.
    #[error("not permitted: {0}; it takes the right to list pods and to get pods/proxy in the operator's namespace")]
    NotPermitted(String),
    /// It answers, or somebody does for it.
    #[error("{who}: {problem}")]
    Said { who: String, problem: String },
    /// Nothing comes.
    #[error("the operator does not answer within {} s", DEADLINE.as_secs())]
    Late,
}

impl Operator {
    /// The operator at a URL.
    pub(super) fn at(url: &str) -> Result<Self, Misaddressed> {
        let usage = |problem: &str| Misaddressed(format!("--operator '{url}': {problem}: write http://HOST:PORT"));
        let uri: Uri = url.parse().map_err(|_| usage("not a URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err(usage("not the URL of a server"));
        }
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(Misaddressed(
                "--operator: the URL holds a credential, which is never sent".to_owned(),
            ));
        }
        let shown = url.trim_end_matches('/').to_owned();
        let mut config = Config::new(uri);
        config.default_retry = false;
        config.connect_timeout = Some(DEADLINE / 2);
        let client = Client::try_from(config).map_err(|error| usage(&plainly(&error)))?;
        Ok(Self::At(client, shown))
    }

    /// The operator in the pods that a selector picks.
    pub(super) fn behind(client: Client, namespace: &str, selector: &str) -> Self {
        Self::Behind {
            client,
            namespace: namespace.to_owned(),
            selector: selector.to_owned(),
        }
    }

    /// The document of one pipeline.
    pub(super) async fn ask(&self, namespace: &str, name: &str) -> Result<Document, Unreached> {
        let path = format!("{}/{namespace}/{name}", explain::PATH);
        self.answer(&path, |text| document(&text)).await
    }

    /// What the operator that leads exposes for Prometheus.
    pub(super) async fn metrics(&self) -> Result<String, Unreached> {
        self.answer("/metrics", leading).await
    }

    async fn answer<T>(&self, path: &str, read: Read<T>) -> Result<T, Unreached> {
        let answered = tokio::time::timeout(DEADLINE, async {
            match self {
                Self::At(client, url) => get(client, path, &format!("the operator at {url}"), read).await,
                Self::Behind {
                    client,
                    namespace,
                    selector,
                } => through(client, namespace, selector, path, read).await,
            }
        });
        answered.await.unwrap_or(Err(Unreached::Late))
    }
}

/// How an answer is read, or what is wrong with it.
type Read<T> = fn(String) -> Result<T, String>;

fn document(text: &str) -> Result<Document, String> {
    let document: Document = serde_json::from_str(text)
        .map_err(|_| "it does not answer as an operator does: check the address".to_owned())?;
    if document.version != explain::VERSION {
        return Err(format!(
            "it explains in version {}, and this program reads version {}: use the operator's version",
            document.version,
            explain::VERSION
        ));
    }
    Ok(document)
}

/// A standby exposes its own state only.
fn leading(text: String) -> Result<String, String> {
    let leads = |line: &str| {
        line.strip_prefix("tiercel_lease_leading ")
            .map(|value| value.trim() != "0")
    };
    match text.lines().find_map(leads) {
        Some(true) => Ok(text),
        Some(false) => Err(explain::ask::Error::Standby.to_string()),
        None => Err("it does not answer as an operator does: check the address".to_owned()),
    }
}

/// Asks one pod after the other. Standbys say that they are; what anybody else says is more use.
async fn through<T>(
    client: &Client,
    namespace: &str,
    selector: &str,
    path: &str,
    read: Read<T>,
) -> Result<T, Unreached> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let found = pods.list(&ListParams::default().labels(selector)).await;
    let found = found.map_err(|error| said(&error, "the API server"))?;
    let running = found.iter().filter(|pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    });
    let mut told = None;
    for pod in running.take(PODS_MAX) {
        let (name, port) = (pod.name_any(), port(pod));
        let proxied = format!("/api/v1/namespaces/{namespace}/pods/http:{name}:{port}/proxy{path}");
        match get(client, &proxied, &format!("pod {name}"), read).await {
            Ok(answer) => return Ok(answer),
            Err(why) => {
                let standby = explain::ask::Error::Standby.to_string();
                let telling = |why: &Unreached| !matches!(why, Unreached::Said { problem, .. } if *problem == standby);
                if told.as_ref().is_none_or(|before| telling(&why) && !telling(before)) {
                    told = Some(why);
                }
            }
        }
    }
    Err(told.unwrap_or_else(|| Unreached::NoPod {
        namespace: namespace.to_owned(),
        selector: selector.to_owned(),
    }))
}

fn port(pod: &Pod) -> i32 {
    let ports = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .flat_map(|container| container.ports.iter().flatten());
    let named = ports
        .filter(|port| port.name.as_deref() == Some(PORT.0))
        .map(|port| port.container_port)
        .next();
    named.unwrap_or(PORT.1)
}

async fn get<T>(client: &Client, path: &str, who: &str, read: Read<T>) -> Result<T, Unreached> {
    let problem = |problem: String| Unreached::Said {
        who: who.to_owned(),
        problem,
    };
    let request = Request::get(path)
        .body(Vec::new())
        .map_err(|error| problem(error.to_string()))?;
    let text = client.request_text(request).await.map_err(|error| said(&error, who))?;
    read(text).map_err(problem)
}

fn said(error: &kube::Error, who: &str) -> Unreached {
    let problem = match error {
        kube::Error::Api(status) if status.code == 403 => return Unreached::NotPermitted(plainly(error)),
        // Only a server that knows no such path says nothing.
        kube::Error::Api(status) if status.code == 404 && status.message.is_empty() => {
            "it knows no /v1/explain: use the operator's version".to_owned()
        }
        _ => plainly(error),
    };
    Unreached::Said {
        who: who.to_owned(),
        problem,
    }
}

#[cfg(test)]
#[path = "asking_tests.rs"]
mod tests;
