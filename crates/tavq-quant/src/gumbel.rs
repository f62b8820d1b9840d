//! Codes chosen by a softmax over logits (Jang et al. 2016, "Categorical reparameterization with Gumbel-softmax"), as in
//! taming-transformers' `GumbelVQ`: a 1x1 convolution scores every code, and no distance is taken.

use serde::{Deserialize, Serialize};
use tavq_torch::check_shape;
use tch::{Kind, Tensor, nn};

use crate::codebook::check_indices;
use crate::config::{check_codes, check_range, out_of_range};
use crate::{Quantized, Quantizer, Result};

/// `kind = "gumbel"`: codes by their logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GumbelConfig {
    /// Number of codes K.
    pub codes: i64,
    /// Weight of the divergence of the softmax from an even one, the only term of the loss.
    pub kl_weight: f64,
    /// Temperature of the softmax in training, more than 0. taming-transformers lowers it over the steps; here it stays.
    pub temperature: f64,
}

impl Default for GumbelConfig {
    fn default() -> Self {
        Self { codes: 1024, kl_weight: 1e-8, temperature: 1.0 }
    }
}

impl GumbelConfig {
    /// Checks ranges.
    pub fn check(&self) -> Result<()> {
        check_codes(self.codes)?;
        check_range("kl_weight", self.kl_weight, 0.0, f64::MAX)?;
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(out_of_range("temperature", "a number of more than 0", self.temperature));
        }
        Ok(())
    }
}

/// Codes by their logits. Variables, named as in taming-transformers: `proj.{weight, bias}` (`[K, D, 1, 1]`, `[K]`) and
/// `embed.weight` `[K, D]`.
///
/// In training the choice is drawn, by libtorch's generator; otherwise the best score wins (taming-transformers draws then
/// too). A code that is quantized again need not give itself: scores and codes are separate variables.
#[derive(Debug)]
pub struct Gumbel {
    weight: Tensor,
    bias: Tensor,
    embed: Tensor,
    config: GumbelConfig,
}

/// Keeps the logarithm of a vanished share finite, as in taming-transformers.
const TINY: f64 = 1e-10;

impl Gumbel {
    /// A codebook for vectors of width `dim`.
    pub fn new(path: &nn::Path<'_>, config: &GumbelConfig, dim: i64) -> Result<Self> {
        config.check()?;
        let bound = 1.0 / (dim as f64).sqrt();
        let proj = path.sub("proj");
        Ok(Self {
            weight: proj.f_uniform("weight", &[config.codes, dim, 1, 1], -bound, bound)?,
            bias: proj.f_uniform("bias", &[config.codes], -bound, bound)?,
            embed: path.sub("embed").f_randn_standard("weight", &[config.codes, dim])?,
            config: config.clone(),
        })
    }

    fn gather(&self, indices: &Tensor) -> Result<Tensor> {
        Ok(Tensor::f_embedding(&self.embed, indices, -1, false, false)?)
    }

    /// Logits `[B, K, h, w]` of a latent in f32.
    fn logits(&self, z: &Tensor) -> Result<Tensor> {
        // Under autocast the product would be taken in half precision, and a convolution rounds to TF32 on GPUs.
        let weight = self.weight.f_view([self.codes(), -1])?;
        let scores = tch::autocast(false, || z.f_permute([0, 2, 3, 1])?.f_matmul(&weight.f_transpose(0, 1)?))?;
        Ok(scores.f_add(&self.bias)?.f_permute([0, 3, 1, 2])?)
    }

    fn loss(&self, logits: &Tensor) -> Result<Tensor> {
        let share = logits.f_softmax(1, Kind::Float)?;
        let surprise = share.f_mul_scalar(self.codes() as f64)?.f_add_scalar(TINY)?.f_log()?;
        let divergence = share.f_mul(&surprise)?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
        let cells = divergence.numel().max(1) as f64;
        Ok(divergence.f_sum(Kind::Float)?.f_mul_scalar(self.config.kl_weight / cells)?)
    }
}

impl Quantizer for Gumbel {
    fn codes(&self) -> i64 {
        self.embed.size()[0]
    }

    fn quantize(&self, latent: &Tensor, train: bool) -> Result<Quantized> {
        check_shape("latent", latent, &[-1, self.embed.size()[1], -1, -1])?;
        let logits = self.logits(&latent.f_to_kind(Kind::Float)?)?;
        let loss = self.loss(&logits)?;
        if !train {
            let indices = logits.f_argmax(1, false)?;
            let codes = self.gather(&indices)?.f_permute([0, 3, 1, 2])?;
            return Ok(Quantized { latent: codes.f_to_kind(latent.kind())?, indices, loss });
        }
        // Minus the logarithm of an exponential variable is a Gumbel variable.
        let noise = logits.detach().f_empty_like()?.f_exponential_(1.0)?.f_log_()?.f_neg_()?;
        let soft = logits.f_add(&noise)?.f_div_scalar(self.config.temperature)?.f_softmax(1, Kind::Float)?;
        let indices = soft.f_argmax(1, false)?;
        let codes = self.gather(&indices)?.f_permute([0, 3, 1, 2])?;
        // The mixture lends its gradient alone: its value is taken off again, exactly.
        let mixed = tch::autocast(false, || soft.f_permute([0, 2, 3, 1])?.f_matmul(&self.embed.detach()))?;
        let mixed = mixed.f_permute([0, 3, 1, 2])?;
        let out = codes.f_add(&mixed.f_sub(&mixed.detach())?)?;
        Ok(Quantized { latent: out.f_to_kind(latent.kind())?, indices, loss })
    }

    fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
        check_indices("indices", indices, self.codes())?;
        self.gather(indices)
    }
}
