//! The few arcs that the simplex works on at a time (the shortlist of Gottschlich and Schuhmacher 2014, chosen by reduced
//! cost instead of cost).
//!
//! One pass over the matrix keeps the arcs of lowest reduced cost. The simplex prices those, which stay in the cache, block
//! by block (Grigoriadis 1986) until none improves; the next pass starts from the better duals. When a pass has kept every
//! arc of negative reduced cost and none of them improves, the plan is optimal.

use ndarray::ArrayView2;

use crate::exact::tree::Tree;
use crate::simd::{Kernel, SPAN};

/// A reduced cost counts as negative below this share of the numbers it is the difference of.
const ROUNDING: f64 = 1e-14;
/// The same share for a bound.
const TIE: f64 = 1e-12;
/// Multiple of the wanted number of arcs that a row may have. Ties can otherwise make the core the whole matrix.
const CROWDED: usize = 4;
/// Rows that the bound is taken from, arcs of them at least, and the share of all arcs in a large matrix.
const ROWS: usize = 64;
const SAMPLE: usize = 1 << 12;
const SHARE: usize = 1 << 10;
/// A block is this multiple of the square root of the arcs.
const BLOCK: f64 = 1.5;

/// Which arcs to keep.
pub(crate) struct Selection<'a> {
    pub(crate) cost: ArrayView2<'a, f64>,
    pub(crate) u: &'a [f64],
    pub(crate) v: &'a [f64],
    /// Arcs a row, on average.
    pub(crate) keep: usize,
}

impl Selection<'_> {
    /// Reduced cost up to which about `keep` arcs a row are found, from a sample of the rows; +inf for all arcs.
    fn bound(&self) -> f64 {
        let (n, m) = self.cost.dim();
        if self.keep >= m {
            return f64::INFINITY;
        }
        let rows = ROWS.min(n);
        let stride = (rows * m / SAMPLE.max(n * m / SHARE)).max(1);
        let mut sample = Vec::with_capacity(rows * m.div_ceil(stride));
        for k in 0..rows {
            let i = k * n / rows;
            let row = self.cost.row(i);
            // Each row begins at another place, so that costs with a pattern of columns are seen whole.
            for j in (k % stride..m).step_by(stride) {
                sample.push(row[j] - self.v[j] - self.u[i]);
            }
        }
        let rank = (self.keep * sample.len() / m).min(sample.len() - 1);
        let bound = *sample.select_nth_unstable_by(rank, f64::total_cmp).1;
        // Among ties the bound is rounding, and one just below 0 would leave arcs out for nothing.
        let scale = self.u.iter().chain(self.v).fold(0.0, |largest: f64, d| largest.max(d.abs()));
        if bound < 0.0 && bound > -TIE * scale { 0.0 } else { bound }
    }
}

/// Arcs by row.
pub(crate) struct Core {
    first: Vec<u32>,
    column: Vec<u32>,
    cost: Vec<f64>,
    /// Where the next search starts.
    row: usize,
    place: usize,
    block: usize,
    /// Weight of one artificial unit against ordinary costs, for ranking arcs only.
    weight: f64,
    complete: bool,
}

#[derive(Clone, Copy)]
struct Candidate {
    key: f64,
    row: usize,
    place: usize,
}

impl Core {
    /// `selection.cost` has contiguous rows.
    pub(crate) fn new(selection: &Selection<'_>, weight: f64) -> Self {
        let bound = selection.bound();
        let capacity = 2 * selection.keep * selection.u.len();
        let mut core = Self {
            first: Vec::with_capacity(selection.u.len() + 1),
            column: Vec::with_capacity(capacity),
            cost: Vec::with_capacity(capacity),
            row: 0,
            place: 0,
            block: 0,
            weight,
            complete: bound >= 0.0,
        };
        let (kernel, mut lows) = (Kernel::detect(), vec![0.0; selection.v.len().div_ceil(SPAN)]);
        core.first.push(0);
        for (i, row) in selection.cost.outer_iter().enumerate() {
            if let Some(row) = row.to_slice() {
                kernel.lows(row, selection.v, &mut lows);
                core.take(i, row, selection, bound, &lows);
            }
            core.first.push(core.column.len() as u32);
        }
        core.block = ((BLOCK * (core.column.len() as f64).sqrt()) as usize).max(16);
        core
    }

    /// Takes the arcs of row `i` up to the bound. Each row begins at another place, so that rows full of ties keep arcs to
    /// different columns.
    fn take(&mut self, i: usize, row: &[f64], selection: &Selection<'_>, bound: f64, lows: &[f64]) {
        let (u, begin) = (selection.u[i], i * lows.len() / selection.u.len());
        let most = CROWDED * selection.keep;
        // Negative arcs are counted apart, so that ties in earlier columns cannot keep them out.
        let mut kept = [0; 2];
        let spans = (begin..lows.len()).chain(0..begin);
        for k in spans.filter(|&k| lows[k] - u <= bound) {
            for (j, (&c, &v)) in row.iter().zip(selection.v).enumerate().skip(k * SPAN).take(SPAN) {
                let reduced = c - v - u;
                if reduced > bound || c == f64::INFINITY {
                    continue;
                }
                let negative = is_negative(reduced, c, u, v);
                if kept[usize::from(negative)] < most {
                    kept[usize::from(negative)] += 1;
                    self.column.push(j as u32);
                    self.cost.push(c);
                } else if negative {
                    self.complete = false;
                }
            }
        }
    }

    /// Whether no arc of negative reduced cost was left out.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Calls `visit(row, column, cost)` for each arc.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(usize, usize, f64)) {
        for row in 0..self.first.len() - 1 {
            for k in self.first[row] as usize..self.first[row + 1] as usize {
                visit(row, self.column[k] as usize, self.cost[k]);
            }
        }
    }

    /// An arc of (lexicographically) negative reduced cost: row, column and cost; `None` when there is none here.
    pub(crate) fn next(&mut self, tree: &Tree) -> Option<(usize, usize, f64)> {
        let (mut left, mut in_block) = (self.column.len(), 0);
        let mut best = Candidate { key: 0.0, row: 0, place: 0 };
        while left > 0 {
            let end = self.first[self.row + 1] as usize;
            let length = (end - self.place).min(self.block - in_block).min(left);
            self.scan(length, tree, &mut best);
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

    /// Scans `length` arcs of the current row.
    fn scan(&self, length: usize, tree: &Tree, best: &mut Candidate) {
        let (n, row, first) = (self.first.len() - 1, self.row, self.place);
        let (u, v) = (tree.dual[row], &tree.dual[n..]);
        let arcs = self.column[first..first + length].iter().zip(&self.cost[first..first + length]).enumerate();
        if tree.is_flat() {
            for (k, (&column, &cost)) in arcs {
                let key = cost - u - v[column as usize];
                if key < best.key {
                    *best = Candidate { key, row, place: first + k };
                }
            }
        } else {
            let (height, level) = (tree.level[row], &tree.level[n..]);
            for (k, (&column, &cost)) in arcs {
                // A reduced cost has the artificial part -(level of source) - (level of sink).
                let levels = f64::from(height + level[column as usize]);
                let key = cost - u - v[column as usize] - self.weight * levels;
                if key < best.key {
                    *best = Candidate { key, row, place: first + k };
                }
            }
        }
    }

    /// Whether the candidate's reduced cost is negative beyond rounding, by its potentials and by its cycle.
    fn improves(&self, candidate: Candidate, tree: &Tree) -> bool {
        let n = self.first.len() - 1;
        let (row, column, c) = (candidate.row, self.column[candidate.place] as usize, self.cost[candidate.place]);
        let (u, v) = (tree.dual[row], tree.dual[n + column]);
        let flat = tree.level[row] + tree.level[n + column] == 0;
        (!flat || is_negative(c - u - v, c, u, v)) && tree.improves(row, column, c)
    }
}

pub(crate) fn is_negative(reduced: f64, c: f64, u: f64, v: f64) -> bool {
    reduced < -ROUNDING * (c.abs() + u.abs() + v.abs())
}
