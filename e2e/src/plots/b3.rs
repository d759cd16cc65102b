//! B3: joint plans beside `HiGHS` and simpler planners, in milliseconds and in cost.

use super::PlotError;
use super::axis::{Axis, Scale, written};
use super::figures::{Field, Figures};
use super::picture::{
    GREY, INK, KEDA, Line, Mark, PURPLE, Panel, Picture, SKY, Series, Style, TIERCEL, VERMILLION, Words,
};

const COLD: Style = Style::new(TIERCEL, Mark::Dot, Line::Solid);
const TO_ITS_END: Style = Style::new(TIERCEL, Mark::Diamond, Line::Dotted);
const WARM: Style = Style::new(TIERCEL, Mark::Triangle, Line::Dashed);
const BUDGET: Style = Style::new(INK, Mark::Dash, Line::None);
const HIGHS: Style = Style::new(VERMILLION, Mark::Square, Line::None);
const HIGHS_OPEN: Style = Style::new(VERMILLION, Mark::Ring, Line::None);

/// Simpler planners: the file's name of each, and how it looks.
const PEERS: [(&str, Style); 4] = [
    ("program per stage", Style::new(KEDA, Mark::Triangle, Line::None)),
    ("single pool", Style::new(SKY, Mark::Diamond, Line::None)),
    ("relaxation, rounded", Style::new(PURPLE, Mark::Cross, Line::None)),
    ("cheapest ratio", Style::new(GREY, Mark::Dash, Line::None)),
];

pub(super) fn time(of: &Figures) -> Result<Picture, PlotError> {
    let figures = of.figures()?;
    let cases = figures.items("cases")?;
    let limit_ms = figures.number("highs_seconds")? * 1e3;
    let mut halves = Vec::new();
    for scarce in [true, false] {
        let mut mine = Vec::new();
        for case in &cases {
            if case.flag("scarce")? == scarce {
                mine.push(case);
            }
        }
        halves.push((scarce, times(&mine)?));
    }
    let mut stages = Vec::new();
    for case in &cases {
        stages.push(case.number("stages")?);
    }
    stages.sort_by(f64::total_cmp);
    stages.dedup();
    let ends = (
        stages.first().map_or(1.0, |x| x / 1.7),
        stages.last().map_or(10.0, |x| x * 1.7),
    );
    let of_series = |series: &Series| -> Vec<f64> {
        let spread = series.spread.iter().flat_map(|&(_, least, most)| [least, most]);
        series.points.iter().map(|&(_, y)| y).chain(spread).collect()
    };
    let mut ms: Vec<f64> = halves
        .iter()
        .flat_map(|(_, series)| series)
        .flat_map(of_series)
        .collect();
    ms.push(limit_ms);
    let panel = |(scarce, series): (bool, Vec<Series>)| {
        let x = Axis::new("stages (× 8 pools)", Scale::Log, ends, &stages);
        let y = Axis::logarithmic("ms", ms.iter().copied());
        let title = if scarce { "pools are scarce" } else { "pools are ample" };
        let mut panel = Panel::new(title, x, y, series);
        panel.rules.push(limit_ms);
        panel.words.push(Words::new(
            (ends.1, limit_ms * 1.9),
            format!("HiGHS is stopped after {} s", written(limit_ms / 1e3)),
        ));
        panel
    };
    Ok(Picture {
        title: "B3: how long a joint plan takes".into(),
        legend: vec![
            (COLD, "tiercel, from nothing".into()),
            (WARM, "tiercel, 1 % of demands changed".into()),
            (TO_ITS_END, "tiercel, to its own end".into()),
            (BUDGET, "tiercel's budget".into()),
            (HIGHS, "HiGHS, closed".into()),
            (HIGHS_OPEN, "HiGHS, not closed".into()),
        ],
        panels: halves.into_iter().map(panel).collect(),
        columns: 2,
        height: 400.0,
        footer: vec![
            "Medians; bars from least to most. One thread each.".into(),
            of.origin()?,
        ],
    })
}

/// Milliseconds by stages of some cases.
fn times(cases: &[&Field<'_>]) -> Result<Vec<Series>, PlotError> {
    let mut warm = Series::new("tiercel warm", WARM, Vec::new());
    let mut end = Series::new("tiercel to its own end", TO_ITS_END, Vec::new());
    let mut cold = Series::new("tiercel cold", COLD, Vec::new());
    let mut budget = Series::new("budget", BUDGET, Vec::new());
    let mut closed = Series::new("HiGHS, closed", HIGHS, Vec::new());
    let mut open = Series::new("HiGHS, not closed", HIGHS_OPEN, Vec::new());
    for case in cases {
        let (stages, ours) = (case.number("stages")?, case.get("tiercel")?);
        for (field, series) in [("warm", &mut warm), ("to_its_end", &mut end), ("cold", &mut cold)] {
            let ms = ours.get(field)?.get("ms")?;
            series.points.push((stages, ms.number("p50")?));
            series.spread.push((stages, ms.number("min")?, ms.number("max")?));
        }
        let (first, again) = (ours.number("budget_ms")?, ours.number("warm_budget_ms")?);
        budget.points.push((stages, first));
        if first.total_cmp(&again).is_ne() {
            budget.points.push((stages, again));
        }
        if let Some(highs) = case.known("highs") {
            let side = if highs.flag("closed")? { &mut closed } else { &mut open };
            side.points.push((stages, highs.number("seconds")? * 1e3));
        }
    }
    Ok(vec![warm, end, cold, budget, closed, open])
}

/// Which row of the picture, and how far from its middle: marks of one row must not hide each other.
fn row(case: usize, series: usize) -> f64 {
    let float = |count: usize| u32::try_from(count).map_or(0.0, f64::from);
    float(case) + (float(series) - 2.5) * 0.13
}

pub(super) fn cost(of: &Figures) -> Result<Picture, PlotError> {
    let figures = of.figures()?;
    let cases = figures.items("cases")?;
    let mut series = vec![
        Series::new("tiercel", Style::new(TIERCEL, Mark::Dot, Line::None), Vec::new()),
        Series::new("HiGHS", HIGHS, Vec::new()),
    ];
    series.extend(PEERS.map(|(name, style)| Series::new(name, style, Vec::new())));
    let mut unclosed = Series::new("HiGHS, not closed", HIGHS_OPEN, Vec::new());
    let mut names = Vec::new();
    for (at, case) in cases.iter().enumerate() {
        let ours = case.get("tiercel")?;
        let (cost, bound) = (ours.number("cost")?, ours.number("bound")?);
        let percent = |cost: f64| (cost / bound - 1.0) * 100.0;
        let kind = if case.flag("scarce")? { "scarce" } else { "ample" };
        names.push(format!("{} {kind}", written(case.number("stages")?)));
        let highs = case.known("highs");
        for (of, series) in series.iter_mut().enumerate() {
            let dearer = match of {
                0 => Some(ours.get("cold")?.get("gap_percent")?.number("p50")?),
                1 => highs
                    .as_ref()
                    .map(|it| it.number("exact_cost"))
                    .transpose()?
                    .map(percent),
                _ => peer(case, &series.name)?.map(|ratio| percent(ratio * cost)),
            };
            let Some(dearer) = dearer else { continue };
            let open = of == 1 && !highs.as_ref().map_or(Ok(true), |it| it.flag("closed"))?;
            let to = if open { &mut unclosed } else { series };
            to.points.push((dearer, row(at, of)));
        }
    }
    series.push(unclosed);
    let every = series.iter().flat_map(|it| &it.points).map(|&(x, _)| x);
    let x = Axis::around_zero("% dearer than the bound that tiercel proves", 0.01, every);
    let count = u32::try_from(names.len()).map_or(1.0, f64::from);
    let mut panel = Panel::new("stages; each of 8 pools", x, Axis::names("", names), series);
    panel.left = 104.0;
    panel.banded = true;
    let mut legend = vec![
        (
            Style::new(TIERCEL, Mark::Dot, Line::None),
            "tiercel, cold, in its budget".into(),
        ),
        (HIGHS, "HiGHS, closed".to_owned()),
        (
            HIGHS_OPEN,
            format!(
                "HiGHS after {} s, not closed",
                written(figures.number("highs_seconds")?)
            ),
        ),
    ];
    legend.extend(PEERS.map(|(name, style)| (style, name.to_owned())));
    Ok(Picture {
        title: "B3: what a plan costs".into(),
        legend,
        panels: vec![panel],
        columns: 1,
        height: 90.0 + 42.0 * count,
        footer: vec![of.origin()?],
    })
}

/// A simpler planner's cost, as a multiple of ours; none where it was not asked.
fn peer(case: &Field<'_>, name: &str) -> Result<Option<f64>, PlotError> {
    let peer = case.get("peers")?.known(name);
    peer.map(|peer| peer.number("cost_ratio")).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plots::paint::svg;

    fn file() -> String {
        let spread = |p50: f64| {
            format!(
                r#"{{"n": 3, "min": {}, "p50": {p50}, "max": {}}}"#,
                p50 / 2.0,
                p50 * 2.0
            )
        };
        let sort = |ms: f64, gap: f64| format!(r#"{{"ms": {}, "gap_percent": {}}}"#, spread(ms), spread(gap));
        let case = |stages: u32, scarce: bool, highs: &str, peers: &str| {
            format!(
                r#"{{"stages": {stages}, "scarce": {scarce}, "highs": {highs}, "peers": {peers}, "tiercel": {{
                "bound": 100.0, "cost": 101.0, "budget_ms": 10.0, "warm_budget_ms": 5.0,
                "cold": {}, "warm": {}, "to_its_end": {}}}}}"#,
                sort(9.0, 1.0),
                sort(0.01, 1.0),
                sort(90.0, 0.5)
            )
        };
        let highs = |closed: bool| format!(r#"{{"closed": {closed}, "seconds": 12.0, "exact_cost": 103.0}}"#);
        let cases = [
            case(10, true, &highs(true), r#"{"single pool": {"cost_ratio": 2.0}}"#),
            case(2_000, true, &highs(false), "{}"),
            case(2_000, false, "null", "{}"),
        ];
        let figures = format!(r#"{{"highs_seconds": 12, "cases": [{}]}}"#, cases.join(","));
        crate::plots::tests::file("b3", &figures)
    }

    fn named<'a>(picture: &'a Picture, panel: usize, name: &str) -> &'a [(f64, f64)] {
        let series = &picture.panels[panel].series;
        &series.iter().find(|series| series.name == name).unwrap().points
    }

    #[test]
    fn what_was_not_closed_is_told_apart_and_what_was_not_run_is_absent() {
        let picture = time(&Figures::parse("b3", &file()).unwrap()).unwrap();
        assert_eq!(named(&picture, 0, "HiGHS, closed"), [(10.0, 12_000.0)]);
        assert_eq!(named(&picture, 0, "HiGHS, not closed"), [(2_000.0, 12_000.0)]);
        assert!(named(&picture, 1, "HiGHS, closed").is_empty());
        assert_eq!(named(&picture, 1, "tiercel cold"), [(2_000.0, 9.0)]);
        assert_eq!(named(&picture, 1, "budget"), [(2_000.0, 10.0), (2_000.0, 5.0)]);
        assert!(svg(&picture).unwrap().contains("HiGHS is stopped after 12 s"));
    }

    #[test]
    fn costs_are_measured_from_the_proven_bound() {
        let picture = cost(&Figures::parse("b3", &file()).unwrap()).unwrap();
        let x = |name: &str| named(&picture, 0, name)[0].0;
        assert!((x("HiGHS") - 3.0).abs() < 1e-9, "{}", x("HiGHS"));
        assert!((x("single pool") - 102.0).abs() < 1e-9, "{}", x("single pool"));
        assert!(named(&picture, 0, "cheapest ratio").is_empty());
        assert!(svg(&picture).unwrap().contains("2,000 ample"));
    }

    #[test]
    fn a_missing_bound_is_named() {
        let file = file().replace("bound", "bond");
        let error = cost(&Figures::parse("b3", &file).unwrap()).unwrap_err().to_string();
        assert!(error.contains("/figures/cases/0/tiercel/bound is missing"), "{error}");
    }
}
