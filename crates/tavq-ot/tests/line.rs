//! Transport on a line against the exact solver, and its sliced mean.

use ndarray::{Array1, Array2, array};
use proptest::prelude::*;
use tavq_ot::{Exact, Line, OtError, Problem, Side, Sliced, Solver, Status};

fn costs(x: &Array1<f64>, y: &Array1<f64>, power: f64) -> Array2<f64> {
    Array2::from_shape_fn((x.len(), y.len()), |(i, j)| (x[i] - y[j]).abs().powf(power))
}

fn normalized(weights: &[u8]) -> Array1<f64> {
    let weights = weights.iter().map(|&w| f64::from(w)).collect::<Array1<f64>>();
    &weights / weights.sum()
}

/// Places with ties (a coarse grid) or without, and masses of which some are 0.
fn side() -> impl Strategy<Value = (Array1<f64>, Array1<f64>)> {
    (1_usize..14, any::<bool>()).prop_flat_map(|(n, coarse)| {
        let place = if coarse { (0..5_u32).prop_map(f64::from).boxed() } else { (-3.0..3.0_f64).boxed() };
        let masses = prop::collection::vec(0_u8..6, n).prop_map(|mut weights| {
            let last = weights.len() - 1;
            weights[last] = weights[last].max(1);
            normalized(&weights)
        });
        (prop::collection::vec(place, n).prop_map(Array1::from_vec), masses)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_line_is_the_exact_solver(
        (x, a) in side(),
        (y, b) in side(),
        power in prop::sample::select(vec![1.0, 1.5, 2.0, 3.0]),
    ) {
        let line = Line::new(x.view(), y.view(), a.view(), b.view(), power).unwrap();
        let cost = costs(&x, &y, power);
        let best = Exact::new().solve(&Problem::new(cost.view(), a.view(), b.view()).unwrap()).unwrap();
        let coupling = line.solve();
        let scale = 1.0 + cost.iter().copied().fold(0.0, f64::max);
        prop_assert!((line.value() - best.value).abs() < 1e-12 * scale, "{} not {}", line.value(), best.value);
        prop_assert_eq!(coupling.value, line.value());
        prop_assert!(coupling.gap().abs() < 1e-12 * scale && coupling.marginal_error < 1e-15);
        for ((i, j), c) in cost.indexed_iter() {
            prop_assert!(coupling.f[i] + coupling.g[j] - c < 1e-12 * scale, "({}, {})", i, j);
        }
        prop_assert_eq!((coupling.status, coupling.iterations), (Status::Converged, 0));
        let arcs = line.arcs();
        prop_assert!(arcs.len() < x.len() + y.len());
        for pair in arcs.windows(2) {
            prop_assert!(x[pair[0].0] <= x[pair[1].0] && y[pair[0].1] <= y[pair[1].1]);
        }
        for (i, j, mass) in arcs {
            prop_assert!(mass > 0.0 && coupling.plan[[i, j]] == mass);
        }
    }
}

#[test]
fn each_wrong_line_has_its_own_error() {
    let one = array![1.0];
    let refused = |x: &[f64], y: &[f64], a: &[f64], b: &[f64], power: f64| {
        Line::new(x.into(), y.into(), a.into(), b.into(), power).unwrap_err()
    };
    assert_eq!(refused(&[], &[0.0], &[], &[1.0], 1.0), OtError::EmptyPoints { sources: (0, 1), targets: (1, 1) });
    let far = OtError::PointValue { side: Side::Target, index: 1, coordinate: 0, value: 1e71 };
    assert_eq!(refused(&[0.0], &[0.0, 1e71], &[1.0], &[0.5, 0.5], 1.0), far);
    let nan = refused(&[f64::NAN], &[0.0], &[1.0], &[1.0], 1.0);
    assert!(matches!(nan, OtError::PointValue { side: Side::Source, index: 0, value, .. } if value.is_nan()));
    let short = OtError::MassLength { side: Side::Target, expected: 1, found: 2 };
    assert_eq!(refused(&[0.0], &[0.0], &[1.0], &[0.5, 0.5], 1.0), short);
    let negative = OtError::MassNegative { side: Side::Source, index: 0, value: -1.0 };
    assert_eq!(refused(&[0.0], &[0.0], &[-1.0], &[1.0], 1.0), negative);
    let differ = OtError::MassesDiffer { source_total: 1.0, target_total: 2.0 };
    assert_eq!(refused(&[0.0], &[0.0], &[1.0], &[2.0], 1.0), differ);
    for value in [0.5, -1.0, f64::INFINITY] {
        assert_eq!(refused(&[0.0], &[0.0], &[1.0], &[1.0], value), OtError::Power { value });
    }
    let overflow = refused(&[0.0, 1e60], &[3.0], &[0.5, 0.5], &[1.0], 3.0);
    assert!(matches!(overflow, OtError::CostRange { row: 1, column: 0, .. }), "{overflow}");
    assert!(Line::new(one.view(), one.view(), one.view(), one.view(), f64::NAN).is_err());
}

fn cloud(n: usize, d: usize, seed: u64) -> Array2<f64> {
    let mut state = seed;
    Array2::from_shape_simple_fn((n, d), || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    })
}

#[test]
fn in_one_dimension_every_direction_is_the_line() {
    let (x, y) = (cloud(20, 1, 3), cloud(15, 1, 4));
    let (a, b) = (normalized(&[3; 20]), normalized(&(1..16).collect::<Vec<u8>>()));
    for power in [1.0, 2.0, 2.5] {
        let line = Line::new(x.column(0), y.column(0), a.view(), b.view(), power).unwrap();
        let sliced = Sliced::new(9, 5).unwrap().power(power).unwrap();
        let found = sliced.solve(x.view(), y.view(), a.view(), b.view()).unwrap();
        assert!((found.value - line.value()).abs() < 1e-14 && found.standard_error < 1e-15);
    }
}

#[test]
fn a_shift_costs_its_share_of_each_direction() {
    let x = cloud(30, 5, 1);
    let shift = array![1.0, -2.0, 0.0, 2.0, 4.0];
    let y = &x + &shift;
    let a = normalized(&[1; 30]);
    let found = Sliced::new(4000, 2).unwrap().solve(x.view(), y.view(), a.view(), a.view()).unwrap();
    assert!((found.value - 5.0).abs() < 4.0 * found.standard_error && found.standard_error < 0.15, "{}", found.value);
    // The mean gradient is that of |s|^2 / d.
    let total = found.y_gradient.sum_axis(ndarray::Axis(0));
    assert!((&total - &(&shift * 0.4)).iter().all(|off| off.abs() < 0.2), "{total}");
    let alone = Sliced::new(1, 2).unwrap().solve(x.view(), x.view(), a.view(), a.view()).unwrap();
    assert_eq!((alone.value, alone.standard_error), (0.0, f64::INFINITY));
}

#[test]
fn sliced_gradients_are_differences() {
    let (x, y) = (cloud(6, 3, 7), cloud(4, 3, 8));
    let (a, b) = (normalized(&[1, 2, 3, 0, 1, 1]), normalized(&[2, 1, 1, 4]));
    for power in [1.0, 2.0, 3.0] {
        let sliced = Sliced::new(40, 3).unwrap().power(power).unwrap();
        let value =
            |x: &Array2<f64>, y: &Array2<f64>| sliced.solve(x.view(), y.view(), a.view(), b.view()).unwrap().value;
        let found = sliced.solve(x.view(), y.view(), a.view(), b.view()).unwrap();
        const STEP: f64 = 1e-6;
        for (gradient, on_x) in [(&found.x_gradient, true), (&found.y_gradient, false)] {
            for (place, &expected) in gradient.indexed_iter() {
                let moved = |step: f64| {
                    let (mut x, mut y) = (x.clone(), y.clone());
                    (if on_x { &mut x } else { &mut y })[place] += step;
                    value(&x, &y)
                };
                let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                assert!((slope - expected).abs() < 1e-8, "p {power} {place:?}: {slope} not {expected}");
            }
        }
        assert!(found.x_gradient.row(3).iter().all(|&v| v == 0.0));
    }
}

#[test]
fn threads_and_calls_do_not_change_a_bit() {
    let (x, y) = (cloud(50, 8, 1), cloud(40, 8, 2));
    let (a, b) = (normalized(&[1; 50]), normalized(&[1; 40]));
    let solve = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| Sliced::new(77, seed).unwrap().solve(x.view(), y.view(), a.view(), b.view()).unwrap())
    };
    let one = solve(1, 4);
    assert_eq!(one, solve(8, 4));
    assert_ne!(one.value, solve(1, 5).value);
}

#[test]
fn wrong_slices_have_their_own_errors() {
    assert_eq!(Sliced::new(0, 1), Err(OtError::Projections));
    assert_eq!(Sliced::new(1, 1).unwrap().power(0.0), Err(OtError::Power { value: 0.0 }));
    let (x, y, one) = (cloud(1, 2, 1), cloud(1, 3, 1), array![1.0]);
    let solve = |y: &Array2<f64>, b: &Array1<f64>| {
        Sliced::new(2, 1).unwrap().solve(x.view(), y.view(), one.view(), b.view()).unwrap_err()
    };
    assert_eq!(solve(&y, &one), OtError::PointDimension { source_dimension: 2, target_dimension: 3 });
    assert_eq!(solve(&x, &array![2.0]), OtError::MassesDiffer { source_total: 1.0, target_total: 2.0 });
    assert!(matches!(
        Sliced::new(2, 1).unwrap().power(9.0).unwrap().solve((&x + 1e20).view(), x.view(), one.view(), one.view()),
        Err(OtError::CostRange { .. })
    ));
}
