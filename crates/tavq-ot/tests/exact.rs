//! The exact solver on problems whose answer is known.

use ndarray::{Array1, Array2, Axis, array};
use proptest::prelude::*;
use tavq_ot::laws::{Instance, Kind, instances};
use tavq_ot::{Algorithm, Coupling, Exact, OtError, Problem, Solver, Status};

fn solve(cost: &Array2<f64>, a: &Array1<f64>, b: &Array1<f64>) -> Result<Coupling, OtError> {
    let problem = Problem::new(cost.view(), a.view(), b.view()).unwrap();
    let coupling = Exact::new().solve(&problem)?;
    for ((i, j), c) in cost.indexed_iter() {
        let slack = c - coupling.f[i] - coupling.g[j];
        assert!(slack >= -1e-8, "dual infeasible by {slack} at ({i}, {j})");
    }
    assert!(coupling.plan.iter().all(|&p| p >= 0.0));
    assert!(coupling.plan.iter().filter(|&&p| p > 0.0).count() < a.len() + b.len());
    Ok(coupling)
}

fn uniform(n: usize) -> Array1<f64> {
    Array1::from_elem(n, 1.0 / n as f64)
}

/// A small generator, so that the problems are the same everywhere.
fn noise(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 11) as f64 / (1_u64 << 53) as f64
}

fn points(n: usize, d: usize, seed: u64) -> Array2<f64> {
    let mut state = seed;
    Array2::from_shape_simple_fn((n, d), || noise(&mut state))
}

fn squared(x: &Array2<f64>, y: &Array2<f64>) -> Array2<f64> {
    Array2::from_shape_fn((x.nrows(), y.nrows()), |(i, j)| {
        x.row(i).iter().zip(y.row(j)).map(|(a, b)| (a - b) * (a - b)).sum()
    })
}

#[test]
fn points_against_themselves_stay() {
    for n in [1, 2, 3, 10, 33] {
        let x = points(n, 3, 5);
        let coupling = solve(&squared(&x, &x), &uniform(n), &uniform(n)).unwrap();
        assert_eq!(coupling.value, 0.0);
        for ((i, j), &p) in coupling.plan.indexed_iter() {
            let expected = if i == j { 1.0 / n as f64 } else { 0.0 };
            assert!((p - expected).abs() < 1e-16, "P[{i}, {j}] = {p}");
        }
    }
}

#[test]
fn shifted_gaussian_histograms_cost_the_shift() {
    let histogram = |bins: usize, mean: f64| {
        let weights = Array1::from_shape_fn(bins, |k| (-0.5 * ((k as f64 - mean) / 10.0).powi(2)).exp());
        &weights / weights.sum()
    };
    let cost = Array2::from_shape_fn((500, 600), |(i, j)| (i as f64 - j as f64).abs());
    let coupling = solve(&cost, &histogram(500, 300.0), &histogram(600, 400.0)).unwrap();
    assert!((coupling.value - 100.0).abs() < 1e-7, "{}", coupling.value);
    assert!(coupling.gap().abs() <= 1e-9, "{}", coupling.gap());
    assert_eq!(coupling.status, Status::Converged);
}

#[test]
fn one_dimension_is_the_sorted_plan() {
    let mut state = 9;
    let mut x: Vec<f64> = (0..80).map(|_| noise(&mut state)).collect();
    let mut y: Vec<f64> = (0..80).map(|_| noise(&mut state) + 0.3).collect();
    let cost = Array2::from_shape_fn((80, 80), |(i, j)| (x[i] - y[j]).powi(2));
    let coupling = solve(&cost, &uniform(80), &uniform(80)).unwrap();
    x.sort_by(f64::total_cmp);
    y.sort_by(f64::total_cmp);
    let sorted: f64 = x.iter().zip(&y).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / 80.0;
    assert!((coupling.value - sorted).abs() < 1e-12);
}

#[test]
fn large_entries_of_pot_229() {
    let cost = array![
        [2.50275352e02, 3.74653218e02, 2.41352736e03, 1.00000000e32, 1.51751540e-03],
        [2.13082030e02, 3.28812836e02, 2.29487946e03, 1.00000000e32, 1.37109800e-01],
        [1.97333083e02, 3.09175848e02, 2.24250550e03, 1.00000000e32, 2.46506283e00],
        [1.00000000e32, 1.00000000e32, 1.00000000e32, 5.26223432e00, 2.50000000e31],
        [3.84690152e01, 8.09465684e01, 3.33064175e02, 2.50000000e31, 0.00000000e00],
    ];
    let masses = array![0.125, 0.125, 0.125, 0.125, 0.5];
    let coupling = solve(&cost, &masses, &masses).unwrap();
    assert!((coupling.value - 57.543_210_383_175_0).abs() < 1e-12, "{}", coupling.value);
    let forbidden = cost.mapv(|c| if c > 1e30 { f64::INFINITY } else { c });
    let coupling = solve(&forbidden, &masses, &masses).unwrap();
    assert!((coupling.value - 57.543_210_383_175_0).abs() < 1e-12, "{}", coupling.value);
    assert!(coupling.gap().abs() < 1e-9, "{}", coupling.gap());
}

#[test]
fn zero_masses_are_empty_and_change_nothing() {
    let cost = squared(&points(12, 2, 1), &points(9, 2, 2));
    let mut a = points(12, 1, 3).column(0).to_owned();
    let mut b = points(9, 1, 4).column(0).to_owned();
    a[0] = 0.0;
    a[7] = 0.0;
    b[8] = 0.0;
    a /= a.sum();
    b /= b.sum();
    let coupling = solve(&cost, &a, &b).unwrap();
    assert!(coupling.plan.row(0).iter().chain(coupling.plan.row(7)).chain(coupling.plan.column(8)).all(|&p| p == 0.0));
    let rows: Vec<usize> = (0..12).filter(|i| ![0, 7].contains(i)).collect();
    let small = Array2::from_shape_fn((10, 8), |(i, j)| cost[[rows[i], j]]);
    let kept = rows.iter().map(|&i| a[i]).collect::<Array1<f64>>();
    let alone = solve(&small, &kept, &b.slice(ndarray::s![..8]).to_owned()).unwrap();
    assert!((coupling.value - alone.value).abs() < 1e-15 && coupling.gap().abs() < 1e-12);
}

#[test]
fn forbidden_arcs_of_zero_mass_points_leave_finite_duals() {
    let cost = array![[0.0, f64::INFINITY], [f64::INFINITY, f64::INFINITY]];
    let coupling = solve(&cost, &array![1.0, 0.0], &array![1.0, 0.0]).unwrap();
    assert_eq!(coupling.plan, array![[1.0, 0.0], [0.0, 0.0]]);
    assert!(coupling.f.iter().chain(&coupling.g).all(|d| d.is_finite()));
}

#[test]
fn infeasible_patterns_are_errors() {
    let inf = f64::INFINITY;
    let cases = [
        (array![[inf]], array![1.0], array![1.0], 1.0),
        (array![[0.0, inf], [0.0, inf]], array![0.5, 0.5], array![0.5, 0.5], 0.5),
        (array![[0.0, inf], [inf, 0.0]], array![0.6, 0.4], array![0.5, 0.5], 0.1),
        (array![[0.0, inf], [inf, 0.0]], array![0.5001, 0.4999], array![0.5, 0.5], 1e-4),
    ];
    for (cost, a, b, stranded) in cases {
        match solve(&cost, &a, &b) {
            Err(OtError::Infeasible { stranded: found, total }) => {
                assert!((found - stranded).abs() < 1e-9 && (total - 1.0).abs() < 1e-9, "{found} of {total}");
            }
            other => panic!("{other:?}"),
        }
    }
    // Blocks that balance up to rounding are feasible.
    let third = 1.0 / 3.0;
    let cost = array![[0.0, inf, inf], [inf, 1.0, 2.0], [inf, 2.0, 1.0]];
    let coupling = solve(&cost, &array![third, third, third], &array![1.0 - 2.0 * third, third, third]).unwrap();
    assert!((coupling.value - 2.0 * third).abs() < 1e-15);
}

#[test]
fn ties_terminate_at_the_optimum() {
    for n in [2, 5, 24] {
        let constant = solve(&Array2::from_elem((n, n), 3.0), &uniform(n), &uniform(n)).unwrap();
        assert!((constant.value - 3.0).abs() < 1e-14);
        let wide = solve(&Array2::from_elem((n, 3 * n), -2.0), &uniform(n), &uniform(3 * n)).unwrap();
        assert!((wide.value + 2.0).abs() < 1e-14);
    }
    // A grid against itself moved by one cell; each row of 12 must move by one.
    let cell = |k: usize| ((k % 12) as f64, (k / 12) as f64);
    let cost = Array2::from_shape_fn((144, 144), |(i, j)| {
        let ((x, y), (u, v)) = (cell(i), cell(j));
        (x - u - 1.0).abs() + (y - v).abs()
    });
    let coupling = solve(&cost, &uniform(144), &uniform(144)).unwrap();
    assert!((coupling.value - 1.0).abs() < 1e-12 && coupling.gap().abs() < 1e-12, "{}", coupling.value);
    // Duplicated points: every point three times.
    let x = points(20, 2, 8);
    let thrice = Array2::from_shape_fn((60, 2), |(i, k)| x[[i / 3, k]]);
    let turned = Array2::from_shape_fn((60, 2), |(i, k)| x[[i % 20, k]]);
    assert!(solve(&squared(&thrice, &turned), &uniform(60), &uniform(60)).unwrap().value.abs() < 1e-15);
}

/// Squared distances on a line have as many ties in exact arithmetic as there are pairs, and in f64 none: a simplex
/// that trusts rounded potentials walks in circles here.
#[test]
fn ties_that_rounding_hides_do_not_cycle() {
    for seed in 0..200 {
        let mut state = seed;
        let mut whole = |below: f64| (noise(&mut state) * below).floor();
        let mut points = |n: usize| -> Vec<(f64, f64)> {
            (0..n).map(|_| (whole(2.0) + 0.02 * whole(101.0) / 100.0, 1.0 + whole(20.0))).collect()
        };
        let (mut x, mut y) = (points(22), points(30));
        let masses = |points: &[(f64, f64)]| {
            let weights = points.iter().map(|p| p.1).collect::<Array1<f64>>();
            &weights / weights.sum()
        };
        let cost = Array2::from_shape_fn((22, 30), |(i, j)| (x[i].0 - y[j].0).powi(2));
        let coupling = solve(&cost, &masses(&x), &masses(&y)).unwrap();
        x.sort_by(|p, q| p.0.total_cmp(&q.0));
        y.sort_by(|p, q| p.0.total_cmp(&q.0));
        let monotone = sorted_cost(&x, &y);
        assert!((coupling.value - monotone).abs() < 1e-12, "seed {seed}: {} not {monotone}", coupling.value);
        assert!(coupling.gap().abs() < 1e-12, "seed {seed}: {}", coupling.gap());
    }
}

/// Cost of the plan that keeps the order, for sorted (place, weight) pairs.
fn sorted_cost(x: &[(f64, f64)], y: &[(f64, f64)]) -> f64 {
    let total = |points: &[(f64, f64)]| points.iter().map(|p| p.1).sum::<f64>();
    // Whole numbers of units on both sides, so that no mass is lost to rounding.
    let (of_x, of_y) = (total(y), total(x));
    let (mut i, mut j, mut cost) = (0, 0, 0.0);
    let (mut left_x, mut left_y) = (x[0].1 * of_x, y[0].1 * of_y);
    loop {
        let moved = left_x.min(left_y);
        cost += moved * (x[i].0 - y[j].0).powi(2);
        (left_x, left_y) = (left_x - moved, left_y - moved);
        if left_x == 0.0 {
            i += 1;
            let Some(next) = x.get(i) else { return cost / (of_x * of_y) };
            left_x = next.1 * of_x;
        }
        if left_y == 0.0 {
            j += 1;
            let Some(next) = y.get(j) else { return cost / (of_x * of_y) };
            left_y = next.1 * of_y;
        }
    }
}

#[test]
fn the_plan_does_not_depend_on_the_scale_of_cost_or_mass() {
    let (cost, a) = (squared(&points(9, 2, 1), &points(9, 2, 2)), uniform(9));
    let plain = solve(&cost, &a, &a).unwrap();
    for scale in [1e-140, 1e-6, 1e6, 1e140] {
        // Dual slack is absolute in `solve`, which large costs cannot pass.
        let scaled = &cost * scale;
        let coupling = Exact::new().solve(&Problem::new(scaled.view(), a.view(), a.view()).unwrap()).unwrap();
        assert!((coupling.value / (plain.value * scale) - 1.0).abs() < 1e-12);
        let heavy = solve(&cost, &(&a * scale), &(&a * scale)).unwrap();
        assert!((heavy.value / (plain.value * scale) - 1.0).abs() < 1e-12);
    }
}

#[test]
fn an_early_end_is_a_status_with_feasible_duals() {
    let (cost, a) = (squared(&points(40, 2, 1), &points(40, 2, 2)), uniform(40));
    let problem = Problem::new(cost.view(), a.view(), a.view()).unwrap();
    let best = Exact::new().solve(&problem).unwrap();
    let early = Exact::new().max_iterations(60).unwrap().solve(&problem).unwrap();
    assert_eq!((early.status, early.iterations), (Status::IterationLimit, 60));
    assert!(early.dual_value <= best.value + 1e-12);
    assert!(matches!(early.require_converged(), Err(OtError::NotConverged { iterations: 60, .. })));
    assert_eq!(Exact::new().max_iterations(0), Err(OtError::MaxIterations));
}

#[test]
fn an_assignment_that_ends_early_is_a_status_too() {
    let (cost, a) = (squared(&points(40, 2, 1), &points(40, 2, 2)), uniform(40));
    let problem = Problem::new(cost.view(), a.view(), a.view()).unwrap();
    let best = Exact::new().solve(&problem).unwrap();
    for limit in [1, 20, 60] {
        let early =
            Exact::new().algorithm(Algorithm::Assignment).max_iterations(limit).unwrap().solve(&problem).unwrap();
        assert_eq!((early.status, early.iterations), (Status::IterationLimit, limit));
        assert!(early.dual_value <= best.value + 1e-12 && early.marginal_error > 0.01);
    }
}

#[test]
fn an_assignment_of_another_shape_is_refused() {
    let assign = |a: &Array1<f64>, b: &Array1<f64>| {
        let cost = Array2::zeros((a.len(), b.len()));
        let problem = Problem::new(cost.view(), a.view(), b.view()).unwrap();
        Exact::new().algorithm(Algorithm::Assignment).solve(&problem).map(|found| found.plan)
    };
    let refused = |sources, targets, lowest, highest| Err(OtError::NotAssignment { sources, targets, lowest, highest });
    assert_eq!(assign(&uniform(2), &uniform(4)), refused(2, 4, 0.25, 0.5));
    assert_eq!(assign(&array![0.25, 0.75], &uniform(2)), refused(2, 2, 0.25, 0.75));
    // Points of zero mass do not count.
    let plan = assign(&array![0.5, 0.0, 0.5], &array![0.5, 0.5]).unwrap();
    assert_eq!(plan.sum_axis(Axis(1)), array![0.5, 0.0, 0.5]);
}

/// The instance with one mass for every point, and square.
fn equalised(instance: &Instance) -> (Array2<f64>, Array1<f64>) {
    let n = instance.cost.nrows().min(instance.cost.ncols());
    (instance.cost.slice(ndarray::s![..n, ..n]).to_owned(), uniform(n))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// `solve` checks the certificate of each; here they also fail together.
    #[test]
    fn assignment_is_the_simplex_on_equal_masses(instance in prop_oneof![
        instances(Kind::Random, 12, 1.0),
        instances(Kind::Degenerate, 30, 1.0),
        instances(Kind::Clustered, 20, 1.0),
        instances(Kind::Duplicated, 12, 1.0),
        instances(Kind::WideCost, 12, 1.0),
        instances(Kind::Forbidden, 12, 1.0),
        instances(Kind::Infeasible, 12, 1.0),
    ]) {
        let (cost, a) = equalised(&instance);
        let problem = Problem::new(cost.view(), a.view(), a.view()).unwrap();
        let by = |algorithm| Exact::new().algorithm(algorithm).solve(&problem);
        match (by(Algorithm::Simplex), by(Algorithm::Assignment)) {
            (Ok(simplex), Ok(assignment)) => {
                let scale = 1.0 + simplex.value.abs();
                prop_assert!((simplex.value - assignment.value).abs() < 1e-12 * scale);
                prop_assert!(assignment.gap().abs() < 1e-12 * scale && assignment.marginal_error < 1e-15);
                prop_assert_eq!(by(Algorithm::Assignment).unwrap(), assignment);
            }
            (Err(OtError::Infeasible { stranded, total }), Err(OtError::Infeasible { stranded: found, total: of })) => {
                prop_assert!((stranded - found).abs() < 1e-12 && (total - of).abs() < 1e-12);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

/// Large enough for several rounds, both algorithms and their handing over.
#[test]
fn large_problems_are_certified() {
    let inf = f64::INFINITY;
    let (x, y) = (points(400, 1, 3), points(300, 1, 4));
    let (flat, noisy) = (points(400, 3, 5), points(300, 3, 6));
    let mut state = 7;
    let band = |i: usize, j: usize| if (3 * i).abs_diff(4 * j) > 300 { inf } else { (x[[i, 0]] - y[[j, 0]]).powi(2) };
    let costs = [
        ("line", squared(&x, &y)),
        ("space", squared(&flat, &noisy)),
        ("band", Array2::from_shape_fn((400, 300), |(i, j)| band(i, j))),
        (
            "half",
            Array2::from_shape_simple_fn((400, 300), || if noise(&mut state) < 0.5 { inf } else { noise(&mut state) }),
        ),
        ("sum", Array2::from_shape_fn((400, 300), |(i, j)| x[[i, 0]] + y[[j, 0]])),
        ("product", Array2::from_shape_fn((400, 300), |(i, j)| x[[i, 0]] * y[[j, 0]])),
        ("whole", Array2::from_shape_fn((400, 300), |(i, j)| ((7 * i + 11 * j + i * j) % 5) as f64)),
    ];
    for (name, cost) in &costs {
        let masses = |n: usize, seed: u64| {
            let weights = points(n, 1, seed).column(0).mapv(|w| w + 0.5);
            &weights / weights.sum()
        };
        let coupling = solve(cost, &masses(400, 8), &masses(300, 9)).unwrap();
        assert!(coupling.gap().abs() < 1e-12 && coupling.marginal_error < 1e-14, "{name}: {}", coupling.gap());
        let square = cost.slice(ndarray::s![..300, ..]).to_owned();
        let one = uniform(300);
        let problem = Problem::new(square.view(), one.view(), one.view()).unwrap();
        let by = |algorithm| Exact::new().algorithm(algorithm).solve(&problem);
        match [by(Algorithm::Auto), by(Algorithm::Simplex), by(Algorithm::Assignment)] {
            [Ok(auto), Ok(simplex), Ok(assignment)] => {
                for found in [auto, assignment] {
                    assert!((found.value - simplex.value).abs() < 1e-12 && found.gap().abs() < 1e-12, "{name}");
                }
            }
            [Err(OtError::Infeasible { .. }), Err(OtError::Infeasible { .. }), Err(OtError::Infeasible { .. })] => {
                assert_eq!(*name, "band");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}
