//! Unbalanced entropic transport: the marginals are asked for, at a price, instead of prescribed.

use ndarray::{ArrayView1, ArrayView2};

use super::costs::{Source, scale};
use super::finish::{duals, plan_and_sums};
use super::iterate::{Limits, iterate};
use super::marginals::{Marginals, Prox};
use super::sweep::{Engine, LogSweep};
use super::{Acceleration, Reached, check_epsilon, check_iterations, check_ratio, check_tolerance};
use crate::Solver;
use crate::coupling::{Coupling, Objective, Reference, Status};
use crate::error::{OtError, Side};
use crate::measure::{dot, transport_cost};
use crate::problem::{Problem, sum};
use crate::simd::Kernel;

/// `argmin <P, C> + epsilon KL(P | Q) + rho_a KL(P 1 | a) + rho_b KL(P^T 1 | b)` over P >= 0, with
/// `KL(p | q) = sum p ln(p / q) - p + q` (Chizat, Peyre, Schmitzer, Vialard 2018, section 3).
///
/// Costs far below 0 beside weak strengths ask for plans beyond f64 (about `exp(-C / (epsilon + rho_a + rho_b))`); such a run
/// ends unconverged.
///
/// The totals of the masses may differ ([`Problem::unbalanced`]). A strength of +inf prescribes its marginal. Q is `a b^T`
/// (or 1 everywhere, [`Unbalanced::reference`]). In the [`Coupling`], `regularized_value` is the objective, `dual_value` is
/// `-rho_a sum a (exp(-f / rho_a) - 1) - rho_b sum b (exp(-g / rho_b) - 1) - epsilon (sum P - sum Q)`, and
/// `marginal_error` is the L1 distance of the marginals from `a exp(-f / rho_a)` and `b exp(-g / rho_b)`, which the
/// optimum has. The plan is `P_ij = Q_ij exp((f_i + g_j - C_ij) / epsilon)`.
///
/// ```
/// use ndarray::array;
/// use tavq_ot::{Problem, Solver, Unbalanced};
///
/// let cost = array![[0.0, 1.0], [1.0, 0.0]];
/// let (source, target) = (array![0.7, 0.3], array![0.5, 1.5]);
/// let problem = Problem::unbalanced(cost.view(), source.view(), target.view())?;
/// let coupling = Unbalanced::new(0.05, 1.0, 1.0)?.solve(&problem)?.require_converged()?;
/// assert!(1.0 < coupling.plan.sum() && coupling.plan.sum() < 2.0);
/// assert!(coupling.gap().abs() < 1e-8);
/// # Ok::<(), tavq_ot::OtError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unbalanced {
    epsilon: f64,
    strengths: [f64; 2],
    reference: Reference,
    tolerance: f64,
    max_iterations: usize,
    acceleration: Acceleration,
}

impl Unbalanced {
    /// Entropic strength `epsilon` and the strengths of the two marginal penalties, all in units of the cost; epsilon
    /// between 1e-150 and 1e150, the others between 1e-12 and 1e12 times epsilon, or +inf. A problem's costs may be at most
    /// 1e12 epsilon. The tolerance starts at 1e-9, the limit at 10,000.
    pub fn new(epsilon: f64, source_strength: f64, target_strength: f64) -> Result<Self, OtError> {
        let epsilon = check_epsilon(epsilon)?;
        for (side, value) in [(Side::Source, source_strength), (Side::Target, target_strength)] {
            if value != f64::INFINITY && !(1e-12..=1e12).contains(&(value / epsilon)) {
                return Err(OtError::Strength { side, value });
            }
        }
        Ok(Self {
            epsilon,
            strengths: [source_strength, target_strength],
            reference: Reference::default(),
            tolerance: 1e-9,
            max_iterations: 10_000,
            acceleration: Acceleration::default(),
        })
    }

    /// L1 error of the marginals, relative to the mean of the two total masses, at which the iteration ends.
    pub fn tolerance(self, tolerance: f64) -> Result<Self, OtError> {
        Ok(Self { tolerance: check_tolerance(tolerance)?, ..self })
    }

    /// Updates of both potentials at most; at least 1.
    pub fn max_iterations(self, max_iterations: usize) -> Result<Self, OtError> {
        Ok(Self { max_iterations: check_iterations(max_iterations)?, ..self })
    }

    /// What the entropy is relative to; [`Reference::Product`] unless set. The other one takes a copy of the cost.
    #[must_use]
    pub fn reference(self, reference: Reference) -> Self {
        Self { reference, ..self }
    }

    /// How the iteration is sped up; [`Acceleration::Auto`] unless set.
    #[must_use]
    pub fn acceleration(self, acceleration: Acceleration) -> Self {
        Self { acceleration, ..self }
    }

    fn prox(&self) -> [Prox; 2] {
        self.strengths.map(
            |rho| {
                if rho == f64::INFINITY { Prox::Exact } else { Prox::Kl { ratio: rho / self.epsilon } }
            },
        )
    }

    /// A side that is prescribed must be reachable, point by point.
    fn check_reachable(&self, problem: &Problem<'_>) -> Result<(), OtError> {
        if self.strengths.iter().all(|rho| *rho == f64::INFINITY) {
            return problem.check_feasible();
        }
        if !problem.has_forbidden_arcs() {
            return Ok(());
        }
        for (problem, rho) in [(*problem, self.strengths[0]), (problem.transposed(), self.strengths[1])] {
            if rho < f64::INFINITY {
                continue;
            }
            let target = problem.target();
            let blocked =
                |row: ArrayView1<'_, f64>| row.iter().zip(target).all(|(&c, &b)| c == f64::INFINITY || b == 0.0);
            let rows = problem.cost().into_outer_iter().zip(problem.source());
            let stranded = sum(rows.filter(|(row, _)| blocked(*row)).map(|(_, &mass)| mass));
            if stranded > 0.0 {
                return Err(OtError::Infeasible { stranded, total: sum(problem.source().iter().copied()) });
            }
        }
        Ok(())
    }

    fn objective(&self) -> Objective {
        Objective::Unbalanced { reference: self.reference, epsilon: self.epsilon, strengths: self.strengths }
    }

    /// The penalty of a side in the objective.
    fn penalty(&self, side: usize, found: &[f64], masses: &[f64]) -> f64 {
        let rho = self.strengths[side];
        if rho == f64::INFINITY {
            return 0.0;
        }
        let term = |(&p, &q): (&f64, &f64)| if p > 0.0 && q > 0.0 { p * (p / q).ln() - p + q } else { q };
        rho * sum(found.iter().zip(masses).map(term))
    }

    /// The part of a side in the dual objective.
    fn dual(&self, side: usize, potentials: ArrayView1<'_, f64>, found: &[f64], masses: &[f64]) -> f64 {
        let rho = self.strengths[side];
        if rho == f64::INFINITY {
            return dot(masses.into(), potentials);
        }
        let terms = potentials.iter().zip(found).zip(masses).map(|((&f, &found), &mass)| {
            if mass == 0.0 {
                0.0
            } else if found == 0.0 && f == 0.0 {
                // A point that only forbidden arcs leave has the potential +inf, reported as 0.
                rho * mass
            } else {
                -rho * mass * (-f / rho).exp_m1()
            }
        });
        sum(terms)
    }

    fn error(&self, side: usize, potentials: ArrayView1<'_, f64>, found: &[f64], masses: &[f64]) -> f64 {
        let rho = self.strengths[side];
        let owed = |f: f64, mass: f64| if rho == f64::INFINITY { mass } else { mass * (-f / rho).exp() };
        let points = potentials.iter().zip(found).zip(masses).filter(|(_, mass)| **mass > 0.0);
        sum(points.map(|((&f, found), &mass)| (found - owed(f, mass)).abs()))
    }
}

/// The marginals without the masses that only forbidden arcs leave: nothing of them moves, whatever the potentials.
fn reachable(problem: &Problem<'_>, mut source: Vec<f64>, mut target: Vec<f64>, prox: [Prox; 2]) -> Marginals {
    let mut changed = problem.has_forbidden_arcs();
    while changed {
        let keep = |cost: ArrayView2<'_, f64>, masses: &mut [f64], others: &[f64]| {
            let stranded =
                |row: ArrayView1<'_, f64>| row.iter().zip(others).all(|(&c, &b)| c == f64::INFINITY || b == 0.0);
            let lost = masses.iter_mut().zip(cost.outer_iter()).filter(|(mass, row)| **mass > 0.0 && stranded(*row));
            lost.map(|(mass, _)| *mass = 0.0).count() > 0
        };
        changed = keep(problem.cost(), &mut source, &target);
        changed |= keep(problem.cost().reversed_axes(), &mut target, &source);
    }
    Marginals::new(source, target, prox)
}

impl Solver for Unbalanced {
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
        check_ratio(self.epsilon, problem)?;
        self.check_reachable(problem)?;
        match self.reference {
            Reference::Product => Ok(self.run(problem)),
            Reference::Counting => self.run_counting(problem),
        }
    }
}

impl Unbalanced {
    /// The product reference.
    fn run(&self, problem: &Problem<'_>) -> Coupling {
        let kernel = Kernel::detect();
        let (a, b) = problem.masses_of(self.objective());
        let marginals = reachable(problem, a.to_vec(), b.to_vec(), self.prox());
        let source = Source::Matrix(problem.cost(), problem.cost_range());
        let start = vec![0.0; b.len()];
        let mut engine = LogSweep::new(source.double(self.epsilon, kernel), &marginals, &start, kernel);
        let limits = Limits {
            tolerance: self.tolerance * problem.total_mass(),
            max_iterations: self.max_iterations,
            largest_exponent: source.range().1 * scale(self.epsilon),
            free: marginals.prox == [Prox::Exact; 2],
        };
        let (iterations, ending) = iterate(&mut engine, &limits, self.acceleration, &marginals.target);
        let (f, g) = engine.potentials();
        let mut reached = Reached { f, g, prox: marginals.prox, iterations, ending, scaled: None };
        let (plan, sums) = plan_and_sums(source, self.epsilon, &marginals, &mut reached, kernel);
        let (f, g) = duals(source, self.epsilon, &marginals, &reached, kernel);

        let (rows, columns) = (&sums.rows[..], &sums.columns[..]);
        let mass = sum(rows.iter().copied());
        let slack = self.epsilon * (mass - sum(a.iter().copied()) * sum(b.iter().copied()));
        // epsilon KL(P | a b^T) with ln P written out through the duals.
        let entropic = dot(rows.into(), f.view()) + dot(columns.into(), g.view()) - slack;
        let error =
            self.error(0, f.view(), rows, &marginals.source).max(self.error(1, g.view(), columns, &marginals.target));
        let [a, b] = [&a, &b].map(|masses| masses.to_vec());
        Coupling {
            value: sums.cost,
            regularized_value: entropic + self.penalty(0, rows, &a) + self.penalty(1, columns, &b),
            dual_value: self.dual(0, f.view(), rows, &a) + self.dual(1, g.view(), columns, &b) - slack,
            marginal_error: error,
            iterations: reached.iterations,
            status: if error <= limits.tolerance { Status::Converged } else { reached.ending },
            objective: self.objective(),
            plan,
            f,
            g,
        }
    }

    /// The counting reference is the product with `epsilon ln(a_i b_j)` added to the costs; the duals are the same.
    fn run_counting(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
        let (a, b) = problem.masses_of(self.objective());
        let log = |mass: f64| if mass > 0.0 { self.epsilon * mass.ln() } else { 0.0 };
        let mut cost = problem.cost().to_owned();
        for ((i, j), c) in cost.indexed_iter_mut() {
            *c += log(a[i]) + log(b[j]);
        }
        let mut found = self.run(&Problem::unbalanced(cost.view(), problem.source(), problem.target())?);
        found.value = transport_cost(found.plan.view(), problem.cost());
        let support = [&a, &b].map(|masses| masses.iter().filter(|mass| **mass > 0.0).count() as f64);
        let constant = self.epsilon * (support[0] * support[1] - a.sum() * b.sum());
        found.regularized_value += constant;
        found.dual_value += constant;
        Ok(found)
    }
}
