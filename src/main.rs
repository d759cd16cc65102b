//! The `tiercel` binary.

use std::process::ExitCode;

/// Gives back what is free and keeps little per thread: see docs/performance.md, "Size".
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tiercel::cli::main()
}
