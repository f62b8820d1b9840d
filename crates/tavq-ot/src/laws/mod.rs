//! Laws that any [`Solver`] can be held to, by property tests that shrink.
//!
//! [`check`] tries a solver on problems of every [`Kind`] and returns the first broken law by name, with the
//! smallest problem found that breaks it. A solver that only a [`Problem`](crate::Problem) reaches need not validate
//! input; what it must do itself is refuse forbidden arcs that leave no plan
//! ([`Problem::check_feasible`](crate::Problem::check_feasible)).
//!
//! ```
//! use tavq_ot::{Coupling, OtError, Problem, Sinkhorn, Solver, laws::{self, Law, Laws}};
//!
//! /// Ten per cent short everywhere.
//! struct Short(Sinkhorn);
//!
//! impl Solver for Short {
//!     fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
//!         let mut coupling = self.0.solve(problem)?;
//!         coupling.plan *= 0.9;
//!         Ok(coupling)
//!     }
//! }
//!
//! let laws = Laws::balanced().entropic(0.05);
//! let sinkhorn = Sinkhorn::new(0.05)?;
//! assert!(laws::check(&sinkhorn, laws).is_ok());
//! let violation = laws::check(&Short(sinkhorn), laws).unwrap_err();
//! assert_eq!(violation.law, Law::ReportedError);
//! assert_eq!(violation.instance.cost.dim(), (1, 1));
//! # Ok::<(), OtError>(())
//! ```

mod instance;
mod measures;
mod rules;

use std::fmt;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

pub use instance::{Instance, Kind, instances};

use crate::{Objective, Reference, Solver};

/// A property of solvers, in the order in which they are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Law {
    /// A solvable problem gives a coupling of the right shapes and objective, all numbers finite.
    Answer,
    /// Its status is `Converged` (an entropic solver may miss it where epsilon is tiny beside the costs).
    Convergence,
    /// The plan is nowhere negative.
    NonNegativity,
    /// The plan is exactly 0 at points of zero mass and on forbidden arcs.
    Support,
    /// `marginal_error` is the error of the plan.
    ReportedError,
    /// A converged plan has the masses as its marginals.
    Marginals,
    /// The three values are those of the plan and the duals.
    Values,
    /// Without entropy: `f + g <= C` and no duality gap. With it: the plan is the one that the duals give. Partial: `g <= 0`
    /// too.
    Duals,
    /// No better answer exists: the value is the exact solver's, or with entropy it lies between that and the exact plan's
    /// regularised value; where the marginals are free, no duality gap is left.
    Optimality,
    /// Exchanging the sides exchanges the answer (where both are asked for the same).
    Transposition,
    /// The order of the points does not matter.
    Permutation,
    /// A constant added to each cost is added to the value, times the mass (where that is given).
    CostShift,
    /// Exact solvers: costs times a factor give the value times the factor.
    CostScale,
    /// Masses times a factor give plan and values times the factor (balanced).
    MassScale,
    /// Half the epsilon gives no larger values, seen on costs times 2 and values over 2 (balanced, entropic).
    Monotonicity,
    /// A batch gives the bits of one call after the other.
    Batch,
    /// Forbidden arcs that leave no plan of prescribed marginals are the error [`crate::OtError::Infeasible`].
    Infeasibility,
}

impl Law {
    /// Every law.
    pub const ALL: [Self; 17] = [
        Self::Answer,
        Self::Convergence,
        Self::NonNegativity,
        Self::Support,
        Self::ReportedError,
        Self::Marginals,
        Self::Values,
        Self::Duals,
        Self::Optimality,
        Self::Transposition,
        Self::Permutation,
        Self::CostShift,
        Self::CostScale,
        Self::MassScale,
        Self::Monotonicity,
        Self::Batch,
        Self::Infeasibility,
    ];
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer => "answer",
            Self::Convergence => "convergence",
            Self::NonNegativity => "non-negativity",
            Self::Support => "support",
            Self::ReportedError => "reported-error",
            Self::Marginals => "marginals",
            Self::Values => "values",
            Self::Duals => "duals",
            Self::Optimality => "optimality",
            Self::Transposition => "transposition",
            Self::Permutation => "permutation",
            Self::CostShift => "cost-shift",
            Self::CostScale => "cost-scale",
            Self::MassScale => "mass-scale",
            Self::Monotonicity => "monotonicity",
            Self::Batch => "batch",
            Self::Infeasibility => "infeasibility",
        })
    }
}

/// What kind of solver is checked, and how thoroughly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Laws {
    objective: Objective,
    tolerance: f64,
    cases: u32,
    max_points: usize,
    only: Option<Law>,
}

/// Laws of balanced transport; says next which objective.
#[derive(Debug, Clone, Copy)]
pub struct Balanced(());

impl Balanced {
    /// For solvers of the linear program: no entropy term, marginals within 1e-9 of the mass.
    #[must_use]
    pub fn exact(self) -> Laws {
        Laws { tolerance: 1e-9, ..Laws::of(Objective::Linear) }
    }

    /// For solvers of `<P, C> + epsilon KL(P | a b^T / M)`: marginals within 1e-6 of the mass.
    #[must_use]
    pub fn entropic(self, epsilon: f64) -> Laws {
        Laws::of(Objective::Entropic { epsilon })
    }
}

/// Laws of partial transport; says next which objective.
#[derive(Debug, Clone, Copy)]
pub struct Partial {
    mass: f64,
}

impl Partial {
    /// For solvers of [`Objective::Partial`].
    #[must_use]
    pub fn exact(self) -> Laws {
        Laws { tolerance: 1e-9, ..Laws::of(Objective::Partial { mass: self.mass }) }
    }

    /// For solvers of [`Objective::EntropicPartial`].
    #[must_use]
    pub fn entropic(self, epsilon: f64) -> Laws {
        Laws::of(Objective::EntropicPartial { mass: self.mass, epsilon })
    }
}

impl Laws {
    fn of(objective: Objective) -> Self {
        Self { objective, tolerance: 1e-6, cases: 16, max_points: 6, only: None }
    }

    /// Both marginals are prescribed.
    #[must_use]
    pub fn balanced() -> Balanced {
        Balanced(())
    }

    /// Marginals are asked for at the price `strengths` (+inf prescribes one), with an entropy relative to `reference`:
    /// [`Objective::Unbalanced`]. Errors within 1e-6 of the mass.
    #[must_use]
    pub fn unbalanced(epsilon: f64, strengths: [f64; 2], reference: Reference) -> Self {
        Self::of(Objective::Unbalanced { reference, epsilon, strengths })
    }

    /// A plan of this mass, in (0, 1): the smaller total of each problem is 1.
    #[must_use]
    pub fn partial(mass: f64) -> Partial {
        Partial { mass }
    }

    /// L1 error of a converged plan's marginals that is allowed, relative to the total mass.
    #[must_use]
    pub fn tolerance(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// Problems tried for each law and kind; 16 unless set.
    #[must_use]
    pub fn cases(self, cases: u32) -> Self {
        Self { cases, ..self }
    }

    /// Points a side at most, between 2 and 40; 6 unless set.
    #[must_use]
    pub fn max_points(self, max_points: usize) -> Self {
        Self { max_points: max_points.clamp(2, 40), ..self }
    }

    /// This law alone.
    #[must_use]
    pub fn only(self, law: Law) -> Self {
        Self { only: Some(law), ..self }
    }

    fn epsilon(&self) -> Option<f64> {
        match self.objective {
            Objective::Entropic { epsilon }
            | Objective::Unbalanced { epsilon, .. }
            | Objective::EntropicPartial { epsilon, .. } => Some(epsilon),
            Objective::Linear | Objective::Partial { .. } => None,
        }
    }

    /// What costs are multiples of.
    fn unit(&self) -> f64 {
        self.epsilon().map_or(1.0, |epsilon| 5.0 * epsilon)
    }

    fn balanced_marginals(&self) -> bool {
        matches!(self.objective, Objective::Linear | Objective::Entropic { .. })
    }

    fn applies(&self, law: Law) -> bool {
        if self.only.is_some_and(|only| only != law) {
            return false;
        }
        match law {
            // The costs of an entropic problem cannot be scaled without epsilon, and that is inside the solver.
            Law::CostScale => self.epsilon().is_none(),
            Law::MassScale | Law::Infeasibility => self.balanced_marginals(),
            Law::Monotonicity => matches!(self.objective, Objective::Entropic { .. }),
            Law::CostShift => !matches!(self.objective, Objective::Unbalanced { .. }),
            Law::Transposition => !matches!(self.objective, Objective::Unbalanced { strengths: [a, b], .. } if a != b),
            _ => true,
        }
    }

    /// The kinds of problem that a law is tried on.
    fn kinds(&self, law: Law) -> Vec<Kind> {
        if law == Law::Infeasibility {
            return vec![Kind::Infeasible];
        }
        let mut kinds = Kind::SOLVABLE.to_vec();
        let prescribed =
            matches!(self.objective, Objective::Unbalanced { strengths, .. } if strengths == [f64::INFINITY; 2]);
        if !self.balanced_marginals() && !prescribed {
            kinds.push(Kind::UnequalMass);
        }
        kinds
    }
}

/// A broken law.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("law {law}: {reason}; {instance}")]
pub struct Violation {
    /// Which law.
    pub law: Law,
    /// Expected and found.
    pub reason: String,
    /// The smallest problem found that breaks it.
    pub instance: Instance,
}

/// Holds `solver` to every law of `laws`; the first that it breaks otherwise.
///
/// Deterministic: the same solver meets the same problems each time. A panic of the solver breaks the law that was
/// being checked.
pub fn check(solver: &dyn Solver, laws: Laws) -> Result<(), Box<Violation>> {
    for law in Law::ALL.into_iter().filter(|&law| laws.applies(law)) {
        for kind in laws.kinds(law) {
            try_kind(solver, &laws, law, kind)?;
        }
    }
    Ok(())
}

fn try_kind(solver: &dyn Solver, laws: &Laws, law: Law, kind: Kind) -> Result<(), Box<Violation>> {
    // Where epsilon is tiny an entropic solver runs to its limit each time, so fewer problems are tried.
    let cases = if kind == Kind::WideCost && laws.epsilon().is_some() { laws.cases.div_ceil(4) } else { laws.cases };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 1000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&instances(kind, laws.max_points, laws.unit()), |instance| {
        rules::hold(solver, laws, law, &instance).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Fail(reason, instance)) => {
            Err(Box::new(Violation { law, reason: reason.message().to_owned(), instance }))
        }
        #[expect(clippy::unreachable, reason = "no strategy filters, so the runner has no case to reject")]
        Err(TestError::Abort(reason)) => unreachable!("a case was rejected: {reason}"),
    }
}
