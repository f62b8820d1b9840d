//! Shape of a VQGAN: taming-transformers' ddconfig, the width of the codes, and the side levels.

use serde::{Deserialize, Serialize};
use tavq_quant::{LevelShape, QuantError, Result};

use crate::taps::Wiring;

/// Larger than any size or width of a model; keeps products far from overflow.
const MOST: i64 = 1 << 16;

/// `kind = "vqgan"`. Defaults are the f = 16 model at 256 pixels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VqganConfig {
    /// Width of the first convolution, a multiple of `norm_num_groups`.
    pub ch: i64,
    /// Channels of the reconstruction.
    pub out_ch: i64,
    /// Width of each stage as a multiple of `ch`; each stage but the last halves the size.
    pub ch_mult: Vec<i64>,
    /// Residual blocks a stage; the decoder has one more.
    pub num_res_blocks: i64,
    /// Sizes at which residual blocks are followed by attention, counted from `resolution` down.
    pub attn_resolutions: Vec<i64>,
    /// Attention between the two residual blocks at the coarsest size. Without it and with no `attn_resolutions` a model is
    /// latent-diffusion's `attn_type: none`; diffusers calls it `mid_block_add_attention`.
    pub mid_attention: bool,
    /// Halving and doubling with a convolution; without, means of 2 x 2 and repetition.
    pub resamp_with_conv: bool,
    /// Groups of every normalisation: 32, but in models of diffusers.
    pub norm_num_groups: i64,
    /// Dropout inside residual blocks, 0 to 1, in training.
    pub dropout: f64,
    /// Channels of the images.
    pub in_channels: i64,
    /// Image size that `attn_resolutions` refers to, a multiple of the latent's stride; images of other sizes keep
    /// attention at the same stages.
    pub resolution: i64,
    /// Width of the encoder's result.
    pub z_channels: i64,
    /// Part of the published layout; a vector-quantized model has `false`.
    pub double_z: bool,
    /// A hyperbolic tangent bounds the reconstruction, as in some of latent-diffusion's models.
    pub tanh_out: bool,
    /// Width of the codes.
    pub embed_dim: i64,
    /// 1: the latent alone; 3: with two side levels.
    pub levels: usize,
    /// Strides of the two side levels, fine to coarse; empty: the two next finer than the latent's.
    pub tap_strides: Vec<i64>,
    /// How the side levels are wired into the encoder.
    pub wiring: Wiring,
}

impl Default for VqganConfig {
    fn default() -> Self {
        Self {
            ch: 128,
            out_ch: 3,
            ch_mult: vec![1, 1, 2, 2, 4],
            num_res_blocks: 2,
            attn_resolutions: vec![16],
            mid_attention: true,
            resamp_with_conv: true,
            norm_num_groups: 32,
            dropout: 0.0,
            in_channels: 3,
            resolution: 256,
            z_channels: 256,
            double_z: false,
            tanh_out: false,
            embed_dim: 256,
            levels: 3,
            tap_strides: Vec::new(),
            wiring: Wiring::Taps,
        }
    }
}

impl VqganConfig {
    /// Checks ranges; the error names the field.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("ch", self.ch),
            ("out_ch", self.out_ch),
            ("norm_num_groups", self.norm_num_groups),
            ("num_res_blocks", self.num_res_blocks),
            ("in_channels", self.in_channels),
            ("resolution", self.resolution),
            ("z_channels", self.z_channels),
            ("embed_dim", self.embed_dim),
        ];
        for (field, value) in sizes {
            at_least_one(field, value)?;
        }
        if self.ch % self.norm_num_groups != 0 {
            let expected = format!("a multiple of {}, the groups of a normalisation", self.norm_num_groups);
            return Err(bad("ch", &expected, self.ch));
        }
        if self.ch_mult.is_empty() || self.ch_mult.len() > 16 {
            return Err(bad("ch_mult", "1 to 16 stages", self.ch_mult.len()));
        }
        for (i, m) in self.ch_mult.iter().enumerate() {
            let most = MOST / self.ch;
            if !(1..=most).contains(m) {
                return Err(bad(&format!("ch_mult[{i}]"), &format!("1 to {most} with ch = {}", self.ch), m));
            }
        }
        let coarsest = self.coarsest();
        if self.resolution % coarsest != 0 {
            let expected = format!("a multiple of {coarsest}, the stride of the latent");
            return Err(bad("resolution", &expected, self.resolution));
        }
        for (i, r) in self.attn_resolutions.iter().enumerate() {
            at_least_one(&format!("attn_resolutions[{i}]"), *r)?;
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(bad("dropout", "at least 0 and less than 1", self.dropout));
        }
        if self.double_z {
            return Err(bad("double_z", "false (true belongs to models without a codebook)", true));
        }
        self.wiring.check(self.levels)?;
        self.tapped_stages().map(|_| ())
    }

    /// Stages: one more than the number of halvings.
    pub(crate) fn stages(&self) -> usize {
        self.ch_mult.len()
    }

    /// Stride of the latent.
    fn coarsest(&self) -> i64 {
        1 << (self.stages() - 1)
    }

    /// Width of a stage.
    pub(crate) fn width(&self, stage: usize) -> i64 {
        self.ch * self.ch_mult[stage]
    }

    /// Whether a stage's residual blocks are followed by attention.
    pub(crate) fn attends(&self, stage: usize) -> bool {
        self.attn_resolutions.contains(&(self.resolution >> stage))
    }

    /// Encoder stages that feed the side levels, fine to coarse.
    pub(crate) fn tapped_stages(&self) -> Result<Vec<usize>> {
        match (self.levels, self.tap_strides.as_slice()) {
            (1, []) => Ok(Vec::new()),
            (1, strides) => Err(bad("tap_strides", "none with levels = 1", format!("{strides:?}"))),
            (3, []) if self.stages() >= 3 => Ok(vec![self.stages() - 3, self.stages() - 2]),
            (3, []) => Err(bad("tap_strides", "two strides, or at least three entries in ch_mult", "none")),
            (3, strides) => self.stages_of(strides),
            (other, _) => Err(bad("levels", "1 or 3", other)),
        }
    }

    fn stages_of(&self, strides: &[i64]) -> Result<Vec<usize>> {
        let coarsest = self.coarsest();
        let expected = format!("two powers of two from 1 to {coarsest}, fine to coarse");
        let fits = strides.len() == 2
            && strides.iter().all(|s| (1..=coarsest).contains(s) && s.count_ones() == 1)
            && strides[0] <= strides[1];
        if !fits {
            return Err(bad("tap_strides", &expected, format!("{strides:?}")));
        }
        Ok(strides.iter().map(|s| s.trailing_zeros() as usize).collect())
    }

    /// The levels that a model of this shape has.
    pub(crate) fn level_shapes(&self) -> Result<Vec<LevelShape>> {
        let mut stages = self.tapped_stages()?;
        stages.push(self.stages() - 1);
        Ok(stages.into_iter().map(|s| LevelShape { channels: self.embed_dim, stride: 1 << s }).collect())
    }
}

fn at_least_one(field: &str, value: i64) -> Result<()> {
    if (1..=MOST).contains(&value) { Ok(()) } else { Err(bad(field, &format!("1 to {MOST}"), value)) }
}

fn bad(field: &str, expected: &str, found: impl std::fmt::Display) -> QuantError {
    QuantError::config(&format!("backbone.{field}"), expected, found)
}
