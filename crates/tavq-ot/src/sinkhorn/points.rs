//! Sinkhorn between points whose cost matrix is never stored.

use ndarray::{Array1, ArrayView1};

use super::costs::Source;
use super::finish::{duals, sums_alone};
use super::marginals::Marginals;
use super::{Form, Reached, Sinkhorn, unit_marginals};
use crate::coupling::Potentials;
use crate::error::OtError;
use crate::points::Points;
use crate::problem::{Totals, check_shapes};
use crate::simd::Kernel;

/// Masses of points, as both sides of the iteration need them.
pub(super) struct Weighted {
    pub(super) marginals: Marginals,
    pub(super) total: f64,
}

impl Weighted {
    /// The checks of [`crate::Problem::new`], but for those of the cost.
    pub(super) fn new(
        dim: (usize, usize),
        source: ArrayView1<'_, f64>,
        target: ArrayView1<'_, f64>,
    ) -> Result<Self, OtError> {
        check_shapes(dim, source, target)?;
        let totals = Totals::of(source, target)?;
        totals.check_balanced()?;
        let masses = (&source * totals.factors[0], &target * totals.factors[1]);
        Ok(Self { marginals: unit_marginals(masses, totals.total), total: totals.total })
    }
}

impl Sinkhorn {
    /// Solves between points, making their costs as the sweep comes by: memory O((n + m) d) instead of O(n m). Each cost
    /// is computed once an iteration, so this pays for d up to about 10, or where the matrix does not fit.
    ///
    /// Always [`Form::Log`], since the other form stores a matrix. A custom metric must be finite everywhere.
    ///
    /// ```
    /// use ndarray::array;
    /// use tavq_ot::{Metric, Points, Problem, Sinkhorn, Solver};
    ///
    /// let (x, y) = (array![[0.0, 0.0], [1.0, 2.0]], array![[0.5, 0.0], [1.0, 1.0]]);
    /// let (a, b) = (array![0.5, 0.5], array![0.3, 0.7]);
    /// let points = Points::new(x.view(), y.view(), Metric::SquaredEuclidean)?;
    /// let sinkhorn = Sinkhorn::new(0.1)?.tolerance(1e-12)?;
    /// let potentials = sinkhorn.solve_points(&points, a.view(), b.view())?.require_converged()?;
    /// let stored = sinkhorn.solve(&Problem::new(points.costs().view(), a.view(), b.view())?)?;
    /// assert!((potentials.value - stored.value).abs() < 1e-10);
    /// # Ok::<(), tavq_ot::OtError>(())
    /// ```
    pub fn solve_points(
        &self,
        points: &Points<'_>,
        source: ArrayView1<'_, f64>,
        target: ArrayView1<'_, f64>,
    ) -> Result<Potentials, OtError> {
        let Weighted { marginals, total } = Weighted::new(points.dim(), source, target)?;
        self.solve_weighted(Source::Points(*points, points.largest_cost()?), &marginals, total)
    }

    /// Everything but the plan.
    pub(super) fn solve_weighted(
        &self,
        source: Source<'_>,
        marginals: &Marginals,
        total: f64,
    ) -> Result<Potentials, OtError> {
        let kernel = Kernel::detect();
        let log = self.form(Form::Log);
        let start = Array1::zeros(source.dim().1);
        let reached: Reached = log.reach(source, marginals, start.view(), kernel)?;
        let sums = sums_alone(source, self.epsilon, marginals, &reached, kernel);
        let duals = duals(source, self.epsilon, marginals, &reached, kernel);
        Ok(self.report(marginals, &reached, &sums, total, duals))
    }
}
