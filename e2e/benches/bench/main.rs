//! `make bench`: what the operator costs and how fast it is, on a real control plane. Figures go to `target/bench/<id>.json`
//! and, as tables, to standard output. Nothing here fails because something took long.
//!
//! | id | what |
//! | --- | --- |
//! | `core` | the decision core alone, from the library |
//! | `startup` | `kubectl apply` of the sample to Ready, beside bare Deployments |
//! | `reaction` | a step of load to an acknowledged write, beside a bare client's PATCH; requests per decision |
//! | `b7` | the same steps of load for tiercel, HPA and KEDA, side by side |
//! | `b8` | memory, CPU and requests at 100 and 1,000 stages over eight pools, converged and while demands change |
//!
//! `BENCH=id[,id]` picks some. `TIERCEL_BIN` names an operator to measure; otherwise a release build is made.
#![allow(
    clippy::duration_suboptimal_units,
    clippy::indexing_slicing,
    clippy::needless_for_each,
    clippy::similar_names,
    clippy::type_complexity,
    clippy::unused_self,
    reason = "a program that measures and fails by panicking"
)]

mod audit;
mod b8;
mod core;
mod ground;
mod numbers;
mod peers;
mod probes;
mod proc;
mod reaction;
mod result;
mod servers;
mod startup;

use std::process::ExitCode;

/// Whatever stops a measurement.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const ALL: [&str; 5] = ["core", "startup", "reaction", "b7", "b8"];

#[tokio::main]
async fn main() -> ExitCode {
    match b8::fill() {
        Ok(false) => {}
        Ok(true) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    let wanted = std::env::var("BENCH").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split(',').map(str::trim).filter(|id| !id.is_empty()).collect();
    if let Some(unknown) = wanted.iter().find(|id| !ALL.contains(id)) {
        eprintln!("there is no bench {unknown:?}: BENCH may name {}", ALL.join(", "));
        return ExitCode::FAILURE;
    }
    let mut code = ExitCode::SUCCESS;
    for id in ALL.into_iter().filter(|id| wanted.is_empty() || wanted.contains(id)) {
        // One that cannot run does not keep the others from running.
        if let Err(error) = run(id).await {
            eprintln!("{id}: {error}");
            code = ExitCode::FAILURE;
        }
    }
    code
}

async fn run(id: &str) -> Result<(), Failure> {
    println!("\n== {id}");
    let figures = match id {
        "core" => core::run(),
        "startup" => startup::run().await?,
        "reaction" => reaction::run().await?,
        "b7" => peers::run().await?,
        _ => b8::run().await?,
    };
    result::write(id, &figures)
}
