//! The vectors of x86-64: AVX2 with FMA, two registers a vector, and AVX-512, one.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::lanes::{
    HIGHEST_F32, HIGHEST_F64, LOWEST_F32, LOWEST_F64, Lanes, POLYNOMIAL_F32, POLYNOMIAL_F64, ROUNDER_F32, ROUNDER_F64,
};

#[derive(Clone, Copy)]
pub(crate) struct Avx2F64([__m256d; 2]);
#[derive(Clone, Copy)]
pub(crate) struct Avx2F32([__m256; 2]);
#[derive(Clone, Copy)]
pub(crate) struct Avx512F64(__m512d);
#[derive(Clone, Copy)]
pub(crate) struct Avx512F32(__m512);

// SAFETY of every block below: the trait's callers vouch for the instruction set and for N elements behind a pointer.

macro_rules! pair {
    ($name:ident, $real:ty, $half:literal, $set1:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $fma:ident,
     $fnma:ident, $max:ident, $total:ident, $exp2:ident) => {
        impl Lanes for $name {
            type Real = $real;
            const N: usize = 2 * $half;
            #[inline(always)]
            unsafe fn splat(value: $real) -> Self {
                unsafe { Self([$set1(value); 2]) }
            }
            #[inline(always)]
            unsafe fn load(from: *const $real) -> Self {
                unsafe { Self([$load(from), $load(from.add($half))]) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $real) {
                unsafe {
                    $store(to, self.0[0]);
                    $store(to.add($half), self.0[1]);
                }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                unsafe { Self([$add(self.0[0], other.0[0]), $add(self.0[1], other.0[1])]) }
            }
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                unsafe { Self([$sub(self.0[0], other.0[0]), $sub(self.0[1], other.0[1])]) }
            }
            #[inline(always)]
            unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
                unsafe { Self([$fma(self.0[0], factor.0[0], addend.0[0]), $fma(self.0[1], factor.0[1], addend.0[1])]) }
            }
            #[inline(always)]
            unsafe fn neg_mul_add(self, factor: Self, addend: Self) -> Self {
                unsafe {
                    Self([$fnma(self.0[0], factor.0[0], addend.0[0]), $fnma(self.0[1], factor.0[1], addend.0[1])])
                }
            }
            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                unsafe { Self([$max(self.0[0], other.0[0]), $max(self.0[1], other.0[1])]) }
            }
            #[inline(always)]
            unsafe fn total(self) -> $real {
                unsafe { $total($add(self.0[0], self.0[1])) }
            }
            #[inline(always)]
            unsafe fn exp2(self) -> Self {
                unsafe { Self([$exp2(self.0[0]), $exp2(self.0[1])]) }
            }
        }
    };
}

pair!(
    Avx2F64, f64, 4, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd, _mm256_sub_pd, _mm256_fmadd_pd,
    _mm256_fnmadd_pd, _mm256_max_pd, total_f64, exp2_avx2_f64
);
pair!(
    Avx2F32, f32, 8, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps, _mm256_sub_ps, _mm256_fmadd_ps,
    _mm256_fnmadd_ps, _mm256_max_ps, total_f32, exp2_avx2_f32
);

#[inline(always)]
unsafe fn total_f64(x: __m256d) -> f64 {
    unsafe {
        let pair = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
        _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)))
    }
}

#[inline(always)]
unsafe fn total_f32(x: __m256) -> f32 {
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let pair = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
    }
}

#[inline(always)]
unsafe fn total_avx512_f64(x: __m512d) -> f64 {
    unsafe { total_f64(_mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd::<1>(x))) }
}

#[inline(always)]
unsafe fn total_avx512_f32(x: __m512) -> f32 {
    unsafe {
        // The instruction that takes half of the f32 lanes is not part of AVX-512F; the one for f64 lanes moves the same bits.
        let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x)));
        total_f32(_mm256_add_ps(_mm512_castps512_ps256(x), high))
    }
}

#[inline(always)]
unsafe fn exp2_avx2_f64(x: __m256d) -> __m256d {
    unsafe {
        let rounder = _mm256_set1_pd(ROUNDER_F64);
        let rounded = _mm256_add_pd(x, rounder);
        let r = _mm256_sub_pd(x, _mm256_sub_pd(rounded, rounder));
        let mut value = _mm256_set1_pd(POLYNOMIAL_F64[0]);
        for &coefficient in &POLYNOMIAL_F64[1..] {
            value = _mm256_fmadd_pd(value, r, _mm256_set1_pd(coefficient));
        }
        let exponent = _mm256_slli_epi64::<52>(_mm256_castpd_si256(rounded));
        let scaled = _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(value), exponent));
        let finite = _mm256_and_pd(scaled, _mm256_cmp_pd::<_CMP_GT_OQ>(x, _mm256_set1_pd(LOWEST_F64)));
        let over = _mm256_cmp_pd::<_CMP_GE_OQ>(x, _mm256_set1_pd(HIGHEST_F64));
        _mm256_blendv_pd(finite, _mm256_set1_pd(f64::INFINITY), over)
    }
}

#[inline(always)]
unsafe fn exp2_avx2_f32(x: __m256) -> __m256 {
    unsafe {
        let rounder = _mm256_set1_ps(ROUNDER_F32);
        let rounded = _mm256_add_ps(x, rounder);
        let r = _mm256_sub_ps(x, _mm256_sub_ps(rounded, rounder));
        let mut value = _mm256_set1_ps(POLYNOMIAL_F32[0]);
        for &coefficient in &POLYNOMIAL_F32[1..] {
            value = _mm256_fmadd_ps(value, r, _mm256_set1_ps(coefficient));
        }
        let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(rounded));
        let scaled = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(value), exponent));
        let finite = _mm256_and_ps(scaled, _mm256_cmp_ps::<_CMP_GT_OQ>(x, _mm256_set1_ps(LOWEST_F32)));
        let over = _mm256_cmp_ps::<_CMP_GE_OQ>(x, _mm256_set1_ps(HIGHEST_F32));
        _mm256_blendv_ps(finite, _mm256_set1_ps(f32::INFINITY), over)
    }
}

macro_rules! single {
    ($name:ident, $real:ty, $lanes:literal, $set1:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $fma:ident,
     $fnma:ident, $max:ident, $total:ident, $exp2:ident) => {
        impl Lanes for $name {
            type Real = $real;
            const N: usize = $lanes;
            #[inline(always)]
            unsafe fn splat(value: $real) -> Self {
                unsafe { Self($set1(value)) }
            }
            #[inline(always)]
            unsafe fn load(from: *const $real) -> Self {
                unsafe { Self($load(from)) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $real) {
                unsafe { $store(to, self.0) }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                unsafe { Self($add(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                unsafe { Self($sub(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
                unsafe { Self($fma(self.0, factor.0, addend.0)) }
            }
            #[inline(always)]
            unsafe fn neg_mul_add(self, factor: Self, addend: Self) -> Self {
                unsafe { Self($fnma(self.0, factor.0, addend.0)) }
            }
            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                unsafe { Self($max(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn total(self) -> $real {
                unsafe { $total(self.0) }
            }
            #[inline(always)]
            unsafe fn exp2(self) -> Self {
                unsafe { Self($exp2(self.0)) }
            }
        }
    };
}

single!(
    Avx512F64, f64, 8, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd, _mm512_sub_pd,
    _mm512_fmadd_pd, _mm512_fnmadd_pd, _mm512_max_pd, total_avx512_f64, exp2_avx512_f64
);
single!(
    Avx512F32, f32, 16, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps, _mm512_sub_ps,
    _mm512_fmadd_ps, _mm512_fnmadd_ps, _mm512_max_ps, total_avx512_f32, exp2_avx512_f32
);

/// 2^(k/16), k = 0..8 and 8..16: two registers hold the whole table.
const TABLE: [[f64; 8]; 2] = [
    [
        1.0, 1.0442737824274138, 1.0905077326652577, 1.1387886347566916, 1.189207115002721, 1.241857812073484,
        1.2968395546510096, 1.3542555469368927,
    ],
    [
        std::f64::consts::SQRT_2,
        1.4768261459394993,
        1.5422108254079407,
        1.6104903319492543,
        1.681792830507429,
        1.7562521603732995,
        1.8340080864093424,
        1.9152065613971474,
    ],
];
/// (2^r - 1) / r on |r| <= 1/32, highest power first (golden/exp.py).
const SHORT_POLYNOMIAL: [f64; 6] = [
    0.00015403723980749256, 0.0013333781576784268, 0.009618129106919537, 0.0555041086566393, 0.24022650695910075,
    0.6931471805599457,
];

/// x = q + k/16 + r: the table gives 2^(k/16), a short polynomial 2^r, and the scaling instruction 2^q.
#[inline(always)]
unsafe fn exp2_avx512_f64(x: __m512d) -> __m512d {
    unsafe {
        // Rounds to sixteenths and leaves their number in the low bits.
        let rounder = _mm512_set1_pd(ROUNDER_F64 / 16.0);
        let rounded = _mm512_add_pd(x, rounder);
        let sixteenths = _mm512_sub_pd(rounded, rounder);
        let r = _mm512_sub_pd(x, sixteenths);
        let mut value = _mm512_set1_pd(SHORT_POLYNOMIAL[0]);
        for &coefficient in &SHORT_POLYNOMIAL[1..] {
            value = _mm512_fmadd_pd(value, r, _mm512_set1_pd(coefficient));
        }
        let low = _mm512_loadu_pd(TABLE[0].as_ptr());
        let high = _mm512_loadu_pd(TABLE[1].as_ptr());
        let power = _mm512_permutex2var_pd(low, _mm512_castpd_si512(rounded), high);
        let value = _mm512_fmadd_pd(_mm512_mul_pd(power, r), value, power);
        let normal = _mm512_cmp_pd_mask::<_CMP_GT_OQ>(x, _mm512_set1_pd(LOWEST_F64));
        _mm512_maskz_scalef_pd(normal, value, sixteenths)
    }
}

#[inline(always)]
unsafe fn exp2_avx512_f32(x: __m512) -> __m512 {
    unsafe {
        let rounder = _mm512_set1_ps(ROUNDER_F32);
        let whole = _mm512_sub_ps(_mm512_add_ps(x, rounder), rounder);
        let r = _mm512_sub_ps(x, whole);
        let mut value = _mm512_set1_ps(POLYNOMIAL_F32[0]);
        for &coefficient in &POLYNOMIAL_F32[1..] {
            value = _mm512_fmadd_ps(value, r, _mm512_set1_ps(coefficient));
        }
        let normal = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, _mm512_set1_ps(LOWEST_F32));
        _mm512_maskz_scalef_ps(normal, value, whole)
    }
}
