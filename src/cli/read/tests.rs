use clap::Parser;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn arguments(line: &[&str]) -> Arguments {
    Line::try_parse_from([&["read"], line].concat())
        .unwrap_or_else(|error| panic!("{error}"))
        .arguments
}

fn sample(name: &str) -> String {
    format!("{}/src/signals/testdata/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// What is printed for a body, and whether it is enough.
fn printed(preset: &str, body: &str) -> (String, bool) {
    let seen = Seen::parse("a body", body.as_bytes()).unwrap();
    let report = Report::new(Preset::named(preset).unwrap(), "a body", &seen, None);
    (page::page(&report), report.enough())
}

#[test]
fn the_page_shows_each_number_with_its_series_and_what_was_skipped() {
    let body = "# TYPE vllm:num_requests_waiting gauge\n\
                vllm:num_requests_waiting{engine=\"0\"} 3\n\
                vllm:num_requests_waiting{engine=\"1\"} 4\n\
                vllm:num_requests_running 21.0\n\
                vllm:gpu_cache_usage_perc 0.73125\n\
                vllm:request_success_total{finished_reason=\"stop\"} 10600\n\
                vllm:foo{engine=\"0} 3\n";
    let (page, enough) = printed("vllm", body);
    assert!(enough);
    let expected = "\
a body read as 'vllm'
Prometheus text, 263 bytes, 5 samples, 1 bad line

  queued       7 requests      sum of 2 × vllm:num_requests_waiting
      3  {engine=\"0\"}  (line 2)
      4  {engine=\"1\"}  (line 3)
  running      21 requests     vllm:num_requests_running
      21  (no labels)  (line 4)
  cacheUse     0.73125 (73 %)  vllm:gpu_cache_usage_perc, ratio, for want of vllm:kv_cache_usage_perc
      0.73125  (no labels)  (line 5)
  throughput   10600 so far    vllm:request_success_total; a rate takes two readings: read a URL
      10600  {finished_reason=\"stop\"}  (line 6)
  latency      -               not exposed; not required

lines that cannot be read, and were skipped:
  line 7, column 22: closing quote expected
      vllm:foo{engine=\"0} 3

enough: every required role was read
";
    assert_eq!(page, expected);
}

#[test]
fn what_is_missing_is_said_with_the_reason_the_hint_and_the_preset_that_would_fit() {
    let (page, enough) = printed("vllm", include_str!("../../signals/testdata/sglang.prom"));
    assert!(!enough);
    for says in [
        "queued       MISSING  no such series",
        "for queued looked for:\n  vllm:num_requests_waiting\n",
        "hint: vLLM serves its metrics by default",
        "required by: sglang\n",
    ] {
        assert!(page.contains(says), "{says:?} in\n{page}");
    }
    for (line, says) in [
        (
            "vllm:num_requests_running NaN",
            "?  (no labels)  (line 2)  <- not a finite number: NaN",
        ),
        (
            "vllm:num_requests_running{engine=\"0\"} +Inf 17 # {t=\"1\"} 3",
            "?  {engine=\"0\"}  (line 2)  <- not a finite number: +Inf",
        ),
        (
            "vllm:num_requests_running -1",
            "-1  (no labels)  (line 2)  <- out of range",
        ),
        (
            "vllm:num_requests_running 1\nvllm:num_requests_running 1",
            "(line 3)  <- ambiguous",
        ),
        ("vllm:num_requests_running{a=\"", "vllm:num_requests_running: malformed"),
    ] {
        let (page, enough) = printed("vllm", &format!("vllm:num_requests_waiting 1\n{line}\n"));
        assert!(page.contains(says) && !enough, "{says:?} in\n{page}");
    }
    let (page, _) = printed("http", include_str!("../../signals/testdata/http-client.prom"));
    let says = "left out, as the preset says: {handler=\"/metrics\",method=\"GET\",status=\"2xx\"}";
    assert!(page.contains(says), "{page}");
}

#[test]
fn programs_get_the_same_as_json() {
    let arguments = arguments(&["--preset", "triton", "-o", "json", &sample("triton.prom")]);
    let report = serde_json::to_value(report(&arguments).unwrap()).unwrap();
    assert_eq!(report["enough"], true);
    assert_eq!(report["roles"][0]["role"], "queued");
    assert_eq!(report["roles"][0]["value"], 11.0);
    assert_eq!(report["roles"][0]["withinPod"], "sum");
    let latency = report["roles"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&latency["role"], &latency["kind"]),
        (&"latency".into(), &"micros".into())
    );
    assert_eq!(latency["counter"]["now"], 143.25);
    assert_eq!(latency["series"][2]["divisor"], true);
}

#[test]
fn what_cannot_be_asked_is_bad_usage_and_what_cannot_be_read_is_not() {
    for (line, says) in [
        (
            vec!["--preset", "vlm", "-"],
            "there is no preset 'vlm': use 'cpu', 'dcgm', 'http'",
        ),
        (
            vec!["--preset", "cpu", "-"],
            "preset 'cpu' is not read from a server's metrics",
        ),
        (
            vec!["--preset", "vllm", "/nowhere/at.all"],
            "cannot read /nowhere/at.all: ",
        ),
        (
            vec!["--preset", "vllm", "https://pod:1/metrics"],
            "only http:// is read",
        ),
        (
            vec!["--preset", "vllm", "http://me:secret@pod:1/metrics"],
            "the URL holds a credential",
        ),
        (vec!["--preset", "vllm", "http://"], "is not a URL"),
        (
            vec!["--preset", "vllm", "--presets", "/nowhere/at.all", "-"],
            "presets /nowhere/at.all: ",
        ),
    ] {
        let refused = report(&arguments(&line)).unwrap_err();
        assert!(matches!(refused, Error::Usage(_)), "{refused:?}");
        let text = refused.to_string();
        assert!(text.contains(says) && !text.contains("secret"), "{text}");
    }
    let json = Seen::parse("a body", b"{\"requests\": 1}")
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(json.ends_with("it begins with '{\"requests\": 1}'"), "{json}");
    let large = vec![b'#'; Limits::SCRAPE.bytes_max + 1];
    assert!(Seen::parse("a body", &large).is_err_and(|error| error.to_string().contains("larger than 2097152 bytes")));
}

#[test]
fn a_url_gives_what_it_leaves_out_from_the_preset() {
    let parsed = |url: &str| Target::parse(url, 8000, "/prometheus/metrics").map(|target| target.to_string());
    assert_eq!(
        parsed("http://pod"),
        Ok("http://pod:8000/prometheus/metrics".to_owned())
    );
    assert_eq!(parsed("http://pod:1"), Ok("http://pod:1/prometheus/metrics".to_owned()));
    assert_eq!(parsed("http://pod:1/"), Ok("http://pod:1/".to_owned()));
    assert_eq!(parsed("http://[::1]:1/m?x=1"), Ok("http://[::1]:1/m?x=1".to_owned()));
}

/// A server on loopback that gives the answers in turn, one connection each, and ends.
fn server(answers: Vec<String>) -> std::net::SocketAddr {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                request.push(byte[0]);
            }
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_url_is_read_twice_and_shows_rates() {
    let body = |finished: u32, seconds: f64| {
        ok(&format!(
            "http_requests_total 7{finished}\nhttp_request_duration_seconds_sum {seconds}\nhttp_request_duration_seconds_count 7{finished}\n"
        ))
    };
    let address = server(vec![body(10, 1.0), body(30, 6.0)]);
    let report = report(&arguments(&["--preset", "http", &format!("http://{address}")])).unwrap();
    let seconds = report.seconds.unwrap();
    assert!((1.0..4.0).contains(&seconds), "{seconds}");
    let of = |role: &str| report.roles.iter().find(|other| other.role.as_str() == role).unwrap();
    assert_eq!(of("throughput").value, Some(20.0 / seconds));
    assert_eq!(of("latency").value, Some(0.25));
    let page = page::page(&report);
    assert!(
        page.contains("http_requests_total, for want of http_server_request_duration_seconds_count: 710, then 730"),
        "{page}"
    );
    assert!(page.contains("read twice, "), "{page}");
}

#[test]
fn a_server_that_does_not_answer_as_a_scrape_needs_it_is_said_so() {
    let long = format!("{}\n", "#".repeat(70_000)).repeat(32);
    for (answer, says) in [
        (
            "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "it redirects to http://elsewhere/, which a scrape does not follow",
        ),
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "nothing is served at /metrics",
        ),
        (
            "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "it wants a credential",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "the server compresses (gzip)",
        ),
        (ok(&long), "the body is larger than 2097152 bytes"),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), "does not answer in HTTP"),
        (ok("<html>"), "it begins with '<html>'"),
    ] {
        let address = server(vec![answer]);
        let failed = report(&arguments(&[
            "--preset",
            "http",
            "--seconds",
            "0",
            &format!("http://{address}"),
        ]));
        let text = failed.map(|_| ()).unwrap_err().to_string();
        assert!(text.contains(says), "{says}: {text}");
    }
}
