//! The exact solvers.
//!
//! Masses are counted in whole units of 2^-60 of the total, so flows, ties and feasibility are exact; costs and
//! duals stay f64. Points of zero mass take no part and get their duals afterwards (`finish`). Any masses go through the
//! network simplex (`simplex`), equal masses on as many sources as targets can also go through shortest augmenting
//! paths (`assignment`); a plan of part of the mass is a plan of an extended problem (`partial`).

mod assignment;
mod core;
mod finish;
mod links;
mod partial;
mod simplex;
mod start;
mod sum;
mod support;
mod tree;

pub(crate) use finish::{marginals, plan};
pub use partial::ExactPartial;
pub(crate) use support::{Support, UNITS};

use crate::Solver;
use crate::coupling::{Coupling, Status};
use crate::error::OtError;
use crate::exact::assignment::{Limits, Matching};
use crate::problem::{MASS_SLACK, Problem};

/// Exact optimal transport: any masses, any costs, forbidden arcs.
///
/// By the primal network simplex (Dantzig 1951; strongly feasible trees: Cunningham 1976; block pricing: Grigoriadis 1986)
/// over a shortlist of arcs, and for as many sources as targets of one mass by shortest augmenting paths (Jonker and
/// Volgenant 1987); [`Exact::algorithm`] prescribes one of them.
///
/// The plan has at most n + m - 1 positive entries. `f_i + g_j <= C_ij` holds for every arc, also at points of zero
/// mass, and [`Coupling::gap`] reports how far the two values are apart, which is rounding alone.
///
/// ```
/// use ndarray::array;
/// use tavq_ot::{Exact, Problem, Solver};
///
/// let cost = array![[0.0, 2.0], [1.0, f64::INFINITY]];
/// let (source, target) = (array![0.25, 0.75], array![0.75, 0.25]);
/// let problem = Problem::new(cost.view(), source.view(), target.view())?;
/// let coupling = Exact::new().solve(&problem)?;
/// assert_eq!(coupling.plan, array![[0.0, 0.25], [0.75, 0.0]]);
/// assert!((coupling.value - 1.25).abs() < 1e-15 && coupling.gap().abs() < 1e-12);
/// # Ok::<(), tavq_ot::OtError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exact {
    max_iterations: usize,
    algorithm: Algorithm,
}

/// How [`Exact`] finds the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Algorithm {
    /// [`Algorithm::Assignment`] where it can, else [`Algorithm::Simplex`].
    #[default]
    Auto,
    /// Network simplex; any problem.
    Simplex,
    /// Shortest augmenting paths (Jonker and Volgenant 1987). For as many sources as targets, all of one mass; points of
    /// zero mass do not count.
    Assignment,
}

impl Default for Exact {
    fn default() -> Self {
        Self::new()
    }
}

impl Exact {
    /// The solver that chooses its algorithm and has no limit on its iterations.
    #[must_use]
    pub fn new() -> Self {
        Self { max_iterations: usize::MAX, algorithm: Algorithm::Auto }
    }

    /// Ends after this many iterations (pivots of the simplex; bids and paths of the assignment) with
    /// [`Status::IterationLimit`] and the plan reached, whose marginals may then fall short. At least 1.
    pub fn max_iterations(self, max_iterations: usize) -> Result<Self, OtError> {
        if max_iterations == 0 { Err(OtError::MaxIterations) } else { Ok(Self { max_iterations, ..self }) }
    }

    /// Prescribes the algorithm. Solving is then [`OtError::NotAssignment`] for a problem that the assignment is asked for
    /// and that is none.
    #[must_use]
    pub fn algorithm(self, algorithm: Algorithm) -> Self {
        Self { algorithm, ..self }
    }
}

impl Solver for Exact {
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
        problem.check_balanced()?;
        let (a, b) = problem.balanced_masses();
        let support = Support::new(a.view(), b.view(), problem.total_mass());
        let one_mass = support.one_mass(a.view(), b.view());
        let (mass, work) = match (self.algorithm, one_mass) {
            (Algorithm::Assignment, mass) => (mass?, usize::MAX),
            // As much as looking at each arc twice is little beside the simplex, which goes on from the prices found.
            (Algorithm::Auto, Ok(mass)) => (mass, 2 * support.rows.len() * support.columns.len()),
            _ => return self.pivot(problem, &support, None),
        };
        let costs = support.costs(problem.cost());
        match assignment::run(costs.view(), Limits { steps: self.max_iterations, work }) {
            Ok(found) => assigned(problem, &support, mass, &found),
            Err(prices) => self.pivot(problem, &support, Some(prices)),
        }
    }
}

impl Exact {
    fn pivot(&self, problem: &Problem<'_>, support: &Support, guess: Option<Vec<f64>>) -> Result<Coupling, OtError> {
        let (costs, total) = (support.costs(problem.cost()), problem.total_mass());
        let run = simplex::run(&support.source, &support.target, costs.view(), self.max_iterations, guess);
        if run.optimal {
            check_stranded(run.tree.stranded(), total)?;
        }
        let mut flows = Vec::new();
        run.tree.for_each_arc(|i, j, flow| {
            if flow > 0 {
                flows.push((support.rows[i], support.columns[j], flow as f64 / UNITS * total));
            }
        });
        let g = support.spread(&finish::potentials(&run.tree, costs.view()), problem.dim().1);
        Ok(finish::coupling(problem, &flows, &g, run.pivots, status(run.optimal)))
    }
}

fn assigned(problem: &Problem<'_>, support: &Support, mass: f64, found: &Matching) -> Result<Coupling, OtError> {
    if found.optimal && found.stranded > 0 {
        return Err(OtError::Infeasible { stranded: mass * found.stranded as f64, total: problem.total_mass() });
    }
    let pairs = found.columns.iter().enumerate().filter_map(|(i, column)| column.map(|j| (i, j)));
    let flows: Vec<_> = pairs.map(|(i, j)| (support.rows[i], support.columns[j], mass)).collect();
    let g = support.spread(&found.prices, problem.dim().1);
    Ok(finish::coupling(problem, &flows, &g, found.steps, status(found.optimal)))
}

fn status(optimal: bool) -> Status {
    if optimal { Status::Converged } else { Status::IterationLimit }
}

/// [`OtError::Infeasible`] when more than [`MASS_SLACK`] of `total` cannot move.
fn check_stranded(units: i64, total: f64) -> Result<(), OtError> {
    let share = units as f64 / UNITS;
    if share > MASS_SLACK { Err(OtError::Infeasible { stranded: share * total, total }) } else { Ok(()) }
}

/// Whether the finite costs can carry the masses: the same simplex over costs of 0.
pub(crate) fn check_feasible(problem: &Problem<'_>) -> Result<(), OtError> {
    let (a, b) = problem.balanced_masses();
    let support = Support::new(a.view(), b.view(), problem.total_mass());
    let costs = support.costs(problem.cost()).mapv(|c| if c == f64::INFINITY { c } else { 0.0 });
    if costs.iter().all(|&c| c == 0.0) {
        return Ok(());
    }
    let run = simplex::run(&support.source, &support.target, costs.view(), usize::MAX, None);
    check_stranded(run.tree.stranded(), problem.total_mass())
}

/// [`OtError::Infeasible`] when the forbidden arcs cannot carry `mass` (at most the smaller total); free when there is no
/// forbidden arc.
pub(crate) fn check_partial(problem: &Problem<'_>, mass: f64) -> Result<(), OtError> {
    if problem.has_forbidden_arcs() { partial::check(problem, mass) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, array};

    use super::*;

    #[test]
    fn a_part_is_checked_against_the_arcs_alone() {
        let inf = f64::INFINITY;
        let (a, b) = (array![0.5, 0.5], array![0.4, 0.6]);
        let cost = array![[3.0, inf], [7.0, inf]];
        let problem = Problem::new(cost.view(), a.view(), b.view()).unwrap();
        assert_eq!(check_partial(&problem, 0.4), Ok(()));
        match check_partial(&problem, 0.5) {
            Err(OtError::Infeasible { stranded, total }) => assert!((stranded - 0.1).abs() < 1e-12 && total == 0.5),
            other => panic!("{other:?}"),
        }
        let free = Array2::zeros((2, 2));
        assert_eq!(check_partial(&Problem::new(free.view(), a.view(), b.view()).unwrap(), 1.0), Ok(()));
    }
}
