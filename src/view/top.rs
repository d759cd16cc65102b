//! The tables of `top`: pools with their room and cost, stages with their replicas; sorted and filtered.

use std::cmp::Ordering;

use kube::ResourceExt as _;
use serde::Serialize;

use super::table::{Cell, Layout, Row};
use super::tree::{Pipeline, Tree};
use super::{State, Style, Tone};
use crate::api::ComputePool;
use crate::api::compute_pool::{CapacityType, Tier};

/// Spaces between columns.
const GAP: usize = 2;
/// Columns of the terminal that the last column of a table should have.
const LAST_MIN: usize = 20;

/// What a line is sorted by in one column.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    /// As words.
    Text(String),
    /// As a number; what is not known comes last.
    Number(Option<f64>),
}

impl Key {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => match (a, b) {
                (Some(a), Some(b)) => a.total_cmp(b),
                (None, None) => Ordering::Equal,
                (None, _) => Ordering::Greater,
                (_, None) => Ordering::Less,
            },
            (Self::Text(_), Self::Number(_)) => Ordering::Less,
            (Self::Number(_), Self::Text(_)) => Ordering::Greater,
        }
    }
}

/// One line: what is shown, and what it is sorted by.
#[derive(Clone, Debug)]
pub struct Line {
    /// One for each column.
    pub cells: Vec<Cell>,
    /// One for each column.
    pub keys: Vec<Key>,
}

/// One table.
#[derive(Clone, Debug)]
pub struct Sheet {
    /// Titles of the columns.
    pub titles: Vec<&'static str>,
    /// Columns of numbers.
    pub right: Vec<usize>,
    /// Columns that a narrow terminal does without, the first of them first.
    pub spare: Vec<usize>,
    /// All lines.
    pub lines: Vec<Line>,
}

/// Which lines, in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Column; as they came if absent.
    pub column: Option<usize>,
    /// From the other end.
    pub reverse: bool,
    /// Part of what a line must hold, in any case of letters.
    pub filter: String,
}

impl Sheet {
    /// The lines that are asked for, sorted.
    pub fn ordered(&self, order: &Order) -> Vec<&Line> {
        let wanted = order.filter.to_lowercase();
        let holds = |line: &&Line| {
            let text: Vec<String> = line
                .cells
                .iter()
                .map(|cell| cell.parts().map(|(_, text)| text).collect())
                .collect();
            wanted.is_empty() || text.join(" ").to_lowercase().contains(&wanted)
        };
        let mut lines: Vec<&Line> = self.lines.iter().filter(holds).collect();
        if let Some(column) = order.column {
            lines.sort_by(|a, b| match (a.keys.get(column), b.keys.get(column)) {
                (Some(a), Some(b)) => a.compare(b),
                _ => Ordering::Equal,
            });
        }
        if order.reverse {
            lines.reverse();
        }
        lines
    }

    /// Columns that `width` has room for, the last one with at least a few words; all where there is no width.
    pub fn columns(&self, width: Option<usize>) -> Vec<usize> {
        let mut columns: Vec<usize> = (0..self.titles.len()).collect();
        let Some(width) = width else { return columns };
        let needed = |columns: &[usize]| {
            let front = columns.split_last().map_or(columns, |(_, front)| front);
            front.iter().map(|&column| self.width(column) + GAP).sum::<usize>() + LAST_MIN
        };
        for spare in &self.spare {
            if needed(&columns) <= width {
                break;
            }
            columns.retain(|column| column != spare);
        }
        columns
    }

    /// Of one column, with room for the sign that it is sorted by.
    pub fn width(&self, column: usize) -> usize {
        let cells = self.lines.iter().filter_map(|line| line.cells.get(column));
        let title = self.titles.get(column).map_or(0, |title| title.chars().count() + 1);
        cells.map(Cell::length).max().unwrap_or_default().max(title)
    }

    /// As plain lines.
    pub fn lines(&self, order: &Order, style: Style) -> Vec<String> {
        let columns = self.columns(style.width);
        let rows = self.ordered(order).into_iter().map(|line| {
            let cells = columns.iter().filter_map(|&column| line.cells.get(column));
            Row(cells.cloned().collect())
        });
        let right = (0..columns.len()).filter(|&at| columns.get(at).is_some_and(|column| self.right.contains(column)));
        Layout {
            titles: columns
                .iter()
                .filter_map(|&column| self.titles.get(column).copied())
                .collect(),
            right: right.collect(),
            rows: rows.collect(),
        }
        .lines(style)
    }
}

/// Pools and pipelines as a document for programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// By name.
    pub pools: Vec<Room>,
    /// By namespace and name.
    pub pipelines: Vec<Pipeline>,
}

/// A pool, and what is free of it. What the operator has not said is absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// Its name.
    pub name: String,
    /// How it is.
    pub state: State,
    /// Tier of its hardware.
    pub tier: Tier,
    /// Class of its hardware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// How its nodes are bought.
    pub capacity_type: CapacityType,
    /// Nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i32>,
    /// How many of them are Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_nodes: Option<i32>,
    /// Replicas of all pipelines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// What these cost per hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_per_hour: Option<String>,
    /// What is free of the resource that runs out first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free: Option<String>,
}

/// The document of these pipelines and pools.
pub fn overview_of(tree: Tree, pools: &[ComputePool]) -> Overview {
    let mut pools: Vec<Room> = pools.iter().map(room).collect();
    pools.sort_by(|a, b| a.name.cmp(&b.name));
    Overview {
        pools,
        pipelines: tree.pipelines,
    }
}

fn room(pool: &ComputePool) -> Room {
    let status = pool.status.as_ref();
    Room {
        name: pool.name_any(),
        state: pool_state(pool),
        tier: pool.spec.tier,
        class: pool.spec.class.clone(),
        capacity_type: pool.spec.capacity_type,
        nodes: status.map(|status| status.nodes),
        ready_nodes: status.map(|status| status.ready_nodes),
        replicas: status.map(|status| status.replicas),
        cost_per_hour: status.and_then(|status| status.cost_per_hour.clone()),
        free: status.and_then(|status| status.free.clone()),
    }
}

fn text(text: impl Into<String>) -> (Cell, Key) {
    let text = text.into();
    (Cell::plain(text.clone()), Key::Text(text))
}

fn number(shown: Option<String>, value: Option<f64>) -> (Cell, Key) {
    let cell = shown.map_or_else(|| Cell::toned(Tone::Quiet, "-"), Cell::plain);
    (cell, Key::Number(value))
}

/// A decimal of the status.
fn decimal(shown: Option<&String>) -> (Cell, Key) {
    number(shown.cloned(), shown.and_then(|text| text.parse().ok()))
}

fn state(state: State, style: Style) -> (Cell, Key) {
    (style.state(state), Key::Text(state.word().to_owned()))
}

fn line(columns: Vec<(Cell, Key)>) -> Line {
    let (cells, keys) = columns.into_iter().unzip();
    Line { cells, keys }
}

/// The pools.
pub fn pools(pools: &[ComputePool], style: Style) -> Sheet {
    let mut lines: Vec<Line> = pools.iter().map(|pool| self::pool(pool, style)).collect();
    lines.sort_by(|a, b| match (a.keys.first(), b.keys.first()) {
        (Some(a), Some(b)) => a.compare(b),
        _ => Ordering::Equal,
    });
    Sheet {
        titles: vec!["POOL", "STATE", "TIER", "CLASS", "NODES", "REPLICAS", "COST/H", "FREE"],
        right: vec![4, 5, 6],
        spare: vec![3, 2],
        lines,
    }
}

/// How a pool is: whether it may be used as declared, and whether there is room.
pub(super) fn pool_state(pool: &ComputePool) -> State {
    let status = pool.status.as_ref();
    let holds = |type_: &str| {
        let conditions = status.iter().flat_map(|status| &status.conditions);
        conditions
            .into_iter()
            .find(|condition| condition.type_ == type_)
            .map(|condition| condition.status == "True")
    };
    match (holds("Ready"), holds("CapacityAvailable")) {
        (None, _) => State::Unknown,
        (Some(false), _) => State::Failing,
        (_, Some(false)) => State::Waiting,
        _ => State::Ready,
    }
}

fn pool(pool: &ComputePool, style: Style) -> Line {
    let status = pool.status.as_ref();
    let word = pool_state(pool);
    let bought = match pool.spec.capacity_type {
        CapacityType::OnDemand => "",
        CapacityType::Spot => " spot",
        CapacityType::Reserved => " reserved",
    };
    let tier = match pool.spec.tier {
        Tier::Cpu => "CPU",
        Tier::Accelerator => "Accelerator",
    };
    let (nodes, ready) = status.map_or((0, 0), |status| (status.nodes, status.ready_nodes));
    let nodes_shown = if ready == nodes {
        nodes.to_string()
    } else {
        format!("{ready}/{nodes}")
    };
    let replicas = status.map(|status| status.replicas);
    let free = status.and_then(|status| status.free.clone()).unwrap_or_default();
    line(vec![
        text(pool.name_any()),
        state(word, style),
        text(format!("{tier}{bought}")),
        text(pool.spec.class.clone().unwrap_or_default()),
        number(Some(nodes_shown), Some(f64::from(nodes))),
        number(replicas.map(|count| count.to_string()), replicas.map(f64::from)),
        decimal(status.and_then(|status| status.cost_per_hour.as_ref())),
        text(free),
    ])
}

/// The stages of all pipelines.
pub fn stages(tree: &Tree, style: Style) -> Sheet {
    let lines = tree.pipelines.iter().flat_map(|pipeline| {
        pipeline.stages.iter().map(|stage| {
            let places = stage.pools.iter().filter(|pool| pool.replicas > 0);
            let places: Vec<String> = places.map(|pool| format!("{} {}", pool.name, pool.replicas)).collect();
            let mut place = Cell::plain(places.join(", "));
            if stage.bottleneck {
                let gap = if places.is_empty() { "" } else { style.dot() };
                place = place.and(Tone::Plain, gap).and(Tone::Warn, "bottleneck");
            }
            line(vec![
                text(format!("{}/{}", pipeline.namespace, pipeline.name)),
                text(stage.name.as_str()),
                state(stage.state, style),
                number(
                    Some(format!("{}/{}", stage.ready, stage.replicas)),
                    Some(f64::from(stage.replicas)),
                ),
                (place, Key::Text(places.join(", "))),
            ])
        })
    });
    Sheet {
        titles: vec!["PIPELINE", "STAGE", "STATE", "READY", "POOLS"],
        right: vec![3],
        spare: Vec::new(),
        lines: lines.collect(),
    }
}
