//! `make bench BENCH=b5` (`b6`, `learning`, `b9`, `scrape`): whole runs, all but the last of the core in the simulator. Figures go to
//! `target/bench/<id>.json` and, as tables, to standard output. B9 fails if a promise is broken; nothing else here fails.
//!
//! | id | what |
//! | --- | --- |
//! | `b5` | the sample pipeline on four loads, every policy swept over its knobs, beside the clairvoyant |
//! | `b6` | fifty pipelines of three classes on pools that are too small for them |
//! | `learning` | what is learned of capacities and calls, what callers send ahead, what a signal costs |
//! | `scrape` | a thousand pods read every second: CPU time of the scraper, of a bare exchange, of the page alone |
//! | `b9` | floors, ceilings, room and budget at every write, while nodes, writes and the core itself get lost |
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a program that measures and fails by panicking"
)]

mod build;
mod classes;
mod frontier;
mod learning;
#[path = "../core/result.rs"]
mod result;
mod scrape;
mod watch;

use std::process::ExitCode;

use serde_json::Value;

const ALL: [&str; 5] = ["b5", "b6", "learning", "scrape", "b9"];

/// As in the operator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if scrape::serves() {
        return ExitCode::SUCCESS;
    }
    let wanted = std::env::var("BENCH").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
    if let Some(unknown) = wanted.iter().find(|id| !ALL.contains(id)) {
        eprintln!(
            "there is no bench {unknown:?} of episodes: BENCH may name {}",
            ALL.join(", ")
        );
        return ExitCode::FAILURE;
    }
    let mut end = ExitCode::SUCCESS;
    for id in ALL.into_iter().filter(|id| wanted.is_empty() || wanted.contains(id)) {
        println!("\n== {id}");
        let (figures, sound): (Value, bool) = match id {
            "b5" => (frontier::run(), true),
            "b6" => (classes::run(), true),
            "learning" => (learning::run(), true),
            "scrape" => (scrape::run(), true),
            _ => watch::run(),
        };
        if let Err(error) = result::write(id, &figures) {
            eprintln!("{id}: {error}");
            return ExitCode::FAILURE;
        }
        if !sound {
            eprintln!("{id}: a promise was broken");
            end = ExitCode::FAILURE;
        }
    }
    end
}
