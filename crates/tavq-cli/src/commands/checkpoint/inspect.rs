//! `tavq checkpoint inspect`: what a checkpoint of any kind holds.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};
use tavq_quant::{Usage, UsageReport};
use tavq_torch::TensorFile;
use tavq_train::{Checkpoint, MODEL_FORMAT, ModelFile, Origin, hash_file};

use super::foreign::{Container, folder, signed, unknown};
use crate::failure::{Outcome, reading};
use crate::output::{json, say};
use crate::session;

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A run's folder for its newest checkpoint, a checkpoint folder, a model file, a folder of diffusers, or a file of another
    /// codebase (.ckpt, .pt, .bin, .safetensors).
    checkpoint: PathBuf,
    /// Puts an inert placeholder in the place of each unknown global of a foreign file, instead of refusing it.
    #[arg(long)]
    skip_unknown: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// One tensor.
struct Row {
    name: String,
    dtype: String,
    shape: Vec<i64>,
}

/// Use of the codes of one level or codebook.
#[derive(Debug, Serialize)]
struct CodeUse {
    /// Level, fine to coarse, or the name of the buffer.
    of: String,
    /// Where the figures come from.
    source: &'static str,
    #[serde(flatten)]
    report: UsageReport,
}

#[derive(Default)]
struct Found {
    path: PathBuf,
    kind: &'static str,
    format: Value,
    step: Option<u64>,
    epoch: Option<u64>,
    rows: Vec<Row>,
    hashes: Map<String, Value>,
    config: Option<String>,
    origin: Option<Origin>,
    usage: Vec<CodeUse>,
    placeholders: Vec<String>,
}

pub(super) fn run(args: &InspectArgs) -> Outcome {
    let found = find(&args.checkpoint, args.skip_unknown)?;
    if args.json { json(&found.to_json()) } else { found.print() }
}

fn find(path: &Path, skip: bool) -> Outcome<Found> {
    if path.is_dir() && !path.join("state.json").exists() && path.join("config.json").is_file() {
        let (config, weights) = folder(path)?;
        let mut found = file(&weights, skip)?;
        found.path = path.to_path_buf();
        found.config = Some(session::read_text(&config)?);
        found.hashes.insert("config.json".into(), hash_file(&config).map_err(reading(&config))?.into());
        return Ok(found);
    }
    if path.is_file() {
        return file(path, skip);
    }
    let checkpoint = session::open_checkpoint(path)?;
    let model = checkpoint.model()?;
    let state = &checkpoint.state;
    Ok(Found {
        kind: "checkpoint",
        format: state.format.into(),
        step: Some(state.step),
        epoch: Some(state.cursor.epoch),
        rows: rows(&model)?,
        hashes: state.hashes.clone(),
        usage: trained_usage(&checkpoint)?,
        config: Some(checkpoint.config.clone()),
        path: checkpoint.path,
        ..Found::default()
    })
}

fn file(path: &Path, skip: bool) -> Outcome<Found> {
    let mut found = Found { path: path.to_path_buf(), ..Found::default() };
    let name = path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
    match Container::open(path, unknown(skip))? {
        Container::Safetensors(tensors) => {
            found.rows = rows(&tensors)?;
            found.usage = buffered_usage(&tensors)?;
            found.kind = "safetensors";
            if tensors.meta("tavq.config").is_some() {
                let model = ModelFile::of(tensors)?;
                found.kind = "model file";
                found.format = MODEL_FORMAT.into();
                (found.config, found.origin) = (Some(model.config.clone()), model.origin.clone());
            }
        }
        Container::Pickle(mut archive) => {
            found.kind = match archive.container() {
                tavq_pickle::Container::Zip => "PyTorch file",
                tavq_pickle::Container::Legacy => "PyTorch file of before 1.6",
            };
            found.step =
                archive.integer("global_step").or(archive.integer("steps")).and_then(|n| u64::try_from(n).ok());
            found.epoch = archive.integer("epoch").and_then(|n| u64::try_from(n).ok());
            found.placeholders = archive.placeholders();
            let tensors = archive.all()?;
            for (name, info) in &tensors {
                // LlamaGen's window of recent indices, as numbers with a fraction.
                if name.ends_with("quantize.codebook_used") && info.dtype == tavq_pickle::Dtype::F32 {
                    let bytes = archive.read(info)?;
                    let indices = bytes.chunks_exact(4).filter_map(|b| b.try_into().ok()).map(f32::from_le_bytes);
                    found.usage.extend(window_usage(name, &tensors, indices));
                }
            }
            let row = |(name, info): &(String, tavq_pickle::TensorInfo)| Row {
                name: name.clone(),
                dtype: info.dtype.name().to_owned(),
                shape: signed(&info.shape),
            };
            found.rows = tensors.iter().map(row).collect();
        }
    }
    found.hashes.insert(name, hash_file(path).map_err(reading(path))?.into());
    Ok(found)
}

fn rows(file: &TensorFile) -> Outcome<Vec<Row>> {
    let row = |name: String| {
        let shape = file.shape(&name).unwrap_or_default();
        let dtype = file.dtype(&name).unwrap_or_default();
        Row { name, dtype, shape }
    };
    Ok(file.names().into_iter().map(row).collect())
}

/// From the histograms that the trainer saves: of the last whole epoch, else of the one under way.
fn trained_usage(checkpoint: &Checkpoint) -> Outcome<Vec<CodeUse>> {
    let reader = checkpoint.reader()?;
    let whole = reader.value("usage.whole").unwrap_or(false);
    let (part, source) = if whole { ("last", "the last whole epoch") } else { ("now", "the epoch under way") };
    let mut out = Vec::new();
    for level in 0.. {
        let Ok(counts) = reader.tensor(&format!("usage.{part}.{level}"), &[-1]) else { break };
        let counts: Vec<i64> = Vec::try_from(&counts)?;
        let usage = Usage::from_counts(counts.into_iter().map(i64::unsigned_abs).collect());
        out.push(CodeUse { of: format!("level {}", level + 1), source, report: usage.report() });
    }
    Ok(out)
}

/// From the running averages of a codebook, where it has them; shares, so no vectors were counted.
fn buffered_usage(file: &TensorFile) -> Outcome<Vec<CodeUse>> {
    let mut out = Vec::new();
    for name in file.names() {
        let source = match name.as_str() {
            n if n.ends_with("embedding.cluster_size") => "the running average of counts",
            n if n.ends_with("quantize.embed_prob") => "the running average of use",
            _ => continue,
        };
        let shares: Vec<f64> = Vec::try_from(file.get(&name)?.f_to_kind(tch::Kind::Double)?.f_reshape([-1])?)?;
        out.push(CodeUse { of: name, source, report: of_shares(&shares) });
    }
    Ok(out)
}

/// Averages only decay, so a code counts as used while it has one part in a million of the whole.
fn of_shares(shares: &[f64]) -> UsageReport {
    const LEAST: f64 = 1e-6;
    let total: f64 = shares.iter().filter(|s| **s > 0.0).sum();
    let codes = shares.len() as u64;
    let shares: Vec<f64> = shares.iter().map(|s| s / total).filter(|s| *s > 0.0).collect();
    let used = shares.iter().filter(|s| **s > LEAST).count() as u64;
    let entropy_bits = shares.iter().map(|s| -s * s.log2()).sum::<f64>().max(0.0);
    UsageReport {
        codes,
        vectors: 0,
        used,
        dead: codes - used,
        used_share: if codes == 0 { 0.0 } else { used as f64 / codes as f64 },
        entropy_bits,
        perplexity: if used == 0 { 0.0 } else { entropy_bits.exp2() },
    }
}

/// Most codes that are counted; a shape alone may claim any number.
const MOST_CODES: u64 = 1 << 24;

fn window_usage(
    name: &str,
    tensors: &[(String, tavq_pickle::TensorInfo)],
    indices: impl Iterator<Item = f32>,
) -> Option<CodeUse> {
    let table = name.replace("codebook_used", "embedding.weight");
    let codes = *tensors.iter().find(|(n, _)| *n == table)?.1.shape.first()?;
    if codes > MOST_CODES {
        return None;
    }
    let mut counts = vec![0u64; usize::try_from(codes).ok()?];
    for index in indices {
        *counts.get_mut(index as usize)? += 1;
    }
    // It begins as zeros, and an export writes it so.
    if counts.iter().skip(1).all(|count| *count == 0) {
        return None;
    }
    let report = Usage::from_counts(counts).report();
    Some(CodeUse { of: name.to_owned(), source: "the last 65,536 indices", report })
}

impl Found {
    fn values(&self) -> i64 {
        // Strides of 0 describe more values than any number counts.
        let values = |row: &Row| row.shape.iter().fold(1, |n: i64, d| n.saturating_mul(*d));
        self.rows.iter().map(values).fold(0, i64::saturating_add)
    }

    fn to_json(&self) -> Value {
        let tensors: Map<String, Value> =
            self.rows.iter().map(|row| (row.name.clone(), row.shape.clone().into())).collect();
        let dtypes: Map<String, Value> =
            self.rows.iter().map(|row| (row.name.clone(), row.dtype.clone().into())).collect();
        serde_json::json!({
            "path": self.path, "kind": self.kind, "format": self.format, "step": self.step, "epoch": self.epoch,
            "values": self.values(), "hashes": self.hashes, "tensors": tensors, "dtypes": dtypes,
            "usage": self.usage, "origin": self.origin, "placeholders": self.placeholders, "config": self.config,
        })
    }

    fn print(&self) -> Outcome {
        say!("{}: {}", self.path.display(), self.kind);
        let facts = [
            self.format.as_str().map(|f| format!("format {f}")).or(self.format.as_u64().map(|f| format!("format {f}"))),
            self.step.map(|step| format!("step {step}")),
            self.epoch.map(|epoch| format!("epoch {epoch}")),
        ];
        let facts: Vec<String> = facts.into_iter().flatten().collect();
        if !facts.is_empty() {
            say!("{}", facts.join(", "));
        }
        if let Some(origin) = &self.origin {
            say!("from {} ({}, BLAKE3 {})", origin.file, origin.layout, origin.blake3);
        }
        for row in &self.rows {
            say!("  {:<60} {:<5} {:?}", row.name, row.dtype, row.shape);
        }
        say!("{} tensors, {} values", self.rows.len(), self.values());
        for code_use in &self.usage {
            let r = &code_use.report;
            say!(
                "codes used, {}: {} of {} ({:.1} %), perplexity {:.1}, over {}",
                code_use.of,
                r.used,
                r.codes,
                100.0 * r.used_share,
                r.perplexity,
                code_use.source
            );
        }
        if self.usage.is_empty() {
            let how = match self.kind {
                "checkpoint" | "model file" => "",
                _ => "import it, then ",
            };
            say!("codes used: not recorded; {how}`tavq evaluate --checkpoint FILE --data MANIFEST` counts them");
        }
        if !self.placeholders.is_empty() {
            say!("unknown globals, passed over: {}", self.placeholders.join(", "));
        }
        for (file, hash) in &self.hashes {
            say!("{file}: BLAKE3 {}", hash.as_str().unwrap_or_default());
        }
        if let Some(config) = &self.config {
            say!("{}", config.trim_end());
        }
        Ok(())
    }
}
