//! Where a sweep reads costs: a matrix, or points whose costs are made tile by tile.

use std::borrow::Cow;
use std::ops::Range;

use ndarray::ArrayView2;

use crate::points::{Points, Rows};
use crate::problem::CostRange;
use crate::simd::{Kernel, Real};

/// Columns that points are turned into costs at once; four rows of them stay in the first cache.
const TILE: usize = 512;

/// `log2(e) / epsilon`: exponents are kept to the base 2.
pub(crate) fn scale(epsilon: f64) -> f64 {
    std::f64::consts::LOG2_E / epsilon
}

/// The cost of a problem, before it is tied to a precision and an epsilon.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Matrix(ArrayView2<'a, f64>, CostRange),
    /// With the largest magnitude of a cost.
    Points(Points<'a>, f64),
}

/// Costs in the precision of the sweep.
pub(crate) enum Costs<'a, T: Real> {
    Matrix { values: Cow<'a, [T]>, columns: usize, scale: T },
    Points(Rows<'a, T>),
}

impl<'a> Source<'a> {
    pub(crate) fn dim(&self) -> (usize, usize) {
        match self {
            Self::Matrix(cost, _) => cost.dim(),
            Self::Points(points, _) => points.dim(),
        }
    }

    /// The costs as they stand.
    pub(crate) fn double(&self, epsilon: f64, kernel: Kernel) -> Costs<'a, f64> {
        match *self {
            Self::Matrix(cost, _) => {
                let values = match cost.to_slice() {
                    Some(values) => Cow::Borrowed(values),
                    None => Cow::Owned(cost.iter().copied().collect()),
                };
                Costs::Matrix { values, columns: cost.ncols(), scale: scale(epsilon) }
            }
            Self::Points(ref points, _) => Costs::Points(Rows::scaled(points, scale(epsilon), kernel)),
        }
    }

    /// The costs over epsilon in single precision: scaled first, so that no cost leaves its range.
    pub(crate) fn single(&self, epsilon: f64, kernel: Kernel) -> Costs<'a, f32> {
        match *self {
            Self::Matrix(cost, _) => {
                let values = cost.iter().map(|c| (c * scale(epsilon)) as f32).collect();
                Costs::Matrix { values: Cow::Owned(values), columns: cost.ncols(), scale: 1.0 }
            }
            Self::Points(ref points, _) => Costs::Points(Rows::scaled(points, scale(epsilon), kernel)),
        }
    }

    /// What turns the values of [`Source::double`] into costs.
    pub(crate) fn unit(&self, epsilon: f64) -> f64 {
        match self {
            Self::Matrix(..) => 1.0,
            Self::Points(..) => scale(epsilon).recip(),
        }
    }

    /// Lowest cost and largest magnitude of the finite ones.
    pub(crate) fn range(&self) -> (f64, f64) {
        match self {
            Self::Matrix(_, range) => (range.lowest, range.largest()),
            Self::Points(_, largest) => (0.0, *largest),
        }
    }
}

impl<T: Real> Costs<'_, T> {
    pub(crate) fn columns(&self) -> usize {
        match self {
            Self::Matrix { columns, .. } => *columns,
            Self::Points(rows) => rows.columns(),
        }
    }

    /// What the values of [`Costs::rows`] must be multiplied by to be exponents.
    pub(crate) fn scale(&self) -> T {
        match self {
            Self::Matrix { scale, .. } => *scale,
            Self::Points(_) => T::of(1.0),
        }
    }

    /// Room for `R` tiles, empty for a matrix.
    pub(crate) fn tile_buffer(&self) -> Vec<T> {
        match self {
            Self::Matrix { .. } => Vec::new(),
            Self::Points(_) => vec![T::default(); crate::simd::GROUP * TILE],
        }
    }

    /// Calls `visit` for the columns of these rows in order: all at once for a matrix, tile by tile for points.
    pub(crate) fn rows<const R: usize>(
        &self,
        rows: [usize; R],
        buffer: &mut [T],
        mut visit: impl FnMut(Range<usize>, [&[T]; R]),
    ) {
        match self {
            Self::Matrix { values, columns, .. } => {
                visit(0..*columns, rows.map(|i| &values[i * columns..(i + 1) * columns]));
            }
            Self::Points(points) => {
                let mut start = 0;
                while start < points.columns() {
                    let end = (start + TILE).min(points.columns());
                    let mut tiles = buffer.chunks_mut(TILE);
                    let mut out: [&mut [T]; R] =
                        std::array::from_fn(|_| &mut tiles.next().unwrap_or_default()[..end - start]);
                    points.write_rows(rows, start..end, out.each_mut().map(|tile| &mut **tile));
                    visit(start..end, out.map(|tile| &*tile));
                    start = end;
                }
            }
        }
    }
}

/// Splits a block of `R` rows of `m` into its rows.
pub(crate) fn split<T, const R: usize>(block: &mut [T], m: usize) -> [&mut [T]; R] {
    let mut rest = block.chunks_mut(m);
    std::array::from_fn(|_| rest.next().unwrap_or_default())
}
