//! The numbers of a finished plan. Both solvers report through these, so a value means the same everywhere.

use ndarray::{ArrayView1, ArrayView2};

use crate::problem::sum;

/// `<P, C>`; an arc that carries nothing costs nothing, a forbidden one included.
pub(crate) fn transport_cost(plan: ArrayView2<'_, f64>, cost: ArrayView2<'_, f64>) -> f64 {
    let rows = plan.outer_iter().zip(cost.outer_iter());
    sum(rows.flat_map(|(p, c)| p.into_iter().zip(c)).map(|(&p, &c)| if p == 0.0 { 0.0 } else { p * c }))
}

/// `<masses, potentials>`.
pub(crate) fn dot(masses: ArrayView1<'_, f64>, potentials: ArrayView1<'_, f64>) -> f64 {
    sum(masses.iter().zip(potentials).map(|(mass, potential)| mass * potential))
}
