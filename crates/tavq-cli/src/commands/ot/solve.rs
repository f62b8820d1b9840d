//! `tavq ot solve`: one problem, its plan and its certificates.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use indicatif::ProgressBar;
use ndarray::Array1;
use tavq_train::Progress;

use super::arguments::{SolverArgs, name};
use super::inputs::{Input, InputArgs};
use super::outputs::{Entries, check_outputs, check_threshold, write_dense, write_duals};
use super::report::Report;
use crate::failure::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct SolveArgs {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    solver: SolverArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
struct OutputArgs {
    /// Makes the costs of points as they are needed and stores no matrix (sinkhorn); a plan is then written with --sparse.
    #[arg(long)]
    matrix_free: bool,
    /// Writes the plan: .npy, n x m, or .npz.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Writes only the entries of the plan above this mass; --plan is then a .npz of row, column, mass and shape.
    #[arg(long, value_name = "THRESHOLD", allow_negative_numbers = true)]
    sparse: Option<f64>,
    /// Writes the potentials, .npz of f and g.
    #[arg(long, value_name = "FILE")]
    duals: Option<PathBuf>,
    /// Fails, and writes nothing, when the tolerance is not reached.
    #[arg(long)]
    require_converged: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &SolveArgs) -> Outcome {
    check(args)?;
    let report = if args.output.matrix_free { matrix_free(args)? } else { stored(args)? };
    if args.output.json { report.json() } else { report.summary() }
}

/// Everything that can be wrong before a file is read.
fn check(args: &SolveArgs) -> Outcome {
    let out = &args.output;
    check_threshold(out.sparse)?;
    if out.sparse.is_some() && out.plan.is_none() {
        return Err(Failure::input(anyhow!("--sparse: expected --plan beside it, found none")));
    }
    if out.matrix_free && out.plan.is_some() && out.sparse.is_none() {
        return Err(Failure::input(anyhow!("--plan: expected --sparse beside it with --matrix-free, found none")));
    }
    let plan: &[&str] = if out.sparse.is_some() { &["npz"] } else { &["npy", "npz"] };
    let outputs = [("--plan", out.plan.as_deref(), plan), ("--duals", out.duals.as_deref(), &["npz"][..])];
    check_outputs(&outputs, args.input.paths().chain(args.solver.warm_start.as_deref()))
}

fn stored(args: &SolveArgs) -> Outcome<Report> {
    let out = &args.output;
    let solver = args.solver.solver()?;
    let input = args.input.read()?.stored()?;
    let problem = input.problem(args.solver.method.takes_unequal_totals()).map_err(|e| input.names.blame(e))?;
    let (coupling, seconds) = timed(out.json, problem.dim(), || solver.solve(&problem));
    let coupling = coupling.map_err(|e| input.names.blame(e))?;
    let mut report = Report::of_coupling(&name(args.solver.method), args.solver.used_epsilon(), &coupling);
    report.seconds = Some(seconds);
    if out.require_converged {
        report.require_converged()?;
    }
    match (&out.plan, out.sparse) {
        (Some(path), Some(threshold)) => {
            let entries = Entries::of_plan(&coupling.plan, threshold)?;
            report.entries = Some(entries.len());
            entries.write(path, coupling.plan.dim())?;
        }
        (Some(path), None) => write_dense(path, &coupling.plan)?,
        (None, _) => {}
    }
    duals(out, &coupling.f, &coupling.g)?;
    Ok(report)
}

fn matrix_free(args: &SolveArgs) -> Outcome<Report> {
    let out = &args.output;
    let solver = args.solver.matrix_free()?;
    let Input { geometry, source, target, names } = args.input.read()?;
    let points = geometry.points(&names)?;
    let (n, m) = points.dim();
    let solve = || solver.solve_points(&points, source.view(), target.view());
    let (potentials, seconds) = timed(out.json, (n, m), solve);
    let potentials = potentials.map_err(|e| names.blame(e))?;
    let mut report = Report::of_potentials(&name(args.solver.method), Some(solver.epsilon()), &potentials);
    report.seconds = Some(seconds);
    if out.require_converged {
        report.require_converged()?;
    }
    if let (Some(path), Some(threshold)) = (&out.plan, out.sparse) {
        // A small plan is written before a bar could be read.
        let mut progress = Progress::new("rows", 0, n as u64, out.json || n.saturating_mul(m) < 1 << 24);
        let done = |rows: usize| progress.set(rows as u64, String::new);
        let masses = (&source, &target);
        let entries = Entries::of_potentials(&points, masses, &potentials, solver.epsilon(), threshold, done)?;
        report.entries = Some(entries.len());
        entries.write(path, (n, m))?;
    }
    duals(out, &potentials.f, &potentials.g)?;
    Ok(report)
}

fn duals(out: &OutputArgs, f: &Array1<f64>, g: &Array1<f64>) -> Outcome {
    match &out.duals {
        Some(path) => write_duals(path, f, g),
        None => Ok(()),
    }
}

/// Runs a solver, which reports nothing on its way, under a clock that a reader sees on a terminal.
fn timed<T>(quiet: bool, (n, m): (usize, usize), work: impl FnOnce() -> T) -> (T, f64) {
    let spinner = (!quiet && std::io::stderr().is_terminal()).then(|| {
        let spinner = ProgressBar::new_spinner().with_message(format!("solving {n} x {m}"));
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner
    });
    let start = Instant::now();
    let out = work();
    let seconds = start.elapsed().as_secs_f64();
    if let Some(spinner) = spinner {
        spinner.finish_and_clear();
    }
    (out, seconds)
}
