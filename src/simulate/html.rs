//! Outcomes as one page with plots: cost against lateness, and replicas over time. No script, nothing from elsewhere.

use std::fmt::Write as _;

use super::outcome::Outcome;
use super::scenario::Scenario;
use super::table::{self, LATE_GOAL_PERCENT};

const COLOURS: [&str; 8] = [
    "#0b6e4f", "#c1440e", "#2b59c3", "#8e44ad", "#b8860b", "#d6336c", "#3c6e71", "#6c757d",
];
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const BOTTOM: f64 = 34.0;

/// The page of some policies, each with its runs.
pub fn page(scenario: &Scenario, load: &str, runs: &[Vec<Outcome>], bound: f64, seed: u64) -> String {
    let best: Vec<&Outcome> = runs
        .iter()
        .filter_map(|outcomes| table::best(&outcomes.iter().collect::<Vec<_>>()))
        .collect();
    let names: Vec<&str> = scenario
        .pipelines
        .iter()
        .map(|pipeline| pipeline.name.as_str())
        .collect();
    let shown: Vec<Outcome> = best.iter().map(|&outcome| outcome.clone()).collect();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>tiercel simulate: {load}</title>\n<style>\n\
         body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 800px; margin: 2em auto; padding: 0 1em; color: #222; }}\n\
         pre {{ overflow-x: auto; background: #f6f6f4; padding: 1em; }} svg {{ width: 100%; height: auto; }}\n\
         text {{ font: 11px system-ui, sans-serif; fill: #444; }} .grid {{ stroke: #e4e4e0; }}\n</style>\n\
         <h1>{names} under {load}</h1>\n<p>Seed {seed}. Cost counts every replica from placement until it is gone; nobody can \
         be below ${bound:.3} (work at full throughput on the cheapest pools).</p>\n<pre>{table}</pre>\n",
        load = escape(load),
        names = escape(&names.join(", ")),
        table = escape(&table::table(&shown, bound)),
    );
    page.push_str(
        "<h2>Cost against lateness</h2>\n<p>Lines join the runs of a policy that no other run of it beats.</p>\n",
    );
    page.push_str(&scatter(runs, bound));
    page.push_str("<h2>Replicas over time</h2>\n<p>By pool, of the cheapest run in time of each policy.</p>\n");
    let most = best
        .iter()
        .flat_map(|outcome| &outcome.frames)
        .map(|frame| frame.placed.iter().sum::<u32>())
        .max();
    for outcome in &best {
        let _ = write!(
            page,
            "<h3>{}</h3>\n{}",
            escape(&outcome.policy),
            replicas(scenario, outcome, most.unwrap_or(1))
        );
    }
    if load.starts_with("azure") {
        page.push_str(
            "<p>Load: Azure LLM inference trace 2023, Azure Public Dataset, CC-BY-4.0, times relative to the first request; \
             Patel et al., \u{201c}Splitwise\u{201d}, ISCA 2024.</p>\n",
        );
    } else if load == "mooncake" {
        page.push_str(
            "<p>Load: Mooncake conversation trace, Apache-2.0; Qin et al., \u{201c}Mooncake\u{201d}, FAST 2025.</p>\n",
        );
    } else if load.starts_with("servegen") {
        page.push_str("<p>Load: ServeGen, Apache-2.0, rates summed per model; Xiang et al., \u{201c}ServeGen\u{201d}, NSDI 2026.</p>\n");
    }
    page.push_str("</html>\n");
    page
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// From a share of the plot to its place on the page.
fn place(x: f64, y: f64) -> (f64, f64) {
    (
        LEFT + x.clamp(0.0, 1.0) * (WIDTH - LEFT - 12.0),
        (HEIGHT - BOTTOM) - y.clamp(0.0, 1.0) * (HEIGHT - BOTTOM - 14.0),
    )
}

fn frame(bottom: &str, lines: &[(f64, String)], marks: &[(f64, String)]) -> String {
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        escape(bottom)
    );
    for (share, label) in lines {
        let ((left, y), (right, _)) = (place(0.0, *share), place(1.0, *share));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{left:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            y + 4.0,
            escape(label)
        );
    }
    for (share, label) in marks {
        let (x, y) = place(*share, 0.0);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            y + 15.0,
            escape(label)
        );
    }
    let (x, y) = place(0.5, 0.0);
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        y + 30.0,
        escape(bottom)
    );
    svg
}

/// Cost over bound against late requests, on a scale on which 0.5 % and 50 % can both be read.
fn scatter(runs: &[Vec<Outcome>], bound: f64) -> String {
    // Roots spread the small values without a function that has no zero.
    let share = |percent: f64| (percent / 100.0).max(0.0).sqrt();
    let ratio = |outcome: &Outcome| outcome.cost / bound.max(1e-9);
    let highest = runs.iter().flatten().map(ratio).fold(1.0, f64::max);
    let lines: Vec<(f64, String)> = (0..=4)
        .map(|at| {
            let part = f64::from(at) / 4.0;
            (part, format!("{:.1}", part * highest))
        })
        .collect();
    let marks = [0.0, LATE_GOAL_PERCENT, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0]
        .map(|percent| (share(percent), format!("{percent}")));
    let mut svg = frame("late requests, %; upwards: cost over the bound", &lines, &marks);
    for (outcomes, colour) in runs.iter().zip(COLOURS.iter().cycle()) {
        let at = |outcome: &Outcome| place(share(outcome.late_percent()), ratio(outcome) / highest);
        for outcome in outcomes {
            let (x, y) = at(outcome);
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\" opacity=\"0.55\"><title>{}: {:.2} x, {:.2} % late</title></circle>",
                escape(&outcome.policy),
                ratio(outcome),
                outcome.late_percent()
            );
        }
        let frontier = table::frontier(&outcomes.iter().collect::<Vec<_>>());
        let points: Vec<String> = frontier
            .iter()
            .map(|outcome| at(outcome))
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>",
            points.join(" ")
        );
        if let Some(last) = frontier.first() {
            let (x, y) = at(last);
            let name = last.policy.split(':').next().unwrap_or_default();
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" style=\"fill:{colour}\">{}</text>",
                x + 6.0,
                y - 5.0,
                escape(name)
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Stacked replicas by pool.
fn replicas(scenario: &Scenario, outcome: &Outcome, most: u32) -> String {
    let end_s = outcome.frames.last().map_or(1, |frame| frame.at_s.max(1)) as f64;
    let lines: Vec<(f64, String)> = (0..=4)
        .map(|at| {
            let part = f64::from(at) / 4.0;
            (part, format!("{:.0}", part * f64::from(most)))
        })
        .collect();
    let marks: Vec<(f64, String)> = (0..=6)
        .map(|at| {
            let part = f64::from(at) / 6.0;
            (part, format!("{:.0}", part * end_s))
        })
        .collect();
    let mut svg = frame("seconds", &lines, &marks);
    let mut below = vec![0_u32; outcome.frames.len()];
    let mut legend = LEFT + 8.0;
    for ((pool, name), colour) in scenario.pools.iter().enumerate().zip(COLOURS.iter().cycle()) {
        let of_pool = |placed: &[u32]| -> u32 {
            let variants = scenario.world.variants.iter().zip(placed);
            variants
                .filter(|(variant, _)| variant.pool.0 as usize == pool)
                .map(|(_, count)| count)
                .sum()
        };
        let counts: Vec<u32> = outcome.frames.iter().map(|frame| of_pool(&frame.placed)).collect();
        if counts.iter().all(|count| *count == 0) {
            continue;
        }
        let above: Vec<u32> = below.iter().zip(&counts).map(|(below, count)| below + count).collect();
        let point = |(frame, count): (&super::outcome::Frame, &u32)| {
            let (x, y) = place(frame.at_s as f64 / end_s, f64::from(*count) / f64::from(most.max(1)));
            format!("{x:.1},{y:.1}")
        };
        let upper = outcome.frames.iter().zip(&above).map(point);
        let lower = outcome.frames.iter().zip(&below).rev().map(point);
        let points: Vec<String> = upper.chain(lower).collect();
        let _ = writeln!(
            svg,
            "<polygon points=\"{}\" fill=\"{colour}\" opacity=\"0.8\"/>",
            points.join(" ")
        );
        let _ = writeln!(
            svg,
            "<rect x=\"{legend:.1}\" y=\"6\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"15\">{}</text>",
            legend + 14.0,
            escape(name)
        );
        legend += 34.0 + 7.0 * name.len() as f64;
        below = above;
    }
    svg.push_str("</svg>\n");
    svg
}
