//! What each law asks, as a function from a solver and an instance to what is wrong.
//!
//! The slack of a comparison is derived, not chosen: a plan of the entropic form whose marginals are off by d (L1)
//! has a regularised value within d times the magnitude of the duals of the optimum, and the KL divergence between
//! two such plans is that slack over epsilon.

use ndarray::{Array2, Axis, s};

use super::instance::{Instance, Kind};
use super::measures::{Measured, Values};
use super::{Law, Laws};
use crate::{Coupling, Exact, Objective, OtError, Problem, Solver, Status, solve_batch};

/// What is wrong, in words.
type Verdict = Result<(), String>;

/// Relative error granted to sums and products in f64 by a solver with a handful of points.
const ROUNDING: f64 = 1e-9;

/// Holds `solver` to one law on one instance.
pub(super) fn hold(solver: &dyn Solver, laws: &Laws, law: Law, instance: &Instance) -> Verdict {
    let problem = instance.problem().map_err(|error| format!("the instance is no problem: {error}"))?;
    let trial = Trial { solver, laws, problem };
    match law {
        Law::Infeasibility => trial.infeasibility(),
        Law::Batch => trial.batch(),
        Law::Transposition => trial.transposition(),
        Law::Permutation => trial.permutation(instance),
        Law::CostShift => trial.cost_shift(instance),
        Law::CostScale => trial.cost_scale(instance),
        Law::MassScale => trial.mass_scale(instance),
        Law::Monotonicity => trial.monotonicity(instance),
        _ => {
            let coupling = trial.solve(&problem)?;
            match law {
                Law::Answer => trial.answer(&coupling),
                Law::Convergence => trial.convergence(&coupling, instance.kind),
                Law::NonNegativity => trial.non_negativity(&coupling),
                Law::Support => trial.support(&coupling),
                Law::ReportedError => trial.reported_error(&coupling),
                Law::Marginals => trial.marginals(&coupling),
                Law::Values => trial.values(&coupling),
                Law::Duals => trial.duals(&coupling),
                _ => trial.optimality(&coupling),
            }
        }
    }
}

struct Trial<'a> {
    solver: &'a dyn Solver,
    laws: &'a Laws,
    problem: Problem<'a>,
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// |a - b| within `slack`; false for NaN.
fn near(a: f64, b: f64, slack: f64) -> bool {
    (a - b).abs() <= slack
}

fn largest<'v>(values: impl IntoIterator<Item = &'v f64>) -> f64 {
    values.into_iter().filter(|v| v.is_finite()).fold(0.0, |a, v| a.max(v.abs()))
}

fn reach(coupling: &Coupling) -> f64 {
    largest(&coupling.f) + largest(&coupling.g)
}

impl Trial<'_> {
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, String> {
        self.solver.solve(problem).map_err(|error| format!("expected a coupling, found the error \"{error}\""))
    }

    /// Magnitude of a value of this problem.
    fn scale(&self) -> f64 {
        self.problem.total_mass() * self.cost_magnitude()
    }

    /// Magnitude of a cost of this problem.
    fn cost_magnitude(&self) -> f64 {
        self.laws.unit() + largest(self.problem.cost())
    }

    fn answer(&self, found: &Coupling) -> Verdict {
        let (n, m) = self.problem.dim();
        let shapes = (found.plan.dim(), found.f.len(), found.g.len());
        ensure(shapes == ((n, m), n, m), || {
            format!("expected plan, f, g of shapes {:?}, found {shapes:?}", ((n, m), n, m))
        })?;
        let (expected, objective) = (self.laws.objective, found.objective);
        ensure(expected == objective, || format!("expected the objective {expected:?}, found {objective:?}"))?;
        let values = [found.value, found.regularized_value, found.dual_value, found.marginal_error];
        let numbers = found.plan.iter().chain(&found.f).chain(&found.g).chain(&values);
        ensure(numbers.into_iter().all(|v| v.is_finite()), || format!("expected finite numbers, found {found:?}"))
    }

    fn convergence(&self, found: &Coupling, kind: Kind) -> Verdict {
        let hard = kind == Kind::WideCost && self.laws.epsilon().is_some();
        ensure(hard || found.status == Status::Converged, || {
            format!("expected status converged, found {} at marginal error {:e}", found.status, found.marginal_error)
        })
    }

    fn non_negativity(&self, found: &Coupling) -> Verdict {
        let negative = found.plan.indexed_iter().find(|&(_, p)| *p < 0.0);
        negative.map_or(Ok(()), |((i, j), p)| Err(format!("plan[{i}, {j}]: expected at least 0, found {p:e}")))
    }

    fn support(&self, found: &Coupling) -> Verdict {
        let (source, target, cost) = (self.problem.source(), self.problem.target(), self.problem.cost());
        let stray = found
            .plan
            .indexed_iter()
            .find(|&((i, j), &p)| p != 0.0 && (source[i] == 0.0 || target[j] == 0.0 || cost[[i, j]] == f64::INFINITY));
        stray.map_or(Ok(()), |((i, j), p)| {
            Err(format!("plan[{i}, {j}]: expected 0 (no mass, or a forbidden arc), found {p:e}"))
        })
    }

    fn measured_error(&self, found: &Coupling) -> f64 {
        Measured::new(found, self.problem).error()
    }

    fn reported_error(&self, found: &Coupling) -> Verdict {
        let measured = self.measured_error(found);
        let slack = ROUNDING * self.problem.total_mass() + 1e-6 * measured;
        ensure(near(found.marginal_error, measured, slack), || {
            format!("marginal_error: expected {measured:e} (measured on the plan), found {:e}", found.marginal_error)
        })
    }

    fn marginals(&self, found: &Coupling) -> Verdict {
        let (measured, allowed) = (self.measured_error(found), self.laws.tolerance * self.problem.total_mass());
        ensure(found.status != Status::Converged || measured <= allowed, || {
            format!("expected marginals within {allowed:e} of the masses, found {measured:e} off")
        })
    }

    fn values(&self, found: &Coupling) -> Verdict {
        let Values { value, regularized, dual } = Measured::new(found, self.problem).values();
        let slack = ROUNDING * (self.scale() + self.mass() * (self.laws.unit() + reach(found) + self.strength()));
        for (name, expected, found) in [
            ("value", value, found.value),
            ("regularized_value", regularized, found.regularized_value),
            ("dual_value", dual, found.dual_value),
        ] {
            ensure(near(expected, found, slack), || {
                format!("{name}: expected {expected} (from plan and duals), found {found}")
            })?;
        }
        Ok(())
    }

    /// The larger total.
    fn mass(&self) -> f64 {
        self.problem.source().sum().max(self.problem.target().sum())
    }

    /// The finite strengths of the marginals.
    fn strength(&self) -> f64 {
        match self.laws.objective {
            Objective::Unbalanced { strengths, .. } => strengths.iter().filter(|rho| rho.is_finite()).sum(),
            _ => 0.0,
        }
    }

    fn duals(&self, found: &Coupling) -> Verdict {
        let measured = Measured::new(found, self.problem);
        let scale = self.cost_magnitude();
        for ((i, j), &c) in self.problem.cost().indexed_iter() {
            let sum = found.f[i] + found.g[j];
            match self.laws.epsilon() {
                None => ensure(sum - c <= ROUNDING * scale, || {
                    format!("f[{i}] + g[{j}]: expected at most the cost {c}, found {sum}")
                })?,
                Some(epsilon) => {
                    let reference = measured.reference(i, j);
                    let (p, expected) = (found.plan[[i, j]], reference * ((sum - c) / epsilon).exp());
                    let slack = 1e-6 * expected.max(p) + 1e-12 * self.mass();
                    ensure(reference == 0.0 || near(p, expected, slack), || {
                        format!("plan[{i}, {j}]: expected {expected:e} (from the duals), found {p:e}")
                    })?;
                }
            }
        }
        if matches!(self.laws.objective, Objective::Partial { .. } | Objective::EntropicPartial { .. }) {
            let high = found.g.iter().enumerate().find(|(_, g)| **g > ROUNDING * scale);
            high.map_or(Ok(()), |(j, g)| Err(format!("g[{j}]: expected at most 0, found {g:e}")))?;
        }
        let gap = found.gap();
        let certified = self.laws.epsilon().is_some() || found.status != Status::Converged;
        ensure(certified || gap.abs() <= ROUNDING * self.scale(), || format!("gap: expected 0, found {gap:e}"))
    }

    fn optimality(&self, found: &Coupling) -> Verdict {
        if found.status != Status::Converged {
            return Ok(());
        }
        if self.laws.balanced_marginals() { self.balanced_optimality(found) } else { self.no_gap(found) }
    }

    /// What is left between the values is the error of the marginals times the duals, and the strengths.
    fn no_gap(&self, found: &Coupling) -> Verdict {
        let error = self.measured_error(found).max(self.laws.tolerance * self.mass());
        let slack = 2.0 * error * (reach(found) + self.strength()) + ROUNDING * self.scale();
        let gap = found.gap();
        ensure(near(gap, 0.0, slack), || format!("gap: expected 0 up to {slack:e}, found {gap:e}"))
    }

    fn balanced_optimality(&self, found: &Coupling) -> Verdict {
        let best = Exact::new().solve(&self.problem).map_err(|error| format!("no exact reference: {error}"))?;
        let slack = 2.0 * self.measured_error(found) * (reach(found) + reach(&best)) + ROUNDING * self.scale();
        ensure(found.value >= best.value - slack, || {
            format!("value: expected at least the optimum {}, found {}", best.value, found.value)
        })?;
        let (a, b) = self.problem.balanced_masses();
        let mut bound = best.value;
        for ((i, j), &p) in best.plan.indexed_iter() {
            if p > 0.0 {
                let epsilon = self.laws.epsilon().unwrap_or(0.0);
                bound += epsilon * p * (p * self.problem.total_mass() / (a[i] * b[j])).ln();
            }
        }
        ensure(found.regularized_value <= bound + slack, || {
            format!(
                "regularized_value: expected at most {bound}, which the exact plan has, found {}",
                found.regularized_value
            )
        })
    }

    fn infeasibility(&self) -> Verdict {
        match self.solver.solve(&self.problem) {
            Err(OtError::Infeasible { .. }) => Ok(()),
            Err(error) => Err(format!("expected the error `Infeasible`, found \"{error}\"")),
            Ok(found) => Err(format!("expected the error `Infeasible`, found a plan of mass {}", found.plan.sum())),
        }
    }

    fn batch(&self) -> Verdict {
        let turned = self.problem.transposed();
        let (first, second) = (self.solve(&self.problem)?, self.solve(&turned)?);
        let found = solve_batch(self.solver, &[self.problem, turned, self.problem]);
        let expected = [Ok(first.clone()), Ok(second), Ok(first)];
        ensure(found.as_slice() == expected.as_slice(), || {
            format!("expected the bits of one call after the other, {expected:?}, found {found:?}")
        })
    }

    /// Both couplings solve one problem: `other` was mapped back to it. The slack comes from the errors that they
    /// report, so that a plan spoiled afterwards does not earn itself a wider one.
    fn agree(&self, what: &str, found: &Coupling, other: &Coupling) -> Verdict {
        let total = self.problem.total_mass();
        let off = found.marginal_error + other.marginal_error;
        let slack = 2.0 * off * (reach(found) + reach(other)) + ROUNDING * self.scale();
        let (value, moved) = (found.regularized_value, other.regularized_value);
        ensure(near(value, moved, slack), || format!("{what}: expected the value {value}, found {moved}"))?;
        if let Some(epsilon) = self.laws.epsilon() {
            let allowed = off + total * (8.0 * slack / (epsilon * total)).sqrt();
            let distance: f64 = found.plan.iter().zip(&other.plan).map(|(p, q)| (p - q).abs()).sum();
            ensure(distance <= allowed, || {
                format!("{what}: expected the same plan up to {allowed:e} in L1, found {distance:e}")
            })?;
        }
        Ok(())
    }

    fn transposition(&self) -> Verdict {
        let mut other = self.solve(&self.problem.transposed())?;
        std::mem::swap(&mut other.f, &mut other.g);
        other.plan = other.plan.reversed_axes();
        self.agree("transposed", &self.solve(&self.problem)?, &other)
    }

    fn permutation(&self, instance: &Instance) -> Verdict {
        let cost = instance.cost.slice(s![..;-1, ..;-1]);
        let reversed = Problem::unbalanced(cost, instance.source.slice(s![..;-1]), instance.target.slice(s![..;-1]));
        let mut other = self.solve(&reversed.map_err(|error| error.to_string())?)?;
        other.plan.invert_axis(Axis(0));
        other.plan.invert_axis(Axis(1));
        self.agree("points reversed", &self.solve(&self.problem)?, &other)
    }

    /// Solves with the cost and the masses changed.
    fn changed(&self, instance: &Instance, cost: &Array2<f64>, mass: f64) -> Result<Coupling, String> {
        let (a, b) = (&instance.source * mass, &instance.target * mass);
        let problem = Problem::unbalanced(cost.view(), a.view(), b.view()).map_err(|error| error.to_string())?;
        self.solve(&problem)
    }

    fn cost_shift(&self, instance: &Instance) -> Verdict {
        let shift = 8.0 * self.laws.unit();
        let mut other = self.changed(instance, &(&instance.cost + shift), 1.0)?;
        let moved = shift * other.plan.sum();
        other.value -= moved;
        other.regularized_value -= moved;
        self.agree("a constant added to each cost", &self.solve(&self.problem)?, &other)
    }

    fn cost_scale(&self, instance: &Instance) -> Verdict {
        const SCALE: f64 = 1024.0;
        let mut other = self.changed(instance, &(&instance.cost * SCALE), 1.0)?;
        for value in [&mut other.value, &mut other.regularized_value] {
            *value /= SCALE;
        }
        other.f /= SCALE;
        other.g /= SCALE;
        self.agree("each cost times 1024", &self.solve(&self.problem)?, &other)
    }

    fn mass_scale(&self, instance: &Instance) -> Verdict {
        const SCALE: f64 = 4.0;
        let mut other = self.changed(instance, &instance.cost, SCALE)?;
        for value in [&mut other.value, &mut other.regularized_value] {
            *value /= SCALE;
        }
        other.plan /= SCALE;
        other.marginal_error /= SCALE;
        self.agree("each mass times 4", &self.solve(&self.problem)?, &other)
    }

    fn monotonicity(&self, instance: &Instance) -> Verdict {
        const SCALE: f64 = 2.0;
        let sharper = self.changed(instance, &(&instance.cost * SCALE), 1.0)?;
        let found = self.solve(&self.problem)?;
        let off = found.marginal_error + sharper.marginal_error;
        let slack = 2.0 * off * (reach(&found) + reach(&sharper)) + ROUNDING * self.scale();
        let (low, high) = (sharper.regularized_value / SCALE, found.regularized_value);
        ensure(low <= high + slack, || {
            format!("half the epsilon: expected a regularized_value of at most {high}, found {low}")
        })?;
        // The plan is as far from the solution as in `agree`.
        let total = self.problem.total_mass();
        let moved = off + total * (8.0 * slack / (self.laws.unit() * total)).sqrt();
        let (low, high) = (sharper.value / SCALE, found.value);
        ensure(low <= high + moved * self.cost_magnitude(), || {
            format!("half the epsilon: expected a value of at most {high}, found {low}")
        })
    }
}
