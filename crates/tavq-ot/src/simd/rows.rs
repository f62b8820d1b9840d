//! The loops over rows of the matrix, written once over [`Lanes`].
//!
//! Most take `R` rows at a time (4, or 1 for what is left over): the vectors that the rows share, potentials and
//! column sums, are then read and written once for all of them.
#![allow(unsafe_code)]

use super::lanes::Lanes;

// SAFETY of the blocks below: callers vouch for the instruction set; the lengths are asserted by the dispatcher, and a
// pointer never moves past the length of its slice.

/// The first `count` lanes from memory, `fill` in the others.
#[inline(always)]
unsafe fn load_tail<L: Lanes>(from: *const L::Real, count: usize, fill: L::Real) -> L {
    unsafe {
        // 16 is the largest N.
        let mut buffer = [fill; 16];
        std::ptr::copy_nonoverlapping(from, buffer.as_mut_ptr(), count);
        L::load(buffer.as_ptr())
    }
}

#[inline(always)]
unsafe fn store_tail<L: Lanes>(value: L, to: *mut L::Real, count: usize, fill: L::Real) {
    unsafe {
        let mut buffer = [fill; 16];
        value.store(buffer.as_mut_ptr());
        std::ptr::copy_nonoverlapping(buffer.as_ptr(), to, count);
    }
}

/// `out_rj = 2^(potential_j - cost_rj * scale + shift_r)`; the sum of each row.
#[inline(always)]
pub(crate) unsafe fn exp_rows<L: Lanes, const R: usize>(
    costs: [&[L::Real]; R],
    potentials: &[L::Real],
    scale: L::Real,
    shifts: [L::Real; R],
    out: [*mut L::Real; R],
    zero: L::Real,
    forbidden: L::Real,
) -> [L::Real; R] {
    unsafe {
        let m = potentials.len();
        let scale = L::splat(scale);
        let mut sums = [L::splat(zero); R];
        let mut j = 0;
        while j + L::N <= m {
            let p = L::load(potentials.as_ptr().add(j));
            for r in 0..R {
                let x = L::load(costs[r].as_ptr().add(j)).neg_mul_add(scale, p).add(L::splat(shifts[r]));
                let e = x.exp2();
                e.store(out[r].add(j));
                sums[r] = sums[r].add(e);
            }
            j += L::N;
        }
        if j < m {
            let p = load_tail::<L>(potentials.as_ptr().add(j), m - j, forbidden);
            for r in 0..R {
                let c = load_tail::<L>(costs[r].as_ptr().add(j), m - j, zero);
                let e = c.neg_mul_add(scale, p).add(L::splat(shifts[r])).exp2();
                store_tail(e, out[r].add(j), m - j, zero);
                sums[r] = sums[r].add(e);
            }
        }
        std::array::from_fn(|r| sums[r].total())
    }
}

/// `max_j (potential_j - cost_j * scale)`, rounded as in `exp_rows`.
#[inline(always)]
pub(crate) unsafe fn max_row<L: Lanes>(
    costs: &[L::Real],
    potentials: &[L::Real],
    scale: L::Real,
    zero: L::Real,
    lowest: L::Real,
) -> L::Real
where
    L::Real: PartialOrd,
{
    unsafe {
        let m = potentials.len();
        let scale = L::splat(scale);
        let mut best = L::splat(lowest);
        let mut j = 0;
        while j + L::N <= m {
            let p = L::load(potentials.as_ptr().add(j));
            best = L::load(costs.as_ptr().add(j)).neg_mul_add(scale, p).max(best);
            j += L::N;
        }
        if j < m {
            let p = load_tail::<L>(potentials.as_ptr().add(j), m - j, lowest);
            best = load_tail::<L>(costs.as_ptr().add(j), m - j, zero).neg_mul_add(scale, p).max(best);
        }
        let mut lanes = [lowest; 16];
        best.store(lanes.as_mut_ptr());
        lanes.into_iter().fold(lowest, |a, b| if b > a { b } else { a })
    }
}

/// `sums_j += sum_r values_rj * factor_r`.
#[inline(always)]
pub(crate) unsafe fn add_rows<L: Lanes, const R: usize>(
    values: [*const L::Real; R],
    factors: [L::Real; R],
    sums: &mut [L::Real],
    zero: L::Real,
) {
    unsafe {
        let m = sums.len();
        let mut j = 0;
        while j + L::N <= m {
            let mut sum = L::load(sums.as_ptr().add(j));
            for r in 0..R {
                sum = L::load(values[r].add(j)).mul_add(L::splat(factors[r]), sum);
            }
            sum.store(sums.as_mut_ptr().add(j));
            j += L::N;
        }
        if j < m {
            let mut sum = load_tail::<L>(sums.as_ptr().add(j), m - j, zero);
            for r in 0..R {
                sum = load_tail::<L>(values[r].add(j), m - j, zero).mul_add(L::splat(factors[r]), sum);
            }
            store_tail(sum, sums.as_mut_ptr().add(j), m - j, zero);
        }
    }
}

/// `sum_j values_rj * weight_j` for each row.
#[inline(always)]
pub(crate) unsafe fn dot_rows<L: Lanes, const R: usize>(
    values: [&[L::Real]; R],
    weights: &[L::Real],
    zero: L::Real,
) -> [L::Real; R] {
    unsafe {
        let m = weights.len();
        let mut sums = [L::splat(zero); R];
        let mut j = 0;
        while j + L::N <= m {
            let w = L::load(weights.as_ptr().add(j));
            for r in 0..R {
                sums[r] = L::load(values[r].as_ptr().add(j)).mul_add(w, sums[r]);
            }
            j += L::N;
        }
        if j < m {
            let w = load_tail::<L>(weights.as_ptr().add(j), m - j, zero);
            for r in 0..R {
                sums[r] = load_tail::<L>(values[r].as_ptr().add(j), m - j, zero).mul_add(w, sums[r]);
            }
        }
        std::array::from_fn(|r| sums[r].total())
    }
}

/// [`add_rows`] of one group and [`dot_rows`] of the next one in one loop: what the second reads from far away arrives
/// while the first computes on what is near.
#[inline(always)]
pub(crate) unsafe fn add_and_dot<L: Lanes, const R: usize>(
    values: [*const L::Real; R],
    factors: [L::Real; R],
    sums: &mut [L::Real],
    next: [&[L::Real]; R],
    weights: &[L::Real],
    zero: L::Real,
) -> [L::Real; R] {
    unsafe {
        let m = weights.len();
        let mut dots = [L::splat(zero); R];
        let mut j = 0;
        while j + L::N <= m {
            let w = L::load(weights.as_ptr().add(j));
            let mut sum = L::load(sums.as_ptr().add(j));
            for r in 0..R {
                dots[r] = L::load(next[r].as_ptr().add(j)).mul_add(w, dots[r]);
                sum = L::load(values[r].add(j)).mul_add(L::splat(factors[r]), sum);
            }
            sum.store(sums.as_mut_ptr().add(j));
            j += L::N;
        }
        if j < m {
            let w = load_tail::<L>(weights.as_ptr().add(j), m - j, zero);
            let mut sum = load_tail::<L>(sums.as_ptr().add(j), m - j, zero);
            for r in 0..R {
                dots[r] = load_tail::<L>(next[r].as_ptr().add(j), m - j, zero).mul_add(w, dots[r]);
                sum = load_tail::<L>(values[r].add(j), m - j, zero).mul_add(L::splat(factors[r]), sum);
            }
            store_tail(sum, sums.as_mut_ptr().add(j), m - j, zero);
        }
        std::array::from_fn(|r| dots[r].total())
    }
}

/// `out_rj = sum_k (x_rk - y_kj)^2` over the coordinates; coordinate `k` of all `y` starts at `y + k * stride`.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "k is the coordinate of each of the rows and of y")]
pub(crate) unsafe fn squared_distances<L: Lanes, const R: usize>(
    x: [&[L::Real]; R],
    y: *const L::Real,
    stride: usize,
    out: [*mut L::Real; R],
    m: usize,
    zero: L::Real,
) {
    unsafe {
        let mut j = 0;
        while j < m {
            let count = (m - j).min(L::N);
            let mut sums = [L::splat(zero); R];
            for k in 0..x[0].len() {
                let from = y.add(k * stride + j);
                let y = if count == L::N { L::load(from) } else { load_tail::<L>(from, count, zero) };
                for r in 0..R {
                    let d = L::splat(x[r][k]).sub(y);
                    sums[r] = d.mul_add(d, sums[r]);
                }
            }
            for r in 0..R {
                if count == L::N {
                    sums[r].store(out[r].add(j));
                } else {
                    store_tail(sums[r], out[r].add(j), count, zero);
                }
            }
            j += count;
        }
    }
}

/// `values_j *= factor * weight_j`; their sum.
#[inline(always)]
pub(crate) unsafe fn scale_row<L: Lanes>(
    values: &mut [L::Real],
    factor: L::Real,
    weights: *const L::Real,
    zero: L::Real,
) -> L::Real {
    unsafe {
        let (m, nothing) = (values.len(), L::splat(zero));
        let scaled = |value: L, weight: L| value.mul_add(weight, nothing).mul_add(L::splat(factor), nothing);
        let mut sum = nothing;
        let mut j = 0;
        while j + L::N <= m {
            let value = scaled(L::load(values.as_ptr().add(j)), L::load(weights.add(j)));
            value.store(values.as_mut_ptr().add(j));
            sum = sum.add(value);
            j += L::N;
        }
        if j < m {
            let (value, weight) = (values.as_ptr().add(j), weights.add(j));
            let value = scaled(load_tail::<L>(value, m - j, zero), load_tail::<L>(weight, m - j, zero));
            store_tail(value, values.as_mut_ptr().add(j), m - j, zero);
            sum = sum.add(value);
        }
        sum.total()
    }
}
