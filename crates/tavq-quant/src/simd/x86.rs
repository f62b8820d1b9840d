//! The loop over codes for the two large x86-64 extensions: two vectors of points by as many codes as registers allow.

use std::arch::x86_64::*;

macro_rules! search {
    ($search:ident, $choose:ident, $features:literal, $lanes:literal, $codes:literal, $load:ident, $store:ident,
     $load_index:ident, $store_index:ident, $index:ty, $one:ident, $one_index:ident, $fma:ident, $min:ident, $take:ident) => {
        /// See [`super::Search`].
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $search(
            panel: &[f32],
            codes: &[f32],
            offsets: &[f32],
            dim: usize,
            first: i32,
            best: &mut [f32],
            group: &mut [i32],
        ) {
            assert!(dim > 0 && panel.len() == 2 * $lanes * dim && codes.len() == offsets.len() * dim);
            assert!(best.len() == 2 * $lanes && group.len() == 2 * $lanes && offsets.len() % $codes == 0);
            // SAFETY: the lengths were checked; every pointer below stays within its slice.
            unsafe {
                let best = best.as_mut_ptr();
                let group = group.as_mut_ptr().cast::<$index>();
                let mut least = [$load(best), $load(best.add($lanes))];
                let mut at = [$load_index(group), $load_index(group.add(1))];
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
                    let number_here = $one_index(number);
                    at = [
                        $take(lowest[0], least[0], number_here, at[0]),
                        $take(lowest[1], least[1], number_here, at[1]),
                    ];
                    least = lowest;
                    number += 1;
                }
                $store(best, least[0]);
                $store(best.add($lanes), least[1]);
                $store_index(group, at[0]);
                $store_index(group.add(1), at[1]);
            }
        }

        /// See [`super::Choose`].
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $choose(point: &[f32], codes: &[f32], offsets: &[f32], best: f32) -> usize {
            let mut sums = [0.0; $codes];
            sums.copy_from_slice(offsets);
            for (value, codes) in point.iter().zip(codes.as_chunks::<$codes>().0) {
                for (sum, code) in sums.iter_mut().zip(codes) {
                    *sum = code.mul_add(*value, *sum);
                }
            }
            let found = sums.iter().position(|sum| *sum == best);
            debug_assert!(found.is_some(), "the group of another point");
            found.unwrap_or(0)
        }
    };
}

search!(
    search_avx512, choose_avx512, "avx512f", 16, 12, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_loadu_si512,
    _mm512_storeu_si512, __m512i, _mm512_set1_ps, _mm512_set1_epi32, _mm512_fmadd_ps, _mm512_min_ps, take_avx512
);
search!(
    search_avx2, choose_avx2, "avx2,fma", 8, 6, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_loadu_si256,
    _mm256_storeu_si256, __m256i, _mm256_set1_ps, _mm256_set1_epi32, _mm256_fmadd_ps, _mm256_min_ps, take_avx2
);

/// One number where one score is less than another, elsewhere the other number.
#[inline]
#[target_feature(enable = "avx512f")]
fn take_avx512(score: __m512, least: __m512, one: __m512i, other: __m512i) -> __m512i {
    _mm512_mask_mov_epi32(other, _mm512_cmp_ps_mask::<_CMP_LT_OQ>(score, least), one)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn take_avx2(score: __m256, least: __m256, one: __m256i, other: __m256i) -> __m256i {
    let less = _mm256_cmp_ps::<_CMP_LT_OQ>(score, least);
    _mm256_castps_si256(_mm256_blendv_ps(_mm256_castsi256_ps(other), _mm256_castsi256_ps(one), less))
}
