//! Vectors of a batch that may replace codes, in a form that may be summed over batches and ranks.
//!
//! A trainer only ever sums statistics, yet a replacement must be one vector and not a mean of several: a mean
//! of random vectors lies near the centre of the data. So every batch offers one vector for each code and a
//! cost, and enters both as `w v` and `w` with the weight `w = cost^-32`. The quotient of the sums is the vector
//! of least cost, with a share of the others that falls with the 32nd power of the ratio of costs. Of a single
//! batch it is that batch's vector, exact in f32 because the sums are f64.

use tch::{Kind, Tensor};

use crate::Result;
use crate::codebook::Codebook;
use crate::nearest::{Distance, nearest, tile_budget};

const POWER: f64 = -32.0;
/// Costs are clamped to this range, whose 32nd powers an f64 holds.
const COST: (f64, f64) = (1e-9, 1e9);

/// One vector for each code.
pub(crate) struct Candidates {
    /// `[K, D]`, f32.
    vectors: Tensor,
    /// `[K]`, f64, positive.
    cost: Tensor,
}

/// Number of tensors that a lottery adds to the statistics.
pub(crate) const TENSORS: usize = 2;

impl Candidates {
    /// For each code a random row of `[N, D]`. Costs are random too, so that batches and ranks win equally often.
    pub(crate) fn random(rows: &Tensor, codes: i64) -> Result<Self> {
        let n = rows.size()[0];
        let picks = if n >= codes {
            Tensor::f_randperm(n, (Kind::Int64, rows.device()))?.f_narrow(0, 0, codes)?
        } else {
            Tensor::f_randint(n, [codes], (Kind::Int64, rows.device()))?
        };
        Ok(Self { vectors: rows.f_index_select(0, &picks)?, cost: lots(rows, codes)? })
    }

    /// For each code its nearest row of `[N, D]`, at the cost of their distance.
    pub(crate) fn closest(rows: &Tensor, book: &Codebook) -> Result<Self> {
        let found = nearest(book.weight(), rows, book.distance(), tile_budget(rows.device()))?;
        Ok(Self { vectors: rows.f_index_select(0, &found.indices)?, cost: found.distances.f_to_kind(Kind::Double)? })
    }

    /// For each code a row of `[N, D]` drawn with softmax over the rows of minus their squared distance, or of their cosine.
    pub(crate) fn likely(rows: &Tensor, book: &Codebook) -> Result<Self> {
        let (n, k) = (rows.size()[0], book.codes());
        let step = (tile_budget(rows.device()) as i64 / 4 / n).max(1);
        let mut picks = Vec::new();
        for start in (0..k).step_by(step as usize) {
            let codes = book.weight().detach().f_narrow(0, start, step.min(k - start))?;
            let scores = similarity(&codes, rows, book.distance())?;
            picks.push(scores.f_softmax(1, Kind::Float)?.f_multinomial(1, true)?.f_view([-1])?);
        }
        let picks = Tensor::f_cat(&picks, 0)?;
        Ok(Self { vectors: rows.f_index_select(0, &picks)?, cost: lots(rows, k)? })
    }

    /// `[K]` and `[K, D]`, f64: weights and weighted vectors, which may be summed.
    pub(crate) fn enter(self) -> Result<[Tensor; TENSORS]> {
        let weights = self.cost.f_clamp(COST.0, COST.1)?.f_pow_tensor_scalar(POWER)?;
        let weighted = self.vectors.f_to_kind(Kind::Double)? * weights.f_unsqueeze(1)?;
        Ok([weights, weighted])
    }

    /// Zero weights, for a batch without vectors.
    pub(crate) fn none(book: &Codebook) -> Result<[Tensor; TENSORS]> {
        let on = (Kind::Double, book.weight().device());
        Ok([Tensor::f_zeros([book.codes()], on)?, Tensor::f_zeros([book.codes(), book.dim()], on)?])
    }
}

/// `[K, D]`, f32: the winners of a summed lottery; the code itself where nothing was entered.
pub(crate) fn winners(weights: &Tensor, weighted: &Tensor, book: &Codebook) -> Result<Tensor> {
    let weights = weights.f_unsqueeze(1)?;
    let vectors = weighted.f_div(&weights)?.f_to_kind(Kind::Float)?;
    Ok(vectors.f_where_self(&weights.f_gt(0.0)?, &book.weight().detach())?)
}

/// Random costs, uniform in their logarithm over the whole range.
fn lots(rows: &Tensor, codes: i64) -> Result<Tensor> {
    let uniform = Tensor::f_rand([codes], (Kind::Double, rows.device()))?;
    let (low, high) = (COST.0.ln(), COST.1.ln());
    Ok((uniform * (high - low) + low).f_exp()?)
}

/// `[C, N]`, f32, high where near: minus the squared distance, or the cosine.
pub(crate) fn similarity(codes: &Tensor, rows: &Tensor, distance: Distance) -> Result<Tensor> {
    match distance {
        Distance::SquaredL2 => {
            let squares = |t: &Tensor| (t * t).f_sum_dim_intlist([1].as_slice(), true, Kind::Float);
            let scores = codes.f_mm(&rows.f_transpose(0, 1)?)? * 2.0;
            Ok(scores - squares(codes)? - squares(rows)?.f_transpose(0, 1)?)
        }
        Distance::Cosine => Ok(normalised(codes)?.f_mm(&normalised(rows)?.f_transpose(0, 1)?)?),
    }
}

/// Rows of length 1, differentiable; a zero row stays zero.
pub(crate) fn normalised(rows: &Tensor) -> Result<Tensor> {
    let norm = rows.f_norm_scalaropt_dim(2.0, [1].as_slice(), true)?.f_clamp_min(1e-12)?;
    Ok(rows.f_div(&norm)?)
}
