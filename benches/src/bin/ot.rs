//! Times one case of the transport benchmark and prints a line of JSON for each variant.
//!
//! `ot write FOLDER SIZE...` writes the inputs, `ot time FOLDER CASE` times; `cargo xtask bench ot` runs it alternately with
//! peers/ot.py, which reads the same files. Files in between, so that both read the same bits and pay for nothing else.

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use ndarray::{Array1, Array2, Array3, Axis};
use ndarray_npy::{read_npy, write_npy};
use serde_json::json;
use tavq_benches::{BATCH, MANY, batch, cloud, file, grid, many, masses, uniform};
use tavq_ot::{Acceleration, Coupling, Exact, Form, Metric, Points, Precision, Problem, Sinkhorn, Solver, solve_batch};

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["write", folder, ref sizes @ ..] => write(Path::new(folder), sizes),
        ["time", folder, case] => time(Path::new(folder), case),
        _ => Err("usage: ot write FOLDER SIZE... | ot time FOLDER CASE".into()),
    }
}

fn write(folder: &Path, sizes: &[&str]) -> Done {
    std::fs::create_dir_all(folder)?;
    for size in sizes {
        let n: usize = size.parse()?;
        write_npy(file(folder, &format!("cloud-{n}")), &cloud(n))?;
        write_npy(file(folder, &format!("grid-{n}")), &grid(n))?;
        write_npy(file(folder, &format!("a-{n}")), &masses(n, 1))?;
        write_npy(file(folder, &format!("b-{n}")), &masses(n, 2))?;
    }
    write_npy(file(folder, "batch"), &batch())?;
    write_npy(file(folder, "x"), &many(5))?;
    write_npy(file(folder, "y"), &many(6))?;
    Ok(())
}

/// Shortest of up to five runs, no new one after half a second; and what the last gave.
fn fastest<T>(mut run: impl FnMut() -> T) -> (f64, T) {
    let (begin, mut best, mut last) = (Instant::now(), f64::INFINITY, None);
    for _ in 0..5 {
        let start = Instant::now();
        let made = black_box(run());
        best = best.min(start.elapsed().as_secs_f64());
        last = Some(made);
        if begin.elapsed().as_secs_f64() > 0.5 {
            break;
        }
    }
    match last {
        Some(made) => (best, made),
        None => (best, run()),
    }
}

fn time(folder: &Path, case: &str) -> Done {
    let parts: Vec<&str> = case.split('/').collect();
    match parts[..] {
        ["iteration", n, precision] => iteration(folder, n, precision),
        ["converge", n, epsilon] => converge(folder, n, epsilon.parse()?),
        ["exact", kind, n] => exact(folder, kind, n),
        ["batch"] => many_problems(folder),
        ["points"] => points(folder),
        ["limits"] => {
            limits();
            Ok(())
        }
        _ => Err(format!("unknown case {case}").into()),
    }
}

/// Seconds an iteration, from the difference of two counts, so that set-up and the plan drop out.
fn iteration(folder: &Path, n: &str, precision: &str) -> Done {
    let cost: Array2<f64> = read_npy(file(folder, &format!("cloud-{n}")))?;
    let mass = uniform(cost.nrows());
    let problem = Problem::new(cost.view(), mass.view(), mass.view())?;
    let precision = if precision == "f32" { Precision::Single } else { Precision::Double };
    for (name, form) in [("log", Form::Log), ("scaling", Form::Scaling)] {
        let (few, more) = (10, if cost.nrows() > 2000 { 40 } else { 210 });
        let run = |count: usize| -> Result<f64, Box<dyn Error>> {
            let solver = Sinkhorn::new(0.01)?.form(form).precision(precision).acceleration(Acceleration::None);
            let solver = solver.tolerance(0.0)?.max_iterations(count)?;
            Ok(fastest(|| solver.solve(&problem)).0)
        };
        let seconds = (run(more)? - run(few)?) / (more - few) as f64;
        println!("{}", json!({"who": "tavq", "variant": name, "seconds": seconds}));
    }
    Ok(())
}

fn report(variant: &str, seconds: f64, found: &Coupling) {
    let status = found.status.to_string();
    println!(
        "{}",
        json!({"who": "tavq", "variant": variant, "seconds": seconds, "iterations": found.iterations,
            "error": found.marginal_error, "value": found.value, "status": status})
    );
}

fn converge(folder: &Path, n: &str, epsilon: f64) -> Done {
    let cost: Array2<f64> = read_npy(file(folder, &format!("cloud-{n}")))?;
    let mass = uniform(cost.nrows());
    let problem = Problem::new(cost.view(), mass.view(), mass.view())?;
    for (form_name, form) in [("log", Form::Log), ("scaling", Form::Scaling)] {
        for (name, acceleration) in [
            ("auto", Acceleration::Auto),
            ("anderson", Acceleration::Anderson),
            ("over-relaxation", Acceleration::OverRelaxation),
            ("none", Acceleration::None),
        ] {
            let solver = Sinkhorn::new(epsilon)?.form(form).acceleration(acceleration);
            let solver = solver.tolerance(1e-6)?.max_iterations(100_000)?;
            let (seconds, found) = fastest(|| solver.solve(&problem));
            report(&format!("{form_name} {name}"), seconds, &found?);
        }
    }
    Ok(())
}

fn exact(folder: &Path, kind: &str, n: &str) -> Done {
    let input = if kind == "grid" { "grid" } else { "cloud" };
    let cost: Array2<f64> = read_npy(file(folder, &format!("{input}-{n}")))?;
    let side = |name: &str| -> Result<Array1<f64>, Box<dyn Error>> {
        if kind == "uniform" { Ok(uniform(cost.nrows())) } else { Ok(read_npy(file(folder, &format!("{name}-{n}")))?) }
    };
    let (a, b) = (side("a")?, side("b")?);
    let problem = Problem::new(cost.view(), a.view(), b.view())?;
    let (seconds, found) = fastest(|| Exact::new().solve(&problem));
    report("exact", seconds, &found?);
    Ok(())
}

fn many_problems(folder: &Path) -> Done {
    let costs: Array3<f64> = read_npy(file(folder, "batch"))?;
    let (a, b) = (uniform(BATCH.1), uniform(BATCH.2));
    let problems: Result<Vec<Problem<'_>>, _> =
        costs.axis_iter(Axis(0)).map(|cost| Problem::new(cost, a.view(), b.view())).collect();
    let problems = problems?;
    for (form_name, form) in [("log", Form::Log), ("scaling", Form::Scaling)] {
        for (name, precision) in [("f64", Precision::Double), ("f32", Precision::Single)] {
            let solver = Sinkhorn::new(0.05)?.form(form).precision(precision).acceleration(Acceleration::None);
            let solver = solver.tolerance(0.0)?.max_iterations(100)?;
            let (seconds, _) = fastest(|| solve_batch(&solver, &problems));
            println!("{}", json!({"who": "tavq", "variant": format!("{form_name} {name}"), "seconds": seconds}));
        }
    }
    Ok(())
}

fn points(folder: &Path) -> Done {
    let (x, y): (Array2<f64>, Array2<f64>) = (read_npy(file(folder, "x"))?, read_npy(file(folder, "y"))?);
    let mass = uniform(MANY);
    let points = Points::new(x.view(), y.view(), Metric::SquaredEuclidean)?;
    for (name, precision) in [("f64", Precision::Double), ("f32", Precision::Single)] {
        let solver = Sinkhorn::new(0.01)?.tolerance(1e-3)?.precision(precision);
        let start = Instant::now();
        let found = solver.solve_points(&points, mass.view(), mass.view())?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{}",
            json!({"who": "tavq", "variant": name, "seconds": seconds, "iterations": found.iterations,
                "error": found.marginal_error, "value": found.value, "status": found.status.to_string(),
                "peak_mb": peak_mb()})
        );
    }
    Ok(())
}

/// Largest resident size of this process so far, where the system tells it.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kb| kb / 1024.0)
}

/// What the machine can do: bytes read a second from memory.
fn limits() {
    let values = vec![1.0_f64; 1 << 25];
    let (seconds, sum) = fastest(|| {
        let mut sums = [0.0_f64; 32];
        for chunk in values.as_chunks::<32>().0 {
            sums.iter_mut().zip(chunk).for_each(|(sum, value)| *sum += value);
        }
        sums.iter().sum::<f64>()
    });
    let bytes = (values.len() * size_of::<f64>()) as f64;
    println!(
        "{}",
        json!({"who": "tavq", "variant": "read", "seconds": seconds, "value": bytes / seconds / 1e9 + 0.0 * sum})
    );
}
