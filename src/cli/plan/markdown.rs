//! A report for a pull request: what changes first, the rest folded.

use std::fmt::Write as _;

use super::joined::{Joined, Row, budget, counted, joined, serves, skipped, watts};
use super::text::price;
use crate::api::decimal::money;
use crate::plan::change::Kind;
use crate::plan::report::{Amount, Cost, Placement, Report};

/// The first line: whoever posts this finds by it what to replace.
const MARK: &str = "<!-- tiercel plan -->";
/// What the numbers mean.
const LEGEND: &str = "<sub>Minimum: without load. Maximum: under the most that a pipeline can serve from end to end with its `replicas.max`, pools and budget. \
                      Arrows: before → after.</sub>";
/// Most bytes: GitHub takes 65,536 characters in a comment.
const BYTES_MAX: usize = 60_000;

/// The whole report.
pub(super) fn render(report: &Report) -> String {
    let mut page = format!("{MARK}\n### tiercel plan: {}\n\n", headline(report));
    refusals(report, &mut page);
    costs(report, &mut page);
    let mut same = Vec::new();
    for joined in joined(report) {
        if report.before.is_some() && joined.change.is_none() {
            same.push(format!("`{}`", joined.name()));
            continue;
        }
        let before = page.len();
        pipeline(&joined, &mut page);
        if page.len() > BYTES_MAX {
            page.truncate(before);
            page.push_str("_The rest is too long for a comment: see the output of the job._\n\n");
            break;
        }
    }
    if !same.is_empty() {
        let _ = writeln!(page, "No change: {}\n", same.join(", "));
    }
    notes(report, &mut page);
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

fn headline(report: &Report) -> String {
    let refused = match report.refused {
        0 => String::new(),
        count => format!("**{} refused**, ", counted(count, "thing")),
    };
    let what = match &report.before {
        None => counted(report.after.pipelines.len(), "pipeline"),
        Some(before) if before.changes.is_empty() => format!("nothing changes against {}", code(&before.name)),
        Some(before) => {
            let change = if before.changes.len() == 1 { "changes" } else { "change" };
            format!(
                "{} {change} against {}",
                counted(before.changes.len(), "pipeline"),
                code(&before.name)
            )
        }
    };
    format!("{refused}{what}")
}

fn refusals(report: &Report, page: &mut String) {
    if report.problems.is_empty() {
        return;
    }
    page.push_str("**Refused**\n\n");
    for problem in &report.problems {
        page.push_str("- ");
        if let Some(place) = &problem.place {
            let _ = write!(
                page,
                "{} (document {}) ",
                code(&format!("{}:{}", place.file, place.line)),
                place.document
            );
        }
        if !problem.field.is_empty() {
            let _ = write!(page, "{}: ", code(&problem.field));
        }
        let _ = writeln!(page, "{}", escaped(&problem.message));
    }
    page.push('\n');
}

/// What all pipelines together cost and draw.
fn costs(report: &Report, page: &mut String) {
    let new = report.after.cost;
    let Some(before) = &report.before else {
        if report.after.pipelines.is_empty() {
            return;
        }
        let (title, line) = if powered(&[new]) {
            (" watts |", " ---: |")
        } else {
            ("", "")
        };
        let _ = writeln!(page, "| | per hour |{title}\n| --- | ---: |{line}");
        for (name, amount) in situations(new) {
            let draws = watts(amount).unwrap_or("?".into());
            let draws = if title.is_empty() {
                String::new()
            } else {
                format!(" {draws} |")
            };
            let _ = writeln!(page, "| {name} | {} |{draws}", money(amount.per_hour));
        }
        page.push('\n');
        return;
    };
    let old = before.plan.cost;
    let (title, line) = if powered(&[old, new]) {
        (" watts |", " ---: |")
    } else {
        ("", "")
    };
    let _ = writeln!(
        page,
        "| | {} | after | change |{title}\n| --- | ---: | ---: | ---: |{line}",
        code(&before.name)
    );
    for ((name, old), (_, new)) in situations(old).into_iter().zip(situations(new)) {
        let draws = arrow(watts(old).as_deref(), watts(new).as_deref(), "?");
        let draws = if title.is_empty() {
            String::new()
        } else {
            format!(" {draws} |")
        };
        let (from, to) = (money(old.per_hour), money(new.per_hour));
        let _ = writeln!(
            page,
            "| per hour {name} | {from} | {to} | {} |{draws}",
            change(old.per_hour, new.per_hour)
        );
    }
    page.push('\n');
}

/// Whether what replicas draw is known at least once.
fn powered(costs: &[Cost]) -> bool {
    costs
        .iter()
        .any(|cost| cost.minimum.watts > Some(0) || cost.maximum.watts > Some(0))
}

/// Names of the situations that are known, and what they cost.
fn situations(cost: Cost) -> Vec<(&'static str, Amount)> {
    let now = cost.now.map(|now| ("now", now));
    let others = [("at the minimum", cost.minimum), ("at the maximum", cost.maximum)];
    now.into_iter().chain(others).collect()
}

fn change(before: u64, after: u64) -> String {
    let sign = if after < before { "-" } else { "+" };
    let by = money(before.abs_diff(after));
    match before.abs_diff(after).saturating_mul(100).checked_div(before) {
        _ if before == after => String::new(),
        Some(percent) if percent > 0 => format!("{sign}{by} ({sign}{percent} %)"),
        _ => format!("{sign}{by}"),
    }
}

fn arrow(before: Option<&str>, after: Option<&str>, none: &str) -> String {
    if before == after {
        after.unwrap_or(none).to_owned()
    } else {
        format!("{} → {}", before.unwrap_or(none), after.unwrap_or(none))
    }
}

/// From the one to the other where both are compared, what is known of the only one else; nothing, if nothing is.
fn between(old: Option<&str>, new: Option<&str>, compared: bool, none: &str) -> Option<String> {
    let known = new.or(old)?;
    Some(if compared {
        arrow(old, new, none)
    } else {
        known.to_owned()
    })
}

fn pipeline(joined: &Joined<'_>, page: &mut String) {
    let becomes = match joined.change.map(|change| change.kind) {
        Some(Kind::Added) => " (new)",
        Some(Kind::Removed) => " (removed)",
        Some(Kind::Changed) | None => "",
    };
    let _ = write!(page, "**`{}`**{becomes}: ", joined.name());
    let compared = joined.before.is_some() && joined.after.is_some();
    let (old, new) = (joined.before.map(|one| one.cost), joined.after.map(|one| one.cost));
    let per_hour = |of: &dyn Fn(Cost) -> Amount| {
        let money = |cost: Option<Cost>| cost.map(|cost| money(of(cost).per_hour));
        between(money(old).as_deref(), money(new).as_deref(), compared, "-").unwrap_or_default()
    };
    let (least, most) = (per_hour(&|cost| cost.minimum), per_hour(&|cost| cost.maximum));
    let _ = write!(page, "{least} per hour at the minimum, {most} at the maximum");
    let (old, new) = (joined.before.and_then(budget), joined.after.and_then(budget));
    if let Some(budget) = between(old.as_deref(), new.as_deref(), compared, "none") {
        let _ = write!(page, "; budget {budget}");
    }
    let (old, new) = (joined.before.and_then(serves), joined.after.and_then(serves));
    if let Some(served) = between(old.as_deref(), new.as_deref(), compared, "-") {
        let _ = write!(page, "; serves {served} requests per second at the maximum");
    }
    page.push_str("\n\n");
    if let Some(change) = joined.change.filter(|change| change.kind == Kind::Changed) {
        let parts = [
            ("Created", &change.created),
            ("Deleted", &change.deleted),
            ("Written anew", &change.updated),
            ("Pods start anew", &change.restarted),
        ];
        for (what, names) in parts.into_iter().filter(|(_, names)| !names.is_empty()) {
            let names: Vec<String> = names.iter().map(|name| code(name)).collect();
            let _ = writeln!(page, "- {what}: {}", names.join(", "));
        }
        if !page.ends_with("\n\n") {
            page.push('\n');
        }
    }
    let (changed, rest): (Vec<&Row<'_>>, Vec<&Row<'_>>) =
        joined.rows.iter().partition(|row| !compared || row.differs());
    if !changed.is_empty() {
        rows(&changed, compared, page);
    }
    if !rest.is_empty() {
        let _ = writeln!(
            page,
            "<details><summary>{} unchanged</summary>\n",
            counted(rest.len(), "row")
        );
        rows(&rest, compared, page);
        page.push_str("</details>\n\n");
    }
}

fn rows(rows: &[&Row<'_>], compared: bool, page: &mut String) {
    let shows_now = rows
        .iter()
        .any(|row| row.after.is_some_and(|after| after.now.is_some()));
    let (title, line) = if shows_now { (" now |", " ---: |") } else { ("", "") };
    let _ = writeln!(
        page,
        "| stage | pool | each per hour |{title} min | max | why not more |"
    );
    let _ = writeln!(page, "| --- | --- | ---: |{line} ---: | ---: | --- |");
    for row in rows {
        let cell = |of: &dyn Fn(&Placement) -> Option<String>| {
            let (before, after) = (row.before.and_then(of), row.after.and_then(of));
            if compared {
                arrow(before.as_deref(), after.as_deref(), "-")
            } else {
                after.or(before).unwrap_or("-".into())
            }
        };
        let now = row
            .after
            .or(row.before)
            .and_then(|one| one.now)
            .map_or("-".to_owned(), |now| now.to_string());
        let now = if shows_now { format!(" {now} |") } else { String::new() };
        let why = row
            .after
            .and_then(|after| after.why_not_more.as_deref())
            .unwrap_or_default();
        let _ = writeln!(
            page,
            "| {} | {} | {} |{now} {} | {} | {} |",
            row.stage,
            row.pool,
            cell(&|one| one.each_per_hour.map(price)),
            cell(&|one| Some(one.minimum.to_string())),
            cell(&|one| Some(one.maximum.to_string())),
            escaped(why),
        );
    }
    page.push('\n');
}

fn notes(report: &Report, page: &mut String) {
    if !report.after.pipelines.is_empty() {
        let _ = writeln!(page, "{LEGEND}\n");
    }
    let mut notes: Vec<String> = report.assumptions.iter().map(|text| escaped(text)).collect();
    let others = skipped(report);
    if !others.is_empty() {
        notes.push(escaped(&others));
    }
    if notes.is_empty() {
        return;
    }
    page.push_str("<details><summary>Assumptions, and what was left alone</summary>\n\n");
    for note in notes {
        let _ = writeln!(page, "- {note}");
    }
    page.push_str("\n</details>\n");
}

/// A span of code around a text that must not end it.
fn code(text: &str) -> String {
    format!(
        "`{}`",
        text.replace('`', "'").split_whitespace().collect::<Vec<_>>().join(" ")
    )
}

/// A text that is shown as it is: what it quotes comes from files.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' => safe.extend(['\\', letter]),
            // Nobody is called by a plan.
            '@' => safe.push_str("@\u{200b}"),
            '\n' | '\r' => safe.push(' '),
            _ => safe.push(letter),
        }
    }
    safe
}
