//! The configuration of a run: defaults < file < `--set a.b=c`; unknown keys are refused with their path.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tavq_align::AlignConfig;
use tavq_data::{OnError, Transform};
use tavq_encode::Mode;

use crate::optimizer::OptimizerConfig;
use crate::{Result, TrainError};

/// Everything that decides a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Length, seed, device, intervals.
    pub run: RunConfig,
    /// Images and texts.
    pub data: DataConfig,
    /// The text side.
    pub text: TextConfig,
    /// Backbone and quantizer.
    pub model: ModelConfig,
    /// Weights of the terms.
    pub loss: LossConfig,
    /// The alignment of codes with text.
    pub align: AlignConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
}

/// Length, seed, device, intervals.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Optimiser steps.
    pub steps: u64,
    /// Every random choice derives from it.
    pub seed: u64,
    /// `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// CPU threads of libtorch; 0 leaves its default.
    pub threads: i32,
    /// Deterministic kernels only. On CPU runs repeat to the bit either way.
    pub deterministic: bool,
    /// Steps between metric lines.
    pub log_every: u64,
    /// Steps between checkpoints; the last step always writes one.
    pub checkpoint_every: u64,
    /// Checkpoints kept.
    pub keep: usize,
    /// Steps between sample sheets; 0 writes one at the end only.
    pub sample_every: u64,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            seed: 1,
            device: "cpu".into(),
            threads: 0,
            deterministic: false,
            log_every: 10,
            checkpoint_every: 200,
            keep: 2,
            sample_every: 200,
        }
    }
}

/// Images and texts.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// JSONL manifest; relative to the working directory.
    pub manifest: PathBuf,
    /// Split that is trained on; empty for every row.
    pub train_split: String,
    /// Split that is held back; empty to evaluate on the training rows.
    pub validation_split: String,
    /// Images a step.
    pub batch_size: usize,
    /// What is done to a training image. Evaluation takes the centre crop, without flips.
    pub transform: Transform,
    /// What a bad row does.
    pub on_error: OnError,
    /// Batches kept ready by the background thread.
    pub prefetch: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            manifest: PathBuf::new(),
            train_split: "train".into(),
            validation_split: "validation".into(),
            batch_size: 24,
            transform: Transform::default(),
            on_error: OnError::Fail,
            prefetch: 2,
        }
    }
}

/// The text side.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// Folder with `config.json`, `tokenizer.json`, `model.safetensors`; empty takes the environment's TAVQ_TEXT_ENCODER.
    pub encoder: PathBuf,
    /// How units get their vectors.
    pub mode: Mode,
    /// Folder of the text indexes, shared by runs.
    pub index: PathBuf,
    /// Most words, phrases and sentences of one text that take part in a step.
    pub max_units: [usize; 3],
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            encoder: PathBuf::new(),
            mode: Mode::Hierarchical,
            index: PathBuf::from("runs/text-index"),
            max_units: [64, 48, 16],
        }
    }
}

/// Backbone and quantizer, by name; the tables are read by whoever registered the name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Table with `kind`.
    pub backbone: toml::Table,
    /// Table with `kind`.
    pub quantizer: toml::Table,
    /// One codebook for all levels, or one each. Levels of different widths need one each.
    pub shared_codebook: bool,
    /// Quantize and train the side levels. Off: only the last level exists, as in the plain backbone.
    pub side_levels: bool,
    /// Model file or checkpoint whose parts a new run starts from; parts that it has not start at random. Empty: all do.
    pub init: PathBuf,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            backbone: toml::Table::new(),
            quantizer: toml::Table::new(),
            shared_codebook: true,
            side_levels: true,
            init: PathBuf::new(),
        }
    }
}

/// Weights of the terms (method page, section 5.6).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// Mean absolute error of the reconstruction.
    pub reconstruction: f64,
    /// The quantizer's own term of the decoded level.
    pub codebook: f64,
    /// The same of the side levels, each.
    pub side_codebook: f64,
    /// Alignment of words, phrases and sentences; 0 leaves a level out.
    pub alignment: [f64; 3],
    /// Where the alignment's gradient goes.
    pub gradient: Gradient,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { reconstruction: 1.0, codebook: 1.0, side_codebook: 1.0, alignment: [1.0; 3], gradient: Gradient::Both }
    }
}

/// Where the gradient of the alignment goes (method page, section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gradient {
    /// Into the encoder, straight through the quantizer.
    Encoder,
    /// Into the rows of the codebook.
    Codebook,
    /// Into both.
    Both,
    /// Into neither: only the maps to the text space learn, so that retrieval reads what plain codes hold.
    Map,
}

impl Config {
    /// Reads a configuration: `text` (from `origin`, for messages) with `sets` (`key.path=value`) on top.
    pub fn resolve(text: &str, origin: &str, sets: &[String]) -> Result<Self> {
        let refuse = |path: &str, message: String| TrainError::Config {
            origin: origin.to_owned(),
            path: path.to_owned(),
            message,
        };
        let mut table: toml::Table =
            text.parse().map_err(|e: toml::de::Error| refuse("not TOML", one_line(&e.to_string())))?;
        for set in sets {
            apply_set(&mut table, set)?;
        }
        let config: Config = serde_path_to_error::deserialize(table).map_err(|e| {
            let path = e.path().to_string();
            refuse(&path, one_line(&e.into_inner().to_string()))
        })?;
        config.check().map_err(|(path, message)| refuse(&path, message))?;
        Ok(config)
    }

    /// Reads a file.
    pub fn open(path: &Path, sets: &[String]) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|source| TrainError::Io { path: path.to_path_buf(), source })?;
        Self::resolve(&text, &path.display().to_string(), sets)
    }

    /// The resolved configuration as TOML; reading it back gives the same.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| TrainError::Config {
            origin: "resolved".into(),
            path: "configuration".into(),
            message: e.to_string(),
        })
    }

    fn check(&self) -> std::result::Result<(), (String, String)> {
        let bad = |path: &str, message: &str| Err((path.to_owned(), message.to_owned()));
        let run = &self.run;
        if run.steps == 0 {
            return bad("run.steps", "expected at least 1, found 0");
        }
        if run.log_every == 0 || run.checkpoint_every == 0 || run.keep == 0 {
            return bad("run.log_every, run.checkpoint_every, run.keep", "expected at least 1, found 0");
        }
        if self.data.batch_size == 0 {
            return bad("data.batch_size", "expected at least 1, found 0");
        }
        if self.text.max_units.contains(&0) {
            return bad("text.max_units", "expected at least 1 of each, found 0");
        }
        let loss = &self.loss;
        let weights = [
            ("reconstruction", loss.reconstruction),
            ("codebook", loss.codebook),
            ("side_codebook", loss.side_codebook),
            ("alignment[0]", loss.alignment[0]),
            ("alignment[1]", loss.alignment[1]),
            ("alignment[2]", loss.alignment[2]),
        ];
        if let Some((key, found)) = weights.into_iter().find(|(_, w)| !(w.is_finite() && *w >= 0.0)) {
            return bad(&format!("loss.{key}"), &format!("expected a finite number of at least 0, found {found}"));
        }
        if !(0..=MOST_THREADS).contains(&run.threads) {
            return bad("run.threads", &format!("expected 0 to {MOST_THREADS}, found {}", run.threads));
        }
        match self.data.transform.check() {
            Ok(()) => {}
            Err(tavq_data::DataError::Config { field, expected, found }) => {
                return bad(&format!("data.{field}"), &format!("expected {expected}, found {found}"));
            }
            Err(e) => return bad("data.transform", &e.to_string()),
        }
        self.optimizer.check().map_err(|(field, message)| (format!("optimizer.{field}"), message))?;
        self.align.check("align").map_err(|e| ("align".to_owned(), e.to_string()))?;
        device(&run.device)
            .map(|_| ())
            .ok_or_else(|| ("run.device".to_owned(), format!("expected cpu, cuda or cuda:N, found \"{}\"", run.device)))
    }
}

/// More threads than any machine has cores.
const MOST_THREADS: i32 = 4096;

/// The device that a name stands for.
pub fn device(name: &str) -> Option<tch::Device> {
    match name {
        "cpu" => Some(tch::Device::Cpu),
        "cuda" => Some(tch::Device::Cuda(0)),
        _ => name.strip_prefix("cuda:")?.parse().ok().map(tch::Device::Cuda),
    }
}

fn apply_set(table: &mut toml::Table, set: &str) -> Result<()> {
    let refuse = |path: &str, message: String| {
        Err(TrainError::Config { origin: "--set".into(), path: path.to_owned(), message })
    };
    let Some((path, value)) = set.split_once('=') else {
        return refuse(set, "expected key.path=value".into());
    };
    let (path, value) = (path.trim(), value.trim());
    // A bare word that is no TOML value is meant as a string, as on any command line.
    let value = format!("v = {value}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().unwrap_or_default();
    if last.is_empty() || keys.iter().any(|k| k.is_empty()) {
        return refuse(path, "expected key.path=value".into());
    }
    let mut at = table;
    for key in keys {
        let next = at.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        match next {
            toml::Value::Table(inner) => at = inner,
            other => return refuse(path, format!("{key} is a {}, not a table", other.type_str())),
        }
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_win_over_the_file_and_the_file_over_defaults() {
        let c = Config::resolve(
            "[run]\nsteps = 5\nseed = 3\n",
            "c.toml",
            &["run.steps=7".into(), "run.device=cuda:1".into()],
        )
        .unwrap();
        assert_eq!((c.run.steps, c.run.seed, c.run.keep), (7, 3, 2));
        assert_eq!(c.run.device, "cuda:1");
        let again = Config::resolve(&c.to_toml().unwrap(), "saved", &[]).unwrap();
        assert_eq!(again.to_toml().unwrap(), c.to_toml().unwrap());
    }

    /// docs/configuration.md lists every key with its default.
    #[test]
    fn the_documentation_lists_every_key_and_its_default() {
        fn rows(table: &toml::Table, prefix: &str, out: &mut Vec<String>) {
            for (key, value) in table {
                match value {
                    toml::Value::Table(inner) => rows(inner, &format!("{prefix}{key}."), out),
                    value => out.push(format!("| `{prefix}{key}` | `{value}` |")),
                }
            }
        }
        let mut expected = Vec::new();
        rows(&Config::default().to_toml().unwrap().parse().unwrap(), "", &mut expected);
        let page = include_str!("../../../docs/configuration.md");
        let mut found: Vec<String> = Vec::new();
        for line in page.lines().filter(|l| l.starts_with("| `") && l.contains('.')) {
            found.push(line.split('|').take(3).collect::<Vec<_>>().join("|") + "|");
        }
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_refusal_names_its_place() {
        for (text, set, parts) in [
            ("[optimizer]\nlr = 1", "", vec!["c.toml: optimizer", "lr"]),
            ("[run]\nsteps = \"x\"", "", vec!["c.toml: run.steps", "expected u64"]),
            ("[run", "", vec!["c.toml: not TOML"]),
            ("", "run.stepz=1", vec!["run", "stepz"]),
            ("", "run.steps.x=1", vec!["run.steps"]),
            ("", "steps", vec!["--set", "expected key.path=value"]),
            ("", "run.device=tpu", vec!["run.device", "tpu"]),
            ("", "optimizer.betas=[0.5,1.0]", vec!["optimizer.betas", "found 1"]),
            ("", "run.steps=0", vec!["run.steps"]),
        ] {
            let sets: Vec<String> = if set.is_empty() { vec![] } else { vec![set.into()] };
            let e = Config::resolve(text, "c.toml", &sets).unwrap_err().to_string();
            for part in parts {
                assert!(e.contains(part), "{e} should speak of {part}");
            }
            assert!(!e.contains('\n'), "{e}");
        }
    }
}
