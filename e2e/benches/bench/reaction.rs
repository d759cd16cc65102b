//! From a step of load to an acknowledged write, beside a bare client's PATCH of an equal Deployment in the same run.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::{Value, json};
use tiercel_e2e::nodes::X86;

use crate::Failure;
use crate::audit::{self, Log, Request, millis};
use crate::ground::Ground;
use crate::numbers::{self, Draws, ratio, summary};
use crate::probes::{Bare, HIGH, LOW, PATIENCE, bare, bare_patch, children, name, pipeline, pool, ready};
use crate::proc::{self, float};
use crate::servers::{Naming, Servers};

const SPACE: &str = "reaction";
const BARE: &str = "bare";
/// Stages to step, one pipeline each: shrinking is limited per stage and minute.
const STAGES: usize = 20;
/// Every stage grows and shrinks so often.
const ROUNDS: usize = 3;
const SEED: u64 = 0x7EAC_7104;
const CONVERGED: Duration = Duration::from_mins(1);

/// One step of load that a write followed.
struct Step {
    grows: bool,
    set: Timestamp,
    shown: Timestamp,
    patch: Request,
}

pub(crate) async fn run() -> Result<Value, Failure> {
    let ground = Ground::start(&[(&X86, "bench", 4, &[])]).await?;
    ground.namespace(SPACE, 100).await?;
    ground.namespace(BARE, 100).await?;
    let servers = Servers::start(ground.client.clone(), SPACE, LOW, Naming::Pipeline);
    let mut objects = vec![pool()];
    objects.extend((0..STAGES).map(|at| pipeline(&name(at))));
    ground.apply(SPACE, &objects).await?;
    ready(&servers, STAGES, 1, Duration::from_mins(3)).await?;
    let children = children(&ground, SPACE, STAGES).await?;
    bare(&ground, SPACE, BARE, &children).await?;
    if !ground.quiet(Duration::from_secs(5), Duration::from_mins(3)).await? {
        println!("note: the operator still writes three minutes after the pipelines were applied");
    }
    println!(
        "{STAGES} stages on one pool, {} steps, seed {SEED:#x}",
        STAGES * ROUNDS * 2
    );

    let (before, decided) = (proc::usage(ground.operator.pid())?, ground.decisions());
    let start = Instant::now();
    let mut all = ground.audit()?;
    let mut requests = Vec::new();
    let mut clock = Log::from_now(ground.cluster.audit_log())?;
    let mut draws = Draws(SEED);
    let bare_api = Api::<Deployment>::namespaced(ground.client.clone(), BARE);
    let (mut steps, mut patches, mut missed) = (Vec::new(), Vec::new(), 0_u32);
    for round in 0..ROUNDS * 2 {
        let grows = round % 2 == 0;
        for (at, child) in children.iter().enumerate() {
            let replicas = if grows { 2 } else { 1 };
            calm(&mut draws).await;
            clock.read()?;
            let set = Timestamp::now();
            servers.set(&name(at), if grows { HIGH } else { LOW });
            match observed(&ground, &servers, &mut clock, &name(at), child).await? {
                Some((shown, patch)) => steps.push(Step {
                    grows,
                    set,
                    shown,
                    patch,
                }),
                None => missed += 1,
            }
            settled(&servers, &name(at), replicas).await;
            calm(&mut draws).await;
            patches.push(bare_patch(&bare_api, &mut clock, child, u32::try_from(replicas)?).await?);
            requests.extend(all.read()?.into_iter().filter(|request| ground.is_operators(request)));
        }
    }
    ground.quiet(Duration::from_secs(3), Duration::from_secs(60)).await?;
    requests.extend(all.read()?.into_iter().filter(|request| ground.is_operators(request)));
    let decisions = ground.decisions() - decided;
    let after = proc::usage(ground.operator.pid())?;
    let cpu_cores = (after.cpu_s - before.cpu_s) / start.elapsed().as_secs_f64();

    all.read()?;
    tokio::time::sleep(CONVERGED).await;
    let converged: Vec<_> = all
        .read()?
        .into_iter()
        .filter(|request| ground.is_operators(request))
        .collect();
    Ok(report(
        &ground, &steps, &patches, missed, &requests, decisions, &converged, cpu_cores,
    ))
}

/// The first scrape that showed the step, and the write that followed it.
async fn observed(
    ground: &Ground,
    servers: &Servers,
    log: &mut Log,
    pipeline: &str,
    child: &str,
) -> Result<Option<(Timestamp, Request)>, Failure> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let written = log.read()?.into_iter().find(|request| {
            ground.is_operators(request)
                && request.name == child
                && request.verb == "patch"
                && request.resource == "deployments/scale"
                && request.code == 200
        });
        if let (Some(patch), Some(shown)) = (written, servers.shown(pipeline)) {
            return Ok(Some((shown, patch)));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(None)
}

/// Until what a write set off is over, on either side: 400 to 800 ms, drawn so that no step keeps pace with the scrapes.
async fn calm(draws: &mut Draws) {
    tokio::time::sleep(Duration::from_millis(400 + draws.below(400))).await;
}

/// Until the replicas are there, so that one step does not run into the next.
async fn settled(servers: &Servers, pipeline: &str, replicas: usize) {
    let start = Instant::now();
    while servers.ready(pipeline) != replicas && start.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[expect(clippy::too_many_arguments, reason = "everything that was measured")]
fn report(
    ground: &Ground,
    steps: &[Step],
    patches: &[Bare],
    missed: u32,
    requests: &[Request],
    decisions: usize,
    converged: &[Request],
    cpu_cores: f64,
) -> Value {
    let of = |grows: Option<bool>, from: fn(&Step) -> f64| {
        let chosen = steps
            .iter()
            .filter(|step| grows.is_none_or(|grows| step.grows == grows));
        summary(&chosen.map(from).collect::<Vec<_>>())
    };
    let reaction: fn(&Step) -> f64 = |step| millis(step.shown, step.patch.answered);
    let all = of(None, reaction);
    let decide = of(None, |step| millis(step.shown, step.patch.received));
    let server = of(None, |step| millis(step.patch.received, step.patch.answered));
    let whole = of(None, |step| millis(step.set, step.patch.answered));
    let bare = summary(&patches.iter().map(|patch| patch.answered_ms).collect::<Vec<_>>());
    let bare_client = summary(&patches.iter().map(|patch| patch.client_ms).collect::<Vec<_>>());
    let p50 = ratio(all.p50, bare.p50);
    println!(
        "ratio, reaction / bare PATCH: p50 {:.2}, p99 {:.2}; p99 {:+.1} ms",
        p50.unwrap_or_default(),
        ratio(all.p99, bare.p99).unwrap_or_default(),
        all.p99 - bare.p99
    );
    numbers::print("reaction: scrape answered -> write answered", "ms", all);
    numbers::print("  of it, until the server has the PATCH", "ms", decide);
    numbers::print("  of it, inside the server", "ms", server);
    numbers::print("  growing", "ms", of(Some(true), reaction));
    numbers::print("  shrinking", "ms", of(Some(false), reaction));
    numbers::print("load step -> write answered (scrapes every second)", "ms", whole);
    numbers::print("bare client's PATCH: sent -> answered by the server", "ms", bare);
    numbers::print("bare client's PATCH: as the client sees it", "ms", bare_client);
    println!("steps without a write within {PATIENCE:?}: {missed}");
    let asked: Vec<_> = requests.iter().filter(|request| !request.is_lease()).collect();
    let mutating = asked.iter().filter(|request| request.is_mutating()).count();
    let number = |count: usize| float(u64::try_from(count).unwrap_or_default());
    let per_decision = ratio(number(asked.len()), number(decisions));
    println!(
        "requests per decision: {:.2} ({mutating} changes and {} reads for {decisions} decisions)",
        per_decision.unwrap_or_default(),
        asked.len() - mutating
    );
    let by_kind = audit::count(asked.iter().copied());
    by_kind.iter().for_each(|(what, count)| println!("  {count:>5} {what}"));
    println!(
        "requests while converged for {CONVERGED:?}: {:?}",
        audit::count(converged)
    );
    println!("CPU of the operator during the steps: {cpu_cores:.3} cores");
    json!({
        "operator": ground.profile,
        "stages": STAGES,
        "steps": steps.len(),
        "steps_without_write": missed,
        "seed": SEED,
        "scrape_interval_ms": 1000,
        "ratio_p50": p50,
        "ratio_p99": ratio(all.p99, bare.p99),
        "p99_beyond_bare_ms": all.p99 - bare.p99,
        "reaction_ms": all,
        "reaction_growing_ms": of(Some(true), reaction),
        "reaction_shrinking_ms": of(Some(false), reaction),
        "until_patch_received_ms": decide,
        "inside_server_ms": server,
        "step_to_write_ms": whole,
        "bare_patch_ms": bare,
        "bare_patch_as_client_sees_it_ms": bare_client,
        "decisions": decisions,
        "requests_per_decision": per_decision,
        "requests": by_kind,
        "converged_seconds": CONVERGED.as_secs(),
        "requests_converged": audit::count(converged),
        "cpu_cores": cpu_cores,
    })
}
