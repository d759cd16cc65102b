//! Drawings of small pipelines.

use serde_json::{Value, json};

use super::*;

/// A pipeline of stages, each with its callers.
fn pipeline(stages: &[(&str, &[&str])]) -> TieredPipeline {
    let stages: Vec<Value> = stages
        .iter()
        .map(|(name, callers)| {
            let after: Vec<Value> = callers
                .iter()
                .map(|caller| json!({"stage": caller, "callsPerRequest": "2.5"}))
                .collect();
            json!({"name": name, "after": after, "replicas": {"min": 1},
                "container": {"image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}})
        })
        .collect();
    serde_json::from_value(
        json!({"metadata": {"name": "chat", "namespace": "rag"}, "spec": {"stages": stages},
        "status": {"stages": [{"name": "b", "replicas": 1, "readyReplicas": 1,
            "callsPerRequest": {"value": "2.75", "declared": "2.5", "samples": 64}}]}}),
    )
    .unwrap()
}

/// Layers as lines: names, and `|` where an edge passes.
fn lines(stages: &[(&str, &[&str])]) -> Vec<String> {
    let graph = graph(&pipeline(stages));
    let layers = graph.layers.iter().map(|layer| {
        let spots = layer.iter().map(|spot| match spot {
            Spot::Stage(name) => name.as_str(),
            Spot::Bend(_) => "|",
        });
        spots.collect::<Vec<_>>().join(" ")
    });
    layers.collect()
}

#[test]
fn callers_stand_before_the_called() {
    assert_eq!(lines(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]), ["a", "b", "c"]);
    // In whatever order they are declared.
    assert_eq!(lines(&[("c", &["b"]), ("b", &["a"]), ("a", &[])]), ["a", "b", "c"]);
    assert_eq!(lines(&[("a", &[]), ("b", &[])]), ["a b"]);
}

#[test]
fn a_long_edge_has_a_place_in_each_layer_that_it_passes() {
    let stages: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c", "a"])];
    assert_eq!(lines(stages), ["a", "b |", "c |", "d"]);
    let graph = graph(&pipeline(stages));
    let Spot::Bend(edge) = graph.layers[1][1] else {
        panic!("{graph:?}")
    };
    assert_eq!(
        (graph.edges[edge].from.as_str(), graph.edges[edge].to.as_str()),
        ("a", "d")
    );
}

#[test]
fn what_need_not_cross_does_not() {
    // As declared, both edges would cross.
    let stages: &[(&str, &[&str])] = &[("a", &[]), ("b", &[]), ("x", &["b"]), ("y", &["a"])];
    assert_eq!(lines(stages), ["a b", "y x"]);
}

#[test]
fn calls_are_said_as_declared_and_as_learned() {
    let graph = graph(&pipeline(&[("a", &[]), ("b", &["a"]), ("c", &["a"])]));
    let said: Vec<_> = graph
        .edges
        .iter()
        .map(|edge| {
            (
                edge.to.as_str(),
                edge.calls_per_request.as_str(),
                edge.learned.as_deref(),
            )
        })
        .collect();
    assert_eq!(said, [("b", "2.5", Some("2.75")), ("c", "2.5", None)]);
}

#[test]
fn circles_and_callers_that_are_not_there_are_drawn_all_the_same() {
    let stages: &[(&str, &[&str])] = &[("a", &["c"]), ("b", &["a", "nobody"]), ("c", &["b", "c"])];
    let graph = graph(&pipeline(stages));
    assert_eq!(graph.layers.iter().map(Vec::len).sum::<usize>(), 3, "{graph:?}");
    let back: Vec<_> = graph
        .edges
        .iter()
        .map(|edge| (edge.from.as_str(), edge.to.as_str(), edge.back))
        .collect();
    assert_eq!(
        back,
        [("c", "a", false), ("a", "b", false), ("b", "c", true), ("c", "c", true)]
    );
}

#[test]
fn the_largest_pipeline_is_drawn_in_no_time() {
    // 32 stages, each after up to eight before it.
    let names: Vec<String> = (0..32).map(|at| format!("s{at}")).collect();
    let callers: Vec<Vec<&str>> = (0..32)
        .map(|at| {
            (0..at)
                .rev()
                .step_by(3)
                .take(8)
                .map(|from| names[from].as_str())
                .collect()
        })
        .collect();
    let stages: Vec<(&str, &[&str])> = names
        .iter()
        .map(String::as_str)
        .zip(callers.iter().map(Vec::as_slice))
        .collect();
    let graph = graph(&pipeline(&stages));
    let mut drawn: Vec<&str> = graph
        .layers
        .iter()
        .flatten()
        .filter_map(|spot| match spot {
            Spot::Stage(name) => Some(name.as_str()),
            Spot::Bend(_) => None,
        })
        .collect();
    assert_eq!(drawn.len(), 32);
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), 32);
    // Every edge goes down, one layer at a time.
    let layer = |name: &str| {
        let is = |spot: &Spot| matches!(spot, Spot::Stage(own) if own == name);
        graph.layers.iter().position(|row| row.iter().any(is)).unwrap()
    };
    for (at, edge) in graph.edges.iter().enumerate() {
        let bends = graph
            .layers
            .iter()
            .flatten()
            .filter(|spot| **spot == Spot::Bend(at))
            .count();
        assert_eq!(layer(&edge.to) - layer(&edge.from), bends + 1, "{edge:?}");
    }
}
