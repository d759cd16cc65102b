//! A spot pool that dries up as a provider takes it back: no new pods on its nodes, then its replicas one by one.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt};

use super::{Failure, NAMESPACE};
use crate::nodes;

/// Names of the nodes of one set.
pub async fn of_pool(client: &Client, pool: &str) -> Result<Vec<String>, Failure> {
    let selector = ListParams::default().labels(&format!("karpenter.sh/nodepool={pool}"));
    let list = Api::<Node>::all(client.clone()).list(&selector).await?;
    Ok(list.items.iter().map(ResourceExt::name_any).collect())
}

/// Cordons or uncordons nodes.
pub async fn cordon(client: &Client, names: &[String], cordoned: bool) -> Result<(), Failure> {
    for name in names {
        nodes::cordon(client, name, cordoned).await?;
    }
    Ok(())
}

/// After the notice, deletes the pods on these nodes one by one until none is left there.
pub async fn take(client: Client, names: Vec<String>, notice: Duration, between: Duration) -> Result<u32, Failure> {
    tokio::time::sleep(notice).await;
    let pods: Api<Pod> = Api::namespaced(client, NAMESPACE);
    let mut taken = 0;
    loop {
        let list = pods.list(&ListParams::default()).await?;
        let on_node = |pod: &&Pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            pod.metadata.deletion_timestamp.is_none() && node.is_some_and(|node| names.contains(node))
        };
        let Some(next) = list.items.iter().find(on_node) else {
            return Ok(taken);
        };
        match pods.delete(&next.name_any(), &DeleteParams::default()).await {
            Ok(_) => taken += 1,
            // The operator was faster.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(between).await;
    }
}
