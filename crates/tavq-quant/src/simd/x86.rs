//! The loop over codes for the two large x86-64 extensions: two vectors of points by as many codes as registers allow.

use std::arch::x86_64::*;

macro_rules! search {
    ($name:ident, $features:literal, $lanes:literal, $codes:literal, $load:ident, $store:ident, $load_index:ident,
     $store_index:ident, $index:ty, $one:ident, $one_index:ident, $fma:ident, $min:ident,
     $any:ident, $take:ident) => {
        /// See [`super::Search`].
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(
            panel: &[f32],
            codes: &[f32],
            offsets: &[f32],
            dim: usize,
            first: i32,
            best: &mut [f32],
            index: &mut [i32],
        ) {
            assert!(dim > 0 && panel.len() == 2 * $lanes * dim && codes.len() == offsets.len() * dim);
            assert!(best.len() == 2 * $lanes && index.len() == 2 * $lanes && offsets.len() % $codes == 0);
            // SAFETY: the lengths were checked; every pointer below stays within its slice.
            unsafe {
                let best = best.as_mut_ptr();
                let index = index.as_mut_ptr().cast::<$index>();
                let mut least = [$load(best), $load(best.add($lanes))];
                let mut at = [$load_index(index), $load_index(index.add(1))];
                let mut number = first;
                for (codes, offsets) in codes.chunks_exact($codes * dim).zip(offsets.chunks_exact($codes)) {
                    let mut sums = [[$one(0.0); 2]; $codes];
                    for r in 0..$codes {
                        sums[r] = [$one(*offsets.get_unchecked(r)); 2];
                    }
                    let (mut point, mut code) = (panel.as_ptr(), codes.as_ptr());
                    for _ in 0..dim {
                        let points = [$load(point), $load(point.add($lanes))];
                        for r in 0..$codes {
                            let value = $one(*code.add(r));
                            sums[r][0] = $fma(value, points[0], sums[r][0]);
                            sums[r][1] = $fma(value, points[1], sums[r][1]);
                        }
                        point = point.add(2 * $lanes);
                        code = code.add($codes);
                    }
                    // Of a number and NaN the second operand remains, which no NaN enters: it is never the least.
                    let mut lowest = least;
                    for r in 0..$codes {
                        lowest = [$min(sums[r][0], lowest[0]), $min(sums[r][1], lowest[1])];
                    }
                    // Seldom, once some codes are past.
                    if $any(lowest[0], least[0]) || $any(lowest[1], least[1]) {
                        for r in 0..$codes {
                            let code = $one_index(number + r as i32);
                            (least[0], at[0]) = $take(sums[r][0], code, least[0], at[0]);
                            (least[1], at[1]) = $take(sums[r][1], code, least[1], at[1]);
                        }
                    }
                    number += $codes;
                }
                $store(best, least[0]);
                $store(best.add($lanes), least[1]);
                $store_index(index, at[0]);
                $store_index(index.add(1), at[1]);
            }
        }
    };
}

search!(
    search_avx512, "avx512f", 16, 12, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_loadu_si512, _mm512_storeu_si512,
    __m512i, _mm512_set1_ps, _mm512_set1_epi32, _mm512_fmadd_ps, _mm512_min_ps, any_avx512, take_avx512
);
search!(
    search_avx2, "avx2,fma", 8, 6, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_loadu_si256, _mm256_storeu_si256, __m256i,
    _mm256_set1_ps, _mm256_set1_epi32, _mm256_fmadd_ps, _mm256_min_ps, any_avx2, take_avx2
);

/// Whether a lane of `one` is less than that of `other`.
#[inline]
#[target_feature(enable = "avx512f")]
fn any_avx512(one: __m512, other: __m512) -> bool {
    _mm512_cmp_ps_mask::<_CMP_LT_OQ>(one, other) != 0
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn any_avx2(one: __m256, other: __m256) -> bool {
    _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(one, other)) != 0
}

/// Score and code where the score is less than the least so far, that one elsewhere.
#[inline]
#[target_feature(enable = "avx512f")]
fn take_avx512(score: __m512, code: __m512i, least: __m512, at: __m512i) -> (__m512, __m512i) {
    let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(score, least);
    (_mm512_mask_mov_ps(least, less, score), _mm512_mask_mov_epi32(at, less, code))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn take_avx2(score: __m256, code: __m256i, least: __m256, at: __m256i) -> (__m256, __m256i) {
    let less = _mm256_cmp_ps::<_CMP_LT_OQ>(score, least);
    let index = _mm256_blendv_ps(_mm256_castsi256_ps(at), _mm256_castsi256_ps(code), less);
    (_mm256_blendv_ps(least, score, less), _mm256_castps_si256(index))
}
