//! A small cluster on a virtual clock: slow starts, full and dry pools, lost writes, silent pods, foreign edits, lost
//! nodes, restarts. One seed replays a run. Every single write is checked against floors, ceilings, room and budget.
#![allow(clippy::cast_possible_truncation, reason = "small numbers by construction")]

mod check;
mod readings;

use self::check::{Before, Delivery};
use self::readings::Past;
pub(super) use self::readings::ReadingFault;
use super::decision::{Decision, Move};
use super::propose::{Proposal, propose};
use super::solve::{Memory, Settings};
use super::state::State;
use super::step::step;
use super::world::{
    Ceilings, DryReason, Event, Key, Mode, OnSignalLoss, Pipeline, PipelineIdx, Pool, PoolIdx, Resources, Stage,
    StageIdx, Tier, Traffic, Variant, VariantIdx, World,
};

/// One tick of the simulated cluster.
pub(super) const TICK_MS: u64 = 1_000;

/// How long a deleted pod holds its resources.
const DRAIN_MS: u64 = 4_000;

/// A small, fast, seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    pub(super) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.within(1, 100) <= percent
    }
}

#[derive(Clone, Copy, Debug)]
enum Pod {
    Unschedulable,
    Starting { ready_ms: u64, took_ms: u64 },
    Ready,
    Going { gone_ms: u64 },
}

/// How unkind the world is, in per cent per tick.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// A write is lost.
    pub(super) lost_writes: u64,
    /// A variant's reading does not arrive.
    pub(super) lost_readings: u64,
    /// Some pods of a variant do not report.
    pub(super) partial_readings: u64,
    /// Someone else scales a Deployment.
    pub(super) drift: u64,
    /// A pool's capacity changes.
    pub(super) capacity: u64,
    /// Load of a stage changes.
    pub(super) load: u64,
    /// The core restarts and knows nothing.
    pub(super) restarts: u64,
    /// A write arrives up to three seconds late. Apart from restarts, not together with what others do meanwhile.
    pub(super) slow_writes: u64,
    /// The rest of a decision's writes is never sent, and the core restarts.
    pub(super) crashes: u64,
    /// Somebody edits bounds, budgets or modes.
    pub(super) edits: u64,
    /// What is wrong with every reading, all the time.
    pub(super) readings: Option<ReadingFault>,
}

/// A write on its way.
#[derive(Clone, Debug)]
struct Flight {
    due_ms: u64,
    decision: Decision,
    one: Move,
}

/// The simulated cluster with the core under test.
#[derive(Clone, Debug)]
pub(super) struct Sim {
    pub(super) world: World,
    pub(super) state: State,
    pub(super) now_ms: u64,
    /// True load by stage, thousandths of its unit.
    pub(super) load: Vec<u64>,
    pub(super) desired: Vec<u32>,
    pub(super) decisions: Vec<Decision>,
    /// Readings are off by up to so much, thousandths.
    pub(super) noise_permille: u64,
    /// What a replica serves, thousandths of what is declared, by variant. If given, readings show both rate and use.
    pub(super) truth_permille: Vec<u64>,
    pods: Vec<Vec<Pod>>,
    /// Pods that got Ready since the last tick, and how long each took.
    started: Vec<(VariantIdx, u64)>,
    capacity_full: Vec<Resources>,
    random: Random,
    pub(super) violations: Vec<String>,
    /// What was planned aside since the last tick.
    proposal: Option<Proposal>,
    solver: Memory,
    /// Proposals that arrived.
    pub(super) proposals: usize,
    flights: Vec<Flight>,
    /// True readings by variant.
    past: Past,
    /// What the last step found.
    before: Before,
    /// By stage: when Ready replicas were taken, and how many.
    removed: Vec<Vec<(u64, u32)>>,
    /// Events come as an operator gets them: only what is new, and each pipeline's readings on their own.
    apart: bool,
    /// What was last told of every variant's replicas: desired and Ready.
    told: Vec<Option<(u32, u32)>>,
}

impl Sim {
    pub(super) fn new(world: World, load: Vec<u64>, desired: Vec<u32>, seed: u64) -> Self {
        let pods = desired.iter().map(|&count| vec![Pod::Ready; count as usize]).collect();
        let capacity_full = world.pools.iter().map(|pool| pool.capacity).collect();
        let (state, now_ms) = (State::new(), 1_000_000);
        let mut sim = Self {
            world,
            state,
            now_ms,
            load,
            desired,
            decisions: Vec::new(),
            noise_permille: 0,
            truth_permille: Vec::new(),
            pods,
            started: Vec::new(),
            capacity_full,
            random: Random::new(seed),
            violations: Vec::new(),
            proposal: None,
            solver: Memory::default(),
            proposals: 0,
            flights: Vec::new(),
            past: Past::default(),
            before: Before::default(),
            removed: Vec::new(),
            apart: seed % 2 == 1,
            told: Vec::new(),
        };
        sim.restart();
        sim
    }

    /// Forgets all the core knew.
    pub(super) fn restart(&mut self) {
        self.land(u64::MAX);
        self.removed = vec![Vec::new(); self.world.stages.len()];
        self.state = State::new();
        self.proposal = None;
        self.told = vec![None; self.world.variants.len()];
        let _nothing_is_observed_yet = step(&mut self.state, &[Event::World(self.world.clone())], self.now_ms);
    }

    pub(super) fn ready(&self, variant: usize) -> u32 {
        self.pods[variant]
            .iter()
            .filter(|pod| matches!(pod, Pod::Ready))
            .count() as u32
    }

    /// Replicas that hold resources or will.
    pub(super) fn held(&self, variant: usize) -> u32 {
        self.desired[variant]
            + self.pods[variant]
                .iter()
                .filter(|pod| matches!(pod, Pod::Going { .. }))
                .count() as u32
    }

    fn placed(&self, variant: usize) -> u64 {
        self.pods[variant]
            .iter()
            .filter(|pod| !matches!(pod, Pod::Unschedulable))
            .count() as u64
    }

    fn stage_range(&self, stage: usize) -> std::ops::Range<usize> {
        let (start, end) = self.world.stages[stage].variants;
        start as usize..end as usize
    }

    /// One tick: the cluster moves, observations go in, decisions are written one by one.
    pub(super) fn tick(&mut self, faults: &Faults) {
        self.now_ms = (self.now_ms / TICK_MS + 1) * TICK_MS;
        self.break_things(faults);
        self.run_pods();
        self.land(self.now_ms);
        let mut events = self.observe(faults);
        if let Some(proposal) = self.proposal.take() {
            self.proposals += 1;
            events.push(Event::Proposal(Box::new(proposal)));
        }
        if self.apart {
            for part in self.parts(events) {
                self.step(&part, faults);
                self.now_ms += 1;
                if self.told.contains(&None) {
                    // Who has just started hears of everything first.
                    break;
                }
            }
        } else {
            self.step(&events, faults);
        }
    }

    /// What is new of replicas, so that every write starts from what is there; then the readings of each pipeline.
    fn parts(&mut self, events: Vec<Event>) -> Vec<Vec<Event>> {
        let mut parts = vec![Vec::new(); 1 + self.world.pipelines.len()];
        for event in events {
            let part = match event {
                Event::Replicas {
                    variant,
                    desired,
                    ready,
                } => {
                    let told = self.told[variant.0 as usize].replace((desired, ready));
                    (told != Some((desired, ready))).then_some(0)
                }
                Event::Reading { variant, .. } => {
                    let stage = self.world.variants[variant.0 as usize].stage;
                    Some(1 + self.world.stages[stage.0 as usize].pipeline.0 as usize)
                }
                _ => Some(0),
            };
            if let Some(part) = part {
                parts[part].push(event);
            }
        }
        parts
    }

    fn step(&mut self, events: &[Event], faults: &Faults) {
        self.note_before();
        let decisions = step(&mut self.state, events, self.now_ms);
        if let Some(question) = self.state.question() {
            // Worse plans than the operator would propose: whatever is proposed must be safe.
            let settings = Settings {
                polish: Some(3),
                tries: 16,
                branch_looks: 20_000,
                ..Settings::default()
            };
            self.proposal = Some(propose(&question, &mut self.solver, &settings, &mut || true));
        }
        self.deliver(&decisions, faults);
        for (stage, violation) in &self.state.violations {
            let sites = self
                .stage_range(*stage)
                .map(|at| (self.desired[at], self.ready(at)))
                .collect::<Vec<_>>();
            self.violations
                .push(format!("stage {stage} at {}: {violation:?}, {sites:?}", self.now_ms));
        }
        self.decisions.extend(decisions);
    }

    /// What the core believes to be asked for before it decides. Writes of the same step go out together, so those that
    /// are observed by now are what counts.
    fn note_before(&mut self) {
        let believed = |(&desired, memory): (&u32, &super::variant_memory::VariantMemory)| {
            if memory.in_flight() {
                memory.desired().max(desired)
            } else {
                desired
            }
        };
        self.before.believed = self.desired.iter().zip(&self.state.variants).map(believed).collect();
        let pipelines = self.world.pipelines.iter().enumerate();
        self.before.over_budget = pipelines
            .map(|(at, pipeline)| {
                let over = |counts: &[u32]| {
                    let (cost, power) = self.taken(at, counts);
                    let over = |most: Option<u64>, is: u64| most.is_some_and(|most| is > most);
                    let own = over(pipeline.budget_micros, cost) || over(pipeline.power_max_milliwatts, power);
                    let shared = pipeline.shared.map(|at| (self.world.shared[at as usize], at));
                    own || shared.is_some_and(|(most, at)| {
                        let (cost, power) = self.taken_together(at, counts);
                        over(most.budget_micros, cost) || over(most.power_max_milliwatts, power)
                    })
                };
                over(&self.desired) || over(&self.before.believed)
            })
            .collect();
    }

    /// Sends the writes of a step, one by one.
    fn deliver(&mut self, decisions: &[Decision], faults: &Faults) {
        for decision in decisions {
            for one in &decision.moves {
                if decision.advisory || self.random.chance(faults.lost_writes) {
                    continue;
                }
                if faults.crashes > 0 && self.random.chance(faults.crashes) {
                    self.restart();
                    return;
                }
                if faults.slow_writes > 0 && self.random.chance(faults.slow_writes) {
                    self.flights.push(Flight {
                        due_ms: self.now_ms + self.random.within(1, 3) * TICK_MS,
                        decision: decision.clone(),
                        one: *one,
                    });
                    continue;
                }
                self.write(decision, one, Delivery::AtOnce);
            }
        }
    }

    /// Lets writes arrive that are due.
    fn land(&mut self, until_ms: u64) {
        let (due, still): (Vec<Flight>, Vec<Flight>) = std::mem::take(&mut self.flights)
            .into_iter()
            .partition(|flight| flight.due_ms <= until_ms);
        self.flights = still;
        for flight in due {
            self.write(&flight.decision, &flight.one, Delivery::Late);
        }
    }

    fn break_things(&mut self, faults: &Faults) {
        if faults.edits > 0 && self.random.chance(faults.edits) {
            self.edit();
        }
        if self.random.chance(faults.restarts) {
            self.restart();
        }
        if self.random.chance(faults.drift) {
            let at = self.random.within(0, self.desired.len() as u64 - 1) as usize;
            let count = self.random.within(0, 6) as u32;
            self.scale(at, count);
        }
        if self.random.chance(faults.load) {
            let at = self.random.within(0, self.load.len() as u64 - 1) as usize;
            self.load[at] = self.random.within(0, 12_000);
        }
        if self.random.chance(faults.capacity) {
            let at = self.random.within(0, self.world.pools.len() as u64 - 1) as usize;
            self.set_capacity(at, self.random.clone().within(0, 4) * 25);
            let _used = self.random.next();
        }
    }

    /// Cordons part of a pool: `percent` of its full capacity stay usable.
    pub(super) fn set_capacity(&mut self, pool: usize, percent: u64) {
        let full = self.capacity_full[pool];
        self.world.pools[pool].capacity = Resources {
            cpu_millis: full.cpu_millis * percent / 100,
            memory_kib: full.memory_kib * percent / 100,
            device_millis: full.device_millis * percent / 100,
        };
    }

    fn edit(&mut self) {
        let stage = self.random.within(0, self.world.stages.len() as u64 - 1) as usize;
        let pipeline = self.random.within(0, self.world.pipelines.len() as u64 - 1) as usize;
        let (stage, pipeline) = (&mut self.world.stages[stage], &mut self.world.pipelines[pipeline]);
        match self.random.within(0, 4) {
            0 => stage.min = self.random.within(0, u64::from(stage.max)) as u32,
            1 => stage.max = stage.min.max(1) + self.random.within(0, 12) as u32,
            2 => stage.reliable_min = self.random.within(0, u64::from(stage.min)) as u32,
            3 if pipeline.shared.is_some() && self.random.chance(50) => {
                let shared = &mut self.world.shared[0].budget_micros;
                *shared = self.random.chance(70).then(|| self.random.within(10, 250) * 1_000_000);
            }
            3 => pipeline.budget_micros = self.random.chance(60).then(|| self.random.within(10, 200) * 1_000_000),
            _ => {
                let modes = [
                    Mode::Automatic,
                    Mode::NoScaleIn,
                    Mode::NoScaleOut,
                    Mode::Advisory,
                    Mode::Paused,
                ];
                pipeline.mode = modes[self.random.within(0, 4) as usize];
            }
        }
    }

    /// A provider takes one Ready pod of a variant; its Deployment asks for another.
    pub(super) fn reclaim(&mut self, variant: usize) {
        let gone_ms = self.now_ms + DRAIN_MS;
        if let Some(pod) = self.pods[variant].iter_mut().find(|pod| matches!(pod, Pod::Ready)) {
            *pod = Pod::Going { gone_ms };
        }
    }

    fn run_pods(&mut self) {
        let now_ms = self.now_ms;
        for at in 0..self.pods.len() {
            self.pods[at].retain(|pod| !matches!(pod, Pod::Going { gone_ms } if *gone_ms <= now_ms));
            self.scale(at, self.desired[at]);
            for slot in 0..self.pods[at].len() {
                let next = match self.pods[at][slot] {
                    Pod::Starting { ready_ms, took_ms } if ready_ms <= now_ms => {
                        self.started.push((VariantIdx(at as u32), took_ms));
                        Pod::Ready
                    }
                    Pod::Unschedulable if self.has_room(at) => {
                        let startup_ms = self.world.variants[at].startup_ms;
                        let took_ms = startup_ms * self.random.within(50, 180) / 100;
                        Pod::Starting {
                            ready_ms: now_ms + took_ms,
                            took_ms,
                        }
                    }
                    other => other,
                };
                self.pods[at][slot] = next;
            }
        }
    }

    fn has_room(&self, variant: usize) -> bool {
        let asks = &self.world.variants[variant];
        let mut free = self.world.pools[asks.pool.0 as usize].capacity;
        let take = |free: &mut Resources, request: &Resources, count: u64| {
            let left = |have: u64, each: u64| have.checked_sub(each * count);
            let cpu_millis = left(free.cpu_millis, request.cpu_millis)?;
            let memory_kib = left(free.memory_kib, request.memory_kib)?;
            let device_millis = left(free.device_millis, request.device_millis)?;
            *free = Resources {
                cpu_millis,
                memory_kib,
                device_millis,
            };
            Some(())
        };
        let mut others = self
            .world
            .variants
            .iter()
            .enumerate()
            .filter(|(_, other)| other.pool == asks.pool);
        others.all(|(at, other)| take(&mut free, &other.request, self.placed(at)).is_some())
            && take(&mut free, &asks.request, 1).is_some()
    }

    /// What the Deployment controller does: the youngest unready pods go first.
    fn scale(&mut self, variant: usize, count: u32) {
        self.desired[variant] = count;
        let gone_ms = self.now_ms + DRAIN_MS;
        let pods = &mut self.pods[variant];
        let live = |pods: &Vec<Pod>| pods.iter().filter(|pod| !matches!(pod, Pod::Going { .. })).count();
        while live(pods) > count as usize {
            if let Some(at) = pods.iter().rposition(|pod| matches!(pod, Pod::Unschedulable)) {
                pods.remove(at);
            } else if let Some(at) = pods.iter().rposition(|pod| matches!(pod, Pod::Starting { .. })) {
                pods[at] = Pod::Going { gone_ms };
            } else if let Some(at) = pods.iter().rposition(|pod| matches!(pod, Pod::Ready)) {
                pods[at] = Pod::Going { gone_ms };
            }
        }
        while live(pods) < count as usize {
            pods.push(Pod::Unschedulable);
        }
    }

    fn observe(&mut self, faults: &Faults) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.state.declares(&self.world) {
            events.push(Event::World(self.world.clone()));
        }
        events.extend(self.started.drain(..).map(|(variant, took_ms)| Event::Started {
            variant,
            took_ms,
            found: false,
        }));
        for at in 0..self.desired.len() {
            let (variant, desired, ready) = (VariantIdx(at as u32), self.desired[at], self.ready(at));
            let count = self.pods[at]
                .iter()
                .filter(|pod| matches!(pod, Pod::Going { .. }))
                .count() as u32;
            events.push(Event::Leaving { variant, count });
            events.push(Event::Replicas {
                variant,
                desired,
                ready,
            });
            if self.pods[at].iter().any(|pod| matches!(pod, Pod::Unschedulable)) {
                events.push(Event::Dry {
                    variant,
                    reason: DryReason::Unschedulable,
                });
            }
        }
        events.extend(self.readings(faults));
        events
    }
}

/// A random small world: pools that differ in price and speed, pipelines with budgets, stages on some of the pools.
pub(super) fn random_world(random: &mut Random) -> World {
    let mut world = World::default();
    // Draws of its own: what else is drawn stays what the seeds on record lead to.
    let mut power = Random::new(!random.0);
    let mut together = Random::new(random.0.rotate_left(32));
    let pool_count = random.within(1, 4);
    for at in 0..pool_count {
        let slots = random.within(4, 24);
        world.pools.push(Pool {
            key: Key(100 + at),
            tier: Tier::Cpu,
            reliable: at == 0 || random.chance(50),
            capacity: Resources {
                cpu_millis: slots * 1_000,
                memory_kib: slots << 20,
                device_millis: 0,
            },
        });
    }
    for at in 0..random.within(1, 2) {
        let budget_micros = if random.chance(30) {
            Some(random.within(40, 200) * 1_000_000)
        } else {
            None
        };
        let priority = random.within(1, 3) as u16 * 100;
        world.pipelines.push(Pipeline {
            key: Key(200 + at),
            priority,
            budget_micros,
            power_max_milliwatts: power.chance(20).then(|| power.within(500, 4_000) * 1_000),
            shared: None,
            mode: Mode::Automatic,
            objective: None,
        });
    }
    if together.chance(25) {
        world.shared.push(Ceilings {
            budget_micros: together.chance(80).then(|| together.within(40, 250) * 1_000_000),
            power_max_milliwatts: together.chance(30).then(|| together.within(500, 5_000) * 1_000),
        });
        for pipeline in &mut world.pipelines {
            pipeline.shared = together.chance(85).then_some(0);
        }
    }
    for at in 0..random.within(1, 4) {
        let start = world.variants.len() as u32;
        for pool in 0..pool_count {
            if pool > 0 && !random.chance(70) {
                continue;
            }
            let slots = random.within(1, 2);
            let cost = random.within(1, 12) * 1_000_000 + random.within(0, 999);
            world.variants.push(Variant {
                key: Key(1_000 + at * 10 + pool),
                stage: StageIdx(at as u32),
                pool: PoolIdx(pool as u32),
                request: Resources {
                    cpu_millis: slots * 1_000,
                    memory_kib: slots << 20,
                    device_millis: 0,
                },
                cost_micros: cost,
                marginal_micros: if random.chance(20) { 0 } else { cost },
                power_milliwatts: power.chance(95).then(|| power.within(0, 300) * 1_000),
                hint_permille: if random.chance(30) { 4_000 } else { 1_000 },
                capacity_millis: random.within(500, 4_000),
                concurrency: None,
                startup_ms: random.within(2, 40) * 1_000,
                max: 1_000,
            });
        }
        let min = random.within(0, 2) as u32;
        world.stages.push(Stage {
            key: Key(300 + at),
            pipeline: PipelineIdx(random.within(0, world.pipelines.len() as u64 - 1) as u32),
            variants: (start, world.variants.len() as u32),
            min,
            max: min.max(1) + random.within(2, 20) as u32,
            reliable_min: if random.chance(30) { min.min(1) } else { 0 },
            target_permille: random.within(50, 90) as u32 * 10,
            traffic: if random.chance(40) {
                Traffic::Uniform
            } else {
                Traffic::Weighted
            },
            rated: false,
            sees_waiting: false,
            after: Vec::new(),
            tolerance_permille: 100,
            up_window_ms: if random.chance(30) { 5_000 } else { 0 },
            down_window_ms: random.within(0, 60) * 1_000,
            down_percent_per_minute: random.within(30, 100) as u32,
            moves_per_hour: 1_000,
            max_surge: random.within(0, 3) as u32,
            signal_loss_ms: 120_000,
            on_signal_loss: OnSignalLoss::Hold,
            reading_age_ms_max: 5_000,
            also: Vec::new(),
        });
    }
    world
}
