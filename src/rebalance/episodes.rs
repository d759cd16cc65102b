//! Many short episodes: a small world, two minutes, everything going wrong at once. At every single write the promises of
//! safety are checked ([`sim`](super::sim)): floors, ceilings, room, budget, pace, make before break. Whether it comes to
//! rest is what `campaign` looks at, in fewer and longer runs.
#![allow(clippy::cast_possible_truncation, reason = "small numbers by construction")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::decision::{Decision, Move};
use super::sim::{Faults, Random, ReadingFault, Sim, TICK_MS, random_world};
use super::world::{Edge, OnSignalLoss, StageIdx, World};

/// Length of an episode.
const TICKS: u64 = 120;

/// Episodes of `make test`; `SIM_EPISODES` sets another number, `SIM_FIRST` the seed to begin with, `SIM_SEED` a single one.
const EPISODES: u64 = 20_000;

/// Least simulated time per time that passes, on the threads that there are.
const SPEED_MIN: u128 = 100;

/// Enough to look at: no further episodes are begun.
const BROKEN_MAX: usize = 20;

/// All that may be wrong with readings.
const READING_FAULTS: [ReadingFault; 8] = [
    ReadingFault::Absent,
    ReadingFault::Late,
    ReadingFault::Frozen,
    ReadingFault::Replayed,
    ReadingFault::ReplayedAsNew,
    ReadingFault::WrongUnit,
    ReadingFault::OneIsIdle,
    ReadingFault::OneIsFull,
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.replace('_', "").parse().ok()
}

/// What `random_world` leaves out: resources that are short one by one, called stages, short windows, declared fallbacks.
fn spice(world: &mut World, random: &mut Random) {
    for pool in &mut world.pools {
        pool.capacity.memory_kib = pool.capacity.memory_kib * random.within(60, 140) / 100;
        if random.chance(30) {
            pool.capacity.device_millis = random.within(2, 12) * 1_000;
        }
    }
    for variant in &mut world.variants {
        variant.request.memory_kib = variant.request.memory_kib * random.within(50, 150) / 100;
        if world.pools[variant.pool.0 as usize].capacity.device_millis > 0 {
            variant.request.device_millis = 1_000;
        }
        variant.startup_ms = random.within(1, 12) * 1_000;
        if random.chance(20) {
            variant.max = random.within(0, 4) as u32;
        }
    }
    let called = random.chance(30);
    for (at, stage) in (0..).zip(&mut world.stages) {
        stage.min = random.within(0, 3) as u32;
        stage.max = stage.max.max(stage.min);
        stage.reliable_min = random.within(0, u64::from(stage.min)) as u32;
        stage.down_window_ms = random.within(0, 10) * 1_000;
        stage.up_window_ms = random.within(0, 1) * 3_000;
        stage.signal_loss_ms = random.within(8, 30) * 1_000;
        stage.on_signal_loss = match random.within(0, 3) {
            0 => OnSignalLoss::CurrentIfHigher,
            1 => OnSignalLoss::Static(random.within(0, 4) as u32),
            _ => OnSignalLoss::Hold,
        };
        if random.chance(20) {
            stage.moves_per_hour = random.within(0, 3) as u32;
        }
        stage.rated = called;
        if called && at > 0 {
            stage.after = vec![Edge {
                from: StageIdx(at - 1),
                calls_millis: random.within(200, 3_000),
            }];
        }
    }
}

/// What goes wrong, per cent per tick; a fault that an episode does not draw does not happen in it.
fn faults(random: &mut Random) -> Faults {
    let mut some = |most: u64| if random.chance(60) { random.within(1, most) } else { 0 };
    let mut faults = Faults {
        lost_writes: some(40),
        lost_readings: some(60),
        partial_readings: some(60),
        drift: some(5),
        capacity: some(8),
        load: some(15),
        restarts: some(5),
        slow_writes: some(60),
        crashes: some(20),
        edits: some(6),
        readings: None,
    };
    if random.chance(25) {
        let kind = random.within(0, READING_FAULTS.len() as u64 - 1);
        faults.readings = Some(READING_FAULTS[kind as usize]);
    }
    // A write that arrives late meets what others did meanwhile: that is theirs, not ours.
    if random.chance(50) {
        (faults.drift, faults.capacity, faults.edits) = (0, 0, 0);
    } else {
        faults.slow_writes = 0;
    }
    faults
}

/// Runs one episode: what it violated, and how many writes were decided.
fn episode(seed: u64) -> (Vec<String>, u64) {
    let mut random = Random::new(seed ^ 0x5eed_ed15_0de5_ca1e);
    let mut world = random_world(&mut random);
    spice(&mut world, &mut random);
    let load = world.stages.iter().map(|_| random.within(0, 12_000)).collect();
    let desired = world.variants.iter().map(|_| random.within(0, 3) as u32).collect();
    let faults = faults(&mut random);
    let mut sim = Sim::new(world, load, desired, seed);
    sim.noise_permille = random.within(0, 1) * random.within(0, 200);
    for _ in 0..TICKS {
        sim.tick(&faults);
        if !sim.violations.is_empty() {
            break;
        }
    }
    let writes = sim.decisions.iter().map(|decision| decision.moves.len() as u64).sum();
    (sim.violations, writes)
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "how fast the simulation is, is one of the results"
)]
fn no_write_breaks_a_promise_in_any_of_many_short_episodes() {
    if let Some(seed) = number("SIM_SEED") {
        let (violations, _) = episode(seed);
        assert_eq!(violations, Vec::<String>::new(), "SIM_SEED={seed}");
        return;
    }
    let episodes = number("SIM_EPISODES").unwrap_or(EPISODES);
    let first = number("SIM_FIRST").unwrap_or(1);
    let (next, writes, broken) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let begun = next.fetch_add(1, Ordering::Relaxed);
                    if begun >= episodes || broken.lock().unwrap().len() >= BROKEN_MAX {
                        break;
                    }
                    // A soak takes an hour: twenty lines tell how far it is.
                    if episodes > EPISODES && begun.is_multiple_of(episodes / 20) {
                        let (passed_s, found) = (start.elapsed().as_secs(), broken.lock().unwrap().len());
                        println!("{begun} of {episodes} episodes after {passed_s} s, {found} broken");
                    }
                    let seed = first + begun;
                    let (violations, decided) = episode(seed);
                    writes.fetch_add(decided, Ordering::Relaxed);
                    if let Some(first) = violations.first() {
                        broken.lock().unwrap().push((seed, first.clone()));
                    }
                }
            });
        }
    });
    let passed_ms = start.elapsed().as_millis().max(1);
    let speed = u128::from(episodes * TICKS * TICK_MS) / passed_ms;
    let writes = writes.into_inner();
    println!(
        "{episodes} episodes of {TICKS} s from seed {first}, {writes} writes, in {passed_ms} ms on {threads} threads: {speed} x real time"
    );
    let mut broken = broken.into_inner().unwrap();
    broken.sort_unstable();
    let first: Vec<String> = broken
        .iter()
        .take(5)
        .map(|(seed, what)| format!("SIM_SEED={seed}: {what}"))
        .collect();
    assert!(
        broken.is_empty(),
        "{} of at most {episodes} episodes break a promise (it ends at {BROKEN_MAX}); the first are\n{}",
        broken.len(),
        first.join("\n")
    );
    assert!(writes >= episodes, "{writes} writes in {episodes} episodes say little");
    assert!(speed >= SPEED_MIN, "{speed} x real time");
}

/// Worlds in which each fault of readings is tried.
const WORLDS: u64 = 100;

/// What is decided in so many seconds without any fault but that of readings.
fn decided(sim: &mut Sim, readings: Option<ReadingFault>, ticks: u64) -> Vec<Decision> {
    let before = sim.decisions.len();
    let faults = Faults {
        readings,
        ..Faults::default()
    };
    for _ in 0..ticks {
        sim.tick(&faults);
    }
    sim.decisions[before..].to_vec()
}

/// Replicas that decisions take from what stages had. What they gave first, as a shift between pools does, is not taken.
fn taken(decisions: &[Decision]) -> i64 {
    let mut stages: BTreeMap<StageIdx, (i64, i64)> = BTreeMap::new();
    for decision in decisions {
        let given = |one: &Move| i64::from(one.to) - i64::from(one.from);
        let (now, least) = stages.entry(decision.stage).or_default();
        *now += decision.moves.iter().map(given).sum::<i64>();
        *least = (*least).min(*now);
    }
    stages.values().map(|&(_, least)| -least).sum()
}

/// A world at rest under a constant load, with readings that show rate and use in every other one.
fn at_rest(seed: u64) -> Option<Sim> {
    let mut random = Random::new(seed ^ 0x0f15_7a15_c0de_0015);
    let mut world = random_world(&mut random);
    let rated = random.chance(50);
    for stage in &mut world.stages {
        stage.rated = rated;
        stage.min = 0;
        stage.down_window_ms = random.within(0, 10) * 1_000;
        stage.signal_loss_ms = random.within(8, 30) * 1_000;
        stage.on_signal_loss = if random.chance(50) {
            OnSignalLoss::Hold
        } else {
            OnSignalLoss::CurrentIfHigher
        };
    }
    let load = world.stages.iter().map(|_| random.within(1_000, 12_000)).collect();
    let desired = world.variants.iter().map(|_| random.within(0, 3) as u32).collect();
    let truth = if rated {
        vec![1_000; world.variants.len()]
    } else {
        Vec::new()
    };
    let mut sim = Sim::new(world, load, desired, seed);
    sim.truth_permille = truth;
    decided(&mut sim, None, 120);
    // Without the fault nothing would happen: whatever does, is the fault's.
    let calm = decided(&mut sim.clone(), None, 60).is_empty();
    calm.then_some(sim)
}

#[test]
fn w15_no_replica_goes_for_a_fault_of_readings() {
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for seed in 1..=WORLDS {
        let Some(rest) = at_rest(seed) else { continue };
        tried += 1;
        for fault in READING_FAULTS {
            let mut sim = rest.clone();
            // A lie about load takes from the liar's stage, or for it, and never what the promises protect.
            let lies = matches!(fault, ReadingFault::OneIsIdle | ReadingFault::OneIsFull);
            // Of a stage that is full nobody knows the load: a utilization that is gone leaves another guess.
            let guesses = fault == ReadingFault::WrongUnit && sim.is_short();
            // What hides the truth may hide a fall.
            if !lies && !matches!(fault, ReadingFault::Late | ReadingFault::WrongUnit) {
                sim.load.fill(0);
            }
            let decisions = decided(&mut sim, Some(fault), 60);
            let taken = taken(&decisions);
            if taken > 0 && !lies && !guesses {
                wrong.push(format!("{fault:?} in world {seed} takes {taken}: {:?}", decisions[0]));
            }
            if let Some(violation) = sim.violations.first() {
                wrong.push(format!("{fault:?} in world {seed}: {violation}"));
            }
        }
    }
    assert!(tried * 3 >= WORLDS, "only {tried} of {WORLDS} worlds came to rest");
    wrong.truncate(8);
    assert!(wrong.is_empty(), "the first are\n{}", wrong.join("\n"));
}

#[test]
fn w15_pages_that_froze_at_rest_are_found_out_before_a_window_of_shrinking_ends() {
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for seed in 1..=WORLDS {
        // What runs beyond a full stage's known demand stands for a guess, and a fall shows that it was one.
        let Some(mut sim) = at_rest(seed).filter(|sim| !sim.is_short()) else {
            continue;
        };
        tried += 1;
        let mut random = Random::new(seed);
        for stage in &mut sim.world.stages {
            stage.down_window_ms = random.within(15, 60) * 1_000;
        }
        decided(&mut sim, None, 90);
        let decisions = decided(&mut sim, Some(ReadingFault::FrozenAtRest), 180);
        // What was there beyond the need may go, as on any reading, and the need has a tolerance of a tenth.
        sim.load.iter_mut().for_each(|load| *load -= *load / 10);
        if sim.is_short() {
            wrong.push(format!("world {seed}: {}", taken(&decisions)));
        }
    }
    assert!(tried * 5 >= WORLDS, "only {tried} of {WORLDS} worlds came to rest");
    assert_eq!(wrong, Vec::<String>::new());
}
