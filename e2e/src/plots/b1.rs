//! B1: readings to demand, nanoseconds per variant.

use super::PlotError;
use super::axis::{Axis, Scale};
use super::figures::Figures;
use super::picture::{GREY, HPA, INK, Line, Mark, Panel, Picture, Series, Style, TIERCEL};

/// The file's field, what it is, and how it looks.
const SIDES: [(&str, &str, Style); 4] = [
    (
        "sweep_ns",
        "tiercel's sweep",
        Style::new(TIERCEL, Mark::Dot, Line::Solid),
    ),
    ("stream_ns", "bare stream", Style::new(INK, Mark::Cross, Line::Dotted)),
    (
        "one_by_one_ns",
        "sweep, one by one",
        Style::new(GREY, Mark::Square, Line::Dashed),
    ),
    ("hpa_ns", "HPA's rules", Style::new(HPA, Mark::Triangle, Line::Dashed)),
];

pub(super) fn sweep(of: &Figures) -> Result<Picture, PlotError> {
    let sizes = of.figures()?.items("sizes")?;
    let mut series = SIDES.map(|(_, name, style)| Series::new(name, style, Vec::new()));
    for size in &sizes {
        let variants = size.number("variants")?;
        for (side, (field, ..)) in series.iter_mut().zip(SIDES) {
            let ns = size.get(field)?;
            side.points.push((variants, ns.number("p50")?));
            side.spread.push((variants, ns.number("min")?, ns.number("max")?));
        }
    }
    let variants: Vec<f64> = series.iter().flat_map(|side| &side.points).map(|&(x, _)| x).collect();
    let ends = variants.iter().fold((f64::INFINITY, 0.0), |(low, high), &x| {
        (f64::min(low, x), f64::max(high, x))
    });
    let ticks = sizes
        .iter()
        .map(|size| size.number("variants"))
        .collect::<Result<Vec<_>, _>>()?;
    let x = Axis::new("variants", Scale::Log, (ends.0 / 1.5, ends.1 * 1.5), &ticks);
    let every = series.iter().flat_map(|side| &side.spread);
    let y = Axis::logarithmic("ns per variant", every.flat_map(|&(_, least, most)| [least, most]));
    Ok(Picture {
        title: "B1: from readings to demand, one thread".into(),
        legend: SIDES.map(|(_, name, style)| (style, name.to_owned())).into(),
        panels: vec![Panel::new("median; bars from least to most", x, y, series.into())],
        columns: 1,
        height: 330.0,
        footer: vec![of.origin()?],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plots::paint::svg;

    fn file() -> String {
        let ns = |ns: f64| format!(r#"{{"n": 3, "p50": {ns}, "min": {}, "max": {}}}"#, ns / 2.0, ns * 2.0);
        let size = |variants: u32| {
            format!(
                r#"{{"variants": {variants}, "sweep_ns": {}, "stream_ns": {}, "one_by_one_ns": {}, "hpa_ns": {}}}"#,
                ns(2.0),
                ns(1.0),
                ns(30.0),
                ns(7.0)
            )
        };
        crate::plots::tests::file("b1", &format!(r#"{{"sizes": [{}, {}]}}"#, size(1_000), size(2_000_000)))
    }

    #[test]
    fn every_side_has_a_line_through_every_size() {
        let picture = sweep(&Figures::parse("b1", &file()).unwrap()).unwrap();
        let points: Vec<_> = picture.panels[0].series.iter().map(|it| it.points.clone()).collect();
        assert_eq!(points[0], [(1_000.0, 2.0), (2_000_000.0, 2.0)]);
        assert_eq!(points.len(), 4);
        let svg = svg(&picture).unwrap();
        assert!(svg.contains("HPA&apos;s rules") || svg.contains("HPA's rules"), "{svg}");
        assert!(svg.contains("2,000,000"), "{svg}");
    }

    #[test]
    fn a_side_that_was_not_measured_is_named() {
        let file = file().replace("hpa_ns", "hpb_ns");
        let error = sweep(&Figures::parse("b1", &file).unwrap()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("b1.json: /figures/sizes/0/hpa_ns is missing"),
            "{error}"
        );
    }

    #[test]
    fn no_time_at_all_has_no_place_by_powers_of_ten() {
        let file = file().replace(r#""p50": 1,"#, r#""p50": 0,"#);
        let picture = sweep(&Figures::parse("b1", &file).unwrap()).unwrap();
        let error = svg(&picture).unwrap_err().to_string();
        assert!(error.starts_with("bare stream at 0 has no place"), "{error}");
    }
}
