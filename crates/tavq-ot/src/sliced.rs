//! Sliced Wasserstein distance: points in space seen along random lines, where transport is sorting (Rabin, Peyre, Delon
//! and Bernot 2011; Bonneel, Rabin, Peyre and Pfister 2015).
//!
//! Direction k comes from stream k of one generator, and the directions are summed in groups whose number is fixed, so the
//! bits do not depend on the number of threads.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::error::OtError;
use crate::exact::{Support, UNITS};
use crate::line::{Balanced, Walk, check_power, power_of};
use crate::points::{Metric, Points};
use crate::problem::{LARGEST, check_shapes, sum};

/// Groups that the directions are summed in.
const GROUPS: usize = 32;

/// Sliced Wasserstein distance between two weighted sets of points, by Monte Carlo over directions.
///
/// ```
/// use ndarray::array;
/// use tavq_ot::Sliced;
///
/// let (x, y) = (array![[0.0, 0.0], [1.0, 0.0]], array![[0.0, 3.0], [1.0, 3.0]]);
/// let half = array![0.5, 0.5];
/// let found = Sliced::new(2000, 7)?.solve(x.view(), y.view(), half.view(), half.view())?;
/// // A shift by s costs |s|^2 / d.
/// assert!((found.value - 4.5).abs() < 4.0 * found.standard_error);
/// # Ok::<(), tavq_ot::OtError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sliced {
    projections: usize,
    seed: u64,
    power: f64,
}

/// What [`Sliced`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct SlicedDistance {
    /// Mean over the directions of the transport cost along them: the p-th power of the distance for masses of total 1.
    pub value: f64,
    /// Standard error of that mean as an estimate of the one over all directions; +inf for a single direction.
    pub standard_error: f64,
    /// Derivative of `value` with respect to the source points (n x d), the directions held. Where two points meet along a
    /// direction and p = 1, 0 counts, a subgradient.
    pub x_gradient: Array2<f64>,
    /// The same with respect to the target points (m x d).
    pub y_gradient: Array2<f64>,
}

impl Sliced {
    /// The distance with p = 2 over this many directions (>= 1, [`OtError::Projections`]), uniform on the sphere and the
    /// same for one `seed`.
    pub fn new(projections: usize, seed: u64) -> Result<Self, OtError> {
        if projections == 0 { Err(OtError::Projections) } else { Ok(Self { projections, seed, power: 2.0 }) }
    }

    /// Another power of the distance along a line, finite and >= 1 ([`OtError::Power`]).
    pub fn power(self, power: f64) -> Result<Self, OtError> {
        check_power(power)?;
        Ok(Self { power, ..self })
    }

    /// The distance between sources `x` (n x d) of masses `source` (n) and targets `y` (m x d) of masses `target` (m).
    ///
    /// Errors: those of [`Points::new`], of the masses as in [`crate::Problem::new`], and [`OtError::CostRange`] (with the
    /// place of the first pair of points) when the points are so far apart that a cost could exceed 1e150.
    pub fn solve(
        &self,
        x: ArrayView2<'_, f64>,
        y: ArrayView2<'_, f64>,
        source: ArrayView1<'_, f64>,
        target: ArrayView1<'_, f64>,
    ) -> Result<SlicedDistance, OtError> {
        let points = Points::new(x, y, Metric::SquaredEuclidean)?;
        check_shapes(points.dim(), source, target)?;
        let masses = Balanced::new(source, target)?;
        // No line sees points farther apart than space does.
        let reach = power_of(points.largest_cost()?.sqrt(), self.power);
        if reach > LARGEST {
            return Err(OtError::CostRange { row: 0, column: 0, value: reach });
        }
        let (support, total) = (masses.support(), masses.total);
        let groups = GROUPS.min(self.projections);
        let range = |group: usize| group * self.projections / groups..(group + 1) * self.projections / groups;
        let parts: Vec<Part> =
            (0..groups).into_par_iter().map(|group| self.part(x, y, &support, total, range(group))).collect();
        Ok(self.mean(parts, x.dim(), y.dim()))
    }

    /// The directions of one group, in order.
    fn part(
        &self,
        x: ArrayView2<'_, f64>,
        y: ArrayView2<'_, f64>,
        support: &Support,
        total: f64,
        directions: std::ops::Range<usize>,
    ) -> Part {
        let (mut walk, mut part) = (Walk::new(support), Part::new(x.dim(), y.dim()));
        let (mut pull_x, mut pull_y) = (vec![0.0; x.nrows()], vec![0.0; y.nrows()]);
        for k in directions {
            let direction = direction(self.seed, k as u64, x.ncols());
            let (places_x, places_y) = (x.dot(&direction).to_vec(), y.dot(&direction).to_vec());
            pull_x.fill(0.0);
            pull_y.fill(0.0);
            let mut value = 0.0;
            walk.along(support, &places_x, &places_y, |i, j, units| {
                let (mass, difference) = (units as f64 / UNITS * total, places_x[i] - places_y[j]);
                value += mass * power_of(difference.abs(), self.power);
                if difference != 0.0 {
                    let slope = self.power * power_of(difference.abs(), self.power - 1.0);
                    let pull = mass * slope.copysign(difference);
                    pull_x[i] += pull;
                    pull_y[j] -= pull;
                }
            });
            part.values.push(value);
            for (gradient, pulls) in [(&mut part.x_gradient, &pull_x), (&mut part.y_gradient, &pull_y)] {
                gradient.outer_iter_mut().zip(pulls).for_each(|(mut row, &pull)| row.scaled_add(pull, &direction));
            }
        }
        part
    }

    fn mean(&self, parts: Vec<Part>, x: (usize, usize), y: (usize, usize)) -> SlicedDistance {
        let count = self.projections as f64;
        let mut all = Part::new(x, y);
        for part in parts {
            all.values.extend(part.values);
            all.x_gradient += &part.x_gradient;
            all.y_gradient += &part.y_gradient;
        }
        let value = sum(all.values.iter().copied()) / count;
        let spread = sum(all.values.iter().map(|v| (v - value) * (v - value)));
        let standard_error =
            if self.projections == 1 { f64::INFINITY } else { (spread / (count - 1.0) / count).sqrt() };
        SlicedDistance { value, standard_error, x_gradient: all.x_gradient / count, y_gradient: all.y_gradient / count }
    }
}

/// Sums over some directions.
struct Part {
    values: Vec<f64>,
    x_gradient: Array2<f64>,
    y_gradient: Array2<f64>,
}

impl Part {
    fn new(x: (usize, usize), y: (usize, usize)) -> Self {
        Self { values: Vec::new(), x_gradient: Array2::zeros(x), y_gradient: Array2::zeros(y) }
    }
}

/// A direction uniform on the sphere: normal coordinates (Box and Muller 1958) at length 1.
fn direction(seed: u64, stream: u64, dimension: usize) -> Array1<f64> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(stream);
    // Above 0, so that the logarithm exists.
    let mut uniform = || ((generator.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    loop {
        let normal = || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        let normals = Array1::from_shape_simple_fn(dimension, normal);
        let length = normals.dot(&normals).sqrt();
        if length > 1e-100 {
            return normals / length;
        }
    }
}
