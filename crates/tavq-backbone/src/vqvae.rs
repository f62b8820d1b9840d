//! The residual VQ-VAE (van den Oord et al. 2017, section 4.1): strided 4x4 convolutions, residual blocks at the
//! coarsest size, transposed convolutions back. It has no normalisation and no attention, and does most of its
//! work at the coarsest size, which makes it the fast choice on CPUs.

use serde::{Deserialize, Serialize};
use tavq_quant::{Backbone, LevelShape, QuantError, Quantize, Result};
use tavq_torch::check_shape;
use tch::{Tensor, nn};

use crate::layers::{Conv, Widen};
use crate::taps::{Pass, Taps, Wiring, as_it_is, check_images};

/// `kind = "vqvae"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VqvaeConfig {
    /// Channels of the images.
    pub in_channels: i64,
    /// Width of the coarsest stage; each finer one has half of it, at least 16.
    pub width: i64,
    /// Halvings of the image size.
    pub halvings: i64,
    /// Residual blocks at the coarsest size, in the encoder and in the decoder.
    pub blocks: i64,
    /// Inner width of a residual block.
    pub block_width: i64,
    /// Width of the codes.
    pub embed_dim: i64,
    /// 1: the latent alone; 3: with the two next finer strides (the image itself is none).
    pub levels: usize,
    /// How the side levels are wired into the encoder.
    pub wiring: Wiring,
}

impl Default for VqvaeConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            width: 128,
            halvings: 3,
            blocks: 2,
            block_width: 64,
            embed_dim: 64,
            levels: 3,
            wiring: Wiring::Taps,
        }
    }
}

impl VqvaeConfig {
    /// Checks ranges; the error names the field.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("in_channels", self.in_channels, 1, 1 << 16),
            ("width", self.width, 16, 1 << 16),
            ("halvings", self.halvings, 1, 10),
            ("blocks", self.blocks, 0, 1 << 10),
            ("block_width", self.block_width, 1, 1 << 16),
            ("embed_dim", self.embed_dim, 1, 1 << 16),
        ];
        for (field, value, low, high) in sizes {
            if !(low..=high).contains(&value) {
                return Err(bad(field, &format!("{low} to {high}"), value));
            }
        }
        self.wiring.check(self.levels)?;
        match self.levels {
            1 => Ok(()),
            3 if self.halvings >= 3 => Ok(()),
            3 => Err(bad("halvings", "at least 3 with levels = 3", self.halvings)),
            other => Err(bad("levels", "1 or 3", other)),
        }
    }

    /// Width after `n` halvings.
    fn width_after(&self, n: i64) -> i64 {
        (self.width >> (self.halvings - n)).max(16)
    }
}

fn bad(field: &str, expected: &str, found: impl std::fmt::Display) -> QuantError {
    QuantError::config(&format!("backbone.{field}"), expected, found)
}

/// relu, 3x3, relu, 1x1, added to the input.
#[derive(Debug)]
struct Block {
    inner: Conv,
    outer: Conv,
}

impl Block {
    fn stack(path: &nn::Path<'_>, config: &VqvaeConfig) -> Result<Vec<Self>> {
        let make = |i| {
            let path = path.sub("block").sub(i);
            Ok(Self {
                inner: Conv::same(&path.sub("inner"), config.width, config.block_width)?,
                outer: Conv::point(&path.sub("outer"), config.block_width, config.width)?,
            })
        };
        (0..config.blocks).map(make).collect()
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.inner.forward(&x.f_relu()?)?.f_relu_()?;
        Ok(self.outer.forward(&h)?.f_add_(x)?)
    }
}

/// Encoder and decoder. Variables: `encoder.{down.{i}, conv, block.{i}.{inner, outer}, out}`,
/// `decoder.{in, block.{i}.{inner, outer}, up.{i}}`, and of the side levels `taps.{i}` and `cascade.{i}`.
#[derive(Debug)]
pub struct Vqvae {
    in_channels: i64,
    down: Vec<Conv>,
    conv: Conv,
    encoder_blocks: Vec<Block>,
    conv_out: Conv,
    conv_in: Conv,
    decoder_blocks: Vec<Block>,
    up: Vec<Widen>,
    taps: Taps,
    levels: Vec<LevelShape>,
}

impl Vqvae {
    /// A model with random weights from libtorch's generator, which the caller seeds. The plain part is the same
    /// with and without side levels.
    pub fn new(path: &nn::Path<'_>, config: &VqvaeConfig) -> Result<Self> {
        config.check()?;
        let (encoder, decoder) = (path.sub("encoder"), path.sub("decoder"));
        let n = config.halvings;
        let from = |i: i64| if i == 0 { config.in_channels } else { config.width_after(i) };
        let down = (0..n)
            .map(|i| Conv::new(&encoder.sub("down").sub(i), from(i), config.width_after(i + 1), 4, 2, 1))
            .collect::<Result<_>>()?;
        let conv = Conv::same(&encoder.sub("conv"), config.width, config.width)?;
        let encoder_blocks = Block::stack(&encoder, config)?;
        let conv_out = Conv::point(&encoder.sub("out"), config.width, config.embed_dim)?;
        let conv_in = Conv::same(&decoder.sub("in"), config.embed_dim, config.width)?;
        let decoder_blocks = Block::stack(&decoder, config)?;
        let up = (0..n)
            .rev()
            .map(|i| Widen::new(&decoder.sub("up").sub(i), config.width_after(i + 1), from(i)))
            .collect::<Result<_>>()?;
        let tapped: Vec<i64> = if config.levels == 3 { vec![n - 2, n - 1] } else { Vec::new() };
        let features: Vec<_> = tapped.iter().map(|s| (*s as usize, config.width_after(*s))).collect();
        let taps = Taps::new(path, &features, config.embed_dim, config.wiring)?;
        let levels =
            tapped.into_iter().chain([n]).map(|s| LevelShape { channels: config.embed_dim, stride: 1 << s }).collect();
        let in_channels = config.in_channels;
        Ok(Self { in_channels, down, conv, encoder_blocks, conv_out, conv_in, decoder_blocks, up, taps, levels })
    }
}

impl Backbone for Vqvae {
    fn levels(&self) -> &[LevelShape] {
        &self.levels
    }

    fn encode(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        self.encode_through(images, train, &mut as_it_is)
    }

    fn encode_through(&self, images: &Tensor, _train: bool, quantize: &mut Quantize<'_>) -> Result<Vec<Tensor>> {
        check_images(images, self.in_channels, &self.levels)?;
        let mut pass = Pass::new(quantize);
        let mut h = images.shallow_clone();
        for (i, conv) in self.down.iter().enumerate() {
            h = self.taps.pass(i + 1, conv.forward(&h)?.f_relu_()?, &mut pass)?;
        }
        let mut h = self.conv.forward(&h)?;
        for block in &self.encoder_blocks {
            h = block.forward(&h)?;
        }
        pass.finish(self.conv_out.forward(&h.f_relu_()?)?)
    }

    fn decode(&self, latent: &Tensor, _train: bool) -> Result<Tensor> {
        let width = self.levels.last().map_or(0, |l| l.channels);
        check_shape("latent", latent, &[-1, width, -1, -1])?;
        let mut h = self.conv_in.forward(latent)?;
        for block in &self.decoder_blocks {
            h = block.forward(&h)?;
        }
        for up in &self.up {
            h = up.forward(&h.f_relu_()?)?;
        }
        Ok(h)
    }
}
