// Values that are exact in binary.
#![allow(clippy::float_cmp)]

use super::axis::{clock, number, ticks};
use super::*;

fn sample(graviton: u32, l4: u32, cost: f64) -> Sample {
    let key = |pool: &str| ("generate".to_owned(), pool.to_owned());
    let mut replicas = std::collections::BTreeMap::from([(key("graviton"), (graviton, graviton))]);
    if l4 > 0 {
        replicas.insert(key("l4-spot"), (l4, l4 + 1));
    }
    Sample {
        replicas,
        demand: std::collections::BTreeMap::from([("generate".to_owned(), (Some(3.5), Some(4.0)))]),
        cost_per_hour: Some(cost),
        cost_per_hour_all_accelerators: None,
    }
}

fn report() -> Report {
    let mut timeline = Timeline::default();
    timeline.observe(-10.0, sample(1, 0, 3.6));
    timeline.observe(0.0, sample(2, 0, 7.2));
    timeline.observe(100.0, sample(2, 3, 3.6));
    timeline.observe(200.0, sample(0, 4, 0.0));
    Report {
        title: "A <run> & more".into(),
        pipeline: "agents/support".into(),
        duration_s: 200.0,
        requests: 1_234,
        served: 1_230,
        failed: 4,
        late_percent: 0.5,
        cost_usd: Some(0.3),
        cost_usd_all_accelerators: Some(1.2),
        reaction_ms: Reaction {
            p50: Some(4.7),
            p99: None,
        },
        pools: vec![
            PoolInfo {
                name: "graviton".into(),
                tier: Tier::Cpu,
                cost_per_node_hour: Some(0.58),
            },
            PoolInfo {
                name: "l4-spot".into(),
                tier: Tier::Accelerator,
                cost_per_node_hour: None,
            },
        ],
        stages: vec!["generate".into()],
        events: vec![StoryEvent {
            t_s: 50.0,
            label: "L4 pool dries up".into(),
        }],
        decision_log: vec![DecisionLine {
            t_s: 51.0,
            stage: "generate".into(),
            trigger: "CapacityLost".into(),
            change: "l4-spot 3 -> 2".into(),
            reason: "PoolDry".into(),
            message: "</script><script>alert(1)</script>".into(),
        }],
        series: timeline.series(),
        ..Report::default()
    }
}

#[test]
fn the_timeline_aligns_pools_that_come_and_go_and_adds_up_the_cost() {
    let series = report().series;
    let l4 = series.replicas.iter().find(|r| r.pool == "l4-spot").unwrap();
    assert_eq!(
        (l4.ready.as_slice(), l4.wanted.as_slice()),
        (&[0, 0, 3, 4][..], &[0, 0, 4, 5][..])
    );
    // From time 0: 100 s at 7.2 $/h, 100 s at 3.6 $/h; nothing before.
    assert!((series.cost_usd().unwrap() - 0.3).abs() < 1e-12);
    assert_eq!(series.cost_usd_all_accelerators(), None, "never known is not zero");
}

#[test]
fn the_json_has_the_promised_keys_and_reads_back() {
    let report = report();
    let json = serde_json::to_value(&report).unwrap();
    for key in [
        "requests",
        "late_percent",
        "cost_usd",
        "cost_usd_all_accelerators",
        "shifts",
        "decisions",
        "reaction_ms",
        "gap_percent",
        "plan_ms",
        "solve_ms",
        "floor_violations",
        "ceiling_violations",
        "startup_s",
    ] {
        assert!(json.get(key).is_some(), "{key}");
    }
    assert!(json.get("baselines").is_none(), "there are none");
    assert_eq!(json["reaction_ms"], serde_json::json!({"p50": 4.7, "p99": null}));
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
}

#[test]
fn the_page_needs_nothing_from_outside_and_shows_names_as_text() {
    let html = report().html();
    for outside in ["http://", "https://", "src=", "@import", "url(", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(html.contains("A &lt;run&gt; &amp; more") && !html.contains("A <run>"));
    assert!(!html.contains("<script>alert"));
    assert!(html.contains("<b>75 % less</b>"), "the headline compares");
    assert!(html.contains("p99 \u{2013}"), "what is not known is a dash");
    // Graviton stays below L4 in the stack, in its own colour.
    let (cool, warm) = (
        html.find("class=\"area cool0\"").unwrap(),
        html.find("class=\"area warm0\"").unwrap(),
    );
    assert!(warm < cool, "the upper area is painted first");
    let dries_up = html.matches("L4 pool dries up").count();
    assert!(dries_up >= 4, "in the story and in every plot: {dries_up}");
}

#[test]
fn a_stack_ends_at_the_sum_and_missing_values_leave_a_gap_in_a_line() {
    use super::plot::{Curve, Plot, Scale, Shape};
    let curve = |values: Vec<Option<f64>>, shape| Curve {
        label: "c".into(),
        class: "k".into(),
        values,
        shape,
        dashed: false,
        filled: false,
    };
    let plot = |stacked, curves| Plot {
        title: String::new(),
        unit: String::new(),
        width: 160.0,
        height: 146.0,
        scale: Scale::Linear,
        stacked,
        whole: stacked,
        times: &[0.0, 1.0, 2.0],
        span: (0.0, 2.0),
        curves,
        marks: &[],
        worded: false,
    };
    // 100 units wide from 46, 100 high down to 122; the axis ends at 4 (ticks of 1).
    let two = |a: f64| vec![Some(a), Some(a), Some(a)];
    let svg = plot(true, vec![curve(two(1.0), Shape::Step), curve(two(3.0), Shape::Step)]).svg();
    assert!(
        svg.contains("d=\"M46.0 97.0H96.0H146.0\"") && svg.contains("d=\"M46.0 22.0H96.0H146.0\""),
        "{svg}"
    );
    let sly = Curve {
        label: "</script>".into(),
        ..curve(two(1.0), Shape::Line)
    };
    assert_eq!(
        plot(false, vec![sly]).svg().matches("</script>").count(),
        1,
        "a name does not end the data"
    );
    let gap = plot(false, vec![curve(vec![Some(4.0), None, Some(2.0)], Shape::Line)]).svg();
    assert!(
        gap.contains("d=\"M46.0 22.0\"") && gap.contains("d=\"M146.0 72.0\""),
        "{gap}"
    );
}

#[test]
fn axes_and_numbers_are_round() {
    assert_eq!(ticks(7.0), [0.0, 2.0, 4.0, 6.0, 8.0]);
    assert_eq!(ticks(100.0), [0.0, 50.0, 100.0]);
    assert_eq!(ticks(0.0), [0.0, 1.0]);
    assert_eq!(number(1_234_567.0), "1,234,567");
    assert_eq!(
        (number(0.5).as_str(), number(12.34).as_str(), number(100.04).as_str()),
        ("0.5", "12.3", "100")
    );
    assert_eq!((clock(75.2).as_str(), clock(-3.0).as_str()), ("1:15", "\u{2212}0:03"));
}

#[test]
fn a_report_is_written_as_two_files_and_an_unusable_folder_is_named() {
    let folder = std::env::temp_dir().join(format!("tiercel-report-{}", std::process::id()));
    let files = report().write(&folder).unwrap();
    assert!(
        std::fs::read_to_string(&files.html)
            .unwrap()
            .starts_with("<!doctype html>")
    );
    let error = report().write(&files.html).unwrap_err().to_string();
    assert!(error.contains("report.html"), "{error}");
    std::fs::remove_dir_all(folder).unwrap();
}
