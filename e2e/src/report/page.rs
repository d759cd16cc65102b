//! The report as one HTML page without outside references.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::axis::{clock, dash, dollars, escape, number, whole};
use super::plot::{Curve, Mark, Plot, Scale, Shape};
use super::tables::{comparison, decisions, definitions, waits};
use super::{Report, Tier};
use crate::load::Percentiles;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// Points per curve; longer runs are thinned.
const MAX_POINTS: usize = 600;
const SMALL: (f64, f64) = (380.0, 196.0);
const WIDE: (f64, f64) = (1_110.0, 250.0);

pub(super) fn render(report: &Report) -> String {
    let marks = marks(report);
    let mut body = String::new();
    header(&mut body, report);
    tiles(&mut body, report);
    story(&mut body, &marks);
    replicas(&mut body, report, &marks);
    demand(&mut body, report, &marks);
    money_and_time(&mut body, report, &marks);
    comparison(&mut body, report);
    waits(&mut body, report);
    decisions(&mut body, report);
    definitions(&mut body, report);
    let title = escape(&report.title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>\n{STYLE}</style></head>\n\
         <body><main>\n{body}</main>\n<script>\n{SCRIPT}</script></body></html>\n"
    )
}

fn marks(report: &Report) -> Vec<Mark> {
    let mut events: Vec<_> = report.events.iter().collect();
    events.sort_by(|a, b| a.t_s.total_cmp(&b.t_s));
    let numbered = events.into_iter().enumerate();
    numbered
        .map(|(i, e)| Mark {
            t_s: e.t_s,
            number: i + 1,
            label: e.label.clone(),
        })
        .collect()
}

fn header(out: &mut String, report: &Report) {
    let _ = write!(
        out,
        "<h1>{}</h1>\n<p class=\"soft\">{} &middot; {} &middot; {} min &middot; seed {} &middot; {}</p>\n",
        escape(&report.title),
        escape(&report.pipeline),
        escape(&report.load),
        clock(report.duration_s),
        report.seed,
        escape(&report.started_at)
    );
    let mut lead = format!(
        "{} of {} requests served end to end",
        whole(report.served),
        whole(report.requests)
    );
    let _ = write!(lead, ", {} % late or failed.", number(report.late_percent));
    if let (Some(cost), Some(all)) = (
        report.cost_usd,
        report.cost_usd_all_accelerators.filter(|all| *all > 0.0),
    ) {
        let less = 100.0 * (1.0 - cost / all);
        let word = if less >= 0.0 { "less" } else { "more" };
        let _ = write!(
            lead,
            " It cost <b>{}</b>; the same demand on accelerators only costs {}: <b>{} % {word}</b>.",
            dollars(cost),
            dollars(all),
            number(less.abs().round())
        );
    }
    let _ = writeln!(out, "<p class=\"lead\">{lead}</p>");
}

fn tiles(out: &mut String, report: &Report) {
    let ms = |v: Option<f64>| v.map_or_else(dash, |v| format!("{} ms", number(v)));
    let violations = report.floor_violations + report.ceiling_violations;
    let tiles = [
        (
            report.cost_usd.map_or_else(dash, dollars),
            "cost of the run".to_owned(),
            "",
        ),
        (format!("{} %", number(report.late_percent)), late_words(report), ""),
        (
            ms(report.latency_ms.p95),
            format!("latency p95, median {}", ms(report.latency_ms.p50)),
            "",
        ),
        (
            whole(report.shifts),
            format!("shifts between pools, {} decisions", whole(report.decisions)),
            "",
        ),
        (
            ms(report.reaction_ms.p50),
            format!("signal to write, p99 {}", ms(report.reaction_ms.p99)),
            "",
        ),
        (
            report
                .gap_percent
                .max
                .map_or_else(dash, |gap| format!("{} %", number(gap))),
            format!(
                "dearer than proven best at most; a plan takes {}",
                ms(report.plan_ms.p50)
            ),
            "",
        ),
        (
            whole(violations),
            format!(
                "below a floor: {}, above a ceiling: {}",
                report.floor_violations, report.ceiling_violations
            ),
            if violations == 0 { "good" } else { "bad" },
        ),
        (
            report.startup_s.map_or_else(dash, |s| format!("{} s", number(s))),
            "apply to all stages ready".to_owned(),
            "",
        ),
    ];
    out.push_str("<div class=\"tiles\">");
    for (value, words, class) in tiles {
        let _ = write!(
            out,
            "<div class=\"tile\"><b class=\"{class}\">{value}</b><span>{}</span></div>",
            escape(&words)
        );
    }
    out.push_str("</div>\n");
}

fn late_words(report: &Report) -> String {
    match report.objective_ms {
        Some(ms) => format!("late (over {} ms) or failed", number(ms)),
        None => "failed".to_owned(),
    }
}

fn story(out: &mut String, marks: &[Mark]) {
    out.push_str("<ol class=\"story\">");
    for mark in marks {
        let _ = write!(
            out,
            "<li><i>{}</i><span>{}</span>{}</li>",
            mark.number,
            clock(mark.t_s),
            escape(&mark.label)
        );
    }
    out.push_str("</ol>\n");
}

/// One class per pool: CPU pools from the cool colours, accelerators from the warm ones.
fn pool_classes(report: &Report) -> HashMap<&str, String> {
    let (mut cool, mut warm) = (0, 0);
    let class = |pool: &super::PoolInfo| {
        let (family, next) = match pool.tier {
            Tier::Cpu => ("cool", &mut cool),
            Tier::Accelerator => ("warm", &mut warm),
        };
        *next += 1;
        if *next > 4 {
            "other".to_owned()
        } else {
            format!("{family}{}", *next - 1)
        }
    };
    let classes: Vec<String> = report.pools.iter().map(class).collect();
    report.pools.iter().map(|p| p.name.as_str()).zip(classes).collect()
}

/// Stages in the pipeline's order, then any others that were observed.
fn stages<'a>(report: &'a Report, observed: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let mut all: Vec<&String> = report.stages.iter().collect();
    for stage in observed {
        if !all.contains(&stage) {
            all.push(stage);
        }
    }
    all
}

fn replicas(out: &mut String, report: &Report, marks: &[Mark]) {
    let series = &report.series;
    if series.replicas.is_empty() {
        return;
    }
    let classes = pool_classes(report);
    let order = |pool: &str| report.pools.iter().position(|p| p.name == pool).unwrap_or(usize::MAX);
    let times = thin_last(&series.t_s);
    out.push_str("<h2>Where the replicas ran</h2>\n<p class=\"note\">Ready replicas by stage and pool. CPU pools are cool, accelerators warm.</p>\n");
    out.push_str("<p class=\"legend blocks\">");
    for pool in &report.pools {
        let class = classes.get(pool.name.as_str()).map_or("other", String::as_str);
        let price = pool
            .cost_per_node_hour
            .map(|c| format!(" {} per node and hour", dollars(c)))
            .unwrap_or_default();
        let _ = write!(
            out,
            "<span><i class=\"{class}\"></i>{}{price}</span>",
            escape(&pool.name)
        );
    }
    out.push_str("</p>\n<div class=\"plots stack\">");
    for stage in stages(report, series.replicas.iter().map(|r| &r.stage)) {
        let used = |r: &&super::ReplicaSeries| r.stage == *stage && r.ready.iter().any(|n| *n > 0);
        let mut variants: Vec<_> = series.replicas.iter().filter(used).collect();
        variants.sort_by_key(|r| (order(&r.pool), &r.pool));
        let curve = |r: &super::ReplicaSeries| Curve {
            label: r.pool.clone(),
            class: classes
                .get(r.pool.as_str())
                .cloned()
                .unwrap_or_else(|| "other".to_owned()),
            values: thin_last(&r.ready).into_iter().map(|n| Some(f64::from(n))).collect(),
            shape: Shape::Step,
            dashed: false,
            filled: true,
        };
        let plot = Plot {
            stacked: true,
            whole: true,
            ..base(
                report,
                stage,
                "replicas",
                SMALL,
                &times,
                variants.into_iter().map(curve).collect(),
                marks,
            )
        };
        let _ = write!(out, "<figure>{}</figure>", plot.svg());
    }
    out.push_str("</div>\n");
}

fn demand(out: &mut String, report: &Report, marks: &[Mark]) {
    let series = &report.series;
    if series.demand.is_empty() {
        return;
    }
    let times = thin_last(&series.t_s);
    out.push_str("<h2>Demand and capacity</h2>\n<p class=\"note\">What each stage needs, and what its ready replicas can do.</p>\n");
    let curves = |demand: &super::DemandSeries| {
        vec![
            Curve {
                filled: true,
                shape: Shape::Step,
                ..line("capacity", "room", thin_last(&demand.capacity))
            },
            line("demand", "need", thin_max(&demand.demand)),
        ]
    };
    for (index, stage) in stages(report, series.demand.iter().map(|d| &d.stage))
        .into_iter()
        .enumerate()
    {
        let Some(demand) = series.demand.iter().find(|d| d.stage == *stage) else {
            continue;
        };
        let plot = base(report, stage, &demand.unit, SMALL, &times, curves(demand), marks);
        if index == 0 {
            let _ = write!(out, "{}<div class=\"plots\">", plot.legend());
        }
        let _ = write!(out, "<figure>{}</figure>", plot.svg());
    }
    out.push_str("</div>\n");
}

fn money_and_time(out: &mut String, report: &Report, marks: &[Mark]) {
    let series = &report.series;
    out.push_str("<h2>Cost, latency and load</h2>\n<div class=\"plots wide\">");
    let mut figure = |plot: Plot<'_>| {
        let plot = Plot { worded: true, ..plot };
        let _ = write!(out, "<figure>{}{}</figure>", plot.svg(), plot.legend());
    };
    let known = |values: &[Option<f64>]| values.iter().any(Option::is_some);
    if known(&series.cost_per_hour) {
        let cost = line("as it ran", "main", thin_last(&series.cost_per_hour));
        let mut curves = vec![Curve {
            filled: true,
            shape: Shape::Step,
            ..cost
        }];
        if known(&series.cost_per_hour_all_accelerators) {
            let all = line(
                "accelerators only",
                "warm1",
                thin_last(&series.cost_per_hour_all_accelerators),
            );
            curves.push(Curve {
                dashed: true,
                shape: Shape::Step,
                ..all
            });
        }
        let times = thin_last(&series.t_s);
        figure(base(report, "Cost", "USD per hour", WIDE, &times, curves, marks));
    }
    if !report.seconds.is_empty() {
        let starts: Vec<f64> = report.seconds.iter().map(|s| f64::from(s.t_s)).collect();
        let times = thin_last(&starts);
        let percentile = |of: fn(&Percentiles) -> Option<f64>| {
            thin_max(&report.seconds.iter().map(|s| of(&s.latency_ms)).collect::<Vec<_>>())
        };
        let mut curves = vec![
            line("p99", "p99", percentile(|p| p.p99)),
            line("p95", "p95", percentile(|p| p.p95)),
            line("median", "p50", percentile(|p| p.p50)),
        ];
        if let Some(objective) = report.objective_ms {
            let held = vec![Some(objective); times.len()];
            curves.push(Curve {
                dashed: true,
                ..line("objective", "other", held)
            });
        }
        let latency = base(
            report,
            "End-to-end latency",
            "ms, logarithmic",
            WIDE,
            &times,
            curves,
            marks,
        );
        figure(Plot {
            scale: Scale::Logarithmic,
            ..latency
        });
        let count = |of: fn(&crate::load::Second) -> u32| {
            thin_max(
                &report
                    .seconds
                    .iter()
                    .map(|s| Some(f64::from(of(s))))
                    .collect::<Vec<_>>(),
            )
        };
        let curves = vec![
            Curve {
                filled: true,
                ..line("offered", "main", count(|s| s.offered))
            },
            line("served", "room", count(|s| s.served)),
            line("late or failed", "need", count(|s| s.late + s.failed)),
        ];
        figure(base(report, "Load", "requests/s", WIDE, &times, curves, marks));
    }
    out.push_str("</div>\n");
}

fn base<'a>(
    report: &Report,
    title: &str,
    unit: &str,
    (width, height): (f64, f64),
    times: &'a [f64],
    curves: Vec<Curve>,
    marks: &'a [Mark],
) -> Plot<'a> {
    let first = report.series.t_s.first().copied().unwrap_or(0.0).min(0.0);
    let last = report.series.t_s.last().copied().unwrap_or(0.0).max(report.duration_s);
    Plot {
        title: title.to_owned(),
        unit: unit.to_owned(),
        width,
        height,
        scale: Scale::Linear,
        stacked: false,
        whole: false,
        times,
        span: (first, last),
        curves,
        marks,
        worded: false,
    }
}

fn line(label: &str, class: &str, values: Vec<Option<f64>>) -> Curve {
    Curve {
        label: label.to_owned(),
        class: class.to_owned(),
        values,
        shape: Shape::Line,
        dashed: false,
        filled: false,
    }
}

/// At most [`MAX_POINTS`] values: the last of every group.
fn thin_last<T: Copy>(values: &[T]) -> Vec<T> {
    let size = values.len().div_ceil(MAX_POINTS).max(1);
    values.chunks(size).filter_map(|group| group.last().copied()).collect()
}

/// At most [`MAX_POINTS`] values: the largest of every group, so that no peak is lost.
fn thin_max(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let size = values.len().div_ceil(MAX_POINTS).max(1);
    values
        .chunks(size)
        .map(|group| group.iter().flatten().copied().reduce(f64::max))
        .collect()
}
