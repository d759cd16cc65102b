//! What a cluster holds, read once.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::super::explain::{self, config, plainly};
use super::Error;
use crate::api::{ComputePool, TieredPipeline, labels};
use crate::controller::live::Wire;
use crate::controller::view::{NodeView, PodView};
use crate::plan::ground::Snapshot;

/// From connecting to the last page.
const DEADLINE: Duration = Duration::from_mins(1);
/// Objects per page of a list.
const PAGE_SIZE: u32 = 500;

/// Everything of the cluster of a context that a plan goes by, and the context's namespace; of the current one where it has
/// no name.
pub(super) fn snapshot(context: &str) -> Result<(Snapshot, String), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Cluster(explain::Error::Runtime(error)))?;
    runtime
        .block_on(read(Some(context).filter(|context| !context.is_empty())))
        .map_err(Error::Cluster)
}

async fn read(context: Option<&str>) -> Result<(Snapshot, String), explain::Error> {
    let config = config(context).await?;
    let url = config.cluster_url.to_string();
    let namespace = config.default_namespace.clone();
    let client = Client::try_from(config).map_err(|error| explain::Error::NoCluster(plainly(&error)))?;
    let found = tokio::time::timeout(DEADLINE, all(&client, &url)).await;
    let found = found.map_err(|_| explain::Error::Unreachable {
        url: url.clone(),
        problem: format!("not everything was listed within {} s", DEADLINE.as_secs()),
    })??;
    Ok((found, namespace))
}

async fn all(client: &Client, url: &str) -> Result<Snapshot, explain::Error> {
    let any = ListParams::default();
    let pipelines: Vec<DeserializeGuard<TieredPipeline>> = list(client, url, &any).await?;
    let pools: Vec<DeserializeGuard<ComputePool>> = list(client, url, &any).await?;
    let nodes: Vec<NodeView> = list(client, url, &any).await?;
    // Those in a final phase hold nothing.
    let running = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods: Vec<PodView> = list(client, url, &running).await?;
    let namespaces: Vec<Namespace> = list(client, url, &any).await?;
    let managed = ListParams::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let deployments: Vec<Wire<Deployment>> = list(client, url, &managed).await?;
    let labelled = |namespace: Namespace| (namespace.name_any(), namespace.metadata.labels.unwrap_or_default());
    let mut pools: Vec<ComputePool> = pools.into_iter().filter_map(|pool| pool.0.ok()).collect();
    pools.retain(|pool| pool.metadata.deletion_timestamp.is_none());
    let mut pipelines: Vec<TieredPipeline> = pipelines.into_iter().filter_map(|pipeline| pipeline.0.ok()).collect();
    pipelines.retain(|pipeline| pipeline.metadata.deletion_timestamp.is_none());
    Ok(Snapshot {
        pipelines,
        pools,
        nodes: nodes.into_iter().map(Arc::new).collect(),
        pods: pods.into_iter().map(Arc::new).collect(),
        namespaces: namespaces.into_iter().map(labelled).collect(),
        deployments: deployments.into_iter().map(|wire| Arc::new(wire.live)).collect(),
    })
}

/// All objects of a kind, page by page.
async fn list<K>(client: &Client, url: &str, params: &ListParams) -> Result<Vec<K>, explain::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let mut params = params.clone().limit(PAGE_SIZE);
    let mut found = Vec::new();
    loop {
        let page = api
            .list(&params)
            .await
            .map_err(|error| refused(&error, url, &K::plural(&())))?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// What an error of the client means to whoever asked for all objects of a kind.
fn refused(error: &kube::Error, url: &str, kind: &str) -> explain::Error {
    match error {
        kube::Error::Api(status) => match status.code {
            404 => explain::Error::NotInstalled,
            403 => explain::Error::NotPermitted(format!(
                "{}; a plan for a cluster needs to list tieredpipelines, computepools, nodes, pods, namespaces and deployments in all namespaces",
                plainly(error)
            )),
            401 => explain::Error::Credentials(plainly(error)),
            _ => explain::Error::Refused(format!("listing {kind}: {}", plainly(error))),
        },
        other => explain::Error::Unreachable {
            url: url.to_owned(),
            problem: plainly(other),
        },
    }
}
