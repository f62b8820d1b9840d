//! The entropic solver on problems whose answer is known, and at the edges of f64.

use ndarray::{Array1, Array2, array};
use tavq_ot::{Acceleration, Coupling, Exact, OtError, Problem, Sinkhorn, Solver, Status};

fn solver(epsilon: f64, tolerance: f64, max_iterations: usize) -> Sinkhorn {
    Sinkhorn::new(epsilon).unwrap().tolerance(tolerance).unwrap().max_iterations(max_iterations).unwrap()
}

fn solve(solver: &Sinkhorn, cost: &Array2<f64>, a: &Array1<f64>, b: &Array1<f64>) -> Coupling {
    solver.solve(&Problem::new(cost.view(), a.view(), b.view()).unwrap()).unwrap()
}

fn noise(n: usize, seed: u64) -> Array1<f64> {
    let mut state = seed;
    Array1::from_shape_simple_fn(n, || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    })
}

fn random(n: usize, m: usize, seed: u64) -> (Array2<f64>, Array1<f64>, Array1<f64>) {
    let cost = noise(n * m, seed).into_shape_with_order((n, m)).unwrap();
    let (a, b) = (noise(n, seed + 1) + 0.1, noise(m, seed + 2) + 0.1);
    (cost, &a / a.sum(), &b / b.sum())
}

fn distance(p: &Array2<f64>, q: &Array2<f64>) -> f64 {
    p.iter().zip(q).map(|(p, q)| (p - q).abs()).fold(0.0, f64::max)
}

/// A textbook iteration over the kernel with two log-sum-exps, to compare the fused one with.
fn textbook(cost: &Array2<f64>, a: &Array1<f64>, b: &Array1<f64>, epsilon: f64, iterations: usize) -> Array2<f64> {
    let log_sum = |values: Vec<f64>| {
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        max + values.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
    };
    let (mut f, mut g) = (Array1::<f64>::zeros(a.len()), b.mapv(f64::ln));
    for _ in 0..iterations {
        for i in 0..a.len() {
            f[i] = a[i].ln() - log_sum((0..b.len()).map(|j| g[j] - cost[[i, j]] / epsilon).collect());
        }
        for j in 0..b.len() {
            g[j] = b[j].ln() - log_sum((0..a.len()).map(|i| f[i] - cost[[i, j]] / epsilon).collect());
        }
    }
    Array2::from_shape_fn(cost.dim(), |(i, j)| (f[i] + g[j] - cost[[i, j]] / epsilon).exp())
}

#[test]
fn two_by_two_has_its_closed_form() {
    let (cost, masses) = (array![[0.0, 1.0], [1.0, 0.0]], array![0.5, 0.5]);
    for (epsilon, expected) in [(1.0, 0.365_529_289_315_002_45), (0.1, 0.499_977_301_065_648_8), (0.01, 0.5)] {
        let coupling = solve(&solver(epsilon, 1e-14, 100), &cost, &masses, &masses).require_converged().unwrap();
        assert!((coupling.plan[[0, 0]] - expected).abs() < 1e-15, "epsilon {epsilon}: {}", coupling.plan[[0, 0]]);
    }
}

#[test]
fn the_fused_iteration_is_the_textbook_iteration() {
    for (epsilon, iterations) in [(0.5, 7), (0.05, 30), (0.005, 200), (1e-4, 300)] {
        let (cost, a, b) = random(13, 21, 3);
        let plain = solver(epsilon, 0.0, iterations).acceleration(Acceleration::None);
        let coupling = solve(&plain, &cost, &a, &b);
        let expected = textbook(&cost, &a, &b, epsilon, iterations);
        let found = distance(&coupling.plan, &expected);
        assert!(found < 1e-11, "epsilon {epsilon}: {found:e} after {} iterations", coupling.iterations);
    }
}

#[test]
fn one_iteration_is_not_converged_and_says_so() {
    let (cost, a, b) = random(20, 30, 1);
    let coupling = solve(&solver(0.01, 1e-10, 1), &cost, &a, &b);
    assert_eq!((coupling.status, coupling.iterations), (Status::IterationLimit, 1));
    let rows = &coupling.plan.sum_axis(ndarray::Axis(1)) - &a;
    assert!((rows.mapv(f64::abs).sum() - coupling.marginal_error).abs() < 1e-14);
    assert!(coupling.marginal_error > 1e-3);
    assert!(matches!(
        coupling.require_converged(),
        Err(OtError::NotConverged { status: Status::IterationLimit, iterations: 1, .. })
    ));
}

#[test]
fn a_single_row_or_column_takes_one_iteration() {
    for (n, m) in [(1, 9), (9, 1), (1, 1)] {
        let (cost, a, b) = random(n, m, 4);
        for limit in [1, 50] {
            let coupling = solve(&solver(0.02, 1e-12, limit), &cost, &a, &b);
            assert_eq!((coupling.iterations, coupling.status), (1, Status::Converged), "{n} x {m}");
            let product = Array2::from_shape_fn((n, m), |(i, j)| a[i] * b[j]);
            assert!(distance(&coupling.plan, &product) < 1e-15);
        }
    }
}

#[test]
fn zero_masses_are_empty_and_change_nothing() {
    let (cost, mut a, mut b) = random(9, 12, 6);
    (a[2], a[8], b[0], b[5]) = (0.0, 0.0, 0.0, 0.0);
    a /= a.sum();
    b /= b.sum();
    let coupling = solve(&solver(0.03, 1e-13, 10_000), &cost, &a, &b).require_converged().unwrap();
    let rows: Vec<usize> = (0..9).filter(|&i| a[i] > 0.0).collect();
    let columns: Vec<usize> = (0..12).filter(|&j| b[j] > 0.0).collect();
    let small = Array2::from_shape_fn((7, 10), |(i, j)| cost[[rows[i], columns[j]]]);
    let (ka, kb) = (rows.iter().map(|&i| a[i]).collect(), columns.iter().map(|&j| b[j]).collect());
    let alone = solve(&solver(0.03, 1e-13, 10_000), &small, &ka, &kb);
    for ((i, j), &p) in coupling.plan.indexed_iter() {
        match (rows.iter().position(|&r| r == i), columns.iter().position(|&c| c == j)) {
            (Some(i), Some(j)) => assert!((p - alone.plan[[i, j]]).abs() < 1e-14),
            _ => assert_eq!(p, 0.0, "({i}, {j})"),
        }
    }
    assert!(coupling.f.iter().chain(&coupling.g).all(|d| d.is_finite()));
    assert!((coupling.regularized_value - alone.regularized_value).abs() < 1e-13);
}

#[test]
fn tiny_epsilon_ends_honestly_and_never_in_nan() {
    for epsilon in [1e-3, 1e-4, 1e-5, 1e-9, 1e-100] {
        for seed in 0..4 {
            let (cost, a, b) = random(12, 10, 10 * seed);
            let coupling = solve(&solver(epsilon, 1e-9, 2000), &cost, &a, &b);
            assert!(coupling.plan.iter().all(|p| p.is_finite() && *p >= 0.0));
            assert!(coupling.value.is_finite() && coupling.regularized_value.is_finite());
            assert!(coupling.dual_value.is_finite() && coupling.marginal_error.is_finite());
            assert_eq!(coupling.status == Status::Converged, coupling.marginal_error <= 1e-9);
        }
    }
}

/// Parts of the plan that hardly touch: plain iteration moves their potentials against one another by less and less.
#[test]
fn what_crawls_plainly_is_accelerated() {
    let half = array![0.5, 0.5];
    let near_assignment = array![[1.0, 5.0], [2.0, 1.0]];
    let (plain, auto) = (Acceleration::None, Acceleration::Auto);
    let run = |cost: &Array2<f64>, a: &Array1<f64>, b: &Array1<f64>, epsilon: f64, acceleration: Acceleration| {
        solve(&solver(epsilon, 1e-9, 10_000).acceleration(acceleration), cost, a, b)
    };
    assert_eq!(run(&near_assignment, &half, &half, 0.1, plain).status, Status::IterationLimit);
    let found = run(&near_assignment, &half, &half, 0.1, auto);
    assert!(found.status == Status::Converged && found.iterations < 100, "{}", found.iterations);
    for n in [2, 5, 20, 60] {
        for seed in 0..4 {
            // Three clusters on each side, of masses that do not match.
            let (_, a, b) = random(n, n, seed);
            let place = |k: usize, shift: f64| (k % 3) as f64 + 0.05 * ((k * 7 + seed as usize) % 11) as f64 + shift;
            let cost = Array2::from_shape_fn((n, n), |(i, j)| (place(i, 0.0) - place(j, 0.02)).powi(2) / 9.0);
            for epsilon in [0.005, 0.001] {
                let found = run(&cost, &a, &b, epsilon, auto);
                assert_eq!(found.status, Status::Converged, "{n} {seed} {epsilon}");
                assert!(found.iterations < 1000, "{n} {seed} {epsilon}: {}", found.iterations);
            }
        }
    }
}

#[test]
fn a_tolerance_below_rounding_stalls() {
    let (cost, a, b) = random(16, 16, 2);
    let coupling = solve(&solver(0.05, 0.0, 100_000), &cost, &a, &b);
    assert_eq!(coupling.status, Status::Stalled);
    assert!(coupling.iterations < 5_000 && coupling.marginal_error < 1e-13, "{}", coupling.marginal_error);
}

#[test]
fn shift_and_scale_leave_the_plan() {
    for epsilon in [0.1, 0.01] {
        let (cost, a, b) = random(15, 11, 5);
        let plain = solve(&solver(epsilon, 1e-12, 100_000), &cost, &a, &b).require_converged().unwrap();
        let shifted = solve(&solver(epsilon, 1e-12, 100_000), &(&cost + 1000.0), &a, &b);
        assert!(distance(&plain.plan, &shifted.plan) < 1e-9 && (shifted.value - plain.value - 1000.0).abs() < 1e-9);
        let scaled = solve(&solver(epsilon * 1e6, 1e-12, 100_000), &(&cost * 1e6), &a, &b);
        assert!(distance(&plain.plan, &scaled.plan) < 1e-9 && (scaled.value - plain.value * 1e6).abs() < 1e-3);
        let heavy = solve(&solver(epsilon, 1e-12, 100_000), &cost, &(&a * 8.0), &(&b * 8.0));
        assert!(distance(&(&plain.plan * 8.0), &heavy.plan) < 1e-9);
        assert!((heavy.regularized_value - 8.0 * plain.regularized_value).abs() < 1e-9);
    }
}

#[test]
fn forbidden_arcs_stay_empty_and_infeasible_ones_are_errors() {
    let inf = f64::INFINITY;
    let cost = array![[0.0, 1.0, inf], [inf, 0.5, 0.2], [0.3, inf, 0.1]];
    let a = array![0.3, 0.3, 0.4];
    let coupling = solve(&solver(0.05, 1e-12, 10_000), &cost, &a, &a).require_converged().unwrap();
    assert!(cost.iter().zip(&coupling.plan).all(|(c, p)| c.is_finite() || *p == 0.0));
    let exact = Exact::new().solve(&Problem::new(cost.view(), a.view(), a.view()).unwrap()).unwrap();
    assert!(exact.value <= coupling.value + 1e-12 && coupling.value < exact.value + 0.05);
    let blocked = array![[0.0, inf], [0.0, inf]];
    let half = array![0.5, 0.5];
    let problem = Problem::new(blocked.view(), half.view(), half.view()).unwrap();
    assert!(matches!(Sinkhorn::new(0.1).unwrap().solve(&problem), Err(OtError::Infeasible { stranded: 0.5, .. })));
}

#[test]
fn masses_of_f32_meet_masses_of_f64() {
    let (a, b) = (Array1::from_elem(5, f64::from(0.2_f32)), Array1::from_elem(5, 0.2));
    assert!(a.sum() != b.sum());
    let cost = random(5, 5, 1).0;
    for coupling in [
        solve(&solver(0.05, 1e-12, 10_000), &cost, &a, &b),
        Exact::new().solve(&Problem::new(cost.view(), a.view(), b.view()).unwrap()).unwrap(),
    ] {
        assert!((coupling.plan.sum() - 1.0).abs() < 1e-7 && coupling.status == Status::Converged);
    }
}

#[test]
fn a_warm_start_from_the_solution_takes_one_iteration() {
    let (cost, a, b) = random(25, 18, 7);
    let problem = Problem::new(cost.view(), a.view(), b.view()).unwrap();
    let solver = solver(0.02, 1e-11, 10_000);
    let cold = solver.solve(&problem).unwrap().require_converged().unwrap();
    let warm = solver.solve_from(&problem, cold.g.view()).unwrap();
    assert!(cold.iterations > 20);
    assert_eq!((warm.iterations, warm.status), (1, Status::Converged));
    assert!(distance(&cold.plan, &warm.plan) < 1e-11);
    let short = Array1::zeros(17);
    let refused = solver.solve_from(&problem, short.view());
    assert_eq!(refused.unwrap_err(), OtError::WarmStartLength { expected: 18, found: 17 });
    let mut bad = Array1::zeros(18);
    bad[3] = f64::INFINITY;
    let refused = solver.solve_from(&problem, bad.view());
    assert_eq!(refused.unwrap_err(), OtError::WarmStartValue { index: 3, value: f64::INFINITY });
}

#[test]
fn permuting_the_points_permutes_the_plan() {
    let (cost, a, b) = random(23, 17, 9);
    let plain = solve(&solver(0.05, 1e-13, 10_000), &cost, &a, &b).require_converged().unwrap();
    let (rows, columns) = (|i: usize| (i * 7 + 3) % 23, |j: usize| (j * 5 + 1) % 17);
    let permuted = Array2::from_shape_fn((23, 17), |(i, j)| cost[[rows(i), columns(j)]]);
    let (pa, pb) = (Array1::from_shape_fn(23, |i| a[rows(i)]), Array1::from_shape_fn(17, |j| b[columns(j)]));
    let coupling = solve(&solver(0.05, 1e-13, 10_000), &permuted, &pa, &pb);
    let expected = Array2::from_shape_fn((23, 17), |(i, j)| plain.plan[[rows(i), columns(j)]]);
    assert!(distance(&coupling.plan, &expected) < 1e-12);
}

#[test]
fn a_transposed_view_is_read_as_it_stands() {
    let (cost, a, b) = random(14, 19, 11);
    let problem = Problem::new(cost.view(), a.view(), b.view()).unwrap();
    let solver = solver(0.05, 1e-12, 10_000);
    let (plain, turned) = (solver.solve(&problem).unwrap(), solver.solve(&problem.transposed()).unwrap());
    assert!(distance(&plain.plan, &turned.plan.reversed_axes()) < 1e-10);
}

#[test]
fn parameters_outside_their_range_are_refused() {
    for epsilon in [0.0, -0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-200, 1e200] {
        assert!(
            matches!(Sinkhorn::new(epsilon), Err(OtError::Epsilon { value }) if value.to_bits() == epsilon.to_bits())
        );
    }
    let sinkhorn = Sinkhorn::new(0.1).unwrap();
    for tolerance in [-1e-9, f64::NAN, f64::INFINITY] {
        assert!(matches!(sinkhorn.tolerance(tolerance), Err(OtError::Tolerance { .. })));
    }
    assert_eq!(sinkhorn.max_iterations(0), Err(OtError::MaxIterations));
}
