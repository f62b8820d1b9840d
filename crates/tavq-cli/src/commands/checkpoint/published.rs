//! A configuration of tavq for a published model, and back.

use std::path::Path;

use anyhow::{Context, anyhow};
use tavq_backbone::BackboneConfig;
use tavq_backbone::layouts::{Codebook, Layout, LayoutError, Published};
use tavq_quant::{Distance, Form, QuantizerConfig};
use tavq_train::{Config, parse_table};

use crate::failure::{Failure, Outcome, reading};

/// Longest configuration file that is read.
const LONGEST: u64 = 1 << 20;

impl From<LayoutError> for Failure {
    fn from(error: LayoutError) -> Self {
        Self::Input(error.into())
    }
}

/// Reads a configuration of `layout`: one that it has by name, or a file in JSON (by its ending) or YAML.
pub(super) fn read(layout: Layout, config: &Path) -> Outcome<Published> {
    if let Some(published) = config.to_str().and_then(|name| layout.named_config(name)) {
        return Ok(published);
    }
    if layout == Layout::LlamaGen && !config.exists() {
        return Err(Failure::input(anyhow!(
            "--config: expected vq-8, vq-16 or a YAML or JSON file, found no {}",
            config.display()
        )));
    }
    let meta = std::fs::metadata(config).map_err(reading(config))?;
    if meta.len() > LONGEST {
        let found = meta.len();
        return Err(Failure::input(anyhow!(
            "{}: expected a YAML or JSON configuration of at most {LONGEST} bytes, found {found}",
            config.display()
        )));
    }
    let text = crate::session::read_text(config)?;
    let place = || config.display().to_string();
    let value: serde_json::Value = if config.extension().is_some_and(|e| e == "json") {
        serde_json::from_str(&text).with_context(place).map_err(Failure::Input)?
    } else {
        // Without the excerpt of the file, which takes many lines.
        let parsed = serde_saphyr::from_str(&text).map_err(|e| anyhow!("{}: {}", place(), e.without_snippet()));
        parsed.map_err(Failure::Input)?
    };
    layout.read_config(&value).with_context(place).map_err(Failure::Input)
}

/// The configuration of tavq that builds a published model: one level, no text.
pub(super) fn to_config(published: &Published, kind: Codebook) -> Outcome<Config> {
    let mut config = Config::default();
    let backbone = BackboneConfig::Vqgan(published.backbone.clone());
    config.model.backbone = toml::Table::try_from(backbone).map_err(Failure::work)?;
    let table = &mut config.model.quantizer;
    let name = match kind {
        Codebook::Table => "vq",
        Codebook::Averages => "ema",
        Codebook::Gumbel => "gumbel",
    };
    table.insert("kind".into(), name.into());
    table.insert("codes".into(), published.codes.into());
    if kind == Codebook::Table {
        table.insert("beta".into(), published.beta.into());
        table.insert("form".into(), if published.legacy { "legacy" } else { "standard" }.into());
    }
    if published.normalize {
        table.insert("normalize".into(), true.into());
    }
    config.loss.alignment = [0.0; 3];
    if let Ok(size) = u32::try_from(published.backbone.resolution) {
        config.data.transform.size = size.clamp(1, 8192);
    }
    Ok(config)
}

/// A model of tavq as other codebases see it.
pub(super) struct Plain {
    pub(super) published: Published,
    pub(super) kind: Codebook,
    /// The decoder sees other codes than those in `embedding.weight`.
    pub(super) projected: bool,
    /// Codes are found by the cosine, which no other codebase does.
    pub(super) cosine: bool,
}

/// What of a configuration other codebases have a word for; refuses a network or codebook that they do not have.
pub(super) fn of_config(config: &Config, codes: i64) -> Outcome<Plain> {
    let refuse = |key: &str, expected: &str, found: &str| {
        Err(Failure::input(anyhow!(
            "model.{key}.kind: expected {expected} (all that other layouts have), found {found}"
        )))
    };
    let kind = |table: &toml::Table| table.get("kind").and_then(toml::Value::as_str).unwrap_or("none").to_owned();
    let network = kind(&config.model.backbone);
    if network != "vqgan" {
        return refuse("backbone", "vqgan", &network);
    }
    // A cascade quantizes side levels on the way to the decoded one, which no other codebase does.
    let wiring = config.model.backbone.get("wiring").and_then(toml::Value::as_str).unwrap_or("taps");
    if wiring != "taps" {
        return Err(Failure::input(anyhow!(
            "model.backbone.wiring: expected taps (side levels that other layouts can do without), found {wiring}"
        )));
    }
    let BackboneConfig::Vqgan(mut backbone) = parse_table("model.backbone", config.model.backbone.clone())? else {
        return refuse("backbone", "vqgan", &network);
    };
    // Side levels are no part of other layouts.
    (backbone.levels, backbone.tap_strides) = (1, Vec::new());
    let name = kind(&config.model.quantizer);
    let (kind, beta, form, distance, normalize) = match parse_table("model.quantizer", config.model.quantizer.clone())?
    {
        QuantizerConfig::Vq(c) => (Codebook::Table, c.beta, c.form, c.distance, c.normalize),
        QuantizerConfig::Cvq(c) => (Codebook::Table, c.beta, Form::Standard, c.distance, false),
        QuantizerConfig::Ema(c) => (Codebook::Averages, c.beta, Form::Standard, c.distance, c.normalize),
        QuantizerConfig::SimVq(c) => (Codebook::Table, c.beta, c.form, c.distance, false),
        QuantizerConfig::Gumbel(_) => (Codebook::Gumbel, 0.0, Form::Legacy, Distance::SquaredL2, false),
        _ => return refuse("quantizer", "vq, ema, cvq, simvq or gumbel", &name),
    };
    let published = Published { backbone, codes, beta, legacy: form == Form::Legacy, normalize };
    let cosine = distance == Distance::Cosine && !normalize;
    Ok(Plain { published, kind, projected: name == "simvq", cosine })
}
