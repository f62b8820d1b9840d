//! From potentials to what is reported: the plan or its sums alone, in f64 and from the original costs.

use std::ops::Range;

use ndarray::{Array1, Array2, Axis};
use rayon::prelude::*;

use super::Reached;
use super::costs::{Costs, Source, scale};
use super::marginals::Marginals;
use super::scaling::Scaled;
use super::sweep::{lost_columns, rows_per_block, shifted_row};
use crate::simd::Kernel;

/// Entries that one task should write at least.
const GRAIN: usize = 1 << 15;

/// What one pass over the finished plan sums up; masses are those of the sweep.
pub(crate) struct Sums {
    pub(crate) rows: Vec<f64>,
    pub(crate) columns: Vec<f64>,
    /// `<P, C>`, each forbidden arc counting 0.
    pub(crate) cost: f64,
}

/// The plan (n x m, 0 in rows of zero mass) and its sums.
pub(crate) fn plan_and_sums(
    source: Source<'_>,
    epsilon: f64,
    marginals: &Marginals,
    reached: &mut Reached,
    kernel: Kernel,
) -> (Array2<f64>, Sums) {
    let finish = Finish { costs: source.double(epsilon, kernel), unit: source.unit(epsilon), marginals, kernel };
    let (n, m) = source.dim();
    let scaled = reached.scaled.take().filter(|scaled| scaled.rows.len() == n);
    if let Some(Scaled { matrix, rows, columns }) = scaled
        && let Some(mut plan) = matrix.into_matrix(m)
    {
        let sums = finish.sums(&Entries::Scaled(&rows, &columns), &mut active_rows(&mut plan, marginals));
        return (plan, sums);
    }
    let mut plan = Array2::zeros((n, m));
    let entries = Entries::exponents(&reached.f, &reached.g, marginals);
    let sums = finish.sums(&entries, &mut active_rows(&mut plan, marginals));
    (plan, sums)
}

/// The sums of a plan that is not wanted.
pub(crate) fn sums_alone(
    source: Source<'_>,
    epsilon: f64,
    marginals: &Marginals,
    reached: &Reached,
    kernel: Kernel,
) -> Sums {
    let finish = Finish { costs: source.double(epsilon, kernel), unit: source.unit(epsilon), marginals, kernel };
    finish.sums(&Entries::exponents(&reached.f, &reached.g, marginals), &mut [])
}

fn active_rows<'p>(plan: &'p mut Array2<f64>, marginals: &Marginals) -> Vec<&'p mut [f64]> {
    let active = marginals.source.iter().map(|&mass| mass > 0.0);
    let rows = plan.axis_iter_mut(Axis(0)).zip(active).filter(|(_, active)| *active);
    rows.filter_map(|(row, _)| row.into_slice()).collect()
}

/// The duals of every point in units of the cost; at points of zero mass what their side's rule makes of the other side (the
/// soft c-transform, where the marginal is prescribed), 0 where every arc is forbidden.
pub(crate) fn duals(
    source: Source<'_>,
    epsilon: f64,
    marginals: &Marginals,
    reached: &Reached,
    kernel: Kernel,
) -> (Array1<f64>, Array1<f64>) {
    let unit = scale(epsilon).recip();
    let (n, m) = source.dim();
    let mut f = Array1::zeros(n);
    for (&i, value) in marginals.active.iter().zip(&reached.f) {
        f[i] = value * unit;
    }
    let mut g = reached.g.iter().map(|g| g * unit).collect::<Array1<f64>>();
    let empty: Vec<usize> = (0..m).filter(|&j| marginals.target[j] == 0.0).collect();
    if marginals.active.len() < n || !empty.is_empty() {
        let costs = source.double(epsilon, kernel);
        for (j, log_sum) in lost_columns(&costs, marginals, &reached.f, &empty) {
            if log_sum > f64::NEG_INFINITY {
                g[j] = reached.prox[1].potential(log_sum) * unit;
            }
        }
        let gamma: Vec<f64> = reached.g.iter().zip(&marginals.log_target).map(|(g, log)| g + log).collect();
        let (mut row, mut tiles) = (vec![0.0; m], costs.tile_buffer());
        for i in (0..n).filter(|&i| marginals.source[i] == 0.0) {
            let (log_sum, _) = shifted_row(&costs, kernel, i, &gamma, &mut row, &mut tiles);
            f[i] = reached.prox[0].potential(log_sum) * unit;
        }
    }
    (f, g)
}

/// How the entries of the plan come about. Rows are counted within the active sources.
enum Entries<'a> {
    /// `P_ij = 2^(shift_i + gamma_j - c_ij)`: masses go into the exponents, so that plan and sums have one rounding.
    Exponents { shifts: Vec<f64>, gamma: Vec<f64>, lost: bool },
    /// `P_ij = rows_i k_ij columns_j`, with k where the plan is to be.
    Scaled(&'a [f64], &'a [f64]),
}

impl Entries<'_> {
    fn exponents(f: &[f64], g: &[f64], marginals: &Marginals) -> Self {
        let masses = marginals.active.iter().map(|&i| marginals.source[i]);
        Self::Exponents {
            shifts: f.iter().zip(masses).map(|(f, mass)| f + mass.log2()).collect(),
            gamma: g.iter().zip(&marginals.log_target).map(|(g, log)| g + log).collect(),
            lost: f.iter().chain(g).any(|potential| potential.abs() > MEANINGFUL),
        }
    }
}

/// The pass over the plan.
struct Finish<'a> {
    costs: Costs<'a, f64>,
    /// Turns the values of `costs` into costs.
    unit: f64,
    marginals: &'a Marginals,
    kernel: Kernel,
}

impl Finish<'_> {
    /// Computes every row of the plan, writes it to `out` (a slice per active source, or none at all) and sums it up.
    fn sums(&self, entries: &Entries<'_>, out: &mut [&mut [f64]]) -> Sums {
        let (n, m) = (self.marginals.active.len(), self.costs.columns());
        let rows = rows_per_block(n, m, GRAIN);
        let blocks = n.div_ceil(rows);
        let parts: Vec<_> = match (out.is_empty(), blocks) {
            (_, 1) => vec![self.block(0..n, entries, out)],
            (true, _) => {
                let ranges = (0..blocks).into_par_iter().map(|k| k * rows..((k + 1) * rows).min(n));
                ranges.map(|range| self.block(range, entries, &mut [])).collect()
            }
            (false, _) => {
                let blocks = out.par_chunks_mut(rows).enumerate();
                blocks.map(|(k, out)| self.block(k * rows..k * rows + out.len(), entries, out)).collect()
            }
        };
        let mut sums = Sums { rows: vec![0.0; self.marginals.source.len()], columns: vec![0.0; m], cost: 0.0 };
        let mut active = self.marginals.active.iter();
        for (row_sums, columns, cost) in parts {
            row_sums.into_iter().zip(&mut active).for_each(|(sum, &i)| sums.rows[i] = sum);
            sums.columns.iter_mut().zip(columns).for_each(|(sum, part)| *sum += part);
            sums.cost += cost * self.unit;
        }
        sums
    }

    fn block(&self, rows: Range<usize>, entries: &Entries<'_>, out: &mut [&mut [f64]]) -> (Vec<f64>, Vec<f64>, f64) {
        let (m, kernel) = (self.costs.columns(), self.kernel);
        let mut buffer = if out.is_empty() { vec![0.0; m] } else { Vec::new() };
        let mut tiles = self.costs.tile_buffer();
        let (mut row_sums, mut columns, mut cost) = (Vec::with_capacity(rows.len()), vec![0.0; m], 0.0);
        for (r, at) in rows.enumerate() {
            let row = out.get_mut(r).map_or(&mut buffer[..], |row| row);
            let (mut sum, mut row_cost) = (0.0, 0.0);
            self.costs.rows([self.marginals.active[at]], &mut tiles, |range, [values]| {
                let tile = &mut row[range.clone()];
                sum += self.fill(at, range, values, entries, tile);
                row_cost += dot(kernel, tile, values);
            });
            kernel.add_rows([row], [1.0], &mut columns);
            row_sums.push(sum);
            cost += row_cost;
        }
        (row_sums, columns, cost)
    }

    /// Some columns of a row; their sum.
    fn fill(&self, at: usize, range: Range<usize>, costs: &[f64], entries: &Entries<'_>, out: &mut [f64]) -> f64 {
        match entries {
            Entries::Scaled(rows, columns) => self.kernel.scale_row(out, rows[at], &columns[range]),
            Entries::Exponents { shifts, gamma, lost: false } => {
                let [sum] = self.kernel.exp_rows([costs], &gamma[range], self.costs.scale(), [shifts[at]], [out]);
                sum
            }
            Entries::Exponents { shifts, gamma, lost: true } => {
                let exponents = costs.iter().zip(&gamma[range.clone()]);
                let exponents = exponents.map(|(c, g)| g - c * self.costs.scale() + shifts[at]);
                let mass = self.marginals.source[self.marginals.active[at]];
                bounded_row(exponents, mass, &self.marginals.target[range], out);
                out.iter().sum()
            }
        }
    }
}

/// Potentials beyond this have no digits left for the plan: 2^(f + g - c) is then rounding, and may be anything.
const MEANINGFUL: f64 = 1e12;

/// Powers of 2, none above the masses of its points, which the entries of a true plan never are.
fn bounded_row(exponents: impl Iterator<Item = f64>, mass: f64, masses: &[f64], out: &mut [f64]) {
    for ((out, exponent), &other) in out.iter_mut().zip(exponents).zip(masses) {
        let (value, bound) = (exponent.exp2(), mass.min(other));
        *out = if value <= bound {
            value
        } else if value > bound {
            bound
        } else {
            0.0
        };
    }
}

/// `<plan, costs>`; a forbidden arc carries nothing and costs nothing.
fn dot(kernel: Kernel, plan: &[f64], costs: &[f64]) -> f64 {
    let [found] = kernel.dot_rows([plan], costs);
    if found.is_nan() {
        // 0 times +inf.
        return plan.iter().zip(costs).map(|(&p, &c)| if p == 0.0 { 0.0 } else { p * c }).sum();
    }
    found
}
