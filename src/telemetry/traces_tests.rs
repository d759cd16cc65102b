use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::*;

fn wanted(variables: &[(&str, &str)]) -> Result<Option<Wanted>, Error> {
    Wanted::parse(|name| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn refused(variables: &[(&str, &str)]) -> String {
    wanted(variables).unwrap_err().to_string()
}

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

#[test]
fn nothing_is_traced_until_a_variable_names_a_collector() {
    assert_eq!(wanted(&[]).unwrap(), None);
    assert_eq!(
        wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).unwrap(),
        None,
        "empty is unset"
    );
    assert!(wanted(&[ENDPOINT]).unwrap().is_some());
    assert!(wanted(&[("OTEL_TRACES_EXPORTER", "otlp")]).unwrap().is_some());
    assert_eq!(wanted(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]).unwrap(), None);
    assert_eq!(wanted(&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap(), None);
    assert!(wanted(&[ENDPOINT, ("OTEL_SDK_DISABLED", "no")]).unwrap().is_some());
}

#[test]
fn what_is_said_of_traces_comes_before_what_is_said_of_all_signals() {
    let both = [
        ENDPOINT,
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/all.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "/traces.pem"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
    ];
    let expected = Wanted {
        timeout: Duration::from_millis(250),
        ca_file: Some("/traces.pem".into()),
    };
    assert_eq!(wanted(&both).unwrap(), Some(expected));
}

#[test]
fn a_value_that_cannot_be_followed_is_refused_with_what_is_allowed() {
    assert_eq!(
        refused(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "zipkin")]),
        "OTEL_TRACES_EXPORTER is \"zipkin\": must be otlp or none"
    );
    assert_eq!(
        refused(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]),
        "OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\": must be http/protobuf, for which collectors usually listen on port 4318"
    );
    for wrong in ["10s", "0", "-1", "600001"] {
        assert_eq!(
            refused(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_TIMEOUT", wrong)]),
            format!("OTEL_EXPORTER_OTLP_TIMEOUT is {wrong:?}: must be milliseconds, 1 to 600000")
        );
    }
}

#[test]
fn roots_that_are_none_are_refused_with_their_file() {
    let missing = Wanted {
        timeout: TIMEOUT,
        ca_file: Some("/nowhere/ca.pem".into()),
    };
    let error = Transport::new(&missing).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot trust the collector by /nowhere/ca.pem: "),
        "{error}"
    );
    assert!(error.ends_with("; check OTEL_EXPORTER_OTLP_CERTIFICATE"), "{error}");
}

#[test]
fn a_service_that_nobody_named_is_tiercel() {
    let resource = resource();
    let get = |key| resource.get(&Key::from_static_str(key)).unwrap().to_string();
    assert_eq!(get("service.name"), "tiercel");
    assert_eq!(get("service.version"), env!("CARGO_PKG_VERSION"));
}

/// What an executor without a runtime sees of a request to `address`.
async fn sent_from_a_bare_thread(address: SocketAddr, timeout: Duration) -> Result<Response<Bytes>, String> {
    let wanted = Wanted { timeout, ca_file: None };
    let transport = Transport::new(&wanted).unwrap();
    let request = Request::post(format!("http://{address}/v1/traces"));
    let request = request.body(Bytes::from_static(b"spans")).unwrap();
    let thread = std::thread::spawn(move || futures::executor::block_on(transport.send_bytes(request)));
    let joined = tokio::task::spawn_blocking(move || thread.join()).await.unwrap();
    joined.unwrap().map_err(|error| error.to_string())
}

/// Takes one connection and lets `answer` serve it.
fn collector(answer: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (
        address,
        std::thread::spawn(move || answer(listener.accept().unwrap().0)),
    )
}

/// Reads the request; a connection that is closed before that is reset.
fn read_all(stream: &mut TcpStream) {
    let (mut seen, mut chunk) = (Vec::new(), [0; 1024]);
    while !seen.ends_with(b"spans") {
        let read = stream.read(&mut chunk).unwrap();
        assert!(read > 0, "it went before it had sent all");
        seen.extend_from_slice(&chunk[..read]);
    }
}

#[tokio::test]
async fn requests_of_a_thread_without_a_runtime_reach_the_collector() {
    let (address, served) = collector(|mut stream| {
        read_all(&mut stream);
        let answer = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nbusy";
        stream.write_all(answer).unwrap();
    });
    let answer = sent_from_a_bare_thread(address, TIMEOUT).await.unwrap();
    assert_eq!(answer.status(), 429);
    assert_eq!(
        answer.headers()["retry-after"],
        "7",
        "the exporter waits as long as it is told to"
    );
    assert_eq!(answer.body().as_ref(), b"busy");
    served.join().unwrap();
}

#[tokio::test]
async fn a_collector_that_is_silent_or_too_talkative_is_left() {
    let (address, served) = collector(|mut stream| {
        let _left = stream.read_to_end(&mut Vec::new());
    });
    let error = sent_from_a_bare_thread(address, Duration::from_millis(50)).await;
    assert_eq!(error.unwrap_err(), "no answer within 50ms");
    served.join().unwrap();
    let (address, served) = collector(|mut stream| {
        read_all(&mut stream);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", ANSWER_BYTES_MAX + 1);
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(&vec![b'x'; ANSWER_BYTES_MAX + 1]);
    });
    let error = sent_from_a_bare_thread(address, TIMEOUT).await;
    assert_eq!(error.unwrap_err(), "length limit exceeded");
    served.join().unwrap();
}
