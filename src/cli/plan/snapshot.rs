//! What a cluster holds, read once.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::DeserializeGuard;
use kube::{Api, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::super::cluster::{self, Cluster, Context};
use super::super::print;
use super::Error;
use crate::api::{ComputePool, TieredPipeline, labels};
use crate::controller::live::Wire;
use crate::controller::pipeline::ceilings::NamespaceCeilings;
use crate::controller::view::{NodeView, PodView};
use crate::plan::ground::{self, Snapshot};

/// From connecting to the last page.
const DEADLINE: Duration = Duration::from_mins(1);
/// Objects per page of a list.
const PAGE_SIZE: u32 = 500;
/// What it takes to see all that a plan goes by.
const RIGHT: &str = "list tieredpipelines, computepools, nodes, pods, namespaces and deployments in all namespaces";

/// Everything of the cluster of a context that a plan goes by, and the context's namespace; of the current one where it has
/// no name.
pub(super) fn of_cluster(context: &str) -> Result<(Snapshot, String), Error> {
    let context = Context {
        context: Some(context)
            .filter(|context| !context.is_empty())
            .map(ToOwned::to_owned),
    };
    print::wait(async { Ok(read(&context).await?) })
}

async fn read(context: &Context) -> Result<(Snapshot, String), cluster::Error> {
    let cluster = context.connect().await?;
    let found = tokio::time::timeout(DEADLINE, all(&cluster)).await;
    let found = found.map_err(|_| cluster::Error::Unreachable {
        url: cluster.url.clone(),
        problem: format!("not everything was listed within {} s", DEADLINE.as_secs()),
    })??;
    Ok((found, cluster.namespace))
}

async fn all(cluster: &Cluster) -> Result<Snapshot, cluster::Error> {
    let any = ListParams::default();
    let pipelines: Vec<DeserializeGuard<TieredPipeline>> = list(cluster, &any).await?;
    let pools: Vec<DeserializeGuard<ComputePool>> = list(cluster, &any).await?;
    let nodes: Vec<NodeView> = list(cluster, &any).await?;
    // Those in a final phase hold nothing.
    let running = ListParams::default().fields("status.phase!=Succeeded,status.phase!=Failed");
    let pods: Vec<PodView> = list(cluster, &running).await?;
    let namespaces: Vec<Namespace> = list(cluster, &any).await?;
    let managed = ListParams::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let deployments: Vec<Wire<Deployment>> = list(cluster, &managed).await?;
    let known = |namespace: Namespace| {
        let facts = ground::Namespace {
            ceilings: NamespaceCeilings::of(namespace.annotations()),
            labels: namespace.labels().clone(),
        };
        (namespace.name_any(), facts)
    };
    let mut pools: Vec<ComputePool> = pools.into_iter().filter_map(|pool| pool.0.ok()).collect();
    pools.retain(|pool| pool.metadata.deletion_timestamp.is_none());
    let mut pipelines: Vec<TieredPipeline> = pipelines.into_iter().filter_map(|pipeline| pipeline.0.ok()).collect();
    pipelines.retain(|pipeline| pipeline.metadata.deletion_timestamp.is_none());
    Ok(Snapshot {
        pipelines,
        pools,
        nodes: nodes.into_iter().map(Arc::new).collect(),
        pods: pods.into_iter().map(Arc::new).collect(),
        namespaces: namespaces.into_iter().map(known).collect(),
        deployments: deployments.into_iter().map(|wire| Arc::new(wire.live)).collect(),
    })
}

/// All objects of a kind, page by page.
async fn list<K>(cluster: &Cluster, params: &ListParams) -> Result<Vec<K>, cluster::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::all(cluster.client.clone());
    let mut params = params.clone().limit(PAGE_SIZE);
    let mut found = Vec::new();
    loop {
        let page = api
            .list(&params)
            .await
            .map_err(|error| cluster.told(&error, &K::plural(&()), RIGHT))?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}
