//! Entropic partial transport: a plan of a given mass, from what the two sides have.

use ndarray::ArrayView1;

use super::costs::{Source, scale};
use super::finish::{duals, plan_and_sums};
use super::iterate::{Limits, Stall};
use super::marginals::{Marginals, Prox};
use super::sweep::{Engine, LogSweep};
use super::{Reached, check_epsilon, check_iterations, check_ratio, check_tolerance};
use crate::Solver;
use crate::coupling::{Coupling, Objective, Status};
use crate::error::OtError;
use crate::measure::dot;
use crate::problem::{LARGEST, Problem, SMALLEST, sum};
use crate::simd::Kernel;

/// `argmin <P, C> + epsilon KL(P | a b^T)` over P >= 0 with `P 1 <= a`, `P^T 1 <= b` and a total of exactly `mass`
/// (Benamou, Carlier, Cuturi, Nenna, Peyre 2015, section 5).
///
/// The totals of the masses may differ ([`Problem::unbalanced`]). The plan is
/// `P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon)` with `g <= 0` and `f <= lambda`, where `lambda = max f` is the
/// multiplier of the mass. `dual_value` is `<a, f - lambda> + <b, g> + lambda mass - epsilon (sum P - sum a sum b)`;
/// `marginal_error` is what the rows and the columns exceed their masses by, or the distance of the total from `mass`,
/// whichever is largest.
///
/// ```
/// use ndarray::array;
/// use tavq_ot::{EntropicPartial, Problem, Solver};
///
/// let cost = array![[0.0, 1.0], [1.0, 9.0]];
/// let masses = array![0.5, 0.5];
/// let problem = Problem::new(cost.view(), masses.view(), masses.view())?;
/// let coupling = EntropicPartial::new(0.5, 0.05)?.solve(&problem)?.require_converged()?;
/// assert!((coupling.plan.sum() - 0.5).abs() < 1e-8 && coupling.plan[[0, 0]] > 0.49);
/// # Ok::<(), tavq_ot::OtError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EntropicPartial {
    mass: f64,
    epsilon: f64,
    tolerance: f64,
    max_iterations: usize,
}

impl EntropicPartial {
    /// Mass of the plan, > 0 and at most the smaller total of a problem, and entropic strength in units of the cost,
    /// both between 1e-150 and 1e150. The tolerance starts at 1e-9, the limit at 10,000.
    pub fn new(mass: f64, epsilon: f64) -> Result<Self, OtError> {
        if !(SMALLEST..=LARGEST).contains(&mass) {
            return Err(OtError::PartialMass { value: mass });
        }
        Ok(Self { mass, epsilon: check_epsilon(epsilon)?, tolerance: 1e-9, max_iterations: 10_000 })
    }

    /// Error relative to the mass at which the iteration ends.
    pub fn tolerance(self, tolerance: f64) -> Result<Self, OtError> {
        Ok(Self { tolerance: check_tolerance(tolerance)?, ..self })
    }

    /// Updates of all potentials at most; at least 1.
    pub fn max_iterations(self, max_iterations: usize) -> Result<Self, OtError> {
        Ok(Self { max_iterations: check_iterations(max_iterations)?, ..self })
    }

    /// Updates f, g and the multiplier in turn: ascent of the dual, block by block.
    fn iterate(&self, engine: &mut LogSweep<'_, f64>, largest_exponent: f64) -> (usize, Status) {
        let limits = Limits {
            tolerance: self.tolerance * self.mass,
            max_iterations: self.max_iterations,
            largest_exponent,
            free: false,
        };
        let mut stall = Stall::new(self.mass);
        for iteration in 1..=self.max_iterations {
            engine.pass(1.0);
            let (mass, next) = engine.plan_mass();
            let error = engine.column_error() + (mass - self.mass).abs();
            if error <= limits.tolerance {
                return ((iteration - 1).max(1), Status::Stalled);
            }
            engine.accept();
            // A plan that carries nothing at all is mended by no multiplier.
            if next.is_nan() || next <= 0.0 || stall.seen(error, engine, &limits) {
                return (iteration, Status::Stalled);
            }
            if iteration < self.max_iterations {
                engine.lift((self.mass / next).log2());
            }
        }
        (self.max_iterations, Status::IterationLimit)
    }

    fn check(&self, problem: &Problem<'_>, totals: [f64; 2]) -> Result<(), OtError> {
        let available = totals[0].min(totals[1]);
        if self.mass > available * (1.0 + crate::MASS_SLACK) {
            return Err(OtError::PartialMassTooLarge { value: self.mass, available });
        }
        crate::exact::check_partial(problem, self.mass)
    }
}

/// The lowest cost between points that have mass.
fn lowest_cost(problem: &Problem<'_>) -> f64 {
    let rows = problem.cost().into_outer_iter().zip(problem.source()).filter(|(_, mass)| **mass > 0.0);
    let row = |row: ArrayView1<'_, f64>| {
        row.iter().zip(problem.target()).filter(|(_, mass)| **mass > 0.0).fold(f64::INFINITY, |low, (&c, _)| low.min(c))
    };
    rows.map(|(costs, _)| row(costs)).fold(f64::INFINITY, f64::min)
}

impl Solver for EntropicPartial {
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
        let objective = Objective::EntropicPartial { mass: self.mass, epsilon: self.epsilon };
        let (a, b) = problem.masses_of(objective);
        let totals = [&a, &b].map(|masses| sum(masses.iter().copied()));
        check_ratio(self.epsilon, problem)?;
        self.check(problem, totals)?;
        let kernel = Kernel::detect();
        let marginals = Marginals::new(a.to_vec(), b.to_vec(), [Prox::AtMost { lift: 0.0 }; 2]);
        let source = Source::Matrix(problem.cost(), problem.cost_range());
        let costs = source.double(self.epsilon, kernel);
        let mut engine = LogSweep::new(costs, &marginals, &vec![0.0; b.len()], kernel);
        // The multiplier starts where the lowest cost is not below it, so that the first plan is not 0.
        engine.lift(lowest_cost(problem) * scale(self.epsilon));
        let (iterations, ending) = self.iterate(&mut engine, source.range().1 * scale(self.epsilon));
        let (f, g) = engine.potentials();
        let mut reached = Reached { f, g, prox: engine.prox(), iterations, ending, scaled: None };
        let (plan, sums) = plan_and_sums(source, self.epsilon, &marginals, &mut reached, kernel);
        let (f, g) = duals(source, self.epsilon, &marginals, &reached, kernel);

        let (rows, columns) = (&sums.rows[..], &sums.columns[..]);
        let mass = sum(rows.iter().copied());
        let excess = |found: &[f64], masses: &[f64]| sum(found.iter().zip(masses).map(|(p, a)| (p - a).max(0.0)));
        let error =
            excess(rows, &marginals.source).max(excess(columns, &marginals.target)).max((mass - self.mass).abs());
        let lambda = f.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let slack = self.epsilon * (mass - totals[0] * totals[1]);
        let bound = dot(a.view(), f.mapv(|f| f - lambda).view()) + dot(b.view(), g.view());
        Ok(Coupling {
            value: sums.cost,
            regularized_value: dot(rows.into(), f.view()) + dot(columns.into(), g.view()) - slack,
            dual_value: bound + lambda * self.mass - slack,
            marginal_error: error,
            iterations: reached.iterations,
            status: if error <= self.tolerance * self.mass { Status::Converged } else { reached.ending },
            objective,
            plan,
            f,
            g,
        })
    }
}
