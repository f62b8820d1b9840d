//! Lookup-free quantization (Yu et al. 2024, "Language model beats diffusion: tokenizer is key to visual generation",
//! MAGVIT-v2): a code is the signs of a vector, so K = 2^D codes need no table and no search.
//!
//! Nothing pulls the encoder to use all codes but the entropy loss, `entropy.rs`.

use serde::{Deserialize, Serialize};
use tavq_torch::check_shape;
use tch::{Kind, Tensor, nn};

use crate::codebook::{check_indices, mean_square, rows};
use crate::config::{MOST_CODES, check_range, out_of_range};
use crate::entropy;
use crate::estimator::Gradient;
use crate::{QuantError, Quantized, Quantizer, Result};

/// `kind = "lfq"`: signs instead of a table. Defaults are those of vector-quantize-pytorch.
///
/// Loss: `beta` x mean squared distance of vectors and codes (moves the encoder) + in training `entropy` x (mean entropy of
/// a vector's choice - `diversity` x entropy of the batch's choice). A vector z chooses code c with probability
/// softmax(2 z.c / `temperature`); entropies are in nats, of one process's batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LfqConfig {
    /// Width D of the vectors, 1 to 24, one bit each: K = 2^bits.
    pub bits: i64,
    /// Codes are `scale` or `-scale` in each component.
    pub scale: f64,
    /// Weight of the commitment term; 0: off.
    pub beta: f64,
    /// Weight of the entropy loss; 0: off.
    pub entropy: f64,
    /// Weight of the batch's entropy within the entropy loss (gamma).
    pub diversity: f64,
    /// Temperature of the choice, more than 0; vector-quantize-pytorch states its inverse, 100.
    pub temperature: f64,
    /// What the encoder receives from the gradient of the codes.
    pub gradient: Gradient,
}

impl Default for LfqConfig {
    fn default() -> Self {
        Self {
            bits: 10,
            scale: 1.0,
            beta: 0.0,
            entropy: 0.1,
            diversity: 1.0,
            temperature: 0.01,
            gradient: Gradient::StraightThrough,
        }
    }
}

/// Most bits: an index has its place in histograms and in the batch's distribution, both of 2^bits entries.
const MOST_BITS: i64 = MOST_CODES.trailing_zeros() as i64;

impl LfqConfig {
    /// Checks ranges.
    pub fn check(&self) -> Result<()> {
        if !(1..=MOST_BITS).contains(&self.bits) {
            return Err(QuantError::config("quantizer.bits", &format!("1 to {MOST_BITS}"), self.bits));
        }
        for (field, value) in [("scale", self.scale), ("temperature", self.temperature)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(out_of_range(field, "a number of more than 0", value));
            }
        }
        for (field, value) in [("beta", self.beta), ("entropy", self.entropy), ("diversity", self.diversity)] {
            check_range(field, value, 0.0, f64::MAX)?;
        }
        Ok(())
    }

    /// Number of codes K.
    pub fn codes(&self) -> i64 {
        1 << self.bits.clamp(0, MOST_BITS)
    }
}

/// The signs. It has no variables. The first component is the highest bit of an index, and its bit is 1 where the component
/// is more than 0.
#[derive(Debug)]
pub struct Lfq {
    config: LfqConfig,
    /// `[D]`, int64: 2^(D-1) down to 1.
    places: Tensor,
}

impl Lfq {
    /// Signs of vectors of width `dim`, on the device of `path`.
    pub fn new(path: &nn::Path<'_>, config: &LfqConfig, dim: i64) -> Result<Self> {
        config.check()?;
        if config.bits != dim {
            let expected = format!("as many as vectors are wide, {dim}");
            return Err(QuantError::config("quantizer.bits", &expected, config.bits));
        }
        let places: Vec<i64> = (0..dim).rev().map(|bit| 1 << bit).collect();
        Ok(Self { config: config.clone(), places: Tensor::f_from_slice(&places)?.f_to_device(path.device())? })
    }

    /// Codes of bits, 1 or 0.
    fn signs(&self, bits: &Tensor) -> Result<Tensor> {
        let scale = self.config.scale;
        Ok(bits.f_to_kind(Kind::Float)?.f_mul_scalar(2.0 * scale)?.f_sub_scalar(scale)?)
    }
}

impl Quantizer for Lfq {
    fn codes(&self) -> i64 {
        self.config.codes()
    }

    fn quantize(&self, latent: &Tensor, train: bool) -> Result<Quantized> {
        check_shape("latent", latent, &[-1, self.config.bits, -1, -1])?;
        let z = latent.f_to_kind(Kind::Float)?;
        let bits = z.f_gt(0.0)?;
        let codes = self.signs(&bits)?;
        let indices = bits.f_mul(&self.places.f_view([-1, 1, 1])?)?;
        let config = &self.config;
        let mut loss = Tensor::f_zeros([0i64; 0], (Kind::Float, latent.device()))?;
        if config.beta > 0.0 {
            loss = loss.f_add(&mean_square(&z, &codes)?.f_mul_scalar(config.beta)?)?;
        }
        if train && config.entropy > 0.0 {
            // The codes +scale and -scale of a component differ by this much in their logits.
            let margin = rows(&z)?.f_mul_scalar(4.0 * config.scale / config.temperature)?;
            loss = loss.f_add(&entropy::loss(&margin, config.diversity)?.f_mul_scalar(config.entropy)?)?;
        }
        Ok(Quantized {
            latent: config.gradient.pass(&z, &codes)?.f_to_kind(latent.kind())?,
            indices: indices.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64)?,
            loss,
        })
    }

    fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
        check_indices("indices", indices, self.codes())?;
        self.signs(&indices.f_unsqueeze(-1)?.f_bitwise_and_tensor(&self.places)?.f_ne(0)?)
    }
}
