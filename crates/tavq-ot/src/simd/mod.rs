//! The row kernels of the entropic iteration, compiled for several instruction sets and chosen at run time.
//!
//! `lanes` says what a vector can do, `x86` how the two large x86-64 extensions do it, `rows` and `steps` hold
//! the loops; this file compiles the loops for each set and calls the copy that the processor has, after asking it. The
//! crate's `unsafe` is in these files alone.
#![allow(unsafe_code)]

mod lanes;
mod price;
mod rows;
mod steps;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use self::lanes::{Lanes, Plain};
pub(crate) use self::price::SPAN;
use self::steps::ColumnUpdate;
pub(crate) use self::steps::RowUpdate;

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
            type Avx2 = x86::$avx2;
            #[cfg(target_arch = "x86_64")]
            type Avx512 = x86::$avx512;
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

/// Compiles each loop once for a set of features.
#[cfg(target_arch = "x86_64")]
macro_rules! compiled {
    ($name:ident, $features:literal) => {
        mod $name {
            use super::{ColumnUpdate, Lanes, Real, RowUpdate, rows, steps};

            #[target_feature(enable = $features)]
            pub(super) unsafe fn update_columns<T: Real>(
                sums: &[f64],
                masses: &[f64],
                v: &[T],
                next: &mut [f64],
            ) -> ColumnUpdate {
                steps::update_columns(sums, masses, v, next)
            }

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
            pub(super) unsafe fn half_steps<T: Real, L: Lanes<Real = T>>(
                matrix: &[T],
                v: &[T],
                update: RowUpdate<'_>,
                sums: &mut [T],
            ) -> bool {
                unsafe { steps::half_steps::<L>(matrix, v, update, sums, T::default()) }
            }

            #[target_feature(enable = $features)]
            pub(super) unsafe fn scale_row<T: Real, L: Lanes<Real = T>>(
                values: &mut [T],
                factor: T,
                weights: *const T,
            ) -> T {
                unsafe { rows::scale_row::<L>(values, factor, weights, T::default()) }
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

/// Calls the copy of a loop that the processor has. After the semicolon: constants of the type, which the compiled copies
/// make themselves. The caller has checked the lengths.
macro_rules! call {
    ($kernel:expr, $file:ident::$function:ident $(::<$rows:ident>)?($($argument:expr),*; $($constant:expr),*)) => {
        match $kernel {
            // SAFETY: the lengths were checked.
            Self::Scalar => unsafe { $file::$function::<T::Scalar $(, $rows)?>($($argument,)* $($constant),*) },
            // SAFETY: likewise, and the instructions are part of the target.
            #[cfg(target_arch = "aarch64")]
            Self::Neon => unsafe { $file::$function::<T::Neon $(, $rows)?>($($argument,)* $($constant),*) },
            // SAFETY: likewise, and `available` found the features.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::$function::<T, T::Avx2 $(, $rows)?>($($argument),*) },
            // SAFETY: likewise.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::$function::<T, T::Avx512 $(, $rows)?>($($argument),*) },
        }
    };
}

/// The loops take pointers, so each function asserts the lengths they rely on. Solvers cut all slices from matrices whose shapes
/// `Problem` has checked: no input gets to an assertion.
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
        call!(self, rows::exp_rows::<R>(costs, potentials, scale, shifts, out; T::default(), T::NEG_INFINITY))
    }

    /// `max_j (potential_j - cost_j * scale)`, rounded as in `exp_rows`; -inf for an empty row.
    pub(crate) fn max_row<T: Real>(self, costs: &[T], potentials: &[T], scale: T) -> T {
        assert_eq!(costs.len(), potentials.len());
        call!(self, rows::max_row(costs, potentials, scale; T::default(), T::NEG_INFINITY))
    }

    /// `sums_j += sum_r values_rj * factor_r`.
    #[inline]
    pub(crate) fn add_rows<T: Real, const R: usize>(self, values: [&[T]; R], factors: [T; R], sums: &mut [T]) {
        assert!(values.iter().all(|row| row.len() == sums.len()));
        let values = values.map(<[T]>::as_ptr);
        call!(self, rows::add_rows::<R>(values, factors, sums; T::default()))
    }

    /// `sum_j values_rj * weight_j` for each row.
    #[inline]
    pub(crate) fn dot_rows<T: Real, const R: usize>(self, values: [&[T]; R], weights: &[T]) -> [T; R] {
        assert!(values.iter().all(|row| row.len() == weights.len()));
        call!(self, rows::dot_rows::<R>(values, weights; T::default()))
    }

    /// The two half steps on the rows of a matrix, see [`steps::half_steps`].
    pub(crate) fn half_steps<T: Real>(self, matrix: &[T], v: &[T], update: RowUpdate<'_>, sums: &mut [T]) -> bool {
        let count = update.u.len();
        assert!(matrix.len() == count * v.len() && sums.len() == v.len());
        assert!(update.row_sums.len() == count && update.masses.len() == count);
        call!(self, steps::half_steps(matrix, v, update, sums; T::default()))
    }

    /// `values_j *= factor * weight_j`; their sum.
    pub(crate) fn scale_row<T: Real>(self, values: &mut [T], factor: T, weights: &[T]) -> T {
        assert_eq!(values.len(), weights.len());
        let weights = weights.as_ptr();
        call!(self, rows::scale_row(values, factor, weights; T::default()))
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
        // Coordinate k is read up to first + count.
        assert!(y.len() == d * m && first + count <= m);
        let out = out.map(<[T]>::as_mut_ptr);
        let y = y[first.min(y.len())..].as_ptr();
        call!(self, rows::squared_distances::<R>(x, y, m, out, count; T::default()))
    }

    /// The update of columns by their sums, see [`steps::update_columns`].
    pub(crate) fn update_columns<T: Real>(
        self,
        sums: &[f64],
        masses: &[f64],
        v: &[T],
        next: &mut [f64],
    ) -> ColumnUpdate {
        match self {
            // SAFETY: `available` found the features.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::update_columns(sums, masses, v, next) },
            // SAFETY: likewise.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::update_columns(sums, masses, v, next) },
            _ => steps::update_columns(sums, masses, v, next),
        }
    }
}
