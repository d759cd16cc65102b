//! The live view: one moment as lines of text. Pure.

use std::fmt::Write as _;

use super::decisions::Logged;

/// One stage in the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The stage.
    pub stage: String,
    /// Per pool, in the order of the frame's pools: replicas that are Ready and replicas asked for; `None` where the stage
    /// cannot run.
    pub cells: Vec<Option<(u32, u32)>>,
    /// Calls per second that are offered, and that Ready replicas can serve at their target.
    pub load: Option<(f64, f64)>,
}

/// One pool in the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// The pool.
    pub pool: String,
    /// USD per node and hour.
    pub price: f64,
    /// A word on its state: `dry`.
    pub note: &'static str,
}

/// One moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// What the story is at, in one sentence.
    pub chapter: String,
    /// What the load is.
    pub load: String,
    /// Seconds since the load began, and its length; `None` before.
    pub time: Option<(f64, f64)>,
    /// Pools.
    pub columns: Vec<Column>,
    /// Stages.
    pub rows: Vec<Row>,
    /// USD per hour of all replicas.
    pub cost_per_hour: f64,
    /// Requests sent, in flight, failed.
    pub requests: (u64, u64, u64),
    /// Median and 95th percentile of the last seconds, ms.
    pub latency_ms: (Option<f64>, Option<f64>),
    /// The objective, ms.
    pub objective_ms: Option<f64>,
    /// Late and failed requests so far, per cent.
    pub late_percent: Option<f64>,
    /// Status and message of the condition `PreferredTier`.
    pub preferred_tier: Option<(String, String)>,
    /// Bounds that were crossed.
    pub violations: usize,
    /// The newest decisions, oldest first, with seconds since the load began.
    pub decisions: Vec<(f64, Logged)>,
}

/// Colours of a terminal, or nothing.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    /// Whether to colour at all.
    pub on: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
    fn green(self, text: &str) -> String {
        self.with("32", text)
    }
    fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }
    fn red(self, text: &str) -> String {
        self.with("31", text)
    }
}

const BAR: usize = 10;
const CELL: usize = 11;

/// Minutes and seconds.
pub fn clock(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation)] // minutes of a run
    let whole = seconds.abs() as i64;
    let sign = if seconds <= -1.0 { "-" } else { "" };
    format!("{sign}{:02}:{:02}", whole / 60, whole % 60)
}

/// The view, at most `width` columns of text per line.
pub fn lines(frame: &Frame, width: usize, paint: Paint) -> Vec<String> {
    let mut out = Vec::new();
    let time = frame.time.map_or_else(String::new, |(now, length)| {
        format!("{} of {}", clock(now), clock(length))
    });
    out.push(format!(
        " {}  {}  {}",
        paint.bold("tiercel"),
        time,
        paint.dim(&frame.load)
    ));
    out.push(String::new());
    out.push(format!(
        " {}",
        paint.bold(&cut(&frame.chapter, width.saturating_sub(2)))
    ));
    out.push(String::new());
    table(&mut out, frame, paint);
    out.push(String::new());
    figures(&mut out, frame, width, paint);
    out.push(String::new());
    out.push(paint.dim(" decisions, newest last"));
    for (t_s, decision) in &frame.decisions {
        out.push(cut(&decision_line(*t_s, decision), width));
    }
    out
}

/// One decision as a line.
pub fn decision_line(t_s: f64, decision: &Logged) -> String {
    format!(
        " {:>6}  {:<12} {:<38} {} / {}",
        clock(t_s),
        decision.stage(),
        decision.change().replace("->", "→"),
        decision.trigger,
        decision.reason
    )
}

fn table(out: &mut Vec<String>, frame: &Frame, paint: Paint) {
    let mut head = format!(" {:<13}", "stage");
    let mut price = format!(" {:<13}", "$/h per node");
    for column in &frame.columns {
        let _ = write!(head, "{:<CELL$}", column.pool);
        let text = format!("{:.2} {}", column.price, column.note);
        let _ = write!(price, "{text:<CELL$}");
    }
    head.push_str("  need/s    can/s");
    out.push(paint.dim(&head));
    for row in &frame.rows {
        let mut line = format!(" {:<13}", row.stage);
        for cell in &row.cells {
            let text = cell_text(*cell);
            let padded = format!("{text:<CELL$}");
            line.push_str(&match cell {
                Some((ready, wanted)) if ready != wanted => paint.yellow(&padded),
                Some((0, 0)) | None => paint.dim(&padded),
                Some(_) => padded,
            });
        }
        if let Some((need, can)) = row.load {
            let _ = write!(line, "{need:>8.1} {can:>8.1}  {}", bar(need, can, paint));
        }
        out.push(line);
    }
    out.push(paint.dim(&price));
}

fn cell_text(cell: Option<(u32, u32)>) -> String {
    match cell {
        None => " ".into(),
        Some((0, 0)) => "·".into(),
        Some((ready, wanted)) if ready == wanted => format!("{ready}"),
        Some((ready, wanted)) => format!("{ready} of {wanted}"),
    }
}

fn bar(need: f64, can: f64, paint: Paint) -> String {
    let share = if can > 0.0 {
        need / can
    } else {
        f64::from(u8::from(need > 0.0)) * 2.0
    };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // 0 to 10
    let full = ((share.min(1.0) * BAR as f64).round()) as usize;
    let text = format!(
        "{}{} {:>4.0} %",
        "█".repeat(full),
        "░".repeat(BAR - full),
        (share * 100.0).min(999.0)
    );
    match share {
        share if share > 1.0 => paint.red(&text),
        share if share > 0.9 => paint.yellow(&text),
        _ => paint.green(&text),
    }
}

fn figures(out: &mut Vec<String>, frame: &Frame, width: usize, paint: Paint) {
    let ms = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{:.1} s", value / 1e3));
    let (sent, in_flight, failed) = frame.requests;
    let objective = frame
        .objective_ms
        .map_or_else(String::new, |ms| format!(" (objective {:.0} s)", ms / 1e3));
    let late = frame
        .late_percent
        .map_or_else(|| "–".into(), |late| format!("{late:.1} %"));
    out.push(format!(
        " {}   requests {sent}, in flight {in_flight}, failed {failed}   p50 {}, p95 {}{objective}, late {late}",
        paint.bold(&format!("{:.2} $/h", frame.cost_per_hour)),
        ms(frame.latency_ms.0),
        ms(frame.latency_ms.1),
    ));
    let bounds = if frame.violations == 0 {
        paint.green("floors and ceilings held")
    } else {
        paint.red(&format!("{} bounds crossed", frame.violations))
    };
    let tier = match &frame.preferred_tier {
        Some((status, message)) => {
            let text = cut(&format!("PreferredTier={status} {message}"), width.saturating_sub(30));
            if status == "False" { paint.yellow(&text) } else { text }
        }
        None => String::new(),
    };
    out.push(format!(" {bounds}   {tier}"));
}

/// At most `width` characters, with a mark where text is missing.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The moment as one line, for logs.
pub fn line(frame: &Frame) -> String {
    let mut out = String::new();
    for row in &frame.rows {
        let used = frame.columns.iter().zip(&row.cells).filter_map(|(column, cell)| {
            let (ready, wanted) = (*cell)?;
            (ready > 0 || wanted > 0).then(|| format!("{} {}", column.pool, cell_text(*cell)))
        });
        let used: Vec<_> = used.collect();
        let _ = write!(
            out,
            "{}{}: {}",
            if out.is_empty() { "" } else { "; " },
            row.stage,
            used.join(" + ")
        );
    }
    let p95 = frame
        .latency_ms
        .1
        .map_or_else(|| "–".into(), |ms| format!("{:.1} s", ms / 1e3));
    let _ = write!(
        out,
        " | {:.2} $/h, {} requests, p95 {p95}",
        frame.cost_per_hour, frame.requests.0
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame {
            chapter: "3 · Load rises".into(),
            time: Some((75.0, 292.0)),
            columns: vec![
                Column {
                    pool: "graviton".into(),
                    price: 0.72,
                    note: "",
                },
                Column {
                    pool: "l4-spot".into(),
                    price: 0.29,
                    note: "dry",
                },
            ],
            rows: vec![Row {
                stage: "generate".into(),
                cells: vec![None, Some((2, 5))],
                load: Some((12.0, 6.6)),
            }],
            cost_per_hour: 2.5,
            preferred_tier: Some(("False".into(), "generate below its tier".into())),
            ..Frame::default()
        }
    }

    #[test]
    fn the_view_tells_replicas_shortage_and_the_state_of_pools() {
        let text = lines(&frame(), 100, Paint { on: false }).join("\n");
        for part in [
            "01:15 of 04:52",
            "2 of 5",
            "0.29 dry",
            "182 %",
            "2.50 $/h",
            "PreferredTier=False",
            "p95 –",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        assert!(!text.contains('\x1b'), "no colours in a log");
    }

    #[test]
    fn lines_fit_the_width_and_colours_do_not_count() {
        let mut frame = frame();
        frame.chapter = "x".repeat(300);
        for line in lines(&frame, 100, Paint { on: false }) {
            assert!(line.chars().count() <= 110, "{line}");
        }
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(clock(-5.0), "-00:05");
        assert_eq!(clock(125.9), "02:05");
    }

    #[test]
    fn a_log_line_names_the_pools_in_use_only() {
        assert!(
            line(&frame()).starts_with("generate: l4-spot 2 of 5 | 2.50 $/h"),
            "{}",
            line(&frame())
        );
    }
}
