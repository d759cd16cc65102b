use serde_json::{Value, json};

use super::*;
use crate::fixtures::{ScriptedApi, status};

fn list(items: &[Value]) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
}

fn node(name: &str, instance: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/arch": "amd64", "node.kubernetes.io/instance-type": instance}}})
}

#[tokio::test]
async fn pools_with_a_price_are_created_and_the_others_named() {
    let (client, mut api) = ScriptedApi::new();
    api.expect("GET", "/api/v1/nodes?")
        .reply(200, list(&[node("a", "m7i.4xlarge"), node("b", "unheard-of")]));
    api.expect("GET", "/computepools?").reply(200, list(&[]));
    api.expect("POST", "/computepools?&fieldManager=kubectl-tiercel").reply(
        201,
        json!({"apiVersion": "tiercel.dev/v1alpha1", "kind": "ComputePool", "metadata": {"name": "x"},
            "spec": {"tier": "CPU", "costPerNodeHour": "1"}}),
    );
    let script = api.serve();
    let cluster = Cluster::scripted(client);
    let (nodes, pools) = seen(&cluster).await.unwrap();
    let proposal = propose(&nodes, &pools.unwrap(), &prices::Prices::read(None).unwrap());
    let error = create(&cluster, &proposal.pools).await.unwrap_err();
    script.finish().await;
    assert_eq!(error.code(), 1);
    let text = error.to_string();
    assert!(text.contains("'amd64-unheard-of'") && !text.contains("m7i"), "{text}");
}

#[tokio::test]
async fn without_the_right_to_see_pools_nothing_is_proposed() {
    let (client, mut api) = ScriptedApi::new();
    api.expect("GET", "/api/v1/nodes?").reply(200, list(&[]));
    api.expect("GET", "/computepools?")
        .reply(403, status(403, "computepools is forbidden"));
    let script = api.serve();
    let error = seen(&Cluster::scripted(client)).await.unwrap_err();
    script.finish().await;
    assert_eq!(error.code(), 4, "{error}");
}

#[test]
fn a_proposal_reads_in_a_narrow_terminal() {
    let mut gpu = node("a", "g6.2xlarge");
    gpu["metadata"]["labels"]["karpenter.sh/capacity-type"] = json!("spot");
    gpu["status"] = json!({"allocatable": {"nvidia.com/gpu": "1"}});
    gpu["spec"] = json!({"taints": [{"key": "team", "value": "search", "effect": "NoSchedule"}]});
    let nodes: Vec<Node> = [gpu, node("b", "m7i.4xlarge"), node("c", "unheard-of")]
        .into_iter()
        .map(|node| serde_json::from_value(node).unwrap())
        .collect();
    let mut proposal = propose(&nodes, &[], &prices::Prices::read(None).unwrap());
    proposal.covered.insert("graviton".to_owned(), 4);
    let style = Style {
        colour: false,
        unicode: true,
        width: Some(80),
    };
    insta::assert_snapshot!(text(&proposal, style));
}
