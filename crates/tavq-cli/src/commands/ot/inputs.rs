//! One transport problem out of files: a cost matrix or two sets of points, and the masses. Also which file an error of
//! the solver is about.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use ndarray::{Array1, Array2};
use tavq_ot::{Metric, OtError, Points, Problem, Side};

use super::npy::{Stream, Values};
use super::npz::Archive;
use crate::failure::{Failure, Outcome, reading};

/// Members of a problem's archive.
pub(super) const MEMBERS: [&str; 5] = ["cost", "x", "y", "source", "target"];
const COST: &str = "a cost matrix n x m";
const POINTS: &str = "points x coordinates";
const MASSES: &str = "one mass a point";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MetricArg {
    /// |x - y|^2
    SquaredEuclidean,
    /// |x - y|
    Euclidean,
    /// 1 - cos(x, y)
    Cosine,
}

impl MetricArg {
    fn metric(self) -> Metric<'static> {
        match self {
            Self::SquaredEuclidean => Metric::SquaredEuclidean,
            Self::Euclidean => Metric::Euclidean,
            Self::Cosine => Metric::Cosine,
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Input (.npy and .npz of f64 or f32)")]
pub(super) struct InputArgs {
    /// Cost matrix, n x m; +inf forbids an arc.
    #[arg(long, value_name = "FILE")]
    pub(super) cost: Option<PathBuf>,
    /// Source points, n x d, instead of a cost.
    #[arg(long, value_name = "FILE")]
    pub(super) x: Option<PathBuf>,
    /// Target points, m x d, instead of a cost.
    #[arg(long, value_name = "FILE")]
    pub(super) y: Option<PathBuf>,
    /// Cost between points [default: squared-euclidean].
    #[arg(long, value_enum)]
    metric: Option<MetricArg>,
    /// Source masses, n; uniform by default.
    #[arg(long, value_name = "FILE")]
    pub(super) source: Option<PathBuf>,
    /// Target masses, m; uniform by default.
    #[arg(long, value_name = "FILE")]
    pub(super) target: Option<PathBuf>,
    /// All of them in one .npz: `cost`, or `x` and `y`; `source` and `target` if they are not uniform.
    #[arg(long, value_name = "FILE")]
    pub(super) problem: Option<PathBuf>,
}

/// What mass moves over.
pub(super) enum Geometry {
    Cost(Array2<f64>),
    Points { x: Array2<f64>, y: Array2<f64>, metric: MetricArg },
}

/// Arrays of one problem, read but not checked against one another.
pub(super) struct Input {
    pub(super) geometry: Geometry,
    pub(super) source: Array1<f64>,
    pub(super) target: Array1<f64>,
    pub(super) names: Names,
}

/// What errors call each array: its file.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) cost: String,
    x: String,
    y: String,
    source: String,
    target: String,
}

impl Names {
    /// Arrays that came out of one file.
    pub(super) fn of_one(path: &Path) -> Self {
        let name = path.display().to_string();
        Self { cost: name.clone(), x: name.clone(), y: name.clone(), source: name.clone(), target: name }
    }

    /// The error with the file that it is about.
    pub(super) fn blame(&self, error: OtError) -> Failure {
        let place = match error {
            OtError::MassLength { side, .. }
            | OtError::MassNegative { side, .. }
            | OtError::MassNan { side, .. }
            | OtError::MassInfinite { side, .. }
            | OtError::MassAllZero { side, .. }
            | OtError::MassRange { side, .. } => {
                if side == Side::Source {
                    &self.source
                } else {
                    &self.target
                }
            }
            OtError::PointValue { side, .. } | OtError::PointZero { side, .. } => {
                if side == Side::Source {
                    &self.x
                } else {
                    &self.y
                }
            }
            OtError::EmptyCost { .. }
            | OtError::CostNan { .. }
            | OtError::CostNegativeInfinity { .. }
            | OtError::CostRange { .. }
            | OtError::Infeasible { .. } => &self.cost,
            _ => return Failure::input(error),
        };
        Failure::input(anyhow!("{place}: {error}"))
    }
}

impl InputArgs {
    /// Every file that is read.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let all = [&self.cost, &self.x, &self.y, &self.source, &self.target, &self.problem];
        all.into_iter().flatten().map(PathBuf::as_path)
    }

    pub(super) fn read(&self) -> Outcome<Input> {
        let refuse = |words: &str| Failure::input(anyhow!("{words}"));
        match (&self.problem, &self.cost, &self.x, &self.y) {
            (Some(path), None, None, None) if self.source.is_none() && self.target.is_none() => {
                read_problem(path, self.metric)
            }
            (Some(_), ..) => {
                Err(refuse("--problem: expected no --cost, --x, --y, --source or --target beside it, found one"))
            }
            (None, Some(_), None, None) if self.metric.is_some() => {
                Err(refuse("--metric: expected points (--x and --y), found --cost"))
            }
            (None, Some(cost), None, None) => self.with(Geometry::Cost(open(cost)?.matrix(COST)?)),
            (None, None, Some(x), Some(y)) => {
                let (x, y) = (open(x)?.matrix(POINTS)?, open(y)?.matrix(POINTS)?);
                self.with(Geometry::Points { x, y, metric: self.metric() })
            }
            (None, None, None, None) => {
                Err(refuse("input: expected --cost, or --x and --y, or --problem, found none of them"))
            }
            (None, Some(_), ..) => Err(refuse("--cost: expected no --x or --y beside it, found one")),
            (None, None, Some(_), None) => Err(refuse("--x: expected --y beside it, found none")),
            (None, None, None, Some(_)) => Err(refuse("--y: expected --x beside it, found none")),
        }
    }

    fn metric(&self) -> MetricArg {
        self.metric.unwrap_or(MetricArg::SquaredEuclidean)
    }

    fn with(&self, geometry: Geometry) -> Outcome<Input> {
        let (n, m) = geometry.dim();
        let masses = |path: &Option<PathBuf>, len: usize| match path {
            Some(path) => open(path)?.vector(MASSES),
            None => Ok(uniform(len)),
        };
        let name = |path: &Option<PathBuf>, option: &str| {
            path.as_ref().map_or_else(|| option.to_owned(), |path| path.display().to_string())
        };
        let names = Names {
            cost: name(&self.cost, "points"),
            x: name(&self.x, "--x"),
            y: name(&self.y, "--y"),
            source: name(&self.source, "--source"),
            target: name(&self.target, "--target"),
        };
        Ok(Input { geometry, source: masses(&self.source, n)?, target: masses(&self.target, m)?, names })
    }
}

/// The problem of one archive.
pub(super) fn read_problem(path: &Path, metric: Option<MetricArg>) -> Outcome<Input> {
    problem_of(Archive::open(path, &MEMBERS)?, metric)
}

/// The problem of an open archive.
fn problem_of(mut archive: Archive, metric: Option<MetricArg>) -> Outcome<Input> {
    let path = archive.path().to_owned();
    let refuse = |words: &str| Failure::input(anyhow!("{}: {words}", path.display()));
    let cost = archive.member("cost")?.map(|values| values.matrix(COST)).transpose()?;
    let x = archive.member("x")?.map(|values| values.matrix(POINTS)).transpose()?;
    let y = archive.member("y")?.map(|values| values.matrix(POINTS)).transpose()?;
    let geometry = match (cost, x, y) {
        (Some(_), None, None) if metric.is_some() => return Err(refuse("--metric: expected x and y, found cost")),
        (Some(cost), None, None) => Geometry::Cost(cost),
        (None, Some(x), Some(y)) => Geometry::Points { x, y, metric: metric.unwrap_or(MetricArg::SquaredEuclidean) },
        (Some(_), ..) => return Err(refuse("expected either cost or x and y, found both")),
        (None, ..) => return Err(refuse("expected a member cost, or x and y, found neither")),
    };
    let (n, m) = geometry.dim();
    let mut masses = |name: &str, len: usize| match archive.member(name)? {
        Some(values) => values.vector(MASSES),
        None => Ok(uniform(len)),
    };
    let (source, target) = (masses("source", n)?, masses("target", m)?);
    Ok(Input { geometry, source, target, names: Names::of_one(&path) })
}

pub(super) fn uniform(len: usize) -> Array1<f64> {
    Array1::from_elem(len, 1.0 / len.max(1) as f64)
}

/// The array of a .npy file.
pub(super) fn open(path: &Path) -> Outcome<Values<'static>> {
    let file = File::open(path).map_err(reading(path))?;
    let meta = file.metadata().map_err(reading(path))?;
    let length = meta.is_file().then_some(meta.len());
    Stream { bytes: Box::new(BufReader::new(file)), length, place: path.display().to_string() }.open()
}

/// The n x 2 points of a .npy file, or any other dimension.
pub(super) fn points(path: &Path) -> Outcome<Array2<f64>> {
    open(path)?.matrix(POINTS)
}

/// A vector: a .npy file, or one member of an archive that may hold `known` ones.
pub(super) fn vector_of(path: &Path, member: &str, known: &[&str], what: &str) -> Outcome<Array1<f64>> {
    if path.extension().is_none_or(|e| e != "npz") {
        return open(path)?.vector(what);
    }
    match Archive::open(path, known)?.member(member)? {
        Some(values) => values.vector(what),
        None => Err(Failure::input(anyhow!("{}: expected a member {member}, found none", path.display()))),
    }
}

impl Geometry {
    pub(super) fn dim(&self) -> (usize, usize) {
        match self {
            Self::Cost(cost) => cost.dim(),
            Self::Points { x, y, .. } => (x.nrows(), y.nrows()),
        }
    }

    /// The cost as a stored matrix.
    fn into_cost(self, names: &Names) -> Outcome<Array2<f64>> {
        match self {
            Self::Cost(cost) => Ok(cost),
            Self::Points { x, y, metric } => {
                let points = Points::new(x.view(), y.view(), metric.metric()).map_err(|e| names.blame(e))?;
                room(points.dim(), 2)?;
                Ok(points.costs())
            }
        }
    }

    /// The points, when it is some.
    pub(super) fn points(&self, names: &Names) -> Outcome<Points<'_>> {
        match self {
            Self::Points { x, y, metric } => {
                Points::new(x.view(), y.view(), metric.metric()).map_err(|e| names.blame(e))
            }
            Self::Cost(_) => {
                Err(Failure::input(anyhow!("--matrix-free: expected points (--x and --y), found a cost matrix")))
            }
        }
    }
}

impl Input {
    /// The same problem with its cost as a stored matrix.
    pub(super) fn stored(self) -> Outcome<Stored> {
        let Self { geometry, source, target, names } = self;
        let dim = geometry.dim();
        let cost = geometry.into_cost(&names)?;
        room(dim, 1)?;
        Ok(Stored { cost, source, target, names })
    }
}

/// A problem whose cost is a matrix.
pub(super) struct Stored {
    pub(super) cost: Array2<f64>,
    pub(super) source: Array1<f64>,
    pub(super) target: Array1<f64>,
    pub(super) names: Names,
}

impl Stored {
    /// The problem, checked; `unequal` totals are left to the solver.
    pub(super) fn problem(&self, unequal: bool) -> Result<Problem<'_>, OtError> {
        let (cost, source, target) = (self.cost.view(), self.source.view(), self.target.view());
        if unequal { Problem::unbalanced(cost, source, target) } else { Problem::new(cost, source, target) }
    }
}

/// Refuses matrices that this machine cannot hold, `copies` of them, before an allocation ends the process.
fn room((n, m): (usize, usize), copies: usize) -> Outcome {
    let entries = n.checked_mul(m).and_then(|entries| entries.checked_mul(copies));
    if entries.is_some_and(|entries| Vec::<f64>::new().try_reserve_exact(entries).is_ok()) {
        return Ok(());
    }
    Err(Failure::input(anyhow!(
        "memory: expected room for {copies} matrices of {n} x {m}, found less (--matrix-free stores none)"
    )))
}
