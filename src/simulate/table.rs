//! Outcomes as text: a table for people, CSV for programs.

use std::fmt::Write as _;

use super::outcome::Outcome;
use super::scenario::Scenario;

/// Late requests that a policy may have to count as in time, per cent.
pub const LATE_GOAL_PERCENT: f64 = 0.5;

/// What is shown of a run.
const COLUMNS: [&str; 12] = [
    "policy",
    "$/h",
    "$ total",
    "x bound",
    "x clairv.",
    "late %",
    "given up",
    "p50 ms",
    "p99 ms",
    "replica h",
    "shifts",
    "starts",
];

/// An aligned table; `bound` is what nobody can be below, dollars. Cost is also given relative to the clairvoyant's, if that
/// is among the runs.
pub fn table(outcomes: &[Outcome], bound: f64) -> String {
    let mut rows: Vec<[String; 12]> = vec![COLUMNS.map(str::to_owned)];
    let knowing = outcomes
        .iter()
        .find(|outcome| outcome.policy.starts_with("clairvoyant"));
    let latency = |latency: Option<u32>| latency.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
    for outcome in outcomes {
        rows.push([
            outcome.policy.clone(),
            format!("{:.3}", outcome.cost_per_hour()),
            format!("{:.3}", outcome.cost),
            format!("{:.2}", outcome.cost / bound.max(1e-9)),
            knowing.map_or_else(
                || "-".to_owned(),
                |knowing| format!("{:.2}", outcome.cost / knowing.cost.max(1e-9)),
            ),
            format!("{:.2}", outcome.late_percent()),
            outcome.failed.to_string(),
            latency(outcome.latency_ms(50)),
            latency(outcome.latency_ms(99)),
            format!("{:.1}", outcome.replica_hours),
            outcome.shifts.to_string(),
            outcome.starts.to_string(),
        ]);
    }
    aligned(&rows)
}

/// Late requests of every pipeline in per cent, the most important first; empty with one pipeline.
pub fn by_pipeline(scenario: &Scenario, outcomes: &[Outcome]) -> String {
    if scenario.pipelines.len() < 2 {
        return String::new();
    }
    let mut order: Vec<usize> = (0..scenario.pipelines.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(scenario.world.pipelines.get(at).map(|pipeline| pipeline.priority)));
    let head = order.iter().map(|&at| {
        let priority = scenario.world.pipelines.get(at).map_or(0, |pipeline| pipeline.priority);
        format!("{} ({priority})", scenario.pipelines[at].name)
    });
    let mut rows = vec![
        std::iter::once("late %, by priority".to_owned())
            .chain(head)
            .collect::<Vec<_>>(),
    ];
    for outcome in outcomes {
        let late = order
            .iter()
            .map(|&at| format!("{:.2}", outcome.pipelines[at].late_percent()));
        rows.push(std::iter::once(outcome.policy.clone()).chain(late).collect());
    }
    format!("\n{}", aligned(&rows))
}

/// Columns of equal width: the first to the left, the others to the right.
fn aligned<Row: AsRef<[String]>>(rows: &[Row]) -> String {
    let mut widths = vec![0; rows.first().map_or(0, |row| row.as_ref().len())];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row.as_ref()) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        for (at, (cell, width)) in row.as_ref().iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = if at == 0 {
                write!(text, "{cell:<width$}")
            } else {
                write!(text, "  {cell:>width$}")
            };
        }
        text.push('\n');
    }
    text
}

/// One line per run, with a header.
pub fn csv(load: &str, outcomes: &[Outcome], bound: f64) -> String {
    let mut text = String::from(
        "load,policy,requests,served,late,given_up,late_percent,cost_dollars,cost_dollars_per_hour,bound_dollars,\
         p50_ms,p95_ms,p99_ms,replica_hours,shifts,starts,writes\n",
    );
    for outcome in outcomes {
        let latency = |percent| {
            outcome
                .latency_ms(percent)
                .map_or_else(String::new, |ms| ms.to_string())
        };
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{:.4},{:.6},{:.6},{bound:.6},{},{},{},{:.4},{},{},{}",
            field(load),
            field(&outcome.policy),
            outcome.requests,
            outcome.served,
            outcome.late,
            outcome.failed,
            outcome.late_percent(),
            outcome.cost,
            outcome.cost_per_hour(),
            latency(50),
            latency(95),
            latency(99),
            outcome.replica_hours,
            outcome.shifts,
            outcome.starts,
            outcome.writes,
        );
    }
    text
}

/// A CSV field: quoted where it must be.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Of the runs of one policy, those that no other of them beats in both cost and lateness; cheapest first.
pub fn frontier<'a>(outcomes: &[&'a Outcome]) -> Vec<&'a Outcome> {
    let mut sorted = outcomes.to_vec();
    sorted.sort_by(|a, b| {
        a.cost
            .total_cmp(&b.cost)
            .then(a.late_percent().total_cmp(&b.late_percent()))
    });
    let mut best = f64::INFINITY;
    sorted.retain(|outcome| {
        let better = outcome.late_percent() < best;
        best = best.min(outcome.late_percent());
        better
    });
    sorted
}

/// The cheapest of these runs that keeps the goal for late requests; if none does, the one with the fewest.
pub fn best<'a>(outcomes: &[&'a Outcome]) -> Option<&'a Outcome> {
    let frontier = frontier(outcomes);
    let kept = frontier
        .iter()
        .find(|outcome| outcome.late_percent() <= LATE_GOAL_PERCENT);
    kept.or(frontier.last()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(policy: &str, cost: f64, late: u64) -> Outcome {
        Outcome {
            policy: policy.to_owned(),
            requests: 1_000,
            served: 1_000,
            late,
            failed: 0,
            latencies_ms: vec![100, 200, 300, 4_000],
            span_ms: 3_600_000,
            cost,
            replica_hours: 4.0,
            starts: 3,
            writes: 5,
            shifts: 1,
            simulated_ms: 3_600_000,
            pipelines: Vec::new(),
            frames: Vec::new(),
        }
    }

    #[test]
    fn a_frontier_leaves_out_what_is_both_dearer_and_later() {
        let runs = [
            outcome("a", 3.0, 2),
            outcome("b", 2.0, 20),
            outcome("c", 4.0, 4),
            outcome("d", 5.0, 1),
        ];
        let all: Vec<&Outcome> = runs.iter().collect();
        let names: Vec<&str> = frontier(&all).iter().map(|run| run.policy.as_str()).collect();
        assert_eq!(names, ["b", "a", "d"]);
        assert_eq!(best(&all).unwrap().policy, "a", "0.2 % late is in the goal, 2 % is not");
        assert_eq!(best(&all[1..2]).unwrap().policy, "b");
        assert!(best(&[]).is_none());
    }

    #[test]
    fn tables_line_up_and_csv_quotes_what_it_must() {
        let text = table(&[outcome("tiercel", 1.0, 5), outcome("hpa:target=50", 12.5, 50)], 0.5);
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
        assert!(
            text.contains("2.00") && text.contains("25.00") && text.contains("4000"),
            "{text}"
        );
        let text = csv("a,b", &[outcome("hpa", 1.0, 5)], 0.5);
        assert!(
            text.lines()
                .nth(1)
                .unwrap()
                .starts_with("\"a,b\",hpa,1000,1000,5,0,0.5000,1.0"),
            "{text}"
        );
    }
}
