//! Backbones and quantizers by name. The trainer builds what a configuration names and sees only the traits.

use std::collections::BTreeMap;

use tavq_quant::{Backbone, QuantError, Quantizer};
use tch::nn;

use crate::config::one_line;
use crate::{Result, TrainError};

/// Builds a backbone on `path` from its configuration table (`kind` removed).
pub type BackboneBuilder = fn(&nn::Path<'_>, toml::Table) -> Result<Box<dyn Backbone>>;
/// Builds a quantizer of vectors of the given width on `path` from its configuration table (`kind` removed).
pub type QuantizerBuilder = fn(&nn::Path<'_>, toml::Table, i64) -> Result<Box<dyn Quantizer>>;

/// The names that a configuration may use.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    backbones: BTreeMap<&'static str, BackboneBuilder>,
    quantizers: BTreeMap<&'static str, QuantizerBuilder>,
}

impl Registry {
    /// Adds a backbone; a later one of the same name replaces it.
    pub fn backbone(mut self, kind: &'static str, build: BackboneBuilder) -> Self {
        self.backbones.insert(kind, build);
        self
    }

    /// Adds a quantizer; a later one of the same name replaces it.
    pub fn quantizer(mut self, kind: &'static str, build: QuantizerBuilder) -> Self {
        self.quantizers.insert(kind, build);
        self
    }

    pub(crate) fn build_backbone(&self, path: &nn::Path<'_>, table: &toml::Table) -> Result<Box<dyn Backbone>> {
        let (build, table) = choose("model.backbone", &self.backbones, table)?;
        build(path, table).map_err(in_model)
    }

    pub(crate) fn build_quantizer(
        &self,
        path: &nn::Path<'_>,
        table: &toml::Table,
        dim: i64,
    ) -> Result<Box<dyn Quantizer>> {
        let (build, table) = choose("model.quantizer", &self.quantizers, table)?;
        build(path, table, dim).map_err(in_model)
    }
}

/// A value that a builder refused, under its path in the whole configuration.
fn in_model(error: TrainError) -> TrainError {
    match error {
        TrainError::Quant(QuantError::Config { field, expected, found }) => {
            TrainError::Quant(QuantError::Config { field: format!("model.{field}"), expected, found })
        }
        other => other,
    }
}

fn choose<B: Copy>(field: &str, known: &BTreeMap<&'static str, B>, table: &toml::Table) -> Result<(B, toml::Table)> {
    let mut table = table.clone();
    let kind = match table.remove("kind") {
        Some(toml::Value::String(kind)) => kind,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    match known.get(kind.as_str()) {
        Some(build) => Ok((*build, table)),
        None => Err(TrainError::Unknown {
            field: format!("{field}.kind"),
            found: kind,
            known: known.keys().copied().collect::<Vec<_>>().join(", "),
        }),
    }
}

/// Reads a builder's own table; an unknown key or a wrong type is an error with its path under `field`.
pub fn parse_table<T: serde::de::DeserializeOwned>(field: &str, table: toml::Table) -> Result<T> {
    serde_path_to_error::deserialize(table).map_err(|e| {
        let inner = e.path().to_string();
        let path = if inner == "." { field.to_owned() } else { format!("{field}.{inner}") };
        TrainError::Config { origin: "configuration".into(), path, message: one_line(&e.into_inner().to_string()) }
    })
}
