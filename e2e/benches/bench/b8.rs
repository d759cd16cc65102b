//! B8: memory, CPU and requests of the operator as the cluster grows, converged and while demands change.
//!
//! 10,000 stages are more than a control plane on one machine takes (80,000 Deployments and as many ReplicaSets): of them
//! the operator's own parts are filled alone, through the same code, each in a process of its own.

mod parts;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tiercel_e2e::nodes::X86;

use crate::Failure;
use crate::audit;
use crate::ground::Ground;
use crate::numbers::Draws;
use crate::proc;
use crate::servers::{Naming, Servers};

pub(crate) use parts::fill;

const SPACE: &str = "size";
/// Stages in all, by rung; `B8_STAGES=100,500` picks others.
const RUNGS: [usize; 2] = [100, 1_000];
const STAGES_PER_PIPELINE: usize = 5;
/// Pipelines per call of kubectl.
const APPLIED_AT_ONCE: usize = 20;
/// Pools, and nodes in each.
const POOLS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
const NODES: usize = 16;
const WINDOW: Duration = Duration::from_mins(1);
/// For the smallest rung and for each stage beyond.
const PATIENCE: Duration = Duration::from_mins(5);
const PATIENCE_PER_STAGE: Duration = Duration::from_millis(900);
const SEED: u64 = 0xB8;
/// Requests in a stage: for one replica, and for two, at ten requests a replica.
const LOW: u32 = 5;
const HIGH: u32 = 15;

pub(crate) async fn run() -> Result<Value, Failure> {
    let parts = parts::all()?;
    let rungs: Vec<usize> = match std::env::var("B8_STAGES") {
        Ok(list) => list.split(',').map(str::parse).collect::<Result<_, _>>()?,
        Err(_) => RUNGS.to_vec(),
    };
    let labels = POOLS.map(|pool| [("bench.example/pool", pool)]);
    let nodes: Vec<_> = POOLS
        .iter()
        .zip(&labels)
        .map(|(&pool, labels)| (&X86, pool, NODES, labels.as_slice()))
        .collect();
    let mut ground = Ground::start(&nodes).await?;
    ground.namespace(SPACE, 100).await?;
    // Every replica is scraped each second, as in earnest.
    let servers = Servers::start(ground.client.clone(), SPACE, LOW, Naming::Stage);
    let pools: Vec<_> = (1..).zip(POOLS).map(|(price, name)| pool(name, price)).collect();
    ground.apply(SPACE, &pools).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let empty = proc::usage(ground.operator.pid())?;
    println!("no pipelines: {}", memory(&empty));
    let (mut rows, mut applied) = (Vec::new(), 0);
    for stages in rungs {
        let pipelines = stages / STAGES_PER_PIPELINE;
        let more: Vec<_> = (applied..pipelines).map(pipeline).collect();
        applied = pipelines;
        let row = rung(&mut ground, &servers, pipelines, &more).await;
        // What was measured before is worth keeping.
        match row {
            Ok(row) => rows.push(row),
            Err(error) => {
                println!("{stages} stages: {error}");
                rows.push(json!({"stages": stages, "stopped": error.to_string()}));
                break;
            }
        }
    }
    Ok(json!({
        "operator": ground.profile,
        "stages_per_pipeline": STAGES_PER_PIPELINE,
        "pools": POOLS.len(),
        "nodes": POOLS.len() * NODES,
        "window_seconds": WINDOW.as_secs(),
        "seed": SEED,
        "without_pipelines": empty,
        "rungs": rows,
        "parts": parts,
    }))
}

async fn rung(ground: &mut Ground, servers: &Servers, pipelines: usize, more: &[Value]) -> Result<Value, Failure> {
    let stages = pipelines * STAGES_PER_PIPELINE;
    let patience = PATIENCE + PATIENCE_PER_STAGE * u32::try_from(stages)?;
    let mut log = ground.audit()?;
    let before = proc::usage(ground.operator.pid())?;
    let start = Instant::now();
    // One call of kubectl has a minute.
    for few in more.chunks(APPLIED_AT_ONCE) {
        ground.apply(SPACE, few).await?;
    }
    while ground.pods(SPACE).await?.0 < stages {
        if start.elapsed() > patience {
            let (ready, all) = ground.pods(SPACE).await?;
            return Err(format!("{ready} of {stages} pods are Ready after {patience:?} ({all} exist)").into());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let ready_s = start.elapsed().as_secs_f64();
    let still = Duration::from_secs(10);
    let quiet = ground.quiet(still, patience).await?;
    let quiet_s = start.elapsed().as_secs_f64() - if quiet { still.as_secs_f64() } else { 0.0 };
    let building = own(ground, log.read()?);
    let built = proc::usage(ground.operator.pid())?;
    let changes = building.iter().filter(|it| it.is_mutating() && !it.is_lease()).count();
    println!(
        "{stages:>5} stages, {:>5} variants: Ready after {ready_s:.1} s, {}; {changes} changes, {:.1} CPU s to build",
        stages * POOLS.len(),
        if quiet {
            format!("quiet after {quiet_s:.1} s")
        } else {
            "never quiet".to_owned()
        },
        built.cpu_s - before.cpu_s,
    );
    let converged = window(ground, &mut log, "converged", || {}).await?;
    let mut draws = Draws(SEED);
    let mut high = vec![false; stages];
    let changing = window(ground, &mut log, "1 % of demands change per second", || {
        for _ in 0..stages.div_ceil(100) {
            let at = usize::try_from(draws.below(u64::try_from(stages).unwrap_or(1))).unwrap_or_default();
            if let Some(high) = high.get_mut(at) {
                *high = !*high;
                servers.set(&name(at), if *high { HIGH } else { LOW });
            }
        }
    })
    .await?;
    for at in 0..stages {
        servers.set(&name(at), LOW);
    }
    ground.quiet(still, patience).await?;
    // What building left behind is gone then: as an upgrade, or a node that is drained, leaves it.
    ground.operator.stop();
    ground.operator.restart()?;
    tokio::time::sleep(still).await;
    ground.quiet(still, patience).await?;
    let restarted = window(ground, &mut log, "after a restart", || {}).await?;
    Ok(json!({
        "pipelines": pipelines,
        "stages": stages,
        "variants": stages * POOLS.len(),
        "ready_seconds": ready_s,
        "quiet_seconds": quiet.then_some(quiet_s),
        "building_cpu_seconds": built.cpu_s - before.cpu_s,
        "building_requests": audit::count(&building),
        "building_rss_kib_max": built.rss_kib_max,
        "converged": converged,
        "changing": changing,
        "restarted": restarted,
    }))
}

/// A minute of the operator, `every_second` done each second of it.
async fn window(
    ground: &Ground,
    log: &mut audit::Log,
    what: &str,
    mut every_second: impl FnMut(),
) -> Result<Value, Failure> {
    log.read()?;
    let (from, start) = (proc::usage(ground.operator.pid())?, Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    while start.elapsed() < WINDOW {
        ticks.tick().await;
        every_second();
    }
    let (to, took_s) = (proc::usage(ground.operator.pid())?, start.elapsed().as_secs_f64());
    let requests = own(ground, log.read()?);
    let cores = (to.cpu_s - from.cpu_s) / took_s;
    let counts = audit::count(&requests);
    let beside = |request: &&audit::Request| !request.is_lease() && request.verb != "watch";
    let others = proc::float(u64::try_from(requests.iter().filter(beside).count())?) / took_s;
    println!(
        "      {what}: {}, {cores:.3} cores, {others:.2} requests per second beside lease and watches: {counts:?}",
        memory(&to)
    );
    Ok(json!({
        "usage": to,
        "cpu_cores": cores,
        "requests": counts,
        "requests_per_second_beside_lease_and_watches": others,
    }))
}

fn own(ground: &Ground, requests: Vec<audit::Request>) -> Vec<audit::Request> {
    requests.into_iter().filter(|it| ground.is_operators(it)).collect()
}

fn memory(usage: &proc::Usage) -> String {
    let mib = |kib| proc::float(kib) / 1024.0;
    format!(
        "{:.1} MiB ({:.1} its own, most {:.1})",
        mib(usage.rss_kib),
        mib(usage.own_kib),
        mib(usage.rss_kib_max)
    )
}

/// Kinds of node that differ in price only: every stage may run on each.
fn pool(name: &str, price: u32) -> Value {
    json!({
        "apiVersion": "tiercel.dev/v1alpha1",
        "kind": "ComputePool",
        "metadata": {"name": format!("pool-{name}")},
        "spec": {"tier": "CPU", "architecture": "amd64", "costPerNodeHour": format!("0.{price}"),
                 "nodeSelector": {"bench.example/pool": name}},
    })
}

fn pipeline_name(at: usize) -> String {
    format!("agent-{at:04}")
}

/// What a stage is called among the servers.
fn name(at: usize) -> String {
    format!(
        "{}/stage-{}",
        pipeline_name(at / STAGES_PER_PIPELINE),
        at % STAGES_PER_PIPELINE
    )
}

fn pipeline(at: usize) -> Value {
    let stages: Vec<_> = (0..STAGES_PER_PIPELINE).map(stage).collect();
    json!({
        "apiVersion": "tiercel.dev/v1alpha1",
        "kind": "TieredPipeline",
        "metadata": {"name": pipeline_name(at)},
        "spec": {"stages": stages},
    })
}

/// A chain.
fn stage(at: usize) -> Value {
    let mut stage = json!({
        "name": format!("stage-{at}"),
        "kind": "Inference",
        "container": {
            "image": "registry.example.com/bench/stage:1",
            "ports": [{"name": "http", "containerPort": 8000}],
            "resources": {"requests": {"cpu": "150m", "memory": "256Mi"}},
        },
        "capacity": {"concurrency": 10},
        "replicas": {"min": 1, "max": 4},
        "signal": {"preset": "vllm", "targetPercent": 100},
        "scaling": {"scaleDown": {"stabilizationWindowSeconds": 0}},
    });
    if at > 0 {
        stage["after"] = json!([{"stage": format!("stage-{}", at - 1)}]);
    }
    stage
}
