//! Time of the transport solvers on two point clouds, squared distances scaled to a largest cost of 1.
//!
//! A run of the entropic solver makes a fixed number of iterations and counts the entries of the cost that it swept, so
//! the throughput is that of an iteration; setting up and measuring the plan are in it and cost about three. The points
//! come from a formula, so that peers/pot.py times other solvers on the same numbers.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use ndarray::{Array1, Array2};
use tavq_ot::{Exact, Problem, Sinkhorn, Solver, Status};

const ITERATIONS: usize = 50;
const EPSILON: f64 = 0.01;

/// Point `i` of a Kronecker sequence in 8 dimensions.
fn point(i: usize) -> [f64; 8] {
    [2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0].map(|prime: f64| (i as f64 * prime.sqrt()).fract())
}

/// Costs between the points 1..=n and n+1..=2n.
fn costs(n: usize) -> Array2<f64> {
    let cost = Array2::from_shape_fn((n, n), |(i, j)| {
        point(i + 1).iter().zip(point(n + j + 1)).map(|(x, y)| (x - y) * (x - y)).sum::<f64>()
    });
    let largest = cost.iter().copied().fold(0.0, f64::max);
    cost / largest
}

/// Masses 1, 2, 3, 4, 5, 1, ... scaled to a total of 1.
fn masses(n: usize) -> Array1<f64> {
    let weights = Array1::from_shape_fn(n, |i| (i % 5 + 1) as f64);
    &weights / weights.sum()
}

fn sinkhorn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sinkhorn_log_f64");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).measurement_time(Duration::from_secs(5));
    // The tolerance of 0 is never met: every run makes all iterations.
    let solver = Sinkhorn::new(EPSILON).and_then(|s| s.tolerance(0.0)).and_then(|s| s.max_iterations(ITERATIONS));
    let solver = solver.expect("the settings are in range");
    for n in [256, 1024] {
        let (cost, mass) = (costs(n), masses(n));
        let problem = Problem::new(cost.view(), mass.view(), mass.view()).expect("the input is sound");
        group.throughput(Throughput::Elements((n * n * ITERATIONS) as u64));
        group.bench_function(BenchmarkId::new(format!("{ITERATIONS}_iterations"), n), |bencher| {
            bencher.iter(|| {
                let coupling = solver.solve(black_box(&problem)).expect("nothing is forbidden");
                assert_eq!(coupling.iterations, ITERATIONS);
                coupling
            });
        });
    }
    group.finish();
}

fn exact(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exact");
    group.sampling_mode(SamplingMode::Flat).sample_size(20).measurement_time(Duration::from_secs(5));
    let (cost, mass) = (costs(256), masses(256));
    let problem = Problem::new(cost.view(), mass.view(), mass.view()).expect("the input is sound");
    group.bench_function(BenchmarkId::from_parameter(256), |bencher| {
        bencher.iter(|| {
            let coupling = Exact::new().solve(black_box(&problem)).expect("nothing is forbidden");
            assert_eq!(coupling.status, Status::Converged);
            coupling
        });
    });
    group.finish();
}

criterion_group!(benches, sinkhorn, exact);
criterion_main!(benches);
