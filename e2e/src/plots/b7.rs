//! B7: from a step of load, and from the signal that shows it, to the write: beside HPA and KEDA.

use super::PlotError;
use super::axis::{Axis, Scale};
use super::figures::Figures;
use super::picture::{HPA, KEDA, Line, Mark, Panel, Picture, Series, Style, TIERCEL};

/// The file's name of each, what it is called here, and how it looks.
const SCALERS: [(&str, &str, Style); 3] = [
    ("hpa", "HPA", Style::new(HPA, Mark::None, Line::Dashed)),
    ("keda", "KEDA", Style::new(KEDA, Mark::None, Line::Dotted)),
    ("tiercel", "tiercel", Style::new(TIERCEL, Mark::None, Line::Solid)),
];
const SPANS: [(&str, &str); 2] = [
    ("step_to_write", "load step to write"),
    ("signal_to_write", "signal to write"),
];
/// Below so many milliseconds the axis is linear: a signal that is looked for may be seen after the write.
const NEAR_MS: f64 = 1.0;

pub(super) fn step(of: &Figures) -> Result<Picture, PlotError> {
    let settings = of.figures()?.items("settings")?;
    let mut curves = Vec::new();
    for (span, title) in SPANS {
        for setting in &settings {
            let scalers = setting.get("autoscalers")?;
            let mut series = Vec::new();
            for (field, name, style) in SCALERS {
                let Some(scaler) = scalers.known(field) else { continue };
                let mut ms = Vec::new();
                for value in scaler.get("sorted_ms")?.items(span)? {
                    ms.push(value.as_number()?);
                }
                series.push(Series::new(name, style, shares(&ms, scaler.number("steps")?)));
            }
            curves.push((format!("{title}, {}", setting.text("setting")?), series));
        }
    }
    let mut ms: Vec<f64> = curves
        .iter()
        .flat_map(|(_, series)| series)
        .flat_map(|it| &it.points)
        .map(|it| it.0)
        .collect();
    ms.push(NEAR_MS * 10.0);
    let panel = |(title, series): (String, Vec<Series>)| {
        let x = Axis::around_zero("ms", NEAR_MS, ms.iter().copied());
        let y = Axis::new(
            "% of the steps",
            Scale::Linear,
            (0.0, 100.0),
            &[0.0, 25.0, 50.0, 75.0, 100.0],
        );
        Panel::new(title, x, y, series)
    };
    let legend = SCALERS
        .iter()
        .rev()
        .map(|(_, name, style)| (*style, (*name).to_owned()));
    Ok(Picture {
        title: "B7: steps of load that were answered within so many milliseconds".into(),
        legend: legend.collect(),
        columns: settings.len().max(1),
        panels: curves.into_iter().map(panel).collect(),
        height: 270.0,
        footer: vec![of.origin()?],
    })
}

/// The share of `steps`, per cent, that took no longer than each of some sorted times. What was never written keeps a
/// curve below 100.
fn shares(sorted_ms: &[f64], steps: f64) -> Vec<(f64, f64)> {
    let mut line = Vec::new();
    let mut below = 0.0;
    for &ms in sorted_ms {
        line.push((ms, below / steps * 100.0));
        below += 1.0;
        line.push((ms, below / steps * 100.0));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plots::paint::svg;

    fn file(written: &str) -> String {
        let scaler =
            format!(r#"{{"steps": 4, "sorted_ms": {{"step_to_write": {written}, "signal_to_write": [-20.0, 3.0]}}}}"#);
        let setting =
            |name: &str| format!(r#"{{"setting": "{name}", "autoscalers": {{"tiercel": {scaler}, "hpa": {scaler}}}}}"#);
        let figures = format!(r#"{{"settings": [{}, {}]}}"#, setting("defaults"), setting("tuned"));
        crate::plots::tests::file("b7", &figures)
    }

    #[test]
    fn steps_without_a_write_keep_the_curve_below_all() {
        let picture = step(&Figures::parse("b7", &file("[10.0, 5000.0]")).unwrap()).unwrap();
        assert_eq!((picture.panels.len(), picture.columns), (4, 2));
        let points = &picture.panels[0].series[0].points;
        assert_eq!(points, &[(10.0, 0.0), (10.0, 25.0), (5_000.0, 25.0), (5_000.0, 50.0)]);
        assert!(picture.panels[2].x.low <= -20.0, "{:?}", picture.panels[2].x);
        let svg = svg(&picture).unwrap();
        assert!(svg.contains("load step to write, tuned"), "{svg}");
    }

    #[test]
    fn more_writes_than_steps_have_no_place() {
        let picture = step(&Figures::parse("b7", &file("[1, 2, 3, 4, 5]")).unwrap()).unwrap();
        let error = svg(&picture).unwrap_err().to_string();
        assert!(
            error.contains("at 125 has no place on the axis \"% of the steps\""),
            "{error}"
        );
    }

    #[test]
    fn a_file_with_percentiles_alone_is_refused_by_the_name_of_what_it_lacks() {
        let file = file("[1, 2]").replace("sorted_ms", "p50");
        let error = step(&Figures::parse("b7", &file).unwrap()).unwrap_err().to_string();
        assert!(error.contains("/autoscalers/hpa/sorted_ms is missing"), "{error}");
    }
}
