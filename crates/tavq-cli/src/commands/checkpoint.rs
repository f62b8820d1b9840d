//! `tavq checkpoint inspect`: what a checkpoint holds.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::failure::Outcome;
use crate::output::{json, say};
use crate::session;

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Checks every file against its hash and prints configuration, step and parameters.
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Checkpoint folder, or a run's folder for its newest.
    checkpoint: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &CheckpointCommand) -> Outcome {
    let CheckpointCommand::Inspect(args) = command;
    let checkpoint = session::open_checkpoint(&args.checkpoint)?;
    let model = checkpoint.model()?;
    let rows: Vec<(String, Vec<i64>)> =
        model.names().into_iter().filter_map(|n| model.shape(&n).map(|s| (n, s))).collect();
    let total: i64 = rows.iter().map(|(_, s)| s.iter().product::<i64>()).sum();
    let state = &checkpoint.state;
    if args.json {
        let tensors: serde_json::Map<String, serde_json::Value> =
            rows.into_iter().map(|(n, s)| (n, s.into())).collect();
        let report = serde_json::json!({
            "path": checkpoint.path,
            "format": state.format,
            "step": state.step,
            "epoch": state.cursor.epoch,
            "values": total,
            "hashes": state.hashes,
            "tensors": tensors,
            "config": checkpoint.config,
        });
        json(&report)?;
        return Ok(());
    }
    say!("{}", checkpoint.path.display());
    say!("format {}, step {}, epoch {}", state.format, state.step, state.cursor.epoch);
    for (name, shape) in &rows {
        say!("  {name:<60} {shape:?}");
    }
    say!("{} tensors, {total} values", rows.len());
    for (file, hash) in &state.hashes {
        say!("{file}: BLAKE3 {}", hash.as_str().unwrap_or_default());
    }
    say!("{}", checkpoint.config.trim_end());
    Ok(())
}
