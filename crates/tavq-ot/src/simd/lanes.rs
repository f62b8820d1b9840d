//! Vectors of a fixed number of lanes, the words that the row loops are written in.
//!
//! A `f64` vector has 8 lanes and a `f32` vector 16 on every processor, so sums add in one order everywhere. This file
//! holds the words and the plain form, arrays that the compiler may vectorise; `x86` holds the intrinsics.
//!
//! Potentials are logarithms to the base 2: then the split of an exponent into a whole and a small part is exact, and
//! the whole part goes straight into the bits of the result.
#![allow(unsafe_code)]

/// The words. Callers make sure that the instruction set of the implementing type is there, and that pointers reach
/// over `N` elements.
pub(crate) trait Lanes: Copy {
    type Real: Copy;
    const N: usize;
    unsafe fn splat(value: Self::Real) -> Self;
    unsafe fn load(from: *const Self::Real) -> Self;
    unsafe fn store(self, to: *mut Self::Real);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    /// `self * factor + addend`; fused where the processor has it.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// `addend - self * factor`, likewise.
    unsafe fn neg_mul_add(self, factor: Self, addend: Self) -> Self;
    /// The larger one; the second where the first is NaN.
    unsafe fn max(self, other: Self) -> Self;
    /// Sum of the lanes: of the two halves, lane by lane, until one is left.
    unsafe fn total(self) -> Self::Real;
    /// 2^x, relative error 3e-16 (f64) or 1.5e-7 (f32); exactly 0 where the result would be subnormal, for -inf and for NaN;
    /// infinite where it would overflow, and possibly a factor of 2 before.
    unsafe fn exp2(self) -> Self;
}

/// Up to this 2^x counts as 0; just above it every step of the computation is a normal number.
pub(crate) const LOWEST_F64: f64 = -1021.0;
pub(crate) const LOWEST_F32: f32 = -125.0;
/// From here on 2^x counts as infinite: a sum that holds one tells that it left its range, where bits of the exponent that run
/// over would look like any number.
pub(crate) const HIGHEST_F64: f64 = 1023.0;
pub(crate) const HIGHEST_F32: f32 = 127.0;

/// Adding 1.5 * 2^52 (2^23) rounds to a whole number and leaves it in the low bits.
pub(crate) const ROUNDER_F64: f64 = 6_755_399_441_055_744.0;
pub(crate) const ROUNDER_F32: f32 = 12_582_912.0;

/// 2^r on |r| <= 1/2, highest power first (golden/exp.py).
pub(crate) const POLYNOMIAL_F64: [f64; 12] = [
    4.4549605981865186e-10,
    7.072585949269223e-09,
    1.0178062445845774e-07,
    1.321544258792169e-06,
    1.525273382983612e-05,
    0.0001540353044173605,
    0.0013333558146416936,
    0.009618129107606888,
    0.0555041086648216,
    0.24022650695910097,
    std::f64::consts::LN_2,
    1.0,
];
/// The same in single precision.
pub(crate) const POLYNOMIAL_F32: [f32; 7] =
    [0.00015453163, 0.0013390863, 0.009618083, 0.05550357, 0.2402265, std::f32::consts::LN_2, 1.0];

/// The plain form: `FMA` says whether the target has fused multiply-add without asking; elsewhere `mul_add` would be
/// a library call.
#[derive(Clone, Copy)]
pub(crate) struct Plain<T, const N: usize, const FMA: bool>([T; N]);

macro_rules! plain {
    ($real:ty, $lanes:literal, $lowest:ident, $highest:ident, $rounder:ident, $polynomial:ident, $mantissa:literal) => {
        impl<const FMA: bool> Lanes for Plain<$real, $lanes, FMA> {
            type Real = $real;
            const N: usize = $lanes;
            #[inline(always)]
            unsafe fn splat(value: $real) -> Self {
                Self([value; $lanes])
            }
            #[inline(always)]
            unsafe fn load(from: *const $real) -> Self {
                // SAFETY: the caller vouches for N elements; arrays have the alignment of their elements.
                Self(unsafe { *from.cast::<[$real; $lanes]>() })
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $real) {
                // SAFETY: as in `load`.
                unsafe { *to.cast::<[$real; $lanes]>() = self.0 }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                Self(std::array::from_fn(|k| self.0[k] + other.0[k]))
            }
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                Self(std::array::from_fn(|k| self.0[k] - other.0[k]))
            }
            #[inline(always)]
            unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
                Self(std::array::from_fn(|k| fused::<$real, FMA>(self.0[k], factor.0[k], addend.0[k])))
            }
            #[inline(always)]
            unsafe fn neg_mul_add(self, factor: Self, addend: Self) -> Self {
                Self(std::array::from_fn(|k| fused::<$real, FMA>(-self.0[k], factor.0[k], addend.0[k])))
            }
            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                Self(std::array::from_fn(|k| if self.0[k] > other.0[k] { self.0[k] } else { other.0[k] }))
            }
            #[inline(always)]
            unsafe fn total(self) -> $real {
                let mut lanes = self.0;
                let mut width = $lanes;
                while width > 1 {
                    width /= 2;
                    for k in 0..width {
                        lanes[k] += lanes[k + width];
                    }
                }
                lanes[0]
            }
            #[inline(always)]
            unsafe fn exp2(self) -> Self {
                Self(std::array::from_fn(|k| {
                    let x = self.0[k];
                    let rounded = x + $rounder;
                    let r = x - (rounded - $rounder);
                    let mut value = $polynomial[0];
                    let mut power = 1;
                    while power < $polynomial.len() {
                        value = fused::<$real, FMA>(value, r, $polynomial[power]);
                        power += 1;
                    }
                    let scaled = <$real>::from_bits(value.to_bits().wrapping_add(rounded.to_bits() << $mantissa));
                    let finite = if x > $lowest { scaled } else { 0.0 };
                    if x >= $highest { <$real>::INFINITY } else { finite }
                }))
            }
        }
    };
}

plain!(f64, 8, LOWEST_F64, HIGHEST_F64, ROUNDER_F64, POLYNOMIAL_F64, 52);
plain!(f32, 16, LOWEST_F32, HIGHEST_F32, ROUNDER_F32, POLYNOMIAL_F32, 23);

trait Fused: Copy + std::ops::Mul<Output = Self> + std::ops::Add<Output = Self> {
    fn single_rounding(self, factor: Self, addend: Self) -> Self;
}

impl Fused for f64 {
    #[inline(always)]
    fn single_rounding(self, factor: Self, addend: Self) -> Self {
        self.mul_add(factor, addend)
    }
}

impl Fused for f32 {
    #[inline(always)]
    fn single_rounding(self, factor: Self, addend: Self) -> Self {
        self.mul_add(factor, addend)
    }
}

#[inline(always)]
fn fused<T: Fused, const FMA: bool>(a: T, b: T, c: T) -> T {
    if FMA { a.single_rounding(b, c) } else { a * b + c }
}
