//! Costs between two sets of points, written block by block wherever they are wanted.
//!
//! A matrix is filled in place ([`Points::costs`]), a block of it into a buffer of the caller ([`Points::write_block`]),
//! and the entropic solver can ask for one tile of rows after the other, so that the matrix never exists
//! ([`crate::Sinkhorn::solve_points`]).

use std::fmt;
use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis};
use rayon::prelude::*;

use crate::error::{OtError, Side};
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
#[derive(Debug, Clone)]
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
                if matches!(metric, Metric::Cosine) && norm(point) == 0.0 {
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

    /// A bound on the magnitude of a cost; of a custom one the largest there is.
    pub(crate) fn largest_cost(&self) -> f64 {
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
            Metric::SquaredEuclidean => extent(),
            Metric::Euclidean => extent().sqrt(),
            Metric::Cosine => 2.0,
            Metric::Custom(_) => {
                let rows = Rows::<f64>::new(self, Kernel::detect());
                let largest = |i: usize| {
                    let mut row = vec![0.0; self.dim().1];
                    rows.write_row(i, 0..row.len(), &mut row);
                    row.into_iter().filter(|c| c.is_finite()).fold(0.0, |a: f64, c| a.max(c.abs()))
                };
                (0..self.dim().0).into_par_iter().map(largest).reduce(|| 0.0, f64::max)
            }
        }
    }

    /// `sum_j weight_j d c(x_i, y_j) / d x_i` for a built-in metric, with the weights of row `i`; `None` for
    /// [`Metric::Custom`]. Where the Euclidean distance is 0 it has no derivative, and 0 (its smallest subgradient) counts.
    pub(crate) fn pull(
        &self,
        x: ArrayView1<'_, f64>,
        y: ArrayView2<'_, f64>,
        weights: ArrayView1<'_, f64>,
    ) -> Option<Array1<f64>> {
        let mut out = Array1::<f64>::zeros(x.len());
        for (y, &weight) in y.outer_iter().zip(weights) {
            if weight == 0.0 {
                continue;
            }
            match self.metric {
                Metric::SquaredEuclidean => out.scaled_add(2.0 * weight, &(&x - &y)),
                Metric::Euclidean => {
                    let difference = &x - &y;
                    let length = norm(difference.view());
                    if length > 0.0 {
                        out.scaled_add(weight / length, &difference);
                    }
                }
                Metric::Cosine => {
                    let (nx, ny) = (norm(x), norm(y));
                    let cosine = x.dot(&y) / (nx * ny);
                    out.scaled_add(weight * cosine / (nx * nx), &x);
                    out.scaled_add(-weight / (nx * ny), &y);
                }
                Metric::Custom(_) => return None,
            }
        }
        Some(out)
    }
}

fn norm(point: ArrayView1<'_, f64>) -> f64 {
    // Scaled, so that squares of small coordinates do not vanish.
    let largest = point.iter().fold(0.0_f64, |a, v| a.max(v.abs()));
    if largest == 0.0 { 0.0 } else { largest * point.iter().map(|v| (v / largest).powi(2)).sum::<f64>().sqrt() }
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
                    let length = norm(point.view());
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
