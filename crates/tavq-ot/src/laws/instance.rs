//! Problems to try a solver on, each kind aimed at a way to go wrong.

use std::fmt;

use ndarray::{Array1, Array2};
use proptest::prelude::*;

use crate::{OtError, Problem};

/// A kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Costs between 0 and 1 unit and masses without structure.
    Random,
    /// Uniform masses, costs of 0, 1/2 or 1 unit: many optimal plans, every pivot a tie.
    Degenerate,
    /// Two tight clusters on each side, squared distances.
    Clustered,
    /// Some masses are 0.
    ZeroMass,
    /// Some costs are +inf; a plan that uses every allowed arc exists.
    Forbidden,
    /// Totals that differ within [`crate::MASS_SLACK`].
    NearEqualMass,
    /// Costs up to 10,000 units: epsilon is tiny beside them.
    WideCost,
    /// One source or one target.
    SingleLine,
    /// Every point twice, on both sides, squared distances.
    Duplicated,
    /// The target has 1.7 times the mass of the source; for solvers that prescribe no marginals.
    UnequalMass,
    /// Some costs are +inf and no plan exists.
    Infeasible,
}

impl Kind {
    /// Every kind that has a plan with its masses as marginals.
    pub const SOLVABLE: [Self; 9] = [
        Self::Random,
        Self::Degenerate,
        Self::Clustered,
        Self::ZeroMass,
        Self::Forbidden,
        Self::NearEqualMass,
        Self::WideCost,
        Self::SingleLine,
        Self::Duplicated,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::Degenerate => "degenerate",
            Self::Clustered => "clustered",
            Self::ZeroMass => "zero-mass",
            Self::Forbidden => "forbidden-arcs",
            Self::NearEqualMass => "near-equal-mass",
            Self::WideCost => "wide-cost",
            Self::SingleLine => "single-line",
            Self::Duplicated => "duplicated-points",
            Self::UnequalMass => "unequal-mass",
            Self::Infeasible => "infeasible",
        })
    }
}

/// A problem that owns its arrays.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// What it was made to be.
    pub kind: Kind,
    /// n x m.
    pub cost: Array2<f64>,
    /// n masses.
    pub source: Array1<f64>,
    /// m masses.
    pub target: Array1<f64>,
}

impl Instance {
    /// The view that solvers take; [`Problem::unbalanced`], since totals may differ ([`Kind::UnequalMass`]).
    pub fn problem(&self) -> Result<Problem<'_>, OtError> {
        Problem::unbalanced(self.cost.view(), self.source.view(), self.target.view())
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows: Vec<Vec<f64>> = self.cost.outer_iter().map(|row| row.to_vec()).collect();
        let (source, target) = (self.source.to_vec(), self.target.to_vec());
        write!(f, "{} problem: cost {rows:?}, source {source:?}, target {target:?}", self.kind)
    }
}

/// The whole numbers that an instance is built from; they shrink by themselves.
#[derive(Debug, Clone)]
struct Seed {
    rows: usize,
    columns: usize,
    numbers: Vec<u8>,
    source: Vec<u8>,
    target: Vec<u8>,
}

/// Instances of one kind with at most `max_points` (>= 2) points a side and costs in multiples of `unit` (> 0).
///
/// Shrinks towards fewer points and smaller numbers. The laws of an entropic solver use 5 epsilon as the unit, so
/// that every kind but [`Kind::WideCost`] converges in a few thousand iterations at any epsilon.
pub fn instances(kind: Kind, max_points: usize, unit: f64) -> BoxedStrategy<Instance> {
    let most = max_points.max(2);
    (
        1..=most,
        1..=most,
        prop::collection::vec(0_u8..=100, most * most),
        prop::collection::vec(1_u8..=20, most),
        prop::collection::vec(1_u8..=20, most),
    )
        .prop_map(move |(rows, columns, numbers, source, target)| {
            let mut instance = build(kind, most, &Seed { rows, columns, numbers, source, target });
            instance.cost *= unit;
            instance
        })
        .boxed()
}

fn build(kind: Kind, most: usize, seed: &Seed) -> Instance {
    let (n, m) = match kind {
        Kind::Degenerate => (seed.rows, seed.rows),
        Kind::SingleLine if seed.numbers[0].is_multiple_of(2) => (1, seed.columns),
        Kind::SingleLine => (seed.rows, 1),
        Kind::Infeasible => (seed.rows, seed.columns.max(2)),
        _ => (seed.rows, seed.columns),
    };
    let number = |i: usize, j: usize| seed.numbers[i * most + j];
    let share = |i: usize, j: usize| f64::from(number(i, j)) / 100.0;
    let random = || Array2::from_shape_fn((n, m), |(i, j)| share(i, j));
    let (source, target) = (normalized(&seed.source[..n]), normalized(&seed.target[..m]));
    let (cost, source, target) = match kind {
        Kind::Random | Kind::SingleLine => (random(), source, target),
        Kind::Degenerate => {
            let cost = Array2::from_shape_fn((n, m), |(i, j)| f64::from(number(i, j) % 3) / 2.0);
            (cost, normalized(&vec![1; n]), normalized(&vec![1; m]))
        }
        Kind::Clustered => {
            let place = |i: usize, j: usize| f64::from(number(i, j) % 2) + 0.02 * share(i, j);
            let cost = |(i, j)| f64::powi(place(i, 0) - place(most - 1 - j, most - 1), 2);
            (Array2::from_shape_fn((n, m), cost), source, target)
        }
        Kind::ZeroMass => (random(), with_zeros(&seed.source[..n]), with_zeros(&seed.target[..m])),
        Kind::Forbidden => forbidden(n, m, number),
        Kind::NearEqualMass => (random(), source, target * (1.0 + 0.9e-6 * (share(0, 0) - 0.5))),
        Kind::WideCost => (random() * 10_000.0, source, target),
        Kind::UnequalMass => (random(), source, target * 1.7),
        Kind::Duplicated => {
            let place = |k: usize| (share(k / 2, 0), share(k / 2, 1));
            let cost = |(i, j)| {
                let ((x, y), (u, v)): ((f64, f64), (f64, f64)) = (place(i), place(j));
                (x - u).powi(2) + (y - v).powi(2)
            };
            (Array2::from_shape_fn((n, m), cost), source, target)
        }
        Kind::Infeasible => blocked(random(), &seed.source[..n], &seed.target[..m]),
    };
    Instance { kind, cost, source, target }
}

fn normalized(weights: &[u8]) -> Array1<f64> {
    let weights = weights.iter().map(|&w| f64::from(w)).collect::<Array1<f64>>();
    &weights / weights.sum()
}

/// Weights up to 7 become 0, the last one stays.
fn with_zeros(weights: &[u8]) -> Array1<f64> {
    let last = weights.len() - 1;
    let kept: Vec<u8> = weights.iter().enumerate().map(|(k, &w)| if w > 7 || k == last { w } else { 0 }).collect();
    normalized(&kept)
}

/// A third of the arcs forbidden; the masses are the marginals of a plan that is positive on all others.
fn forbidden(n: usize, m: usize, number: impl Fn(usize, usize) -> u8) -> (Array2<f64>, Array1<f64>, Array1<f64>) {
    let allowed = |i: usize, j: usize| i % m == j || j % n == i || !number(i, j).is_multiple_of(3);
    let plan = Array2::from_shape_fn((n, m), |(i, j)| {
        if allowed(i, j) { 1.0 + f64::from(number(i, j).wrapping_mul(7) % 10) } else { 0.0 }
    });
    let cost =
        Array2::from_shape_fn(
            (n, m),
            |(i, j)| {
                if allowed(i, j) { f64::from(number(i, j)) / 100.0 } else { f64::INFINITY }
            },
        );
    let total = plan.sum();
    (cost, plan.sum_axis(ndarray::Axis(1)) / total, plan.sum_axis(ndarray::Axis(0)) / total)
}

/// The first source may go to the first target alone, which holds less.
fn blocked(mut cost: Array2<f64>, source: &[u8], target: &[u8]) -> (Array2<f64>, Array1<f64>, Array1<f64>) {
    cost.row_mut(0).iter_mut().skip(1).for_each(|c| *c = f64::INFINITY);
    let (mut source, mut target) = (source.to_vec(), target.to_vec());
    // At most 6 points a side would do with any weight here; 200 of 255 holds for up to 40.
    source[0] = 200;
    target[0] = 1;
    (cost, normalized(&source), normalized(&target))
}
