//! The plain codebook, trained by gradient (van den Oord et al. 2017).

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use crate::candidates::{self, Candidates, winners};
use crate::codebook::{Codebook, Form, Start, rows};
use crate::config::{check_codes, check_range};
use crate::estimator::Gradient;
use crate::nearest::Distance;
use crate::{BatchUpdate, QuantError, Quantized, Quantizer, Result};

/// `kind = "vq"`: the plain codebook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VqConfig {
    /// Number of codes K.
    pub codes: i64,
    /// Weight of the term that `form` names; the other term has weight 1.
    pub beta: f64,
    /// Which term carries beta.
    pub form: Form,
    /// How the nearest code is found.
    pub distance: Distance,
    /// How the codes start.
    pub start: Start,
    /// What the encoder receives from the gradient of the codes.
    pub gradient: Gradient,
}

impl Default for VqConfig {
    fn default() -> Self {
        Self {
            codes: 1024,
            beta: 0.25,
            form: Form::Standard,
            distance: Distance::SquaredL2,
            start: Start::Uniform,
            gradient: Gradient::StraightThrough,
        }
    }
}

impl VqConfig {
    /// Checks ranges.
    pub fn check(&self) -> Result<()> {
        check_codes(self.codes)?;
        check_range("beta", self.beta, 0.0, f64::MAX)
    }
}

/// The plain codebook. Variables: `embedding.weight`, and `started` with [`Start::FirstBatch`].
#[derive(Debug)]
pub struct Vq {
    book: Codebook,
    config: VqConfig,
    /// `[1]`, 0 until the first batch has replaced the codes.
    started: Option<Tensor>,
}

impl Vq {
    /// A codebook for vectors of width `dim`.
    pub fn new(path: &nn::Path<'_>, config: &VqConfig, dim: i64) -> Result<Self> {
        config.check()?;
        let book = Codebook::new(path, config.codes, dim, config.distance, true)?;
        let started = (config.start == Start::FirstBatch).then(|| path.zeros_no_train("started", &[1]));
        Ok(Self { book, config: config.clone(), started })
    }

    fn waiting(&self) -> Result<bool> {
        match &self.started {
            Some(started) => Ok(started.f_double_value(&[0])? == 0.0),
            None => Ok(false),
        }
    }
}

impl Quantizer for Vq {
    fn codes(&self) -> i64 {
        self.book.codes()
    }

    fn quantize(&self, latent: &Tensor, _train: bool) -> Result<Quantized> {
        let found = self.book.assign(latent)?;
        let loss = found.loss(self.config.form, self.config.beta)?;
        Ok(Quantized { latent: found.pass(self.config.gradient, latent)?, indices: found.indices, loss })
    }

    fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
        self.book.lookup(indices)
    }

    fn batch_update(&mut self) -> Option<&mut dyn BatchUpdate> {
        if self.started.is_some() { Some(self) } else { None }
    }
}

/// The first batch's vectors. Nothing is collected once they are in place.
impl BatchUpdate for Vq {
    fn collect(&self, latent: &Tensor, _quantized: &Quantized) -> Result<Vec<Tensor>> {
        if !self.waiting()? {
            return Ok(Vec::new());
        }
        tch::no_grad(|| {
            let rows = rows(&latent.f_to_kind(Kind::Float)?)?;
            if rows.size()[0] == 0 {
                return Ok(Candidates::none(&self.book)?.into());
            }
            Ok(Candidates::random(&rows, self.codes())?.enter(&self.book)?.into())
        })
    }

    fn apply(&mut self, summed: &[Tensor], _step: u64) -> Result<()> {
        match summed {
            [] => Ok(()),
            [weights, weighted] => {
                let codes = winners(weights, weighted, &self.book)?;
                self.book.set(&codes)?;
                if let Some(started) = &mut self.started {
                    let _ = tch::no_grad(|| started.f_fill_(1.0))?;
                }
                Ok(())
            }
            other => Err(QuantError::Statistics { expected: candidates::TENSORS, found: other.len() }),
        }
    }
}
