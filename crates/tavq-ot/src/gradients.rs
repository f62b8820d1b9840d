//! Derivatives of the values with respect to costs, masses and points.
//!
//! The regularised value is a minimum, so its derivative is that of the objective at the plan, the duals held
//! (envelope theorem): dC = P, and the masses get the duals. The sharp value `<P, C>` is no minimum; how the plan moves is
//! found from the equations that its marginals obey, with one symmetric linear system in the duals (implicit
//! differentiation; Luise, Rudi, Pontil, Ciliberto 2018, theorem 3), solved by conjugate gradients on one side.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Zip};
use rayon::prelude::*;

use crate::coupling::{Coupling, Objective, Potentials, Reference};
use crate::error::OtError;
use crate::points::{Metric, Points, Rows, pull};
use crate::problem::{Problem, check_shapes, sum};
use crate::simd::Kernel;

/// Derivatives of a value.
///
/// Where the marginals are prescribed, only changes that keep the totals equal have a meaning, and the derivatives by the
/// masses are defined up to a constant that moves between the sides; here `<a, source> = <b, target>`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// By each cost (n x m); 0 for a forbidden arc.
    pub cost: Array2<f64>,
    /// By each source mass (n); at a mass of 0 the one-sided one.
    pub source: Array1<f64>,
    /// By each target mass (m).
    pub target: Array1<f64>,
}

/// Derivatives of a value by the coordinates of points.
#[derive(Debug, Clone, PartialEq)]
pub struct PointGradients {
    /// n x d.
    pub x: Array2<f64>,
    /// m x d.
    pub y: Array2<f64>,
}

impl Gradients {
    /// The chain rule through the cost of `points`, for a built-in metric ([`OtError::CustomMetric`] for another). Where
    /// points coincide, the Euclidean distance counts as having the derivative 0.
    pub fn points(&self, points: &Points<'_>) -> Result<PointGradients, OtError> {
        let (expected, found) = (points.dim(), self.cost.dim());
        if expected != found {
            return Err(OtError::CouplingShape { expected, found });
        }
        let side = |x, y, weights: ArrayView2<'_, f64>| {
            let weights = weights.as_standard_layout();
            side_gradient(points.metric(), x, y, |i, out| out.iter_mut().zip(weights.row(i)).for_each(|(o, w)| *o = *w))
        };
        let (x, y) = (points.x(), points.y());
        Ok(PointGradients { x: side(x, y, self.cost.view())?, y: side(y, x, self.cost.t())? })
    }
}

/// Derivatives by each of `x`, when `weights(i, out)` writes those by the costs of point `i`.
fn side_gradient(
    metric: Metric<'_>,
    x: ArrayView2<'_, f64>,
    y: ArrayView2<'_, f64>,
    weights: impl Fn(usize, &mut [f64]) + Sync,
) -> Result<Array2<f64>, OtError> {
    if matches!(metric, Metric::Custom(_)) {
        return Err(OtError::CustomMetric);
    }
    let (x, y) = (x.as_standard_layout(), y.as_standard_layout());
    let targets = y.as_slice().unwrap_or_default();
    let mut out = Array2::zeros(x.dim());
    let rows = out.axis_iter_mut(Axis(0)).into_par_iter().zip(x.axis_iter(Axis(0))).enumerate();
    rows.for_each_init(
        || vec![0.0; y.nrows()],
        |buffer, (i, (out, x))| {
            weights(i, buffer);
            if let (Some(x), Some(out)) = (x.to_slice(), out.into_slice()) {
                pull(metric, x, targets, buffer, out);
            }
        },
    );
    Ok(out)
}

impl Potentials {
    /// Derivatives of the regularised value by the coordinates, for the points and masses that it was solved for; memory
    /// O((n + m) d).
    pub fn point_gradients(
        &self,
        points: &Points<'_>,
        source: ArrayView1<'_, f64>,
        target: ArrayView1<'_, f64>,
    ) -> Result<PointGradients, OtError> {
        let (expected, found) = (points.dim(), (self.f.len(), self.g.len()));
        if expected != found {
            return Err(OtError::CouplingShape { expected, found });
        }
        check_shapes(expected, source, target)?;
        let Objective::Entropic { epsilon } = self.objective else {
            return Err(OtError::NoGradient { expected: "the objective Entropic", found: self.objective });
        };
        let total = 0.5 * (source.sum() + target.sum());
        let turned = Points::new(points.y(), points.x(), points.metric())?;
        let side = |points: &Points<'_>, masses: [ArrayView1<'_, f64>; 2], duals: [&Array1<f64>; 2]| {
            let costs = Rows::<f64>::new(points, Kernel::detect());
            side_gradient(points.metric(), points.x(), points.y(), |i, out| {
                costs.write_row(i, 0..out.len(), out);
                for ((p, g), mass) in out.iter_mut().zip(duals[1]).zip(masses[1]) {
                    *p = masses[0][i] * mass / total * ((duals[0][i] + g - *p) / epsilon).exp();
                }
            })
        };
        let x = side(points, [source, target], [&self.f, &self.g])?;
        Ok(PointGradients { x, y: side(&turned, [target, source], [&self.g, &self.f])? })
    }
}

impl Coupling {
    /// Derivatives of [`Coupling::regularized_value`] (which is the value, for an exact solver), by the envelope theorem.
    ///
    /// They hold for a converged coupling, and for an exact one where the optimum is unique; elsewhere they are one of
    /// several subgradients.
    pub fn gradients(&self, problem: &Problem<'_>) -> Result<Gradients, OtError> {
        self.check_shape(problem)?;
        let share = self.shares(problem);
        let (a, b) = problem.masses_of(self.objective);
        let [total_a, total_b] = [a, b].map(|masses| sum(masses.iter().copied()));
        let (source, target) = match self.objective {
            Objective::Linear | Objective::Entropic { .. } => (self.f.clone(), self.g.clone()),
            Objective::Unbalanced { reference, epsilon, strengths } => {
                // The counting reference does not move with the masses.
                let epsilon = if reference == Reference::Product { epsilon } else { 0.0 };
                let side = |duals: &Array1<f64>, rho: f64, other: f64| {
                    duals.mapv(|f| {
                        if rho == f64::INFINITY {
                            return f - epsilon * (1.0 - other);
                        }
                        let owed = (-f / rho).exp();
                        rho * (1.0 - owed) - epsilon * (owed - other)
                    })
                };
                (side(&self.f, strengths[0], total_b), side(&self.g, strengths[1], total_a))
            }
            Objective::Partial { .. } => (&self.f - self.multiplier(), self.g.clone()),
            Objective::EntropicPartial { epsilon, .. } => (
                &self.f - self.multiplier() - epsilon * (&share(epsilon, 0) - total_b),
                &self.g - epsilon * (&share(epsilon, 1) - total_a),
            ),
        };
        Ok(self.centred(problem, Gradients { cost: self.plan.clone(), source, target }))
    }

    /// Derivatives of [`Coupling::value`], `<P, C>`, of an entropic or unbalanced coupling, by implicit differentiation;
    /// those of an exact one are [`Coupling::gradients`].
    ///
    /// [`OtError::NoGradient`] for the partial objectives, [`OtError::GradientNotConverged`] when epsilon is so small that
    /// the system is singular in f64.
    pub fn sharp_gradients(&self, problem: &Problem<'_>) -> Result<Gradients, OtError> {
        self.check_shape(problem)?;
        let (epsilon, strengths) = match self.objective {
            Objective::Linear => return self.gradients(problem),
            Objective::Entropic { epsilon } => (epsilon, [f64::INFINITY; 2]),
            Objective::Unbalanced { reference: Reference::Product, epsilon, strengths } => (epsilon, strengths),
            found => {
                let expected = "a linear or entropic one, or an unbalanced one with the product as its reference";
                return Err(OtError::NoGradient { expected, found });
            }
        };
        let cost = problem.cost();
        let spent = Zip::from(&self.plan).and(cost).map_collect(|&p, &c| if p == 0.0 { 0.0 } else { p * c });
        let stiffness = strengths.map(|rho| 1.0 + epsilon / rho);
        let system = System {
            plan: self.plan.view(),
            rows: self.plan.sum_axis(Axis(1)) * stiffness[0],
            columns: self.plan.sum_axis(Axis(0)) * stiffness[1],
        };
        let (lambda, mu) = system.solve(&spent.sum_axis(Axis(1)), &spent.sum_axis(Axis(0)))?;
        let mut by_cost = self.plan.clone();
        for (((i, j), p), &c) in by_cost.indexed_iter_mut().zip(cost) {
            *p = if *p == 0.0 { 0.0 } else { *p * (1.0 + (lambda[i] + mu[j] - c) / epsilon) };
        }
        let by_mass =
            |side: usize, moved: &Array1<f64>| self.means(problem, epsilon, side, |c, other| c - moved[other]);
        let (source, target) = (by_mass(0, &mu), by_mass(1, &lambda));
        Ok(self.centred(problem, Gradients { cost: by_cost, source, target }))
    }

    fn check_shape(&self, problem: &Problem<'_>) -> Result<(), OtError> {
        let (expected, found) = (problem.dim(), self.plan.dim());
        let lengths = (self.f.len(), self.g.len());
        if expected == found && expected == lengths { Ok(()) } else { Err(OtError::CouplingShape { expected, found }) }
    }

    /// The multiplier of the mass of a partial plan.
    fn multiplier(&self) -> f64 {
        self.f.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// Row (side 0) or column sums of the plan over their masses.
    fn shares<'a>(&'a self, problem: &'a Problem<'_>) -> impl Fn(f64, usize) -> Array1<f64> + 'a {
        move |epsilon, side| self.means(problem, epsilon, side, |_, _| 1.0)
    }

    /// `sum_k P_ik value(C_ik, k) / a_i` for each point of a side; at a point of zero mass the limit of it, which the duals
    /// give.
    fn means(
        &self,
        problem: &Problem<'_>,
        epsilon: f64,
        side: usize,
        value: impl Fn(f64, usize) -> f64,
    ) -> Array1<f64> {
        let problem = if side == 0 { *problem } else { problem.transposed() };
        let (plan, f, g) =
            if side == 0 { (self.plan.view(), &self.f, &self.g) } else { (self.plan.t(), &self.g, &self.f) };
        let unit = if matches!(self.objective, Objective::Entropic { .. }) { problem.total_mass() } else { 1.0 };
        let (masses, others) = problem.masses_of(self.objective);
        let mean = |i: usize| {
            let (costs, mass) = (problem.cost(), masses[i]);
            let terms = (0..g.len()).map(|k| {
                let share = if mass > 0.0 {
                    plan[[i, k]] / mass
                } else {
                    others[k] / unit * ((f[i] + g[k] - costs[[i, k]]) / epsilon).exp()
                };
                if share == 0.0 { 0.0 } else { share * value(costs[[i, k]], k) }
            });
            sum(terms)
        };
        (0..f.len()).map(mean).collect()
    }

    /// Moves the constant that prescribed marginals leave open.
    fn centred(&self, problem: &Problem<'_>, mut found: Gradients) -> Gradients {
        let open = match self.objective {
            Objective::Linear | Objective::Entropic { .. } => true,
            Objective::Unbalanced { strengths, .. } => strengths == [f64::INFINITY; 2],
            _ => false,
        };
        if open {
            let (a, b) = problem.balanced_masses();
            let shift = 0.5 * (a.dot(&found.source) - b.dot(&found.target)) / problem.total_mass();
            found.source -= shift;
            found.target += shift;
        }
        found
    }
}

/// `[diag(rows) P; P^T diag(columns)]`, singular along (1, -1) where both marginals are prescribed.
struct System<'a> {
    plan: ArrayView2<'a, f64>,
    rows: Array1<f64>,
    columns: Array1<f64>,
}

/// Relative residual that the conjugate gradient aims at, and that it must reach.
const AIM: f64 = 1e-14;
const NEEDED: f64 = 1e-9;

impl System<'_> {
    /// The solution for the right sides `r` (n) and `q` (m); 0 at points that carry nothing.
    fn solve(&self, r: &Array1<f64>, q: &Array1<f64>) -> Result<(Array1<f64>, Array1<f64>), OtError> {
        let right = q - &self.plan.t().dot(&self.over_rows(r));
        let mu = self.conjugate_gradient(&right)?;
        let lambda = self.over_rows(&(r - &self.plan.dot(&mu)));
        Ok((lambda, mu))
    }

    fn over_rows(&self, values: &Array1<f64>) -> Array1<f64> {
        over(values, &self.rows)
    }

    /// Conjugate gradients on the Schur complement `diag(columns) - P^T diag(1 / rows) P`, preconditioned by its diagonal
    /// part.
    fn conjugate_gradient(&self, right: &Array1<f64>) -> Result<Array1<f64>, OtError> {
        let apply = |x: &Array1<f64>| &self.columns * x - self.plan.t().dot(&self.over_rows(&self.plan.dot(x)));
        let mut solution = Array1::zeros(right.len());
        let mut residual = right.clone();
        let mut scaled = over(&residual, &self.columns);
        let start = residual.dot(&scaled);
        let (mut direction, mut norm, mut best) = (scaled.clone(), start, (start, solution.clone()));
        let limit = 4 * right.len() + 100;
        let mut steps = 0;
        while steps < limit && norm > AIM * AIM * start {
            let moved = apply(&direction);
            let curvature = direction.dot(&moved);
            // What is left is rounding.
            if curvature.is_nan() || curvature <= 0.0 {
                break;
            }
            let length = norm / curvature;
            solution.scaled_add(length, &direction);
            // Now and then the true residual, since the updated one drifts.
            residual = if steps % 32 == 31 { right - &apply(&solution) } else { residual - length * &moved };
            scaled = over(&residual, &self.columns);
            let next = residual.dot(&scaled);
            direction = &scaled + (next / norm) * &direction;
            norm = next;
            steps += 1;
            if norm < best.0 {
                best = (norm, solution.clone());
            }
        }
        let (norm, solution) = best;
        let residual = if start > 0.0 { (norm / start).sqrt() } else { 0.0 };
        if residual <= NEEDED {
            Ok(solution)
        } else {
            Err(OtError::GradientNotConverged { tolerance: NEEDED, residual, iterations: steps })
        }
    }
}

/// The quotient, 0 where the divisor is.
fn over(values: &Array1<f64>, divisors: &Array1<f64>) -> Array1<f64> {
    Zip::from(values).and(divisors).map_collect(|&v, &d| if d > 0.0 { v / d } else { 0.0 })
}
