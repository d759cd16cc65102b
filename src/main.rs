//! The `tiercel` binary: TLS provider, arguments, dispatch.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match tiercel::cli::run(tiercel::cli::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tiercel: {error}");
            ExitCode::FAILURE
        }
    }
}
