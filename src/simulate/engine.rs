//! The run: arrivals, ends of calls and whole seconds, in the order of time.

mod measure;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::cluster::{Cluster, Effect, Phase};
use super::load::Load;
use super::metrics::Metrics;
use super::outcome::{Frame, Outcome, Tally};
use super::policy::{Policy, View};
use super::requests::{Call, Request, Step};
use super::scenario::Scenario;
use crate::rebalance::world::{Resources, Traffic};

const TICK_US: u64 = 1_000_000;
/// Shifts are counted within so long.
const SHIFT_MS: u64 = 300_000;

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Start-up times and fan-outs are drawn from it.
    pub seed: u64,
    /// A client gives up after so long in the pipeline, milliseconds.
    pub patience_ms: u64,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            patience_ms: 120_000,
            faults: Vec::new(),
        }
    }
}

/// A pool loses part of its nodes for a while, without notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The pool.
    pub pool: usize,
    /// From, milliseconds.
    pub from_ms: u64,
    /// Until, milliseconds.
    pub until_ms: u64,
    /// What stays, per cent.
    pub percent: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A call on the replica may be done; only if the stamp is still its last.
    Finish {
        replica: usize,
        stamp: u32,
    },
    Ready {
        replica: usize,
    },
    Gone {
        replica: usize,
    },
}

/// Calls of one stage that no replica holds.
#[derive(Clone, Debug, Default)]
struct Lobby {
    queue: VecDeque<u32>,
    /// Whose turn it is.
    turn: usize,
    /// Calls that came since the last second, while a replica was Ready.
    arrivals: u64,
    /// Call-seconds in the queue since the last second.
    waited_s: f64,
    updated_us: u64,
}

/// Sums of one variant since the last second.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    running: u32,
    waiting: u32,
    running_s: f64,
    waiting_s: f64,
    arrivals: u64,
    /// Calls that began to run.
    begun: u64,
    updated_us: u64,
}

struct Run<'a> {
    scenario: &'a Scenario,
    options: &'a Options,
    now_us: u64,
    cluster: Cluster,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    requests: Vec<Option<Request>>,
    calls: Vec<Call>,
    free_calls: Vec<u32>,
    lobbies: Vec<Lobby>,
    sums: Vec<Sums>,
    /// Seconds per unit by variant and calls running.
    paces: Vec<Vec<f64>>,
    throughputs: Vec<Vec<f64>>,
    objectives_us: Vec<f64>,
    metrics: Metrics,
    outcome: Outcome,
    frame: Frame,
    open: u64,
    cost_micro_seconds: f64,
    replica_seconds: f64,
    shift_base: Vec<u32>,
}

/// Runs a policy over a load. `initial` replicas by variant are Ready at the start.
pub fn run(
    scenario: &Scenario,
    load: &Load,
    initial: &[u32],
    (name, policy): (&str, &mut dyn Policy),
    options: &Options,
) -> Outcome {
    let mut run = Run::new(scenario, initial, options, name.to_owned());
    let span_us = (load.span_ms() / 1_000 + 1) * TICK_US;
    run.outcome.span_ms = span_us / 1_000;
    let end_us = span_us + options.patience_ms * 1_000 + TICK_US;
    let mut arrivals = (0_u64..).zip(&load.arrivals).peekable();
    let mut tick_us = TICK_US;
    loop {
        let event_us = run.events.peek().map_or(u64::MAX, |Reverse((at_us, _))| *at_us);
        let arrival_us = arrivals.peek().map_or(u64::MAX, |(_, arrival)| arrival.at_ms * 1_000);
        if event_us <= arrival_us && event_us <= tick_us {
            run.now_us = event_us;
            if let Some(Reverse((_, event))) = run.events.pop() {
                run.happen(event);
            }
        } else if arrival_us < tick_us {
            run.now_us = arrival_us;
            if let Some((number, arrival)) = arrivals.next() {
                for pipeline in 0..scenario.pipelines.len() {
                    let (request, first) = Request::new(scenario, pipeline, arrival, number, options.seed);
                    run.arrive(request, &first);
                }
            }
        } else {
            run.now_us = tick_us;
            run.tick(policy, span_us);
            tick_us += TICK_US;
            if run.now_us >= end_us || run.now_us >= span_us && run.open == 0 {
                break;
            }
        }
    }
    run.finish()
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, initial: &[u32], options: &'a Options, policy: String) -> Self {
        let variants = scenario.world.variants.len();
        let table = |of: fn(&Scenario, usize, u32) -> f64| {
            let row = |at: usize| {
                (0..=scenario.variants[at].slots)
                    .map(|running| of(scenario, at, running))
                    .collect()
            };
            (0..variants).map(row).collect()
        };
        let mut cluster = Cluster::new(scenario, initial, options.seed);
        let mut effects = Vec::new();
        cluster.place(scenario, 0, &mut effects);
        Self {
            options,
            now_us: 0,
            events: BinaryHeap::new(),
            requests: Vec::new(),
            calls: Vec::new(),
            free_calls: Vec::new(),
            lobbies: vec![Lobby::default(); scenario.world.stages.len()],
            sums: vec![Sums::default(); variants],
            paces: table(|scenario, at, running| {
                scenario.variants[at].seconds_per_unit(scenario.per_second(at), running)
            }),
            throughputs: table(|scenario, at, running| {
                scenario.variants[at].throughput(scenario.per_second(at), running) / scenario.per_second(at)
            }),
            objectives_us: (0..scenario.pipelines.len())
                .map(|at| scenario.objective_ms(at) * 1e3)
                .collect(),
            metrics: Metrics::new(variants),
            outcome: Outcome {
                policy,
                requests: 0,
                served: 0,
                late: 0,
                failed: 0,
                latencies_ms: Vec::new(),
                span_ms: 0,
                cost: 0.0,
                replica_hours: 0.0,
                starts: 0,
                writes: 0,
                shifts: 0,
                simulated_ms: 0,
                pipelines: vec![Tally::default(); scenario.pipelines.len()],
                frames: Vec::new(),
            },
            frame: Frame {
                at_s: 0,
                requests: 0,
                late: 0,
                placed: Vec::new(),
            },
            open: 0,
            cost_micro_seconds: 0.0,
            replica_seconds: 0.0,
            shift_base: initial.to_vec(),
            scenario,
            cluster,
        }
    }

    fn now_ms(&self) -> u64 {
        self.now_us / 1_000
    }

    fn arrive(&mut self, request: Request, first: &[usize]) {
        self.outcome.requests += 1;
        self.outcome.pipelines[request.pipeline as usize].requests += 1;
        self.frame.requests += 1;
        self.open += 1;
        let id = self.requests.len() as u32;
        self.requests.push(Some(request));
        for &stage in first {
            self.call(id, stage);
        }
    }

    /// A request makes its calls to a stage.
    fn call(&mut self, id: u32, stage: usize) {
        let Some(request) = &self.requests[id as usize] else {
            return;
        };
        let (count, work) = request.calls(self.scenario, stage);
        for _ in 0..count {
            let call = Call {
                request: id,
                stage: stage as u32,
                work,
                made_us: self.now_us,
                started_us: 0,
            };
            let at = if let Some(free) = self.free_calls.pop() {
                self.calls[free as usize] = call;
                free
            } else {
                self.calls.push(call);
                self.calls.len() as u32 - 1
            };
            self.hand_in(at);
        }
    }

    fn pulls(&self, stage: usize) -> bool {
        self.scenario.world.stages[stage].traffic == Traffic::Pull
    }

    /// A call comes to its stage: to a replica if there is one for it, else to the lobby.
    fn hand_in(&mut self, call: u32) {
        let stage = self.calls[call as usize].stage as usize;
        self.touch_lobby(stage);
        if self
            .scenario
            .variants_of(stage)
            .any(|at| self.cluster.seen[at].ready > 0)
        {
            self.lobbies[stage].arrivals += 1;
        }
        if self.pulls(stage) {
            if let Some(replica) = self.freest(stage) {
                self.begin(replica, call);
                self.plan(replica);
            } else {
                self.lobbies[stage].queue.push_back(call);
            }
            return;
        }
        let Some(replica) = self.next_in_turn(stage) else {
            self.lobbies[stage].queue.push_back(call);
            return;
        };
        let variant = self.cluster.replicas[replica].variant;
        self.touch(variant);
        self.sums[variant].arrivals += 1;
        if self.cluster.replicas[replica].running.len() < self.scenario.variants[variant].slots as usize {
            self.begin(replica, call);
            self.plan(replica);
        } else {
            self.cluster.replicas[replica].waiting.push_back(call);
            self.sums[variant].waiting += 1;
        }
    }

    /// The Ready replica with the largest share of free slots, if any has one.
    fn freest(&self, stage: usize) -> Option<usize> {
        let mut best: Option<(f64, usize)> = None;
        for variant in self.scenario.variants_of(stage) {
            let slots = self.scenario.variants[variant].slots as usize;
            for replica in self.cluster.ready(variant) {
                let running = self.cluster.replicas[replica].running.len();
                let share = running as f64 / slots as f64;
                if running < slots && best.is_none_or(|(least, _)| share < least) {
                    best = Some((share, replica));
                }
            }
        }
        best.map(|(_, replica)| replica)
    }

    /// The Ready replica whose turn it is.
    fn next_in_turn(&mut self, stage: usize) -> Option<usize> {
        let range = self.scenario.variants_of(stage);
        let total: usize = range.clone().map(|at| self.cluster.seen[at].ready as usize).sum();
        let lobby = &mut self.lobbies[stage];
        let mut turn = lobby.turn.checked_rem(total)?;
        lobby.turn = turn + 1;
        for variant in range {
            let ready = self.cluster.seen[variant].ready as usize;
            if turn < ready {
                return self.cluster.ready(variant).nth(turn);
            }
            turn -= ready;
        }
        None
    }

    fn touch(&mut self, variant: usize) {
        let sums = &mut self.sums[variant];
        let passed_s = (self.now_us - sums.updated_us) as f64 / 1e6;
        sums.running_s += f64::from(sums.running) * passed_s;
        sums.waiting_s += f64::from(sums.waiting) * passed_s;
        sums.updated_us = self.now_us;
    }

    fn touch_lobby(&mut self, stage: usize) {
        let lobby = &mut self.lobbies[stage];
        lobby.waited_s += lobby.queue.len() as f64 * (self.now_us - lobby.updated_us) as f64 / 1e6;
        lobby.updated_us = self.now_us;
    }

    /// Brings a replica's virtual clock to now.
    fn advance(&mut self, replica: usize) {
        let state = &mut self.cluster.replicas[replica];
        let passed_s = (self.now_us - state.updated_us) as f64 / 1e6;
        let running = state.running.len();
        if running > 0 {
            state.virtual_now += passed_s / self.paces[state.variant][running];
            state.busy_s += passed_s * self.throughputs[state.variant][running];
        }
        state.updated_us = self.now_us;
    }

    /// A call begins to run on a replica with a free slot. The caller plans its end.
    fn begin(&mut self, replica: usize, call: u32) {
        self.advance(replica);
        let variant = self.cluster.replicas[replica].variant;
        self.touch(variant);
        self.sums[variant].running += 1;
        self.sums[variant].begun += 1;
        let now_us = self.now_us;
        let entry = &mut self.calls[call as usize];
        entry.started_us = now_us;
        let state = &mut self.cluster.replicas[replica];
        let due = state.virtual_now + entry.work;
        state.running.push(Reverse((due.to_bits(), call)));
    }

    /// Plans the end of the call that ends first, at the pace of now.
    fn plan(&mut self, replica: usize) {
        let state = &mut self.cluster.replicas[replica];
        state.stamp += 1;
        let Some(Reverse((due, _))) = state.running.peek() else {
            return;
        };
        let left = (f64::from_bits(*due) - state.virtual_now).max(0.0);
        let seconds = left * self.paces[state.variant][state.running.len()];
        let at_us = self.now_us + (seconds * 1e6).ceil() as u64;
        let stamp = state.stamp;
        self.events.push(Reverse((at_us, Event::Finish { replica, stamp })));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Finish { replica, stamp } => {
                if self.cluster.replicas[replica].stamp == stamp {
                    self.ends(replica);
                }
            }
            Event::Ready { replica } => {
                if self.cluster.get_ready(replica, self.now_us / 1_000) {
                    self.cluster.replicas[replica].updated_us = self.now_us;
                    self.welcome(self.cluster.replicas[replica].variant);
                }
            }
            Event::Gone { replica } => {
                if self.cluster.replicas[replica].phase == Phase::Draining {
                    self.cluster.end(replica, self.now_us / 1_000);
                    self.evict(replica);
                }
            }
        }
    }

    /// Calls on a replica are done.
    fn ends(&mut self, replica: usize) {
        self.advance(replica);
        let variant = self.cluster.replicas[replica].variant;
        let mut done = Vec::new();
        let state = &mut self.cluster.replicas[replica];
        while let Some(Reverse((due, call))) = state.running.peek().copied() {
            if f64::from_bits(due) > state.virtual_now + 1e-6 {
                break;
            }
            state.running.pop();
            done.push(call);
        }
        self.touch(variant);
        self.sums[variant].running -= done.len() as u32;
        self.refill(replica);
        self.plan(replica);
        if self.cluster.replicas[replica].phase == Phase::Draining && self.cluster.replicas[replica].running.is_empty()
        {
            self.cluster.end(replica, self.now_us / 1_000);
        }
        for call in done {
            self.settle(call);
        }
    }

    /// Fills free slots of a Ready replica from its own queue, or from the lobby.
    fn refill(&mut self, replica: usize) {
        let (variant, phase) = (
            self.cluster.replicas[replica].variant,
            self.cluster.replicas[replica].phase,
        );
        if phase != Phase::Ready {
            return;
        }
        let stage = self.scenario.world.variants[variant].stage.0 as usize;
        let slots = self.scenario.variants[variant].slots as usize;
        let pulls = self.pulls(stage);
        while self.cluster.replicas[replica].running.len() < slots {
            let next = if pulls {
                self.touch_lobby(stage);
                self.lobbies[stage].queue.pop_front()
            } else {
                self.touch(variant);
                let next = self.cluster.replicas[replica].waiting.pop_front();
                self.sums[variant].waiting -= u32::from(next.is_some());
                next
            };
            let Some(call) = next else { break };
            if self.still_wanted(call) {
                self.begin(replica, call);
            }
        }
    }

    /// Whether somebody still waits for a call; gives its request up if it has waited too long.
    fn still_wanted(&mut self, call: u32) -> bool {
        let id = self.calls[call as usize].request as usize;
        let Some(request) = &self.requests[id] else {
            self.free_calls.push(call);
            return false;
        };
        if self.now_us - request.arrived_us > self.options.patience_ms * 1_000 {
            self.outcome.pipelines[request.pipeline as usize].late += 1;
            self.requests[id] = None;
            self.free_calls.push(call);
            self.outcome.failed += 1;
            self.frame.late += 1;
            self.open -= 1;
            return false;
        }
        true
    }

    /// A variant has a further Ready replica: what waits in the lobby comes in.
    fn welcome(&mut self, variant: usize) {
        let stage = self.scenario.world.variants[variant].stage.0 as usize;
        if self.pulls(stage) {
            if let Some(replica) = self.cluster.ready(variant).last() {
                self.refill(replica);
                self.plan(replica);
            }
            return;
        }
        self.touch_lobby(stage);
        for call in std::mem::take(&mut self.lobbies[stage].queue) {
            if self.still_wanted(call) {
                self.hand_in(call);
            }
        }
    }

    /// A replica takes no more calls, or is gone: what waits at it, and what it still ran, is called again elsewhere.
    fn evict(&mut self, replica: usize) {
        self.advance(replica);
        let variant = self.cluster.replicas[replica].variant;
        self.touch(variant);
        let mut again: Vec<u32> = Vec::new();
        let state = &mut self.cluster.replicas[replica];
        if state.phase == Phase::Gone {
            self.sums[variant].running -= state.running.len() as u32;
            again.extend(
                std::mem::take(&mut state.running)
                    .into_iter()
                    .map(|Reverse((_, call))| call),
            );
            again.sort_unstable();
            state.stamp += 1;
        }
        self.sums[variant].waiting -= state.waiting.len() as u32;
        again.extend(std::mem::take(&mut state.waiting));
        for call in again {
            if self.still_wanted(call) {
                self.hand_in(call);
            }
        }
    }

    /// A call is done: its request goes on or is served.
    fn settle(&mut self, call: u32) {
        let Call {
            request: id,
            stage,
            work,
            started_us,
            ..
        } = self.calls[call as usize];
        self.free_calls.push(call);
        let Some(request) = &mut self.requests[id as usize] else {
            return;
        };
        if work > 1.0 {
            let own_us = (self.now_us - started_us) as f64 * (work - 1.0) / work;
            request.allowance_us = request.allowance_us.max(own_us);
        }
        match request.done(self.scenario, stage as usize) {
            Step::Waits => {}
            Step::Calls(next) => {
                for stage in next {
                    self.call(id, stage);
                }
            }
            Step::Served => {
                let latency_us = self.now_us - request.arrived_us;
                let late = latency_us as f64 > self.objectives_us[request.pipeline as usize] + request.allowance_us;
                self.outcome.served += 1;
                self.outcome.late += u64::from(late);
                self.outcome.pipelines[request.pipeline as usize].late += u64::from(late);
                self.frame.late += u32::from(late);
                self.outcome.latencies_ms.push((latency_us / 1_000) as u32);
                self.requests[id as usize] = None;
                self.open -= 1;
            }
        }
    }

    fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::ReadyAt(replica, at_ms) => {
                    self.outcome.starts += 1;
                    self.events.push(Reverse((at_ms * 1_000, Event::Ready { replica })));
                }
                Effect::Drains(replica, at_ms) => {
                    self.events.push(Reverse((at_ms * 1_000, Event::Gone { replica })));
                    self.evict(replica);
                }
                Effect::Lost(replica) => self.evict(replica),
            }
        }
    }

    fn tick(&mut self, policy: &mut dyn Policy, span_us: u64) {
        let now_ms = self.now_ms();
        let mut effects = Vec::new();
        self.break_things(now_ms, &mut effects);
        self.cluster.place(self.scenario, now_ms, &mut effects);
        self.apply(effects);
        self.measure(now_ms);
        // Where servers have one common queue, it is theirs as soon as one of them is Ready.
        let outside = |(stage, lobby): (usize, &Lobby)| {
            let seen = self.pulls(stage)
                && self
                    .scenario
                    .variants_of(stage)
                    .any(|at| self.cluster.seen[at].ready > 0);
            if seen { 0 } else { lobby.queue.len() as u32 }
        };
        let outside: Vec<u32> = self.lobbies.iter().enumerate().map(outside).collect();
        let orders = policy.step(&View {
            scenario: self.scenario,
            now_ms,
            seen: &self.cluster.seen,
            started: &self.cluster.started,
            metrics: &self.metrics,
            outside: &outside,
            capacity: &self.cluster.capacity,
        });
        let mut effects = Vec::new();
        for order in orders {
            if self.cluster.seen[order.variant].desired != order.to {
                self.outcome.writes += 1;
                self.cluster
                    .scale(self.scenario, order.variant, order.to, now_ms, &mut effects);
            }
        }
        self.cluster.place(self.scenario, now_ms, &mut effects);
        self.apply(effects);
        if now_ms.is_multiple_of(SHIFT_MS) {
            self.count_shifts();
        }
        if self.now_us <= span_us {
            self.account(now_ms);
        }
    }

    fn break_things(&mut self, now_ms: u64, effects: &mut Vec<Effect>) {
        for fault in &self.options.faults {
            let full = self.scenario.world.pools[fault.pool].capacity;
            let capacity = if now_ms == fault.from_ms / 1_000 * 1_000 {
                let part = |amount: u64| amount * fault.percent / 100;
                Resources {
                    cpu_millis: part(full.cpu_millis),
                    memory_kib: part(full.memory_kib),
                    device_millis: part(full.device_millis),
                }
            } else if now_ms == fault.until_ms / 1_000 * 1_000 {
                full
            } else {
                continue;
            };
            self.cluster
                .set_capacity(self.scenario, fault.pool, capacity, now_ms, effects);
        }
    }

    fn finish(mut self) -> Outcome {
        self.count_shifts();
        // The run goes on for as long as the last client has patience: who is still there has given up.
        self.outcome.failed += self.open;
        for request in self.requests.iter().flatten() {
            self.outcome.pipelines[request.pipeline as usize].late += 1;
        }
        self.outcome.latencies_ms.sort_unstable();
        self.outcome.simulated_ms = self.now_us / 1_000;
        self.outcome.cost = self.cost_micro_seconds / 3_600.0 / 1e6;
        self.outcome.replica_hours = self.replica_seconds / 3_600.0;
        self.outcome
    }
}
