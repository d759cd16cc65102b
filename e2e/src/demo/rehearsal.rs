//! The demo's servers and its recorded load, for a pipeline on a cluster that somebody tries things on by hand: `make load`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::ListParams;
use kube::{Api, Client};
use tiercel::api::{ComputePool, TieredPipeline};
use tokio::task::JoinSet;

use super::schedule::SEED;
use super::{Failure, models};
use crate::controlplane;
use crate::fleet::{self, Fleet};
use crate::load::{DriveOptions, Progress, Recorder, Recording, Route, Trace, drive};

/// CPU use of so many pods is written per second.
const USAGE_WRITES_PER_S: usize = 20;
/// Requests that take longer fail.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
/// How often it is told how the load does.
const TELL: Duration = Duration::from_secs(10);

/// What is played.
#[derive(Clone, Debug)]
pub struct Options {
    /// Kubeconfig of the cluster's administrator.
    pub kubeconfig: PathBuf,
    /// Namespace of the pipeline.
    pub namespace: String,
    /// The pipeline. Each of its stages must declare what a replica serves.
    pub pipeline: String,
    /// Mean requests per second.
    pub requests_per_s: f64,
}

/// Answers for every pod of the pipeline as its real server would, and sends it an hour of recorded load; then only answers.
/// Ends when it is dropped, or with an error that says what to do.
pub async fn rehearse(options: &Options, say: impl Fn(&str)) -> Result<(), Failure> {
    let client = controlplane::client(&options.kubeconfig).await?;
    let pipeline = pipeline(&client, options).await?;
    let pools = Api::<ComputePool>::all(client.clone())
        .list(&ListParams::default())
        .await?
        .items;
    if pools.is_empty() {
        return Err("there are no pools, so no replica: apply some, or run `kubectl tiercel discover --apply`".into());
    }
    let stages = models::stage_models(&pipeline, &pools)?;
    let fleet = Fleet::new(models::behaviours(&stages), 1.0);
    let mut tasks = JoinSet::new();
    let (player, reader, namespace) = (fleet.clone(), client.clone(), options.namespace.clone());
    tasks.spawn(async move { fleet::watch_pods_in(player, reader, &namespace).await });
    tasks.spawn(fleet::report_cpu(fleet.clone(), client, USAGE_WRITES_PER_S));
    let trace = trace(options.requests_per_s)?;
    let route = Route::of_pipeline(&serde_json::to_value(&pipeline)?)?;
    let recorder = Arc::new(Recorder::default());
    let drive_options = DriveOptions {
        seed: SEED,
        timeout: REQUEST_TIMEOUT,
        ..DriveOptions::default()
    };
    say(&format!(
        "servers answer for {}/{}; recorded load, {} requests per second on average, until Ctrl-C",
        options.namespace, options.pipeline, options.requests_per_s
    ));
    let driving = drive(route, &trace, fleet.directory(), drive_options, Arc::clone(&recorder));
    let start = Instant::now();
    let telling = async {
        loop {
            tokio::time::sleep(TELL).await;
            say(&told(start.elapsed(), recorder.progress()));
        }
    };
    tokio::select! {
        _ = driving => say("the recording has ended; servers answer on until Ctrl-C"),
        () = telling => {}
    }
    std::future::pending().await
}

async fn pipeline(client: &Client, options: &Options) -> Result<TieredPipeline, Failure> {
    let Options {
        namespace, pipeline, ..
    } = options;
    let found = Api::<TieredPipeline>::namespaced(client.clone(), namespace)
        .get_opt(pipeline)
        .await?;
    let missing = || format!("there is no pipeline '{pipeline}' in namespace '{namespace}': apply it first");
    Ok(found.ok_or_else(missing)?)
}

/// The recording at its own pace, with as many requests as are asked for.
fn trace(requests_per_s: f64) -> Result<Trace, Failure> {
    let trace = Trace::recorded(Recording::AzureConversation)?;
    #[allow(clippy::cast_precision_loss)] // 19,366 arrivals
    let mean = trace.arrivals().len() as f64 / trace.span().as_secs_f64().max(1.0);
    Ok(trace.amplify(requests_per_s / mean, SEED))
}

fn told(elapsed: Duration, progress: Progress) -> String {
    let median = progress
        .latency_ms
        .p50
        .map(|ms| format!(", half within {:.1} s", ms / 1e3));
    format!(
        "[{:>4} s] {} requests/s{}; {} served, {} in flight, {} failed",
        elapsed.as_secs(),
        progress.offered_per_s,
        median.unwrap_or_default(),
        progress.served,
        progress.in_flight,
        progress.failed
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_is_sent_at_its_own_pace_and_the_rate_that_is_asked_for() {
        for wanted in [2.0, 6.0] {
            let trace = trace(wanted).unwrap();
            let rate = f64::from(u32::try_from(trace.arrivals().len()).unwrap()) / trace.span().as_secs_f64();
            assert!((rate / wanted - 1.0).abs() < 0.1, "{rate} requests/s");
            assert!(trace.span() > Duration::from_mins(50), "{:?}", trace.span());
        }
    }

    #[test]
    fn what_nobody_measured_is_not_told() {
        let idle = told(Duration::from_secs(10), Progress::default());
        assert_eq!(idle, "[  10 s] 0 requests/s; 0 served, 0 in flight, 0 failed");
        let busy = Progress {
            served: 58,
            offered_per_s: 6,
            latency_ms: crate::load::Percentiles::of(&mut [1_500.0, 1_500.0]),
            ..Progress::default()
        };
        let busy = told(Duration::from_secs(70), busy);
        assert_eq!(
            busy,
            "[  70 s] 6 requests/s, half within 1.5 s; 58 served, 0 in flight, 0 failed"
        );
    }
}
