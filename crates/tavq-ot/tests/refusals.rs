//! The contract on input: one distinct error for each way to be wrong, and no panic on any array.

use std::mem::discriminant;

use ndarray::{Array1, Array2, array};
use proptest::prelude::*;
use tavq_ot::{Exact, OtError, Problem, Side, Sinkhorn, Solver, Status};

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

/// Any f64 at all, with the awkward ones often.
fn any_number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        prop::sample::select(vec![0.0, -0.0, 1.0, 0.5, f64::INFINITY, f64::NAN, 1e150, -1e150, 1e-150, 5e-324, 1e-310]),
        (0_u8..4).prop_map(f64::from),
    ]
}

/// A number that is a legal cost, at any magnitude.
fn any_cost() -> impl Strategy<Value = f64> {
    any_number().prop_map(|c| if c == f64::INFINITY || c.abs() <= 1e150 { c } else { 1.0 })
}

/// A number that is a legal mass and leaves the total in range.
fn any_mass() -> impl Strategy<Value = f64> {
    any_number().prop_map(|m| if (0.0..=1e140).contains(&m) { m } else { 1.0 })
}

fn sound(problem: &Problem<'_>, solver: &dyn Solver) -> Result<(), TestCaseError> {
    match solver.solve(problem) {
        Err(error) => prop_assert!(matches!(error, OtError::Infeasible { .. }), "{error}"),
        Ok(coupling) => {
            prop_assert_eq!(coupling.plan.dim(), problem.dim());
            prop_assert!(coupling.plan.iter().all(|p| p.is_finite() && *p >= 0.0), "{:?}", coupling);
            prop_assert!(coupling.f.iter().chain(&coupling.g).all(|d| d.is_finite()), "{:?}", coupling);
            let numbers = [coupling.value, coupling.regularized_value, coupling.dual_value, coupling.marginal_error];
            prop_assert!(numbers.iter().all(|v| v.is_finite()), "{:?}", coupling);
            if coupling.status == Status::Converged {
                prop_assert!(coupling.marginal_error <= 2e-6 * problem.total_mass(), "{:?}", coupling);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_array_makes_anything_panic(
        (n, m, k, l) in (0_usize..5, 0_usize..5, 0_usize..5, 0_usize..5),
        (cost, source, target) in (
            prop::collection::vec(any_number(), 16), prop::collection::vec(any_number(), 4), prop::collection::vec(any_number(), 4)
        ),
    ) {
        let cost = Array2::from_shape_fn((n, m), |(i, j)| cost[4 * i + j]);
        let (a, b) = (Array1::from_vec(source[..k].to_vec()), Array1::from_vec(target[..l].to_vec()));
        if let Ok(problem) = Problem::new(cost.view(), a.view(), b.view()) {
            sound(&problem, &Exact::new())?;
            sound(&problem, &Sinkhorn::new(0.1).unwrap().max_iterations(50).unwrap())?;
        }
    }

    #[test]
    fn every_problem_is_solved_without_nan(
        (n, m) in (1_usize..5, 1_usize..5),
        cost in prop::collection::vec(any_cost(), 16),
        (source, target) in (prop::collection::vec(any_mass(), 4), prop::collection::vec(any_mass(), 4)),
        epsilon in prop::sample::select(vec![1e-150, 1e-9, 0.05, 1.0, 1e9, 1e150]),
    ) {
        let cost = Array2::from_shape_fn((n, m), |(i, j)| cost[4 * i + j]);
        let (a, b) = (Array1::from_vec(source[..n].to_vec()), Array1::from_vec(target[..m].to_vec()));
        let b = if b.sum() > 0.0 { &b * (a.sum() / b.sum()) } else { b };
        if let Ok(problem) = Problem::new(cost.view(), a.view(), b.view()) {
            sound(&problem, &Exact::new())?;
            sound(&problem, &Sinkhorn::new(epsilon).unwrap().max_iterations(50).unwrap())?;
        }
    }
}
