//! Nearest-code search without the score matrix.
//!
//! On an x86-64 processor with AVX2 scores live in registers (`simd`). Elsewhere the matrix of N points and K codes exists one
//! tile at a time, each of them one matrix product, so memory is bounded by a budget and not by N x K. Nothing is one-hot
//! encoded. Everything is computed in f32.

use serde::{Deserialize, Serialize};
use tavq_torch::check_shape;
use tch::{Device, Kind, Tensor};

use crate::{Result, simd};

/// How a vector and a code are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Distance {
    /// Squared Euclidean distance.
    #[default]
    #[serde(rename = "l2")]
    SquaredL2,
    /// One minus the cosine. A zero vector is at distance 1 from everything.
    #[serde(rename = "cos")]
    Cosine,
}

/// For each point its nearest code.
#[derive(Debug)]
pub struct Nearest {
    /// `[N]`, int64.
    pub indices: Tensor,
    /// `[N]`, f32, at least 0: distance to that code.
    pub distances: Tensor,
}

/// Squared norm of each row of `[N, D]`, f32, `[N]`; a part at a time, so that the products stay in the cache.
pub(crate) fn squares(rows: &Tensor) -> Result<Tensor> {
    let (n, dim) = (rows.size()[0], rows.size()[1]);
    let step = (tile_budget(rows.device()) as i64 / 16 / dim.max(1)).max(1);
    let sum = |part: &Tensor| (part * part).f_sum_dim_intlist([1].as_slice(), false, Kind::Float);
    if n <= step {
        return Ok(sum(rows)?);
    }
    let parts: Result<Vec<Tensor>> =
        (0..n).step_by(step as usize).map(|at| Ok(sum(&rows.f_narrow(0, at, step.min(n - at))?)?)).collect();
    Ok(Tensor::f_cat(&parts?, 0)?)
}

/// Memory for score tiles that suits a device: on a CPU a tile that stays in its cache, elsewhere a large one.
pub fn tile_budget(device: Device) -> usize {
    if device == Device::Cpu { 4 << 20 } else { 256 << 20 }
}

/// Finds the nearest row of `codes` `[K, D]` for every row of `points` `[N, D]`; ties go to the lowest index.
///
/// `budget` bounds the bytes of one tile of scores, or of the codes that are laid out anew at a time (at least one of them). No
/// gradient is recorded. Fails when the widths differ or `codes` is empty.
pub fn nearest(points: &Tensor, codes: &Tensor, distance: Distance, budget: usize) -> Result<Nearest> {
    check_shape("points", points, &[-1, -1])?;
    let dim = points.size()[1];
    check_shape("codes", codes, &[-1, dim])?;
    if codes.size()[0] == 0 {
        check_shape("codes", codes, &[1, dim])?;
    }
    // Under autocast the products would be taken in half precision.
    tch::autocast(false, || tch::no_grad(|| search(&points.detach(), &codes.detach(), distance, budget)))
}

fn search(points: &Tensor, codes: &Tensor, distance: Distance, budget: usize) -> Result<Nearest> {
    let (points, codes) = (points.f_to_kind(Kind::Float)?, codes.f_to_kind(Kind::Float)?);
    match simd::nearest(&points, &codes, distance, budget)? {
        Some(found) => Ok(found),
        None => Table::new(&codes, distance)?.nearest(&points, distance, budget),
    }
}

/// Lower bound of a norm that is divided by, as in `torch.nn.functional.normalize`.
pub(crate) const SMALL: f64 = 1e-12;

/// Rows and columns of a tile of at most `budget` bytes: all codes side by side where they leave room for
/// many points, else roughly square, since a narrow tile reads the codes once for each few points.
fn tile(n: i64, k: i64, budget: usize) -> (i64, i64) {
    let cells = i64::try_from(budget / 4).unwrap_or(i64::MAX).max(1);
    let side = (cells as f64).sqrt() as i64;
    let cols = k.min(side.max(1));
    let rows = (cells / cols).clamp(1, n.max(1));
    (rows, k.min((cells / rows).max(1)))
}

/// The codes, prepared so that a score is one product and one sum: `points * table + offset`, least is nearest.
struct Table {
    /// `[D, K]`.
    table: Tensor,
    /// `[1, K]`: squared norms, which the cosine does not need.
    offset: Option<Tensor>,
}

impl Table {
    fn new(codes: &Tensor, distance: Distance) -> Result<Self> {
        let squares = squares(codes)?;
        let (table, offset) = match distance {
            Distance::SquaredL2 => (codes * -2.0, Some(squares.f_unsqueeze(0)?)),
            Distance::Cosine => {
                let norms = squares.f_sqrt()?.f_clamp_min_(SMALL)?.f_unsqueeze(1)?;
                (codes.f_div(&norms)?.f_neg_()?, None)
            }
        };
        Ok(Self { table: table.f_transpose(0, 1)?, offset })
    }

    fn nearest(&self, points: &Tensor, distance: Distance, budget: usize) -> Result<Nearest> {
        let (scores, indices) = self.search(points, budget)?;
        let squares = squares(points)?;
        let distances = match distance {
            Distance::SquaredL2 => scores + squares,
            Distance::Cosine => scores / squares.f_sqrt()?.f_clamp_min_(SMALL)? + 1.0,
        };
        Ok(Nearest { indices, distances: distances.f_clamp_min(0.0)? })
    }

    fn count(&self) -> i64 {
        self.table.size()[1]
    }

    /// Least score and its code for each point, tile by tile.
    fn search(&self, points: &Tensor, budget: usize) -> Result<(Tensor, Tensor)> {
        let n = points.size()[0];
        let (rows, cols) = tile(n, self.count(), budget);
        let (mut scores, mut indices) = (Vec::new(), Vec::new());
        for start in (0..n).step_by(rows as usize) {
            let (score, index) = self.best(&points.f_narrow(0, start, rows.min(n - start))?, cols)?;
            scores.push(score);
            indices.push(index);
        }
        if indices.is_empty() {
            let none = |kind| Tensor::f_zeros([0], (kind, points.device()));
            return Ok((none(Kind::Float)?, none(Kind::Int64)?));
        }
        Ok((Tensor::f_cat(&scores, 0)?, Tensor::f_cat(&indices, 0)?))
    }

    /// Least score and its code for each of a few points, `cols` codes at a time.
    fn best(&self, points: &Tensor, cols: i64) -> Result<(Tensor, Tensor)> {
        let mut best: Option<(Tensor, Tensor)> = None;
        for start in (0..self.count()).step_by(cols as usize) {
            let width = cols.min(self.count() - start);
            let table = self.table.f_narrow(1, start, width)?;
            let scores = match &self.offset {
                Some(offset) => offset.f_narrow(1, start, width)?.f_addmm(points, &table)?,
                None => points.f_mm(&table)?,
            };
            let (score, index) = scores.f_min_dim(1, false)?;
            let index = index + start;
            best = Some(match best {
                None => (score, index),
                Some((s, i)) => {
                    // Strictly better: on a tie the earlier code stays.
                    let better = score.f_lt_tensor(&s)?;
                    (score.f_where_self(&better, &s)?, index.f_where_self(&better, &i)?)
                }
            });
        }
        best.ok_or_else(|| crate::QuantError::config("codes", "at least 1", self.count()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from a few, so that many points have several nearest codes and f32 is exact.
    fn whole(rows: i64, dim: i64) -> Tensor {
        Tensor::randint_low(-2, 3, [rows, dim], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn tiles_and_registers_find_the_same() {
        for distance in [Distance::SquaredL2, Distance::Cosine] {
            for (n, k, dim) in [
                (1, 1, 1),
                (3, 13, 2),
                (33, 12, 1),
                (700, 95, 3),
                (70, 700, 17),
                (600, 5, 300),
                (40, 300, 300),
                (70, 5000, 17),
            ] {
                let (points, codes) = (whole(n, dim), whole(k, dim));
                let table = Table::new(&codes, distance).unwrap();
                for budget in [400, 5000, 1 << 20] {
                    let tiled = table.nearest(&points, distance, budget).unwrap();
                    for kernel in simd::Kernel::available() {
                        let found = simd::nearest_by(&kernel, &points, &codes, distance, budget).unwrap().unwrap();
                        assert!(
                            found.distances.allclose(&tiled.distances, 1e-5, 1e-5, false),
                            "{distance:?} {n} {k} {dim}"
                        );
                        // Cosines of whole numbers round.
                        assert!(distance == Distance::Cosine || found.indices == tiled.indices, "{n} {k} {dim}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_tile_keeps_to_its_budget_and_to_the_problem() {
        for n in [1, 2, 7, 1000, 1 << 20] {
            for k in [1, 3, 256, 1 << 16] {
                for budget in [0, 3, 4, 64, 1000, 4 << 20, usize::MAX] {
                    let (rows, cols) = tile(n, k, budget);
                    assert!((1..=n).contains(&rows) && (1..=k).contains(&cols), "{n} {k} {budget}: {rows} x {cols}");
                    assert!(rows * cols <= (budget as i64 / 4).max(1) || budget == usize::MAX);
                }
            }
        }
    }
}
