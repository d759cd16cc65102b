use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream as Socket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use super::*;
use crate::signals::Finite;

const BODY: &str = "vllm:num_requests_running 3\nvllm:num_requests_waiting 1\n";

/// No server lives longer, whatever a test does.
const LIFE: Duration = Duration::from_secs(20);

static START: OnceLock<Instant> = OnceLock::new();

#[expect(
    clippy::disallowed_methods,
    reason = "the tests' own clock, as the operator's main would pass one in"
)]
fn clock_ms() -> u64 {
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap()
}

/// A server on loopback that treats every connection as told; ends with the test.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    written: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

/// One connection in the hands of a server's behaviour.
struct Visit {
    socket: Socket,
    written: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Visit {
    /// Reads one request; `None` when the client is gone.
    fn request(&mut self) -> Option<String> {
        let mut text = Vec::new();
        let mut byte = [0];
        while !text.ends_with(b"\r\n\r\n") {
            if self.socket.read(&mut byte).ok()? == 0 {
                return None;
            }
            text.push(byte[0]);
        }
        let text = String::from_utf8(text).unwrap();
        self.requests.lock().unwrap().push(text.clone());
        Some(text)
    }

    /// Writes, and says whether somebody still listens.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let written = self.socket.write_all(bytes).is_ok();
        self.written.fetch_add(bytes.len(), Ordering::SeqCst);
        written
    }

    fn answer(&mut self, status: &str, headers: &str, body: &str) -> bool {
        self.write(
            format!(
                "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
    }
}

fn server(behaviour: impl Fn(Visit) + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server = Server {
        port: listener.local_addr().unwrap().port(),
        connections: Arc::default(),
        written: Arc::default(),
        requests: Arc::default(),
    };
    let (connections, written, requests) = (
        Arc::clone(&server.connections),
        Arc::clone(&server.written),
        Arc::clone(&server.requests),
    );
    let behaviour = Arc::new(behaviour);
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            connections.fetch_add(1, Ordering::SeqCst);
            socket.set_read_timeout(Some(LIFE)).unwrap();
            socket.set_write_timeout(Some(LIFE)).unwrap();
            let visit = Visit {
                socket,
                written: Arc::clone(&written),
                requests: Arc::clone(&requests),
            };
            let behaviour = Arc::clone(&behaviour);
            thread::spawn(move || behaviour(visit));
        }
    });
    server
}

fn answering(status: &'static str, headers: &'static str, body: &'static str) -> Server {
    server(move |mut visit| while visit.request().is_some() && visit.answer(status, headers, body) {})
}

fn config(interval_ms: u64, deadline_ms: u64) -> ScrapeConfig {
    let rules = AddressRules {
        allowed: vec!["127.0.0.0/8".parse().unwrap()],
        ..AddressRules::default()
    };
    ScrapeConfig {
        interval: Duration::from_millis(interval_ms),
        deadline: Duration::from_millis(deadline_ms),
        ..ScrapeConfig::new(rules, clock_ms)
    }
}

fn target(uid: &str, port: u16) -> Target {
    target_in("default", uid, port)
}

fn target_in(namespace: &str, uid: &str, port: u16) -> Target {
    let preset = Preset::named("vllm").unwrap();
    Target::new(
        Arc::from(uid),
        Arc::from(namespace),
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(port),
        None,
        preset,
    )
    .unwrap()
}

async fn next(answers: &mut mpsc::Receiver<Scraped>) -> Scraped {
    tokio::time::timeout(LIFE, answers.recv())
        .await
        .expect("an answer in time")
        .expect("the scraper runs")
}

/// The outcomes of the first scrapes of one server.
async fn outcomes(config: ScrapeConfig, port: u16, many: usize) -> Vec<Result<PodSignals, Why>> {
    let (mut scraper, mut answers) = Scraper::new(config);
    scraper.set_targets(vec![target("pod", port)]);
    let mut outcomes = Vec::new();
    for _ in 0..many {
        outcomes.push(next(&mut answers).await.outcome);
    }
    outcomes
}

async fn first(config: ScrapeConfig, port: u16) -> Result<PodSignals, Why> {
    outcomes(config, port, 1).await.remove(0)
}

fn running(outcome: &Result<PodSignals, Why>) -> Result<f64, Why> {
    outcome
        .as_ref()
        .map_err(|why| *why)
        .and_then(|signals| signals.running.map(Finite::get))
}

#[tokio::test]
async fn a_pod_is_read_again_and_again_over_one_connection() {
    let server = answering("200 OK", "", BODY);
    let outcomes = outcomes(config(20, 5_000), server.port, 5).await;
    assert!(
        outcomes.iter().all(|outcome| running(outcome) == Ok(3.0)),
        "{outcomes:?}"
    );
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_request_carries_what_it_needs_and_no_credential() {
    let server = answering("200 OK", "set-cookie: a=b\r\n", BODY);
    outcomes(config(20, 5_000), server.port, 2).await;
    let requests = server.requests.lock().unwrap();
    let mut lines = requests[1].trim_end().split("\r\n");
    assert_eq!(lines.next(), Some("GET /metrics HTTP/1.1"));
    let mut names: Vec<_> = lines
        .map(|line| line.split_once(':').unwrap().0.to_ascii_lowercase())
        .collect();
    names.sort();
    assert_eq!(names, ["accept", "accept-encoding", "host", "user-agent"]);
    assert!(requests[0].contains(&format!("127.0.0.1:{}", server.port)));
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced_within_the_same_scrape() {
    let server = server(|mut visit| {
        visit.request();
        visit.answer("200 OK", "", BODY);
    });
    let outcomes = outcomes(config(60, 5_000), server.port, 4).await;
    assert!(
        outcomes.iter().all(|outcome| running(outcome) == Ok(3.0)),
        "{outcomes:?}"
    );
    assert!(server.connections.load(Ordering::SeqCst) >= 4);
}

#[tokio::test]
async fn answers_other_than_the_metrics_themselves_are_absences_with_their_reason() {
    for (status, headers, body, expected) in [
        ("404 Not Found", "", "", Why::NoSeries),
        ("401 Unauthorized", "", BODY, Why::Denied),
        ("403 Forbidden", "", BODY, Why::Denied),
        ("500 Internal Server Error", "", BODY, Why::Unreachable),
        ("503 Service Unavailable", "", BODY, Why::Unreachable),
        ("204 No Content", "", "", Why::Unreachable),
        ("200 OK", "", "", Why::Malformed),
        ("200 OK", "", "<html>hello</html>", Why::Malformed),
        ("200 OK", "content-encoding: gzip\r\n", BODY, Why::Malformed),
    ] {
        let server = answering(status, headers, body);
        assert_eq!(
            first(config(50, 5_000), server.port).await,
            Err(expected),
            "{status} {body}"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let trap = answering("200 OK", "", BODY);
    let trap_port = trap.port;
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let server = server(move |mut visit| {
            while visit.request().is_some() {
                visit.answer(
                    status,
                    &format!("location: http://127.0.0.1:{trap_port}/metrics\r\n"),
                    BODY,
                );
            }
        });
        assert_eq!(
            first(config(50, 5_000), server.port).await,
            Err(Why::Denied),
            "{status}"
        );
    }
    assert_eq!(trap.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_without_end_is_left_at_the_limit() {
    let server = server(|mut visit| {
        visit.request();
        visit.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = format!("10000\r\n{}\r\n", "a 1\n".repeat(0x10000 / 4));
        for _ in 0..1_024 {
            if !visit.write(chunk.as_bytes()) {
                return;
            }
        }
    });
    assert_eq!(first(config(50, 15_000), server.port).await, Err(Why::TooLarge));
    let written = server.written.load(Ordering::SeqCst);
    assert!(written < 16 * 1024 * 1024, "{written} bytes of 64 MiB were taken");
}

#[tokio::test]
async fn a_body_announced_beyond_the_limit_is_not_read() {
    let server = server(|mut visit| {
        visit.request();
        visit.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
        thread::sleep(Duration::from_secs(5));
    });
    let before = clock_ms();
    assert_eq!(first(config(50, 4_000), server.port).await, Err(Why::TooLarge));
    assert!(clock_ms() - before < 4_000, "the announcement is enough");
}

#[tokio::test]
async fn a_large_body_within_the_limits_is_read() {
    let server = server(|mut visit| {
        visit.request();
        let filler = format!("filler{{x=\"{}\"}} 1\n", "x".repeat(100)).repeat(15_000);
        visit.answer("200 OK", "", &format!("{BODY}{filler}"));
        visit.request();
    });
    assert_eq!(running(&first(config(50, 15_000), server.port).await), Ok(3.0));
}

#[tokio::test]
async fn a_server_that_drips_or_stays_silent_is_left_at_the_deadline() {
    let dripping = server(|mut visit| {
        visit.request();
        visit.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n");
        while visit.write(b"\n") {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let silent = server(|mut visit| {
        visit.request();
        thread::sleep(LIFE);
    });
    for port in [dripping.port, silent.port] {
        let before = clock_ms();
        assert_eq!(first(config(10, 200), port).await, Err(Why::Timeout));
        let took = clock_ms() - before;
        assert!((200..3_000).contains(&took), "{took} ms");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_answer() {
    let refusing = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    assert_eq!(first(config(50, 5_000), refusing).await, Err(Why::Unreachable));
    // Closed with unread bytes, which resets; closed in the middle of the body; closed in the middle of a chunk.
    let reset = server(drop);
    let cut = server(|mut visit| {
        visit.request();
        visit.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len() + 1).as_bytes());
    });
    let cut_chunk = server(|mut visit| {
        visit.request();
        visit.write(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\n{BODY}").as_bytes());
    });
    for server in [reset, cut, cut_chunk] {
        assert_eq!(first(config(50, 5_000), server.port).await, Err(Why::Unreachable));
    }
}

#[tokio::test]
async fn what_is_not_http_or_has_endless_headers_is_no_answer() {
    let other = server(|mut visit| {
        visit.request();
        visit.write(b"SSH-2.0-OpenSSH_9.9\r\n");
        visit.request();
    });
    let headers = server(|mut visit| {
        visit.request();
        visit.write(b"HTTP/1.1 200 OK\r\n");
        for number in 0..10_000 {
            if !visit.write(format!("x-{number}: {}\r\n", "x".repeat(100)).as_bytes()) {
                return;
            }
        }
    });
    for server in [other, headers] {
        assert_eq!(first(config(50, 5_000), server.port).await, Err(Why::Malformed));
    }
}

#[tokio::test]
async fn no_connection_is_made_where_the_rules_do_not_allow_one() {
    let server = answering("200 OK", "", BODY);
    let strict = ScrapeConfig {
        rules: AddressRules::default(),
        ..config(20, 5_000)
    };
    assert_eq!(outcomes(strict, server.port, 3).await, vec![Err(Why::Denied); 3]);
    let mapped = ScrapeConfig {
        rules: AddressRules::default(),
        ..config(20, 5_000)
    };
    let (mut scraper, mut answers) = Scraper::new(mapped);
    let address = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    let preset = Preset::named("vllm").unwrap();
    scraper.set_targets(vec![
        Target::new(
            Arc::from("m"),
            Arc::from("default"),
            address,
            Some(server.port),
            None,
            preset,
        )
        .unwrap(),
    ]);
    assert_eq!(next(&mut answers).await.outcome, Err(Why::Denied));
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_address_of_the_connected_socket_is_checked_as_well() {
    let server = answering("200 OK", "", BODY);
    let strict = ScrapeConfig {
        rules: AddressRules::default(),
        ..config(20, 5_000)
    };
    let (scraper, _answers) = Scraper::new(strict);
    // Asked for the unspecified address, the system connects to loopback: another peer than the one asked for.
    let elsewhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), server.port);
    let connected = exchange::connect(elsewhere, &scraper.shared).await.map(drop);
    assert_eq!(connected, Err(Why::Denied));
}

#[tokio::test]
async fn an_address_that_turns_out_to_be_a_nodes_ends_kept_connections_too() {
    let server = answering("200 OK", "", BODY);
    let (mut scraper, mut answers) = Scraper::new(config(20, 5_000));
    scraper.set_targets(vec![target("pod", server.port)]);
    assert_eq!(running(&next(&mut answers).await.outcome), Ok(3.0));
    scraper.refuse_hosts(["::ffff:127.0.0.1".parse().unwrap()]);
    while next(&mut answers).await.outcome != Err(Why::Denied) {}
}

#[tokio::test]
async fn targets_come_and_go_and_the_unchanged_keep_their_connection() {
    let (old, kept, new) = (
        answering("200 OK", "", BODY),
        answering("200 OK", "", BODY),
        answering("200 OK", "", BODY),
    );
    let (mut scraper, mut answers) = Scraper::new(config(20, 5_000));
    scraper.set_targets(vec![
        target("moved", old.port),
        target("kept", kept.port),
        target("gone", old.port),
    ]);
    for _ in 0..12 {
        next(&mut answers).await;
    }
    scraper.set_targets(vec![target("moved", new.port), target("kept", kept.port)]);
    // What was under way may still be in the channel.
    while answers.try_recv().is_ok() {}
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.push(next(&mut answers).await.uid.to_string());
    }
    assert!(
        seen.iter().any(|uid| uid == "moved") && seen.iter().any(|uid| uid == "kept"),
        "{seen:?}"
    );
    assert!(seen.iter().skip(2).all(|uid| uid != "gone"), "{seen:?}");
    assert!(new.connections.load(Ordering::SeqCst) == 1 && kept.connections.load(Ordering::SeqCst) == 1);
    drop(scraper);
    while tokio::time::timeout(LIFE, answers.recv())
        .await
        .expect("the channel closes with the scraper")
        .is_some()
    {}
}

#[tokio::test]
async fn pods_that_use_up_their_deadline_do_not_starve_the_others() {
    let silent = server(|mut visit| {
        visit.request();
        thread::sleep(LIFE);
    });
    let honest = answering("200 OK", "", BODY);
    // Sixteen silent pods on the four slots that one namespace gets: asked on every beat, they would let the honest one
    // through every 320 ms.
    let (mut scraper, mut answers) = Scraper::new(ScrapeConfig {
        concurrency: 5,
        ..config(100, 80)
    });
    let mut targets: Vec<_> = (0..16)
        .map(|number| target(&format!("silent-{number}"), silent.port))
        .collect();
    targets.push(target("honest", honest.port));
    scraper.set_targets(targets);
    let (mut honest, until) = (0, clock_ms() + 6_000);
    while clock_ms() < until {
        honest += usize::from(&*next(&mut answers).await.uid == "honest");
    }
    assert!(
        honest >= 28,
        "{honest} answers of the honest pod in 6 s, of 60 without the others"
    );
}

/// Answers of three honest pods in three seconds, beside so many silent ones of another namespace on eight slots.
async fn honest_answers(honest: &Server, silent: &Server, many: usize) -> usize {
    let (mut scraper, mut answers) = Scraper::new(ScrapeConfig {
        concurrency: 8,
        ..config(100, 300)
    });
    let silent = (0..many).map(|number| target_in("greedy", &format!("silent-{number}"), silent.port));
    let honest = (0..3).map(|number| target_in("honest", &format!("honest-{number}"), honest.port));
    scraper.set_targets(silent.chain(honest).collect());
    let (mut count, until) = (0, clock_ms() + 3_000);
    while clock_ms() < until {
        let answer = tokio::time::timeout(Duration::from_millis(200), answers.recv()).await;
        count += usize::from(answer.is_ok_and(|answer| answer.unwrap().uid.starts_with("honest")));
    }
    count
}

#[tokio::test]
async fn a_namespace_of_very_many_silent_pods_takes_nothing_from_another() {
    let silent = server(|mut visit| {
        visit.request();
        thread::sleep(LIFE);
    });
    let honest = answering("200 OK", "", BODY);
    let alone = honest_answers(&honest, &silent, 0).await;
    let beside = honest_answers(&honest, &silent, 100).await;
    assert!(alone > 75, "{alone} of 90");
    assert!(
        beside * 10 >= alone * 9,
        "{beside} answers beside silent pods, {alone} without"
    );
}

#[test]
fn a_target_is_what_its_preset_can_read() {
    let new = |preset, path| {
        let preset = Preset::named(preset).unwrap();
        Target::new(
            Arc::from("a"),
            Arc::from("default"),
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            None,
            path,
            preset,
        )
    };
    let usual = new("trtllm", None).unwrap();
    assert_eq!(
        (usual.address.port(), usual.path.as_str()),
        (8000, "/prometheus/metrics")
    );
    assert_eq!(new("cpu", None), Err(TargetError::NotScraped));
    for path in [
        "",
        "metrics",
        "http://other/metrics",
        "/a b",
        "/a?b=c",
        "/a#b",
        "/a\r\nhost: other",
        "/a\0",
    ] {
        assert_eq!(new("vllm", Some(path)), Err(TargetError::Path), "{path:?}");
    }
    for path in ["/", "/x/../metrics", "//other/metrics"] {
        assert_eq!(new("vllm", Some(path)).unwrap().path.as_str(), path);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
fn a_target_keeps_its_place_in_the_interval_and_shares_it_with_others() {
    let origin = super::Instant::from_std(*START.get_or_init(Instant::now));
    let interval = Duration::from_secs(1);
    let mut places = std::collections::BTreeSet::new();
    for pod in 0..200_u64 {
        let uid = format!("pod-{pod}");
        let first = |late_ms| {
            let now = origin + Duration::from_millis(late_ms);
            let first = first_tick(origin, interval, &uid, now);
            assert!(first >= now && first < now + interval, "{uid} after {late_ms} ms");
            first - origin
        };
        let place = first(0);
        for late_ms in [1, 49, 50, 999, 1_000, 1_001, 86_400_000 + pod] {
            let rounds = first(late_ms).checked_sub(place).unwrap().as_nanos();
            assert_eq!(rounds % interval.as_nanos(), 0, "{uid} after {late_ms} ms");
        }
        places.insert(place);
    }
    assert!((18..=20).contains(&places.len()), "{} beats of 20 in use", places.len());
    let quick = first_tick(origin, Duration::from_millis(10), "any", origin);
    assert_eq!(quick, origin, "an interval shorter than a beat has one place");
}
