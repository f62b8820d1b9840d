//! Which solver, with which options. Every method lists the options that it uses; any other one that is given is refused
//! by name, since a setting that silently does nothing is a wrong result.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use ndarray::Array1;
use tavq_ot::{
    Acceleration, Algorithm, Coupling, EntropicPartial, Exact, ExactPartial, Form, OtError, Precision, Problem,
    Reference, Sinkhorn, Solver, Unbalanced,
};

use super::inputs::vector_of;
use crate::failure::{Failure, Outcome};

/// The name of a value on the command line.
pub(super) fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Method {
    /// The linear program.
    Exact,
    /// Entropic, both marginals prescribed.
    Sinkhorn,
    /// Entropic, each marginal at a price.
    Unbalanced,
    /// The linear program, a plan of a given mass.
    Partial,
    /// Entropic, a plan of a given mass.
    EntropicPartial,
}

impl Method {
    /// The options that it uses; with the line in [`Method::solver`] this is all that a method adds.
    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Exact => &["max-iterations", "algorithm"],
            Self::Partial => &["max-iterations", "mass"],
            Self::Sinkhorn => &[
                "epsilon", "tolerance", "max-iterations", "form", "precision", "acceleration", "schedule", "warm-start",
            ],
            Self::Unbalanced => &[
                "epsilon", "tolerance", "max-iterations", "acceleration", "source-strength", "target-strength",
                "reference",
            ],
            Self::EntropicPartial => &["epsilon", "tolerance", "max-iterations", "mass"],
        }
    }

    /// Whether the totals of the two sides may differ.
    pub(super) fn takes_unequal_totals(self) -> bool {
        matches!(self, Self::Unbalanced | Self::Partial | Self::EntropicPartial)
    }

    fn solver(self, args: &SolverArgs) -> Outcome<Box<dyn Solver>> {
        Ok(match self {
            Self::Exact => Box::new(args.exact()?),
            Self::Sinkhorn => args.warm(args.sinkhorn()?)?,
            Self::Unbalanced => Box::new(args.unbalanced()?),
            Self::Partial => Box::new(args.partial()?),
            Self::EntropicPartial => Box::new(args.entropic_partial()?),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AlgorithmArg {
    /// Assignment where it can, else simplex.
    Auto,
    /// Network simplex.
    Simplex,
    /// Shortest augmenting paths; as many sources as targets, all of one mass.
    Assignment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormArg {
    /// Potentials alone, no memory beyond the cost.
    Log,
    /// A stored kernel: faster, for the memory of one more matrix.
    Scaling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PrecisionArg {
    /// f64.
    Double,
    /// f32 in the iteration; what is reported is computed in f64.
    Single,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AccelerationArg {
    /// Plain iterations.
    None,
    /// Longer half steps.
    OverRelaxation,
    /// Mixed iterates.
    Anderson,
    /// Plain when that is fast, mixed otherwise.
    Auto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReferenceArg {
    /// The product of the masses.
    Product,
    /// 1 for each pair of points.
    Counting,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Solver")]
pub(super) struct SolverArgs {
    /// Solver.
    #[arg(long, value_enum, default_value = "sinkhorn")]
    pub(super) method: Method,
    /// Strength of the entropy term, in units of the cost [default: 0.05].
    #[arg(long, allow_negative_numbers = true)]
    pub(super) epsilon: Option<f64>,
    /// L1 error of the marginals at which to stop [default: 1e-6].
    #[arg(long, allow_negative_numbers = true)]
    tolerance: Option<f64>,
    /// Iterations at most [default: 10000; no limit for exact and partial].
    #[arg(long)]
    max_iterations: Option<usize>,
    /// How the plan is found (exact) [default: auto].
    #[arg(long, value_enum)]
    algorithm: Option<AlgorithmArg>,
    /// Where the iteration keeps its numbers (sinkhorn) [default: log].
    #[arg(long, value_enum)]
    form: Option<FormArg>,
    /// Type of the numbers in the iteration (sinkhorn) [default: double].
    #[arg(long, value_enum)]
    precision: Option<PrecisionArg>,
    /// How the iteration is sped up (sinkhorn, unbalanced) [default: auto].
    #[arg(long, value_enum)]
    acceleration: Option<AccelerationArg>,
    /// Larger epsilons first: the first of them and the factor to the next (sinkhorn).
    #[arg(long, value_name = "START,FACTOR", value_parser = schedule, allow_negative_numbers = true)]
    schedule: Option<(f64, f64)>,
    /// Target potentials to start from: .npy of m, or the .npz that --duals wrote (sinkhorn).
    #[arg(long, value_name = "FILE")]
    pub(super) warm_start: Option<PathBuf>,
    /// Price of leaving the source masses, or inf (unbalanced).
    #[arg(long, allow_negative_numbers = true)]
    source_strength: Option<f64>,
    /// Price of leaving the target masses, or inf (unbalanced).
    #[arg(long, allow_negative_numbers = true)]
    target_strength: Option<f64>,
    /// What the entropy is relative to (unbalanced) [default: product].
    #[arg(long, value_enum)]
    reference: Option<ReferenceArg>,
    /// Mass of the plan (partial, entropic-partial).
    #[arg(long, allow_negative_numbers = true)]
    mass: Option<f64>,
}

fn schedule(text: &str) -> Result<(f64, f64), String> {
    let pair = text.split_once(',').and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)));
    pair.ok_or_else(|| "expected two numbers, START,FACTOR".to_owned())
}

/// Sinkhorn from given potentials.
struct Warm {
    sinkhorn: Sinkhorn,
    g: Array1<f64>,
}

impl Solver for Warm {
    fn solve(&self, problem: &Problem<'_>) -> Result<Coupling, OtError> {
        self.sinkhorn.solve_from(problem, self.g.view())
    }
}

impl SolverArgs {
    /// The solver of these options.
    pub(super) fn solver(&self) -> Outcome<Box<dyn Solver>> {
        self.check_used()?;
        self.method.solver(self)
    }

    /// The solver for points whose costs are never stored.
    pub(super) fn matrix_free(&self) -> Outcome<Sinkhorn> {
        let refuse = |found: String| Failure::input(anyhow!("--matrix-free: expected {found}"));
        if self.method != Method::Sinkhorn {
            return Err(refuse(format!("--method sinkhorn, found --method {}", name(self.method))));
        }
        if self.form == Some(FormArg::Scaling) {
            return Err(refuse("--form log, found --form scaling, which stores a matrix".to_owned()));
        }
        if self.warm_start.is_some() {
            return Err(refuse("no --warm-start, found one".to_owned()));
        }
        self.check_used()?;
        self.sinkhorn()
    }

    /// The epsilon of the method, if it has one.
    pub(super) fn used_epsilon(&self) -> Option<f64> {
        self.method.options().contains(&"epsilon").then_some(self.epsilon.unwrap_or(0.05))
    }

    fn check_used(&self) -> Outcome {
        let given = [
            ("epsilon", self.epsilon.is_some()),
            ("tolerance", self.tolerance.is_some()),
            ("max-iterations", self.max_iterations.is_some()),
            ("algorithm", self.algorithm.is_some()),
            ("form", self.form.is_some()),
            ("precision", self.precision.is_some()),
            ("acceleration", self.acceleration.is_some()),
            ("schedule", self.schedule.is_some()),
            ("warm-start", self.warm_start.is_some()),
            ("source-strength", self.source_strength.is_some()),
            ("target-strength", self.target_strength.is_some()),
            ("reference", self.reference.is_some()),
            ("mass", self.mass.is_some()),
        ];
        let used = self.method.options();
        match given.iter().find(|(option, given)| *given && !used.contains(option)) {
            None => Ok(()),
            Some((option, _)) => {
                let method = name(self.method);
                let used = used.iter().map(|option| format!("--{option}")).collect::<Vec<_>>().join(", ");
                Err(Failure::input(anyhow!("--method {method}: expected no options but {used}, found --{option}")))
            }
        }
    }

    fn needed(&self, option: &str, value: Option<f64>) -> Outcome<f64> {
        value.ok_or_else(|| Failure::input(anyhow!("--method {}: expected --{option}, found none", name(self.method))))
    }

    fn common(&self) -> (f64, f64) {
        (self.epsilon.unwrap_or(0.05), self.tolerance.unwrap_or(1e-6))
    }

    fn exact(&self) -> Outcome<Exact> {
        let solver = Exact::new().algorithm(match self.algorithm {
            None | Some(AlgorithmArg::Auto) => Algorithm::Auto,
            Some(AlgorithmArg::Simplex) => Algorithm::Simplex,
            Some(AlgorithmArg::Assignment) => Algorithm::Assignment,
        });
        Ok(match self.max_iterations {
            Some(limit) => solver.max_iterations(limit)?,
            None => solver,
        })
    }

    fn partial(&self) -> Outcome<ExactPartial> {
        let solver = ExactPartial::new(self.needed("mass", self.mass)?)?;
        Ok(match self.max_iterations {
            Some(limit) => solver.max_iterations(limit)?,
            None => solver,
        })
    }

    fn sinkhorn(&self) -> Outcome<Sinkhorn> {
        let (epsilon, tolerance) = self.common();
        let mut solver = Sinkhorn::new(epsilon)?.tolerance(tolerance)?;
        if let Some(limit) = self.max_iterations {
            solver = solver.max_iterations(limit)?;
        }
        if let Some((start, factor)) = self.schedule {
            solver = solver.schedule(start, factor)?;
        }
        if let Some(acceleration) = self.acceleration {
            solver = solver.acceleration(acceleration.into());
        }
        if self.form == Some(FormArg::Scaling) {
            solver = solver.form(Form::Scaling);
        }
        if self.precision == Some(PrecisionArg::Single) {
            solver = solver.precision(Precision::Single);
        }
        Ok(solver)
    }

    fn warm(&self, sinkhorn: Sinkhorn) -> Outcome<Box<dyn Solver>> {
        Ok(match &self.warm_start {
            Some(path) => Box::new(Warm { sinkhorn, g: vector_of(path, "g", &["f", "g"], "one potential a target")? }),
            None => Box::new(sinkhorn),
        })
    }

    fn unbalanced(&self) -> Outcome<Unbalanced> {
        let (epsilon, tolerance) = self.common();
        let source = self.needed("source-strength", self.source_strength)?;
        let target = self.needed("target-strength", self.target_strength)?;
        let mut solver = Unbalanced::new(epsilon, source, target)?.tolerance(tolerance)?;
        if let Some(limit) = self.max_iterations {
            solver = solver.max_iterations(limit)?;
        }
        if let Some(acceleration) = self.acceleration {
            solver = solver.acceleration(acceleration.into());
        }
        if self.reference == Some(ReferenceArg::Counting) {
            solver = solver.reference(Reference::Counting);
        }
        Ok(solver)
    }

    fn entropic_partial(&self) -> Outcome<EntropicPartial> {
        let (epsilon, tolerance) = self.common();
        let mass = self.needed("mass", self.mass)?;
        let mut solver = EntropicPartial::new(mass, epsilon)?.tolerance(tolerance)?;
        if let Some(limit) = self.max_iterations {
            solver = solver.max_iterations(limit)?;
        }
        Ok(solver)
    }
}

impl From<AccelerationArg> for Acceleration {
    fn from(value: AccelerationArg) -> Self {
        match value {
            AccelerationArg::None => Self::None,
            AccelerationArg::OverRelaxation => Self::OverRelaxation,
            AccelerationArg::Anderson => Self::Anderson,
            AccelerationArg::Auto => Self::Auto,
        }
    }
}
