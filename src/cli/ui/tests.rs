//! What is answered, to whom, and what never is.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use futures::StreamExt as _;
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

use super::board::Board;
use super::server::{Site, router};
use super::*;
use crate::cli::asking::Operator;
use crate::view::tree::Seen;

/// Stands for whatever secret a kubeconfig holds.
const CANARY: &str = "canary-9f27c1";
const HOSTILE: &str = "</script><img src=x onerror=alert(1)>\u{202e}";

fn now() -> jiff::Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn chat() -> TieredPipeline {
    serde_json::from_value(json!({
        "metadata": {"name": "chat", "namespace": "rag"},
        "spec": {"stages": [{"name": "generate", "replicas": {"min": 1},
            "container": {"image": "i", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}}]},
        "status": {"replicas": 1, "readyReplicas": 1, "stages": [{"name": "generate", "replicas": 1, "readyReplicas": 1,
            "message": HOSTILE, "pools": [{"name": "l4", "replicas": 1, "ready": 1}]}]},
    }))
    .unwrap()
}

/// A client whose credentials, address and namespace are all secret, and whose server is not there.
fn client() -> Client {
    let mut config = Config::new(format!("http://{CANARY}:{CANARY}@127.0.0.1:1").parse().unwrap());
    config.auth_info.token = Some(CANARY.to_owned().into());
    config.auth_info.username = Some(CANARY.to_owned());
    config.connect_timeout = Some(std::time::Duration::from_millis(200));
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

struct Scene {
    router: Router,
    board: Arc<Board>,
    ended: CancellationToken,
}

fn scene() -> Scene {
    crate::controller::clients::install_tls_provider();
    let session = Session {
        context: "kind-dev".to_owned(),
        ..Session::default()
    };
    let board = Arc::new(Board::new(session, now()));
    let seen = Seen {
        pipelines: vec![chat()],
        ..Seen::default()
    };
    board.show(seen, now());
    let ended = CancellationToken::new();
    let bound: SocketAddr = "127.0.0.1:8480".parse().unwrap();
    let operator = Operator::behind(client(), "tiercel-system", "app.kubernetes.io/name=tiercel");
    Scene {
        router: router(Site::new(Arc::clone(&board), operator, bound, ended.clone())),
        board,
        ended,
    }
}

fn asked(method: Method, path: &str, headers: &[(header::HeaderName, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| name == header::HOST) {
        request = request.header(header::HOST, "127.0.0.1:8480");
    }
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    request.body(Body::empty()).unwrap()
}

async fn answer(scene: &Scene, request: Request<Body>) -> Response<Body> {
    let mut router = scene.router.clone();
    router.call(request).await.unwrap()
}

async fn get(scene: &Scene, path: &str) -> Response<Body> {
    answer(scene, asked(Method::GET, path, &[])).await
}

async fn text(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn document(scene: &Scene, path: &str) -> Value {
    let response = get(scene, path).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    serde_json::from_str(&text(response).await).unwrap()
}

const PATHS: [&str; 15] = [
    "/",
    "/app.css",
    "/icon.svg",
    "/app.js",
    "/dom.js",
    "/graph.js",
    "/hour.js",
    "/pipeline.js",
    "/pools.js",
    "/api/state",
    "/api/dry",
    "/api/pipelines/rag/chat",
    "/api/pipelines/rag/chat/why",
    "/api/pipelines/rag/other",
    "/nothing",
];

#[tokio::test]
async fn every_answer_keeps_a_browser_to_this_server() {
    let scene = scene();
    let refused = [
        asked(Method::POST, "/api/state", &[]),
        asked(Method::GET, "/", &[(header::HOST, "evil.example")]),
    ];
    let asked = PATHS
        .into_iter()
        .map(|path| asked(Method::GET, path, &[]))
        .chain(refused);
    for request in asked {
        let path = request.uri().clone();
        let response = answer(&scene, request).await;
        let headers = response.headers();
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        for part in ["default-src 'self'", "frame-ancestors 'none'", "trusted-types 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer", "{path}");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store", "{path}");
        assert_eq!(headers["cross-origin-resource-policy"], "same-origin", "{path}");
        for name in [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::SET_COOKIE] {
            assert!(!headers.contains_key(&name), "{path}: {name}");
        }
    }
}

#[tokio::test]
async fn nothing_but_reading_is_answered() {
    let scene = scene();
    for method in [
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ] {
        for path in ["/", "/api/state", "/api/pipelines/rag/chat", "/nothing"] {
            let response = answer(&scene, asked(method.clone(), path, &[])).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(response.headers()[header::ALLOW], "GET, HEAD");
        }
    }
    let head = answer(&scene, asked(Method::HEAD, "/api/state", &[])).await;
    assert_eq!((head.status(), text(head).await.len()), (StatusCode::OK, 0));
    // No path of the API server leads anywhere.
    for path in [
        "/api",
        "/api/v1/secrets",
        "/apis/apps/v1",
        "/api/pipelines/..%2f..%2fsecrets/x",
        "/version",
    ] {
        assert_eq!(get(&scene, path).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_page_elsewhere_is_refused() {
    let scene = scene();
    let status = async |path: &str, headers: &[(header::HeaderName, &str)]| {
        answer(&scene, asked(Method::GET, path, headers)).await.status()
    };
    assert_eq!(status("/", &[(header::HOST, "localhost:8480")]).await, StatusCode::OK);
    for host in ["evil.example:8480", "127.0.0.1.evil.example", "10.0.0.7:8480", ""] {
        let refused = status("/api/state", &[(header::HOST, host)]).await;
        assert_eq!(refused, StatusCode::MISDIRECTED_REQUEST, "{host}");
    }
    let two = [(header::HOST, "127.0.0.1:8480"), (header::HOST, "evil.example")];
    assert_eq!(status("/", &two).await, StatusCode::MISDIRECTED_REQUEST);
    let absolute = status("http://evil.example/", &[]).await;
    assert_eq!(absolute, StatusCode::MISDIRECTED_REQUEST);
    // The page may be linked to, what it reads may not be asked for.
    let site = header::HeaderName::from_static("sec-fetch-site");
    assert_eq!(status("/", &[(site.clone(), "cross-site")]).await, StatusCode::OK);
    for from in ["cross-site", "same-site"] {
        assert_eq!(
            status("/api/state", &[(site.clone(), from)]).await,
            StatusCode::FORBIDDEN,
            "{from}"
        );
    }
    assert_eq!(status("/api/state", &[(site, "same-origin")]).await, StatusCode::OK);
}

#[tokio::test]
async fn no_answer_holds_anything_of_a_credential() {
    let scene = scene();
    scene.board.lose("no answer within 4 s".to_owned(), "wait", now());
    for path in PATHS {
        let response = get(&scene, path).await;
        let head = format!("{:?}", response.headers());
        let body = text(response).await;
        assert!(
            !head.contains(CANARY) && !body.contains(CANARY),
            "{path}: {head}\n{body}"
        );
    }
    // The canary was sent with the question that could not be answered: the answer says so in other words.
    let why = document(&scene, "/api/pipelines/rag/chat/why").await;
    assert!(why["live"] == json!(false) && why["unreached"].is_string(), "{why}");
}

#[tokio::test]
async fn text_of_the_cluster_arrives_as_it_is_and_is_never_markup() {
    let scene = scene();
    let detail = document(&scene, "/api/pipelines/rag/chat").await;
    assert_eq!(detail["stages"][0]["message"], json!(HOSTILE));
    assert_eq!(
        detail["screen"]["waitsFor"][0],
        json!(format!("stage 'generate': {HOSTILE}"))
    );
    // Nothing in the page makes markup of text; trusted types refuse it where somebody forgets.
    for path in PATHS.iter().filter(|path| path.contains(".js") || **path == "/") {
        let code = text(get(&scene, path).await).await;
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
            "onclick=",
        ] {
            assert!(!code.contains(word), "{path}: {word}");
        }
        assert!(
            !code.contains("http://") || path.ends_with("dom.js"),
            "{path}: something from elsewhere"
        );
        assert!(!code.contains("https://"), "{path}: something from elsewhere");
    }
}

#[tokio::test]
async fn why_without_an_operator_is_what_the_status_has() {
    let scene = scene();
    let why = document(&scene, "/api/pipelines/rag/chat/why").await;
    assert_eq!(why["live"], json!(false));
    assert_eq!(why["stages"][0]["pools"][0]["name"], json!("l4"));
    assert_eq!(why["sentences"], json!({"headlines": {}, "reasons": {}}));
    assert_eq!(
        (&why["cost"], &why["dry"]),
        (&json!({}), &json!([])),
        "what nobody says is no zero"
    );
    let dry = document(&scene, "/api/dry").await;
    assert!(dry["places"] == json!([]) && dry["unreached"].is_string(), "{dry}");
    let missing = get(&scene, "/api/pipelines/rag/other/why").await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert!(text(missing).await.contains("no pipeline 'other'"));
}

/// The next document of a stream of events.
async fn told(stream: &mut axum::body::BodyDataStream) -> Value {
    let chunk = stream.next().await.unwrap().unwrap();
    let event = String::from_utf8(chunk.to_vec()).unwrap();
    assert!(event.starts_with("event: state\n"), "{event}");
    let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    serde_json::from_str(data).unwrap()
}

#[tokio::test]
async fn a_stream_tells_what_is_and_every_change_until_the_end() {
    let scene = scene();
    let response = get(&scene, "/api/events").await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let first = told(&mut stream).await;
    assert_eq!(
        (&first["version"], &first["pipelines"][0]["name"]),
        (&json!(1), &json!("chat"))
    );
    scene.board.show(Seen::default(), now());
    assert_eq!(told(&mut stream).await["pipelines"], json!([]));
    scene.board.lose("gone".to_owned(), "wait", now());
    scene
        .board
        .lose("still gone".to_owned(), "wait", "2026-11-21T12:30:00Z".parse().unwrap());
    // Two changes are told as one, and the first moment is kept.
    let lost = &told(&mut stream).await["session"]["lost"];
    assert_eq!(
        lost,
        &json!({"since": "2026-11-21T12:00:00Z", "problem": "still gone", "advice": "wait"})
    );
    scene.ended.cancel();
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn only_so_many_pages_may_follow() {
    let scene = scene();
    let mut open = Vec::new();
    for _ in 0..16 {
        let response = get(&scene, "/api/events").await;
        assert_eq!(response.status(), StatusCode::OK);
        open.push(response);
    }
    assert_eq!(
        get(&scene, "/api/events").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    // Whoever leaves makes room.
    open.pop();
    assert_eq!(get(&scene, "/api/events").await.status(), StatusCode::OK);
}

#[test]
fn exit_codes_are_those_of_the_other_commands() {
    let refused = cluster::Error::NotPermitted {
        message: "no".to_owned(),
        right: "list tieredpipelines there",
    };
    assert_eq!(Error::Cluster(refused).code(), 4);
    assert_eq!(Error::Cluster(cluster::Error::NotInstalled).code(), 5);
    let wrong = Operator::at("no").err().unwrap();
    assert_eq!(Error::Operator(wrong).code(), 2);
    let taken = Error::Listen {
        address: "127.0.0.1:8480".parse().unwrap(),
        source: std::io::ErrorKind::AddrInUse.into(),
    };
    assert!(taken.code() == 1 && taken.to_string().contains("--port"), "{taken}");
}
