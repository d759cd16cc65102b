//! The real `kubectl` with one cluster's kubeconfig.

use std::path::PathBuf;
use std::time::Duration;

use crate::command::{self, Error, Output};

const TIMEOUT: Duration = Duration::from_mins(1);

/// `kubectl` for one cluster.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// The program and the kubeconfig that it uses.
    pub fn new(program: PathBuf, kubeconfig: PathBuf) -> Self {
        Self { program, kubeconfig }
    }

    /// Standard output of `kubectl ARGS`; a non-zero exit code is an error that quotes what kubectl said.
    pub async fn run(&self, args: &[&str]) -> Result<String, Error> {
        let output = self.output(args, "").await?;
        Ok(output.success(self.shown(args))?.stdout)
    }

    /// Whatever `kubectl ARGS` printed and returned, with `stdin` as its input. For calls that are meant to fail.
    pub async fn output(&self, args: &[&str], stdin: &str) -> Result<Output, Error> {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        command::run(self.program.clone(), &args, &self.env(), stdin, TIMEOUT).await
    }

    /// Applies manifests (`kubectl apply --server-side -f -`).
    pub async fn apply(&self, yaml: &str) -> Result<String, Error> {
        self.feed(&["apply", "--server-side", "-f", "-"], yaml).await
    }

    /// Applies manifests in a namespace.
    pub async fn apply_in(&self, namespace: &str, yaml: &str) -> Result<String, Error> {
        self.feed(&["apply", "--server-side", "-n", namespace, "-f", "-"], yaml)
            .await
    }

    /// What the API server says to manifests without storing them. The exit code is the caller's to judge.
    pub async fn dry_run(&self, namespace: &str, yaml: &str) -> Result<Output, Error> {
        self.output(
            &["apply", "--server-side", "--dry-run=server", "-n", namespace, "-f", "-"],
            yaml,
        )
        .await
    }

    /// `kubectl get ARGS -o json`, parsed.
    pub async fn get(&self, args: &[&str]) -> Result<serde_json::Value, Error> {
        let args = [&["get"], args, &["-o", "json"]].concat();
        let text = self.run(&args).await?;
        serde_json::from_str(&text).map_err(|source| Error::Run {
            program: self.program.clone(),
            source: source.into(),
        })
    }

    async fn feed(&self, args: &[&str], stdin: &str) -> Result<String, Error> {
        Ok(self.output(args, stdin).await?.success(self.shown(args))?.stdout)
    }

    fn shown(&self, args: &[&str]) -> String {
        let args: Vec<_> = args.iter().map(|&arg| arg.to_owned()).collect();
        command::shown(&self.program, &args)
    }

    /// The cache goes beside the kubeconfig, so that clusters on the same port do not read each other's.
    fn env(&self) -> Vec<(String, String)> {
        let cache = self.kubeconfig.with_file_name("kubectl-cache");
        vec![
            ("KUBECONFIG".into(), self.kubeconfig.display().to_string()),
            ("KUBECACHEDIR".into(), cache.display().to_string()),
        ]
    }
}
