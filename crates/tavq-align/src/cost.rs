//! Costs between mapped codes and text vectors.
//!
//! Each is one batched matrix product. Products of nearly parallel vectors lose most of their digits in
//! TF32, so a caller on CUDA leaves `allow_tf32` for matrix products off, which is libtorch's default.

use serde::{Deserialize, Serialize};
use tavq_torch::check_shape;
use tch::{Kind, Tensor};

use crate::{Cost, Result};

/// Which cost to use; `kind` names it. The braces make serde refuse keys that a variant does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CostConfig {
    /// [`CosineCost`].
    Cosine {},
    /// [`SquaredEuclidean`].
    SquaredEuclidean {},
}

impl Default for CostConfig {
    fn default() -> Self {
        Self::Cosine {}
    }
}

impl CostConfig {
    /// The cost named.
    pub fn build(&self) -> Box<dyn Cost> {
        match self {
            Self::Cosine {} => Box::new(CosineCost),
            Self::SquaredEuclidean {} => Box::new(SquaredEuclidean),
        }
    }
}

/// `1 - cos(x, y)`, in `[0, 2]`. A zero vector has cosine 0 with everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct CosineCost;

impl Cost for CosineCost {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        check_points(x, y)?;
        // -(x' y) + 1, in place: the product is the largest tensor of a step.
        let mut cost = normalized(x).bmm(&normalized(y).transpose(1, 2)).neg();
        let _ = cost.g_add_scalar_(1.0);
        Ok(cost)
    }
}

/// `|x - y|^2`, computed as `|x|^2 + |y|^2 - 2 x.y` and clamped at 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct SquaredEuclidean;

impl Cost for SquaredEuclidean {
    fn matrix(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        check_points(x, y)?;
        let norms = square_norms(x) + square_norms(y).transpose(1, 2);
        Ok((norms - x.bmm(&y.transpose(1, 2)) * 2.0).clamp_min(0.0))
    }
}

/// Costs between every set of `x` and every set of `y`: `[I, S, D]` and `[T, M, D]` to `[I, T, S, M]`,
/// contiguous, as one call of [`Cost::matrix`] on all points at once.
pub fn all_pairs(cost: &dyn Cost, x: &Tensor, y: &Tensor) -> Result<Tensor> {
    check_shape("x", x, &[-1, -1, -1])?;
    check_shape("y", y, &[-1, -1, x.size()[2]])?;
    let (i, s, d) = x.size3()?;
    let (t, m, _) = y.size3()?;
    let flat = cost.matrix(&x.reshape([1, i * s, d]), &y.reshape([1, t * m, d]))?;
    check_shape("cost of all pairs", &flat, &[1, i * s, t * m])?;
    Ok(flat.view([i, s, t, m]).permute([0, 2, 1, 3]).contiguous())
}

fn check_points(x: &Tensor, y: &Tensor) -> Result<()> {
    check_shape("x", x, &[-1, -1, -1])?;
    let (b, _, d) = x.size3()?;
    check_shape("y", y, &[b, -1, d])?;
    Ok(())
}

fn square_norms(x: &Tensor) -> Tensor {
    (x * x).sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>)
}

// The floor on |x|^2 keeps the gradient of a zero vector finite.
fn normalized(x: &Tensor) -> Tensor {
    x * square_norms(x).clamp_min(1e-12).rsqrt()
}
