//! How the stages of a pipeline are drawn: in layers, callers before the called, with as few crossings as a few sweeps find.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::tiered_pipeline::TieredPipelineStatus;
use crate::api::{Stage as Declared, TieredPipeline};

/// Sweeps over the layers, down and up. More of them rarely find less.
const SWEEPS: usize = 6;

/// All of the drawing but sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// Layers in the direction of requests; in each, what stands side by side.
    pub layers: Vec<Vec<Spot>>,
    /// Who calls whom.
    pub edges: Vec<Edge>,
}

/// A place in a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Spot {
    /// A stage, by name.
    Stage(String),
    /// An edge passes here on its way to a later layer: its place in [`Graph::edges`].
    Bend(usize),
}

/// Calls from one stage to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// The caller.
    pub from: String,
    /// The called.
    pub to: String,
    /// Calls per request of the caller, as declared.
    pub calls_per_request: String,
    /// Calls per request over all callers, as learned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned: Option<String>,
    /// Against the layers' direction: calls go in a circle, which the operator refuses.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
}

/// The graph of a pipeline as declared. An edge from a stage that is not there is left out.
pub fn graph(pipeline: &TieredPipeline) -> Graph {
    let stages = &pipeline.spec.stages;
    let links = links(stages);
    let layer_of = layers_of(stages.len(), &links);
    let edges = edges(stages, pipeline.status.as_ref(), &links);
    let mut rows = rows(&links, &layer_of);
    untangle(&mut rows, &links);
    let layers = rows.into_iter().map(|row| {
        let spots = row.into_iter().filter_map(|place| match place {
            Place::Stage(at) => stages.get(at).map(|stage| Spot::Stage(stage.name.clone())),
            Place::Bend(edge, _) => Some(Spot::Bend(edge)),
        });
        spots.collect()
    });
    Graph {
        layers: layers.collect(),
        edges,
    }
}

/// From one stage to another, by their places in the spec.
#[derive(Clone, Copy, Debug)]
struct Link {
    from: usize,
    to: usize,
    back: bool,
}

/// What stands in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Stage(usize),
    /// Of which link, in which layer.
    Bend(usize, usize),
}

fn links(stages: &[Declared]) -> Vec<Link> {
    let place = |name: &str| stages.iter().position(|stage| stage.name == name);
    let mut links: Vec<Link> = Vec::new();
    for (to, stage) in stages.iter().enumerate() {
        let callers = stage.after.iter().filter_map(|caller| place(&caller.stage));
        links.extend(callers.map(|from| Link { from, to, back: false }));
    }
    // An edge that would close a circle points back: every other one goes from an earlier layer to a later one.
    for at in 0..links.len() {
        let Some(&link) = links.get(at) else { break };
        let closes = reaches(links.get(..at).unwrap_or_default(), link.to, link.from);
        if let Some(link) = links.get_mut(at) {
            link.back = closes;
        }
    }
    links
}

/// Whether forward links lead from one stage to another, or they are the same.
fn reaches(links: &[Link], from: usize, to: usize) -> bool {
    let mut seen = vec![from];
    let mut at = 0;
    while let Some(&stage) = seen.get(at) {
        if stage == to {
            return true;
        }
        for link in links.iter().filter(|link| link.from == stage && !link.back) {
            if !seen.contains(&link.to) {
                seen.push(link.to);
            }
        }
        at += 1;
    }
    false
}

/// One more than the latest caller's layer.
fn layers_of(stages: usize, links: &[Link]) -> Vec<usize> {
    let mut layers = vec![0; stages];
    // Without circles nothing moves after as many rounds as there are stages.
    for _ in 0..stages {
        for link in links.iter().filter(|link| !link.back) {
            let after = layers.get(link.from).map_or(0, |layer| layer + 1);
            if let Some(layer) = layers.get_mut(link.to) {
                *layer = after.max(*layer);
            }
        }
    }
    layers
}

fn edges(stages: &[Declared], status: Option<&TieredPipelineStatus>, links: &[Link]) -> Vec<Edge> {
    let learned = |name: &str| {
        let known = status?.stages.iter().find(|stage| stage.name == name)?;
        known.calls_per_request.as_ref().map(|learned| learned.value.clone())
    };
    let edge = |link: &Link| {
        let (from, to) = (stages.get(link.from)?, stages.get(link.to)?);
        let caller = to.after.iter().find(|caller| caller.stage == from.name)?;
        Some(Edge {
            from: from.name.clone(),
            to: to.name.clone(),
            calls_per_request: caller.calls_per_request.0.clone(),
            learned: learned(&to.name),
            back: link.back,
        })
    };
    links.iter().filter_map(edge).collect()
}

/// Stages in the spec's order, then what passes.
fn rows(links: &[Link], layer_of: &[usize]) -> Vec<Vec<Place>> {
    let depth = layer_of.iter().max().map_or(0, |last| last + 1);
    let mut rows: Vec<Vec<Place>> = vec![Vec::new(); depth];
    for (stage, &layer) in layer_of.iter().enumerate() {
        if let Some(row) = rows.get_mut(layer) {
            row.push(Place::Stage(stage));
        }
    }
    for (at, link) in links.iter().enumerate().filter(|(_, link)| !link.back) {
        let (Some(&from), Some(&to)) = (layer_of.get(link.from), layer_of.get(link.to)) else {
            continue;
        };
        for layer in from + 1..to {
            if let Some(row) = rows.get_mut(layer) {
                row.push(Place::Bend(at, layer));
            }
        }
    }
    rows
}

/// Where each link starts and ends between two neighbouring layers.
fn steps(rows: &[Vec<Place>], links: &[Link]) -> Vec<Vec<(Place, Place)>> {
    let mut layer_of: BTreeMap<Place, usize> = BTreeMap::new();
    for (layer, row) in rows.iter().enumerate() {
        layer_of.extend(row.iter().map(|&place| (place, layer)));
    }
    let mut steps = vec![Vec::new(); rows.len().saturating_sub(1)];
    for (at, link) in links.iter().enumerate().filter(|(_, link)| !link.back) {
        let ends = [Place::Stage(link.from), Place::Stage(link.to)].map(|end| layer_of.get(&end).copied());
        let [Some(first), Some(last)] = ends else { continue };
        let place = |layer: usize| match layer {
            layer if layer == first => Place::Stage(link.from),
            layer if layer == last => Place::Stage(link.to),
            layer => Place::Bend(at, layer),
        };
        for layer in first..last {
            if let Some(step) = steps.get_mut(layer) {
                step.push((place(layer), place(layer + 1)));
            }
        }
    }
    steps
}

/// Moves each layer to the mean places of its neighbours, to and fro, and keeps what crosses least.
fn untangle(rows: &mut Vec<Vec<Place>>, links: &[Link]) {
    let steps = steps(rows, links);
    let mut best = (crossings(rows, &steps), rows.clone());
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        for at in 1..rows.len() {
            let (layer, fixed) = if down {
                (at, at - 1)
            } else {
                (rows.len() - 1 - at, rows.len() - at)
            };
            let between = steps.get(layer.min(fixed)).map(Vec::as_slice).unwrap_or_default();
            let beside = rows.get(fixed).cloned().unwrap_or_default();
            if let Some(row) = rows.get_mut(layer) {
                order(row, &beside, between, down);
            }
        }
        let crossed = crossings(rows, &steps);
        if crossed < best.0 {
            best = (crossed, rows.clone());
        }
    }
    *rows = best.1;
}

/// Sorts a row by where its neighbours in `beside` stand on average. What has none stays about where it is.
fn order(row: &mut Vec<Place>, beside: &[Place], between: &[(Place, Place)], down: bool) {
    let mean = |(at, place): (usize, &Place)| {
        let neighbours = between.iter().filter_map(|&(upper, lower)| match down {
            true if lower == *place => Some(upper),
            false if upper == *place => Some(lower),
            _ => None,
        });
        let places: Vec<usize> = neighbours
            .filter_map(|neighbour| beside.iter().position(|&there| there == neighbour))
            .collect();
        // In thousandths: whole numbers sort the same everywhere.
        match places.len() {
            0 => at * 1_000,
            count => places.iter().sum::<usize>() * 1_000 / count,
        }
    };
    let mut keyed: Vec<(usize, usize, Place)> = row
        .iter()
        .enumerate()
        .map(|(at, place)| (mean((at, place)), at, *place))
        .collect();
    keyed.sort_unstable();
    *row = keyed.into_iter().map(|(_, _, place)| place).collect();
}

/// Pairs of links that cross between two neighbouring layers.
fn crossings(rows: &[Vec<Place>], steps: &[Vec<(Place, Place)>]) -> usize {
    let mut crossed = 0;
    for ((upper, lower), between) in rows.iter().zip(rows.iter().skip(1)).zip(steps) {
        let at = |row: &[Place], place: Place| row.iter().position(|&there| there == place);
        let ends: Vec<_> = between
            .iter()
            .map(|&(from, to)| (at(upper, from), at(lower, to)))
            .collect();
        for (one, a) in ends.iter().enumerate() {
            let others = ends.iter().skip(one + 1);
            crossed += others.filter(|b| a.0.cmp(&b.0) == b.1.cmp(&a.1) && a.0 != b.0).count();
        }
    }
    crossed
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
