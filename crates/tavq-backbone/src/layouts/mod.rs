//! The checkpoint layouts of other codebases: taming-transformers, diffusers, LlamaGen.
//!
//! All three hold the network of [`crate::Vqgan`] under other names, in other shapes and beside another configuration.
//! This module is about names, shapes and configurations only; files and values are the caller's. Each rule exists once
//! and serves both directions, so that there and back gives the same names.

mod diffusers;
mod fit;
mod llamagen;
mod names;
mod read;
mod size;
mod taming;

pub use fit::{Ignored, Plan, Row, codebook_of, plan};

use serde_json::Value;

use crate::VqganConfig;

/// A layout of another codebase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// taming-transformers and the first stage of latent-diffusion.
    Taming,
    /// `VQModel` of diffusers.
    Diffusers,
    /// The image tokenizers VQ-8 and VQ-16 of LlamaGen.
    LlamaGen,
}

/// Kind of a codebook, as the tensors of a checkpoint tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codebook {
    /// A table of codes.
    Table,
    /// A table with its moving averages.
    Averages,
    /// Logits over the codes by a 1x1 convolution.
    Gumbel,
}

/// A model as another codebase configures it.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The network, with one level.
    pub backbone: VqganConfig,
    /// Number of codes K.
    pub codes: i64,
    /// Weight of the term that `legacy` names.
    pub beta: f64,
    /// Whether `beta` weighs the codebook's term, as in taming-transformers and diffusers, or the commitment's.
    pub legacy: bool,
    /// Whether vectors and codes are compared at length 1, and the decoder sees codes of length 1.
    pub normalize: bool,
}

/// A configuration or a set of tensors that does not fit.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A configuration key was refused.
    #[error("{field}: expected {expected}, found {found}")]
    Config {
        /// Path of the key.
        field: String,
        /// The allowed values.
        expected: String,
        /// The value given.
        found: String,
    },
    /// A configuration could not be read.
    #[error("{field}: {message}")]
    Read {
        /// Path of the key.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// Tensors are missing, superfluous or of another shape; all of them are listed.
    #[error("{} tensors do not fit: {}", problems.len(), tavq_torch::listed(problems))]
    Tensors {
        /// One entry for each tensor.
        problems: Vec<String>,
    },
    /// Several models in one file.
    #[error("expected one model, found several: under {}; --prefix names one", prefixes.join(", "))]
    Several {
        /// What stands before the names of each.
        prefixes: Vec<String>,
    },
    /// The network's own check.
    #[error(transparent)]
    Network(#[from] tavq_quant::QuantError),
}

impl Published {
    /// The codebook's loss, where a layout writes down another one: taming and diffusers know the legacy form with a beta of
    /// 0.25, LlamaGen the standard one.
    pub fn loss_lost(&self, layout: Layout) -> Option<String> {
        let said = match layout {
            Layout::LlamaGen => !self.legacy,
            Layout::Taming | Layout::Diffusers => self.legacy && self.beta == 0.25,
        };
        let form = if self.legacy { "legacy" } else { "standard" };
        (!said).then(|| format!("form {form}, beta {}", self.beta))
    }
}

impl LayoutError {
    pub(crate) fn config(field: &str, expected: impl Into<String>, found: impl std::fmt::Display) -> Self {
        Self::Config { field: field.to_owned(), expected: expected.into(), found: found.to_string() }
    }
}

impl Layout {
    /// Name of the layout, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Taming => "taming",
            Self::Diffusers => "diffusers",
            Self::LlamaGen => "llamagen",
        }
    }

    /// Reads a configuration of this layout.
    pub fn read_config(self, value: &Value) -> Result<Published, LayoutError> {
        let published = match self {
            Self::Taming => taming::read(value),
            Self::Diffusers => diffusers::read(value),
            Self::LlamaGen => llamagen::read(value),
        }?;
        published.backbone.check()?;
        if published.codes < 1 {
            return Err(LayoutError::config("number of codes", "at least 1", published.codes));
        }
        Ok(published)
    }

    /// A configuration that comes with the other codebase as code, by its name: `vq-8` and `vq-16` of LlamaGen.
    pub fn named_config(self, name: &str) -> Option<Published> {
        if self == Self::LlamaGen { llamagen::named(name) } else { None }
    }

    /// The configuration as the other codebase reads it, as text: YAML for taming, JSON for the others.
    ///
    /// Refuses what the layout cannot say, with one line about the first such thing.
    pub fn write_config(self, published: &Published, kind: Codebook) -> Result<String, LayoutError> {
        if kind != Codebook::Table && self != Self::Taming {
            let expected = format!("a plain table, all that the layout {} has", self.name());
            return Err(LayoutError::config("codebook", expected, format!("{kind:?}")));
        }
        match self {
            Self::Taming => taming::write(published, kind),
            Self::Diffusers => diffusers::write(published),
            Self::LlamaGen => llamagen::write(published),
        }
    }

    /// Name of one of our variables in this layout. `stages`: of the network.
    pub fn name_of(self, ours: &str, stages: usize) -> String {
        names::name_of(self, ours, stages)
    }

    /// Shape of one of our variables in this layout.
    pub fn shape_of(self, ours: &str, shape: &[i64]) -> Vec<i64> {
        names::shape_of(self, ours, shape)
    }
}

impl Published {
    /// Number of stages of the network.
    pub fn stages(&self) -> usize {
        self.backbone.stages()
    }

    /// Whether latent-diffusion has the network and taming-transformers has not; the former knows no codebook but a table.
    pub fn beyond_taming(&self) -> bool {
        !self.backbone.mid_attention || self.backbone.tanh_out
    }

    /// Number of values of the model, codebook included, without building it.
    pub fn values(&self) -> f64 {
        size::values(self)
    }
}
