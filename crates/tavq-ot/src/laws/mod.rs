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
mod rules;

use std::fmt;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

pub use instance::{Instance, Kind, instances};

use crate::Solver;

/// A property of solvers, in the order in which they are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Law {
    /// A solvable problem gives a coupling of the right shapes, all numbers finite.
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
    /// Exact: `f + g <= C` and no duality gap. Entropic: the plan is the one that the duals give.
    Duals,
    /// The value is the exact solver's; with entropy, it lies between that and the exact plan's regularised value.
    Optimality,
    /// Exchanging the sides exchanges the answer.
    Transposition,
    /// The order of the points does not matter.
    Permutation,
    /// A constant added to each cost is added to the value.
    CostShift,
    /// Exact solvers: costs times a factor give the value times the factor.
    CostScale,
    /// Masses times a factor give plan and values times the factor.
    MassScale,
    /// A batch gives the bits of one call after the other.
    Batch,
    /// Forbidden arcs that leave no plan are the error [`crate::OtError::Infeasible`].
    Infeasibility,
}

impl Law {
    /// Every law.
    pub const ALL: [Self; 16] = [
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
            Self::Batch => "batch",
            Self::Infeasibility => "infeasibility",
        })
    }
}

/// What kind of solver is checked, and how thoroughly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Laws {
    epsilon: Option<f64>,
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
        Laws { epsilon: None, tolerance: 1e-9, cases: 16, max_points: 6, only: None }
    }

    /// For solvers of `<P, C> + epsilon KL(P | a b^T / M)`: marginals within 1e-6 of the mass.
    #[must_use]
    pub fn entropic(self, epsilon: f64) -> Laws {
        Laws { epsilon: Some(epsilon), tolerance: 1e-6, cases: 16, max_points: 6, only: None }
    }
}

impl Laws {
    /// Both marginals are prescribed.
    #[must_use]
    pub fn balanced() -> Balanced {
        Balanced(())
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

    /// What costs are multiples of.
    fn unit(&self) -> f64 {
        self.epsilon.map_or(1.0, |epsilon| 5.0 * epsilon)
    }

    fn applies(&self, law: Law) -> bool {
        // The cost cannot be scaled without epsilon, and that is inside the solver.
        self.only.is_none_or(|only| only == law) && (law != Law::CostScale || self.epsilon.is_none())
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
        let kinds = if law == Law::Infeasibility { &[Kind::Infeasible][..] } else { &Kind::SOLVABLE };
        for &kind in kinds {
            try_kind(solver, &laws, law, kind)?;
        }
    }
    Ok(())
}

fn try_kind(solver: &dyn Solver, laws: &Laws, law: Law, kind: Kind) -> Result<(), Box<Violation>> {
    // Where epsilon is tiny an entropic solver runs to its limit each time, so fewer problems are tried.
    let cases = if kind == Kind::WideCost && laws.epsilon.is_some() { laws.cases.div_ceil(4) } else { laws.cases };
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
        Err(TestError::Abort(reason)) => {
            unreachable!("the strategies filter nothing, so no case is rejected: {reason}")
        }
    }
}
