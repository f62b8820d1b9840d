//! Finite scalar quantization (Mentzer et al. 2023, "Finite scalar quantization: VQ-VAE made simple"): each component of a
//! vector is bounded and rounded to a few levels. There is no table: every grid point is a code.

use serde::{Deserialize, Serialize};
use tavq_torch::check_shape;
use tch::{Kind, Tensor, nn};

use crate::codebook::check_indices;
use crate::config::MOST_CODES;
use crate::estimator::Gradient;
use crate::{QuantError, Quantized, Quantizer, Result};

/// `kind = "fsq"`: a grid instead of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FsqConfig {
    /// Levels of each component, at least 3: as many as the vectors are wide. Their product is the number of codes K. The
    /// authors advise `[8, 6, 5]` for 2^8 codes, `[8, 5, 5, 5]` for 2^10, `[7, 5, 5, 5, 5]` for 2^12.
    pub levels: Vec<i64>,
}

impl Default for FsqConfig {
    fn default() -> Self {
        Self { levels: vec![8, 5, 5, 5] }
    }
}

impl FsqConfig {
    /// Checks ranges.
    pub fn check(&self) -> Result<()> {
        let found = format!("{:?}", self.levels);
        if self.levels.is_empty() || self.levels.iter().any(|level| !(3..=MOST_CODES).contains(level)) {
            return Err(QuantError::config("quantizer.levels", "numbers of at least 3", found));
        }
        let product = self.levels.iter().try_fold(1i64, |product, level| product.checked_mul(*level));
        if product.is_none_or(|product| product > MOST_CODES) {
            return Err(QuantError::config("quantizer.levels", &format!("a product of at most {MOST_CODES}"), found));
        }
        Ok(())
    }

    /// Number of codes K.
    pub fn codes(&self) -> i64 {
        self.levels.iter().fold(1, |product, level| product.saturating_mul(*level))
    }
}

/// The grid. It has no variables and no loss: the encoder learns through the rounding alone.
///
/// Codes lie in [-1, 1]. A code that is quantized again need not give itself: the bounding tanh pulls it inwards, at even
/// numbers of levels by up to one level.
#[derive(Debug)]
pub struct Fsq {
    codes: i64,
    /// `[D, 1, 1]`, f32: levels; half the bounded range; how far an even number of levels is off centre, and what that is
    /// before the tanh; steps of a level between -1 and 1.
    levels: Tensor,
    range: Tensor,
    offset: Tensor,
    shift: Tensor,
    steps: Tensor,
    /// `[D, 1, 1]`, f64: index of one step of a component. The first component runs fastest.
    basis: Tensor,
}

/// Room beyond the outermost levels, so that the tanh reaches them; from 1002 levels on, what rounds beyond them is clamped.
const ROOM: f64 = 1e-3;

impl Fsq {
    /// A grid for vectors of width `dim`, on the device of `path`.
    pub fn new(path: &nn::Path<'_>, config: &FsqConfig, dim: i64) -> Result<Self> {
        config.check()?;
        if config.levels.len() as i64 != dim {
            let expected = format!("as many numbers as vectors are wide, {dim}");
            return Err(QuantError::config("quantizer.levels", &expected, format!("{:?}", config.levels)));
        }
        let column = |value: &dyn Fn(f64) -> f64, kind: Kind| -> Result<Tensor> {
            let values: Vec<f64> = config.levels.iter().map(|level| value(*level as f64)).collect();
            Ok(Tensor::f_from_slice(&values)?.f_view([-1, 1, 1])?.f_to_kind(kind)?.f_to_device(path.device())?)
        };
        let range = |level: f64| (level - 1.0) * (1.0 + ROOM) / 2.0;
        let offset = |level: f64| if level % 2.0 == 0.0 { 0.5 } else { 0.0 };
        let ones = Tensor::f_ones([1], (Kind::Double, path.device()))?;
        let levels = column(&|level| level, Kind::Double)?.f_view([-1])?;
        let basis = Tensor::f_cat(&[ones, levels.f_narrow(0, 0, dim - 1)?], 0)?.f_cumprod(0, Kind::Double)?;
        Ok(Self {
            codes: config.codes(),
            levels: column(&|level| level, Kind::Float)?,
            range: column(&range, Kind::Float)?,
            offset: column(&offset, Kind::Float)?,
            shift: column(&|level| (offset(level) / range(level)).atanh(), Kind::Float)?,
            steps: column(&|level| (level / 2.0).floor(), Kind::Float)?,
            basis: basis.f_view([-1, 1, 1])?,
        })
    }
}

impl Quantizer for Fsq {
    fn codes(&self) -> i64 {
        self.codes
    }

    fn quantize(&self, latent: &Tensor, _train: bool) -> Result<Quantized> {
        check_shape("latent", latent, &[-1, self.levels.size()[0], -1, -1])?;
        // Under autocast nothing here is taken in half precision, but the input may be.
        let z = latent.f_to_kind(Kind::Float)?;
        let bounded = z.f_add(&self.shift)?.f_tanh()?.f_mul(&self.range)?.f_sub(&self.offset)?;
        let places = bounded
            .detach()
            .f_round()?
            .f_clamp_tensor(Some(self.steps.f_neg()?), Some(&self.levels - 1.0 - &self.steps))?;
        let codes = places.f_div(&self.steps)?;
        let digits = places.f_add(&self.steps)?.f_to_kind(Kind::Double)?;
        let indices = digits.f_mul(&self.basis)?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?;
        let out = Gradient::StraightThrough.pass(&bounded.f_div(&self.steps)?, &codes)?;
        Ok(Quantized {
            latent: out.f_to_kind(latent.kind())?,
            indices: indices.f_to_kind(Kind::Int64)?,
            loss: Tensor::f_zeros([0i64; 0], (Kind::Float, latent.device()))?,
        })
    }

    fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
        check_indices("indices", indices, self.codes)?;
        let digits = indices.f_unsqueeze(-1)?.f_to_kind(Kind::Double)?;
        let digits = digits.f_div_tensor_mode(&self.basis.f_view([-1])?, "floor")?;
        let digits = digits.f_remainder_tensor(&self.levels.f_view([-1])?.f_to_kind(Kind::Double)?)?;
        let steps = self.steps.f_view([-1])?;
        Ok(digits.f_to_kind(Kind::Float)?.f_sub(&steps)?.f_div(&steps)?)
    }
}
