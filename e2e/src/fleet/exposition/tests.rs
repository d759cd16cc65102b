//! Pages against what the operator takes from them, and pages that are wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use tiercel::signals::exposition::{Exposition as Parsed, Limits};
use tiercel::signals::presets::Preset;
use tiercel::signals::{Finite, PodSignals, Why};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::fleet::tests::{metrics, playing, pod};
use crate::fleet::{Behaviour, Fault, Target};

/// One engine with three requests at work, two that wait, a half-full cache, and forty answered in half a second each.
fn signals(exposition: Exposition, preset: &str, metrics: Option<Metrics>) -> PodSignals {
    let mut engine = EngineStats::new(exposition);
    (engine.running, engine.waiting, engine.cache_usage, engine.succeeded) = (3, 2, 0.5, 40);
    for _ in 0..40 {
        engine.latency.observe(0.5);
    }
    let page = render(&Page {
        exposition,
        model: "default",
        engines: &[engine],
        started_unix_s: 1.0,
        capacity: Behaviour::vllm(10.0, 8).capacity,
        scrapes: 700,
        condition: Condition {
            metrics,
            ..Condition::HEALTHY
        },
    });
    let parsed = Parsed::parse(page.as_bytes(), &Limits::SCRAPE).unwrap();
    assert!(parsed.errors().is_empty(), "{:?} in\n{page}", parsed.errors());
    Preset::named(preset).unwrap().read(&parsed, 0)
}

/// Running, waiting, cache in use, finished, mean seconds; nothing where the page does not say.
fn told(signals: &PodSignals) -> [Option<f64>; 5] {
    let number = |number: Result<Finite, Why>| match number {
        Ok(number) => Some(number.get()),
        Err(Why::NoSeries) => None,
        Err(why) => panic!("{why:?}"),
    };
    let seconds = signals.served.ok().map(|it| it.seconds.get() / it.requests.get());
    [
        number(signals.running),
        number(signals.waiting),
        number(signals.cache_use),
        number(signals.finished),
        seconds,
    ]
}

#[test]
fn every_page_says_to_its_preset_what_its_server_is_documented_to_say() {
    let model = [Some(3.0), Some(2.0), Some(0.5), Some(40.0), Some(0.5)];
    let web = [Some(5.0), None, None, Some(40.0), Some(0.5)];
    let expected = [
        (Exposition::Vllm { engines: 1 }, "vllm", model),
        (Exposition::Sglang { ranks: 2 }, "sglang", model),
        (Exposition::Trtllm, "trtllm", model),
        (Exposition::TritonTrtllm, "triton", model),
        (
            Exposition::Triton,
            "triton",
            [None, Some(2.0), None, Some(40.0), Some(0.5)],
        ),
        (
            Exposition::Tgi,
            "tgi",
            [Some(3.0), Some(2.0), None, Some(40.0), Some(0.5)],
        ),
        (
            Exposition::RayServe,
            "rayserve",
            [Some(3.0), Some(2.0), None, Some(40.0), Some(0.5)],
        ),
        (
            Exposition::Llamacpp,
            "llamacpp",
            [Some(3.0), Some(2.0), None, None, None],
        ),
        (Exposition::Http, "http", web),
        (Exposition::HttpOpenTelemetry, "http", web),
        (Exposition::HttpMicrometer, "http", web),
    ];
    for (exposition, preset, expected) in expected {
        assert_eq!(told(&signals(exposition, preset, None)), expected, "{exposition:?}");
    }
}

#[test]
fn in_the_wrong_unit_a_share_is_out_of_range_and_times_are_a_thousand_times_as_long() {
    let vllm = signals(Exposition::Vllm { engines: 1 }, "vllm", Some(Metrics::WrongUnit));
    assert_eq!(vllm.cache_use, Err(Why::OutOfRange));
    let served = vllm.served.unwrap();
    assert!((served.seconds.get() / served.requests.get() - 500.0).abs() < 1e-9);
    let triton = signals(Exposition::TritonTrtllm, "triton", Some(Metrics::WrongUnit));
    assert_eq!(triton.utilization, Err(Why::OutOfRange));
    assert_eq!(triton.running, Finite::try_from(3.0), "counts have no unit");
}

#[tokio::test]
async fn a_replay_shows_the_last_true_pages_in_their_order_again_and_again() {
    let spec = pod("r", "guard", "arm");
    // This page counts its scrapes: no two of them are alike.
    let fleet = playing(Behaviour::http(4.0, 1).showing(Exposition::HttpOpenTelemetry), &spec).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(metrics(spec.address).await);
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 6);
    fleet.inject(Target::All, Fault::Metrics(Metrics::Replayed));
    let mut again = Vec::new();
    for _ in 0..8 {
        again.push(metrics(spec.address).await);
    }
    let cycle: Vec<String> = seen[2..].iter().cycle().take(8).cloned().collect();
    assert_eq!(again, cycle);
    fleet.heal(&Target::All);
    assert!(!seen.contains(&metrics(spec.address).await));
}

#[tokio::test]
async fn a_huge_page_is_made_while_it_is_sent() {
    let spec = pod("h", "guard", "arm");
    let fleet = playing(Behaviour::http(4.0, 1), &spec).await;
    fleet.inject(Target::All, Fault::Metrics(Metrics::Huge));
    let read = async {
        let mut stream = TcpStream::connect(spec.address).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut start = vec![0; 8 << 20];
        stream.read_exact(&mut start).await.unwrap();
        String::from_utf8(start).unwrap()
    };
    let start = tokio::time::timeout(Duration::from_secs(20), read).await.unwrap();
    assert!(start.matches("http_requests_in_flight").count() > 1_000);
}
