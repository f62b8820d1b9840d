//! The two half steps of the scaling iteration: rows by their products with v, and columns by their sums.
#![allow(unsafe_code)]

use super::lanes::Lanes;
use super::rows::{add_and_dot, add_rows, dot_rows};
use super::{GROUP, Real};

/// Rows to be updated.
pub(crate) struct RowUpdate<'s> {
    pub(crate) masses: &'s [f64],
    /// The factors of the rows, which change.
    pub(crate) u: &'s mut [f64],
    /// Receives the sums of the rows before the update, relative to the masses.
    pub(crate) row_sums: &'s mut [f64],
    /// 1 for the whole step.
    pub(crate) relaxation: f64,
}

impl RowUpdate<'_> {
    /// Updates `R` rows from `at` on, whose products with v are `found`: their factors in the column sums, and whether each
    /// product was in the range of the type.
    #[inline(always)]
    fn take<T: Real, const R: usize>(&mut self, at: usize, found: [T; R]) -> ([T; R], bool) {
        let (mut factors, mut sound) = (found, true);
        let state = self.u[at..at + R].iter_mut().zip(&mut self.row_sums[at..at + R]).zip(&self.masses[at..at + R]);
        for (factor, ((u, row_sum), mass)) in factors.iter_mut().zip(state) {
            let sum = factor.f64();
            *row_sum = *u * sum;
            if sum > T::UNDERFLOW && sum < T::OVERFLOW {
                *u = if self.relaxation == 1.0 { sum.recip() } else { *u * row_sum.powf(-self.relaxation) };
            } else {
                sound = false;
            }
            *factor = T::of(mass * *u);
        }
        (factors, sound)
    }
}

/// Updates the factors of all rows of `matrix` and sums up its columns; false when a product left the range of the type.
///
/// # Safety
///
/// As in `rows`; `matrix` has a row of the length of `v` and `sums` for each of `rows`.
#[inline(always)]
pub(crate) unsafe fn half_steps<L: Lanes>(
    matrix: &[L::Real],
    v: &[L::Real],
    mut rows: RowUpdate<'_>,
    sums: &mut [L::Real],
    zero: L::Real,
) -> bool
where
    L::Real: Real,
{
    let (m, count) = (v.len(), rows.u.len());
    let row = |i: usize| &matrix[i * m..(i + 1) * m];
    let group = |at: usize| std::array::from_fn::<_, GROUP, _>(|r| row(at + r));
    let (grouped, mut sound) = (count / GROUP * GROUP, true);
    sums.fill(zero);
    unsafe {
        let mut found = if grouped > 0 { dot_rows::<L, GROUP>(group(0), v, zero) } else { [zero; GROUP] };
        for at in (0..grouped).step_by(GROUP) {
            let (factors, fine) = rows.take(at, found);
            sound &= fine;
            let values = group(at).map(<[_]>::as_ptr);
            if at + GROUP < grouped {
                found = add_and_dot::<L, GROUP>(values, factors, sums, group(at + GROUP), v, zero);
            } else {
                add_rows::<L, GROUP>(values, factors, sums, zero);
            }
        }
        for at in grouped..count {
            let (factors, fine) = rows.take(at, dot_rows::<L, 1>([row(at)], v, zero));
            sound &= fine;
            add_rows::<L, 1>([row(at).as_ptr()], factors, sums, zero);
        }
    }
    sound
}

/// What [`update_columns`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ColumnUpdate {
    /// `sum_j |mass_j - sum_j v_j|`.
    pub(crate) error: f64,
    /// The smallest and the largest sum.
    pub(crate) sums: (f64, f64),
    /// The smallest and the largest factor.
    pub(crate) factors: (f64, f64),
}

/// `next_j = mass_j / sum_j`, and what the plan of now lacks. Slices of one length; plain arrays, which the compiler turns
/// into vectors: 8 lanes everywhere, so that the error adds in one order.
#[inline(always)]
pub(crate) fn update_columns<T: Real>(sums: &[f64], masses: &[f64], v: &[T], next: &mut [f64]) -> ColumnUpdate {
    const N: usize = 8;
    let (mut errors, mut sums_range, mut range) = ([0.0; N], Extremes::new(), Extremes::new());
    let (sums, sums_tail) = sums.as_chunks::<N>();
    let (masses, masses_tail) = masses.as_chunks::<N>();
    let (v, v_tail) = v.as_chunks::<N>();
    let (next, next_tail) = next.as_chunks_mut::<N>();
    for (((sums, masses), v), next) in sums.iter().zip(masses).zip(v).zip(next) {
        for k in 0..N {
            next[k] = masses[k] / sums[k];
            errors[k] += (masses[k] - sums[k] * v[k].f64()).abs();
        }
        sums_range.add(sums);
        range.add(next);
    }
    let mut error = errors.iter().sum::<f64>();
    for (((sum, mass), v), next) in sums_tail.iter().zip(masses_tail).zip(v_tail).zip(next_tail) {
        *next = mass / sum;
        error += (mass - sum * v.f64()).abs();
        sums_range.add(&[*sum; N]);
        range.add(&[*next; N]);
    }
    ColumnUpdate { error, sums: sums_range.ends(), factors: range.ends() }
}

/// Smallest and largest value, lane by lane.
struct Extremes<const N: usize>([f64; N], [f64; N]);

impl<const N: usize> Extremes<N> {
    #[inline(always)]
    fn new() -> Self {
        Self([f64::INFINITY; N], [f64::NEG_INFINITY; N])
    }

    #[inline(always)]
    fn add(&mut self, values: &[f64; N]) {
        for (k, &value) in values.iter().enumerate() {
            self.0[k] = if value < self.0[k] { value } else { self.0[k] };
            self.1[k] = if value > self.1[k] { value } else { self.1[k] };
        }
    }

    #[inline(always)]
    fn ends(self) -> (f64, f64) {
        (self.0.into_iter().fold(f64::INFINITY, f64::min), self.1.into_iter().fold(f64::NEG_INFINITY, f64::max))
    }
}
