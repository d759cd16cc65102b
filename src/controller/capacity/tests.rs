use serde_json::{Value, json};

use super::fixtures::World;
use super::*;
use crate::api::compute_pool::MatchExpression;

const GIB: u64 = 1024 * 1024;

fn resources(cpu_millis: u64, memory_gib: u64, devices: u64) -> Resources {
    Resources {
        cpu_millis,
        memory_kib: memory_gib * GIB,
        device_millis: devices * 1_000,
    }
}

fn gpu_pool() -> Value {
    json!({"spec": {"tier": "Accelerator", "device": {"resourceName": "nvidia.com/gpu"}}})
}

fn gpu_node(count: u32) -> Value {
    json!({"status": {"allocatable": {"nvidia.com/gpu": count.to_string()}}})
}

/// Room on a node of 8 CPUs and 32 GiB under a pool and beside pods.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a world at the call reads better without `&`"
)]
fn check_room(world: World, expected: Resources) {
    let observed = world.only();
    assert_eq!(
        observed.usable.iter().map(|node| node.room).collect::<Vec<_>>(),
        [expected]
    );
    assert_eq!(observed.capacity(), expected);
}

#[test]
fn room_is_what_others_and_the_reserve_leave() {
    let world = || World::default().pool("a", json!({})).node("n", "a", json!({}));
    check_room(world(), resources(8_000, 32, 0));
    check_room(world().foreign("n", "1500m", "2Gi", json!({})), resources(6_500, 30, 0));
    check_room(world().foreign("n", "9", "2Gi", json!({})), resources(0, 30, 0));
    let reserved = World::default()
        .pool("a", json!({"spec": {"reservePercent": 25}}))
        .node("n", "a", json!({}));
    check_room(reserved.foreign("n", "1", "4Gi", json!({})), resources(5_000, 20, 0));
}

#[test]
fn offers_are_rounded_down_and_requests_up_once_per_node() {
    let fine = json!({"status": {"allocatable": {"cpu": "7999999999n", "memory": "4097"}}});
    let world = || World::default().pool("a", json!({})).node("n", "a", fine.clone());
    let room = |cpu_millis, memory_kib| Resources {
        cpu_millis,
        memory_kib,
        device_millis: 0,
    };
    check_room(world(), room(7_999, 4));
    let exact = world()
        .foreign("n", "500001n", "1", json!({}))
        .foreign("n", "499999n", "1023", json!({}));
    check_room(exact, room(7_998, 3));
    let more = world()
        .foreign("n", "500001n", "2", json!({}))
        .foreign("n", "500000n", "1023", json!({}));
    check_room(more, room(7_997, 2));
}

#[test]
fn replicas_of_pipelines_are_counted_and_not_subtracted_from_room() {
    let observed = World::default()
        .pool("a", json!({}))
        .node("n", "a", json!({}))
        .replica("n", "2", "4Gi", json!({}))
        .replica(
            "n",
            "2",
            "4Gi",
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        )
        .foreign("n", "1", "1Gi", json!({}))
        .only();
    assert_eq!(observed.capacity(), resources(7_000, 31, 0));
    assert_eq!(
        observed.usable[0].used_by_tiercel,
        resources(4_000, 8, 0),
        "a leaving replica still holds its requests"
    );
    assert_eq!(observed.replicas, 1, "a leaving replica is none");
    assert_eq!(observed.totals.free, resources(3_000, 23, 0));
}

#[test]
fn pods_that_hold_nothing_or_are_not_bound_take_no_room() {
    for patch in [
        json!({"status": {"phase": "Succeeded"}}),
        json!({"status": {"phase": "Failed"}}),
        json!({"spec": {"nodeName": null}}),
        json!({"spec": {"nodeName": ""}}),
        json!({"spec": {"nodeName": "elsewhere"}}),
    ] {
        let world = World::default().pool("a", json!({})).node("n", "a", json!({}));
        check_room(world.foreign("n", "3", "3Gi", patch), resources(8_000, 32, 0));
    }
}

#[test]
fn a_label_alone_does_not_make_a_pod_a_replica() {
    let label = json!({"labels": {"tiercel.dev/variant-id": "v"}});
    let owner = |kind: &str, api: &str, controller: bool| json!([{"apiVersion": api, "kind": kind, "name": "x", "uid": "u", "controller": controller}]);
    for (metadata, expected) in [
        (json!({"labels": label["labels"]}), 0),
        (json!({"ownerReferences": owner("ReplicaSet", "apps/v1", true)}), 0),
        (
            json!({"labels": label["labels"], "ownerReferences": owner("ReplicaSet", "apps/v1", false)}),
            0,
        ),
        (
            json!({"labels": label["labels"], "ownerReferences": owner("Job", "batch/v1", true)}),
            0,
        ),
        (
            json!({"labels": label["labels"], "ownerReferences": owner("ReplicaSet", "example.com/v1", true)}),
            0,
        ),
        (
            json!({"labels": label["labels"], "ownerReferences": owner("ReplicaSet", "apps/v1", true)}),
            1,
        ),
    ] {
        let world = World::default().pool("a", json!({})).node("n", "a", json!({}));
        let observed = world.foreign("n", "2", "1Gi", json!({"metadata": metadata})).only();
        assert_eq!(observed.replicas, expected, "{metadata}");
        assert_eq!(
            observed.totals.foreign.cpu_millis,
            u64::from(1 - expected) * 2_000,
            "{metadata}"
        );
    }
}

#[test]
fn nodes_that_are_leaving_or_closed_give_no_capacity() {
    let taint = |key: &str, effect: &str| json!({"spec": {"taints": [{"key": key, "value": "x", "effect": effect}]}});
    for (patch, expected) in [
        (json!({"spec": {"unschedulable": true}}), "1 cordoned"),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            "1 being deleted",
        ),
        (
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
            "1 not Ready",
        ),
        (
            json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
            "1 not Ready",
        ),
        (json!({"status": {"conditions": []}}), "1 not Ready"),
        (
            taint("karpenter.sh/disrupted", "NoSchedule"),
            "1 leaving or not there yet (taint 'karpenter.sh/disrupted')",
        ),
        (
            taint("karpenter.sh/unregistered", "NoExecute"),
            "1 leaving or not there yet (taint 'karpenter.sh/unregistered')",
        ),
        (
            taint("ToBeDeletedByClusterAutoscaler", "NoSchedule"),
            "1 leaving or not there yet (taint 'ToBeDeletedByClusterAutoscaler')",
        ),
        (
            taint("node.kubernetes.io/unreachable", "NoExecute"),
            "1 leaving or not there yet (taint 'node.kubernetes.io/unreachable')",
        ),
        (
            taint("dedicated", "NoSchedule"),
            "1 with taint 'dedicated=x:NoSchedule' that `tolerations` does not name",
        ),
        (
            taint("dedicated", "NoExecute"),
            "1 with taint 'dedicated=x:NoExecute' that `tolerations` does not name",
        ),
        (
            taint("dedicated", "FutureEffect"),
            "1 with taint 'dedicated=x:NoSchedule' that `tolerations` does not name",
        ),
        (taint("dedicated", "PreferNoSchedule"), ""),
    ] {
        let observed = World::default()
            .pool("a", json!({}))
            .node("n", "a", patch.clone())
            .only();
        assert_eq!(
            summary(observed.set_aside.iter().map(|(_, reason)| reason)),
            expected,
            "{patch}"
        );
        assert_eq!(observed.nodes, 1, "{patch}");
        let given = if expected.is_empty() {
            resources(8_000, 32, 0)
        } else {
            Resources::default()
        };
        assert_eq!(observed.capacity(), given, "{patch}");
    }
}

#[test]
fn a_taint_is_tolerated_by_key_value_and_effect() {
    let taints = json!({"spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}});
    for (toleration, usable) in [
        (json!({"key": "nvidia.com/gpu"}), 1),
        (
            json!({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}),
            1,
        ),
        (
            json!({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}),
            0,
        ),
        (
            json!({"key": "nvidia.com/gpu", "operator": "Equal", "value": "present"}),
            1,
        ),
        (
            json!({"key": "nvidia.com/gpu", "operator": "Equal", "value": "true"}),
            0,
        ),
        (json!({"key": "nvidia.com/gpu", "operator": "Equal"}), 0),
        (json!({"key": "other"}), 0),
    ] {
        let pool = json!({"spec": {"tolerations": [toleration]}});
        let observed = World::default().pool("a", pool).node("n", "a", taints.clone()).only();
        assert_eq!(observed.usable.len(), usable, "{toleration}");
    }
    let leaving = json!({"spec": {"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]}});
    let pool = json!({"spec": {"tolerations": [{"key": "karpenter.sh/disrupted"}]}});
    let observed = World::default().pool("a", pool).node("n", "a", leaving).only();
    assert_eq!(
        observed.usable.len(),
        0,
        "no toleration makes a leaving node a place to stay"
    );
}

#[test]
fn a_node_counts_only_where_replicas_will_go() {
    let arm = |taint: Option<(&str, &str)>| {
        let taints: Vec<Value> = taint
            .iter()
            .map(|(value, effect)| json!({"key": "kubernetes.io/arch", "value": value, "effect": effect}))
            .collect();
        json!({"metadata": {"labels": {"kubernetes.io/arch": "arm64"}}, "spec": {"taints": taints}})
    };
    let declared = || json!({"architecture": "arm64"});
    for (spec, node, usable) in [
        (declared(), arm(None), 1),
        (declared(), json!({}), 0),
        (
            declared(),
            json!({"metadata": {"labels": {"kubernetes.io/arch": null}}}),
            0,
        ),
        (
            json!({"architecture": "arm64", "nodeSelector": {"kubernetes.io/arch": "amd64"}}),
            json!({}),
            1,
        ),
        (declared(), arm(Some(("arm64", "NoSchedule"))), 1),
        (declared(), arm(Some(("arm64", "NoExecute"))), 0),
        (declared(), arm(Some(("other", "NoSchedule"))), 0),
        (json!({}), arm(Some(("arm64", "NoSchedule"))), 0),
        (
            json!({"architecture": "arm64", "tolerations": [{"key": "kubernetes.io/arch", "effect": "NoExecute"}]}),
            arm(Some(("arm64", "NoSchedule"))),
            0,
        ),
    ] {
        let world = World::default()
            .pool("a", json!({"spec": spec}))
            .node("n", "a", node.clone());
        assert_eq!(world.only().usable.len(), usable, "{spec} {node}");
    }
    let observed = World::default()
        .pool("a", json!({"spec": declared()}))
        .node("n", "a", json!({}))
        .only();
    let reasons = summary(observed.set_aside.iter().map(|(_, reason)| reason));
    assert_eq!(
        reasons,
        "1 with label 'kubernetes.io/arch=amd64', not the declared `architecture`"
    );
}

#[test]
fn a_node_selected_twice_belongs_to_the_older_pool_and_the_younger_gives_nothing() {
    let both = json!({"spec": {"nodeSelector": {"pool": "a"}}});
    let observed = World::default()
        .pool("old", both.clone())
        .pool(
            "young",
            json!({"spec": {"nodeSelector": {"pool": null, "kubernetes.io/arch": "amd64"}, "elastic": {"maxNodes": 9}}}),
        )
        .pool("apart", json!({}))
        .node("n2", "a", json!({}))
        .node("n1", "a", json!({}))
        .node("alone", "b", json!({}))
        .replica("n1", "1", "1Gi", json!({}))
        .observe();
    assert_eq!(observed[0].problem, None);
    assert_eq!(observed[0].capacity(), resources(16_000, 64, 0));
    let expected = Problem::PoolsOverlap {
        node: "n1".to_owned(),
        other: "old".to_owned(),
    };
    assert_eq!(observed[1].problem, Some(expected));
    assert_eq!(
        observed[1].capacity(),
        Resources::default(),
        "not even what it has alone or may grow by"
    );
    assert_eq!(observed[1].replicas_that_fit(resources(1_000, 1, 0)), 0);
    assert_eq!(
        (observed[0].replicas, observed[1].replicas),
        (1, 0),
        "no replica counts twice"
    );
    assert_eq!(observed[2].problem, None);
}

#[test]
fn of_two_pools_created_at_once_the_smaller_uid_is_older_whatever_the_order() {
    let both = |uid: &str| json!({"metadata": {"uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"nodeSelector": {"pool": "a"}}});
    for (first, second) in [("1", "2"), ("2", "1")] {
        let world = World::default()
            .pool("x", both(first))
            .pool("y", both(second))
            .node("n", "a", json!({}));
        let failed: Vec<String> = world
            .observe()
            .into_iter()
            .filter(|pool| pool.problem.is_some())
            .map(|pool| pool.uid)
            .collect();
        assert_eq!(failed, ["2"]);
    }
}

#[test]
fn the_order_of_objects_does_not_matter() {
    let world = World::default()
        .pool("a", json!({"spec": {"elastic": {"maxNodes": 5}}}))
        .node("n1", "a", json!({"status": {"allocatable": {"cpu": "4"}}}))
        .node("n2", "a", json!({}))
        .node("n3", "a", json!({"spec": {"unschedulable": true}}))
        .foreign("n1", "1", "1Gi", json!({}))
        .replica("n2", "1", "1Gi", json!({}));
    let forward = world.observe();
    let World {
        pools,
        mut nodes,
        mut pods,
    } = world;
    nodes.reverse();
    pods.reverse();
    assert_eq!(observe(&pools, &nodes, &pods), forward);
}

#[test]
fn an_elastic_pool_grows_by_nodes_like_those_it_has() {
    let elastic = |patch: Value| json!({"spec": {"reservePercent": 10, "elastic": patch}});
    let daemon = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u", "controller": true}]}});
    let observed = World::default()
        .pool("a", elastic(json!({"maxNodes": 5, "provisionSeconds": 90})))
        .node("n1", "a", json!({"status": {"allocatable": {"cpu": "4"}}}))
        .node("n2", "a", json!({}))
        .node("n3", "a", json!({}))
        .node("gone", "a", json!({"spec": {"unschedulable": true}}))
        .foreign("n2", "200m", "2Gi", daemon)
        .foreign("n2", "1", "1Gi", json!({}))
        .only();
    assert_eq!(observed.shape, Some(resources(8_000, 32, 0)), "the most common offer");
    assert_eq!(
        observed.elastic_nodes, 1,
        "a cordoned node still counts against the maximum"
    );
    assert_eq!(observed.provision_ms, 90_000);
    let kib = 30 * GIB - (32 * GIB).div_ceil(10);
    let room = Resources {
        cpu_millis: 8_000 - 200 - 800,
        memory_kib: kib,
        device_millis: 0,
    };
    assert_eq!(observed.elastic_room, room, "daemons come along, other pods do not");
}

#[test]
fn an_empty_elastic_pool_counts_only_if_its_nodes_are_declared() {
    let declared = json!({"spec": {"elastic": {"maxNodes": 3, "nodeAllocatable": {"cpu": "16", "memory": "64Gi"}}}});
    let observed = World::default().pool("a", declared.clone()).only();
    assert_eq!(
        (observed.elastic_nodes, observed.capacity()),
        (3, resources(48_000, 192, 0))
    );
    let observed = World::default()
        .pool("a", declared.clone())
        .node("n", "a", json!({}))
        .only();
    assert_eq!(
        observed.capacity(),
        resources(24_000, 96, 0),
        "what is observed wins over what is declared"
    );
    let observed = World::default()
        .pool("a", json!({"spec": {"elastic": {"maxNodes": 3}}}))
        .only();
    assert_eq!(
        (observed.elastic_nodes, observed.capacity()),
        (0, Resources::default()),
        "nobody knows what would come"
    );
    let more = declared;
    let world = (0..5).fold(World::default().pool("a", more), |world, n| {
        world.node(&format!("n{n}"), "a", json!({}))
    });
    assert_eq!(
        world.only().elastic_nodes,
        0,
        "more nodes than the maximum are not negative room"
    );
}

#[test]
fn a_node_whose_device_is_not_up_does_not_shape_the_pool() {
    let observed = World::default()
        .pool("g", gpu_pool())
        .node("new1", "g", json!({}))
        .node("new2", "g", json!({}))
        .node("up", "g", gpu_node(4))
        .only();
    assert_eq!(observed.shape, Some(resources(8_000, 32, 4)));
    assert_eq!(observed.replicas_that_fit(resources(1_000, 1, 1)), 4);
}

#[test]
fn the_reserve_never_takes_part_of_a_device() {
    for (devices, percent, left) in [(1, 5, 1), (8, 5, 8), (8, 25, 6), (8, 90, 1), (1, 90, 1), (16, 10, 15)] {
        let mut pool = gpu_pool();
        pool["spec"]["reservePercent"] = json!(percent);
        let observed = World::default()
            .pool("g", pool)
            .node("n", "g", gpu_node(devices))
            .only();
        assert_eq!(
            observed.capacity().device_millis,
            left * 1_000,
            "{percent} % of {devices}"
        );
    }
}

#[test]
fn devices_held_by_others_are_taken() {
    let gpu = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"nvidia.com/gpu": "3"}}}]}});
    let world = World::default()
        .pool("g", gpu_pool())
        .node("n", "g", gpu_node(8))
        .foreign("n", "1", "1Gi", gpu);
    assert_eq!(world.only().capacity().device_millis, 5_000);
}

#[test]
fn replicas_fit_node_by_node_and_within_the_pod_limit() {
    let pool = json!({"spec": {"elastic": {"maxNodes": 4}}});
    let world = World::default()
        .pool("a", pool)
        .node("n1", "a", json!({}))
        .node("n2", "a", json!({}));
    let world = world
        .foreign("n1", "3", "1Gi", json!({}))
        .foreign("n2", "3", "1Gi", json!({}));
    let observed = world.only();
    // 5 of 8 CPUs left on two nodes, and two empty nodes to come: 1 + 1 + 2 + 2 of 3 CPUs, where the sum would give 8.
    assert_eq!(observed.replicas_that_fit(resources(3_000, 1, 0)), 6);
    assert_eq!(observed.replicas_that_fit(resources(9_000, 1, 0)), 0);
    assert_eq!(observed.replicas_that_fit(resources(0, 0, 1)), 0, "no such device");
    let few = json!({"status": {"allocatable": {"pods": "3"}}});
    let world = World::default()
        .pool("a", json!({}))
        .node("n", "a", few)
        .foreign("n", "0", "0", json!({}));
    assert_eq!(
        world.only().replicas_that_fit(resources(100, 0, 0)),
        2,
        "the node takes three pods, one is there"
    );
}

#[test]
fn a_replica_costs_its_largest_share_of_a_node() {
    let mut pool = gpu_pool();
    pool["spec"]["costPerNodeHour"] = json!("12");
    pool["spec"]["powerWattsPerNode"] = json!(600);
    let observed = World::default()
        .pool("g", pool.clone())
        .node("n", "g", gpu_node(4))
        .only();
    let cost = |observed: &PoolObservation, request| observed.replica_cost(request);
    let by_device = ReplicaCost {
        cost_micros: 3_000_000,
        marginal_micros: 3_000_000,
        power_milliwatts: Some(150_000),
    };
    assert_eq!(cost(&observed, resources(1_000, 1, 1)), Some(by_device));
    assert_eq!(
        cost(&observed, resources(6_000, 1, 1)).map(|cost| cost.cost_micros),
        Some(9_000_000),
        "by CPU"
    );
    assert_eq!(
        cost(&observed, resources(1, 16, 1)).map(|cost| cost.cost_micros),
        Some(6_000_000),
        "by memory"
    );
    assert_eq!(
        cost(
            &observed,
            Resources {
                memory_kib: 7,
                ..Resources::default()
            }
        )
        .map(|c| c.cost_micros),
        Some(3),
        "up"
    );

    pool["spec"]["capacityType"] = json!("Reserved");
    let reserved = World::default()
        .pool("g", pool.clone())
        .node("n", "g", gpu_node(4))
        .only();
    assert_eq!(
        cost(&reserved, resources(1_000, 1, 1)),
        Some(ReplicaCost {
            marginal_micros: 0,
            ..by_device
        })
    );

    let empty = World::default().pool("g", pool).only();
    assert_eq!(
        cost(&empty, resources(1_000, 1, 1)),
        None,
        "no node known, no price invented"
    );
    let cpu = World::default().pool("a", json!({})).node("n", "a", json!({})).only();
    assert_eq!(
        cost(&cpu, resources(1_000, 1, 1)),
        None,
        "a node without the device has no share of it"
    );
    assert_eq!(
        cost(&cpu, resources(2_000, 1, 0)).map(|cost| cost.power_milliwatts),
        Some(None),
        "watts are not invented"
    );
}

#[test]
fn what_admission_would_refuse_gives_no_capacity_and_names_the_field() {
    for (patch, field) in [
        (json!({"costPerNodeHour": "a lot"}), "spec.costPerNodeHour"),
        (json!({"nodeSelector": null}), "spec.nodeSelector"),
        (json!({"tier": "Accelerator"}), "spec.device"),
        (json!({"device": {"resourceName": "nvidia.com/gpu"}}), "spec.device"),
        (
            json!({"matchExpressions": [{"key": "k", "operator": "Gt", "values": ["many"]}]}),
            "spec.matchExpressions",
        ),
        (
            json!({"elastic": {"maxNodes": 3, "nodeAllocatable": {"cpu": "INVALID"}}}),
            "spec.elastic.nodeAllocatable",
        ),
    ] {
        let observed = World::default()
            .pool("a", json!({"spec": patch}))
            .node("n", "a", json!({}))
            .only();
        match &observed.problem {
            Some(Problem::InvalidSpec { field: found, .. }) => assert_eq!(*found, field, "{patch}"),
            other => panic!("{patch}: {other:?}"),
        }
        assert_eq!(observed.capacity(), Resources::default(), "{patch}");
    }
}

#[test]
fn the_architecture_is_declared_or_agreed() {
    let arm = json!({"metadata": {"labels": {"kubernetes.io/arch": "arm64"}}});
    let world = || World::default().pool("a", json!({}));
    assert_eq!(world().only().architecture, None);
    assert_eq!(
        world().node("n", "a", arm.clone()).only().architecture,
        Some(Architecture::Arm64)
    );
    assert_eq!(
        world()
            .node("n", "a", arm.clone())
            .node("m", "a", json!({}))
            .only()
            .architecture,
        None
    );
    let declared = World::default().pool("a", json!({"spec": {"architecture": "amd64"}}));
    assert_eq!(
        declared.node("n", "a", arm).only().architecture,
        Some(Architecture::Amd64)
    );
}

#[test]
fn selectors_mean_what_they_mean_in_kubernetes() {
    for (operator, values, label, expected) in [
        (Operator::In, vec!["a", "b"], Some("b"), true),
        (Operator::In, vec!["a", "b"], Some("c"), false),
        (Operator::In, vec!["a"], None, false),
        (Operator::NotIn, vec!["a"], Some("a"), false),
        (Operator::NotIn, vec!["a"], Some("b"), true),
        (Operator::NotIn, vec!["a"], None, true),
        (Operator::Exists, vec![], Some(""), true),
        (Operator::Exists, vec![], None, false),
        (Operator::DoesNotExist, vec![], None, true),
        (Operator::DoesNotExist, vec![], Some("x"), false),
        (Operator::Gt, vec!["7"], Some("8"), true),
        (Operator::Gt, vec!["7"], Some("7"), false),
        (Operator::Gt, vec!["7"], Some("10"), true),
        (Operator::Gt, vec!["7"], Some("many"), false),
        (Operator::Gt, vec!["7"], None, false),
        (Operator::Lt, vec!["7"], Some("6"), true),
        (Operator::Lt, vec!["7"], Some("-1"), true),
        (Operator::Lt, vec!["7"], Some("7"), false),
        (Operator::Lt, vec![], Some("7"), false),
    ] {
        let expression = MatchExpression {
            key: "k".to_owned(),
            operator,
            values: values.iter().map(ToString::to_string).collect(),
        };
        let labels = label
            .map(|label| ("k".to_owned(), label.to_owned()))
            .into_iter()
            .collect();
        assert_eq!(
            matches(&BTreeMap::new(), &[expression], &labels),
            expected,
            "{operator:?} {values:?} {label:?}"
        );
    }
}

#[test]
fn a_pool_admits_the_namespaces_it_names() {
    let labels: BTreeMap<String, String> = [("gpu".to_owned(), "yes".to_owned())].into();
    for (allowed, expected) in [
        (json!({}), true),
        (json!({"from": "All"}), true),
        (json!({"from": "Selector"}), false),
        (json!({"from": "Selector", "selector": {}}), false),
        (
            json!({"from": "Selector", "selector": {"matchLabels": {"gpu": "yes"}}}),
            true,
        ),
        (
            json!({"from": "Selector", "selector": {"matchLabels": {"gpu": "no"}}}),
            false,
        ),
        (
            json!({"from": "Selector", "selector": {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}}),
            true,
        ),
        (
            json!({"from": "Selector", "selector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}),
            false,
        ),
    ] {
        let world = World::default().pool("a", json!({"spec": {"allowedNamespaces": allowed}}));
        assert_eq!(admits(&world.pools[0], &labels), expected, "{allowed}");
    }
}
