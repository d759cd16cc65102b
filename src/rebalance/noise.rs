//! Noise and steps, late starts: what the core makes of them, reading by reading.
#![allow(clippy::cast_possible_truncation, reason = "small numbers by construction")]

use super::fixture::Fixture;
use super::sim::Random;
use super::state::State;
use super::step::step;
use super::world::{Event, Reading, StageIdx, VariantIdx};

/// Replicas that do as they are told, Ready after `startup_ms` (never: `None`), and readings of a rate.
struct Cluster {
    fixture: Fixture,
    state: State,
    now_ms: u64,
    /// Requests per second, thousandths, by variant; a variant without replicas has none.
    rates: Vec<u64>,
    startups_ms: Vec<Option<u64>>,
    /// By variant: when each replica gets Ready.
    replicas: Vec<Vec<Option<u64>>>,
}

impl Cluster {
    fn new(text: &str) -> Self {
        let fixture = Fixture::parse(text);
        let count = fixture.world.variants.len();
        let replicas = (fixture.replicas.iter()).map(|&(desired, _)| vec![Some(0); desired as usize]);
        Self {
            state: State::new(),
            now_ms: 1_000_000,
            rates: vec![0; count],
            startups_ms: vec![Some(20_000); count],
            replicas: replicas.collect(),
            fixture,
        }
    }

    /// One second; what was decided.
    fn tick(&mut self) -> String {
        self.now_ms += 1_000;
        let now_ms = self.now_ms;
        let mut events = vec![Event::World(self.fixture.world.clone())];
        for (at, replicas) in (0..).zip(&self.replicas) {
            let ready = replicas
                .iter()
                .flatten()
                .filter(|&&ready_ms| ready_ms <= now_ms)
                .count() as u32;
            let now_ready = replicas.iter().flatten().filter(|&&ready_ms| ready_ms == now_ms);
            events.extend(now_ready.map(|_| Event::Started {
                variant: VariantIdx(at),
                took_ms: self.startups_ms[at as usize].unwrap_or_default(),
                found: false,
            }));
            events.push(Event::Replicas {
                variant: VariantIdx(at),
                desired: replicas.len() as u32,
                ready,
            });
            if ready > 0 {
                let reading = Reading {
                    taken_ms: now_ms,
                    sampled: ready,
                    expected: ready,
                    running_millis: Some(0),
                    waiting_millis: Some(0),
                    utilization_permille: None,
                    rate_millis: Some(self.rates[at as usize]),
                };
                events.push(Event::Reading {
                    variant: VariantIdx(at),
                    reading,
                });
            }
        }
        let decisions = step(&mut self.state, &events, now_ms);
        for one in decisions.iter().flat_map(|decision| &decision.moves) {
            let at = one.variant.0 as usize;
            let ready_ms = self.startups_ms[at].map(|startup_ms| now_ms + startup_ms);
            self.replicas[at].resize(one.to as usize, ready_ms);
        }
        self.fixture.render(&decisions)
    }

    /// Many seconds at a rate that is drawn anew each second, up to so many thousandths off. What was decided, and when.
    fn run(&mut self, seconds: u64, rate: u64, off_permille: u64, random: &mut Random) -> Vec<(u64, String)> {
        let mut decided = Vec::new();
        for second in 0..seconds {
            let permille = random.within(1_000 - off_permille, 1_000 + off_permille);
            self.rates[0] = rate * permille / 1_000;
            let now = self.tick();
            if now != "-" {
                decided.push((second, now));
            }
        }
        decided
    }

    fn demand(&self, stage: u32) -> u64 {
        self.state.report(StageIdx(stage)).unwrap().demand_millis.unwrap()
    }
}

const ONE: &str = "pool gpu 40
     stage s rated target 1000 down 120000
       gpu cap 10 has 6/6";

#[test]
fn noise_moves_nothing_and_a_step_out_of_it_is_followed_by_the_next_reading() {
    for seed in 1..=20 {
        let mut random = Random::new(seed);
        let mut cluster = Cluster::new(ONE);
        let noisy = cluster.run(900, 55_000, 100, &mut random);
        assert_eq!(noisy, [], "seed {seed}");
        let (second, first) = cluster.run(1, 100_000, 0, &mut random).remove(0);
        assert_eq!((second, first.as_str()), (0, "gpu 6->10"), "seed {seed}");
        // The average takes over before the rise ends: nothing is taken back while the load lasts.
        let after = cluster.run(900, 100_000, 20, &mut random);
        assert!(
            after.iter().all(|(_, moves)| moves.starts_with("gpu 10->1")),
            "seed {seed}: {after:?}"
        );
    }
}

#[test]
fn a_burst_that_is_over_before_anything_could_start_is_taken_back_and_not_followed_again() {
    let mut random = Random::new(1);
    let mut cluster = Cluster::new(ONE);
    assert_eq!(cluster.run(100, 50_000, 0, &mut random), []);
    let burst = cluster.run(3, 90_000, 0, &mut random);
    assert_eq!(burst, [(0, "gpu 6->9".to_owned())]);
    let after = cluster.run(200, 50_000, 0, &mut random);
    assert_eq!(after.len(), 1, "{after:?}");
    assert!(
        after[0].0 <= 10 && after[0].1.starts_with("gpu 9->"),
        "within half a start: {after:?}"
    );
    assert_eq!(cluster.run(3, 90_000, 0, &mut random), [], "the same again is noise");
    assert_eq!(cluster.run(100, 50_000, 0, &mut random), []);
    assert_ne!(cluster.run(3, 150_000, 0, &mut random), [], "a higher one is not");
}

#[test]
fn a_load_that_falls_is_followed_once_its_average_has_been_low_for_the_window() {
    let mut random = Random::new(1);
    let mut cluster = Cluster::new(ONE);
    assert_eq!(cluster.run(200, 60_000, 0, &mut random), []);
    let fallen = cluster.run(400, 20_000, 0, &mut random);
    let first = fallen[0].0;
    assert!((120..=170).contains(&first), "{fallen:?}");
    assert!(fallen.last().unwrap().1.ends_with("->2"), "{fallen:?}");
}

#[test]
fn a_queue_is_worked_off_where_it_is_and_only_arrivals_are_passed_on() {
    let mut cluster = Cluster::new(
        "pool cpu 40 cpu\npool gpu 40
         stage calls rated target 1000
           cpu cap 10 concurrency 10 has 1/1
         stage called rated target 1000 after calls 2
           gpu cap 10 has 2/2",
    );
    cluster.rates = vec![10_000, 20_000];
    cluster.tick();
    assert_eq!((cluster.demand(0), cluster.demand(1)), (10_000, 20_000));
    let reading = Reading {
        taken_ms: cluster.now_ms + 500,
        sampled: 1,
        expected: 1,
        running_millis: Some(10_000),
        waiting_millis: Some(70_000),
        utilization_permille: None,
        rate_millis: Some(15_000),
    };
    let event = Event::Reading {
        variant: VariantIdx(0),
        reading,
    };
    step(&mut cluster.state, &[event], cluster.now_ms + 500);
    assert_eq!((cluster.demand(0), cluster.demand(1)), (80_000, 30_000));
}

const TWO: &str = "pool cheap 40\npool dear 40\npool other 40
     stage s rated target 1000
       cheap cap 10 cost 1 has 2/2
       dear cap 10 cost 3 has 0/0
     stage t rated target 1000
       other cap 10 has 2/2";

/// What is decided in so many seconds of a doubled load, each decision once.
fn grown(cluster: &mut Cluster, seconds: u64) -> Vec<String> {
    cluster.rates = vec![20_000, 0, 20_000];
    for _ in 0..30 {
        cluster.tick();
    }
    cluster.rates = vec![40_000, 0, 40_000];
    let all: Vec<String> = (0..seconds).map(|_| cluster.tick()).collect();
    all.into_iter().filter(|moves| moves != "-").collect()
}

#[test]
fn a_pool_that_starts_nothing_is_left_and_one_that_is_as_slow_as_all_others_is_not() {
    let mut lone = Cluster::new(TWO);
    lone.startups_ms[0] = None;
    let moves = grown(&mut lone, 100);
    assert!(moves.iter().any(|one| one.contains("s/dear 0->")), "{moves:?}");

    // Declared are 20 s; all take 90 s.
    let mut slow = Cluster::new(TWO);
    slow.startups_ms = vec![Some(90_000); 3];
    let moves = grown(&mut slow, 200);
    assert_eq!(moves, ["t/other 2->4, s/cheap 2->4"]);
}

#[test]
fn a_pool_that_is_known_to_be_slow_is_waited_for() {
    let mut cluster = Cluster::new(TWO);
    cluster.startups_ms[0] = Some(50_000);
    grown(&mut cluster, 100);
    cluster.startups_ms[0] = Some(100_000);
    cluster.rates = vec![60_000, 0, 40_000];
    let moves: Vec<String> = (0..150).map(|_| cluster.tick()).filter(|moves| moves != "-").collect();
    assert_eq!(
        moves,
        ["s/cheap 4->6"],
        "declared are 20 s: 60 s would have been the end"
    );
}
