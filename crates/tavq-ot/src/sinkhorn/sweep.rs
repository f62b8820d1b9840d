//! One fused iteration over the cost matrix.
//!
//! The masses are absorbed into the potentials, P_ij = exp(phi_i + gamma_j - C_ij / epsilon), for a total mass of 1.
//! A pass reads a row once, takes one exp per entry, and from it gets the row sum (which is also the row's marginal
//! under the old potentials, so the stopping test is free) and the row's share of the new column sums. After a
//! column update every exponent is at most ln b_j <= 0: nothing overflows, and only a row or a column that
//! underflows as a whole needs the form shifted by its maximum.

use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::simd::Kernel;

/// A sum below this has lost digits to underflow.
const UNDERFLOW: f64 = 1e-280;
/// Matrices with fewer entries are swept by one thread: handing out work would cost more than it saves.
const PARALLEL: usize = 1 << 15;
/// Blocks that a large matrix is cut into. Fixed, so that the order of each sum never depends on the threads.
const BLOCKS: usize = 64;

/// Rows that one task sweeps, with its column sums and its scratch row.
struct Block {
    sums: Vec<f64>,
    scratch: Vec<f64>,
}

/// The state of the iteration.
pub(crate) struct Sweep<'a> {
    cost: ArrayView2<'a, f64>,
    scale: f64,
    source: &'a [f64],
    target: &'a [f64],
    kernel: Kernel,
    rows_per_block: usize,
    blocks: Vec<Block>,
    /// Source potentials; -inf where the mass is 0.
    pub(crate) phi: Vec<f64>,
    /// Target potentials; -inf where the mass is 0.
    pub(crate) gamma: Vec<f64>,
    next_phi: Vec<f64>,
    row_sums: Vec<f64>,
    underflown: Vec<usize>,
}

/// What a pass needs besides its own rows.
struct Row<'s> {
    costs: &'s [f64],
    gamma: &'s [f64],
    scale: f64,
    mass: f64,
    kernel: Kernel,
}

impl Row<'_> {
    /// The row's new potential and its marginal under the old one; adds its plan to `sums`.
    fn update(&self, phi: Option<f64>, sums: &mut [f64], scratch: &mut [f64]) -> (f64, f64) {
        if let Some(phi) = phi {
            let sum = self.kernel.exp_row(self.costs, self.gamma, self.scale, phi, scratch);
            if sum > UNDERFLOW {
                self.kernel.add_row(scratch, self.mass / sum, sums);
                return (phi + (self.mass / sum).ln(), sum);
            }
        }
        let max = self.kernel.max_row(self.costs, self.gamma, self.scale);
        if max == f64::NEG_INFINITY {
            return (f64::NEG_INFINITY, 0.0);
        }
        let sum = self.kernel.exp_row(self.costs, self.gamma, self.scale, -max, scratch);
        self.kernel.add_row(scratch, self.mass / sum, sums);
        (self.mass.ln() - max - sum.ln(), 0.0)
    }
}

impl<'a> Sweep<'a> {
    /// `cost` has contiguous rows; the masses sum to 1; `gamma` is the start.
    pub(crate) fn new(
        cost: ArrayView2<'a, f64>,
        epsilon: f64,
        source: &'a [f64],
        target: &'a [f64],
        gamma: Vec<f64>,
    ) -> Self {
        let (n, m) = cost.dim();
        let rows_per_block = if n * m < PARALLEL { n } else { n.div_ceil(BLOCKS) };
        let blocks = (0..n.div_ceil(rows_per_block)).map(|_| Block { sums: vec![0.0; m], scratch: vec![0.0; m] });
        Self {
            cost,
            scale: epsilon.recip(),
            source,
            target,
            kernel: Kernel::detect(),
            rows_per_block,
            blocks: blocks.collect(),
            phi: vec![f64::NEG_INFINITY; n],
            gamma,
            next_phi: vec![f64::NEG_INFINITY; n],
            row_sums: vec![0.0; n],
            underflown: Vec::new(),
        }
    }

    /// Computes the new source potentials, the row marginals under the old ones and the new column sums. The first
    /// pass has no old potentials and shifts each row by its maximum.
    pub(crate) fn pass(&mut self, first: bool) {
        let (rows, scale, kernel) = (self.rows_per_block, self.scale, self.kernel);
        let (cost, gamma, source, phi) = (self.cost, &self.gamma, self.source, &self.phi);
        let work = |(k, block, next, row_sums): (usize, &mut Block, &mut [f64], &mut [f64])| {
            block.sums.fill(0.0);
            for (offset, (next, row_sum)) in next.iter_mut().zip(row_sums).enumerate() {
                let i = k * rows + offset;
                let Some(costs) = cost.row(i).to_slice() else { continue };
                if source[i] > 0.0 {
                    let row = Row { costs, gamma, scale, mass: source[i], kernel };
                    let old = (!first).then_some(phi[i]);
                    (*next, *row_sum) = row.update(old, &mut block.sums, &mut block.scratch);
                }
            }
        };
        if self.blocks.len() == 1 {
            work((0, &mut self.blocks[0], &mut self.next_phi, &mut self.row_sums));
            return;
        }
        self.blocks
            .par_iter_mut()
            .zip(self.next_phi.par_chunks_mut(rows))
            .zip(self.row_sums.par_chunks_mut(rows))
            .enumerate()
            .for_each(|(k, ((block, next), sums))| work((k, block, next, sums)));
        self.merge();
    }

    /// Adds the column sums of all blocks into the first one, block after block.
    fn merge(&mut self) {
        if let Some((first, rest)) = self.blocks.split_first_mut() {
            for block in rest {
                for (sum, other) in first.sums.iter_mut().zip(&block.sums) {
                    *sum += other;
                }
            }
        }
    }

    /// L1 distance of the row marginals of the last pass from the source masses; the columns were exact.
    pub(crate) fn row_error(&self) -> f64 {
        self.row_sums.iter().zip(self.source).map(|(sum, mass)| (sum - mass).abs()).sum()
    }

    /// Takes the potentials of the last pass and updates the target's.
    pub(crate) fn accept(&mut self) {
        std::mem::swap(&mut self.phi, &mut self.next_phi);
        self.underflown.clear();
        let sums = &self.blocks[0].sums;
        for (j, (gamma, (sum, mass))) in self.gamma.iter_mut().zip(sums.iter().zip(self.target)).enumerate() {
            if *sum > UNDERFLOW {
                *gamma += (mass / sum).ln();
            } else if *mass > 0.0 {
                self.underflown.push(j);
            }
        }
        if !self.underflown.is_empty() {
            self.update_underflown();
        }
    }

    /// The shifted form for the listed columns: two passes over their entries, row by row.
    fn update_underflown(&mut self) {
        let (cost, scale, columns) = (self.cost, self.scale, &self.underflown);
        let mut max = vec![f64::NEG_INFINITY; columns.len()];
        let mut sum = vec![0.0; columns.len()];
        for (row, &phi) in cost.outer_iter().zip(&self.phi) {
            for (max, &j) in max.iter_mut().zip(columns) {
                *max = max.max(phi - row[j] * scale);
            }
        }
        for (row, &phi) in cost.outer_iter().zip(&self.phi) {
            for ((sum, max), &j) in sum.iter_mut().zip(&max).zip(columns) {
                *sum += (phi - row[j] * scale - max).exp();
            }
        }
        for ((&j, max), sum) in columns.iter().zip(max).zip(sum) {
            // An unreachable column summed exp(-inf - -inf) above.
            let reachable = max > f64::NEG_INFINITY;
            self.gamma[j] = if reachable { self.target[j].ln() - max - f64::ln(sum) } else { f64::NEG_INFINITY };
        }
    }

    /// Relative rounding error of an entry of the plan: that of the largest exponent's terms.
    pub(crate) fn rounding(&self, largest_cost: f64) -> f64 {
        let largest = |values: &[f64]| values.iter().filter(|v| v.is_finite()).fold(0.0, |a: f64, v| a.max(v.abs()));
        f64::EPSILON * (largest(&self.phi) + largest(&self.gamma) + largest_cost * self.scale)
    }

    /// Writes row `i` of the plan of the current potentials.
    pub(crate) fn plan_row(&self, i: usize, out: &mut [f64]) {
        if let (Some(costs), true) = (self.cost.row(i).to_slice(), self.source[i] > 0.0) {
            self.kernel.exp_row(costs, &self.gamma, self.scale, self.phi[i], out);
        }
    }
}
