//! Costs of points: the formulas, blocks, and the solver that never stores them.

use ndarray::{Array1, Array2, array, s};
use tavq_ot::{Acceleration, Metric, OtError, Points, Problem, Side, Sinkhorn, Solver};

mod common;
use common::{Owned, distance, points};

fn by_hand(x: &Array2<f64>, y: &Array2<f64>, cost: impl Fn(&Array1<f64>, &Array1<f64>) -> f64) -> Array2<f64> {
    Array2::from_shape_fn((x.nrows(), y.nrows()), |(i, j)| cost(&x.row(i).to_owned(), &y.row(j).to_owned()))
}

fn l1(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x - y).abs()).sum()
}

#[test]
fn costs_are_the_formulas() {
    for (n, m, d) in [(1, 1, 1), (5, 7, 3), (33, 70, 2), (9, 40, 19)] {
        let (x, y) = (points(n, d, 3) + 5.0, points(m, d, 4) + 5.0);
        let norm = |v: &Array1<f64>| v.dot(v).sqrt();
        let cases = [
            (Metric::SquaredEuclidean, by_hand(&x, &y, |x, y| (x - y).dot(&(x - y)))),
            (Metric::Euclidean, by_hand(&x, &y, |x, y| norm(&(x - y)))),
            (Metric::Cosine, by_hand(&x, &y, |x, y| 1.0 - x.dot(y) / norm(x) / norm(y))),
            (Metric::Custom(&l1), by_hand(&x, &y, |x, y| (x - y).mapv(f64::abs).sum())),
        ];
        for (metric, expected) in cases {
            let cloud = Points::new(x.view(), y.view(), metric).unwrap();
            assert!(distance(&cloud.costs(), &expected) < 1e-12, "{metric:?} {n} {m} {d}");
            let mut block = Array2::zeros((n.div_ceil(2), m.div_ceil(2)));
            cloud.write_block(0..n.div_ceil(2), m / 2..m, block.view_mut()).unwrap();
            let part = expected.slice(s![..n.div_ceil(2), m / 2..]).to_owned();
            assert!(distance(&block, &part) < 1e-12, "{metric:?}");
        }
    }
}

#[test]
fn the_matrix_free_solver_is_the_stored_one() {
    for (n, m) in [(1, 1), (30, 40), (7, 600)] {
        let (x, y) = (points(n, 3, 1), points(m, 3, 2));
        let owned = Owned::random(n, m, 5);
        for metric in [Metric::SquaredEuclidean, Metric::Euclidean, Metric::Cosine, Metric::Custom(&l1)] {
            let cloud = Points::new(x.view(), y.view(), metric).unwrap();
            for acceleration in [Acceleration::None, Acceleration::Auto] {
                let sinkhorn = Sinkhorn::new(0.05).unwrap().tolerance(1e-12).unwrap().acceleration(acceleration);
                let lean = sinkhorn.solve_points(&cloud, owned.source.view(), owned.target.view()).unwrap();
                let costs = cloud.costs();
                let stored = sinkhorn
                    .solve(&Problem::new(costs.view(), owned.source.view(), owned.target.view()).unwrap())
                    .unwrap();
                assert!((lean.value - stored.value).abs() < 1e-10, "{metric:?}");
                assert!((lean.regularized_value - stored.regularized_value).abs() < 1e-10);
                assert!(lean.marginal_error <= 1e-12 && lean.gap().abs() < 1e-10);
            }
        }
    }
}

#[test]
fn single_precision_serves_points_far_from_zero() {
    let (x, y) = (points(50, 3, 1) + 1e4, points(60, 3, 2) + 1e4);
    let owned = Owned::random(50, 60, 5);
    let cloud = Points::new(x.view(), y.view(), Metric::SquaredEuclidean).unwrap();
    let double = Sinkhorn::new(0.05).unwrap().tolerance(1e-5).unwrap();
    let single = double.precision(tavq_ot::Precision::Single);
    let solve = |s: Sinkhorn| {
        s.solve_points(&cloud, owned.source.view(), owned.target.view()).unwrap().require_converged().unwrap()
    };
    assert!((solve(double).value - solve(single).value).abs() < 1e-5);
}

#[test]
fn wrong_points_are_refused() {
    let (x, y) = (points(3, 2, 1), points(4, 2, 2));
    let new =
        |x: &Array2<f64>, y: &Array2<f64>, metric| Points::new(x.view(), y.view(), metric).map(|_| ()).unwrap_err();
    let metric = Metric::Euclidean;
    assert_eq!(new(&Array2::zeros((0, 2)), &y, metric), OtError::EmptyPoints { sources: (0, 2), targets: (4, 2) });
    assert_eq!(new(&points(3, 3, 1), &y, metric), OtError::PointDimension { source_dimension: 3, target_dimension: 2 });
    for bad in [f64::NAN, f64::INFINITY, 1e71] {
        let mut y = y.clone();
        y[[2, 1]] = bad;
        let found = new(&x, &y, metric);
        assert!(matches!(found, OtError::PointValue { side: Side::Target, index: 2, coordinate: 1, .. }), "{found}");
    }
    let mut zero = x.clone();
    zero.row_mut(1).fill(0.0);
    assert_eq!(new(&zero, &y, Metric::Cosine), OtError::PointZero { side: Side::Source, index: 1 });

    let cloud = Points::new(x.view(), y.view(), metric).unwrap();
    let refused = cloud.write_block(0..2, 3..5, Array2::zeros((2, 2)).view_mut()).unwrap_err();
    assert!(matches!(refused, OtError::BlockShape { last_column: 5, .. }), "{refused}");
    let refused = cloud.write_block(0..2, 0..2, Array2::zeros((2, 3)).view_mut()).unwrap_err();
    assert!(matches!(refused, OtError::BlockShape { found: (2, 3), .. }), "{refused}");
}

#[test]
fn wrong_masses_and_custom_costs_are_refused_before_iterating() {
    fn refused(x: &Array2<f64>, y: &Array2<f64>, metric: Metric<'_>, a: &Array1<f64>, b: &Array1<f64>) -> OtError {
        let cloud = Points::new(x.view(), y.view(), metric).unwrap();
        Sinkhorn::new(0.1).unwrap().solve_points(&cloud, a.view(), b.view()).map(|_| ()).unwrap_err()
    }
    let (x, y) = (points(3, 2, 1), points(4, 2, 2));
    let owned = Owned::random(3, 4, 1);
    let found = refused(&x, &y, Metric::Euclidean, &array![0.5, 0.5], &owned.target);
    assert_eq!(found, OtError::MassLength { side: Side::Source, expected: 3, found: 2 });
    let found = refused(&x, &y, Metric::Euclidean, &array![1.0, 1.0, 1.0], &owned.target);
    assert!(matches!(found, OtError::MassesDiffer { .. }));
    let bad = |bad: f64| {
        let second = y[[1, 0]];
        let cost = move |_: &[f64], y: &[f64]| if y[0] == second { bad } else { 1.0 };
        refused(&x, &y, Metric::Custom(&cost), &owned.source, &owned.target)
    };
    assert_eq!(bad(f64::NAN), OtError::CostNan { row: 0, column: 1 });
    assert_eq!(bad(f64::INFINITY), OtError::CostForbidden { row: 0, column: 1 });
    assert_eq!(bad(f64::NEG_INFINITY), OtError::CostNegativeInfinity { row: 0, column: 1 });
    assert_eq!(bad(-1e200), OtError::CostRange { row: 0, column: 1, value: -1e200 });
}
