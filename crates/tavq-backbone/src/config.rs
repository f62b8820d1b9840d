//! The backbones by name.

use serde::{Deserialize, Serialize};
use tavq_quant::{Backbone, Result};
use tch::nn;

use crate::{Vit, VitConfig, Vqgan, VqganConfig, Vqvae, VqvaeConfig};

/// A backbone's configuration, told apart by `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum BackboneConfig {
    /// taming-transformers' convolutional network with attention.
    Vqgan(VqganConfig),
    /// The residual VQ-VAE.
    Vqvae(VqvaeConfig),
    /// The transformer over patches.
    Vit(VitConfig),
}

impl BackboneConfig {
    /// Checks ranges; the error names the field.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Vqgan(config) => config.check(),
            Self::Vqvae(config) => config.check(),
            Self::Vit(config) => config.check(),
        }
    }

    /// Builds the backbone; its variables live under `path`. Weights start at random from libtorch's generator,
    /// which the caller seeds.
    pub fn build(&self, path: &nn::Path<'_>) -> Result<Box<dyn Backbone>> {
        Ok(match self {
            Self::Vqgan(config) => Box::new(Vqgan::new(path, config)?),
            Self::Vqvae(config) => Box::new(Vqvae::new(path, config)?),
            Self::Vit(config) => Box::new(Vit::new(path, config)?),
        })
    }
}
