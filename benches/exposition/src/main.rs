//! `make bench BENCH=exposition`: the exposition parser beside the published ones, on the same bodies, in one run.
//!
//! Per body and parser: bytes per second, allocations, bytes held at most, and how many of the body's samples came
//! through. All parsers take turns, so that what else the machine does hits all of them. The run fails if tiercel misses
//! a sample, or if it and the one published parser that reads these bodies whole do not see the same samples.
//!
//! `ONLY=name` measures one parser, for work on it.
#![allow(clippy::cast_precision_loss, reason = "a program that measures")]

mod bodies;
mod legal;
mod peers;
mod result;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bodies::Body;
use crate::peers::{ALL, Parser};
use crate::result::median;

/// Turns of every parser at every body.
const TURNS: usize = 15;

/// One turn repeats the body for at least this long.
const TURN: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let legal = legal::table();
    let mut figures = Vec::new();
    for body in bodies::all() {
        match measured(&body) {
            Ok(figure) => figures.push(figure),
            Err(problem) => {
                eprintln!("{}: {problem}", body.name);
                return ExitCode::FAILURE;
            }
        }
    }
    match result::write(&json!({ "legal_input": legal, "bodies": figures })) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measured(body: &Body) -> Result<Value, String> {
    println!(
        "\n== {} ({}): {} bytes, {} samples\n\n{:<38} {:>9} {:>12} {:>12} {:>9}  note",
        body.name,
        body.about,
        body.text.len(),
        body.samples,
        "parser",
        "MB/s",
        "allocations",
        "bytes held",
        "samples"
    );
    let (ours, theirs) = peers::seen_by_both(&body.text)?;
    if let Some((ours, theirs)) = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs) {
        return Err(format!("tiercel reads {ours:?}, prom_text_format_parser {theirs:?}"));
    }
    if ours.len() != body.samples || theirs.len() != body.samples {
        let (ours, theirs) = (ours.len(), theirs.len());
        return Err(format!("tiercel sees {ours} samples, prom_text_format_parser {theirs}"));
    }

    let only = std::env::var("ONLY").ok();
    let wanted = |parser: &&Parser| only.as_deref().is_none_or(|only| parser.name.starts_with(only));
    let parsers: Vec<&Parser> = ALL.iter().filter(wanted).collect();
    let mut speeds: Vec<Vec<f64>> = vec![Vec::new(); parsers.len()];
    for _ in 0..TURNS {
        for (parser, speeds) in parsers.iter().zip(&mut speeds) {
            speeds.push(speed(parser, &body.text));
        }
    }
    let mut rows = Vec::new();
    for (parser, speeds) in parsers.iter().zip(&speeds) {
        let mut read = Ok(0);
        let cost = allocation_counter::measure(|| read = (parser.read)(&body.text));
        let note = match &read {
            Ok(samples) if *samples == body.samples => String::new(),
            Ok(samples) => format!("loses {} samples without an error", body.samples - samples),
            Err(error) => format!("refuses the body: {}", error.chars().take(60).collect::<String>()),
        };
        let (held, count) = (cost.bytes_max, cost.count_total);
        let samples = read.unwrap_or(0);
        println!(
            "{:<38} {:>9.0} {:>12} {:>12} {:>9}  {note}",
            parser.name,
            median(speeds),
            count,
            held,
            samples
        );
        rows.push(json!({
            "parser": parser.name,
            "mb_per_second": median(speeds),
            "mb_per_second_least": speeds.iter().copied().fold(f64::INFINITY, f64::min),
            "mb_per_second_most": speeds.iter().copied().fold(0.0, f64::max),
            "allocations": count,
            "bytes_held_max": held,
            "samples": samples,
            "note": note,
        }));
    }
    Ok(json!({
        "body": body.name,
        "about": body.about,
        "bytes": body.text.len(),
        "samples": body.samples,
        "parsers": rows,
    }))
}

/// Megabytes (10⁶) per second over one turn.
fn speed(parser: &Parser, body: &str) -> f64 {
    let start = Instant::now();
    let mut times = 0_usize;
    while times < 2 || start.elapsed() < TURN {
        // A refusal is timed like an answer; the table says which it was.
        let _ = std::hint::black_box((parser.read)(std::hint::black_box(body)));
        times += 1;
    }
    (times * body.len()) as f64 / start.elapsed().as_secs_f64() / 1e6
}
