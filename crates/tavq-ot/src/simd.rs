//! The three row kernels of the entropic iteration, compiled for several instruction sets and chosen at run time.
//!
//! Each kernel is plain Rust over fixed lanes, which the compiler vectorises; on x86-64 the same body is compiled a
//! second time with AVX2 and FMA enabled. The only `unsafe` of the crate is the call into that second copy, made
//! after the processor was asked. Sums run over 8 fixed lanes, so a result does not depend on the vector width.
#![allow(unsafe_code)]

/// Lanes of a sum; two AVX2 registers or one of AVX-512.
const LANES: usize = 8;

/// The kernels that this processor runs best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// What the target guarantees.
    Portable,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

/// Whether the target has fused multiply-add without asking.
const BASELINE_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

impl Kernel {
    /// Asks the processor.
    pub(crate) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Self::Avx2;
        }
        Self::Portable
    }

    /// `out_j = exp(potential_j - cost_j * scale + shift)`; returns the sum. The three slices have one length.
    pub(crate) fn exp_row(self, costs: &[f64], potentials: &[f64], scale: f64, shift: f64, out: &mut [f64]) -> f64 {
        match self {
            Self::Portable => exp_row::<BASELINE_FMA>(costs, potentials, scale, shift, out),
            // SAFETY: `Avx2` is only made by `detect`, which found avx2 and fma.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { exp_row_avx2(costs, potentials, scale, shift, out) },
        }
    }

    /// `max_j (potential_j - cost_j * scale)`, rounded as in `exp_row`.
    pub(crate) fn max_row(self, costs: &[f64], potentials: &[f64], scale: f64) -> f64 {
        match self {
            Self::Portable => max_row::<BASELINE_FMA>(costs, potentials, scale),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { max_row_avx2(costs, potentials, scale) },
        }
    }

    /// `sums_j += values_j * factor`.
    pub(crate) fn add_row(self, values: &[f64], factor: f64, sums: &mut [f64]) {
        match self {
            Self::Portable => add_row::<BASELINE_FMA>(values, factor, sums),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { add_row_avx2(values, factor, sums) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn exp_row_avx2(costs: &[f64], potentials: &[f64], scale: f64, shift: f64, out: &mut [f64]) -> f64 {
    exp_row::<true>(costs, potentials, scale, shift, out)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn max_row_avx2(costs: &[f64], potentials: &[f64], scale: f64) -> f64 {
    max_row::<true>(costs, potentials, scale)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn add_row_avx2(values: &[f64], factor: f64, sums: &mut [f64]) {
    add_row::<true>(values, factor, sums);
}

/// `a * b + c`, fused only where the instruction exists: elsewhere it would be a library call.
#[inline(always)]
fn fma<const FMA: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn exp_row<const FMA: bool>(costs: &[f64], potentials: &[f64], scale: f64, shift: f64, out: &mut [f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (costs, cost_rest) = costs.as_chunks::<LANES>();
    let (potentials, potential_rest) = potentials.as_chunks::<LANES>();
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    for ((c, p), o) in costs.iter().zip(potentials).zip(out) {
        for k in 0..LANES {
            o[k] = exp::<FMA>(fma::<FMA>(c[k], -scale, p[k]) + shift);
            sums[k] += o[k];
        }
    }
    for (k, ((c, p), o)) in cost_rest.iter().zip(potential_rest).zip(out_rest).enumerate() {
        *o = exp::<FMA>(fma::<FMA>(*c, -scale, *p) + shift);
        sums[k] += *o;
    }
    ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))
}

#[inline(always)]
fn max_row<const FMA: bool>(costs: &[f64], potentials: &[f64], scale: f64) -> f64 {
    let larger = |a: f64, b: f64| if a > b { a } else { b };
    let mut best = [f64::NEG_INFINITY; LANES];
    let (costs, cost_rest) = costs.as_chunks::<LANES>();
    let (potentials, potential_rest) = potentials.as_chunks::<LANES>();
    for (c, p) in costs.iter().zip(potentials) {
        for k in 0..LANES {
            best[k] = larger(fma::<FMA>(c[k], -scale, p[k]), best[k]);
        }
    }
    for (k, (c, p)) in cost_rest.iter().zip(potential_rest).enumerate() {
        best[k] = larger(fma::<FMA>(*c, -scale, *p), best[k]);
    }
    best.into_iter().fold(f64::NEG_INFINITY, larger)
}

#[inline(always)]
fn add_row<const FMA: bool>(values: &[f64], factor: f64, sums: &mut [f64]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum = fma::<FMA>(*value, factor, *sum);
    }
}

/// exp to a relative 4e-16 on [-708, 1]: 0 below, clamped above.
///
/// x = k ln2 + r with |r| <= ln2 / 2; the polynomial (golden/exp.py) gives exp(r), and k goes into the exponent
/// bits. The upper clamp only keeps sums finite where rounding of huge potentials has destroyed an exponent that is
/// never above 0 in exact arithmetic.
#[inline(always)]
fn exp<const FMA: bool>(x: f64) -> f64 {
    const LOWEST: f64 = -708.0;
    const HIGHEST: f64 = 1.0;
    const LN2_HIGH: f64 = 0.6931471803691238;
    const LN2_LOW: f64 = 1.9082149292705877e-10;
    // Adding 1.5 * 2^52 rounds to a whole number and leaves it in the low bits.
    const ROUNDER: f64 = 6755399441055744.0;
    let clamped = if x > LOWEST { x } else { LOWEST };
    let clamped = if clamped < HIGHEST { clamped } else { HIGHEST };
    let rounded = fma::<FMA>(clamped, std::f64::consts::LOG2_E, ROUNDER);
    let whole = rounded - ROUNDER;
    let r = fma::<FMA>(whole, -LN2_LOW, fma::<FMA>(whole, -LN2_HIGH, clamped));
    let mut value = COEFFICIENTS[0];
    let mut power = 1;
    while power < COEFFICIENTS.len() {
        value = fma::<FMA>(value, r, COEFFICIENTS[power]);
        power += 1;
    }
    let scaled = f64::from_bits(value.to_bits().wrapping_add(rounded.to_bits() << 52));
    if x > LOWEST { scaled } else { 0.0 }
}

/// Highest power first.
const COEFFICIENTS: [f64; 11] = [
    2.7626371065696354e-07, 2.764019739169484e-06, 2.480150431378554e-05, 0.00019841170230570286, 0.001388888893251478,
    0.008333333385699212, 0.041666666666573066, 0.16666666666554314, 0.5000000000000006, 1.0000000000000067, 1.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn kernels() -> Vec<Kernel> {
        let mut kernels = vec![Kernel::Portable];
        if Kernel::detect() != Kernel::Portable {
            kernels.push(Kernel::detect());
        }
        kernels
    }

    #[test]
    fn exp_agrees_with_the_standard_library() {
        let costs: Vec<f64> = (0..70_001).map(|k| f64::from(k) * 0.0101).collect();
        let zeros = vec![0.0; costs.len()];
        for kernel in kernels() {
            let mut out = vec![0.0; costs.len()];
            kernel.exp_row(&costs, &zeros, 1.0, 0.5, &mut out);
            for (c, o) in costs.iter().zip(&out) {
                let expected = (0.5 - c).exp();
                assert!(
                    (o - expected).abs() <= 8e-16 * expected,
                    "{kernel:?}: exp({}) = {o:e}, not {expected:e}",
                    0.5 - c
                );
            }
        }
    }

    #[test]
    fn exp_of_the_ends() {
        for kernel in kernels() {
            let costs = [f64::INFINITY, 709.0, 1e300, 0.0, -0.0, -1e300, f64::INFINITY, 0.0, 1.0];
            let potentials = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, f64::NEG_INFINITY, f64::NEG_INFINITY, 1.0];
            let mut out = [f64::NAN; 9];
            kernel.exp_row(&costs, &potentials, 1.0, 0.0, &mut out);
            assert_eq!(
                [out[0], out[1], out[2], out[3], out[4], out[6], out[7], out[8]],
                [0., 0., 0., 1., 1., 0., 0., 1.]
            );
            assert!(out[5].is_finite());
        }
    }

    #[test]
    fn sums_maxima_and_tails_agree_between_kernels() {
        for length in 0..40 {
            let costs: Vec<f64> = (0..length).map(|k| f64::from(k * 7 % 11)).collect();
            let potentials: Vec<f64> = (0..length).map(|k| f64::from(k % 5)).collect();
            let value = |k: usize| potentials[k] - 0.25 * costs[k];
            let max = (0..costs.len()).map(value).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = (0..costs.len()).map(|k| (value(k) - 4.0).exp()).sum();
            for kernel in kernels() {
                let mut out = vec![0.0; costs.len()];
                assert!((kernel.exp_row(&costs, &potentials, 0.25, -4.0, &mut out) - sum).abs() <= 1e-14 * sum);
                assert_eq!(kernel.max_row(&costs, &potentials, 0.25), max);
                let mut sums = vec![1.0; costs.len()];
                kernel.add_row(&out, 2.0, &mut sums);
                assert!(sums.iter().zip(&out).all(|(s, o)| (s - (1.0 + 2.0 * o)).abs() <= 1e-15 * s));
            }
        }
    }
}
