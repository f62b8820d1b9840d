#![doc = include_str!("../README.md")]
//!
//! # Sources
//!
//! Network simplex: Dantzig 1951; strongly feasible trees: Cunningham 1976; block pricing: Grigoriadis 1986; shortest
//! augmenting paths: Jonker and Volgenant 1987. Entropic transport: Cuturi 2013; the log domain: Schmitzer 2019; unbalanced:
//! Chizat, Peyre, Schmitzer, Vialard 2018; partial: Benamou, Carlier, Cuturi, Nenna, Peyre 2015; divergence: Feydy et al.
//! 2019; over-relaxation: Lehmann, von Renesse, Sambale, Uschmajew 2022; mixing: Anderson 1965; gradients of the sharp value:
//! Luise, Rudi, Pontil, Ciliberto 2018. `golden/` holds the scripts that made the reference values, from POT and SciPy, and
//! the coefficients of the vector exponential.

mod batch;
mod coupling;
mod error;
mod exact;
mod gradients;
#[cfg(feature = "laws")]
pub mod laws;
mod measure;
mod points;
mod problem;
mod simd;
mod simd_lanes;
mod simd_price;
mod simd_rows;
#[cfg(target_arch = "x86_64")]
mod simd_x86;
mod sinkhorn;

pub use batch::solve_batch;
pub use coupling::{Coupling, Objective, Potentials, Reference, Status};
pub use error::{OtError, Side};
pub use exact::{Algorithm, Exact, ExactPartial};
pub use gradients::{Gradients, PointGradients};
pub use points::{Metric, Points};
pub use problem::{MASS_SLACK, Problem};
pub use sinkhorn::{Acceleration, Divergence, EntropicPartial, Form, Precision, Sinkhorn, Unbalanced};

/// Solves transport problems. The laws that an implementation is held to are in `laws` (feature `laws`).
pub trait Solver: Send + Sync {
    /// The coupling of `problem`; an error when it has none ([`OtError::Infeasible`]).
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError>;
}
