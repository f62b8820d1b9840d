#![doc = include_str!("../README.md")]
//!
//! # Sources
//!
//! Network simplex: Dantzig 1951; strongly feasible trees: Cunningham 1976; threaded trees: Glover, Klingman and Stutz
//! 1974, Barr, Glover and Klingman 1979; block pricing: Grigoriadis 1986; shortlists: Gottschlich and Schuhmacher 2014.
//! Assignment: Jonker and Volgenant 1987; over a core of arcs: Volgenant 1996. Partial transport: Caffarelli and McCann
//! 2010, Chapel, Alaya and Gasso 2020; entropic: Benamou, Carlier, Cuturi, Nenna, Peyre 2015. The line: Santambrogio 2015;
//! slices: Rabin, Peyre, Delon and Bernot 2011, Bonneel, Rabin, Peyre and Pfister 2015. Gaussians: Dowson and Landau 1982,
//! Givens and Shortt 1984, Olkin and Pukelsheim 1982; rotations for eigenvalues: Jacobi 1846, Hestenes 1958. Entropic
//! transport: Cuturi 2013; the log domain: Schmitzer 2019; unbalanced: Chizat, Peyre, Schmitzer, Vialard 2018; its constant:
//! Sejourne, Vialard, Peyre 2022; divergence: Feydy et al. 2019; over-relaxation: Lehmann, von Renesse, Sambale, Uschmajew
//! 2022; mixing: Anderson 1965; gradients of the sharp value: Luise, Rudi, Pontil, Ciliberto 2018. `golden/` holds the
//! scripts that made the reference values, from POT, SciPy and mpmath, and the coefficients of the vector exponential.

mod aligned;
mod batch;
mod coupling;
mod eigen;
mod error;
mod exact;
mod gaussian;
mod gradients;
#[cfg(feature = "laws")]
pub mod laws;
mod line;
mod measure;
mod points;
mod problem;
mod simd;
mod sinkhorn;
mod sliced;

pub use batch::solve_batch;
pub use coupling::{Coupling, Objective, Potentials, Reference, Status};
pub use error::{OtError, Side};
pub use exact::{Algorithm, Exact, ExactPartial};
pub use gaussian::{AffineMap, Gaussian};
pub use gradients::{Gradients, PointGradients};
pub use line::Line;
pub use points::{Metric, Points};
pub use problem::{MASS_SLACK, Problem};
pub use sinkhorn::{Acceleration, Divergence, EntropicPartial, Form, Precision, Sinkhorn, Unbalanced};
pub use sliced::{Sliced, SlicedDistance};

/// Solves transport problems. The laws that an implementation is held to are in `laws` (feature `laws`).
pub trait Solver: Send + Sync {
    /// The coupling of `problem`; an error when it has none ([`OtError::Infeasible`]).
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError>;
}
