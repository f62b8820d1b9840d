//! The row kernels of the entropic iteration, compiled for several instruction sets and chosen at run time.
//!
//! `simd_lanes` says what a vector can do, `simd_x86` how the two large x86-64 extensions do it, `simd_rows` holds the
//! loops; this file compiles the loops for each set and calls the copy that the processor has, after asking it. The
//! crate's `unsafe` is in these files alone.
#![allow(unsafe_code)]

use crate::simd_lanes::{Lanes, Plain};
use crate::simd_rows as rows;

/// Rows that a kernel takes at once.
pub(crate) const GROUP: usize = 4;

/// An instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// What every processor of the target has.
    Scalar,
    /// 128-bit vectors with fused multiply-add; part of every aarch64 processor.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// 256-bit vectors with fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// 512-bit vectors.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// Every set that this processor has, the best one last.
    pub(crate) fn available() -> Vec<Self> {
        let mut found = vec![Self::Scalar];
        #[cfg(target_arch = "aarch64")]
        found.push(Self::Neon);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            found.push(Self::Avx2);
            if is_x86_feature_detected!("avx512f") {
                found.push(Self::Avx512);
            }
        }
        found
    }

    /// The best one.
    pub(crate) fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::Scalar)
    }
}

/// `f32` or `f64`: the type that rows are swept in.
pub(crate) trait Real:
    Copy + Default + Send + Sync + PartialOrd + std::ops::Add<Output = Self> + std::fmt::Debug + 'static
{
    type Scalar: Lanes<Real = Self>;
    #[cfg(target_arch = "aarch64")]
    type Neon: Lanes<Real = Self>;
    #[cfg(target_arch = "x86_64")]
    type Avx2: Lanes<Real = Self>;
    #[cfg(target_arch = "x86_64")]
    type Avx512: Lanes<Real = Self>;
    const NEG_INFINITY: Self;
    /// Distance from 1 to the next number.
    const EPSILON: f64;
    /// A sum of a row below this has lost digits to underflow.
    const UNDERFLOW: f64;
    /// A sum above this is close to overflow.
    const OVERFLOW: f64;
    /// Nearest number; a magnitude out of range becomes infinite.
    fn of(value: f64) -> Self;
    fn f64(self) -> f64;
    fn square_root(self) -> Self;
}

macro_rules! real {
    ($real:ty, $lanes:literal, $avx2:ident, $avx512:ident, $underflow:literal, $overflow:literal) => {
        impl Real for $real {
            type Scalar = Plain<$real, $lanes, false>;
            #[cfg(target_arch = "aarch64")]
            type Neon = Plain<$real, $lanes, true>;
            #[cfg(target_arch = "x86_64")]
            type Avx2 = crate::simd_x86::$avx2;
            #[cfg(target_arch = "x86_64")]
            type Avx512 = crate::simd_x86::$avx512;
            const NEG_INFINITY: Self = <$real>::NEG_INFINITY;
            const EPSILON: f64 = <$real>::EPSILON as f64;
            const UNDERFLOW: f64 = $underflow;
            const OVERFLOW: f64 = $overflow;
            #[inline(always)]
            fn of(value: f64) -> Self {
                value as Self
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn square_root(self) -> Self {
                self.sqrt()
            }
        }
    };
}

real!(f64, 8, Avx2F64, Avx512F64, 1e-280, 1e280);
real!(f32, 16, Avx2F32, Avx512F32, 1e-30, 1e30);

/// Compiles each loop of `simd_rows` once for a set of features.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled {
    ($name:ident, $features:literal) => {
        mod $name {
            use super::{Lanes, Real, rows};

            #[target_feature(enable = $features)]
            pub(super) unsafe fn exp_rows<T: Real, L: Lanes<Real = T>, const R: usize>(
                costs: [&[T]; R],
                potentials: &[T],
                scale: T,
                shifts: [T; R],
                out: [*mut T; R],
            ) -> [T; R] {
                unsafe { rows::exp_rows::<L, R>(costs, potentials, scale, shifts, out, T::default(), T::NEG_INFINITY) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn max_row<T: Real, L: Lanes<Real = T>>(costs: &[T], potentials: &[T], scale: T) -> T {
                unsafe { rows::max_row::<L>(costs, potentials, scale, T::default(), T::NEG_INFINITY) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn add_rows<T: Real, L: Lanes<Real = T>, const R: usize>(
                values: [*const T; R],
                factors: [T; R],
                sums: &mut [T],
            ) {
                unsafe { rows::add_rows::<L, R>(values, factors, sums, T::default()) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn dot_rows<T: Real, L: Lanes<Real = T>, const R: usize>(
                values: [&[T]; R],
                weights: &[T],
            ) -> [T; R] {
                unsafe { rows::dot_rows::<L, R>(values, weights, T::default()) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn squared_distances<T: Real, L: Lanes<Real = T>, const R: usize>(
                x: [&[T]; R],
                y: *const T,
                stride: usize,
                out: [*mut T; R],
                m: usize,
            ) {
                unsafe { rows::squared_distances::<L, R>(x, y, stride, out, m, T::default()) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compiled!(avx2, "avx2,fma");
#[cfg(target_arch = "x86_64")]
compiled!(avx512, "avx512f");

/// The copies for the sets that need no asking.
macro_rules! plain_call {
    ($lanes:ty, $function:ident, $($argument:expr),*) => {
        // SAFETY: the caller of this macro has checked the lengths.
        unsafe { rows::$function::<$lanes, R>($($argument),*) }
    };
}

impl Kernel {
    /// `out_rj = 2^(potential_j - cost_rj * scale + shift_r)`; the sum of each row. All slices have one length, but
    /// `out` holds the `R` rows one after the other.
    #[inline]
    pub(crate) fn exp_rows<T: Real, const R: usize>(
        self,
        costs: [&[T]; R],
        potentials: &[T],
        scale: T,
        shifts: [T; R],
        out: [&mut [T]; R],
    ) -> [T; R] {
        let m = potentials.len();
        assert!(costs.iter().all(|row| row.len() == m) && out.iter().all(|row| row.len() == m));
        let out = out.map(<[T]>::as_mut_ptr);
        let (zero, forbidden) = (T::default(), T::NEG_INFINITY);
        match self {
            Self::Scalar => plain_call!(T::Scalar, exp_rows, costs, potentials, scale, shifts, out, zero, forbidden),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => plain_call!(T::Neon, exp_rows, costs, potentials, scale, shifts, out, zero, forbidden),
            // SAFETY: `available` found the features, and the lengths were checked above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::exp_rows::<T, T::Avx2, R>(costs, potentials, scale, shifts, out) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::exp_rows::<T, T::Avx512, R>(costs, potentials, scale, shifts, out) },
        }
    }

    /// `max_j (potential_j - cost_j * scale)`, rounded as in `exp_rows`; -inf for an empty row.
    pub(crate) fn max_row<T: Real>(self, costs: &[T], potentials: &[T], scale: T) -> T {
        assert_eq!(costs.len(), potentials.len());
        let (zero, lowest) = (T::default(), T::NEG_INFINITY);
        match self {
            // SAFETY: the length was checked.
            Self::Scalar => unsafe { rows::max_row::<T::Scalar>(costs, potentials, scale, zero, lowest) },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { rows::max_row::<T::Neon>(costs, potentials, scale, zero, lowest) },
            // SAFETY: as in `exp_rows`.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::max_row::<T, T::Avx2>(costs, potentials, scale) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::max_row::<T, T::Avx512>(costs, potentials, scale) },
        }
    }

    /// `sums_j += sum_r values_rj * factor_r`.
    #[inline]
    pub(crate) fn add_rows<T: Real, const R: usize>(self, values: [&[T]; R], factors: [T; R], sums: &mut [T]) {
        assert!(values.iter().all(|row| row.len() == sums.len()));
        let values = values.map(<[T]>::as_ptr);
        match self {
            Self::Scalar => plain_call!(T::Scalar, add_rows, values, factors, sums, T::default()),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => plain_call!(T::Neon, add_rows, values, factors, sums, T::default()),
            // SAFETY: as in `exp_rows`.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::add_rows::<T, T::Avx2, R>(values, factors, sums) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::add_rows::<T, T::Avx512, R>(values, factors, sums) },
        }
    }

    /// `sum_j values_rj * weight_j` for each row.
    #[inline]
    pub(crate) fn dot_rows<T: Real, const R: usize>(self, values: [&[T]; R], weights: &[T]) -> [T; R] {
        assert!(values.iter().all(|row| row.len() == weights.len()));
        match self {
            Self::Scalar => plain_call!(T::Scalar, dot_rows, values, weights, T::default()),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => plain_call!(T::Neon, dot_rows, values, weights, T::default()),
            // SAFETY: as in `exp_rows`.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::dot_rows::<T, T::Avx2, R>(values, weights) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::dot_rows::<T, T::Avx512, R>(values, weights) },
        }
    }

    /// `out_rj = sum_k (x_rk - y_kj)^2`; `y` holds `m` values a coordinate, of which those from `first` on are taken.
    pub(crate) fn squared_distances<T: Real, const R: usize>(
        self,
        x: [&[T]; R],
        y: &[T],
        m: usize,
        first: usize,
        out: [&mut [T]; R],
    ) {
        let (d, count) = (x[0].len(), out[0].len());
        assert!(x.iter().all(|x| x.len() == d) && out.iter().all(|row| row.len() == count));
        assert!(y.len() == d * m && first + count <= m);
        let (out, zero) = (out.map(<[T]>::as_mut_ptr), T::default());
        let y = y[first.min(y.len())..].as_ptr();
        match self {
            Self::Scalar => plain_call!(T::Scalar, squared_distances, x, y, m, out, count, zero),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => plain_call!(T::Neon, squared_distances, x, y, m, out, count, zero),
            // SAFETY: as in `exp_rows`; coordinate k is read up to first + count <= m.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::squared_distances::<T, T::Avx2, R>(x, y, m, out, count) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::squared_distances::<T, T::Avx512, R>(x, y, m, out, count) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single<T: Real>(kernel: Kernel, costs: &[T], potentials: &[T], scale: f64, shift: f64) -> (Vec<T>, f64) {
        let mut out = vec![T::default(); costs.len()];
        let [sum] = kernel.exp_rows([costs], potentials, T::of(scale), [T::of(shift)], [&mut out]);
        (out, sum.f64())
    }

    fn exp_agrees<T: Real>(lowest: f64, error: f64) {
        let costs: Vec<T> = (0..70_001).map(|k| T::of(f64::from(k) * -lowest / 70_000.0)).collect();
        let zeros = vec![T::default(); costs.len()];
        for kernel in Kernel::available() {
            let (out, _) = single(kernel, &costs, &zeros, 1.0, 0.0);
            for (c, o) in costs.iter().zip(&out) {
                let (expected, found) = ((-c.f64()).exp2(), o.f64());
                let near = (found - expected).abs() <= error * expected;
                assert!(near, "{kernel:?}: 2^{} = {found:e}, not {expected:e}", -c.f64());
            }
        }
    }

    #[test]
    fn exp_agrees_with_the_standard_library() {
        exp_agrees::<f64>(-1020.5, 5e-16);
        exp_agrees::<f32>(-124.5, 1.5e-7);
    }

    #[test]
    fn exp_of_the_ends() {
        let inf = f64::INFINITY;
        let costs = [inf, 1022.0, 1e300, 0.0, -0.0, -9.0, inf, 0.0, 1.0, f64::NAN];
        let potentials = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -inf, -inf, 1.0, 0.0];
        let expected = [0.0, 0.0, 0.0, 1.0, 1.0, 512.0, 0.0, 0.0, 1.0, 0.0];
        for kernel in Kernel::available() {
            assert_eq!(single(kernel, &costs, &potentials, 1.0, 0.0), (expected.to_vec(), 515.0));
            let (costs, potentials) = (costs.map(|c| c as f32), potentials.map(|p| p as f32));
            assert_eq!(single(kernel, &costs, &potentials, 1.0, 0.0).0, expected.map(|e| e as f32));
        }
    }

    /// Rows of any length, in groups and alone, against loops in f64.
    fn rows_agree<T: Real>(error: f64) {
        for m in 0..70 {
            let value = |k: usize, r: usize| T::of(((k * 7 + r * 3) % 11) as f64);
            let matrix: [Vec<T>; GROUP] = std::array::from_fn(|r| (0..m).map(|k| value(k, r)).collect());
            let potentials: Vec<T> = (0..m).map(|k| T::of((k % 5) as f64)).collect();
            let slices = || std::array::from_fn::<&[T], GROUP, _>(|r| &matrix[r][..]);
            for kernel in Kernel::available() {
                let mut out: [Vec<T>; GROUP] = std::array::from_fn(|_| vec![T::default(); m]);
                let [a, b, c, d] = &mut out;
                let sums = kernel.exp_rows(slices(), &potentials, T::of(0.25), [T::of(-4.0); GROUP], [a, b, c, d]);
                let dots = kernel.dot_rows(slices(), &potentials);
                let mut added = vec![T::of(1.0); m];
                kernel.add_rows(
                    std::array::from_fn::<&[T], GROUP, _>(|r| &out[r][..]),
                    [T::of(2.0); GROUP],
                    &mut added,
                );
                for r in 0..GROUP {
                    let exponent = |j: usize| potentials[j].f64() - 0.25 * matrix[r][j].f64();
                    let sum: f64 = (0..m).map(|j| (exponent(j) - 4.0).exp2()).sum();
                    assert!((sums[r].f64() - sum).abs() <= error * sum, "{kernel:?} {m}");
                    assert_eq!(single(kernel, &matrix[r], &potentials, 0.25, -4.0), (out[r].clone(), sums[r].f64()));
                    let dot: f64 = (0..m).map(|j| matrix[r][j].f64() * potentials[j].f64()).sum();
                    assert_eq!(dots[r].f64(), dot);
                    assert_eq!(kernel.dot_rows([&matrix[r]], &potentials)[0], dots[r]);
                    let max = (0..m).map(exponent).fold(f64::NEG_INFINITY, f64::max);
                    assert_eq!(kernel.max_row(&matrix[r], &potentials, T::of(0.25)).f64(), max);
                }
                for j in 0..m {
                    let expected = 1.0 + 2.0 * out.iter().map(|row| row[j].f64()).sum::<f64>();
                    assert!((added[j].f64() - expected).abs() <= error * expected, "{kernel:?} {m}");
                }
            }
        }
    }

    #[test]
    fn sums_maxima_and_tails_agree_between_kernels() {
        rows_agree::<f64>(2e-15);
        rows_agree::<f32>(1e-6);
    }

    fn distances_agree<T: Real>() {
        for (d, m) in [(1, 1), (2, 40), (3, 37), (7, 16), (0, 5)] {
            let x: [Vec<T>; GROUP] = std::array::from_fn(|r| (0..d).map(|k| T::of(((r + 5 * k) % 7) as f64)).collect());
            let y: Vec<T> = (0..d * m).map(|k| T::of((k % 6) as f64)).collect();
            for (kernel, first) in Kernel::available().into_iter().flat_map(|k| [(k, 0), (k, m / 3)]) {
                let mut out: [Vec<T>; GROUP] = std::array::from_fn(|_| vec![T::default(); m - first]);
                let [a, b, c, e] = &mut out;
                kernel.squared_distances(
                    std::array::from_fn::<&[T], GROUP, _>(|r| &x[r][..]),
                    &y,
                    m,
                    first,
                    [a, b, c, e],
                );
                for r in 0..GROUP {
                    for j in first..m {
                        let expected: f64 = (0..d).map(|k| (x[r][k].f64() - y[k * m + j].f64()).powi(2)).sum();
                        assert_eq!(out[r][j - first].f64(), expected, "{kernel:?} d {d} m {m}");
                    }
                }
            }
        }
    }

    #[test]
    fn distances_agree_between_kernels() {
        distances_agree::<f64>();
        distances_agree::<f32>();
    }
}
