//! What is seen at one moment, drawn and kept: the observer's replicas and costs, the client's requests, the operator's
//! decision log and conditions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use tiercel::api::TieredPipeline;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::accelerators::Moment;
use super::decisions::Tail;
use super::models::{PoolModel, StageModel};
use super::planning::Planning;
use super::schedule::Schedule;
use super::screen::Screen;
use super::view::{self, Column, Frame, Row};
use super::{NAMESPACE, SPOT_POOL};
use crate::load::Recorder;
use crate::observe::{self, Ledger, Observer};
use crate::report::{Sample, StoryEvent};

const TICK: Duration = Duration::from_millis(200);
/// Time between two samples for the report.
const SAMPLE: Duration = Duration::from_millis(500);
/// Time between two looks at the pipeline's conditions.
const LOOK: Duration = Duration::from_secs(1);
/// Load is averaged over so long: single requests come and go.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Decisions in the view.
const DECISIONS: usize = 12;

/// What the API server says beyond replicas: the condition `PreferredTier`, and which stage and pool each Deployment is.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Status and message.
    pub preferred_tier: Option<(String, String)>,
    /// Stage and pool by Deployment.
    pub deployments: BTreeMap<String, (String, String)>,
}

/// The run so far.
pub struct Scene {
    /// Stages, in order.
    pub stages: Vec<StageModel>,
    /// Pools, in order.
    pub pools: Vec<PoolModel>,
    /// The observer.
    pub observer: Observer,
    /// How good plans are, from the beginning of the load on.
    pub planning: Option<Planning>,
    /// The client's measurements.
    pub recorder: Arc<Recorder>,
    /// The decision log.
    pub decisions: Tail,
    /// Marks for the report.
    pub events: Vec<StoryEvent>,
    /// Samples for the report.
    pub samples: Vec<(f64, Sample, Moment)>,
    /// Whether the spot pool has capacity.
    pub spot: bool,
    /// The pipeline.
    pub pipeline: TieredPipeline,
    /// The terminal.
    pub screen: Screen,
    told: Arc<Mutex<Told>>,
    _tasks: JoinSet<()>,
    schedule: Schedule,
    chapter: String,
    begun: Option<(Instant, jiff::Timestamp)>,
    sampled: Option<Instant>,
    requests: VecDeque<(Instant, u64)>,
    known_tier: Option<String>,
}

/// What a scene is made of.
pub struct Cast {
    /// Stages and pools.
    pub models: (Vec<StageModel>, Vec<PoolModel>),
    /// The pipeline as it will be applied.
    pub pipeline: TieredPipeline,
    /// The decision log.
    pub decisions: Tail,
    /// Times of the run.
    pub schedule: Schedule,
}

impl Scene {
    /// Begins to observe.
    pub async fn open(client: Client, cast: Cast, screen: Screen) -> Result<Self, observe::Blind> {
        let observer = Observer::start(client.clone()).await?;
        let told = Arc::new(Mutex::new(Told::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(client, cast.pipeline.name_any(), Arc::clone(&told)));
        Ok(Self {
            stages: cast.models.0,
            pools: cast.models.1,
            observer,
            recorder: Arc::default(),
            decisions: cast.decisions,
            events: Vec::new(),
            samples: Vec::new(),
            spot: true,
            pipeline: cast.pipeline,
            screen,
            told,
            _tasks: tasks,
            schedule: cast.schedule,
            chapter: String::new(),
            begun: None,
            planning: None,
            sampled: None,
            requests: VecDeque::new(),
            known_tier: None,
        })
    }

    /// The story goes on.
    pub fn chapter(&mut self, text: &str) {
        text.clone_into(&mut self.chapter);
        self.screen.say(text);
    }

    /// Marks something in every plot.
    pub fn mark(&mut self, label: &str) {
        let t_s = self.elapsed_s();
        self.events.push(StoryEvent {
            t_s,
            label: label.to_owned(),
        });
    }

    /// The load begins now. The operator tells its metrics at `port`.
    pub fn begin_load(&mut self, port: u16) {
        self.planning = Some(Planning::watch(port));
        self.begun = Some((Instant::now(), jiff::Timestamp::now()));
        self.samples.clear();
    }

    /// When the load began.
    pub fn begun_at(&self) -> Option<jiff::Timestamp> {
        self.begun.map(|(_, at)| at)
    }

    /// Seconds since the load began.
    pub fn elapsed_s(&self) -> f64 {
        self.begun.map_or(0.0, |(start, _)| start.elapsed().as_secs_f64())
    }

    /// What was told last.
    pub fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets time pass until `work` is done, looking and drawing meanwhile.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => self.tick(),
            }
        }
    }

    /// Ready and asked-for replicas of a stage, over all pools.
    pub fn totals(&self, stage: &str) -> (i64, i64) {
        let pools = self.observer.snapshot().pools(&self.key(stage));
        pools
            .values()
            .fold((0, 0), |(ready, wanted), (spec, up)| (ready + up, wanted + spec))
    }

    /// Ready and asked-for replicas of a stage on a pool.
    pub fn on_pool(&self, stage: &str, pool: &str) -> (i64, i64) {
        let pools = self.observer.snapshot().pools(&self.key(stage));
        pools.get(pool).map_or((0, 0), |(spec, ready)| (*ready, *spec))
    }

    fn key(&self, stage: &str) -> observe::StageKey {
        observe::StageKey {
            namespace: NAMESPACE.to_owned(),
            pipeline: self.pipeline.name_any(),
            stage: stage.to_owned(),
        }
    }

    fn tick(&mut self) {
        self.decisions();
        self.tier();
        let now = Instant::now();
        self.requests.push_back((now, self.recorder.progress().requests));
        while self
            .requests
            .front()
            .is_some_and(|(at, _)| now.duration_since(*at) > RATE_WINDOW)
        {
            self.requests.pop_front();
        }
        let ledger = self.observer.snapshot();
        let frame = self.frame(&ledger);
        if self.sampled.is_none_or(|last| last.elapsed() >= SAMPLE) {
            self.sampled = Some(now);
            self.keep(&frame);
        }
        self.screen.show(&frame);
    }

    fn decisions(&mut self) {
        let new = self.decisions.read();
        if self.screen.is_live() {
            return;
        }
        let start = self.begun_at().unwrap_or_else(jiff::Timestamp::now);
        let from = self.decisions.all.len() - new;
        for decision in self.decisions.all.iter().skip(from) {
            let t_s = decision.time.duration_since(start).as_secs_f64();
            self.screen.say(view::decision_line(t_s, decision).trim_start());
        }
    }

    /// Tells when the preferred tier is lost or back.
    fn tier(&mut self) {
        let Some((status, message)) = self.told().preferred_tier else {
            return;
        };
        if self.known_tier.as_ref() == Some(&status) {
            return;
        }
        let before = self.known_tier.replace(status.clone());
        if before.is_some() {
            self.screen.say(&format!("PreferredTier={status}: {message}"));
            self.mark(&format!("PreferredTier={status}"));
        }
    }

    fn offered_per_s(&self) -> Option<f64> {
        self.begun?;
        let ((first, before), (last, now)) = (self.requests.front()?, self.requests.back()?);
        let span = last.duration_since(*first).as_secs_f64();
        #[allow(clippy::cast_precision_loss)] // thousands of requests
        let count = now.saturating_sub(*before) as f64;
        (span > 0.5).then(|| count / span)
    }

    fn frame(&self, ledger: &Ledger) -> Frame {
        let offered = self.offered_per_s();
        let rows = self.stages.iter().map(|stage| {
            let seen = ledger.pools(&self.key(&stage.name));
            let count = |value: i64| u32::try_from(value).unwrap_or(0);
            let cell = |pool: &PoolModel| {
                stage.replicas.get(&pool.name)?;
                let (spec, ready) = seen.get(&pool.name).copied().unwrap_or((0, 0));
                Some((count(ready), count(spec)))
            };
            let cells: Vec<_> = self.pools.iter().map(cell).collect();
            let can = self.pools.iter().zip(&cells).filter_map(|(pool, cell)| {
                let (ready, _) = (*cell)?;
                Some(f64::from(ready) * stage.replicas.get(&pool.name)?.per_s)
            });
            let can: f64 = can.sum();
            Row {
                stage: stage.name.clone(),
                load: offered.map(|offered| (offered * stage.visits, can)),
                cells,
            }
        });
        let progress = self.recorder.progress();
        let bad = progress.late + progress.failed;
        #[allow(clippy::cast_precision_loss)] // thousands of requests
        let late = (progress.requests > 0).then(|| 100.0 * bad as f64 / progress.requests as f64);
        let start = self.begun_at().unwrap_or_else(jiff::Timestamp::now);
        let skip = self.decisions.all.len().saturating_sub(DECISIONS);
        let decisions = self.decisions.all.iter().skip(skip);
        #[allow(clippy::cast_precision_loss)] // some dollars
        let cost = ledger.cost_micros(NAMESPACE, &self.pipeline.name_any()) as f64 / 1e6;
        Frame {
            chapter: self.chapter.clone(),
            load: format!(
                "{}× speed, {:.1} requests/s",
                self.schedule.speed,
                offered.unwrap_or(0.0)
            ),
            time: self.begun.map(|_| (self.elapsed_s(), self.schedule.load.as_secs_f64())),
            columns: self.pools.iter().map(|pool| self.column(pool)).collect(),
            rows: rows.collect(),
            cost_per_hour: cost,
            requests: (progress.requests, progress.in_flight, progress.failed),
            latency_ms: (progress.latency_ms.p50, progress.latency_ms.p95),
            objective_ms: self.objective_ms(),
            late_percent: late,
            preferred_tier: self.told().preferred_tier,
            violations: ledger.violations().len(),
            decisions: decisions
                .map(|decision| (decision.time.duration_since(start).as_secs_f64(), decision.clone()))
                .collect(),
        }
    }

    fn column(&self, pool: &PoolModel) -> Column {
        Column {
            pool: pool.name.clone(),
            price: pool.price,
            note: if pool.name == SPOT_POOL && !self.spot {
                "dry"
            } else {
                ""
            },
        }
    }

    /// The objective, ms.
    pub fn objective_ms(&self) -> Option<f64> {
        let objective = self.pipeline.spec.objective.as_ref()?;
        Some(objective.latency_milliseconds.into())
    }

    fn keep(&mut self, frame: &Frame) {
        let mut sample = Sample {
            cost_per_hour: Some(frame.cost_per_hour),
            ..Sample::default()
        };
        for row in &frame.rows {
            for (column, cell) in frame.columns.iter().zip(&row.cells) {
                if let Some(counts) = cell {
                    sample
                        .replicas
                        .insert((row.stage.clone(), column.pool.clone()), *counts);
                }
            }
            let (need, can) = row.load.unzip();
            sample.demand.insert(row.stage.clone(), (need, can));
        }
        let moment = Moment {
            t_s: self.elapsed_s(),
            offered_per_s: self.offered_per_s(),
            spot: self.spot,
        };
        self.samples.push((moment.t_s, sample, moment));
    }
}

/// Looks at the pipeline and its Deployments once a second.
async fn listen(client: Client, pipeline: String, told: Arc<Mutex<Told>>) {
    let pipelines: Api<TieredPipeline> = Api::namespaced(client.clone(), NAMESPACE);
    let deployments: Api<Deployment> = Api::namespaced(client, NAMESPACE);
    let all = ListParams::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let (found, list) = tokio::join!(pipelines.get_opt(&pipeline), deployments.list(&all));
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = found.ok().flatten().and_then(|pipeline| pipeline.status) {
            let condition = status
                .conditions
                .iter()
                .find(|condition| condition.type_ == "PreferredTier");
            told.preferred_tier = condition.map(|condition| (condition.status.clone(), condition.message.clone()));
        }
        for deployment in list.map(|list| list.items).unwrap_or_default() {
            let label = |name: &str| deployment.labels().get(name).cloned();
            if let (Some(stage), Some(pool)) = (label(observe::STAGE), label(observe::POOL)) {
                told.deployments.insert(deployment.name_any(), (stage, pool));
            }
        }
    }
}
