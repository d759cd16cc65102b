//! Decision logs: everything that the core was told and all it decided, as lines of JSON. The operator and the simulator
//! write them, and a log replays bit for bit ([`replay`]).
//!
//! | line | what |
//! | --- | --- |
//! | `{"log": "tiercel decision log", "version": 1}` | a core that knows nothing begins: first line, and at every start of the operator |
//! | `{"log": …, "version": 1, "continues": true}` | the same core goes on in a new file |
//! | `{"at_ms": …, "events": […], "decisions": […], "told": […]}` | one step; `told` is for people and for programs that watch, and is not replayed |
//! | `{"gap": {"steps": 3, "because": "…"}}` | so many steps are missing here: nothing after them can be replayed, up to the next beginning |
//!
//! Units are the core's (see [`crate::rebalance::world`]); indices point into the last world of the log. Decisions are only
//! ever compared, so they are written and not read. Numbers and closed words are all that the core knows, so nothing of a
//! container's `env` or volumes can get here; `told` has the names of pipelines, stages and pools.

mod mirror;

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::mirror::Event;
use crate::rebalance::decision::Decision;
use crate::rebalance::world;
use crate::rebalance::{State, step};

/// Name of the format, in the first line.
const FORMAT: &str = "tiercel decision log";
/// Version of the format.
const VERSION: u32 = 1;
/// Most differences that a replay tells of.
const DIFFERENCES_MAX: usize = 20;

/// A log cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("the log cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is something else.
    #[error(
        "this is no decision log: the first line must say \"{FORMAT}\", as `tiercel run --decision-log` and `tiercel simulate --decisions` write it"
    )]
    Format,
    /// It is of another version.
    #[error(
        "the log is of version {found}, this program reads version {VERSION}: replay it with the release that wrote it"
    )]
    Version {
        /// What it says.
        found: u64,
    },
    /// It goes on where another file ends.
    #[error(
        "the log continues another one, whose end it does not know: name both files, the older one (`.1`) first, or begin at an operator's start"
    )]
    Continues,
    /// A line cannot be understood.
    #[error("line {line} of the log: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
}

#[derive(Serialize)]
struct Header {
    log: &'static str,
    version: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    continues: bool,
}

/// Steps that are missing from a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// How many.
    pub steps: u64,
    /// What kept them from being written.
    pub because: String,
}

#[derive(Serialize)]
struct Written<'a> {
    at_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<Event>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    decisions: Vec<Value>,
    #[serde(skip_serializing_if = "<[Value]>::is_empty")]
    told: &'a [Value],
}

/// Any line. Which one it is follows from what it has.
#[derive(Deserialize)]
struct Line {
    log: Option<String>,
    version: Option<u64>,
    #[serde(default)]
    continues: bool,
    gap: Option<Gap>,
    at_ms: Option<u64>,
    #[serde(default)]
    events: Vec<Event>,
    #[serde(default)]
    decisions: Vec<Value>,
}

/// Writes the first line: a core that knows nothing begins.
///
/// # Errors
/// When the file does.
pub fn begin(log: &mut impl Write) -> io::Result<()> {
    header(log, false)
}

/// Writes the first line of a file that goes on where another one ends.
///
/// # Errors
/// When the file does.
pub fn go_on(log: &mut impl Write) -> io::Result<()> {
    header(log, true)
}

fn header(log: &mut impl Write, continues: bool) -> io::Result<()> {
    let header = Header {
        log: FORMAT,
        version: VERSION,
        continues,
    };
    line(log, &header)
}

/// Writes one step: what the core was told at `now_ms`, and what it answered.
///
/// # Errors
/// When the file does.
pub fn write(log: &mut impl Write, now_ms: u64, events: &[world::Event], decisions: &[Decision]) -> io::Result<()> {
    write_told(log, now_ms, events, decisions, &[])
}

/// The same with what people are told about the decisions.
///
/// # Errors
/// When the file does.
pub fn write_told(
    log: &mut impl Write,
    now_ms: u64,
    events: &[world::Event],
    decisions: &[Decision],
    told: &[Value],
) -> io::Result<()> {
    let entry = Written {
        at_ms: now_ms,
        events: events.iter().map(Event::from).collect(),
        decisions: decisions.iter().map(decision).collect(),
        told,
    };
    line(log, &entry)
}

/// Says that steps are missing.
///
/// # Errors
/// When the file does.
pub fn write_gap(log: &mut impl Write, gap: &Gap) -> io::Result<()> {
    line(log, &json!({ "gap": gap }))
}

fn line(log: &mut impl Write, entry: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *log, entry)?;
    log.write_all(b"\n")
}

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Beginnings: the simulator's one, or the operator's starts.
    pub starts: usize,
    /// Steps taken.
    pub steps: usize,
    /// Decisions on record in these.
    pub decisions: usize,
    /// Steps that were decided otherwise.
    pub different: usize,
    /// The first of these, for people.
    pub differences: Vec<String>,
    /// Where steps are missing, by line.
    pub gaps: Vec<(usize, Gap)>,
    /// Steps on record that could not be taken, because steps before them are missing.
    pub skipped: usize,
}

impl Replay {
    fn compare(&mut self, number: usize, at_ms: u64, recorded: &[Value], decided: &[Decision]) {
        let decided: Vec<Value> = decided.iter().map(decision).collect();
        self.steps += 1;
        self.decisions += recorded.len();
        if decided == recorded {
            return;
        }
        self.different += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(difference(number, at_ms, recorded, &decided));
        }
    }
}

/// Steps today's core through a log and compares its decisions with those on record. Behind a gap nothing is taken up to
/// the next beginning: what the core knew there is not on record.
///
/// # Errors
/// When the log cannot be read or understood, or begins in the middle.
pub fn replay(log: impl BufRead) -> Result<Replay, Error> {
    let mut lines = (1..).zip(log.lines());
    let (_, first) = lines.next().ok_or(Error::Format)?;
    let first: Line = serde_json::from_str(&first?).map_err(|_| Error::Format)?;
    if begins(&first)?.ok_or(Error::Format)? == Start::Continued {
        return Err(Error::Continues);
    }
    let mut state = Some(State::new());
    let mut replay = Replay {
        starts: 1,
        ..Replay::default()
    };
    for (number, text) in lines {
        let problem = |problem: String| Error::Line { line: number, problem };
        let entry: Line = serde_json::from_str(&text?).map_err(|error| problem(error.to_string()))?;
        match begins(&entry)? {
            Some(Start::Anew) => {
                state = Some(State::new());
                replay.starts += 1;
                continue;
            }
            Some(Start::Continued) => continue,
            None => {}
        }
        if let Some(gap) = entry.gap {
            replay.gaps.push((number, gap));
            state = None;
            continue;
        }
        let at_ms = entry
            .at_ms
            .ok_or_else(|| problem("neither a step nor a gap nor a beginning".to_owned()))?;
        let Some(state) = &mut state else {
            replay.skipped += 1;
            continue;
        };
        let events: Vec<world::Event> = entry.events.into_iter().map(world::Event::from).collect();
        let decided = step(state, &events, at_ms);
        replay.compare(number, at_ms, &entry.decisions, &decided);
    }
    Ok(replay)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Anew,
    Continued,
}

/// What a line begins, if it is a beginning.
fn begins(line: &Line) -> Result<Option<Start>, Error> {
    match &line.log {
        None => Ok(None),
        Some(log) if log != FORMAT => Err(Error::Format),
        Some(_) => match line.version {
            Some(found) if found != u64::from(VERSION) => Err(Error::Version { found }),
            None => Err(Error::Format),
            Some(_) if line.continues => Ok(Some(Start::Continued)),
            Some(_) => Ok(Some(Start::Anew)),
        },
    }
}

/// What was decided at one step, then and now, without what is the same.
fn difference(number: usize, at_ms: u64, recorded: &[Value], decided: &[Value]) -> String {
    let mut text = format!("line {number}, at {at_ms} ms:");
    for (sign, side, other) in [('-', recorded, decided), ('+', decided, recorded)] {
        for one in side.iter().filter(|one| !other.contains(one)) {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n  {sign} {one}");
        }
        if side.is_empty() {
            text.push_str("\n  ");
            text.push(sign);
            text.push_str(" nothing");
        }
    }
    text
}

/// A decision as it stands in a log.
fn decision(decision: &Decision) -> Value {
    let moves = decision
        .moves
        .iter()
        .map(|one| json!([one.variant.0, one.from, one.to]));
    let rejected = decision
        .rejected
        .iter()
        .map(|(variant, why)| json!([variant.0, format!("{why:?}")]));
    json!({
        "id": decision.id,
        "at_ms": decision.at_ms,
        "stage": decision.stage.0,
        "trigger": format!("{:?}", decision.trigger),
        "reason": format!("{:?}", decision.reason),
        "moves": moves.collect::<Vec<_>>(),
        "demand_millis": decision.demand_millis,
        "cost_before_micros": decision.cost_before_micros,
        "cost_after_micros": decision.cost_after_micros,
        "advisory": decision.advisory,
        "rejected": rejected.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
