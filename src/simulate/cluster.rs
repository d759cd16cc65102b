//! Replicas: placed where there is room, started in their time, drained, lost.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::random::Random;
use super::scenario::{Scenario, take};
use crate::rebalance::world::Resources;

/// How long an idle replica takes to go.
const IDLE_EXIT_MS: u64 = 1_000;

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Asked for, and no room.
    Pending,
    /// Placed, not Ready.
    Starting,
    /// Serves.
    Ready,
    /// Finishes what it runs and takes nothing new.
    Draining,
    /// No more.
    Gone,
}

/// One replica and the calls in it. Calls that run together share one pace that depends on how many there are, so one
/// virtual clock of work done per call says exactly when each ends, whatever joins or leaves meanwhile.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its variant.
    pub variant: usize,
    /// Where it is in its life.
    pub phase: Phase,
    /// When it was placed.
    pub placed_ms: u64,
    /// When it got Ready.
    pub ready_ms: u64,
    /// Calls that run: the reading of the virtual clock at which each ends (bits of a non-negative float order like the
    /// float), and the call.
    pub running: BinaryHeap<Reverse<(u64, u32)>>,
    /// Calls that wait at it.
    pub waiting: VecDeque<u32>,
    /// Units of work that a call running since the start would have got.
    pub virtual_now: f64,
    /// When the virtual clock was read last, microseconds.
    pub updated_us: u64,
    /// Which of the planned ends is the last word.
    pub stamp: u32,
    /// Seconds at full throughput that its work so far amounts to.
    pub busy_s: f64,
    /// The same at the last boundary of `metrics.k8s.io`.
    pub busy_mark_s: f64,
}

/// What others see of a variant's replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Asked for.
    pub desired: u32,
    /// Ready.
    pub ready: u32,
    /// Placed and not Ready.
    pub starting: u32,
    /// Without room.
    pub pending: u32,
    /// On their way out.
    pub leaving: u32,
    /// Since when one has had no room.
    pub pending_since_ms: Option<u64>,
}

impl Seen {
    /// Replicas that hold resources.
    pub fn placed(&self) -> u32 {
        self.ready + self.starting + self.leaving
    }
}

/// What the caller has to do after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The replica gets Ready at this time, milliseconds.
    ReadyAt(usize, u64),
    /// The replica takes no more calls and is gone at this time at the latest, milliseconds.
    Drains(usize, u64),
    /// The replica is gone now, with whatever it ran.
    Lost(usize),
}

/// All replicas.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Replicas, gone ones included.
    pub replicas: Vec<Replica>,
    /// By variant.
    pub seen: Vec<Seen>,
    /// Room of each pool in all, as it is now.
    pub capacity: Vec<Resources>,
    /// Every start so far, in order: its variant, and how long it took from its place to Ready, milliseconds.
    pub started: Vec<(usize, u64)>,
    /// By variant: replicas that are not gone, oldest first.
    live: Vec<Vec<usize>>,
    /// By variant: how many were started so far.
    starts: Vec<u64>,
    seed: u64,
}

impl Cluster {
    /// `desired` replicas of each variant, Ready at once.
    pub fn new(scenario: &Scenario, desired: &[u32], seed: u64) -> Self {
        let count = scenario.world.variants.len();
        let mut cluster = Self {
            replicas: Vec::new(),
            seen: vec![Seen::default(); count],
            capacity: scenario.world.pools.iter().map(|pool| pool.capacity).collect(),
            started: Vec::new(),
            live: vec![Vec::new(); count],
            starts: vec![0; count],
            seed,
        };
        for (variant, &wanted) in desired.iter().enumerate() {
            for _ in 0..wanted {
                let at = cluster.add(variant);
                cluster.replicas[at].phase = Phase::Ready;
            }
            cluster.seen[variant].desired = wanted;
            cluster.recount(variant, 0);
        }
        cluster
    }

    fn add(&mut self, variant: usize) -> usize {
        self.replicas.push(Replica {
            variant,
            phase: Phase::Pending,
            placed_ms: 0,
            ready_ms: 0,
            running: BinaryHeap::new(),
            waiting: VecDeque::new(),
            virtual_now: 0.0,
            updated_us: 0,
            stamp: 0,
            busy_s: 0.0,
            busy_mark_s: 0.0,
        });
        self.live[variant].push(self.replicas.len() - 1);
        self.replicas.len() - 1
    }

    fn recount(&mut self, variant: usize, now_ms: u64) {
        let before = self.seen[variant];
        let mut seen = Seen {
            desired: before.desired,
            ..Seen::default()
        };
        for &at in &self.live[variant] {
            match self.replicas[at].phase {
                Phase::Pending => seen.pending += 1,
                Phase::Starting => seen.starting += 1,
                Phase::Ready => seen.ready += 1,
                Phase::Draining => seen.leaving += 1,
                Phase::Gone => {}
            }
        }
        seen.pending_since_ms = (seen.pending > 0).then(|| before.pending_since_ms.unwrap_or(now_ms));
        self.seen[variant] = seen;
    }

    /// Ready replicas of a variant, oldest first.
    pub fn ready(&self, variant: usize) -> impl Iterator<Item = usize> {
        let replicas = &self.replicas;
        self.live[variant]
            .iter()
            .copied()
            .filter(move |&at| replicas[at].phase == Phase::Ready)
    }

    /// Asks for `count` replicas. As the Deployment controller does, those go first that serve the least: without room,
    /// then starting, then the youngest.
    pub fn scale(&mut self, scenario: &Scenario, variant: usize, count: u32, now_ms: u64, effects: &mut Vec<Effect>) {
        self.seen[variant].desired = count;
        let staying = |cluster: &Self| {
            let live = cluster.live[variant].iter();
            live.filter(|&&at| cluster.replicas[at].phase != Phase::Draining)
                .count()
        };
        let mut have = staying(self);
        while have < count as usize {
            self.add(variant);
            have += 1;
        }
        for phase in [Phase::Pending, Phase::Starting, Phase::Ready] {
            let mut young: Vec<usize> = self.live[variant].clone();
            young.retain(|&at| self.replicas[at].phase == phase);
            while have > count as usize {
                let Some(at) = young.pop() else { break };
                have -= 1;
                if phase == Phase::Ready {
                    self.replicas[at].phase = Phase::Draining;
                    let idle = self.replicas[at].running.is_empty();
                    let stage = scenario.world.variants[variant].stage.0 as usize;
                    let last_ms = if idle {
                        IDLE_EXIT_MS
                    } else {
                        scenario.stages[stage].drain_ms.max(IDLE_EXIT_MS)
                    };
                    effects.push(Effect::Drains(at, now_ms + last_ms));
                } else {
                    self.end(at, now_ms);
                }
            }
        }
        self.recount(variant, now_ms);
    }

    /// Places what waits for room, in the order of variants and age.
    pub fn place(&mut self, scenario: &Scenario, now_ms: u64, effects: &mut Vec<Effect>) {
        if self.seen.iter().all(|seen| seen.pending == 0) {
            return;
        }
        let mut room = self.capacity.clone();
        for (at, variant) in scenario.world.variants.iter().enumerate() {
            take(&mut room[variant.pool.0 as usize], variant, self.seen[at].placed());
        }
        for (variant, declared) in scenario.world.variants.iter().enumerate() {
            if self.seen[variant].pending == 0 {
                continue;
            }
            for index in 0..self.live[variant].len() {
                let at = self.live[variant][index];
                let free = &mut room[declared.pool.0 as usize];
                if self.replicas[at].phase != Phase::Pending || !Scenario::holds(*free, declared.request) {
                    continue;
                }
                take(free, declared, 1);
                self.replicas[at].phase = Phase::Starting;
                self.replicas[at].placed_ms = now_ms;
                self.starts[variant] += 1;
                let mut random = Random::of(self.seed ^ ((variant as u64 + 1) << 40), self.starts[variant]);
                // Around what is expected, at most 30 % off.
                let factor = 0.7 + 0.3 * (random.unit() + random.unit());
                effects.push(Effect::ReadyAt(
                    at,
                    now_ms + (declared.startup_ms as f64 * factor) as u64,
                ));
            }
            self.recount(variant, now_ms);
        }
    }

    /// A replica that was starting is Ready, unless it is gone.
    pub fn get_ready(&mut self, at: usize, now_ms: u64) -> bool {
        if self.replicas[at].phase != Phase::Starting {
            return false;
        }
        self.replicas[at].phase = Phase::Ready;
        self.replicas[at].ready_ms = now_ms;
        let took_ms = now_ms - self.replicas[at].placed_ms;
        self.started.push((self.replicas[at].variant, took_ms));
        self.replicas[at].updated_us = now_ms * 1_000;
        self.recount(self.replicas[at].variant, now_ms);
        true
    }

    /// A replica is no more.
    pub fn end(&mut self, at: usize, now_ms: u64) {
        self.replicas[at].phase = Phase::Gone;
        let variant = self.replicas[at].variant;
        self.live[variant].retain(|&other| other != at);
        self.recount(variant, now_ms);
    }

    /// A pool has `capacity` from now on. Replicas that do not fit any more are lost at once, the youngest first; their
    /// Deployments ask for others, which wait for room.
    pub fn set_capacity(
        &mut self,
        scenario: &Scenario,
        pool: usize,
        capacity: Resources,
        now_ms: u64,
        effects: &mut Vec<Effect>,
    ) {
        self.capacity[pool] = capacity;
        let mut held = Vec::new();
        for (variant, declared) in scenario.world.variants.iter().enumerate() {
            if declared.pool.0 as usize == pool {
                held.extend(
                    self.live[variant]
                        .iter()
                        .copied()
                        .filter(|&at| self.replicas[at].phase != Phase::Pending),
                );
            }
        }
        held.sort_unstable();
        let mut room = capacity;
        for at in held {
            let declared = &scenario.world.variants[self.replicas[at].variant];
            if Scenario::holds(room, declared.request) {
                take(&mut room, declared, 1);
                continue;
            }
            let (variant, asked) = (self.replicas[at].variant, self.replicas[at].phase != Phase::Draining);
            self.end(at, now_ms);
            effects.push(Effect::Lost(at));
            if asked {
                self.add(variant);
                self.recount(variant, now_ms);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::fixture::{one_stage, two_pools};

    #[test]
    fn replicas_without_room_wait_and_are_placed_when_room_comes() {
        let scenario = one_stage(2);
        let mut cluster = Cluster::new(&scenario, &[1], 1);
        let mut effects = Vec::new();
        cluster.scale(&scenario, 0, 4, 0, &mut effects);
        cluster.place(&scenario, 0, &mut effects);
        assert_eq!(
            (cluster.seen[0].ready, cluster.seen[0].starting, cluster.seen[0].pending),
            (1, 1, 2)
        );
        assert!(
            matches!(effects[..], [Effect::ReadyAt(1, at)] if (7_000..=13_000).contains(&at)),
            "{effects:?}"
        );
        cluster.scale(&scenario, 0, 2, 0, &mut effects);
        assert_eq!(cluster.seen[0].pending, 0, "those without room go first");
        assert_eq!((cluster.seen[0].ready, cluster.seen[0].starting), (1, 1));
    }

    #[test]
    fn a_lost_pool_takes_its_replicas_and_their_deployments_ask_for_others() {
        let scenario = two_pools(4, 4);
        let mut cluster = Cluster::new(&scenario, &[3, 1], 1);
        let mut effects = Vec::new();
        cluster.set_capacity(&scenario, 0, Resources::default(), 5_000, &mut effects);
        assert_eq!(effects.len(), 3);
        assert_eq!(
            (cluster.seen[0].pending, cluster.seen[0].ready, cluster.seen[1].ready),
            (3, 0, 1)
        );
        assert_eq!(cluster.seen[0].pending_since_ms, Some(5_000));
    }

    #[test]
    fn a_draining_replica_holds_its_room_until_it_is_gone() {
        let scenario = one_stage(1);
        let mut cluster = Cluster::new(&scenario, &[1], 1);
        let mut effects = Vec::new();
        cluster.scale(&scenario, 0, 0, 0, &mut effects);
        assert_eq!(effects, [Effect::Drains(0, IDLE_EXIT_MS)]);
        cluster.scale(&scenario, 0, 1, 0, &mut effects);
        cluster.place(&scenario, 0, &mut effects);
        assert_eq!(cluster.seen[0].pending, 1);
        cluster.end(0, 1_000);
        cluster.place(&scenario, 1_000, &mut effects);
        assert_eq!(cluster.seen[0].starting, 1);
    }
}
