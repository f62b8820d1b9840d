//! Many problems in one call.

use rayon::prelude::*;

use crate::{Coupling, OtError, Problem, Solver};

/// Solves each problem by itself, one rayon task each; results in the order of `problems`.
///
/// Sizes may differ. A refused problem is an error in its own place and does not touch its neighbours. The bits of
/// a result do not depend on the number of threads nor on what else is in the batch.
#[must_use]
pub fn solve_batch(solver: &dyn Solver, problems: &[Problem<'_>]) -> Vec<Result<Coupling, OtError>> {
    problems.par_iter().with_max_len(1).map(|problem| solver.solve(problem)).collect()
}
