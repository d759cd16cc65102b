//! The report as aligned text.

use std::fmt::Write;

use super::report::{Report, RoleReport};
use crate::signals::presets::{Kind, Role};

/// Series of one role that are listed; `-o json` has all.
const SERIES_MAX: usize = 12;

/// The report for people.
pub(super) fn page(report: &Report) -> String {
    let mut page = String::new();
    let lines = match report.bad_lines_total {
        0 => String::new(),
        1 => ", 1 bad line".to_owned(),
        many => format!(", {many} bad lines"),
    };
    let readings = match report.seconds {
        Some(seconds) => format!("; read twice, {seconds:.2} s apart"),
        None => String::new(),
    };
    let Report {
        preset,
        from,
        format,
        bytes,
        samples,
        ..
    } = report;
    let _ = writeln!(
        page,
        "{from} read as '{preset}'\n{format}, {bytes} bytes, {samples} samples{lines}{readings}\n"
    );

    let headings = report.roles.iter().map(heading).collect::<Vec<_>>();
    let width = headings
        .iter()
        .map(|value| value.chars().count())
        .max()
        .unwrap_or_default();
    for (role, heading) in report.roles.iter().zip(&headings) {
        let _ = writeln!(page, "  {:<12} {heading:<width$}  {}", role.role.as_str(), origin(role));
        series(&mut page, role);
    }
    skipped(&mut page, report);
    page
}

/// The number, or that there is none.
fn heading(role: &RoleReport) -> String {
    match role.value {
        Some(value) if matches!(role.role, Role::CacheUse | Role::Utilization) => {
            format!("{} ({:.0} %)", number(value), value * 100.0)
        }
        Some(value) if role.counter.is_some() => format!("{} {}", digits(value, 4), role.unit),
        Some(value) => format!("{} {}", number(value), role.unit),
        None if role.why.is_none() => match &role.counter {
            Some(counter) => format!("{} so far", number(counter.now)),
            None => "-".to_owned(),
        },
        None if role.required => "MISSING".to_owned(),
        None => "-".to_owned(),
    }
}

/// Where the number comes from, or why there is none.
fn origin(role: &RoleReport) -> String {
    let Some(metric) = &role.metric else {
        return match role.why.as_deref() {
            Some(why) if role.required => why.to_owned(),
            _ => "not exposed; not required".to_owned(),
        };
    };
    let above = role.series.iter().filter(|series| !series.divisor).count();
    let within = role.within_pod.map_or("", |combine| combine.as_str());
    let per = role
        .per
        .as_ref()
        .map(|per| format!(" per {per}, added up,"))
        .unwrap_or_default();
    let series = if above == 1 {
        metric.clone()
    } else {
        format!("{within}{per} of {above} × {metric}")
    };
    let unit = match role.kind {
        None | Some(Kind::Count) => String::new(),
        Some(Kind::Milli) => ", milliseconds".to_owned(),
        Some(Kind::Micros) => ", microseconds".to_owned(),
        Some(kind) => format!(", {}", kind.as_str()),
    };
    let first = role.wanted.first().filter(|first| !first.starts_with(metric.as_str()));
    let instead = first.map(|first| format!(", for want of {first}")).unwrap_or_default();
    let counter = role.counter.as_ref().map(|counter| match counter.before {
        Some(before) => format!(": {}, then {}", number(before), number(counter.now)),
        None => "; a rate takes two readings: read a URL".to_owned(),
    });
    let why = role.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{series}{unit}{instead}{}{why}", counter.unwrap_or_default())
}

fn series(page: &mut String, role: &RoleReport) {
    let raw = |raw: Option<f64>| raw.map_or_else(|| "?".to_owned(), number);
    // The name is in the heading already, unless it is another one.
    let short = |series: &str| {
        let labels = role
            .metric
            .as_ref()
            .and_then(|metric| series.strip_prefix(metric.as_str()));
        match labels {
            Some("") => "(no labels)".to_owned(),
            Some(labels) => labels.to_owned(),
            None => series.to_owned(),
        }
    };
    let shown = role.series.iter().take(SERIES_MAX);
    let width = shown
        .clone()
        .map(|series| raw(series.raw).len())
        .max()
        .unwrap_or_default();
    for series in shown {
        let problem = series
            .problem
            .as_ref()
            .map(|problem| format!("  <- {problem}"))
            .unwrap_or_default();
        let over = if series.divisor { "÷ " } else { "" };
        let _ = writeln!(
            page,
            "      {:>width$}  {over}{}  (line {}){problem}",
            raw(series.raw),
            short(&series.series),
            series.line
        );
    }
    if role.series.len() > SERIES_MAX {
        let _ = writeln!(page, "      … and {} more", role.series.len() - SERIES_MAX);
    }
    for series in role.excluded.iter().take(SERIES_MAX) {
        let _ = writeln!(page, "      left out, as the preset says: {}", short(series));
    }
}

fn skipped(page: &mut String, report: &Report) {
    if report.bad_lines_total > 0 {
        let _ = writeln!(page, "\nlines that cannot be read, and were skipped:");
        for bad in &report.bad_lines {
            let _ = writeln!(
                page,
                "  line {}, column {}: {}\n      {}",
                bad.line, bad.column, bad.problem, bad.text
            );
        }
        if report.bad_lines_total > report.bad_lines.len() {
            let _ = writeln!(page, "  … and {} more", report.bad_lines_total - report.bad_lines.len());
        }
    }
    let missing = report
        .roles
        .iter()
        .filter(|role| role.required && role.metric.is_none());
    for role in missing {
        let _ = writeln!(page, "\nfor {} looked for:", role.role.as_str());
        for wanted in &role.wanted {
            let _ = writeln!(page, "  {wanted}");
        }
    }
    if let Some(hint) = &report.enable_hint {
        let _ = writeln!(page, "\nhint: {hint}");
    }
    if !report.fits.is_empty() {
        let _ = writeln!(
            page,
            "this body has all that is required by: {}",
            report.fits.join(", ")
        );
    }
    if report.enough {
        let _ = writeln!(page, "\nenough: every required role was read");
    }
}

/// Six digits, which is what tells one counter from another.
fn number(value: f64) -> String {
    digits(value, 6)
}

/// Up to so many digits that count, and all of a whole number, without a tail of zeros.
fn digits(value: f64, many: u8) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    let whole = value.abs().log10().floor().clamp(-6.0, 9.0) + 1.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 12")]
    let decimals = (f64::from(many) - whole).max(0.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::digits;

    #[test]
    fn numbers_keep_the_digits_that_count() {
        for (value, four, six) in [
            (0.0, "0", "0"),
            (7.0, "7", "7"),
            (1_234_567.0, "1234567", "1234567"),
            (41_242.8, "41243", "41242.8"),
            (0.758_333_3, "0.7583", "0.758333"),
            (11.801_8, "11.8", "11.8018"),
            (0.000_123_456_7, "0.0001235", "0.000123457"),
        ] {
            assert_eq!((digits(value, 4).as_str(), digits(value, 6).as_str()), (four, six));
        }
    }
}
