//! The standard quantizers by name.

use serde::{Deserialize, Serialize};
use tch::nn;

use crate::cvq::{Cvq, CvqConfig};
use crate::ema::{Ema, EmaConfig};
use crate::fsq::{Fsq, FsqConfig};
use crate::gumbel::{Gumbel, GumbelConfig};
use crate::lfq::{Lfq, LfqConfig};
use crate::residual::{Residual, ResidualConfig};
use crate::simvq::{SimVq, SimVqConfig};
use crate::start::Start;
use crate::vq::{Vq, VqConfig};
use crate::{QuantError, Quantizer, Result};

/// A quantizer's configuration, told apart by `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum QuantizerConfig {
    /// Straight-through codebook.
    Vq(VqConfig),
    /// Moving averages.
    Ema(EmaConfig),
    /// Online clustered codebook.
    Cvq(CvqConfig),
    /// Frozen codes behind a linear map.
    SimVq(SimVqConfig),
    /// A grid instead of a table.
    Fsq(FsqConfig),
    /// Codes by their logits.
    Gumbel(GumbelConfig),
    /// Signs instead of a table.
    Lfq(LfqConfig),
    /// Several stages of another kind.
    Residual(ResidualConfig),
}

impl QuantizerConfig {
    /// Checks ranges; the error names the field.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Vq(config) => config.check(),
            Self::Ema(config) => config.check(),
            Self::Cvq(config) => config.check(),
            Self::SimVq(config) => config.check(),
            Self::Fsq(config) => config.check(),
            Self::Gumbel(config) => config.check(),
            Self::Lfq(config) => config.check(),
            Self::Residual(config) => config.check(),
        }
    }

    /// Number of codes K; of one stage, where there are several.
    pub fn codes(&self) -> i64 {
        match self {
            Self::Vq(config) => config.codes,
            Self::Ema(config) => config.codes,
            Self::Cvq(config) => config.codes,
            Self::SimVq(config) => config.codes,
            Self::Fsq(config) => config.codes(),
            Self::Gumbel(config) => config.codes,
            Self::Lfq(config) => config.codes(),
            Self::Residual(config) => config.quantizer.codes(),
        }
    }

    /// How the codes start.
    pub(crate) fn start(&self) -> Start {
        match self {
            Self::Vq(config) => config.start,
            Self::Ema(config) => config.start,
            Self::Cvq(config) => config.start,
            Self::SimVq(_) | Self::Fsq(_) | Self::Gumbel(_) | Self::Lfq(_) => Start::Uniform,
            Self::Residual(config) => config.quantizer.start(),
        }
    }

    /// Builds the quantizer for vectors of width `dim`; its variables live under `path`. Codes start at random
    /// from libtorch's generator, which the caller seeds.
    pub fn build(&self, path: &nn::Path<'_>, dim: i64) -> Result<Box<dyn Quantizer>> {
        if dim < 1 {
            return Err(QuantError::config("dim", "at least 1", dim));
        }
        Ok(match self {
            Self::Vq(config) => Box::new(Vq::new(path, config, dim)?),
            Self::Ema(config) => Box::new(Ema::new(path, config, dim)?),
            Self::Cvq(config) => Box::new(Cvq::new(path, config, dim)?),
            Self::SimVq(config) => Box::new(SimVq::new(path, config, dim)?),
            Self::Fsq(config) => Box::new(Fsq::new(path, config, dim)?),
            Self::Gumbel(config) => Box::new(Gumbel::new(path, config, dim)?),
            Self::Lfq(config) => Box::new(Lfq::new(path, config, dim)?),
            Self::Residual(config) => Box::new(Residual::new(path, config, dim)?),
        })
    }
}

/// Most codes of one codebook.
pub(crate) const MOST_CODES: i64 = 1 << 24;

pub(crate) fn check_codes(codes: i64) -> Result<()> {
    if (1..=MOST_CODES).contains(&codes) {
        return Ok(());
    }
    Err(QuantError::config("quantizer.codes", &format!("1 to {MOST_CODES}"), codes))
}

pub(crate) fn check_range(field: &str, value: f64, low: f64, high: f64) -> Result<()> {
    // Not a number lies in no range.
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let expected = if high == f64::MAX { format!("a number of at least {low}") } else { format!("{low} to {high}") };
    Err(out_of_range(field, &expected, value))
}

pub(crate) fn out_of_range(field: &str, expected: &str, value: f64) -> QuantError {
    QuantError::config(&format!("quantizer.{field}"), expected, value)
}
