//! `scrape`: what it costs to read a thousand pods every second.
//!
//! The pods are one server in a process of its own, so that only the reader's CPU time is counted. Three sides, one after
//! the other in one run, each for [`SECONDS`]:
//!
//! * the operator's scraper: every target on its own beat, the page parsed and read by its preset, the answer taken;
//! * bare: one thread, a kept socket per target, the same request written and the same page read and thrown away, as often;
//! * the page alone: parsed and read by its preset from memory, as often.
//!
//! And how old the readings of a namespace get beside another one whose pods take every connection and answer nothing.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tiercel::signals::address::AddressRules;
use tiercel::signals::exposition::{Exposition, Limits, fingerprint};
use tiercel::signals::presets::Preset;
use tiercel::signals::scraper::{ScrapeConfig, Scraper, Target};

/// Set for the process that serves.
const SERVES: &str = "TIERCEL_BENCH_SERVES";
const PODS: usize = 1_000;
const SECONDS: u64 = 20;
/// Pods whose readings get old beside [`SILENT`] ones, and for how long nothing is counted at first.
const HONEST: usize = 100;
const SILENT: usize = 500;
const WARM: Duration = Duration::from_secs(6);
const PAGE: &str = include_str!("../../src/signals/testdata/vllm.prom");
const REQUEST: &str = "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nuser-agent: bare\r\naccept: text/plain;version=0.0.4\r\naccept-encoding: identity\r\n\r\n";

/// Serves instead of measuring, if this is the process that shall.
pub(crate) fn serves() -> bool {
    if std::env::var_os(SERVES).is_none() {
        return false;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(serve());
    true
}

/// Answers until the one who started it is gone.
async fn serve() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    let answer: Arc<str> = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n{PAGE}",
        PAGE.len()
    )
    .into();
    let (gone, mut left) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        let _ = gone.send(());
    });
    loop {
        let stream = tokio::select! {
            _ = &mut left => return,
            accepted = listener.accept() => accepted.expect("a connection").0,
        };
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while read(&stream, &mut seen).await {
                if seen.ends_with(b"\r\n\r\n") {
                    seen.clear();
                    write(&stream, answer.as_bytes()).await;
                }
            }
        });
    }
}

/// Reads what is there; false at the end.
async fn read(stream: &tokio::net::TcpStream, seen: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 4_096];
    loop {
        stream.readable().await.expect("a socket");
        match stream.try_read(&mut chunk) {
            Ok(0) => return false,
            Ok(read) => {
                seen.extend_from_slice(&chunk[..read]);
                return true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
}

async fn write(stream: &tokio::net::TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        stream.writable().await.expect("a socket");
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .env(SERVES, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a second process");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("its port");
        let port = line.trim().parse().expect("a port");
        Self {
            process,
            address: (Ipv4Addr::LOCALHOST, port).into(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// CPU time of this process so far, user and system, in ticks of ten milliseconds.
fn spent() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux kernel");
    let rest = stat.rsplit_once(')').expect("the name of the program").1;
    let ticks = |at: usize| -> f64 {
        rest.split_whitespace()
            .nth(at)
            .and_then(|it| it.parse().ok())
            .expect("ticks")
    };
    (ticks(11) / 100.0, ticks(12) / 100.0)
}

/// Microseconds per scrape, user and system, of what is done meanwhile.
fn per_scrape(work: impl FnOnce() -> usize) -> (f64, f64, usize) {
    let before = spent();
    let scrapes = work();
    let after = spent();
    let each = |ticks: f64| ticks * 1e6 / scrapes as f64;
    (each(after.0 - before.0), each(after.1 - before.1), scrapes)
}

pub(crate) fn run() -> Value {
    let server = Server::start();
    println!("| {PODS} pods, each every second | us of CPU per scrape | user | system | of one core |");
    println!("| --- | --- | --- | --- | --- |");
    let mut sides = serde_json::Map::new();
    let mut side = |name: &str, (user, system, scrapes): (f64, f64, usize)| {
        let (each, core) = (user + system, (user + system) * PODS as f64 / 1e6);
        println!(
            "| {name} | {each:.0} | {user:.0} | {system:.0} | {:.1} % |",
            core * 100.0
        );
        let figures = json!({ "scrapes": scrapes, "us": each, "user_us": user, "system_us": system, "cores": core });
        sides.insert(name.to_owned(), figures);
    };
    side("scraper", scraper(server.address));
    side("bare", bare(server.address));
    side("page alone", per_scrape(page));
    let beside = neighbours(server.address);
    json!({ "pods": PODS, "seconds": SECONDS, "page_bytes": PAGE.len(), "sides": sides, "beside": beside })
}

/// How old the readings of a namespace get: alone, beside another one whose pods do not answer, and with these as its own.
fn neighbours(honest: SocketAddr) -> Value {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = silent.local_addr().expect("an address");
    // Connections are taken and kept, as by a server that hangs.
    std::thread::spawn(move || {
        let _kept: Vec<_> = silent.incoming().collect();
    });
    println!("| age of {HONEST} pods' readings when the next comes, ms | p50 | p99 | max |");
    println!("| --- | --- | --- | --- |");
    let mut sides = serde_json::Map::new();
    for (name, many, namespace) in [
        ("alone", 0, "theirs"),
        ("beside", SILENT, "theirs"),
        ("together", SILENT, "serving"),
    ] {
        let mut ages = ages(honest, (address, many, namespace));
        ages.sort_unstable();
        let at = |permille: usize| ages[(ages.len() - 1) * permille / 1_000];
        println!(
            "| {name}, {many} silent pods | {} | {} | {} |",
            at(500),
            at(990),
            at(1_000)
        );
        let figures = json!({ "silent": many, "p50_ms": at(500), "p99_ms": at(990), "max_ms": at(1_000) });
        sides.insert(name.to_owned(), figures);
    }
    Value::Object(sides)
}

/// Milliseconds from answer to answer of each pod that answers, beside so many at `silent` that do not.
fn ages(honest: SocketAddr, (silent, many, namespace): (SocketAddr, usize, &str)) -> Vec<u128> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (mut scraper, mut answers) = Scraper::new(ScrapeConfig::new(rules(), || 0));
        let silent = (0..many).map(|at| target(format!("silent-{at}"), namespace, silent));
        let honest = (0..HONEST).map(|at| target(format!("pod-{at}"), "serving", honest));
        scraper.set_targets(silent.chain(honest).collect());
        let (start, mut last, mut ages) = (Instant::now(), HashMap::new(), Vec::new());
        while start.elapsed() < WARM + Duration::from_secs(SECONDS) {
            let answer = answers.recv().await.expect("an answer");
            if answer.outcome.is_ok() {
                let now = Instant::now();
                let before = last.insert(answer.uid, now);
                let warm = before.filter(|before: &Instant| before.duration_since(start) > WARM);
                ages.extend(warm.map(|before| now.duration_since(before).as_millis()));
            }
        }
        ages
    })
}

fn rules() -> AddressRules {
    AddressRules {
        allowed: vec!["127.0.0.0/8".parse().expect("a network")],
        ..AddressRules::default()
    }
}

fn target(uid: String, namespace: &str, address: SocketAddr) -> Target {
    let (ip, port) = (address.ip(), Some(address.port()));
    Target::new(uid.into(), namespace.into(), ip, port, None, preset()).expect("a target")
}

fn preset() -> &'static Preset {
    Preset::named("vllm").expect("a preset for vLLM")
}

fn scraper(address: SocketAddr) -> (f64, f64, usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (mut scraper, mut answers) = Scraper::new(ScrapeConfig::new(rules(), || 0));
        let all = (0..PODS).map(|at| target(format!("pod-{at}"), "serving", address));
        scraper.set_targets(all.collect());
        // Connections are made once.
        let warm = Instant::now() + Duration::from_secs(3);
        while Instant::now() < warm {
            answers.recv().await.expect("an answer").outcome.expect("a page");
        }
        let before = spent();
        let mut pages = 0_u32;
        let end = Instant::now() + Duration::from_secs(SECONDS);
        while Instant::now() < end {
            answers.recv().await.expect("an answer").outcome.expect("a page");
            pages += 1;
        }
        let after = spent();
        let each = |seconds: f64| seconds * 1e6 / f64::from(pages);
        (each(after.0 - before.0), each(after.1 - before.1), pages as usize)
    })
}

fn bare(address: SocketAddr) -> (f64, f64, usize) {
    let connect = |_| TcpStream::connect(address).expect("a connection");
    let mut streams: Vec<TcpStream> = (0..PODS).map(connect).collect();
    per_scrape(|| {
        let start = Instant::now();
        let mut buffer = vec![0; PAGE.len() + 4_096];
        let rounds = usize::try_from(SECONDS).expect("seconds");
        for at in 0..rounds * PODS {
            let due = Duration::from_secs(1) * u32::try_from(at).expect("few") / u32::try_from(PODS).expect("few");
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            let stream = &mut streams[at % PODS];
            stream.write_all(REQUEST.as_bytes()).expect("written");
            let mut read = 0;
            while read < PAGE.len() || !buffer[..read].ends_with(&PAGE.as_bytes()[PAGE.len() - 64..]) {
                read += stream.read(&mut buffer[read..]).expect("an answer");
            }
        }
        rounds * PODS
    })
}

fn page() -> usize {
    let rounds = usize::try_from(SECONDS).expect("seconds") * PODS;
    for _ in 0..rounds {
        let parsed = Exposition::parse(black_box(PAGE.as_bytes()), &Limits::SCRAPE).expect("a page");
        black_box(preset().read(&parsed, fingerprint(PAGE.as_bytes())));
    }
    rounds
}
