//! `tavq ot solve`: one transport problem out of .npy files.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use ndarray::{Array1, Array2};
use ndarray_npy::{ReadNpyExt, WriteNpyExt};
use tavq_ot::{Coupling, Exact, Problem, Sinkhorn, Solver, Status};

use crate::failure::{Failure, Outcome, reading, writing};
use crate::output::say;

#[derive(Debug, Subcommand)]
pub(crate) enum OtCommand {
    /// Solves one problem.
    Solve(SolveArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Network simplex.
    Exact,
    /// Log-domain Sinkhorn.
    Sinkhorn,
}

#[derive(Debug, Args)]
pub(crate) struct SolveArgs {
    /// Cost matrix, .npy, n x m.
    #[arg(long)]
    cost: PathBuf,
    /// Source masses, .npy, n; uniform by default.
    #[arg(long)]
    source: Option<PathBuf>,
    /// Target masses, .npy, m; uniform by default.
    #[arg(long)]
    target: Option<PathBuf>,
    /// Solver.
    #[arg(long, value_enum, default_value = "sinkhorn")]
    method: Method,
    /// Strength of the entropy term (sinkhorn), in units of the cost.
    #[arg(long, default_value_t = 0.05)]
    epsilon: f64,
    /// L1 error of the marginals at which to stop (sinkhorn).
    #[arg(long, default_value_t = 1e-6)]
    tolerance: f64,
    /// Iterations at most (sinkhorn).
    #[arg(long, default_value_t = 10_000)]
    max_iterations: usize,
    /// Writes the plan, .npy, n x m.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &OtCommand) -> Outcome {
    let OtCommand::Solve(args) = command;
    let cost: Array2<f64> = read(&args.cost)?;
    let (n, m) = cost.dim();
    let masses = |path: &Option<PathBuf>, len: usize| -> Outcome<Array1<f64>> {
        match path {
            Some(path) => read(path),
            None => Ok(Array1::from_elem(len, 1.0 / len.max(1) as f64)),
        }
    };
    let (source, target) = (masses(&args.source, n)?, masses(&args.target, m)?);
    let problem = Problem::new(cost.view(), source.view(), target.view())?;
    let coupling = match args.method {
        Method::Exact => Exact::default().solve(&problem)?,
        Method::Sinkhorn => Sinkhorn::new(args.epsilon)?
            .tolerance(args.tolerance)?
            .max_iterations(args.max_iterations)?
            .solve(&problem)?,
    };
    if let Some(path) = &args.plan {
        tavq_torch::write_atomic(path, |out| coupling.plan.write_npy(out).map_err(std::io::Error::other))
            .map_err(writing(path))?;
    }
    print(args, &coupling)
}

fn print(args: &SolveArgs, c: &Coupling) -> Outcome {
    let status = match c.status {
        Status::Converged => "converged",
        Status::Stalled => "stalled",
        Status::IterationLimit => "iteration_limit",
    };
    let method = match args.method {
        Method::Exact => "exact",
        Method::Sinkhorn => "sinkhorn",
    };
    if args.json {
        let report = serde_json::json!({
            "method": method,
            "value": c.value,
            "regularized_value": c.regularized_value,
            "marginal_error": c.marginal_error,
            "iterations": c.iterations,
            "status": status,
            "gap": c.gap(),
        });
        say!("{report}");
    } else {
        say!("{method}: {status} after {} iterations", c.iterations);
        say!("value {:.12e}, regularized {:.12e}", c.value, c.regularized_value);
        say!("marginal error {:.3e}, gap {:.3e}", c.marginal_error, c.gap());
    }
    Ok(())
}

/// Reads an array of f64 or f32.
fn read<D: ndarray::Dimension>(path: &Path) -> Outcome<ndarray::Array<f64, D>> {
    let bytes = std::fs::read(path).map_err(reading(path))?;
    if let Ok(array) = ndarray::Array::<f64, D>::read_npy(&bytes[..]) {
        return Ok(array);
    }
    match ndarray::Array::<f32, D>::read_npy(&bytes[..]) {
        Ok(array) => Ok(array.mapv(f64::from)),
        Err(e) => Err(Failure::input(anyhow!(
            "{}: expected a .npy array of f64 or f32 with {} dimensions, found {e}",
            path.display(),
            D::NDIM.unwrap_or_default()
        ))),
    }
}
