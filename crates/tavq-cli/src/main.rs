//! The `tavq` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Where the allocator cannot be told, tensors only take longer to come by.
    let _ = tavq_torch::keep_freed_memory();
    tavq_cli::run(&tavq_cli::standard_registry())
}
