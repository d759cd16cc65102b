//! What is served: one page with its files, two documents, one stream of them, and the operator's answer to why.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use futures::{Stream, StreamExt as _, stream};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::{dry, guard};
use crate::cli::asking::Operator;
use crate::cli::explain::{self, Explained, Sentences, shaped};
use crate::cli::print;
use crate::view::asked::Asked;
use crate::view::page::Detail;

/// Pages that may follow at once. A browser opens six connections to one server at most.
const GUESTS_MAX: usize = 16;
/// Questions to the operator at once.
const QUESTIONS_MAX: usize = 2;
/// A stream that has nothing to tell says so, or it is taken for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long open connections may delay the end.
const GRACE: Duration = Duration::from_secs(1);

/// The page and its files: path, kind, text.
const FILES: [(&str, &str, &str); 9] = [
    ("/", "text/html; charset=utf-8", include_str!("assets/index.html")),
    ("/app.css", "text/css; charset=utf-8", include_str!("assets/app.css")),
    ("/icon.svg", "image/svg+xml", include_str!("assets/icon.svg")),
    ("/app.js", JS, include_str!("assets/app.js")),
    ("/dom.js", JS, include_str!("assets/dom.js")),
    ("/graph.js", JS, include_str!("assets/graph.js")),
    ("/hour.js", JS, include_str!("assets/hour.js")),
    ("/pipeline.js", JS, include_str!("assets/pipeline.js")),
    ("/pools.js", JS, include_str!("assets/pools.js")),
];
const JS: &str = "text/javascript; charset=utf-8";

/// All that answers need.
pub(super) struct Site {
    board: Arc<Board>,
    operator: Operator,
    bound: SocketAddr,
    guests: Arc<Semaphore>,
    questions: Semaphore,
    ended: CancellationToken,
}

impl Site {
    pub(super) fn new(board: Arc<Board>, operator: Operator, bound: SocketAddr, ended: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            board,
            operator,
            bound,
            guests: Arc::new(Semaphore::new(GUESTS_MAX)),
            questions: Semaphore::new(QUESTIONS_MAX),
            ended,
        })
    }
}

/// Serves until `ended`, then gives open connections a second.
pub(super) async fn serve(listener: TcpListener, site: Arc<Site>, ended: CancellationToken) -> io::Result<()> {
    let served = axum::serve(listener, router(site)).with_graceful_shutdown(ended.clone().cancelled_owned());
    let patience = async {
        ended.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = served.into_future() => served,
        () = patience => Ok(()),
    }
}

/// Everything that is answered, and to whom.
pub(super) fn router(site: Arc<Site>) -> Router {
    let files = FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || async move { ([(header::CONTENT_TYPE, kind)], text) }))
    });
    let bound = site.bound;
    files
        .route("/api/state", get(state))
        .route("/api/events", get(events))
        .route("/api/dry", get(dry_places))
        .route("/api/pipelines/{namespace}/{name}", get(pipeline))
        .route("/api/pipelines/{namespace}/{name}/why", get(why))
        .with_state(site)
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "there is no such page") })
        .layer(middleware::from_fn_with_state(bound, guard::guard))
}

/// A document, or one line why there is none.
fn json<T: Serialize>(document: &T) -> Response {
    match serde_json::to_vec(document) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn problem(code: StatusCode, text: &str) -> Response {
    (code, format!("{text}\n")).into_response()
}

fn unknown(namespace: &str, name: &str) -> Response {
    let text = format!("there is no pipeline '{name}' in namespace '{namespace}' where this view looks");
    problem(StatusCode::NOT_FOUND, &text)
}

async fn state(State(site): State<Arc<Site>>) -> Response {
    json(&site.board.overview(print::now()))
}

/// What a pipeline's page shows.
#[derive(Serialize)]
struct Page {
    #[serde(flatten)]
    detail: Detail,
    /// Reasons of its decisions, in a few words.
    reasons: std::collections::BTreeMap<String, &'static str>,
}

async fn pipeline(State(site): State<Arc<Site>>, Path((namespace, name)): Path<(String, String)>) -> Response {
    match site.board.detail(&namespace, &name, print::now()) {
        None => unknown(&namespace, &name),
        Some(detail) => {
            let shown = detail.screen.decisions.iter().map(|decision| &decision.summary);
            let all = shown.chain(&detail.past.decisions);
            let reasons = all.map(|decision| (decision.reason.clone(), shaped(&decision.reason)));
            let reasons = reasons.collect();
            json(&Page { detail, reasons })
        }
    }
}

/// Why a pipeline is where it is, as `kubectl tiercel why` has it.
#[derive(Serialize)]
struct Why {
    #[serde(flatten)]
    explained: Explained,
    sentences: Sentences,
    /// Costs of the whole, and which pools are dry.
    #[serde(flatten)]
    asked: Asked,
}

/// The operator is being asked as often as it may be.
fn asked_already() -> Response {
    let text = "the operator is being asked already: ask again";
    problem(StatusCode::SERVICE_UNAVAILABLE, text)
}

/// Which pools are dry for which stages.
#[derive(Serialize)]
struct DryPlaces {
    places: Vec<dry::Place>,
    /// Why nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    unreached: Option<String>,
}

async fn dry_places(State(site): State<Arc<Site>>) -> Response {
    let Ok(_turn) = site.questions.try_acquire() else {
        return asked_already();
    };
    let namespace = site.board.namespace();
    json(&match dry::find(&site.operator, namespace.as_deref()).await {
        Ok(places) => DryPlaces {
            places,
            unreached: None,
        },
        Err(unknown) => DryPlaces {
            places: Vec::new(),
            unreached: Some(unknown.to_string()),
        },
    })
}

async fn why(State(site): State<Arc<Site>>, Path((namespace, name)): Path<(String, String)>) -> Response {
    let Some(pipeline) = site.board.pipeline(&namespace, &name) else {
        return unknown(&namespace, &name);
    };
    let Ok(_turn) = site.questions.try_acquire() else {
        return asked_already();
    };
    let explained = explain::of_pipeline(&site.operator, &namespace, &name, &pipeline).await;
    let sentences = explained.sentences();
    let asked = explained.asked();
    json(&Why {
        explained,
        sentences,
        asked,
    })
}

async fn events(State(site): State<Arc<Site>>) -> Response {
    let Ok(guest) = Arc::clone(&site.guests).try_acquire_owned() else {
        let text = format!("{GUESTS_MAX} pages follow already: close one");
        return problem(StatusCode::SERVICE_UNAVAILABLE, &text);
    };
    Sse::new(told(site, guest))
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response()
}

/// The overview now and after every change; of several changes in a row the last.
fn told(site: Arc<Site>, guest: OwnedSemaphorePermit) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    let (changes, ended) = (site.board.changes(), site.ended.clone());
    let first = (site, guest, changes, true);
    let told = stream::unfold(first, |(site, guest, mut changes, first)| async move {
        if !first && !is_changed(&mut changes).await {
            return None;
        }
        changes.mark_unchanged();
        // What cannot be written is not told, and the stream goes on.
        let event = match serde_json::to_string(&site.board.overview(print::now())) {
            Ok(document) => Event::default().event("state").data(document),
            Err(error) => Event::default().comment(error.to_string().replace(['\n', '\r'], " ")),
        };
        Some((Ok(event), (site, guest, changes, false)))
    });
    told.take_until(ended.cancelled_owned())
}

/// False where nothing will change any more.
async fn is_changed(changes: &mut watch::Receiver<u64>) -> bool {
    changes.changed().await.is_ok()
}
