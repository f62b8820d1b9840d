//! Text retrieval by cost: which text belongs to an image, and which image to a text.
//!
//! Ties are broken at random and the expectation is reported, so that constant costs give exactly the
//! chance figures: a model that tells nothing apart can never look better than guessing.

use serde::{Deserialize, Serialize};
use tavq_torch::check_shape;
use tch::{Kind, Tensor, no_grad};

use crate::ranks::{Standing, median};
use crate::{MetricError, Result};

/// Recall and rank of the right answers in one direction, or of a random guess.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetrievalScores {
    /// Share of queries whose right answer is the cheapest, in `[0, 1]`.
    pub recall_at_1: f64,
    /// Share of queries whose right answer is among the five cheapest, in `[0, 1]`.
    pub recall_at_5: f64,
    /// Median place of the right answer, from 1.
    pub median_rank: f64,
}

/// Retrieval in both directions next to chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RetrievalReport {
    /// Texts ranked for each image.
    pub image_to_text: RetrievalScores,
    /// Images ranked for each text.
    pub text_to_image: RetrievalScores,
    /// What guessing scores, in both directions.
    pub chance: RetrievalScores,
    /// Number of pairs, so of candidates for each query.
    pub pairs: usize,
}

/// Ranks by `costs` `[N, N]`, row = image, column = text, lower = better; image i belongs to text i.
///
/// NaN is refused; +inf (a text that cannot be retrieved) stands behind every number.
pub fn retrieval(costs: &Tensor) -> Result<RetrievalReport> {
    check_shape("costs", costs, &[-1, -1])?;
    let pairs = costs.size()[0];
    check_shape("costs", costs, &[pairs, pairs])?;
    let values = Vec::<f64>::try_from(costs.detach().to_kind(Kind::Double).contiguous().view([-1]))?;
    let n = pairs as usize;
    if n == 0 || values.iter().any(|c| c.is_nan()) {
        let found = if n == 0 { "no pair" } else { "NaN" }.to_owned();
        return Err(MetricError::Values { what: "costs", expected: "at least one pair and no NaN", found });
    }
    let right = |i: usize| values[i * n + i];
    let images = (0..n).map(|i| Standing::of(values[i * n..(i + 1) * n].iter().copied(), right(i)));
    let texts = (0..n).map(|t| Standing::of(values[t..].iter().copied().step_by(n), right(t)));
    Ok(RetrievalReport {
        image_to_text: scores(images),
        text_to_image: scores(texts),
        chance: scores(std::iter::once(Standing { below: 0, tied: n - 1 })),
        pairs: n,
    })
}

fn scores(standings: impl Iterator<Item = Standing>) -> RetrievalScores {
    let standings: Vec<_> = standings.collect();
    let mean = |k: usize| standings.iter().map(|s| s.recall(k)).sum::<f64>() / standings.len() as f64;
    let mut ranks: Vec<f64> = standings.iter().map(|s| s.rank()).collect();
    RetrievalScores { recall_at_1: mean(1), recall_at_5: mean(5), median_rank: median(&mut ranks) }
}

/// `costs` `[I, T]` with each text's mean cost over the images subtracted.
///
/// A text that is cheap for every image (a hub) otherwise stands first for all of them. Only the ranking of
/// texts changes: a column is shifted as a whole, so the ranking of images for a text stays as it was.
/// Columns that hold +inf are left as they are.
pub fn subtract_text_means(costs: &Tensor) -> Result<Tensor> {
    check_shape("costs", costs, &[-1, -1])?;
    Ok(no_grad(|| {
        let means = costs.mean_dim([0i64].as_slice(), true, None::<Kind>);
        costs - means.masked_fill(&means.isfinite().logical_not(), 0.0)
    }))
}

/// The sum of the levels' costs, each `[I, T]`; +inf in any level stays +inf.
pub fn sum_levels(levels: &[Tensor]) -> Result<Tensor> {
    let Some(first) = levels.first() else {
        let found = "none".to_owned();
        return Err(MetricError::Values { what: "levels", expected: "at least one level's costs", found });
    };
    for costs in levels {
        check_shape("costs", costs, &[first.size().first().copied().unwrap_or(-1), -1])?;
        check_shape("costs", costs, &first.size())?;
    }
    Ok(no_grad(|| Tensor::stack(levels, 0).sum_dim_intlist([0i64].as_slice(), false, None::<Kind>)))
}
