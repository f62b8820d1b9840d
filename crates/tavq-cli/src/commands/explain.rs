//! `tavq explain`: where in one image each unit of its text takes its mass from.

use std::path::PathBuf;

use clap::Args;
use tavq_train::Registry;

use crate::explain::{Subject, write_sheet};
use crate::failure::{Failure, Outcome, writing};
use crate::output::say;
use crate::session;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Checkpoint folder, a run's folder for its newest, or a model file.
    #[arg(long)]
    checkpoint: PathBuf,
    /// The image.
    image: PathBuf,
    /// File with the text.
    #[arg(long)]
    text: PathBuf,
    /// Folder for `NAME.png` (the sheet) and `NAME.json` (every unit with its map).
    #[arg(long)]
    out: PathBuf,
    /// Overrides one key of the saved configuration; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Prints every unit with its map as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &ExplainArgs, registry: &Registry) -> Outcome {
    let loaded = session::load(&args.checkpoint, registry, &args.sets)?;
    if loaded.model.alignments().is_empty() {
        return Err(Failure::input(anyhow::anyhow!(
            "{}: expected a model trained with alignment, found one without",
            loaded.source.path().display()
        )));
    }
    let text = session::read_text(&args.text)?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::input(anyhow::anyhow!("{}: expected a text, found none", args.text.display())));
    }
    let image = session::read_image(&loaded.config, &args.image)?;
    let name = args.image.file_stem().map_or("image".into(), |s| s.to_string_lossy().into_owned());
    let sheet = args.out.join(format!("{name}.png"));
    let maps = write_sheet(&loaded.config, &loaded.model, &Subject { image, text }, &sheet)?;
    let json = serde_json::to_vec(&maps).map_err(Failure::work)?;
    let table = args.out.join(format!("{name}.json"));
    tavq_torch::write_atomic(&table, |f| f.write_all(&json)).map_err(writing(&table))?;
    if args.json {
        say!("{}", String::from_utf8_lossy(&json));
    } else {
        say!("picture: {}\nmaps: {}", sheet.display(), table.display());
    }
    Ok(())
}
