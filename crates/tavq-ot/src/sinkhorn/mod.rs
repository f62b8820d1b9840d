//! Entropic transport: one scaling algorithm ([`sweep`], [`scaling`]) driven to a tolerance ([`iterate`]) with three
//! honest endings, on a matrix or on points. [`Sinkhorn`] prescribes both marginals; [`unbalanced`] and [`partial`] run
//! the same sweeps with other rules for them.

mod accelerate;
mod anderson;
mod costs;
mod divergence;
mod finish;
mod iterate;
mod marginals;
mod partial;
mod points;
mod scaling;
mod sweep;
mod unbalanced;

use ndarray::{Array1, ArrayView1};

pub use accelerate::Acceleration;
pub use divergence::Divergence;
pub use partial::EntropicPartial;
pub use unbalanced::Unbalanced;

use self::costs::{Source, scale};
use self::finish::{Sums, duals, plan_and_sums};
use self::iterate::{Limits, iterate};
use self::marginals::{Marginals, Prox};
use self::scaling::{Scaled, ScalingSweep};
use self::sweep::{Engine, LogSweep};
use crate::Solver;
use crate::coupling::{Coupling, Objective, Potentials, Status};
use crate::error::OtError;
use crate::measure::dot;
use crate::problem::{LARGEST, Problem, SMALLEST, sum};
use crate::simd::Kernel;

/// Where the iteration keeps its numbers. Both forms reach the same plan in the same number of iterations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Form {
    /// Potentials alone: one exponential an entry and iteration, no memory beyond the cost.
    #[default]
    Log,
    /// A stored kernel, scaled and rebuilt when the scaling leaves its range: several times faster an iteration. It takes
    /// the room of the plan, which it becomes in the end; in single precision, half as much again.
    Scaling,
}

/// Type of the numbers in the iteration. What is reported is computed in f64 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Precision {
    /// f64.
    #[default]
    Double,
    /// f32. In [`Form::Log`] the marginal error cannot fall much below `(largest cost / epsilon) 2^-24 / 3`: a tolerance
    /// below that ends as [`Status::Stalled`].
    Single,
}

/// Entropic optimal transport: `argmin <P, C> + epsilon KL(P | a b^T / M)` over the plans with marginals `a`, `b`
/// (Cuturi 2013).
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
    form: Form,
    precision: Precision,
    acceleration: Acceleration,
    schedule: Option<(f64, f64)>,
}

/// The duals that a run reached, in units of epsilon to the base 2.
struct Reached {
    /// Of the active sources.
    f: Vec<f64>,
    g: Vec<f64>,
    prox: [Prox; 2],
    iterations: usize,
    ending: Status,
    /// The plan that the iteration has at hand already.
    scaled: Option<Scaled<f64>>,
}

fn check_epsilon(value: f64) -> Result<f64, OtError> {
    if (SMALLEST..=LARGEST).contains(&value) { Ok(value) } else { Err(OtError::Epsilon { value }) }
}

/// Refuses costs that leave no digits, for objectives whose plan nothing else bounds.
fn check_ratio(epsilon: f64, problem: &Problem<'_>) -> Result<(), OtError> {
    let largest = problem.cost_range().largest();
    if largest > 1e12 * epsilon { Err(OtError::EpsilonTooSmall { value: epsilon, largest }) } else { Ok(()) }
}

fn check_tolerance(value: f64) -> Result<f64, OtError> {
    if value >= 0.0 && value.is_finite() { Ok(value) } else { Err(OtError::Tolerance { value }) }
}

fn check_iterations(value: usize) -> Result<usize, OtError> {
    if value == 0 { Err(OtError::MaxIterations) } else { Ok(value) }
}

impl Sinkhorn {
    /// Strength `epsilon` of the entropy term, in units of the cost, between 1e-150 and 1e150. The tolerance starts
    /// at 1e-9 and the limit at 10,000 iterations.
    pub fn new(epsilon: f64) -> Result<Self, OtError> {
        Ok(Self {
            epsilon: check_epsilon(epsilon)?,
            tolerance: 1e-9,
            max_iterations: 10_000,
            form: Form::default(),
            precision: Precision::default(),
            acceleration: Acceleration::default(),
            schedule: None,
        })
    }

    /// L1 error of the marginals, relative to the total mass, at which the iteration ends; finite and >= 0.
    pub fn tolerance(self, tolerance: f64) -> Result<Self, OtError> {
        Ok(Self { tolerance: check_tolerance(tolerance)?, ..self })
    }

    /// Updates of both potentials at most; at least 1. A schedule counts each stage by itself.
    pub fn max_iterations(self, max_iterations: usize) -> Result<Self, OtError> {
        Ok(Self { max_iterations: check_iterations(max_iterations)?, ..self })
    }

    /// Where the iteration keeps its numbers; [`Form::Log`] unless set.
    #[must_use]
    pub fn form(self, form: Form) -> Self {
        Self { form, ..self }
    }

    /// Type of the numbers in the iteration; [`Precision::Double`] unless set.
    #[must_use]
    pub fn precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// How the iteration is sped up; [`Acceleration::Auto`] unless set.
    #[must_use]
    pub fn acceleration(self, acceleration: Acceleration) -> Self {
        Self { acceleration, ..self }
    }

    /// Solves with larger epsilons first: `start`, `start * factor`, ... down to the solver's own, each from the duals of
    /// the one before and to a hundredfold tolerance. `start` >= epsilon, `factor` in (0, 0.99].
    pub fn schedule(self, start: f64, factor: f64) -> Result<Self, OtError> {
        if start >= self.epsilon && start <= LARGEST && factor > 0.0 && factor <= 0.99 {
            Ok(Self { schedule: Some((start, factor)), ..self })
        } else {
            Err(OtError::Schedule { start, factor })
        }
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
        check_warm_start(problem.dim().1, g)?;
        problem.check_feasible()?;
        self.run(problem, g, Kernel::detect())
    }

    fn run(&self, problem: &Problem<'_>, g: ArrayView1<'_, f64>, kernel: Kernel) -> Result<Coupling, OtError> {
        let total = problem.total_mass();
        let marginals = unit_marginals(problem.balanced_masses(), total);
        let source = Source::Matrix(problem.cost(), problem.cost_range());
        let mut reached = self.reach(source, &marginals, g, kernel)?;
        let (mut plan, sums) = plan_and_sums(source, self.epsilon, &marginals, &mut reached, kernel);
        if total != 1.0 {
            plan *= total;
        }
        let duals = duals(source, self.epsilon, &marginals, &reached, kernel);
        Ok(self.report(&marginals, &reached, &sums, total, duals).with_plan(plan))
    }

    fn report(
        &self,
        marginals: &Marginals,
        reached: &Reached,
        sums: &Sums,
        total: f64,
        (f, g): (Array1<f64>, Array1<f64>),
    ) -> Potentials {
        let distance =
            |found: &[f64], masses: &[f64]| found.iter().zip(masses).map(|(s, m)| (s - m).abs()).sum::<f64>();
        let unit_error = distance(&sums.rows, &marginals.source).max(distance(&sums.columns, &marginals.target));
        let pair = |rows: &[f64], columns: &[f64]| dot(rows.into(), f.view()) + dot(columns.into(), g.view());
        let slack = self.epsilon * (sum(sums.rows.iter().copied()) - 1.0);
        Potentials {
            value: sums.cost * total,
            // <P, C> + epsilon KL with ln P written out through the duals.
            regularized_value: (pair(&sums.rows, &sums.columns) - slack) * total,
            dual_value: (pair(&marginals.source, &marginals.target) - slack) * total,
            marginal_error: unit_error * total,
            iterations: reached.iterations,
            status: if unit_error <= self.tolerance { Status::Converged } else { reached.ending },
            objective: Objective::Entropic { epsilon: self.epsilon },
            f,
            g,
        }
    }

    /// Runs the stages of the schedule, then the solver's own epsilon.
    fn reach(
        &self,
        source: Source<'_>,
        marginals: &Marginals,
        g: ArrayView1<'_, f64>,
        kernel: Kernel,
    ) -> Result<Reached, OtError> {
        let (_, largest) = source.range();
        if self.precision == Precision::Single && largest > 1e6 * self.epsilon {
            return Err(OtError::SinglePrecision { ratio: largest / self.epsilon });
        }
        let mut g: Vec<f64> = g.iter().zip(&marginals.target).map(|(&g, &b)| if b > 0.0 { g } else { 0.0 }).collect();
        let mut iterations = 0;
        if let Some((start, factor)) = self.schedule {
            let mut epsilon = start;
            while epsilon > self.epsilon {
                let tolerance = (100.0 * self.tolerance).max(1e-3);
                let stage = Self { epsilon, tolerance, schedule: None, ..*self };
                let reached = stage.stage(source, marginals, &g, largest, kernel);
                g = reached.g.iter().map(|g| g / scale(epsilon)).collect();
                iterations += reached.iterations;
                epsilon *= factor;
            }
        }
        let mut reached = self.stage(source, marginals, &g, largest, kernel);
        reached.iterations += iterations;
        Ok(reached)
    }

    /// One epsilon, from the duals `g` in units of the cost.
    fn stage(&self, source: Source<'_>, marginals: &Marginals, g: &[f64], largest: f64, kernel: Kernel) -> Reached {
        let g: Vec<f64> = g.iter().map(|g| g * scale(self.epsilon)).collect();
        let double = || source.double(self.epsilon, kernel);
        match (self.form, self.precision) {
            (Form::Log, Precision::Double) => {
                self.drive(&mut LogSweep::new(double(), marginals, &g, kernel), marginals, largest)
            }
            (Form::Log, Precision::Single) => {
                let costs = source.single(self.epsilon, kernel);
                self.drive(&mut LogSweep::new(costs, marginals, &g, kernel), marginals, largest)
            }
            (Form::Scaling, Precision::Double) => {
                let mut sweep = ScalingSweep::<f64>::new(double(), marginals, &g, kernel);
                let reached = self.drive(&mut sweep, marginals, largest);
                Reached { scaled: sweep.into_scaled(), ..reached }
            }
            (Form::Scaling, Precision::Single) => {
                self.drive(&mut ScalingSweep::<f32>::new(double(), marginals, &g, kernel), marginals, largest)
            }
        }
    }

    fn drive(&self, engine: &mut dyn Engine, marginals: &Marginals, largest: f64) -> Reached {
        let limits = Limits {
            tolerance: self.tolerance,
            max_iterations: self.max_iterations,
            largest_exponent: largest * scale(self.epsilon),
            free: true,
        };
        let (iterations, ending) = iterate(engine, &limits, self.acceleration, &marginals.target);
        let (f, g) = engine.potentials();
        Reached { f, g, prox: marginals.prox, iterations, ending, scaled: None }
    }
}

/// Both sides scaled to a total of 1, prescribed.
fn unit_marginals((a, b): (Array1<f64>, Array1<f64>), total: f64) -> Marginals {
    Marginals::new((a / total).to_vec(), (b / total).to_vec(), [Prox::Exact; 2])
}

fn check_warm_start(expected: usize, g: ArrayView1<'_, f64>) -> Result<(), OtError> {
    if g.len() != expected {
        return Err(OtError::WarmStartLength { expected, found: g.len() });
    }
    match g.iter().enumerate().find(|(_, g)| g.is_nan() || g.abs() > LARGEST) {
        Some((index, &value)) => Err(OtError::WarmStartValue { index, value }),
        None => Ok(()),
    }
}

impl Solver for Sinkhorn {
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
        problem.check_feasible()?;
        // A constant in all costs belongs into g from the start: there it costs no digit of any exponent.
        let start = Array1::from_elem(problem.dim().1, problem.cost_range().lowest);
        self.run(problem, start.view(), Kernel::detect())
    }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    /// Exponents of thousands: a kernel whose exponential runs over its bits would converge to another fixed point.
    #[test]
    fn every_instruction_set_reaches_the_same_duals_at_wide_costs() {
        let cost = array![[0.0, 700.0, 0.0, 925.0], [1650.0, 750.0, 750.0, 1750.0]];
        let (a, b) = (array![0.25, 0.75], array![8.0, 2.0, 20.0, 1.0] / 31.0);
        let problem = Problem::new(cost.view(), a.view(), b.view()).unwrap();
        let start = Array1::zeros(4);
        for form in [Form::Log, Form::Scaling] {
            let solver = Sinkhorn::new(0.05).unwrap().form(form);
            for kernel in Kernel::available() {
                let found = solver.run(&problem, start.view(), kernel).unwrap();
                let what = format!("{form:?} {kernel:?}: {} {}", found.status, found.marginal_error);
                for ((i, j), &mass) in found.plan.indexed_iter() {
                    let exponent = (found.f[i] + found.g[j] - cost[[i, j]]) / 0.05;
                    assert!((a[i] * b[j] * exponent.exp() - mass).abs() < 1e-8, "{what}: entry {i}, {j}");
                }
                // Of a value of 602.
                assert!(found.status == Status::Converged && found.gap().abs() < 1e-5, "{what}: gap {}", found.gap());
            }
        }
    }
}
