//! From potentials to what is reported: the plan or its sums alone, in f64 and from the original costs.

use ndarray::{Array1, Array2, Axis};
use rayon::prelude::*;

use super::Reached;
use super::costs::{Costs, Source, scale};
use super::marginals::Marginals;
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
    reached: &Reached,
    kernel: Kernel,
) -> (Array2<f64>, Sums) {
    let mut plan = Array2::zeros(source.dim());
    let active = marginals.source.iter().map(|&mass| mass > 0.0);
    let rows = plan.axis_iter_mut(Axis(0)).zip(active).filter(|(_, active)| *active);
    let mut rows: Vec<&mut [f64]> = rows.filter_map(|(row, _)| row.into_slice()).collect();
    let (costs, unit) = (source.double(epsilon, kernel), source.unit(epsilon));
    let sums = sum_plan(&costs, unit, marginals, (&reached.f, &reached.g), kernel, &mut rows);
    (plan, sums)
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

/// Computes every row of `P_ij = a_i b_j 2^(f_i + g_j - c_ij)`, writes it to `out` (a slice per active source, or none at
/// all) and sums it up. `f` is that of the active sources; `unit` turns the values of `costs` into costs.
pub(crate) fn sum_plan(
    costs: &Costs<'_, f64>,
    unit: f64,
    marginals: &Marginals,
    potentials: (&[f64], &[f64]),
    kernel: Kernel,
    out: &mut [&mut [f64]],
) -> Sums {
    let (n, m) = (marginals.active.len(), costs.columns());
    let gamma: Vec<f64> = potentials.1.iter().zip(&marginals.log_target).map(|(g, log)| g + log).collect();
    let rows = rows_per_block(n, m, GRAIN);
    let lost = potentials.0.iter().chain(potentials.1).any(|potential| potential.abs() > MEANINGFUL);
    let block = |k: usize, out: &mut [&mut [f64]]| -> (Vec<f64>, Vec<f64>, f64) {
        let (mut buffer, mut tiles) = (if out.is_empty() { vec![0.0; m] } else { Vec::new() }, costs.tile_buffer());
        let (mut row_sums, mut columns, mut cost) = (Vec::with_capacity(rows), vec![0.0; m], 0.0);
        for (r, at) in (k * rows..((k + 1) * rows).min(n)).enumerate() {
            let i = marginals.active[at];
            // The mass goes into the exponent, so that plan and sums have one rounding.
            let shift = potentials.0[at] + marginals.source[i].log2();
            let row = out.get_mut(r).map_or(&mut buffer[..], |row| row);
            let (mut sum, mut row_cost) = (0.0, 0.0);
            costs.rows([i], &mut tiles, |range, values| {
                let tile = &mut row[range.clone()];
                if lost {
                    bounded_row(
                        values[0],
                        costs.scale(),
                        &gamma[range.clone()],
                        shift,
                        marginals,
                        (i, range.start),
                        tile,
                    );
                    sum += tile.iter().sum::<f64>();
                } else {
                    sum += kernel.exp_rows(values, &gamma[range], costs.scale(), [shift], [&mut *tile])[0];
                }
                row_cost += dot(kernel, tile, values[0]);
            });
            kernel.add_rows([row], [1.0], &mut columns);
            row_sums.push(sum);
            cost += row_cost;
        }
        (row_sums, columns, cost)
    };
    let parts: Vec<_> = if out.is_empty() {
        (0..n.div_ceil(rows)).into_par_iter().map(|k| block(k, &mut [])).collect()
    } else {
        out.par_chunks_mut(rows).enumerate().map(|(k, out)| block(k, out)).collect()
    };
    let mut sums = Sums { rows: vec![0.0; marginals.source.len()], columns: vec![0.0; m], cost: 0.0 };
    let mut active = marginals.active.iter();
    for (row_sums, columns, cost) in parts {
        row_sums.into_iter().zip(&mut active).for_each(|(sum, &i)| sums.rows[i] = sum);
        sums.columns.iter_mut().zip(columns).for_each(|(sum, part)| *sum += part);
        sums.cost += cost * unit;
    }
    sums
}

/// Potentials beyond this have no digits left for the plan: 2^(f + g - c) is then rounding, and may be anything.
const MEANINGFUL: f64 = 1e12;

/// A row of the plan with no entry above the masses of its points, which those of a true plan never are.
fn bounded_row(
    costs: &[f64],
    scale: f64,
    gamma: &[f64],
    shift: f64,
    marginals: &Marginals,
    (row, first): (usize, usize),
    out: &mut [f64],
) {
    for (j, ((out, c), g)) in out.iter_mut().zip(costs).zip(gamma).enumerate() {
        let bound = marginals.source[row].min(marginals.target[first + j]);
        let value = (g - c * scale + shift).exp2();
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
