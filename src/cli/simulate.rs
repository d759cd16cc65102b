//! `tiercel simulate`: policies side by side on one load, without a cluster.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::controller::clock::Clock;
use crate::decision_log as log;
use crate::simulate::demand::{bound, initial};
use crate::simulate::engine::{self, Fault, Options};
use crate::simulate::ground::Nodes;
use crate::simulate::html;
use crate::simulate::input::{self, Objects};
use crate::simulate::load::{self, Change, Load};
use crate::simulate::outcome::Outcome;
use crate::simulate::policy::tiercel::Tiercel;
use crate::simulate::policy::{self, KINDS, Spec};
use crate::simulate::scenario::Scenario;
use crate::simulate::table;

/// Arguments of `tiercel simulate`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Pipelines and pools as they are applied: YAML files, or folders of them. Without a pipeline or without a pool those
    /// of config/samples are used.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same.
    #[arg(short, long = "file", value_name = "FILE")]
    more_files: Vec<PathBuf>,
    /// Load: azure-conv, azure-code, mooncake, servegen:COLUMN, steady:RATE, step:LOW:HIGH, day:LOW:HIGH (requests per
    /// second over an hour), or a CSV file (.csv, .csv.gz) with `arrival_ms`, `input_tokens` and
    /// `output_tokens`.
    #[arg(long, alias = "trace", value_name = "LOAD", default_value = "day:2:12")]
    load: String,
    /// Where the recordings are.
    #[arg(long, value_name = "DIR", default_value = "e2e/traces")]
    traces: PathBuf,
    /// Policies, with knobs if wanted: tiercel,hpa:target=60. All if absent.
    #[arg(long, value_name = "POLICY", value_delimiter = ',')]
    policies: Vec<String>,
    /// Try every policy with all values of its knobs and show the cheapest run that is in time.
    #[arg(long)]
    sweep: bool,
    /// Everything random is drawn from it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Play the load so many times as fast.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    speed: f64,
    /// So many times as many requests.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    scale: f64,
    /// Only the first seconds of the load (after `--speed`).
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Nodes of a pool: h100=2 or h100=2:16,256Gi,1 (CPU, memory, devices of each).
    #[arg(long, value_name = "POOL=COUNT[:CPU,MEMORY[,DEVICES]]")]
    nodes: Vec<String>,
    /// A pool loses nodes: l4-spot=50@600+300 keeps 50 % from second 600 for 300 seconds.
    #[arg(long, value_name = "POOL=PERCENT@FROM+LENGTH")]
    fault: Vec<String>,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// Write it to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the decision log of tiercel's run to this file, for `tiercel replay`.
    #[arg(long, value_name = "FILE")]
    decisions: Option<PathBuf>,
}

/// Form of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs: one line per run, of a sweep all of them.
    Csv,
    /// One page with plots.
    Html,
}

/// A simulation cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The objects.
    #[error(transparent)]
    Input(#[from] input::Error),
    /// The load.
    #[error(transparent)]
    Load(#[from] load::Error),
    /// The policies.
    #[error(transparent)]
    Policy(#[from] policy::Error),
    /// A fault is not understood.
    #[error(
        "`--fault {0}` is not understood: write POOL=PERCENT@FROM+LENGTH with a pool of the files, such as l4-spot=0@600+300"
    )]
    Fault(String),
    /// A factor makes no sense.
    #[error("`--{0}` must be greater than 0 and at most 1000000")]
    Factor(&'static str),
    /// There is no run of the core to log.
    #[error("`--decisions` needs tiercel among `--policies`")]
    NoCore,
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// 2 for arguments and files, 1 for pipelines that are understood and cannot run.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Input(error) => error.code(),
            Self::Load(_) | Self::Policy(_) | Self::Fault(_) | Self::Factor(_) | Self::NoCore | Self::Write { .. } => 2,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When something cannot be read, understood or written.
pub fn run(arguments: &Arguments) -> Result<(), Error> {
    let files: Vec<PathBuf> = arguments.files.iter().chain(&arguments.more_files).cloned().collect();
    let nodes = arguments
        .nodes
        .iter()
        .map(|text| text.parse().map_err(input::Error::Nodes))
        .collect::<Result<Vec<Nodes>, _>>()?;
    let scenario = input::scenario(Objects::read(&files)?, &nodes)?;
    let specs = specs(&arguments.policies, arguments.sweep)?;
    let options = Options {
        seed: arguments.seed,
        faults: arguments
            .fault
            .iter()
            .map(|text| fault(&scenario, text))
            .collect::<Result<_, _>>()?,
        ..Options::default()
    };
    let load = load(arguments)?;
    for note in &scenario.notes {
        eprintln!("note: {note}");
    }
    if let Some(path) = &arguments.decisions {
        let core = specs.iter().flatten().find(|spec| *spec.kind == policy::tiercel::KIND);
        decisions(&scenario, &load, core.ok_or(Error::NoCore)?, &options, path)?;
    }
    let clock = Clock::start();
    let start = initial(&scenario, &load);
    let mut runs: Vec<Vec<Outcome>> = Vec::with_capacity(specs.len());
    for variants in &specs {
        let mut outcomes = Vec::with_capacity(variants.len());
        for spec in variants {
            let mut policy = spec.build(&scenario, &load);
            let name = spec.to_string();
            outcomes.push(engine::run(
                &scenario,
                &load,
                &start,
                (&name, policy.as_mut()),
                &options,
            ));
        }
        runs.push(outcomes);
    }
    let wall_ms = clock.now_ms().max(1);
    let bound = bound(&scenario, &load);
    let text = match arguments.output {
        Format::Table => {
            let shown = shown(&runs);
            table::table(&shown, bound) + &table::by_pipeline(&scenario, &shown)
        }
        Format::Csv => table::csv(&load.name, &runs.concat(), bound),
        Format::Html => html::page(&scenario, &load.name, &runs, bound, arguments.seed),
    };
    write(arguments.out.as_deref(), &text)?;
    let simulated_ms: u64 = runs.iter().flatten().map(|outcome| outcome.simulated_ms).sum();
    eprintln!(
        "{} requests over {:.0} s, seed {}; {} runs in {:.2} s, {} x real time; nobody can be below ${bound:.3}",
        load.arrivals.len(),
        std::time::Duration::from_millis(load.span_ms()).as_secs_f64(),
        arguments.seed,
        runs.iter().map(Vec::len).sum::<usize>(),
        std::time::Duration::from_millis(wall_ms).as_secs_f64(),
        simulated_ms / wall_ms,
    );
    Ok(())
}

/// The runs of each policy: one, or a sweep.
fn specs(policies: &[String], sweep: bool) -> Result<Vec<Vec<Spec>>, Error> {
    let all: Vec<String> = KINDS.iter().map(|kind| kind.name.to_owned()).collect();
    let wanted = if policies.is_empty() { &all } else { policies };
    let mut specs = Vec::with_capacity(wanted.len());
    for text in wanted {
        let spec: Spec = text.trim().parse()?;
        specs.push(if sweep { spec.sweep() } else { vec![spec] });
    }
    Ok(specs)
}

/// Of each policy the cheapest run in time.
fn shown(runs: &[Vec<Outcome>]) -> Vec<Outcome> {
    let best = runs.iter().filter_map(|outcomes| {
        let all: Vec<&Outcome> = outcomes.iter().collect();
        table::best(&all).cloned()
    });
    best.collect()
}

fn load(arguments: &Arguments) -> Result<Load, Error> {
    for (name, factor) in [("speed", arguments.speed), ("scale", arguments.scale)] {
        if !(factor > 0.0 && factor <= 1e6) {
            return Err(Error::Factor(name));
        }
    }
    let change = Change {
        scale: arguments.scale,
        speed: arguments.speed,
        seconds: arguments.seconds,
    };
    Ok(Load::named(&arguments.load, &arguments.traces, change, arguments.seed)?)
}

fn fault(scenario: &Scenario, text: &str) -> Result<Fault, Error> {
    let parsed = || {
        let (name, rest) = text.split_once('=')?;
        let (percent, rest) = rest.split_once('@')?;
        let (from, length) = rest.split_once('+')?;
        let (from_s, length_s): (u64, u64) = (from.parse().ok()?, length.parse().ok()?);
        Some(Fault {
            pool: scenario.pools.iter().position(|pool| pool == name)?,
            from_ms: from_s.checked_mul(1_000)?,
            until_ms: from_s.checked_add(length_s)?.checked_mul(1_000)?,
            percent: percent.parse().ok().filter(|percent| *percent <= 100)?,
        })
    };
    parsed().ok_or_else(|| Error::Fault(text.to_owned()))
}

/// Runs the core once more, on record.
fn decisions(scenario: &Scenario, load: &Load, spec: &Spec, options: &Options, path: &Path) -> Result<(), Error> {
    let mut core = Tiercel::new(scenario, &spec.knobs).recording();
    engine::run(
        scenario,
        load,
        &initial(scenario, load),
        ("tiercel", &mut core),
        options,
    );
    let written = || {
        let mut file = BufWriter::new(File::create(path)?);
        log::begin(&mut file)?;
        for step in core.recorded() {
            log::write(&mut file, step.now_ms, &step.events, &step.decisions)?;
        }
        file.flush()
    };
    written().map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

fn write(path: Option<&Path>, text: &str) -> Result<(), Error> {
    let written = match path {
        Some(path) => std::fs::write(path, text),
        None => io::stdout().write_all(text.as_bytes()),
    };
    written.map_err(|source| Error::Write {
        path: path.unwrap_or(Path::new("standard output")).to_owned(),
        source,
    })
}
