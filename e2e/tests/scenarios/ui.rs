//! `tiercel ui` on a real control plane: what is applied arrives on the stream, and the view ends when it is asked to.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use libtest_mimic::Trial;
use serde_json::{Value, json};
use tiercel_e2e::nodes::X86;
use tiercel_e2e::operator::find_binary;
use tiercel_e2e::slot::Port;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::behaviour::{SHAPE, Scene, server, serving};
use crate::suite::Suite;
use crate::support::PATIENCE;

pub(crate) fn scenarios(suite: &Arc<Suite>) -> [Trial; 1] {
    crate::scenarios![suite, ui:
        what_is_applied_arrives_on_the_stream_and_why_is_answered,
    ]
}

/// A running view.
struct View {
    child: Child,
    url: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl View {
    /// Starts it and waits for the line that says where it is.
    async fn start(scene: &Scene) -> Self {
        let cluster = &scene.tiered.installed.cluster;
        let mut child = Command::new(find_binary().unwrap())
            .args(["ui", "--port", "0", "-n", scene.tiered.namespace()])
            .env("KUBECONFIG", cluster.kubeconfig())
            .env(
                "TIERCEL_OPERATOR",
                format!("http://127.0.0.1:{}", cluster.port(Port::Operator)),
            )
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap();
        let line = line.expect("it says where it listens");
        Self {
            child,
            url: line.split_whitespace().next().unwrap().to_owned(),
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    async fn ask(&self, path: &str) -> Response<Incoming> {
        let request = Request::get(format!("{}{path}", self.url)).body(Empty::new()).unwrap();
        self.client.request(request).await.unwrap()
    }

    async fn document(&self, path: &str) -> Value {
        let response = self.ask(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }
}

/// Waits for a state on the stream that is as it should be.
async fn told(stream: &mut Incoming, rest: &mut String, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let wait = async {
        loop {
            while let Some((event, more)) = rest.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())) {
                *rest = more;
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let state: Option<Value> = data.map(|data| serde_json::from_str(data).unwrap());
                if let Some(state) = state.filter(&is) {
                    return state;
                }
            }
            let frame = stream.frame().await.expect("the stream goes on").unwrap();
            rest.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    };
    let found = tokio::time::timeout(PATIENCE, wait).await;
    found.unwrap_or_else(|_| panic!("never told: {what}"))
}

pub(crate) async fn what_is_applied_arrives_on_the_stream_and_why_is_answered(suite: &Suite) {
    let scene = Scene::shared(suite, &[], serving()).await;
    scene.tiered.space.nodes(&X86, 1).await;
    scene.tiered.cpu_pool("x86", &[(SHAPE, "x86")]).await;
    let mut view = View::start(&scene).await;
    let namespace = scene.tiered.namespace();

    let mut stream = view.ask("/api/events").await.into_body();
    let mut rest = String::new();
    let none = told(&mut stream, &mut rest, "no pipelines", |state| {
        state["session"]["waiting"] == json!(false) && state["pipelines"] == json!([])
    });
    assert_eq!(none.await["session"]["namespace"], json!(namespace));
    scene.tiered.create("chat", &[server("generate", 2, 2)]).await;
    let ready =
        |state: &Value| state["pipelines"][0]["state"] == json!("Ready") && state["pipelines"][0]["ready"] == json!(2);
    let state = told(&mut stream, &mut rest, "chat is Ready", ready).await;
    assert_eq!(state["pipelines"][0]["name"], json!("chat"), "{state}");
    let pool = scene.tiered.pool_name("x86");
    let pools = state["pools"].as_array().unwrap();
    assert!(pools.iter().any(|known| known["name"] == json!(pool)), "{state}");

    let detail = view.document(&format!("/api/pipelines/{namespace}/chat")).await;
    assert_eq!(detail["screen"]["serves"], json!("Yes"), "{detail}");
    let row = &detail["past"]["rows"][0];
    assert_eq!(
        (&row["stage"], &row["pool"]),
        (&json!("generate"), &json!(pool)),
        "{detail}"
    );
    let last = row["runs"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["replicas"], &last["ready"]), (&json!(2), &json!(2)), "{row}");
    let why = view.document(&format!("/api/pipelines/{namespace}/chat/why")).await;
    assert_eq!(why["live"], json!(true), "{why}");
    assert_eq!(why["stages"][0]["pools"][0]["name"], json!(pool), "{why}");
    // It is no proxy, whatever it may ask the API server itself.
    let other = view.ask(&format!("/api/v1/namespaces/{namespace}/pods")).await;
    assert_eq!(other.status(), StatusCode::NOT_FOUND);

    // Asked to end, it ends with an open stream, and says that all is well.
    let pid = view.child.id().unwrap().to_string();
    let asked = Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    assert!(asked.success());
    let ended = tokio::time::timeout(Duration::from_secs(10), view.child.wait()).await;
    assert_eq!(ended.expect("it ends within ten seconds").unwrap().code(), Some(0));
}
