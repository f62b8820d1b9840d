//! The points that take part: those of at least one unit of mass.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, CowArray, Ix2};

use crate::error::OtError;

/// Whole units that the total mass is counted in; sums of them stay far inside i64.
pub(crate) const UNITS: f64 = (1_u64 << 60) as f64;

/// Masses this close to each other count as one: what normalising equal weights leaves.
const ONE_MASS: f64 = 4.0 * f64::EPSILON;

/// The points of positive mass, and their masses in units.
pub(crate) struct Support {
    pub(crate) rows: Vec<usize>,
    pub(crate) columns: Vec<usize>,
    pub(crate) source: Vec<i64>,
    pub(crate) target: Vec<i64>,
}

impl Support {
    /// Masses of two sides that both come to `total` up to rounding.
    pub(crate) fn new(a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>, total: f64) -> Self {
        let (rows, mut source) = units(a, total);
        let (columns, mut target) = units(b, total);
        // Rounding leaves a few hundred units between the sides; the largest mass of the lighter side takes them.
        let missing = source.iter().sum::<i64>() - target.iter().sum::<i64>();
        let lighter = if missing > 0 { &mut target } else { &mut source };
        if let Some(largest) = lighter.iter_mut().rev().max_by_key(|mass| **mass) {
            *largest += missing.abs();
        }
        Self { rows, columns, source, target }
    }

    /// The mass that every point has, when the problem is an assignment.
    pub(crate) fn one_mass(&self, a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>) -> Result<f64, OtError> {
        let (sources, targets) = (self.rows.len(), self.columns.len());
        let masses = || self.rows.iter().map(|&i| a[i]).chain(self.columns.iter().map(|&j| b[j]));
        let (low, high) =
            masses().fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), mass| (low.min(mass), high.max(mass)));
        if sources != targets || high - low > ONE_MASS * high {
            return Err(OtError::NotAssignment { sources, targets, lowest: low, highest: high });
        }
        Ok(0.5 * (low + high))
    }

    /// Potentials of the support's columns among all columns; NaN at the others.
    pub(crate) fn spread(&self, potentials: &[f64], columns: usize) -> Array1<f64> {
        let mut g = Array1::from_elem(columns, f64::NAN);
        self.columns.iter().zip(potentials).for_each(|(&column, &potential)| g[column] = potential);
        g
    }

    /// The cost between points of the support, with contiguous rows.
    pub(crate) fn costs<'c>(&self, cost: ArrayView2<'c, f64>) -> CowArray<'c, f64, Ix2> {
        if (self.rows.len(), self.columns.len()) == cost.dim() && cost.is_standard_layout() {
            return CowArray::from(cost);
        }
        CowArray::from(Array2::from_shape_fn((self.rows.len(), self.columns.len()), |(i, j)| {
            cost[[self.rows[i], self.columns[j]]]
        }))
    }
}

/// Places and units of the masses that are at least one unit.
fn units(masses: ArrayView1<'_, f64>, total: f64) -> (Vec<usize>, Vec<i64>) {
    masses.iter().map(|mass| (mass / total * UNITS).round() as i64).enumerate().filter(|&(_, units)| units > 0).unzip()
}
