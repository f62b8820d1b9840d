//! What goes into a solver. A [`Problem`] exists only when it passed every check, so a solver, also one written
//! elsewhere, starts from sound numbers and never repeats the checks.

use ndarray::{Array1, ArrayView1, ArrayView2, Axis};

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
    forbidden: bool,
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
        let (rows, columns) = cost.dim();
        if rows == 0 || columns == 0 {
            return Err(OtError::EmptyCost { rows, columns });
        }
        for (side, expected, found) in [(Side::Source, rows, source.len()), (Side::Target, columns, target.len())] {
            if expected != found {
                return Err(OtError::MassLength { side, expected, found });
            }
        }
        let forbidden = check_cost(cost)?;
        let source_total = check_masses(Side::Source, source)?;
        let target_total = check_masses(Side::Target, target)?;
        if (source_total - target_total).abs() > MASS_SLACK * source_total.max(target_total) {
            return Err(OtError::MassesDiffer { source_total, target_total });
        }
        let total = 0.5 * (source_total + target_total);
        let factors = [total / source_total, total / target_total];
        Ok(Self { cost, source, target, total, factors, forbidden })
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

    /// The mass that a plan carries: the mean of the two totals.
    #[must_use]
    pub fn total_mass(&self) -> f64 {
        self.total
    }

    /// Whether some cost is +inf.
    #[must_use]
    pub fn has_forbidden_arcs(&self) -> bool {
        self.forbidden
    }

    /// Both mass vectors scaled to [`Problem::total_mass`]; unchanged when the totals are equal already.
    #[must_use]
    pub fn balanced_masses(&self) -> (Array1<f64>, Array1<f64>) {
        (&self.source * self.factors[0], &self.target * self.factors[1])
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

    /// [`OtError::Infeasible`] when the forbidden arcs leave no plan; free when there is no forbidden arc, else one
    /// run of the simplex. Solvers other than [`crate::Exact`] call it before they iterate.
    pub fn check_feasible(&self) -> Result<(), OtError> {
        if self.forbidden { crate::exact::check_feasible(self) } else { Ok(()) }
    }
}

/// Refuses NaN, -inf and overlarge costs; says whether some cost is +inf.
fn check_cost(cost: ArrayView2<'_, f64>) -> Result<bool, OtError> {
    let mut forbidden = false;
    for (row, costs) in cost.axis_iter(Axis(0)).enumerate() {
        if costs.iter().all(|c| c.abs() <= LARGEST) {
            continue;
        }
        for (column, &value) in costs.iter().enumerate() {
            if value.is_nan() {
                return Err(OtError::CostNan { row, column });
            }
            if value == f64::NEG_INFINITY {
                return Err(OtError::CostNegativeInfinity { row, column });
            }
            if value == f64::INFINITY {
                forbidden = true;
            } else if value.abs() > LARGEST {
                return Err(OtError::CostRange { row, column, value });
            }
        }
    }
    Ok(forbidden)
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
