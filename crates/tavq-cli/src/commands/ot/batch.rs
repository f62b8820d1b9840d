//! `tavq ot batch`: many problems in one call, solved side by side, reported in the order in which they were given.
//!
//! Problems are read until a chunk of them is full, solved together and let go, so memory does not grow with their
//! number. A problem that is refused is a line of its own and does not touch its neighbours.

use std::collections::HashSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use ndarray::{Array1, Array2, Array3, Axis, ShapeBuilder};
use serde::Serialize;
use tavq_ot::{Coupling, Solver, solve_batch};
use tavq_train::Progress;

use super::arguments::{SolverArgs, name};
use super::inputs::{MEMBERS, MetricArg, Names, Stored, read_problem, uniform};
use super::npy::show;
use super::npz::Archive;
use super::outputs::{check_threshold, write_coupling};
use super::report::Report;
use crate::failure::{Failure, Outcome, reading};
use crate::output::say;

/// Costs in a chunk (128 MiB; the plans take as much again) and problems in it.
const CHUNK_COSTS: usize = 1 << 24;
const CHUNK_PROBLEMS: usize = 512;

#[derive(Debug, Args)]
pub(crate) struct BatchArgs {
    /// .npz files of one problem each (`cost`, or `x` and `y`; `source`, `target`), folders of them, or stacks: `cost` [B,
    /// n, m], `source` [B, n], `target` [B, m].
    #[arg(value_name = "FILE|DIR", required = true)]
    inputs: Vec<PathBuf>,
    /// Cost between points [default: squared-euclidean].
    #[arg(long, value_enum)]
    metric: Option<MetricArg>,
    #[command(flatten)]
    solver: SolverArgs,
    /// Writes DIR/NAME.npz for each problem: `plan`, `f`, `g`. NAME is that of the file, or the place in the stack.
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    plans: Option<PathBuf>,
    /// Writes only the entries of plans above this mass: `row`, `column`, `mass` and `shape` instead of `plan`.
    #[arg(long, value_name = "THRESHOLD", allow_negative_numbers = true, help_heading = "Output")]
    sparse: Option<f64>,
    /// Fails at the end when a problem did not reach the tolerance.
    #[arg(long, help_heading = "Output")]
    require_converged: bool,
    /// Shows no progress; the output is JSON lines either way.
    #[arg(long, help_heading = "Output")]
    json: bool,
}

/// What a line calls a problem.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Label {
    Name(String),
    Place(usize),
}

/// A file, looked at from outside.
enum Job {
    One(PathBuf),
    /// A stack of so many problems.
    Stack(PathBuf, usize),
    Broken(PathBuf, Failure),
}

#[derive(Serialize)]
struct Solved<'a> {
    problem: &'a Label,
    #[serde(flatten)]
    report: Report,
}

#[derive(Serialize)]
struct Refused<'a> {
    problem: &'a Label,
    error: String,
}

fn line(value: &impl Serialize) -> Outcome {
    say!("{}", serde_json::to_string(value).map_err(Failure::work)?);
    Ok(())
}

pub(crate) fn run(args: &BatchArgs) -> Outcome {
    check_threshold(args.sparse)?;
    if args.sparse.is_some() && args.plans.is_none() {
        return Err(Failure::input(anyhow!("--sparse: expected --plans beside it, found none")));
    }
    let solver = args.solver.solver()?;
    let files = files(&args.inputs)?;
    if let Some(folder) = &args.plans {
        check_folder(folder, &files)?;
    }
    let jobs: Vec<Job> = files.into_iter().map(look_at).collect();
    check_names(args, &jobs)?;
    let total: usize = jobs.iter().map(Job::count).sum();
    let mut batch = Batch {
        args,
        solver,
        waiting: Vec::new(),
        costs: 0,
        done: 0,
        refused: 0,
        unconverged: 0,
        // On a terminal the lines themselves show how far it is, and a bar would run into them.
        progress: Progress::new("problems", 0, total as u64, args.json || std::io::stdout().is_terminal()),
    };
    let alone = jobs.len() == 1;
    for job in jobs {
        batch.add(job, alone)?;
    }
    batch.flush()?;
    batch.end()
}

/// The files of the arguments, folders opened, in order.
fn files(inputs: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
    let mut out = Vec::new();
    for input in inputs {
        if !input.is_dir() {
            out.push(input.clone());
            continue;
        }
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(input).map_err(reading(input))? {
            let path = entry.map_err(reading(input))?.path();
            if path.extension().is_some_and(|e| e == "npz") {
                inside.push(path);
            }
        }
        if inside.is_empty() {
            return Err(Failure::input(anyhow!("{}: expected .npz files, found none", input.display())));
        }
        inside.sort();
        out.append(&mut inside);
    }
    Ok(out)
}

/// Refuses a folder of plans that cannot be made, or that holds inputs, which a plan of the same name would replace.
fn check_folder(folder: &Path, files: &[PathBuf]) -> Outcome {
    let refuse = |found: String| Failure::input(anyhow!("--plans {}: {found}", folder.display()));
    if folder.exists() && !folder.is_dir() {
        return Err(refuse("expected a folder, found a file".to_owned()));
    }
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(refuse(format!("expected an existing folder around it, found none at {}", parent.display())));
    }
    let Ok(place) = folder.canonicalize() else { return Ok(()) };
    let inside = files.iter().find(|file| file.canonicalize().is_ok_and(|f| f.parent() == Some(&place)));
    inside.map_or(Ok(()), |file| Err(refuse(format!("expected a folder without inputs, found {}", file.display()))))
}

/// One problem or a stack, by the shape of its cost.
fn look_at(path: PathBuf) -> Job {
    let look = || -> Outcome<Option<usize>> {
        let mut archive = Archive::open(&path, &MEMBERS)?;
        let Some(cost) = archive.member("cost")? else { return Ok(None) };
        match *cost.shape() {
            // Without a size of its problems a stack could claim any number of them.
            [count, n, m] if count == 0 || n == 0 || m == 0 => cost.misshapen("at least 1 problem of 1 x 1", "a stack"),
            [count, _, _] => Ok(Some(count)),
            _ => Ok(None),
        }
    };
    match look() {
        Ok(None) => Job::One(path),
        Ok(Some(count)) => Job::Stack(path, count),
        Err(failure) => Job::Broken(path, failure),
    }
}

impl Job {
    fn count(&self) -> usize {
        if let Self::Stack(_, count) = self { *count } else { 1 }
    }

    fn path(&self) -> &Path {
        match self {
            Self::One(path) | Self::Stack(path, _) | Self::Broken(path, _) => path,
        }
    }

    /// The name of the plan of its problem `i`.
    fn plan_name(&self, i: usize, alone: bool) -> String {
        let stem = self.path().file_stem().unwrap_or_default().to_string_lossy();
        match self {
            Self::Stack(..) if alone => i.to_string(),
            Self::Stack(..) => format!("{stem}-{i}"),
            Self::One(_) | Self::Broken(..) => stem.into_owned(),
        }
    }

    fn label(&self, i: usize, alone: bool) -> Label {
        let path = self.path().display();
        match self {
            Self::Stack(..) if alone => Label::Place(i),
            Self::Stack(..) => Label::Name(format!("{path}[{i}]")),
            Self::One(_) | Self::Broken(..) => Label::Name(path.to_string()),
        }
    }
}

/// Refuses two problems whose plans would be one file.
fn check_names(args: &BatchArgs, jobs: &[Job]) -> Outcome {
    if args.plans.is_none() {
        return Ok(());
    }
    let mut taken = HashSet::new();
    for job in jobs {
        for i in 0..job.count() {
            let name = job.plan_name(i, jobs.len() == 1);
            if taken.contains(&name) {
                return Err(Failure::input(anyhow!("--plans: expected a name for each problem, found two {name}.npz")));
            }
            taken.insert(name);
        }
    }
    Ok(())
}

/// A problem in the queue.
struct Waiting {
    label: Label,
    plan: String,
    input: Outcome<Stored>,
}

struct Batch<'a> {
    args: &'a BatchArgs,
    solver: Box<dyn Solver>,
    waiting: Vec<Waiting>,
    costs: usize,
    done: u64,
    refused: usize,
    unconverged: usize,
    progress: Progress,
}

impl Batch<'_> {
    fn add(&mut self, job: Job, alone: bool) -> Outcome {
        let (label, plan) = (job.label(0, alone), job.plan_name(0, alone));
        match job {
            Job::One(path) => {
                let input = read_problem(&path, self.args.metric).and_then(super::inputs::Input::stored);
                self.push(Waiting { label, plan, input })
            }
            Job::Broken(_, failure) => self.push(Waiting { label, plan, input: Err(failure) }),
            Job::Stack(..) => match self.add_stack(&job, alone) {
                Ok(()) => Ok(()),
                Err(Walk::Each(failure)) => Err(failure),
                // What cannot be read ends the stack; the line is the file's.
                Err(Walk::Read(failure)) => {
                    let label = Label::Name(job.path().display().to_string());
                    self.push(Waiting { label, plan, input: Err(failure) })
                }
            },
        }
    }

    /// Queues the problems of a stack one by one.
    fn add_stack(&mut self, job: &Job, alone: bool) -> Result<(), Walk> {
        let mut at = 0;
        walk(job.path(), self.args.metric, &mut |problem| {
            let (label, plan) = (job.label(at, alone), job.plan_name(at, alone));
            at += 1;
            self.push(Waiting { label, plan, input: Ok(problem) })
        })
    }

    fn push(&mut self, problem: Waiting) -> Outcome {
        self.costs += problem.input.as_ref().map_or(0, |input| input.cost.len());
        self.waiting.push(problem);
        if self.costs >= CHUNK_COSTS || self.waiting.len() >= CHUNK_PROBLEMS { self.flush() } else { Ok(()) }
    }

    /// Solves what waits and prints its lines.
    fn flush(&mut self) -> Outcome {
        let waiting = std::mem::take(&mut self.waiting);
        self.costs = 0;
        let unequal = self.args.solver.method.takes_unequal_totals();
        let checked: Vec<_> = waiting.iter().map(|w| w.input.as_ref().map(|input| input.problem(unequal))).collect();
        let problems: Vec<_> = checked.iter().filter_map(|c| c.as_ref().ok()?.as_ref().ok().copied()).collect();
        let mut solved = solve_batch(&*self.solver, &problems).into_iter();
        for (w, checked) in waiting.iter().zip(&checked) {
            let found = match (checked, &w.input) {
                (Ok(Ok(_)), Ok(input)) => match solved.next() {
                    Some(Ok(coupling)) => Ok(coupling),
                    Some(Err(e)) => Err(input.names.blame(e).line()),
                    None => Err("no result".to_owned()),
                },
                (Ok(Err(e)), Ok(input)) => Err(input.names.blame(*e).line()),
                (_, Err(failure)) => Err(failure.line()),
                (Err(failure), _) => Err(failure.line()),
            };
            match found {
                Ok(coupling) => self.report(w, &coupling)?,
                Err(error) => {
                    self.refused += 1;
                    line(&Refused { problem: &w.label, error })?;
                }
            }
            self.done += 1;
        }
        self.progress.set(self.done, String::new);
        Ok(())
    }

    fn report(&mut self, problem: &Waiting, coupling: &Coupling) -> Outcome {
        let method = name(self.args.solver.method);
        let report = Report::of_coupling(&method, self.args.solver.used_epsilon(), coupling);
        self.unconverged += usize::from(!report.converged());
        if let Some(folder) = &self.args.plans {
            write_coupling(&folder.join(format!("{}.npz", problem.plan)), coupling, self.args.sparse)?;
        }
        line(&Solved { problem: &problem.label, report })
    }

    fn end(self) -> Outcome {
        let (refused, unconverged, done) = (self.refused, self.unconverged, self.done);
        if refused > 0 {
            return Err(Failure::input(anyhow!("expected {done} sound problems, found {refused} refused")));
        }
        if self.args.require_converged && unconverged > 0 {
            return Err(Failure::work(anyhow!("expected {done} converged problems, found {unconverged} that did not")));
        }
        Ok(())
    }
}

/// Why a walk through a stack ended early.
enum Walk {
    Read(Failure),
    Each(Failure),
}

/// Hands every problem of a stack to `each`, in order.
fn walk(path: &Path, metric: Option<MetricArg>, each: &mut dyn FnMut(Stored) -> Outcome) -> Result<(), Walk> {
    let mut archive = Archive::open(path, &MEMBERS).map_err(Walk::Read)?;
    let (source, target) = masses(&mut archive, metric).map_err(Walk::Read)?;
    let Some(mut cost) = archive.member("cost").map_err(Walk::Read)? else { return Ok(()) };
    let &[count, n, m] = cost.shape() else { return Ok(()) };
    let names = Names::of_one(path);
    let row = |masses: &Option<Array2<f64>>, b: usize, len: usize| -> Array1<f64> {
        masses.as_ref().map_or_else(|| uniform(len), |masses| masses.row(b).to_owned())
    };
    let whole = if cost.is_fortran() {
        let values = cost.next(count * n * m).map_err(Walk::Read)?;
        Some(Array3::from_shape_vec((count, n, m).f(), values).map_err(|e| Walk::Read(Failure::work(e)))?)
    } else {
        None
    };
    for b in 0..count {
        let cost = match &whole {
            Some(whole) => whole.index_axis(Axis(0), b).as_standard_layout().into_owned(),
            None => {
                let values = cost.next(n * m).map_err(Walk::Read)?;
                Array2::from_shape_vec((n, m), values).map_err(|e| Walk::Read(Failure::work(e)))?
            }
        };
        let problem = Stored { cost, source: row(&source, b, n), target: row(&target, b, m), names: names.clone() };
        each(problem).map_err(Walk::Each)?;
    }
    cost.finish().map_err(Walk::Read)
}

type Masses = Option<Array2<f64>>;

/// The masses of a stack, [B, n] and [B, m].
fn masses(archive: &mut Archive, metric: Option<MetricArg>) -> Outcome<(Masses, Masses)> {
    let refuse = |archive: &Archive, words: String| Failure::input(anyhow!("{}: {words}", archive.path().display()));
    if metric.is_some() {
        return Err(refuse(archive, "--metric: expected x and y, found cost".to_owned()));
    }
    let shape = archive.member("cost")?.map(|cost| cost.shape().to_vec()).unwrap_or_default();
    let mut read = |name: &str, len: usize| -> Outcome<Masses> {
        let Some(masses) = archive.member(name)? else { return Ok(None) };
        let masses = masses.matrix("masses of each problem of a stack")?;
        if masses.dim() != (shape[0], len) {
            let (expected, found) = (show(&[shape[0], len]), show(masses.shape()));
            return Err(refuse(archive, format!("{name}: expected shape {expected}, found {found}")));
        }
        Ok(Some(masses))
    };
    match shape[..] {
        [_, n, m] => Ok((read("source", n)?, read("target", m)?)),
        _ => Ok((None, None)),
    }
}
