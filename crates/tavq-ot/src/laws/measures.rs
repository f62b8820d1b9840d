//! What the numbers of a coupling must be, computed from its plan and duals by their definitions ([`Objective`]).

use ndarray::{Array1, ArrayView1, ArrayView2, Axis, Zip};

use crate::measure::{dot, transport_cost};
use crate::{Coupling, Objective, Problem, Reference};

/// The three values.
pub(super) struct Values {
    pub(super) value: f64,
    pub(super) regularized: f64,
    pub(super) dual: f64,
}

/// A coupling beside its problem.
pub(super) struct Measured<'c, 'p> {
    found: &'c Coupling,
    problem: Problem<'p>,
    masses: [Array1<f64>; 2],
}

impl<'c, 'p> Measured<'c, 'p> {
    pub(super) fn new(found: &'c Coupling, problem: Problem<'p>) -> Self {
        let (a, b) = problem.masses_of(found.objective);
        Self { found, problem, masses: [a, b] }
    }

    fn sums(&self, side: usize) -> Array1<f64> {
        self.found.plan.sum_axis(Axis(1 - side))
    }

    fn duals(&self, side: usize) -> &Array1<f64> {
        if side == 0 { &self.found.f } else { &self.found.g }
    }

    /// `Q_ij`, what the entropy is relative to.
    pub(super) fn reference(&self, i: usize, j: usize) -> f64 {
        let product = self.masses[0][i] * self.masses[1][j];
        match self.found.objective {
            Objective::Entropic { .. } => product / self.problem.total_mass(),
            Objective::Unbalanced { reference: Reference::Counting, .. } => f64::from(product > 0.0),
            _ => product,
        }
    }

    fn reference_total(&self) -> f64 {
        let (n, m) = self.problem.dim();
        (0..n).flat_map(|i| (0..m).map(move |j| (i, j))).map(|(i, j)| self.reference(i, j)).sum()
    }

    /// The marginal that the objective asks for: the masses, or what the duals leave of them.
    fn owed(&self, side: usize) -> Array1<f64> {
        let masses = &self.masses[side];
        match self.found.objective {
            Objective::Unbalanced { strengths, .. } if strengths[side].is_finite() => {
                masses * &self.duals(side).mapv(|f| (-f / strengths[side]).exp())
            }
            _ => masses.clone(),
        }
    }

    pub(super) fn error(&self) -> f64 {
        let plan = self.found.plan.view();
        match self.found.objective {
            Objective::Partial { mass } | Objective::EntropicPartial { mass, .. } => {
                let excess = |side: usize| (&self.sums(side) - &self.masses[side]).mapv(|e| e.max(0.0)).sum();
                excess(0).max(excess(1)).max((plan.sum() - mass).abs())
            }
            _ => marginal_error(plan, self.owed(0).view(), self.owed(1).view()),
        }
    }

    /// Multiplier of the mass of a partial plan.
    fn multiplier(&self) -> f64 {
        self.found.f.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    pub(super) fn values(&self) -> Values {
        let plan = &self.found.plan;
        let value = transport_cost(plan.view(), self.problem.cost());
        let linear = dot(self.masses[0].view(), self.found.f.view()) + dot(self.masses[1].view(), self.found.g.view());
        let divergence = || {
            let terms = plan.indexed_iter().filter(|(_, p)| **p > 0.0);
            let logs: f64 = terms.map(|((i, j), &p)| p * (p / self.reference(i, j)).ln()).sum();
            logs - plan.sum() + self.reference_total()
        };
        let excess = || plan.sum() - self.reference_total();
        let bounded = |mass: f64| linear + self.multiplier() * (mass - self.masses[0].sum());
        match self.found.objective {
            Objective::Linear => Values { value, regularized: value, dual: linear },
            Objective::Entropic { epsilon } => {
                Values { value, regularized: value + epsilon * divergence(), dual: linear - epsilon * excess() }
            }
            Objective::Partial { mass } => Values { value, regularized: value, dual: bounded(mass) },
            Objective::EntropicPartial { mass, epsilon } => {
                Values { value, regularized: value + epsilon * divergence(), dual: bounded(mass) - epsilon * excess() }
            }
            Objective::Unbalanced { epsilon, strengths, .. } => {
                let (mut regularized, mut dual) = (value + epsilon * divergence(), -epsilon * excess());
                for (side, rho) in strengths.into_iter().enumerate() {
                    let (primal, conjugate) = self.penalty(side, rho);
                    regularized += primal;
                    dual += conjugate;
                }
                Values { value, regularized, dual }
            }
        }
    }

    /// `rho KL(marginal | masses)` and its part of the dual.
    fn penalty(&self, side: usize, rho: f64) -> (f64, f64) {
        let (masses, duals) = (&self.masses[side], self.duals(side));
        if rho == f64::INFINITY {
            return (0.0, masses.dot(duals));
        }
        let term = |(&p, &q): (&f64, &f64)| if p > 0.0 && q > 0.0 { p * (p / q).ln() - p + q } else { q };
        let primal = self.sums(side).iter().zip(masses).map(term).sum::<f64>();
        (rho * primal, rho * (masses.sum() - self.owed(side).sum()))
    }
}

/// L1 distance of the row sums from `a` or of the column sums from `b`, whichever is larger.
fn marginal_error(plan: ArrayView2<'_, f64>, a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>) -> f64 {
    let distance = |axis: Axis, masses: ArrayView1<'_, f64>| {
        let sums = plan.sum_axis(axis);
        Zip::from(&sums).and(masses).fold(0.0, |total, sum, mass| total + (sum - mass).abs())
    };
    distance(Axis(1), a).max(distance(Axis(0), b))
}
