//! The numbers of a finished plan. Both solvers report through these, so a value means the same everywhere.

use ndarray::{ArrayView1, ArrayView2, Axis, Zip};

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

/// L1 distance of the row sums from `a` or of the column sums from `b`, whichever is larger.
pub(crate) fn marginal_error(plan: ArrayView2<'_, f64>, a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>) -> f64 {
    let distance = |axis: Axis, masses: ArrayView1<'_, f64>| {
        let sums = plan.sum_axis(axis);
        Zip::from(&sums).and(masses).fold(0.0, |total, sum, mass| total + (sum - mass).abs())
    };
    distance(Axis(1), a).max(distance(Axis(0), b))
}
