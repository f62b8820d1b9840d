//! The entropic solver in the log domain: fused sweeps ([`sweep`]), a free stopping test, three honest endings.

mod sweep;

use ndarray::{Array1, Array2, ArrayView1, Axis};
use rayon::prelude::*;

use crate::coupling::{Coupling, Status};
use crate::error::OtError;
use crate::measure::{dot, marginal_error, transport_cost};
use crate::problem::{LARGEST, Problem, SMALLEST, sum};
use crate::{Solver, sinkhorn::sweep::Sweep};

/// Entropic optimal transport in f64: `argmin <P, C> + epsilon KL(P | a b^T / M)` over the plans with marginals
/// `a`, `b` (Cuturi 2013), iterated in the log domain.
///
/// Stops with [`Status::Converged`] once the marginals of the plan are within `tolerance` (relative to the total
/// mass, in L1) of the masses, with [`Status::Stalled`] when rounding keeps them above it, and with
/// [`Status::IterationLimit`] otherwise. The plan is returned in each case, with the error that it has.
///
/// ```
/// use ndarray::array;
/// use tavq_ot::{Problem, Sinkhorn, Solver};
///
/// let cost = array![[0.0, 1.0], [1.0, 0.0]];
/// let masses = array![0.5, 0.5];
/// let problem = Problem::new(cost.view(), masses.view(), masses.view())?;
/// let coupling = Sinkhorn::new(1.0)?.tolerance(1e-12)?.solve(&problem)?.require_converged()?;
/// assert!((coupling.plan[[0, 0]] - 0.5 / (1.0 + (-1.0_f64).exp())).abs() < 1e-15);
/// assert!(coupling.value < coupling.regularized_value);
/// # Ok::<(), tavq_ot::OtError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sinkhorn {
    epsilon: f64,
    tolerance: f64,
    max_iterations: usize,
}

impl Sinkhorn {
    /// Strength `epsilon` of the entropy term, in units of the cost, between 1e-150 and 1e150. The tolerance starts
    /// at 1e-9 and the limit at 10,000 iterations.
    pub fn new(epsilon: f64) -> Result<Self, OtError> {
        if (SMALLEST..=LARGEST).contains(&epsilon) {
            Ok(Self { epsilon, tolerance: 1e-9, max_iterations: 10_000 })
        } else {
            Err(OtError::Epsilon { value: epsilon })
        }
    }

    /// L1 error of the marginals, relative to the total mass, at which the iteration ends; finite and >= 0.
    pub fn tolerance(self, tolerance: f64) -> Result<Self, OtError> {
        if tolerance >= 0.0 && tolerance.is_finite() {
            Ok(Self { tolerance, ..self })
        } else {
            Err(OtError::Tolerance { value: tolerance })
        }
    }

    /// Updates of both potentials at most; at least 1.
    pub fn max_iterations(self, max_iterations: usize) -> Result<Self, OtError> {
        if max_iterations == 0 { Err(OtError::MaxIterations) } else { Ok(Self { max_iterations, ..self }) }
    }

    /// The strength of the entropy term.
    #[must_use]
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// Solves from the target potentials `g` (m) of an earlier, similar problem instead of from 0.
    ///
    /// From the solution itself the first iteration ends it.
    pub fn solve_from(&self, problem: &Problem<'_>, g: ArrayView1<'_, f64>) -> Result<Coupling, OtError> {
        let expected = problem.dim().1;
        if g.len() != expected {
            return Err(OtError::WarmStartLength { expected, found: g.len() });
        }
        if let Some((index, &value)) = g.iter().enumerate().find(|(_, g)| g.is_nan() || g.abs() > LARGEST) {
            return Err(OtError::WarmStartValue { index, value });
        }
        problem.check_feasible()?;
        Ok(self.run(problem, g))
    }

    fn run(&self, problem: &Problem<'_>, g: ArrayView1<'_, f64>) -> Coupling {
        let total = problem.total_mass();
        let (a, b) = problem.balanced_masses();
        let (source, target) = ((&a / total).to_vec(), (&b / total).to_vec());
        let cost = problem.cost();
        let cost = cost.as_standard_layout();
        let gamma = target.iter().zip(g).map(|(mass, g)| mass.ln() + g / self.epsilon).collect();
        let mut sweep = Sweep::new(cost.view(), self.epsilon, &source, &target, gamma);
        let (iterations, ending) = self.iterate(&mut sweep, problem);

        let mut plan = Array2::zeros(problem.dim());
        plan.axis_iter_mut(Axis(0)).into_par_iter().enumerate().for_each(|(i, mut row)| {
            if let Some(row) = row.as_slice_mut() {
                sweep.plan_row(i, row);
            }
        });
        let unit_error = marginal_error(
            plan.view(),
            Array1::from_vec(source.clone()).view(),
            Array1::from_vec(target.clone()).view(),
        );
        plan *= total;
        let (f, g) = self.duals(problem, &sweep, &source, &target);
        let slack = self.epsilon * (sum(plan.iter().copied()) - total);
        Coupling {
            value: transport_cost(plan.view(), problem.cost()),
            // <P, C> + epsilon KL with ln P written out through the duals.
            regularized_value: dot(plan.sum_axis(Axis(1)).view(), f.view())
                + dot(plan.sum_axis(Axis(0)).view(), g.view())
                - slack,
            dual_value: dot(a.view(), f.view()) + dot(b.view(), g.view()) - slack,
            marginal_error: unit_error * total,
            iterations,
            status: if unit_error <= self.tolerance { Status::Converged } else { ending },
            plan,
            f,
            g,
        }
    }

    /// Iterates to one of the endings; the second value is the status should the finished plan miss the tolerance.
    fn iterate(&self, sweep: &mut Sweep<'_>, problem: &Problem<'_>) -> (usize, Status) {
        /// Passes without a new lowest error before rounding is suspected.
        const PATIENCE: usize = 50;
        let largest = problem.cost().iter().filter(|c| c.is_finite()).fold(0.0, |a: f64, c| a.max(c.abs()));
        let (mut lowest, mut since) = (f64::INFINITY, 0);
        sweep.pass(true);
        sweep.accept();
        for iteration in 1..self.max_iterations {
            sweep.pass(false);
            let error = sweep.row_error();
            if error <= self.tolerance {
                return (iteration, Status::Stalled);
            }
            if error < lowest {
                (lowest, since) = (error, 0);
            } else {
                since += 1;
                // The error can also rest for many passes while the potentials still move; then it is above this.
                if since >= PATIENCE && error <= 8.0 * sweep.rounding(largest) {
                    return (iteration, Status::Stalled);
                }
            }
            sweep.accept();
        }
        (self.max_iterations, Status::IterationLimit)
    }

    /// The duals with the masses taken out again; soft c-transforms at points of zero mass.
    fn duals(
        &self,
        problem: &Problem<'_>,
        sweep: &Sweep<'_>,
        source: &[f64],
        target: &[f64],
    ) -> (Array1<f64>, Array1<f64>) {
        let dual = |potential: f64, mass: f64, costs: ArrayView1<'_, f64>, others: &[f64]| {
            if mass > 0.0 && potential.is_finite() {
                self.epsilon * (potential - mass.ln())
            } else {
                self.soft_transform(costs, others)
            }
        };
        let cost = problem.cost();
        let f = cost.outer_iter().enumerate().map(|(i, row)| dual(sweep.phi[i], source[i], row, &sweep.gamma));
        let g = cost.columns().into_iter().enumerate();
        let g = g.map(|(j, column)| dual(sweep.gamma[j], target[j], column, &sweep.phi));
        (f.collect(), g.collect())
    }

    /// `-epsilon ln sum_k exp(potential_k - cost_k / epsilon)`; 0 when every arc is forbidden.
    fn soft_transform(&self, costs: ArrayView1<'_, f64>, potentials: &[f64]) -> f64 {
        let exponents = || potentials.iter().zip(costs).map(|(p, c)| p - c / self.epsilon);
        let max = exponents().fold(f64::NEG_INFINITY, f64::max);
        if max == f64::NEG_INFINITY {
            return 0.0;
        }
        -self.epsilon * (max + exponents().map(|x| (x - max).exp()).sum::<f64>().ln())
    }
}

impl Solver for Sinkhorn {
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
        problem.check_feasible()?;
        Ok(self.run(problem, Array1::zeros(problem.dim().1).view()))
    }
}
