// Counts and fractions that are exact in binary; counts far below 2^53.
#![allow(clippy::float_cmp, clippy::cast_precision_loss)]

use super::{Admission, Capacity, Station};
use crate::load::rng::Rng;

fn capacity(slots: u32, requests_per_s: f64, slowdown: f64) -> Capacity {
    Capacity {
        slots,
        requests_per_s,
        slowdown,
        queue_limit: 1_000_000,
    }
}

fn close(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!(
        (got - want).abs() <= tolerance,
        "{what}: got {got}, want {want} +- {tolerance}"
    );
}

/// Mean seconds in queue and in the system for Poisson arrivals and exponential work.
fn simulate(capacity: Capacity, arrivals_per_s: f64, requests: u32, seed: u64) -> (f64, f64) {
    let mut rng = Rng::new(seed);
    let mut station = Station::new(capacity, 0.0);
    let mut now = 0.0;
    let (mut queued, mut total, mut done) = (0.0, 0.0, 0_u32);
    let mut collect = |station: &mut Station| {
        for f in station.take_finished() {
            queued += f.started - f.arrived;
            total += f.finished - f.arrived;
            done += 1;
        }
    };
    for id in 0..requests {
        now += rng.next_exponential(1.0 / arrivals_per_s);
        assert_ne!(
            station.arrive(now, u64::from(id), rng.next_exponential(1.0)),
            Admission::Refused
        );
        collect(&mut station);
    }
    station.advance(f64::MAX / 4.0);
    collect(&mut station);
    assert_eq!(done, requests, "every request must finish");
    (queued / f64::from(done), total / f64::from(done))
}

/// Mean wait in an M/M/c queue (Erlang C), seconds.
fn erlang_c_wait(servers: u32, arrivals_per_s: f64, services_per_s: f64) -> f64 {
    let offered = arrivals_per_s / services_per_s;
    let (mut term, mut sum) = (1.0, 0.0);
    for k in 0..servers {
        sum += term;
        term *= offered / f64::from(k + 1);
    }
    let c = f64::from(servers);
    let waiting = term * c / (c - offered);
    waiting / (sum + waiting) / (c * services_per_s - arrivals_per_s)
}

#[test]
fn independent_slots_wait_as_long_as_erlang_c_says() {
    for (slots, load, seed) in [(1, 0.7, 11), (4, 0.8, 12), (16, 0.9, 13)] {
        // Each slot serves 2 requests/s.
        let services = 2.0;
        let rate = f64::from(slots) * services;
        let arrivals = rate * load;
        let (queued, total) = simulate(capacity(slots, rate, 1.0), arrivals, 400_000, seed);
        let want = erlang_c_wait(slots, arrivals, services);
        close(
            queued,
            want,
            want * 0.06,
            &format!("wait with {slots} slots, seed {seed}"),
        );
        close(
            total,
            want + 1.0 / services,
            (want + 0.5) * 0.04,
            &format!("time with {slots} slots, seed {seed}"),
        );
    }
}

#[test]
fn one_shared_processor_behaves_like_processor_sharing() {
    // With more slots than ever used and a slowdown of `slots`, the model is M/M/1 processor sharing: 1 / (mu - lambda).
    let (_, total) = simulate(capacity(1_000, 10.0, 1_000.0), 6.0, 300_000, 21);
    close(total, 1.0 / (10.0 - 6.0), 0.01, "time in M/M/1-PS, seed 21");
}

#[test]
fn regular_arrivals_below_capacity_never_wait_and_above_capacity_wait_linearly() {
    // D/D/2: 2 slots, 1 s each. One arrival per 0.5 s fits exactly.
    let mut fits = Station::new(capacity(2, 2.0, 1.0), 0.0);
    for id in 0..100_u32 {
        fits.arrive(f64::from(id) * 0.5, u64::from(id), 1.0);
    }
    fits.advance(1_000.0);
    for f in fits.take_finished() {
        close(f.started, f.arrived, 1e-9, "start");
        close(f.finished - f.arrived, 1.0, 1e-9, "time");
    }
    // Twice that load: the n-th pair waits n * 0.5 s.
    let mut late = Station::new(capacity(2, 2.0, 1.0), 0.0);
    for id in 0..100_u32 {
        late.arrive(f64::from(id) * 0.25, u64::from(id), 1.0);
    }
    late.advance(1_000.0);
    let done = late.take_finished();
    close(done[99].started - done[99].arrived, 24.5, 0.3, "wait of the last");
    close(
        done[99].finished,
        50.25,
        1e-6,
        "all work of 100 requests at 2 requests/s, begun 0.25 s apart",
    );
}

#[test]
fn batching_slows_each_request_down_but_raises_the_sum() {
    let c = capacity(8, 16.0, 4.0);
    close(c.seconds_per_unit(8), 0.5, 1e-12, "full batch");
    close(c.seconds_per_unit(1), 0.125, 1e-12, "alone: `slowdown` times faster");
    close(c.utilization(8), 1.0, 1e-12, "full");
    for n in 1..8 {
        assert!(
            c.seconds_per_unit(n) < c.seconds_per_unit(n + 1),
            "latency grows with the batch at {n}"
        );
        assert!(
            c.utilization(n) < c.utilization(n + 1),
            "throughput grows with the batch at {n}"
        );
    }
}

#[test]
fn a_request_that_joins_delays_the_one_that_runs_by_exactly_its_share() {
    // One shared processor, 1 unit/s. A (2 units) from 0; B (1 unit) from 1: both at half speed until B is done at 3; A at 3.
    let mut s = Station::new(capacity(2, 1.0, 2.0), 0.0);
    s.arrive(0.0, 1, 2.0);
    close(s.next_completion().unwrap(), 2.0, 1e-12, "alone");
    s.arrive(1.0, 2, 1.0);
    close(s.next_completion().unwrap(), 3.0, 1e-12, "shared");
    s.advance(3.0 + 1e-9);
    assert_eq!(s.take_finished().len(), 2);
    close(s.busy_s(), 3.0, 1e-6, "busy all the time");
}

#[test]
fn cancelling_gives_the_slot_to_the_next_and_a_full_queue_refuses() {
    let mut s = Station::new(
        Capacity {
            slots: 1,
            requests_per_s: 1.0,
            slowdown: 1.0,
            queue_limit: 1,
        },
        0.0,
    );
    assert_eq!(s.arrive(0.0, 1, 1.0), Admission::Running);
    assert_eq!(s.arrive(0.0, 2, 1.0), Admission::Waiting);
    assert_eq!(s.arrive(0.0, 3, 1.0), Admission::Refused);
    s.cancel(0.5, 1);
    assert_eq!((s.running(), s.waiting()), (1, 0));
    s.advance(2.0);
    let done = s.take_finished();
    assert_eq!(done.len(), 1);
    assert_eq!((done[0].id, done[0].started, done[0].finished), (2, 0.5, 1.5));
}

#[test]
fn pace_stretches_what_is_left_and_zero_freezes_it() {
    let mut s = Station::new(capacity(1, 1.0, 1.0), 0.0);
    s.arrive(0.0, 1, 1.0);
    s.set_pace(0.5, 0.0);
    close(s.busy_s(), 0.5, 1e-12, "work in progress counts");
    assert_eq!(s.next_completion(), None);
    s.set_pace(10.0, 0.5);
    s.advance(20.0);
    close(
        s.take_finished()[0].finished,
        11.0,
        1e-9,
        "half was left, at half speed",
    );
}
