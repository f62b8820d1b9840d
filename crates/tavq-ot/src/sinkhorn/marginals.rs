//! The two sides of an entropic problem: masses, and what a plan owes them.
//!
//! All entropic problems of the crate are one scaling algorithm (Chizat, Peyre, Schmitzer, Vialard 2018): a side is
//! updated by the proximal step of its penalty. Potentials are kept in units of epsilon to the base 2.

/// What the plan's marginal on one side must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Prox {
    /// The masses.
    Exact,
    /// Near the masses: `rho KL(marginal | mass)`, by `rho / epsilon`.
    Kl {
        /// `rho / epsilon`.
        ratio: f64,
    },
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
            Self::Kl { ratio } => -log_sum * ratio / (ratio + 1.0),
            Self::AtMost { lift } => lift.min(-log_sum),
        }
    }

    /// How far the marginal `sum` of a point of this mass is from what it owes, when its potential is to move by `step`.
    pub(crate) fn error(self, sum: f64, mass: f64, step: f64) -> f64 {
        match self {
            Self::Exact => (mass - sum).abs(),
            // The owed marginal is mass 2^(-potential / ratio).
            Self::Kl { ratio } => sum * ((step * (1.0 + ratio.recip())).exp2() - 1.0).abs(),
            Self::AtMost { .. } => sum * (step.exp2() - 1.0).abs(),
        }
    }

    /// `epsilon / rho`, 0 where the marginal is prescribed; `None` for a bounded one.
    fn inverse_ratio(self) -> Option<f64> {
        match self {
            Self::Exact => Some(0.0),
            Self::Kl { ratio } => Some(ratio.recip()),
            Self::AtMost { .. } => None,
        }
    }
}

/// The dual objective of a side over epsilon, after a pass that left the plan with the rows it owes, and the size of its
/// rounding. The plan's own term in the dual is counted with the rows.
pub(crate) fn dual(prox: Prox, masses: impl Iterator<Item = (f64, f64)>, rows: bool) -> (f64, f64) {
    let (mut value, mut size) = (0.0, 0.0);
    for (mass, potential) in masses.filter(|(mass, _)| *mass > 0.0) {
        let term = match prox {
            Prox::Kl { ratio } => -mass * (ratio + f64::from(u8::from(rows))) * (-potential / ratio).exp2(),
            _ => mass * potential * std::f64::consts::LN_2,
        };
        value += term;
        size += term.abs();
    }
    (value, f64::EPSILON * size)
}

/// The constant that is best moved from the target's to the source's potentials (Sejourne, Vialard, Peyre 2022, section 3),
/// `None` where it changes nothing. Left to the iteration, it would need about rho / epsilon passes.
pub(crate) fn best_shift(marginals: &Marginals, f: &[f64], g: &[f64]) -> Option<f64> {
    let [Some(p), Some(q)] = marginals.prox.map(Prox::inverse_ratio) else { return None };
    if p + q == 0.0 {
        return None;
    }
    let owed = |masses: &mut dyn Iterator<Item = (f64, f64)>, inverse: f64| -> f64 {
        masses.map(|(mass, potential)| if mass > 0.0 { mass * (-potential * inverse).exp2() } else { 0.0 }).sum()
    };
    let rows = owed(&mut marginals.active.iter().zip(f).map(|(&i, &f)| (marginals.source[i], f)), p);
    let columns = owed(&mut marginals.target.iter().zip(g).map(|(&mass, &g)| (mass, g)), q);
    let shift = (rows / columns).log2() / (p + q);
    shift.is_finite().then_some(shift)
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
