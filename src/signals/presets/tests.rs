use proptest::prelude::*;

use super::*;
use crate::signals::exposition::{self, Exposition, Limits};
use crate::signals::{Finite, PodSignals, Why};

fn preset(name: &str) -> &'static Preset {
    load().unwrap_or_else(|error| panic!("{error}"));
    Preset::named(name).unwrap_or_else(|| panic!("no preset {name}"))
}

fn read(name: &str, body: &str) -> PodSignals {
    let parsed = Exposition::parse(body.as_bytes(), &Limits::SCRAPE).unwrap_or_else(|error| panic!("{error}"));
    preset(name).read(&parsed, exposition::fingerprint(body.as_bytes()))
}

/// Seconds that requests took together, and how many they were.
fn served(signals: &PodSignals) -> Result<(f64, f64), Why> {
    signals
        .served
        .map(|served| (served.seconds.get(), served.requests.get()))
}

/// Waiting, running, cache use, utilization, finished.
fn numbers(signals: &PodSignals) -> [Result<f64, Why>; 5] {
    let PodSignals {
        running,
        waiting,
        cache_use,
        utilization,
        finished,
        ..
    } = signals;
    [waiting, running, cache_use, utilization, finished].map(|signal| signal.map(Finite::get))
}

const ABSENT: Result<f64, Why> = Err(Why::NoSeries);

/// Preset, body, what [`numbers`] and [`served`] give.
type Golden = (
    &'static str,
    &'static str,
    [Result<f64, Why>; 5],
    Result<(f64, f64), Why>,
);

fn golden() -> [Golden; 13] {
    [
        (
            "vllm",
            include_str!("../testdata/vllm.prom"),
            [Ok(7.0), Ok(40.0), Ok(0.7312), ABSENT, Ok(10_600.0)],
            Ok((41_233.7, 5_330.0)),
        ),
        (
            "vllm",
            include_str!("../testdata/vllm-0.8.prom"),
            [Ok(3.0), Ok(21.0), Ok(0.7312), ABSENT, Ok(5_330.0)],
            Ok((41_233.7, 5_330.0)),
        ),
        (
            "llamacpp",
            include_str!("../testdata/llamacpp.prom"),
            [Ok(2.0), Ok(4.0), ABSENT, ABSENT, ABSENT],
            Err(Why::NoSeries),
        ),
        (
            "sglang",
            include_str!("../testdata/sglang.prom"),
            [Ok(5.0), Ok(17.0), Ok(0.42), ABSENT, Ok(11_228.0)],
            Ok((3_116_800.0, 11_228.0)),
        ),
        (
            "sglang",
            include_str!("../testdata/sglang-dp.prom"),
            [Ok(3.0), Ok(13.0), Ok(0.61), ABSENT, ABSENT],
            Err(Why::NoSeries),
        ),
        (
            "trtllm",
            include_str!("../testdata/trtllm.prom"),
            [Ok(1.0), Ok(12.0), Ok(0.25), ABSENT, Ok(900.0)],
            Ok((1_125.0, 900.0)),
        ),
        (
            "triton",
            include_str!("../testdata/triton-trtllm.prom"),
            [Ok(6.0), Ok(30.0), Ok(0.375), Ok(0.83), Ok(901.0)],
            Err(Why::NoSeries),
        ),
        (
            "triton",
            include_str!("../testdata/triton.prom"),
            [Ok(11.0), ABSENT, ABSENT, ABSENT, Ok(71_625.0)],
            Ok((143.25, 71_625.0)),
        ),
        (
            "tgi",
            include_str!("../testdata/tgi.prom"),
            [Ok(8.0), Ok(15.0), ABSENT, ABSENT, Ok(100.0)],
            Ok((211.5, 100.0)),
        ),
        (
            "rayserve",
            include_str!("../testdata/rayserve.prom"),
            [Ok(5.0), Ok(7.0), ABSENT, ABSENT, Ok(200.0)],
            Ok((50.5, 200.0)),
        ),
        (
            "http",
            include_str!("../testdata/http-opentelemetry.prom"),
            [ABSENT, Ok(7.0), ABSENT, ABSENT, Ok(412.0)],
            Ok((19.0, 412.0)),
        ),
        (
            "http",
            include_str!("../testdata/http-micrometer.prom"),
            [ABSENT, Ok(5.0), ABSENT, ABSENT, Ok(910.0)],
            Ok((45.5, 910.0)),
        ),
        (
            "http",
            include_str!("../testdata/http-client.prom"),
            [ABSENT, Ok(4.0), ABSENT, ABSENT, Ok(1_820.0)],
            Ok((91.0, 1_820.0)),
        ),
    ]
}

#[test]
fn each_servers_own_metrics_give_its_signals() {
    for (name, body, expected, time) in golden() {
        let parsed = Exposition::parse(body.as_bytes(), &Limits::SCRAPE).unwrap();
        assert_eq!(parsed.errors(), [], "{name}");
        let signals = read(name, body);
        assert_eq!(numbers(&signals), expected, "{name}");
        assert_eq!(served(&signals), time, "{name}");
        // What people are told is what is done.
        for account in preset(name).account(&parsed) {
            let [waiting, running, cache_use, utilization, finished] = expected;
            let told = account.outcome.map(Finite::get);
            match account.role {
                Role::Queued => assert_eq!(told, waiting),
                Role::Running => assert_eq!(told, running),
                Role::CacheUse => assert_eq!(told, cache_use),
                Role::Utilization => assert_eq!(told, utilization),
                Role::Throughput => assert_eq!(told, finished),
                Role::Latency => assert_eq!(told, time.map(|(seconds, _)| seconds)),
            }
            assert_eq!(account.used.is_some(), told.is_ok(), "{name} {:?}", account.role);
        }
    }
}

#[test]
fn scrapes_and_probes_are_no_requests() {
    let only_probes = "http_requests_total{handler=\"/metrics\"} 3600\nhttp_requests_total{handler=\"/healthz\"} 60\n";
    assert_eq!(read("http", only_probes).finished, Err(Why::NoSeries));
    let with_work = format!("{only_probes}http_requests_total{{handler=\"/embed\"}} 5\n");
    assert_eq!(read("http", &with_work).finished.map(Finite::get), Ok(5.0));
}

#[test]
fn the_series_that_was_used_is_on_record_with_what_spoils_it() {
    let body = "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine=\"0\"} 2\n\
                vllm:num_requests_running{engine=\"1\"} NaN\nvllm:gpu_cache_usage_perc 87.5\n";
    let parsed = Exposition::parse(body.as_bytes(), &Limits::SCRAPE).unwrap();
    let accounts = preset("vllm").account(&parsed);
    let of = |role| accounts.iter().find(|account| account.role == role).unwrap();
    assert_eq!((of(Role::Queued).required, &of(Role::Queued).used), (true, &None));
    assert_eq!(of(Role::Queued).wanted, ["vllm:num_requests_waiting"]);

    let running = of(Role::Running);
    assert_eq!(running.outcome, Err(Why::NotFinite));
    let series: Vec<_> = running.used.as_ref().unwrap().series.iter().collect();
    let told: Vec<_> = series
        .iter()
        .map(|series| (series.text.as_str(), series.line, series.raw, series.problem))
        .collect();
    assert_eq!(
        told,
        [
            ("vllm:num_requests_running{engine=\"0\"}", 2, Some(2.0), None),
            ("vllm:num_requests_running{engine=\"1\"}", 3, None, Some(Why::NotFinite)),
        ]
    );

    let cache = of(Role::CacheUse);
    assert_eq!(cache.wanted, ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"]);
    let used = cache.used.as_ref().unwrap();
    assert_eq!(
        (used.metric.as_str(), used.series[0].problem),
        ("vllm:gpu_cache_usage_perc", Some(Why::OutOfRange))
    );
}

#[test]
fn every_required_role_of_every_scraped_preset_has_a_golden_body() {
    // A preset added without a row above would go unread.
    let names: Vec<_> = load().unwrap().iter().map(Preset::name).collect();
    assert_eq!(
        names,
        [
            "cpu", "http", "llamacpp", "rayserve", "sglang", "tgi", "triton", "trtllm", "vllm"
        ]
    );
}

#[test]
fn an_older_triton_gives_cache_use_as_used_over_max() {
    let body = include_str!("../testdata/triton-trtllm.prom");
    let older: Vec<_> = body.lines().filter(|line| !line.contains("fraction")).collect();
    assert_eq!(read("triton", &older.join("\n")).cache_use.map(Finite::get), Ok(0.375));
    let without_max: Vec<_> = older.into_iter().filter(|line| !line.contains("\"max\"")).collect();
    assert_eq!(read("triton", &without_max.join("\n")).cache_use, Err(Why::NoSeries));
    let zero = body
        .replace("\"max\",model=\"tensorrt_llm\",version=\"1\"} 1600", "\"max\"} 0")
        .replace("fraction", "part");
    assert_eq!(read("triton", &zero).cache_use, Err(Why::OutOfRange));
}

#[test]
fn what_cannot_be_trusted_is_absent_with_its_reason_and_never_zero() {
    let running = |lines: &str| read("vllm", &format!("vllm:num_requests_waiting 1\n{lines}\n")).running;
    for (lines, expected) in [
        ("", Err(Why::NoSeries)),
        ("# TYPE vllm:num_requests_running gauge", Err(Why::NoSeries)),
        ("vllm:num_requests_running 0", Ok(0.0)),
        ("vllm:num_requests_running -0", Ok(0.0)),
        ("vllm:num_requests_running NaN", Err(Why::NotFinite)),
        ("vllm:num_requests_running +Inf", Err(Why::NotFinite)),
        ("vllm:num_requests_running -Inf", Err(Why::NotFinite)),
        ("vllm:num_requests_running 1e999", Err(Why::NotFinite)),
        ("vllm:num_requests_running -1", Err(Why::OutOfRange)),
        ("vllm:num_requests_running 1e10", Err(Why::OutOfRange)),
        (
            "vllm:num_requests_running{engine=\"0\"} 2\nvllm:num_requests_running{engine=\"1\"} NaN",
            Err(Why::NotFinite),
        ),
        (
            "vllm:num_requests_running{engine=\"0\"} 2\nvllm:num_requests_running{engine=\"1\"} -1",
            Err(Why::OutOfRange),
        ),
        (
            "vllm:num_requests_running{engine=\"0\"} 2\nvllm:num_requests_running{engine=\"0\"} 2",
            Err(Why::Ambiguous),
        ),
        (
            "vllm:num_requests_running{a=\"0\",b=\"1\"} 2\nvllm:num_requests_running{b=\"1\",a=\"0\"} 2",
            Err(Why::Ambiguous),
        ),
        (
            "vllm:num_requests_running{engine=\"0\"} 2\nvllm:num_requests_running{engine=\"1\"} many",
            Err(Why::Malformed),
        ),
        (
            "vllm:num_requests_running{engine=\"0\"} 2\nvllm:num_requests_runn",
            Err(Why::Malformed),
        ),
        (
            "vllm:num_requests_running{engine=\"0\"} 2\nvllm:num_requests_running{engine=\"1",
            Err(Why::Malformed),
        ),
        (
            "vllm:num_requests_running{engine=\"0\"} 2\nvllm:num_requests_swapped many",
            Ok(2.0),
        ),
    ] {
        assert_eq!(running(lines).map(Finite::get), expected, "{lines}");
    }
}

#[test]
fn a_ratio_in_the_wrong_unit_is_refused_and_a_rounding_excess_is_clamped() {
    for (raw, expected) in [
        ("0.5", Ok(0.5)),
        ("1.19", Ok(1.0)),
        ("1.21", Err(Why::OutOfRange)),
        ("73.1", Err(Why::OutOfRange)),
    ] {
        let signals = read("vllm", &format!("vllm:kv_cache_usage_perc {raw}\n"));
        assert_eq!(signals.cache_use.map(Finite::get), expected, "{raw}");
    }
}

#[test]
fn every_unit_has_its_converter_and_range() {
    for (kind, raw, expected) in [
        (Kind::Count, 3.0, Ok(3.0)),
        (Kind::Count, 1.1e9, Err(Why::OutOfRange)),
        (Kind::Ratio, 1.0, Ok(1.0)),
        (Kind::Ratio, 1.3, Err(Why::OutOfRange)),
        (Kind::Percent, 50.0, Ok(0.5)),
        (Kind::Percent, 110.0, Ok(1.0)),
        (Kind::Percent, 130.0, Err(Why::OutOfRange)),
        (Kind::OfRequest, 4.0, Ok(4.0)),
        (Kind::OfRequest, 101.0, Err(Why::OutOfRange)),
        (Kind::Seconds, 2.5, Ok(2.5)),
        (Kind::Milli, 2_500.0, Ok(2.5)),
        (Kind::Micros, 2_500_000.0, Ok(2.5)),
        (Kind::Seconds, 1e16, Err(Why::OutOfRange)),
    ] {
        assert_eq!(kind.converted(raw), expected, "{kind:?} {raw}");
        assert_eq!(kind.converted(-raw), Err(Why::OutOfRange), "{kind:?} -{raw}");
    }
}

#[test]
fn the_oldest_source_time_among_the_numbers_used_counts() {
    let signals = read(
        "vllm",
        "vllm:num_requests_running 1 2000\nvllm:num_requests_waiting 1 1000\nother 1 5\n",
    );
    assert_eq!(signals.source_ms, Some(1_000));
    assert_eq!(read("vllm", "vllm:num_requests_running 1\n").source_ms, None);
}

#[test]
fn presets_say_what_they_need() {
    let required = |name| preset(name).required().collect::<Vec<_>>();
    assert_eq!(required("vllm"), [Role::Queued, Role::Running]);
    assert_eq!(required("cpu"), [Role::Utilization]);
    assert_eq!(required("http"), [Role::Throughput]);
    assert!(preset("llamacpp").sees_waiting() && !preset("cpu").sees_waiting() && !preset("http").sees_waiting());
    assert_eq!(
        (
            preset("vllm").answer_freshness_ms(),
            preset("cpu").answer_freshness_ms()
        ),
        (5_000, 45_000)
    );
    assert_eq!(preset("cpu").source(), &Source::ResourceMetrics);
    assert_eq!(
        preset("trtllm").source(),
        &Source::Scrape {
            port: 8000,
            path: "/prometheus/metrics".to_owned()
        }
    );
    assert_eq!(
        (preset("vllm").frozen_after(), preset("llamacpp").frozen_after()),
        (3, 8)
    );
    assert_eq!(Preset::named("VLLM"), None);
}

#[test]
fn a_broken_preset_is_refused_with_the_field_at_fault() {
    let good = include_str!("vllm.yaml");
    Preset::parse("x.yaml", good).unwrap();
    for (from, to, field) in [
        ("name: vllm", "name: v LLM", "name"),
        ("name: vllm", "name: ''", "name"),
        ("signals:", "frozenAfter: 2\nsignals:", "frozenAfter"),
        ("signals:", "frozenAfter: 61\nsignals:", "frozenAfter"),
        ("port: 8000", "port: 0", "source.scrape.port"),
        ("path: /metrics", "path: metrics", "source.scrape.path"),
        ("path: /metrics", "path: '/metrics?x=1'", "source.scrape.path"),
        ("path: /metrics", "path: '/a b'", "source.scrape.path"),
        (
            "metric: \"vllm:num_requests_waiting\"",
            "metric: \"\"",
            "signals[0].metric",
        ),
        (
            "fallback: [\"vllm:gpu_cache_usage_perc\"]",
            "fallback: [\"\"]",
            "signals[2].fallback",
        ),
        (
            "type: gauge, kind: count",
            "type: gauge, kind: ratio",
            "signals[0].kind",
        ),
        (
            "type: gauge, kind: ratio",
            "type: gauge, kind: ofRequest",
            "signals[2].kind",
        ),
        (
            "type: gauge, kind: count",
            "type: counter, kind: count",
            "signals[0].type",
        ),
        ("type: counter", "type: gauge", "signals[3].type"),
        ("type: histogram", "type: counter", "signals[4].over"),
        ("type: histogram", "type: gauge", "signals[4].type"),
        ("kind: seconds", "kind: ratio", "signals[4].kind"),
        (
            "type: gauge, kind: ratio",
            "type: gauge, kind: seconds",
            "signals[2].kind",
        ),
        ("withinPod: max", "withinPod: max, per: engine", "signals[2].per"),
        ("withinPod: sum", "withinPod: sum, per: ''", "signals[0].per"),
        ("name: vllm", "name: -vllm", "name"),
        ("name: vllm", "name: abcdefghijklmnopqrstuvwxyzabcde", "name"),
        ("signals:", "exclude: {labels: [path], values: []}\nsignals:", "exclude"),
        ("withinPod: max", "withinPod: avg", "signals[2].withinPod"),
        ("acrossPods: max", "acrossPods: sum", "signals[2].acrossPods"),
        ("acrossPods: sum", "acrossPods: max", "signals[0].acrossPods"),
        ("freshness: 5s", "freshness: 5", "signals[0].freshness"),
        ("freshness: 5s", "freshness: 999ms", "signals[0].freshness"),
        ("freshness: 5s", "freshness: 11m", "signals[0].freshness"),
        ("role: running", "role: queued, over: {metric: x}", "signals[1].over"),
        (
            "role: running, metric: \"vllm:num_requests_running\", type: gauge, kind: count, withinPod: sum, acrossPods: sum, freshness: 5s",
            "role: queued, metric: x, type: gauge, kind: count, withinPod: sum, acrossPods: sum, freshness: 6s",
            "signals[1].freshness",
        ),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        match Preset::parse("x.yaml", &text) {
            Err(Error::Field { field: at, line, .. }) => {
                assert_eq!(at, field, "{to}");
                // The line that was changed, or for a signal of several lines one of the two that it takes.
                let changed = 1 + text.lines().zip(good.lines()).take_while(|(a, b)| a == b).count() as u64;
                assert!(
                    (changed.saturating_sub(1)..=changed).contains(&line),
                    "{to}: line {line}, changed {changed}"
                );
            }
            other => panic!("{to}: {other:?}"),
        }
    }
    for (from, to) in [
        ("name: vllm", "nome: vllm"),
        ("role: queued", "role: queue"),
        ("port: 8000", "port: 80000"),
        ("signals:", "extra: 1\nsignals:"),
        ("withinPod: sum", "withinPods: sum"),
        ("source:", "source: ["),
    ] {
        let refused = Preset::parse("x.yaml", &good.replacen(from, to, 1));
        assert!(matches!(refused, Err(Error::Syntax { .. })), "{to}: {refused:?}");
    }
    let cpu = include_str!("cpu.yaml");
    for (from, to, field) in [
        ("metric: cpu", "metric: memory", "signals[0].metric"),
        ("kind: ofRequest", "kind: ratio", "signals[0].kind"),
        ("freshness: 45s", "freshness: 45s, optional: true", "signals"),
    ] {
        let refused = Preset::parse("x.yaml", &cpu.replacen(from, to, 1));
        assert!(
            matches!(&refused, Err(Error::Field { field: at, .. }) if at == field),
            "{to}: {refused:?}"
        );
    }
}

/// A folder of its own for a test, gone with the value.
struct Folder(std::path::PathBuf);

impl Folder {
    fn with(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = Self(std::env::temp_dir().join(format!("tiercel-presets-{}-{name}", std::process::id())));
        std::fs::create_dir_all(&folder.0).unwrap();
        for (file, text) in files {
            std::fs::write(folder.0.join(file), text).unwrap();
        }
        folder
    }

    fn merged(&self) -> Result<Vec<Preset>, String> {
        let files = folder::files(&self.0).map_err(|error| error.to_string())?;
        folder::merged(load().unwrap(), &files).map_err(|error| error.to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_administrators_presets_join_those_that_ship() {
    let own = include_str!("vllm.yaml").replace("name: vllm", "name: own-server");
    let replacing = include_str!("tgi.yaml")
        .replace("name: tgi", "name: tgi\nreplaces: true")
        .replace("port: 80,", "port: 9090,");
    let folder = Folder::with(
        "join",
        &[("own.yaml", &own), ("tgi.yml", &replacing), ("..data", "not a preset")],
    );
    let all = folder.merged().unwrap();
    assert_eq!(all.len(), FILES.len() + 1);
    let of = |name: &str| all.iter().find(|preset| preset.name == name).unwrap();
    assert_eq!(of("own-server").signals, of("vllm").signals);
    assert!(matches!(of("tgi").source, Source::Scrape { port: 9090, .. }));
    let unchanged = load().unwrap().iter().find(|preset| preset.name == "tgi").unwrap();
    assert!(matches!(unchanged.source, Source::Scrape { port: 80, .. }));
}

#[test]
fn an_administrators_broken_preset_is_refused_with_file_line_and_field() {
    let own = include_str!("vllm.yaml").replace("name: vllm", "# ours\nname: own");
    let cpu = include_str!("cpu.yaml").replace("name: cpu", "name: cpu\nreplaces: true");
    for (at, files, says) in [
        (
            "shipped",
            vec![("a.yaml", include_str!("vllm.yaml").to_owned())],
            "preset file a.yaml, line 1: name: ships with tiercel",
        ),
        (
            "cpu",
            vec![("a.yaml", cpu)],
            "preset file a.yaml, line 2: replaces: the preset of metrics.k8s.io",
        ),
        (
            "misspelt",
            vec![("a.yaml", own.clone() + "replaces: true\n")],
            ": replaces: no preset of this name ships",
        ),
        (
            "twice",
            vec![("a.yaml", own.clone()), ("b.yaml", own.clone())],
            "preset file b.yaml, line 2: name: another file",
        ),
        (
            "range",
            vec![("a.yaml", own.replacen("freshness: 5s", "freshness: 5h", 1))],
            "line 7: signals[0].freshness: use 1s to 10m",
        ),
        (
            "unknown",
            vec![("a.yaml", own.replacen("withinPod", "withinpod", 1))],
            "preset file a.yaml: ",
        ),
        ("syntax", vec![("a.yaml", "name: [".to_owned())], "line 1"),
        (
            "type",
            vec![("README.md", "hello".to_owned())],
            "README.md: not a preset: name its file `*.yaml`",
        ),
        (
            "size",
            vec![("a.yaml", "#".repeat(70_000))],
            "a.yaml: larger than 65536 bytes",
        ),
    ] {
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let refused = Folder::with(at, &files).merged().map(|all| all.len());
        assert!(
            refused.as_ref().is_err_and(|error| error.contains(says)),
            "{at}: {refused:?}"
        );
    }
    let nowhere = folder::files(std::path::Path::new("/nowhere/at-all"))
        .unwrap_err()
        .to_string();
    assert!(nowhere.starts_with("presets /nowhere/at-all: "), "{nowhere}");
}

#[test]
fn names_are_listed_for_messages() {
    assert_eq!(
        names(),
        "'cpu', 'http', 'llamacpp', 'rayserve', 'sglang', 'tgi', 'triton', 'trtllm' or 'vllm'"
    );
}

proptest! {
    #[test]
    fn whatever_a_server_writes_no_number_out_of_range_comes_through(
        values in proptest::collection::vec("-?[0-9]{0,3}\\.?[0-9]{0,3}(e[0-9]{1,3})?|NaN|[+-]?Inf|-nan|x", 1..5),
        name in prop_oneof![Just("vllm:num_requests_running"), Just("vllm:kv_cache_usage_perc"), Just("vllm:request_success_total")],
    ) {
        let lines: Vec<_> = values.iter().enumerate().map(|(i, value)| format!("{name}{{engine=\"{i}\"}} {value}")).collect();
        let signals = read("vllm", &format!("# EOF\n{}", lines.join("\n")));
        let [waiting, running, cache_use, utilization, finished] = numbers(&signals);
        prop_assert!(waiting.is_err() && utilization.is_err());
        prop_assert!(running.is_err() || running.is_ok_and(|n| (0.0..=5e9).contains(&n)), "{:?}", running);
        prop_assert!(cache_use.is_err() || cache_use.is_ok_and(|n| (0.0..=1.0).contains(&n)), "{:?}", cache_use);
        prop_assert!(finished.is_err() || finished.is_ok_and(|n| n >= 0.0), "{:?}", finished);
        let bad = values.iter().any(|value| value.parse::<f64>().map_or(true, |n| !n.is_finite() || n < 0.0));
        prop_assert!(!bad || [running, cache_use, finished].iter().all(Result::is_err), "{:?}", values);
    }
}
