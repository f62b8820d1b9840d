//! The few arcs that the simplex works on at a time (the shortlist of Gottschlich and Schuhmacher 2014, chosen by reduced
//! cost instead of cost).
//!
//! One pass over the matrix keeps the arcs of lowest reduced cost, some [`Core::new`] of them a row. The simplex prices
//! those, which stay in the cache, until none improves; the next pass starts from the better duals. When a pass has kept
//! every arc of negative reduced cost and none of them improves, the plan is optimal.

use ndarray::ArrayView2;

use crate::exact::tree::Tree;

/// A reduced cost counts as negative below this share of the numbers it is the difference of.
const ROUNDING: f64 = 1e-14;

/// Arcs by row.
pub(crate) struct Core {
    first: Vec<u32>,
    column: Vec<u32>,
    cost: Vec<f64>,
    /// Where the next search starts.
    row: usize,
    place: usize,
    pub(crate) block: usize,
    /// Whether every arc of negative reduced cost is in it.
    pub(crate) complete: bool,
}

#[derive(Clone, Copy)]
struct Candidate {
    key: f64,
    row: usize,
    place: usize,
}

impl Core {
    /// The arcs of `c_ij - u_i - v_j` up to `bound`.
    pub(crate) fn new(cost: ArrayView2<'_, f64>, u: &[f64], v: &[f64], bound: f64, capacity: usize) -> Self {
        let mut core = Self {
            first: Vec::with_capacity(u.len() + 1),
            column: Vec::with_capacity(capacity),
            cost: Vec::with_capacity(capacity),
            row: 0,
            place: 0,
            block: 0,
            complete: bound >= 0.0,
        };
        core.first.push(0);
        for (row, &u) in cost.outer_iter().zip(u) {
            if let Some(row) = row.to_slice() {
                core.take(row, v, bound + u);
            }
            core.first.push(core.column.len() as u32);
        }
        core.block = ((core.column.len() as f64).sqrt() as usize).max(16);
        core
    }

    fn take(&mut self, row: &[f64], v: &[f64], bound: f64) {
        const LANES: usize = 16;
        for (k, (costs, prices)) in row.chunks(LANES).zip(v.chunks(LANES)).enumerate() {
            let lowest = costs.iter().zip(prices).fold(f64::INFINITY, |low, (c, v)| { let r = c - v; if r < low { r } else { low } });
            if lowest <= bound {
                for (j, (c, v)) in costs.iter().zip(prices).enumerate() {
                    if c - v <= bound && *c < f64::INFINITY {
                        self.column.push((k * LANES + j) as u32);
                        self.cost.push(*c);
                    }
                }
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.column.len()
    }

    /// Calls `visit(row, column, cost)` for each arc.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(usize, usize, f64)) {
        for row in 0..self.first.len() - 1 {
            for k in self.first[row] as usize..self.first[row + 1] as usize {
                visit(row, self.column[k] as usize, self.cost[k]);
            }
        }
    }

    /// An arc of (lexicographically) negative reduced cost; `None` when there is none here.
    pub(crate) fn next(&mut self, tree: &Tree, weight: f64) -> Option<(usize, usize, f64)> {
        let total = self.column.len();
        let (mut left, mut in_block) = (total, 0);
        let mut best = Candidate { key: 0.0, row: 0, place: 0 };
        while left > 0 {
            let end = self.first[self.row + 1] as usize;
            let length = (end - self.place).min(self.block - in_block).min(left);
            self.scan(length, tree, weight, &mut best);
            left -= length;
            in_block += length;
            self.place += length;
            if self.place == end {
                self.row += 1;
                if self.row + 1 == self.first.len() {
                    (self.row, self.place) = (0, 0);
                }
            }
            if in_block == self.block || left == 0 {
                if best.key < 0.0 && self.improves(best, tree) {
                    return Some((best.row, self.column[best.place] as usize, self.cost[best.place]));
                }
                best.key = 0.0;
                in_block = 0;
            }
        }
        None
    }

    fn scan(&self, length: usize, tree: &Tree, weight: f64, best: &mut Candidate) {
        let n = self.first.len() - 1;
        let u = tree.dual[self.row];
        let arcs = self.place..self.place + length;
        let dual = &tree.dual[n..];
        if tree.is_flat() {
            for (place, (&column, &cost)) in arcs.clone().zip(self.column[arcs.clone()].iter().zip(&self.cost[arcs])) {
                let key = cost - u - dual[column as usize];
                if key < best.key {
                    *best = Candidate { key, row: self.row, place };
                }
            }
        } else {
            let (height, level) = (tree.level[self.row], &tree.level[n..]);
            for place in arcs {
                let column = self.column[place] as usize;
                let key = self.cost[place] - u - dual[column] - weight * f64::from(height + level[column]);
                if key < best.key {
                    *best = Candidate { key, row: self.row, place };
                }
            }
        }
    }

    /// Whether the candidate's reduced cost is negative beyond rounding, by its potentials and by its cycle.
    fn improves(&self, candidate: Candidate, tree: &Tree) -> bool {
        let n = self.first.len() - 1;
        let (column, c) = (self.column[candidate.place] as usize, self.cost[candidate.place]);
        let (u, v) = (tree.dual[candidate.row], tree.dual[n + column]);
        let flat = tree.level[candidate.row] + tree.level[n + column] == 0;
        let worth_a_look = !flat || c - u - v < -ROUNDING * (c.abs() + u.abs() + v.abs());
        worth_a_look && tree.improves(candidate.row, column, c)
    }
}
