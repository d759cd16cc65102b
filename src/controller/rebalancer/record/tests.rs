//! A scripted core on record: on a disk that works, that is slow, full, or ends in the middle of a line.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::*;
use crate::controller::clock::Clock;
use crate::decision_log::{Replay, replay};
use crate::rebalance::world::{Reading, VariantIdx, World};
use crate::rebalance::{State, step};
use crate::simulate::fixture::chain;
use crate::telemetry::Exposition;

/// A folder for one test, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tiercel-log-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The fixture's chain under rising load, a step per second, each recorded as the operator does it. Says how many
/// decisions were made.
fn run(log: &mut DecisionLog, steps: u64) -> usize {
    let world = chain().world;
    let mut state = State::new();
    let mut replicas = vec![1_u32; world.variants.len()];
    let mut decided = 0;
    for second in 0..steps {
        let now_ms = second * 1_000;
        let events = events(&world, &replicas, now_ms);
        let decisions = step(&mut state, &events, now_ms);
        for decision in &decisions {
            let summary = DecisionSummary {
                id: format!("1-{}", decision.id),
                ..DecisionSummary::default()
            };
            log.tell("ai", "chat", decision.demand_millis, &summary);
            for one in &decision.moves {
                replicas[one.variant.0 as usize] = one.to;
            }
        }
        decided += decisions.len();
        log.step(now_ms, events, decisions);
    }
    decided
}

fn events(world: &World, replicas: &[u32], now_ms: u64) -> Vec<Event> {
    let mut events = Vec::new();
    if now_ms == 0 {
        events.push(Event::World(world.clone()));
    }
    for (at, &count) in (0..).zip(replicas) {
        let variant = VariantIdx(at);
        events.push(Event::Replicas {
            variant,
            desired: count,
            ready: count,
        });
        let reading = Reading {
            taken_ms: now_ms,
            sampled: count,
            expected: count,
            running_millis: Some(now_ms),
            waiting_millis: Some(now_ms / 2),
            utilization_permille: Some(900),
            rate_millis: Some(now_ms / 4),
        };
        events.push(Event::Reading { variant, reading });
    }
    events
}

fn closed(log: DecisionLog, written: Written) {
    drop(log);
    written.blocking_recv().unwrap();
}

fn lost(metrics: &Metrics) -> u64 {
    let text = metrics.encode(Exposition::OpenMetrics);
    let line = text
        .lines()
        .find(|line| line.starts_with("tiercel_decision_log_lost_steps_total"));
    line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
}

fn replayed(files: &[PathBuf]) -> Replay {
    let text: Vec<u8> = files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect();
    replay(text.as_slice()).unwrap()
}

#[test]
fn what_the_operator_records_replays_to_the_same_decisions() {
    let folder = Folder::new();
    let path = folder.0.join("decisions.jsonl");
    let metrics = Metrics::default();
    let (mut log, written) = DecisionLog::open(&path, metrics.clone()).unwrap();
    let decided = run(&mut log, 120);
    closed(log, written);
    let replay = replayed(std::slice::from_ref(&path));
    assert_eq!(
        (replay.steps, replay.decisions, replay.different),
        (120, decided, 0),
        "{replay:?}"
    );
    assert!(decided >= 5, "{decided} decisions say little");
    assert_eq!(lost(&metrics), 0);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        text.matches("\"demandMillis\"").count(),
        decided,
        "people are told of each"
    );
}

#[test]
fn a_restart_goes_on_behind_half_a_line_of_the_one_before() {
    let folder = Folder::new();
    let path = folder.0.join("decisions.jsonl");
    for start in 1..=3 {
        let (mut log, written) = DecisionLog::open(&path, Metrics::default()).unwrap();
        run(&mut log, 30);
        closed(log, written);
        let replay = replayed(std::slice::from_ref(&path));
        assert_eq!((replay.starts, replay.steps, replay.different), (start, start * 30, 0));
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        // Longer than what is read at once.
        write!(file, "{{\"at_ms\":30000,\"events\":[{}", " ".repeat(BLOCK_BYTES * 2)).unwrap();
    }
}

#[test]
fn a_full_file_is_put_aside_and_both_replay_as_one() {
    let folder = Folder::new();
    let path = folder.0.join("decisions.jsonl");
    let old = folder.0.join("decisions.jsonl.1");
    let length_max = 100_000;
    let (mut log, written) = DecisionLog::on(Pages::open(&path, length_max).unwrap(), Metrics::default()).unwrap();
    let mut steps = 0;
    // Until the first file is full, and no further.
    while !old.exists() {
        assert!(steps < 100_000, "never full");
        log.step(steps, events(&chain().world, &[1], 0), Vec::new());
        steps += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    closed(log, written);
    let length = std::fs::metadata(&old).unwrap().len();
    assert!(length < length_max + 10_000, "{length}");
    let replay = replayed(&[old, path.clone()]);
    assert_eq!((replay.starts, replay.steps as u64, replay.skipped), (1, steps, 0));
    let second = std::fs::read(&path).unwrap();
    assert!(matches!(
        decision_log::replay(second.as_slice()),
        Err(decision_log::Error::Continues)
    ));
}

/// A disk in memory that does what the test says.
struct Scripted {
    text: Arc<Mutex<Vec<u8>>>,
    /// Waited for before every append.
    gate: Option<Receiver<()>>,
    /// Appends that fail, counted from 0.
    fails: std::ops::Range<usize>,
    appends: usize,
}

impl Disk for Scripted {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
        self.appends += 1;
        if self.fails.contains(&(self.appends - 1)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.text.lock().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn is_full(&self) -> bool {
        false
    }

    fn turn(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn scripted(fails: std::ops::Range<usize>, gated: bool) -> (Scripted, Arc<Mutex<Vec<u8>>>, Sender<()>) {
    let text = Arc::new(Mutex::new(Vec::new()));
    let (open, gate) = channel();
    let disk = Scripted {
        text: Arc::clone(&text),
        gate: gated.then_some(gate),
        fails,
        appends: 0,
    };
    (disk, text, open)
}

#[test]
fn a_disk_that_stands_still_delays_nothing_and_the_log_says_what_is_missing() {
    let (disk, text, open) = scripted(0..0, true);
    let metrics = Metrics::default();
    let (mut log, written) = DecisionLog::on(disk, metrics.clone()).unwrap();
    let clock = Clock::start();
    let steps = QUEUE_STEPS as u64 + 500;
    for now_ms in 0..steps {
        log.step(now_ms, Vec::new(), Vec::new());
    }
    assert!(clock.now_ms() < 5_000, "{} ms", clock.now_ms());
    let missing = lost(&metrics);
    // One step may be on its way to the disk.
    assert!((499..=500).contains(&missing), "{missing}");
    // The disk works again: one more step comes behind the gap.
    drop(open);
    while log.parts.load(Ordering::Relaxed) > 0 {
        std::thread::yield_now();
    }
    log.step(steps, Vec::new(), Vec::new());
    closed(log, written);
    let replay = replay(text.lock().unwrap().as_slice()).unwrap();
    assert_eq!(replay.gaps.len(), 1, "{replay:?}");
    assert_eq!((replay.gaps[0].1.steps, replay.skipped), (missing, 1));
    assert_eq!(replay.steps as u64, steps - missing);
}

#[test]
fn a_large_world_counts_for_what_it_is_and_is_recorded_alone() {
    let (disk, text, open) = scripted(0..0, true);
    let metrics = Metrics::default();
    let (mut log, written) = DecisionLog::on(disk, metrics.clone()).unwrap();
    let mut world = chain().world;
    let variant = world.variants[0].clone();
    world.variants = vec![variant; QUEUE_PARTS / 2];
    log.step(0, vec![Event::World(world.clone())], Vec::new());
    // Until it is on its way to the disk it is too much for another one.
    log.step(1, vec![Event::World(world.clone())], Vec::new());
    log.step(2, vec![Event::World(world)], Vec::new());
    let missing = lost(&metrics);
    assert!((1..=2).contains(&missing), "{missing}");
    drop(open);
    closed(log, written);
    let text = String::from_utf8(text.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("\"world\"").count() as u64, 3 - missing);
}

#[test]
fn a_full_disk_leaves_a_gap_and_the_log_goes_on_when_there_is_room() {
    let (disk, text, _open) = scripted(10..15, false);
    let metrics = Metrics::default();
    let (mut log, written) = DecisionLog::on(disk, metrics.clone()).unwrap();
    run(&mut log, 40);
    closed(log, written);
    let replay = replay(text.lock().unwrap().as_slice()).unwrap();
    assert_eq!(
        (replay.steps, replay.skipped, lost(&metrics)),
        (10, 25, 5),
        "{replay:?}"
    );
    assert_eq!(replay.gaps[0].1.steps, 5);
    assert!(replay.gaps[0].1.because.contains("space"), "{replay:?}");
}

#[test]
fn a_disk_that_is_full_from_the_start_gets_its_first_line_later() {
    let (disk, text, _open) = scripted(0..3, false);
    let (mut log, written) = DecisionLog::on(disk, Metrics::default()).unwrap();
    run(&mut log, 5);
    closed(log, written);
    let replay = replay(text.lock().unwrap().as_slice()).unwrap();
    assert_eq!((replay.starts, replay.steps, replay.skipped), (1, 0, 2), "{replay:?}");
}

#[test]
fn a_device_that_takes_nothing_stops_nobody() {
    let metrics = Metrics::default();
    let (mut log, written) = DecisionLog::open(Path::new("/dev/full"), metrics.clone()).unwrap();
    run(&mut log, 5);
    closed(log, written);
    assert_eq!(lost(&metrics), 5);
}
