//! `make bench BENCH=b1` (`b2`, `b4`): the decision core alone, from the library. Figures go to `target/bench/<id>.json`
//! and, as tables, to standard output. Nothing here fails because something took long.
//!
//! | id | what |
//! | --- | --- |
//! | `b1` | readings to demand, beside a bare stream of the same bytes, one by one, and the rules of HPA |
//! | `b2` | one event at 125,000 stages over 8 pools: hot, as it comes and cold; beside solving again for one stage |
//! | `b4` | planning again: 1 % of demands change, a pool loses a tenth, a pool is lost |
//!
//! `BENCH=id[,id]` picks some. `BENCH_STAGES` is the number of stages of `b2` and the most of `b4` (125,000).
#![allow(
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::similar_names,
    clippy::unwrap_used,
    reason = "a program that measures and fails by panicking"
)]

mod event;
mod replan;
mod result;
mod sweep;

use std::process::ExitCode;

use serde_json::Value;

const ALL: [&str; 3] = ["b1", "b2", "b4"];

fn main() -> ExitCode {
    let wanted = std::env::var("BENCH").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
    if let Some(unknown) = wanted.iter().find(|id| !ALL.contains(id)) {
        eprintln!(
            "there is no bench {unknown:?} of the core: BENCH may name {}",
            ALL.join(", ")
        );
        return ExitCode::FAILURE;
    }
    for id in ALL.into_iter().filter(|id| wanted.is_empty() || wanted.contains(id)) {
        println!("\n== {id}");
        let figures: Value = match id {
            "b1" => sweep::run(),
            "b2" => event::run(),
            _ => replan::run(),
        };
        if let Err(error) = result::write(id, &figures) {
            eprintln!("{id}: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Stages of the largest instance.
fn stages() -> usize {
    let given = std::env::var("BENCH_STAGES").ok();
    given.map_or(125_000, |text| {
        text.parse().expect("BENCH_STAGES must be a number of stages")
    })
}
