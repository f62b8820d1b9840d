//! Inputs that do not depend on libtorch's generator.

use tch::{Kind, Tensor};

/// SplitMix64, for inputs that are the same on every machine.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `[0, 1)`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In `0..n`.
    pub(crate) fn below(&mut self, n: i64) -> i64 {
        (self.unit() * n as f64) as i64
    }

    /// f64, uniform in `[0, 1)`.
    pub(crate) fn uniform(&mut self, size: &[i64]) -> Tensor {
        let count: i64 = size.iter().product();
        Tensor::from_slice(&(0..count).map(|_| self.unit()).collect::<Vec<_>>()).view(size)
    }

    /// f64, in `[-1, 1)`.
    pub(crate) fn signed(&mut self, size: &[i64]) -> Tensor {
        self.uniform(size) * 2.0 - 1.0
    }

    /// `[p, n]` masses that sum to 1, of which the first `filled[p]` are above 0.
    pub(crate) fn masses(&mut self, n: i64, filled: &[i64]) -> Tensor {
        let weights = self.uniform(&[filled.len() as i64, n]) + 0.1;
        let inside = Tensor::arange(n, (Kind::Int64, weights.device())).unsqueeze(0);
        let weights = weights * inside.lt_tensor(&Tensor::from_slice(filled).unsqueeze(1)).to_kind(Kind::Double);
        &weights / weights.sum_dim_intlist([-1i64].as_slice(), true, None::<Kind>)
    }
}

/// Largest absolute difference; NaN counts as infinite.
pub(crate) fn gap(x: &Tensor, y: &Tensor) -> f64 {
    assert_eq!(x.size(), y.size());
    let worst = (x.to_kind(Kind::Double) - y.to_kind(Kind::Double)).abs().max().double_value(&[]);
    if worst.is_nan() { f64::INFINITY } else { worst }
}
