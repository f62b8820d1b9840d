//! Anderson mixing of the target potentials, guarded by the residual that each pass gives for free.
//!
//! One iteration is a map T of g whose derivative at the solution is self-adjoint and positive for the inner product
//! weighted by the target masses, so residuals are compared in it. Two choices were made by counting iterations on
//! random, clustered, low- and high-dimensional problems: to mix in every second pass, since the plain pass between
//! damps what mixing cannot see (mixing in each pass stagnates where many modes are slow), and to bound the step, since
//! the map is far from linear at the length that a very slow mode asks for.

use std::collections::VecDeque;

use super::sweep::Engine;

/// Differences that are remembered.
const MEMORY: usize = 8;
/// Passes from one mix to the next.
const PERIOD: usize = 2;
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

    /// Remembers a pass from `g` to `value = T(g)`.
    fn observe(&mut self, g: &[f64], value: &[f64]) {
        let residual: Vec<f64> = value.iter().zip(g).map(|(v, g)| v - g).collect();
        let new = Step { residual, value: value.to_vec(), products: VecDeque::new() };
        if let Some(last) = &self.last {
            if self.steps.len() == MEMORY {
                self.steps.pop_front();
                for step in &mut self.steps {
                    step.products.pop_front();
                }
            }
            let difference =
                |new: &[f64], old: &[f64]| -> Vec<f64> { new.iter().zip(old).map(|(a, b)| a - b).collect() };
            let residual = difference(&new.residual, &last.residual);
            let others = self.steps.iter().map(|step| &step.residual).chain([&residual]);
            let products = others.map(|other| self.dot(other, &residual)).collect();
            self.steps.push_back(Step { residual, value: difference(&new.value, &last.value), products });
        }
        self.last = Some(new);
    }

    /// The mix of the remembered values whose residual is smallest to first order; `None` without a usable memory.
    fn mix(&self) -> Option<Vec<f64>> {
        let last = self.last.as_ref()?;
        if self.steps.is_empty() {
            return None;
        }
        let gram: Vec<Vec<f64>> = self.steps.iter().map(|step| step.products.iter().copied().collect()).collect();
        let right = self.steps.iter().map(|step| self.dot(&step.residual, &last.residual)).collect();
        let coefficients = solve(gram, right)?;
        let mut mixed = last.value.clone();
        for (step, c) in self.steps.iter().zip(coefficients) {
            mixed.iter_mut().zip(&step.value).for_each(|(mixed, step)| *mixed -= c * step);
        }
        mixed.iter().all(|v| v.is_finite()).then_some(mixed)
    }
}

/// Solves a small normal system, given by its lower triangle, by Cholesky with a relative ridge; `None` when it is
/// singular all the same.
fn solve(mut gram: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let k = right.len();
    for i in 0..k {
        gram[i][i] *= 1.0 + 1e-10;
        for j in 0..=i {
            let rest = gram[i][j] - (0..j).map(|p| gram[i][p] * gram[j][p]).sum::<f64>();
            gram[i][j] = if i == j { rest.sqrt() } else { rest / gram[j][j] };
        }
        // The root of a negative number is NaN.
        if gram[i][i].is_nan() || gram[i][i] == 0.0 {
            return None;
        }
    }
    for i in 0..k {
        let rest = right[i] - (0..i).map(|p| gram[i][p] * right[p]).sum::<f64>();
        right[i] = rest / gram[i][i];
    }
    for i in (0..k).rev() {
        let rest = right[i] - (i + 1..k).map(|p| gram[p][i] * right[p]).sum::<f64>();
        right[i] = rest / gram[i][i];
    }
    Some(right)
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
}

fn extent(g: &[f64]) -> f64 {
    g.iter().fold(0.0, |a, g| a.max(g.abs()))
}

/// A mix whose error is not known yet.
struct Trial {
    /// Error before it.
    before: f64,
    /// The plain update, to go back to.
    plain: Vec<f64>,
    length: f64,
}

impl Mixing {
    /// `free`: a constant added to g changes no plan; `largest_exponent`: of a cost over epsilon.
    pub(crate) fn new(weights: &[f64], free: bool, largest_exponent: f64) -> Self {
        let history = History { weights: weights.to_vec(), steps: VecDeque::new(), last: None };
        Self { history, passes: 0, trial: None, radius: f64::INFINITY, free, reach: 2.0 * largest_exponent + 100.0 }
    }

    /// After a pass of this error, sets the potentials of the next one.
    pub(crate) fn step(&mut self, engine: &mut dyn Engine, error: f64) {
        if let Some(trial) = self.trial.take() {
            if error.is_nan() || error > GROWTH * trial.before {
                engine.set(&trial.plain);
                self.radius = 0.25 * trial.length;
                self.history.forget();
                self.passes = 0;
                return;
            }
            if error < trial.before {
                self.radius = self.radius.max(4.0 * trial.length);
            }
        }
        let g = engine.g().to_vec();
        self.history.observe(&g, engine.proposal());
        self.passes += 1;
        let mixed = if self.passes.is_multiple_of(PERIOD) { self.history.mix() } else { None };
        let Some(mut mixed) = mixed else {
            engine.accept();
            return;
        };
        let plain = engine.proposal().to_vec();
        if self.free {
            // A constant added to g changes no plan; left alone, it would grow from mix to mix and eat the digits.
            let drift: f64 = mixed.iter().zip(&plain).zip(&self.history.weights).map(|((m, p), w)| w * (m - p)).sum();
            let drift = drift / self.history.weights.iter().sum::<f64>();
            mixed.iter_mut().for_each(|m| *m -= drift);
        }
        // Where parts of the plan hardly touch, their potentials are free against one another, and a mix may throw them
        // far beyond what costs can ask for.
        if extent(&mixed) > self.reach.max(extent(&plain)) {
            engine.accept();
            return;
        }
        let length = mixed.iter().zip(&plain).fold(0.0, |a: f64, (m, p)| a.max((m - p).abs()));
        let share = if length > self.radius { self.radius / length } else { 1.0 };
        mixed.iter_mut().zip(&plain).for_each(|(m, p)| *m = p + share * (*m - p));
        engine.set(&mixed);
        self.trial = Some(Trial { before: error, plain, length: length * share });
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
        let found = solve(gram, right).unwrap();
        assert!(found.iter().zip(x).all(|(a, b)| (a - b).abs() < 1e-8), "{found:?}");
        assert!(solve(vec![vec![0.0]], vec![1.0]).is_none());
        assert!(solve(vec![vec![1.0], vec![2.0, 1.0]], vec![1.0, 1.0]).is_none());
        assert!(solve(vec![vec![f64::NAN]], vec![1.0]).is_none());
    }

    /// Steps with full memory of a linear map in as many dimensions end at its fixed point.
    #[test]
    fn mixing_solves_a_linear_map() {
        let map = |g: &[f64]| vec![0.9 * g[0] + 0.1, 0.5 * g[1] - 1.0, 0.2 * g[2] + 0.8];
        let mut history = History { weights: vec![1.0; 3], steps: VecDeque::new(), last: None };
        let mut g = vec![5.0, 3.0, -2.0];
        for _ in 0..4 {
            let value = map(&g);
            history.observe(&g, &value);
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
            history.observe(&g, &[g[0] * 0.5, g[1] - 1.0]);
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
