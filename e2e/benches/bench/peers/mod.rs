//! `b7`: the same steps of load for tiercel, for Kubernetes' own autoscaler and for KEDA, side by side in one run on one API
//! server. Each learns of a step in the way it is usually fed: tiercel scrapes a model server, HPA has
//! CPU use through metrics-server, KEDA asks an HTTP endpoint. Every step is from half a replica's load to one and a half.

mod hpa;
mod keda;
mod replicas;
mod report;
mod step;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tiercel_e2e::keda::Keda;
use tiercel_e2e::nodes::X86;
use tiercel_e2e::tools::Tool;

use self::keda::Loads;
use self::replicas::Replicas;
use self::step::{Measured, PROBES, SETTINGS, SYNC, Setting, Step, Who, note_write};
use crate::Failure;
use crate::audit::Log;
use crate::ground::Ground;
use crate::numbers::Draws;
use crate::probes::{self, HIGH, LOW, bare, bare_patch, children, name, pipeline, pool};
use crate::proc::{self, float};
use crate::servers::{Naming, Servers};

const SEED: u64 = 0x7EAC_7107;
/// From landing on a node to Ready.
const STARTUP_MS: u32 = 1_000;
/// What a step may take: the longest sync and metric periods twice over.
const PATIENCE: Duration = Duration::from_secs(75);
/// How often the metrics API is asked what it shows.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const BARE: &str = "bare";

/// Everything on one API server, which ends last.
struct Field {
    servers: Servers,
    loads: Loads,
    pods: Vec<(Who, Replicas)>,
    /// tiercel's Deployments.
    children: Vec<String>,
    keda: Result<keda::Running, Failure>,
    ground: Ground,
}

pub(crate) async fn run() -> Result<Value, Failure> {
    // One that cannot be built does not keep the others from being measured.
    let built = tokio::task::spawn_blocking(|| tiercel_e2e::keda::find_or_build(|line| eprintln!("{line}"))).await?;
    let mut field = Field::start(built.map_err(Failure::from)).await?;
    let mut draws = Draws(SEED);
    let mut figures = Vec::new();
    for setting in SETTINGS {
        field.arm(setting).await?;
        println!(
            "\n{}: {} Deployments each, one step each within {:?}, seed {SEED:#x}",
            setting.name, setting.probes, setting.spread
        );
        let measured = field.measure(setting, &mut draws).await?;
        figures.push(report::phase(setting, &measured));
        field.disarm().await?;
    }
    Ok(json!({
        "operator": field.ground.profile,
        "seed": SEED,
        "scrape_interval_ms": 1000,
        "metrics_server_resolution_s": 15,
        "pod_startup_ms": STARTUP_MS,
        "versions": report::versions()?,
        "keda_is_missing_because": field.keda.as_ref().err().map(ToString::to_string),
        "settings": figures,
    }))
}

impl Field {
    async fn start(built: Result<Keda, Failure>) -> Result<Self, Failure> {
        let ground = Ground::with(&[(&X86, "bench", 8, &[])], true).await?;
        for space in Who::ALL.map(Who::space).into_iter().chain([BARE]) {
            ground.namespace(space, STARTUP_MS).await?;
        }
        let client = &ground.client;
        let servers = Servers::start(client.clone(), Who::Tiercel.space(), LOW, Naming::Pipeline);
        let keda = match built {
            Ok(built) => keda::start(&ground, &built).await,
            Err(error) => Err(error),
        };
        let mut who = vec![Who::Tiercel, Who::Hpa];
        match &keda {
            Ok(_) => who.push(Who::Keda),
            Err(error) => eprintln!("KEDA is not measured: {error}"),
        }
        let mut objects = vec![pool()];
        objects.extend((0..PROBES).map(|at| pipeline(&name(at))));
        ground.apply(Who::Tiercel.space(), &objects).await?;
        for &who in who.iter().filter(|who| **who != Who::Tiercel) {
            let deployments = Api::<Deployment>::namespaced(client.clone(), who.space());
            for at in 0..PROBES {
                let deployment = hpa::deployment(&who.probe(at))?;
                deployments.create(&PostParams::default(), &deployment).await?;
            }
        }
        probes::ready(&servers, PROBES, 1, Duration::from_mins(3)).await?;
        let children = children(&ground, Who::Tiercel.space(), PROBES).await?;
        bare(&ground, Who::Tiercel.space(), BARE, &children).await?;
        let pods = who
            .into_iter()
            .map(|who| (who, Replicas::watch(client.clone(), who.space(), who.label())))
            .collect();
        let loads = Loads::serve().await?;
        Ok(Self {
            servers,
            loads,
            pods,
            children,
            keda,
            ground,
        })
    }

    fn pods(&self, who: Who) -> Option<&Replicas> {
        self.pods.iter().find(|(it, _)| *it == who).map(|(_, pods)| pods)
    }

    /// Low load and one replica everywhere, then the autoscalers, spread over one of their periods: their looks keep the
    /// rhythm in which they were created, and so would all come at one moment otherwise.
    async fn arm(&mut self, setting: Setting) -> Result<(), Failure> {
        if setting.sync != SYNC {
            let flag = format!("--horizontal-pod-autoscaler-sync-period={}s", setting.sync.as_secs());
            let cluster = &self.ground.cluster;
            cluster.restart_with(Tool::ControllerManager, &[&flag]).await?;
        }
        self.calm().await?;
        let client = &self.ground.client;
        for at in 0..setting.probes {
            let start = Instant::now();
            hpa::create(client, Who::Hpa.space(), &Who::Hpa.probe(at)).await?;
            if self.keda.is_ok() {
                let (space, probe) = (Who::Keda.space(), Who::Keda.probe(at));
                keda::create(client, space, &probe, &self.loads, setting.polling).await?;
            }
            let share = SYNC / u32::try_from(setting.probes)?;
            tokio::time::sleep(share.saturating_sub(start.elapsed())).await;
        }
        hpa::active(client, Who::Hpa.space(), setting.probes, Duration::from_mins(2)).await?;
        if let Ok(keda) = &mut self.keda {
            let active = hpa::active(client, Who::Keda.space(), setting.probes, Duration::from_mins(2)).await;
            keda.check()?;
            active.map_err(|error| format!("{error}\n{}", keda.log()))?;
        }
        if !self
            .ground
            .quiet(Duration::from_secs(5), Duration::from_mins(2))
            .await?
        {
            println!("note: the operator still writes two minutes after the pipelines settled");
        }
        Ok(())
    }

    /// Takes the autoscalers away.
    async fn disarm(&self) -> Result<(), Failure> {
        hpa::delete_all(&self.ground.client, Who::Hpa.space()).await?;
        if self.keda.is_ok() {
            keda::delete_all(&self.ground.client, Who::Keda.space()).await?;
        }
        Ok(())
    }

    /// Low load and one replica everywhere; tiercel does its part itself.
    async fn calm(&self) -> Result<(), Failure> {
        let one = Patch::Merge(json!({"spec": {"replicas": 1}}));
        for at in 0..PROBES {
            self.servers.set(&Who::Tiercel.probe(at), LOW);
            self.loads.set(&Who::Keda.probe(at), LOW);
            for (who, pods) in self.pods.iter().filter(|(who, _)| *who != Who::Tiercel) {
                let api = Api::<Deployment>::namespaced(self.ground.client.clone(), who.space());
                if pods.count(&who.probe(at)) != 1 {
                    api.patch_scale(&who.probe(at), &PatchParams::default(), &one).await?;
                }
            }
        }
        let start = Instant::now();
        let alone = |(who, pods): &(Who, Replicas)| (0..PROBES).all(|at| pods.count(&who.probe(at)) == 1);
        while !self.pods.iter().all(alone) {
            if start.elapsed() > Duration::from_mins(3) {
                return Err("not every Deployment is back at one replica after three minutes".into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let client = &self.ground.client;
        futures::stream::iter(0..PROBES)
            .map(Ok)
            .try_for_each_concurrent(4, |at| async move { self.burn(at, LOW).await.map(drop) })
            .await?;
        while !hpa::overloaded(client, Who::Hpa.space()).await?.is_empty() {
            if start.elapsed() > Duration::from_mins(4) {
                return Err("the metrics API still shows the load of before".into());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }

    /// CPU use of the first pod of a Deployment that HPA scales.
    async fn burn(&self, at: usize, requests: u32) -> Result<Timestamp, Failure> {
        let probe = Who::Hpa.probe(at);
        let pod = self.pods(Who::Hpa).and_then(|pods| pods.first(&probe));
        let pod = pod.ok_or_else(|| format!("{probe} has no Ready pod"))?;
        hpa::set_load(&self.ground.client, Who::Hpa.space(), &pod, requests).await
    }

    /// One step for each Deployment of each autoscaler, all three at once, at moments drawn from the seed; a bare client's
    /// PATCH after each.
    async fn measure(&mut self, setting: Setting, draws: &mut Draws) -> Result<Measured, Failure> {
        let spread_ms = u64::try_from(setting.spread.as_millis())?;
        let mut due: Vec<(Duration, usize)> = (0..setting.probes)
            .map(|at| (Duration::from_millis(draws.below(spread_ms)), at))
            .collect();
        due.sort_unstable_by_key(|(after, _)| std::cmp::Reverse(*after));
        let mut log = Log::from_now(self.ground.cluster.audit_log())?;
        let mut bare_log = Log::from_now(self.ground.cluster.audit_log())?;
        let bare_api = Api::<Deployment>::namespaced(self.ground.client.clone(), BARE);
        let (mut steps, mut patches, mut patches_due) =
            (Vec::<Step>::new(), Vec::new(), Vec::<(Instant, usize)>::new());
        let (start, mut looked) = (Instant::now(), Instant::now());
        let (cpu_s, mut requests) = (self.cpu_s()?, BTreeMap::<String, u64>::new());
        let mut last = start;
        loop {
            while let Some(&(after, at)) = due.last().filter(|(after, _)| *after <= start.elapsed()) {
                due.pop();
                let late = start.elapsed().saturating_sub(after);
                if late > Duration::from_secs(1) {
                    println!("note: a step came {late:?} late");
                }
                last = Instant::now();
                steps.extend(self.step(at).await?);
                let pause = Duration::from_millis(1_500 + draws.below(1_000));
                patches_due.push((Instant::now() + pause, at));
            }
            for request in log.read()?.iter().filter(|request| !request.is_lease()) {
                note_write(&mut steps, request);
                let user = request.user.rsplit(':').next().unwrap_or_default();
                *requests.entry(user.to_owned()).or_default() += 1;
            }
            if looked.elapsed() >= LOOK_EVERY && steps.iter().any(|it| it.who == Who::Hpa && it.shown.is_none()) {
                looked = Instant::now();
                let over = hpa::overloaded(&self.ground.client, Who::Hpa.space()).await?;
                let now = Timestamp::now();
                let mine = |it: &&mut Step| it.who == Who::Hpa && over.contains(&it.probe);
                steps.iter_mut().filter(mine).for_each(|it| {
                    it.shown.get_or_insert(now);
                });
            }
            steps.iter_mut().for_each(|step| self.look(step));
            if let Some(found) = patches_due.iter().position(|(when, _)| *when <= Instant::now()) {
                let (_, at) = patches_due.swap_remove(found);
                let child = &self.children[at];
                patches.push(bare_patch(&bare_api, &mut bare_log, child, setting.bare_replicas).await?);
            }
            let is_over = due.is_empty() && patches_due.is_empty();
            if is_over && (steps.iter().all(Step::is_over) || last.elapsed() > PATIENCE) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let elapsed_s = start.elapsed().as_secs_f64();
        let before: BTreeMap<String, f64> = cpu_s.into_iter().collect();
        let spent =
            |(name, after): (String, f64)| Some((after - before.get(&name)?) / elapsed_s).map(|cores| (name, cores));
        let cpu_cores = self.cpu_s()?.into_iter().filter_map(spent).collect();
        let requests_per_s = requests
            .into_iter()
            .map(|(user, count)| (user, float(count) / elapsed_s))
            .collect();
        self.ground.operator.check()?;
        if let Ok(keda) = &mut self.keda {
            keda.check()?;
        }
        Ok(Measured {
            steps,
            patches,
            cpu_cores,
            requests_per_s,
        })
    }

    /// CPU seconds so far of everything that has a part in scaling.
    fn cpu_s(&self) -> Result<Vec<(String, f64)>, Failure> {
        let parts = [Tool::ApiServer, Tool::ControllerManager, Tool::MetricsServer].map(Tool::name);
        let mut pids = self.ground.cluster.pids();
        pids.retain(|(name, _)| parts.contains(name));
        pids.push(("tiercel", self.ground.operator.pid()));
        pids.extend(self.keda.iter().flat_map(keda::Running::pids));
        let cpu = |(name, pid): (&str, u32)| Ok((name.to_owned(), proc::usage(pid)?.cpu_s));
        pids.into_iter().map(cpu).collect()
    }

    /// More load for one Deployment of each autoscaler.
    async fn step(&self, at: usize) -> Result<Vec<Step>, Failure> {
        let mut steps = Vec::new();
        for (who, _) in &self.pods {
            let probe = who.probe(at);
            let (set, deployment) = match who {
                Who::Hpa => (self.burn(at, HIGH).await?, probe.clone()),
                Who::Keda => {
                    let set = Timestamp::now();
                    self.loads.set(&probe, HIGH);
                    (set, probe.clone())
                }
                Who::Tiercel => {
                    let set = Timestamp::now();
                    self.servers.set(&probe, HIGH);
                    (set, self.children[at].clone())
                }
            };
            steps.push(Step {
                who: *who,
                probe,
                deployment,
                set,
                shown: None,
                written: None,
                ready: None,
            });
        }
        Ok(steps)
    }

    /// What the servers and the watch know of a step.
    fn look(&self, step: &mut Step) {
        if step.shown.is_none() {
            step.shown = match step.who {
                Who::Tiercel => self.servers.shown(&step.probe),
                Who::Keda => self.loads.shown(&step.probe),
                Who::Hpa => None,
            };
        }
        if step.ready.is_none() {
            step.ready = self.pods(step.who).and_then(|pods| pods.reached(&step.probe, 2));
        }
    }
}
