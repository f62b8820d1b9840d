//! The contract on input: one distinct error for each way to be wrong, and no panic on any array.

use std::mem::discriminant;

use ndarray::{Array1, Array2, array};
use tavq_ot::{OtError, Problem, Side};

fn refusal(cost: &Array2<f64>, a: &Array1<f64>, b: &Array1<f64>) -> OtError {
    Problem::new(cost.view(), a.view(), b.view()).expect_err("accepted")
}

#[test]
fn each_wrong_input_has_its_own_error() {
    let (cost, half) = (array![[0.0, 1.0], [1.0, 0.0]], array![0.5, 0.5]);
    let with = |value: f64| array![[0.0, 1.0], [value, 0.0]];
    let (source, target) = (Side::Source, Side::Target);
    let expected = [
        (refusal(&Array2::zeros((0, 2)), &array![], &half), OtError::EmptyCost { rows: 0, columns: 2 }),
        (refusal(&cost, &array![1.0], &half), OtError::MassLength { side: source, expected: 2, found: 1 }),
        (refusal(&with(f64::NAN), &half, &half), OtError::CostNan { row: 1, column: 0 }),
        (refusal(&with(f64::NEG_INFINITY), &half, &half), OtError::CostNegativeInfinity { row: 1, column: 0 }),
        (refusal(&with(-1e151), &half, &half), OtError::CostRange { row: 1, column: 0, value: -1e151 }),
        (refusal(&cost, &half, &array![1.5, -0.5]), OtError::MassNegative { side: target, index: 1, value: -0.5 }),
        (refusal(&cost, &array![f64::NAN, 1.0], &half), OtError::MassNan { side: source, index: 0 }),
        (refusal(&cost, &half, &array![0.0, f64::INFINITY]), OtError::MassInfinite { side: target, index: 1 }),
        (refusal(&cost, &array![0.0, -0.0], &half), OtError::MassAllZero { side: source, count: 2 }),
        (refusal(&cost, &array![1e151, 0.0], &half), OtError::MassRange { side: source, total: 1e151 }),
        (refusal(&cost, &half, &array![1.0, 1.0]), OtError::MassesDiffer { source_total: 1.0, target_total: 2.0 }),
    ];
    for (found, expected) in &expected {
        assert_eq!(found, expected);
        let message = found.to_string();
        assert!(message.contains("expected") && message.contains("found") && !message.contains('\n'), "{message}");
    }
    for (k, (first, _)) in expected.iter().enumerate() {
        for (second, _) in &expected[k + 1..] {
            assert_ne!(discriminant(first), discriminant(second));
        }
    }
    assert_eq!(refusal(&Array2::zeros((2, 0)), &half, &array![]), OtError::EmptyCost { rows: 2, columns: 0 });
    assert_eq!(refusal(&cost, &half, &array![]), OtError::MassLength { side: target, expected: 2, found: 0 });
    assert!(matches!(
        refusal(&cost, &array![f64::MAX, f64::MAX], &half),
        OtError::MassRange { side: Side::Source, .. }
    ));
}

#[test]
fn the_mass_slack_is_a_millionth() {
    let cost = array![[0.0, 1.0]];
    let one = array![1.0];
    assert!(Problem::new(cost.view(), one.view(), array![0.5, 0.5 + 0.9e-6].view()).is_ok());
    assert!(Problem::new(cost.view(), one.view(), array![0.5, 0.5 - 0.9e-6].view()).is_ok());
    assert!(matches!(refusal(&cost, &one, &array![0.5, 0.5 + 1.1e-6]), OtError::MassesDiffer { .. }));
}
