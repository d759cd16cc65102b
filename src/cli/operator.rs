//! Where the operator is, and which version of it runs.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::ListParams;

use super::cluster::Cluster;

/// Well-known label of an application's version.
const VERSION: &str = "app.kubernetes.io/version";

/// Where the operator runs.
#[derive(Clone, Debug, clap::Args)]
pub struct Installed {
    /// Namespace of the operator's pods.
    #[arg(
        long,
        env = "TIERCEL_OPERATOR_NAMESPACE",
        default_value = "tiercel-system",
        value_name = "NAMESPACE"
    )]
    pub(super) operator_namespace: String,
    /// Labels of the operator's pods.
    #[arg(long, default_value = "app.kubernetes.io/name=tiercel", value_name = "SELECTOR")]
    pub(super) operator_selector: String,
}

impl Installed {
    /// The operator's version, as its Deployment says it: label, else tag of the image.
    pub(super) async fn version(&self, cluster: &Cluster) -> Option<String> {
        let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), &self.operator_namespace);
        let params = ListParams::default().labels(&self.operator_selector);
        let right = "list deployments in the operator's namespace";
        let found = cluster.ask("the operator", right, api.list(&params));
        found.await.ok()?.items.iter().find_map(said)
    }

    /// A line for people where plugin and operator are too far apart to rely on each other.
    pub(super) async fn skew(&self, cluster: &Cluster) -> Option<String> {
        skew(env!("CARGO_PKG_VERSION"), &self.version(cluster).await?)
    }

    /// Says so on standard error.
    pub(super) async fn warn(&self, cluster: &Cluster) {
        if let Some(note) = self.skew(cluster).await {
            eprintln!("tiercel: {note}");
        }
    }
}

fn said(deployment: &Deployment) -> Option<String> {
    let label = deployment
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(VERSION));
    let image = || {
        let containers = &deployment.spec.as_ref()?.template.spec.as_ref()?.containers;
        let image = containers.first()?.image.as_deref()?;
        // A registry's port is no tag.
        let last = image.rsplit('/').next()?.split('@').next()?;
        last.split_once(':').map(|(_, tag)| tag.to_owned())
    };
    label.cloned().or_else(image)
}

/// Major and minor of a version.
fn release(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.trim_start_matches('v').split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Before 1.0 a minor version may break, after it one of distance is fine.
fn skew(own: &str, operator: &str) -> Option<String> {
    let (ours, theirs) = (release(own)?, release(operator)?);
    let apart = ours.0 != theirs.0 || ours.1.abs_diff(theirs.1) > u64::from(ours.0 > 0);
    apart.then(|| {
        format!("this is tiercel {own}, and the operator is {operator}: what is shown may be wrong; use the operator's version")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_versions_that_may_not_understand_each_other_are_told() {
        for (own, operator, told) in [
            ("0.1.0", "0.1.7", false),
            ("0.1.0", "0.2.0", true),
            ("1.4.0", "v1.5.2", false),
            ("1.4.0", "1.6.0", true),
            ("2.0.0", "1.9.0", true),
            ("0.1.0", "0.1.0-rc.1", false),
            ("0.1.0", "latest", false),
        ] {
            assert_eq!(skew(own, operator).is_some(), told, "{own} {operator}");
        }
    }

    #[test]
    fn the_label_goes_before_the_image_and_a_port_is_no_tag() {
        let deployment = |labels: serde_json::Value, image: &str| -> Deployment {
            serde_json::from_value(
                json!({"metadata": {"labels": labels}, "spec": {"selector": {}, "template": {"spec":
                {"containers": [{"name": "operator", "image": image}]}}}}),
            )
            .unwrap()
        };
        let label = json!({"app.kubernetes.io/version": "0.3.0"});
        assert_eq!(said(&deployment(label, "a/b:0.2.0")).as_deref(), Some("0.3.0"));
        for (image, tag) in [
            ("ghcr.io/tiercel/tiercel:0.2.0", Some("0.2.0")),
            ("registry.example.com:5000/tiercel", None),
            ("a/tiercel:1.0.0@sha256:ab", Some("1.0.0")),
        ] {
            assert_eq!(said(&deployment(json!({}), image)).as_deref(), tag, "{image}");
        }
    }
}
