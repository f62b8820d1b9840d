//! Batched entropic transport on tensors: the contract, the checks and the plan. The iterations are in `scaling`.

use serde::{Deserialize, Serialize};
use tavq_torch::check_shape;
use tch::{Kind, Tensor, no_grad};

use crate::config::{at_least_one, positive};
use crate::scaling::{self, Solved};
use crate::{AlignError, Result};

/// Options of [`sinkhorn`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SinkhornConfig {
    /// Strength of the entropy, in units of the cost; above 0.
    pub epsilon: f64,
    /// L1 error of the marginals at which a problem counts as solved; above 0.
    pub tolerance: f64,
    /// Iterations at most; at least 1.
    pub max_iterations: i64,
}

impl Default for SinkhornConfig {
    fn default() -> Self {
        Self { epsilon: 0.05, tolerance: 1e-3, max_iterations: 100 }
    }
}

impl SinkhornConfig {
    /// Refuses values out of their range; `field` is this configuration's own path.
    pub fn check(&self, field: &str) -> Result<()> {
        positive(self.epsilon, || format!("{field}.epsilon"))?;
        positive(self.tolerance, || format!("{field}.tolerance"))?;
        at_least_one(self.max_iterations, || format!("{field}.max_iterations"))
    }
}

/// How a batch of problems ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Every problem reached the tolerance; rounding may leave a plan at up to twice that.
    Converged,
    /// Rounding keeps the worst error above the tolerance (in f32: near 2^-24 of the cost's range / epsilon).
    Stalled,
    /// The iterations ran out above the tolerance.
    IterationLimit,
}

/// The plans of `P` problems. Nothing here carries a gradient.
#[derive(Debug)]
pub struct Transport {
    /// `[P, S, M]`: `a_i b_j exp((f_i + g_j - C_ij) / epsilon)`, exactly 0 where a mass is 0.
    pub plan: Tensor,
    /// `[P, S, M]`: the costs solved for, 0 where a mass is 0.
    pub cost: Tensor,
    /// `[P, S]`: dual of the source masses, in units of the cost; 0 where the mass is 0.
    pub f: Tensor,
    /// `[P, M]`: dual of the target masses, likewise.
    pub g: Tensor,
    /// Iterations of the problem that needed most.
    pub iterations: i64,
    /// `[P]`: L1 distance of the plan's marginals from the masses, read off the plan itself.
    pub error: Tensor,
    /// How the batch ended.
    pub status: Status,
}

/// Solves `P` problems `min <P, C> + epsilon KL(P | a b^T)` with row sums a and column sums b.
///
/// `cost` is `[P, S, M]`, `source` `[P, S]` and `target` `[P, M]`, >= 0, with equal totals per problem (to
/// 1e-4 of the total); all in one kind: f32, or f64 for f64 costs (half kinds are computed in f32). A mass
/// of 0 takes its cell out: the costs there may be anything, NaN included. Where both masses are above 0 the
/// cost must be finite. A problem whose masses are all 0 has the zero plan.
///
/// Running out of iterations is a [`Status`], not an error.
pub fn sinkhorn(cost: &Tensor, source: &Tensor, target: &Tensor, config: &SinkhornConfig) -> Result<Transport> {
    config.check("sinkhorn")?;
    check_shape("cost", cost, &[-1, -1, -1])?;
    let (p, s, m) = cost.size3()?;
    check_shape("source masses", source, &[p, s])?;
    check_shape("target masses", target, &[p, m])?;
    if p == 0 || s == 0 || m == 0 {
        return Err(AlignError::Values {
            what: "cost",
            expected: "at least one problem, row and column",
            found: format!("{:?}", cost.size()),
        });
    }
    no_grad(|| {
        let kind = if cost.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let [cost, source, target] = [cost, source, target].map(|t| t.detach().to_kind(kind));
        check_masses(&source, &target)?;
        solve(&masked(&cost, &source, &target), &source, &target, config)
    })
}

/// `cost` with 0 wherever a mass is 0; differentiable.
pub(crate) fn masked(cost: &Tensor, source: &Tensor, target: &Tensor) -> Tensor {
    let outside = source.eq(0.0).unsqueeze(-1).logical_or(&target.eq(0.0).unsqueeze(-2));
    cost.masked_fill(&outside, 0.0)
}

fn check_masses(source: &Tensor, target: &Tensor) -> Result<()> {
    for (what, masses) in [("source masses", source), ("target masses", target)] {
        let valid = masses.ge(0.0).logical_and(&masses.isfinite()).all();
        if valid.int64_value(&[]) == 0 {
            let found = format!("minimum {}", masses.min().double_value(&[]));
            return Err(AlignError::Values { what, expected: "finite and >= 0", found });
        }
    }
    let (a, b) = (sum_last(source), sum_last(target));
    let gap = ((&a - &b).abs() - &a * 1e-4).max().double_value(&[]);
    if gap > 0.0 {
        return Err(AlignError::Values {
            what: "target masses",
            expected: "the total of the source masses in every problem",
            found: format!("totals {:.6} apart", (a - b).abs().max().double_value(&[])),
        });
    }
    Ok(())
}

pub(crate) fn sum_last(x: &Tensor) -> Tensor {
    x.sum_dim_intlist([-1i64].as_slice(), false, None::<Kind>)
}

/// Solves for checked masses and for costs that are finite everywhere; call under `no_grad`.
pub(crate) fn solve(cost: &Tensor, a: &Tensor, b: &Tensor, config: &SinkhornConfig) -> Result<Transport> {
    let logits = cost * (-1.0 / config.epsilon);
    let Solved { phi, gamma, iterations, status } = scaling::solve(&logits, a, b, config)?;
    let plan = scaling::kernel(&logits, &(&phi + a.log()), &(&gamma + b.log()));
    let rows = sum_last(&plan) - a;
    let columns = plan.sum_dim_intlist([-2i64].as_slice(), false, None::<Kind>) - b;
    let error = sum_last(&rows.abs()) + sum_last(&columns.abs());
    // The iterations read errors off the scalings, before rounding.
    let rounded = status == Status::Converged && error.max().double_value(&[]) > 2.0 * config.tolerance;
    let status = if rounded { Status::Stalled } else { status };
    let dual = |potential: Tensor, mass: &Tensor| potential.masked_fill(&mass.eq(0.0), 0.0) * config.epsilon;
    let (f, g) = (dual(phi, a), dual(gamma, b));
    Ok(Transport { plan, cost: cost.shallow_clone(), f, g, iterations, error, status })
}
