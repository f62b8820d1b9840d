//! Transport between Gaussians in closed form (Dowson and Landau 1982; Givens and Shortt 1984; the map: Olkin and
//! Pukelsheim 1982).
//!
//! The cross term `tr (S1^1/2 S2 S1^1/2)^1/2` is the sum of the singular values of `L1^T L2` for any `S = L L^T`. Taken so,
//! no root is drawn from a difference, and a zero of a singular covariance stays one.

use std::borrow::Cow;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};

use crate::eigen::{nuclear_norm, symmetric};
use crate::error::OtError;
use crate::points::LARGEST_COORDINATE;

/// Two mirrored entries may differ by this share of the largest entry; their mean counts.
const ASYMMETRY: f64 = 1e-10;
/// An eigenvalue may be below 0 by this share of the largest one; it counts as 0.
const INDEFINITE: f64 = 1e-10;

/// A normal distribution in d dimensions; the covariance may be singular.
///
/// ```
/// use ndarray::array;
/// use tavq_ot::Gaussian;
///
/// let one = Gaussian::new(array![0.0, 0.0].view(), array![[2.0, 1.0], [1.0, 2.0]].view())?;
/// let two = Gaussian::new(array![3.0, 4.0].view(), array![[8.0, 4.0], [4.0, 8.0]].view())?;
/// // The means are 5 apart, and the second is twice as wide.
/// assert!((one.squared_distance(&two)? - (25.0 + 4.0)).abs() < 1e-12);
/// let moved = one.map_to(&two)?.apply(array![1.0, -1.0].view());
/// assert!((moved - array![5.0, 2.0]).iter().all(|off| off.abs() < 1e-12));
/// # Ok::<(), tavq_ot::OtError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Gaussian {
    mean: Array1<f64>,
    covariance: Covariance,
}

#[derive(Debug, Clone, PartialEq)]
enum Covariance {
    Diagonal(Array1<f64>),
    /// Eigenvalues (>= 0, ascending) and eigenvectors (columns).
    Full {
        values: Array1<f64>,
        vectors: Array2<f64>,
        matrix: Array2<f64>,
    },
}

/// `x -> matrix x + shift`.
#[derive(Debug, Clone, PartialEq)]
pub struct AffineMap {
    /// d x d, symmetric and positive semidefinite for a map between Gaussians.
    pub matrix: Array2<f64>,
    /// d.
    pub shift: Array1<f64>,
}

impl AffineMap {
    /// The image of a point (d coordinates).
    #[must_use]
    pub fn apply(&self, point: ArrayView1<'_, f64>) -> Array1<f64> {
        self.matrix.dot(&point) + &self.shift
    }
}

impl Gaussian {
    /// Mean (d) and covariance (d x d).
    ///
    /// d >= 1 and one d for both ([`OtError::GaussianShape`]); a mean of magnitude at most 1e70
    /// ([`OtError::GaussianMean`]); entries of magnitude at most 1e140 ([`OtError::CovarianceValue`]), symmetric up to
    /// 1e-10 of the largest entry ([`OtError::CovarianceAsymmetric`]); no eigenvalue below 0 by more than 1e-10 of the largest
    /// one ([`OtError::CovarianceNegative`]). The first check that fails, in this order, gives the error.
    pub fn new(mean: ArrayView1<'_, f64>, covariance: ArrayView2<'_, f64>) -> Result<Self, OtError> {
        if mean.is_empty() || covariance.dim() != (mean.len(), mean.len()) {
            return Err(OtError::GaussianShape { mean: mean.len(), covariance: covariance.dim() });
        }
        check_mean(mean)?;
        let matrix = check_symmetric(covariance)?;
        let (mut values, vectors) = symmetric(&matrix);
        if values[0] < -INDEFINITE * largest(&values) {
            return Err(OtError::CovarianceNegative { index: 0, eigenvalue: values[0] });
        }
        drop_noise(&mut values);
        Ok(Self { mean: mean.to_owned(), covariance: Covariance::Full { values, vectors, matrix } })
    }

    /// Mean (d) and variances (d) of independent coordinates. Errors as for [`Gaussian::new`]; the index of a negative
    /// variance is its place.
    pub fn diagonal(mean: ArrayView1<'_, f64>, variances: ArrayView1<'_, f64>) -> Result<Self, OtError> {
        if mean.is_empty() || variances.len() != mean.len() {
            return Err(OtError::GaussianShape { mean: mean.len(), covariance: (variances.len(), variances.len()) });
        }
        check_mean(mean)?;
        for (index, &value) in variances.iter().enumerate() {
            check_entry(index, index, value)?;
            if value < 0.0 {
                return Err(OtError::CovarianceNegative { index, eigenvalue: value });
            }
        }
        Ok(Self { mean: mean.to_owned(), covariance: Covariance::Diagonal(variances.to_owned()) })
    }

    /// d.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.mean.len()
    }

    /// The squared 2-Wasserstein distance,
    /// `|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)`, >= 0. [`OtError::GaussianDimension`] when the two d differ.
    pub fn squared_distance(&self, other: &Self) -> Result<f64, OtError> {
        self.check_dimension(other)?;
        let shift = &self.mean - &other.mean;
        let shape = match (&self.covariance, &other.covariance) {
            (Covariance::Diagonal(a), Covariance::Diagonal(b)) => {
                a.iter().zip(b).map(|(a, b)| (a.sqrt() - b.sqrt()).powi(2)).sum()
            }
            (a, b) => a.trace() + b.trace() - 2.0 * nuclear_norm(&a.factor().t().dot(&b.factor())),
        };
        Ok(shift.dot(&shift) + shape.max(0.0))
    }

    /// The optimal map to `other`, `x -> m2 + T (x - m1)` with `T = S1^-1/2 (S1^1/2 S2 S1^1/2)^1/2 S1^-1/2`.
    ///
    /// [`OtError::GaussianDimension`] when the two d differ, [`OtError::CovarianceSingular`] when `S1` has an eigenvalue of
    /// 0: then a map need not exist.
    pub fn map_to(&self, other: &Self) -> Result<AffineMap, OtError> {
        self.check_dimension(other)?;
        let (values, vectors) = self.covariance.eigen();
        if let Some(index) = values.iter().position(|&v| v == 0.0) {
            return Err(OtError::CovarianceSingular { index });
        }
        let between = |power: fn(f64) -> f64, values: &Array1<f64>, vectors: &Array2<f64>| {
            (vectors * &values.mapv(power)).dot(&vectors.t())
        };
        let (half, inverse) = (between(f64::sqrt, &values, &vectors), between(|v| v.sqrt().recip(), &values, &vectors));
        let product = half.dot(&*other.covariance.matrix()).dot(&half);
        let (mut cross, directions) = symmetric(&(0.5 * (&product + &product.t())));
        drop_noise(&mut cross);
        let root = between(f64::sqrt, &cross, &directions);
        let matrix = inverse.dot(&root).dot(&inverse);
        let shift = &other.mean - &matrix.dot(&self.mean);
        Ok(AffineMap { matrix, shift })
    }

    fn check_dimension(&self, other: &Self) -> Result<(), OtError> {
        let (source, target) = (self.dimension(), other.dimension());
        if source == target {
            Ok(())
        } else {
            Err(OtError::GaussianDimension { source_dimension: source, target_dimension: target })
        }
    }
}

fn largest(values: &Array1<f64>) -> f64 {
    values.iter().fold(0.0, |largest: f64, v| largest.max(v.abs()))
}

/// Sets the eigenvalues to 0 that rounding may have left of one: in a root they would be 1e8 times as large.
fn drop_noise(values: &mut Array1<f64>) {
    let noise = values.len() as f64 * f64::EPSILON * largest(values);
    values.mapv_inplace(|v| if v <= noise { 0.0 } else { v });
}

impl Covariance {
    fn trace(&self) -> f64 {
        match self {
            Self::Diagonal(variances) => variances.sum(),
            Self::Full { matrix, .. } => matrix.diag().sum(),
        }
    }

    /// `L` with `L L^T` the covariance.
    fn factor(&self) -> Array2<f64> {
        let (values, vectors) = self.eigen();
        vectors.into_owned() * &values.mapv(f64::sqrt)
    }

    fn eigen(&self) -> (Cow<'_, Array1<f64>>, Cow<'_, Array2<f64>>) {
        match self {
            Self::Diagonal(variances) => (Cow::Borrowed(variances), Cow::Owned(Array2::eye(variances.len()))),
            Self::Full { values, vectors, .. } => (Cow::Borrowed(values), Cow::Borrowed(vectors)),
        }
    }

    fn matrix(&self) -> Cow<'_, Array2<f64>> {
        match self {
            Self::Diagonal(variances) => Cow::Owned(Array2::from_diag(variances)),
            Self::Full { matrix, .. } => Cow::Borrowed(matrix),
        }
    }
}

fn check_mean(mean: ArrayView1<'_, f64>) -> Result<(), OtError> {
    match mean.iter().enumerate().find(|(_, v)| v.is_nan() || v.abs() > LARGEST_COORDINATE) {
        Some((index, &value)) => Err(OtError::GaussianMean { index, value }),
        None => Ok(()),
    }
}

fn check_entry(row: usize, column: usize, value: f64) -> Result<(), OtError> {
    let fits = value.abs() <= LARGEST_COORDINATE * LARGEST_COORDINATE;
    if fits { Ok(()) } else { Err(OtError::CovarianceValue { row, column, value }) }
}

/// The mean of the matrix and its mirror, which hardly differ.
fn check_symmetric(matrix: ArrayView2<'_, f64>) -> Result<Array2<f64>, OtError> {
    let mut largest = 0.0_f64;
    for ((row, column), &value) in matrix.indexed_iter() {
        check_entry(row, column, value)?;
        largest = largest.max(value.abs());
    }
    for (row, values) in matrix.axis_iter(Axis(0)).enumerate() {
        for (column, &value) in values.iter().enumerate().take(row) {
            let mirrored = matrix[[column, row]];
            if (value - mirrored).abs() > ASYMMETRY * largest {
                return Err(OtError::CovarianceAsymmetric { row, column, value, mirrored });
            }
        }
    }
    Ok(0.5 * (&matrix + &matrix.t()))
}
