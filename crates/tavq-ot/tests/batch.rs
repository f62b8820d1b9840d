//! Batches and threads: same answers, same bits.

use ndarray::{Array1, Array2};
use tavq_ot::{Coupling, Exact, OtError, Problem, Sinkhorn, Solver, solve_batch};

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
    // Large enough that the sweep is cut into blocks.
    let owned = Owned::new(300, 257, 5);
    let solve = |count: usize| -> Coupling {
        let solver = Sinkhorn::new(0.01).unwrap().max_iterations(60).unwrap();
        threads(count, || solver.solve(&owned.problem()).unwrap())
    };
    let (one, two, eight) = (solve(1), solve(2), solve(8));
    assert_eq!(one, two);
    assert_eq!(one, eight);
}
