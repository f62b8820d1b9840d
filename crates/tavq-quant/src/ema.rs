//! A codebook that follows moving averages of its vectors instead of a gradient (van den Oord et al. 2017,
//! appendix A.1), with replacement of dead codes.
//!
//! Step for step what vector-quantize-pytorch does with `decay`, `eps`, `commitment_weight` (beta), `use_cosine_sim`
//! (`normalize`) and `threshold_ema_dead_code` (`expire_below`, which is also the count that a replaced code begins with). Where a
//! batch has fewer vectors than codes, dead codes may become the same vector here; there some of them wait. Its k-means start
//! takes over the counts of the first batch as well; here counts begin at 1.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use crate::candidates::{self, Candidates, winners};
use crate::codebook::{Codebook, histogram};
use crate::config::{check_codes, check_range, out_of_range};
use crate::estimator::Gradient;
use crate::nearest::Distance;
use crate::start::{ITERATIONS, Opening, Start, check_iterations};
use crate::{BatchUpdate, QuantError, Quantized, Quantizer, Result};

/// `kind = "ema"`: moving averages with Laplace smoothing and dead-code expiry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// Number of codes K.
    pub codes: i64,
    /// Weight of the commitment term, the only one.
    pub beta: f64,
    /// Share of the old average that a step keeps, 0 to 1.
    pub decay: f64,
    /// Laplace smoothing of the counts.
    pub epsilon: f64,
    /// A code whose average count of vectors a step falls below this is replaced by a random vector of the batch; 0: never.
    pub expire_below: f64,
    /// How the nearest code is found.
    pub distance: Distance,
    /// Vectors and codes are scaled to length 1 before they are compared, averaged, in the loss and in what comes out
    /// (`use_cosine_sim` of vector-quantize-pytorch); both distances order alike then.
    pub normalize: bool,
    /// How the codes start.
    pub start: Start,
    /// Lloyd's iterations of `start = "kmeans"`.
    pub kmeans_iterations: i64,
    /// What the encoder receives from the gradient of the codes.
    pub gradient: Gradient,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self {
            codes: 1024,
            beta: 0.25,
            decay: 0.99,
            epsilon: 1e-5,
            expire_below: 0.0,
            distance: Distance::SquaredL2,
            normalize: false,
            start: Start::Uniform,
            kmeans_iterations: ITERATIONS,
            gradient: Gradient::StraightThrough,
        }
    }
}

impl EmaConfig {
    /// Checks ranges.
    pub fn check(&self) -> Result<()> {
        check_codes(self.codes)?;
        check_range("beta", self.beta, 0.0, f64::MAX)?;
        check_range("decay", self.decay, 0.0, 1.0)?;
        if !(self.epsilon > 0.0 && self.epsilon <= 1.0) {
            return Err(out_of_range("epsilon", "more than 0, at most 1", self.epsilon));
        }
        check_range("expire_below", self.expire_below, 0.0, f64::MAX)?;
        check_iterations(self.kmeans_iterations)
    }
}

/// The moving-average codebook. Variables, none of them trainable: `embedding.weight`, `embedding.cluster_size`
/// `[K]` and `embedding.embed_avg` `[K, D]`, named as in taming-transformers, and `started` `[1]` where the first batch
/// starts it; that batch then enters no average.
#[derive(Debug)]
pub struct Ema {
    book: Codebook,
    config: EmaConfig,
    opening: Opening,
    cluster_size: Tensor,
    embed_avg: Tensor,
}

impl Ema {
    /// A codebook for vectors of width `dim`. Counts start at 1, so that a code without vectors stays where it is.
    pub fn new(path: &nn::Path<'_>, config: &EmaConfig, dim: i64) -> Result<Self> {
        config.check()?;
        let book = Codebook::new(path, config.codes, dim, config.distance, false)?.normalised(config.normalize)?;
        let opening = Opening::new(path, config.start, config.kmeans_iterations);
        let buffers = path.sub("embedding");
        let cluster_size = buffers.ones_no_train("cluster_size", &[config.codes]);
        let embed_avg = buffers.add("embed_avg", book.weight().copy(), false);
        Ok(Self { book, config: config.clone(), opening, cluster_size, embed_avg })
    }

    fn expires(&self) -> bool {
        self.config.expire_below > 0.0
    }

    fn average(&mut self, hits: &Tensor, sums: &Tensor) -> Result<()> {
        let (keep, k) = (self.config.decay, self.codes() as f64);
        let size = &self.cluster_size * keep + hits.f_to_kind(Kind::Float)? * (1.0 - keep);
        let avg = &self.embed_avg * keep + sums * (1.0 - keep);
        let total = size.f_sum(Kind::Float)?;
        if total.f_double_value(&[])? <= 0.0 {
            // Nothing was ever counted, or it was all forgotten (a decay of 0 and a batch without vectors).
            return Ok(());
        }
        let smooth = (&size + self.config.epsilon) / (&total + k * self.config.epsilon) * &total;
        self.book.set(&avg.f_div(&smooth.f_unsqueeze(1)?)?)?;
        self.cluster_size.f_copy_(&size)?;
        self.embed_avg.f_copy_(&avg)?;
        Ok(())
    }

    /// Replaces dead codes; size and average restart together, or the next average would undo the replacement.
    fn expire(&mut self, weights: &Tensor, weighted: &Tensor) -> Result<()> {
        let threshold = self.config.expire_below;
        let fresh = winners(weights, weighted, self.book.weight())?;
        let dead = self.cluster_size.f_lt(threshold)?;
        let dead_rows = dead.f_unsqueeze(1)?;
        let codes = fresh.f_where_self(&dead_rows, self.book.weight())?;
        let avg = (&fresh * threshold).f_where_self(&dead_rows, &self.embed_avg)?;
        self.book.set(&codes)?;
        self.embed_avg.f_copy_(&avg)?;
        let _ = self.cluster_size.f_masked_fill_(&dead, threshold)?;
        Ok(())
    }
}

impl Quantizer for Ema {
    fn codes(&self) -> i64 {
        self.book.codes()
    }

    fn quantize(&self, latent: &Tensor, _train: bool) -> Result<Quantized> {
        let found = self.book.find(latent)?;
        let (passed, commitment) = self.book.settle(&found, self.config.gradient)?;
        let loss = commitment * self.config.beta;
        Ok(Quantized { latent: passed.f_to_kind(latent.kind())?, indices: found.indices, loss })
    }

    fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
        self.book.lookup(indices)
    }

    fn batch_update(&mut self) -> Option<&mut dyn BatchUpdate> {
        Some(self)
    }
}

/// Statistics: counts `[K]`, sums of vectors `[K, D]`, and with expiry a lottery of random vectors; while the first batch is
/// awaited, a lottery of codes alone.
impl BatchUpdate for Ema {
    fn collect(&self, latent: &Tensor, quantized: &Quantized) -> Result<Vec<Tensor>> {
        tch::no_grad(|| {
            let rows = self.book.rows(latent)?;
            if self.opening.waiting()? {
                return self.opening.collect(&rows, &self.book);
            }
            let hits = histogram(&quantized.indices, self.codes())?.f_to_kind(Kind::Double)?;
            let mut sums = Tensor::f_zeros_like(&self.embed_avg)?;
            let _ = sums.f_index_add_(0, &quantized.indices.f_reshape([-1])?, &rows)?;
            let mut out = vec![hits, sums];
            if self.expires() {
                out.extend(match rows.size()[0] {
                    0 => Candidates::none(&self.book)?,
                    _ => Candidates::random(&rows, self.codes())?.enter(&self.book)?,
                });
            }
            Ok(out)
        })
    }

    fn apply(&mut self, summed: &[Tensor], _step: u64) -> Result<()> {
        tch::no_grad(|| match summed {
            proposed if self.opening.waiting()? => {
                if self.opening.apply(proposed, &mut self.book)? {
                    self.embed_avg.f_copy_(self.book.weight())?;
                }
                Ok(())
            }
            [hits, sums] if !self.expires() => self.average(hits, sums),
            [hits, sums, weights, weighted] if self.expires() => {
                self.average(hits, sums)?;
                self.expire(weights, weighted)
            }
            other => {
                let expected = if self.expires() { 2 + candidates::TENSORS } else { 2 };
                Err(QuantError::Statistics { expected, found: other.len() })
            }
        })
    }
}
