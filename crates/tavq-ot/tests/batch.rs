//! Batches and threads: same answers, same bits.

use ndarray::{Array1, Array2};
use tavq_ot::{
    Acceleration, EntropicPartial, Exact, Form, Metric, OtError, Points, Precision, Problem, Sinkhorn, Solver,
    Unbalanced, solve_batch,
};

mod common;
use common::points;

fn noise(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..n).map(|_| next()).collect()
}

struct Owned(Array2<f64>, Array1<f64>, Array1<f64>);

impl Owned {
    fn new(n: usize, m: usize, seed: u64) -> Self {
        let cost = Array2::from_shape_vec((n, m), noise(n * m, seed)).unwrap();
        let (a, b) = (Array1::from_vec(noise(n, seed + 1)), Array1::from_vec(noise(m, seed + 2)));
        Self(cost, &a / a.sum(), &b / b.sum())
    }

    fn problem(&self) -> Problem<'_> {
        Problem::new(self.0.view(), self.1.view(), self.2.view()).unwrap()
    }
}

fn threads<T: Send>(count: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap().install(work)
}

#[test]
fn a_batch_is_the_loop_in_order() {
    let owned: Vec<Owned> = (0..24).map(|k| Owned::new(1 + k % 7, 1 + (3 * k) % 11, k as u64)).collect();
    let problems: Vec<Problem<'_>> = owned.iter().map(Owned::problem).collect();
    for solver in [&Sinkhorn::new(0.05).unwrap() as &dyn Solver, &Exact::new()] {
        let loop_results: Vec<_> = problems.iter().map(|problem| solver.solve(problem)).collect();
        for count in [1, 8] {
            assert_eq!(threads(count, || solve_batch(solver, &problems)), loop_results);
        }
    }
    assert!(solve_batch(&Exact::new(), &[]).is_empty());
}

#[test]
fn an_infeasible_problem_does_not_touch_its_neighbours() {
    let good = Owned::new(3, 3, 1);
    let bad = Owned(Array2::from_elem((2, 2), f64::INFINITY), Array1::ones(2), Array1::ones(2));
    let results = solve_batch(&Sinkhorn::new(0.1).unwrap(), &[good.problem(), bad.problem(), good.problem()]);
    assert!(matches!(results[1], Err(OtError::Infeasible { stranded: 2.0, total: 2.0 })));
    assert!(results[0].is_ok() && results[0] == results[2]);
}

#[test]
fn one_thread_and_eight_give_the_same_bits() {
    // Large enough that the sweeps are cut into blocks.
    let owned = Owned::new(700, 523, 5);
    let sinkhorn = Sinkhorn::new(0.01).unwrap().max_iterations(60).unwrap();
    let solvers: [&dyn Solver; 8] = [
        &sinkhorn,
        &sinkhorn.precision(Precision::Single),
        &sinkhorn.form(Form::Scaling),
        &sinkhorn.form(Form::Scaling).precision(Precision::Single),
        &sinkhorn.acceleration(Acceleration::OverRelaxation),
        &Unbalanced::new(0.01, 1.0, 1.0).unwrap().max_iterations(20).unwrap(),
        &EntropicPartial::new(0.5, 0.01).unwrap().max_iterations(20).unwrap(),
        &Exact::new(),
    ];
    for (k, solver) in solvers.into_iter().enumerate() {
        let solve = |count: usize| threads(count, || solver.solve(&owned.problem()).unwrap());
        let one = solve(1);
        assert!(one == solve(2) && one == solve(8), "solver {k}");
    }
}

#[test]
fn one_thread_and_eight_give_the_same_bits_without_a_matrix() {
    let (x, y) = (points(700, 3, 1), points(523, 3, 2));
    let owned = Owned::new(700, 523, 5);
    let cloud = Points::new(x.view(), y.view(), Metric::Euclidean).unwrap();
    let solve = |count: usize| {
        threads(count, || {
            let found = Sinkhorn::new(0.05).unwrap().divergence(&cloud, owned.1.view(), owned.2.view()).unwrap();
            let gradients = found.point_gradients(&cloud, owned.1.view(), owned.2.view()).unwrap();
            (found, gradients, cloud.costs())
        })
    };
    let one = solve(1);
    assert!(one == solve(2) && one == solve(8));
}
