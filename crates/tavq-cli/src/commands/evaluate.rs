//! `tavq evaluate`: a checkpoint on a data set, by the numbers that end a training.

use std::path::PathBuf;

use clap::Args;
use tavq_train::{DataSet, Registry};

use crate::failure::Outcome;
use crate::output::{json, say};
use crate::report::evaluate_run;
use crate::session;

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// Checkpoint folder, a run's folder for its newest, or a model file.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Manifest; by default the one it was trained on.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Overrides one key of the saved configuration; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Where `evaluation.json` and the pictures go.
    #[arg(long, default_value = "evaluation")]
    out: PathBuf,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &EvaluateArgs, registry: &Registry) -> Outcome {
    let mut loaded = session::load(&args.checkpoint, registry, &args.sets)?;
    if let Some(data) = &args.data {
        loaded.config.data.manifest.clone_from(data);
    }
    let config = &loaded.config;
    let data = DataSet::open(config)?;
    let text = if loaded.model.alignments().is_empty() {
        None
    } else {
        Some(session::text_side(config, &data.texts(), args.json)?)
    };
    let report = evaluate_run(config, &args.out, &loaded.model, &data, text.as_ref(), None, args.json)?;
    if args.json {
        json(&report)?;
    } else {
        let step = loaded.source.step().map_or(String::new(), |step| format!(", step {step}"));
        say!("{}{step}", loaded.source.path().display());
        say!("{}", report.table().trim_end());
    }
    Ok(())
}
