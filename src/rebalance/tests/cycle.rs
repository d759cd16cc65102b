//! Stages in each other's way: by example, and in every world of a small size.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;

/// A cluster that obeys at once: what is asked for is Ready a second later, what goes holds its place as long.
struct Cluster {
    fixture: Fixture,
    state: State,
    now_ms: u64,
    asked: Vec<u32>,
    ready: Vec<u32>,
    leaving: Vec<u32>,
    /// Offered to every stage, thousandths of requests per second.
    loads: Vec<u64>,
    told: String,
    /// What all served of their loads together when somebody first gave way, thousandths.
    gave_way_at: Option<u64>,
}

impl Cluster {
    fn of(text: &str, loads: &[u64]) -> Self {
        let fixture = Fixture::parse(text);
        let ready: Vec<u32> = fixture.replicas.iter().map(|&(_, ready)| ready).collect();
        let mut cluster = Self {
            state: State::new(),
            now_ms: NOW_MS,
            asked: ready.clone(),
            leaving: vec![0; ready.len()],
            ready,
            loads: loads.to_vec(),
            told: String::new(),
            gave_way_at: None,
            fixture,
        };
        cluster.restart();
        cluster
    }

    /// Nothing is known any more but what is declared.
    fn restart(&mut self) {
        self.state = State::new();
        step(
            &mut self.state,
            &[Event::World(self.fixture.world.clone())],
            self.now_ms,
        );
    }

    fn variants(&self, stage: usize) -> std::ops::Range<usize> {
        let (start, end) = self.fixture.world.stages[stage].variants;
        start as usize..end as usize
    }

    fn serves(&self, stage: usize, counts: &[u32]) -> u64 {
        let each = |at: usize| u64::from(counts[at]) * self.fixture.world.variants[at].capacity_millis;
        self.variants(stage).map(each).sum()
    }

    /// The shares of their loads that stages serve, thousandths, the worst first.
    fn shares(&self, counts: &[u32]) -> Vec<u64> {
        let share = |at: usize| self.serves(at, counts).min(self.loads[at]) * 1_000 / self.loads[at];
        let mut all: Vec<u64> = (0..self.loads.len()).map(share).collect();
        all.sort_unstable();
        all
    }

    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for stage in 0..self.loads.len() {
            let serves = self.serves(stage, &self.ready);
            for at in self.variants(stage) {
                let variant = VariantIdx(u32::try_from(at).unwrap());
                let (desired, ready, count) = (self.asked[at], self.ready[at], self.leaving[at]);
                events.push(Event::Leaving { variant, count });
                events.push(Event::Replicas {
                    variant,
                    desired,
                    ready,
                });
                if ready > 0 {
                    let part = u64::from(ready) * self.fixture.world.variants[at].capacity_millis;
                    let reading = Reading {
                        rate_millis: Some(self.loads[stage] * part / serves),
                        utilization_permille: None,
                        ..busy(self.now_ms, ready, 0)
                    };
                    events.push(Event::Reading { variant, reading });
                }
            }
        }
        events
    }

    /// A second later: what is decided, of which the first `arrive` writes arrive.
    fn second(&mut self, arrive: usize) -> Vec<Decision> {
        self.now_ms += 1_000;
        self.ready.clone_from(&self.asked);
        let events = self.events();
        self.leaving.fill(0);
        let decided = step(&mut self.state, &events, self.now_ms);
        writeln!(self.told, "{:?} {}", self.asked, self.fixture.render(&decided)).unwrap();
        let moves = decided.iter().flat_map(|one| one.moves.iter().map(move |it| (one, it)));
        for (decision, one) in moves.take(arrive) {
            let at = one.variant.0 as usize;
            let before = self.ready.clone();
            assert_eq!(one.from, self.asked[at], "{}", self.told);
            self.asked[at] = one.to;
            let goes = self.ready[at].saturating_sub(one.to);
            self.ready[at] -= goes;
            self.leaving[at] += goes;
            self.check(decision, &before);
        }
        decided
    }

    /// Pools are never overfull, floors hold, and nobody breaks before it makes but to give way.
    fn check(&self, decision: &Decision, before: &[u32]) {
        let world = &self.fixture.world;
        for (at, pool) in world.pools.iter().enumerate() {
            let here = (world.variants.iter().enumerate()).filter(|(_, variant)| variant.pool.0 as usize == at);
            let held = here.map(|(at, variant)| {
                u64::from(self.asked[at].max(self.ready[at]) + self.leaving[at]) * variant.request.cpu_millis
            });
            assert!(
                held.sum::<u64>() <= pool.capacity.cpu_millis,
                "pool {at}\n{}",
                self.told
            );
        }
        let stage = decision.stage.0 as usize;
        let ready = |counts: &[u32]| self.variants(stage).map(|at| counts[at]).sum::<u32>();
        let floor = world.stages[stage].min.min(ready(before));
        assert!(ready(&self.ready) >= floor, "floor of {stage}\n{}", self.told);
        let (was, is) = (self.serves(stage, before), self.serves(stage, &self.ready));
        // Where there is not enough for all, the plan may leave a stage less.
        let planned = &self.state.plan.as_ref().unwrap().counts;
        let goal = self.loads[stage].min(self.serves(stage, planned));
        let kept = is >= was.min(goal) || decision.reason == Reason::GivesWay;
        assert!(kept, "stage {stage} serves {is} after {was}\n{}", self.told);
    }

    /// Until nothing is written for three seconds. `crash`: in this second the process dies after its first write.
    fn rest(&mut self, crash: Option<usize>) -> BTreeMap<Reason, usize> {
        let (mut reasons, mut quiet) = (BTreeMap::new(), 0);
        for second in 0..60 {
            let dies = crash == Some(second);
            let served = self.shares(&self.asked).iter().sum();
            let decided = self.second(if dies { 1 } else { usize::MAX });
            if dies {
                self.restart();
            }
            quiet = if decided.is_empty() { quiet + 1 } else { 0 };
            for one in decided {
                if one.reason == Reason::GivesWay {
                    self.gave_way_at.get_or_insert(served);
                }
                *reasons.entry(one.reason).or_insert(0) += 1;
            }
            // A restart is no news: what it finds it leaves.
            if quiet >= 3 && crash.is_none_or(|crash| second > crash + 3) {
                return reasons;
            }
        }
        panic!("no rest\n{}", self.told);
    }
}

#[test]
fn stages_in_each_others_way_are_untangled_where_more_is_served_for_it() {
    // Only two replicas of `a` on `large` would do, where `b` is; `b` would do as well on `small`, where `a` is.
    let world = |price: u32| {
        format!(
            "pool small 2\npool large 2
             stage a rated\n small cap 1 cost 1 has 2/2\n large cap 4 cost {price} has 0/0
             stage b rated\n small cap 2 cost 2 has 0/0\n large cap 2 cost 2 has 2/2"
        )
    };
    let mut cluster = Cluster::of(&world(4), &[1_800, 3_900]);
    cluster.rest(None);
    assert_eq!(cluster.asked, [2, 0, 0, 2], "{}", cluster.told);
    cluster.told.clear();
    cluster.loads[0] = 3_800;
    let reasons = cluster.rest(None);
    assert_eq!(cluster.asked, [0, 1, 1, 1], "{}", cluster.told);
    assert_eq!(reasons.get(&Reason::GivesWay), Some(&1), "{}", cluster.told);
    let told: Vec<&str> = cluster.told.lines().filter(|line| !line.ends_with('-')).collect();
    assert_eq!(
        told,
        [
            "[2, 0, 0, 2] a/small 2->1",
            "[1, 0, 0, 2] b/small 0->1",
            "[1, 0, 1, 2] b/large 2->1",
            "[1, 0, 1, 1] a/large 0->1",
            "[1, 1, 1, 1] a/small 1->0",
        ]
    );
}

#[test]
fn for_a_price_alone_nobody_gives_way() {
    let mut cluster = Cluster::of(
        "pool left 2\npool right 2
         stage a rated\n left cap 2 cost 9 has 2/2\n right cap 2 cost 1 has 0/0
         stage b rated\n left cap 2 cost 1 has 0/0\n right cap 2 cost 9 has 2/2",
        &[3_000, 3_000],
    );
    cluster.rest(None);
    cluster.loads = vec![3_900, 3_900];
    assert_eq!(cluster.rest(None), BTreeMap::new(), "{}", cluster.told);
    assert_eq!(cluster.asked, [2, 0, 0, 2], "{}", cluster.told);
}

/// Every choice of one entry from each list.
fn each_of<T: Copy>(lists: &[Vec<T>]) -> Vec<Vec<T>> {
    lists.iter().fold(vec![Vec::new()], |all, list| {
        let longer = |one: &Vec<T>| {
            list.iter()
                .map(|&last| [one.as_slice(), &[last]].concat())
                .collect::<Vec<_>>()
        };
        all.iter().flat_map(longer).collect()
    })
}

/// A family of worlds: every placement of up to so many replicas of every stage, or only those that fill all pools.
struct Family<'a> {
    stages: usize,
    slots: &'a [u64],
    replicas: u32,
    full: bool,
    /// By stage and pool.
    capacities: Vec<Vec<u64>>,
    /// Of every stage, before one of them rises, and of that one.
    loads: (u64, u64),
}

impl Family<'_> {
    fn placements(&self) -> Vec<Vec<u32>> {
        let (pools, places) = (self.slots.len(), self.stages * self.slots.len());
        let mut all = each_of(&vec![(0..=self.replicas).collect(); places]);
        all.retain(|counts: &Vec<u32>| {
            let here = |pool: usize| {
                counts
                    .iter()
                    .skip(pool)
                    .step_by(pools)
                    .map(|&count| u64::from(count))
                    .sum::<u64>()
            };
            let fits = |pool: usize| here(pool) == self.slots[pool] || !self.full && here(pool) < self.slots[pool];
            let has = |counts: &[u32]| (1..=self.replicas).contains(&counts.iter().sum());
            (0..pools).all(fits) && counts.chunks(pools).all(has)
        });
        all
    }

    fn text(&self, capacities: &[u64], counts: &[u32]) -> String {
        let pools = self.slots.len();
        let mut text = String::new();
        for (pool, slots) in self.slots.iter().enumerate() {
            writeln!(text, "pool p{pool} {slots}").unwrap();
        }
        for stage in 0..self.stages {
            writeln!(text, "pipe p{stage}\nstage s{stage} rated tolerance 0").unwrap();
            for pool in 0..pools {
                let (at, price) = (stage * pools + pool, 1 + 2 * ((stage + pool) % 2));
                let (capacity, count) = (capacities[at], counts[at]);
                writeln!(text, "p{pool} cap {capacity} cost {price} has {count}/{count}").unwrap();
            }
        }
        text
    }

    /// Lets the load of one stage rise in each of the worlds; the process also dies in each of the first seconds after
    /// that, between two writes. How many ended with somebody's giving way, of how many.
    fn try_all(&self) -> (usize, usize) {
        let placements = self.placements();
        let (mut gave_way, mut tried) = (0, 0);
        for capacities in &self.capacities {
            for counts in &placements {
                let text = self.text(capacities, counts);
                for risen in 0..self.stages {
                    for crash in [None, Some(0), Some(1), Some(2)] {
                        gave_way += usize::from(self.rises(&text, risen, crash));
                        tried += 1;
                    }
                }
            }
        }
        (gave_way, tried)
    }

    fn rises(&self, text: &str, risen: usize, crash: Option<usize>) -> bool {
        let mut cluster = Cluster::of(text, &vec![self.loads.0; self.stages]);
        cluster.rest(None);
        cluster.loads[risen] = self.loads.1;
        let before = cluster.shares(&cluster.asked)[0];
        writeln!(cluster.told, "{text}{crash:?}").unwrap();
        cluster.gave_way_at = None;
        cluster.rest(crash);
        let after = cluster.shares(&cluster.asked);
        assert!(after[0] >= before, "{before} -> {after:?}\n{}", cluster.told);
        // What somebody went short for has come, unless the process died over it: then it is left as it was found.
        if let Some(before) = cluster.gave_way_at.filter(|_| crash.is_none()) {
            let after: u64 = after.iter().sum();
            assert!(after > before, "{before} -> {after} in all\n{}", cluster.told);
        }
        cluster.gave_way_at.is_some()
    }
}

#[test]
fn every_small_world_comes_to_rest_with_floors_and_room_kept_at_every_write() {
    let two = |slots, replicas, loads| Family {
        stages: 2,
        slots,
        replicas,
        full: false,
        capacities: each_of(&vec![vec![1, 2]; 2 * slots.len()]),
        loads,
    };
    // Three stages, each at home on one of three pools.
    let homes = each_of(&vec![vec![0_usize, 1, 2]; 3]);
    let home = |at: usize, homes: &[usize]| 1 + u64::from(homes[at / 3] == at % 3);
    let capacities = homes.iter().map(|homes| (0..9).map(|at| home(at, homes)).collect());
    let three = Family {
        stages: 3,
        slots: &[2, 2, 2],
        replicas: 2,
        full: true,
        capacities: capacities.collect(),
        loads: (1_900, 3_800),
    };
    for family in [
        two(&[2, 2], 2, (1_900, 3_800)),
        two(&[3, 3], 3, (2_900, 5_800)),
        two(&[1, 1, 2], 2, (1_900, 3_800)),
        three,
    ] {
        let (gave_way, tried) = family.try_all();
        assert!(
            gave_way > 0,
            "nobody was in the way in {tried} worlds of {:?}",
            family.slots
        );
    }
}
