//! The real `helm` with one cluster's kubeconfig and folders of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{self, Error, Output};
use crate::controlplane::Cluster;
use crate::tools::Tool;

const TIMEOUT: Duration = Duration::from_mins(2);

/// `helm` for one cluster.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    env: Vec<(String, String)>,
}

impl Helm {
    /// Uses the cluster's administrator.
    pub fn new(cluster: &Cluster) -> Self {
        let folder = |name: &str| cluster.folder().join("helm").join(name).display().to_string();
        let env = [
            ("KUBECONFIG", cluster.kubeconfig().display().to_string()),
            ("HELM_CACHE_HOME", folder("cache")),
            ("HELM_CONFIG_HOME", folder("config")),
            ("HELM_DATA_HOME", folder("data")),
        ];
        Self {
            program: cluster.tools().path(Tool::Helm),
            env: env.map(|(name, value)| (name.to_owned(), value)).into(),
        }
    }

    /// Installs or upgrades a chart folder; `values` is YAML that goes over the chart's own.
    pub async fn install(&self, release: &str, chart: &Path, namespace: &str, values: &str) -> Result<String, Error> {
        let chart = chart.display().to_string();
        let args = [
            "upgrade",
            "--install",
            release,
            &chart,
            "--namespace",
            namespace,
            "--create-namespace",
            "-f",
            "-",
        ];
        self.run(&args, values).await
    }

    /// What a chart renders to, without a cluster.
    pub async fn template(&self, release: &str, chart: &Path, namespace: &str, values: &str) -> Result<String, Error> {
        let chart = chart.display().to_string();
        self.run(
            &["template", release, &chart, "--namespace", namespace, "-f", "-"],
            values,
        )
        .await
    }

    /// Removes a release.
    pub async fn uninstall(&self, release: &str, namespace: &str) -> Result<String, Error> {
        self.run(&["uninstall", release, "--namespace", namespace], "").await
    }

    /// Standard output of `helm ARGS`; a non-zero exit code is an error that quotes what helm said.
    pub async fn run(&self, args: &[&str], stdin: &str) -> Result<String, Error> {
        let output = self.output(args, stdin).await?;
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        Ok(output.success(command::shown(&self.program, &args))?.stdout)
    }

    /// Whatever `helm ARGS` printed and returned. For calls that are meant to fail.
    pub async fn output(&self, args: &[&str], stdin: &str) -> Result<Output, Error> {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        command::run(self.program.clone(), &args, &self.env, stdin, TIMEOUT).await
    }
}
