//! A scripted API server for tests of the I/O shells: exactly these calls, in this order, answered with these bodies.
//!
//! Two ways to use it. [`ScriptedApi::expect`] queues calls and their answers, [`ScriptedApi::serve`] plays them and
//! [`Script::finish`] fails on calls that are missing or too many. Where a test cares *when* a call comes, it takes calls
//! one by one with [`ScriptedApi::call`] under paused time.

use std::{collections::VecDeque, fmt::Write as _, time::Duration};

use hyper::{Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};
use tower_test::mock::{Handle, SendResponse, pair};

type ApiHandle = Handle<Request<Body>, Response<Body>>;

/// The server's end of a client that never touches the network.
pub(crate) struct ScriptedApi {
    handle: ApiHandle,
    steps: VecDeque<Step>,
}

/// One expected call, and what it is answered with.
struct Step {
    method: String,
    path_contains: String,
    status: u16,
    body: Value,
}

impl ScriptedApi {
    /// A client and the script behind it.
    pub(crate) fn new() -> (Client, Self) {
        let (service, handle) = pair::<Request<Body>, Response<Body>>();
        (
            Client::new(service, "default"),
            Self {
                handle,
                steps: VecDeque::new(),
            },
        )
    }

    /// The next call in the script. `path_contains` is matched against path and query.
    pub(crate) fn expect<'a>(&'a mut self, method: &str, path_contains: &str) -> Expected<'a> {
        Expected {
            api: self,
            method: method.to_owned(),
            path_contains: path_contains.to_owned(),
        }
    }

    /// Plays the script in the background.
    #[must_use = "a script that is not finished checks nothing"]
    pub(crate) fn serve(self) -> Script {
        let (stop, stopped) = oneshot::channel();
        Script {
            stop: Some(stop),
            task: Some(tokio::spawn(play(self, stopped))),
        }
    }

    /// The next call, whatever it is. Fails when none comes within a minute of (paused) time.
    pub(crate) async fn call(&mut self) -> Call {
        self.call_within(Duration::from_mins(1))
            .await
            .expect("no call came within 60 s")
    }

    /// The next call, if one comes in time.
    pub(crate) async fn call_within(&mut self, limit: Duration) -> Option<Call> {
        let (request, answer) = tokio::time::timeout(limit, self.handle.next_request()).await.ok()??;
        Some(Call::read(request, answer).await)
    }
}

/// A call waiting for its answer in a script.
pub(crate) struct Expected<'a> {
    api: &'a mut ScriptedApi,
    method: String,
    path_contains: String,
}

impl<'a> Expected<'a> {
    /// Answers the call; errors (400 and above) are wrapped with [`status`] by the caller.
    pub(crate) fn reply(self, status: u16, body: Value) -> &'a mut ScriptedApi {
        let Self {
            api,
            method,
            path_contains,
        } = self;
        api.steps.push_back(Step {
            method,
            path_contains,
            status,
            body,
        });
        api
    }
}

/// A call that came in.
pub(crate) struct Call {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) path: String,
    /// The JSON body; null if there is none.
    pub(crate) body: Value,
    answer: SendResponse<Response<Body>>,
}

impl Call {
    async fn read(request: Request<Body>, answer: SendResponse<Response<Body>>) -> Self {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.expect("the client's own body is readable");
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).expect("a JSON body")
        };
        Self {
            method: parts.method.to_string(),
            path: parts.uri.to_string(),
            body,
            answer,
        }
    }

    /// Answers with a status and a body.
    pub(crate) fn reply(self, status: u16, body: &Value) {
        self.reply_with(status, &[], body);
    }

    /// Answers with extra headers.
    pub(crate) fn reply_with(self, status: u16, headers: &[(&str, &str)], body: &Value) {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        self.answer.send_response(
            response
                .body(Body::from(body.to_string().into_bytes()))
                .expect("a valid response"),
        );
    }

    /// Answers with a text that is no JSON.
    pub(crate) fn reply_text(self, status: u16, text: &str) {
        let response = Response::builder().status(status);
        self.answer.send_response(
            response
                .body(Body::from(text.as_bytes().to_vec()))
                .expect("a valid response"),
        );
    }

    /// Breaks the connection instead of answering.
    pub(crate) fn reset(self) {
        self.answer
            .send_error(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    }
}

/// Body of a refusal, as the API server words it.
pub(crate) fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code})
}

/// A script being played.
pub(crate) struct Script {
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<String>>,
}

impl Script {
    /// Ends the script.
    ///
    /// # Panics
    /// When calls are missing, came in another order, or were too many.
    pub(crate) async fn finish(mut self) {
        // Calls already on their way are part of the play.
        tokio::task::yield_now().await;
        drop(self.stop.take());
        let complaints = self
            .task
            .take()
            .expect("finished once")
            .await
            .expect("the script itself does not fail");
        assert!(complaints.is_empty(), "the calls differ from the script:\n{complaints}");
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        assert!(
            self.task.is_none() || std::thread::panicking(),
            "call finish(), or the script checks nothing"
        );
    }
}

async fn play(mut api: ScriptedApi, mut stopped: oneshot::Receiver<()>) -> String {
    let mut complaints = String::new();
    loop {
        let next = tokio::select! {
            biased;
            next = api.handle.next_request() => next,
            _ = &mut stopped => break,
        };
        let Some((request, answer)) = next else { break };
        let call = Call::read(request, answer).await;
        match api.steps.pop_front() {
            Some(step) if step.method == call.method && call.path.contains(&step.path_contains) => {
                call.reply(step.status, &step.body);
            }
            Some(step) => {
                let Step {
                    method, path_contains, ..
                } = step;
                let _ = writeln!(
                    complaints,
                    "{} {} came instead of {method} …{path_contains}…",
                    call.method, call.path
                );
                call.reply(500, &status(500, "OutOfScript"));
            }
            None => {
                let _ = writeln!(complaints, "{} {} came after the end", call.method, call.path);
                call.reply(500, &status(500, "OutOfScript"));
            }
        }
    }
    for Step {
        method, path_contains, ..
    } in &api.steps
    {
        let _ = writeln!(complaints, "{method} …{path_contains}… never came");
    }
    complaints
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;

    use super::*;

    fn config_map(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
    }

    async fn complaint_of(script: Script) -> String {
        let panic = std::panic::AssertUnwindSafe(script.finish())
            .catch_unwind()
            .await
            .expect_err("it shall complain");
        panic.downcast_ref::<String>().expect("a message").clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_script_answers_its_calls_in_order() {
        let (client, mut api) = ScriptedApi::new();
        api.expect("GET", "/configmaps/a").reply(200, config_map("a"));
        api.expect("DELETE", "/configmaps/a")
            .reply(404, status(404, "NotFound"));
        let script = api.serve();
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        assert_eq!(maps.get("a").await.unwrap().metadata.name.as_deref(), Some("a"));
        let gone = maps.delete("a", &kube::api::DeleteParams::default()).await.unwrap_err();
        assert!(matches!(gone, kube::Error::Api(status) if status.is_not_found()));
        script.finish().await;
    }

    #[tokio::test(start_paused = true)]
    async fn missing_wrong_and_extra_calls_fail_the_script() {
        let (_client, mut api) = ScriptedApi::new();
        api.expect("GET", "/configmaps/a").reply(200, config_map("a"));
        assert!(
            complaint_of(api.serve())
                .await
                .contains("GET …/configmaps/a… never came")
        );

        let (client, mut api) = ScriptedApi::new();
        api.expect("GET", "/configmaps/a").reply(200, config_map("a"));
        let script = api.serve();
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        maps.get("b").await.unwrap_err();
        maps.get("c").await.unwrap_err();
        let complaint = complaint_of(script).await;
        assert!(
            complaint.contains("/configmaps/b came instead of GET …/configmaps/a…"),
            "{complaint}"
        );
        assert!(complaint.contains("/configmaps/c came after the end"), "{complaint}");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_can_be_taken_one_by_one_and_silence_be_checked() {
        let (client, mut api) = ScriptedApi::new();
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let (found, ()) = tokio::join!(maps.get("a"), async {
            let call = api.call().await;
            assert_eq!((call.method.as_str(), &call.body), ("GET", &Value::Null));
            call.reply(200, &config_map("a"));
        });
        found.unwrap();
        assert!(api.call_within(Duration::from_hours(1)).await.is_none());
        let (broken, ()) = tokio::join!(maps.get("a"), async { api.call().await.reset() });
        broken.unwrap_err();
    }
}
