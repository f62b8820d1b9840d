//! Vectors of a batch that may replace codes, in a form that may be summed over batches and ranks.
//!
//! A trainer only ever sums statistics, yet a replacement must be one vector and not a mean of several: a mean
//! of random vectors lies near the centre of the data. So every batch offers one vector for each code and a
//! cost, and enters both as `w v` and `w` with the weight `w = cost^-32`. The quotient of the sums is the vector
//! of least cost, with a share of the others that falls with the 32nd power of the ratio of costs. Of a single
//! batch it is that batch's vector, exact in f32 because the sums are f64.

use tavq_torch::check_shape;
use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::codebook::{Codebook, Part, rows, vectors_at};
use crate::nearest::{Distance, nearest, squares, tile_budget};

const POWER: f64 = -32.0;
/// Cells of a map below which a product for each map is not faster than one for all of them in rows.
const FEW: i64 = 256;
/// Costs are clamped to this range, whose 32nd powers an f64 holds.
const COST: (f64, f64) = (1e-9, 1e9);

/// One vector for each of some codes.
pub(crate) struct Candidates {
    /// `[C]`, int64, distinct: the codes. None: all K, in order.
    codes: Option<Tensor>,
    /// `[C, D]`, f32.
    vectors: Tensor,
    /// `[C]`, f64, positive.
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
        Ok(Self { codes: None, vectors: rows.f_index_select(0, &picks)?, cost: lots(rows, codes)? })
    }

    /// The rows of `[K, D]` for all codes, at one random cost: of several batches one wins as a whole.
    pub(crate) fn all_or_none(vectors: &Tensor) -> Result<Self> {
        let codes = vectors.size()[0];
        Ok(Self { codes: None, vectors: vectors.shallow_clone(), cost: lots(vectors, 1)?.f_expand([codes], false)? })
    }

    /// The rows of `[C, D]` for `codes` (`[C]`). Costs are random.
    pub(crate) fn each(vectors: &Tensor, codes: &Tensor) -> Result<Self> {
        let cost = lots(vectors, vectors.size()[0])?;
        Ok(Self { codes: Some(codes.shallow_clone()), vectors: vectors.shallow_clone(), cost })
    }

    /// For each of `codes` (`[C]`, at least one) the nearest vector of a latent `[B, D, h, w]` of at least one, at the cost of
    /// their distance.
    pub(crate) fn closest(latent: &Tensor, book: &Codebook, codes: &Tensor) -> Result<Self> {
        check_shape("latent", latent, &[-1, book.dim(), -1, -1])?;
        let latent = latent.detach().f_to_kind(Kind::Float)?;
        let from = book.weight().detach().f_index_select(0, codes)?;
        let (mut least, mut at) = (Tensor::f_full_like(&from.f_select(1, 0)?, f64::INFINITY)?, codes.f_zeros_like()?);
        let mut first = 0;
        for part in Part::of(&latent) {
            let rows = part.rows(&latent)?;
            let found = nearest(&from, &rows, book.distance(), tile_budget(rows.device()))?;
            // Of equals the first stays.
            let nearer = found.distances.f_lt_tensor(&least)?;
            at = (found.indices + first).f_where_self(&nearer, &at)?;
            least = found.distances.f_where_self(&nearer, &least)?;
            first += rows.size()[0];
        }
        let vectors = vectors_at(&latent, &at)?;
        Ok(Self { codes: Some(codes.shallow_clone()), vectors, cost: least.f_to_kind(Kind::Double)? })
    }

    /// For each of `codes` (`[C]`, at least one) a vector of a latent `[B, D, h, w]` drawn with softmax over all of them of minus
    /// their squared distance, or of their cosine. The vectors are read where they lie, without a copy in rows.
    pub(crate) fn likely(latent: &Tensor, book: &Codebook, codes: &Tensor) -> Result<Self> {
        check_shape("latent", latent, &[-1, book.dim(), -1, -1])?;
        let latent = latent.detach().f_to_kind(Kind::Float)?;
        // [B, D, cells]; of small maps, and elsewhere than on a CPU, all vectors as of one image, since a product of few is slow.
        let apart = latent.device() == Device::Cpu && latent.size()[2] * latent.size()[3] >= FEW;
        let vectors = match apart {
            true => latent.f_flatten(2, -1)?,
            false => rows(&latent)?.f_transpose(0, 1)?.f_unsqueeze(0)?,
        };
        let (images, cells) = (vectors.size()[0], vectors.size()[2]);
        let (n, c) = (images * cells, codes.size()[0]);
        // Twice the budget: a product of few rows takes twice as long a row.
        let step = (2 * tile_budget(latent.device()) as i64 / 4 / n).max(1);
        // Of each vector its squared norm, or the inverse of its norm. A code's own norm shifts all of its scores alike.
        let squares = |i| squares(&vectors.f_select(0, i)?.f_transpose(0, 1)?);
        let norms = Tensor::f_cat(&(0..images).map(squares).collect::<Result<Vec<_>>>()?, 0)?;
        let norms = match book.distance() {
            Distance::SquaredL2 => norms,
            Distance::Cosine => norms.f_sqrt()?.f_clamp_min_(1e-12)?.f_reciprocal_()?,
        };
        // One block of memory for all tiles.
        let tile = Tensor::f_empty([step.min(c), n], (Kind::Float, latent.device()))?;
        let mut picks = Vec::new();
        for start in (0..c).step_by(step as usize) {
            let part = codes.f_narrow(0, start, step.min(c - start))?;
            let from = book.weight().detach().f_index_select(0, &part)?;
            let from = if book.distance() == Distance::Cosine { normalised(&from)? } else { from * 2.0 };
            let mut scores = tile.f_narrow(0, 0, part.size()[0])?;
            for image in 0..images {
                let place = scores.f_narrow(1, image * cells, cells)?;
                let _ = from.f_mm_out(&place, &vectors.f_select(0, image)?)?;
            }
            let _ = match book.distance() {
                Distance::SquaredL2 => {
                    let _ = scores.f_sub_(&norms)?;
                    scores.f_sub_(&scores.f_amax([1i64].as_slice(), true)?)?
                }
                // A cosine's exponential overflows nothing.
                Distance::Cosine => scores.f_mul_(&norms)?,
            };
            let _ = scores.f_exp_()?;
            picks.push(draw(&mut scores)?);
        }
        let vectors = vectors_at(&latent, &Tensor::f_cat(&picks, 0)?)?;
        Ok(Self { codes: Some(codes.shallow_clone()), vectors, cost: lots(&latent, c)? })
    }

    /// `[K]` and `[K, D]`, f64: weights and weighted vectors, which may be summed; zero at codes without a candidate.
    pub(crate) fn enter(self, book: &Codebook) -> Result<[Tensor; TENSORS]> {
        let weights = self.cost.f_clamp(COST.0, COST.1)?.f_pow_tensor_scalar(POWER)?;
        let weighted = self.vectors.f_to_kind(Kind::Double)?.f_mul_(&weights.f_unsqueeze(1)?)?;
        let Some(codes) = self.codes else { return Ok([weights, weighted]) };
        let [mut none, mut nothing] = Self::none(book)?;
        Ok([none.f_index_copy_(0, &codes, &weights)?, nothing.f_index_copy_(0, &codes, &weighted)?])
    }

    /// `[C, D]`, f32: the vectors.
    pub(crate) fn vectors(self) -> Tensor {
        self.vectors
    }

    /// Zero weights, for a batch without vectors or no code in need of one.
    pub(crate) fn none(book: &Codebook) -> Result<[Tensor; TENSORS]> {
        let on = (Kind::Double, book.weight().device());
        Ok([Tensor::f_zeros([book.codes()], on)?, Tensor::f_zeros([book.codes(), book.dim()], on)?])
    }
}

/// `[K, D]`, f32: the winners of a summed lottery; the row of `others` where nothing was entered.
pub(crate) fn winners(weights: &Tensor, weighted: &Tensor, others: &Tensor) -> Result<Tensor> {
    let weights = weights.f_unsqueeze(1)?;
    let vectors = weighted.f_div(&weights)?.f_to_kind(Kind::Float)?;
    Ok(vectors.f_where_self(&weights.f_gt(0.0)?, others)?)
}

/// For each row of weights `[C, N]`, which are overwritten, an index drawn by them, `[C]`, int64, never one of weight 0. One
/// random number a row: `multinomial` takes one, and a logarithm, a weight.
fn draw(weights: &mut Tensor) -> Result<Tensor> {
    let (c, n, device) = (weights.size()[0], weights.size()[1], weights.device());
    let sums = weights.f_cumsum_(1, Kind::Float)?;
    let lot = Tensor::f_rand([c, 1], (Kind::Float, device))? * sums.f_narrow(1, n - 1, 1)?;
    // The product may round up to the last sum, which no sum exceeds.
    let found = lot.f_searchsorted(&sums, false, true, "right", None::<&Tensor>)?;
    Ok(found.f_clamp_max(n - 1)?.f_view([-1])?)
}

/// Random costs on the device of `like`, uniform in their logarithm over the whole range.
fn lots(like: &Tensor, codes: i64) -> Result<Tensor> {
    let uniform = Tensor::f_rand([codes], (Kind::Double, like.device()))?;
    let (low, high) = (COST.0.ln(), COST.1.ln());
    Ok((uniform * (high - low) + low).f_exp()?)
}

/// `[C, N]`, f32, high where near: minus the squared distance, or the cosine.
pub(crate) fn similarity(codes: &Tensor, rows: &Tensor, distance: Distance) -> Result<Tensor> {
    match distance {
        Distance::SquaredL2 => {
            let scores = codes.f_mm(&rows.f_transpose(0, 1)?)? * 2.0;
            Ok(scores - squares(codes)?.f_unsqueeze(1)? - squares(rows)?.f_unsqueeze(0)?)
        }
        Distance::Cosine => Ok(normalised(codes)?.f_mm(&normalised(rows)?.f_transpose(0, 1)?)?),
    }
}

/// Rows of length 1, differentiable; a zero row stays zero.
pub(crate) fn normalised(rows: &Tensor) -> Result<Tensor> {
    let norm = rows.f_norm_scalaropt_dim(2.0, [1].as_slice(), true)?.f_clamp_min(1e-12)?;
    Ok(rows.f_div(&norm)?)
}

#[cfg(test)]
mod tests {
    use tch::Device;
    use tch::nn::VarStore;

    use super::*;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn book(codes: &Tensor, distance: Distance) -> Codebook {
        let (k, dim) = codes.size2().unwrap();
        let mut book = Codebook::new(&VarStore::new(Device::Cpu).root(), k, dim, distance, true).unwrap();
        book.set(codes).unwrap();
        book
    }

    /// Rows as the latent of one image.
    fn latent(rows: &Tensor) -> Tensor {
        rows.tr().contiguous().view([1, rows.size()[1], -1, 1])
    }

    fn won(entries: Vec<Candidates>, book: &Codebook) -> Tensor {
        let mut sum = Candidates::none(book).unwrap();
        for entry in entries {
            let parts = entry.enter(book).unwrap();
            for (s, p) in sum.iter_mut().zip(parts) {
                *s += p;
            }
        }
        winners(&sum[0], &sum[1], &book.weight().detach()).unwrap()
    }

    #[test]
    fn the_only_vector_of_a_code_wins_bit_for_bit() {
        let book = book(&Tensor::zeros([64, 5], CPU), Distance::SquaredL2);
        for rows in [Tensor::randn([40, 5], CPU), Tensor::randn([400, 5], CPU)] {
            let all = Tensor::arange(64, (Kind::Int64, Device::Cpu));
            for entry in
                [Candidates::random(&rows, 64), Candidates::likely(&latent(&rows), &book, &all)].map(Result::unwrap)
            {
                let expected = entry.vectors.copy();
                assert_eq!(won(vec![entry], &book), expected);
            }
        }
    }

    #[test]
    fn random_vectors_differ_while_there_are_enough() {
        let rows = Tensor::arange(30, CPU).view([30, 1]);
        let picked = Candidates::random(&rows, 30).unwrap().vectors.view([-1]);
        assert_eq!(picked.sort(0, false).0, rows.view([-1]));
    }

    #[test]
    fn of_several_batches_the_nearest_vector_wins() {
        let book = book(&Tensor::zeros([1, 1], CPU), Distance::SquaredL2);
        let all = Tensor::from_slice(&[0i64]);
        let entry =
            |at: f32| Candidates::closest(&Tensor::from_slice(&[at, 9.0]).view([1, 1, 2, 1]), &book, &all).unwrap();
        let winner = won(vec![entry(2.0), entry(-1.0), entry(3.0)], &book).double_value(&[0, 0]);
        assert!((winner + 1.0).abs() < 1e-6, "{winner}");
    }

    #[test]
    fn a_code_without_candidates_stays() {
        let codes = Tensor::randn([3, 2], CPU);
        let book = book(&codes, Distance::Cosine);
        assert_eq!(won(Vec::new(), &book), codes);
        let (rows, some) = (Tensor::randn([9, 2], CPU), Tensor::from_slice(&[2i64, 0]));
        for entry in
            [Candidates::closest(&latent(&rows), &book, &some), Candidates::likely(&latent(&rows), &book, &some)]
        {
            let entry = entry.unwrap();
            let vectors = entry.vectors.copy();
            let expected = Tensor::stack(&[vectors.get(1), codes.get(1), vectors.get(0)], 0);
            assert!((won(vec![entry], &book) - expected).abs().max().double_value(&[]) < 1e-6);
        }
    }

    #[test]
    fn likely_vectors_are_found_in_every_image() {
        // So far apart that each code draws the vector that it is.
        let cases =
            [[2, 4], [16, 16]].into_iter().flat_map(|size| [(size, Distance::SquaredL2), (size, Distance::Cosine)]);
        for ([h, w], distance) in cases {
            let vectors = Tensor::randn([3, 5, h, w], CPU) * 1000.0;
            let rows = vectors.permute([0, 2, 3, 1]).reshape([-1, 5]);
            let all = Tensor::arange(3 * h * w, (Kind::Int64, Device::Cpu));
            let book = book(&rows, distance);
            let picked = Candidates::likely(&vectors, &book, &all).unwrap().vectors;
            match distance {
                Distance::SquaredL2 => assert_eq!(picked, rows),
                Distance::Cosine => {
                    // A cosine tells them apart too little to choose, but what it draws is one of them.
                    let apart = (picked.unsqueeze(1) - rows.unsqueeze(0)).abs().amax([2i64], false);
                    assert_eq!(apart.amin([1i64], false).max().double_value(&[]), 0.0);
                }
            }
        }
    }

    #[test]
    fn likely_vectors_come_as_often_as_the_softmax_says() {
        // Scores 0 and -1 by the squared distance, 1 and 0 by the cosine: both give e to 1.
        let share = 1.0 / (1.0 + (-1f64).exp());
        let codes = 4000;
        for (distance, other) in [(Distance::SquaredL2, [1f32, 1.0]), (Distance::Cosine, [0.0, 1.0])] {
            let rows = Tensor::from_slice(&[1f32, 0.0, other[0], other[1]]).view([2, 2]);
            let book = book(&rows.narrow(0, 0, 1).repeat([codes, 1]), distance);
            let all = Tensor::arange(codes, (Kind::Int64, Device::Cpu));
            let picked = Candidates::likely(&latent(&rows), &book, &all).unwrap().vectors;
            let first = picked.select(1, 1).eq(0.0).sum(Kind::Int64).int64_value(&[]) as f64;
            let (mean, deviation) = (share * codes as f64, (share * (1.0 - share) * codes as f64).sqrt());
            assert!((first - mean).abs() < 5.0 * deviation, "{distance:?}: {first} for {mean}");
        }
    }
}
