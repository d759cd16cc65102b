//! Tables of the page: other policies, waiting, decisions.

use std::fmt::Write as _;

use super::Report;
use super::axis::{clock, dash, dollars, escape, number, whole};
use crate::load::Percentiles;

/// Decisions in the table; the JSON has all.
const MAX_DECISIONS: usize = 500;

pub(super) fn comparison(out: &mut String, report: &Report) {
    if report.cost_usd_all_accelerators.is_none() && report.baselines.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Side by side</h2>\n<div class=\"scroll\"><table><tr><th>Same load under</th><th>How known</th><th class=\"n\">Cost</th>\
         <th class=\"n\">Late or failed</th><th class=\"n\">Median</th><th class=\"n\">p95</th><th class=\"n\">p99</th></tr>",
    );
    let mut row = |class: &str, name: &str, known: &str, cost: Option<f64>, late: Option<f64>, latency: Percentiles| {
        let ms = |v: Option<f64>| v.map_or_else(dash, |v| format!("{} ms", number(v)));
        let _ = write!(
            out,
            "<tr class=\"{class}\"><td>{}</td><td>{known}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(name),
            cost.map_or_else(dash, dollars),
            late.map_or_else(dash, |v| format!("{} %", number(v))),
            ms(latency.p50),
            ms(latency.p95),
            ms(latency.p99)
        );
    };
    row(
        "this",
        "tiercel",
        "measured",
        report.cost_usd,
        Some(report.late_percent),
        report.latency_ms,
    );
    if let Some(all) = report.cost_usd_all_accelerators {
        row(
            "",
            "accelerators only",
            "computed",
            Some(all),
            None,
            Percentiles::default(),
        );
    }
    for b in &report.baselines {
        let known = if b.measured { "measured" } else { "computed" };
        row("", &b.name, known, b.cost_usd, b.late_percent, b.latency_ms);
    }
    out.push_str("</table></div>\n");
}

pub(super) fn waits(out: &mut String, report: &Report) {
    if report.stage_waits.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Where requests waited</h2>\n<p class=\"note\">For a replica and in its queue, measured at the client.</p>\n<div class=\"scroll\"><table>\
         <tr><th>Stage</th><th class=\"n\">Calls</th><th class=\"n\">Mean</th><th class=\"n\">Median</th><th class=\"n\">p95</th><th class=\"n\">p99</th></tr>",
    );
    for wait in &report.stage_waits {
        let ms = |v: Option<f64>| v.map_or_else(dash, |v| format!("{} ms", number(v)));
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&wait.stage),
            whole(wait.calls),
            ms(wait.mean_ms),
            ms(wait.wait_ms.p50),
            ms(wait.wait_ms.p95),
            ms(wait.wait_ms.p99)
        );
    }
    out.push_str("</table></div>\n");
}

pub(super) fn decisions(out: &mut String, report: &Report) {
    let total = report.decision_log.len();
    if total == 0 {
        return;
    }
    let shown = if total > MAX_DECISIONS {
        format!("The first {MAX_DECISIONS} of {total}; ")
    } else {
        String::new()
    };
    let _ = write!(
        out,
        "<h2>Decisions</h2>\n<p class=\"note\">{shown}{} in all, each with what set it off and why it came out so.</p>\n<div class=\"scroll\"><table>\
         <tr><th class=\"n\">Time</th><th>Stage</th><th>Change</th><th>Trigger</th><th>Reason</th><th></th></tr>",
        whole(total as u64)
    );
    for d in report.decision_log.iter().take(MAX_DECISIONS) {
        let _ = write!(
            out,
            "<tr><td class=\"n\">{}</td><td>{}</td><td>{}</td><td><code>{}</code></td><td><code>{}</code></td><td>{}</td></tr>",
            clock(d.t_s),
            escape(&d.stage),
            escape(&d.change),
            escape(&d.trigger),
            escape(&d.reason),
            escape(&d.message)
        );
    }
    out.push_str("</table></div>\n");
}

pub(super) fn definitions(out: &mut String, report: &Report) {
    if report.definitions.is_empty() {
        return;
    }
    out.push_str("<h2>How the numbers came about</h2>\n<div class=\"scroll\"><table>");
    for (key, text) in &report.definitions {
        let _ = write!(out, "<tr><td><code>{}</code></td><td>{}</td></tr>", escape(key), escape(text));
    }
    out.push_str("</table></div>\n");
}
