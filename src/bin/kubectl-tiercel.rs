//! The kubectl plugin: the same program under the name that kubectl looks for.

use std::process::ExitCode;

fn main() -> ExitCode {
    tiercel::cli::main()
}
