//! What goes into a solver. A [`Problem`] exists only when it passed every check, so a solver, also one written
//! elsewhere, starts from sound numbers and never repeats the checks.

use ndarray::{Array1, ArrayView1, ArrayView2, Axis};
use rayon::prelude::*;

use crate::coupling::Objective;
use crate::error::{OtError, Side};

/// Relative difference of the two totals that is still taken as equal; it covers masses rounded to f32.
///
/// [`Problem::balanced_masses`] then scales both sides to the mean of the two totals. A pattern of forbidden arcs
/// counts as feasible when all but this share of the mass can move.
pub const MASS_SLACK: f64 = 1e-6;

/// Largest magnitude of a finite cost, of a total mass and of epsilon; their products stay within f64.
pub(crate) const LARGEST: f64 = 1e150;
/// Smallest total mass and smallest epsilon.
pub(crate) const SMALLEST: f64 = 1e-150;

/// Masses `source` (n), `target` (m) and the `cost` (n x m) of moving one unit between them.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    cost: ArrayView2<'a, f64>,
    source: ArrayView1<'a, f64>,
    target: ArrayView1<'a, f64>,
    total: f64,
    factors: [f64; 2],
    costs: CostRange,
    balanced: bool,
}

impl<'a> Problem<'a> {
    /// The problem, when it is one.
    ///
    /// * `cost` is n x m with n, m >= 1, every entry of magnitude at most 1e150 or +inf (forbidden arc);
    /// * `source` holds n and `target` m masses, finite, >= 0, not all 0, total between 1e-150 and 1e150;
    /// * the two totals agree to a relative [`MASS_SLACK`].
    ///
    /// The first check that fails, in this order, gives the [`OtError`]. Whether forbidden arcs leave a plan at
    /// all is found by the solver ([`OtError::Infeasible`]).
    pub fn new(
        cost: ArrayView2<'a, f64>,
        source: ArrayView1<'a, f64>,
        target: ArrayView1<'a, f64>,
    ) -> Result<Self, OtError> {
        let problem = Self::unbalanced(cost, source, target)?;
        problem.check_balanced()?;
        Ok(problem)
    }

    /// A problem whose totals may differ, for solvers that need not move all mass. A solver of the balanced problem
    /// refuses it with [`OtError::MassesDiffer`].
    ///
    /// The checks are those of [`Problem::new`] but the last.
    pub fn unbalanced(
        cost: ArrayView2<'a, f64>,
        source: ArrayView1<'a, f64>,
        target: ArrayView1<'a, f64>,
    ) -> Result<Self, OtError> {
        check_shapes(cost.dim(), source, target)?;
        let costs = check_costs(cost)?;
        let Totals { total, factors, balanced, .. } = Totals::of(source, target)?;
        Ok(Self { cost, source, target, total, factors, costs, balanced })
    }

    /// n x m, finite or +inf (forbidden).
    #[must_use]
    pub fn cost(&self) -> ArrayView2<'a, f64> {
        self.cost
    }

    /// n masses, >= 0, as given.
    #[must_use]
    pub fn source(&self) -> ArrayView1<'a, f64> {
        self.source
    }

    /// m masses, >= 0, as given.
    #[must_use]
    pub fn target(&self) -> ArrayView1<'a, f64> {
        self.target
    }

    /// n and m.
    #[must_use]
    pub fn dim(&self) -> (usize, usize) {
        self.cost.dim()
    }

    /// The mass that a plan carries: the mean of the two totals. Of an unbalanced problem it is no more than that mean.
    #[must_use]
    pub fn total_mass(&self) -> f64 {
        self.total
    }

    /// Whether some cost is +inf.
    #[must_use]
    pub fn has_forbidden_arcs(&self) -> bool {
        self.costs.forbidden
    }

    /// The finite costs.
    pub(crate) fn cost_range(&self) -> CostRange {
        self.costs
    }

    /// Both mass vectors scaled to [`Problem::total_mass`]; unchanged when the totals are equal already or the problem is
    /// unbalanced.
    #[must_use]
    pub fn balanced_masses(&self) -> (Array1<f64>, Array1<f64>) {
        (&self.source * self.factors[0], &self.target * self.factors[1])
    }

    /// The masses that an objective is about: balanced where it prescribes both marginals, as given otherwise.
    pub(crate) fn masses_of(&self, objective: Objective) -> (Array1<f64>, Array1<f64>) {
        let prescribed = match objective {
            Objective::Linear | Objective::Entropic { .. } => true,
            Objective::Unbalanced { strengths, .. } => strengths == [f64::INFINITY; 2],
            Objective::Partial { .. } | Objective::EntropicPartial { .. } => false,
        };
        if prescribed { self.balanced_masses() } else { (self.source.to_owned(), self.target.to_owned()) }
    }

    /// The same problem with the two sides exchanged.
    #[must_use]
    pub fn transposed(&self) -> Self {
        Self {
            cost: self.cost.reversed_axes(),
            source: self.target,
            target: self.source,
            factors: [self.factors[1], self.factors[0]],
            ..*self
        }
    }

    /// [`OtError::MassesDiffer`] when the totals differ by more than [`MASS_SLACK`], as those of
    /// [`Problem::unbalanced`] may.
    pub fn check_balanced(&self) -> Result<(), OtError> {
        if self.balanced { Ok(()) } else { Totals::of(self.source, self.target)?.check_balanced() }
    }

    /// [`Problem::check_balanced`], then [`OtError::Infeasible`] when the forbidden arcs leave no plan; free when there is
    /// no forbidden arc, else one run of the simplex. Solvers of the balanced problem other than [`crate::Exact`] call it
    /// before they iterate.
    pub fn check_feasible(&self) -> Result<(), OtError> {
        self.check_balanced()?;
        if self.costs.forbidden { crate::exact::check_feasible(self) } else { Ok(()) }
    }
}

/// What the two totals come to.
pub(crate) struct Totals {
    /// Mean of both.
    pub(crate) total: f64,
    pub(crate) factors: [f64; 2],
    balanced: bool,
    sides: [f64; 2],
}

impl Totals {
    pub(crate) fn of(source: ArrayView1<'_, f64>, target: ArrayView1<'_, f64>) -> Result<Self, OtError> {
        let source = check_masses(Side::Source, source)?;
        let target = check_masses(Side::Target, target)?;
        let balanced = (source - target).abs() <= MASS_SLACK * source.max(target);
        let total = 0.5 * (source + target);
        let factors = if balanced { [total / source, total / target] } else { [1.0; 2] };
        Ok(Self { total, factors, balanced, sides: [source, target] })
    }

    pub(crate) fn check_balanced(&self) -> Result<(), OtError> {
        let [source_total, target_total] = self.sides;
        if self.balanced { Ok(()) } else { Err(OtError::MassesDiffer { source_total, target_total }) }
    }
}

/// Refuses an empty matrix and masses of another length than its sides.
pub(crate) fn check_shapes(
    (rows, columns): (usize, usize),
    source: ArrayView1<'_, f64>,
    target: ArrayView1<'_, f64>,
) -> Result<(), OtError> {
    if rows == 0 || columns == 0 {
        return Err(OtError::EmptyCost { rows, columns });
    }
    for (side, expected, found) in [(Side::Source, rows, source.len()), (Side::Target, columns, target.len())] {
        if expected != found {
            return Err(OtError::MassLength { side, expected, found });
        }
    }
    Ok(())
}

/// What a pass over the cost matrix finds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CostRange {
    /// Lowest and highest finite cost; both 0 where there is none.
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    /// Whether some cost is +inf.
    pub(crate) forbidden: bool,
}

impl CostRange {
    /// Largest magnitude of a finite cost.
    pub(crate) fn largest(&self) -> f64 {
        self.lowest.abs().max(self.highest.abs())
    }
}

/// Costs that one task should check at least.
const GRAIN: usize = 1 << 16;

/// Refuses NaN, -inf and overlarge costs; what the others are otherwise.
fn check_costs(cost: ArrayView2<'_, f64>) -> Result<CostRange, OtError> {
    let rows = cost.nrows().div_ceil((cost.len() / GRAIN).clamp(1, 64));
    let parts: Vec<_> = if rows == cost.nrows() {
        vec![check_rows(0, cost)]
    } else {
        let blocks = cost.axis_chunks_iter(Axis(0), rows).into_par_iter().enumerate();
        blocks.map(|(k, block)| check_rows(k * rows, block)).collect()
    };
    let (mut low, mut high, mut forbidden) = (f64::INFINITY, f64::NEG_INFINITY, false);
    for part in parts {
        let (lowest, highest, some_forbidden) = part?;
        (low, high, forbidden) = (low.min(lowest), high.max(highest), forbidden || some_forbidden);
    }
    let (lowest, highest) = if low <= high { (low, high) } else { (0.0, 0.0) };
    Ok(CostRange { lowest, highest, forbidden })
}

/// Lowest and highest finite cost of some rows, and whether one is +inf.
fn check_rows(first: usize, cost: ArrayView2<'_, f64>) -> Result<(f64, f64, bool), OtError> {
    let (mut low, mut high, mut forbidden) = (f64::INFINITY, f64::NEG_INFINITY, false);
    for (row, costs) in cost.outer_iter().enumerate() {
        let row = first + row;
        if let Some((lowest, highest)) = costs.to_slice().and_then(plain_range) {
            (low, high) = (low.min(lowest), high.max(highest));
            continue;
        }
        for (column, &value) in costs.iter().enumerate() {
            check_cost(row, column, value)?;
            if value == f64::INFINITY {
                forbidden = true;
            } else {
                (low, high) = (low.min(value), high.max(value));
            }
        }
    }
    Ok((low, high, forbidden))
}

/// Refuses NaN, -inf and overlarge magnitudes; +inf is a cost.
pub(crate) fn check_cost(row: usize, column: usize, value: f64) -> Result<(), OtError> {
    if value.is_nan() {
        Err(OtError::CostNan { row, column })
    } else if value == f64::NEG_INFINITY {
        Err(OtError::CostNegativeInfinity { row, column })
    } else if value != f64::INFINITY && value.abs() > LARGEST {
        Err(OtError::CostRange { row, column, value })
    } else {
        Ok(())
    }
}

/// Lowest and highest cost when all are numbers of at most the largest magnitude. Branch-free over fixed lanes, so that the
/// compiler can vectorise it.
fn plain_range(costs: &[f64]) -> Option<(f64, f64)> {
    const LANES: usize = 8;
    let (mut low, mut high) = ([LARGEST; LANES], [-LARGEST; LANES]);
    let mut plain = [true; LANES];
    let mut take = |k: usize, cost: f64| {
        plain[k] &= cost.abs() <= LARGEST;
        low[k] = if cost < low[k] { cost } else { low[k] };
        high[k] = if cost > high[k] { cost } else { high[k] };
    };
    let (chunks, rest) = costs.as_chunks::<LANES>();
    for chunk in chunks {
        chunk.iter().enumerate().for_each(|(k, &cost)| take(k, cost));
    }
    rest.iter().enumerate().for_each(|(k, &cost)| take(k, cost));
    let range = (low.into_iter().fold(LARGEST, f64::min), high.into_iter().fold(-LARGEST, f64::max));
    plain.iter().all(|&plain| plain).then_some(range)
}

/// Refuses masses that are no weights; their total otherwise.
fn check_masses(side: Side, masses: ArrayView1<'_, f64>) -> Result<f64, OtError> {
    for (index, &value) in masses.iter().enumerate() {
        if value.is_nan() {
            return Err(OtError::MassNan { side, index });
        }
        if value < 0.0 {
            return Err(OtError::MassNegative { side, index, value });
        }
        if value == f64::INFINITY {
            return Err(OtError::MassInfinite { side, index });
        }
    }
    let total = sum(masses.iter().copied());
    if total == 0.0 {
        return Err(OtError::MassAllZero { side, count: masses.len() });
    }
    if (SMALLEST..=LARGEST).contains(&total) { Ok(total) } else { Err(OtError::MassRange { side, total }) }
}

/// Neumaier's compensated sum: the total of a histogram must not depend on the order of its bins.
pub(crate) fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let (mut total, mut lost) = (0.0_f64, 0.0_f64);
    for value in values {
        let next = total + value;
        lost += if total.abs() >= value.abs() { (total - next) + value } else { (value - next) + total };
        total = next;
    }
    let corrected = total + lost;
    // An overflow leaves inf - inf in the correction.
    if corrected.is_nan() { total } else { corrected }
}
