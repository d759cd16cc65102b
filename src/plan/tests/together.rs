//! What the pipelines of a namespace may take together.

use super::*;

#[test]
fn the_ceiling_of_a_namespace_among_the_files_is_kept_by_all_its_pipelines_and_named() {
    let namespace = |cost: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: agents\n  annotations: {{tiercel.dev/max-cost-per-hour: '{cost}'}}\n---\n"
        )
    };
    let pools = pool("cpu", &json!({}));
    let both = chain("chat", &json!({})) + &pipeline("other", &[stage("answer", 1, 4)], &json!({}));
    // 0.40 an hour each: 25 replicas together.
    let text = namespace("10.00") + &pools + &both;
    let (plan, problems) = planned(&[("a.yaml", &text)], &["cpu=50:4,16Gi"]);
    assert_eq!(problems, Vec::<String>::new());
    let told = [
        "find@cpu 4: the namespace's ceiling leaves no more",
        "answer@cpu 16: the namespace's ceiling leaves no more",
        "check@cpu 1: the namespace's ceiling leaves no more",
        "answer@cpu 4: replicas.max of 4 is reached",
    ];
    assert_eq!(bounds(&plan), told);
    // Five of these are the floors of both.
    let text = pools.clone() + &both;
    assert_eq!(
        said(&(namespace("2.00") + &text), &["cpu=50:4,16Gi"]),
        Vec::<String>::new()
    );
    assert_eq!(
        said(&(text + "---\n" + &namespace("1.50")), &["cpu=50:4,16Gi"]),
        [
            "a.yaml:3: document 2: TieredPipeline agents/chat: metadata.namespace: the least replicas of all pipelines in namespace 'agents' cost 1.60 per hour, more than the 1.50 of its annotation tiercel.dev/max-cost-per-hour"
        ]
    );
    // One that the cluster has already counts too, with its floors.
    let mut read = manifests(&[("a.yaml", &(namespace("1.50") + &pools + &both))]);
    let mut ground = Ground::offline(&mut read, &["cpu=50:4,16Gi".parse().unwrap()], false);
    let other = read.pipelines.pop().unwrap().object;
    ground.neighbours.push(other);
    let (_, problems) = crate::plan::plan(&read.pipelines, &read.pools, &ground);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].message.contains("cost 1.60 per hour, more than the 1.50"),
        "{problems:?}"
    );
    let mut read = manifests(&[("a.yaml", &(namespace("much") + &pools + &both))]);
    let ground = Ground::offline(&mut read, &["cpu=50:4,16Gi".parse().unwrap()], false);
    assert_eq!(
        ground.assumptions,
        [
            "namespace 'agents': annotation tiercel.dev/max-cost-per-hour of the namespace is 'much': must be a decimal such as '120.00', at most 9 digits before the point and 6 after; until then it holds nothing back"
        ]
    );
}
