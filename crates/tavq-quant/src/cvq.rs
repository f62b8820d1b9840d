//! The online clustered codebook (Zheng and Vedaldi, ICCV 2023): trained by gradient, while every step also
//! pulls little-used codes to vectors of the batch.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use crate::candidates::{self, Candidates, winners};
use crate::codebook::{Codebook, Found, Part, histogram, rows};
use crate::config::{check_codes, check_range, out_of_range};
use crate::contrastive;
use crate::estimator::Gradient;
use crate::nearest::Distance;
use crate::pool::Pool;
use crate::start::{ITERATIONS, Opening, Start, check_iterations};
use crate::{BatchUpdate, QuantError, Quantized, Quantizer, Result};

/// Where a code is pulled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anchor {
    /// The batch's vector nearest to the code.
    Closest,
    /// A vector of a pool of K past ones, at the code's own place. Up to K vectors of a batch enter it: at free places first,
    /// then at random ones.
    Random,
    /// A vector of the batch drawn with softmax over the vectors of minus the squared distance, or of the cosine.
    #[default]
    ProbRandom,
}

/// `kind = "cvq"`: the online clustered codebook. Defaults are the authors'.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CvqConfig {
    /// Number of codes K.
    pub codes: i64,
    /// Weight of the commitment term; the codebook term has weight 1.
    pub beta: f64,
    /// How the nearest code is found; the code itself is never normalised.
    pub distance: Distance,
    /// Where little-used codes are pulled to.
    pub anchor: Anchor,
    /// Share of the average use that a step keeps, 0 to 1, less than 1.
    pub decay: f64,
    /// Weight of the contrastive loss; 0: off. The authors' switch is 1.
    pub contrastive: f64,
    /// Temperature of the contrastive loss.
    pub temperature: f64,
    /// How the codes start.
    pub start: Start,
    /// Lloyd's iterations of `start = "kmeans"`.
    pub kmeans_iterations: i64,
    /// What the encoder receives from the gradient of the codes.
    pub gradient: Gradient,
}

impl Default for CvqConfig {
    fn default() -> Self {
        Self {
            codes: 1024,
            beta: 0.25,
            distance: Distance::Cosine,
            anchor: Anchor::ProbRandom,
            decay: 0.99,
            contrastive: 0.0,
            temperature: 0.07,
            start: Start::Uniform,
            kmeans_iterations: ITERATIONS,
            gradient: Gradient::StraightThrough,
        }
    }
}

impl CvqConfig {
    /// Checks ranges.
    pub fn check(&self) -> Result<()> {
        check_codes(self.codes)?;
        check_range("beta", self.beta, 0.0, f64::MAX)?;
        if !(0.0..1.0).contains(&self.decay) {
            return Err(out_of_range("decay", "at least 0, less than 1", self.decay));
        }
        check_range("contrastive", self.contrastive, 0.0, f64::MAX)?;
        check_range("temperature", self.temperature, 1e-6, f64::MAX)?;
        check_iterations(self.kmeans_iterations)
    }
}

/// Below this a pull is lost: 2^-40 of an anchor is under half a unit in the last place of a code 2^16 times smaller.
const LEAST_PULL: f64 = 1.0 / (1u64 << 40) as f64;

/// The online clustered codebook. Variables: `embedding.weight`, and `embed_prob` `[K]` (the average use of each
/// code, starts at 0, not trainable), named as in the authors' code; `pool.features` `[K, D]` and `pool.filled` `[1]` with
/// [`Anchor::Random`], not trainable; `started` `[1]` where the first batch starts the codes, which moves no code else.
#[derive(Debug)]
pub struct Cvq {
    book: Codebook,
    config: CvqConfig,
    opening: Opening,
    pool: Option<Pool>,
    embed_prob: Tensor,
}

impl Cvq {
    /// A codebook for vectors of width `dim`.
    pub fn new(path: &nn::Path<'_>, config: &CvqConfig, dim: i64) -> Result<Self> {
        config.check()?;
        let book = Codebook::new(path, config.codes, dim, config.distance, true)?;
        let embed_prob = path.zeros_no_train("embed_prob", &[config.codes]);
        let opening = Opening::new(path, config.start, config.kmeans_iterations);
        let pool = (config.anchor == Anchor::Random).then(|| Pool::new(&(path / "pool"), config.codes, dim));
        Ok(Self { book, config: config.clone(), opening, pool, embed_prob })
    }

    /// How far a code of average use `prob` `[K]` moves to its anchor, `[K]`, in 0..1.
    fn pull(&self, prob: &Tensor) -> Result<Tensor> {
        let slope = -10.0 * self.codes() as f64 / (1.0 - self.config.decay);
        Ok((prob * slope - 1e-3).f_exp()?)
    }

    /// What moves the codes only, the mean squared distance to their vectors: a scalar of value 0 with its gradient, which is
    /// formed at once and a part at a time, so that the graph holds `[K, D]` and not the vectors.
    fn codebook_slope(&self, found: &Found) -> Result<Tensor> {
        let weight = self.book.weight();
        let slope = tch::no_grad(|| -> Result<Tensor> {
            let (latent, mut sums) = (&found.latent, Tensor::f_zeros_like(weight)?);
            for part in Part::of(latent) {
                let (vectors, chosen) = (part.vectors(latent)?, part.cells(&found.indices)?.f_reshape([-1])?);
                let apart = weight.f_index_select(0, &chosen)?;
                let _ = apart.f_view(vectors.size().as_slice())?.f_sub_(&vectors)?;
                let _ = sums.f_index_add_(0, &chosen, &apart)?;
            }
            Ok(sums.f_mul_scalar_(2.0 / latent.numel().max(1) as f64)?)
        })?;
        // Carries `slope` to the codes; its own value is subtracted again.
        let carrier = (weight * slope).f_sum(Kind::Float)?;
        Ok(&carrier - carrier.detach())
    }

    /// Codes that the next update may move, `[C]`, int64. Use falls by the decay at most, so a code whose pull would be
    /// lost in f32 even then needs no anchor; after the first steps that is nearly all of them.
    fn pulled(&self) -> Result<Tensor> {
        let most = self.pull(&(&self.embed_prob * self.config.decay))?;
        Ok(most.f_gt(LEAST_PULL)?.f_nonzero()?.f_view([-1])?)
    }
}

impl Quantizer for Cvq {
    fn codes(&self) -> i64 {
        self.book.codes()
    }

    fn quantize(&self, latent: &Tensor, train: bool) -> Result<Quantized> {
        let found = self.book.find(latent)?;
        let mut pushed = self.codebook_slope(&found)?;
        if train && self.config.contrastive > 0.0 {
            let vectors = rows(&found.latent.detach())?;
            let apart = contrastive::loss(&self.book, &vectors, self.config.temperature)?;
            pushed = pushed.f_add(&(apart * self.config.contrastive))?;
        }
        let (passed, commitment) = self.book.settle(&found, self.config.gradient)?;
        // The codebook's term has the commitment's value.
        let loss = &commitment * self.config.beta + commitment.detach() + pushed;
        Ok(Quantized { latent: passed.f_to_kind(latent.kind())?, indices: found.indices, loss })
    }

    fn lookup(&self, indices: &Tensor) -> Result<Tensor> {
        self.book.lookup(indices)
    }

    fn batch_update(&mut self) -> Option<&mut dyn BatchUpdate> {
        Some(self)
    }
}

/// Statistics: counts `[K]` and a lottery of anchors. The authors' order has both taken from the codebook that
/// quantized the batch, so `collect` belongs before the optimiser's step.
impl BatchUpdate for Cvq {
    fn collect(&self, latent: &Tensor, quantized: &Quantized) -> Result<Vec<Tensor>> {
        tch::no_grad(|| {
            let rows = || self.book.rows(latent);
            if self.opening.waiting()? {
                return self.opening.collect(&rows()?, &self.book);
            }
            let mut out = vec![histogram(&quantized.indices, self.codes())?.f_to_kind(Kind::Double)?];
            if let Some(pool) = &self.pool {
                out.extend(pool.collect(&rows()?, &self.book)?);
                return Ok(out);
            }
            let pulled = self.pulled()?;
            out.extend(match (latent.numel().min(pulled.numel()), self.config.anchor) {
                (0, _) => Candidates::none(&self.book)?,
                (_, Anchor::Closest) => Candidates::closest(latent, &self.book, &pulled)?.enter(&self.book)?,
                (_, Anchor::Random | Anchor::ProbRandom) => {
                    Candidates::likely(latent, &self.book, &pulled)?.enter(&self.book)?
                }
            });
            Ok(out)
        })
    }

    /// p <- decay p + (1 - decay) u; w = exp(-10 K p / (1 - decay) - 0.001); e <- (1 - w) e + w a.
    fn apply(&mut self, summed: &[Tensor], _step: u64) -> Result<()> {
        if self.opening.waiting()? {
            self.opening.apply(summed, &mut self.book)?;
            return Ok(());
        }
        let [hits, weights, weighted] = summed else {
            return Err(QuantError::Statistics { expected: 1 + candidates::TENSORS, found: summed.len() });
        };
        let keep = self.config.decay;
        tch::no_grad(|| {
            let codes = self.book.weight().detach();
            let anchors = match &mut self.pool {
                Some(pool) => pool.apply(weights, weighted, &codes)?,
                None => winners(weights, weighted, &codes)?,
            };
            let total = hits.f_sum(Kind::Double)?.f_clamp_min(1.0)?;
            let share = hits.f_div(&total)?.f_to_kind(Kind::Float)?;
            let prob = &self.embed_prob * keep + share * (1.0 - keep);
            let pull = self.pull(&prob)?.f_unsqueeze(1)?;
            self.book.set(&(&codes * (1.0 - &pull) + anchors * &pull))?;
            self.embed_prob.f_copy_(&prob)?;
            Ok(())
        })
    }
}
