//! Memory, CPU and requests of a converged operator as the cluster grows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tiercel_e2e::fleet::{Behaviour, Behaviours, Fleet, watch_pods};
use tiercel_e2e::nodes::X86;

use crate::Failure;
use crate::audit;
use crate::ground::Ground;
use crate::proc;

const SPACE: &str = "size";
const PIPELINES: [usize; 3] = [10, 30, 100];
const STAGES: usize = 6;
/// Pools, and nodes in each.
const POOLS: [&str; 5] = ["a", "b", "c", "d", "e"];
const NODES: usize = 8;
const WINDOW: Duration = Duration::from_mins(1);
const PATIENCE: Duration = Duration::from_mins(8);

pub(crate) async fn run() -> Result<Value, Failure> {
    let labels = POOLS.map(|pool| [("bench.example/pool", pool)]);
    let nodes: Vec<_> = POOLS
        .iter()
        .zip(&labels)
        .map(|(&pool, labels)| (&X86, pool, NODES, labels.as_slice()))
        .collect();
    let ground = Ground::start(&nodes).await?;
    ground.namespace(SPACE, 100).await?;
    // Every replica is scraped each second, as in earnest.
    let fleet = Fleet::new(Behaviours::new(Behaviour::vllm(4.0, 16)), 1.0);
    let played = tokio::spawn(watch_pods(fleet.clone(), ground.client.clone()));
    let pools: Vec<_> = (1..).zip(POOLS).map(|(price, name)| pool(name, price)).collect();
    ground.apply(SPACE, &pools).await?;
    let empty = proc::usage(ground.operator.pid())?;
    println!("no pipelines: {:.1} MiB", mib(empty.rss_kib));
    let (mut rungs, mut applied) = (Vec::new(), 0);
    for target in PIPELINES {
        let more: Vec<_> = (applied..target).map(pipeline).collect();
        applied = target;
        rungs.push(rung(&ground, target, &more).await?);
    }
    played.abort();
    fleet.stop();
    Ok(json!({
        "operator": ground.profile,
        "stages_per_pipeline": STAGES,
        "pools": POOLS.len(),
        "nodes": POOLS.len() * NODES,
        "window_seconds": WINDOW.as_secs(),
        "rss_kib_without_pipelines": empty.rss_kib,
        "rungs": rungs,
    }))
}

async fn rung(ground: &Ground, pipelines: usize, more: &[Value]) -> Result<Value, Failure> {
    let pods = pipelines * STAGES;
    let mut log = ground.audit()?;
    let before = proc::usage(ground.operator.pid())?;
    let start = Instant::now();
    ground.apply(SPACE, more).await?;
    while ground.pods(SPACE).await?.0 < pods {
        if start.elapsed() > PATIENCE {
            let (ready, all) = ground.pods(SPACE).await?;
            return Err(format!("{ready} of {pods} pods are Ready after {PATIENCE:?} ({all} exist)").into());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let ready_s = start.elapsed().as_secs_f64();
    let still = Duration::from_secs(10);
    let quiet = ground.quiet(still, PATIENCE).await?;
    let quiet_s = start.elapsed().as_secs_f64() - if quiet { still.as_secs_f64() } else { 0.0 };
    let own = |requests: Vec<audit::Request>| {
        requests
            .into_iter()
            .filter(|it| ground.is_operators(it))
            .collect::<Vec<_>>()
    };
    let building = own(log.read()?);
    let from = proc::usage(ground.operator.pid())?;
    let window = Instant::now();
    tokio::time::sleep(WINDOW).await;
    let to = proc::usage(ground.operator.pid())?;
    let cores = (to.cpu_s - from.cpu_s) / window.elapsed().as_secs_f64();
    let converged = audit::count(&own(log.read()?));
    let changes = building.iter().filter(|it| it.is_mutating() && !it.is_lease()).count();
    println!(
        "{pipelines:>4} pipelines, {pods:>4} stages, {:>5} variants: {:>6.1} MiB (most {:.1}), {cores:.3} cores converged; \
         Ready after {ready_s:.1} s, {}",
        pods * POOLS.len(),
        mib(to.rss_kib),
        mib(to.rss_kib_max),
        if quiet {
            format!("quiet after {quiet_s:.1} s")
        } else {
            "never quiet".to_owned()
        },
    );
    println!(
        "     building: {changes} changes, {:.1} CPU s; converged for {WINDOW:?}: {converged:?}",
        from.cpu_s - before.cpu_s
    );
    Ok(json!({
        "pipelines": pipelines,
        "stages": pods,
        "variants": pods * POOLS.len(),
        "replicas_scraped_each_second": pods,
        "ready_seconds": ready_s,
        "quiet_seconds": quiet.then_some(quiet_s),
        "building_cpu_seconds": from.cpu_s - before.cpu_s,
        "building_requests": audit::count(&building),
        "converged": to,
        "converged_cpu_cores": cores,
        "requests_converged": converged,
    }))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Five kinds of node that differ in price only: every stage may run on each.
fn pool(name: &str, price: u32) -> Value {
    json!({
        "apiVersion": "tiercel.dev/v1alpha1",
        "kind": "ComputePool",
        "metadata": {"name": format!("pool-{name}")},
        "spec": {"tier": "CPU", "architecture": "amd64", "costPerNodeHour": format!("0.{price}"),
                 "nodeSelector": {"bench.example/pool": name}},
    })
}

fn pipeline(at: usize) -> Value {
    let stages: Vec<_> = (0..STAGES).map(stage).collect();
    json!({
        "apiVersion": "tiercel.dev/v1alpha1",
        "kind": "TieredPipeline",
        "metadata": {"name": format!("agent-{at:03}")},
        "spec": {"stages": stages},
    })
}

/// A chain. Idle, so that everything is at its least.
fn stage(at: usize) -> Value {
    let mut stage = json!({
        "name": format!("stage-{at}"),
        "kind": "Inference",
        "container": {
            "image": "registry.example.com/bench/stage:1",
            "ports": [{"name": "http", "containerPort": 8000}],
            "resources": {"requests": {"cpu": "150m", "memory": "256Mi"}},
        },
        "capacity": {"requestsPerSecond": "4", "concurrency": 16},
        "replicas": {"min": 1, "max": 20},
        "signal": {"preset": "vllm", "targetPercent": 75},
    });
    if at > 0 {
        stage["after"] = json!([{"stage": format!("stage-{}", at - 1)}]);
    }
    stage
}
