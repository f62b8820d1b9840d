//! The VQGAN of taming-transformers (Esser, Rombach, Ommer 2021) with optional side levels.

mod config;
mod decoder;
mod encoder;

pub use config::VqganConfig;

use tavq_quant::{Backbone, LevelShape, Quantize, Result};
use tavq_torch::check_shape;
use tch::{Tensor, nn};

use crate::layers::Conv;
use crate::taps::{Pass, Taps, as_it_is, check_images};
use decoder::Decoder;
use encoder::Encoder;

/// Encoder, decoder and the two convolutions around the codebook. Variables: `encoder`, `decoder`, `quant_conv`,
/// `post_quant_conv` as in taming-transformers, and of the side levels `taps.{i}` and `cascade.{i}`.
#[derive(Debug)]
pub struct Vqgan {
    in_channels: i64,
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Conv,
    post_quant_conv: Conv,
    taps: Taps,
    levels: Vec<LevelShape>,
}

impl Vqgan {
    /// A model with random weights from libtorch's generator, which the caller seeds. The plain part is the same
    /// with and without side levels.
    pub fn new(path: &nn::Path<'_>, config: &VqganConfig) -> Result<Self> {
        config.check()?;
        let encoder = Encoder::new(&path.sub("encoder"), config)?;
        let decoder = Decoder::new(&path.sub("decoder"), config)?;
        let quant_conv = Conv::point(&path.sub("quant_conv"), config.z_channels, config.embed_dim)?;
        let post_quant_conv = Conv::point(&path.sub("post_quant_conv"), config.embed_dim, config.z_channels)?;
        let features: Vec<_> = config.tapped_stages()?.into_iter().map(|s| (s, config.width(s))).collect();
        let taps = Taps::new(path, &features, config.embed_dim, config.wiring)?;
        let levels = config.level_shapes()?;
        Ok(Self { in_channels: config.in_channels, encoder, decoder, quant_conv, post_quant_conv, taps, levels })
    }
}

impl Backbone for Vqgan {
    fn levels(&self) -> &[LevelShape] {
        &self.levels
    }

    fn encode(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        self.encode_through(images, train, &mut as_it_is)
    }

    fn encode_through(&self, images: &Tensor, train: bool, quantize: &mut Quantize<'_>) -> Result<Vec<Tensor>> {
        check_images(images, self.in_channels, &self.levels)?;
        let mut pass = Pass::new(quantize);
        let z = self.encoder.forward(images, train, &self.taps, &mut pass)?;
        pass.finish(self.quant_conv.forward(&z)?)
    }

    fn decode(&self, latent: &Tensor, train: bool) -> Result<Tensor> {
        let width = self.levels.last().map_or(0, |l| l.channels);
        check_shape("latent", latent, &[-1, width, -1, -1])?;
        self.decoder.forward(&self.post_quant_conv.forward(latent)?, train)
    }
}
