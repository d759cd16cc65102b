// Counts and fractions that are exact in binary; counts far below 2^53.
#![allow(clippy::float_cmp, clippy::cast_precision_loss)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::*;

/// An address that no other test, nor this test in another process, uses.
pub(crate) fn address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let third = high.rotate_left(3) ^ low;
    let ip = Ipv4Addr::new(127, 96 + low % 16, third, NEXT.fetch_add(1, Ordering::Relaxed));
    SocketAddr::new(IpAddr::V4(ip), 18_080)
}

pub(crate) fn pod(uid: &str, stage: &str, pool: &str) -> PodSpec {
    PodSpec {
        uid: uid.into(),
        namespace: "agents".into(),
        name: uid.into(),
        pipeline: "agents/support".into(),
        stage: stage.into(),
        pool: pool.into(),
        address: address(),
        ready: true,
        cpu_millis: 2_000,
    }
}

/// Status and body of one request on a connection of its own.
async fn exchange(address: SocketAddr, head: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let text = format!("{head} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
}

async fn post(address: SocketAddr, input: u32, output: u32) -> std::io::Result<(u16, String)> {
    exchange(
        address,
        "POST /",
        &format!("{{\"input_tokens\":{input},\"output_tokens\":{output}}}"),
    )
    .await
}

pub(crate) async fn metrics(address: SocketAddr) -> String {
    exchange(address, "GET /metrics", "").await.unwrap().1
}

/// The value of the one series whose line begins with `series` and a space.
fn value(text: &str, series: &str) -> f64 {
    let values: Vec<&str> = text
        .lines()
        .filter_map(|l| l.strip_prefix(series)?.strip_prefix(' '))
        .collect();
    assert_eq!(values.len(), 1, "{series} in:\n{text}");
    values[0].parse().unwrap()
}

/// Waits until the replicas that listen run and queue this many requests in all: how long a machine needs to take a
/// connection says nothing about the fleet.
async fn busy(fleet: &Fleet, running: usize, waiting: usize) {
    let seen = async || {
        let loads = fleet.loads();
        let sum = |of: fn(&super::pod::Load) -> usize| loads.iter().map(|(_, load)| of(load)).sum::<usize>();
        crate::wait::wanted(
            (sum(|l| l.running as usize), sum(|l| l.waiting as usize)),
            &(running, waiting),
        )
    };
    crate::wait::eventually(Duration::from_secs(20), "running and waiting requests", seen)
        .await
        .unwrap();
}

pub(crate) async fn playing(behaviour: Behaviour, spec: &PodSpec) -> Fleet {
    let fleet = Fleet::new(Behaviours::new(behaviour), 1.0);
    fleet.upsert(spec.clone()).await.unwrap();
    fleet
}

#[tokio::test]
async fn vllm_shows_running_waiting_and_cache_of_every_engine_while_requests_run() {
    let spec = pod("v", "generate", "l4");
    // 2 engines of 2 slots; the reference request takes 2 s in a full batch.
    let behaviour = Behaviour {
        exposition: Exposition::Vllm { engines: 2 },
        ..Behaviour::vllm(2.0, 4)
    };
    let fleet = playing(behaviour, &spec).await;
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..6 {
        requests.spawn(post(spec.address, 1_155, 211));
    }
    busy(&fleet, 4, 2).await;
    let text = metrics(spec.address).await;
    for engine in 0..2 {
        let labels = format!("{{engine=\"{engine}\",model_name=\"default\"}}");
        assert_eq!(value(&text, &format!("vllm:num_requests_running{labels}")), 2.0);
        assert_eq!(value(&text, &format!("vllm:num_requests_waiting{labels}")), 1.0);
        let cache = value(&text, &format!("vllm:kv_cache_usage_perc{labels}"));
        assert!(
            (cache - 2.0 * 1_366.0 / 4_000.0).abs() < 1e-9,
            "two requests of 1,366 tokens in 4,000: {cache}"
        );
    }
    while let Some(answer) = requests.join_next().await {
        assert_eq!(answer.unwrap().unwrap().0, 200);
    }
    let text = metrics(spec.address).await;
    let labels = "{engine=\"0\",model_name=\"default\"}";
    assert_eq!(value(&text, &format!("vllm:num_requests_running{labels}")), 0.0);
    assert_eq!(
        value(&text, &format!("vllm:prompt_tokens_total{labels}")),
        3.0 * 1_155.0
    );
    assert_eq!(
        value(&text, &format!("vllm:generation_tokens_total{labels}")),
        3.0 * 211.0
    );
    assert_eq!(
        value(&text, &format!("vllm:e2e_request_latency_seconds_count{labels}")),
        3.0
    );
    assert_eq!(
        value(
            &text,
            "vllm:e2e_request_latency_seconds_bucket{engine=\"0\",model_name=\"default\",le=\"+Inf\"}"
        ),
        3.0
    );
    drop(fleet);
}

#[tokio::test]
async fn llamacpp_and_plain_http_show_their_own_series() {
    let (llama, web) = (pod("l", "generate", "arm"), pod("w", "guard", "arm"));
    let table = Behaviours::default().stage("generate", Behaviour::llamacpp(1.0, 1));
    let fleet = Fleet::new(table, 10.0);
    fleet.upsert(llama.clone()).await.unwrap();
    fleet.upsert(web.clone()).await.unwrap();
    let both = tokio::join!(post(llama.address, 1_155, 211), post(web.address, 0, 0));
    assert_eq!((both.0.unwrap().0, both.1.unwrap().0), (200, 200));
    let text = metrics(llama.address).await;
    assert_eq!(value(&text, "llamacpp:requests_processing"), 0.0);
    assert_eq!(value(&text, "llamacpp:requests_deferred"), 0.0);
    assert_eq!(value(&text, "llamacpp:tokens_predicted_total"), 211.0);
    assert!(
        value(&text, "llamacpp:predicted_tokens_seconds") > 211.0,
        "10 times as fast as declared"
    );
    let text = metrics(web.address).await;
    assert_eq!(value(&text, "http_requests_total{code=\"200\",method=\"POST\"}"), 1.0);
    assert_eq!(
        value(&text, "http_request_duration_seconds_count{method=\"POST\"}"),
        1.0
    );
    let (status, props) = exchange(llama.address, "GET /props", "").await.unwrap();
    assert_eq!((status, props.as_str()), (200, "{\"total_slots\":1}"));
}

#[tokio::test]
async fn a_request_takes_the_time_of_its_tokens_divided_by_the_time_scale() {
    let spec = pod("t", "generate", "l4");
    let fleet = Fleet::new(Behaviours::new(Behaviour::vllm(1.0, 1)), 20.0);
    fleet.upsert(spec.clone()).await.unwrap();
    let start = Instant::now();
    let (_, body) = post(spec.address, 4 * 1_155, 4 * 211).await.unwrap();
    let took = start.elapsed().as_secs_f64();
    assert!((0.2..0.6).contains(&took), "4 s of work at 20 times the speed: {took}");
    let answer: Answer = serde_json::from_str(&body).unwrap();
    assert!(
        (answer.service_ms - 200.0).abs() < 1.0 && answer.queue_ms < 1.0,
        "{answer:?}"
    );
}

#[tokio::test]
async fn only_ready_pods_are_listed_and_a_pod_listens_from_the_first_time_it_is_ready() {
    let mut spec = PodSpec {
        ready: false,
        ..pod("r", "guard", "arm")
    };
    let key = (spec.pipeline.clone(), spec.stage.clone());
    let fleet = playing(Behaviour::http(100.0, 1), &spec).await;
    assert!(post(spec.address, 0, 0).await.is_err(), "nothing listens");
    spec.ready = true;
    fleet.upsert(spec.clone()).await.unwrap();
    assert_eq!(fleet.directory().borrow().ready(&key), 1);
    spec.ready = false;
    fleet.upsert(spec.clone()).await.unwrap();
    assert_eq!(fleet.directory().borrow().ready(&key), 0);
    assert_eq!(
        post(spec.address, 0, 0).await.unwrap().0,
        200,
        "it fails its probe, but it listens"
    );
}

#[tokio::test]
async fn a_removed_pod_finishes_its_request_and_its_address_is_free_at_once_but_a_crash_cuts() {
    let spec = pod("d", "guard", "arm");
    let fleet = playing(Behaviour::http(2.0, 1), &spec).await;
    let request = tokio::spawn(post(spec.address, 0, 0));
    busy(&fleet, 1, 0).await;
    fleet.remove("d");
    let successor = PodSpec {
        uid: "e".into(),
        ..spec.clone()
    };
    fleet.upsert(successor).await.unwrap();
    assert_eq!(request.await.unwrap().unwrap().0, 200);
    let cut = tokio::spawn(post(spec.address, 0, 0));
    busy(&fleet, 1, 0).await;
    fleet.crash("e");
    assert!(cut.await.unwrap().is_err(), "the connection is cut");
    assert!(post(spec.address, 0, 0).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn faults_hit_their_target_and_heal() {
    let (sick, well) = (pod("s1", "guard", "arm"), pod("s2", "guard", "x86"));
    let fleet = playing(Behaviour::http(100.0, 1), &sick).await;
    fleet.upsert(well.clone()).await.unwrap();
    let arm = Target::Pool("arm".into());
    let hung = |address| timeout(Duration::from_millis(300), post(address, 0, 0));

    fleet.inject(arm.clone(), Fault::Hang);
    assert!(hung(sick.address).await.is_err(), "it hangs");
    assert!(
        timeout(Duration::from_millis(300), metrics(sick.address))
            .await
            .is_err(),
        "so do its metrics"
    );
    assert_eq!(
        hung(well.address).await.unwrap().unwrap().0,
        200,
        "the other pool works"
    );
    fleet.heal(&arm);
    assert_eq!(hung(sick.address).await.unwrap().unwrap().0, 200);

    fleet.inject(arm.clone(), Fault::Slow(20.0));
    let start = Instant::now();
    post(sick.address, 0, 0).await.unwrap();
    assert!(
        start.elapsed() >= Duration::from_millis(190),
        "10 ms of work, 20 times as slow: {:?}",
        start.elapsed()
    );
    fleet.heal(&arm);

    let total = "http_requests_total{code=\"200\",method=\"POST\"}";
    let honest = value(&metrics(sick.address).await, total);
    fleet.inject(arm.clone(), Fault::Lie(7.0));
    assert_eq!(value(&metrics(sick.address).await, total), 7.0 * honest);
    fleet.heal(&arm);
    fleet.inject(Target::Pod("s1".into()), Fault::Metrics(Metrics::Nan));
    assert!(value(&metrics(sick.address).await, total).is_nan());
    fleet.inject(Target::All, Fault::Metrics(Metrics::Missing));
    assert!(
        !metrics(well.address).await.contains("http_requests_total"),
        "the series are gone, the page is not"
    );
    fleet.heal(&Target::All);
    let stage = Target::Stage("agents/support".into(), "guard".into());
    fleet.inject(stage, Fault::Metrics(Metrics::Unavailable));
    assert_eq!(exchange(well.address, "GET /metrics", "").await.unwrap().0, 503);

    // Pods that come later are hit as well.
    let late = pod("s3", "guard", "x86");
    fleet.upsert(late.clone()).await.unwrap();
    assert_eq!(exchange(late.address, "GET /metrics", "").await.unwrap().0, 503);
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_slot() {
    let spec = pod("c", "guard", "arm");
    let fleet = playing(Behaviour::http(0.1, 1), &spec).await;
    let client = tokio::spawn(post(spec.address, 0, 0));
    busy(&fleet, 1, 0).await;
    client.abort();
    busy(&fleet, 0, 0).await;
}

#[tokio::test]
async fn a_full_queue_and_a_malformed_body_are_refused_with_what_to_do() {
    let spec = pod("f", "guard", "arm");
    let behaviour = Behaviour {
        capacity: Capacity {
            slots: 1,
            requests_per_s: 1.0,
            slowdown: 1.0,
            queue_limit: 0,
        },
        ..Behaviour::http(1.0, 1)
    };
    let fleet = playing(behaviour, &spec).await;
    let first = tokio::spawn(post(spec.address, 0, 0));
    busy(&fleet, 1, 0).await;
    assert_eq!(post(spec.address, 0, 0).await.unwrap().0, 503);
    let (status, body) = exchange(spec.address, "POST /", "{\"input_tokens\":-1}").await.unwrap();
    assert_eq!(status, 400);
    assert!(body.contains("whole numbers"), "{body}");
    assert_eq!(first.await.unwrap().unwrap().0, 200);
}

#[tokio::test]
async fn cpu_use_follows_the_share_of_time_that_work_was_done() {
    let spec = pod("u", "guard", "arm");
    let fleet = playing(Behaviour::http(4.0, 1), &spec).await;
    fleet.cpu_usage();
    // 250 ms of work in about 500 ms; how many it was is measured, as a busy machine adds to them.
    let start = Instant::now();
    post(spec.address, 0, 0).await.unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    let usage = fleet.cpu_usage().remove(0);
    let share = 0.25 / start.elapsed().as_secs_f64();
    let expected = 0.95 * 2_000.0 * share;
    assert!(
        (f64::from(usage.cpu_millis) / expected - 1.0).abs() < 0.2,
        "{share} of 95 % of 2,000m: {usage:?}"
    );
}

#[tokio::test]
async fn an_address_beyond_loopback_is_refused() {
    let fleet = Fleet::new(Behaviours::default(), 1.0);
    let spec = PodSpec {
        address: "192.0.2.1:80".parse().unwrap(),
        ..pod("x", "guard", "arm")
    };
    let error = fleet.upsert(spec).await.unwrap_err();
    assert!(matches!(error, FleetError::NotLoopback { .. }), "{error}");
}

#[test]
fn the_closest_entry_of_the_table_wins() {
    let b = |rate| Behaviour::http(rate, 1);
    let table = Behaviours::new(b(1.0))
        .class("l4-spot", "nvidia-l4")
        .hardware("l4-spot", b(2.0))
        .stage("generate", b(3.0))
        .on("generate", "nvidia-l4", b(4.0))
        .on("generate", "h100", b(5.0));
    let rate = |stage, pool| table.of(&pod("x", stage, pool)).capacity.requests_per_s;
    assert_eq!(rate("generate", "h100"), 5.0);
    assert_eq!(rate("generate", "l4-spot"), 4.0, "by class");
    assert_eq!(rate("generate", "arm"), 3.0);
    assert_eq!(rate("guard", "l4-spot"), 2.0);
    assert_eq!(rate("guard", "arm"), 1.0);
}

#[tokio::test]
async fn counters_of_a_busy_model_server_move_between_completions_and_end_exact() {
    let spec = pod("m", "generate", "l4");
    let fleet = playing(Behaviour::vllm(0.5, 1), &spec).await;
    let request = tokio::spawn(post(spec.address, 1_155, 211));
    let tokens = async || {
        let (_, page) = exchange(spec.address, "GET /metrics", "").await.unwrap();
        let value = |name: &str| {
            let line = page.lines().find(|l| l.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        };
        (value("vllm:prompt_tokens_total"), value("vllm:generation_tokens_total"))
    };
    let mut seen = Vec::new();
    while !request.is_finished() {
        seen.push(tokens().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    request.await.unwrap().unwrap();
    seen.push(tokens().await);
    assert!(seen.is_sorted(), "{seen:?}");
    let under_way: Vec<u64> = seen.iter().map(|t| t.1).filter(|n| (1..211).contains(n)).collect();
    assert!(
        under_way.first() < under_way.last(),
        "it moves while the request runs: {seen:?}"
    );
    assert!(
        seen.iter().all(|t| t.1 == 0 || t.0 == 1_155),
        "the prompt comes first: {seen:?}"
    );
    assert_eq!(seen.last(), Some(&(1_155, 211)));
    assert_eq!(fleet.scrapes().len(), seen.len());
}
