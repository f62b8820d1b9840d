//! What the test files share.
#![allow(dead_code, reason = "each test file uses its part")]

use ndarray::{Array1, Array2};
use tavq_ot::Problem;

/// A problem that owns its arrays.
pub(crate) struct Owned {
    pub(crate) cost: Array2<f64>,
    pub(crate) source: Array1<f64>,
    pub(crate) target: Array1<f64>,
}

/// A small generator, so that the problems are the same everywhere.
pub(crate) fn noise(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1_u64 << 53) as f64
}

impl Owned {
    /// Costs in [0, 1), masses of total 1 between which no more than a factor of 11 lies.
    pub(crate) fn random(n: usize, m: usize, seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        let cost = Array2::from_shape_simple_fn((n, m), || noise(&mut state));
        let (source, target) = (masses(n, &mut state), masses(m, &mut state));
        Self { cost, source, target }
    }

    pub(crate) fn problem(&self) -> Problem<'_> {
        Problem::new(self.cost.view(), self.source.view(), self.target.view()).unwrap()
    }
}

pub(crate) fn masses(n: usize, state: &mut u64) -> Array1<f64> {
    let weights = Array1::from_shape_simple_fn(n, || 0.1 + noise(state));
    &weights / weights.sum()
}

/// Points in the unit cube.
pub(crate) fn points(n: usize, d: usize, seed: u64) -> Array2<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 7;
    Array2::from_shape_simple_fn((n, d), || noise(&mut state))
}

/// Largest difference.
pub(crate) fn distance(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}
