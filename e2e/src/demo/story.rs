//! The chapters, in order.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::decisions::Tail;
use super::ending::{self, Verdict};
use super::models;
use super::reclaim;
use super::scene::{Cast, Scene};
use super::schedule::{SEED, Schedule};
use super::screen::Screen;
use super::stage_set::{StageSet, repository};
use super::{Failure, NAMESPACE, SPOT_POOL};
use crate::load::{DriveOptions, Route, drive};
use crate::slot::Port;

/// How long the six stages may take to be Ready.
const READY_WITHIN: Duration = Duration::from_mins(2);
/// Requests that take longer fail.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// How to run the demo.
#[derive(Clone, Debug)]
pub struct Options {
    /// Two minutes instead of five.
    pub fast: bool,
    /// Where the report, the decision log and the cluster's files go.
    pub folder: PathBuf,
}

/// Runs the whole story. Dropping the future ends everything it started.
pub async fn tell(options: &Options) -> Result<Verdict, Failure> {
    let schedule = Schedule::new(options.fast);
    let samples = repository().join("config/samples");
    let declared = models::pools(&samples.join("pools.yaml"))?;
    let pipeline = schedule.sped_up(models::pipeline(&samples.join("support-agent.yaml"))?);
    let pools = models::pool_models(&declared)?;
    let stages = models::stage_models(&pipeline, &declared)?;
    fresh(&options.folder)?;

    let screen = Screen::new();
    screen.say(
        "1 · A real control plane on this machine, with simulated Graviton, x86, L4 spot, H100 and Inferentia nodes.",
    );
    let mut set = StageSet::build(&options.folder, &stages, &screen).await?;
    let shown = set.pools(&samples.join("pools.yaml")).await?;
    screen.say("pools with their prices:");
    print!("{shown}");
    set.namespace(&stages).await?;

    let cast = Cast {
        models: (stages, pools),
        pipeline,
        decisions: Tail::new(options.folder.join("decisions.jsonl")),
        schedule,
    };
    let mut scene = Scene::open(set.client.clone(), cast, screen).await?;
    let startup_s = apply(&set, &mut scene, schedule, &options.folder).await?;
    load(&mut set, &mut scene, schedule).await?;
    set.check()?;
    let verdict = ending::write(&set, &mut scene, schedule, startup_s, &options.folder)?;
    scene.screen.leave();
    scene.screen.say("stopping operator and control plane");
    drop(scene);
    set.strike();
    Ok(verdict)
}

/// An empty folder: nothing of an earlier run is taken for this one's.
fn fresh(folder: &Path) -> Result<(), Failure> {
    for part in ["cluster", "decisions.jsonl", "report.json", "report.html"] {
        let path = folder.join(part);
        let removed = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("cannot remove {}: {error}", path.display()).into());
            }
            _ => {}
        }
    }
    std::fs::create_dir_all(folder)?;
    Ok(())
}

/// Chapter 2. Seconds from `kubectl apply` to every stage Ready.
async fn apply(set: &StageSet, scene: &mut Scene, schedule: Schedule, folder: &Path) -> Result<f64, Failure> {
    scene.chapter(&format!(
        "2 · kubectl apply config/samples/support-agent.yaml: six stages come up where their hints say. Durations are divided by {}, like the load.",
        schedule.speed
    ));
    let manifest = serde_json::to_string_pretty(&scene.pipeline)?;
    std::fs::write(folder.join("support-agent.json"), &manifest)?;
    let start = Instant::now();
    let kubectl = set.cluster.kubectl();
    scene.during(kubectl.apply_in(NAMESPACE, &manifest)).await?;
    loop {
        let missing = scene.stages.iter().find(|stage| {
            let (ready, wanted) = scene.totals(&stage.name);
            ready < wanted || ready < i64::from(stage.bounds.0.max(1))
        });
        let Some(missing) = missing.map(|stage| stage.name.clone()) else {
            break;
        };
        if start.elapsed() > READY_WITHIN {
            let status = kubectl
                .run(&["get", "tieredpipelines,pods", "-n", NAMESPACE, "-o", "wide"])
                .await?;
            return Err(format!("stage {missing} is not Ready after {READY_WITHIN:?}:\n{status}").into());
        }
        scene.during(tokio::time::sleep(Duration::from_millis(20))).await;
    }
    let startup_s = start.elapsed().as_secs_f64();
    scene
        .screen
        .say(&format!("all six stages Ready {startup_s:.1} s after kubectl apply"));
    Ok(startup_s)
}

/// Chapters 3 to 5.
async fn load(set: &mut StageSet, scene: &mut Scene, schedule: Schedule) -> Result<(), Failure> {
    let mut object = serde_json::to_value(&scene.pipeline)?;
    if let Some(metadata) = object.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
        metadata.insert("namespace".into(), NAMESPACE.into());
    }
    let route = Route::of_pipeline(&object)?;
    let trace = schedule.trace()?;
    let objective = scene.objective_ms().map(|ms| Duration::from_secs_f64(ms / 1e3));
    let drive_options = DriveOptions {
        seed: SEED,
        objective,
        timeout: REQUEST_TIMEOUT,
        ..DriveOptions::default()
    };
    let (directory, recorder) = (set.fleet.directory(), scene.recorder.clone());
    scene.begin_load(set.cluster.port(Port::Operator));
    scene.mark("load begins");
    scene.chapter("3 · Recorded load rises; what the first stage sees is passed on, and later stages grow before their queues do.");
    let mut driving = tokio::spawn(async move { drive(route, &trace, directory, drive_options, recorder).await });

    let start = Instant::now();
    let until = |at: Duration| tokio::time::sleep(at.saturating_sub(start.elapsed()));
    scene.during(until(schedule.dry)).await;
    set.check()?;
    let nodes = reclaim::of_pool(&set.client, SPOT_POOL).await?;
    scene.spot = false;
    scene.mark("L4 spot dries up");
    scene
        .chapter("4 · The L4 spot pool dries up: its nodes take no more pods, then its replicas are taken one by one.");
    reclaim::cordon(&set.client, &nodes, true).await?;
    let taking = reclaim::take(set.client.clone(), nodes.clone(), schedule.notice, schedule.between);
    let taken = scene.during(taking).await?;
    scene.chapter(&format!(
        "4 · L4 is gone ({taken} replicas were taken by force): generation runs on H100, Inferentia and partly on Graviton."
    ));
    scene.during(until(schedule.back)).await;
    set.check()?;
    reclaim::cordon(&set.client, &nodes, false).await?;
    scene.spot = true;
    scene.mark("L4 spot is back");
    scene.chapter("5 · Capacity returns: one replica probes the L4 pool, the others follow, and the old ones go when the new are Ready.");
    let patience = schedule.load.saturating_sub(start.elapsed()) + REQUEST_TIMEOUT;
    scene.during(tokio::time::timeout(patience, &mut driving)).await??;
    scene.mark("load ends");
    scene.during(tokio::time::sleep(Duration::from_secs(2))).await;
    Ok(())
}
