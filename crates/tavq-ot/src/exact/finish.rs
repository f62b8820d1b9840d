//! From flows and potentials to a coupling: duals of every point, and the numbers that certify them.

use ndarray::{Array1, Array2, ArrayView2};
use rayon::prelude::*;

use crate::coupling::{Coupling, Objective, Status};
use crate::exact::tree::Tree;
use crate::measure::dot;
use crate::problem::{Problem, sum};
use crate::simd::Kernel;

/// Potentials of the tree's sinks that leave every arc feasible once the sources take their c-transform.
///
/// A tree that is not flat has two kinds of parts; they are joined with the smallest weight of an artificial unit that
/// keeps every arc between them feasible.
pub(crate) fn potentials(tree: &Tree, cost: ArrayView2<'_, f64>) -> Vec<f64> {
    let sources = cost.nrows();
    let mut weight = 0.0_f64;
    if !tree.is_flat() {
        for ((i, j), &c) in cost.indexed_iter() {
            let levels = tree.level[i] + tree.level[sources + j];
            if levels < 0 && c.is_finite() {
                weight = weight.max((tree.dual[i] + tree.dual[sources + j] - c) / f64::from(-levels));
            }
        }
    }
    let sinks = tree.dual[sources..].iter().zip(&tree.level[sources..]);
    // In a flat tree every sink has the same level, which moves to the other side.
    let weight = if tree.is_flat() { 0.0 } else { weight };
    sinks.map(|(dual, &level)| dual + weight * f64::from(level)).collect()
}

/// Feasible duals of every point from potentials of the columns (NaN where there is none yet): c-transforms, which also
/// lift what rounding (or an early end) left low. 0 where a point has only forbidden arcs.
pub(crate) fn duals(cost: ArrayView2<'_, f64>, g: &Array1<f64>) -> (Array1<f64>, Array1<f64>) {
    let mut g = g.clone();
    // A potential of -inf is one that no arc is held to.
    let prices = g.mapv(|g| if g.is_nan() { f64::NEG_INFINITY } else { g });
    let f = Array1::from_vec(lowest(cost, &prices));
    if g.iter().any(|g| g.is_nan()) {
        let lows = lowest(cost.reversed_axes(), &f);
        g.iter_mut().zip(lows).filter(|(g, _)| g.is_nan()).for_each(|(g, low)| *g = low);
    }
    (f, g)
}

/// `min_j cost_ij - prices_j` of each row; 0 where that is +inf.
pub(crate) fn lowest(cost: ArrayView2<'_, f64>, prices: &Array1<f64>) -> Vec<f64> {
    let kernel = Kernel::detect();
    let finite = |low: f64| if low == f64::INFINITY { 0.0 } else { low };
    if let (true, Some(prices)) = (cost.is_standard_layout(), prices.as_slice()) {
        let rows = (0..cost.nrows()).into_par_iter().map(|i| cost.row(i).to_slice());
        return rows.map(|row| row.map_or(0.0, |row| finite(kernel.lowest(row, prices)))).collect();
    }
    let mut lows = vec![f64::INFINITY; cost.nrows()];
    for (column, &price) in cost.columns().into_iter().zip(prices) {
        match column.to_slice() {
            Some(column) => kernel.lower_all(&mut lows, column, price),
            None => lows.iter_mut().zip(column).for_each(|(low, c)| *low = low.min(c - price)),
        }
    }
    lows.into_iter().map(finite).collect()
}

/// The exact coupling of some flows (row, column, mass > 0), each arc at most once, and potentials of the columns (NaN where
/// a point has none). All but the duals comes from the flows, which are few, so a large plan is never read.
pub(crate) fn coupling(
    problem: &Problem<'_>,
    flows: &[(usize, usize, f64)],
    g: &Array1<f64>,
    iterations: usize,
    status: Status,
) -> Coupling {
    let (a, b) = problem.balanced_masses();
    let cost = problem.cost();
    let (f, g) = duals(cost, g);
    let value = sum(flows.iter().map(|&(i, j, mass)| mass * cost[[i, j]]));
    Coupling {
        plan: plan(problem.dim(), flows),
        value,
        regularized_value: value,
        dual_value: dot(a.view(), f.view()) + dot(b.view(), g.view()),
        marginal_error: {
            let (rows, columns) = marginals(problem.dim(), flows);
            let distance = |sums: Array1<f64>, masses: &Array1<f64>| (sums - masses).mapv(f64::abs).sum();
            distance(rows, &a).max(distance(columns, &b))
        },
        iterations,
        status,
        objective: Objective::Linear,
        f,
        g,
    }
}

/// The flows as a matrix.
pub(crate) fn plan(dim: (usize, usize), flows: &[(usize, usize, f64)]) -> Array2<f64> {
    let mut plan = Array2::zeros(dim);
    flows.iter().for_each(|&(i, j, mass)| plan[[i, j]] = mass);
    plan
}

/// Row and column sums of the flows.
pub(crate) fn marginals((n, m): (usize, usize), flows: &[(usize, usize, f64)]) -> (Array1<f64>, Array1<f64>) {
    let (mut rows, mut columns) = (Array1::zeros(n), Array1::zeros(m));
    for &(i, j, mass) in flows {
        rows[i] += mass;
        columns[j] += mass;
    }
    (rows, columns)
}
