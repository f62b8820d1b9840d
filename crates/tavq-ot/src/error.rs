//! Everything that can be wrong with a problem, a parameter or a result, one variant each.
//!
//! A variant carries the place and the value, so that a caller can point at the entry of its own array
//! instead of parsing a message.

use std::fmt;

use crate::coupling::Status;

/// Which of the two mass vectors is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The rows of the cost.
    Source,
    /// The columns of the cost.
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Target => "target",
        })
    }
}

/// Why a problem, a parameter or a result was refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OtError {
    /// The cost has no entry.
    #[error("cost: expected at least 1 x 1, found {rows} x {columns}")]
    EmptyCost {
        /// Rows of the cost.
        rows: usize,
        /// Columns of the cost.
        columns: usize,
    },
    /// A mass vector does not have one mass per row (source) or column (target).
    #[error("{side} masses: expected {expected} (one per {} of the cost), found {found}",
        if *side == Side::Source { "row" } else { "column" })]
    MassLength {
        /// The vector.
        side: Side,
        /// Rows or columns of the cost.
        expected: usize,
        /// Length of the vector.
        found: usize,
    },
    /// A cost is NaN.
    #[error("cost[{row}, {column}]: expected a number or +inf, found NaN")]
    CostNan {
        /// Row of the entry.
        row: usize,
        /// Column of the entry.
        column: usize,
    },
    /// A cost is -inf.
    #[error("cost[{row}, {column}]: expected a number or +inf, found -inf")]
    CostNegativeInfinity {
        /// Row of the entry.
        row: usize,
        /// Column of the entry.
        column: usize,
    },
    /// A finite cost is so large that sums of costs could overflow.
    #[error("cost[{row}, {column}]: expected a magnitude of at most 1e150 (or +inf), found {value:e}")]
    CostRange {
        /// Row of the entry.
        row: usize,
        /// Column of the entry.
        column: usize,
        /// The cost.
        value: f64,
    },
    /// A mass is below zero.
    #[error("{side} mass[{index}]: expected at least 0, found {value}")]
    MassNegative {
        /// The vector.
        side: Side,
        /// Place of the mass.
        index: usize,
        /// The mass.
        value: f64,
    },
    /// A mass is NaN.
    #[error("{side} mass[{index}]: expected a number, found NaN")]
    MassNan {
        /// The vector.
        side: Side,
        /// Place of the mass.
        index: usize,
    },
    /// A mass is infinite.
    #[error("{side} mass[{index}]: expected a finite number, found inf")]
    MassInfinite {
        /// The vector.
        side: Side,
        /// Place of the mass.
        index: usize,
    },
    /// Every mass of one side is zero.
    #[error("{side} masses: expected a positive total, found {count} masses that are all 0")]
    MassAllZero {
        /// The vector.
        side: Side,
        /// Length of the vector.
        count: usize,
    },
    /// The total of one side is so small or so large that products with it could leave the range of f64.
    #[error("{side} masses: expected a total between 1e-150 and 1e150, found {total:e}")]
    MassRange {
        /// The vector.
        side: Side,
        /// Its total.
        total: f64,
    },
    /// A set of points is empty or has no coordinate.
    #[error("points: expected at least 1 x 1 on each side, found sources {} x {}, targets {} x {}",
        sources.0, sources.1, targets.0, targets.1)]
    EmptyPoints {
        /// Points and coordinates of the source.
        sources: (usize, usize),
        /// Points and coordinates of the target.
        targets: (usize, usize),
    },
    /// The two sets of points have different numbers of coordinates.
    #[error(
        "points: expected as many coordinates on both sides, found source {source_dimension} and target {target_dimension}"
    )]
    PointDimension {
        /// Coordinates of a source.
        source_dimension: usize,
        /// Coordinates of a target.
        target_dimension: usize,
    },
    /// A coordinate is NaN, infinite or so large that its square could overflow.
    #[error("{side} point[{index}, {coordinate}]: expected a magnitude of at most 1e70, found {value}")]
    PointValue {
        /// The set.
        side: Side,
        /// Place of the point.
        index: usize,
        /// Place of the coordinate.
        coordinate: usize,
        /// The coordinate.
        value: f64,
    },
    /// A point at 0 has no direction, which the cosine needs.
    #[error("{side} point[{index}]: expected a length above 0 (cosine cost), found 0")]
    PointZero {
        /// The set.
        side: Side,
        /// Place of the point.
        index: usize,
    },
    /// A block of costs was asked for that does not lie in the matrix, or in a buffer of another shape.
    #[error("block: expected rows and columns within {rows} x {columns} and a buffer of their shape, found an end at row {last_row}, column {last_column} and a buffer of {} x {}", found.0, found.1)]
    BlockShape {
        /// End of the rows asked for.
        last_row: usize,
        /// End of the columns asked for.
        last_column: usize,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
        /// Shape of the buffer.
        found: (usize, usize),
    },
    /// An epsilon beside which the costs leave no digits.
    #[error("epsilon: expected at least 1e-12 of the largest cost, {largest:e}, found {value:e}")]
    EpsilonTooSmall {
        /// The value given.
        value: f64,
        /// Largest magnitude of a cost.
        largest: f64,
    },
    /// Costs over epsilon beyond what single precision can tell apart.
    #[error("single precision: expected costs of at most 1e6 epsilon, found {ratio:e}")]
    SinglePrecision {
        /// Largest magnitude of a cost over epsilon.
        ratio: f64,
    },
    /// A strength of a marginal penalty is no usable number.
    #[error(
        "{side} strength: expected between 1e-12 and 1e12 times epsilon (+inf for an exact marginal), found {value}"
    )]
    Strength {
        /// The marginal.
        side: Side,
        /// The value given.
        value: f64,
    },
    /// The mass of a partial plan is no positive number.
    #[error("mass: expected a number above 0, found {value}")]
    PartialMass {
        /// The value given.
        value: f64,
    },
    /// A partial plan was asked to move more than one side has.
    #[error("mass: expected at most {available}, the smaller total of the two sides, found {value}")]
    PartialMassTooLarge {
        /// The value given.
        value: f64,
        /// The smaller total.
        available: f64,
    },
    /// An epsilon schedule that does not fall to the target.
    #[error(
        "epsilon schedule: expected a start of at least epsilon and a factor above 0 and at most 0.99, found start {start}, factor {factor}"
    )]
    Schedule {
        /// First epsilon.
        start: f64,
        /// Factor from one stage to the next.
        factor: f64,
    },
    /// The two totals differ by more than [`crate::MASS_SLACK`].
    #[error(
        "masses: expected equal totals (relative slack 1e-6), found source {source_total} and target {target_total}"
    )]
    MassesDiffer {
        /// Total of the source.
        source_total: f64,
        /// Total of the target.
        target_total: f64,
    },
    /// The forbidden arcs (cost +inf) leave no plan.
    #[error(
        "forbidden arcs: expected a plan of mass {total} over the finite costs, found that {stranded} of it cannot move"
    )]
    Infeasible {
        /// Mass that no allowed arc can carry.
        stranded: f64,
        /// Total mass of the problem.
        total: f64,
    },
    /// A cost is +inf where none may be.
    #[error("cost[{row}, {column}]: expected a number (a cost that is never stored has no forbidden arcs), found inf")]
    CostForbidden {
        /// Row of the entry.
        row: usize,
        /// Column of the entry.
        column: usize,
    },
    /// A coupling was read together with a problem or points of another shape.
    #[error("coupling: expected the {} x {} of the problem, found {} x {}", expected.0, expected.1, found.0, found.1)]
    CouplingShape {
        /// Of the problem or the points.
        expected: (usize, usize),
        /// Of the coupling.
        found: (usize, usize),
    },
    /// A custom metric has no known derivative.
    #[error("gradient by points: expected a built-in metric, found a custom one")]
    CustomMetric,
    /// A gradient that this objective has no formula for.
    #[error("gradient: expected {expected}, found a coupling of the objective {found:?}")]
    NoGradient {
        /// What has one.
        expected: &'static str,
        /// What the coupling is the minimiser of.
        found: crate::Objective,
    },
    /// The linear system behind a gradient was not solved.
    #[error(
        "gradient: expected a relative residual of at most {tolerance:e}, found {residual:e} after {iterations} steps"
    )]
    GradientNotConverged {
        /// Asked for.
        tolerance: f64,
        /// Reached.
        residual: f64,
        /// Steps of the conjugate gradient.
        iterations: usize,
    },
    /// An assignment was asked for where the points of positive mass are not as many sources as targets of one mass.
    #[error(
        "assignment: expected as many sources as targets, all of one mass, found {sources} sources and {targets} targets of masses from {lowest} to {highest}"
    )]
    NotAssignment {
        /// Sources of positive mass.
        sources: usize,
        /// Targets of positive mass.
        targets: usize,
        /// Smallest positive mass of both sides.
        lowest: f64,
        /// Largest mass of both sides.
        highest: f64,
    },
    /// The power of a distance is not a finite number of at least 1.
    #[error("power: expected a finite number of at least 1, found {value}")]
    Power {
        /// The value given.
        value: f64,
    },
    /// No direction was asked for.
    #[error("projections: expected at least 1, found 0")]
    Projections,
    /// A mean without coordinates, or a covariance of another dimension.
    #[error("Gaussian: expected d >= 1 and a covariance of d x d, found a mean of {mean} and a covariance of {} x {}",
        covariance.0, covariance.1)]
    GaussianShape {
        /// Length of the mean.
        mean: usize,
        /// Shape of the covariance.
        covariance: (usize, usize),
    },
    /// A coordinate of a mean is NaN, infinite or so large that its square could overflow.
    #[error("mean[{index}]: expected a magnitude of at most 1e70, found {value}")]
    GaussianMean {
        /// Place of the coordinate.
        index: usize,
        /// The coordinate.
        value: f64,
    },
    /// An entry of a covariance is NaN, infinite or too large.
    #[error("covariance[{row}, {column}]: expected a magnitude of at most 1e140, found {value}")]
    CovarianceValue {
        /// Row of the entry.
        row: usize,
        /// Column of the entry.
        column: usize,
        /// The entry.
        value: f64,
    },
    /// A covariance is not symmetric.
    #[error("covariance[{row}, {column}]: expected {mirrored}, the mirrored entry, found {value}")]
    CovarianceAsymmetric {
        /// Row of the entry, the larger index.
        row: usize,
        /// Column of the entry.
        column: usize,
        /// The entry.
        value: f64,
        /// The entry on the other side of the diagonal.
        mirrored: f64,
    },
    /// A covariance has an eigenvalue below 0.
    #[error("covariance: expected no eigenvalue below 0, found eigenvalue {index} to be {eigenvalue:e}")]
    CovarianceNegative {
        /// Place of the eigenvalue in ascending order; of a diagonal covariance, place of the variance.
        index: usize,
        /// The eigenvalue.
        eigenvalue: f64,
    },
    /// A map starts from a singular covariance.
    #[error("covariance: expected full rank to map from, found eigenvalue {index} to be 0")]
    CovarianceSingular {
        /// Place of the eigenvalue in ascending order; of a diagonal covariance, place of the variance.
        index: usize,
    },
    /// Two Gaussians of different dimensions.
    #[error("Gaussians: expected one dimension, found source {source_dimension} and target {target_dimension}")]
    GaussianDimension {
        /// d of the source.
        source_dimension: usize,
        /// d of the target.
        target_dimension: usize,
    },
    /// The entropic strength is not a usable positive number.
    #[error("epsilon: expected a number between 1e-150 and 1e150, found {value}")]
    Epsilon {
        /// The value given.
        value: f64,
    },
    /// The tolerance is not a number of at least zero.
    #[error("tolerance: expected a finite number of at least 0, found {value}")]
    Tolerance {
        /// The value given.
        value: f64,
    },
    /// No iteration was allowed.
    #[error("max_iterations: expected at least 1, found 0")]
    MaxIterations,
    /// A warm start has another length than the target.
    #[error("warm start: expected {expected} target potentials, found {found}")]
    WarmStartLength {
        /// Columns of the cost.
        expected: usize,
        /// Length of the warm start.
        found: usize,
    },
    /// A potential of a warm start is not a usable number.
    #[error("warm start[{index}]: expected a magnitude of at most 1e150, found {value}")]
    WarmStartValue {
        /// Place of the potential.
        index: usize,
        /// The potential.
        value: f64,
    },
    /// The solver ended above its tolerance ([`crate::Coupling::require_converged`]).
    #[error(
        "solver: expected convergence, found {status} after {iterations} iterations at marginal error {marginal_error:e}"
    )]
    NotConverged {
        /// How it ended.
        status: Status,
        /// Iterations made.
        iterations: usize,
        /// Marginal error reached.
        marginal_error: f64,
    },
}
