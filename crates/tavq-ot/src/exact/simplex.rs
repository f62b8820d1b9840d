//! The rounds of the network simplex: a core of arcs, pivots until none of it improves, the next core.

use ndarray::ArrayView2;

use crate::exact::core::{Core, Selection};
use crate::exact::start;
use crate::exact::tree::Tree;

/// Arcs a row of the core.
const KEEP: usize = 16;
/// A round that makes fewer pivots than this share of the points and leaves arcs out is followed by a larger core.
const MEAGRE: usize = 32;

/// Where the simplex ended.
pub(crate) struct Run {
    pub(crate) tree: Tree,
    pub(crate) pivots: usize,
    pub(crate) optimal: bool,
}

/// Moves `source` to `target` (whole units > 0 with one total) at `cost` (contiguous rows, +inf forbidden), from a guess of
/// the sinks' duals, or from the column reduction.
pub(crate) fn run(
    source: &[i64],
    target: &[i64],
    cost: ArrayView2<'_, f64>,
    max_iterations: usize,
    guess: Option<Vec<f64>>,
) -> Run {
    let (n, m) = cost.dim();
    let largest = cost.iter().filter(|c| c.is_finite()).fold(0.0, |largest: f64, c| largest.max(c.abs()));
    let weight = 4.0 * (n + m) as f64 * largest.max(1e-300);
    let mut v = guess.unwrap_or_else(|| start::column_reduction(cost));
    let mut u = start::row_reduction(cost, &v);
    let mut keep = KEEP;
    let mut core = Core::new(&Selection { cost, u: &u, v: &v, keep }, weight);
    let mut tree = start::greedy((source, target), cost, (&u, &v), &core, largest);
    // The first core was chosen by other duals than the tree's.
    let (mut pivots, mut settled) = (0, false);
    loop {
        let before = pivots;
        while let Some((row, column, cost)) = core.next(&tree) {
            if pivots == max_iterations {
                return Run { tree, pivots, optimal: false };
            }
            tree.pivot(row, column, cost);
            pivots += 1;
        }
        if settled && pivots == before && core.is_complete() {
            return Run { tree, pivots, optimal: true };
        }
        if settled && !core.is_complete() && (pivots - before) * MEAGRE < n + m {
            keep *= 4;
        }
        tree.resum();
        tree.prices(weight, &mut u, &mut v);
        core = Core::new(&Selection { cost, u: &u, v: &v, keep }, weight);
        settled = true;
    }
}
