//! How the codes of a table start: at random, or from the first batch's vectors.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, nn};

use crate::candidates::{self, Candidates, winners};
use crate::codebook::Codebook;
use crate::nearest::{Distance, nearest, tile_budget};
use crate::{QuantError, Result};

/// How the codes start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Uniform in (-1/K, 1/K), as in taming-transformers.
    #[default]
    Uniform,
    /// Uniform for the first batch, whose vectors, drawn at random, then replace all codes.
    FirstBatch,
    /// Uniform for the first batch; then the centres of its vectors by Lloyd's iterations from vectors drawn at random. Where
    /// several processes or levels share a codebook, the centres of one of them, drawn at random, are the codes.
    #[serde(rename = "kmeans")]
    KMeans,
}

/// Lloyd's iterations of [`Start::KMeans`], as many as in vector-quantize-pytorch.
pub(crate) const ITERATIONS: i64 = 10;

pub(crate) fn check_iterations(iterations: i64) -> Result<()> {
    if (1..=10_000).contains(&iterations) {
        return Ok(());
    }
    Err(QuantError::config("quantizer.kmeans_iterations", "1 to 10000", iterations))
}

/// Waits for the first batch that has vectors. Nothing is collected once the codes are in place.
#[derive(Debug)]
pub(crate) struct Opening {
    start: Start,
    iterations: i64,
    /// `[1]`, the variable `started`: 0 until the codes are in place. None: they were from the beginning.
    started: Option<Tensor>,
}

impl Opening {
    pub(crate) fn new(path: &nn::Path<'_>, start: Start, iterations: i64) -> Self {
        let started = (start != Start::Uniform).then(|| path.zeros_no_train("started", &[1]));
        Self { start, iterations, started }
    }

    /// Whether there is anything to wait for, now or before.
    pub(crate) fn waits(&self) -> bool {
        self.started.is_some()
    }

    pub(crate) fn waiting(&self) -> Result<bool> {
        match &self.started {
            Some(started) => Ok(started.f_double_value(&[0])? == 0.0),
            None => Ok(false),
        }
    }

    /// The codes that the vectors `[N, D]` of a batch propose, as a lottery.
    pub(crate) fn collect(&self, rows: &Tensor, book: &Codebook) -> Result<Vec<Tensor>> {
        if rows.size()[0] == 0 {
            return Ok(Candidates::none(book)?.into());
        }
        let entry = match self.start {
            Start::KMeans => {
                let seeds = Candidates::random(rows, book.codes())?.vectors();
                Candidates::all_or_none(&centres(rows, seeds, book.distance(), self.iterations)?)?
            }
            Start::Uniform | Start::FirstBatch => Candidates::random(rows, book.codes())?,
        };
        Ok(entry.enter(book)?.into())
    }

    /// Puts the winners in place. Without a single vector the wait goes on; gives whether it is over.
    pub(crate) fn apply(&mut self, summed: &[Tensor], book: &mut Codebook) -> Result<bool> {
        let [weights, weighted] = summed else {
            return Err(QuantError::Statistics { expected: candidates::TENSORS, found: summed.len() });
        };
        if weights.f_max()?.f_double_value(&[])? == 0.0 {
            return Ok(false);
        }
        let codes = winners(weights, weighted, &book.weight().detach())?;
        book.set(&codes)?;
        if let Some(started) = &mut self.started {
            let _ = tch::no_grad(|| started.f_fill_(1.0))?;
        }
        Ok(true)
    }
}

/// `[K, D]`: `seeds` after Lloyd's iterations over `rows` `[N, D]`, N at least 1. A centre that lost all of its vectors moves to
/// one of those that lie farthest from their own. For the cosine a centre is the mean direction, at its vectors' mean length.
fn centres(rows: &Tensor, seeds: Tensor, distance: Distance, iterations: i64) -> Result<Tensor> {
    let k = seeds.size()[0];
    let length = rows.f_norm_scalaropt_dim(2.0, [1].as_slice(), true)?;
    let points = match distance {
        Distance::SquaredL2 => rows.shallow_clone(),
        Distance::Cosine => rows.f_div(&length.f_clamp_min(1e-12)?)?,
    };
    let mut means = seeds;
    for _ in 0..iterations {
        let found = nearest(&points, &means, distance, tile_budget(rows.device()))?;
        let sum = |of: &Tensor| -> Result<Tensor> {
            Ok(Tensor::f_zeros([k, of.size()[1]], (Kind::Float, rows.device()))?.f_index_add(0, &found.indices, of)?)
        };
        let count = sum(&Tensor::f_ones_like(&length)?)?;
        let mut next = sum(&points)?.f_div(&count.f_clamp_min(1.0)?)?;
        if distance == Distance::Cosine {
            let norm = next.f_norm_scalaropt_dim(2.0, [1].as_slice(), true)?;
            next = next.f_div(&norm.f_clamp_min(1e-12)?)?.f_mul(&sum(&length)?.f_div(&count.f_clamp_min(1.0)?)?)?;
        }
        let empty = count.f_eq(0.0)?.f_nonzero()?.f_select(1, 0)?;
        let spare = empty.size()[0].min(rows.size()[0]);
        let (_, farthest) = found.distances.f_topk(spare, 0, true, true)?;
        next = next.f_where_self(&count.f_gt(0.0)?, &means)?;
        means = next.f_index_copy(0, &empty.f_narrow(0, 0, spare)?, &rows.f_index_select(0, &farthest)?)?;
    }
    Ok(means)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    fn inertia(rows: &Tensor, centres: &Tensor, distance: Distance) -> f64 {
        nearest(rows, centres, distance, 1 << 20).unwrap().distances.mean(Kind::Double).double_value(&[])
    }

    #[test]
    fn centres_agree_with_vector_quantize_pytorch() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/lucidrains.safetensors");
        let file = tavq_torch::TensorFile::open(&path).unwrap();
        let get = |name: &str| file.get(&format!("kmeans.{name}")).unwrap();
        let rows = get("rows");
        let unit = &rows / rows.norm_scalaropt_dim(2.0, [1].as_slice(), true);
        for (rows, distance, expected) in
            [(rows, Distance::SquaredL2, get("means")), (unit, Distance::Cosine, get("cosine"))]
        {
            let found = centres(&rows, rows.narrow(0, 0, 8), distance, ITERATIONS).unwrap();
            let apart = (found - expected).abs().max().double_value(&[]);
            assert!(apart < 1e-5, "{distance:?}: {apart:e}");
        }
    }

    #[test]
    fn an_iteration_never_adds_to_the_distances() {
        let on = (Kind::Float, Device::Cpu);
        for distance in [Distance::SquaredL2, Distance::Cosine] {
            for (n, k) in [(300, 20), (20, 20), (7, 20), (1, 3)] {
                let rows = Tensor::randn([n, 4], on) + 0.3;
                let seeds = rows.index_select(0, &Tensor::arange(k, (Kind::Int64, Device::Cpu)).remainder(n));
                let mut last = inertia(&rows, &seeds, distance);
                for iterations in [1, 2, 5, 10] {
                    let found = centres(&rows, seeds.copy(), distance, iterations).unwrap();
                    let now = inertia(&rows, &found, distance);
                    assert!(now <= last + 1e-5, "{distance:?}, {n} in {k}: {now} after {iterations}, {last} before");
                    last = now;
                }
                assert!(n > k || last < 1e-5, "{distance:?}: {n} vectors, {k} centres, but {last} left");
            }
        }
    }

    #[test]
    fn lost_centres_find_clusters_that_have_none() {
        // Both seeds lie in the first cluster, on one spot: the second loses everything and moves to the far cluster.
        let rows = Tensor::from_slice(&[0f32, 0.0, 1.0, 9.0, 10.0]).view([5, 1]);
        let found = centres(&rows, rows.narrow(0, 0, 2), Distance::SquaredL2, 10).unwrap();
        let mut found: Vec<f32> = Vec::try_from(found.view([-1])).unwrap();
        found.sort_by(f32::total_cmp);
        assert!((found[0] - 1.0 / 3.0).abs() < 1e-6 && found[1] == 9.5, "{found:?}");
    }
}
