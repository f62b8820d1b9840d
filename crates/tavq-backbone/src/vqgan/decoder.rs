//! The decoder: the middle, then stages of residual blocks from the coarsest to the finest, each but the last
//! followed by a doubling. As published, `up.0` is the finest stage although it runs last.

use tavq_quant::Result;
use tch::{Tensor, nn};

use super::VqganConfig;
use super::encoder::{Middle, Stage};
use crate::layers::{Conv, Norm, Resample};

#[derive(Debug)]
pub(super) struct Decoder {
    conv_in: Conv,
    mid: Middle,
    /// In the order they run: coarsest first.
    up: Vec<(Stage, Option<Resample>)>,
    norm_out: Norm,
    conv_out: Conv,
    tanh_out: bool,
}

impl Decoder {
    pub(super) fn new(path: &nn::Path<'_>, config: &VqganConfig) -> Result<Self> {
        let mut from = config.width(config.stages() - 1);
        let conv_in = Conv::same(&path.sub("conv_in"), config.z_channels, from)?;
        let mid = Middle::new(&path.sub("mid"), from, config)?;
        let mut up = Vec::new();
        for i in (0..config.stages()).rev() {
            let path = path.sub("up").sub(i);
            let to = config.width(i);
            let stage = Stage::new(&path, config, i, from, config.num_res_blocks + 1)?;
            let convolves = config.resamp_with_conv;
            let double = if i == 0 { None } else { Some(Resample::doubling(&path.sub("upsample"), to, convolves)?) };
            up.push((stage, double));
            from = to;
        }
        Ok(Self {
            conv_in,
            mid,
            up,
            norm_out: Norm::new(&path.sub("norm_out"), from, config.norm_num_groups)?,
            conv_out: Conv::same(&path.sub("conv_out"), from, config.out_ch)?,
            tanh_out: config.tanh_out,
        })
    }

    pub(super) fn forward(&self, z: &Tensor, train: bool) -> Result<Tensor> {
        let mut h = self.mid.forward(&self.conv_in.forward(z)?, train)?;
        for (stage, double) in &self.up {
            h = stage.forward(h, train)?;
            if let Some(double) = double {
                h = double.double(&h)?;
            }
        }
        let out = self.conv_out.forward(&self.norm_out.swish(&h)?)?;
        Ok(if self.tanh_out { out.f_tanh()? } else { out })
    }
}
