//! Fewer iterations: which potentials, and which length of step, the next pass takes.

use super::anderson::Mixing;
use super::iterate::Limits;
use super::sweep::Engine;

/// How the iteration is sped up. Each reaches the same plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Acceleration {
    /// Plain Sinkhorn.
    None,
    /// Both half steps are lengthened by a factor below 2, chosen from the rate of convergence seen (Lehmann, von Renesse,
    /// Sambale, Uschmajew 2022), and not while the error grows.
    OverRelaxation,
    /// The last iterates are mixed to the smallest residual (Anderson 1965), in a step that is taken back when the error
    /// grows.
    Anderson,
    /// Plain for as long as it ends within a few iterations, Anderson mixing otherwise.
    #[default]
    Auto,
}

/// Passes that `Auto` watches before it decides, and iterations left that it does not mix for.
const WATCHED: usize = 3;

/// Chooses what comes after a pass.
pub(crate) enum Accelerator {
    Plain,
    Relaxed(Relaxation),
    Mixed(Mixing),
    /// Plain so far.
    Watching {
        errors: Vec<f64>,
        tolerance: f64,
        mixing: Mixing,
    },
}

impl Accelerator {
    /// `weights` are the target masses.
    pub(crate) fn new(acceleration: Acceleration, weights: &[f64], limits: &Limits) -> Self {
        let mixing = || Mixing::new(weights, limits.free, limits.largest_exponent);
        match acceleration {
            Acceleration::None => Self::Plain,
            Acceleration::OverRelaxation => Self::Relaxed(Relaxation::new()),
            Acceleration::Anderson => Self::Mixed(mixing()),
            Acceleration::Auto => Self::Watching { errors: Vec::new(), tolerance: limits.tolerance, mixing: mixing() },
        }
    }

    /// Factor of the steps of the next pass.
    pub(crate) fn relaxation(&self) -> f64 {
        if let Self::Relaxed(relaxed) = self { relaxed.factor } else { 1.0 }
    }

    /// The error of a relaxed pass is an estimate, and it is small enough: the next pass is plain and decides.
    pub(crate) fn settle(&mut self) {
        if let Self::Relaxed(relaxed) = self {
            relaxed.settle();
        }
    }

    /// After a pass of this error, sets the potentials of the next one.
    pub(crate) fn step(&mut self, engine: &mut dyn Engine, error: f64) {
        match self {
            Self::Plain => engine.accept(),
            Self::Relaxed(relaxed) => relaxed.step(engine, error),
            Self::Mixed(mixing) => mixing.step(engine, error),
            Self::Watching { errors, tolerance, mixing } => {
                errors.push(error);
                if errors.len() >= WATCHED && !nearly_done(errors, *tolerance) {
                    mixing.step(engine, error);
                    let mixing = std::mem::replace(mixing, Mixing::new(&[], false, 0.0));
                    *self = Self::Mixed(mixing);
                } else {
                    engine.accept();
                }
            }
        }
    }
}

/// Whether the last two errors promise the tolerance within a few iterations.
fn nearly_done(errors: &[f64], tolerance: f64) -> bool {
    let [.., before, error] = errors else { return true };
    let rate = error / before;
    rate < 1.0 && error * rate.powi(WATCHED as i32) <= tolerance
}

/// Over-relaxation: plain passes measure the rate, relaxed ones follow with the factor that is best for it.
pub(crate) struct Relaxation {
    factor: f64,
    /// Errors of the passes made with this factor.
    errors: Vec<f64>,
    /// Largest factor to try; lowered when one failed.
    limit: f64,
    /// Plain passes that the next measurement takes; doubled when a factor failed.
    patience: usize,
}

impl Relaxation {
    fn new() -> Self {
        Self { factor: 1.0, errors: Vec::new(), limit: 1.99, patience: 8 }
    }

    fn settle(&mut self) {
        self.factor = 1.0;
        self.errors.clear();
    }

    fn step(&mut self, engine: &mut dyn Engine, error: f64) {
        /// Passes over which a rate is measured.
        const WINDOW: usize = 8;
        self.errors.push(error);
        let k = self.errors.len();
        let first = self.errors[0];
        if self.factor == 1.0 {
            engine.accept();
            if k > self.patience.max(WINDOW) {
                let rate = (error / self.errors[k - 1 - WINDOW]).powf(1.0 / WINDOW as f64);
                if rate > 0.3 && rate < 1.0 {
                    self.factor = best_factor(rate).min(self.limit);
                    self.errors.clear();
                }
            }
            return;
        }
        // The relaxed update of g: the pass proposes the plain one.
        let factor = self.factor;
        let g = engine.g().to_vec();
        let relaxed: Vec<f64> = engine.proposal().iter().zip(&g).map(|(p, g)| g + factor * (p - g)).collect();
        let window = 4 * WINDOW;
        let failing =
            error.is_nan() || error > 100.0 * first || (k > 4 * window && error >= self.errors[k - 1 - 4 * window]);
        if failing {
            engine.accept();
            self.limit = 1.0 + 0.97 * (factor - 1.0);
            self.patience = (2 * self.patience).min(64);
            self.settle();
        } else {
            engine.set(&relaxed);
            if k.is_multiple_of(window) {
                // Young's relation between the rates of the plain and the relaxed iteration, as long as the factor is
                // below the best one.
                let rate = (error / self.errors[k - window]).powf(1.0 / (window - 1) as f64);
                let plain = (rate + factor - 1.0).powi(2) / (rate * factor * factor);
                if rate > factor - 1.0 && plain < 1.0 {
                    self.factor = self.factor.max(best_factor(plain).min(self.limit));
                }
            }
        }
    }
}

/// The best factor for a plain iteration that shrinks the error by `rate` (Lehmann et al. 2022, theorem 4.1).
fn best_factor(rate: f64) -> f64 {
    2.0 / (1.0 + (1.0 - rate).sqrt())
}
