//! A transformer encoder and decoder over patches, in the manner of ViT-VQGAN (Yu et al. 2022, "Vector-quantized image
//! modeling with improved VQGAN"): the family without convolutions, which shows that nothing around it needs them.
//!
//! Ours: positions are fixed sines, so images need not be square nor of one size; the head's last layer and the
//! projection to the codes' width are one layer. A plain ViT has one stride, so the side levels differ in depth and all
//! three levels have the patch's stride.

mod block;
mod config;

pub use config::{Head, VitConfig};

use tavq_quant::{Backbone, LevelShape, Quantize, Result};
use tavq_torch::check_shape;
use tch::{Tensor, nn};

use crate::layers::Conv;
use crate::taps::{Pass, Taps, as_it_is, check_images};
use block::{Block, Linear, Norm, positions};

/// Blocks, a normalisation and the head.
#[derive(Debug)]
struct Trunk {
    blocks: Vec<Block>,
    norm: Norm,
    head: Vec<Linear>,
}

impl Trunk {
    fn new(path: &nn::Path<'_>, config: &VitConfig, to: i64) -> Result<Self> {
        let block = |i| Block::new(&path.sub("block").sub(i), config.width, config.heads, config.mlp);
        let blocks = (0..config.depth).map(block).collect::<Result<_>>()?;
        let norm = Norm::new(&path.sub("norm"), config.width)?;
        let widths = match config.head {
            Head::Tanh => vec![config.width, config.mlp, to],
            Head::Linear => vec![config.width, to],
        };
        let layer = |(i, w): (usize, &[i64])| Linear::new(&path.sub("head").sub(i), w[0], w[1]);
        Ok(Self { blocks, norm, head: widths.windows(2).enumerate().map(layer).collect::<Result<_>>()? })
    }

    fn finish(&self, tokens: &Tensor) -> Result<Tensor> {
        let mut h = self.norm.forward(tokens)?;
        for (i, layer) in self.head.iter().enumerate() {
            h = layer.forward(&if i == 0 { h } else { h.f_tanh()? })?;
        }
        Ok(h)
    }
}

/// `[B, C, h, w]` to tokens `[B, h w, C]`.
fn to_tokens(grid: &Tensor) -> Result<Tensor> {
    Ok(grid.f_flatten(2, 3)?.f_transpose(1, 2)?)
}

/// Tokens `[B, h w, C]` to `[B, C, h, w]`.
fn to_grid(tokens: &Tensor, (h, w): (i64, i64)) -> Result<Tensor> {
    Ok(tokens.f_transpose(1, 2)?.f_unflatten(2, [h, w])?)
}

/// Encoder and decoder. Variables: `encoder.patch`, `decoder.in`, on either side `block.{i}.{norm1, qkv, proj, norm2,
/// fc1, fc2}`, `norm` and `head.{i}`, and of the side levels `taps.{i}` and `cascade.{i}`.
#[derive(Debug)]
pub struct Vit {
    config: VitConfig,
    patch: Conv,
    encoder: Trunk,
    entry: Linear,
    decoder: Trunk,
    taps: Taps,
    levels: Vec<LevelShape>,
}

impl Vit {
    /// A model with random weights from libtorch's generator, which the caller seeds. The plain part is the same
    /// with and without side levels.
    pub fn new(path: &nn::Path<'_>, config: &VitConfig) -> Result<Self> {
        config.check()?;
        let (encoder, decoder) = (path.sub("encoder"), path.sub("decoder"));
        let patch = Conv::new(&encoder.sub("patch"), config.in_channels, config.width, config.patch, config.patch, 0)?;
        let features: Vec<_> = config.tapped_blocks()?.into_iter().map(|block| (block, config.width)).collect();
        Ok(Self {
            patch,
            encoder: Trunk::new(&encoder, config, config.embed_dim)?,
            entry: Linear::new(&decoder.sub("in"), config.embed_dim, config.width)?,
            decoder: Trunk::new(&decoder, config, config.in_channels * config.patch * config.patch)?,
            taps: Taps::new(path, &features, config.embed_dim, config.wiring)?,
            levels: config.level_shapes(),
            config: config.clone(),
        })
    }

    fn add_positions(&self, tokens: &Tensor, (h, w): (i64, i64)) -> Result<Tensor> {
        let places = positions(h, w, self.config.width, tokens.device())?;
        Ok(tokens.f_add(&places.f_to_kind(tokens.kind())?)?)
    }
}

impl Backbone for Vit {
    fn levels(&self) -> &[LevelShape] {
        &self.levels
    }

    fn encode(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        self.encode_through(images, train, &mut as_it_is)
    }

    fn encode_through(&self, images: &Tensor, _train: bool, quantize: &mut Quantize<'_>) -> Result<Vec<Tensor>> {
        check_images(images, self.config.in_channels, &self.levels)?;
        let mut pass = Pass::new(quantize);
        let grid = self.patch.forward(images)?;
        let size = (grid.size()[2], grid.size()[3]);
        let mut h = self.add_positions(&to_tokens(&grid)?, size)?;
        for (i, block) in self.encoder.blocks.iter().enumerate() {
            h = block.forward(&h)?;
            if self.taps.read(i + 1) {
                h = to_tokens(&self.taps.pass(i + 1, to_grid(&h, size)?, &mut pass)?)?;
            }
        }
        pass.finish(to_grid(&self.encoder.finish(&h)?, size)?)
    }

    fn decode(&self, latent: &Tensor, _train: bool) -> Result<Tensor> {
        check_shape("latent", latent, &[-1, self.config.embed_dim, -1, -1])?;
        let size = (latent.size()[2], latent.size()[3]);
        let mut h = self.add_positions(&self.entry.forward(&to_tokens(latent)?)?, size)?;
        for block in &self.decoder.blocks {
            h = block.forward(&h)?;
        }
        Ok(to_grid(&self.decoder.finish(&h)?, size)?.f_pixel_shuffle(self.config.patch)?)
    }
}
