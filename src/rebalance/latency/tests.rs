//! What an objective does to a pipeline's replicas, and what it leaves alone.

use super::super::decision::Decision;
use super::super::fixture::Fixture;
use super::super::spend::Spend;
use super::super::step;
use super::super::world::{Event, Reading, VariantIdx};
use super::*;

/// A pipeline under steady load: what is decided is there at once.
struct Bench {
    fixture: Fixture,
    state: State,
    now_ms: u64,
    /// Requests per second by stage, thousandths; absent: nothing is heard of it.
    load: Vec<Option<u64>>,
    decided: Vec<Decision>,
}

impl Bench {
    fn new(text: &str, load: &[u64]) -> Self {
        Self {
            fixture: Fixture::parse(text),
            state: State::new(),
            now_ms: 1_000_000,
            load: load.iter().copied().map(Some).collect(),
            decided: Vec::new(),
        }
    }

    fn replicas(&self) -> Vec<u32> {
        self.fixture.replicas.iter().map(|&(desired, _)| desired).collect()
    }

    fn events(&self) -> Vec<Event> {
        let world = &self.fixture.world;
        let mut events = vec![Event::World(world.clone())];
        for (at, &(desired, ready)) in (0..).zip(&self.fixture.replicas) {
            let variant = VariantIdx(at);
            events.push(Event::Replicas {
                variant,
                desired,
                ready,
            });
            let stage = world.variants[at as usize].stage.0 as usize;
            let (start, end) = world.stages[stage].variants;
            let total: u32 = (start..end).map(|at| self.fixture.replicas[at as usize].1).sum();
            let Some(load) = self.load[stage].filter(|_| ready > 0) else {
                continue;
            };
            let reading = Reading {
                taken_ms: self.now_ms,
                sampled: ready,
                expected: ready,
                running_millis: None,
                waiting_millis: None,
                utilization_permille: None,
                rate_millis: Some((load * u64::from(ready)).div_ceil(u64::from(total))),
            };
            events.push(Event::Reading { variant, reading });
        }
        events
    }

    /// So many seconds later.
    fn run(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.now_ms += 1_000;
            let events = self.events();
            self.decided = step(&mut self.state, &events, self.now_ms);
            for one in self.decided.iter().flat_map(|decision| &decision.moves) {
                self.fixture.replicas[one.variant.0 as usize] = (one.to, one.to);
            }
        }
        self
    }

    fn prospect(&self) -> Option<Prospect> {
        self.state.prospect(PipelineIdx(0))
    }
}

/// A small stage that is cheap and a large one that is dear, one after the other: 1 s and 2 s of service, one slot each.
fn chain(objective: &str) -> String {
    format!(
        "pipe rag {objective}
         pool arm 500 cpu\npool gpu 100
         stage look rated target 800
           arm cap 1 concurrency 1 cost 1 has 4/4
         stage say rated target 800 after look 1
           gpu cap 1 concurrency 2 cost 10 has 4/4"
    )
}

const LOAD: [u64; 2] = [3_000, 3_000];

#[test]
fn headroom_goes_where_it_saves_most_per_price() {
    let without = Bench::new(&chain(""), &LOAD).run(60).replicas();
    assert_eq!(without, [4, 4]);
    let mut bench = Bench::new(&chain("objective 6000"), &LOAD);
    let with = bench.run(60).replicas();
    assert!(with[0] >= without[0] + 2 && with[1] > without[1], "{with:?}");
    let Some(Prospect::Kept(latency_ms)) = bench.prospect() else {
        panic!("{:?}", bench.prospect());
    };
    assert!((3_000..=6_000).contains(&latency_ms), "{latency_ms}");
    assert!(bench.run(60).decided.is_empty(), "what is reached stays");
    assert_eq!(bench.replicas(), with);
}

#[test]
fn headroom_that_stands_still_is_no_change() {
    let mut bench = Bench::new(&chain("objective 6000"), &LOAD);
    bench.run(60);
    // What was decided binds until something changes.
    bench.state.stages[0].pinned = true;
    bench.state.stages[0].try_with(Spend::UNLIMITED, &[u32::MAX]);
    bench.run(5);
    assert!(bench.state.stages[0].pinned);
    bench.load = vec![Some(6_000), Some(6_000)];
    bench.run(1);
    assert!(!bench.state.stages[0].pinned);
}

#[test]
fn a_restart_finds_headroom_where_it_was_left() {
    let mut moved = 0;
    for down_ms in ["0", "300000"] {
        let text = chain("objective 6000").replace("target 800", &format!("target 800 down {down_ms}"));
        for load in (200..8_000).step_by(450) {
            for percent in [95, 100, 105] {
                let mut bench = Bench::new(&text, &[load, load]);
                let before = bench.run(400).replicas();
                // Load moves within the tolerance, and the operator starts anew.
                bench.load = vec![Some(load * percent / 100); 2];
                if bench.run(400).replicas() != before {
                    moved += 1;
                    continue;
                }
                bench.state = State::new();
                let case = format!("load {load}, {percent} % of it later, down {down_ms}");
                assert_eq!(bench.run(20).replicas(), before, "{case}");
                assert_eq!(bench.run(400).replicas(), before, "{case}, later");
            }
        }
    }
    assert!(moved < 20, "in {moved} cases load moved out of the tolerance");
}

#[test]
fn headroom_is_added_to_what_is_found_too_small_under_a_load_that_stands_still() {
    let text = chain("objective 6000").replace("target 800", "target 800 down 300000");
    let mut bench = Bench::new(&text, &LOAD);
    let replicas = bench.run(60).replicas();
    assert!(replicas[0] > 4 && replicas[1] > 4, "{replicas:?}");
    assert!(matches!(bench.prospect(), Some(Prospect::Kept(_))));
}

#[test]
fn an_objective_that_load_alone_keeps_changes_nothing() {
    for load in [[0, 0], [500, 500], [3_000, 3_000], [20_000, 20_000]] {
        let mut with = Bench::new(&chain("objective 3600000"), &load);
        let mut without = Bench::new(&chain(""), &load);
        for _ in 0..90 {
            with.run(1);
            without.run(1);
            assert_eq!(with.decided, without.decided, "at load {load:?}");
        }
        assert!(
            matches!(with.prospect(), Some(Prospect::Kept(_))),
            "{:?}",
            with.prospect()
        );
        assert_eq!(without.prospect(), None);
    }
}

#[test]
fn a_tighter_objective_never_takes_capacity() {
    let mut before = vec![0, 0];
    for objective in [20_000, 10_000, 8_000, 6_000, 5_000, 4_000, 3_500, 3_200, 3_050] {
        let mut bench = Bench::new(&chain(&format!("objective {objective}")), &LOAD);
        let replicas = bench.run(60).replicas();
        assert!(
            matches!(bench.prospect(), Some(Prospect::Kept(_))),
            "{objective}: {:?}",
            bench.prospect()
        );
        assert!(
            replicas[0] >= before[0] && replicas[1] >= before[1],
            "{objective}: {replicas:?} after {before:?}"
        );
        before = replicas;
    }
    assert!(before[0] > 8 && before[1] > 6, "{before:?}");
}

#[test]
fn what_is_out_of_reach_buys_nothing_and_is_said() {
    let mut bench = Bench::new(&chain("objective 2900"), &LOAD);
    assert_eq!(bench.run(60).replicas(), [4, 4]);
    // Three seconds of service, and what a thousand replicas each still let wait.
    let reach = bench.prospect();
    assert!(matches!(reach, Some(Prospect::OutOfReach(3_000..3_050))), "{reach:?}");
    let bounded = chain("objective 6000").replace("stage say rated", "stage say rated max 4");
    let mut bench = Bench::new(&bounded, &LOAD);
    assert_eq!(bench.run(60).replicas(), [4, 4]);
    let Some(Prospect::OutOfReach(latency_ms)) = bench.prospect() else {
        panic!("{:?}", bench.prospect());
    };
    assert!(latency_ms > 6_000, "{latency_ms}");
}

#[test]
fn a_stage_that_declares_too_little_is_named_and_nothing_is_split() {
    let whole = chain("objective 6000");
    for (lacks, lack) in [
        (whole.replace("concurrency 2", ""), Lack::Concurrency),
        (whole.replace("say rated", "say"), Lack::Rate),
    ] {
        let mut bench = Bench::new(&lacks, &LOAD);
        let mut without = Bench::new(&lacks.replace("objective 6000", ""), &LOAD);
        assert_eq!(bench.run(60).replicas(), without.run(60).replicas());
        assert_eq!(bench.prospect(), Some(Prospect::Undeclared(StageIdx(1), lack)));
    }
}

#[test]
fn silence_gives_no_headroom_back() {
    let mut bench = Bench::new(&chain("objective 6000"), &LOAD);
    let before = bench.run(60).replicas();
    bench.load[1] = None;
    bench.fixture.world.stages[1].signal_loss_ms = 5_000;
    let after = bench.run(120).replicas();
    assert_eq!(after, before);
    assert_eq!(bench.prospect(), Some(Prospect::Unseen(StageIdx(1))));
    // Heard again, at less load: headroom follows.
    bench.load = vec![Some(500), Some(500)];
    let less = bench.run(60).replicas();
    assert!(less[0] < before[0] && less[1] < before[1], "{less:?} after {before:?}");
}

#[test]
fn an_edit_of_the_objective_is_what_sets_the_change_off() {
    let mut bench = Bench::new(&chain(""), &LOAD);
    bench.run(60);
    bench.fixture.world.pipelines[0].objective = Some(Objective {
        latency_ms: 6_000,
        percentile: 95,
    });
    bench.run(1);
    assert!(!bench.decided.is_empty());
    assert!(
        bench.decided.iter().all(|one| one.trigger == Trigger::SpecChanged),
        "{:?}",
        bench.decided
    );
    let with = bench.run(60).replicas();
    bench.fixture.world.pipelines[0].objective = None;
    let without = bench.run(60).replicas();
    assert_eq!(without, [4, 4], "{with:?} before");
    assert_eq!(bench.prospect(), None);
}

#[test]
fn the_tail_of_waits_is_covered_at_every_percentile() {
    #![allow(clippy::cast_precision_loss, reason = "small numbers by construction")]
    // Waits of `stages` alike stages: each is nothing, or with probability `busy` exponential with mean 1.
    let late = |stages: u32, busy: f64, beyond: f64| {
        let mut tail = 0.0;
        let (mut erlang, mut term) = (0.0, 1.0);
        let mut choose = (1.0 - busy).powi(i32::try_from(stages).unwrap());
        for waiting in 1..=stages {
            erlang += term;
            term *= beyond / f64::from(waiting);
            choose *= busy / (1.0 - busy) * f64::from(stages + 1 - waiting) / f64::from(waiting);
            tail += choose * (-beyond).exp() * erlang;
        }
        tail
    };
    for percentile in 50..=99 {
        let factor = tail_permille(percentile) as f64 / 1_000.0;
        let allowed = 1.0 - f64::from(percentile) / 100.0;
        for stages in 1..=32 {
            for busy in (1..100).map(|percent| f64::from(percent) / 100.0) {
                let late = late(stages, busy, factor * busy * f64::from(stages));
                assert!(
                    late <= allowed * 1.04,
                    "p{percentile}, {stages} stages busy {busy}: {late} late"
                );
            }
        }
    }
    assert_eq!((tail_permille(95), tail_permille(50)), (7_358, 1_472));
}

/// The row of a table for people: what runs under an objective, what it costs, and what the model says.
fn row(objective_ms: Option<u64>) -> String {
    let declared = objective_ms.map_or_else(String::new, |ms| format!("objective {ms}"));
    let text = format!(
        "pipe support {declared}
         pool arm 500 cpu\npool gpu 100
         stage retrieve uniform rated target 800 tolerance 0
           arm cap 10 concurrency 4 cost 1 has 3/3
         stage generate uniform rated target 800 tolerance 0 after retrieve 1
           gpu cap 2 concurrency 8 cost 12 has 13/13"
    );
    let mut bench = Bench::new(&text, &[20_000, 20_000]);
    let replicas = bench.run(60).replicas();
    // Prices of the page are a tenth of the fixture's whole dollars.
    let cents = replicas[0] * 10 + replicas[1] * 120;
    let split = bench.state.latency.pipelines.values().next();
    let sight = split.map_or_else(|| sight(&bench.state, &[0, 1]).unwrap(), |split| split.sight.clone());
    let nodes = sight.nodes;
    let tail = tail_permille(95);
    let share = |at: usize| {
        let node = Node {
            callers: Vec::new(),
            ..nodes[at].clone()
        };
        split::estimate(&[node], &replicas[at..=at], tail).div_ceil(10_000)
    };
    let seconds = |hundredths: u64| format!("{}.{:02} s", hundredths / 100, hundredths % 100);
    let said = match bench.prospect() {
        None => "not there".to_owned(),
        Some(Prospect::Kept(latency_ms)) => {
            assert_eq!(latency_ms, split::estimate(&nodes, &replicas, tail).div_ceil(1_000));
            "`HeadroomPlanned`".to_owned()
        }
        Some(Prospect::OutOfReach(_)) => "`OutOfReach`".to_owned(),
        other => panic!("{other:?}"),
    };
    let objective = objective_ms.map_or_else(|| "none".to_owned(), |ms| seconds(ms / 10));
    let (retrieve, generate) = (share(0), share(1));
    format!(
        "| {objective} | {} | {} | ${}.{:02} | {} + {} = {} | {said} |",
        replicas[0],
        replicas[1],
        cents / 100,
        cents % 100,
        seconds(retrieve),
        seconds(generate),
        seconds(retrieve + generate)
    )
}

#[test]
fn the_worked_example_of_the_concepts_page_is_what_the_core_does() {
    let page = include_str!("../../../docs/concepts.md");
    for objective in [None, Some(9_000), Some(7_000), Some(6_000), Some(5_000), Some(4_200)] {
        let row = row(objective);
        assert!(page.lines().any(|line| line == row), "docs/concepts.md lacks\n{row}");
    }
}
