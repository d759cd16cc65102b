//! Model servers whose load is set from outside and that remember when they first showed it.
//!
//! The fleet's servers derive their load from a queueing model; here a step has to be exact and its first showing dated.
//! The body is a recorded page of vLLM with two engines, so that it costs the operator what a real one costs.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinHandle};

use crate::ground::is_ready;

const PAGE: &str = include_str!("../../../src/signals/testdata/vllm.prom");
const PORT: u16 = 8000;

/// The pods of one stage.
#[derive(Debug, Default)]
struct Stage {
    /// Requests in the stage, all shown by the pod that has served longest; the others are idle.
    load: u32,
    shown: Option<Timestamp>,
    /// UIDs of Ready pods in the order they came, and their servers.
    pods: Vec<(String, AbortHandle)>,
}

/// All servers. They end with the last clone.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    stages: Arc<Mutex<HashMap<String, Stage>>>,
    _watch: Arc<Task>,
}

/// What the stage of a pod is called here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Naming {
    /// `<pipeline>`
    Pipeline,
    /// `<pipeline>/<stage>`
    Stage,
}

#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Stages = Arc<Mutex<HashMap<String, Stage>>>;

fn locked(stages: &Stages) -> MutexGuard<'_, HashMap<String, Stage>> {
    stages.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Servers {
    /// Serves every Ready pod of a namespace at its own address; every stage starts with this load. Stages are named by
    /// their pipeline alone where pipelines have one.
    pub(crate) fn start(client: Client, namespace: &str, load: u32, naming: Naming) -> Self {
        let stages = Stages::default();
        let pods = Api::<Pod>::namespaced(client, namespace);
        let watch = tokio::spawn(follow(pods, Arc::clone(&stages), load, naming));
        Self {
            stages,
            _watch: Arc::new(Task(watch)),
        }
    }

    /// Changes the load of a pipeline's stage and forgets when the load before was shown.
    pub(crate) fn set(&self, pipeline: &str, load: u32) {
        if let Some(stage) = locked(&self.stages).get_mut(pipeline) {
            stage.load = load;
            stage.shown = None;
        }
    }

    /// When a scrape of the load first was answered, just before the answer went out.
    pub(crate) fn shown(&self, pipeline: &str) -> Option<Timestamp> {
        locked(&self.stages).get(pipeline)?.shown
    }

    /// Ready pods.
    pub(crate) fn ready(&self, pipeline: &str) -> usize {
        locked(&self.stages).get(pipeline).map_or(0, |stage| stage.pods.len())
    }
}

async fn follow(pods: Api<Pod>, stages: Stages, load: u32, naming: Naming) {
    let labelled = watcher::Config::default().labels("tiercel.dev/pipeline");
    let mut events = std::pin::pin!(watcher(pods, labelled).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) => take_in(&stages, &pod, load, naming),
            Ok(watcher::Event::Delete(pod)) => forget(&stages, &pod, naming),
            Ok(_) => {}
            Err(error) => eprintln!("the watch on pods is taken up again: {error}"),
        }
    }
}

fn stage_of(pod: &Pod, naming: Naming) -> Option<String> {
    let pipeline = pod.labels().get("tiercel.dev/pipeline")?;
    Some(match naming {
        Naming::Pipeline => pipeline.clone(),
        Naming::Stage => format!("{pipeline}/{}", pod.labels().get("tiercel.dev/stage")?),
    })
}

fn take_in(stages: &Stages, pod: &Pod, load: u32, naming: Naming) {
    if !is_ready(pod) {
        return forget(stages, pod, naming);
    }
    let ip = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_ref()?.parse().ok());
    let (Some(pipeline), Some(uid), Some(ip)) = (stage_of(pod, naming), pod.uid(), ip) else {
        return;
    };
    let mut all = locked(stages);
    let stage = all.entry(pipeline.clone()).or_insert_with(|| Stage {
        load,
        ..Stage::default()
    });
    if stage.pods.iter().all(|(known, _)| *known != uid) {
        let task = tokio::spawn(listen(
            SocketAddr::new(ip, PORT),
            Arc::clone(stages),
            pipeline,
            uid.clone(),
        ));
        stage.pods.push((uid, task.abort_handle()));
    }
}

fn forget(stages: &Stages, pod: &Pod, naming: Naming) {
    let (Some(pipeline), Some(uid)) = (stage_of(pod, naming), pod.uid()) else {
        return;
    };
    let mut all = locked(stages);
    let Some(stage) = all.get_mut(&pipeline) else {
        return;
    };
    stage.pods.retain(|(known, task)| {
        if *known == uid {
            task.abort();
        }
        *known != uid
    });
}

/// Connections end with the listener's task.
async fn listen(address: SocketAddr, stages: Stages, pipeline: String, uid: String) {
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            // The address of a pod that is about to leave.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (stages, pipeline, uid) = (Arc::clone(&stages), pipeline.clone(), uid.clone());
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |_: Request<hyper::body::Incoming>| {
                let body = page(&stages, &pipeline, &uid);
                async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body)))) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// What a pod shows now: engine 0 has the load, engine 1 nothing; up to ten requests run, the rest waits.
fn page(stages: &Stages, pipeline: &str, uid: &str) -> String {
    let now = Timestamp::now();
    let mut load = 0;
    if let Some(stage) = locked(stages).get_mut(pipeline)
        && stage.pods.first().is_some_and(|(first, _)| first == uid)
    {
        load = stage.load;
        stage.shown.get_or_insert(now);
    }
    let mut body = String::with_capacity(PAGE.len() + 64);
    for line in PAGE.lines() {
        let (series, value) = line.rsplit_once(' ').unwrap_or((line, ""));
        let value = match series
            .split_once('{')
            .map(|(name, labels)| (name, labels.contains("engine=\"0\"")))
        {
            Some(("vllm:num_requests_running", true)) => load.min(10).to_string(),
            Some(("vllm:num_requests_waiting", true)) => load.saturating_sub(10).to_string(),
            Some(("vllm:num_requests_running" | "vllm:num_requests_waiting", false)) => "0".to_owned(),
            Some(("vllm:kv_cache_usage_perc", _)) => "0.1".to_owned(),
            // A page that never changes would be taken for frozen.
            _ if series == "process_cpu_seconds_total" => now.as_millisecond().to_string(),
            _ => value.to_owned(),
        };
        body.push_str(series);
        body.push(' ');
        body.push_str(&value);
        body.push('\n');
    }
    body
}
