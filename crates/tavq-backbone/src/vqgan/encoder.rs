//! The encoder: stages of residual blocks, each but the last followed by a halving, then the middle.

use tavq_quant::Result;
use tch::{Tensor, nn};

use super::VqganConfig;
use crate::layers::{Attention, Conv, Norm, ResnetBlock};
use crate::taps::{Pass, Taps};

/// Residual blocks, each followed by attention where the stage attends.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) blocks: Vec<(ResnetBlock, Option<Attention>)>,
}

impl Stage {
    pub(super) fn new(
        path: &nn::Path<'_>,
        count: i64,
        from: i64,
        to: i64,
        attends: bool,
        dropout: f64,
    ) -> Result<Self> {
        let blocks = (0..count)
            .map(|i| {
                let from = if i == 0 { from } else { to };
                let block = ResnetBlock::new(&path.sub("block").sub(i), from, to, dropout)?;
                let attention = if attends { Some(Attention::new(&path.sub("attn").sub(i), to)?) } else { None };
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

/// Residual block, attention, residual block at the coarsest size.
#[derive(Debug)]
pub(super) struct Middle {
    block_1: ResnetBlock,
    attn_1: Attention,
    block_2: ResnetBlock,
}

impl Middle {
    pub(super) fn new(path: &nn::Path<'_>, width: i64, dropout: f64) -> Result<Self> {
        Ok(Self {
            block_1: ResnetBlock::new(&path.sub("block_1"), width, width, dropout)?,
            attn_1: Attention::new(&path.sub("attn_1"), width)?,
            block_2: ResnetBlock::new(&path.sub("block_2"), width, width, dropout)?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        let h = self.attn_1.forward(&self.block_1.forward(x, train)?)?;
        self.block_2.forward(&h, train)
    }
}

#[derive(Debug)]
pub(super) struct Encoder {
    conv_in: Conv,
    down: Vec<(Stage, Option<Conv>)>,
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
            let stage = Stage::new(&path, config.num_res_blocks, from, to, config.attends(i), config.dropout)?;
            let last = i + 1 == config.stages();
            let halve =
                if last { None } else { Some(Conv::new(&path.sub("downsample").sub("conv"), to, to, 3, 2, 0)?) };
            down.push((stage, halve));
            from = to;
        }
        Ok(Self {
            conv_in,
            down,
            mid: Middle::new(&path.sub("mid"), from, config.dropout)?,
            norm_out: Norm::new(&path.sub("norm_out"), from)?,
            conv_out: Conv::same(&path.sub("conv_out"), from, config.z_channels)?,
        })
    }

    /// The latent before `quant_conv`; side levels are quantized on the way.
    pub(super) fn forward(&self, images: &Tensor, train: bool, taps: &Taps, pass: &mut Pass<'_, '_>) -> Result<Tensor> {
        let mut h = self.conv_in.forward(images)?;
        for (i, (stage, halve)) in self.down.iter().enumerate() {
            h = taps.pass(i, stage.forward(h, train)?, pass)?;
            if let Some(halve) = halve {
                // One row and column of zeros at the right and bottom only.
                h = halve.forward(&h.f_constant_pad_nd([0, 1, 0, 1])?)?;
            }
        }
        let h = self.mid.forward(&h, train)?;
        self.conv_out.forward(&self.norm_out.swish(&h)?)
    }
}
