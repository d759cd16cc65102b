//! A report for people: tables that fit into 80 columns as long as names are short.

use super::super::words::length;
use super::joined::{Joined, Row, budget, census, counted, joined, serves, skipped, watts};
use crate::api::decimal::money;
use crate::plan::change::{Change, Kind};
use crate::plan::grouped;
use crate::plan::report::{Amount, Cost, Pipeline, Placement, Pool, Report};
use crate::view::wrapped;

/// Columns of a line.
const WIDTH: usize = 80;
/// Between columns.
const GAP: &str = "  ";
/// Narrowest last column; what has less room begins on a line of its own.
const LAST_MIN: usize = 24;
/// What the numbers mean.
const LEGEND: &str = "minimum: without load; maximum: under the most that a pipeline can serve from end to end with its replicas.max, pools and budget";
/// Objects that are named one by one.
const NAMED_MAX: usize = 12;

/// The whole report.
pub(super) fn render(report: &Report) -> String {
    let mut lines = Vec::new();
    let mut same = Vec::new();
    for joined in joined(report) {
        if report.before.is_some() && joined.change.is_none() {
            same.push(joined.name());
            continue;
        }
        lines.extend(pipeline(&joined));
        lines.push(String::new());
    }
    if !same.is_empty() {
        let stays = if same.len() == 1 { "stays" } else { "stay" };
        let text = format!(
            "{} {stays} the same: {}",
            counted(same.len(), "pipeline"),
            same.join(", ")
        );
        lines.extend(paragraph(0, &text));
        lines.push(String::new());
    }
    lines.extend(total(report));
    if !report.after.pools.is_empty() && !report.after.pipelines.is_empty() {
        lines.extend(pools(&report.after.pools));
        lines.push(String::new());
    }
    if !report.after.pipelines.is_empty() {
        lines.extend(paragraph(0, LEGEND));
        lines.push(String::new());
    }
    if !report.assumptions.is_empty() {
        lines.push("assumed".to_owned());
        lines.extend(report.assumptions.iter().flat_map(|text| paragraph(2, text)));
        lines.push(String::new());
    }
    if !report.problems.is_empty() {
        lines.push("refused".to_owned());
        lines.extend(report.problems.iter().map(|problem| format!("  {problem}")));
        lines.push(String::new());
    }
    let others = skipped(report);
    if report.after.pipelines.is_empty() && report.problems.is_empty() {
        let pools = counted(report.after.pools.len(), "ComputePool");
        lines.push(format!("no TieredPipeline among the files; {pools}"));
    }
    if !others.is_empty() {
        lines.extend(paragraph(0, &others));
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.join("\n") + "\n"
}

fn pipeline(joined: &Joined<'_>) -> Vec<String> {
    let becomes = match joined.change.map(|change| change.kind) {
        Some(Kind::Added) => ": new",
        Some(Kind::Removed) => ": goes",
        Some(Kind::Changed) => ": changes",
        None => "",
    };
    let mut lines = vec![format!("pipeline {}{becomes}", joined.name())];
    if let Some(one) = joined.after.or(joined.before) {
        let mode = if one.mode == "Automatic" {
            String::new()
        } else {
            format!("; mode {}", one.mode)
        };
        let stages = counted(one.stages.len(), "stage");
        lines.extend(paragraph(2, &format!("{stages}: {}{mode}", census(one))));
    }
    if let Some(change) = joined.change.filter(|change| change.kind == Kind::Changed) {
        lines.extend(objects(change));
    }
    lines.extend(cost(joined));
    if !joined.rows.is_empty() {
        lines.push(String::new());
        lines.extend(placements(joined));
    }
    if let Some(after) = joined.after {
        lines.extend(exclusions(after));
    }
    lines
}

/// What becomes of objects.
fn objects(change: &Change) -> Vec<String> {
    let parts = [
        ("created", &change.created),
        ("deleted", &change.deleted),
        ("written anew", &change.updated),
        ("pods start anew", &change.restarted),
    ];
    let named = parts.into_iter().filter(|(_, names)| !names.is_empty());
    let lines = named.flat_map(|(what, names)| {
        let more = names.len().saturating_sub(NAMED_MAX);
        let shown: Vec<&str> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        paragraph(2, &format!("{what}: {}{more}", shown.join(", ")))
    });
    lines.collect()
}

fn cost(joined: &Joined<'_>) -> Vec<String> {
    let old = joined.before.map(|one| one.cost);
    let new = joined.after.map(|one| one.cost);
    let (before, after) = (joined.before.and_then(budget), joined.after.and_then(budget));
    let compared = joined.before.is_some() && joined.after.is_some();
    let limit = match (&before, &after) {
        (None, None) => String::new(),
        _ if !compared => format!("; budget {}", after.or(before).unwrap_or_default()),
        _ => format!("; budget {}", arrow(before.as_deref(), after.as_deref())),
    };
    let mut lines = amounts(old, new, &limit);
    let (before, after) = (joined.before.and_then(serves), joined.after.and_then(serves));
    let told = match (&before, &after) {
        (None, None) => return lines,
        _ if compared => arrow(before.as_deref(), after.as_deref()),
        _ => after.or(before).unwrap_or_default(),
    };
    lines.extend(paragraph(
        2,
        &format!("serves {told} requests per second at the maximum"),
    ));
    lines
}

/// `per hour` and `watts`, on either side or both.
fn amounts(old: Option<Cost>, new: Option<Cost>, limit: &str) -> Vec<String> {
    let compared = old.is_some() && new.is_some();
    let both = |of: &dyn Fn(Cost) -> Option<String>| {
        let (before, after) = (old.and_then(of), new.and_then(of));
        if compared {
            arrow(before.as_deref(), after.as_deref())
        } else {
            after.or(before).unwrap_or_default()
        }
    };
    let told = |of: &dyn Fn(Amount) -> String| {
        let now = both(&|cost: Cost| cost.now.map(of));
        let now = if old.or(new).is_some_and(|cost| cost.now.is_some()) {
            format!("{now} now, ")
        } else {
            String::new()
        };
        let least = both(&|cost: Cost| Some(of(cost.minimum)));
        let most = both(&|cost: Cost| Some(of(cost.maximum)));
        format!("{now}{least} at the minimum, {most} at the maximum")
    };
    let per_hour = told(&|amount| money(amount.per_hour));
    let mut lines = paragraph(2, &format!("per hour: {per_hour}{limit}"));
    let power = told(&|amount| watts(amount).unwrap_or_else(|| "?".to_owned()));
    let unknown = [old, new]
        .into_iter()
        .flatten()
        .any(|cost| cost.minimum.watts.is_none() || cost.maximum.watts.is_none());
    let some = [old, new]
        .into_iter()
        .flatten()
        .any(|cost| cost.minimum.watts > Some(0) || cost.maximum.watts > Some(0));
    if some {
        let why = if unknown {
            " (?: a pool in use declares none)"
        } else {
            ""
        };
        lines.extend(paragraph(2, &format!("watts: {power}{why}")));
    }
    lines
}

/// All pipelines together, where there is more than one.
fn total(report: &Report) -> Vec<String> {
    let before = report.before.as_ref();
    let count = report
        .after
        .pipelines
        .len()
        .max(before.map_or(0, |before| before.plan.pipelines.len()));
    if count < 2 {
        return Vec::new();
    }
    let mut lines = vec!["all pipelines".to_owned()];
    lines.extend(amounts(
        before.map(|before| before.plan.cost),
        Some(report.after.cost),
        "",
    ));
    lines.push(String::new());
    lines
}

fn arrow(before: Option<&str>, after: Option<&str>) -> String {
    match (before, after) {
        (Some(before), Some(after)) if before == after => after.to_owned(),
        (None, None) => "-".to_owned(),
        (before, after) => format!("{} -> {}", before.unwrap_or("-"), after.unwrap_or("-")),
    }
}

fn placements(joined: &Joined<'_>) -> Vec<String> {
    let compared = joined.before.is_some() && joined.after.is_some();
    let live = joined
        .rows
        .iter()
        .any(|row| row.after.is_some_and(|after| after.now.is_some()));
    let mut header = vec!["STAGE", "POOL", "EACH/H"];
    if live {
        header.push("NOW");
    }
    header.extend(["MIN", "MAX", "WHY NOT MORE"]);
    let mut rows = vec![header.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    let mut last = "";
    for row in &joined.rows {
        let stage = if row.stage == last { "" } else { row.stage };
        last = row.stage;
        let cell = |of: &dyn Fn(&Placement) -> Option<String>| {
            let (before, after) = (row.before.and_then(of), row.after.and_then(of));
            if compared {
                arrow(before.as_deref(), after.as_deref())
            } else {
                after.or(before).unwrap_or("-".to_owned())
            }
        };
        let mut cells = vec![
            stage.to_owned(),
            row.pool.to_owned(),
            cell(&|one| one.each_per_hour.map(price)),
        ];
        if live {
            cells.push(
                row.after
                    .or(row.before)
                    .and_then(|one| one.now)
                    .map_or("-".to_owned(), |now| now.to_string()),
            );
        }
        cells.push(cell(&|one| Some(one.minimum.to_string())));
        cells.push(cell(&|one| Some(one.maximum.to_string())));
        cells.push(remark(row));
        rows.push(cells);
    }
    let numbers = if live { 2..6 } else { 2..5 };
    table(&rows, numbers)
}

/// Why a row holds no more, and whether its Deployment begins with something else.
fn remark(row: &Row<'_>) -> String {
    let Some(after) = row.after else { return String::new() };
    let begins = after.created.filter(|created| *created != after.minimum);
    let begins = begins.map(|created| format!("created with {created}"));
    let parts = [begins, after.why_not_more.clone()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// A price with four places: what one replica costs is often below a cent.
pub(super) fn price(micros: u64) -> String {
    let cut = micros.saturating_add(50) / 100;
    format!("{}.{:04}", cut / 10_000, cut % 10_000)
}

/// Pools that stages may not use: what is true of several is said once.
fn exclusions(pipeline: &Pipeline) -> Vec<String> {
    let mut said: Vec<(String, String)> = Vec::new();
    for stage in &pipeline.stages {
        let each = stage.excluded.iter().map(|one| (one.pool.as_str(), one.why.clone()));
        said.extend(
            grouped(each)
                .into_iter()
                .map(|(pools, why)| (stage.name.clone(), format!("not on {pools}: {why}"))),
        );
    }
    let groups = grouped(said.iter().map(|(stage, why)| (stage.as_str(), why.clone())));
    let mut lines = Vec::new();
    if !groups.is_empty() {
        lines.push(String::new());
    }
    lines.extend(
        groups
            .into_iter()
            .flat_map(|(stages, why)| paragraph(2, &format!("{stages} {why}"))),
    );
    lines
}

fn pools(pools: &[Pool]) -> Vec<String> {
    let header = ["POOL", "TIER", "NODES", "NODE/H", "MIN", "MAX", "USED AT MAX"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for pool in pools {
        rows.push(vec![
            pool.name.clone(),
            pool.tier.clone(),
            if pool.elastic_nodes > 0 {
                format!("{} to {}", pool.nodes, pool.nodes.saturating_add(pool.elastic_nodes))
            } else {
                pool.nodes.to_string()
            },
            pool.node_per_hour.map_or("?".to_owned(), price),
            pool.minimum.to_string(),
            pool.maximum.to_string(),
            format!("{} %", pool.used_percent_at_maximum),
        ]);
    }
    table(&rows, 2..7)
        .into_iter()
        .map(|line| line.strip_prefix("  ").map(str::to_owned).unwrap_or(line))
        .collect()
}

/// Aligned columns, numbers to the right; the last column is wrapped below itself.
fn table(rows: &[Vec<String>], numbers: std::ops::Range<usize>) -> Vec<String> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(length(cell));
        }
    }
    let mut lines = Vec::new();
    for row in rows {
        let mut text = GAP.to_owned();
        let wraps = !numbers.contains(&row.len().saturating_sub(1));
        let (front, last) = match row.split_last() {
            Some((last, front)) if wraps => (front, last.as_str()),
            _ => (row.as_slice(), ""),
        };
        for (at, (cell, width)) in front.iter().zip(&widths).enumerate() {
            let fill = " ".repeat(width.saturating_sub(length(cell)));
            let (left, right) = if numbers.contains(&at) {
                (fill.as_str(), "")
            } else {
                ("", fill.as_str())
            };
            for part in [left, cell, right, GAP] {
                text.push_str(part);
            }
        }
        let start = length(&text);
        if length(last) + start > WIDTH && WIDTH.saturating_sub(start) < LAST_MIN {
            lines.push(text.trim_end().to_owned());
            lines.extend(paragraph(6, last));
            continue;
        }
        let mut parts = wrapped(last, WIDTH.saturating_sub(start)).into_iter();
        text.push_str(&parts.next().unwrap_or_default());
        lines.push(text.trim_end().to_owned());
        lines.extend(parts.map(|part| format!("{}{part}", " ".repeat(start))));
    }
    lines
}

/// Words in lines, further ones indented.
fn paragraph(indent: usize, text: &str) -> Vec<String> {
    let parts = wrapped(text, WIDTH.saturating_sub(indent + 2));
    let line = |(at, part): (usize, String)| format!("{}{part}", " ".repeat(if at == 0 { indent } else { indent + 2 }));
    parts.into_iter().enumerate().map(line).collect()
}
