//! The debiased Sinkhorn divergence: zero where the two clouds are one.

use ndarray::{Array1, Array2, ArrayView1, Zip};

use super::Sinkhorn;
use super::costs::Source;
use super::points::Weighted;
use crate::coupling::Potentials;
use crate::error::OtError;
use crate::gradients::PointGradients;
use crate::points::Points;
use crate::problem::Problem;

/// Entries up to which a cost matrix is stored (64 MiB); larger ones are made anew in each pass.
const STORED: usize = 1 << 23;

/// `S(a, b) = OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2`, each the regularised value at one epsilon (Feydy, Sejourne, Vialard,
/// Amari, Trouve, Peyre 2019, equation 3).
///
/// For the built-in metrics but the cosine, S >= 0, and S(a, a) = 0. The values are the dual ones: their error is of the
/// second order in that of the duals.
#[derive(Debug, Clone, PartialEq)]
pub struct Divergence {
    /// S.
    pub value: f64,
    /// dS/da (n), up to a constant.
    pub source: Array1<f64>,
    /// dS/db (m), up to a constant.
    pub target: Array1<f64>,
    /// Between the two clouds.
    pub cross: Potentials,
    /// Of the sources with themselves, and of the targets.
    pub own: [Potentials; 2],
}

impl Divergence {
    /// Itself when all three problems converged, [`OtError::NotConverged`] of the first that did not otherwise.
    pub fn require_converged(self) -> Result<Self, OtError> {
        for part in [&self.cross, &self.own[0], &self.own[1]] {
            part.clone().require_converged()?;
        }
        Ok(self)
    }

    /// dS/dx and dS/dy for the points and masses that it was solved for.
    pub fn point_gradients(
        &self,
        points: &Points<'_>,
        source: ArrayView1<'_, f64>,
        target: ArrayView1<'_, f64>,
    ) -> Result<PointGradients, OtError> {
        let mut out = self.cross.point_gradients(points, source, target)?;
        let clouds = [(points.x(), source, &mut out.x), (points.y(), target, &mut out.y)];
        for ((cloud, masses, out), potentials) in clouds.into_iter().zip(&self.own) {
            let same = Points::new(cloud, cloud, points.metric())?;
            let PointGradients { x, y } = potentials.point_gradients(&same, masses, masses)?;
            // Half of what the same points do as sources and as targets.
            Zip::from(out).and(&x).and(&y).for_each(|out, x, y| *out -= 0.5 * (x + y));
        }
        Ok(out)
    }
}

impl Sinkhorn {
    /// The debiased divergence between two clouds of points with these masses, whose totals agree.
    ///
    /// ```
    /// use ndarray::array;
    /// use tavq_ot::{Metric, Points, Sinkhorn};
    ///
    /// let (x, y) = (array![[0.0], [1.0]], array![[0.1], [1.1]]);
    /// let half = array![0.5, 0.5];
    /// let points = Points::new(x.view(), y.view(), Metric::SquaredEuclidean)?;
    /// let divergence = Sinkhorn::new(0.5)?.divergence(&points, half.view(), half.view())?.require_converged()?;
    /// // A shift by 0.1 is worth 0.1^2 at any epsilon.
    /// assert!((divergence.value - 0.01).abs() < 1e-8);
    /// # Ok::<(), tavq_ot::OtError>(())
    /// ```
    pub fn divergence(
        &self,
        points: &Points<'_>,
        source: ArrayView1<'_, f64>,
        target: ArrayView1<'_, f64>,
    ) -> Result<Divergence, OtError> {
        let cross = Weighted::new(points.dim(), source, target)?;
        // Both sides at the mean of the two totals, alone too.
        let scaled = |side: &[f64]| side.iter().map(|mass| mass * cross.total).collect::<Array1<f64>>();
        let (a, b) = (scaled(&cross.marginals.source), scaled(&cross.marginals.target));
        let solve = |points: &Points<'_>, a: &Array1<f64>, b: &Array1<f64>| -> Result<Potentials, OtError> {
            let (n, m) = points.dim();
            if n * m > STORED {
                return self.solve_points(points, a.view(), b.view());
            }
            let costs: Array2<f64> = points.costs();
            let problem = Problem::new(costs.view(), a.view(), b.view())?;
            if let Some((row, column)) = forbidden(&problem) {
                return Err(OtError::CostForbidden { row, column });
            }
            let Weighted { marginals, total } = Weighted::new(problem.dim(), a.view(), b.view())?;
            self.solve_weighted(Source::Matrix(problem.cost(), problem.cost_range()), &marginals, total)
        };
        let own = |cloud, masses| solve(&Points::new(cloud, cloud, points.metric())?, masses, masses);
        let cross = solve(points, &a, &b)?;
        let own = [own(points.x(), &a)?, own(points.y(), &b)?];
        // The two duals of a symmetric problem are one, up to the constant that moves between them.
        let gradient = |dual: &Array1<f64>, own: &Potentials| dual - &(0.5 * (&own.f + &own.g));
        Ok(Divergence {
            value: cross.dual_value - 0.5 * (own[0].dual_value + own[1].dual_value),
            source: gradient(&cross.f, &own[0]),
            target: gradient(&cross.g, &own[1]),
            cross,
            own,
        })
    }
}

fn forbidden(problem: &Problem<'_>) -> Option<(usize, usize)> {
    if !problem.has_forbidden_arcs() {
        return None;
    }
    problem.cost().indexed_iter().find(|(_, cost)| **cost == f64::INFINITY).map(|(at, _)| at)
}
