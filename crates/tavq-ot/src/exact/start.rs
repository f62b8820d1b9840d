//! Where the simplex starts.

use ndarray::ArrayView2;

use crate::exact::core::Core;
use crate::exact::tree::{Branch, Tree};

/// A tree.
pub(crate) fn tree(source: &[i64], target: &[i64], cost: ArrayView2<'_, f64>, u: &[f64], v: &[f64], core: &Core, largest: f64) -> Tree {
    let n = source.len();
    let mut left: Vec<i64> = source.iter().chain(target).copied().collect();
    let mut arcs: Vec<(f64, u32, u32, f64)> = Vec::with_capacity(core.len());
    core.for_each(|i, j, c| arcs.push((c - u[i] - v[j], i as u32, j as u32, c)));
    arcs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut branches = Vec::with_capacity(left.len());
    let mut put = |i: usize, j: usize, cost: f64, left: &mut Vec<i64>| {
        let flow = left[i].min(left[n + j]);
        if flow > 0 {
            left[i] -= flow;
            left[n + j] -= flow;
            branches.push(Branch { source: i, sink: j, flow, cost });
        }
    };
    for &(_, i, j, c) in &arcs {
        put(i as usize, j as usize, c, &mut left);
    }
    let mut open: Vec<usize> = (0..target.len()).filter(|&j| left[n + j] > 0).collect();
    let rest: i64 = left[..n].iter().sum();
    if std::env::var("DBG").is_ok() { eprintln!("core {} rest {:.4} open {}", arcs.len(), rest as f64 / super::UNITS, open.len()); }
    for i in 0..n {
        let row = cost.row(i);
        while left[i] > 0 {
            let Some(&j) = open.iter().filter(|&&j| row[j] < f64::INFINITY).min_by(|&&j, &&k| (row[j] - v[j]).total_cmp(&(row[k] - v[k]))) else { break };
            put(i, j, row[j], &mut left);
            open.retain(|&j| left[n + j] > 0);
        }
    }
    let height: Vec<f64> = u.iter().chain(v).copied().collect();
    Tree::new(n, &branches, &left, &height, largest)
}
