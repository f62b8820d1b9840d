//! The `tavq` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    tavq_cli::run(&tavq_cli::standard_registry())
}
