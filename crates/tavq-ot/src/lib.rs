//! Dense optimal transport on ndarray and rayon: exact and entropic solvers behind one trait.
//!
//! A solver takes a [`Problem`] (two mass vectors and a cost matrix) and returns a [`Coupling`] (plan,
//! duals, values, marginal error, status). Non-convergence is a status, bad input a typed error.

mod problem;

pub use problem::{Coupling, OtError, Problem, Status};

/// Solves transport problems. The laws that an implementation is held to are in `laws` (feature `laws`).
pub trait Solver: Send + Sync {
    /// The coupling of `problem`; an error when the problem is not one (see [`OtError`]).
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError>;
}
