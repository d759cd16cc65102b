use super::axis::{Axis, Scale, written};
use super::*;

/// A file as the benches write it.
pub(super) fn file(id: &str, figures: &str) -> String {
    format!(
        r#"{{"id": "{id}", "command": "make bench BENCH={id}", "commit": "abc1234", "date": "2026-01-02T03:04:05Z",
        "machine": {{"processor": "Some Processor", "cores": 2}}, "figures": {figures}}}"#
    )
}

#[test]
fn what_was_not_measured_leaves_its_picture_alone_and_what_is_broken_keeps_no_other_from_being_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let usage = r#"{"rss_kib": 2048, "own_kib": 1024, "rss_kib_max": 4096}"#;
    let figures = format!(r#"{{"operator": "release", "pools": 8, "without_pipelines": {usage}, "rungs": []}}"#);
    std::fs::write(path("b8.json"), file("b8", &figures)).unwrap();
    std::fs::write(path("b1.json"), "{").unwrap();
    std::fs::write(path("bench-b1-sweep.svg"), "older").unwrap();
    std::fs::write(path("bench-b5-frontier.svg"), "older").unwrap();
    let drawn = draw(folder.path(), folder.path());
    assert_eq!(drawn.len(), PICTURES.len());
    let failed = |it: &Drawn| {
        matches!(
            it,
            Drawn::Failed {
                picture: "bench-b1-sweep",
                error: PlotError::Json { .. }
            }
        )
    };
    assert!(drawn.iter().any(failed), "{drawn:?}");
    let absent = |it: &&Drawn| matches!(it, Drawn::NotMeasured { .. });
    assert_eq!(drawn.iter().filter(absent).count(), 4, "{drawn:?}");
    for name in ["bench-b1-sweep.svg", "bench-b5-frontier.svg"] {
        assert_eq!(std::fs::read_to_string(path(name)).unwrap(), "older");
    }
    let svg = std::fs::read_to_string(path("bench-b8-size.svg")).unwrap();
    let origin = "make bench BENCH=b8 · commit abc1234 · 2026-01-02 · Some Processor, 2 cores";
    assert!(svg.contains(origin), "{svg}");
}

#[test]
fn pictures_bring_a_white_background_and_text_of_twelve_pixels_at_least() {
    let usage = r#"{"rss_kib": 2048, "own_kib": 1024, "rss_kib_max": 4096}"#;
    let figures = format!(r#"{{"operator": "release", "pools": 8, "without_pipelines": {usage}, "rungs": []}}"#);
    let picture = b8::size(&Figures::parse("b8", &file("b8", &figures)).unwrap()).unwrap();
    let svg = paint::svg(&picture).unwrap();
    let first = svg.lines().nth(1).unwrap();
    assert!(
        first.contains("<rect x=\"0\" y=\"0\"") && first.contains("fill=\"#FFFFFF\""),
        "{first}"
    );
    let sizes: Vec<f64> = svg
        .split("font-size=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
        .collect();
    assert!(sizes.len() > 10, "{sizes:?}");
    // Pictures are drawn at 1,520 units for 760 pixels.
    assert!(svg.starts_with("<svg width=\"1520\""), "{svg}");
    assert!(sizes.iter().all(|size| *size >= 24.0 - 1e-6), "{sizes:?}");
    assert!(!svg.replace("font-family=\"sans-serif\"", "").contains("font-family"));
}

#[test]
fn an_axis_holds_its_values_and_nothing_else() {
    let axis = Axis::logarithmic("ms", [0.03, 700.0]);
    assert!(axis.share("it", 0.03).is_ok() && axis.share("it", 700.0).is_ok());
    for outside in [0.0, -1.0, 1e9, f64::NAN] {
        let error = axis.share("it", outside).unwrap_err().to_string();
        assert!(error.contains("has no place on the axis \"ms\""), "{error}");
    }
    let signed = Axis::around_zero("%", 0.1, [-3.0, 40.0]);
    assert_eq!((signed.low, signed.high), (-10.0, 100.0));
    assert!((signed.share("it", -10.0).unwrap()).abs() < 1e-9);
    let places = [0.0, 0.05, 0.1, 1.0, 40.0].map(|value| signed.share("it", value).unwrap());
    assert!(places.is_sorted(), "{places:?}");
    let linear = Axis::from_zero("MiB", [92.5, 12.0]);
    assert_eq!((linear.scale, linear.low, linear.high), (Scale::Linear, 0.0, 100.0));
}

#[test]
fn numbers_have_as_many_digits_as_they_need() {
    let texts = [0.0, 0.001, 0.5, 1.0, 12_500.0, -0.1, -10.0].map(written);
    assert_eq!(texts, ["0", "0.001", "0.5", "1", "12,500", "\u{2212}0.1", "\u{2212}10"]);
}
