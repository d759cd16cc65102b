use std::io::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use crate::signals::Why;
use crate::signals::prometheus::client::{Client, Error, check_files};
use crate::signals::prometheus::endpoint::{Endpoint, Method, header};
use crate::signals::prometheus::fixture::{Server, response, vector};

fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        name: "main".to_owned(),
        url: url.parse().unwrap(),
        ca_file: None,
        token_file: None,
        headers: Vec::new(),
        method: Method::Post,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        queries_per_second: 10,
    }
}

fn client(url: &str) -> Client {
    Client::new(Arc::new(endpoint(url)))
}

fn one() -> String {
    vector(1_000.0, &[(r#""pod":"a""#.to_owned(), "3".to_owned())])
}

#[tokio::test]
async fn a_query_travels_over_one_connection_with_what_it_needs_and_nothing_else() {
    let server = Server::answering("200 OK", "set-cookie: a=b\r\n", one());
    let mut client = client(&format!("{}/prometheus/", server.url()));
    for _ in 0..3 {
        let answer = client.query("q{a=\"b&c d+\"}").await.unwrap();
        assert_eq!((answer.evaluated_ms, answer.samples[0].value), (1_000_000, Ok(3.0)));
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    let asked = server.asked().remove(2);
    assert!(
        asked.head.starts_with("POST /prometheus/api/v1/query HTTP/1.1\r\n"),
        "{}",
        asked.head
    );
    assert_eq!(asked.query(), "q{a=\"b&c d+\"}");
    assert_eq!(
        asked.header("host"),
        Some(format!("127.0.0.1:{}", server.port).as_str())
    );
    let lines = asked.head.trim_end().lines().skip(1);
    let mut names: Vec<_> = lines
        .map(|line| line.split(':').next().unwrap().to_ascii_lowercase())
        .collect();
    names.sort();
    let expected = [
        "accept",
        "accept-encoding",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_query_travels_in_the_address_where_nothing_else_may_pass() {
    let server = Server::answering("200 OK", "", one());
    let mut asking = endpoint(&server.url());
    asking.method = Method::Get;
    asking.headers.push(header("X-Scope-OrgID", "agents").unwrap());
    Client::new(Arc::new(asking)).query("q{a=\"#?&\"}").await.unwrap();
    let asked = server.asked().remove(0);
    assert!(asked.head.starts_with("GET /api/v1/query?query=q%7B"), "{}", asked.head);
    assert_eq!((asked.query().as_str(), asked.body.as_str()), ("q{a=\"#?&\"}", ""));
    assert_eq!(asked.header("x-scope-orgid"), Some("agents"));
}

#[tokio::test]
async fn every_kind_of_refusal_has_its_reason() {
    let error = |text: &str| format!(r#"{{"status":"error","errorType":"x","error":"{text}"}}"#);
    let cases: [(&str, &str, String, Why, &str); 13] = [
        ("401 Unauthorized", "", String::new(), Why::Denied, "tokenFile"),
        ("403 Forbidden", "", String::new(), Why::Denied, "403"),
        (
            "302 Found",
            "location: http://169.254.169.254/\r\n",
            String::new(),
            Why::Denied,
            "redirects are not followed",
        ),
        ("429 Too Many Requests", "", String::new(), Why::Unreachable, "busy"),
        ("503 Service Unavailable", "", String::new(), Why::Unreachable, "busy"),
        ("500 Internal Server Error", "", String::new(), Why::Unreachable, "500"),
        ("404 Not Found", "", String::new(), Why::Unreachable, "check its url"),
        (
            "400 Bad Request",
            "",
            error("parse error at char 5\\n\\u001b[31mred"),
            Why::Malformed,
            r"parse error at char 5\n\u{1b}[31mred",
        ),
        (
            "422 Unprocessable Entity",
            "",
            error("too many samples"),
            Why::Malformed,
            "too many samples",
        ),
        (
            "200 OK",
            "",
            "<html>".to_owned(),
            Why::Malformed,
            "not that of /api/v1/query",
        ),
        ("200 OK", "", String::new(), Why::Malformed, "not that of /api/v1/query"),
        (
            "200 OK",
            "content-encoding: gzip\r\n",
            one(),
            Why::Malformed,
            "compressed",
        ),
        (
            "200 OK",
            "",
            one().replace("\"success\"", "\"success\",\"warnings\":[\"a store is away\"]"),
            Why::Partial,
            "a store is away",
        ),
    ];
    for (status, headers, body, expected, message) in cases {
        let server = Server::answering(status, headers, body);
        let error = client(&server.url()).query("q").await.expect_err(status);
        assert_eq!(error.why(), expected, "{status}: {error}");
        assert!(error.to_string().contains(message), "{status}: {error}");
        assert_eq!(server.asked().len(), 1, "{status}: nothing is tried again or followed");
    }
}

#[tokio::test]
async fn a_busy_server_says_for_how_long_but_not_for_ever() {
    for (headers, expected) in [
        ("", None),
        ("retry-after: 7\r\n", Some(7)),
        ("retry-after: 1000000000\r\n", Some(60)),
        ("retry-after: Sat, 21 Nov 2026 16:00:00 GMT\r\n", None),
        ("retry-after: -1\r\n", None),
    ] {
        let server = Server::answering("429 Too Many Requests", headers, "");
        let error = client(&server.url()).query("q").await.unwrap_err();
        let Error::Busy { retry_after, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(retry_after, expected.map(Duration::from_secs), "{headers}");
    }
}

#[tokio::test]
async fn an_endless_or_announced_flood_is_left_at_the_limit() {
    let announced = Server::new(|_| Some(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n{".to_vec()));
    let chunk = format!("{:x}\r\n{}\r\n", 64 << 10, " ".repeat(64 << 10));
    let endless = Server::new(move |_| {
        Some(
            format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}",
                chunk.repeat(40)
            )
            .into_bytes(),
        )
    });
    for server in [announced, endless] {
        let error = client(&server.url()).query("q").await.unwrap_err();
        assert_eq!(error.why(), Why::TooLarge, "{error}");
    }
}

#[tokio::test]
async fn who_is_down_silent_slow_or_cut_off_has_no_answer() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let down = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let error = client(&down).query("q").await.unwrap_err();
    assert!(error.concerns_endpoint() && error.why() == Why::Unreachable, "{error}");

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut asking = endpoint(&format!("http://{}", silent.local_addr().unwrap()));
    asking.timeout = Duration::from_millis(150);
    let error = Client::new(Arc::new(asking.clone())).query("q").await.unwrap_err();
    assert_eq!(error.why(), Why::Timeout, "{error}");

    // Headers at once, the body never.
    let slow = Server::new(|_| Some(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{".to_vec()));
    asking.url = slow.url().parse().unwrap();
    let error = Client::new(Arc::new(asking)).query("q").await.unwrap_err();
    assert_eq!(error.why(), Why::Timeout, "{error}");

    let cut = Server::new(|_| None);
    let error = client(&cut.url()).query("q").await.unwrap_err();
    assert_eq!(error.why(), Why::Unreachable, "{error}");
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced_within_the_same_query() {
    let server = Server::new(|_| Some(response("200 OK", "connection: close\r\n", &one())));
    let mut client = client(&server.url());
    for _ in 0..3 {
        client.query("q").await.unwrap();
    }
    assert_eq!(server.asked().len(), 3);
}

/// A root and a certificate of it for a name, all in PEM.
struct Authority {
    root: String,
    chain: String,
    key: PrivateKeyDer<'static>,
}

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    Authority {
        root: issuer.pem(),
        chain: certificate.pem(),
        key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    }
}

/// Serves `one` over TLS.
fn tls_server(authority: &Authority) -> Server {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let chain = CertificateDer::pem_slice_iter(authority.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, authority.key.clone_key())
        .unwrap();
    Server::with(Some(Arc::new(config)), |_| Some(response("200 OK", "", &one())))
}

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path
}

#[tokio::test]
async fn a_private_root_is_trusted_instead_of_the_systems_and_a_rotated_token_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority("localhost");
    let server = tls_server(&ours);
    let port = server.port;
    let mut asking = endpoint(&format!("https://localhost:{port}"));
    asking.ca_file = Some(file(folder.path(), "ca.crt", &ours.root));
    asking.token_file = Some(file(folder.path(), "token", "canary-1\n"));
    check_files(&asking).unwrap();

    let mut client = Client::new(Arc::new(asking.clone()));
    for token in ["canary-1", "canary-2"] {
        file(folder.path(), "token", token);
        client.refresh_token().await.unwrap();
        client.query("q").await.unwrap();
    }
    // A token that cannot be read leaves the last one.
    std::fs::remove_file(folder.path().join("token")).unwrap();
    let error = client.refresh_token().await.unwrap_err();
    assert!(error.to_string().contains("token"), "{error}");
    client.query("q").await.unwrap();
    let expected = ["Bearer canary-1", "Bearer canary-2", "Bearer canary-2"].map(|token| Some(token.to_owned()));
    let sent = || -> Vec<_> {
        let asked = server.asked().into_iter();
        asked
            .map(|asked| asked.header("authorization").map(str::to_owned))
            .collect()
    };
    assert_eq!(sent(), expected);
    let shown = format!("{client:?}");
    assert!(!shown.contains("canary"), "a token is not for logs: {shown}");

    // Another root, the system's roots, another name.
    let mut others = asking.clone();
    others.ca_file = Some(file(folder.path(), "other.crt", &authority("localhost").root));
    let mut system = asking.clone();
    system.ca_file = None;
    let mut renamed = asking.clone();
    renamed.url = format!("https://127.0.0.1:{port}").parse().unwrap();
    for untrusting in [others, system, renamed] {
        let error = Client::new(Arc::new(untrusting)).query("q").await.unwrap_err();
        assert_eq!(error.why(), Why::Denied, "{error}");
        assert!(
            error.concerns_endpoint() && error.to_string().contains("caFile"),
            "{error}"
        );
    }
    assert_eq!(sent().len(), 3, "nobody else was sent a token");
}

#[tokio::test]
async fn roots_are_read_anew_with_every_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (authority("localhost"), authority("localhost"));
    let server = tls_server(&after);
    let mut asking = endpoint(&format!("https://localhost:{}", server.port));
    asking.ca_file = Some(file(folder.path(), "ca.crt", &before.root));
    let mut client = Client::new(Arc::new(asking));
    assert!(client.query("q").await.is_err());
    file(folder.path(), "ca.crt", &after.root);
    client.query("q").await.unwrap();
}

#[test]
fn a_file_that_is_no_credential_is_found_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let with = |ca: Option<PathBuf>, token: Option<PathBuf>| {
        let mut endpoint = endpoint("https://localhost");
        (endpoint.ca_file, endpoint.token_file) = (ca, token);
        check_files(&endpoint).map_err(|error| error.to_string())
    };
    let absent = folder.path().join("absent");
    assert!(with(Some(absent.clone()), None).unwrap_err().contains("absent"));
    assert!(with(None, Some(absent)).unwrap_err().contains("absent"));
    let text = file(folder.path(), "text", "no certificate");
    assert!(
        with(Some(text.clone()), None)
            .unwrap_err()
            .contains("no certificate in PEM")
    );
    assert!(with(None, Some(text)).unwrap_err().contains("not a token"));
    for content in ["", " \n", "a\nb", "a\u{e9}"] {
        let token = file(folder.path(), "token", content);
        assert!(
            with(None, Some(token)).unwrap_err().contains("not a token"),
            "{content:?}"
        );
    }
}
