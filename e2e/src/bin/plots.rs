//! `make plots`: pictures for docs/performance.md of what the benchmarks wrote to `target/bench`.

use std::process::ExitCode;

use tiercel_e2e::demo::stage_set::repository;
use tiercel_e2e::plots::{Drawn, draw};

fn main() -> ExitCode {
    let root = repository();
    let mut end = ExitCode::SUCCESS;
    let mut absent = Vec::new();
    for drawn in draw(&root.join("target/bench"), &root.join("docs/images")) {
        match drawn {
            Drawn::Written(path) => println!("{}", path.strip_prefix(&root).unwrap_or(&path).display()),
            Drawn::NotMeasured { bench, picture } => absent.push(format!("{picture} (make bench BENCH={bench})")),
            Drawn::Failed { picture, error } => {
                eprintln!("error: {picture}: {error}");
                end = ExitCode::FAILURE;
            }
        }
    }
    if !absent.is_empty() {
        println!("left as they are, not measured here: {}", absent.join(", "));
    }
    end
}
