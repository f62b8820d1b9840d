//! What comes out of a solver: a plan together with the numbers that certify it.

use std::fmt;

use ndarray::{Array1, Array2};

use crate::error::OtError;

/// How a solver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The tolerance was reached.
    Converged,
    /// The error stopped falling above the tolerance: rounding allows no better.
    Stalled,
    /// The iterations ran out above the tolerance.
    IterationLimit,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Converged => "converged",
            Self::Stalled => "stalled",
            Self::IterationLimit => "iteration_limit",
        })
    }
}

/// What a plan is the minimiser of. Written here for a [`Coupling`] of masses `a`, `b` (totals `A`, `B`, or `M` where they
/// agree) and with `KL(p | q) = sum p ln(p / q) - p + q`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Objective {
    /// `<P, C>` over the plans with marginals `a`, `b`.
    Linear,
    /// `<P, C> + epsilon KL(P | a b^T / M)` over the same plans.
    Entropic {
        /// Strength of the entropy term, > 0.
        epsilon: f64,
    },
    /// `<P, C> + epsilon KL(P | Q) + rho_a KL(P 1 | a) + rho_b KL(P^T 1 | b)` over all P >= 0.
    Unbalanced {
        /// Q.
        reference: Reference,
        /// Strength of the entropy term, > 0.
        epsilon: f64,
        /// rho_a, rho_b, > 0; +inf prescribes the marginal.
        strengths: [f64; 2],
    },
    /// `<P, C>` over the plans of total `mass` with marginals of at most `a`, `b`.
    Partial {
        /// Total of the plan.
        mass: f64,
    },
    /// `<P, C> + epsilon KL(P | a b^T)` over the same plans.
    EntropicPartial {
        /// Total of the plan.
        mass: f64,
        /// Strength of the entropy term, > 0.
        epsilon: f64,
    },
}

/// What the entropy of an unbalanced plan is relative to. (Prescribed marginals make both the same plan.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Reference {
    /// `a b^T`.
    #[default]
    Product,
    /// 1 for each pair of points that have mass.
    Counting,
}

/// A transport plan with its certificates.
///
/// With masses `a`, `b` of total `M` (rescaled by [`crate::Problem::balanced_masses`]) and entropic strength
/// `epsilon` (0 for an exact solver):
///
/// * an exact plan has `f_i + g_j <= C_ij` everywhere, with equality where the plan is positive;
/// * an entropic plan is `P_ij = a_i b_j / M * exp((f_i + g_j - C_ij) / epsilon)`;
/// * unbalanced and partial solvers document theirs.
///
/// The duals are defined up to one constant that moves from `f` to `g`; they are finite also at points of zero
/// mass, where they are the (soft) c-transform of the other side, and 0 where such a point has only forbidden arcs.
#[derive(Debug, Clone, PartialEq)]
pub struct Coupling {
    /// n x m, >= 0; exactly 0 in rows and columns of zero mass and on forbidden arcs.
    pub plan: Array2<f64>,
    /// Dual of the source marginal (n).
    pub f: Array1<f64>,
    /// Dual of the target marginal (m).
    pub g: Array1<f64>,
    /// `<P, C>`, the transport cost without the entropy term (a forbidden arc counts 0: it carries nothing).
    pub value: f64,
    /// `<P, C> + epsilon KL(P | a b^T / M)`, with `KL(P | Q) = sum P ln(P / Q) - P + Q`; equal to `value` for an
    /// exact solver.
    pub regularized_value: f64,
    /// The dual objective at `f`, `g`: `<a, f> + <b, g> - epsilon (sum P - M)`.
    pub dual_value: f64,
    /// L1 distance of the plan's row sums from what they should be (`a`, where that is prescribed), or of its column sums,
    /// whichever is larger.
    pub marginal_error: f64,
    /// Iterations (pivots for a simplex).
    pub iterations: usize,
    /// How it ended.
    pub status: Status,
    /// What the plan is the minimiser of, up to the error.
    pub objective: Objective,
}

/// What a solver knows of a plan that it never stored: everything that a [`Coupling`] has but the plan itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Potentials {
    /// Dual of the source marginal (n).
    pub f: Array1<f64>,
    /// Dual of the target marginal (m).
    pub g: Array1<f64>,
    /// `<P, C>`.
    pub value: f64,
    /// The objective with its entropy term.
    pub regularized_value: f64,
    /// The dual objective.
    pub dual_value: f64,
    /// Larger L1 distance of a marginal from its masses.
    pub marginal_error: f64,
    /// Iterations.
    pub iterations: usize,
    /// How it ended.
    pub status: Status,
    /// What the plan is the minimiser of, up to the error.
    pub objective: Objective,
}

impl Potentials {
    /// Primal minus dual value.
    #[must_use]
    pub fn gap(&self) -> f64 {
        self.regularized_value - self.dual_value
    }

    /// Itself when the solver converged, [`OtError::NotConverged`] otherwise.
    pub fn require_converged(self) -> Result<Self, OtError> {
        require(self.status, self.iterations, self.marginal_error)?;
        Ok(self)
    }

    /// With the plan that it belongs to.
    pub(crate) fn with_plan(self, plan: Array2<f64>) -> Coupling {
        let Self { f, g, value, regularized_value, dual_value, marginal_error, iterations, status, objective } = self;
        Coupling { plan, f, g, value, regularized_value, dual_value, marginal_error, iterations, status, objective }
    }
}

fn require(status: Status, iterations: usize, marginal_error: f64) -> Result<(), OtError> {
    match status {
        Status::Converged => Ok(()),
        status => Err(OtError::NotConverged { status, iterations, marginal_error }),
    }
}

impl Coupling {
    /// Primal minus dual value: `regularized_value - dual_value`.
    ///
    /// For a plan with exact marginals this bounds the distance from the optimum. An entropic plan meets its
    /// marginals only up to `marginal_error`, so its gap may fall below zero by about `marginal_error` times the
    /// magnitude of the duals.
    #[must_use]
    pub fn gap(&self) -> f64 {
        self.regularized_value - self.dual_value
    }

    /// The coupling itself when the solver converged, [`OtError::NotConverged`] otherwise.
    pub fn require_converged(self) -> Result<Self, OtError> {
        require(self.status, self.iterations, self.marginal_error)?;
        Ok(self)
    }
}
