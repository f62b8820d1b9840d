//! The exact solver: primal network simplex on the bipartite graph of sources and targets.
//!
//! Masses are counted in whole units of 2^-60 of the total, so flows, ties and feasibility are exact; costs and
//! duals stay f64. Points of zero mass take no part in the tree and get their duals afterwards.

mod core;
mod links;
mod start;
mod tree;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, CowArray, Ix2};

use crate::coupling::{Coupling, Objective, Status};
use crate::error::OtError;
use crate::measure::{dot, marginal_error, transport_cost};
use crate::problem::{MASS_SLACK, Problem};
use crate::{Solver, exact::core::Core, exact::tree::Tree};

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

fn env(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

fn run(support: &Support, cost: ArrayView2<'_, f64>, max_iterations: usize) -> Run {
    let t0 = std::time::Instant::now();
    let largest = cost.iter().filter(|c| c.is_finite()).fold(0.0, |largest: f64, c| largest.max(c.abs()));
    let (n, m) = cost.dim();
    let v: Vec<f64> = if env("SK", 0.0) > 0.0 {
        let a = Array1::from_iter(support.source.iter().map(|&x| x as f64 / UNITS));
        let b = Array1::from_iter(support.target.iter().map(|&x| x as f64 / UNITS));
        let p = Problem::new(cost, a.view(), b.view()).unwrap();
        let r = crate::Sinkhorn::new(env("EPS", 0.01) * largest).unwrap().max_iterations(env("SK", 0.0) as usize).unwrap().solve(&p).unwrap();
        r.g.to_vec()
    } else {
        (0..m).map(|j| cost.column(j).iter().fold(f64::INFINITY, |a, &c| a.min(c))).map(|c| if c.is_finite() { c } else { 0.0 }).collect()
    };
    let t1 = t0.elapsed().as_secs_f64();
    let mut u: Vec<f64> = cost.outer_iter().map(|row| lowest(row, ArrayView1::from(&v[..]))).collect();
    let keep = env("KEEP", 16.0);
    let mut v = v;
    let weight = 4.0 * (n + m) as f64 * largest.max(1e-300);
    let b = bound(cost, &u, &v, keep);
    let mut core = Core::new(cost, &u, &v, b, (keep * n as f64) as usize);
    let mut tree = start::tree(&support.source, &support.target, cost, &u, &v, &core, largest);
    let mut pivots = 0;
    let mut keep_now = keep;
    let t2 = t0.elapsed().as_secs_f64();
    let mut log = vec![];
    let mut scans = 0.0;
    loop {
        let before = pivots;
        core.block = (env("BLOCK", 1.0) * core.block as f64) as usize + 1;
        loop {
            let Some((i, j, c)) = core.next(&tree, weight) else { break };
            if pivots == max_iterations {
                return Run { tree, pivots, optimal: false };
            }
            tree.pivot(i, j, c);
            pivots += 1;
        }
        log.push((core.len(), pivots));
        if pivots == before {
            if core.complete && !tree.has_drift() && log.len() > 1 { break; }
            if !core.complete { keep_now *= 4.0; }
        }
        tree.resum();
        let level = |k: usize| if tree.is_flat() { 0.0 } else { weight * f64::from(tree.level[k]) };
        for i in 0..n { u[i] = tree.dual[i] + level(i); }
        for j in 0..m { v[j] = tree.dual[n + j] + level(n + j); }
        let ts = std::time::Instant::now();
        let b = bound(cost, &u, &v, keep_now);
        core = Core::new(cost, &u, &v, b, core.len());
        scans += ts.elapsed().as_secs_f64();
    }
    if env("DBG", 0.0) > 0.0 { eprintln!("guess {:.2} start {:.2} total {:.2} scans {:.2} ms {log:?}", t1 * 1e3, t2 * 1e3, t0.elapsed().as_secs_f64() * 1e3, scans * 1e3); }
    Run { tree, pivots, optimal: true }
}

fn bound(cost: ArrayView2<'_, f64>, u: &[f64], v: &[f64], keep: f64) -> f64 {
    let (n, m) = cost.dim();
    let rows = (n / 64).max(16).min(n);
    let mut sample = Vec::with_capacity(rows * m);
    for k in 0..rows {
        let i = k * n / rows;
        sample.extend(cost.row(i).iter().zip(v).map(|(c, v)| c - v - u[i]));
    }
    let rank = ((keep * rows as f64) as usize).min(sample.len() - 1);
    *sample.select_nth_unstable_by(rank, f64::total_cmp).1
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
