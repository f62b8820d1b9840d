//! Numbers that do not depend on libtorch's generator, which tests in other threads also use.

use tch::Tensor;

/// Standard normal values, the same for the same seed.
pub(crate) fn noise(shape: &[i64], seed: u64) -> Tensor {
    let count: i64 = shape.iter().product();
    let unit = |n: i64| (tavq_torch::seed_from(seed, "test", n as u64, 0) as f64 + 0.5) / i64::MAX as f64;
    let normal = |n| (-2.0 * unit(2 * n).ln()).sqrt() * (std::f64::consts::TAU * unit(2 * n + 1)).cos();
    let values: Vec<f32> = (0..count).map(|n| normal(n) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Largest absolute difference of two tensors of one shape.
pub(crate) fn gap(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let gap = (a.to_kind(tch::Kind::Double) - b.to_kind(tch::Kind::Double)).abs().max().double_value(&[]);
    if gap.is_nan() { f64::INFINITY } else { gap }
}
