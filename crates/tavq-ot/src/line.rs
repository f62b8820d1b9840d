//! Transport on a line: for a cost that is a convex function of the difference, the plan that keeps the order is optimal
//! (Santambrogio 2015, section 2.2), and a walk along it gives the duals. Sorting is all the work.
//!
//! Masses are counted in whole units as in the exact solver, so the walk ends where both sides do.

use ndarray::{Array1, ArrayView1};

use crate::coupling::{Coupling, Objective, Status};
use crate::error::{OtError, Side};
use crate::exact::{Support, UNITS, marginals, plan};
use crate::measure::dot;
use crate::points::LARGEST_COORDINATE;
use crate::problem::{LARGEST, Totals, check_shapes, sum};
use crate::simd::Kernel;

/// Exact transport between masses on a line at the cost `|x - y|^p`, p >= 1.
///
/// ```
/// use ndarray::array;
/// use tavq_ot::Line;
///
/// let (x, y) = (array![0.0, 2.0], array![3.0, 1.0]);
/// let half = array![0.5, 0.5];
/// let line = Line::new(x.view(), y.view(), half.view(), half.view(), 2.0)?;
/// assert_eq!(line.value(), 1.0);
/// assert_eq!(line.arcs(), [(0, 1, 0.5), (1, 0, 0.5)]);
/// # Ok::<(), tavq_ot::OtError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Line {
    x: Vec<f64>,
    y: Vec<f64>,
    masses: Balanced,
    power: f64,
    /// Source, target and units, in the order of the line.
    arcs: Vec<(u32, u32, i64)>,
}

impl Line {
    /// `n` sources at `x`, `m` targets at `y`, a mass each, and the power of the distance.
    ///
    /// n, m >= 1 ([`OtError::EmptyPoints`]); positions of magnitude at most 1e70 ([`OtError::PointValue`]); masses as for
    /// [`crate::Problem::new`]; `power` finite and >= 1 ([`OtError::Power`]); no cost above 1e150
    /// ([`OtError::CostRange`]). The first check that fails, in this order, gives the error.
    pub fn new(
        x: ArrayView1<'_, f64>,
        y: ArrayView1<'_, f64>,
        source: ArrayView1<'_, f64>,
        target: ArrayView1<'_, f64>,
        power: f64,
    ) -> Result<Self, OtError> {
        if x.is_empty() || y.is_empty() {
            return Err(OtError::EmptyPoints { sources: (x.len(), 1), targets: (y.len(), 1) });
        }
        for (side, places) in [(Side::Source, x), (Side::Target, y)] {
            if let Some((index, &value)) =
                places.iter().enumerate().find(|(_, v)| v.is_nan() || v.abs() > LARGEST_COORDINATE)
            {
                return Err(OtError::PointValue { side, index, coordinate: 0, value });
            }
        }
        check_shapes((x.len(), y.len()), source, target)?;
        let masses = Balanced::new(source, target)?;
        check_power(power)?;
        let (x, y) = (x.to_vec(), y.to_vec());
        check_reach(&x, &y, power)?;
        let mut arcs = Vec::new();
        let support = masses.support();
        Walk::new(&support).along(&support, &x, &y, |i, j, units| arcs.push((i as u32, j as u32, units)));
        Ok(Self { x, y, masses, power, arcs })
    }

    /// The transport cost: the p-th power of the Wasserstein distance for masses of total 1. Found in
    /// O(n log n + m log m) with everything else.
    #[must_use]
    pub fn value(&self) -> f64 {
        sum(self.arcs().into_iter().map(|(i, j, mass)| mass * self.cost(i, j)))
    }

    /// The plan as (source, target, mass > 0), at most n + m - 1 arcs, in the order of the line.
    #[must_use]
    pub fn arcs(&self) -> Vec<(usize, usize, f64)> {
        let mass = |units: i64| units as f64 / UNITS * self.masses.total;
        self.arcs.iter().map(|&(i, j, units)| (i as usize, j as usize, mass(units))).collect()
    }

    /// The dense plan with feasible duals, in O(n m).
    #[must_use]
    pub fn solve(&self) -> Coupling {
        let (a, b) = (&self.masses.source, &self.masses.target);
        let (f, g) = self.duals();
        let (flows, dim) = (self.arcs(), (self.x.len(), self.y.len()));
        let value = self.value();
        let (rows, columns) = marginals(dim, &flows);
        let distance = |sums: Array1<f64>, masses: &Array1<f64>| (sums - masses).mapv(f64::abs).sum();
        Coupling {
            plan: plan(dim, &flows),
            value,
            regularized_value: value,
            dual_value: dot(a.view(), f.view()) + dot(b.view(), g.view()),
            marginal_error: distance(rows, a).max(distance(columns, b)),
            iterations: 0,
            status: Status::Converged,
            objective: Objective::Linear,
            f,
            g,
        }
    }

    fn cost(&self, i: usize, j: usize) -> f64 {
        power_of((self.x[i] - self.y[j]).abs(), self.power)
    }

    /// Every arc of the walk is tight, and so is, where both sides step on at once, the arc from the next source to the
    /// target left behind; such a staircase is feasible for every convex cost. The c-transforms mend rounding, and give
    /// points of zero mass their duals.
    fn duals(&self) -> (Array1<f64>, Array1<f64>) {
        let (n, m) = (self.x.len(), self.y.len());
        let mut g = Array1::from_elem(m, f64::NAN);
        let mut last: Option<(usize, usize, f64)> = None;
        for &(i, j, _) in &self.arcs {
            let (i, j) = (i as usize, j as usize);
            let height = match last {
                None => 0.0,
                Some((before, _, height)) if before == i => height,
                Some((_, before, _)) => self.cost(i, before) - g[before],
            };
            if g[j].is_nan() {
                g[j] = self.cost(i, j) - height;
            }
            last = Some((i, j, height));
        }
        let kernel = Kernel::detect();
        let known: Vec<f64> = g.iter().map(|&g| if g.is_nan() { f64::NEG_INFINITY } else { g }).collect();
        let mut costs = vec![0.0; m];
        let f: Vec<f64> = (0..n)
            .map(|i| {
                (0..m).for_each(|j| costs[j] = self.cost(i, j));
                kernel.lowest(&costs, &known)
            })
            .collect();
        costs.resize(n, 0.0);
        for j in (0..m).filter(|&j| known[j] == f64::NEG_INFINITY) {
            (0..n).for_each(|i| costs[i] = self.cost(i, j));
            g[j] = kernel.lowest(&costs[..n], &f);
        }
        (Array1::from_vec(f), g)
    }
}

/// Both masses at one total.
#[derive(Debug, Clone)]
pub(crate) struct Balanced {
    source: Array1<f64>,
    target: Array1<f64>,
    pub(crate) total: f64,
}

impl Balanced {
    /// Checks the masses and scales them as a balanced problem does.
    pub(crate) fn new(source: ArrayView1<'_, f64>, target: ArrayView1<'_, f64>) -> Result<Self, OtError> {
        let totals = Totals::of(source, target)?;
        totals.check_balanced()?;
        let [a, b] = totals.factors;
        Ok(Self { source: &source * a, target: &target * b, total: totals.total })
    }

    pub(crate) fn support(&self) -> Support {
        Support::new(self.source.view(), self.target.view(), self.total)
    }
}

pub(crate) fn check_power(power: f64) -> Result<(), OtError> {
    if (1.0..f64::INFINITY).contains(&power) { Ok(()) } else { Err(OtError::Power { value: power }) }
}

/// Refuses a power that makes the cost of the two points farthest apart too large.
fn check_reach(x: &[f64], y: &[f64], power: f64) -> Result<(), OtError> {
    let ends = |places: &[f64]| {
        let order = |&(_, a): &(usize, &f64), &(_, b): &(usize, &f64)| a.total_cmp(b);
        let (low, high) = (places.iter().enumerate().min_by(order), places.iter().enumerate().max_by(order));
        (low.map_or(0, |low| low.0), high.map_or(0, |high| high.0))
    };
    let ((low_x, high_x), (low_y, high_y)) = (ends(x), ends(y));
    for (row, column) in [(low_x, high_y), (high_x, low_y)] {
        let value = power_of((x[row] - y[column]).abs(), power);
        if value > LARGEST {
            return Err(OtError::CostRange { row, column, value });
        }
    }
    Ok(())
}

/// `distance^power`.
pub(crate) fn power_of(distance: f64, power: f64) -> f64 {
    if power == 2.0 {
        distance * distance
    } else if power == 1.0 {
        distance
    } else {
        distance.powf(power)
    }
}

/// The walk along the plan that keeps the order. Holds the two orders, so that many lines can use one.
pub(crate) struct Walk {
    rows: Vec<u32>,
    columns: Vec<u32>,
}

impl Walk {
    pub(crate) fn new(support: &Support) -> Self {
        let count = |points: &[usize]| (0..points.len() as u32).collect();
        Self { rows: count(&support.rows), columns: count(&support.columns) }
    }

    /// Calls `visit(source, target, units)` for each arc, for points at `x` and `y`; ties in the order of the points.
    pub(crate) fn along(&mut self, support: &Support, x: &[f64], y: &[f64], mut visit: impl FnMut(usize, usize, i64)) {
        let sort = |order: &mut [u32], points: &[usize], places: &[f64]| {
            order.sort_unstable_by(|&a, &b| {
                places[points[a as usize]].total_cmp(&places[points[b as usize]]).then(a.cmp(&b))
            });
        };
        sort(&mut self.rows, &support.rows, x);
        sort(&mut self.columns, &support.columns, y);
        let (mut i, mut j) = (0, 0);
        let mut left = (0, 0);
        loop {
            if left.0 == 0 {
                let Some(&row) = self.rows.get(i) else { return };
                left.0 = support.source[row as usize];
                i += 1;
            }
            if left.1 == 0 {
                let Some(&column) = self.columns.get(j) else { return };
                left.1 = support.target[column as usize];
                j += 1;
            }
            let units = left.0.min(left.1);
            let (row, column) = (self.rows[i - 1] as usize, self.columns[j - 1] as usize);
            visit(support.rows[row], support.columns[column], units);
            left = (left.0 - units, left.1 - units);
        }
    }
}
