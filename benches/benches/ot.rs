//! Time of the transport solvers on the inputs of `tavq_benches::inputs`; `cargo xtask bench ot` sets them beside other
//! libraries.
//!
//! An entropic run makes a fixed number of iterations and counts the entries of the cost that it swept, so the
//! throughput is that of an iteration; setting up and writing the plan are in it and cost about three.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ndarray::Axis;
use tavq_benches::inputs::{BATCH, Input};
use tavq_ot::{Acceleration, Exact, Form, Precision, Problem, Sinkhorn, Solver, Status, solve_batch};

const ITERATIONS: usize = 50;

/// The tolerance of 0 is never met: every run makes all iterations.
fn solver(form: Form, precision: Precision) -> Sinkhorn {
    let solver = Sinkhorn::new(0.05).and_then(|s| s.tolerance(0.0)).and_then(|s| s.max_iterations(ITERATIONS));
    solver.expect("the settings are in range").form(form).precision(precision).acceleration(Acceleration::None)
}

fn entropic(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sinkhorn");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).measurement_time(Duration::from_secs(3));
    for n in [256, 1024] {
        let Some(Input::Matrix { cost, source, target }) = Input::make(&format!("clouds-{n}")) else { continue };
        let problem = Problem::new(cost.view(), source.view(), target.view()).expect("the input is sound");
        group.throughput(Throughput::Elements((n * n * ITERATIONS) as u64));
        for (name, form, precision) in [
            ("log_f64", Form::Log, Precision::Double),
            ("log_f32", Form::Log, Precision::Single),
            ("scaling_f64", Form::Scaling, Precision::Double),
        ] {
            let solver = solver(form, precision);
            group.bench_function(BenchmarkId::new(name, n), |bencher| {
                bencher.iter(|| solver.solve(black_box(&problem)).expect("nothing is forbidden"));
            });
        }
    }
    group.finish();
}

fn batch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).measurement_time(Duration::from_secs(3));
    let Some(Input::Batch { cost, source, target }) = Input::make("batch") else { return };
    let parts = cost.axis_iter(Axis(0)).zip(source.outer_iter()).zip(target.outer_iter());
    let problems: Vec<_> = parts.map(|((cost, a), b)| Problem::new(cost, a, b).expect("the input is sound")).collect();
    let (count, n, m) = BATCH;
    group.throughput(Throughput::Elements((count * n * m * ITERATIONS) as u64));
    let solver = solver(Form::Log, Precision::Double);
    group.bench_function("log_f64", |bencher| bencher.iter(|| solve_batch(&solver, black_box(&problems))));
    group.finish();
}

fn exact(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exact");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).measurement_time(Duration::from_secs(3));
    for name in ["points-256", "uniform-256"] {
        let Some(Input::Matrix { cost, source, target }) = Input::make(name) else { continue };
        let problem = Problem::new(cost.view(), source.view(), target.view()).expect("the input is sound");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let coupling = Exact::new().solve(black_box(&problem)).expect("nothing is forbidden");
                assert_eq!(coupling.status, Status::Converged);
                coupling
            });
        });
    }
    group.finish();
}

criterion_group!(benches, entropic, batch, exact);
criterion_main!(benches);
