//! The end of a run: evaluation on both splits, pictures, a short table and the same as JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tavq_quant::{Usage, UsageReport};
use tavq_train::{
    Config, DataSet, Evaluation, Images, Model, Outcome as RunOutcome, Retrieval, TextSide, evaluate, mean_image,
    name_of, rank_texts, write_pairs,
};

use crate::codebook;
use crate::explain::{self, Subject};
use crate::failure::{Failure, Outcome};

/// Pairs of the training split that are ranked against each other.
const TRAINING_PAIRS: usize = 100;
/// Most pairs of the validation split that are ranked against each other.
const VALIDATION_PAIRS: usize = 1000;
/// Pictures on a sheet.
const PICTURES: usize = 40;

/// What a run or an evaluation ends with.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) run: Option<RunPart>,
    pub(crate) validation: Part,
    pub(crate) training: Part,
    pub(crate) pictures: Vec<PathBuf>,
    /// High-water mark of resident memory, bytes; absent where the system does not tell.
    pub(crate) peak_memory: Option<u64>,
}

/// The training itself.
#[derive(Debug, Serialize)]
pub(crate) struct RunPart {
    pub(crate) steps: u64,
    pub(crate) images_per_second: f64,
    /// Over the last whole epoch, per level, fine to coarse.
    pub(crate) usage_last_epoch: Vec<UsageReport>,
    pub(crate) checkpoint: PathBuf,
}

/// One split.
#[derive(Debug, Serialize)]
pub(crate) struct Part {
    #[serde(flatten)]
    pub(crate) evaluation: Evaluation,
    pub(crate) retrieval: Option<Retrieval>,
}

/// Evaluates both splits, writes the pictures and `evaluation.json` under `out`.
pub(crate) fn evaluate_run(
    config: &Config,
    out: &Path,
    model: &Model,
    data: &DataSet,
    text: Option<&TextSide>,
    run: Option<RunOutcome>,
    quiet: bool,
) -> Outcome<Report> {
    let mean = mean_image(&mut data.training_once(config, None)?)?;
    let mut pictures = Vec::new();
    let mut part = |images: &mut Images, pairs: usize, name: &str| -> Outcome<(Part, Vec<Usage>)> {
        let (evaluation, seen) = evaluate(model, images, &mean, pairs, PICTURES, quiet)?;
        let retrieval = text.map(|t| rank_texts(model, t, &seen)).transpose()?.flatten();
        if let Some((originals, rebuilt)) = &seen.pictures {
            let path = out.join("samples").join(format!("{name}.png"));
            write_pairs(&path, originals, rebuilt, 10, 96)?;
            pictures.push(path);
        }
        Ok((Part { evaluation, retrieval }, seen.usage))
    };
    let (validation, used) = part(&mut data.validation(config)?, VALIDATION_PAIRS, "validation")?;
    let (training, _) = part(&mut data.training_once(config, Some(TRAINING_PAIRS))?, TRAINING_PAIRS, "training")?;
    let page = match &run {
        Some(run) => codebook::write_page(out, model, &run.usage, "the last epoch"),
        None => codebook::write_page(out, model, &used, "the validation split"),
    };
    pictures.push(page?);
    if let Some(path) = explain_first(config, out, model, data, text)? {
        pictures.push(path);
    }
    let run = run.map(|r| RunPart {
        steps: r.steps,
        images_per_second: r.images_per_second,
        usage_last_epoch: r.usage.iter().map(Usage::report).collect(),
        checkpoint: r.checkpoint,
    });
    let report = Report { run, validation, training, pictures, peak_memory: tavq_torch::peak_memory() };
    let path = out.join("evaluation.json");
    let json = serde_json::to_vec_pretty(&report).map_err(Failure::work)?;
    tavq_torch::write_atomic(&path, |f| f.write_all(&json)).map_err(crate::failure::writing(&path))?;
    Ok(report)
}

fn explain_first(
    config: &Config,
    out: &Path,
    model: &Model,
    data: &DataSet,
    text: Option<&TextSide>,
) -> Outcome<Option<PathBuf>> {
    if text.is_none() || model.alignments().is_empty() {
        return Ok(None);
    }
    let mut images = data.validation(config)?;
    let Some((rows, batch)) = images.next()? else { return Ok(None) };
    let (key, text) = data.texts()[rows[0]];
    let path = out.join("samples").join(format!("explain-{key}.png"));
    let subject = Subject { image: batch.narrow(0, 0, 1), text };
    explain::write_sheet(config, model, &subject, &path)?;
    Ok(Some(path))
}

impl Report {
    /// The table for a person.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_table(&mut out);
        out
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let (v, t) = (&self.validation, &self.training);
        writeln!(out, "{:<42}{:>12}{:>12}", "", "validation", "training")?;
        let mut row = |name: &str, a: String, b: String| writeln!(out, "{name:<42}{a:>12}{b:>12}");
        row("images", v.evaluation.images.to_string(), t.evaluation.images.to_string())?;
        row("PSNR, dB", format!("{:.2}", v.evaluation.psnr), format!("{:.2}", t.evaluation.psnr))?;
        row("  over the training set's mean image, dB", v.gain(), t.gain())?;
        row("SSIM", format!("{:.3}", v.evaluation.ssim), format!("{:.3}", t.evaluation.ssim))?;
        // Of a training the use over its last epoch is shown below, which a few pictures of a split cannot replace.
        let usage = if self.run.is_none() { &v.evaluation.usage[..] } else { &[] };
        for (level, (a, b)) in usage.iter().zip(&t.evaluation.usage).enumerate() {
            row(&format!("codes used, level {}", level + 1), percent(a.used_share), percent(b.used_share))?;
        }
        if let (Some(a), Some(b)) = (&v.retrieval, &t.retrieval) {
            for (name, part) in PARTS {
                row(name, part(a), part(b))?;
            }
            for (x, y) in a.levels.iter().zip(&b.levels) {
                let name = format!("  R@5 text of image, {} alone", name_of(x.granularity));
                row(&name, share(x.centred.image_to_text.recall_at_5), share(y.centred.image_to_text.recall_at_5))?;
            }
        }
        if let Some(run) = &self.run {
            let used: Vec<String> = run.usage_last_epoch.iter().map(|u| percent(u.used_share)).collect();
            let codes = run.usage_last_epoch.first().map_or(0, |u| u.codes);
            writeln!(out, "codes used in the last epoch, levels 1 to {}: {} of {codes}", used.len(), used.join(", "))?;
            writeln!(out, "{} steps, {:.0} images/s", run.steps, run.images_per_second)?;
        }
        if let Some(bytes) = self.peak_memory {
            writeln!(out, "peak memory {:.2} GB", bytes as f64 / 1e9)?;
        }
        if v.retrieval.is_some() {
            writeln!(
                out,
                "Retrieval ranks by transport cost summed over the levels; \"centred\" has each text's mean cost over the images subtracted."
            )?;
        }
        for path in &self.pictures {
            writeln!(out, "picture: {}", path.display())?;
        }
        if let Some(run) = &self.run {
            writeln!(out, "checkpoint: {}", run.checkpoint.display())?;
        }
        Ok(())
    }
}

type Row = (&'static str, fn(&Retrieval) -> String);

const PARTS: [Row; 6] = [
    ("R@5 text of image, centred", |r| share(r.centred.image_to_text.recall_at_5)),
    ("R@5 text of image, raw", |r| share(r.raw.image_to_text.recall_at_5)),
    ("R@5 image of text, centred", |r| share(r.centred.text_to_image.recall_at_5)),
    ("R@1 text of image, centred", |r| share(r.centred.image_to_text.recall_at_1)),
    ("R@5 by chance", |r| share(r.centred.chance.recall_at_5)),
    ("median rank, centred (by chance)", |r| {
        format!("{:.0} ({:.0})", r.centred.image_to_text.median_rank, r.centred.chance.median_rank)
    }),
];

impl Part {
    /// Decibels over the mean image.
    pub(crate) fn gain(&self) -> String {
        format!("{:+.2}", self.evaluation.psnr - self.evaluation.psnr_of_mean_image)
    }
}

pub(crate) fn percent(x: f64) -> String {
    format!("{:.0} %", 100.0 * x)
}

pub(crate) fn share(x: f64) -> String {
    format!("{x:.3}")
}
