//! B5: cost against lateness of every policy, over all its knobs.

use super::PlotError;
use super::axis::Axis;
use super::figures::{Field, Figures};
use super::picture::{
    GREY, HPA, INK, KEDA, Line, Mark, PURPLE, Panel, Picture, SKY, Series, Style, TIERCEL, VERMILLION, Words,
};

/// What is late at most in the tables, per cent.
const LATE: f64 = 0.5;
/// Below so much lateness the axis is linear, per cent.
const NEAR: f64 = 0.1;

fn style(policy: &str) -> Style {
    let (colour, mark) = match policy {
        "tiercel" => (TIERCEL, Mark::Dot),
        "hpa" => (HPA, Mark::Triangle),
        "keda" => (KEDA, Mark::Square),
        "kpa" => (SKY, Mark::Diamond),
        "cost-greedy" => (VERMILLION, Mark::Triangle),
        "melange" => (PURPLE, Mark::Square),
        "kthena" => (GREY, Mark::Diamond),
        _ => (INK, Mark::Cross),
    };
    Style::new(colour, mark, Line::Solid)
}

/// Cost and lateness of a run.
fn point(run: &Field<'_>, knowing: f64) -> Result<(f64, f64), PlotError> {
    Ok((run.number("dollars")? / knowing, run.number("late_percent")?))
}

pub(super) fn frontier(of: &Figures) -> Result<Picture, PlotError> {
    let figures = of.figures()?;
    let mut loads = Vec::new();
    let mut legend: Vec<(Style, String)> = Vec::new();
    for load in figures.items("loads")? {
        let policies = load.items("policies")?;
        let mut knowing = None;
        for policy in &policies {
            if policy.text("policy")? == "clairvoyant" {
                knowing = Some(policy.get("best")?.number("dollars")?);
            }
        }
        let knowing = knowing.ok_or_else(|| PlotError::Field {
            id: "b5".into(),
            field: "/figures/loads/policies".into(),
            found: "without clairvoyant".into(),
            wanted: "a list with it",
        })?;
        let (mut specks, mut fronts) = (Vec::new(), Vec::new());
        for policy in &policies {
            let name = policy.text("policy")?;
            let style = style(name);
            if !legend.iter().any(|(_, known)| known == name) {
                legend.push((style, name.to_owned()));
            }
            let points = |field: &str| {
                let runs = policy.items(field)?;
                runs.iter()
                    .map(|run| point(run, knowing))
                    .collect::<Result<Vec<_>, _>>()
            };
            let speck = Style::new(style.colour, Mark::Speck, Line::None);
            specks.push(Series::new(name, speck, points("points")?));
            let mut front = points("frontier")?;
            front.sort_by(|a, b| a.0.total_cmp(&b.0));
            let line = Style::new(style.colour, Mark::None, Line::Solid);
            fronts.push(Series::new(name, line, stairs(&front)));
            fronts.push(Series::new(
                name,
                Style::new(style.colour, style.mark, Line::None),
                front,
            ));
        }
        // Ours last, on top.
        fronts.sort_by_key(|series| series.name == "tiercel");
        specks.extend(fronts);
        loads.push((load.text("load")?.to_owned(), specks));
    }
    let panel = |(load, series): (String, Vec<Series>)| {
        let every = || series.iter().flat_map(|series| &series.points);
        let x = Axis::logarithmic("cost ÷ the clairvoyant's", every().map(|&(x, _)| x));
        let y = Axis::around_zero("late requests, %", NEAR, every().map(|&(_, y)| y).chain([100.0]));
        let words = Words::new((x.high, LATE * 1.6), format!("{LATE} % late"));
        let mut panel = Panel::new(load, x, y, series);
        panel.rules.push(LATE);
        panel.words.push(words);
        panel
    };
    Ok(Picture {
        title: "B5: cost against lateness, every setting of every policy".into(),
        legend,
        panels: loads.into_iter().map(panel).collect(),
        columns: 2,
        height: 380.0,
        footer: vec![
            "Faint: one setting each. Marked: settings that no other of the same policy beats in both.".into(),
            format!("Seed {}. {}", figures.number("seed")?, of.origin()?),
        ],
    })
}

/// A frontier holds between two settings what the dearer-to-beat one gives: level to the next cost, then down.
fn stairs(front: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut line: Vec<(f64, f64)> = Vec::new();
    for &(x, y) in front {
        if let Some(&(_, held)) = line.last() {
            line.push((x, held));
        }
        line.push((x, y));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plots::paint::svg;

    fn file() -> String {
        let run = |dollars: f64, late: f64| {
            format!(r#"{{"policy": "x:target=1", "dollars": {dollars}, "late_percent": {late}}}"#)
        };
        let policy = |name: &str, runs: &[String]| {
            let list = runs.join(",");
            format!(
                r#"{{"policy": "{name}", "best": {}, "points": [{list}], "frontier": [{list}]}}"#,
                runs[0]
            )
        };
        let policies = [
            policy("tiercel", &[run(6.0, 0.0), run(3.0, 40.0)]),
            policy("clairvoyant", &[run(3.0, 0.0)]),
        ];
        let figures = format!(
            r#"{{"seed": 1, "loads": [{{"load": "azure", "policies": [{}]}}]}}"#,
            policies.join(",")
        );
        crate::plots::tests::file("b5", &figures)
    }

    #[test]
    fn costs_are_multiples_of_the_clairvoyants_and_frontiers_are_stairs() {
        let picture = frontier(&Figures::parse("b5", &file()).unwrap()).unwrap();
        let ours = picture.panels[0]
            .series
            .iter()
            .filter(|series| series.name == "tiercel");
        let points: Vec<_> = ours.map(|series| series.points.clone()).collect();
        assert_eq!(points[0], [(2.0, 0.0), (1.0, 40.0)]);
        assert_eq!(points[1], [(1.0, 40.0), (2.0, 40.0), (2.0, 0.0)]);
        assert!(svg(&picture).unwrap().contains("0.5 % late"));
    }

    #[test]
    fn a_file_with_frontiers_alone_is_refused_by_the_name_of_what_it_lacks() {
        let file = file().replace("\"points\"", "\"runs\"");
        let error = frontier(&Figures::parse("b5", &file).unwrap()).unwrap_err();
        let told = error.to_string();
        assert!(told.contains("/figures/loads/0/policies/0/points is missing"), "{told}");
    }

    #[test]
    fn without_the_clairvoyant_there_is_nothing_to_compare_with() {
        let file = file().replace("clairvoyant", "somebody");
        let error = frontier(&Figures::parse("b5", &file).unwrap()).unwrap_err();
        assert!(error.to_string().contains("clairvoyant"), "{error}");
    }
}
