//! `make demo`: a pipeline on a local cluster under recorded load, replicas moving between pools, a report.

use std::process::ExitCode;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser};
use tiercel_e2e::demo::Failure;
use tiercel_e2e::demo::ending::Verdict;
use tiercel_e2e::demo::stage_set::repository;
use tiercel_e2e::demo::story::{self, Options};
use tokio::signal::unix::{SignalKind, signal};

/// A real Kubernetes control plane on this machine, tiercel on it, and a pipeline under recorded load.
#[derive(Parser)]
struct Cli {
    /// Two minutes instead of five.
    #[arg(long, env = "FAST", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    fast: bool,
    /// Folder for the report, the decision log and the cluster's files; `target/demo` by default.
    #[arg(long)]
    folder: Option<std::path::PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let folder = cli.folder.unwrap_or_else(|| repository().join("target/demo"));
    let options = Options {
        fast: cli.fast,
        folder: std::path::absolute(&folder).unwrap_or(folder),
    };
    // Whoever loses is dropped, and with it everything it started.
    let told = tokio::select! {
        told = story::tell(&options) => Some(told),
        _ = interrupted() => None,
    };
    match told {
        None => {
            eprintln!("\ninterrupted: operator and control plane are stopped");
            ExitCode::from(130)
        }
        Some(Err(error)) => {
            eprintln!("error: {error}");
            eprintln!("logs: {}", options.folder.join("cluster").display());
            ExitCode::FAILURE
        }
        Some(Ok(verdict)) => judge(&verdict),
    }
}

async fn interrupted() -> Result<(), Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn judge(verdict: &Verdict) -> ExitCode {
    let report = &verdict.report;
    let dollars = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("${value:.3}"));
    let ms = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.1} ms"));
    let fine = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.2} ms"));
    println!(
        "\n  requests        {} ({} failed), {:.1} % late or failed",
        report.requests, report.failed, report.late_percent
    );
    println!(
        "  cost            {} for {:.0} s of load; accelerators only: {}",
        dollars(report.cost_usd),
        report.duration_s,
        dollars(report.cost_usd_all_accelerators)
    );
    println!(
        "  decisions       {}; {} shifts of replicas between pools",
        report.decisions, report.shifts
    );
    println!(
        "  reaction        p50 {}, p99 {} from signal to acknowledged write",
        ms(report.reaction_ms.p50),
        ms(report.reaction_ms.p99)
    );
    let percent = |value: Option<f64>| value.map_or_else(|| "–".into(), |value| format!("{value:.2} %"));
    println!(
        "  plans           gap to the proven best p50 {}, max {}; a step p50 {}, p99 {}; a search beside it p50 {}, p99 {}",
        percent(report.gap_percent.p50),
        percent(report.gap_percent.max),
        fine(report.plan_ms.p50),
        fine(report.plan_ms.p99),
        fine(report.solve_ms.p50),
        fine(report.solve_ms.p99)
    );
    println!(
        "  bounds          {} floor violations, {} ceiling violations",
        report.floor_violations, report.ceiling_violations
    );
    println!(
        "  start           {:.1} s from kubectl apply to all stages Ready",
        report.startup_s.unwrap_or_default()
    );
    println!(
        "\n  {}\n  {}",
        verdict.files.html.display(),
        verdict.files.json.display()
    );
    let faults = verdict.faults();
    for fault in &faults {
        eprintln!("\nerror: {fault}");
    }
    if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
