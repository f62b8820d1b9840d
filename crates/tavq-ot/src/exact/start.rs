//! Where the simplex starts: the duals of a column and a row reduction, and the forest that a greedy pass finds on them.

use ndarray::ArrayView2;

use crate::exact::core::Core;
use crate::exact::tree::{Branch, Tree};
use crate::simd::Kernel;

/// `v_j = min_i c_ij`; 0 where every arc is forbidden.
pub(crate) fn column_reduction(cost: ArrayView2<'_, f64>) -> Vec<f64> {
    let kernel = Kernel::detect();
    let mut v = vec![f64::INFINITY; cost.ncols()];
    for row in cost.outer_iter().filter_map(|row| row.to_slice()) {
        kernel.lower_all(&mut v, row, 0.0);
    }
    v.iter_mut().filter(|v| **v == f64::INFINITY).for_each(|v| *v = 0.0);
    v
}

/// `u_i = min_j c_ij - v_j`; 0 where every arc is forbidden.
pub(crate) fn row_reduction(cost: ArrayView2<'_, f64>, v: &[f64]) -> Vec<f64> {
    let kernel = Kernel::detect();
    let rows = cost.outer_iter().filter_map(|row| row.to_slice());
    let lows = rows.map(|row| kernel.lowest(row, v));
    lows.map(|low| if low == f64::INFINITY { 0.0 } else { low }).collect()
}

/// Sends what it can over the arcs of `core` in the order of their reduced costs (>= 0), then what is left row by row over
/// the arc of lowest reduced cost to a column with room.
///
/// Each arc empties a source or fills a sink, so the arcs form a forest with at most one open node in a part, which is what
/// [`Tree::new`] needs.
pub(crate) fn greedy(
    (source, target): (&[i64], &[i64]),
    cost: ArrayView2<'_, f64>,
    (u, v): (&[f64], &[f64]),
    core: &Core,
    largest: f64,
) -> Tree {
    let n = source.len();
    let mut left: Vec<i64> = source.iter().chain(target).copied().collect();
    let mut arcs: Vec<(u64, u32, u32)> = Vec::new();
    // The bits of numbers that are not negative order like the numbers.
    core.for_each(|i, j, c| arcs.push(((c - v[j] - u[i]).max(0.0).to_bits(), i as u32, j as u32)));
    arcs.sort_unstable();
    let mut branches = Vec::with_capacity(left.len());
    let mut send = |left: &mut [i64], source: usize, sink: usize| {
        let flow = left[source].min(left[n + sink]);
        if flow > 0 {
            left[source] -= flow;
            left[n + sink] -= flow;
            branches.push(Branch { source, sink, flow, cost: cost[[source, sink]] });
        }
    };
    for &(_, i, j) in &arcs {
        send(&mut left, i as usize, j as usize);
    }
    let mut open: Vec<usize> = (0..target.len()).filter(|&j| left[n + j] > 0).collect();
    for (i, row) in cost.outer_iter().enumerate() {
        while left[i] > 0 {
            let allowed = open.iter().copied().filter(|&j| row[j] < f64::INFINITY);
            let Some(j) = allowed.min_by(|&j, &k| (row[j] - v[j]).total_cmp(&(row[k] - v[k]))) else { break };
            send(&mut left, i, j);
            open.retain(|&j| left[n + j] > 0);
        }
    }
    let height: Vec<f64> = u.iter().chain(v).copied().collect();
    Tree::new(n, &branches, &left, &height, largest)
}
