//! The search for an arc that improves the plan: block search over the cost matrix (Grigoriadis 1986).
//!
//! A block of about sqrt(n m) arcs is scanned and its most negative reduced cost enters; the next search goes on
//! where this one stopped. Forbidden arcs have reduced cost +inf and never enter.

use ndarray::ArrayView2;

use crate::exact::tree::Tree;

/// Where the next search starts, and how long a block is.
pub(crate) struct Pricing<'a> {
    cost: ArrayView2<'a, f64>,
    row: usize,
    column: usize,
    block: usize,
    /// Weight of one artificial unit against ordinary costs, for ranking candidates only.
    weight: f64,
}

#[derive(Clone, Copy)]
struct Candidate {
    key: f64,
    row: usize,
    column: usize,
}

/// A reduced cost counts as negative below this share of the numbers it is the difference of.
const ROUNDING: f64 = 1e-14;
const LANES: usize = 8;

impl<'a> Pricing<'a> {
    /// `cost` has contiguous rows.
    pub(crate) fn new(cost: ArrayView2<'a, f64>, largest: f64) -> Self {
        let (n, m) = cost.dim();
        let block = ((n * m) as f64).sqrt().ceil() as usize;
        Self { cost, row: 0, column: 0, block: block.max(16), weight: 4.0 * (n + m) as f64 * largest.max(1e-300) }
    }

    /// An arc of (lexicographically) negative reduced cost, `None` at the optimum.
    pub(crate) fn next(&mut self, tree: &Tree) -> Option<(usize, usize)> {
        let (n, m) = self.cost.dim();
        let (mut left, mut in_block) = (n * m, 0);
        let mut best = Candidate { key: 0.0, row: 0, column: 0 };
        while left > 0 {
            let length = (m - self.column).min(self.block - in_block).min(left);
            self.scan(length, &tree.dual, &tree.level, &mut best);
            left -= length;
            in_block += length;
            self.column += length;
            if self.column == m {
                self.column = 0;
                self.row = if self.row + 1 == n { 0 } else { self.row + 1 };
            }
            if in_block == self.block || left == 0 {
                if best.key < 0.0 && self.improves(best, tree) {
                    return Some((best.row, best.column));
                }
                best.key = 0.0;
                in_block = 0;
            }
        }
        None
    }

    /// Scans `length` arcs of the current row.
    fn scan(&self, length: usize, dual: &[f64], level: &[i32], best: &mut Candidate) {
        let (n, row, start) = (self.cost.nrows(), self.row, self.column);
        let u = dual[row];
        let v = &dual[n + start..n + start + length];
        let levels = &level[n + start..n + start + length];
        let costs = self.cost.row(row);
        let Some(costs) = costs.to_slice() else { return };
        let costs = &costs[start..start + length];
        let height = level[row];
        // A reduced cost has the artificial part -(level of source) - (level of sink).
        let key = |k: usize| (costs[k] - u - v[k]) - self.weight * f64::from(height + levels[k]);
        let mut first = 0;
        while first < length {
            let last = (first + LANES).min(length);
            let lowest = (first..last).map(key).fold(f64::INFINITY, f64::min);
            if lowest < best.key {
                for k in first..last {
                    if key(k) < best.key {
                        *best = Candidate { key: key(k), row, column: start + k };
                    }
                }
            }
            first = last;
        }
    }

    /// Whether the candidate's reduced cost is negative beyond rounding, by its potentials and by its cycle.
    fn improves(&self, candidate: Candidate, tree: &Tree) -> bool {
        let Candidate { row, column, .. } = candidate;
        let sink = self.cost.nrows() + column;
        let (u, v, c) = (tree.dual[row], tree.dual[sink], self.cost[[row, column]]);
        let flat = tree.level[row] + tree.level[sink] == 0;
        let worth_a_look = !flat || c - u - v < -ROUNDING * (c.abs() + u.abs() + v.abs());
        worth_a_look && tree.improves(row, column, c)
    }
}
