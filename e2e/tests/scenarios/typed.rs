//! What the documentation tells people to type, typed.

use std::path::Path;
use std::time::Duration;

use tiercel_e2e::command::{self, Output};

use crate::support::{file, repository};

/// The `sh` block of a page whose first line begins with `first`.
pub(crate) fn block(page: &str, first: &str) -> String {
    let text = file(page);
    let blocks = text
        .split("\n```sh\n")
        .skip(1)
        .map(|rest| rest.split("\n```").next().unwrap());
    let found: Vec<&str> = blocks.filter(|block| block.starts_with(first)).collect();
    let [one] = found[..] else {
        panic!("{page} has {} blocks that begin with `{first}`", found.len())
    };
    one.to_owned()
}

/// Commands in the repository, with the control plane's programs before all others. Caches go beside the kubeconfig.
pub(crate) async fn shell(tools: &Path, kubeconfig: &Path, commands: &str) -> Output {
    let path = std::env::var("PATH").unwrap_or_default();
    let folder = |name: &str| kubeconfig.with_file_name(name).display().to_string();
    let env = [
        ("PATH", format!("{}:{path}", tools.display())),
        ("KUBECONFIG", kubeconfig.display().to_string()),
        ("KUBECACHEDIR", folder("kubectl-cache")),
        ("HELM_CACHE_HOME", folder("helm/cache")),
        ("HELM_CONFIG_HOME", folder("helm/config")),
        ("HELM_DATA_HOME", folder("helm/data")),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value));
    let args = [
        "-c".to_owned(),
        format!("set -e\ncd '{}'\n{commands}", repository().display()),
    ];
    let output = command::run("/bin/sh".into(), &args, &env, "", Duration::from_mins(1)).await;
    output.unwrap()
}
