//! Anderson mixing of the target potentials, guarded by two numbers that each pass gives for free: the dual objective, which
//! no plain iteration lowers, and the residual.
//!
//! One iteration is a map T of g whose derivative at the solution is self-adjoint and positive for the inner product
//! weighted by the target masses, so residuals are compared in it. Choices made by counting iterations on random,
//! clustered, low- and high-dimensional problems of 2 to 1024 points:
//!
//! * to mix in every second pass, since the plain pass between damps what mixing cannot see (mixing in each pass stagnates
//!   where many modes are slow);
//! * to bound the step, since the map is far from linear at the length that a very slow mode asks for;
//! * to judge a step by the dual first. Where parts of the plan hardly touch, the residual is nearly constant along the way
//!   and says nothing: a guard on it alone let some problems of two points crawl for 10,000 iterations that now take 100;
//! * to lengthen the step geometrically where the residual does not change enough to learn from.

use std::collections::VecDeque;

use super::sweep::Engine;

/// Differences that are remembered.
const MEMORY: usize = 8;
/// Passes from one mix to the next.
const PERIOD: usize = 2;
/// Growth of the steps that are taken for want of a memory.
const STRETCH: f64 = 4.0;
/// A mix whose error grows by more than this is taken back.
const GROWTH: f64 = 2.0;

/// The last iterates, as differences of successive residuals and successive T(g).
struct History {
    weights: Vec<f64>,
    steps: VecDeque<Step>,
    last: Option<Step>,
}

#[derive(Default)]
struct Step {
    residual: Vec<f64>,
    value: Vec<f64>,
    /// Weighted inner products with the residuals of the steps before this one, oldest first, and with itself.
    products: VecDeque<f64>,
}

impl History {
    fn dot(&self, x: &[f64], y: &[f64]) -> f64 {
        x.iter().zip(y).zip(&self.weights).map(|((x, y), w)| x * y * w).sum()
    }

    fn forget(&mut self) {
        self.steps.clear();
        self.last = None;
    }

    /// Remembers a pass from `g` to `value = T(g)`, whose components have errors of about `noise`.
    fn observe(&mut self, g: &[f64], value: &[f64], noise: f64) {
        let residual: Vec<f64> = value.iter().zip(g).map(|(v, g)| v - g).collect();
        let new = Step { residual, value: value.to_vec(), products: VecDeque::new() };
        let difference = |new: &[f64], old: &[f64]| -> Vec<f64> { new.iter().zip(old).map(|(a, b)| a - b).collect() };
        if let Some(last) = &self.last {
            let residual = difference(&new.residual, &last.residual);
            // Where the iteration crawls, successive residuals differ by rounding alone, which says nothing of the slope.
            let floor = (noise / 32.0).powi(2) * self.weights.iter().sum::<f64>();
            if self.dot(&residual, &residual) > floor {
                let step = Step { residual, value: difference(&new.value, &last.value), products: VecDeque::new() };
                self.push(step);
            }
        }
        self.last = Some(new);
    }

    fn push(&mut self, mut step: Step) {
        if self.steps.len() == MEMORY {
            self.steps.pop_front();
            for step in &mut self.steps {
                step.products.pop_front();
            }
        }
        let others = self.steps.iter().map(|other| &other.residual).chain([&step.residual]);
        step.products = others.map(|other| self.dot(other, &step.residual)).collect();
        self.steps.push_back(step);
    }

    /// The mix of the remembered values whose residual is smallest to first order; `None` without a usable memory.
    fn mix(&self) -> Option<Vec<f64>> {
        let last = self.last.as_ref()?;
        if self.steps.is_empty() {
            return None;
        }
        let gram: Vec<Vec<f64>> = self.steps.iter().map(|step| step.products.iter().copied().collect()).collect();
        let right: Vec<f64> = self.steps.iter().map(|step| self.dot(&step.residual, &last.residual)).collect();
        let mut mixed = last.value.clone();
        for (k, c) in solve(&gram, &right)? {
            mixed.iter_mut().zip(&self.steps[k].value).for_each(|(mixed, step)| *mixed -= c * step);
        }
        mixed.iter().all(|v| v.is_finite()).then_some(mixed)
    }
}

/// Relative ridge of the normal system, and share of a column that must be new for it to take part.
const RIDGE: f64 = 1e-10;
const NEW: f64 = 1e-9;

/// Solves a small normal system, given by its lower triangle, by Cholesky with a ridge, over the latest columns that do not
/// depend on later ones; `None` when there is none.
fn solve(gram: &[Vec<f64>], right: &[f64]) -> Option<Vec<(usize, f64)>> {
    let (mut kept, mut lower): (Vec<usize>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    let mut y: Vec<f64> = Vec::new();
    for k in (0..right.len()).rev() {
        let mut row: Vec<f64> = Vec::new();
        for (p, &other) in kept.iter().enumerate() {
            // The later one comes first in the lower triangle.
            let rest = gram[other][k] - row.iter().zip(&lower[p]).map(|(a, b)| a * b).sum::<f64>();
            row.push(rest / lower[p][p]);
        }
        let rest = gram[k][k] * (1.0 + RIDGE) - row.iter().map(|l| l * l).sum::<f64>();
        // Also false for NaN.
        if rest > NEW * gram[k][k] {
            let pivot = rest.sqrt();
            y.push((right[k] - row.iter().zip(&y).map(|(l, y)| l * y).sum::<f64>()) / pivot);
            row.push(pivot);
            lower.push(row);
            kept.push(k);
        }
    }
    for p in (0..kept.len()).rev() {
        let rest = y[p] - (p + 1..kept.len()).map(|q| lower[q][p] * y[q]).sum::<f64>();
        y[p] = rest / lower[p][p];
    }
    (!kept.is_empty()).then(|| kept.into_iter().zip(y).collect())
}

/// Guarded mixing.
pub(crate) struct Mixing {
    history: History,
    /// Passes since the memory was emptied.
    passes: usize,
    trial: Option<Trial>,
    /// Longest step allowed beyond the plain one, in the largest component.
    radius: f64,
    /// Whether a constant may be added to g.
    free: bool,
    /// Largest magnitude of a potential that costs can ask for.
    reach: f64,
    largest_exponent: f64,
    /// Factor of the next step without a memory.
    stretch: f64,
}

fn extent(g: &[f64]) -> f64 {
    g.iter().fold(0.0, |a, g| a.max(g.abs()))
}

/// A step that is not judged yet.
struct Trial {
    /// Error and dual objective before it.
    error: f64,
    dual: f64,
    /// The plain update, to go back to.
    plain: Vec<f64>,
    length: f64,
}

impl Trial {
    /// Whether the step made things worse: the dual fell, or, where it says nothing, the error grew.
    fn failed(&self, error: f64, (dual, rounding): (f64, f64)) -> bool {
        let gain = dual - self.dual;
        error.is_nan() || gain.is_nan() || gain < -rounding || (gain <= rounding && error > GROWTH * self.error)
    }
}

impl Mixing {
    /// `free`: a constant added to g changes no plan; `largest_exponent`: of a cost over epsilon.
    pub(crate) fn new(weights: &[f64], free: bool, largest_exponent: f64) -> Self {
        let history = History { weights: weights.to_vec(), steps: VecDeque::new(), last: None };
        Self {
            history,
            passes: 0,
            trial: None,
            radius: f64::INFINITY,
            free,
            reach: 2.0 * largest_exponent + 100.0,
            largest_exponent,
            stretch: STRETCH,
        }
    }

    /// After a pass of this error, sets the potentials of the next one.
    pub(crate) fn step(&mut self, engine: &mut dyn Engine, error: f64) {
        let dual = engine.dual();
        if let Some(trial) = self.trial.take() {
            if trial.failed(error, dual) {
                engine.set(&trial.plain);
                self.radius = 0.25 * trial.length;
                self.stretch = STRETCH;
                self.history.forget();
                self.passes = 0;
                return;
            }
            self.radius = self.radius.max(4.0 * trial.length);
        }
        let g = engine.g().to_vec();
        let noise = engine.rounding(self.largest_exponent);
        self.history.observe(&g, engine.proposal(), noise);
        self.passes += 1;
        if !self.passes.is_multiple_of(PERIOD) {
            engine.accept();
            return;
        }
        let plain = engine.proposal().to_vec();
        let mut next = if let Some(mixed) = self.mixed(&g, &plain) {
            self.stretch = STRETCH;
            mixed
        } else {
            // Nothing was learned from steps so small, or of one length: longer ones, until something is.
            self.stretch *= STRETCH;
            plain.iter().zip(&g).map(|(p, g)| g + self.stretch * (p - g)).collect()
        };
        let length = next.iter().zip(&plain).fold(0.0, |a: f64, (m, p)| a.max((m - p).abs()));
        let share = if length > self.radius { self.radius / length } else { 1.0 };
        next.iter_mut().zip(&plain).for_each(|(m, p)| *m = p + share * (*m - p));
        if extent(&next) > self.reach.max(extent(&plain)) {
            engine.accept();
            return;
        }
        engine.set(&next);
        self.trial = Some(Trial { error, dual: dual.0, plain, length: length * share });
    }

    /// The mix of the memory, when it goes where the residual points and not beyond what costs can ask for (where parts of
    /// the plan hardly touch, their potentials are free against one another, and a mix may throw them anywhere).
    fn mixed(&self, g: &[f64], plain: &[f64]) -> Option<Vec<f64>> {
        let mut mixed = self.history.mix()?;
        let weights = &self.history.weights;
        if self.free {
            // A constant added to g changes no plan; left alone, it would grow from mix to mix and eat the digits.
            let drift: f64 = mixed.iter().zip(plain).zip(weights).map(|((m, p), w)| w * (m - p)).sum();
            let drift = drift / weights.iter().sum::<f64>();
            mixed.iter_mut().for_each(|m| *m -= drift);
        }
        let ahead: f64 =
            mixed.iter().zip(plain).zip(g).zip(weights).map(|(((m, p), g), w)| w * (m - g) * (p - g)).sum();
        (ahead > 0.0 && extent(&mixed) <= self.reach.max(extent(plain))).then_some(mixed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_system_is_solved_and_a_singular_one_is_not() {
        let gram = vec![vec![4.0], vec![2.0, 3.0], vec![0.5, -1.0, 6.0]];
        let full = [[4.0, 2.0, 0.5], [2.0, 3.0, -1.0], [0.5, -1.0, 6.0]];
        let x = [1.0, -2.0, 0.25];
        let right = full.map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum()).to_vec();
        let mut found = solve(&gram, &right).unwrap();
        found.sort_by_key(|(k, _)| *k);
        assert!(found.iter().zip(x).all(|((_, a), b)| (a - b).abs() < 1e-8), "{found:?}");
        assert!(solve(&[vec![0.0]], &[1.0]).is_none());
        assert!(solve(&[vec![f64::NAN]], &[1.0]).is_none());
        // Of two columns that are one, the later serves.
        let found = solve(&[vec![1.0], vec![2.0, 4.0]], &[1.0, 2.0]).unwrap();
        assert!(found.len() == 1 && found[0].0 == 1 && (found[0].1 - 0.5).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn mixing_solves_a_linear_map() {
        let map = |g: &[f64]| vec![0.9 * g[0] + 0.1, 0.5 * g[1] - 1.0, 0.2 * g[2] + 0.8];
        let mut history = History { weights: vec![1.0; 3], steps: VecDeque::new(), last: None };
        let mut g = vec![5.0, 3.0, -2.0];
        for _ in 0..4 {
            let value = map(&g);
            history.observe(&g, &value, 0.0);
            g = value;
        }
        let mixed = history.mix().unwrap();
        assert!(mixed.iter().zip([1.0, -2.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{mixed:?}");
        history.forget();
        assert!(history.mix().is_none());
    }

    #[test]
    fn the_memory_is_bounded_and_its_products_stay_in_step() {
        let mut history = History { weights: vec![0.5, 2.0], steps: VecDeque::new(), last: None };
        for k in 0..20 {
            let g = [f64::from(k), f64::from(k * k % 7)];
            history.observe(&g, &[g[0] * 0.5, g[1] - 1.0], 0.0);
        }
        assert_eq!(history.steps.len(), MEMORY);
        for (i, step) in history.steps.iter().enumerate() {
            assert_eq!(step.products.len(), i + 1);
            for (j, product) in step.products.iter().enumerate() {
                assert_eq!(*product, history.dot(&history.steps[j].residual, &step.residual));
            }
        }
    }
}
