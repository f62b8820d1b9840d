//! The two sides of an entropic problem: masses, and what a plan owes them.
//!
//! All entropic problems of the crate are one scaling algorithm (Chizat, Peyre, Schmitzer, Vialard 2018): a side is
//! updated by the proximal step of its penalty. Potentials are kept in units of epsilon to the base 2.

/// What the plan's marginal on one side must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Prox {
    /// The masses.
    Exact,
    /// Near the masses: `rho KL(marginal | mass)`, by its factor `rho / (rho + epsilon)`.
    Kl(f64),
    /// At most the masses, while the whole plan has the multiplier `lift` (partial transport).
    AtMost {
        /// Potential of the mass constraint.
        lift: f64,
    },
}

impl Prox {
    /// The potential of a point, when `log_sum` is `log2 sum_k mass_k 2^(potential_k - cost)` over the other side.
    pub(crate) fn potential(self, log_sum: f64) -> f64 {
        match self {
            Self::Exact => -log_sum,
            Self::Kl(factor) => -factor * log_sum,
            Self::AtMost { lift } => lift.min(-log_sum),
        }
    }

    /// How far the marginal `sum` of a point of this mass is from what it owes, when its potential is to move by `step`.
    pub(crate) fn error(self, sum: f64, mass: f64, step: f64) -> f64 {
        match self {
            Self::Exact => (mass - sum).abs(),
            // The owed marginal is mass 2^(-potential (1 - factor) / factor).
            Self::Kl(factor) => sum * ((step / factor).exp2() - 1.0).abs(),
            Self::AtMost { .. } => sum * (step.exp2() - 1.0).abs(),
        }
    }
}

/// Masses of both sides as the sweeps need them.
pub(crate) struct Marginals {
    pub(crate) source: Vec<f64>,
    pub(crate) target: Vec<f64>,
    /// `log2` of the target masses; -inf for 0.
    pub(crate) log_target: Vec<f64>,
    /// Sources of positive mass.
    pub(crate) active: Vec<usize>,
    /// What the plan owes the source and the target.
    pub(crate) prox: [Prox; 2],
}

impl Marginals {
    pub(crate) fn new(source: Vec<f64>, target: Vec<f64>, prox: [Prox; 2]) -> Self {
        let active = (0..source.len()).filter(|&i| source[i] > 0.0).collect();
        let log_target = target.iter().map(|mass| mass.log2()).collect();
        Self { source, target, log_target, active, prox }
    }
}
