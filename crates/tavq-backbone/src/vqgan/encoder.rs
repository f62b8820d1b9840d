//! The encoder: stages of residual blocks, each but the last followed by a halving, then the middle.

use tavq_quant::Result;
use tch::{Tensor, nn};

use super::VqganConfig;
use crate::layers::{Attention, Conv, Norm, Resample, ResnetBlock};
use crate::taps::{Pass, Taps};

/// Residual blocks, each followed by attention where the stage attends.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) blocks: Vec<(ResnetBlock, Option<Attention>)>,
}

impl Stage {
    /// Stage `i` of a model, from vectors of width `from`.
    pub(super) fn new(path: &nn::Path<'_>, config: &VqganConfig, i: usize, from: i64, count: i64) -> Result<Self> {
        let (to, groups) = (config.width(i), config.norm_num_groups);
        let blocks = (0..count)
            .map(|j| {
                let from = if j == 0 { from } else { to };
                let block = ResnetBlock::new(&path.sub("block").sub(j), from, to, groups, config.dropout)?;
                let attention = match config.attends(i) {
                    true => Some(Attention::new(&path.sub("attn").sub(j), to, groups)?),
                    false => None,
                };
                Ok((block, attention))
            })
            .collect::<Result<_>>()?;
        Ok(Self { blocks })
    }

    pub(super) fn forward(&self, x: Tensor, train: bool) -> Result<Tensor> {
        let mut h = x;
        for (block, attention) in &self.blocks {
            h = block.forward(&h, train)?;
            if let Some(attention) = attention {
                h = attention.forward(&h)?;
            }
        }
        Ok(h)
    }
}

/// Residual block, attention where the model has it, residual block at the coarsest size.
#[derive(Debug)]
pub(super) struct Middle {
    block_1: ResnetBlock,
    attn_1: Option<Attention>,
    block_2: ResnetBlock,
}

impl Middle {
    pub(super) fn new(path: &nn::Path<'_>, width: i64, config: &VqganConfig) -> Result<Self> {
        let groups = config.norm_num_groups;
        let block = |name: &str| ResnetBlock::new(&path.sub(name), width, width, groups, config.dropout);
        let block_1 = block("block_1")?;
        let attn_1 = match config.mid_attention {
            true => Some(Attention::new(&path.sub("attn_1"), width, groups)?),
            false => None,
        };
        Ok(Self { block_1, attn_1, block_2: block("block_2")? })
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let mut h = self.block_1.forward(x, train)?;
        if let Some(attention) = &self.attn_1 {
            h = attention.forward(&h)?;
        }
        self.block_2.forward(&h, train)
    }
}

#[derive(Debug)]
pub(super) struct Encoder {
    conv_in: Conv,
    down: Vec<(Stage, Option<Resample>)>,
    mid: Middle,
    norm_out: Norm,
    conv_out: Conv,
}

impl Encoder {
    pub(super) fn new(path: &nn::Path<'_>, config: &VqganConfig) -> Result<Self> {
        let conv_in = Conv::same(&path.sub("conv_in"), config.in_channels, config.ch)?;
        let mut from = config.ch;
        let mut down = Vec::new();
        for i in 0..config.stages() {
            let path = path.sub("down").sub(i);
            let to = config.width(i);
            let stage = Stage::new(&path, config, i, from, config.num_res_blocks)?;
            let last = i + 1 == config.stages();
            let convolves = config.resamp_with_conv;
            let halve = if last { None } else { Some(Resample::halving(&path.sub("downsample"), to, convolves)?) };
            down.push((stage, halve));
            from = to;
        }
        Ok(Self {
            conv_in,
            down,
            mid: Middle::new(&path.sub("mid"), from, config)?,
            norm_out: Norm::new(&path.sub("norm_out"), from, config.norm_num_groups)?,
            conv_out: Conv::same(&path.sub("conv_out"), from, config.z_channels)?,
        })
    }

    /// The latent before `quant_conv`; side levels are quantized on the way.
    pub(super) fn forward(&self, images: &Tensor, train: bool, taps: &Taps, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let mut h = self.conv_in.forward(images)?;
        for (i, (stage, halve)) in self.down.iter().enumerate() {
            h = taps.pass(i, stage.forward(h, train)?, pass)?;
            if let Some(halve) = halve {
                h = halve.halve(&h)?;
            }
        }
        let h = self.mid.forward(&h, train)?;
        self.conv_out.forward(&self.norm_out.swish(&h)?)
    }
}
