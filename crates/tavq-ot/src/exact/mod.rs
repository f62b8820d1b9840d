//! The exact solver: primal network simplex on the bipartite graph of sources and targets.
//!
//! Masses are counted in whole units of 2^-60 of the total, so flows, ties and feasibility are exact; costs and
//! duals stay f64. Points of zero mass take no part in the tree and get their duals afterwards.

mod pricing;
mod tree;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, CowArray, Ix2};

use crate::coupling::{Coupling, Objective, Status};
use crate::error::OtError;
use crate::measure::{dot, marginal_error, transport_cost};
use crate::problem::{MASS_SLACK, Problem};
use crate::{Solver, exact::pricing::Pricing, exact::tree::Tree};

/// Exact optimal transport by the primal network simplex (Dantzig 1951; strongly feasible trees: Cunningham 1976;
/// block pricing: Grigoriadis 1986). Any masses, any costs, forbidden arcs.
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
}

impl Default for Exact {
    fn default() -> Self {
        Self::new()
    }
}

impl Exact {
    /// The simplex without a limit on its pivots.
    #[must_use]
    pub fn new() -> Self {
        Self { max_iterations: usize::MAX }
    }

    /// Ends after this many pivots with [`Status::IterationLimit`] and the plan reached, whose marginals may then
    /// fall short. At least 1.
    pub fn max_iterations(self, max_iterations: usize) -> Result<Self, OtError> {
        if max_iterations == 0 { Err(OtError::MaxIterations) } else { Ok(Self { max_iterations }) }
    }
}

impl Solver for Exact {
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
        problem.check_balanced()?;
        let support = Support::new(problem);
        let costs = support.costs(problem.cost());
        let run = run(&support, costs.view(), self.max_iterations);
        if run.optimal && run.tree.stranded() as f64 > MASS_SLACK * UNITS {
            let stranded = run.tree.stranded() as f64 / UNITS * problem.total_mass();
            return Err(OtError::Infeasible { stranded, total: problem.total_mass() });
        }
        Ok(finish(problem, &support, &costs, &run))
    }
}

/// Whether the finite costs can carry the masses: the same simplex over costs of 0.
pub(crate) fn check_feasible(problem: &Problem<'_>) -> Result<(), OtError> {
    let support = Support::new(problem);
    let costs = support.costs(problem.cost()).mapv(|c| if c == f64::INFINITY { c } else { 0.0 });
    if costs.iter().all(|&c| c == 0.0) {
        return Ok(());
    }
    let stranded = run(&support, costs.view(), usize::MAX).tree.stranded() as f64 / UNITS;
    if stranded > MASS_SLACK {
        let total = problem.total_mass();
        return Err(OtError::Infeasible { stranded: stranded * total, total });
    }
    Ok(())
}

/// Whole units that the total mass is counted in; sums of them stay far inside i64.
const UNITS: f64 = (1_u64 << 60) as f64;

/// The points of positive mass, and their masses in units.
struct Support {
    rows: Vec<usize>,
    columns: Vec<usize>,
    source: Vec<i64>,
    target: Vec<i64>,
}

impl Support {
    fn new(problem: &Problem<'_>) -> Self {
        let (a, b) = problem.balanced_masses();
        let (rows, mut source) = units(a.view(), problem.total_mass());
        let (columns, mut target) = units(b.view(), problem.total_mass());
        // Rounding leaves a few hundred units between the sides; the largest mass of the lighter side takes them.
        let missing = source.iter().sum::<i64>() - target.iter().sum::<i64>();
        let lighter = if missing > 0 { &mut target } else { &mut source };
        if let Some(largest) = lighter.iter_mut().rev().max_by_key(|mass| **mass) {
            *largest += missing.abs();
        }
        Self { rows, columns, source, target }
    }

    /// The cost between points of the support, with contiguous rows.
    fn costs<'c>(&self, cost: ArrayView2<'c, f64>) -> CowArray<'c, f64, Ix2> {
        if (self.rows.len(), self.columns.len()) == cost.dim() && cost.is_standard_layout() {
            return CowArray::from(cost);
        }
        CowArray::from(Array2::from_shape_fn((self.rows.len(), self.columns.len()), |(i, j)| {
            cost[[self.rows[i], self.columns[j]]]
        }))
    }
}

/// Places and units of the masses that are at least one unit.
fn units(masses: ArrayView1<'_, f64>, total: f64) -> (Vec<usize>, Vec<i64>) {
    masses.iter().map(|mass| (mass / total * UNITS).round() as i64).enumerate().filter(|&(_, units)| units > 0).unzip()
}

/// Where the simplex ended.
struct Run {
    tree: Tree,
    pivots: usize,
    optimal: bool,
}

fn run(support: &Support, cost: ArrayView2<'_, f64>, max_iterations: usize) -> Run {
    let largest = cost.iter().filter(|c| c.is_finite()).fold(0.0, |largest: f64, c| largest.max(c.abs()));
    let mut pricing = Pricing::new(cost, largest);
    let mut tree = Tree::new(&support.source, &support.target);
    let mut pivots = 0;
    while let Some((row, column)) = pricing.next(&tree) {
        if pivots == max_iterations {
            return Run { tree, pivots, optimal: false };
        }
        tree.pivot(row, column, cost[[row, column]]);
        pivots += 1;
    }
    Run { tree, pivots, optimal: true }
}

fn finish(problem: &Problem<'_>, support: &Support, costs: &CowArray<'_, f64, Ix2>, run: &Run) -> Coupling {
    let total = problem.total_mass();
    let mut plan = Array2::zeros(problem.dim());
    run.tree.for_each_arc(|i, j, flow| {
        plan[[support.rows[i], support.columns[j]]] = flow as f64 / UNITS * total;
    });
    let (a, b) = problem.balanced_masses();
    let (f, g) = duals(problem, support, costs, &run.tree);
    let value = transport_cost(plan.view(), problem.cost());
    Coupling {
        value,
        regularized_value: value,
        dual_value: dot(a.view(), f.view()) + dot(b.view(), g.view()),
        marginal_error: marginal_error(plan.view(), a.view(), b.view()),
        iterations: run.pivots,
        status: if run.optimal { Status::Converged } else { Status::IterationLimit },
        objective: Objective::Linear,
        plan,
        f,
        g,
    }
}

/// Feasible duals of every point.
///
/// The two parts of the tree's duals are joined with the smallest weight that keeps every arc feasible; two
/// c-transforms then give the points outside the tree theirs, and lift what rounding (or an early end) left low.
fn duals(
    problem: &Problem<'_>,
    support: &Support,
    costs: &CowArray<'_, f64, Ix2>,
    tree: &Tree,
) -> (Array1<f64>, Array1<f64>) {
    let sources = support.rows.len();
    let mut weight = 0.0_f64;
    for ((i, j), &c) in costs.indexed_iter() {
        let levels = tree.level[i] + tree.level[sources + j];
        if levels < 0 && c.is_finite() {
            weight = weight.max((tree.dual[i] + tree.dual[sources + j] - c) / f64::from(-levels));
        }
    }
    let mut g = Array1::from_elem(problem.dim().1, f64::NAN);
    for (j, &column) in support.columns.iter().enumerate() {
        g[column] = tree.dual[sources + j] + weight * f64::from(tree.level[sources + j]);
    }
    let cost = problem.cost();
    let f = cost.outer_iter().map(|row| lowest(row, g.view())).collect::<Array1<f64>>();
    for (j, column) in cost.columns().into_iter().enumerate() {
        if g[j].is_nan() {
            g[j] = lowest(column, f.view());
        }
    }
    (f, g)
}

/// `min_k (cost_k - potential_k)` over the potentials that exist (are no NaN); 0 when every such arc is forbidden.
fn lowest(costs: ArrayView1<'_, f64>, potentials: ArrayView1<'_, f64>) -> f64 {
    let low = costs.iter().zip(potentials).map(|(c, p)| c - p).fold(f64::INFINITY, f64::min);
    if low == f64::INFINITY { 0.0 } else { low }
}

/// Whether the finite costs can carry this `mass` of a partial plan.
pub(crate) fn check_partial(_problem: &Problem<'_>, _mass: f64) -> Result<(), OtError> {
    Ok(())
}
