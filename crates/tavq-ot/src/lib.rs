//! Dense optimal transport on ndarray: the cheapest way to move one histogram onto another.
//!
//! [`Exact`] solves the linear program, by a network simplex or as an assignment, [`ExactPartial`] the one that moves part
//! of the mass, [`Sinkhorn`] the entropic problem in the log domain; all sit behind [`Solver`], and a [`Coupling`] carries
//! the plan, its duals and the error that it really has. A [`Problem`] checks its arrays once, so that no solver, own or
//! foreign, has to. Where there is more structure there is less work: [`Line`] sorts, [`Sliced`] sorts along random lines,
//! and [`Gaussian`] has a closed form.
//!
//! ```
//! use ndarray::array;
//! use tavq_ot::{Exact, OtError, Problem, Side, Sinkhorn, Solver};
//!
//! let cost = array![[0.0, 4.0, 1.0], [3.0, 0.0, 2.0]];
//! let (source, target) = (array![0.5, 0.5], array![0.25, 0.25, 0.5]);
//! let problem = Problem::new(cost.view(), source.view(), target.view())?;
//! let exact = Exact::new().solve(&problem)?;
//! assert_eq!(exact.plan, array![[0.25, 0.0, 0.25], [0.0, 0.25, 0.25]]);
//! let blurred = Sinkhorn::new(0.1)?.solve(&problem)?.require_converged()?;
//! assert!(exact.value <= blurred.value && blurred.value < exact.value + 0.01);
//! let wrong = array![0.5, -0.5, 1.0];
//! let refused = Problem::new(cost.view(), source.view(), wrong.view()).unwrap_err();
//! assert_eq!(refused, OtError::MassNegative { side: Side::Target, index: 1, value: -0.5 });
//! # Ok::<(), OtError>(())
//! ```
//!
//! # Errors
//!
//! Nothing panics, whatever the arrays hold. Wrong input and parameters are an [`OtError`] before the first iteration,
//! one variant for each way to be wrong, with the place and the value; forbidden arcs (cost +inf) that leave no plan
//! are [`OtError::Infeasible`]. A solver that ends above its tolerance returns what it reached with a [`Status`] that
//! says so; [`Coupling::require_converged`] turns that into an error.
//!
//! # Sources
//!
//! Network simplex: Dantzig 1951; strongly feasible trees: Cunningham 1976; threaded trees: Glover, Klingman and Stutz
//! 1974, Barr, Glover and Klingman 1979; block pricing: Grigoriadis 1986; shortlists: Gottschlich and Schuhmacher 2014.
//! Assignment: Jonker and Volgenant 1987; over a core of arcs: Volgenant 1996. Partial transport: Caffarelli and McCann
//! 2010, Chapel, Alaya and Gasso 2020. The line: Santambrogio 2015; slices: Rabin, Peyre, Delon and Bernot 2011, Bonneel,
//! Rabin, Peyre and Pfister 2015. Gaussians: Dowson and Landau 1982, Givens and Shortt 1984, Olkin and Pukelsheim 1982;
//! rotations for eigenvalues: Jacobi 1846, Hestenes 1958. Entropic transport: Cuturi 2013; the log domain: Schmitzer 2019.
//! `golden/` holds the scripts that made the reference values, from POT, SciPy and mpmath, and the coefficients of the
//! vector exponential.

mod batch;
mod coupling;
mod eigen;
mod error;
mod exact;
mod gaussian;
#[cfg(feature = "laws")]
pub mod laws;
mod line;
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
mod sliced;

pub use batch::solve_batch;
pub use coupling::{Coupling, Objective, Status};
pub use error::{OtError, Side};
pub use exact::{Algorithm, Exact, ExactPartial};
pub use gaussian::{AffineMap, Gaussian};
pub use line::Line;
pub use points::{Metric, Points};
pub use problem::{MASS_SLACK, Problem};
pub use sinkhorn::{Acceleration, Form, Precision, Sinkhorn};
pub use sliced::{Sliced, SlicedDistance};

/// Solves transport problems. The laws that an implementation is held to are in `laws` (feature `laws`).
pub trait Solver: Send + Sync {
    /// The coupling of `problem`; an error when it has none ([`OtError::Infeasible`]).
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError>;
}
