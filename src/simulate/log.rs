//! Decision logs: everything that the core was told and all it decided, as lines of JSON. The first line names format and
//! version; every further one is a step. A log replays bit for bit ([`replay`]).
//!
//! The core itself knows no serializer, so its events have mirrors here. Units are the core's (see
//! [`crate::rebalance::world`]); indices point into the last world of the log. Decisions are only ever compared, so they
//! are written and not read.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::rebalance::decision::Decision;
use crate::rebalance::propose::{Certificate, Proposal};
use crate::rebalance::world::{self, Key, PipelineIdx, PoolIdx, Resources, StageIdx, VariantIdx};
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
        "this is no decision log: the first line must say \"{FORMAT}\", as `tiercel simulate --decisions` writes it"
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
    /// A line cannot be understood.
    #[error("line {line} of the log: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    log: String,
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    at_ms: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    events: Vec<Event>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    decisions: Vec<Value>,
}

/// Writes the first line.
///
/// # Errors
/// When the file does.
pub fn begin(log: &mut impl Write) -> io::Result<()> {
    let header = Header {
        log: FORMAT.to_owned(),
        version: u64::from(VERSION),
    };
    line(log, &header)
}

/// Writes one step: what the core was told at `now_ms`, and what it answered.
///
/// # Errors
/// When the file does.
pub fn write(log: &mut impl Write, now_ms: u64, events: &[world::Event], decisions: &[Decision]) -> io::Result<()> {
    let entry = Line {
        at_ms: now_ms,
        events: events.iter().map(Event::from).collect(),
        decisions: decisions.iter().map(decision).collect(),
    };
    line(log, &entry)
}

fn line(log: &mut impl Write, entry: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *log, entry)?;
    log.write_all(b"\n")
}

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// Steps taken.
    pub steps: usize,
    /// Decisions on record.
    pub decisions: usize,
    /// Steps that were decided otherwise.
    pub different: usize,
    /// The first of these, for people.
    pub differences: Vec<String>,
}

/// Steps today's core through a log and compares its decisions with those on record.
///
/// # Errors
/// When the log cannot be read or understood.
pub fn replay(log: impl BufRead) -> Result<Replay, Error> {
    let mut lines = (1..).zip(log.lines());
    let (_, first) = lines.next().ok_or(Error::Format)?;
    let header: Header = serde_json::from_str(&first?).map_err(|_| Error::Format)?;
    if header.log != FORMAT {
        return Err(Error::Format);
    }
    if header.version != u64::from(VERSION) {
        return Err(Error::Version { found: header.version });
    }
    let mut state = State::new();
    let mut replay = Replay::default();
    for (number, text) in lines {
        let entry: Line = serde_json::from_str(&text?).map_err(|error| Error::Line {
            line: number,
            problem: error.to_string(),
        })?;
        let events: Vec<world::Event> = entry.events.into_iter().map(world::Event::from).collect();
        let decided = step(&mut state, &events, entry.at_ms);
        let decided: Vec<Value> = decided.iter().map(decision).collect();
        replay.steps += 1;
        replay.decisions += entry.decisions.len();
        if decided != entry.decisions {
            replay.different += 1;
            if replay.differences.len() < DIFFERENCES_MAX {
                replay
                    .differences
                    .push(difference(number, entry.at_ms, &entry.decisions, &decided));
            }
        }
    }
    Ok(replay)
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

/// Declares a mirror of a type of the core with conversions both ways. Fields are plain (`name`), wrapped numbers
/// (`name as Wrapper`), or mirrors themselves (`name: Mirror`).
macro_rules! mirror {
    ($name:ident of $origin:ty { $($plain:ident: $type:ty,)* } wrapped { $($number:ident: $width:ty as $wrapper:ident,)* }) => {
        #[derive(Serialize, Deserialize)]
        struct $name { $($number: $width,)* $($plain: $type,)* }

        impl From<&$origin> for $name {
            fn from(of: &$origin) -> Self {
                Self { $($number: of.$number.0,)* $($plain: of.$plain.clone().into(),)* }
            }
        }

        impl From<$name> for $origin {
            fn from(of: $name) -> Self {
                Self { $($number: $wrapper(of.$number),)* $($plain: of.$plain.into(),)* }
            }
        }
    };
}

/// Declares a mirror of an enum without fields.
macro_rules! mirror_words {
    ($name:ident of $origin:ty { $($word:ident),* }) => {
        #[derive(Clone, Copy, Serialize, Deserialize)]
        enum $name { $($word),* }

        impl From<$origin> for $name {
            fn from(of: $origin) -> Self {
                match of { $(<$origin>::$word => Self::$word),* }
            }
        }

        impl From<$name> for $origin {
            fn from(of: $name) -> Self {
                match of { $($name::$word => Self::$word),* }
            }
        }
    };
}

mirror_words!(Tier of world::Tier { Cpu, Accelerator });
mirror_words!(Mode of world::Mode { Automatic, Advisory, Paused, NoScaleIn, NoScaleOut });
mirror_words!(Traffic of world::Traffic { Uniform, Weighted, Pull });
mirror_words!(DryReason of world::DryReason { Unschedulable, CannotStart, Reclaimed });

/// CPU in millicores, memory in KiB, thousandths of devices.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Bundle(u64, u64, u64);

impl From<Resources> for Bundle {
    fn from(of: Resources) -> Self {
        Self(of.cpu_millis, of.memory_kib, of.device_millis)
    }
}

impl From<Bundle> for Resources {
    fn from(Bundle(cpu_millis, memory_kib, device_millis): Bundle) -> Self {
        Self {
            cpu_millis,
            memory_kib,
            device_millis,
        }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum OnSignalLoss {
    Hold,
    CurrentIfHigher,
    Static(u32),
}

impl From<world::OnSignalLoss> for OnSignalLoss {
    fn from(of: world::OnSignalLoss) -> Self {
        match of {
            world::OnSignalLoss::Hold => Self::Hold,
            world::OnSignalLoss::CurrentIfHigher => Self::CurrentIfHigher,
            world::OnSignalLoss::Static(count) => Self::Static(count),
        }
    }
}

impl From<OnSignalLoss> for world::OnSignalLoss {
    fn from(of: OnSignalLoss) -> Self {
        match of {
            OnSignalLoss::Hold => Self::Hold,
            OnSignalLoss::CurrentIfHigher => Self::CurrentIfHigher,
            OnSignalLoss::Static(count) => Self::Static(count),
        }
    }
}

/// Callers of a stage: stage and calls in thousandths.
#[derive(Clone, Serialize, Deserialize)]
struct Edges(Vec<(u32, u64)>);

impl From<Vec<world::Edge>> for Edges {
    fn from(of: Vec<world::Edge>) -> Self {
        Self(of.iter().map(|edge| (edge.from.0, edge.calls_millis)).collect())
    }
}

impl From<Edges> for Vec<world::Edge> {
    fn from(of: Edges) -> Self {
        let edge = |(from, calls_millis)| world::Edge {
            from: StageIdx(from),
            calls_millis,
        };
        of.0.into_iter().map(edge).collect()
    }
}

mirror!(Pool of world::Pool { tier: Tier, reliable: bool, capacity: Bundle, } wrapped { key: u64 as Key, });
mirror!(Pipeline of world::Pipeline {
    priority: u16, budget_micros: Option<u64>, mode: Mode,
} wrapped { key: u64 as Key, });
mirror!(Stage of world::Stage {
    variants: (u32, u32), min: u32, max: u32, reliable_min: u32, target_permille: u32, traffic: Traffic, rated: bool,
    sees_waiting: bool, after: Edges, tolerance_permille: u32, up_window_ms: u64, down_window_ms: u64,
    down_percent_per_minute: u32, moves_per_hour: u32, max_surge: u32, signal_loss_ms: u64, on_signal_loss: OnSignalLoss,
    reading_age_ms_max: u64,
} wrapped { key: u64 as Key, pipeline: u32 as PipelineIdx, });
mirror!(Variant of world::Variant {
    request: Bundle, cost_micros: u64, marginal_micros: u64, power_milliwatts: Option<u64>, hint_permille: u32,
    capacity_millis: u64, concurrency: Option<u32>, startup_ms: u64, max: u32,
} wrapped { key: u64 as Key, stage: u32 as StageIdx, pool: u32 as PoolIdx, });
mirror!(Reading of world::Reading {
    taken_ms: u64, sampled: u32, expected: u32, running_millis: Option<u64>, waiting_millis: Option<u64>,
    utilization_permille: Option<u32>, rate_millis: Option<u64>,
} wrapped {});

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Event {
    World {
        pools: Vec<Pool>,
        pipelines: Vec<Pipeline>,
        stages: Vec<Stage>,
        variants: Vec<Variant>,
    },
    Replicas {
        variant: u32,
        desired: u32,
        ready: u32,
    },
    Leaving {
        variant: u32,
        count: u32,
    },
    Reading {
        variant: u32,
        reading: Reading,
    },
    Dry {
        variant: u32,
        reason: DryReason,
    },
    /// Pairs of variant and replicas; prices are of a pool, a resource and so many millionths.
    Proposal {
        world: u64,
        counts: Vec<(u32, u32)>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gap_ppm: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gap_in_force_ppm: Option<u64>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        prices: Vec<(u32, u8, u64)>,
    },
}

impl From<&world::Event> for Event {
    fn from(event: &world::Event) -> Self {
        match event {
            world::Event::World(world) => Self::World {
                pools: world.pools.iter().map(Pool::from).collect(),
                pipelines: world.pipelines.iter().map(Pipeline::from).collect(),
                stages: world.stages.iter().map(Stage::from).collect(),
                variants: world.variants.iter().map(Variant::from).collect(),
            },
            world::Event::Replicas {
                variant,
                desired,
                ready,
            } => Self::Replicas {
                variant: variant.0,
                desired: *desired,
                ready: *ready,
            },
            world::Event::Leaving { variant, count } => Self::Leaving {
                variant: variant.0,
                count: *count,
            },
            world::Event::Reading { variant, reading } => Self::Reading {
                variant: variant.0,
                reading: Reading::from(reading),
            },
            world::Event::Dry { variant, reason } => Self::Dry {
                variant: variant.0,
                reason: (*reason).into(),
            },
            world::Event::Proposal(made) => Self::Proposal {
                world: made.world,
                counts: made.counts.iter().map(|&(variant, count)| (variant.0, count)).collect(),
                gap_ppm: made.certificate.gap_ppm,
                gap_in_force_ppm: made.certificate.gap_in_force_ppm,
                prices: (made.certificate.prices.iter())
                    .map(|&(pool, resource, micros)| (pool.0, resource, micros))
                    .collect(),
            },
        }
    }
}

impl From<Event> for world::Event {
    fn from(event: Event) -> Self {
        match event {
            Event::World {
                pools,
                pipelines,
                stages,
                variants,
            } => Self::World(world::World {
                pools: pools.into_iter().map(world::Pool::from).collect(),
                pipelines: pipelines.into_iter().map(world::Pipeline::from).collect(),
                stages: stages.into_iter().map(world::Stage::from).collect(),
                variants: variants.into_iter().map(world::Variant::from).collect(),
            }),
            Event::Replicas {
                variant,
                desired,
                ready,
            } => Self::Replicas {
                variant: VariantIdx(variant),
                desired,
                ready,
            },
            Event::Leaving { variant, count } => Self::Leaving {
                variant: VariantIdx(variant),
                count,
            },
            Event::Reading { variant, reading } => Self::Reading {
                variant: VariantIdx(variant),
                reading: reading.into(),
            },
            Event::Dry { variant, reason } => Self::Dry {
                variant: VariantIdx(variant),
                reason: reason.into(),
            },
            Event::Proposal {
                world,
                counts,
                gap_ppm,
                gap_in_force_ppm,
                prices,
            } => Self::Proposal(Box::new(Proposal {
                world,
                counts: counts
                    .into_iter()
                    .map(|(variant, count)| (VariantIdx(variant), count))
                    .collect(),
                certificate: Certificate {
                    gap_ppm,
                    gap_in_force_ppm,
                    prices: (prices.into_iter())
                        .map(|(pool, resource, micros)| (PoolIdx(pool), resource, micros))
                        .collect(),
                },
            })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::demand::initial;
    use crate::simulate::engine::{Fault, Options, run};
    use crate::simulate::fixture::{chain, two_pools};
    use crate::simulate::load::{Change, Load};
    use crate::simulate::policy::Knobs;
    use crate::simulate::policy::tiercel::Tiercel;
    use crate::simulate::scenario::Scenario;

    fn log(scenario: &Scenario, load: &str, faults: Vec<Fault>) -> String {
        let nowhere = std::path::Path::new("nowhere");
        let load = Load::named(
            load,
            nowhere,
            Change {
                speed: 24.0,
                ..Change::NONE
            },
            1,
        )
        .unwrap();
        let mut policy = Tiercel::new(scenario, &Knobs::new()).recording();
        let options = Options {
            faults,
            ..Options::default()
        };
        run(
            scenario,
            &load,
            &initial(scenario, &load),
            ("tiercel", &mut policy),
            &options,
        );
        let mut log = Vec::new();
        begin(&mut log).unwrap();
        for step in policy.recorded() {
            write(&mut log, step.now_ms, &step.events, &step.decisions).unwrap();
        }
        String::from_utf8(log).unwrap()
    }

    fn goldens() -> [(&'static str, String); 2] {
        let fault = Fault {
            pool: 0,
            from_ms: 40_000,
            until_ms: 90_000,
            percent: 20,
        };
        [
            ("rise", log(&chain(), "step:0.15:0.6", Vec::new())),
            ("lost_pool", log(&two_pools(8, 8), "steady:0.3", vec![fault])),
        ]
    }

    #[test]
    fn golden_logs_replay_to_the_byte() {
        for (name, now) in goldens() {
            let path = format!("{}/src/simulate/golden/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
            if std::env::var("UPDATE_GOLDEN").is_ok() {
                std::fs::write(&path, &now).unwrap();
            }
            let golden = std::fs::read_to_string(&path).unwrap();
            let replayed = replay(golden.as_bytes()).unwrap();
            assert!(
                replayed.decisions >= 4,
                "{name}: {} decisions say little",
                replayed.decisions
            );
            let why = "the core decides otherwise; if that is meant, UPDATE_GOLDEN=1 writes the logs anew";
            assert_eq!(
                replayed.different,
                0,
                "{name}: {why}\n{}",
                replayed.differences.join("\n")
            );
            let differs = golden.lines().zip(now.lines()).position(|(then, now)| then != now);
            assert!(
                golden == now,
                "{name}: the simulated run differs from line {differs:?} on; {why}"
            );
        }
    }

    #[test]
    fn another_decision_is_shown_with_both_sides() {
        let (_, log) = &goldens()[0];
        let at = log.find("\"moves\":[[").unwrap() + "\"moves\":[[".len();
        let (before, after) = log.split_at(at);
        let changed = format!("{before}9{after}");
        let replayed = replay(changed.as_bytes()).unwrap();
        assert_eq!(replayed.different, 1);
        let shown = &replayed.differences[0];
        assert!(
            shown.contains("\n  - {") && shown.contains("\n  + {") && shown.contains("[[9"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_no_log_of_this_version_is_refused() {
        let fails = |text: &str| replay(text.as_bytes()).unwrap_err().to_string();
        assert!(fails("").contains("no decision log"));
        assert!(fails("{\"version\":1}").contains("no decision log"));
        assert!(fails("{\"log\":\"tiercel decision log\",\"version\":9}").contains("version 9"));
        let torn = fails("{\"log\":\"tiercel decision log\",\"version\":1}\n{\"at_ms\":1,\"even");
        assert!(torn.contains("line 2"), "{torn}");
    }
}
