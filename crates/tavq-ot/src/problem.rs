//! What goes into a solver and what comes out.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

/// Masses `source` (n), `target` (m) and the `cost` (n x m) of moving one unit between them.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// n x m, finite or +inf (forbidden).
    pub cost: ArrayView2<'a, f64>,
    /// n masses, >= 0.
    pub source: ArrayView1<'a, f64>,
    /// m masses, >= 0, of the same total.
    pub target: ArrayView1<'a, f64>,
}

/// How a solver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The tolerance was reached.
    Converged,
    /// The error stopped falling above the tolerance.
    Stalled,
    /// The iterations ran out above the tolerance.
    IterationLimit,
}

/// A transport plan with its certificates.
#[derive(Debug, Clone)]
pub struct Coupling {
    /// n x m, >= 0.
    pub plan: Array2<f64>,
    /// Dual of the source marginal (n).
    pub f: Array1<f64>,
    /// Dual of the target marginal (m).
    pub g: Array1<f64>,
    /// `<P, C>`.
    pub value: f64,
    /// `<P, C> + epsilon KL(P | a b^T)`; equal to `value` for an exact solver.
    pub regularized_value: f64,
    /// The dual objective at `f`, `g`.
    pub dual_value: f64,
    /// L1 distance of the plan's marginals from the masses.
    pub marginal_error: f64,
    /// Iterations (pivots for a simplex).
    pub iterations: usize,
    /// How it ended.
    pub status: Status,
}

/// Why a problem was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OtError {}
