//! The plain codebook, trained by gradient (van den Oord et al. 2017).
//!
//! vector-quantize-pytorch's `learnable_codebook` has one term that moves vectors and codes alike, weighted as a whole: at
//! weight 1 its gradients are those of beta 1 here, its loss is half of it.

use serde::{Deserialize, Serialize};
use tch::{Tensor, nn};

use crate::codebook::{Codebook, Form};
use crate::config::{check_codes, check_range};
use crate::estimator::Gradient;
use crate::nearest::Distance;
use crate::start::{ITERATIONS, Opening, Start, check_iterations};
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
    /// Vectors and codes are scaled to length 1 before they are compared, in the loss and in what comes out, as in LlamaGen;
    /// both distances order alike then.
    pub normalize: bool,
    /// How the codes start.
    pub start: Start,
    /// Lloyd's iterations of `start = "kmeans"`.
    pub kmeans_iterations: i64,
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
            normalize: false,
            start: Start::Uniform,
            kmeans_iterations: ITERATIONS,
            gradient: Gradient::StraightThrough,
        }
    }
}

impl VqConfig {
    /// Checks ranges.
    pub fn check(&self) -> Result<()> {
        check_codes(self.codes)?;
        check_range("beta", self.beta, 0.0, f64::MAX)?;
        check_iterations(self.kmeans_iterations)
    }
}

/// The plain codebook. Variables: `embedding.weight`, and `started` `[1]` where the first batch starts it.
#[derive(Debug)]
pub struct Vq {
    book: Codebook,
    config: VqConfig,
    opening: Opening,
}

impl Vq {
    /// A codebook for vectors of width `dim`.
    pub fn new(path: &nn::Path<'_>, config: &VqConfig, dim: i64) -> Result<Self> {
        config.check()?;
        let book = Codebook::new(path, config.codes, dim, config.distance, true)?.normalised(config.normalize)?;
        let opening = Opening::new(path, config.start, config.kmeans_iterations);
        Ok(Self { book, config: config.clone(), opening })
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
        if self.opening.waits() { Some(self) } else { None }
    }
}

/// The first batch's vectors. Nothing is collected once they are in place.
impl BatchUpdate for Vq {
    fn collect(&self, latent: &Tensor, _quantized: &Quantized) -> Result<Vec<Tensor>> {
        if !self.opening.waiting()? {
            return Ok(Vec::new());
        }
        tch::no_grad(|| self.opening.collect(&self.book.rows(latent)?, &self.book))
    }

    fn apply(&mut self, summed: &[Tensor], _step: u64) -> Result<()> {
        if self.opening.waiting()? {
            self.opening.apply(summed, &mut self.book)?;
        } else if !summed.is_empty() {
            return Err(QuantError::Statistics { expected: 0, found: summed.len() });
        }
        Ok(())
    }
}
