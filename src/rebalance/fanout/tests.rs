#![allow(clippy::cast_possible_truncation, reason = "small numbers by construction")]

use crate::rebalance::decision::Driver;
use crate::rebalance::fixture::Fixture;
use crate::rebalance::state::State;
use crate::rebalance::step::step;
use crate::rebalance::world::{Event, Learned, Reading, StageIdx, Subject, VariantIdx};

/// Stages of one variant each, whose rates and queues are set by hand. Nothing that is decided happens.
struct Chain {
    fixture: Fixture,
    state: State,
    now_ms: u64,
    rates: Vec<u64>,
    waiting: Vec<u64>,
}

impl Chain {
    fn new(text: &str, rates: &[u64]) -> Self {
        let fixture = Fixture::parse(text);
        let mut state = State::new();
        step(&mut state, &[Event::World(fixture.world.clone())], 1_000_000);
        Self {
            fixture,
            state,
            now_ms: 1_000_000,
            rates: rates.to_vec(),
            waiting: vec![0; rates.len()],
        }
    }

    fn seconds(&mut self, seconds: u64, each: impl Fn(&mut Self, u64)) {
        for second in 0..seconds {
            each(self, second);
            self.now_ms += 1_000;
            let mut events = Vec::new();
            for (at, &rate) in self.rates.iter().enumerate() {
                let (variant, ready) = (VariantIdx(at as u32), self.fixture.replicas[at].1);
                events.push(Event::Replicas {
                    variant,
                    desired: ready,
                    ready,
                });
                let reading = Reading {
                    taken_ms: self.now_ms,
                    sampled: ready,
                    expected: ready,
                    running_millis: Some(60_000),
                    waiting_millis: Some(self.waiting[at]),
                    utilization_permille: None,
                    rate_millis: Some(rate),
                };
                events.push(Event::Reading { variant, reading });
            }
            step(&mut self.state, &events, self.now_ms);
        }
    }

    fn calls(&self, stage: u32) -> Option<Learned> {
        self.state.report(StageIdx(stage)).unwrap().calls
    }

    fn demand(&self, stage: u32) -> u64 {
        self.state.report(StageIdx(stage)).unwrap().demand_millis.unwrap()
    }
}

const TWO: &str = "pool cpu 40 cpu\npool gpu 400
     stage calls rated min 9 max 9 target 1000
       cpu cap 10 has 9/9
     stage called rated min 9 max 9 target 1000 after calls 2
       gpu cap 10 has 9/9";

#[test]
fn calls_per_request_are_learned_from_both_rates_and_a_rise_is_sent_ahead_with_them() {
    let mut chain = Chain::new(TWO, &[10_000, 60_000]);
    chain.seconds(60, |_, _| {});
    assert_eq!(chain.calls(1).unwrap().value, 2_000, "too few to tell");
    chain.seconds(240, |_, _| {});
    let calls = chain.calls(1).unwrap();
    assert!(
        calls.value.abs_diff(6_000) < 200 && calls.declared == 2_000,
        "{calls:?}"
    );
    assert_eq!(chain.calls(0), None);
    // The source's rate doubles; the called has not seen anything of it yet.
    chain.rates[0] = 20_000;
    chain.seconds(3, |_, _| {});
    assert!(chain.demand(1).abs_diff(120_000) < 5_000, "{}", chain.demand(1));
    assert_eq!(chain.state.report(StageIdx(1)).unwrap().driver, Some(Driver::Callers));
}

#[test]
fn fewer_calls_than_declared_are_learned_too_and_none_beyond_an_eighth() {
    let mut chain = Chain::new(TWO, &[100_000, 50_000]);
    chain.seconds(300, |_, _| {});
    let calls = chain.calls(1).unwrap();
    assert!(calls.value.abs_diff(500) < 20, "{calls:?}");
    let mut chain = Chain::new(TWO, &[100_000, 2_000]);
    chain.seconds(600, |_, _| {});
    assert!(
        (250..=260).contains(&chain.calls(1).unwrap().value),
        "{:?}",
        chain.calls(1)
    );
}

#[test]
fn a_shortage_never_teaches_that_fewer_calls_follow_a_request() {
    // The caller falls behind: a tenth of what reaches it is passed on.
    let mut behind = Chain::new(TWO, &[100_000, 20_000]);
    behind.seconds(400, |chain, second| chain.waiting[0] = 80_000 * second);
    assert_eq!(behind.calls(1).unwrap().samples, 0);
    assert_eq!(behind.demand(1), 200_000);
    // The called is full, and its clients hold back.
    let mut full = Chain::new(TWO, &[100_000, 20_000]);
    full.waiting[1] = 100_000;
    full.seconds(400, |_, _| {});
    assert_eq!(full.calls(1).unwrap().samples, 0);
    assert!(full.demand(1) >= 200_000);
}

#[test]
fn several_callers_share_one_factor_and_edited_edges_start_anew() {
    let text = "pool cpu 40 cpu\npool gpu 400
         stage a rated min 9 max 9 target 1000
           cpu cap 10 has 9/9
         stage b rated min 9 max 9 target 1000
           cpu cap 10 has 9/9
         stage called rated min 9 max 9 target 1000 after a 1 after b 3
           gpu cap 10 has 9/9";
    let mut chain = Chain::new(text, &[10_000, 10_000, 80_000]);
    chain.seconds(300, |_, _| {});
    let calls = chain.calls(2).unwrap();
    assert!(
        calls.declared == 4_000 && calls.value.abs_diff(8_000) < 200,
        "{calls:?}"
    );
    chain.rates[0] = 30_000;
    chain.seconds(3, |_, _| {});
    assert!(
        chain.demand(2).abs_diff(120_000) < 4_000,
        "twice one from a: {}",
        chain.demand(2)
    );
    chain.fixture.world.stages[2].after[0].calls_millis = 2_000;
    let event = Event::World(chain.fixture.world.clone());
    step(&mut chain.state, &[event], chain.now_ms);
    chain.seconds(1, |_, _| {});
    assert_eq!(chain.calls(2).unwrap().samples, 0);
}

#[test]
fn calls_that_were_learned_before_a_restart_are_in_force_after_it() {
    let mut chain = Chain::new(TWO, &[10_000, 60_000]);
    chain.seconds(300, |_, _| {});
    let learned = chain.calls(1).unwrap();
    let mut again = Chain::new(TWO, &[20_000, 60_000]);
    let subject = Subject::Calls(StageIdx(1));
    step(&mut again.state, &[Event::Learned { subject, learned }], again.now_ms);
    again.seconds(2, |_, _| {});
    assert_eq!(again.calls(1), Some(learned));
    assert!(again.demand(1) > 110_000, "{}", again.demand(1));
}
