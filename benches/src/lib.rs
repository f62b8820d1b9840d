//! The inputs of the transport benchmarks, shared by criterion and by the program that is timed beside other libraries.

use std::path::{Path, PathBuf};

use ndarray::{Array1, Array2, Array3};

/// Problems and their shape in the batch.
pub const BATCH: (usize, usize, usize) = (64, 64, 256);
/// Points a side where no matrix is stored.
pub const MANY: usize = 20_000;

/// Numbers in (0, 1) from a linear congruential generator, so that the inputs are the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.next(), self.next());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

/// Squared distances between two Gaussian clouds of `n` points in 64 dimensions, scaled to a largest cost of 1.
#[must_use]
pub fn cloud(n: usize) -> Array2<f64> {
    let mut noise = Noise(n as u64);
    let mut points = || Array2::from_shape_simple_fn((n, 64), || noise.normal());
    let (x, y) = (points(), points());
    let norms = |p: &Array2<f64>| p.outer_iter().map(|v| v.dot(&v)).collect::<Array1<f64>>();
    let (nx, ny) = (norms(&x), norms(&y));
    let mut cost = -2.0 * x.dot(&y.t());
    for ((i, j), c) in cost.indexed_iter_mut() {
        *c = (*c + nx[i] + ny[j]).max(0.0);
    }
    let largest = cost.iter().copied().fold(0.0, f64::max);
    cost / largest
}

/// Squared distances on a square grid of `n` points; whole numbers with many ties.
#[must_use]
pub fn grid(n: usize) -> Array2<f64> {
    let side = n.isqrt();
    let square = |a: usize, b: usize| (a as f64 - b as f64).powi(2);
    Array2::from_shape_fn((n, n), |(i, j)| square(i / side, j / side) + square(i % side, j % side))
}

/// `n` masses of total 1, none below a hundredth of the largest.
#[must_use]
pub fn masses(n: usize, seed: u64) -> Array1<f64> {
    let mut noise = Noise(seed);
    let weights = Array1::from_shape_simple_fn(n, || 0.01 + noise.next());
    &weights / weights.sum()
}

/// `n` masses of 1 / n.
#[must_use]
pub fn uniform(n: usize) -> Array1<f64> {
    Array1::from_elem(n, 1.0 / n as f64)
}

/// Costs in (0, 1), [`BATCH`].
#[must_use]
pub fn batch() -> Array3<f64> {
    let mut noise = Noise(3);
    Array3::from_shape_simple_fn(BATCH, || noise.next())
}

/// [`MANY`] points of the unit cube.
#[must_use]
pub fn many(seed: u64) -> Array2<f64> {
    let mut noise = Noise(seed);
    Array2::from_shape_simple_fn((MANY, 3), || noise.next())
}

/// The file of an input.
#[must_use]
pub fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.npy"))
}
