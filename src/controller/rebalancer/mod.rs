//! The rebalancer: one loop that observes, steps the core and writes replicas.
//!
//! Everything that happens arrives as a [`Notice`] or a scraped answer; the loop turns it into events of the core, steps
//! it, and sends the writes off. It waits for nothing else: a write's outcome is one more notice. The only field it
//! writes is `spec.replicas`, through `/scale`.

mod aside;
pub mod children;
mod execute;
mod explain;
mod learned;
mod order;
pub mod pods;
mod publish;
pub mod record;
mod share;
mod targets;
mod turns;
mod usage;
pub mod view;
mod warm;
pub mod world;
pub mod writes;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use kube::{Client, core::DeserializeGuard};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};

use self::aside::Aside;
use self::children::{Absent, Child, Missing, Seen};
use self::pods::Pods;
use self::record::DecisionLog;
use self::targets::Signals;
use self::turns::Turns;
use self::world::Index;
use self::writes::{Outcome, Write};
use super::clock::Clock;
use super::events::Events;
use super::live::Live;
use super::pipeline::dereference::dereference;
use super::pipeline::validate::validate;
use super::pipeline::validated::ValidatedPipeline;
use super::pools::Look;
use super::report::{ShadowPrices, Views, WarmRooms};
use super::stores::Stores;
use super::view::{Change, PodView};
use crate::api::tiered_pipeline::DecisionSummary;
use crate::api::{TieredPipeline, TieredPipelineStatus};
use crate::explain::ask::Asker;
use crate::rebalance::world::{Event, VariantIdx};
use crate::rebalance::{State, step};
use crate::signals::scraper::Scraped;
use crate::signals::sources::Sources;
use crate::signals::stage::StageAnswer;
use crate::telemetry::Metrics;

/// How often the world is built anew at most; a burst of edits counts as one.
const WORLD_EVERY_MS: u64 = 100;
/// A large world is built so many times less often than it takes to build: a fifth of the loop's time at most.
const WORLD_SHARE: u64 = 5;
/// How often views are refreshed at most. Nothing that decides waits for it.
const VIEWS_EVERY_MS: u64 = 200;
/// The same where nothing but numbers changed. They do so with every scrape, and showing them costs more than reading them.
const NUMBERS_EVERY_MS: u64 = 1_000;
/// Longest sleep: cool-downs, dry pools and stale signals are looked at at least so often.
const TICK: Duration = Duration::from_millis(500);
/// How often unclaimed Deployments are looked for while there are any.
const CLAIM_EVERY_MS: u64 = 100;
/// A pass looks at every variant. After an answer, others of the same beat are waited for so many times as long as the last
/// step took, so that a large world is not stepped for each of them: a fifth of the loop's time at most.
const LINGER_SHARE: u32 = 4;
/// And no longer than this.
const LINGER_MAX: Duration = Duration::from_millis(10);
/// Timers tell no shorter times apart.
const LINGER_MIN: Duration = Duration::from_millis(1);
/// Notices taken in before the core is stepped.
const BATCH_MAX: usize = 4_096;
/// How often a lasting trouble with pods is told to the core.
const DRY_EVERY_MS: u64 = 10_000;

/// Something that the rebalancer must look at.
#[derive(Debug)]
pub enum Notice {
    /// Pipelines, pools, nodes, namespaces or other people's pods changed.
    World,
    /// A Deployment changed or went; `None`: all may have.
    Deployment(Option<Arc<Live<Deployment>>>),
    /// The API server refuses a Deployment: its namespace and name.
    Refused((String, String)),
    /// A variant's pods may count now: whose they are has come to be known.
    Owner(String),
    /// A pod of tiercel changed.
    Pod(Box<Change<PodView>>),
    /// Answers about pods, of others than the pods themselves.
    Usage(Vec<Scraped>),
    /// Answers about stages as a whole.
    StageUsage(Vec<StageAnswer>),
}

/// What the loop works with.
pub struct Context {
    /// Client of the fast path: no retries.
    pub client: Client,
    /// The watched world.
    pub stores: Stores,
    /// What the reconciler reads.
    pub views: Views,
    /// What the pools' reconciler reads.
    pub prices: ShadowPrices,
    /// Where the room is shown that is to be kept for bursts.
    pub rooms: watch::Sender<Option<Arc<WarmRooms>>>,
    /// Tells people.
    pub events: Events,
    /// Wakes the reconciler of one pipeline.
    pub wake: mpsc::UnboundedSender<ObjectRef<DeserializeGuard<TieredPipeline>>>,
    /// Where the latest look at the pools is shown.
    pub look: watch::Sender<Arc<Look>>,
    /// The clock.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
    /// Whether containers may name secrets.
    pub allow_secrets: bool,
    /// Sources other than the pods themselves.
    pub sources: Arc<Sources>,
    /// The decision log, if one is kept.
    pub log: Option<DecisionLog>,
    /// Epoch of the leadership under which this loop writes.
    pub epoch: i64,
    /// Who asks why.
    pub asker: Asker,
}

struct Rebalancer {
    ctx: Context,
    state: State,
    index: Index,
    /// By [`VariantIdx`]; absent where no Deployment is seen.
    children: Vec<Option<Child>>,
    missing: Missing,
    pods: Pods,
    signals: Signals,
    decisions: HashMap<String, VecDeque<Arc<DecisionSummary>>>,
    told_dry: BTreeMap<VariantIdx, u64>,
    /// The kubelet's last word for why pods did not start, by identity of the variant: it is told while the pool counts as dry
    /// for that, and the pods are long gone then.
    words: HashMap<Arc<str>, Box<str>>,
    writes: JoinSet<(Write, Outcome)>,
    turns: Turns,
    aside: Aside,
    /// Events for the next step.
    events: Vec<Event>,
    /// How long the core took last.
    step_took: Duration,
    world_stale: bool,
    world_built_ms: Option<u64>,
    /// From one build of the world to the next.
    world_every_ms: u64,
    /// When Deployments are looked through for unclaimed ones; absent once all are claimed.
    claim_due_ms: Option<u64>,
    views_stale: bool,
    /// Views show older numbers than there are.
    numbers_stale: bool,
    views_built_ms: u64,
    /// Pipelines that were there when the operator started and have not been looked at whole yet, by UID.
    unlooked: BTreeSet<String>,
    started_ms: u64,
    /// Room that was kept before the start, by pool: bursts of the hour before are not known.
    rooms_before: Option<WarmRooms>,
}

/// Runs until it is told to stop, and then until no write is under way.
pub async fn run(
    ctx: Context,
    scraper: crate::signals::scraper::Scraper,
    mut answers: mpsc::Receiver<Scraped>,
    notices: (mpsc::UnboundedSender<Notice>, mpsc::UnboundedReceiver<Notice>),
    mut stopped: watch::Receiver<bool>,
) {
    let (sender, mut notices) = notices;
    let (usage, asked) = watch::channel(Arc::default());
    let sources = Arc::clone(&ctx.sources);
    let poll = usage::poll(ctx.client.clone(), ctx.clock.clone(), sources, asked, sender);
    let poll = tokio::spawn(poll);
    let mut questions = ctx.asker.open();
    let mut loop_ = Rebalancer {
        pods: Pods::new(ctx.stores.owners.clone()),
        signals: Signals::new(scraper, usage),
        state: State::new(),
        index: Index::default(),
        children: Vec::new(),
        missing: Missing::default(),
        decisions: HashMap::new(),
        told_dry: BTreeMap::new(),
        words: HashMap::new(),
        writes: JoinSet::new(),
        turns: Turns::default(),
        aside: Aside::new(),
        events: Vec::new(),
        step_took: Duration::ZERO,
        world_stale: true,
        world_built_ms: None,
        world_every_ms: WORLD_EVERY_MS,
        claim_due_ms: None,
        views_stale: true,
        numbers_stale: true,
        views_built_ms: 0,
        unlooked: BTreeSet::new(),
        started_ms: ctx.clock.now_ms(),
        rooms_before: None,
        ctx,
    };
    let now_ms = loop_.ctx.clock.now_ms();
    loop_.pods.replace(&loop_.ctx.stores.pods.state(), now_ms);
    loop {
        loop_.ctx.metrics.set_queue_depth("Notices", notices.len());
        loop_.pass();
        loop_.ctx.metrics.set_queue_depth("ScaleWrites", loop_.writes.len());
        let sleep = loop_.until_next();
        tokio::select! {
            notice = notices.recv() => {
                let Some(notice) = notice else { break };
                loop_.take(notice);
            }
            answer = answers.recv() => {
                let Some(answer) = answer else { break };
                loop_.answer(answer);
                loop_.linger().await;
            }
            Some(done) = loop_.writes.join_next() => loop_.written(done),
            Some(answer) = loop_.aside.next() => loop_.proposed(answer),
            Some(question) = questions.recv() => loop_.explain(question),
            () = tokio::time::sleep(sleep) => {}
            _ = stopped.changed() => break,
        }
        for _ in 0..BATCH_MAX {
            if let Ok(notice) = notices.try_recv() {
                loop_.take(notice);
            } else if let Ok(answer) = answers.try_recv() {
                loop_.answer(answer);
            } else if let Some(done) = loop_.writes.try_join_next() {
                loop_.written(done);
            } else {
                break;
            }
        }
    }
    // Whoever stopped us waits for this: no write is under way when the lease is given up.
    poll.abort();
    while loop_.writes.join_next().await.is_some() {}
}

impl Rebalancer {
    /// One pass: world if stale, core, writes, views. Nothing in it waits.
    fn pass(&mut self) {
        let now_ms = self.ctx.clock.now_ms();
        if self.world_stale && self.world_built_ms.is_none_or(|at| now_ms >= at + self.world_every_ms) {
            self.rebuild(now_ms);
            let took_ms = self.ctx.clock.now_ms().saturating_sub(now_ms);
            self.world_every_ms = WORLD_EVERY_MS.max(took_ms * WORLD_SHARE);
        }
        self.world_stale |= self.missing.gives_up(now_ms);
        let variants = &self.index;
        self.events.extend(self.pods.starts(|id| {
            let at = variants.variant_ids.get(id).copied()?;
            Some((at, variants.variant(at)?.provision_ms))
        }));
        self.signals.collect(&self.index, &self.pods, now_ms, &mut self.events);
        self.trouble(now_ms);
        let events = std::mem::take(&mut self.events);
        // Time alone changes what is known: readings age without a word from anybody.
        let due = self.state.next_wake_ms().is_some_and(|at| now_ms >= at);
        let started = self.ctx.clock.now();
        let decisions = step(&mut self.state, &events, now_ms);
        self.step_took = started.elapsed();
        self.ctx.metrics.decision_took(self.step_took);
        for decision in &decisions {
            self.act(decision);
        }
        if self.claim_due_ms.is_some_and(|due| now_ms >= due) {
            self.claim_due_ms = self.claim(now_ms).then_some(now_ms + CLAIM_EVERY_MS);
        }
        if self.aside.is_free(now_ms)
            && let Some(question) = self.state.question()
        {
            self.aside.ask(question, &self.ctx.clock);
        }
        let number = |event: &Event| matches!(event, Event::Reading { .. } | Event::Also { .. });
        self.views_stale |= !decisions.is_empty() || !events.iter().all(number);
        self.numbers_stale |= due || !events.is_empty();
        if let Some(log) = &mut self.ctx.log {
            log.step(now_ms, events, decisions);
        }
        let shown = |stale: bool, every_ms| stale && now_ms >= self.views_built_ms + every_ms;
        if shown(self.views_stale, VIEWS_EVERY_MS) || shown(self.numbers_stale, NUMBERS_EVERY_MS) {
            self.refresh(now_ms);
        }
    }

    /// Lets other answers arrive.
    async fn linger(&self) {
        let pause = (self.step_took * LINGER_SHARE).min(LINGER_MAX);
        if pause < LINGER_MIN {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(pause).await;
        }
    }

    fn until_next(&self) -> Duration {
        let now_ms = self.ctx.clock.now_ms();
        let mut sleep = TICK;
        if let Some(at) = self.state.next_wake_ms() {
            sleep = sleep.min(Duration::from_millis(at.saturating_sub(now_ms).max(1)));
        }
        if self.world_stale {
            let due = self
                .world_built_ms
                .map_or(0, |at| (at + self.world_every_ms).saturating_sub(now_ms));
            sleep = sleep.min(Duration::from_millis(due));
        }
        sleep
    }

    fn take(&mut self, notice: Notice) {
        let now_ms = self.ctx.clock.now_ms();
        match notice {
            Notice::World | Notice::Deployment(None) => self.world_stale = true,
            Notice::Deployment(Some(live)) => self.deployment(&live, now_ms),
            Notice::Refused(key) => self.world_stale |= self.missing.refuse(key),
            Notice::Pod(change) => {
                let variant = match *change {
                    Change::Applied(view) => self.pods.apply(&view, now_ms),
                    Change::Deleted(view) => self.pods.remove(&view),
                    Change::Relisted => {
                        self.pods.replace(&self.ctx.stores.pods.state(), now_ms);
                        self.world_stale = true;
                        None
                    }
                };
                if let Some(variant) = variant {
                    self.recount(&variant);
                }
            }
            Notice::Owner(variant) => self.recount(&variant),
            Notice::Usage(answers) => answers.into_iter().for_each(|answer| self.answer(answer)),
            Notice::StageUsage(answers) => {
                for answer in answers {
                    if let Err(why) = &answer.outcome {
                        self.ctx.metrics.signal_error("stage", targets::word(*why));
                    }
                    self.signals.record_stage(answer);
                }
            }
        }
    }

    fn answer(&mut self, answer: Scraped) {
        if let Err(why) = &answer.outcome {
            self.ctx.metrics.signal_error("pod", targets::word(*why));
        }
        self.signals.record(answer);
    }

    /// The solver's answer is one more event.
    fn proposed(&mut self, answer: Result<aside::Answer, JoinError>) {
        let now_ms = self.ctx.clock.now_ms();
        if let Some((proposal, took)) = self.aside.done(answer, now_ms) {
            self.ctx.metrics.plan_solved(took);
            self.events.push(Event::Proposal(Box::new(proposal)));
        }
    }

    /// Pods of a variant came, went or changed.
    fn recount(&mut self, variant: &str) {
        if let Some(&at) = self.index.variant_ids.get(variant) {
            self.signals.targets_changed();
            self.observe(at);
        }
    }

    /// A Deployment as the watch shows it.
    fn deployment(&mut self, live: &Live<Deployment>, now_ms: u64) {
        let variant = self.index.child(&live.namespace, &live.name);
        let Some((variant, child)) = variant.and_then(|at| Some((at, self.children.get_mut(at.0 as usize)?.as_mut()?)))
        else {
            self.world_stale = true;
            return;
        };
        // Another of the same name has other pods.
        if live.leaving || live.uid != child.uid {
            self.world_stale = true;
        }
        let before = child.foreign.clone();
        let seen = child.observe(live, now_ms);
        self.views_stale |= child.foreign != before;
        match seen {
            Seen::Same => {}
            Seen::Replicas(_) => self.observe(variant),
            Seen::Changed(replicas) => {
                tracing::info!(
                    namespace = &*live.namespace,
                    deployment = &*live.name,
                    replicas,
                    "somebody else changed the replicas"
                );
                self.observe(variant);
            }
        }
    }

    /// Tells the core what a variant has.
    fn observe(&mut self, variant: VariantIdx) {
        let Some(reference) = self.index.variant(variant) else {
            return;
        };
        let desired = match self.child(variant) {
            Some(child) => child.desired,
            // Not there yet: the core leaves a stage alone that it has not seen whole.
            None if self.is_coming(variant) => return,
            // Refused, by a quota or an admission plug-in: the rest of the stage goes on without it. It has nothing, and
            // the world gives it no room.
            None => 0,
        };
        let (ready, leaving) = (
            self.pods.ready(&reference.variant_id),
            self.pods.leaving(&reference.variant_id),
        );
        self.events.push(Event::Leaving {
            variant,
            count: leaving,
        });
        self.events.push(Event::Replicas {
            variant,
            desired,
            ready,
        });
    }

    /// A Deployment that the reconciler is about to create.
    fn is_coming(&self, variant: VariantIdx) -> bool {
        self.key(variant)
            .is_some_and(|key| self.missing.is_coming(&key, self.ctx.clock.now_ms()))
    }

    fn key(&self, variant: VariantIdx) -> Option<(String, String)> {
        let reference = self.index.variant(variant)?;
        let stage = self.index.stage(reference.stage)?;
        Some((
            self.index.pipeline(stage.pipeline)?.namespace.clone(),
            reference.child.to_string(),
        ))
    }

    fn child(&self, variant: VariantIdx) -> Option<&Child> {
        self.children.get(variant.0 as usize)?.as_ref()
    }

    fn child_mut(&mut self, variant: VariantIdx) -> Option<&mut Child> {
        self.children.get_mut(variant.0 as usize)?.as_mut()
    }

    /// Pods that cannot be placed or started, told once in a while as long as it lasts.
    fn trouble(&mut self, now_ms: u64) {
        let troubled = self.pods.troubled();
        let troubled: BTreeSet<VariantIdx> = troubled
            .filter_map(|id| self.index.variant_ids.get(id).copied())
            .collect();
        for at in troubled {
            let Some(variant) = self.index.variant(at) else {
                continue;
            };
            let Some(reason) = self.pods.dry(&variant.variant_id, variant.provision_ms, now_ms) else {
                continue;
            };
            if self.told_dry.get(&at).is_none_or(|told| now_ms >= told + DRY_EVERY_MS) {
                self.told_dry.insert(at, now_ms);
                if let Some(word) = self.pods.word(&variant.variant_id) {
                    self.words.insert(Arc::clone(&variant.variant_id), word.into());
                }
                self.events.push(Event::Dry { variant: at, reason });
            }
        }
    }

    /// Builds the world from the stores. What did not change costs the core nothing.
    fn rebuild(&mut self, now_ms: u64) {
        self.world_stale = false;
        let first = self.world_built_ms.replace(now_ms).is_none();
        let look = Arc::new(Look::at(&self.ctx.stores));
        let mut raw: Vec<Arc<DeserializeGuard<TieredPipeline>>> = self.ctx.stores.pipelines.state();
        raw.sort_by_key(|object| (object.creation_timestamp().map(|time| time.0), object.uid()));
        let mut builder = world::Builder::new(&look.observed);
        let (mut children, mut missing) = (Vec::with_capacity(self.children.len()), Missing::default());
        for object in &raw {
            let Ok(pipeline) = &object.0 else { continue };
            if pipeline.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let found = dereference(&self.ctx.stores, &look, self.ctx.allow_secrets, pipeline);
            let valid = validate(pipeline, &found);
            self.take_over(&valid, &mut children, &mut missing, now_ms);
            builder.add(&valid, |child| {
                missing.is_coming(&(valid.id.namespace.clone(), child.to_owned()), now_ms)
            });
        }
        let (world, index) = builder.done();
        let pools = &self.ctx.stores.pools;
        (self.rooms_before).get_or_insert_with(|| warm::recalled(&pools.state(), &look.observed));
        (self.children, self.missing) = (children, missing);
        let deployments = index.variants.iter().zip(&self.children);
        self.pods.belong(deployments.filter_map(|(variant, child)| {
            let uid = child.as_ref()?.uid.clone();
            Some((Arc::clone(&variant.variant_id), uid))
        }));
        if first {
            self.unlooked = index.pipelines.iter().map(|id| id.uid.clone()).collect();
        }
        self.state.keep_rooms(index.keeps.clone());
        let before = std::mem::replace(&mut self.index, index).pipelines;
        self.ctx.look.send_if_modified(|known| {
            let differs = !known.places_like(&look) || self.views_built_ms == 0;
            *known = look;
            differs
        });
        self.told_dry.clear();
        self.words
            .retain(|variant, _| self.index.variant_ids.contains_key(variant));
        let nodes = self.ctx.stores.nodes.state();
        let hosts = nodes.iter().flat_map(|node| node.status.addresses.iter().copied());
        self.signals.refuse_hosts(hosts);
        self.signals.targets_changed();
        let named: BTreeSet<(&str, &str)> = (self.index.pipelines.iter())
            .map(|id| (id.namespace.as_str(), id.name.as_str()))
            .collect();
        for gone in &before {
            if !named.contains(&(gone.namespace.as_str(), gone.name.as_str())) {
                self.ctx.metrics.forget_pipeline(&gone.namespace, &gone.name);
            }
        }
        let live: BTreeSet<&str> = self.index.pipelines.iter().map(|id| id.uid.as_str()).collect();
        self.ctx.views.retain(|uid| live.contains(uid));
        self.decisions.retain(|uid, _| live.contains(uid.as_str()));
        self.events.retain(|event| matches!(event, Event::World(_)));
        if !self.state.declares(&world) {
            self.events.push(Event::World(world));
        }
        let known: BTreeSet<&str> = before.iter().map(|id| id.uid.as_str()).collect();
        let on_record: HashMap<&str, &TieredPipelineStatus> = (raw.iter())
            .filter_map(|object| object.0.as_ref().ok())
            .filter_map(|pipeline| Some((pipeline.metadata.uid.as_deref()?, pipeline.status.as_ref()?)))
            .filter(|(uid, _)| !known.contains(uid))
            .collect();
        if !on_record.is_empty() {
            let status = |at| on_record.get(self.index.pipeline(at)?.uid.as_str()).copied();
            self.events.extend(learned::recalled(&self.index, status));
        }
        for at in 0..u32::try_from(self.index.variants.len()).unwrap_or(u32::MAX) {
            self.observe(VariantIdx(at));
        }
        self.signals.all_changed();
        self.views_stale = true;
        self.claim_due_ms = Some(now_ms);
    }

    /// Takes over what is known of a pipeline's Deployments into the next world, in the order of its variants.
    fn take_over(
        &mut self,
        pipeline: &ValidatedPipeline,
        children: &mut Vec<Option<Child>>,
        missing: &mut Missing,
        now_ms: u64,
    ) {
        let namespace = &pipeline.id.namespace;
        let (mut comes, mut absent) = (false, Vec::new());
        for stage in &pipeline.stages {
            let mut runs = false;
            for pool in &stage.pools {
                let child = pool.live.as_ref().map(|live| {
                    let before = self.index.child(namespace, &pool.child);
                    let known = before.and_then(|at| self.children.get_mut(at.0 as usize)?.take());
                    comes |= known.is_none();
                    runs |= known.is_some();
                    let mut child = known.unwrap_or_else(|| Child::new(live));
                    child.observe(live, now_ms);
                    child.uid.clone_from(&live.uid);
                    child
                });
                children.push(child);
            }
            let missing = stage.pools.iter().filter(|pool| pool.live.is_none());
            absent.extend(missing.map(|pool| Absent {
                key: (namespace.clone(), pool.child.clone()),
                added: runs && self.index.child(namespace, &pool.child).is_none(),
            }));
        }
        missing.look(&self.missing, absent.into_iter(), comes, now_ms);
    }
}
