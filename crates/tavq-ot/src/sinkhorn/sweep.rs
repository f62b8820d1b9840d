//! One fused iteration over the cost matrix in the log domain.
//!
//! With potentials f, g in units of epsilon (base 2) the plan is P_ij = a_i b_j 2^(f_i + g_j - c_ij). A pass reads a row
//! once and takes one exponential an entry: from the sum of the row comes its new potential, and the same numbers, scaled
//! by the step of the potential, are the row's share of the new column sums. After the pass the rows are exact for the
//! current g, so the error of the columns, which is known too, is the error of the plan: the stopping test is free.
//! Only a row or a column that underflows as a whole needs the form shifted by its maximum.

use std::sync::Mutex;

use rayon::prelude::*;

use super::costs::{Costs, split};
use super::marginals::{Marginals, Prox, best_shift, dual};
use crate::simd::{GROUP, Kernel, Real};

/// Entries that one task should sweep at least: handing out work would cost more than it saves.
const GRAIN: usize = 1 << 15;
/// Blocks that a large matrix is cut into at most. The cut depends on the shape alone, so that the order of each sum
/// never depends on the threads.
const BLOCKS: usize = 64;

/// Rows of one task: a multiple of a group.
pub(crate) fn rows_per_block(rows: usize, columns: usize, grain: usize) -> usize {
    let blocks = (rows * columns / grain).clamp(1, BLOCKS);
    rows.div_ceil(blocks).max(1).next_multiple_of(GROUP)
}

/// What a solver drives: sweeps that improve `g`.
pub(crate) trait Engine {
    /// Updates the source potentials by `relaxation` times the step (1: exactly), then measures the columns.
    fn pass(&mut self, relaxation: f64);
    /// L1 error of the rows before the pass, under the `g` of the pass.
    fn row_error(&self) -> f64;
    /// L1 distance of the column sums from what they should be; the error of the plan after an exact pass.
    fn column_error(&self) -> f64;
    /// The dual objective over epsilon, up to a constant, after an exact pass; no plain iteration lowers it. And how well
    /// it is known.
    fn dual(&self) -> (f64, f64);
    /// The target potentials of the pass.
    fn g(&mut self) -> &[f64];
    /// The target potentials after their update.
    fn proposal(&mut self) -> &[f64];
    /// Takes the update.
    fn accept(&mut self);
    /// Takes other target potentials (0 where there is no mass).
    fn set(&mut self, g: &[f64]);
    /// Relative rounding error of an entry of the plan: that of the largest exponent's terms.
    fn rounding(&mut self, largest_exponent: f64) -> f64;
    /// Potentials of both sides in f64; meaningless at points of zero mass.
    fn potentials(&mut self) -> (Vec<f64>, Vec<f64>);
}

struct Scratch<T> {
    rows: Vec<T>,
    tiles: Vec<T>,
}

/// The state of the iteration. Sources are counted within the active ones.
pub(crate) struct LogSweep<'a, T: Real> {
    costs: Costs<'a, T>,
    marginals: &'a Marginals,
    prox: [Prox; 2],
    kernel: Kernel,
    started: bool,
    rows: usize,
    f: Vec<f64>,
    /// Errors of the rows before their update.
    row_errors: Vec<f64>,
    g: Vec<f64>,
    /// `log2 b_j + g_j`.
    gamma: Vec<T>,
    /// Column sums, a vector a block.
    sums: Vec<Vec<T>>,
    proposal: Vec<f64>,
    /// What the proposal has moved from g to f.
    shift: f64,
    column_error: f64,
    scratch: Mutex<Vec<Scratch<T>>>,
}

impl<'a, T: Real> LogSweep<'a, T> {
    /// Starts from the target potentials `g`.
    pub(crate) fn new(costs: Costs<'a, T>, marginals: &'a Marginals, g: &[f64], kernel: Kernel) -> Self {
        let (n, m) = (marginals.active.len(), costs.columns());
        let rows = rows_per_block(n, m, GRAIN);
        let mut sweep = Self {
            costs,
            marginals,
            prox: marginals.prox,
            kernel,
            started: false,
            rows,
            f: vec![0.0; n],
            row_errors: vec![0.0; n],
            g: vec![0.0; m],
            gamma: vec![T::default(); m],
            sums: (0..n.div_ceil(rows)).map(|_| vec![T::default(); m]).collect(),
            proposal: vec![0.0; m],
            shift: 0.0,
            column_error: f64::INFINITY,
            scratch: Mutex::new(Vec::new()),
        };
        sweep.set(g);
        sweep
    }

    /// Multiplies the plan by `2^step`, which sources bounded by their masses may follow (partial transport).
    pub(crate) fn lift(&mut self, step: f64) {
        self.f.iter_mut().for_each(|f| *f += step);
        if let Prox::AtMost { lift } = &mut self.prox[0] {
            *lift += step;
        }
    }

    /// Mass of the plan after the last pass, and after the update of g that it proposes, which bounds each column.
    pub(crate) fn plan_mass(&self) -> (f64, f64) {
        let sums = self.merge();
        let steps = self.proposal.iter().zip(&self.g).map(|(p, g)| (p - g).exp2());
        let updated = sums.iter().zip(steps).zip(&self.marginals.target);
        // A sum that overflowed is bounded too.
        let next = updated.map(|((sum, step), &mass)| if sum.is_finite() { sum * step } else { mass }).sum();
        (sums.iter().sum(), next)
    }

    /// What the plan owes its marginals now.
    pub(crate) fn prox(&self) -> [Prox; 2] {
        self.prox
    }

    fn borrow_scratch(&self) -> Scratch<T> {
        let spare = self.scratch.lock().ok().and_then(|mut pool| pool.pop());
        spare.unwrap_or_else(|| Scratch {
            rows: vec![T::default(); GROUP * self.costs.columns()],
            tiles: self.costs.tile_buffer(),
        })
    }

    fn return_scratch(&self, scratch: Scratch<T>) {
        if let Ok(mut pool) = self.scratch.lock() {
            pool.push(scratch);
        }
    }

    /// Sweeps `R` rows, the first of them the active one `at`.
    fn sweep_rows<const R: usize>(&self, at: usize, relaxation: f64, state: Rows<'_, T>, scratch: &mut Scratch<T>) {
        let m = self.costs.columns();
        let rows: [usize; R] = std::array::from_fn(|r| self.marginals.active[at + r]);
        let shifts: [f64; R] = std::array::from_fn(|r| state.f[r]);
        let mut block: [&mut [T]; R] = split(&mut scratch.rows, m);
        let mut sums = [0.0; R];
        if self.started {
            let (scale, typed) = (self.costs.scale(), shifts.map(T::of));
            self.costs.rows(rows, &mut scratch.tiles, |range, costs| {
                let out = block.each_mut().map(|row| &mut row[range.clone()]);
                let part = self.kernel.exp_rows(costs, &self.gamma[range], scale, typed, out);
                sums = std::array::from_fn(|r| sums[r] + part[r].f64());
            });
        }
        let mut factors = [T::default(); R];
        for r in 0..R {
            let mass = self.marginals.source[rows[r]];
            let usable = sums[r] > T::UNDERFLOW && sums[r] < T::OVERFLOW;
            let step = if usable {
                let step = self.prox[0].potential(sums[r].log2() - shifts[r]) - shifts[r];
                state.row_errors[r] = self.prox[0].error(mass * sums[r], mass, step);
                step
            } else {
                let (costs, kernel) = (&self.costs, self.kernel);
                let (log_sum, shift) = shifted_row(costs, kernel, rows[r], &self.gamma, block[r], &mut scratch.tiles);
                state.row_errors[r] = mass;
                state.f[r] = self.prox[0].potential(log_sum);
                factors[r] = T::of(mass * (state.f[r] - shift).exp2());
                continue;
            };
            let step = if self.started { relaxation * step } else { step };
            state.f[r] = shifts[r] + step;
            let exact = self.prox[0] == Prox::Exact && relaxation == 1.0;
            factors[r] = T::of(if exact { mass / sums[r] } else { mass * step.exp2() });
        }
        self.kernel.add_rows(block.map(|row| &*row), factors, state.sums);
    }

    /// The column sums of all blocks, block after block.
    fn merge(&self) -> Vec<f64> {
        let mut total: Vec<f64> = vec![0.0; self.costs.columns()];
        for block in &self.sums {
            for (sum, part) in total.iter_mut().zip(block) {
                *sum += part.f64();
            }
        }
        total
    }

    /// Proposal and error from the column sums.
    fn measure_columns(&mut self) {
        let sums = self.merge();
        let prox = self.prox[1];
        let (mut error, mut lost) = (0.0, Vec::new());
        for (j, (&sum, &mass)) in sums.iter().zip(&self.marginals.target).enumerate() {
            if mass == 0.0 {
                continue;
            }
            if sum > T::UNDERFLOW && sum < T::OVERFLOW {
                let ratio = sum / mass;
                // A subnormal mass makes the quotient overflow.
                let log = if ratio.is_finite() { ratio.log2() } else { sum.log2() - self.marginals.log_target[j] };
                let step = prox.potential(log - self.g[j]) - self.g[j];
                self.proposal[j] = self.g[j] + step;
                error += prox.error(sum, mass, step);
            } else {
                lost.push(j);
            }
        }
        for (j, log_sum) in lost_columns(&self.costs, self.marginals, &self.f, &lost) {
            // Forbidden arcs alone: nothing can come, and only a prescribed marginal misses it.
            let unreachable = log_sum == f64::NEG_INFINITY;
            self.proposal[j] = if unreachable { 0.0 } else { prox.potential(log_sum) };
            let owed = if unreachable && prox != Prox::Exact { 0.0 } else { self.marginals.target[j] };
            error += if sums[j].is_finite() { owed.max(sums[j]) } else { f64::INFINITY };
        }
        self.column_error = error;
        self.shift = best_shift(self.marginals, &self.f, &self.proposal).unwrap_or(0.0);
        let moved = self.proposal.iter_mut().zip(&self.marginals.target).filter(|(_, mass)| **mass > 0.0);
        moved.for_each(|(g, _)| *g -= self.shift);
    }
}

/// Fills `out` with `2^(gamma_j - c_ij + shift)` for a shift that makes the largest entry 1; the logarithm of the unshifted
/// sum, and the shift. A row without a finite entry gives 0 throughout and (0, 0).
pub(crate) fn shifted_row<T: Real>(
    costs: &Costs<'_, T>,
    kernel: Kernel,
    row: usize,
    gamma: &[T],
    out: &mut [T],
    tiles: &mut [T],
) -> (f64, f64) {
    let scale = costs.scale();
    let mut max = T::NEG_INFINITY;
    costs.rows([row], tiles, |range, [costs]| {
        let found = kernel.max_row(costs, &gamma[range], scale);
        if found > max {
            max = found;
        }
    });
    if max.f64() == f64::NEG_INFINITY {
        out.fill(T::default());
        return (0.0, 0.0);
    }
    let (shift, mut sum) = (T::of(-max.f64()), 0.0);
    costs.rows([row], tiles, |range, costs| {
        let part = kernel.exp_rows(costs, &gamma[range.clone()], scale, [shift], [&mut out[range]]);
        sum += part[0].f64();
    });
    (sum.log2() - shift.f64(), shift.f64())
}

/// `log2 sum_i a_i 2^(f_i - c_ij)` of columns that underflowed, in f64 by the shifted form; -inf for one that no allowed
/// arc reaches.
pub(crate) fn lost_columns<T: Real>(
    costs: &Costs<'_, T>,
    marginals: &Marginals,
    f: &[f64],
    columns: &[usize],
) -> Vec<(usize, f64)> {
    if columns.is_empty() {
        return Vec::new();
    }
    let mut max = vec![f64::NEG_INFINITY; columns.len()];
    let mut sum = vec![0.0; columns.len()];
    let mut tiles = costs.tile_buffer();
    let scale = costs.scale().f64();
    for summing in [false, true] {
        for (&row, &f) in marginals.active.iter().zip(f) {
            let start = marginals.source[row].log2() + f;
            costs.rows([row], &mut tiles, |range, [values]| {
                let first = columns.partition_point(|&j| j < range.start);
                let last = columns.partition_point(|&j| j < range.end);
                for k in first..last {
                    let exponent = start - values[columns[k] - range.start].f64() * scale;
                    if summing {
                        sum[k] += (exponent - max[k]).exp2();
                    } else {
                        max[k] = f64::max(max[k], exponent);
                    }
                }
            });
        }
    }
    let total = |k: usize| if max[k] == f64::NEG_INFINITY { max[k] } else { max[k] + f64::log2(sum[k]) };
    columns.iter().enumerate().map(|(k, &j)| (j, total(k))).collect()
}

/// The part of the state that a task writes.
struct Rows<'s, T> {
    f: &'s mut [f64],
    row_errors: &'s mut [f64],
    sums: &'s mut [T],
}

impl<T: Real> Engine for LogSweep<'_, T> {
    fn pass(&mut self, relaxation: f64) {
        let mut f = std::mem::take(&mut self.f);
        let mut row_errors = std::mem::take(&mut self.row_errors);
        let mut sums = std::mem::take(&mut self.sums);
        let (this, rows) = (&*self, self.rows);
        let work = |k: usize, f: &mut [f64], row_errors: &mut [f64], sums: &mut [T]| {
            let mut scratch = this.borrow_scratch();
            sums.fill(T::default());
            let mut at = 0;
            while at < f.len() {
                let count = if at + GROUP <= f.len() { GROUP } else { 1 };
                let state = Rows { f: &mut f[at..at + count], row_errors: &mut row_errors[at..at + count], sums };
                if count == GROUP {
                    this.sweep_rows::<GROUP>(k * rows + at, relaxation, state, &mut scratch);
                } else {
                    this.sweep_rows::<1>(k * rows + at, relaxation, state, &mut scratch);
                }
                at += count;
            }
            this.return_scratch(scratch);
        };
        if let [sums] = &mut sums[..] {
            work(0, &mut f, &mut row_errors, sums);
        } else {
            let tasks = f.par_chunks_mut(rows).zip(row_errors.par_chunks_mut(rows)).zip(sums.par_iter_mut());
            tasks.enumerate().for_each(|(k, ((f, row_errors), sums))| work(k, f, row_errors, sums));
        }
        (self.f, self.row_errors, self.sums) = (f, row_errors, sums);
        self.started = true;
        self.measure_columns();
    }

    fn row_error(&self) -> f64 {
        self.row_errors.iter().sum()
    }

    fn column_error(&self) -> f64 {
        self.column_error
    }

    fn dual(&self) -> (f64, f64) {
        let marginals = self.marginals;
        let rows = marginals.active.iter().map(|&i| marginals.source[i]).zip(self.f.iter().copied());
        let rows = dual(self.prox[0], rows, true);
        let columns = dual(self.prox[1], marginals.target.iter().copied().zip(self.g.iter().copied()), false);
        // The potentials are no better than the sums they come from.
        let known = T::EPSILON / f64::EPSILON;
        (rows.0 + columns.0, known * (rows.1 + columns.1))
    }

    fn g(&mut self) -> &[f64] {
        &self.g
    }

    fn proposal(&mut self) -> &[f64] {
        &self.proposal
    }

    fn accept(&mut self) {
        let proposal = std::mem::take(&mut self.proposal);
        self.set(&proposal);
        let shift = std::mem::take(&mut self.shift);
        self.f.iter_mut().for_each(|f| *f += shift);
        self.proposal = proposal;
    }

    fn set(&mut self, g: &[f64]) {
        self.g.copy_from_slice(g);
        for ((gamma, g), log_mass) in self.gamma.iter_mut().zip(&self.g).zip(&self.marginals.log_target) {
            *gamma = T::of(log_mass + g);
        }
    }

    fn rounding(&mut self, largest_exponent: f64) -> f64 {
        let largest = |values: &[f64]| values.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
        T::EPSILON * (largest(&self.f) + largest(&self.g) + largest_exponent)
    }

    fn potentials(&mut self) -> (Vec<f64>, Vec<f64>) {
        (self.f.clone(), self.g.clone())
    }
}
