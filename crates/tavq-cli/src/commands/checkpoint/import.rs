//! `tavq checkpoint import`: a checkpoint of another codebase becomes a model file.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use serde::Serialize;
use tavq_backbone::layouts::{self, Layout, Plan, Published};
use tavq_train::{Config, Model, ModelFile, Origin, Registry, hash_file};
use tch::Tensor;

use super::LayoutName;
use super::foreign::{Foreign, folder, unknown};
use super::published;
use crate::failure::{Failure, Outcome, reading};
use crate::output::{json, not_an_input, say};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Layout of the checkpoint.
    #[arg(long, value_enum)]
    from: LayoutName,
    /// The file (.ckpt, .pt, .bin, .safetensors); of diffusers the folder.
    file: PathBuf,
    /// The model's configuration, YAML or JSON; of LlamaGen also vq-8 or vq-16. A folder of diffusers brings its own.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The model file to write.
    #[arg(long)]
    out: PathBuf,
    /// What stands before the names of the model's tensors, e.g. first_stage_model; found unless there are several models.
    #[arg(long)]
    prefix: Option<String>,
    /// Key under which the tensors lie; by default state_dict, of LlamaGen the first of ema, model and state_dict.
    #[arg(long, value_name = "KEY")]
    weights: Option<String>,
    /// Puts an inert placeholder in the place of each unknown global outside the weights, instead of refusing the file.
    #[arg(long)]
    skip_unknown: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// What an import did.
#[derive(Debug, Serialize)]
struct Report {
    written: PathBuf,
    layout: &'static str,
    tensors: usize,
    values: usize,
    codes: i64,
    /// Tensors of the file that are no part of the model: what their names begin with, and how many there are.
    ignored: Vec<(String, usize)>,
    /// Globals that became placeholders.
    skipped: Vec<String>,
    /// BLAKE3 of the file read.
    blake3: String,
}

pub(crate) fn run(args: &ImportArgs, registry: &Registry) -> Outcome {
    let layout = Layout::from(args.from);
    let (config, file) = places(args, layout)?;
    not_an_input(&args.out, &[&args.file, &config, &file])?;
    let published = published::read(layout, &config)?;
    check_size(&published, &config, &file)?;
    let keys: &[&str] = match layout {
        Layout::LlamaGen => &["ema", "model", "state_dict"],
        _ => &["state_dict"],
    };
    let mut foreign = Foreign::open(&file, unknown(args.skip_unknown), args.weights.as_deref(), keys)?;
    let tensors = foreign.tensors();
    let names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    let config = published::to_config(&published, layouts::codebook_of(&names))?;
    let variables = variables(&config, registry)?;
    let plan = layouts::plan(layout, published.stages(), &variables, &tensors, args.prefix.as_deref())
        .with_context(|| file.display().to_string())
        .map_err(Failure::Input)?;
    let values = read(&mut foreign, &plan, &file)?;
    let blake3 = hash_file(&file).map_err(reading(&file))?;
    let name = file.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
    let origin = Origin { layout: layout.name().to_owned(), file: name, blake3: blake3.clone() };
    ModelFile::write(&args.out, &values, &config.to_toml()?, &origin)?;
    report(
        args,
        &Report {
            written: args.out.clone(),
            layout: layout.name(),
            tensors: values.len(),
            values: values.iter().map(|(_, t)| t.numel()).sum(),
            codes: published.codes,
            ignored: plan.ignored.into_iter().map(|i| (i.prefix, i.count)).collect(),
            skipped: foreign.placeholders(),
            blake3,
        },
    )
}

/// Configuration and weights.
fn places(args: &ImportArgs, layout: Layout) -> Outcome<(PathBuf, PathBuf)> {
    if layout == Layout::Diffusers && (args.file.is_dir() || args.config.is_none()) {
        let (own, file) = folder(&args.file)?;
        return Ok((args.config.clone().unwrap_or(own), file));
    }
    match &args.config {
        Some(config) => Ok((config.clone(), args.file.clone())),
        None => {
            let named = if layout == Layout::LlamaGen { ", vq-8 or vq-16" } else { "" };
            Err(Failure::input(anyhow!(
                "--config: expected the model's configuration (YAML or JSON{named}), found none"
            )))
        }
    }
}

/// Names and shapes of a model's variables.
fn variables(config: &Config, registry: &Registry) -> Outcome<Vec<(String, Vec<i64>)>> {
    let model = Model::new(config, registry, None)?;
    let mut out: Vec<_> = model.store().variables().into_iter().map(|(name, t)| (name, t.size())).collect();
    out.sort();
    Ok(out)
}

/// Refuses to build a network that is many times larger than the file that should hold it.
fn check_size(published: &Published, config: &Path, file: &Path) -> Outcome {
    const SMALL: f64 = (1u64 << 31) as f64;
    const TIMES: f64 = 8.0;
    let length = std::fs::metadata(file).map_err(reading(file))?.len();
    let (bytes, most) = (4.0 * published.values(), (TIMES * length as f64).max(SMALL));
    if bytes <= most {
        return Ok(());
    }
    Err(Failure::input(anyhow!(
        "{}: expected the configuration of {} ({length} bytes), found one of {:.0} million values",
        config.display(),
        file.display(),
        bytes / 4e6
    )))
}

/// The variables' values in the file's own types; a value that is no number is refused.
fn read(foreign: &mut Foreign, plan: &Plan, file: &Path) -> Outcome<Vec<(String, Tensor)>> {
    let mut out = Vec::with_capacity(plan.rows.len());
    let mut problems = Vec::new();
    for row in &plan.rows {
        let tensor = foreign.tensor(&row.theirs)?;
        if !tensor.is_floating_point() {
            problems.push(format!("{}: expected floating-point values, found {:?}", row.theirs, tensor.kind()));
        } else if !tensor.f_isfinite()?.f_all()?.f_int64_value(&[])?.eq(&1) {
            problems.push(format!("{}: expected finite values, found others", row.theirs));
        }
        out.push((row.ours.clone(), tensor.f_reshape(row.shape.as_slice())?));
    }
    if problems.is_empty() {
        return Ok(out);
    }
    Err(tavq_torch::FileError::Tensors { path: file.to_path_buf(), problems }.into())
}

fn report(args: &ImportArgs, report: &Report) -> Outcome {
    if args.json {
        return json(report);
    }
    if !report.ignored.is_empty() {
        let groups: Vec<String> = report.ignored.iter().map(|(prefix, n)| format!("{prefix} ({n})")).collect();
        eprintln!("no part of the model, left out: {}", groups.join(", "));
    }
    if !report.skipped.is_empty() {
        eprintln!("unknown globals, passed over: {}", report.skipped.join(", "));
    }
    say!("written: {}", report.written.display());
    say!("{} tensors, {} values, {} codes, from {}", report.tensors, report.values, report.codes, report.layout);
    Ok(())
}
