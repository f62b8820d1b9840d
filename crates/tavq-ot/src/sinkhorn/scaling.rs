//! The iteration on a stored kernel `K_ij = b_j 2^(F_i + G_j - c_ij)`, scaled by vectors u and v.
//!
//! No exponential is taken while u and v stay near 1, and one read of K does both half steps. When an entry of u or v
//! leaves a safe range, both are absorbed into F and G and K is built anew (Schmitzer 2019, section 3.1), so the result
//! is that of the log domain at any epsilon. K takes the room of a plan. In single precision K alone is single: it is
//! built from exponents in f64, and its entries are of the plan's size, so that their rounding is relative to the plan.

use rayon::prelude::*;

use super::costs::Costs;
use super::marginals::{Marginals, Prox, dual};
use super::sweep::{Engine, lost_columns, rows_per_block, shifted_row};
use crate::aligned::Aligned;
use crate::simd::{Kernel, Real, RowUpdate};

/// Entries that one task should sweep at least.
const GRAIN: usize = 1 << 17;

/// The state of the iteration. Sources are counted within the active ones.
pub(crate) struct ScalingSweep<'a, T: Real> {
    costs: Costs<'a, f64>,
    marginals: &'a Marginals,
    kernel: Kernel,
    rows: usize,
    /// F and G.
    base: [Vec<f64>; 2],
    /// Rows of the active sources.
    matrix: Aligned<T>,
    /// Whether `matrix` belongs to `base`.
    built: bool,
    /// Masses of the active sources.
    masses: Vec<f64>,
    u: Vec<f64>,
    v: Aligned<T>,
    /// Sums of rows before their update, relative to the mass.
    row_sums: Vec<f64>,
    sums: Vec<Aligned<T>>,
    /// Sums of the columns of K times u.
    total: Vec<f64>,
    /// v after its update, and its smallest and largest entry.
    next: Vec<f64>,
    next_range: (f64, f64),
    column_error: f64,
    /// Columns that underflowed, with their potentials.
    lost: Vec<(usize, f64)>,
    g: Vec<f64>,
    proposal: Vec<f64>,
}

/// A plan in parts: `P_ij = rows_i matrix_ij columns_j`, rows of the active sources.
pub(crate) struct Scaled<T> {
    pub(crate) matrix: Aligned<T>,
    pub(crate) rows: Vec<f64>,
    pub(crate) columns: Aligned<T>,
}

/// Whether a scaling factor must be absorbed: products of three of them stay in the range of the type.
fn far<T: Real>(factor: f64) -> bool {
    let reach = T::OVERFLOW.powf(0.25);
    !(factor < reach && factor * reach > 1.0)
}

impl<'a, T: Real> ScalingSweep<'a, T> {
    /// Starts from the target potentials `g`.
    pub(crate) fn new(costs: Costs<'a, f64>, marginals: &'a Marginals, g: &[f64], kernel: Kernel) -> Self {
        let (n, m) = (marginals.active.len(), costs.columns());
        let rows = rows_per_block(n, m, GRAIN);
        Self {
            costs,
            marginals,
            kernel,
            rows,
            base: [vec![0.0; n], g.to_vec()],
            matrix: Aligned::new(n * m),
            built: false,
            masses: marginals.active.iter().map(|&i| marginals.source[i]).collect(),
            u: vec![1.0; n],
            v: Aligned::new(m),
            row_sums: vec![0.0; n],
            sums: (0..n.div_ceil(rows)).map(|_| Aligned::new(m)).collect(),
            total: vec![0.0; m],
            next: vec![1.0; m],
            next_range: (1.0, 1.0),
            column_error: f64::INFINITY,
            lost: Vec::new(),
            g: vec![0.0; m],
            proposal: vec![0.0; m],
        }
    }

    /// K for the G of now, each of its rows summing to 1; u = v = 1.
    fn build(&mut self) {
        let (m, rows) = (self.costs.columns(), self.rows);
        let gamma: Vec<f64> = self.base[1].iter().zip(&self.marginals.log_target).map(|(g, log)| g + log).collect();
        let (costs, kernel, active) = (&self.costs, self.kernel, &self.marginals.active);
        let work = |k: usize, f: &mut [f64], matrix: &mut [T]| {
            let active = &active[k * rows..k * rows + f.len()];
            build_rows(costs, kernel, active, &gamma, f, matrix);
        };
        if self.sums.len() == 1 {
            work(0, &mut self.base[0], &mut self.matrix);
        } else {
            let blocks = self.base[0].par_chunks_mut(rows).zip(self.matrix.par_chunks_mut(rows * m)).enumerate();
            blocks.for_each(|(k, (f, matrix))| work(k, f, matrix));
        }
        self.u.fill(1.0);
        self.v.fill(T::of(1.0));
        self.built = true;
    }

    /// Both half steps; false when a row left the range of the type.
    fn multiply(&mut self, relaxation: f64) -> bool {
        let (rows, m) = (self.rows, self.v.len());
        let (kernel, v, masses) = (self.kernel, &self.v, &self.masses);
        let work = |k: usize, matrix: &[T], u: &mut [f64], row_sums: &mut [f64], sums: &mut [T]| {
            let masses = &masses[k * rows..k * rows + u.len()];
            kernel.half_steps(matrix, v, RowUpdate { masses, u, row_sums, relaxation }, sums)
        };
        if let [sums] = &mut self.sums[..] {
            return work(0, &self.matrix, &mut self.u, &mut self.row_sums, sums);
        }
        let state = self.u.par_chunks_mut(rows).zip(self.row_sums.par_chunks_mut(rows)).zip(self.sums.par_iter_mut());
        let tasks = state.zip(self.matrix.par_chunks(rows * m)).enumerate();
        tasks
            .map(|(k, (((u, row_sums), sums), matrix))| work(k, matrix, u, row_sums, sums))
            .reduce(|| true, |a, b| a && b)
    }

    /// What the plan is made of, where the kernel is up to date.
    pub(crate) fn into_scaled(self) -> Option<Scaled<T>> {
        let rows = self.masses.iter().zip(&self.u).map(|(mass, u)| mass * u).collect();
        self.built.then_some(Scaled { matrix: self.matrix, rows, columns: self.v })
    }

    fn measure_columns(&mut self) {
        let m = self.v.len();
        for (k, block) in self.sums.iter().enumerate() {
            let parts = self.total.iter_mut().zip(&**block);
            if k == 0 {
                parts.for_each(|(sum, part)| *sum = part.f64());
            } else {
                parts.for_each(|(sum, part)| *sum += part.f64());
            }
        }
        self.lost.clear();
        if self.measure_plain_columns() {
            return;
        }
        let (mut error, mut lost) = (0.0, Vec::new());
        for j in 0..m {
            let (sum, mass) = (self.total[j], self.marginals.target[j]);
            self.next[j] = 1.0;
            if mass == 0.0 {
                continue;
            }
            if sum > T::UNDERFLOW && sum < T::OVERFLOW && (mass / sum).is_normal() {
                self.next[j] = mass / sum;
                error += (mass - sum * self.v[j].f64()).abs();
            } else {
                error += mass;
                lost.push(j);
            }
        }
        self.column_error = error;
        self.next_range = range(&self.next);
        if !lost.is_empty() {
            let f: Vec<f64> = self.base[0].iter().zip(&self.u).map(|(f, u)| f + u.log2()).collect();
            let sums = lost_columns(&self.costs, self.marginals, &f, &lost);
            // Forbidden arcs alone have no sum and no potential.
            self.lost =
                sums.into_iter().map(|(j, sum)| (j, if sum == f64::NEG_INFINITY { 0.0 } else { -sum })).collect();
        }
    }

    /// The columns when each has mass and a sum in the range of the type; false (and nothing of use) otherwise.
    fn measure_plain_columns(&mut self) -> bool {
        let found = self.kernel.update_columns(&self.total, &self.marginals.target, &self.v, &mut self.next);
        self.column_error = found.error;
        self.next_range = found.factors;
        let (low, high) = found.sums;
        low > T::UNDERFLOW
            && high < T::OVERFLOW
            && found.factors.0 >= f64::MIN_POSITIVE
            && found.factors.1 < f64::INFINITY
    }
}

/// Rows of K, each summing to 1, and the potentials that make it so.
fn build_rows<T: Real>(
    costs: &Costs<'_, f64>,
    kernel: Kernel,
    active: &[usize],
    gamma: &[f64],
    f: &mut [f64],
    matrix: &mut [T],
) {
    let m = gamma.len();
    let (mut values, mut tiles) = (vec![0.0; m], costs.tile_buffer());
    for ((&row, f), out) in active.iter().zip(f).zip(matrix.chunks_mut(m)) {
        let (log_sum, shift) = shifted_row(costs, kernel, row, gamma, &mut values, &mut tiles);
        *f = -log_sum;
        let factor = (-log_sum - shift).exp2();
        out.iter_mut().zip(&values).for_each(|(out, value)| {
            // A subnormal entry carries nothing and would slow each product with it down a hundredfold.
            let value = value * factor;
            *out = if value > T::UNDERFLOW { T::of(value) } else { T::default() };
        });
    }
}

/// The smallest and the largest value.
fn range(values: &[f64]) -> (f64, f64) {
    const LANES: usize = 8;
    let (mut low, mut high) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    for chunk in values.chunks(LANES) {
        for ((&value, low), high) in chunk.iter().zip(&mut low).zip(&mut high) {
            *low = if value < *low { value } else { *low };
            *high = if value > *high { value } else { *high };
        }
    }
    (low.into_iter().fold(f64::INFINITY, f64::min), high.into_iter().fold(f64::NEG_INFINITY, f64::max))
}

impl<T: Real> Engine for ScalingSweep<'_, T> {
    fn pass(&mut self, relaxation: f64) {
        if !self.built {
            self.build();
        }
        if !self.multiply(relaxation) {
            let g = self.g().to_vec();
            self.base[1] = g;
            self.build();
            self.multiply(1.0);
        }
        self.measure_columns();
    }

    fn row_error(&self) -> f64 {
        self.masses.iter().zip(&self.row_sums).map(|(mass, sum)| mass * (sum - 1.0).abs()).sum()
    }

    fn column_error(&self) -> f64 {
        self.column_error
    }

    fn dual(&self) -> (f64, f64) {
        let marginals = self.marginals;
        let potentials = self.base[0].iter().zip(&self.u).map(|(f, u)| f + u.log2());
        let rows = self.masses.iter().copied().zip(potentials);
        let potentials = self.base[1].iter().zip(&*self.v).map(|(g, v)| g + v.f64().log2());
        let columns = marginals.target.iter().copied().zip(potentials);
        let (rows, columns) = (dual(Prox::Exact, rows, true), dual(Prox::Exact, columns, false));
        let known = T::EPSILON / f64::EPSILON;
        (rows.0 + columns.0, known * (rows.1 + columns.1))
    }

    fn g(&mut self) -> &[f64] {
        for ((g, base), v) in self.g.iter_mut().zip(&self.base[1]).zip(&*self.v) {
            *g = base + v.f64().log2();
        }
        &self.g
    }

    fn proposal(&mut self) -> &[f64] {
        for ((g, base), v) in self.proposal.iter_mut().zip(&self.base[1]).zip(&self.next) {
            *g = base + v.log2();
        }
        for &(j, g) in &self.lost {
            self.proposal[j] = g;
        }
        &self.proposal
    }

    fn accept(&mut self) {
        let ((low, high), (least, most)) = (self.next_range, range(&self.u));
        let absorb = !self.lost.is_empty() || [low, high, least, most].into_iter().any(far::<T>);
        if absorb {
            let g = self.proposal().to_vec();
            self.base[1] = g;
            self.built = false;
            self.v.fill(T::of(1.0));
        } else {
            self.v.iter_mut().zip(&self.next).for_each(|(v, &next)| *v = T::of(next));
        }
    }

    fn set(&mut self, g: &[f64]) {
        for ((next, g), base) in self.next.iter_mut().zip(g).zip(&self.base[1]) {
            *next = (g - base).exp2();
        }
        self.lost.clear();
        if self.next.iter().any(|&factor| far::<T>(factor)) {
            self.base[1].copy_from_slice(g);
            self.built = false;
            self.v.fill(T::of(1.0));
        } else {
            self.v.iter_mut().zip(&self.next).for_each(|(v, &next)| *v = T::of(next));
        }
    }

    fn rounding(&mut self, largest_exponent: f64) -> f64 {
        let largest = |values: &[f64]| values.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
        let exponents = largest(&self.base[0]) + largest(&self.base[1]) + largest_exponent;
        4.0 * T::EPSILON + f64::EPSILON * exponents
    }

    fn potentials(&mut self) -> (Vec<f64>, Vec<f64>) {
        let f = self.base[0].iter().zip(&self.u).map(|(f, u)| f + u.log2()).collect();
        (f, self.g().to_vec())
    }
}
