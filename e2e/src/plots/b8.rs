//! B8: what the operator takes of memory as the cluster grows.

use super::PlotError;
use super::axis::{Axis, written};
use super::figures::{Field, Figures};
use super::picture::{GREY, INK, Line, Mark, Panel, Picture, Series, Style, TIERCEL, Words};

/// Stages, and MiB that should be enough for them.
const GOAL: (f64, f64) = (1_000.0, 40.0);
const ALL: Style = Style::new(TIERCEL, Mark::Dot, Line::Solid);
const OWN: Style = Style::new(TIERCEL, Mark::Diamond, Line::Dashed);
const FILES: Style = Style::new(GREY, Mark::Square, Line::Dotted);
const MOST: Style = Style::new(INK, Mark::Triangle, Line::None);
const AIM: Style = Style::new(INK, Mark::Cross, Line::None);

pub(super) fn size(of: &Figures) -> Result<Picture, PlotError> {
    let figures = of.figures()?;
    let mut all = Series::new("RSS", ALL, Vec::new());
    let mut own = Series::new("own", OWN, Vec::new());
    let mut files = Series::new("file-backed", FILES, Vec::new());
    let mut most = Series::new("most so far", MOST, Vec::new());
    let mut footer = Vec::new();
    let mut add = |stages: f64, usage: &Field<'_>| -> Result<(), PlotError> {
        let mib = |field: &str| usage.number(field).map(|kib| kib / 1_024.0);
        let (rss, heap) = (mib("rss_kib")?, mib("own_kib")?);
        all.points.push((stages, rss));
        own.points.push((stages, heap));
        files.points.push((stages, rss - heap));
        most.points.push((stages, mib("rss_kib_max")?));
        Ok(())
    };
    add(0.0, &figures.get("without_pipelines")?)?;
    for rung in figures.items("rungs")? {
        let stages = rung.number("stages")?;
        match rung.known("stopped") {
            Some(why) => footer.push(format!("{} stages: {}", written(stages), why.as_text()?)),
            None => add(stages, &rung.get("converged")?.get("usage")?)?,
        }
    }
    let series = vec![files, own, all, most, Series::new("goal", AIM, vec![GOAL])];
    let every = || series.iter().flat_map(|series| &series.points);
    let x = Axis::from_zero("stages", every().map(|&(x, _)| x));
    let y = Axis::from_zero("MiB", every().map(|&(_, y)| y));
    let pools = figures.number("pools")?;
    let title = format!(
        "each stage may run on {pools} pools; operator: {}",
        figures.text("operator")?
    );
    let mut panel = Panel::new(title, x, y, series);
    panel.words.push(Words::new(
        GOAL,
        format!("goal: {} stages in {} MiB", written(GOAL.0), GOAL.1),
    ));
    footer.push(of.origin()?);
    Ok(Picture {
        title: "B8: memory of the operator".into(),
        legend: vec![
            (ALL, "RSS, converged".into()),
            (OWN, "of it heap and stacks".into()),
            (FILES, "of it backed by files (program text)".into()),
            (MOST, "most while building".into()),
            (AIM, "goal".into()),
        ],
        panels: vec![panel],
        columns: 1,
        height: 330.0,
        footer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plots::paint::svg;

    fn file() -> String {
        let usage = |kib: u32| format!(r#"{{"rss_kib": {kib}, "own_kib": 1024, "rss_kib_max": {}}}"#, kib * 2);
        let figures = format!(
            r#"{{"operator": "release", "pools": 8, "without_pipelines": {},
            "rungs": [{{"stages": 100, "converged": {{"usage": {}}}}}, {{"stages": 1000, "stopped": "no room"}}]}}"#,
            usage(2_048),
            usage(4_096)
        );
        crate::plots::tests::file("b8", &figures)
    }

    #[test]
    fn what_is_not_own_is_backed_by_files_and_a_rung_that_stopped_is_told_of() {
        let picture = size(&Figures::parse("b8", &file()).unwrap()).unwrap();
        let points = |at: usize| picture.panels[0].series[at].points.clone();
        assert_eq!(points(0), [(0.0, 1.0), (100.0, 3.0)]);
        assert_eq!(points(2), [(0.0, 2.0), (100.0, 4.0)]);
        let svg = svg(&picture).unwrap();
        assert!(svg.contains("1,000 stages: no room"), "{svg}");
        assert!(svg.contains("goal: 1,000 stages in 40 MiB"), "{svg}");
    }

    #[test]
    fn a_rung_without_memory_is_named() {
        let file = file().replace("own_kib", "heap_kib");
        let error = size(&Figures::parse("b8", &file).unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("/figures/without_pipelines/own_kib is missing"),
            "{error}"
        );
    }
}
