//! The operator's decision log, in the form that [`crate::decision_log`] replays.
//!
//! Steps go to a thread of their own over a bounded queue: a disk that is slow, full or gone holds up no decision. What
//! finds no room in the queue or on the disk is lost, counted, and said in the log where it is missing. A file that is
//! full becomes `<file>.1`, in place of the one before it, so that a log takes twice [`FILE_BYTES_MAX`] at most.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::Serialize;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::api::tiered_pipeline::DecisionSummary;
use crate::decision_log::{self, Gap};
use crate::rebalance::decision::Decision;
use crate::rebalance::world::Event;
use crate::telemetry::Metrics;

/// Steps that wait for the disk at most.
const QUEUE_STEPS: usize = 4_096;
/// Events, and parts of worlds, that wait for the disk at most: some hundred bytes each.
const QUEUE_PARTS: usize = 1 << 19;
/// Size from which a file is put aside, bytes. Two of them stay below the volume that the chart gives it.
const FILE_BYTES_MAX: u64 = 384 << 20;
/// Bytes read at once in search of the last whole line.
const BLOCK_BYTES: usize = 1 << 16;

/// An open decision log. Nothing in it waits.
#[derive(Debug)]
pub struct DecisionLog {
    /// The queue has room for all from the start: for a pointer each.
    queue: SyncSender<Box<Step>>,
    /// Parts in the queue.
    parts: Arc<AtomicUsize>,
    told: Vec<Value>,
    lost: u64,
    metrics: Metrics,
}

/// Resolves once all that was recorded is written, after the [`DecisionLog`] is dropped.
pub type Written = oneshot::Receiver<()>;

/// One step on its way to the disk.
#[derive(Debug)]
struct Step {
    now_ms: u64,
    events: Vec<Event>,
    decisions: Vec<Decision>,
    told: Vec<Value>,
    /// Steps before it that found no room in the queue.
    lost: u64,
    parts: usize,
}

/// What people and programs that watch are told about one decision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    namespace: &'a str,
    pipeline: &'a str,
    demand_millis: u64,
    #[serde(flatten)]
    decision: &'a DecisionSummary,
}

impl DecisionLog {
    /// Opens the log for appending. What a process that died in the middle of a line left of it is cut off.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path, metrics: Metrics) -> io::Result<(Self, Written)> {
        Self::on(Pages::open(path, FILE_BYTES_MAX)?, metrics)
    }

    fn on(disk: impl Disk, metrics: Metrics) -> io::Result<(Self, Written)> {
        let (queue, steps) = sync_channel(QUEUE_STEPS);
        let (done, written) = oneshot::channel();
        let parts = Arc::new(AtomicUsize::new(0));
        let (taken, counted) = (Arc::clone(&parts), metrics.clone());
        std::thread::Builder::new()
            .name("decision-log".to_owned())
            .spawn(move || {
                write_down(disk, &steps, &taken, &counted);
                // Whoever waited for it may be gone.
                let _ = done.send(());
            })?;
        let log = Self {
            queue,
            parts,
            told: Vec::new(),
            lost: 0,
            metrics,
        };
        Ok((log, written))
    }

    /// Adds what people are told about a decision of the step under way.
    pub fn tell(&mut self, namespace: &str, pipeline: &str, demand_millis: u64, decision: &DecisionSummary) {
        let told = Told {
            namespace,
            pipeline,
            demand_millis,
            decision,
        };
        // Texts and numbers only: nothing of it can fail.
        self.told.extend(serde_json::to_value(&told));
    }

    /// Records a step of the core: what it was told at `now_ms`, and what it decided.
    pub fn step(&mut self, now_ms: u64, events: Vec<Event>, decisions: Vec<Decision>) {
        let parts = 1 + decisions.len() + events.iter().map(parts_of).sum::<usize>();
        let told = std::mem::take(&mut self.told);
        let waiting = self.parts.fetch_add(parts, Ordering::Relaxed);
        let step = Box::new(Step {
            now_ms,
            events,
            decisions,
            told,
            lost: self.lost,
            parts,
        });
        // A single step is never too large, or no large world could ever be recorded.
        let fits = waiting == 0 || waiting.saturating_add(parts) <= QUEUE_PARTS;
        if fits && self.queue.try_send(step).is_ok() {
            self.lost = 0;
            return;
        }
        self.parts.fetch_sub(parts, Ordering::Relaxed);
        if self.lost == 0 {
            tracing::warn!("the decision log falls behind: steps are missing from it");
        }
        self.lost += 1;
        self.metrics.decision_log_lost(1);
    }
}

fn parts_of(event: &Event) -> usize {
    match event {
        Event::World(world) => {
            world.pools.len() + world.pipelines.len() + world.stages.len() * 2 + world.variants.len() * 2
        }
        Event::Proposal(made) => {
            let certificate = &made.certificate;
            made.counts.len() + certificate.prices.len() + certificate.ceilings.len()
        }
        _ => 1,
    }
}

/// Where lines go.
trait Disk: Send + 'static {
    /// Appends all of it, or nothing. Says whether the file was put aside before it, and a new one begun.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Whether the next lines belong into a new file.
    fn is_full(&self) -> bool;

    /// Puts the file aside and begins a new one.
    fn turn(&mut self) -> io::Result<()>;
}

/// Takes steps off the queue and writes them, until nobody is left to send any.
fn write_down(mut disk: impl Disk, steps: &Receiver<Box<Step>>, parts: &AtomicUsize, metrics: &Metrics) {
    // A file needs a first line before any other: of a core that begins, then of one that goes on.
    let mut header = Some(false);
    let mut missing = Gap {
        steps: 0,
        because: String::new(),
    };
    for step in steps {
        parts.fetch_sub(step.parts, Ordering::Relaxed);
        if step.lost > 0 {
            "the queue to the disk was full".clone_into(&mut missing.because);
            missing.steps += step.lost;
        }
        let written = append(&mut disk, &mut header, &missing, &step);
        match written {
            Ok(()) => {
                if missing.steps > 0 {
                    tracing::warn!(steps = missing.steps, "the decision log goes on: steps are missing");
                }
                missing.steps = 0;
            }
            Err(error) => {
                if missing.steps == 0 {
                    tracing::warn!(%error, "the decision log cannot be written");
                }
                missing.because = error.to_string();
                missing.steps += 1;
                metrics.decision_log_lost(1);
            }
        }
    }
    if missing.steps > 0 {
        tracing::warn!(steps = missing.steps, "the decision log ends early: steps are missing");
    }
}

/// Writes one step, behind what must stand in front of it. `header`: the first line that the file still needs, if any, and
/// whether it goes on.
fn append(disk: &mut impl Disk, header: &mut Option<bool>, missing: &Gap, step: &Step) -> io::Result<()> {
    if disk.is_full() {
        disk.turn()?;
        *header = header.or(Some(true));
    }
    let mut bytes = Vec::new();
    match header {
        Some(true) => decision_log::go_on(&mut bytes)?,
        Some(false) => decision_log::begin(&mut bytes)?,
        None => {}
    }
    if missing.steps > 0 {
        decision_log::write_gap(&mut bytes, missing)?;
    }
    decision_log::write_told(&mut bytes, step.now_ms, &step.events, &step.decisions, &step.told)?;
    disk.append(&bytes)?;
    *header = None;
    Ok(())
}

/// A file, and the one before it.
#[derive(Debug)]
struct Pages {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines.
    length: u64,
    length_max: u64,
    /// Half a line may stand behind `length`.
    torn: bool,
}

impl Pages {
    fn open(path: &Path, length_max: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let length = whole_lines(&mut file)?;
        if length < file.metadata()?.len() {
            file.set_len(length)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            length_max,
            torn: false,
        })
    }
}

impl Disk for Pages {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.length)?;
        }
        self.torn = true;
        let written = self.file.write_all(bytes);
        match &written {
            Ok(()) => {
                self.length += bytes.len() as u64;
                self.torn = false;
            }
            Err(_) => self.torn = self.file.set_len(self.length).is_err(),
        }
        written
    }

    fn is_full(&self) -> bool {
        self.length >= self.length_max
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        std::fs::rename(&self.path, PathBuf::from(old))?;
        let length_max = self.length_max;
        *self = Self::open(&self.path, length_max)?;
        Ok(())
    }
}

/// Length of the file up to the end of its last whole line.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    // Devices have no length, and no past.
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES as u64);
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = block.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests;
