//! Costs between two sets of points, written block by block wherever they are wanted.
//!
//! A matrix is filled in place ([`Points::costs`]), a block of it into a buffer of the caller ([`Points::write_block`]),
//! and the entropic solver can ask for one tile of rows after the other, so that the matrix never exists
//! ([`crate::Sinkhorn::solve_points`]).

use std::fmt;
use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

use crate::error::{OtError, Side};
use crate::problem::check_cost;
use crate::simd::{GROUP, Kernel, Real};

/// Largest magnitude of a coordinate; squares of differences stay within f64.
pub(crate) const LARGEST_COORDINATE: f64 = 1e70;

/// A cost between two points.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Metric<'f> {
    /// `|x - y|^2`.
    SquaredEuclidean,
    /// `|x - y|`.
    Euclidean,
    /// `1 - <x, y> / (|x| |y|)`, between 0 and 2.
    Cosine,
    /// Anything else. A value that [`crate::Problem`] would refuse (NaN, -inf) is refused there.
    Custom(&'f (dyn Fn(&[f64], &[f64]) -> f64 + Sync)),
}

impl fmt::Debug for Metric<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SquaredEuclidean => "SquaredEuclidean",
            Self::Euclidean => "Euclidean",
            Self::Cosine => "Cosine",
            Self::Custom(_) => "Custom",
        })
    }
}

/// Sources `x` (n x d), targets `y` (m x d) and the cost between them.
///
/// ```
/// use ndarray::array;
/// use tavq_ot::{Metric, Points};
///
/// let (x, y) = (array![[0.0, 0.0], [3.0, 0.0]], array![[0.0, 4.0]]);
/// assert_eq!(Points::new(x.view(), y.view(), Metric::Euclidean)?.costs(), array![[4.0], [5.0]]);
/// # Ok::<(), tavq_ot::OtError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Points<'a> {
    x: ArrayView2<'a, f64>,
    y: ArrayView2<'a, f64>,
    metric: Metric<'a>,
}

impl<'a> Points<'a> {
    /// The points, when they are some: n, m, d >= 1, one d for both sides, every coordinate of magnitude at most 1e70,
    /// and for the cosine no point at 0.
    pub fn new(x: ArrayView2<'a, f64>, y: ArrayView2<'a, f64>, metric: Metric<'a>) -> Result<Self, OtError> {
        let (rows, columns) = (x.nrows(), y.nrows());
        if rows == 0 || columns == 0 || x.ncols() == 0 {
            return Err(OtError::EmptyPoints { sources: x.dim(), targets: y.dim() });
        }
        if x.ncols() != y.ncols() {
            return Err(OtError::PointDimension { source_dimension: x.ncols(), target_dimension: y.ncols() });
        }
        for (side, points) in [(Side::Source, x), (Side::Target, y)] {
            for (index, point) in points.outer_iter().enumerate() {
                if let Some((coordinate, &value)) =
                    point.iter().enumerate().find(|(_, v)| v.is_nan() || v.abs() > LARGEST_COORDINATE)
                {
                    return Err(OtError::PointValue { side, index, coordinate, value });
                }
                if matches!(metric, Metric::Cosine) && norm(point.iter().copied()) == 0.0 {
                    return Err(OtError::PointZero { side, index });
                }
            }
        }
        Ok(Self { x, y, metric })
    }

    /// n and m.
    #[must_use]
    pub fn dim(&self) -> (usize, usize) {
        (self.x.nrows(), self.y.nrows())
    }

    /// n x d.
    #[must_use]
    pub fn x(&self) -> ArrayView2<'a, f64> {
        self.x
    }

    /// m x d.
    #[must_use]
    pub fn y(&self) -> ArrayView2<'a, f64> {
        self.y
    }

    /// The cost between the points.
    #[must_use]
    pub fn metric(&self) -> Metric<'a> {
        self.metric
    }

    /// The cost matrix, n x m; rows in parallel.
    #[must_use]
    pub fn costs(&self) -> Array2<f64> {
        let mut out = Array2::zeros(self.dim());
        let rows = Rows::<f64>::new(self, Kernel::detect());
        let m = self.dim().1;
        out.axis_chunks_iter_mut(Axis(0), GROUP).into_par_iter().enumerate().for_each(|(k, mut block)| {
            for (r, mut row) in block.outer_iter_mut().enumerate() {
                if let Some(row) = row.as_slice_mut() {
                    rows.write_row(GROUP * k + r, 0..m, row);
                }
            }
        });
        out
    }

    /// Writes the costs of some rows and columns into `out` (rows x columns), which may be part of a larger matrix.
    ///
    /// [`OtError::BlockShape`] when the ranges leave the matrix or `out` has another shape.
    pub fn write_block(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        mut out: ArrayViewMut2<'_, f64>,
    ) -> Result<(), OtError> {
        let (n, m) = self.dim();
        let inside = rows.start <= rows.end && rows.end <= n && columns.start <= columns.end && columns.end <= m;
        if !inside || out.dim() != (rows.len(), columns.len()) {
            let (last_row, last_column) = (rows.end, columns.end);
            return Err(OtError::BlockShape { last_row, last_column, rows: n, columns: m, found: out.dim() });
        }
        let source = Rows::<f64>::new(self, Kernel::detect());
        let mut buffer = vec![0.0; columns.len()];
        for (i, mut row) in rows.zip(out.outer_iter_mut()) {
            source.write_row(i, columns.clone(), &mut buffer);
            row.assign(&ArrayView1::from(&buffer));
        }
        Ok(())
    }

    /// A bound on the magnitude of a cost. Every cost of a custom metric is looked at: it must be a number of at most 1e150
    /// ([`OtError::CostNan`], [`OtError::CostNegativeInfinity`], [`OtError::CostForbidden`], [`OtError::CostRange`]).
    pub(crate) fn largest_cost(&self) -> Result<f64, OtError> {
        let extent = || {
            let ranges = self.x.columns().into_iter().zip(self.y.columns()).map(|(x, y)| {
                let (low, high) = x
                    .iter()
                    .chain(y)
                    .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
                high - low
            });
            ranges.map(|range| range * range).sum::<f64>()
        };
        match self.metric {
            Metric::SquaredEuclidean => Ok(extent()),
            Metric::Euclidean => Ok(extent().sqrt()),
            Metric::Cosine => Ok(2.0),
            Metric::Custom(_) => self.largest_custom(),
        }
    }

    fn largest_custom(&self) -> Result<f64, OtError> {
        let (n, m) = self.dim();
        let source = Rows::<f64>::new(self, Kernel::detect());
        let largest = |row: usize| -> Result<f64, OtError> {
            let mut costs = vec![0.0; m];
            source.write_row(row, 0..m, &mut costs);
            let mut largest = 0.0_f64;
            for (column, &value) in costs.iter().enumerate() {
                if value == f64::INFINITY {
                    return Err(OtError::CostForbidden { row, column });
                }
                check_cost(row, column, value)?;
                largest = largest.max(value.abs());
            }
            Ok(largest)
        };
        // Collected, so that the first error of the matrix is the one that is reported.
        let rows: Vec<_> = (0..n).into_par_iter().map(largest).collect();
        rows.into_iter().try_fold(0.0, |all: f64, row| Ok(all.max(row?)))
    }
}

/// Adds `sum_j weight_j d c(x, y_j) / d x` to `out`; `y` holds point after point. Where the Euclidean distance is 0 it has
/// no derivative, and 0 (its smallest subgradient) counts. `None` for [`Metric::Custom`].
pub(crate) fn pull(metric: Metric<'_>, x: &[f64], y: &[f64], weights: &[f64], out: &mut [f64]) -> Option<()> {
    let targets = y.chunks_exact(x.len()).zip(weights).filter(|(_, weight)| **weight != 0.0);
    match metric {
        Metric::SquaredEuclidean => {
            for (y, weight) in targets {
                out.iter_mut().zip(x.iter().zip(y)).for_each(|(out, (x, y))| *out += 2.0 * weight * (x - y));
            }
        }
        Metric::Euclidean => {
            for (y, weight) in targets {
                let length = norm(x.iter().zip(y).map(|(x, y)| x - y));
                if length > 0.0 {
                    let weight = weight / length;
                    out.iter_mut().zip(x.iter().zip(y)).for_each(|(out, (x, y))| *out += weight * (x - y));
                }
            }
        }
        Metric::Cosine => {
            let nx = norm(x.iter().copied());
            for (y, weight) in targets {
                let ny = norm(y.iter().copied());
                let cosine = x.iter().zip(y).map(|(x, y)| (x / nx) * (y / ny)).sum::<f64>();
                let weight = weight / nx;
                out.iter_mut().zip(x.iter().zip(y)).for_each(|(out, (x, y))| {
                    *out += weight * (cosine * (x / nx) - y / ny);
                });
            }
        }
        Metric::Custom(_) => return None,
    }
    Some(())
}

fn norm(point: impl Iterator<Item = f64> + Clone) -> f64 {
    // Scaled, so that squares of small coordinates do not vanish.
    let largest = point.clone().fold(0.0_f64, |a, v| a.max(v.abs()));
    if largest == 0.0 { 0.0 } else { largest * point.map(|v| (v / largest).powi(2)).sum::<f64>().sqrt() }
}

/// The points as the kernels read them: `x` point after point, `y` coordinate after coordinate.
pub(crate) struct Rows<'a, T> {
    metric: Metric<'a>,
    x: Vec<T>,
    y: Vec<T>,
    /// For a custom metric: `y` point after point.
    plain: Option<(Array2<f64>, Array2<f64>)>,
    d: usize,
    m: usize,
    /// Factor that the costs are given in.
    unit: f64,
    kernel: Kernel,
}

impl<'a, T: Real> Rows<'a, T> {
    pub(crate) fn new(points: &Points<'a>, kernel: Kernel) -> Self {
        Self::scaled(points, 1.0, kernel)
    }

    /// Rows of the cost times `unit` (> 0).
    pub(crate) fn scaled(points: &Points<'a>, unit: f64, kernel: Kernel) -> Self {
        let (m, d) = points.y.dim();
        let custom = matches!(points.metric, Metric::Custom(_));
        // A factor inside the points costs nothing in the loop: squares scale with its square. Half the squared distance
        // of unit vectors is their cosine distance.
        let factor = match points.metric {
            Metric::SquaredEuclidean => unit.sqrt(),
            Metric::Euclidean => unit,
            Metric::Cosine => (0.5 * unit).sqrt(),
            Metric::Custom(_) => 1.0,
        };
        // Differences of points far from 0 would lose their digits in single precision.
        let centre = match points.metric {
            Metric::SquaredEuclidean | Metric::Euclidean => points.y.mean_axis(Axis(0)),
            _ => None,
        };
        let prepare = |side: ArrayView2<'_, f64>| -> Array2<f64> {
            let mut side = side.to_owned();
            if let Some(centre) = &centre {
                side -= centre;
            }
            if matches!(points.metric, Metric::Cosine) {
                side.outer_iter_mut().for_each(|mut point| {
                    let length = norm(point.iter().copied());
                    point /= length;
                });
            }
            side * factor
        };
        let typed = |side: Array2<f64>| side.iter().map(|&v| T::of(v)).collect::<Vec<T>>();
        let (x, y) = if custom {
            (Vec::new(), Vec::new())
        } else {
            (typed(prepare(points.x)), typed(prepare(points.y).t().to_owned()))
        };
        let plain =
            custom.then(|| (points.x.as_standard_layout().into_owned(), points.y.as_standard_layout().into_owned()));
        Self { metric: points.metric, x, y, plain, d, m, unit, kernel }
    }

    pub(crate) fn columns(&self) -> usize {
        self.m
    }

    /// Costs of row `i` in these columns.
    pub(crate) fn write_row(&self, i: usize, columns: Range<usize>, out: &mut [T]) {
        self.write_rows([i], columns, [out]);
    }

    /// Costs of `R` rows in these columns; each `out` has their number.
    pub(crate) fn write_rows<const R: usize>(&self, rows: [usize; R], columns: Range<usize>, mut out: [&mut [T]; R]) {
        if let (Metric::Custom(cost), Some((x, y))) = (self.metric, &self.plain) {
            for (i, out) in rows.into_iter().zip(out) {
                for (j, value) in columns.clone().zip(out) {
                    if let (Some(x), Some(y)) = (x.row(i).to_slice(), y.row(j).to_slice()) {
                        *value = T::of(cost(x, y) * self.unit);
                    }
                }
            }
            return;
        }
        let x = rows.map(|i| &self.x[i * self.d..(i + 1) * self.d]);
        self.kernel.squared_distances(x, &self.y, self.m, columns.start, out.each_mut().map(|row| &mut row[..]));
        if matches!(self.metric, Metric::Euclidean) {
            out.into_iter().flatten().for_each(|v| *v = v.square_root());
        }
    }
}
