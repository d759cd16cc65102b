#![allow(clippy::cast_possible_truncation, reason = "small numbers by construction")]

use proptest::prelude::*;

use crate::rebalance::decision::{Driver, Trigger, VariantLearned};
use crate::rebalance::fixture::{Fixture, cases};
use crate::rebalance::sim::Random;
use crate::rebalance::state::State;
use crate::rebalance::step::step;
use crate::rebalance::world::{Event, Learned, Reading, StageIdx, Subject, VariantIdx};

/// How long replicas take to get Ready.
const STARTUP_MS: u64 = 10_000;

/// What a variant's reading has besides rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Utilization,
    /// Calls running. Alone they take so many thousandths of what they take in a full replica.
    Slots(u64),
}

/// Replicas that serve what they really serve, whatever is declared. Load goes where capacity is.
#[derive(Clone)]
struct Cluster {
    fixture: Fixture,
    state: State,
    now_ms: u64,
    /// Requests per second, thousandths.
    rate: u64,
    /// What one replica serves, by variant.
    truth: Vec<u64>,
    shows: Shows,
    /// Requests that wait, thousandths.
    backlog: u64,
    /// Readings are off by up to so much, thousandths.
    noise: u64,
    random: Random,
    every_ms: u64,
    replicas: Vec<Vec<u64>>,
    decided: Vec<(u64, String)>,
    triggers: Vec<Trigger>,
    /// Times that another capacity was in force after a tick.
    taken_up: u32,
    /// Changes every reading before it is told.
    twist: fn(&mut Reading),
}

impl Cluster {
    fn new(text: &str, rate: u64, truth: &[u64]) -> Self {
        let fixture = Fixture::parse(text);
        let replicas = (fixture.replicas.iter()).map(|&(desired, _)| vec![0; desired as usize]);
        let mut cluster = Self {
            state: State::new(),
            now_ms: 1_000_000,
            rate,
            truth: truth.to_vec(),
            shows: Shows::Utilization,
            backlog: 0,
            noise: 0,
            random: Random::new(1),
            every_ms: 5_000,
            replicas: replicas.collect(),
            fixture,
            decided: Vec::new(),
            triggers: Vec::new(),
            taken_up: 0,
            twist: |_| {},
        };
        step(
            &mut cluster.state,
            &[Event::World(cluster.fixture.world.clone())],
            1_000_000,
        );
        cluster
    }

    fn count(&self, at: usize) -> u32 {
        self.replicas[at].len() as u32
    }

    fn ready(&self, at: usize) -> u64 {
        self.replicas[at]
            .iter()
            .filter(|&&ready_ms| ready_ms <= self.now_ms)
            .count() as u64
    }

    /// What all that is Ready serves.
    fn together(&self) -> u64 {
        (0..self.truth.len())
            .map(|at| self.ready(at) * self.truth[at])
            .sum::<u64>()
            .max(1)
    }

    fn all_ready(&self) -> u64 {
        (0..self.truth.len()).map(|at| self.ready(at)).sum::<u64>().max(1)
    }

    fn reading(&mut self, at: usize, share: u64) -> Reading {
        let ready = self.ready(at) as u32;
        let off = self.random.within(1_000 - self.noise, 1_000 + self.noise);
        let used = (share.min(1_000) * off / 1_000).min(1_000);
        let mut reading = Reading {
            taken_ms: self.now_ms,
            sampled: ready,
            expected: ready,
            running_millis: None,
            waiting_millis: None,
            utilization_permille: None,
            rate_millis: Some(self.rate * u64::from(ready) * self.truth[at] / self.together()),
        };
        match self.shows {
            Shows::Utilization => reading.utilization_permille = Some(used as u32),
            Shows::Slots(longer) => {
                let slots = u64::from(self.fixture.world.variants[at].concurrency.unwrap());
                let held = used * (longer * 1_000 + (1_000 - longer) * used) / 1_000_000;
                reading.running_millis = Some(held * slots * u64::from(ready));
                reading.waiting_millis = Some(self.backlog * u64::from(ready) / self.all_ready());
            }
        }
        (self.twist)(&mut reading);
        reading
    }

    fn tick(&mut self) {
        self.now_ms += self.every_ms;
        let together = self.together();
        let came = self.backlog + self.rate * self.every_ms / 1_000;
        self.backlog = came.saturating_sub(together * self.every_ms / 1_000);
        let share = if self.backlog > 0 {
            1_000
        } else {
            self.rate * 1_000 / together.max(1)
        };
        let mut events = Vec::new();
        for at in 0..self.truth.len() {
            let (variant, ready) = (VariantIdx(at as u32), self.ready(at) as u32);
            let since_ms = self.now_ms - self.every_ms;
            let new = self.replicas[at]
                .iter()
                .filter(|&&ready_ms| ready_ms > since_ms && ready_ms <= self.now_ms);
            events.extend(new.map(|_| Event::Started {
                variant,
                took_ms: STARTUP_MS,
                found: false,
            }));
            events.push(Event::Replicas {
                variant,
                desired: self.count(at),
                ready,
            });
            if ready > 0 {
                let reading = self.reading(at, share);
                events.push(Event::Reading { variant, reading });
            }
        }
        self.tell(&events);
    }

    fn tell(&mut self, events: &[Event]) {
        let in_force =
            |state: &State| -> Vec<u64> { state.world().variants.iter().map(|one| one.capacity_millis).collect() };
        let before = in_force(&self.state);
        let decisions = step(&mut self.state, events, self.now_ms);
        self.taken_up += u32::from(before != in_force(&self.state));
        for decision in &decisions {
            self.triggers.push(decision.trigger);
            for one in &decision.moves {
                self.replicas[one.variant.0 as usize].resize(one.to as usize, self.now_ms + STARTUP_MS);
            }
        }
        if !decisions.is_empty() {
            self.decided.push((self.now_ms, self.fixture.render(&decisions)));
        }
    }

    fn run(&mut self, minutes: u64) {
        for _ in 0..minutes * 60_000 / self.every_ms {
            self.tick();
        }
    }

    fn learned(&self, at: usize) -> VariantLearned {
        self.state.report(StageIdx(0)).unwrap().learned[at]
    }

    fn capacity(&self, at: usize) -> u64 {
        self.learned(at).capacity.value
    }

    /// Everything that was learned, as events.
    fn lessons(&self) -> Vec<Event> {
        let event = |(at, learned): (usize, &VariantLearned)| {
            let variant = VariantIdx(at as u32);
            [
                Event::Learned {
                    subject: Subject::Capacity(variant),
                    learned: learned.capacity,
                },
                Event::Learned {
                    subject: Subject::Startup(variant),
                    learned: learned.startup,
                },
            ]
        };
        let report = self.state.report(StageIdx(0)).unwrap();
        report.learned.iter().enumerate().flat_map(event).collect()
    }

    /// A new core that is told the world, and these events with it.
    fn restart(&mut self, lessons: Vec<Event>) {
        self.restart_as(State::new(), lessons);
    }

    fn restart_as(&mut self, state: State, lessons: Vec<Event>) {
        self.state = state;
        let world = std::iter::once(Event::World(self.fixture.world.clone()));
        let events: Vec<Event> = world.chain(lessons).collect();
        self.tell(&events);
    }
}

const ONE: &str = "pool gpu 200
     stage s rated target 700 down 120000
       gpu cap 10 has 20/20";

fn one(declared: u64, rate: u64) -> Cluster {
    Cluster::new(&ONE.replace("cap 10", &format!("cap {declared}")), rate, &[10_000])
}

#[test]
fn a_prior_that_is_three_times_too_low_is_found_out_and_its_replicas_go() {
    // 140 requests per second at 70 % of 10 are 20 replicas; at 70 % of 3 they are 67.
    let mut cluster = one(3, 140_000);
    cluster.run(1);
    assert_eq!(cluster.count(0), 67);
    cluster.run(15);
    assert!(cluster.capacity(0).abs_diff(10_000) < 500, "{:?}", cluster.learned(0));
    assert!((20..=21).contains(&cluster.count(0)), "{} replicas", cluster.count(0));
    assert!(cluster.triggers.contains(&Trigger::Learned), "{:?}", cluster.triggers);
}

#[test]
fn replicas_led_by_utilization_stay_while_a_prior_three_times_too_high_is_unlearned() {
    let mut cluster = one(30, 140_000);
    cluster.run(30);
    assert!(cluster.capacity(0).abs_diff(10_000) < 500, "{:?}", cluster.learned(0));
    assert_eq!(cluster.decided, [], "utilization says what is needed, in whatever unit");
    let report = cluster.state.report(StageIdx(0)).unwrap();
    assert!(report.demand_millis.unwrap() <= 220_000, "{report:?}");
}

#[test]
fn load_moves_to_the_pool_that_turns_out_to_be_cheaper() {
    // Declared: a request on `a` costs two thirds of one on `b`. True: twice as much.
    let mut cluster = Cluster::new(
        "pool a 200\npool b 200
         stage s rated target 700 down 60000 moves 1000
           a cap 30 cost 2 has 10/10
           b cap 20 cost 2 has 0/0",
        140_000,
        &[10_000, 20_000],
    );
    cluster.run(60);
    assert_eq!(cluster.count(0), 0, "{:?}", cluster.decided);
    assert!((10..=12).contains(&cluster.count(1)), "{:?}", cluster.decided);
    let quiet_since_ms = cluster.decided.last().unwrap().0;
    assert!(quiet_since_ms < cluster.now_ms - 20 * 60_000, "{:?}", cluster.decided);
}

#[test]
fn full_starting_silent_idle_and_rateless_replicas_teach_nothing() {
    type Twist = fn(&mut Reading);
    let cases: [(&str, Twist); 7] = [
        ("full", |reading| reading.utilization_permille = Some(980)),
        ("a pod is silent", |reading| reading.sampled -= 1),
        ("a pod is not expected yet", |reading| {
            reading.expected -= 1;
            reading.sampled -= 1;
        }),
        ("idle", |reading| {
            reading.utilization_permille = Some(140);
            reading.rate_millis = Some(90_000);
        }),
        ("no rate", |reading| reading.rate_millis = None),
        ("no utilization", |reading| reading.utilization_permille = None),
        ("more waits than runs", |reading| {
            reading.running_millis = Some(5_000);
            reading.waiting_millis = Some(9_000);
        }),
    ];
    for (name, twist) in cases {
        let mut cluster = one(3, 140_000);
        cluster.twist = twist;
        cluster.run(20);
        assert_eq!(cluster.learned(0).capacity.samples, 0, "{name}");
        assert_eq!(cluster.capacity(0), 3_000, "{name}");
    }
    let mut growing = one(10, 140_000);
    growing.replicas[0].truncate(20);
    growing.twist = |reading| {
        // Sixteen requests more in every second of reading: more than an eighth of 140.
        reading.running_millis = Some(4_000_000);
        reading.waiting_millis = Some((reading.taken_ms - 1_000_000) * 20);
    };
    growing.run(2);
    assert_eq!(growing.learned(0).capacity.samples, 0, "a queue that grows");
}

#[test]
fn nothing_is_learned_while_ready_replicas_come_and_go() {
    let mut cluster = one(3, 140_000);
    for _ in 0..100 {
        // Somebody scales every fifteen seconds.
        for _ in 0..3 {
            cluster.tick();
        }
        let count = cluster.replicas[0].len();
        cluster.replicas[0].resize(if count.is_multiple_of(2) { count + 1 } else { count - 1 }, 0);
    }
    assert_eq!(cluster.learned(0).capacity.samples, 0);
}

#[test]
fn old_readings_and_readings_of_stages_without_a_rate_teach_nothing() {
    let mut cluster = one(3, 140_000);
    cluster.twist = |reading| reading.taken_ms -= 11_000;
    cluster.run(20);
    assert_eq!(cluster.learned(0).capacity.samples, 0);
    let mut unrated = Cluster::new(&ONE.replace("rated ", ""), 140_000, &[3_000]);
    unrated.run(20);
    assert_eq!(unrated.learned(0).capacity.samples, 0);
}

const SLOTS: &str = "pool gpu 400
     stage s rated target 700 down 120000
       gpu cap 10 concurrency 16 has 20/20";

#[test]
fn slots_alone_contradict_only_what_no_company_could_explain() {
    // Calls that take half as long in half-empty replicas (a batch) are no evidence against the declared capacity.
    let mut batching = Cluster::new(SLOTS, 140_000, &[10_000]);
    batching.shows = Shows::Slots(500);
    batching.run(30);
    assert!(batching.learned(0).capacity.samples > 50);
    assert_eq!(batching.capacity(0), 10_000);
    assert_eq!(batching.decided, []);

    // Independent slots at 70 % serve 140: not 30 each.
    let mut wrong = Cluster::new(&SLOTS.replace("cap 10", "cap 30"), 140_000, &[10_000]);
    wrong.shows = Shows::Slots(1_000);
    wrong.run(30);
    assert!(wrong.capacity(0).abs_diff(10_000) < 500, "{:?}", wrong.learned(0));
    assert_eq!(wrong.decided, []);
}

#[test]
fn a_capacity_declared_anew_is_believed_and_the_rest_of_an_edit_forgets_nothing() {
    let mut cluster = one(30, 140_000);
    cluster.run(30);
    let known = cluster.learned(0).capacity;
    assert!(known.samples > 50 && known.value < 11_000);
    cluster.fixture.world.stages[0].max = 999;
    let event = Event::World(cluster.fixture.world.clone());
    cluster.tell(&[event]);
    assert_eq!(cluster.learned(0).capacity, known);
    cluster.fixture.world.variants[0].capacity_millis = 20_000;
    let event = Event::World(cluster.fixture.world.clone());
    cluster.tell(&[event]);
    let anew = Learned {
        declared: 20_000,
        value: 20_000,
        samples: 0,
    };
    assert_eq!(cluster.learned(0).capacity, anew);
    assert!(cluster.state.declares(&cluster.fixture.world));
}

#[test]
fn whoever_lies_about_a_rate_keeps_what_it_is_seen_to_use() {
    let mut cluster = one(10, 140_000);
    cluster.twist = |reading| reading.rate_millis = reading.rate_millis.map(|rate| rate * 3);
    cluster.run(60);
    assert!(cluster.capacity(0).abs_diff(30_000) < 1_500, "{:?}", cluster.learned(0));
    assert!((20..=21).contains(&cluster.count(0)), "{}", cluster.count(0));
    // One that hides what it serves gets as many as it shows to be busy.
    let mut modest = one(10, 140_000);
    modest.twist = |reading| reading.rate_millis = Some(5_000);
    modest.run(60);
    assert!((1_250..1_300).contains(&modest.capacity(0)), "{:?}", modest.learned(0));
    assert_eq!(modest.decided, []);
}

#[test]
fn the_largest_need_has_a_name() {
    let driver = |cluster: &Cluster| cluster.state.report(StageIdx(0)).unwrap().driver;
    let mut cluster = one(30, 140_000);
    cluster.run(1);
    assert_eq!(driver(&cluster), Some(Driver::Utilization));
    let mut cluster = one(3, 140_000);
    cluster.run(1);
    assert_eq!(driver(&cluster), Some(Driver::Rate));
    cluster.rate = 100_000;
    cluster.run(1);
    assert_eq!(driver(&cluster), Some(Driver::Recent));
    let mut slots = Cluster::new(&SLOTS.replace("cap 10", "cap 30"), 140_000, &[10_000]);
    slots.shows = Shows::Slots(1_000);
    slots.run(1);
    assert_eq!(driver(&slots), Some(Driver::Running));
    let mut least = one(10, 1_000);
    least.fixture.world.stages[0].min = 20;
    least.restart(Vec::new());
    least.run(5);
    assert_eq!(driver(&least), Some(Driver::Floor));
    let mut lost = one(10, 140_000);
    lost.run(1);
    lost.twist = |reading| reading.sampled = 0;
    lost.run(2);
    assert_eq!(driver(&lost), Some(Driver::Fallback));
}

#[test]
fn a_restart_with_what_was_learned_writes_nothing_and_without_it_would() {
    let settled = || {
        let mut cluster = one(3, 140_000);
        cluster.run(30);
        assert!((20..=21).contains(&cluster.count(0)));
        cluster.decided.clear();
        cluster
    };
    let mut cluster = settled();
    let lessons = cluster.lessons();
    let known = cluster.learned(0);
    cluster.restart(lessons);
    cluster.tick();
    assert_eq!(cluster.learned(0).capacity.value, known.capacity.value);
    cluster.run(10);
    assert_eq!(cluster.decided, []);
    let mut forgetful = settled();
    forgetful.restart(Vec::new());
    forgetful.run(3);
    assert_ne!(forgetful.decided, [], "the prior asks for three times as many");
}

#[test]
fn a_lesson_that_comes_late_or_for_nothing_changes_nothing() {
    let mut cluster = one(10, 140_000);
    cluster.run(5);
    assert!(cluster.learned(0).capacity.samples > 0);
    let learned = Learned {
        declared: 10_000,
        value: 20_000,
        samples: 9,
    };
    let event = |subject| Event::Learned { subject, learned };
    cluster.tell(&[
        event(Subject::Capacity(VariantIdx(0))),
        event(Subject::Capacity(VariantIdx(7))),
        event(Subject::Startup(VariantIdx(7))),
        event(Subject::Calls(StageIdx(0))),
        event(Subject::Calls(StageIdx(7))),
    ]);
    assert_eq!(cluster.capacity(0), 10_000);
    assert_eq!(cluster.decided, []);
}

proptest! {
    #![proptest_config(cases(10_000))]

    /// The derivation in the module's page, with rounding: `⌈D·μ'/μ⌉` needs as many of `μ'` as `D` of `μ`.
    #[test]
    fn another_capacity_moves_no_replica_of_a_pool_that_is_led_by_utilization(
        declared in 1_000..100_000_u64,
        learned_permille in 126..7_999_u64,
        count in 1..60_u32,
        used in prop::collection::vec(160..960_u32, 4),
        target in 400..1_000_u32,
    ) {
        let text = format!("pool gpu 5000\nstage s rated target {target} down 3000 max 5000\n gpu cap 1 has {count}/{count}");
        let mut fixture = Fixture::parse(&text);
        fixture.world.variants[0].capacity_millis = declared;
        let run = |value: u64| {
            let mut state = State::new();
            step(&mut state, &[Event::World(fixture.world.clone())], 1_000_000);
            let (variant, mut desired) = (VariantIdx(0), count);
            let mut counts = Vec::new();
            for second in 1..=90_u64 {
                let now_ms = 1_000_000 + second * 1_000;
                let reading = Reading {
                    taken_ms: now_ms,
                    sampled: desired,
                    expected: desired,
                    running_millis: None,
                    waiting_millis: None,
                    // Different at first, then still.
                    utilization_permille: Some((used[(second as usize / 3).min(3)] * count / desired).min(990)),
                    rate_millis: None,
                };
                let mut events = vec![Event::Replicas { variant, desired, ready: desired }, Event::Reading { variant, reading }];
                if second == 60 {
                    let learned = Learned { declared, value, samples: 9 };
                    events.push(Event::Learned { subject: Subject::Capacity(variant), learned });
                }
                for decision in step(&mut state, &events, now_ms) {
                    desired = decision.moves[0].to;
                }
                counts.push(desired);
            }
            let held = state.report(StageIdx(0)).unwrap().demand_millis.unwrap();
            (counts, state.stages[0].own.mean.unwrap().low * 1_000 / held)
        };
        let (still, seen_permille) = run(declared);
        prop_assume!(still[45..].iter().all(|&count| count == still[45]));
        // On the edge of the tolerance a thousandth of a request decides.
        prop_assume!([900, 909, 1_100, 1_111].iter().all(|edge| seen_permille.abs_diff(*edge) > 1));
        prop_assert_eq!(run(declared * learned_permille / 1_000).0, still);
    }
}

proptest! {
    #![proptest_config(cases(250))]

    #[test]
    fn what_is_learned_comes_to_rest_and_survives_a_restart(seed in any::<u64>()) {
        let mut random = Random::new(seed);
        let mut draw = |low, high| random.within(low, high);
        let text = format!(
            "pool a 300\npool b 300
             stage s rated target {} tolerance 100 down {} moves 1000 max 300
               a cap {} cost {} concurrency 16 has {}/1
               b cap {} cost {} concurrency 16 has 0/0",
            draw(50, 90) * 10, draw(30, 120) * 1_000, draw(2, 40), draw(1, 9), 1, draw(2, 40), draw(1, 9),
        );
        let truth: Vec<u64> = (0..2).map(|_| draw(3_000, 30_000)).collect();
        let mut cluster = Cluster::new(&text, draw(20_000, 400_000), &truth);
        cluster.noise = draw(0, 40);
        cluster.shows = if draw(0, 2) == 0 { Shows::Slots(draw(400, 1_000)) } else { Shows::Utilization };
        cluster.random = Random::new(seed ^ 1);
        // Two pools whose priors are eight times too high take turns at being the cheaper one, half an hour for each.
        cluster.run(120);
        let settled = cluster.taken_up;
        prop_assert!(settled <= 16, "{settled} changes of capacity in two hours");
        // What shows once the noise is gone may be news, and lead to a pool that has taught nothing yet.
        cluster.noise = 0;
        cluster.run(60);
        let rests = cluster.taken_up;
        prop_assert!(rests - settled <= 6, "{} more in the next hour", rests - settled);
        cluster.run(20);
        prop_assert!(cluster.taken_up - rests <= 1, "{} more in the twenty minutes after that", cluster.taken_up - rests);
        let lessons = cluster.lessons();
        let known: Vec<u64> = (0..2).map(|at| cluster.capacity(at)).collect();
        cluster.decided.clear();
        let mut declared = cluster.clone();
        cluster.restart_as(State::unlearning(), lessons.clone());
        cluster.tick();
        let again: Vec<u64> = (0..2).map(|at| cluster.capacity(at)).collect();
        prop_assert_eq!(&again, &known);
        cluster.run(10);
        // As if what was learned had been declared.
        for (variant, &capacity) in declared.fixture.world.variants.iter_mut().zip(&known) {
            variant.capacity_millis = capacity;
        }
        let startups = |event: &Event| matches!(event, Event::Learned { subject: Subject::Startup(_), .. });
        declared.restart_as(State::unlearning(), lessons.into_iter().filter(startups).collect());
        declared.tick();
        declared.run(10);
        prop_assert_eq!(&cluster.decided, &declared.decided);
    }
}
