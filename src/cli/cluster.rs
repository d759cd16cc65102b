//! Reaching the cluster as kubectl does, and what its refusals mean: shared by every command that asks one.

use std::future::Future;
use std::time::Duration;

use kube::api::ListParams;
use kube::config::{KubeConfigOptions, KubeconfigError};
use kube::core::Status;
use kube::{Api, Client, Config};

use super::print;
use crate::api::TieredPipeline;

/// From connecting to the cluster to its answer.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);
/// Names that a message holds at most.
const NAMES_MAX: u32 = 10;

/// Which cluster, and where in it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Target {
    /// Namespace of the pipeline; the context's if absent.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(super) namespace: Option<String>,
    #[command(flatten)]
    pub(super) context: Context,
}

/// Which cluster, for what is in no namespace.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Context {
    /// Context of the kubeconfig; the current one if absent.
    #[arg(long, value_name = "CONTEXT")]
    pub(super) context: Option<String>,
}

/// Which cluster, and one namespace of it or all.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Scope {
    #[command(flatten)]
    pub(super) target: Target,
    /// Every namespace.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(super) all_namespaces: bool,
}

/// The cluster does not show what is asked for. Each kind has an exit code of its own, see [`Error::code`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No pipeline can be called so.
    #[error("'{0}' is not the name of a pipeline: names have lower-case letters, digits and dashes")]
    Name(String),
    /// No such pipeline.
    #[error("there is no pipeline '{name}' in namespace '{namespace}'; {}", others(.known, "namespaces are named with -n"))]
    UnknownPipeline {
        /// What was asked for.
        name: String,
        /// Where.
        namespace: String,
        /// What there is, if that may be seen.
        known: Vec<String>,
    },
    /// The server does not let this user look.
    #[error("not permitted: {message}; ask for the right to {right}")]
    NotPermitted {
        /// What the server says.
        message: String,
        /// What it takes.
        right: &'static str,
    },
    /// The server does not know who this is.
    #[error("the API server does not accept the credentials: {0}; log in again, or use another --context")]
    Credentials(String),
    /// The server knows no pipelines.
    #[error(
        "the cluster knows no TieredPipeline: tiercel is not installed there, or another cluster is meant (--context)"
    )]
    NotInstalled,
    /// No cluster is configured, or not this context.
    #[error("no cluster is configured: {0}; set KUBECONFIG, or name a context with --context")]
    NoCluster(String),
    /// Nobody answers.
    #[error("the API server at {url} does not answer: {problem}; check the address, the network and the context")]
    Unreachable {
        /// Where.
        url: String,
        /// What happened.
        problem: String,
    },
    /// Any other answer of the server.
    #[error("the API server refuses: {0}")]
    Refused(String),
    /// The object is none that this version reads.
    #[error("{what} cannot be read by this version of tiercel: {problem}; use the operator's version")]
    Unreadable {
        /// Which.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What the cluster has is not on the screen.
#[derive(Debug, thiserror::Error)]
pub enum NotShown {
    /// The cluster does not show it.
    #[error(transparent)]
    Cluster(#[from] Error),
    /// The answer cannot be printed.
    #[error(transparent)]
    Print(#[from] print::Error),
}

impl NotShown {
    /// What [`Error::code`] says.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Cluster(error) => error.code(),
            Self::Print(_) => 1,
        }
    }
}

/// Whether a pipeline or stage may be called so: what is sent becomes part of a path.
pub(super) fn is_name(text: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    !text.is_empty() && text.chars().all(fits)
}

/// What there is instead.
pub(super) fn others(known: &[String], none: &str) -> String {
    if known.is_empty() {
        return none.to_owned();
    }
    let shown = known.len().min(NAMES_MAX as usize);
    let quoted: Vec<String> = known.iter().take(shown).map(|name| format!("'{name}'")).collect();
    let more = match known.len() - shown {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("there is {}{more}", quoted.join(", "))
}

impl Error {
    /// 2 for what no pipeline can be called, 3 for what does not exist, 4 for what is not permitted, 5 where tiercel is not installed, 6 where nobody answers, 1 for
    /// anything else.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Name(_) => 2,
            Self::UnknownPipeline { .. } => 3,
            Self::NotPermitted { .. } | Self::Credentials(_) => 4,
            Self::NotInstalled => 5,
            Self::NoCluster(_) | Self::Unreachable { .. } => 6,
            Self::Refused(_) | Self::Unreadable { .. } => 1,
        }
    }
}

/// A cluster that can be asked.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) client: Client,
    /// Where, for people.
    pub(super) url: String,
    /// The namespace that is meant where none is named.
    pub(super) namespace: String,
}

impl Target {
    /// Connects; the namespace is the one that is meant.
    pub(super) async fn connect(&self) -> Result<Cluster, Error> {
        let cluster = self.context.connect().await?;
        Ok(Cluster {
            namespace: self.namespace.clone().unwrap_or(cluster.namespace),
            ..cluster
        })
    }
}

impl Context {
    /// Connects, without asking anything yet.
    pub(super) async fn connect(&self) -> Result<Cluster, Error> {
        let config = config(self.context.as_deref()).await?;
        let (namespace, url) = (config.default_namespace.clone(), config.cluster_url.to_string());
        let client = Client::try_from(config).map_err(|error| Error::NoCluster(plainly(&error)))?;
        Ok(Cluster { client, url, namespace })
    }
}

impl Scope {
    /// The namespace, or `None` for all.
    pub(super) fn within(&self, cluster: &Cluster) -> Option<String> {
        (!self.all_namespaces).then(|| cluster.namespace.clone())
    }
}

impl Cluster {
    /// One pipeline. Where there is none, what there is instead.
    pub(super) async fn pipeline(&self, name: &str) -> Result<TieredPipeline, Error> {
        self.soon(self.find(name)).await
    }

    async fn find(&self, name: &str) -> Result<TieredPipeline, Error> {
        if !is_name(name) {
            return Err(Error::Name(name.to_owned()));
        }
        let pipelines: Api<TieredPipeline> = Api::namespaced(self.client.clone(), &self.namespace);
        let error = match pipelines.get(name).await {
            Ok(pipeline) => return Ok(pipeline),
            Err(error) => error,
        };
        if !is_unknown(&error) {
            let what = format!("pipeline '{name}'");
            return Err(self.told(&error, &what, "get tieredpipelines in this namespace"));
        }
        // Who may not list is not told what else there is.
        let known = pipelines.list_metadata(&ListParams::default().limit(NAMES_MAX)).await;
        Err(Error::UnknownPipeline {
            name: name.to_owned(),
            namespace: self.namespace.clone(),
            known: known.map_or_else(
                |_| Vec::new(),
                |list| list.iter().map(kube::ResourceExt::name_any).collect(),
            ),
        })
    }

    /// Asks one thing within the deadline. `what` is the subject for people, `right` what it takes.
    pub(super) async fn ask<T>(
        &self,
        what: &str,
        right: &'static str,
        question: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Error> {
        self.soon(async { question.await.map_err(|error| self.told(&error, what, right)) })
            .await
    }

    async fn soon<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let late = |_| Error::Unreachable {
            url: self.url.clone(),
            problem: format!("no answer within {} s", DEADLINE.as_secs()),
        };
        tokio::time::timeout(DEADLINE, answer).await.map_err(late)?
    }

    /// What an error of the client means to whoever asked.
    pub(super) fn told(&self, error: &kube::Error, what: &str, right: &'static str) -> Error {
        match error {
            kube::Error::Api(status) => refused(status, right),
            kube::Error::SerdeError(problem) => Error::Unreadable {
                what: what.to_owned(),
                problem: problem.to_string(),
            },
            other => Error::Unreachable {
                url: self.url.clone(),
                problem: plainly(other),
            },
        }
    }
}

/// Whether the server knows the kind, but not this object: of a kind that it does not know it says so without naming one.
pub(super) fn is_unknown(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404
        && status.details.as_ref().is_some_and(|details| !details.name.is_empty()))
}

fn refused(status: &Status, right: &'static str) -> Error {
    let message = status.message.split_whitespace().collect::<Vec<_>>().join(" ");
    match status.code {
        404 => Error::NotInstalled,
        403 => Error::NotPermitted { message, right },
        401 => Error::Credentials(message),
        _ => Error::Refused(message),
    }
}

/// What went wrong, without the client's own words around it.
pub(super) fn plainly(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.split_whitespace().collect::<Vec<_>>().join(" "),
        other => one_line(other),
    }
}

/// How to reach the cluster: as kubectl does.
async fn config(context: Option<&str>) -> Result<Config, Error> {
    let options = KubeConfigOptions {
        context: context.map(ToOwned::to_owned),
        ..KubeConfigOptions::default()
    };
    let mut config = match Config::from_kubeconfig(&options).await {
        Ok(config) => config,
        // In a pod there is no kubeconfig.
        Err(_) if context.is_none() && std::env::var_os("KUBECONFIG").is_none() && Config::incluster().is_ok() => {
            Config::incluster().map_err(|error| Error::NoCluster(one_line(&error)))?
        }
        Err(error) => return Err(no_cluster(&error)),
    };
    config.default_retry = false;
    config.connect_timeout = Some(DEADLINE / 2);
    Ok(config)
}

fn no_cluster(error: &KubeconfigError) -> Error {
    Error::NoCluster(one_line(error))
}

/// The innermost reason of an error, in one line.
pub(super) fn one_line(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
impl Cluster {
    /// A cluster behind a scripted server.
    pub(super) fn scripted(client: Client) -> Self {
        Self {
            client,
            url: "https://scripted".to_owned(),
            namespace: "rag".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::ScriptedApi;

    fn status(code: u16, message: &str, name: &str) -> serde_json::Value {
        serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "", "code": code,
            "message": message, "details": {"name": name}})
    }

    #[tokio::test]
    async fn every_refusal_is_one_line_with_a_code_of_its_own() {
        let cases = [
            (
                status(404, r#"tieredpipelines.tiercel.dev "chat" not found"#, "chat"),
                3,
            ),
            (status(404, "404 page not found\n", ""), 5),
            (status(403, "User \"ann\" cannot get resource", "chat"), 4),
            (status(401, "Unauthorized", ""), 4),
            (status(500, "etcd\nis away", ""), 1),
        ];
        for (status, code) in cases {
            let (client, mut api) = ScriptedApi::new();
            api.expect("GET", "/namespaces/rag/tieredpipelines/chat")
                .reply(u16::try_from(status["code"].as_u64().unwrap()).unwrap(), status);
            if code == 3 {
                api.expect("GET", "/namespaces/rag/tieredpipelines?").reply(
                    200,
                    serde_json::json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {},
                        "items": [{"metadata": {"name": "chart"}}]}),
                );
            }
            let script = api.serve();
            let error = Cluster::scripted(client).pipeline("chat").await.unwrap_err();
            script.finish().await;
            assert_eq!(error.code(), code, "{error}");
            let text = error.to_string();
            assert!(
                !text.contains('\n') && (code != 3 || text.contains("'chart'")),
                "{text}"
            );
        }
    }
}
