//! The contrastive loss of the online clustered codebook (Zheng and Vedaldi 2023): for each code the batch's
//! nearest N/K vectors against the farther half of the batch.
//!
//! The authors sort the whole N x K matrix and let autograd keep it. Here scores exist for a few codes at a
//! time; their gradient with respect to the codes is formed at once, so the graph holds `[K, D]` only.

use tch::{Kind, Tensor};

use crate::Result;
use crate::candidates::{normalised, similarity};
use crate::codebook::Codebook;
use crate::nearest::{Distance, tile_budget};

/// The mean over codes of the cross entropy; gradient to the codes only. `rows` is `[N, D]`, f32; 0 when N < 2.
pub(crate) fn loss(book: &Codebook, rows: &Tensor, temperature: f64) -> Result<Tensor> {
    if rows.size()[0] < 2 {
        return Ok(Tensor::f_zeros([], (Kind::Float, rows.device()))?);
    }
    // The vector that the scores are linear in, up to the squared norm.
    let codes = match book.distance() {
        Distance::SquaredL2 => book.weight().shallow_clone(),
        Distance::Cosine => normalised(book.weight())?,
    };
    // Under autocast the products would be taken in half precision.
    let (value, slope) =
        tch::autocast(false, || tch::no_grad(|| gradient(&codes, rows, book.distance(), temperature)))?;
    // Carries `slope` to the codes; its own value is subtracted again.
    let carrier = (codes * slope).f_sum(Kind::Float)?;
    Ok(value + (&carrier - carrier.detach()))
}

/// The loss, and its gradient `[K, D]` with respect to the codes (normalised ones for the cosine).
fn gradient(codes: &Tensor, rows: &Tensor, distance: Distance, temperature: f64) -> Result<(Tensor, Tensor)> {
    let (n, k) = (rows.size()[0], codes.size()[0]);
    let step = (tile_budget(rows.device()) as i64 / 4 / n).max(1);
    let rows = match distance {
        Distance::SquaredL2 => rows.shallow_clone(),
        Distance::Cosine => normalised(rows)?,
    };
    let mut values = Vec::new();
    let mut slopes = Vec::new();
    for start in (0..k).step_by(step as usize) {
        let part = codes.detach().f_narrow(0, start, step.min(k - start))?;
        let (value, slope) = tile(&part, &rows, distance, (n / k).max(1), temperature)?;
        values.push(value);
        slopes.push(slope);
    }
    let value = Tensor::f_cat(&values, 0)?.f_mean(Kind::Float)?;
    Ok((value, Tensor::f_cat(&slopes, 0)? / k as f64))
}

/// Of C codes: the loss `[C]` and its gradient `[C, D]` with respect to the codes (normalised ones for the cosine).
fn tile(codes: &Tensor, rows: &Tensor, distance: Distance, top: i64, temperature: f64) -> Result<(Tensor, Tensor)> {
    let scores = similarity(codes, rows, distance)?;
    let half = rows.size()[0] / 2;
    let (near, near_at) = scores.f_topk(top, 1, true, false)?;
    let (far, far_at) = scores.f_topk(half, 1, false, false)?;
    let positive = near.f_mean_dim([1].as_slice(), true, Kind::Float)?;
    let logits = Tensor::f_cat(&[positive, far], 1)? / temperature;
    let value = logits.f_logsumexp([1].as_slice(), false)? - logits.f_select(1, 0)?;
    let share = logits.f_softmax(1, Kind::Float)?;
    let pull = (share.f_narrow(1, 0, 1)? - 1.0) / (temperature * top as f64);
    let push = share.f_narrow(1, 1, half)? / temperature;
    let mut by_score = Tensor::f_zeros_like(&scores)?;
    let _ = by_score.f_scatter_add_(1, &near_at, &pull.f_expand([-1, top], false)?)?;
    let _ = by_score.f_scatter_add_(1, &far_at, &push)?;
    let by_product = by_score.f_mm(rows)?;
    // A code's own norm shifts all of its scores alike, which no softmax sees.
    let slope = match distance {
        Distance::SquaredL2 => by_product * 2.0,
        Distance::Cosine => by_product,
    };
    Ok((value, slope))
}
