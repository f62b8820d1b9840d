mod batch;
mod coupling;
mod error;
mod exact;
#[cfg(feature = "laws")]
pub mod laws;
mod measure;
mod problem;
mod simd;
mod sinkhorn;

pub use batch::solve_batch;
pub use coupling::{Coupling, Status};
pub use error::{OtError, Side};
pub use exact::Exact;
pub use problem::{MASS_SLACK, Problem};
pub use sinkhorn::Sinkhorn;

/// Solves transport problems. The laws that an implementation is held to are in `laws` (feature `laws`).
pub trait Solver: Send + Sync {
    /// The coupling of `problem`; an error when it has none ([`OtError::Infeasible`]).
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError>;
}
