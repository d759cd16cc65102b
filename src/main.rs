//! The `tiercel` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    tiercel::cli::main()
}
