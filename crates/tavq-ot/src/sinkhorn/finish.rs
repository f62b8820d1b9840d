//! From potentials to what is reported: the plan or its sums alone, in f64 and from the original costs.

use rayon::prelude::*;

use super::costs::Costs;
use super::marginals::Marginals;
use super::sweep::rows_per_block;
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
                sum += kernel.exp_rows(values, &gamma[range], costs.scale(), [shift], [&mut *tile])[0];
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

/// `<plan, costs>`; a forbidden arc carries nothing and costs nothing.
fn dot(kernel: Kernel, plan: &[f64], costs: &[f64]) -> f64 {
    let [found] = kernel.dot_rows([plan], costs);
    if found.is_nan() {
        // 0 times +inf.
        return plan.iter().zip(costs).map(|(&p, &c)| if p == 0.0 { 0.0 } else { p * c }).sum();
    }
    found
}
