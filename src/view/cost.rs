//! What `cost` shows: what replicas cost and draw, by namespace, pipeline, stage or pool. Numbers are the operator's metrics,
//! so that what is read here, on a dashboard and in a query is the same.

use std::collections::BTreeMap;

use serde::Serialize;

use super::table::{Cell, Layout, Row};
use super::{Style, Tone};

/// What a line is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// A namespace.
    Namespace,
    /// A pipeline.
    #[default]
    Pipeline,
    /// A stage, over all pools.
    Stage,
    /// A pool, over all pipelines.
    Pool,
}

impl By {
    /// Labels of the metrics that tell lines apart.
    pub const fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Namespace => &["namespace"],
            Self::Pipeline => &["namespace", "pipeline"],
            Self::Stage => &["namespace", "pipeline", "stage"],
            Self::Pool => &["pool"],
        }
    }

    const fn titles(self) -> &'static [&'static str] {
        match self {
            Self::Namespace => &["NAMESPACE"],
            Self::Pipeline => &["NAMESPACE", "PIPELINE"],
            Self::Stage => &["NAMESPACE", "PIPELINE", "STAGE"],
            Self::Pool => &["POOL"],
        }
    }
}

/// What tells lines apart: values of [`By::labels`], in their order.
pub type Key = Vec<String>;

/// One series: its name without the prefix, its labels, its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Such as `stage_cost_dollars_per_hour`.
    pub name: String,
    /// By name.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// All lines, and their sum.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Costs {
    /// What a line is of.
    pub by: By,
    /// What [`Line::spent`] is over, such as `24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The dearest first.
    pub lines: Vec<Line>,
    /// All of them together.
    pub total: Line,
}

/// One line. Money is in the currency of the pools' prices.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// What it is of; empty for the sum.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub of: Key,
    /// Of the replicas that are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<f64>,
    /// Of the replicas that are planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_per_hour: Option<f64>,
    /// Of the least replicas where one costs the least; pools have none of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_per_hour: Option<f64>,
    /// What the replicas draw; only if every pool in use declares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watts: Option<f64>,
    /// Of a thousand requests that arrive now; only of a pipeline whose requests are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_thousand_requests: Option<f64>,
    /// What was spent over a time that is past.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spent: Option<f64>,
}

impl Line {
    fn add(&mut self, other: &Self) {
        let plus = |sum: &mut Option<f64>, more: Option<f64>| {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0.0) + more);
            }
        };
        plus(&mut self.per_hour, other.per_hour);
        plus(&mut self.planned_per_hour, other.planned_per_hour);
        plus(&mut self.minimum_per_hour, other.minimum_per_hour);
        plus(&mut self.spent, other.spent);
    }
}

/// Sums up what the operator exposes, of one namespace and pipeline or of all. `spent` is what was spent before, by key.
pub fn costs(
    series: &[Series],
    by: By,
    meant: impl Fn(&BTreeMap<String, String>) -> bool,
    spent: Option<(String, BTreeMap<Key, f64>)>,
) -> Costs {
    let key = |labels: &BTreeMap<String, String>| -> Option<Key> {
        by.labels().iter().map(|name| labels.get(*name).cloned()).collect()
    };
    let mut lines: BTreeMap<Key, Line> = BTreeMap::new();
    // Watts are only known where they are of all that costs something.
    let (mut paid, mut drawn) = (Vec::new(), BTreeMap::new());
    for one in series.iter().filter(|one| meant(&one.labels)) {
        let variant = ["namespace", "pipeline", "stage", "pool"].map(|name| one.labels.get(name).cloned());
        if one.name == "stage_power_watts" {
            drawn.insert(variant, one.value);
            continue;
        }
        let Some(key) = key(&one.labels) else { continue };
        let mut line = Line::default();
        match one.name.as_str() {
            "stage_cost_dollars_per_hour" => {
                line.per_hour = Some(one.value);
                if one.value > 0.0 {
                    paid.push((key.clone(), variant));
                }
            }
            "stage_planned_cost_dollars_per_hour" => line.planned_per_hour = Some(one.value),
            "stage_floor_cost_dollars_per_hour" => line.minimum_per_hour = Some(one.value),
            "pipeline_cost_dollars_per_thousand_requests" if by == By::Pipeline => {
                lines.entry(key).or_default().per_thousand_requests = Some(one.value);
                continue;
            }
            _ => continue,
        }
        lines.entry(key).or_default().add(&line);
    }
    let (since, spent) = spent.unzip();
    for (key, spent) in spent.into_iter().flatten() {
        lines.entry(key).or_default().spent = Some(spent);
    }
    let mut watts: BTreeMap<&Key, Option<f64>> = BTreeMap::new();
    for (key, variant) in &paid {
        let sum = watts.entry(key).or_insert(Some(0.0));
        *sum = sum.zip(drawn.get(variant)).map(|(sum, draws)| sum + draws);
    }
    let mut total = Line::default();
    let mut all: Vec<Line> = Vec::with_capacity(lines.len());
    for (key, mut line) in lines {
        line.watts = line
            .per_hour
            .and_then(|_| watts.get(&key).copied().unwrap_or(Some(0.0)));
        total.add(&line);
        line.of = key;
        all.push(line);
    }
    // Not `sum`: of nothing it is -0.0.
    total.watts = total
        .per_hour
        .and_then(|_| watts.values().try_fold(0.0, |sum, draws| Some(sum + (*draws)?)));
    let weight = |line: &Line| line.spent.or(line.per_hour).unwrap_or(0.0);
    all.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then_with(|| a.of.cmp(&b.of)));
    Costs {
        by,
        since,
        lines: all,
        total,
    }
}

impl Costs {
    /// As a table. Columns of which nothing is known are left out.
    pub fn text(&self, style: Style) -> String {
        type Column = (&'static str, fn(&Line) -> Option<String>);
        let mut columns: Vec<Column> = vec![
            ("PER HOUR", |line| line.per_hour.map(money)),
            ("PLANNED", |line| line.planned_per_hour.map(money)),
            ("MINIMUM", |line| line.minimum_per_hour.map(money)),
            ("WATTS", |line| line.watts.map(|watts| format!("{watts:.0}"))),
            ("PER 1000", |line| line.per_thousand_requests.map(money)),
            ("SPENT", |line| line.spent.map(money)),
        ];
        columns.retain(|(_, cell)| self.lines.iter().any(|line| cell(line).is_some()));
        let of = self.by.titles();
        let row = |line: &Line, names: Vec<Cell>| {
            let numbers = columns.iter().map(|(_, cell)| match cell(line) {
                Some(text) => Cell::plain(text),
                None => Cell::toned(Tone::Quiet, "-"),
            });
            Row(names.into_iter().chain(numbers).collect())
        };
        let mut rows: Vec<Row> = (self.lines.iter())
            .map(|line| row(line, line.of.iter().map(|name| Cell::plain(name.as_str())).collect()))
            .collect();
        if self.lines.len() > 1 {
            let mut names = vec![Cell::toned(Tone::Strong, "total")];
            names.resize(of.len(), Cell::default());
            rows.push(row(&self.total, names));
        }
        let layout = Layout {
            titles: of
                .iter()
                .copied()
                .chain(columns.iter().map(|(title, _)| *title))
                .collect(),
            right: (of.len()..of.len() + columns.len()).collect(),
            rows,
        };
        let note = self
            .since
            .as_ref()
            .map(|since| format!("SPENT is over the last {since}."));
        let lines = layout.lines(style).into_iter().chain(note);
        lines.map(|line| line + "\n").collect()
    }
}

/// Two places; more where two would read 0.00 and it is not.
fn money(amount: f64) -> String {
    if amount > 0.0 && amount < 0.005 {
        return format!("{amount:.6}");
    }
    format!("{amount:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, labels: &[(&str, &str)], value: f64) -> Series {
        Series {
            name: name.to_owned(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            value,
        }
    }

    /// Two pipelines in two namespaces; nobody knows what `x86` draws.
    fn exposed() -> Vec<Series> {
        let mut all = Vec::new();
        for (namespace, pipeline, stage, pool, cost, planned, watts) in [
            ("rag", "chat", "generate", "l4", 3.0, 4.5, Some(216.0)),
            ("rag", "chat", "generate", "arm", 0.0, 0.0, None),
            ("rag", "chat", "guard", "arm", 0.5, 0.5, Some(40.0)),
            ("ops", "triage", "classify", "x86", 1.25, 1.25, None),
        ] {
            let labels = [
                ("namespace", namespace),
                ("pipeline", pipeline),
                ("stage", stage),
                ("pool", pool),
            ];
            all.push(series("stage_cost_dollars_per_hour", &labels, cost));
            all.push(series("stage_planned_cost_dollars_per_hour", &labels, planned));
            all.extend(watts.map(|watts| series("stage_power_watts", &labels, watts)));
        }
        for (namespace, pipeline, stage, least) in [
            ("rag", "chat", "generate", 0.75),
            ("rag", "chat", "guard", 0.25),
            ("ops", "triage", "classify", 0.003),
        ] {
            let labels = [("namespace", namespace), ("pipeline", pipeline), ("stage", stage)];
            all.push(series("stage_floor_cost_dollars_per_hour", &labels, least));
        }
        let chat = [("namespace", "rag"), ("pipeline", "chat")];
        all.push(series("pipeline_cost_dollars_per_thousand_requests", &chat, 0.0421));
        all
    }

    fn shown(by: By, spent: Option<(String, BTreeMap<Key, f64>)>) -> String {
        costs(&exposed(), by, |_| true, spent).text(Style::default())
    }

    #[test]
    fn costs_are_summed_by_pipeline_stage_pool_and_namespace() {
        let all = [By::Pipeline, By::Stage, By::Pool, By::Namespace].map(|by| shown(by, None));
        insta::assert_snapshot!(all.join("\n"));
    }

    #[test]
    fn what_was_spent_has_a_column_of_its_own_also_of_what_is_gone() {
        let spent = [(["rag", "chat"], 61.5), (["rag", "old"], 8.0)];
        let spent = spent.map(|(key, spent)| (key.map(str::to_owned).to_vec(), spent));
        insta::assert_snapshot!(shown(By::Pipeline, Some(("24h".to_owned(), BTreeMap::from(spent)))));
    }

    #[test]
    fn watts_are_only_told_of_lines_of_which_all_is_known() {
        let by_pipeline = costs(&exposed(), By::Pipeline, |_| true, None);
        let watts: BTreeMap<_, _> = by_pipeline
            .lines
            .iter()
            .map(|line| (line.of.join("/"), line.watts))
            .collect();
        assert_eq!(watts["rag/chat"], Some(256.0));
        assert_eq!(watts["ops/triage"], None);
        assert_eq!(by_pipeline.total.watts, None);
    }

    #[test]
    fn what_sleeps_draws_nothing_without_a_sign() {
        let labels = [
            ("namespace", "rag"),
            ("pipeline", "chat"),
            ("stage", "generate"),
            ("pool", "l4"),
        ];
        let asleep = [series("stage_cost_dollars_per_hour", &labels, 0.0)];
        let costs = costs(&asleep, By::Pipeline, |_| true, None);
        let document = serde_json::to_string(&costs).unwrap();
        assert_eq!(document.matches("\"watts\":0.0").count(), 2, "{document}");
    }

    #[test]
    fn only_what_is_meant_counts() {
        let rag = costs(
            &exposed(),
            By::Pool,
            |labels| labels.get("namespace").is_some_and(|it| it == "rag"),
            None,
        );
        let pools: Vec<_> = rag.lines.iter().map(|line| line.of.join("/")).collect();
        assert_eq!(pools, ["l4", "arm"]);
        assert_eq!(rag.total.per_hour, Some(3.5));
    }
}
