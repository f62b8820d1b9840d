//! One request on one input: repeat, time, and say what came out.

use std::hint::black_box;
use std::time::Instant;

use ndarray::Axis;
use serde_json::{Value, json};
use tavq_benches::inputs::{Input, equal};
use tavq_ot::{Exact, Metric, OtError, Points, Problem, Sinkhorn, Solver, Status, solve_batch};

use crate::Outcome;
use crate::request::Request;

/// What a solve reached, without its plan.
struct Reached {
    value: f64,
    error: f64,
    iterations: usize,
    status: Status,
}

pub(crate) fn time(input: &Input, request: &Request) -> Outcome<Value> {
    match input {
        Input::Matrix { cost, source, target } => {
            let solver: Box<dyn Solver> = match request.solver.as_str() {
                "exact" => Box::new(Exact::new()),
                name => Box::new(request.sinkhorn(name)?),
            };
            // The checks of the input are part of a solve, as they are in other libraries.
            repeat(request, || {
                let problem = Problem::new(cost.view(), source.view(), target.view())?;
                let solved = solver.solve(black_box(&problem))?;
                let (value, error) = (solved.value, solved.marginal_error);
                Ok(Reached { value, error, iterations: solved.iterations, status: solved.status })
            })
        }
        Input::Batch { cost, source, target } => {
            let solver = request.sinkhorn(&request.solver)?;
            repeat(request, || {
                let parts = cost.axis_iter(Axis(0)).zip(source.outer_iter()).zip(target.outer_iter());
                let problems = parts.map(|((cost, a), b)| Problem::new(cost, a, b)).collect::<Result<Vec<_>, _>>()?;
                let solved = solve_batch(&solver, black_box(&problems)).into_iter().collect::<Result<Vec<_>, _>>()?;
                let most = |of: fn(&tavq_ot::Coupling) -> f64| solved.iter().map(of).fold(0.0, f64::max);
                Ok(Reached {
                    value: solved.iter().map(|solved| solved.value).sum::<f64>() / solved.len() as f64,
                    error: most(|solved| solved.marginal_error),
                    // The fewest: none may stop early where a number was asked for.
                    iterations: solved.iter().map(|solved| solved.iterations).min().unwrap_or(0),
                    status: solved
                        .iter()
                        .map(|solved| solved.status)
                        .find(|s| *s != Status::Converged)
                        .unwrap_or(Status::Converged),
                })
            })
        }
        Input::Points { x, y } => {
            let solver = request.sinkhorn(&request.solver)?;
            let points = Points::new(x.view(), y.view(), Metric::SquaredEuclidean)?;
            let mut answer = repeat(request, || on_the_fly(&solver, &points))?;
            answer["peak_mb"] = json!(peak_mb());
            Ok(answer)
        }
    }
}

/// Solves between points without ever storing their costs.
fn on_the_fly(solver: &Sinkhorn, points: &Points<'_>) -> Result<Reached, OtError> {
    let (n, m) = points.dim();
    let (source, target) = (equal(n), equal(m));
    let solved = solver.solve_points(black_box(points), source.view(), target.view())?;
    let (value, error) = (solved.value, solved.marginal_error);
    Ok(Reached { value, error, iterations: solved.iterations, status: solved.status })
}

fn repeat(request: &Request, mut solve: impl FnMut() -> Result<Reached, OtError>) -> Outcome<Value> {
    let mut seconds = Vec::new();
    loop {
        let start = Instant::now();
        let reached = black_box(solve()?);
        seconds.push(start.elapsed().as_secs_f64());
        if seconds.len() >= request.repeats || seconds.iter().sum::<f64>() >= request.seconds {
            let status = match request.iterations {
                Some(count) if count == reached.iterations => "fixed".to_owned(),
                Some(_) => format!("{} after {}", reached.status, reached.iterations),
                None => reached.status.to_string(),
            };
            let Reached { value, error, iterations, .. } = reached;
            return Ok(json!({
                "seconds": seconds, "value": value, "error": error, "iterations": iterations, "status": status,
            }));
        }
    }
}

/// Most memory that this process ever had, where the system tells.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}
