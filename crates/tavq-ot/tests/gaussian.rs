//! Gaussians: agreement with golden/gaussian.py, the map, and refusals.

use ndarray::{Array1, Array2, array};
use tavq_ot::{Gaussian, OtError};

#[derive(serde::Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    mean1: Vec<f64>,
    covariance1: Vec<Vec<f64>>,
    mean2: Vec<f64>,
    covariance2: Vec<Vec<f64>>,
    squared_distance: f64,
}

fn gaussian(mean: &[f64], covariance: &[Vec<f64>]) -> Gaussian {
    let flat: Vec<f64> = covariance.iter().flatten().copied().collect();
    let covariance = Array2::from_shape_vec((mean.len(), mean.len()), flat).unwrap();
    Gaussian::new(mean.into(), covariance.view()).unwrap()
}

#[test]
fn distances_are_those_of_sixty_digits() {
    let file: File = serde_json::from_str(include_str!("../golden/gaussians.json")).unwrap();
    assert_eq!(file.cases.len(), 9);
    for case in file.cases {
        let (one, two) = (gaussian(&case.mean1, &case.covariance1), gaussian(&case.mean2, &case.covariance2));
        let slack = 1e-8 * case.squared_distance.max(1.0);
        for found in [one.squared_distance(&two).unwrap(), two.squared_distance(&one).unwrap()] {
            let expected = case.squared_distance;
            assert!((found - expected).abs() < slack, "{}: {found} not {expected}", case.name);
        }
        assert!(one.squared_distance(&one).unwrap() < 1e-12, "{}", case.name);
    }
}

#[test]
fn diagonal_and_full_agree() {
    let (m1, m2) = (array![0.0, 1.0, -2.0], array![1.0, 1.0, 0.5]);
    let (v1, v2) = (array![4.0, 0.0, 1e-12], array![1.0, 9.0, 1.0]);
    let diagonal = |m: &Array1<f64>, v: &Array1<f64>| Gaussian::diagonal(m.view(), v.view()).unwrap();
    let full = |m: &Array1<f64>, v: &Array1<f64>| Gaussian::new(m.view(), Array2::from_diag(v).view()).unwrap();
    let expected = 1.0 + 6.25 + 1.0 + 9.0 + (1.0_f64 - 1e-6).powi(2);
    for (one, two) in [
        (diagonal(&m1, &v1), diagonal(&m2, &v2)),
        (diagonal(&m1, &v1), full(&m2, &v2)),
        (full(&m1, &v1), diagonal(&m2, &v2)),
        (full(&m1, &v1), full(&m2, &v2)),
    ] {
        assert!((one.squared_distance(&two).unwrap() - expected).abs() < 1e-12);
    }
    assert_eq!(diagonal(&m1, &v1).map_to(&full(&m2, &v2)), Err(OtError::CovarianceSingular { index: 1 }));
}

#[test]
fn the_map_carries_one_covariance_to_the_other_at_the_cost_of_the_distance() {
    let a = Array2::from_shape_fn((5, 5), |(i, j)| ((2 * i + 3 * j + i * j) % 7) as f64 - 3.0);
    let b = Array2::from_shape_fn((5, 5), |(i, j)| ((5 * i + j + 2 * i * j) % 9) as f64 - 4.0);
    let (s1, s2) = (a.dot(&a.t()) + Array2::<f64>::eye(5), b.dot(&b.t()));
    let (m1, m2) = (Array1::linspace(0.0, 1.0, 5), Array1::linspace(2.0, -1.0, 5));
    let one = Gaussian::new(m1.view(), s1.view()).unwrap();
    let two = Gaussian::new(m2.view(), s2.view()).unwrap();
    let map = one.map_to(&two).unwrap();
    assert!((map.apply(m1.view()) - &m2).iter().all(|off| off.abs() < 1e-12));
    assert!((map.matrix.dot(&s1).dot(&map.matrix.t()) - &s2).iter().all(|off| off.abs() < 1e-8));
    assert!((&map.matrix - &map.matrix.t()).iter().all(|off| off.abs() < 1e-12));
    // E |x - T x|^2 = |m1 - m2|^2 + tr (I - T) S1 (I - T)^T.
    let left = Array2::<f64>::eye(5) - &map.matrix;
    let cost = (&m1 - &m2).mapv(|v| v * v).sum() + left.dot(&s1).dot(&left.t()).diag().sum();
    assert!((cost - one.squared_distance(&two).unwrap()).abs() < 1e-8);
}

/// The cross term has an eigenvalue of 0, of which rounding leaves either sign.
#[test]
fn maps_onto_planes_cost_the_distance() {
    for seed in 0..60 {
        let entry = |i: usize, j: usize, k: usize| ((seed * 7 + k * i + 3 * j * j + i * j) % 11) as f64 - 5.0;
        let a = Array2::from_shape_fn((4, 4), |(i, j)| entry(i, j, 2));
        let flat = Array2::from_shape_fn((4, 2), |(i, j)| entry(i, j, 5));
        let (s1, s2) = (a.dot(&a.t()) + Array2::<f64>::eye(4), flat.dot(&flat.t()));
        let mean = Array1::zeros(4);
        let one = Gaussian::new(mean.view(), s1.view()).unwrap();
        let two = Gaussian::new(mean.view(), s2.view()).unwrap();
        let left = Array2::<f64>::eye(4) - &one.map_to(&two).unwrap().matrix;
        let cost = left.dot(&s1).dot(&left.t()).diag().sum();
        let found = one.squared_distance(&two).unwrap();
        assert!((cost - found).abs() < 1e-10 * (1.0 + found), "{seed}: {cost} {found}");
    }
}

#[test]
fn each_wrong_gaussian_has_its_own_error() {
    let zero = array![0.0, 0.0];
    let refused = |covariance: Array2<f64>| Gaussian::new(zero.view(), covariance.view()).unwrap_err();
    assert_eq!(refused(Array2::eye(3)), OtError::GaussianShape { mean: 2, covariance: (3, 3) });
    let asymmetric = OtError::CovarianceAsymmetric { row: 1, column: 0, value: 0.5, mirrored: 0.25 };
    assert_eq!(refused(array![[1.0, 0.25], [0.5, 1.0]]), asymmetric);
    let nan = refused(array![[1.0, f64::NAN], [0.0, 1.0]]);
    assert!(matches!(nan, OtError::CovarianceValue { row: 0, column: 1, value } if value.is_nan()));
    let large = OtError::CovarianceValue { row: 1, column: 1, value: 1e141 };
    assert_eq!(refused(array![[1.0, 0.0], [0.0, 1e141]]), large);
    let negative = refused(array![[1.0, 2.0], [2.0, 1.0]]);
    let below = |e: f64| (e + 1.0).abs() < 1e-14;
    assert!(matches!(negative, OtError::CovarianceNegative { index: 0, eigenvalue } if below(eigenvalue)));
    let infinite = array![0.0, f64::INFINITY];
    let mean = Gaussian::new(infinite.view(), Array2::eye(2).view()).unwrap_err();
    assert_eq!(mean, OtError::GaussianMean { index: 1, value: f64::INFINITY });
    let variance = Gaussian::diagonal(zero.view(), array![1.0, -0.5].view()).unwrap_err();
    assert_eq!(variance, OtError::CovarianceNegative { index: 1, eigenvalue: -0.5 });
    let none = Gaussian::new(array![].view(), Array2::zeros((0, 0)).view()).unwrap_err();
    assert_eq!(none, OtError::GaussianShape { mean: 0, covariance: (0, 0) });
    let (two, three) = (Gaussian::diagonal(zero.view(), zero.view()), Array1::<f64>::zeros(3));
    let three = Gaussian::diagonal(three.view(), three.view()).unwrap();
    let dimension = OtError::GaussianDimension { source_dimension: 2, target_dimension: 3 };
    assert_eq!(two.unwrap().squared_distance(&three), Err(dimension));
}
