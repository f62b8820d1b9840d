//! The contracts of this crate's seams as functions that anyone can call on their own type, from a test.
//!
//! Each returns `Err` with the broken law's name first, then what was found.

mod backbone;
mod quantizer;

pub use backbone::backbone_laws;
pub use quantizer::quantizer_laws;

use tch::{Kind, Tensor};

/// What a law test gives.
pub type Outcome = std::result::Result<(), String>;

fn hold(law: &str, holds: bool, found: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(format!("{law}: {}", found())) }
}

fn run<T>(law: &str, result: crate::Result<T>) -> std::result::Result<T, String> {
    result.map_err(|e| format!("{law}: refused a valid call: {e}"))
}

/// Largest absolute difference; infinite when shapes differ or a value is not finite.
fn gap(a: &Tensor, b: &Tensor) -> f64 {
    if a.size() != b.size() {
        return f64::INFINITY;
    }
    if a.numel() == 0 {
        return 0.0;
    }
    let gap = (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[]);
    if gap.is_nan() { f64::INFINITY } else { gap }
}

fn finite(t: &Tensor) -> bool {
    t.isfinite().all().int64_value(&[]) != 0
}

/// Standard normal values that do not depend on libtorch's generator, so that laws leave it alone.
fn noise(shape: &[i64], seed: u64) -> Tensor {
    let count: i64 = shape.iter().product();
    let unit = |n: u64| (tavq_torch::seed_from(seed, "laws", n, 0) as f64 + 0.5) / i64::MAX as f64;
    let values: Vec<f32> = (0..count.max(0) as u64)
        .map(|n| ((-2.0 * unit(2 * n).ln()).sqrt() * (std::f64::consts::TAU * unit(2 * n + 1)).cos()) as f32)
        .collect();
    Tensor::from_slice(&values).view(shape)
}
